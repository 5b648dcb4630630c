// affine, clamp and argmax in float32; every product and sum is rounded by itself (the build forbids fused multiply-add).
#include "operation.hpp"

#include <cstring>

namespace edgekit {

namespace {

constexpr std::size_t kMostAxes = 16;

std::size_t row_bytes(const Tensor& table) { return table.shape()[0] ? table.bytes() / static_cast<std::size_t>(table.shape()[0]) : 0; }

Shape row_shape(const Tensor& table) { return Shape(table.shape().begin() + 1, table.shape().end()); }

// Steps from one element of `shape` to the next in an array that broadcasts to it from the right; false when it cannot.
bool strides_of(const Shape& by, const Shape& shape, std::size_t* strides) {
  if (by.size() > shape.size()) return false;
  std::size_t step = 1;
  for (std::size_t back = 0; back < shape.size(); ++back) {
    const std::size_t axis = shape.size() - 1 - back;
    strides[axis] = 0;
    if (back >= by.size()) continue;
    const std::int64_t size = by[by.size() - 1 - back];
    if (size != 1 && size != shape[axis]) return false;
    strides[axis] = size == 1 ? 0 : step;
    step *= static_cast<std::size_t>(size);
  }
  return true;
}

// total (+)= by * of, with `by` spread over `shape`.
void add_product(float* total, const float* of, const float* by, const Shape& shape, const std::size_t* strides, bool first) {
  std::int64_t at[kMostAxes] = {};
  const std::size_t count = count_of(shape);
  std::size_t from = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const float product = by[from] * of[i];
    total[i] = first ? product : total[i] + product;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      from += strides[axis];
      if (++at[axis] < shape[axis]) break;
      from -= strides[axis] * static_cast<std::size_t>(shape[axis]);
      at[axis] = 0;
    }
  }
}

}  // namespace

Result<OperationRun::Operand> OperationRun::operand(const Source& source, std::uint32_t steps) const {
  Operand made;
  if (source.kind == Source::Kind::kNoise) {
    made.noise = &source;
  } else if (source.kind == Source::Kind::kValue) {
    made.slot = env_->find(source.name);
    if (!made.slot) return Status("the program reads '" + source.name + "' before it is written");
  } else {
    made.tensor = env_->tensor(source.name);
    made.row = source.kind == Source::Kind::kRow;
    if (!made.tensor) return Status("the program reads the tensor '" + source.name + "', which the bundle does not hold");
    if (made.row && (made.tensor->shape().empty() || made.tensor->shape()[0] != static_cast<std::int64_t>(steps))) {
      return Status("the program reads rows of '" + source.name + "' " + text_of(made.tensor->shape()) + " in " + std::to_string(steps) + " steps");
    }
    if (made.row) made.row_shape = row_shape(*made.tensor);
  }
  return made;
}

OperationRun::Ref OperationRun::ref(const Operand& from, std::uint32_t iteration) const {
  const Tensor& tensor = from.slot ? from.slot->value() : *from.tensor;
  if (!from.row) return {tensor.dtype(), &tensor.shape(), tensor.data()};
  return {tensor.dtype(), &from.row_shape, static_cast<const unsigned char*>(tensor.data()) + iteration * row_bytes(tensor)};
}

Result<std::unique_ptr<OperationRun>> OperationRun::make(const Operation& op, Environment* env, std::uint32_t steps) {
  auto made = std::make_unique<OperationRun>();
  made->op_ = &op;
  made->env_ = env;
  const Operand* shaped = nullptr;
  made->of_.reserve(op.terms.size());
  for (const Term& term : op.terms) {
    auto of = made->operand(term.of, steps);
    if (!of) return of.status();
    made->of_.push_back(*of);
    if (!shaped && !of->noise) shaped = &made->of_.back();
    Operand by;
    if (term.by) {
      auto found = made->operand(*term.by, steps);
      if (!found) return found.status();
      by = *found;
    }
    made->by_.push_back(by);
  }
  if (!shaped) return Status("the program makes '" + op.to + "' of nothing but noise, which has no shape of its own");
  DimShape declared;
  if (shaped->slot) {
    declared = shaped->slot->declared();
  } else {
    const Shape shape = shaped->row ? row_shape(*shaped->tensor) : shaped->tensor->shape();
    for (std::int64_t n : shape) declared.push_back({n, ""});
  }
  if (declared.size() > kMostAxes) return Status("'" + op.to + "' has more than 16 axes");
  const bool argmax = op.kind == Operation::Kind::kArgMax;
  if (argmax) {
    const int rank = static_cast<int>(declared.size());
    if (op.axis < -rank || op.axis >= rank) return Status("the program takes an argmax along axis " + std::to_string(op.axis) + " of " + text_of(declared));
    declared.erase(declared.begin() + (op.axis < 0 ? op.axis + rank : op.axis));
  }
  made->target_ = env->make(op.to, argmax ? DType::kInt64 : DType::kFloat32, declared);
  return made;
}

Status OperationRun::run(std::uint32_t iteration, std::uint32_t chunk) {
  if (op_->kind == Operation::Kind::kArgMax) return argmax(iteration);
  if (op_->kind == Operation::Kind::kAffine) return affine(iteration, chunk);
  if (of_[0].noise) return Status("'" + op_->to + "' clamps noise, which has no shape of its own");
  const Ref from = ref(of_[0], iteration);
  if (from.dtype != DType::kFloat32) return Status("'" + op_->to + "' clamps " + name_of(from.dtype) + "; float32 is needed");
  scratch_.resize(DType::kFloat32, *from.shape);
  const float* in = from.floats();
  float* out = scratch_.as<float>();
  for (std::size_t i = 0; i < scratch_.count(); ++i) {
    const float low = in[i] < op_->low ? op_->low : in[i];
    out[i] = low > op_->high ? op_->high : low;  // comparisons with NaN are false, so NaN stays
  }
  return target_->write(scratch_);
}

Status OperationRun::affine(std::uint32_t iteration, std::uint32_t chunk) {
  bool sized = false;
  for (const Operand& of : of_) {
    if (of.noise) continue;
    const Ref from = ref(of, iteration);
    if (from.dtype != DType::kFloat32 || (sized && *from.shape != scratch_.shape())) {
      return Status("'" + op_->to + "' adds " + name_of(from.dtype) + " " + text_of(*from.shape) + " to others; float32 of one shape is needed");
    }
    if (!sized) scratch_.resize(DType::kFloat32, *from.shape);
    sized = true;
  }
  const Shape& shape = scratch_.shape();
  std::size_t strides[kMostAxes];
  for (std::size_t k = 0; k < of_.size(); ++k) {
    const float* of;
    if (of_[k].noise) {
      drawn_.resize(DType::kFloat32, shape);
      const Place place{env_->seed, of_[k].noise->id, iteration, chunk};
      (of_[k].noise->normal ? draw_normal : draw_uniform)(drawn_.as<float>(), drawn_.count(), place);
      of = drawn_.as<float>();
    } else {
      of = ref(of_[k], iteration).floats();
    }
    const float factor = op_->terms[k].factor;
    static const Shape kScalar;
    const Ref by = op_->terms[k].by ? ref(by_[k], iteration) : Ref{DType::kFloat32, &kScalar, &factor};
    if (by.dtype != DType::kFloat32 || !strides_of(*by.shape, shape, strides)) {
      return Status("'" + op_->to + "' multiplies " + text_of(shape) + " by " + name_of(by.dtype) + " " + text_of(*by.shape));
    }
    add_product(scratch_.as<float>(), of, by.floats(), shape, strides, k == 0);
  }
  return target_->write(scratch_);
}

Status OperationRun::argmax(std::uint32_t iteration) {
  if (of_[0].noise) return Status("'" + op_->to + "' takes the argmax of noise, which has no shape of its own");
  const Ref from = ref(of_[0], iteration);
  if (from.dtype != DType::kFloat32) return Status("'" + op_->to + "' takes the argmax of " + name_of(from.dtype) + "; float32 is needed");
  const Shape& shape = *from.shape;
  const auto rank = static_cast<int>(shape.size());
  const auto axis = static_cast<std::size_t>(op_->axis < 0 ? op_->axis + rank : op_->axis);
  std::size_t before = 1, after = 1;
  for (std::size_t i = 0; i < axis; ++i) before *= static_cast<std::size_t>(shape[i]);
  for (std::size_t i = axis + 1; i < shape.size(); ++i) after *= static_cast<std::size_t>(shape[i]);
  const auto size = static_cast<std::size_t>(shape[axis]);
  reduced_.clear();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != axis) reduced_.push_back(shape[i]);
  }
  scratch_.resize(DType::kInt64, reduced_);
  for (std::size_t b = 0; b < before; ++b) {
    for (std::size_t a = 0; a < after; ++a) {
      const float* in = from.floats() + b * size * after + a;
      std::size_t best = 0;
      for (std::size_t i = 1; i < size; ++i) {
        // numpy's rule: the first NaN wins, else the first of the largest
        if (in[best * after] != in[best * after]) break;
        if (in[i * after] > in[best * after] || in[i * after] != in[i * after]) best = i;
      }
      scratch_.as<std::int64_t>()[b * after + a] = static_cast<std::int64_t>(best);
    }
  }
  return target_->write(scratch_);
}

}  // namespace edgekit
