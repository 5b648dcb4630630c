// The small operations between two graph runs: affine, clamp, argmax (docs/bundle-format.md, 2.1).
#pragma once

#include "environment.hpp"

namespace edgekit {

// One operation with its scratch memory. Runs without allocating once sizes have been seen.
class OperationRun {
 public:
  static Result<std::unique_ptr<OperationRun>> make(const Operation& op, Environment* env, std::uint32_t steps);
  Status run(std::uint32_t iteration, std::uint32_t chunk);

 private:
  struct Operand {
    Slot* slot = nullptr;           // a value
    const Tensor* tensor = nullptr; // a tensor, or the table of a row
    bool row = false;
    Shape row_shape;                // of a row
    const Source* noise = nullptr;
  };
  // Like TensorView, but the shape is somebody else's: copying one would allocate at every step.
  struct Ref {
    DType dtype;
    const Shape* shape;
    const void* data;
    const float* floats() const { return static_cast<const float*>(data); }
  };

  Result<Operand> operand(const Source& source, std::uint32_t steps) const;
  Ref ref(const Operand& from, std::uint32_t iteration) const;
  Status affine(std::uint32_t iteration, std::uint32_t chunk);
  Status argmax(std::uint32_t iteration);

  const Operation* op_ = nullptr;
  Environment* env_ = nullptr;
  std::vector<Operand> of_, by_;
  Slot* target_ = nullptr;
  Tensor scratch_, drawn_;
  Shape reduced_;  // of an argmax
};

}  // namespace edgekit
