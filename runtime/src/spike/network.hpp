// A spiking network in integers, as edgekit/spiking_net.py and stepped_net.py write it: populations of threshold neurons, with membranes
// or without, joined by synapses.
#pragma once

#include <string>
#include <vector>

#include "edgekit/edgekit.hpp"

namespace edgekit::spike {

struct Size {
  int channels = 0, height = 1, width = 1;
  std::size_t places() const { return static_cast<std::size_t>(height) * width; }
  std::size_t count() const { return places() * channels; }
  bool operator==(const Size& other) const { return channels == other.channels && height == other.height && width == other.width; }
};

inline constexpr int kInput = -1;
inline constexpr std::size_t kMostValues = std::size_t{1} << 26;  // of all populations together: what an engine holds of one image

// A dense synapse is a convolution whose kernel covers the whole source. `pool` sums windows of the source before the weights.
struct Synapse {
  int source = kInput;  // a population's number
  int outputs = 0, per_group = 0, kernel_y = 1, kernel_x = 1;
  int stride_y = 1, stride_x = 1, pad_y = 0, pad_x = 0, dilation_y = 1, dilation_x = 1, groups = 1, pool_y = 1, pool_x = 1;
  std::vector<std::int8_t> weights;  // [outputs][per_group][kernel_y][kernel_x]
};

struct Population {
  std::string name;
  Size size;
  bool flat = false;  // its shape is (N,)
  std::vector<Synapse> synapses;
  std::vector<std::int32_t> bias;  // a channel
  bool spiking = true;             // else the read-out
  std::int32_t threshold = 0;      // a spike where the sum, with the bias, is above
  // With a membrane: kernels.hpp, FireLayer. One whose leak is 0 has none; its thresholds are then in its bias.
  bool membrane = false, hard = false;
  std::int32_t leak = 0;
  std::vector<std::int32_t> thresholds;  // a channel
  std::size_t padded() const { return (static_cast<std::size_t>(size.channels) + 15) / 16 * 16; }  // channels of a membrane's place
};

struct Network {
  Size input;
  std::int32_t offset = 0;  // k = image - offset
  std::int32_t low = 0, high = 255;
  double readout_scale = 1;
  std::vector<Population> populations;  // each after its sources; the last is the read-out
  bool stepped = false;                 // several timesteps: with neurons, whose membranes live on

  Size size_of(int source) const { return source == kInput ? input : populations[static_cast<std::size_t>(source)].size; }
};

// The size of a source after its pooling.
Size pooled(const Size& source, const Synapse& synapse);

// Reads and checks all: names, order, shapes, that every sum fits int32.
Result<Network> read_network(const std::string& path);
Result<Network> parse_network(std::string_view bytes, const std::string& where);

}  // namespace edgekit::spike
