// A spiking network at work on one image at a time: each layer by events or as a product of bytes, whichever is faster for its spikes.
#pragma once

#include <memory>

#include "kernels.hpp"
#include "network.hpp"

namespace edgekit::spike {

enum class Way { kEvents, kDense, kPlain };  // plain: groups, dilation, several synapses; loops without a kernel of their own

const char* name_of(Way way);

// What the last image did in one layer.
struct LayerReport {
  std::string name;
  Way way = Way::kPlain;
  std::uint64_t inputs = 0;      // values that the layer listens to
  std::uint64_t events = 0;      // spikes among them, each of a pooling's window counted; 0 for pixels
  std::uint64_t spikes = 0;      // of its own; counted, as the time, only where Settings.timed
  std::uint64_t products = 0;    // weights times places: what a dense layer multiplies
  std::uint64_t break_even = 0;  // up to so many events it goes by events
  double microseconds = 0;
};

struct Settings {
  const Kernels* kernels = nullptr;  // null: the best of this processor
  bool only_events = false, only_dense = false;
  bool timed = false;
};

class Layer;

class Machine {
 public:
  Machine(Network network, const Settings& settings);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // image: uint8 [channels][height][width]; logits: float32 [channels][height][width] of the read-out.
  void run(const std::uint8_t* image, float* logits);
  // Spikes of the last image, uint8 0 or 1 [channels][height][width].
  void spikes(std::size_t population, std::uint8_t* out) const;

  const Network& network() const { return network_; }
  const Kernels& kernels() const { return *settings_.kernels; }
  std::vector<LayerReport> report() const;

 private:
  Network network_;
  Settings settings_;
  std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace edgekit::spike
