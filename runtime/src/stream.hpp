// Cutting inputs of any length into chunks, and joining what the chunks give.
#pragma once

#include "environment.hpp"

namespace edgekit {

// What was pushed to one feed and has not run yet, item by item along the stream, with the history of windows.
class Queue {
 public:
  // `shape` is that of a pushed array; its sizes but the one along the axis must stay.
  void begin(const Feed& feed, DType dtype, const Shape& shape);
  Status add(const std::string& name, const TensorView& value);
  bool ready() const { return length() >= window_; }
  bool begun() const { return length() > window_ - hop_ && length() < window_; }
  void pad();
  void take(Tensor* into);

 private:
  std::int64_t length() const { return static_cast<std::int64_t>(items_.size() / item_) - at_; }

  Feed feed_;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
  std::int64_t window_ = 1, hop_ = 1;
  std::size_t before_ = 1, after_ = 1, item_ = 1;  // blocks before the axis; bytes behind it; bytes of an item
  std::vector<unsigned char> items_;
  std::int64_t at_ = 0;  // where the next window begins
};

// Values of chunks, gathered item by item along the axis.
class Gathered {
 public:
  explicit Gathered(const Join& join) : join_(join) {}
  void clear();
  Status add(const std::string& name, const Tensor& value);
  void finish(const DimShape& declared, const Sizes& sizes, DType dtype, Tensor* out);  // with nothing gathered: size 0

 private:
  Join join_;
  Shape shape_;  // of the answer, its size along the axis as gathered so far
  Shape now_;    // of the value that is taken in
  bool any_ = false;
  std::size_t before_ = 1, item_ = 1, after_ = 1;
  DType dtype_ = DType::kFloat32;
  std::vector<unsigned char> items_;
};

}  // namespace edgekit
