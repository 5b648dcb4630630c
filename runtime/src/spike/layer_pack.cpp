// Weights and thresholds in the orders that the kernels read, made once when the network is opened.
#include <algorithm>
#include <limits>

#include "layer.hpp"

namespace edgekit::spike {

namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int32_t>::max();

int up_to(int n, int step) { return (n + step - 1) / step * step; }

// Blocks of 128 channels keep one event's weights in two cache lines; a narrow layer would only add zeros.
int event_lanes(int outputs) { return outputs <= 32 ? 32 : outputs <= 64 ? 64 : 128; }

// The lanes that leave the fewest empty; 16, with a product a byte that is loaded, only where others leave more. One place alone has only its
// lanes to add up at the same time.
int dense_lanes(int outputs, std::size_t places) {
  int best = places == 1 && up_to(outputs, 64) == up_to(outputs, 32) ? 64 : 32;
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

// Along one axis: pairs of a place of the output and a tap of the kernel that meet the map, and not the padding around it.
std::uint64_t pairs_met(int outputs, int kernel, int stride, int pad, int dilation, int inputs) {
  std::uint64_t met = 0;
  for (int o = 0; o < outputs; ++o) {
    for (int k = 0; k < kernel; ++k) {
      const std::int64_t at = std::int64_t{o} * stride - pad + std::int64_t{k} * dilation;
      met += at >= 0 && at < inputs;
    }
  }
  return met;
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
    report_.products += static_cast<std::uint64_t>(s.outputs) * s.per_group *
                        pairs_met(population_.size.height, s.kernel_y, s.stride_y, s.pad_y, s.dilation_y, from.height) *
                        pairs_met(population_.size.width, s.kernel_x, s.stride_x, s.pad_x, s.dilation_x, from.width);
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
  if (simple && !pixels) find_break_even();
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

// The bytes under a kernel in groups of four. Pixels lie side by side without a gap, so that groups go over the ends of places; where a row of
// the kernel leaves one byte over, those of up to three rows make one group more, from bytes that are laid out a second time (PixelLayer).
void Layer::lay_out_bytes(const Synapse& s, const Size& from) {
  const bool pixels = s.source == kInput;
  DenseLayer& layer = by_bytes_;
  layer.out_height = population_.size.height;
  layer.out_width = population_.size.width;
  const std::size_t depth = static_cast<std::size_t>(pixels ? from.channels : up_to(from.channels, 4)), run = s.kernel_x * depth;
  const std::size_t rows = static_cast<std::size_t>(from.height) + 2 * s.pad_y, columns = static_cast<std::size_t>(from.width) + 2 * s.pad_x;
  const bool tall = pixels && depth == 3 && run % 4 == 1 && (s.kernel_y == 2 || s.kernel_y == 3);
  pixel_.channels = from.channels;
  pixel_.height = from.height;
  pixel_.width = from.width;
  pixel_.depth = static_cast<int>(depth);
  pixel_.row = columns * depth;
  pixel_.tall = tall ? s.kernel_y : 0;
  pixel_.tall_rows = tall ? static_cast<int>(rows) - s.kernel_y + 1 : 0;
  pixel_.flip = kernels_.signed_bytes ? 0x80 : 0;
  layer.step = s.stride_x * depth;
  layer.down = s.stride_y * pixel_.row;
  layer.most = pixels ? 255 : s.pool_y * s.pool_x;
  const std::size_t in_row = tall ? run / 4 : (run + 3) / 4;
  for (std::size_t ky = 0; ky < static_cast<std::size_t>(s.kernel_y); ++ky) {
    for (std::size_t g = 0; g < in_row; ++g) offsets_.push_back(static_cast<std::int32_t>(ky * pixel_.row + 4 * g));
  }
  if (tall) offsets_.push_back(static_cast<std::int32_t>(rows * pixel_.row + run - 3));
  layer.groups = static_cast<int>(offsets_.size());
  layer.tap_groups = pixels ? 0 : static_cast<int>(depth / 4);  // a padded pixel is a byte that need not be 0
  layer.at = geometry(s, from, population_.size);
  layer.offsets = offsets_.data();
  bytes_.resize((rows + static_cast<std::size_t>(pixel_.tall_rows)) * pixel_.row);
  if (pixels) std::memset(bytes_.data(), static_cast<std::uint8_t>(-pixel_shift_), bytes_.size());  // a padded place is k = 0
  pixel_.bytes = bytes_.data();
  pixel_.pixels = bytes_.data() + s.pad_y * pixel_.row + s.pad_x * depth;
  pixel_.columns = bytes_.data() + rows * pixel_.row;
}

// Where in the bytes of a place's groups the one of a tap is.
std::size_t Layer::byte_of(const Synapse& s, int channel, int ky, int kx) const {
  const std::size_t at = static_cast<std::size_t>(kx) * pixel_.depth + channel, run = static_cast<std::size_t>(s.kernel_x) * pixel_.depth;
  if (pixel_.tall == 0) return static_cast<std::size_t>(ky) * ((run + 3) / 4 * 4) + at;
  return at + 1 == run ? static_cast<std::size_t>(s.kernel_y) * (run - 1) + ky : static_cast<std::size_t>(ky) * (run - 1) + at;
}

void Layer::pack_dense(const Synapse& s, const Size& from) {
  DenseLayer& layer = by_bytes_;
  const bool pixels = s.source == kInput;
  pixel_shift_ = pixels ? (kernels_.signed_bytes ? 128 : 0) - network_.offset : 0;
  lay_out_bytes(s, from);
  layer.lanes = dense_lanes(s.outputs, population_.size.places());
  layer.blocks = up_to(s.outputs, layer.lanes) / layer.lanes;
  const std::size_t all = static_cast<std::size_t>(layer.blocks) * layer.lanes;
  const std::size_t block_bytes = static_cast<std::size_t>(layer.groups) * layer.lanes * 4;
  const std::int64_t low = pixels ? -network_.offset : 0, high = pixels ? 255 - network_.offset : s.pool_y * s.pool_x;
  pixel_bias_.assign(static_cast<std::size_t>(s.outputs), 0);
  dense_weights_.resize(layer.blocks * block_bytes);
  dense_start_.resize(all);
  std::fill(dense_start_.data(), dense_start_.data() + all, -1);
  const bool sums = !population_.spiking || population_.membrane;
  for (int o = 0; o < s.outputs; ++o) {
    std::int64_t positive = 0, negative = 0;
    for (int c = 0; c < from.channels; ++c) {
      for (int ky = 0; ky < s.kernel_y; ++ky) {
        for (int kx = 0; kx < s.kernel_x; ++kx) {
          const std::int8_t w = weight_of(s, o, c, ky, kx);
          (w > 0 ? positive : negative) += w;
        }
      }
    }
    const auto channel = static_cast<std::size_t>(o);
    const std::int64_t theta = std::int64_t{population_.threshold} - population_.bias[channel];
    pixel_bias_[channel] = pixel_shift_ * (positive + negative);
    // Always or never above: so far away that the difference might not fit int32, and no sum is needed.
    const bool never = !sums && theta >= positive * high + negative * low, always = !sums && theta < positive * low + negative * high;
    dense_start_[channel] = never ? -1 : always ? 0 : static_cast<std::int32_t>(static_cast<std::uint32_t>(pixel_bias_[channel] - theta - 1));
    if (!never && !always) pack_channel(s, from, o, dense_weights_.data() + channel / layer.lanes * block_bytes);
  }
  layer.weights = dense_weights_.data();
  layer.start = dense_start_.data();
}

void Layer::pack_channel(const Synapse& s, const Size& from, int output, std::int8_t* block) const {
  for (int c = 0; c < from.channels; ++c) {
    for (int ky = 0; ky < s.kernel_y; ++ky) {
      for (int kx = 0; kx < s.kernel_x; ++kx) {
        const std::size_t at = byte_of(s, c, ky, kx);
        block[(at / 4 * by_bytes_.lanes + output % by_bytes_.lanes) * 4 + at % 4] = weight_of(s, output, c, ky, kx);
      }
    }
  }
}

}  // namespace edgekit::spike
