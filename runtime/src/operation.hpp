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
    const Source* noise = nullptr;
  };
  struct View {
    const float* data;
    Shape shape;
  };

  Result<Operand> operand(const Source& source, std::uint32_t steps) const;
  TensorView view(const Operand& from, std::uint32_t iteration) const;
  Status affine(std::uint32_t iteration, std::uint32_t chunk);
  Status argmax(std::uint32_t iteration);

  const Operation* op_ = nullptr;
  Environment* env_ = nullptr;
  std::vector<Operand> of_, by_;
  std::vector<Shape> row_shapes_;
  Slot* target_ = nullptr;
  Tensor scratch_, drawn_;
};

}  // namespace edgekit
