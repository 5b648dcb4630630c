// The spike engine behind the face that every engine has.
#include "../engine.hpp"

#include <cstdlib>
#include <cstring>

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

class SpikeGraph : public Graph {
 public:
  SpikeGraph(spike::Network network, const spike::Settings& settings, std::string image, std::string logits)
      : machine_(std::make_shared<Machine>(std::move(network), settings)), image_(std::move(image)), logits_(std::move(logits)) {}

  Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) override {
    auto images = images_of(inputs);
    if (!images) return images.status();
    auto made = std::make_unique<SpikeBinding>();
    made->machine = machine_;
    made->count = *images;
    made->image = static_cast<const std::uint8_t*>(inputs.front().data);
    made->spare.resize(machine_->network().populations.back().size.count());
    for (const Bound& bound : outputs) {
      if (bound.name != logits_ || bound.dtype != DType::kFloat32 || count_of(bound.shape) != made->count * made->spare.size()) {
        return Status("the output '" + bound.name + "' is not the read-out of this spiking network");
      }
      made->logits = static_cast<float*>(bound.data);
    }
    return std::unique_ptr<Binding>(std::move(made));
  }

  // With the spikes of all populations, which are the probes.
  Status run(const std::vector<Bound>& inputs, Tensors* outputs) override {
    auto images = images_of(inputs);
    if (!images) return images.status();
    const auto& populations = machine_->network().populations;
    const auto batch = static_cast<std::int64_t>(*images);
    std::vector<Tensor*> found;
    for (const spike::Population& p : populations) {
      Shape shape{batch, p.size.channels};
      if (!p.flat) shape.insert(shape.end(), {p.size.height, p.size.width});
      Tensor& to = (*outputs)[p.spiking ? p.name : logits_];
      to.resize(p.spiking ? DType::kUint8 : DType::kFloat32, shape);
      found.push_back(&to);
    }
    const auto* image = static_cast<const std::uint8_t*>(inputs.front().data);
    for (std::size_t i = 0; i < *images; ++i) {
      machine_->run(image + i * machine_->network().input.count(), found.back()->as<float>() + i * populations.back().size.count());
      for (std::size_t p = 0; p + 1 < populations.size(); ++p) machine_->spikes(p, found[p]->as<std::uint8_t>() + i * populations[p].size.count());
    }
    return {};
  }

 private:
  struct SpikeBinding : Binding {
    std::shared_ptr<Machine> machine;
    std::size_t count = 0;
    const std::uint8_t* image = nullptr;
    float* logits = nullptr;
    std::vector<float> spare;  // where nobody wants the answer

    Status run() override {
      for (std::size_t i = 0; i < count; ++i) machine->run(image + i * machine->network().input.count(), logits ? logits + i * spare.size() : spare.data());
      return {};
    }
  };

  // How many.
  Result<std::size_t> images_of(const std::vector<Bound>& inputs) const {
    const std::size_t each = machine_->network().input.count();
    if (inputs.size() != 1 || inputs.front().name != image_ || inputs.front().dtype != DType::kUint8 || count_of(inputs.front().shape) % each) {
      return Status("a spiking network takes one input, '" + image_ + "' of bytes, " + std::to_string(each) + " an image");
    }
    return count_of(inputs.front().shape) / each;
  }

  std::shared_ptr<Machine> machine_;
  std::string image_, logits_;
};

class SpikeEngine : public Engine {
 public:
  SpikeEngine(spike::Settings settings) : settings_(settings) {
    if (!settings_.kernels) settings_.kernels = spike::usable_kernels().front();
    version_ = "spike " + std::string(kVersion) + " (" + settings_.kernels->name + ")";
  }
  const std::string& version() const override { return version_; }

  Result<std::unique_ptr<Graph>> open(const BundleData& bundle, const GraphFile& graph, const Options&) override {
    const std::string path = bundle.folder + "/" + graph.file;
    auto network = spike::read_network(path);
    if (!network) return network.status();
    if (graph.inputs.size() != 1 || graph.outputs.size() != 1) return Status(path + " must have one input and one output");
    return std::unique_ptr<Graph>(std::make_unique<SpikeGraph>(std::move(*network), settings_, graph.inputs.front().name, graph.outputs.front().name));
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
