// The named values of a running program: one buffer each, two for a state, so that a step reads one and writes the other.
#pragma once

#include <memory>
#include <optional>

#include "bundle_data.hpp"
#include "noise.hpp"

namespace edgekit {

using Sizes = std::map<std::string, std::int64_t>;

std::optional<Shape> resolved(const DimShape& shape, const Sizes& sizes);
std::string text_of(const DimShape& shape);
// Dtype, rank and the sizes that are fixed; no size is negative, and memory holds the array.
bool fits(const Port& port, const TensorView& value);
bool fits(DType dtype, const DimShape& shape, const TensorView& value);

// A named value. Without known sizes it is `free`: it takes arrays of any size.
class Slot {
 public:
  Slot(std::string name, DType dtype, DimShape declared, const Sizes& sizes, int buffers);
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  const std::string& name() const { return name_; }
  DType dtype() const { return dtype_; }
  const DimShape& declared() const { return declared_; }
  bool fixed() const { return fixed_; }
  bool turns() const { return buffers_ == 2; }
  int at() const { return at_; }
  void turn() { at_ ^= 1; }
  void rewind() { at_ = 0; }
  Tensor& value() { return memory_[at_]; }
  const Tensor& value() const { return memory_[at_]; }
  Tensor& next() { return memory_[turns() ? at_ ^ 1 : at_]; }
  Status write(const TensorView& value);
  Status write(const Tensor& value);  // the same, without copying the shape

 private:
  std::string name_;
  DType dtype_;
  DimShape declared_;
  bool fixed_;
  int buffers_;
  int at_ = 0;
  Tensor memory_[2];
};

class Environment {
 public:
  Environment(const BundleData& bundle, Sizes sizes) : bundle_(bundle), sizes_(std::move(sizes)) {}
  const BundleData& bundle() const { return bundle_; }
  const Sizes& sizes() const { return sizes_; }
  Slot* find(const std::string& name) const;
  Slot* make(const std::string& name, DType dtype, const DimShape& shape, int buffers = 1);
  Status declare(const std::map<std::string, State>& states);
  Status start(const std::map<std::string, State>& states, std::uint32_t chunk);  // initial values
  const Tensor* tensor(const std::string& name) const;

  std::uint64_t seed = 0;

 private:
  const BundleData& bundle_;
  Sizes sizes_;
  std::map<std::string, std::unique_ptr<Slot>> slots_;
};

}  // namespace edgekit
