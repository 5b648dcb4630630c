// Any processor: plain loops that say what the others must give.
#include "kernels.hpp"

#include <cstring>

#include "kernels_common.hpp"

namespace edgekit::spike {
namespace {

template <typename Put>
void event_places(const EventLayer& layer, const Events& events, const Part& part, Put put) {
  const Geometry& at = layer.at;
  const int all = layer.blocks * layer.lanes;
  std::vector<std::int32_t> sum(static_cast<std::size_t>(all));
  for (int y = part.y0; y < part.y1; ++y) {
    for (int x = 0; x < at.out_width; ++x) {
      sum.assign(sum.size(), 0);
      for (int ky = 0; ky < at.kernel_y; ++ky) {
        for (int kx = 0; kx < at.kernel_x; ++kx) {
          const int row = y * at.stride_y - at.pad_y + ky, column = x * at.stride_x - at.pad_x + kx;
          if (row < 0 || row >= at.height || column < 0 || column >= at.width) continue;
          const std::size_t place = static_cast<std::size_t>(row) * at.width + column;
          for (std::uint32_t e = events.first[place]; e < events.first[place + 1]; ++e) {
            const std::size_t channel = events.id[e] - static_cast<std::size_t>(column) * at.channels;
            const std::size_t tap = (static_cast<std::size_t>(ky) * at.kernel_x + kx) * at.channels + channel;
            const std::size_t taps = static_cast<std::size_t>(at.kernel_y) * at.kernel_x * at.channels;
            for (int o = 0; o < all; ++o) sum[o] += layer.weights[(o / layer.lanes * taps + tap) * layer.lanes + o % layer.lanes];
          }
        }
      }
      put(static_cast<std::size_t>(y) * at.out_width + x, sum.data());
    }
  }
}

template <typename Put>
void dense_places(const DenseLayer& layer, const std::uint8_t* bytes, const Part& part, Put put) {
  const int all = layer.blocks * layer.lanes;
  std::vector<std::int32_t> sum(static_cast<std::size_t>(all));
  for (int y = part.y0; y < part.y1; ++y) {
    const Groups groups = groups_at(layer, y);
    for (int x = 0; x < layer.out_width; ++x) {
      sum.assign(sum.size(), 0);
      const std::uint8_t* const corner = bytes + y * layer.down + x * layer.step;
      for (int o = 0; o < all; ++o) {
        const std::size_t first = static_cast<std::size_t>(o / layer.lanes) * layer.groups + groups.begin;
        const std::int8_t* w = layer.weights + (first * layer.lanes + o % layer.lanes) * 4;
        for (int g = groups.begin; g < groups.end; ++g, w += layer.lanes * 4) {
          for (int c = 0; c < 4; ++c) sum[o] += w[c] * corner[layer.offsets[g] + c];
        }
      }
      put(static_cast<std::size_t>(y) * layer.out_width + x, sum.data());
    }
  }
}

// Channels of the blocks of a part, from first up to last; fires(sum, channel).
template <typename Fires>
auto writer(Fires fires, int lanes, int blocks, const Part& part, const Out& out) {
  const int first = part.block0 * lanes, last = part.block1 * lanes, all = blocks * lanes;
  return [=](std::size_t place, const std::int32_t* sum) {
    for (int o = first; o < last; ++o) {
      if (out.sums) {
        out.sums[place * all + o] = sum[o];
        continue;
      }
      std::uint8_t& byte = out.spikes[place * out.stride + o / 8];
      const unsigned bit = 1u << (o % 8);
      byte = static_cast<std::uint8_t>(fires(sum[o], o) ? byte | bit : byte & ~bit);
    }
  };
}

void event_layer(const EventLayer& layer, const Events& events, const Part& part, const Out& out) {
  const std::int32_t* const theta = layer.theta;
  event_places(layer, events, part, writer([theta](std::int32_t sum, int o) { return sum > theta[o]; }, layer.lanes, layer.blocks, part, out));
}

// In 32 bits that may wrap on the way, as registers do: what is tested fits them.
void dense_layer(const DenseLayer& layer, const std::uint8_t* bytes, const Part& part, const Out& out) {
  const std::int32_t* const start = layer.start;
  const auto fires = [start](std::int32_t sum, int o) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + static_cast<std::uint32_t>(start[o])) >= 0;
  };
  dense_places(layer, bytes, part, writer(fires, layer.lanes, layer.blocks, part, out));
}

inline std::uint32_t extract(const std::uint64_t* bits, int channels, std::uint32_t base, std::uint32_t* out) {
  std::uint32_t count = 0;
  for (int i = 0; i < channels; ++i) {
    if (bits[i / 64] >> (i % 64) & 1) out[count++] = base + static_cast<std::uint32_t>(i);
  }
  return count;
}

std::uint32_t extract_row(const BitWindows& windows, int channels, std::uint32_t offset, std::uint32_t* first, std::uint32_t* out) {
  const std::uint32_t* const begin = out;
  const int words = windows.words, rows = windows.rows, columns = windows.columns, count = windows.count;
  const std::size_t next = windows.row;
  const std::uint64_t* window = windows.bits;
  for (int i = 0; i < count; ++i, window += columns * words) {
    first[i] = offset + static_cast<std::uint32_t>(out - begin);
    const auto base = static_cast<std::uint32_t>(i) * static_cast<std::uint32_t>(channels);
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < columns; ++x) out += extract(window + y * next + x * words, channels, base, out);
    }
  }
  return static_cast<std::uint32_t>(out - begin);
}

void sum_bits(const BitWindows& windows, int depth, std::uint8_t* out) {
  for (int i = 0; i < windows.count; ++i) {
    for (int c = 0; c < depth; ++c) {
      unsigned sum = 0;
      for (int y = 0; y < windows.rows; ++y) {
        const std::uint64_t* const row = windows.bits + y * windows.row + static_cast<std::size_t>(i) * windows.columns * windows.words;
        for (int x = 0; x < windows.columns; ++x) sum += row[x * windows.words + c / 64] >> (c % 64) & 1;
      }
      *out++ = static_cast<std::uint8_t>(sum);
    }
  }
}

}  // namespace

const Kernels* portable_kernels() {
  static const Kernels table{"portable", false, 0, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
