// One layer for one image: what it listens to becomes events or bytes, then a kernel.
#include <algorithm>
#include <chrono>

#include "layer.hpp"
#include "team.hpp"

namespace edgekit::spike {

namespace {

int share_of(int count, int part, int parts) { return static_cast<int>(static_cast<std::int64_t>(count) * part / parts); }

// By rows of places where there are enough, else by blocks of channels.
Part part_of(int blocks, int rows, int part, int parts) {
  if (rows >= parts) return {0, blocks, share_of(rows, part, parts), share_of(rows, part + 1, parts)};
  return {share_of(blocks, part, parts), share_of(blocks, part + 1, parts), 0, rows};
}

}  // namespace

// work(part, parts) in each thread of the team where this run is worth it, else here.
template <typename Work>
void Layer::share(const Work& work) {
  if (!shared_) return work(0, 1);
  const int parts = team_->parts();
  team_->run([&](int part) { work(part, parts); });
}

void Layer::run(const Given& given, const std::int32_t* before, std::int32_t* after) {
  using Clock = std::chrono::steady_clock;
  const auto us_since = [](Clock::time_point from) { return std::chrono::duration<double, std::micro>(Clock::now() - from).count(); };
  const auto begin = settings_.timed ? Clock::now() : Clock::time_point{};
  Way way = report_.way;
  trying_ = false;
  if (way == Way::kAny) {
    if (settings_.timed) report_.events = count_events();
  } else if (way != Way::kPlain && !sources_.front()) {
    if (given.packet) report_.events = given.packet->count;
    way = given.packet ? Way::kEvents : Way::kDense;
  } else if (way != Way::kPlain) {
    report_.events = count_events();
    way = choose();
  }
  report_.way = way;
  shared_ = team_ && !trying_ && expected_us(way) >= given.share_from_us;
  const bool listens = std::any_of(sources_.begin(), sources_.end(), [](const Map* map) { return map != nullptr; });
  if (listens || !given.again) {  // else its sums are there
    const auto computing = trying_ ? Clock::now() : Clock::time_point{};
    compute(way, given);
    if (trying_) note(way, us_since(computing));
  }
  if (population_.membrane) fire(before, after);
  if (settings_.timed) {
    report_.microseconds = us_since(begin);
    report_.spikes = kernels_.count_bits(map_.bits.data(), map_.bits.size());
  }
}

// Spikes of the source; those of a last odd row or column, which a pooling drops, are few enough to count along. Where nobody asks how many,
// it is enough to know that they are too many.
std::uint64_t Layer::count_events() const {
  constexpr std::size_t kOnce = 64;
  const auto& bits = sources_.front()->bits;
  const std::uint64_t most = enough();
  std::uint64_t count = 0;
  for (std::size_t at = 0; at < bits.size() && count <= most; at += kOnce) {
    count += kernels_.count_bits(bits.data() + at, std::min(kOnce, bits.size() - at));
  }
  return count;
}

void Layer::compute(Way way, const Given& given) {
  if (way == Way::kPlain) return compute_plain(given.image);
  if (way == Way::kAny) return compute_any();
  const std::size_t stride = static_cast<std::size_t>(map_.words) * 8;
  const Out out{reinterpret_cast<std::uint8_t*>(map_.bits.data()), stride, population_.spiking && !population_.membrane ? nullptr : sums_.data()};
  if (way == Way::kEvents) {
    given.packet && !sources_.front() ? gather_packet(*given.packet) : gather_events();
    share([&](int part, int parts) {
      kernels_.events(by_events_, {first_.data(), ids_.data()}, part_of(by_events_.blocks, population_.size.height, part, parts), out);
    });
    sum_lanes_ = by_events_.blocks * by_events_.lanes;
    shifted_ = false;
  } else {
    if (sources_.front()) {
      share([&](int part, int parts) { gather_bytes(share_of(pixel_.height, part, parts), share_of(pixel_.height, part + 1, parts)); });
    } else {
      kernels_.pixels(pixel_, given.image);
    }
    share([&](int part, int parts) {
      kernels_.dense(by_bytes_, bytes_.data(), part_of(by_bytes_.blocks, population_.size.height, part, parts), out);
    });
    sum_lanes_ = by_bytes_.blocks * by_bytes_.lanes;
    shifted_ = !sources_.front();
  }
}

bool Layer::takes_packets() const {
  return !where_.empty() || std::all_of(sources_.begin(), sources_.end(), [](const Map* map) { return map != nullptr; });
}

void Layer::fire(const std::int32_t* before, std::int32_t* after) {
  FireLayer layer;
  layer.places = population_.size.places();
  layer.channels = population_.padded();
  layer.lanes = static_cast<std::size_t>(sum_lanes_);
  layer.stride = static_cast<std::size_t>(map_.words) * 8;
  layer.leak = population_.leak;
  layer.hard = population_.hard;
  layer.sums = sums_.data();
  layer.bias = shifted_ ? fire_pixel_bias_.data() : fire_bias_.data();
  layer.theta = fire_theta_.data();
  layer.before = before;
  layer.after = after;
  layer.spikes = reinterpret_cast<std::uint8_t*>(map_.bits.data());
  kernels_.fire(layer);
}

// Whole words of channels at once.
void Layer::compute_any() {
  const Synapse& s = population_.synapses.front();
  const Map& from = *sources_.front();
  std::uint64_t* to = map_.bits.data();
  for (int y = 0; y < map_.size.height; ++y) {
    const int top = y * s.stride_y - s.pad_y, y1 = std::min(top + s.kernel_y, from.size.height);
    for (int x = 0; x < map_.size.width; ++x, to += map_.words) {
      const int left = x * s.stride_x - s.pad_x, x1 = std::min(left + s.kernel_x, from.size.width);
      std::fill(to, to + map_.words, 0);
      for (int i = std::max(top, 0); i < y1; ++i) {
        for (int j = std::max(left, 0); j < x1; ++j) {
          const std::uint64_t* const at = from.at(static_cast<std::size_t>(i) * from.size.width + j);
          for (int w = 0; w < map_.words; ++w) to[w] |= at[w];
        }
      }
    }
  }
}

std::int64_t Layer::sum_of(std::size_t channel, std::size_t place) const {
  const std::int64_t shift = shifted_ ? pixel_bias_[channel] : 0;
  return std::int64_t{sums_[place * static_cast<std::size_t>(sum_lanes_) + channel]} + shift + population_.bias[channel];
}

// Windows of the map that are summed before the weights, one beside the other in row y.
BitWindows Layer::windows_at(int y) const {
  const Synapse& s = population_.synapses.front();
  const Map& from = *sources_.front();
  BitWindows windows;
  windows.bits = from.at(static_cast<std::size_t>(y) * s.pool_y * from.size.width);
  windows.words = from.words;
  windows.rows = s.pool_y;
  windows.columns = s.pool_x;
  windows.count = pixel_.width;
  windows.row = static_cast<std::size_t>(from.size.width) * from.words;
  return windows;
}

void Layer::gather_events() {
  const Geometry& at = by_events_.at;
  std::uint32_t count = 0;
  std::uint32_t* first = first_.data();
  for (int y = 0; y < at.height; ++y, first += at.width) count += kernels_.extract(windows_at(y), at.channels, count, first, ids_.data() + count);
  *first = count;
}

// Events in order of their places, by counting: no frame is made of them. A place that comes more often than a byte counts is cut there,
// as in the frame that would hold it.
void Layer::gather_packet(const Packet& packet) {
  const std::size_t places = static_cast<std::size_t>(by_events_.at.height) * by_events_.at.width;
  if (packet.count + 16 > ids_.size()) ids_.resize(packet.count + 16);
  std::fill(first_.data(), first_.data() + places + 1, 0u);
  for (std::size_t i = 0; i < packet.count; ++i) {
    std::uint8_t& seen = seen_[packet.addresses[i]];
    if (seen == 255) continue;
    ++seen;
    ++first_[where_[packet.addresses[i]].place];
  }
  std::uint32_t sum = 0;
  for (std::size_t place = 0; place <= places; ++place) {  // where a place's events end; filling them in moves it to where they begin
    sum += place < places ? first_[place] : 0;
    first_[place] = sum;
  }
  for (std::size_t i = 0; i < packet.count; ++i) {
    std::uint8_t& seen = seen_[packet.addresses[i]];
    const Where& at = where_[packet.addresses[i]];
    for (; seen > 0; --seen) ids_[--first_[at.place]] = at.id;
  }
}

// What is padded around the rows was 0 from the beginning.
void Layer::gather_bytes(int y0, int y1) {
  for (int y = y0; y < y1; ++y) kernels_.sum_bits(windows_at(y), pixel_.depth, pixel_.pixels + y * pixel_.row);
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
              std::int32_t* const sum = sums_.data() + place * static_cast<std::size_t>(sum_lanes_) + static_cast<std::size_t>(group) * per_group;
              for (int o = 0; o < per_group; ++o, w += each) sum[o] += k * *w;
            }
          }
        }
      }
    }
  }
  if (!population_.spiking || population_.membrane) return;
  std::fill(map_.bits.data(), map_.bits.data() + map_.bits.size(), 0);
  for (std::size_t place = 0; place < to.places(); ++place) {
    for (int o = 0; o < to.channels; ++o) {
      const bool fires = std::int64_t{sums_[place * static_cast<std::size_t>(sum_lanes_) + o]} + population_.bias[o] > population_.threshold;
      map_.bits[place * map_.words + o / 64] |= static_cast<std::uint64_t>(fires) << (o % 64);
    }
  }
}

}  // namespace edgekit::spike
