// Weights and thresholds in the orders that the kernels read, made once when the network is opened.
#include <algorithm>
#include <chrono>
#include <limits>

#include "layer.hpp"

namespace edgekit::spike {

namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int32_t>::max();

int up_to(int n, int step) { return (n + step - 1) / step * step; }

// Blocks of 128 channels keep one event's weights in two cache lines; a narrow layer would only add zeros.
int event_lanes(int outputs) { return outputs <= 32 ? 32 : outputs <= 64 ? 64 : 128; }

// The lanes that leave the fewest empty.
int dense_lanes(int outputs) {
  int best = 32;
  for (const int lanes : {16, 48}) {
    if (up_to(outputs, lanes) < up_to(outputs, best)) best = lanes;
  }
  return best;
}

Geometry geometry(const Synapse& s, const Size& from, const Size& to) {
  return {from.channels, from.height, from.width, to.channels, to.height, to.width, s.kernel_y, s.kernel_x, s.stride_y, s.stride_x, s.pad_y, s.pad_x};
}

std::int8_t weight_of(const Synapse& s, int output, int channel, int ky, int kx) {
  return s.weights[((static_cast<std::size_t>(output) * s.per_group + channel) * s.kernel_y + ky) * s.kernel_x + kx];
}

}  // namespace

Layer::Layer(const Network& network, std::size_t number, const std::vector<std::unique_ptr<Layer>>& before, const Settings& settings, const Kernels& kernels)
    : network_(network), population_(network.populations[number]), settings_(settings), kernels_(kernels) {
  report_.name = population_.name;
  map_.size = population_.size;
  for (const Synapse& s : population_.synapses) {
    sources_.push_back(s.source == kInput ? nullptr : &before[static_cast<std::size_t>(s.source)]->map());
    const Size from = pooled(network_.size_of(s.source), s);
    report_.inputs += from.count();
    report_.products += static_cast<std::uint64_t>(s.weights.size()) * population_.size.places();
  }
  pack();
}

void Layer::pack() {
  const Synapse& s = population_.synapses.front();
  const Size from = pooled(network_.size_of(s.source), s);
  const int window = s.pool_y * s.pool_x, most = kernels_.signed_bytes ? 127 : 255;
  const bool pixels = s.source == kInput;
  const bool simple = population_.synapses.size() == 1 && s.groups == 1 && s.dilation_y == 1 && s.dilation_x == 1 && window <= (pixels ? 1 : most);
  map_.words = (population_.size.channels + 63) / 64;
  if (simple) {
    pack_events(s, from);
    pack_dense(s, from);
    report_.way = pixels ? Way::kDense : Way::kEvents;
    map_.words = up_to(std::max(by_events_.blocks * by_events_.lanes, by_bytes_.blocks * by_bytes_.lanes), 64) / 64;
    sum_lanes_ = map_.words * 64;
  } else {
    report_.way = Way::kPlain;
    sum_lanes_ = population_.size.channels;
  }
  map_.bits.resize(population_.size.places() * static_cast<std::size_t>(map_.words));
  if (!population_.spiking || !simple) sums_.resize(population_.size.places() * static_cast<std::size_t>(sum_lanes_));
  if (simple && !pixels) find_break_even();
}

void Layer::pack_events(const Synapse& s, const Size& from) {
  EventLayer& layer = by_events_;
  layer.at = geometry(s, from, population_.size);
  layer.lanes = event_lanes(s.outputs);
  layer.blocks = up_to(s.outputs, layer.lanes) / layer.lanes;
  const std::size_t all = static_cast<std::size_t>(layer.blocks) * layer.lanes;
  event_theta_.resize(all);
  event_theta16_.resize(all);
  for (std::size_t o = 0; o < all; ++o) {
    const bool there = o < static_cast<std::size_t>(s.outputs);
    const std::int64_t theta = there ? std::int64_t{population_.threshold} - population_.bias[o] : kNever;
    event_theta_[o] = static_cast<std::int32_t>(theta);
    event_theta16_[o] = static_cast<std::int16_t>(std::clamp<std::int64_t>(theta, -32768, 32767));
  }
  layer.theta = event_theta_.data();
  layer.theta16 = event_theta16_.data();
  if (s.source == kInput) return;  // pixels are no events
  const std::size_t taps = static_cast<std::size_t>(s.kernel_y) * s.kernel_x * from.channels;
  event_weights_.resize(taps * all);
  for (int o = 0; o < s.outputs; ++o) {
    std::int8_t* row = event_weights_.data() + static_cast<std::size_t>(o / layer.lanes) * taps * layer.lanes;
    for (int ky = 0; ky < s.kernel_y; ++ky) {
      for (int kx = 0; kx < s.kernel_x; ++kx) {
        for (int c = 0; c < from.channels; ++c, row += layer.lanes) {
          const EventByte byte = event_byte(kernels_, layer.lanes, o % layer.lanes, weight_of(s, o, c, ky, kx));
          row[byte.at] = byte.value;
        }
      }
    }
  }
  layer.weights = event_weights_.data();
  const std::size_t window = static_cast<std::size_t>(s.pool_y) * s.pool_x;
  first_.resize(from.places() + 1);
  ids_.resize(from.count() * window + 16);
}

void Layer::pack_dense(const Synapse& s, const Size& from) {
  DenseLayer& layer = by_bytes_;
  layer.at = geometry(s, from, population_.size);
  layer.depth = up_to(from.channels, 4);
  layer.lanes = dense_lanes(s.outputs);
  layer.blocks = up_to(s.outputs, layer.lanes) / layer.lanes;
  const std::size_t all = static_cast<std::size_t>(layer.blocks) * layer.lanes, taps = static_cast<std::size_t>(s.kernel_y) * s.kernel_x;
  const bool pixels = s.source == kInput;
  pixel_shift_ = pixels ? (kernels_.signed_bytes ? 128 : 0) - network_.offset : 0;
  pixel_bias_.assign(static_cast<std::size_t>(s.outputs), 0);
  dense_weights_.resize(all * taps * layer.depth);
  for (int o = 0; o < s.outputs; ++o) {
    std::int8_t* const block = dense_weights_.data() + static_cast<std::size_t>(o / layer.lanes) * taps * layer.depth * layer.lanes;
    for (int ky = 0; ky < s.kernel_y; ++ky) {
      for (int kx = 0; kx < s.kernel_x; ++kx) {
        for (int c = 0; c < from.channels; ++c) {
          const std::size_t group = ((static_cast<std::size_t>(ky) * s.kernel_x + kx) * layer.depth + c) / 4;
          const std::int8_t w = weight_of(s, o, c, ky, kx);
          block[(group * layer.lanes + o % layer.lanes) * 4 + c % 4] = w;
          pixel_bias_[static_cast<std::size_t>(o)] += pixel_shift_ * w;
        }
      }
    }
  }
  layer.weights = dense_weights_.data();
  dense_theta_.resize(all);
  for (std::size_t o = 0; o < all; ++o) {
    const bool there = o < static_cast<std::size_t>(s.outputs);
    // Beyond the ends of int32 no sum is: network.cpp saw to it that all fit 31 bits.
    const std::int64_t theta = there ? std::int64_t{population_.threshold} - population_.bias[o] - pixel_bias_[o] : kNever;
    dense_theta_[o] = static_cast<std::int32_t>(std::clamp<std::int64_t>(theta, std::numeric_limits<std::int32_t>::min(), kNever));
  }
  layer.theta = dense_theta_.data();
  const std::size_t rows = static_cast<std::size_t>(from.height) + 2 * s.pad_y, columns = static_cast<std::size_t>(from.width) + 2 * s.pad_x;
  bytes_.resize(rows * columns * layer.depth);
  // A padded place is k = 0.
  if (pixels) std::memset(bytes_.data(), static_cast<std::uint8_t>(-pixel_shift_), bytes_.size());
}

// Up to how many events the layer is faster by events: both ways are timed on made-up spikes, here, on this processor.
void Layer::find_break_even() {
  const std::uint64_t all = report_.inputs;
  if (settings_.only_events || settings_.only_dense) {
    report_.break_even = settings_.only_dense ? 0 : std::numeric_limits<std::uint64_t>::max();
    return;
  }
  const double dense = timed_us(Way::kDense, 8), few = timed_us(Way::kEvents, 32), more = timed_us(Way::kEvents, 8);
  const double few_events = static_cast<double>(all) / 32, more_events = static_cast<double>(all) / 8;
  const double each = std::max((more - few) / (more_events - few_events), 1e-9), none = std::max(few - each * few_events, 0.0);
  report_.break_even = dense > none ? static_cast<std::uint64_t>((dense - none) / each) : 0;
}

// The best of some runs on spikes of which one in `one_in` is set.
double Layer::timed_us(Way way, std::uint32_t one_in) {
  const Map& source = *sources_.front();
  auto& bits = const_cast<Map&>(source).bits;  // not in use yet: nothing has run
  std::uint32_t random = 12345;
  const auto next = [&random] { return (random = random * 1664525u + 1013904223u) >> 8; };
  for (std::size_t place = 0; place < source.size.places(); ++place) {
    for (int c = 0; c < source.size.channels; ++c) {
      if (next() % one_in == 0) bits[place * static_cast<std::size_t>(source.words) + static_cast<std::size_t>(c / 64)] |= std::uint64_t{1} << (c % 64);
    }
  }
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    compute(way, nullptr);
    best = std::min(best, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::memset(bits.data(), 0, bits.size() * sizeof(std::uint64_t));
  std::memset(map_.bits.data(), 0, map_.bits.size() * sizeof(std::uint64_t));
  return best;
}

}  // namespace edgekit::spike
