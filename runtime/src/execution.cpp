// run, and for streams begin, push, close.
#include "execution.hpp"

#include <algorithm>
#include <cstring>

namespace edgekit {

// What is wrong with numbers that name categories; empty where they are all there. ONNX would take -1 for the last one.
std::string strange_category(const Port& port, const TensorView& value) {
  const std::size_t places = port.categories.size();
  for (std::size_t i = 0; places && i < value.count(); ++i) {
    const std::int64_t given = value.dtype == DType::kInt64 ? value.as<std::int64_t>()[i] : value.as<std::int32_t>()[i];
    const std::int64_t most = port.categories[i % places] - 1;
    if (given < 0 || given > most) {
      return "'" + port.name + "' names categories: 0 to " + std::to_string(most) + " in place " + std::to_string(i % places) +
             " of its last axis, but got " + std::to_string(given);
    }
  }
  return {};
}

namespace {

bool runs(const Program& program, const std::string& graph) {
  const auto has = [&](const std::vector<Phase>& phases) {
    return std::any_of(phases.begin(), phases.end(), [&](const Phase& phase) { return phase.graph == graph; });
  };
  return has(program.before) || has(program.after) || (program.stream && has(program.stream->phases));
}

}  // namespace

Result<std::unique_ptr<Execution>> Execution::make(std::shared_ptr<const BundleData> bundle, std::shared_ptr<Engine> engine,
                                                   const Options& options) {
  auto made = std::make_unique<Execution>();
  made->bundle_ = std::move(bundle);
  made->engine_ = std::move(engine);
  made->options_ = options;
  for (const auto& [name, file] : made->bundle_->graphs) {
    if (!runs(made->bundle_->program, name)) continue;  // another task's
    auto graph = made->engine_->open(*made->bundle_, file, options);
    if (!graph) return graph.status();
    made->graphs_[name] = std::move(*graph);
  }
  if (made->bundle_->program.stream) {
    for (const auto& [name, join] : made->bundle_->program.stream->joins) made->gathered_.emplace(name, Gathered(join));
  }
  return made;
}

// Every input is there, none else, each of its dtype and shape. streamed, given: which inputs are meant.
Status Execution::check(const Inputs& inputs, bool streamed, bool given) const {
  const auto& stream = bundle_->program.stream;
  std::size_t count = 0;
  for (const Port& port : bundle_->inputs) {
    const bool feed = stream && stream->feeds.count(port.name);
    if (feed ? !streamed : !given) continue;
    ++count;
    const auto value = inputs.find(port.name);
    if (value == inputs.end()) return Status("the input '" + port.name + "' is missing; " + std::to_string(inputs.size()) + " were given");
    if (!fits(port, value->second)) {
      return Status("'" + port.name + "' must be " + name_of(port.dtype) + " " + text_of(port.shape) + ", but got " +
                    name_of(value->second.dtype) + " " + text_of(value->second.shape));
    }
    if (const std::string strange = strange_category(port, value->second); !strange.empty()) return Status(strange);
  }
  if (inputs.size() == count) return {};
  std::string wanted;
  for (const Port& port : bundle_->inputs) {
    const bool feed = stream && stream->feeds.count(port.name);
    if (feed ? streamed : given) wanted += (wanted.empty() ? "'" : ", '") + port.name + "'";
  }
  return Status("more inputs were given than this program takes here: " + (wanted.empty() ? "none" : wanted));
}

Status Execution::sizes(const Inputs& inputs, Sizes* found) const {
  const auto& stream = bundle_->program.stream;
  for (const Port& port : bundle_->inputs) {
    const auto value = inputs.find(port.name);
    if (value == inputs.end()) continue;
    for (std::size_t i = 0; i < port.shape.size(); ++i) {
      const std::string& name = port.shape[i].name;
      if (name.empty()) continue;
      if (stream && stream->feeds.count(port.name) && stream->feeds.at(port.name).axis == static_cast<int>(i)) continue;
      const auto [at, fresh] = found->emplace(name, value->second.shape[i]);
      if (!fresh && at->second != value->second.shape[i]) {
        return Status("'" + name + "' is " + std::to_string(at->second) + " in one input and " + std::to_string(value->second.shape[i]) +
                      " in '" + port.name + "'; it must be one size");
      }
    }
  }
  return {};
}

Status Execution::make_phases(const std::vector<Phase>& phases, std::vector<std::unique_ptr<PhaseRun>>* made) {
  for (const Phase& phase : phases) {
    const auto graph = graphs_.find(phase.graph);
    if (graph == graphs_.end()) return Status("the program runs the graph '" + phase.graph + "', which the bundle does not hold");
    auto run = PhaseRun::make(phase, graph->second.get(), bundle_->graphs.at(phase.graph), layout_->env.get(), options_.probes);
    if (!run) return run.status();
    made->push_back(std::move(*run));
  }
  return {};
}

// Buffers for these sizes, unless they are there.
Status Execution::lay_out(const Inputs& inputs) {
  Sizes found;
  if (Status s = sizes(inputs, &found); !s) return s;
  if (layout_ && layout_->env->sizes() == found) return {};
  layout_.emplace();
  ++layouts_;
  layout_->env = std::make_unique<Environment>(*bundle_, found);
  const auto& stream = bundle_->program.stream;
  for (const Port& port : bundle_->inputs) {
    DimShape shape = port.shape;
    if (stream && stream->feeds.count(port.name)) {
      const Feed& feed = stream->feeds.at(port.name);
      const auto axis = static_cast<std::size_t>(feed.axis);
      if (axis >= shape.size()) return Status("the program cuts '" + port.name + "' along axis " + std::to_string(axis) + " of " + text_of(shape));
      if (feed.window) {
        shape[axis] = {feed.window, ""};
      } else {
        shape.erase(shape.begin() + feed.axis);
      }
    }
    layout_->env->make(port.name, port.dtype, shape);
  }
  Status status = make_phases(bundle_->program.before, &layout_->before);
  if (status && stream) {
    status = layout_->env->declare(stream->states);
    if (status) status = make_phases(stream->phases, &layout_->inner);
    if (status) status = make_phases(bundle_->program.after, &layout_->after);
  }
  if (!status) layout_.reset();
  return status;
}

Status Execution::run(const Inputs& inputs, std::uint64_t seed) {
  if (Status s = check(inputs, true, true); !s) return s;
  const auto& stream = bundle_->program.stream;
  if (stream) {
    Inputs given, streamed;
    for (const auto& [name, value] : inputs) (stream->feeds.count(name) ? streamed : given)[name] = value;
    if (Status s = begin(given, seed); !s) return s;
    if (Status s = push(streamed); !s) return s;
    keep_ = true;
    const Status s = close();
    keep_ = false;
    return s;
  }
  if (Status s = lay_out(inputs); !s) return s;
  layout_->env->seed = seed;
  for (const auto& [name, value] : inputs) {
    if (Status s = layout_->env->find(name)->write(value); !s) return s;
  }
  for (const auto& phase : layout_->before) {
    if (Status s = phase->run(0); !s) return s;
  }
  append_probes(true);
  return answer_outputs(true);
}

Status Execution::begin(const Inputs& inputs, std::uint64_t seed) {
  if (!bundle_->program.stream) return Status("'" + bundle_->name + "' is no stream: give it whole inputs with run");
  if (Status s = check(inputs, false, true); !s) return s;
  given_.clear();
  for (const auto& [name, value] : inputs) given_[name].assign(value);
  seed_ = seed;
  begun_ = true;
  laid_ = false;
  return {};
}

// At the first push all sizes are known.
Status Execution::start_stream(const Inputs& inputs) {
  Inputs all = inputs;
  for (const auto& [name, value] : given_) all[name] = value.view();
  if (Status s = lay_out(all); !s) return s;
  const Stream& stream = *bundle_->program.stream;
  for (const auto& [name, feed] : stream.feeds) {
    const TensorView& value = inputs.at(name);
    queues_[name].begin(feed, value.dtype, value.shape);
  }
  layout_->env->seed = seed_;
  for (const auto& [name, value] : given_) {
    if (Status s = layout_->env->find(name)->write(value.view()); !s) return s;
  }
  for (const auto& phase : layout_->before) {
    if (Status s = phase->run(0); !s) return s;
  }
  if (Status s = layout_->env->start(stream.states, 0); !s) return s;
  chunk_ = 0;
  laid_ = true;
  return {};
}

Status Execution::push(const Inputs& inputs) {
  if (!bundle_->program.stream) return Status("'" + bundle_->name + "' is no stream: give it whole inputs with run");
  if (Status s = check(inputs, true, false); !s) return s;
  if (!begun_) {
    if (Status s = begin({}, bundle_->program.seed); !s) return s;
  }
  if (!laid_) {
    if (Status s = start_stream(inputs); !s) return s;
  }
  for (const auto& [name, value] : inputs) {
    if (Status s = queues_[name].add(name, value); !s) return s;
  }
  return append_chunks(true);
}

Status Execution::push_events(const std::uint32_t* places, std::size_t count) {
  const auto& stream = bundle_->program.stream;
  if (!stream || stream->feeds.size() != 1 || stream->phases.size() != 1 || stream->feeds.begin()->second.window) {
    return Status("'" + bundle_->name + "' is no stream of single frames through one graph, so it takes no events");
  }
  const auto& [name, feed] = *stream->feeds.begin();
  if (!begun_) {
    if (Status s = begin({}, bundle_->program.seed); !s) return s;
  }
  if (!laid_) {
    Inputs none;  // of one sample and no frame: as many sizes as there are
    for (const Port& port : bundle_->inputs) {
      if (port.name != name) continue;
      TensorView& view = none[name];
      view.dtype = port.dtype;
      for (const Dim& dim : port.shape) view.shape.push_back(dim.name.empty() ? dim.size : 1);
      if (static_cast<std::size_t>(feed.axis) < view.shape.size()) view.shape[static_cast<std::size_t>(feed.axis)] = 0;
    }
    if (Status s = start_stream(none); !s) return s;
  }
  if (Status s = graphs_.at(stream->phases.front().graph)->take_events(places, count); !s) return s;
  forget_answers();
  if (Status s = run_chunk(); !s) return s;
  return gather_answers(true);
}

void Execution::forget_answers() {
  for (auto& [name, gathered] : gathered_) {
    (void)name;
    gathered.clear();
  }
  for (const Port& port : bundle_->outputs) {  // those come when the stream is closed
    const auto join = bundle_->program.stream->joins.find(port.name);
    if (join == bundle_->program.stream->joins.end() || join->second.how == Join::How::kLast) answers_.erase(port.name);
  }
}

// Run every chunk that is whole and answer with what they gave; `anew` starts the answers afresh.
Status Execution::append_chunks(bool anew) {
  if (anew) forget_answers();
  if (Status s = run_chunks(); !s) return s;
  return gather_answers(anew);
}

Status Execution::gather_answers(bool anew) {
  for (auto& [name, gathered] : gathered_) {
    const Slot* slot = layout_->env->find(name);
    if (!slot) return Status("the program joins '" + name + "', which is never written");
    if (bundle_->program.stream->joins.at(name).how == Join::How::kLast) continue;
    gathered.finish(slot->declared(), layout_->env->sizes(), slot->dtype(), &answers_[name]);
  }
  append_probes(anew);
  return {};
}

Status Execution::run_chunks() {
  Environment& env = *layout_->env;
  while (true) {
    for (const auto& [name, queue] : queues_) {
      (void)name;
      if (!queue.ready()) return {};
    }
    for (auto& [name, queue] : queues_) queue.take(&env.find(name)->value());
    if (Status s = run_chunk(); !s) return s;
  }
}

Status Execution::run_chunk() {
  const Stream& stream = *bundle_->program.stream;
  for (const auto& phase : layout_->inner) {
    if (Status s = phase->run(chunk_); !s) return s;
  }
  for (auto& [name, gathered] : gathered_) {
    if (stream.joins.at(name).how == Join::How::kLast) continue;
    const Slot* slot = layout_->env->find(name);
    if (!slot) return Status("the program joins '" + name + "', which is never written");
    if (Status s = gathered.add(name, slot->value()); !s) return s;
  }
  ++chunk_;
  return {};
}

Status Execution::close() {
  if (!bundle_->program.stream) return Status("'" + bundle_->name + "' is no stream, so there is nothing to close");
  if (!begun_ || !laid_) return Status("the stream was closed before anything was pushed, so there is nothing to answer");
  begun_ = false;
  const bool pad = bundle_->program.stream->pad;
  bool all_begun = true;
  for (const auto& [name, queue] : queues_) {
    (void)name;
    all_begun = all_begun && (queue.begun() || queue.ready());
  }
  if (pad && all_begun) {
    for (auto& [name, queue] : queues_) {
      (void)name;
      if (queue.begun()) queue.pad();
    }
  }
  if (Status s = append_chunks(!keep_); !s) return s;
  for (const auto& phase : layout_->after) {
    if (Status s = phase->run(0); !s) return s;
  }
  append_probes(false);
  return answer_outputs(false);
}

// Take in what the probes saw; `anew` forgets the call before.
void Execution::append_probes(bool anew) {
  if (!options_.probes) return;
  if (anew) seen_.clear();
  for (auto* phases : {&layout_->before, &layout_->inner, &layout_->after}) {
    for (auto& phase : *phases) {
      for (PhaseRun::Probe& probe : phase->probes()) {
        if (!probe.calls) continue;
        auto& [shape, spikes] = seen_[probe.name];
        shape = probe.shape;
        spikes.insert(spikes.end(), probe.spikes.begin(), probe.spikes.end());
        probe.spikes.clear();
        probe.calls = 0;
      }
    }
  }
  for (const auto& [graph, file] : bundle_->graphs) {
    for (const std::string& name : file.probes) {
      const auto found = seen_.find(name);
      if (found == seen_.end()) continue;
      Shape shape = found->second.first;
      const std::size_t each = count_of(shape);
      if (graph_loops(bundle_->program, graph)) {
        shape.insert(shape.begin(), static_cast<std::int64_t>(each ? found->second.second.size() / each : 0));
      }
      answers_[name].assign({DType::kUint8, shape, found->second.second.data()});
    }
  }
}

// The program's outputs as they are now; of a stream those that are not joined, and the last values.
Status Execution::answer_outputs(bool joined_too) {
  const auto& stream = bundle_->program.stream;
  for (const Port& port : bundle_->outputs) {
    if (stream && !joined_too) {
      const auto join = stream->joins.find(port.name);
      if (join != stream->joins.end() && (join->second.how != Join::How::kLast || !chunk_)) continue;
    }
    const Slot* slot = layout_->env->find(port.name);
    if (!slot) return Status("the program never writes the output '" + port.name + "'");
    answers_[port.name].assign(slot->value().view());
  }
  return {};
}

std::uint64_t Execution::steps() const {
  std::uint64_t total = 0;
  if (!layout_) return 0;
  for (const auto* phases : {&layout_->before, &layout_->inner, &layout_->after}) {
    for (const auto& phase : *phases) total += phase->steps();
  }
  return total;
}

std::vector<LayerTime> Execution::layers() const {
  std::vector<LayerTime> all;
  if (!options_.layers) return all;
  for (const auto& [name, graph] : graphs_) {
    (void)name;
    for (LayerTime& layer : graph->layers()) all.push_back(std::move(layer));
  }
  return all;
}

}  // namespace edgekit
