// Slots, their sizes, and the initial values of states.
#include "environment.hpp"

#include <cstring>

#include "limits.hpp"

namespace edgekit {

std::optional<Shape> resolved(const DimShape& shape, const Sizes& sizes) {
  Shape found;
  for (const Dim& dim : shape) {
    if (dim.name.empty()) {
      found.push_back(dim.size);
    } else {
      const auto size = sizes.find(dim.name);
      if (size == sizes.end()) return std::nullopt;
      found.push_back(size->second);
    }
  }
  return found;
}

bool fits(DType dtype, const DimShape& shape, const TensorView& value) {
  if (value.dtype != dtype || value.shape.size() != shape.size() || !limits::bytes_of(value.shape, size_of(dtype))) return false;
  for (std::size_t i = 0; i < value.shape.size(); ++i) {
    if (shape[i].name.empty() && shape[i].size != value.shape[i]) return false;
  }
  return true;
}

bool fits(const Port& port, const TensorView& value) { return fits(port.dtype, port.shape, value); }

std::string text_of(const DimShape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + (shape[i].name.empty() ? std::to_string(shape[i].size) : shape[i].name);
  }
  return text + "]";
}

Slot::Slot(std::string name, DType dtype, DimShape declared, const Sizes& sizes, int buffers)
    : name_(std::move(name)), dtype_(dtype), declared_(std::move(declared)), buffers_(buffers) {
  const auto shape = resolved(declared_, sizes);
  fixed_ = shape.has_value();
  if (!fixed_) {
    buffers_ = 1;
    return;
  }
  for (int i = 0; i < buffers_; ++i) memory_[i] = Tensor(dtype_, *shape);
}

Status Slot::write(const TensorView& value) {
  Tensor& into = memory_[at_];
  if (!fixed_) {
    // Operations, joins and collections count on the declared axes; a graph that gives others is not the one that was checked.
    if (!fits(dtype_, declared_, value)) {
      return Status("'" + name_ + "' is " + name_of(dtype_) + " " + text_of(declared_) + " here, but " + name_of(value.dtype) + " " +
                    text_of(value.shape) + " came");
    }
    into.assign(value);
    return {};
  }
  if (value.dtype != dtype_ || value.shape != into.shape()) {
    return Status("'" + name_ + "' is " + name_of(dtype_) + " " + text_of(into.shape()) + " here, but " + name_of(value.dtype) + " " +
                  text_of(value.shape) + " came");
  }
  if (value.bytes()) std::memmove(into.data(), value.data, value.bytes());
  return {};
}

Status Slot::write(const Tensor& value) {
  Tensor& into = memory_[at_];
  if (!fixed_ || value.dtype() != dtype_ || value.shape() != into.shape()) return write(value.view());
  if (value.bytes()) std::memmove(into.data(), value.data(), value.bytes());
  return {};
}

Slot* Environment::find(const std::string& name) const {
  const auto found = slots_.find(name);
  return found == slots_.end() ? nullptr : found->second.get();
}

Slot* Environment::make(const std::string& name, DType dtype, const DimShape& shape, int buffers) {
  auto& slot = slots_[name];
  if (!slot) slot = std::make_unique<Slot>(name, dtype, shape, sizes_, buffers);
  return slot.get();
}

const Tensor* Environment::tensor(const std::string& name) const {
  const auto found = bundle_.tensors.find(name);
  return found == bundle_.tensors.end() ? nullptr : &found->second;
}

Status Environment::declare(const std::map<std::string, State>& states) {
  for (const auto& [name, state] : states) {
    const Slot* slot = make(name, state.dtype, state.shape, 2);
    if (!slot->fixed()) return Status("the state '" + name + "' has the shape " + text_of(state.shape) + ", a size of which no input carries");
  }
  return {};
}

Status Environment::start(const std::map<std::string, State>& states, std::uint32_t chunk) {
  for (const auto& [name, state] : states) {
    Slot* slot = find(name);
    slot->rewind();
    Tensor& into = slot->value();
    const Source& from = state.initial;
    switch (from.kind) {
      case Source::Kind::kZeros:
        if (into.bytes()) std::memset(into.data(), 0, into.bytes());
        break;
      case Source::Kind::kNoise: {
        if (state.dtype != DType::kFloat32) return Status("the state '" + name + "' is drawn as noise, so it must be float32");
        const Place place{seed, from.id, 0, chunk};
        (from.normal ? draw_normal : draw_uniform)(into.as<float>(), into.count(), place);
        break;
      }
      case Source::Kind::kTensor: {
        const Tensor* tensor_found = tensor(from.name);
        if (!tensor_found) return Status("the program reads the tensor '" + from.name + "', which the bundle does not hold");
        if (Status s = slot->write(*tensor_found); !s) return s;
        break;
      }
      case Source::Kind::kValue: {
        const Slot* value = find(from.name);
        if (!value) return Status("the program reads '" + from.name + "' before it is written");
        if (Status s = slot->write(value->value()); !s) return s;
        break;
      }
      case Source::Kind::kRow:
        return Status("the state '" + name + "' begins with a row, which is for steps only");
    }
  }
  return {};
}

}  // namespace edgekit
