// The loops of kernels.hpp, written once. The file of one kind of processor defines before it includes this one, in the unnamed namespace:
//   kBytes                        of a vector register
//   kPaired                       whether rows of at least a register hold weights in pairs, see PairSum16
//   kPlaces<vectors>              how many places the dense loop computes at once, so that all sums stay in registers
//   kDotLanes                     output channels of one register of dense sums
//   Bytes4, broadcast()           four input bytes to all lanes
//   Weights, weights_at(), dot()  a register of weights, and their products with the bytes, added
//   kGroupsAtOnce, kMostAtOnce, dot_groups<vectors>()
//                                 products of bytes up to kMostAtOnce, so many groups of four at a time; 0: those go the same way as all
//   kWideLanes                    how many of 64 lanes it takes at a time at one place
//   above(sums, thetas)           a bit a lane of int16
//   start_at(), store_dot(), spikes_of<count>()     registers of dense sums: from int32, to int32, and a bit a lane that is not negative
//   Ones, add_ones(), store_ones()                  counts in bytes: of the low bits of a word
//   sum_pooled()                  some windows of sum_bits() in a way of its own; how many
//   extract()
// All is in the unnamed namespace: two files compiled for different processors must never share one copy of an inline function.

namespace edgekit::spike {
namespace {

constexpr int kLanes16 = kBytes / 2;

typedef std::int8_t Int8 __attribute__((vector_size(kBytes / 2)));
typedef std::uint16_t UInt16 __attribute__((vector_size(kBytes)));  // may wrap
typedef std::int32_t Int32Pair __attribute__((vector_size(kBytes * 2)));

// Sums of the weights of `count` events, kVectors * kLanes16 channels in int16.
template <int kVectors>
struct Sum16 {
  Int16 sum[kVectors] = {};
  void add(const std::int8_t* row) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[v] += __builtin_convertvector(load<Int8>(row + v * kLanes16), Int16);
  }
  Int16 of(int v, UInt16) const { return sum[v]; }
};

// The same of rows whose 16-bit lanes hold two weights as  (low + 128) + 256 high.  all: their sum, which may wrap; high: that of the high
// ones. all - 256 high - 128 count  is the sum of the low ones, exact since that fits int16. To widen every weight takes an instruction
// more for as many, and one that few ports of a processor execute.
template <int kVectors>
struct PairSum16 {
  static constexpr int kRegisters = kVectors / 2;
  UInt16 all[kRegisters] = {};
  Int16 high[kRegisters] = {};
  void add(const std::int8_t* row) {
#pragma GCC unroll 16
    for (int v = 0; v < kRegisters; ++v) {
      const auto two = load<Int16>(row + v * kBytes);
      all[v] += reinterpret_cast<UInt16>(two);
      high[v] += two >> 8;
    }
  }
  Int16 of(int v, UInt16 offset) const {
    return v % 2 ? high[v / 2] : reinterpret_cast<Int16>(all[v / 2] - (reinterpret_cast<UInt16>(high[v / 2]) << 8) - offset);
  }
};

template <int kVectors>
using EventSums = std::conditional_t<kPaired && kVectors >= 2, PairSum16<kVectors>, Sum16<kVectors>>;

inline UInt16 offset_of(std::uint32_t count) { return UInt16{} + static_cast<std::uint16_t>(128 * count); }

// Adds the weights of events. base: address of the weights of id 0, which may lie before the array.
template <int kVectors>
inline void gather(const std::uint32_t* id, const std::uint32_t* end, std::uintptr_t base, EventSums<kVectors>& sums) {
  constexpr std::uintptr_t kRow = kVectors * kLanes16;
  for (; id < end; ++id) sums.add(reinterpret_cast<const std::int8_t*>(base + *id * kRow));
}

// What lies under the kernel at one place: a range of events a row.
struct Field {
  const std::uint32_t *id, *end;
  std::uintptr_t base;
};

constexpr int kRows = 256;  // of a kernel: network.cpp takes no larger one

struct Window {
  Field fields[kRows];
  int count = 0;
  std::uint32_t total = 0;
};

inline void window_at(const EventLayer& layer, const Events& events, const std::int8_t* weights, int y, int x, Window* window) {
  const Geometry& at = layer.at;
  const std::ptrdiff_t row_bytes = static_cast<std::ptrdiff_t>(at.kernel_x) * at.channels * layer.lanes;
  const int left = x * at.stride_x - at.pad_x, top = y * at.stride_y - at.pad_y;
  const int from = left < 0 ? 0 : left, to = left + at.kernel_x > at.width ? at.width : left + at.kernel_x;
  const std::uintptr_t shift = static_cast<std::uintptr_t>(static_cast<std::ptrdiff_t>(left) * at.channels * layer.lanes);
  window->count = 0;
  window->total = 0;
  if (from >= to) return;
  for (int k = 0; k < at.kernel_y; ++k) {
    const int row = top + k;
    if (row < 0 || row >= at.height) continue;
    const std::uint32_t* const first = events.first + static_cast<std::size_t>(row) * at.width;
    const std::uint32_t begin = first[from], end = first[to];
    window->total += end - begin;
    window->fields[window->count++] = {events.id + begin, events.id + end, reinterpret_cast<std::uintptr_t>(weights + k * row_bytes) - shift};
  }
}

// Sums in int32, for windows of more than kEventsAtOnce events.
template <int kVectors>
inline void gather_wide(const Window& window, std::int32_t* sums) {
  Int32Pair wide[kVectors] = {};
  for (int f = 0; f < window.count; ++f) {
    const Field& field = window.fields[f];
    for (const std::uint32_t* id = field.id; id < field.end;) {
      const std::uint32_t* const end = field.end - id > static_cast<std::ptrdiff_t>(kEventsAtOnce) ? id + kEventsAtOnce : field.end;
      EventSums<kVectors> sums16;
      gather<kVectors>(id, end, field.base, sums16);
      const UInt16 offset = offset_of(static_cast<std::uint32_t>(end - id));
      for (int v = 0; v < kVectors; ++v) wide[v] += __builtin_convertvector(sums16.of(v, offset), Int32Pair);
      id = end;
    }
  }
  std::memcpy(sums, wide, sizeof wide);
}

inline void put_bits(const std::int32_t* sums, const std::int32_t* theta, int lanes, std::uint8_t* out) {
  for (int b = 0; b < lanes / 8; ++b) {
    unsigned bits = 0;
    for (int i = 0; i < 8; ++i) bits |= static_cast<unsigned>(sums[8 * b + i] > theta[8 * b + i]) << i;
    out[b] = static_cast<std::uint8_t>(bits);
  }
}

template <int kVectors>
void events_block(const EventLayer& layer, const Events& events, int block, const Part& part, const Out& out) {
  constexpr int kLanes = kVectors * kLanes16;
  const Geometry& at = layer.at;
  const std::size_t taps = static_cast<std::size_t>(at.kernel_y) * at.kernel_x * at.channels;
  const std::int8_t* const weights = layer.weights + block * taps * kLanes;
  Int16 theta[kVectors];
  for (int v = 0; v < kVectors; ++v) theta[v] = load<Int16>(layer.theta16 + block * kLanes + v * kLanes16);
  Window window;
  alignas(64) std::int32_t wide[kLanes];
  for (int y = part.y0; y < part.y1; ++y) {
    for (int x = 0; x < at.out_width; ++x) {
      const std::size_t place = static_cast<std::size_t>(y) * at.out_width + x;
      window_at(layer, events, weights, y, x, &window);
      std::uint8_t* const bits = out.spikes + place * out.stride + block * (kLanes / 8);
      if (out.sums) {
        gather_wide<kVectors>(window, out.sums + (place * layer.blocks + block) * kLanes);
      } else if (window.total <= kEventsAtOnce) {
        EventSums<kVectors> sums;
        for (int f = 0; f < window.count; ++f) gather<kVectors>(window.fields[f].id, window.fields[f].end, window.fields[f].base, sums);
        const UInt16 offset = offset_of(window.total);
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) above(sums.of(v, offset), theta[v], bits + v * (kLanes16 / 8));
      } else {
        gather_wide<kVectors>(window, wide);
        put_bits(wide, layer.theta + block * kLanes, kLanes, bits);
      }
    }
  }
}

void event_layer(const EventLayer& layer, const Events& events, const Part& part, const Out& out) {
  for (int block = part.block0; block < part.block1; ++block) {
    if (layer.lanes == 32) {
      events_block<32 / kLanes16>(layer, events, block, part, out);
    } else if (layer.lanes == 64) {
      events_block<64 / kLanes16>(layer, events, block, part, out);
    } else {
      events_block<128 / kLanes16>(layer, events, block, part, out);
    }
  }
}

// Bits of all registers of sums, one after the other.
template <int kAll>
__attribute__((always_inline)) inline void spike_words(const Sums* sum, std::uint64_t* words) {
  constexpr int kOnce = 64 / kDotLanes, kWhole = kAll / kOnce, kLeft = kAll % kOnce;
#pragma GCC unroll 16
  for (int i = 0; i < kWhole; ++i) words[i] = spikes_of<kOnce>(sum + i * kOnce);
  if constexpr (kLeft > 0) words[kWhole] = spikes_of<kLeft>(sum + kWhole * kOnce);
}

constexpr int kRgbGroups = 7;  // of three channels under a kernel of 3x3

// One group of four bytes of the places kFirst up to kLast.
template <int kVectors, int kFirst, int kLast>
__attribute__((always_inline)) inline void dense_group(const std::uint8_t* from, std::size_t step, const std::int8_t* weights, Sums* sum) {
  // Weights are loaded once for all places: a load a product would keep the ports for loads busier than those for products.
  Weights w[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) w[v] = weights_at(weights + v * kDotLanes * 4);
#pragma GCC unroll 16
  for (int p = kFirst; p < kLast; ++p) {
    const Bytes4 four = broadcast(from + p * step);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) dot(sum[p * kVectors + v], four, w[v]);
  }
}

// Groups `offset` up to `end`. The weights that come after theirs. kSmall: of bytes up to kMostAtOnce.
template <int kVectors, int kFirst, int kLast, bool kSmall>
__attribute__((always_inline)) inline const std::int8_t* dense_run(const std::uint8_t* corner, std::size_t step, const std::int32_t* offset,
                                                                   const std::int32_t* end, const std::int8_t* weights, std::size_t next_weights, Sums* sum) {
  if constexpr (kSmall) {
    for (; end - offset >= kGroupsAtOnce; offset += kGroupsAtOnce, weights += kGroupsAtOnce * next_weights) {
#pragma GCC unroll 16
      for (int p = kFirst; p < kLast; ++p) {
        dot_groups(std::integral_constant<int, kVectors>(), corner + p * step, offset, weights, next_weights, sum + p * kVectors);
      }
    }
  }
  for (; offset < end; ++offset, weights += next_weights) dense_group<kVectors, kFirst, kLast>(corner + *offset, step, weights, sum);
  return weights;
}

// How many taps of a row of the kernel lie to the left of the map at the first place of a tile, and to the right of it at the last.
struct Outside {
  int left = 0, right = 0;
};
inline Outside outside_at(const DenseLayer& layer, int x, int places) {
  const Geometry& at = layer.at;
  if (layer.tap_groups == 0) return {};
  const int left = at.pad_x - x * at.stride_x, right = at.kernel_x - (at.width + at.pad_x - (x + places - 1) * at.stride_x);
  const int most = left < 0 ? at.kernel_x : left < at.kernel_x ? at.kernel_x - left : 0;
  return {at.kernel_x - most, right < 0 ? 0 : right < most ? right : most};
}

// kAt places of one row from x on, the lanes of a block from `lane` on. kEdge: some taps lie outside.
template <int kVectors, int kAt, bool kEdge, bool kSmall>
inline void dense_tile(const DenseLayer& layer, const std::uint8_t* bytes, int block, int lane, int y, int x, const Groups& groups,
                       const Outside& outside, const Out& out) {
  constexpr int kLanes = kVectors * kDotLanes, kAll = kVectors * kAt;
  const std::size_t step = layer.step, next_weights = static_cast<std::size_t>(layer.lanes) * 4;
  const std::size_t first = static_cast<std::size_t>(block) * layer.lanes + lane;
  const std::size_t first_group = static_cast<std::size_t>(block) * layer.groups + groups.begin;
  const std::int8_t* weights = layer.weights + first_group * next_weights + static_cast<std::size_t>(lane) * 4;
  const std::uint8_t* const corner = bytes + y * layer.down + x * step;
  const std::int32_t *offset = layer.offsets + groups.begin, *const end = layer.offsets + groups.end;
  Sums sum[kAll];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    const Sums begin = out.sums ? Sums{} : start_at(layer.start + first + v * kDotLanes);
#pragma GCC unroll 16
    for (int p = 0; p < kAt; ++p) sum[p * kVectors + v] = begin;
  }
  if (!kEdge && !kSmall && kVectors == 1 && end - offset == kRgbGroups) {
    // Without a loop: whether its last turn is foreseen decides over a third of the time here.
#pragma GCC unroll 16
    for (int g = 0; g < kRgbGroups; ++g) dense_group<kVectors, 0, kAt>(corner + offset[g], step, weights + g * next_weights, sum);
  } else if (!kEdge) {
    dense_run<kVectors, 0, kAt, kSmall>(corner, step, offset, end, weights, next_weights, sum);
  } else {
    const int row = layer.at.kernel_x * layer.tap_groups, left = outside.left * layer.tap_groups, middle = row - outside.right * layer.tap_groups;
    for (; offset < end; offset += row) {
      weights = dense_run<kVectors, 1, kAt, kSmall>(corner, step, offset, offset + left, weights, next_weights, sum);
      weights = dense_run<kVectors, 0, kAt, kSmall>(corner, step, offset + left, offset + middle, weights, next_weights, sum);
      weights = dense_run<kVectors, 0, kAt - 1, kSmall>(corner, step, offset + middle, offset + row, weights, next_weights, sum);
    }
  }
  // Read before anything is stored: a store of bytes might change whatever is read by reference.
  const std::size_t place = static_cast<std::size_t>(y) * layer.out_width + x, stride = out.stride;
  const std::size_t next = static_cast<std::size_t>(layer.blocks) * layer.lanes;
  if (out.sums) {
    std::int32_t* to = out.sums + place * next + first;
#pragma GCC unroll 16
    for (int p = 0; p < kAt; ++p) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) store_dot(sum[p * kVectors + v], to + p * next + v * kDotLanes);
    }
    return;
  }
  std::uint8_t* const to = out.spikes + place * stride + first / 8;
  std::uint64_t words[(kAll * kDotLanes + 63) / 64];
  spike_words<kAll>(sum, words);
#pragma GCC unroll 16
  for (int p = 0; p < kAt; ++p) {
    const int at = p * kLanes / 64, shift = p * kLanes % 64;
    std::uint64_t bits = words[at] >> shift;
    if (shift + kLanes > 64) bits |= words[at + 1] << ((64 - shift) % 64);
    std::memcpy(to + p * stride, &bits, kLanes / 8);
  }
}

template <int kVectors, bool kSmall>
void dense_block(const DenseLayer& layer, const std::uint8_t* bytes, int block, int lane, const Part& part, const Out& out) {
  constexpr int kAt = kPlaces<kVectors>;
  for (int y = part.y0; y < part.y1; ++y) {
    const Groups groups = groups_at(layer, y);
    int x = 0;
    for (; x + kAt <= layer.out_width; x += kAt) {
      const Outside outside = outside_at(layer, x, kAt);
      if (outside.left + outside.right == 0) {
        dense_tile<kVectors, kAt, false, kSmall>(layer, bytes, block, lane, y, x, groups, outside, out);
      } else {
        dense_tile<kVectors, kAt, true, kSmall>(layer, bytes, block, lane, y, x, groups, outside, out);
      }
    }
    for (; x < layer.out_width; ++x) dense_tile<kVectors, 1, false, kSmall>(layer, bytes, block, lane, y, x, groups, {}, out);
  }
}

template <bool kSmall>
void dense_blocks(const DenseLayer& layer, const std::uint8_t* bytes, const Part& part, const Out& out) {
  for (int block = part.block0; block < part.block1; ++block) {
    if (layer.lanes == 16) {
      dense_block<16 / kDotLanes, kSmall>(layer, bytes, block, 0, part, out);
    } else if (layer.lanes == 32) {
      dense_block<32 / kDotLanes, kSmall>(layer, bytes, block, 0, part, out);
    } else if (layer.lanes == 48) {
      dense_block<48 / kDotLanes, kSmall>(layer, bytes, block, 0, part, out);
    } else {
      for (int lane = 0; lane < 64; lane += kWideLanes) dense_block<kWideLanes / kDotLanes, kSmall>(layer, bytes, block, lane, part, out);
    }
  }
}

void dense_layer(const DenseLayer& layer, const std::uint8_t* bytes, const Part& part, const Out& out) {
  if (kGroupsAtOnce > 0 && layer.most <= kMostAtOnce) {
    dense_blocks<(kGroupsAtOnce > 0)>(layer, bytes, part, out);
  } else {
    dense_blocks<false>(layer, bytes, part, out);
  }
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

// Windows of so few channels that some of them share a register. kColumns: of a window.
template <int kDepth, int kColumns>
int sum_some(const BitWindows& windows, std::uint8_t* out) {
  constexpr int kShare = kBytes / kDepth;
  const std::size_t next = windows.row;
  const int rows = windows.rows, count = windows.count;
  const std::uint64_t* begin = windows.bits;
  int i = 0;
  for (; i + kShare <= count; i += kShare, out += kBytes, begin += kShare * kColumns) {
    const std::uint64_t* row = begin;
    Ones sum = {};
    for (int y = 0; y < rows; ++y, row += next) {
#pragma GCC unroll 2
      for (int x = 0; x < kColumns; ++x) {
        std::uint64_t bits = 0;
#pragma GCC unroll 8
        for (int s = 0; s < kShare; ++s) bits |= row[s * kColumns + x] << (s * kDepth);
        add_ones(sum, bits);
      }
    }
    store_ones(sum, out, kBytes);
  }
  return i;
}

template <int kDepth>
int sum_some(const BitWindows& windows, std::uint8_t* out) {
  if constexpr (kDepth < kBytes) {
    if (windows.words == 1 && windows.columns == 1) return sum_some<kDepth, 1>(windows, out);
    if (windows.words == 1 && windows.columns == 2) return sum_some<kDepth, 2>(windows, out);
  }
  return 0;
}

void sum_bits(const BitWindows& windows, int depth, std::uint8_t* out) {
  int i = sum_pooled(windows, depth, out);
  if (i == 0) i = depth == 8 ? sum_some<8>(windows, out) : depth == 16 ? sum_some<16>(windows, out) : depth == 32 ? sum_some<32>(windows, out) : 0;
  const int words = windows.words, across = windows.columns * words;
  for (; i < windows.count; ++i) {
    for (int c = 0; c < depth; c += kBytes) {
      const std::uint64_t* row = windows.bits + static_cast<std::size_t>(i) * across + c / 64;
      Ones sum = {};
      for (int y = 0; y < windows.rows; ++y, row += windows.row) {
        for (int x = 0; x < windows.columns; ++x) add_ones(sum, row[x * words] >> (c % 64));
      }
      // These bytes alone: whole registers would overlap the next place's, and loads of it would wait for two stores.
      store_ones(sum, out + static_cast<std::size_t>(i) * depth + c, depth - c < kBytes ? depth - c : kBytes);
    }
  }
}

}  // namespace
}  // namespace edgekit::spike
