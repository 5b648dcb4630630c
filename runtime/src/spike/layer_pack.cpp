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

// The lanes that leave the fewest empty; 16, with a product a byte that is loaded, only where others leave more.
int dense_lanes(int outputs) {
  int best = 32;
  for (const int lanes : {48, 16}) {
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

// Whether one spike under a neuron's window is enough, and none is not: an OR of channels with themselves.
bool is_any(const Population& p) {
  const Synapse& s = p.synapses.front();
  if (p.synapses.size() != 1 || s.source == kInput || !p.spiking || s.groups != s.outputs || s.per_group != 1 || s.dilation_y != 1 || s.dilation_x != 1) return false;
  const std::size_t taps = static_cast<std::size_t>(s.kernel_y) * s.kernel_x;
  for (std::size_t i = 0; i < s.weights.size(); ++i) {
    const std::int64_t theta = std::int64_t{p.threshold} - p.bias[i / taps];
    if (theta < 0 || s.weights[i] <= theta) return false;
  }
  return s.pool_y == 1 && s.pool_x == 1;
}

}  // namespace

Layer::Layer(const Network& network, std::size_t number, const std::vector<std::unique_ptr<Layer>>& before, const Settings& settings, Team* team)
    : network_(network), population_(network.populations[number]), settings_(settings), kernels_(*settings.kernels), team_(team) {
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
  } else if (!population_.membrane && is_any(population_)) {
    report_.way = Way::kAny;
  } else {
    report_.way = Way::kPlain;
    sum_lanes_ = population_.membrane ? static_cast<int>(population_.padded()) : population_.size.channels;
  }
  map_.bits.resize(population_.size.places() * static_cast<std::size_t>(map_.words));
  if (!population_.spiking || population_.membrane || report_.way == Way::kPlain) sums_.resize(population_.size.places() * static_cast<std::size_t>(sum_lanes_));
  if (population_.membrane) pack_membrane();
  if (simple && (!pixels || team_)) find_break_even();
}

void Layer::pack_membrane() {
  for (auto* values : {&fire_bias_, &fire_pixel_bias_, &fire_theta_}) values->resize(population_.padded());
  for (std::size_t c = 0; c < population_.padded(); ++c) {
    const bool there = c < population_.bias.size();
    fire_bias_[c] = there ? population_.bias[c] : 0;
    // May leave int32 and come back with the sum it is added to: only their total is known to fit.
    const std::int64_t pixels = there && !pixel_bias_.empty() ? pixel_bias_[c] : 0;
    fire_pixel_bias_[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(std::int64_t{fire_bias_[c]} + pixels));
    fire_theta_[c] = there ? population_.thresholds[c] : static_cast<std::int32_t>(kNever);
  }
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
  if (s.source == kInput && !(network_.stepped && network_.offset == 0)) return;  // pixels are no events; counts of a camera's are
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
  if (s.source != kInput) return;
  seen_.assign(from.count(), 0);
  for (int c = 0; c < from.channels; ++c) {
    for (int y = 0; y < from.height; ++y) {
      for (int x = 0; x < from.width; ++x) {
        where_.push_back({static_cast<std::uint32_t>(y * from.width + x), static_cast<std::uint32_t>(x * from.channels + c)});
      }
    }
  }
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
  const bool fixed = settings_.only_events || settings_.only_dense;
  if (fixed) report_.break_even = settings_.only_dense ? 0 : std::numeric_limits<std::uint64_t>::max();
  if (fixed && !team_) return;
  dense_us_ = timed_us(Way::kDense, 8);
  if (!sources_.front()) return;
  const double few = timed_us(Way::kEvents, 32), more = timed_us(Way::kEvents, 8);
  const double few_events = static_cast<double>(all) / 32, more_events = static_cast<double>(all) / 8;
  event_us_ = std::max((more - few) / (more_events - few_events), 1e-9);
  none_us_ = std::max(few - event_us_ * few_events, 0.0);
  if (!fixed) report_.break_even = dense_us_ > none_us_ ? static_cast<std::uint64_t>((dense_us_ - none_us_) / event_us_) : 0;
}

// The best of some runs on spikes of which one in `one_in` is set.
double Layer::timed_us(Way way, std::uint32_t one_in) {
  if (!sources_.front()) {
    const std::vector<std::uint8_t> image(network_.input.count());
    return best_us(way, Given{image.data(), nullptr, false});
  }
  const Map& source = *sources_.front();
  auto& bits = const_cast<Map&>(source).bits;  // not in use yet: nothing has run
  std::uint32_t random = 12345;
  const auto next = [&random] { return (random = random * 1664525u + 1013904223u) >> 8; };
  for (std::size_t place = 0; place < source.size.places(); ++place) {
    for (int c = 0; c < source.size.channels; ++c) {
      if (next() % one_in == 0) bits[place * static_cast<std::size_t>(source.words) + static_cast<std::size_t>(c / 64)] |= std::uint64_t{1} << (c % 64);
    }
  }
  const double best = best_us(way, {});
  std::memset(bits.data(), 0, bits.size() * sizeof(std::uint64_t));
  return best;
}

double Layer::best_us(Way way, const Given& given) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    compute(way, given);
    best = std::min(best, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::memset(map_.bits.data(), 0, map_.bits.size() * sizeof(std::uint64_t));
  return best;
}

}  // namespace edgekit::spike
