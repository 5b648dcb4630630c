// A manifest with its tensors, {"manifest": {...}, "tensors": {"name": ["float32", [2, 3]]}}, read, checked and run on an engine of the
// target's own. The engine reads all of its inputs and writes all of its outputs; some of the time it gives other shapes than it should.
#include <cmath>
#include <cstring>
#include <memory>

#include "environment.hpp"
#include "execution.hpp"
#include "manifest_file.hpp"
#include "program_check.hpp"
#include "target.hpp"

#ifdef EDGEKIT_FUZZ
#include "json_mutator.hpp"
EDGEKIT_MUTATES_JSON
#endif

using namespace edgekit;

namespace {

constexpr std::uint64_t kMostPlaces = 4096;  // of one value: larger ones are not run, which is no refusal
constexpr std::uint32_t kMostSteps = 8;
constexpr std::int64_t kMostWindow = 64;
constexpr std::size_t kMostPhases = 12;

std::size_t hash(const std::string& text) {
  std::size_t made = 5381;
  for (const char c : text) made = made * 33 + static_cast<unsigned char>(c);
  return made;
}

std::int64_t size_for(const std::string& name) { return static_cast<std::int64_t>(1 + hash(name) % 3); }

bool small(const DimShape& shape) {
  std::uint64_t places = 1;
  for (const Dim& dim : shape) {
    const std::uint64_t n = dim.name.empty() ? static_cast<std::uint64_t>(dim.size) : 3;
    if (n > kMostPlaces || (places *= n) > kMostPlaces) return false;
  }
  return true;
}

bool small(const std::vector<Port>& ports) {
  for (const Port& port : ports) {
    if (!small(port.shape)) return false;
  }
  return ports.size() <= 32;
}

bool small(const std::map<std::string, State>& states) {
  for (const auto& [name, state] : states) {
    if (!small(state.shape)) return (void)name, false;
  }
  return states.size() <= 32;
}

bool small(const std::vector<Phase>& phases) {
  for (const Phase& phase : phases) {
    if (phase.steps > kMostSteps || !small(phase.states) || phase.epilogue.size() > 16 || phase.collect.size() > 4) return false;
    for (const Operation& op : phase.epilogue) {
      if (op.terms.size() > 8) return false;
    }
  }
  return phases.size() <= kMostPhases;
}

bool small(const BundleData& bundle) {
  const Program& program = bundle.program;
  if (!small(bundle.inputs) || !small(bundle.outputs) || !small(program.before) || !small(program.after)) return false;
  for (const auto& [name, graph] : bundle.graphs) {
    if (!small(graph.inputs) || !small(graph.outputs)) return (void)name, false;
  }
  if (!program.stream) return true;
  for (const auto& [name, feed] : program.stream->feeds) {
    if (feed.window > kMostWindow) return (void)name, false;
  }
  return small(program.stream->states) && small(program.stream->phases);
}

// Uses every byte, so that one outside is noticed.
unsigned sum(const void* data, std::size_t size) {
  unsigned made = 0;
  for (std::size_t i = 0; i < size; ++i) made += static_cast<const unsigned char*>(data)[i];
  return made;
}

volatile unsigned seen = 0;

void look(const std::vector<Bound>& inputs) {
  for (const Bound& bound : inputs) seen = seen + sum(bound.data, count_of(bound.shape) * size_of(bound.dtype));
}

class ToyBinding : public Binding {
 public:
  ToyBinding(std::vector<Bound> inputs, std::vector<Bound> outputs) : inputs_(std::move(inputs)), outputs_(std::move(outputs)) {}
  Status run() override {
    look(inputs_);
    for (const Bound& bound : outputs_) {
      if (const std::size_t bytes = count_of(bound.shape) * size_of(bound.dtype)) std::memset(bound.data, 1, bytes);
    }
    return {};
  }

 private:
  std::vector<Bound> inputs_, outputs_;
};

class ToyGraph : public Graph {
 public:
  ToyGraph(const GraphFile& file, unsigned lies) : file_(file), lies_(lies) {}

  Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) override {
    return std::unique_ptr<Binding>(std::make_unique<ToyBinding>(inputs, outputs));
  }

  Status run(const std::vector<Bound>& inputs, Tensors* outputs) override {
    look(inputs);
    Sizes sizes;
    for (const Port& port : file_.inputs) {
      for (const Bound& bound : inputs) {
        for (std::size_t i = 0; bound.name == port.name && i < port.shape.size() && i < bound.shape.size(); ++i) sizes[port.shape[i].name] = bound.shape[i];
      }
    }
    for (const Port& port : file_.outputs) {
      Shape shape;
      for (const Dim& dim : port.shape) shape.push_back(dim.name.empty() ? dim.size : sizes.count(dim.name) ? sizes[dim.name] : 2);
      DType dtype = port.dtype;
      if (lies_ == 1 && !shape.empty()) shape.pop_back();
      if (lies_ == 2) shape.push_back(2);
      if (lies_ == 3) dtype = DType::kUint8;
      if (lies_ == 4 && !shape.empty()) shape[0] += static_cast<std::int64_t>(++turn_ % 2);
      if (lies_ == 5) continue;
      if (lies_ == 6) shape.assign(17, 1);
      (*outputs)[port.name] = Tensor(dtype, shape);
    }
    for (const std::string& probe : file_.probes) {
      Tensor& made = (*outputs)[probe] = Tensor(DType::kFloat32, {2, 2});
      made.as<float>()[turn_ % 4] = lies_ ? -3e9f : 1.0f;
      made.as<float>()[3] = lies_ ? NAN : 0.0f;
    }
    return {};
  }

 private:
  const GraphFile& file_;
  unsigned lies_, turn_ = 0;
};

class ToyEngine : public Engine {
 public:
  explicit ToyEngine(unsigned lies) : lies_(lies) {}
  const std::string& version() const override { return version_; }
  Result<std::unique_ptr<Graph>> open(const BundleData&, const GraphFile& graph, const Options&) override {
    return std::unique_ptr<Graph>(std::make_unique<ToyGraph>(graph, lies_));
  }

 private:
  std::string version_ = "toy";
  unsigned lies_;
};

Tensors inputs_for(const BundleData& bundle, std::int64_t length) {
  Tensors made;
  for (const Port& port : bundle.inputs) {
    Shape shape;
    for (const Dim& dim : port.shape) shape.push_back(dim.name.empty() ? dim.size : size_for(dim.name));
    const bool fed = bundle.program.stream && bundle.program.stream->feeds.count(port.name);
    if (fed) shape[static_cast<std::size_t>(bundle.program.stream->feeds.at(port.name).axis)] = length;
    made.emplace(port.name, Tensor(port.dtype, shape));
  }
  return made;
}

void run(std::shared_ptr<const BundleData> bundle, unsigned lies, bool probes) {
  Options options;
  options.probes = probes;
  auto execution = Execution::make(bundle, std::make_shared<ToyEngine>(lies), options);
  if (!execution) return fuzz::refused(execution.status());
  for (const std::int64_t length : {5, 0}) {
    const Tensors tensors = inputs_for(*bundle, length);
    Inputs all, given, fed;
    for (const auto& [name, tensor] : tensors) {
      all[name] = tensor.view();
      (bundle->program.stream && bundle->program.stream->feeds.count(name) ? fed : given)[name] = tensor.view();
    }
    Status status = (*execution)->run(all, 7);
    if (status && bundle->program.stream) {
      status = (*execution)->begin(given, 7);
      if (status) status = (*execution)->push(fed);
      if (status) status = (*execution)->push(fed);
      if (status) status = (*execution)->close();
    }
    if (!status) return fuzz::refused(status);
    for (const auto& [name, tensor] : (*execution)->answers()) EXPECT(!name.empty() && tensor.bytes() < (64u << 20));
  }
}

void read_tensors(const Json& data, BundleData* bundle) {
  for (const auto& [name, about] : names(data, "tensors").items()) {
    if (!about.is_array() || about.size() != 2) refuse("tensors", "a dtype and a shape");
    DType dtype;
    if (!dtype_named(text(about[0], name), &dtype)) refuse(name, "of a dtype");
    Shape shape;
    for (const Json& n : array(about[1], name, 16)) shape.push_back(static_cast<std::int64_t>(whole(n, 0, kMostPlaces, name)));
    const auto bytes = limits::bytes_of(shape, size_of(dtype));
    if (!bytes || *bytes > 8 * kMostPlaces) refuse(name, "small");
    bundle->tensors[name] = Tensor(dtype, shape);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const Json found = parse_json(fuzz::text(data, size));
    object(found, {"manifest", "tensors"}, "it");
    auto bundle = std::make_shared<BundleData>();
    const auto tasks = read_manifest(found["manifest"], bundle.get());
    read_tensors(found["tensors"], bundle.get());
    check_program(*bundle, *bundle, "");
    for (const auto& [name, task] : tasks) check_program(*bundle, task, "task '" + name + "': ");
    if (!small(*bundle)) return 0;
    const unsigned choice = sum(data, size);  // half of the engines tell the truth
    run(bundle, choice % 12 < 7 ? choice % 12 : 0, choice / 12 % 2);
  } catch (const Status& status) {
    fuzz::refused(status);
  } catch (const std::length_error& error) {  // an array that no memory holds: Session makes it a sentence
    fuzz::refused(Status(error.what()));
  }
  return 0;
}
