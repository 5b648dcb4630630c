// The part of ONNX Runtime's C API that edgekit calls: slots of an append-only table of functions.
//
// The order of the table never changes, so a slot number is as good as the header. Version 12 has all slots below and
// is given by ONNX Runtime 1.12 and newer; the wheels carry the library itself from 1.20 on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit::ort {

inline constexpr std::uint32_t kApiVersion = 12;

struct ApiBase {
  const void* const* (*get_api)(std::uint32_t version);
  const char* (*version)();
};

struct Opaque;
using Handle = Opaque*;  // environment, session, value, binding, ...

enum Slot : std::size_t {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSession = 7,
  kCreateSessionFromArray = 8,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetGraphOptimization = 23,
  kSetIntraThreads = 24,
  kSetInterThreads = 25,
  kCreateTensorWithData = 49,
  kTensorData = 51,
  kElementType = 60,
  kDimensionsCount = 61,
  kDimensions = 62,
  kTensorTypeAndShape = 65,
  kCreateCpuMemoryInfo = 69,
  kReleaseEnv = 92,
  kReleaseStatus = 93,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseTypeAndShape = 99,
  kReleaseSessionOptions = 100,
  kAddSessionConfig = 130,
  kRunWithBinding = 133,
  kCreateBinding = 134,
  kReleaseBinding = 135,
  kBindInput = 136,
  kBindOutput = 137,
};

}  // namespace edgekit::ort
