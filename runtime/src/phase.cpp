// The loop of one phase.
#include "phase.hpp"

#include <algorithm>
#include <cstring>

namespace edgekit {

namespace {

Bound bound(const std::string& name, Tensor* tensor) { return {name, tensor->dtype(), tensor->shape(), tensor->data()}; }

const Port* port_named(const std::vector<Port>& ports, const std::string& name) {
  const auto found = std::find_if(ports.begin(), ports.end(), [&](const Port& p) { return p.name == name; });
  return found == ports.end() ? nullptr : &*found;
}

}  // namespace

Result<std::unique_ptr<PhaseRun>> PhaseRun::make(const Phase& phase, Graph* graph, const GraphFile& file, Environment* env, bool probes) {
  auto made = std::make_unique<PhaseRun>();
  made->phase_ = &phase;
  made->graph_ = graph;
  made->env_ = env;
  if (Status s = env->declare(phase.states); !s) return s;
  if (phase.inputs.size() != file.inputs.size()) return Status("the program does not bind every input of the graph '" + phase.graph + "'");
  for (const Port& port : file.inputs) {
    if (Status s = made->read(port, phase.loops ? phase.steps : 0); !s) return s;
  }
  for (const auto& [out, name] : phase.outputs) {
    const Port* port = port_named(file.outputs, out);
    if (!port) return Status("the graph '" + phase.graph + "' has no output '" + out + "'");
    made->writes_.push_back({out, env->make(name, port->dtype, port->shape)});
  }
  for (const auto& [out, state] : phase.carry) {
    Slot* slot = env->find(state);
    if (!slot || !port_named(file.outputs, out)) return Status("the program carries '" + out + "' to '" + state + "', one of which is not there");
    if (phase.outputs.count(out)) return Status("the program names '" + out + "' both as an output and as a carry");
    made->carries_.push_back({out, slot});
  }
  for (const Read& r : made->reads_) {
    if (r.slot && !r.slot->fixed()) made->bound_ = false;
    if (r.slot && r.slot->turns()) made->turning_.push_back(r.slot);
  }
  for (const auto* list : {&made->writes_, &made->carries_}) {
    for (const Write& w : *list) {
      if (!w.slot->fixed()) made->bound_ = false;
      if (w.slot->turns()) made->turning_.push_back(w.slot);
    }
  }
  std::sort(made->turning_.begin(), made->turning_.end());
  made->turning_.erase(std::unique(made->turning_.begin(), made->turning_.end()), made->turning_.end());
  if (made->turning_.size() > 64) made->bound_ = false;  // the key of a binding has 64 bits
  if (probes) {
    for (const std::string& name : file.probes) made->probes_.push_back({name, {}, {}, 0});
    if (!file.probes.empty()) made->bound_ = false;
  }
  for (const Operation& op : phase.epilogue) {
    auto run = OperationRun::make(op, env, phase.loops ? phase.steps : 0);
    if (!run) return run.status();
    made->epilogue_.push_back(std::move(*run));
  }
  for (const auto& [to, from] : phase.collect) {
    Slot* old = env->find(from);
    if (!old) return Status("the program collects '" + from + "', which is never written");
    DimShape shape = old->declared();
    shape.insert(shape.begin(), Dim{phase.steps, ""});
    made->collects_.push_back({old, env->make(to, old->dtype(), shape)});
  }
  return made;
}

Status PhaseRun::read(const Port& port, std::uint32_t steps) {
  const auto found = phase_->inputs.find(port.name);
  if (found == phase_->inputs.end()) return Status("the program does not bind '" + port.name + "' of the graph '" + phase_->graph + "'");
  const Source& from = found->second;
  Read made{port.name};
  switch (from.kind) {
    case Source::Kind::kZeros:
      return Status("the program gives zeros to '" + port.name + "'; zeros are for initial values");
    case Source::Kind::kValue:
      made.slot = env_->find(from.name);
      if (!made.slot) return Status("the program reads '" + from.name + "' before it is written");
      break;
    case Source::Kind::kTensor:
    case Source::Kind::kRow: {
      const Tensor* tensor = env_->tensor(from.name);
      if (!tensor) return Status("the program reads the tensor '" + from.name + "', which the bundle does not hold");
      if (from.kind == Source::Kind::kTensor) {
        made.constant = tensor;
        break;
      }
      if (tensor->shape().empty() || tensor->shape()[0] != static_cast<std::int64_t>(steps)) {
        return Status("the program reads rows of '" + from.name + "' " + text_of(tensor->shape()) + " in " + std::to_string(steps) + " steps");
      }
      buffers_.push_back(std::make_unique<Tensor>(tensor->dtype(), Shape(tensor->shape().begin() + 1, tensor->shape().end())));
      made.buffer = buffers_.back().get();
      fills_.push_back({made.buffer, tensor, nullptr});
      break;
    }
    case Source::Kind::kNoise: {
      const auto shape = resolved(port.shape, env_->sizes());
      if (!shape || port.dtype != DType::kFloat32) return Status("noise for '" + port.name + "' needs float32 of a known shape, found " + text_of(port.shape));
      if (from.calls && (shape->empty() || (*shape)[0] != from.calls)) return Status("noise for '" + port.name + "' draws " + std::to_string(from.calls) + " calls for " + text_of(*shape));
      buffers_.push_back(std::make_unique<Tensor>(DType::kFloat32, *shape));
      made.buffer = buffers_.back().get();
      fills_.push_back({made.buffer, nullptr, &from});
      break;
    }
  }
  reads_.push_back(made);
  return {};
}

void PhaseRun::fill(std::uint32_t iteration, std::uint32_t chunk) {
  for (const Fill& f : fills_) {
    if (f.table) {
      const std::size_t bytes = f.buffer->bytes();
      std::memcpy(f.buffer->data(), static_cast<const unsigned char*>(f.table->data()) + iteration * bytes, bytes);
      continue;
    }
    const auto draw = f.noise->normal ? draw_normal : draw_uniform;
    Place place{env_->seed, f.noise->id, iteration, chunk};
    if (!f.noise->calls) {
      draw(f.buffer->as<float>(), f.buffer->count(), place);
      continue;
    }
    const std::size_t each = f.buffer->count() / static_cast<std::size_t>(f.noise->calls);
    for (int k = 0; k < f.noise->calls; ++k) {
      place.iteration = static_cast<std::uint32_t>(k);
      draw(f.buffer->as<float>() + static_cast<std::size_t>(k) * each, each, place);
    }
  }
}

std::vector<Bound> PhaseRun::inputs() const {
  std::vector<Bound> made;
  for (const Read& r : reads_) {
    // Engines take inputs as writable memory but do not write to them.
    Tensor* tensor = r.slot ? &r.slot->value() : r.buffer ? r.buffer : const_cast<Tensor*>(r.constant);
    made.push_back(bound(r.name, tensor));
  }
  return made;
}

Status PhaseRun::run(std::uint32_t chunk) {
  if (Status s = env_->start(phase_->states, chunk); !s) return s;
  for (std::uint32_t i = 0; i < phase_->steps; ++i) {
    fill(i, chunk);
    if (Status s = bound_ ? step_bound() : step_free(); !s) return s;
    for (const auto& op : epilogue_) {
      if (Status s = op->run(i, chunk); !s) return s;
    }
    for (const Collect& c : collects_) {
      const Tensor& value = c.from->value();
      Tensor& into = c.to->value();
      if (!c.to->fixed() && i == 0) {
        Shape shape = value.shape();
        shape.insert(shape.begin(), phase_->steps);
        into.resize(value.dtype(), shape);
      }
      if (into.bytes() != value.bytes() * phase_->steps) return Status("'" + c.from->name() + "' changes its size while it is collected");
      if (value.bytes()) std::memcpy(static_cast<unsigned char*>(into.data()) + i * value.bytes(), value.data(), value.bytes());
    }
    ++steps_;
  }
  return {};
}

Status PhaseRun::step_bound() {
  std::uint64_t key = 0;
  for (std::size_t i = 0; i < turning_.size(); ++i) key |= std::uint64_t{static_cast<unsigned>(turning_[i]->at())} << i;
  Binding* binding = nullptr;
  for (const auto& [known, made] : bindings_) {
    if (known == key) binding = made.get();
  }
  if (!binding) {
    std::vector<Bound> outputs;
    for (const Write& w : writes_) outputs.push_back(bound(w.name, &w.slot->next()));
    for (const Write& w : carries_) outputs.push_back(bound(w.name, &w.slot->next()));
    auto made = graph_->bind(inputs(), outputs);
    if (!made) return made.status();
    binding = made->get();
    bindings_.emplace_back(key, std::move(*made));
  }
  if (Status s = binding->run(); !s) return s;
  for (const Write& w : writes_) {
    if (w.slot->turns()) w.slot->turn();
  }
  for (const Write& w : carries_) w.slot->turn();
  return {};
}

Status PhaseRun::step_free() {
  if (Status s = graph_->run(inputs(), &found_); !s) return s;
  for (const Write& w : writes_) {
    if (Status s = w.slot->write(found_[w.name]); !s) return s;
  }
  for (const Write& w : carries_) {
    w.slot->turn();
    if (Status s = w.slot->write(found_[w.name]); !s) return s;
  }
  return see(found_);
}

Status PhaseRun::see(const Tensors& found) {
  for (Probe& probe : probes_) {
    const auto at = found.find(probe.name);
    if (at == found.end()) return Status("the engine gave no inner tensor '" + probe.name + "'");
    const Tensor& tensor = at->second;
    probe.shape = tensor.shape();
    for (std::size_t i = 0; i < tensor.count(); ++i) {
      unsigned char spike = 0;
      switch (tensor.dtype()) {
        case DType::kFloat32: {
          const float value = tensor.as<float>()[i];
          spike = value >= 0 && value < 255 ? static_cast<unsigned char>(value) : 255;  // no spike at all, NaN too: differs from any golden one
          break;
        }
        case DType::kBool:
        case DType::kUint8:
        case DType::kInt8:
          spike = tensor.as<unsigned char>()[i];
          break;
        default:
          return Status("the inner tensor '" + probe.name + "' is " + name_of(tensor.dtype()) + ", spikes are float32 or bytes");
      }
      probe.spikes.push_back(spike);
    }
    ++probe.calls;
  }
  return {};
}

}  // namespace edgekit
