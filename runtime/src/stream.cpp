// Queues of samples and gathered outputs, both stored with the stream's axis first.
#include "stream.hpp"

#include <algorithm>
#include <cstring>

namespace edgekit {

namespace {

// [before][length][after] -> [length][before][after], or back.
void to_items(const unsigned char* from, unsigned char* to, std::size_t before, std::size_t length, std::size_t after, bool back) {
  for (std::size_t b = 0; b < before; ++b) {
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t plain = (b * length + i) * after;
      const std::size_t item = (i * before + b) * after;
      std::memcpy(to + (back ? plain : item), from + (back ? item : plain), after);
    }
  }
}

void blocks(const Shape& shape, std::size_t axis, DType dtype, std::size_t* before, std::size_t* after) {
  *before = 1;
  *after = size_of(dtype);
  for (std::size_t i = 0; i < axis; ++i) *before *= static_cast<std::size_t>(shape[i]);
  for (std::size_t i = axis + 1; i < shape.size(); ++i) *after *= static_cast<std::size_t>(shape[i]);
}

}  // namespace

void Queue::begin(const Feed& feed, DType dtype, const Shape& shape) {
  feed_ = feed;
  dtype_ = dtype;
  shape_ = shape;
  window_ = feed.window ? feed.window : 1;
  hop_ = feed.hop ? feed.hop : 1;
  blocks(shape, static_cast<std::size_t>(feed.axis), dtype, &before_, &after_);
  item_ = std::max<std::size_t>(1, before_ * after_);
  items_.assign(static_cast<std::size_t>(window_ - hop_) * item_, 0);
  at_ = 0;
}

Status Queue::add(const std::string& name, const TensorView& value) {
  const auto axis = static_cast<std::size_t>(feed_.axis);
  for (std::size_t i = 0; i < shape_.size(); ++i) {
    if (i != axis && value.shape[i] != shape_[i]) return Status("'" + name + "' began as " + text_of(shape_) + " and now has the shape " + text_of(value.shape));
  }
  // What has run is let go.
  items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(at_) * item_));
  at_ = 0;
  const std::size_t old = items_.size();
  const auto length = static_cast<std::size_t>(value.shape[axis]);
  items_.resize(old + length * item_);
  if (value.bytes()) to_items(static_cast<const unsigned char*>(value.data), items_.data() + old, before_, length, after_, false);
  return {};
}

void Queue::pad() { items_.resize(static_cast<std::size_t>(at_ + window_) * item_, 0); }

void Queue::take(Tensor* into) {
  if (into->bytes()) {
    to_items(items_.data() + static_cast<std::size_t>(at_) * item_, static_cast<unsigned char*>(into->data()), before_,
             static_cast<std::size_t>(window_), after_, true);
  }
  at_ += hop_;
}

void Gathered::clear() {
  items_.clear();
  any_ = false;
}

Status Gathered::add(const std::string& name, const Tensor& value) {
  now_ = value.shape();
  Shape& shape = now_;
  const auto axis = static_cast<std::size_t>(join_.axis);
  if (join_.how == Join::How::kStack) {
    if (axis > shape.size()) return Status("'" + name + "' is stacked along axis " + std::to_string(axis) + " of " + text_of(shape));
    shape.insert(shape.begin() + join_.axis, 1);
  } else if (axis >= shape.size()) {
    return Status("'" + name + "' is joined along axis " + std::to_string(axis) + " of " + text_of(shape));
  }
  const std::int64_t length = shape[axis];
  if (!any_) {
    shape_ = shape;
    shape_[axis] = 0;
    dtype_ = value.dtype();
    blocks(shape, axis, dtype_, &before_, &after_);
    item_ = before_ * after_;
    any_ = true;
  }
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != axis && shape[i] != shape_[i]) return Status("'" + name + "' changes its size from chunk to chunk");
  }
  const std::size_t old = items_.size();
  items_.resize(old + static_cast<std::size_t>(length) * item_);
  if (length && item_) to_items(static_cast<const unsigned char*>(value.data()), items_.data() + old, before_, static_cast<std::size_t>(length), after_, false);
  shape_[axis] += length;
  return {};
}

void Gathered::finish(const DimShape& declared, const Sizes& sizes, DType dtype, Tensor* out) {
  const auto axis = static_cast<std::size_t>(join_.axis);
  if (!any_) {
    Shape shape;
    for (const Dim& dim : declared) {
      const auto size = sizes.find(dim.name);
      shape.push_back(dim.name.empty() ? dim.size : size == sizes.end() ? 0 : size->second);
    }
    if (join_.how == Join::How::kStack) {
      shape.insert(shape.begin() + join_.axis, 0);
    } else if (axis < shape.size()) {
      shape[axis] = 0;
    }
    out->resize(dtype, shape);
    return;
  }
  out->resize(dtype_, shape_);
  if (!items_.empty()) to_items(items_.data(), static_cast<unsigned char*>(out->data()), before_, static_cast<std::size_t>(shape_[axis]), after_, true);
}

}  // namespace edgekit
