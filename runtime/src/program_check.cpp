// Every reading comes after a writing, every type fits: what edgekit/program_check.py holds, before an engine is started.
#include "program_check.hpp"

#include <algorithm>
#include <set>

#include "environment.hpp"

namespace edgekit {

namespace {

// Dtype and shape of a value, as far as they are known before sizes are.
struct Type {
  DType dtype = DType::kFloat32;
  DimShape shape;

  // False when no sizes of the names could make the two equal.
  bool fits(const Type& other) const {
    if (dtype != other.dtype || shape.size() != other.shape.size()) return false;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i].name.empty() && other.shape[i].name.empty() && shape[i].size != other.shape[i].size) return false;
    }
    return true;
  }
  std::string text() const { return std::string(name_of(dtype)) + " " + text_of(shape); }
};

Type type_of(const Port& port) { return {port.dtype, port.shape}; }

Type type_of(const Tensor& tensor, std::size_t from = 0) {
  Type made{tensor.dtype(), {}};
  for (std::size_t i = from; i < tensor.shape().size(); ++i) made.shape.push_back({tensor.shape()[i], ""});
  return made;
}

std::string quoted(const std::string& name) { return "'" + name + "'"; }

class Check {
 public:
  Check(const BundleData& bundle, const TaskData& task, std::string who) : bundle_(bundle), task_(task), who_(std::move(who)) {
    for (const Port& port : task_.inputs) {
      known_[port.name] = type_of(port);
      for (const Dim& dim : port.shape) {
        if (!dim.name.empty()) sizes_.insert(dim.name);
      }
    }
  }

  void all() {
    const Program& program = task_.program;
    noises();
    for (const Phase& one : program.before) phase(one);
    if (program.stream) stream(*program.stream);
    for (const Phase& one : program.after) phase(one);
    for (const Port& port : task_.outputs) {
      const auto found = known_.find(port.name);
      if (found == known_.end()) broken("never writes the output " + quoted(port.name));
      if (!found->second.fits(type_of(port))) broken("gives " + quoted(port.name) + " as " + found->second.text() + ", the signature says " + type_of(port).text());
    }
  }

 private:
  [[noreturn]] void broken(const std::string& text) const { throw Status(who_ + "the program " + text); }

  const Port* input(const std::string& name) const {
    const auto found = std::find_if(task_.inputs.begin(), task_.inputs.end(), [&](const Port& p) { return p.name == name; });
    return found == task_.inputs.end() ? nullptr : &*found;
  }

  // Two sources of noise with one id would draw the same numbers.
  void noises() const {
    std::set<std::uint32_t> seen;
    const auto see = [&](const Source& source) {
      if (source.kind == Source::Kind::kNoise && !seen.insert(source.id).second) broken("gives two noise sources the id " + std::to_string(source.id));
    };
    const auto see_phases = [&](const std::vector<Phase>& phases) {
      for (const Phase& phase : phases) {
        for (const auto& [name, state] : phase.states) see((void(name), state.initial));
        for (const auto& [name, source] : phase.inputs) see((void(name), source));
        for (const Operation& op : phase.epilogue) {
          for (const Term& term : op.terms) {
            see(term.of);
            if (term.by) see(*term.by);
          }
        }
      }
    };
    see_phases(task_.program.before);
    see_phases(task_.program.after);
    if (!task_.program.stream) return;
    see_phases(task_.program.stream->phases);
    for (const auto& [name, state] : task_.program.stream->states) see((void(name), state.initial));
  }

  // A chunk has the window in place of the axis that is cut, or no such axis.
  void feed(const std::string& name, const Feed& cut, std::set<std::string>* streamed) {
    const Port* port = input(name);
    if (!port) broken("feeds " + quoted(name) + ", which is no input");
    const auto axis = static_cast<std::size_t>(cut.axis);
    if (axis >= port->shape.size() || port->shape[axis].name.empty()) {
      broken("cuts " + quoted(name) + " along axis " + std::to_string(cut.axis) + ", which has no free size in " + type_of(*port).text());
    }
    streamed->insert(port->shape[axis].name);
    Type chunk = type_of(*port);
    if (cut.window) {
      chunk.shape[axis] = {cut.window, ""};
    } else {
      chunk.shape.erase(chunk.shape.begin() + cut.axis);
    }
    known_[name] = chunk;
  }

  Type joined(const std::string& name, const Join& join) const {
    const bool output = std::any_of(task_.outputs.begin(), task_.outputs.end(), [&](const Port& p) { return p.name == name; });
    const auto found = known_.find(name);
    if (!output || found == known_.end()) broken("joins " + quoted(name) + ", which is no output or is never written");
    Type made = found->second;
    const auto axis = static_cast<std::size_t>(join.axis);
    if (join.how == Join::How::kLast) return made;
    if (axis >= made.shape.size() + (join.how == Join::How::kStack)) broken("joins " + quoted(name) + " along axis " + std::to_string(join.axis) + " of " + made.text());
    if (join.how == Join::How::kConcat) {
      made.shape[axis] = {0, "joined"};
    } else {
      made.shape.insert(made.shape.begin() + join.axis, Dim{0, "joined"});
    }
    return made;
  }

  void stream(const Stream& stream) {
    auto outside = known_;
    std::set<std::string> streamed;
    for (const auto& [name, cut] : stream.feeds) feed(name, cut, &streamed);
    for (const Port& port : task_.inputs) {
      const auto cut = stream.feeds.find(port.name);
      for (std::size_t i = 0; i < port.shape.size(); ++i) {
        const bool here = cut != stream.feeds.end() && cut->second.axis == static_cast<int>(i);
        if (streamed.count(port.shape[i].name) && !here) broken("cuts the size " + quoted(port.shape[i].name) + ", but " + quoted(port.name) + " has it too");
      }
    }
    for (const std::string& name : streamed) sizes_.erase(name);
    declare(stream.states);
    for (const Phase& one : stream.phases) phase(one);
    for (const auto& [name, join] : stream.joins) outside[name] = joined(name, join);
    for (const auto& [name, state] : stream.states) {
      (void)state;
      if (!stream.joins.count(name)) outside[name] = known_.at(name);
    }
    known_ = outside;
  }

  void declare(const std::map<std::string, State>& states) {
    for (const auto& [name, state] : states) {
      if (known_.count(name)) broken("declares the state " + quoted(name) + ", but there is a value of that name");
      for (const Dim& dim : state.shape) {
        if (!dim.name.empty() && !sizes_.count(dim.name)) broken("gives the state " + quoted(name) + " the size " + quoted(dim.name) + ", which no input carries");
      }
      read(state.initial, {state.dtype, state.shape}, "the initial value of " + quoted(name), 0, true);
    }
    for (const auto& [name, state] : states) {
      known_[name] = {state.dtype, state.shape};
      states_.insert(name);
    }
  }

  const Port& output_of(const GraphFile& graph, const std::string& name, const std::string& from) const {
    const auto found = std::find_if(graph.outputs.begin(), graph.outputs.end(), [&](const Port& p) { return p.name == name; });
    if (found == graph.outputs.end()) broken("takes " + quoted(name) + " from the graph " + quoted(from) + ", which does not give it");
    return *found;
  }

  void phase(const Phase& phase) {
    const auto found = bundle_.graphs.find(phase.graph);
    if (found == bundle_.graphs.end()) broken("runs the graph " + quoted(phase.graph) + ", which the bundle does not hold");
    const GraphFile& graph = found->second;
    for (const auto& [name, state] : phase.states) {
      (void)state;
      if (known_.count(name) && !states_.count(name)) broken("declares the state " + quoted(name) + ", but there is a value of that name");
      known_.erase(name);
    }
    declare(phase.states);
    const std::uint32_t steps = phase.loops ? phase.steps : 0;
    if (phase.inputs.size() != graph.inputs.size()) broken("does not bind every input of the graph " + quoted(phase.graph) + ", or binds others");
    for (const Port& port : graph.inputs) {
      const auto source = phase.inputs.find(port.name);
      if (source == phase.inputs.end()) broken("does not bind " + quoted(port.name) + " of the graph " + quoted(phase.graph));
      read(source->second, type_of(port), quoted(port.name) + " of " + quoted(phase.graph), steps, false);
    }
    writes(phase, graph);
    for (const Operation& op : phase.epilogue) operation(op, steps);
    for (const auto& [to, from] : phase.collect) {
      const auto old = known_.find(from);
      if (old == known_.end() || states_.count(to)) broken("collects " + quoted(from) + " to " + quoted(to) + ", which cannot be");
      Type made = old->second;
      made.shape.insert(made.shape.begin(), Dim{static_cast<std::int64_t>(phase.steps), ""});
      known_[to] = made;
    }
  }

  void writes(const Phase& phase, const GraphFile& graph) {
    std::map<std::string, Type> fresh;
    for (const auto& [out, name] : phase.outputs) {
      if (known_.count(name)) broken("writes " + quoted(name) + " though it is there already; a state is written by carry");
      if (phase.carry.count(out)) broken("names " + quoted(out) + " of " + quoted(phase.graph) + " both as an output and as a carry");
      fresh[name] = type_of(output_of(graph, out, phase.graph));
    }
    for (const auto& [out, name] : phase.carry) {
      const Type given = type_of(output_of(graph, out, phase.graph));
      const auto state = known_.find(name);
      if (!states_.count(name) || state == known_.end()) broken("carries " + quoted(out) + " to " + quoted(name) + ", which is no state");
      if (!given.fits(state->second)) broken("carries " + given.text() + " to the state " + quoted(name) + " of " + state->second.text());
    }
    known_.insert(fresh.begin(), fresh.end());
  }

  void operation(const Operation& op, std::uint32_t steps) {
    std::optional<Type> made;
    const bool argmax = op.kind == Operation::Kind::kArgMax;
    for (const Term& term : op.terms) {
      const auto type = value_type(term.of, quoted(op.to), steps);
      if (term.by && (term.by->kind == Source::Kind::kNoise || term.by->kind == Source::Kind::kValue || !value_type(*term.by, quoted(op.to), steps))) {
        broken("multiplies by something else for " + quoted(op.to) + ": a number, a row or a tensor is needed");
      }
      if (!type) continue;
      if (!argmax && (type->dtype != DType::kFloat32 || (made && !type->fits(*made)))) {
        broken("makes " + quoted(op.to) + " of " + type->text() + (made ? " and " + made->text() : "") + ": float32 of one shape is needed");
      }
      if (!made) made = type;
    }
    if (!made) broken("makes " + quoted(op.to) + " of nothing but noise, which has no shape of its own");
    if (argmax) {
      const int rank = static_cast<int>(made->shape.size());
      if (op.axis < -rank || op.axis >= rank) broken("takes the argmax of " + made->text() + " along axis " + std::to_string(op.axis));
      made->shape.erase(made->shape.begin() + (op.axis < 0 ? op.axis + rank : op.axis));
      made->dtype = DType::kInt64;
    }
    const auto state = states_.count(op.to) ? known_.find(op.to) : known_.end();
    if (state != known_.end() && !made->fits(state->second)) broken("writes " + made->text() + " to the state " + quoted(op.to) + " of " + state->second.text());
    if (state == known_.end()) known_[op.to] = *made;
  }

  void read(const Source& source, const Type& wanted, const std::string& what, std::uint32_t steps, bool initial) {
    if (source.kind == Source::Kind::kZeros && !initial) broken("gives zeros to " + what + "; zeros are for initial values");
    if (source.kind == Source::Kind::kNoise && wanted.dtype != DType::kFloat32) broken("gives float32 noise to " + what + ", which is " + wanted.text());
    const auto found = value_type(source, what, steps);
    if (found && !found->fits(wanted)) broken("gives " + found->text() + " to " + what + ", which is " + wanted.text());
  }

  // Nothing where the reader decides the shape.
  std::optional<Type> value_type(const Source& source, const std::string& at, std::uint32_t steps) const {
    if (source.kind == Source::Kind::kZeros || source.kind == Source::Kind::kNoise) return std::nullopt;
    if (source.kind == Source::Kind::kValue) {
      const auto found = known_.find(source.name);
      if (found == known_.end()) broken("reads " + quoted(source.name) + " for " + at + " before it is written");
      return found->second;
    }
    const auto tensor = bundle_.tensors.find(source.name);
    if (tensor == bundle_.tensors.end()) broken("reads the tensor " + quoted(source.name) + ", which tensors.safetensors does not hold");
    if (source.kind == Source::Kind::kTensor) return type_of(tensor->second);
    const Shape& shape = tensor->second.shape();
    if (!steps || shape.empty() || shape[0] != static_cast<std::int64_t>(steps)) {
      broken("reads rows of " + quoted(source.name) + " " + text_of(shape) + " for " + at + ", which has " + (steps ? std::to_string(steps) : "no") + " steps");
    }
    return type_of(tensor->second, 1);
  }

  const BundleData& bundle_;
  const TaskData& task_;
  std::string who_;
  std::map<std::string, Type> known_;
  std::set<std::string> sizes_, states_;
};

}  // namespace

void check_program(const BundleData& bundle, const TaskData& program, const std::string& who) { Check(bundle, program, who).all(); }

}  // namespace edgekit
