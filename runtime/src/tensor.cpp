// Arrays and their types.
#include <cstring>
#include <stdexcept>

#include "limits.hpp"

namespace edgekit {

namespace {
struct Kind {
  const char* name;
  std::size_t size;
};
constexpr Kind kKinds[] = {{"bool", 1},  {"uint8", 1},   {"int8", 1},    {"int32", 4},
                           {"int64", 8}, {"float16", 2}, {"float32", 4}, {"float64", 8}};
}  // namespace

std::size_t size_of(DType dtype) { return kKinds[static_cast<int>(dtype)].size; }

const char* name_of(DType dtype) { return kKinds[static_cast<int>(dtype)].name; }

bool dtype_named(std::string_view name, DType* out) {
  for (int i = 0; i < 8; ++i) {
    if (name == kKinds[i].name) {
      *out = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

std::size_t count_of(const Shape& shape) {
  std::size_t count = 1;
  for (std::int64_t n : shape) count *= static_cast<std::size_t>(n);
  return count;
}

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

namespace {

// Bytes of an array that is to be made. The last guard: whatever shape came this far, its product does not wrap around to a small one.
std::size_t room(DType dtype, const Shape& shape) {
  const auto bytes = limits::bytes_of(shape, size_of(dtype));
  if (!bytes) throw std::length_error("an array of " + std::string(name_of(dtype)) + " " + text_of(shape) + " is larger than any that is made here");
  return static_cast<std::size_t>(*bytes);
}

}  // namespace

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)), data_(room(dtype_, shape_)) {}

void Tensor::resize(DType dtype, const Shape& shape) {
  data_.resize(room(dtype, shape));
  dtype_ = dtype;
  shape_ = shape;
}

void Tensor::assign(const TensorView& from) {
  resize(from.dtype, from.shape);
  if (bytes()) std::memcpy(data_.data(), from.data, bytes());
}

}  // namespace edgekit
