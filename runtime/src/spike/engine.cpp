// The spike engine behind the face that every engine has.
#include "../engine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>

#include "machine.hpp"

namespace edgekit {

namespace {

using spike::Machine;

// EDGEKIT_SPIKE_KERNELS names a table of kernels, EDGEKIT_SPIKE_WAY is "events" or "dense": for tests and for measurements.
Result<spike::Settings> settings_from_environment() {
  spike::Settings settings;
  if (const char* wanted = std::getenv("EDGEKIT_SPIKE_KERNELS"); wanted && *wanted) {
    std::string there;
    for (const spike::Kernels* kernels : spike::usable_kernels()) {
      if (std::strcmp(kernels->name, wanted) == 0) settings.kernels = kernels;
      there += (there.empty() ? "" : ", ") + std::string(kernels->name);
    }
    if (!settings.kernels) return Status("EDGEKIT_SPIKE_KERNELS is '" + std::string(wanted) + "'; this processor runs: " + there);
  }
  if (const char* way = std::getenv("EDGEKIT_SPIKE_WAY"); way && *way) {
    settings.only_events = std::strcmp(way, "events") == 0;
    settings.only_dense = std::strcmp(way, "dense") == 0;
    if (!settings.only_events && !settings.only_dense) return Status("EDGEKIT_SPIKE_WAY is '" + std::string(way) + "'; it is events or dense");
  }
  return settings;
}

// The network as a graph: an image, and of a stepped network its membranes "u_<population>" and the summed logits; outputs are the logits
// or, stepped, each state's next value under its name with "_next" behind.
class SpikeGraph : public Graph {
 public:
  SpikeGraph(spike::Network network, const spike::Settings& settings, std::string image, std::string logits)
      : machine_(std::make_shared<Machine>(std::move(network), settings)), image_(std::move(image)), logits_(std::move(logits)) {}

  Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) override {
    auto made = std::make_unique<SpikeBinding>(this);
    if (Status s = find(inputs, outputs, made->step); !s) return s;
    made->spare.resize(logits_count() * (made->step.logits ? 0 : 1));
    return std::unique_ptr<Binding>(std::move(made));
  }

  // With the spikes of all populations, which are the probes.
  Status run(const std::vector<Bound>& inputs, Tensors* outputs) override {
    const auto& populations = machine_->network().populations;
    std::size_t images = 0;
    if (Status s = images_of(inputs, &images); !s) return s;
    std::vector<Bound> made;
    const auto make = [&](const std::string& name, DType dtype, const Shape& shape) {
      Tensor& to = (*outputs)[name];
      to.resize(dtype, shape);
      made.push_back({name, dtype, to.shape(), to.data()});
    };
    const auto batch = static_cast<std::int64_t>(images);
    for (const spike::Population& p : populations) {
      Shape shape{batch, p.size.channels};
      if (!p.flat) shape.insert(shape.end(), {p.size.height, p.size.width});
      make(p.spiking ? p.name : logits_, p.spiking ? DType::kUint8 : DType::kFloat32, shape);
      if (p.membrane) make(state_of(p) + kNext, DType::kInt32, {batch, static_cast<std::int64_t>(p.size.places()), static_cast<std::int64_t>(p.padded())});
    }
    Step step;
    if (Status s = find(inputs, made, step); !s) return s;
    return work(step, nullptr);
  }

  std::vector<LayerTime> layers() const override {
    std::vector<LayerTime> found;
    for (const spike::LayerReport& report : machine_->report()) {
      found.push_back(report);
      found.back().way = spike::name_of(report.way);
    }
    return found;
  }

  Status take_events(const std::uint32_t* addresses, std::size_t count) override {
    const std::size_t places = machine_->network().input.count();
    if (!machine_->takes_packets()) {
      return Status("this network takes no events: it has one timestep, its image is centred, or its first layer has groups, pooling or several sources");
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (addresses[i] >= places) return Status("event " + std::to_string(i) + " is at place " + std::to_string(addresses[i]) + ", the input has " + std::to_string(places));
    }
    packet_ = spike::Packet{addresses, count};
    return {};
  }

 private:
  static constexpr const char* kNext = "_next";
  static std::string state_of(const spike::Population& p) { return "u_" + p.name; }

  // Where everything of a batch lies.
  struct Step {
    std::size_t images = 0;
    const std::uint8_t* image = nullptr;
    float* logits = nullptr;
    spike::Membranes membranes;         // of the first image
    std::vector<std::uint8_t*> spikes;  // a population; null: not asked for
  };

  struct SpikeBinding : Binding {
    explicit SpikeBinding(SpikeGraph* of) : graph(of) {}
    SpikeGraph* graph;
    Step step;
    std::vector<float> spare;  // where nobody wants the answer
    Status run() override { return graph->work(step, spare.data()); }
  };

  Status work(const Step& step, float* spare) {
    const auto& populations = machine_->network().populations;
    const auto packet = packet_;
    packet_.reset();
    if (packet && step.images != 1) return Status("events are of one stream, but the batch holds " + std::to_string(step.images));
    const bool stepped = machine_->network().stepped;
    spike::Membranes now;
    if (stepped) now = step.membranes;  // a copy takes as long as a small layer
    for (std::size_t i = 0; i < step.images; ++i) {
      float* const logits = step.logits ? step.logits + i * logits_count() : spare;
      if (packet) {
        machine_->run(*packet, logits, now);
      } else {
        machine_->run(step.image + i * machine_->network().input.count(), logits, stepped ? &now : nullptr);
      }
      for (std::size_t p = 0; p < step.spikes.size(); ++p) {
        if (step.spikes[p]) machine_->spikes(p, step.spikes[p] + i * populations[p].size.count());
      }
      if (i + 1 == step.images || !stepped) continue;
      for (std::size_t p = 0; p < populations.size(); ++p) {
        if (!populations[p].membrane) continue;
        now.before[p] += populations[p].size.places() * populations[p].padded();
        now.after[p] += populations[p].size.places() * populations[p].padded();
      }
      now.logits += logits_count();
    }
    return {};
  }

  std::size_t logits_count() const { return machine_->network().populations.back().size.count(); }

  Status images_of(const std::vector<Bound>& inputs, std::size_t* images) const {
    const std::size_t each = machine_->network().input.count();
    for (const Bound& bound : inputs) {
      if (bound.name != image_ || bound.dtype != DType::kUint8 || count_of(bound.shape) % each) continue;
      *images = count_of(bound.shape) / each;
      return {};
    }
    return Status("a spiking network takes '" + image_ + "' of bytes, " + std::to_string(each) + " an image");
  }

  // Every input and output by its name, with as many values as it must have.
  Status find(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs, Step& step) const {
    if (Status s = images_of(inputs, &step.images); !s) return s;
    const spike::Network& net = machine_->network();
    const auto named = [](const std::vector<Bound>& among, const std::string& name) {
      const auto at = std::find_if(among.begin(), among.end(), [&](const Bound& b) { return b.name == name; });
      return at == among.end() ? nullptr : &*at;
    };
    // `found`: null where there is none of that name.
    const auto taken = [&](const std::vector<Bound>& among, const std::string& name, DType dtype, std::size_t each, const Bound** found) -> Status {
      const Bound* bound = *found = named(among, name);
      if (!bound) return {};
      if (bound->dtype != dtype || count_of(bound->shape) != each * step.images) return Status("'" + name + "' must be " + std::to_string(each * step.images) + " values of " + name_of(dtype));
      return {};
    };
    const auto data_of = [](const Bound* bound) { return bound ? bound->data : nullptr; };
    const Bound* found = nullptr;
    std::size_t known = 1, given = 0;
    step.image = static_cast<const std::uint8_t*>(named(inputs, image_)->data);
    for (const spike::Population& p : net.populations) {
      const Bound *before = nullptr, *after = nullptr, *spikes = nullptr;
      const std::size_t each = p.size.places() * p.padded();
      if (Status s = taken(inputs, state_of(p), DType::kInt32, each, &before); !s) return s;
      if (Status s = taken(outputs, state_of(p) + kNext, DType::kInt32, each, &after); !s) return s;
      if (Status s = taken(outputs, p.name, DType::kUint8, p.size.count(), &spikes); !s && p.spiking) return s;
      if (p.membrane != (before && after)) return Status("the membrane of '" + p.name + "' must be there before and after a step");
      step.membranes.before.push_back(static_cast<const std::int32_t*>(data_of(before)));
      step.membranes.after.push_back(static_cast<std::int32_t*>(data_of(after)));
      step.spikes.push_back(p.spiking ? static_cast<std::uint8_t*>(data_of(spikes)) : nullptr);
      known += p.membrane ? 1 : 0;
      given += (p.membrane ? 1 : 0) + (p.spiking && spikes ? 1 : 0);
    }
    if (net.stepped) {
      if (Status s = taken(inputs, kLogits, DType::kFloat32, logits_count(), &found); !s) return s;
      if (!found) return Status("the sum of the logits up to here is missing");
      step.membranes.logits = static_cast<const float*>(found->data);
      ++known;
    }
    if (Status s = taken(outputs, logits_, DType::kFloat32, logits_count(), &found); !s) return s;
    step.logits = static_cast<float*>(data_of(found));
    given += found ? 1 : 0;
    if (inputs.size() != known || outputs.size() != given) return Status("a spiking network has no other inputs and outputs than its image, its states and its logits");
    return {};
  }

  static constexpr const char* kLogits = "logits";
  std::shared_ptr<Machine> machine_;
  std::string image_, logits_;
  std::optional<spike::Packet> packet_;
};

class SpikeEngine : public Engine {
 public:
  SpikeEngine(spike::Settings settings) : settings_(settings) {
    if (!settings_.kernels) settings_.kernels = spike::usable_kernels().front();
    version_ = "spike " + std::string(kVersion) + " (" + settings_.kernels->name + ")";
  }
  const std::string& version() const override { return version_; }

  Result<std::unique_ptr<Graph>> open(const BundleData& bundle, const GraphFile& graph, const Options& options) override {
    spike::Settings settings = settings_;
    settings.timed = options.layers;
    const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    settings.threads = options.threads > 0 ? std::min(options.threads, cores) : cores;
    const std::string path = bundle.folder + "/" + graph.file;
    auto network = spike::read_network(path);
    if (!network) return network.status();
    // A stepped network adds its states; SpikeGraph looks at each by name when it is bound.
    if (graph.inputs.empty() || graph.outputs.empty() || (!network->stepped && graph.inputs.size() + graph.outputs.size() != 2)) {
      return Status(path + " must have one input and one output, and states only where it has several timesteps");
    }
    const std::string logits = network->stepped ? "logits_next" : graph.outputs.front().name;
    return std::unique_ptr<Graph>(std::make_unique<SpikeGraph>(std::move(*network), settings, graph.inputs.front().name, logits));
  }

 private:
  spike::Settings settings_;
  std::string version_;
};

}  // namespace

Result<std::shared_ptr<Engine>> spike_engine() {
  auto settings = settings_from_environment();
  if (!settings) return settings.status();
  return std::shared_ptr<Engine>(std::make_shared<SpikeEngine>(*settings));
}

}  // namespace edgekit
