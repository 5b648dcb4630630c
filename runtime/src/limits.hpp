// Every limit of the readers, with its reason, and arithmetic that notices when it overflows. A bundle, a voice or a sound may come from
// a stranger: nothing that a file claims is believed before it was compared with one of these and with the bytes that are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

#include "edgekit/edgekit.hpp"

namespace edgekit::limits {

// Whole files are read into memory: what does not fit the largest board that edgekit knows (64 GB) is no input of a device.
inline constexpr std::uint64_t kFileBytes = std::uint64_t{1} << 36;

// bundle.json is some kilobytes; a bundle of seven programs with words has 200 kB. 16 MB parse in under a second on a Cortex-A53.
inline constexpr std::uint64_t kManifestBytes = 16u << 20;
// The deepest place that the format names is tasks/program/phases/phases/epilogue/terms/of: 12. `details` and `lineage` may nest on.
inline constexpr std::size_t kJsonDepth = 32;
// A value takes up to 100 bytes once parsed, so that a text of commas becomes 100 MB and not more.
inline constexpr std::size_t kJsonValues = 1'000'000;

// The published format's own limit. The JSON in it is held to kJsonDepth and kJsonValues too.
inline constexpr std::uint64_t kSafetensorsHeaderBytes = 100'000'000;
inline constexpr std::size_t kTensors = 50'000;  // in one file; the largest golden file here has 300

// numpy itself reads headers up to 10,000 bytes unless it is told to trust the file.
inline constexpr std::size_t kNpyHeaderBytes = 10'000;

// Axes of an array: the format has no axis beyond 15, and loops over axes keep their counters on the stack.
inline constexpr std::size_t kAxes = 16;
inline constexpr std::int64_t kDimension = std::int64_t{1} << 40;      // one size: a terabyte of bytes
inline constexpr std::uint64_t kTensorBytes = std::uint64_t{1} << 36;  // one value of a program; see kFileBytes
// An array without elements needs no bytes, but loops run over its other sizes.
inline constexpr std::uint64_t kEmptyPlaces = std::uint64_t{1} << 24;

inline constexpr std::size_t kNameBytes = 1024;  // names of tensors, graphs, states, files; PyTorch's longest are below 200
inline constexpr std::size_t kPorts = 1024;      // inputs, outputs or probes of a graph; they are looked up one by one
inline constexpr std::size_t kPhases = 1024;     // of a program, those of its stream among them
inline constexpr std::size_t kOperations = 1024; // of an epilogue, and terms of an operation
inline constexpr std::size_t kTasks = 64;        // programs of a bundle; compared pair by pair
inline constexpr std::size_t kPreparations = 16;
inline constexpr std::size_t kFiles = 10'000;    // of a bundle
inline constexpr int kFolders = 16;              // within another in a bundle
inline constexpr std::uint64_t kSteps = 0x7FFFFFFFu;      // iterations, samples a second, samples of a window: what an int32 counts
inline constexpr std::uint64_t kAxis = kAxes - 1;
inline constexpr std::uint64_t kCategories = std::uint64_t{1} << 31;
inline constexpr std::uint64_t kFusedCalls = 8;  // docs/bundle-format.md, section 6

// A line of text for a terminal: longer than any sentence of ours, shorter than a screen full of somebody's name.
inline constexpr std::size_t kLineBytes = 2000;

inline bool multiply(std::uint64_t a, std::uint64_t b, std::uint64_t* product) {
  if (a && b > std::numeric_limits<std::uint64_t>::max() / a) return false;
  *product = a * b;
  return true;
}

// Bytes of an array; nothing where a size is negative, an axis too many, or the array larger than any that is taken here. Sizes of
// an empty array multiply to no more than kEmptyPlaces without their zeros.
inline std::optional<std::uint64_t> bytes_of(const Shape& shape, std::uint64_t bytes_each) {
  if (shape.size() > kAxes) return std::nullopt;
  std::uint64_t places = 1;
  bool empty = false;
  for (const std::int64_t n : shape) {
    if (n < 0 || n > kDimension) return std::nullopt;
    empty = empty || n == 0;
    if (n && !multiply(places, static_cast<std::uint64_t>(n), &places)) return std::nullopt;
  }
  std::uint64_t bytes = 0;
  if (!multiply(places, bytes_each, &bytes) || bytes > kTensorBytes || (empty && places > kEmptyPlaces)) return std::nullopt;
  return empty ? 0 : bytes;
}

}  // namespace edgekit::limits
