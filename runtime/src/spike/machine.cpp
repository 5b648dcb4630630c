// Layer after layer.
#include "machine.hpp"

#include "layer.hpp"

namespace edgekit::spike {

const char* name_of(Way way) { return way == Way::kEvents ? "events" : way == Way::kDense ? "dense" : "plain"; }

Machine::Machine(Network network, const Settings& settings) : network_(std::move(network)), settings_(settings) {
  if (!settings_.kernels) settings_.kernels = usable_kernels().front();
  for (std::size_t i = 0; i < network_.populations.size(); ++i) {
    layers_.push_back(std::make_unique<Layer>(network_, i, layers_, settings_, *settings_.kernels));
  }
}

Machine::~Machine() = default;

void Machine::run(const std::uint8_t* image, float* logits) {
  for (const auto& layer : layers_) layer->run(image);
  const Size& size = network_.populations.back().size;
  for (std::size_t c = 0; c < static_cast<std::size_t>(size.channels); ++c) {
    for (std::size_t place = 0; place < size.places(); ++place) {
      *logits++ = static_cast<float>(static_cast<double>(layers_.back()->sum_of(c, place)) * network_.readout_scale);
    }
  }
}

void Machine::spikes(std::size_t population, std::uint8_t* out) const {
  const Map& map = layers_[population]->map();
  for (int c = 0; c < map.size.channels; ++c) {
    for (std::size_t place = 0; place < map.size.places(); ++place) *out++ = map.at(place)[c / 64] >> (c % 64) & 1;
  }
}

std::vector<LayerReport> Machine::report() const {
  std::vector<LayerReport> found;
  for (const auto& layer : layers_) found.push_back(layer->report());
  return found;
}

}  // namespace edgekit::spike
