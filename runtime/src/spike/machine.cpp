// Layer after layer.
#include "machine.hpp"

#include <cstring>

#include "layer.hpp"
#include "team.hpp"

namespace edgekit::spike {

const char* name_of(Way way) { return way == Way::kEvents ? "events" : way == Way::kDense ? "dense" : way == Way::kAny ? "any" : "plain"; }

Machine::Machine(Network network, const Settings& settings) : network_(std::move(network)), settings_(settings) {
  if (!settings_.kernels) settings_.kernels = usable_kernels().front();
  if (settings_.threads > 1) {
    team_ = std::make_unique<Team>(settings_.threads);
    sharing_ = std::make_unique<Sharing>();
  }
  for (std::size_t i = 0; i < network_.populations.size(); ++i) {
    layers_.push_back(std::make_unique<Layer>(network_, i, layers_, settings_, team_.get()));
  }
}

Machine::~Machine() = default;

void Machine::run(const std::uint8_t* image, float* logits, const Membranes* membranes) {
  Given given{image, nullptr, false, 0};
  if (network_.stepped) {
    const std::size_t size = network_.input.count();
    given.again = last_.size() == size && std::memcmp(last_.data(), image, size) == 0;
    if (!given.again) last_.assign(image, image + size);
  }
  run(given, logits, membranes);
}

void Machine::run(const Packet& packet, float* logits, const Membranes& membranes) {
  last_.clear();
  run(Given{nullptr, &packet, false, 0}, logits, &membranes);
}

void Machine::run_layers(const Given& given, const Membranes* membranes) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const bool state = membranes && network_.populations[i].membrane;
    layers_[i]->run(given, state ? membranes->before[i] : nullptr, state ? membranes->after[i] : nullptr);
  }
}

void Machine::run(Given given, float* logits, const Membranes* membranes) {
  if (!team_ || settings_.share_from_us >= 0) {
    given.share_from_us = settings_.share_from_us;
    run_layers(given, membranes);
  } else {
    sharing_->run([&](double share_from_us) {
      given.share_from_us = share_from_us;
      run_layers(given, membranes);
    });
  }
  const float* before = membranes ? membranes->logits : nullptr;
  const Size& size = network_.populations.back().size;
  for (std::size_t c = 0; c < static_cast<std::size_t>(size.channels); ++c) {
    for (std::size_t place = 0; place < size.places(); ++place) {
      const auto now = static_cast<float>(static_cast<double>(layers_.back()->sum_of(c, place)) * network_.readout_scale);
      *logits++ = before ? *before++ + now : now;
    }
  }
}

bool Machine::takes_packets() const {
  if (!network_.stepped) return false;
  for (const auto& layer : layers_) {
    if (!layer->takes_packets()) return false;
  }
  return true;
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
