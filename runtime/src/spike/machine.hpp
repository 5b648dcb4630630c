// A spiking network at work on one image at a time: each layer by events or as a product of bytes, whichever is faster for its spikes.
#pragma once

#include <memory>

#include "kernels.hpp"
#include "network.hpp"

namespace edgekit::spike {

// any: a channel fires where one of its window does (OR pooling). plain: groups, dilation, several synapses; loops without a kernel of their own.
enum class Way { kEvents, kDense, kAny, kPlain };

const char* name_of(Way way);

// What the last image did in one layer; `spikes` and the time only where Settings.timed.
struct LayerReport : LayerTime {
  Way way = Way::kPlain;
};

// Events of a camera in one timestep, each a place of the input, [channels][height][width] counted through; one place may come again.
struct Packet {
  const std::uint32_t* addresses = nullptr;
  std::size_t count = 0;
};

// What a step reads and writes beside its input; a membrane a population, null where it has none: [places][Population::padded()].
struct Membranes {
  std::vector<const std::int32_t*> before;
  std::vector<std::int32_t*> after;
  const float* logits = nullptr;  // summed up to here
};

// What a layer listens to from outside: an image, or a packet where `packet` is there.
struct Given {
  const std::uint8_t* image = nullptr;
  const Packet* packet = nullptr;
  bool again = false;        // the same image as in the run before
  double share_from_us = 0;  // layers that are expected to take as long are shared by the team
};

struct Settings {
  const Kernels* kernels = nullptr;  // null: the best of this processor
  bool only_events = false, only_dense = false;
  bool timed = false;
  int threads = 1;
  double share_from_us = -1;  // below 0: found out on the first images
};

class Layer;
class Sharing;
class Team;

class Machine {
 public:
  Machine(Network network, const Settings& settings);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // image: uint8 [channels][height][width]; logits: float32 [channels][height][width] of the read-out. membranes: of a stepped network.
  void run(const std::uint8_t* image, float* logits, const Membranes* membranes = nullptr);
  // One step on events, which must lie in the input; it is that of the image in which each place holds how often it came, 255 at most.
  void run(const Packet& packet, float* logits, const Membranes& membranes);
  bool takes_packets() const;
  // Spikes of the last image, uint8 0 or 1 [channels][height][width].
  void spikes(std::size_t population, std::uint8_t* out) const;

  const Network& network() const { return network_; }
  const Kernels& kernels() const { return *settings_.kernels; }
  std::vector<LayerReport> report() const;

 private:
  void run(Given given, float* logits, const Membranes* membranes);
  void run_layers(const Given& given, const Membranes* membranes);

  Network network_;
  Settings settings_;
  std::unique_ptr<Team> team_;  // null: one thread
  std::unique_ptr<Sharing> sharing_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<std::uint8_t> last_;  // image of a stepped network: what it gives the first layers is the same at every step
};

}  // namespace edgekit::spike
