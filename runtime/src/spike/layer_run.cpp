// One layer for one image: what it listens to becomes events or bytes, then a kernel.
#include <algorithm>
#include <chrono>

#include "layer.hpp"

namespace edgekit::spike {

void Layer::run(const std::uint8_t* image) {
  const auto begin = settings_.timed ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
  Way way = report_.way;
  if (way != Way::kPlain && sources_.front()) {
    report_.events = count_events();
    way = report_.events <= report_.break_even ? Way::kEvents : Way::kDense;
    report_.way = way;
  }
  compute(way, image);
  if (settings_.timed) {
    report_.microseconds = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    report_.spikes = 0;
    for (std::size_t i = 0; i < map_.bits.size(); ++i) report_.spikes += static_cast<std::uint64_t>(__builtin_popcountll(map_.bits[i]));
  }
}

// Spikes of the source; those of a last odd row or column, which a pooling drops, are few enough to count along.
std::uint64_t Layer::count_events() const {
  const Aligned<std::uint64_t>& bits = sources_.front()->bits;
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < bits.size(); ++i) count += static_cast<std::uint64_t>(__builtin_popcountll(bits[i]));
  return count;
}

void Layer::compute(Way way, const std::uint8_t* image) {
  if (way == Way::kPlain) return compute_plain(image);
  const std::size_t stride = static_cast<std::size_t>(map_.words) * 8;
  const Out out{reinterpret_cast<std::uint8_t*>(map_.bits.data()), stride, population_.spiking ? nullptr : sums_.data()};
  if (way == Way::kEvents) {
    gather_events();
    kernels_.events(by_events_, {first_.data(), ids_.data()}, {0, by_events_.blocks, 0, population_.size.height}, out);
    if (!population_.spiking) sum_lanes_ = by_events_.blocks * by_events_.lanes;
  } else {
    sources_.front() ? gather_bytes() : gather_pixels(image);
    kernels_.dense(by_bytes_, bytes_.data(), {0, by_bytes_.blocks, 0, population_.size.height}, out);
    if (!population_.spiking) sum_lanes_ = by_bytes_.blocks * by_bytes_.lanes;
  }
}

std::int64_t Layer::sum_of(std::size_t channel, std::size_t place) const {
  const std::int64_t shift = report_.way != Way::kPlain && !sources_.front() ? pixel_bias_[channel] : 0;
  return std::int64_t{sums_[place * static_cast<std::size_t>(sum_lanes_) + channel]} + shift + population_.bias[channel];
}

void Layer::gather_events() {
  const Synapse& s = population_.synapses.front();
  const Map& from = *sources_.front();
  const Geometry& at = by_events_.at;
  std::uint32_t* id = ids_.data();
  std::uint32_t* first = first_.data();
  for (int y = 0; y < at.height; ++y) {
    for (int x = 0; x < at.width; ++x) {
      *first++ = static_cast<std::uint32_t>(id - ids_.data());
      const auto base = static_cast<std::uint32_t>(x) * static_cast<std::uint32_t>(at.channels);
      for (int i = 0; i < s.pool_y; ++i) {
        const std::size_t place = (static_cast<std::size_t>(y) * s.pool_y + i) * from.size.width + static_cast<std::size_t>(x) * s.pool_x;
        for (int j = 0; j < s.pool_x; ++j) id += kernels_.extract(from.at(place + j), (at.channels + 63) / 64, base, id);
      }
    }
  }
  *first = static_cast<std::uint32_t>(id - ids_.data());
}

// Whole words are added, the last of them beyond the channels of a place: only zeros, into bytes that are there.
void Layer::gather_bytes() {
  const Synapse& s = population_.synapses.front();
  const Map& from = *sources_.front();
  const Geometry& at = by_bytes_.at;
  std::memset(bytes_.data(), 0, bytes_.size());
  const std::size_t columns = static_cast<std::size_t>(at.width) + 2 * at.pad_x;
  for (int y = 0; y < at.height; ++y) {
    for (int x = 0; x < at.width; ++x) {
      std::uint8_t* const to = bytes_.data() + ((static_cast<std::size_t>(y) + at.pad_y) * columns + x + at.pad_x) * by_bytes_.depth;
      for (int i = 0; i < s.pool_y; ++i) {
        const std::size_t place = (static_cast<std::size_t>(y) * s.pool_y + i) * from.size.width + static_cast<std::size_t>(x) * s.pool_x;
        for (int j = 0; j < s.pool_x; ++j) kernels_.add_bits(from.at(place + j), (at.channels + 63) / 64, to);
      }
    }
  }
}

void Layer::gather_pixels(const std::uint8_t* image) {
  const Geometry& at = by_bytes_.at;
  const std::size_t plane = static_cast<std::size_t>(at.height) * at.width, columns = static_cast<std::size_t>(at.width) + 2 * at.pad_x;
  const std::uint8_t flip = kernels_.signed_bytes ? 0x80 : 0;
  for (int y = 0; y < at.height; ++y) {
    std::uint8_t* const to = bytes_.data() + ((static_cast<std::size_t>(y) + at.pad_y) * columns + at.pad_x) * by_bytes_.depth;
    const std::uint8_t* const from = image + static_cast<std::size_t>(y) * at.width;
    if (at.channels == 3) {  // written as one word a pixel, which compilers turn into wide shuffles
      for (int x = 0; x < at.width; ++x) {
        const std::uint32_t pixel = static_cast<std::uint32_t>(from[x] ^ flip) | static_cast<std::uint32_t>(from[plane + x] ^ flip) << 8 |
                                    static_cast<std::uint32_t>(from[2 * plane + x] ^ flip) << 16;
        std::memcpy(to + 4 * x, &pixel, 4);
      }
      continue;
    }
    for (int x = 0; x < at.width; ++x) {
      for (int c = 0; c < at.channels; ++c) to[static_cast<std::size_t>(x) * by_bytes_.depth + c] = static_cast<std::uint8_t>(from[c * plane + x] ^ flip);
    }
  }
}

// What a synapse listens to, int32 [channels][height][width] after its pooling.
void Layer::values_of(const Synapse& s, const std::uint8_t* image) {
  const Size full = network_.size_of(s.source), from = pooled(full, s);
  const Map* const map = sources_[static_cast<std::size_t>(&s - population_.synapses.data())];
  values_.resize(from.count());
  for (int c = 0; c < from.channels; ++c) {
    for (int y = 0; y < from.height * s.pool_y; ++y) {
      for (int x = 0; x < from.width * s.pool_x; ++x) {
        const std::size_t place = static_cast<std::size_t>(y) * full.width + x;
        const std::int32_t k = map ? static_cast<std::int32_t>(map->at(place)[c / 64] >> (c % 64) & 1) : image[c * full.places() + place] - network_.offset;
        values_[(static_cast<std::size_t>(c) * from.height + y / s.pool_y) * from.width + x / s.pool_x] += k;
      }
    }
  }
}

// Each value that is not 0 goes to all that listen to it.
void Layer::compute_plain(const std::uint8_t* image) {
  const Size& to = population_.size;
  std::fill(sums_.data(), sums_.data() + sums_.size(), 0);
  report_.events = 0;
  for (const Synapse& s : population_.synapses) {
    values_of(s, image);
    const Size from = pooled(network_.size_of(s.source), s);
    const int per_group = s.outputs / s.groups;
    for (int c = 0; c < from.channels; ++c) {
      const int group = c / s.per_group;
      for (int y = 0; y < from.height; ++y) {
        for (int x = 0; x < from.width; ++x) {
          const std::int32_t k = values_[(static_cast<std::size_t>(c) * from.height + y) * from.width + x];
          if (k == 0) continue;
          ++report_.events;
          for (int ky = 0; ky < s.kernel_y; ++ky) {
            const int row = y + s.pad_y - ky * s.dilation_y;
            if (row < 0 || row % s.stride_y || row / s.stride_y >= to.height) continue;
            for (int kx = 0; kx < s.kernel_x; ++kx) {
              const int column = x + s.pad_x - kx * s.dilation_x;
              if (column < 0 || column % s.stride_x || column / s.stride_x >= to.width) continue;
              const std::size_t place = static_cast<std::size_t>(row / s.stride_y) * to.width + column / s.stride_x;
              const std::size_t each = static_cast<std::size_t>(s.per_group) * s.kernel_y * s.kernel_x;
              const std::int8_t* w = s.weights.data() + ((static_cast<std::size_t>(group) * per_group * s.per_group + c % s.per_group) * s.kernel_y + ky) * s.kernel_x + kx;
              std::int32_t* const sum = sums_.data() + place * to.channels + static_cast<std::size_t>(group) * per_group;
              for (int o = 0; o < per_group; ++o, w += each) sum[o] += k * *w;
            }
          }
        }
      }
    }
  }
  if (!population_.spiking) return;
  std::fill(map_.bits.data(), map_.bits.data() + map_.bits.size(), 0);
  for (std::size_t place = 0; place < to.places(); ++place) {
    for (int o = 0; o < to.channels; ++o) {
      const bool fires = std::int64_t{sums_[place * to.channels + o]} + population_.bias[o] > population_.threshold;
      map_.bits[place * map_.words + o / 64] |= static_cast<std::uint64_t>(fires) << (o % 64);
    }
  }
}

}  // namespace edgekit::spike
