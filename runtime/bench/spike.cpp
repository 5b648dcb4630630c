// One convolution of the spike engine, 128 channels to 128, 3x3 on 16x16 places, by events and as a product of bytes, beside what this
// processor can do at most. Prints one JSON object; benchmarks/spike_kernels.py calls it. Every pair of answers is compared.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "spike/layer.hpp"

using namespace edgekit::spike;

namespace {

constexpr int kChannels = 128, kSide = 16, kTaps = 9, kLanes = 128, kDenseLanes = 32, kMaps = 20, kRuns = 1200;
constexpr double kProducts = 1.0 * kChannels * kChannels * kTaps * kSide * kSide;
std::mt19937 dice(1);

double now_us() { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Products of bytes a microsecond of the instructions alone, from registers: 12 sums that do not wait for each other. 0: no such instruction.
double dot_peak() {
#if defined(__x86_64__)
  double best = 1e9;
  constexpr int kLoops = 200000;
  if (!__builtin_cpu_supports("avx512vnni")) {
    if (!__builtin_cpu_supports("avx2")) return 0;
    // Without: what kernels_avx2.cpp does with four groups, four times over.
#define FOUR_GROUPS(a, b, c, d, sum)                                                                                                   \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #a "\n vpmaddubsw %%ymm14, %%ymm15, %%ymm" #b "\n vpmaddubsw %%ymm14, %%ymm15, %%ymm" #c "\n"  \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #d "\n vpaddw %%ymm" #a ", %%ymm" #b ", %%ymm" #a "\n vpaddw %%ymm" #c ", %%ymm" #d ", %%ymm" #c "\n" \
  "vpaddw %%ymm" #a ", %%ymm" #c ", %%ymm" #a "\n vpmaddwd %%ymm13, %%ymm" #a ", %%ymm" #a "\n vpaddd %%ymm" #a ", %%ymm" #sum ", %%ymm" #sum "\n"
    for (int run = 0; run < 10; ++run) {
      const double begin = now_us();
      for (int i = 0; i < kLoops; ++i) {
        asm volatile(FOUR_GROUPS(0, 1, 2, 3, 8) FOUR_GROUPS(4, 5, 6, 7, 9) FOUR_GROUPS(0, 1, 2, 3, 10) FOUR_GROUPS(4, 5, 6, 7, 11) ::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
      }
      best = std::min(best, now_us() - begin);
    }
    return 4.0 * 4 * 32 * kLoops / best;
  }
  for (int run = 0; run < 10; ++run) {
    const double begin = now_us();
    for (int i = 0; i < kLoops; ++i) {
      asm volatile(
          "vpdpbusd %%zmm31, %%zmm30, %%zmm0\n vpdpbusd %%zmm31, %%zmm30, %%zmm1\n vpdpbusd %%zmm31, %%zmm30, %%zmm2\n"
          "vpdpbusd %%zmm31, %%zmm30, %%zmm3\n vpdpbusd %%zmm31, %%zmm30, %%zmm4\n vpdpbusd %%zmm31, %%zmm30, %%zmm5\n"
          "vpdpbusd %%zmm31, %%zmm30, %%zmm6\n vpdpbusd %%zmm31, %%zmm30, %%zmm7\n vpdpbusd %%zmm31, %%zmm30, %%zmm8\n"
          "vpdpbusd %%zmm31, %%zmm30, %%zmm9\n vpdpbusd %%zmm31, %%zmm30, %%zmm10\n vpdpbusd %%zmm31, %%zmm30, %%zmm11\n" ::
              : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
    }
    best = std::min(best, now_us() - begin);
  }
  return 12.0 * 64 * kLoops / best;
#else
  return 0;
#endif
}

// Additions of weights a microsecond of the kernel alone: 240 events a place, of 16 rows that stay in the first cache.
double event_peak(const Kernels& kernels) {
  constexpr int kRows = 16, kEvents = 240;
  Aligned<std::int8_t> weights;
  Aligned<std::int32_t> theta;
  Aligned<std::int16_t> theta16;
  Aligned<std::uint8_t> out;
  weights.resize(kRows * kLanes);
  theta.resize(kLanes);
  theta16.resize(kLanes);
  out.resize(kSide * kSide * kLanes / 8);
  EventLayer layer;
  layer.at.channels = kRows;
  layer.at.outputs = kLanes;
  layer.at.height = layer.at.width = layer.at.out_height = layer.at.out_width = kSide;
  layer.lanes = kLanes;
  layer.blocks = 1;
  layer.weights = weights.data();
  layer.theta = theta.data();
  layer.theta16 = theta16.data();
  std::vector<std::uint32_t> first, ids;
  for (int place = 0; place <= kSide * kSide; ++place) first.push_back(static_cast<std::uint32_t>(place * kEvents));
  for (int place = 0; place < kSide * kSide; ++place) {
    for (int e = 0; e < kEvents; ++e) ids.push_back(static_cast<std::uint32_t>(place % kSide * kRows + e % kRows));
  }
  double best = 1e9;
  for (int run = 0; run < 50; ++run) {
    const double begin = now_us();
    kernels.events(layer, {first.data(), ids.data()}, {0, 1, 0, kSide}, {out.data(), kLanes / 8, nullptr});
    best = std::min(best, now_us() - begin);
  }
  return 1.0 * kSide * kSide * kEvents * kLanes / best;
}

struct Times {
  std::vector<double> each;
  double min() const { return *std::min_element(each.begin(), each.end()); }
  double p50() {
    std::nth_element(each.begin(), each.begin() + static_cast<std::ptrdiff_t>(each.size() / 2), each.end());
    return each[each.size() / 2];
  }
};

Geometry geometry() {
  Geometry at;
  at.channels = at.outputs = kChannels;
  at.height = at.width = at.out_height = at.out_width = kSide;
  at.kernel_y = at.kernel_x = 3;
  at.pad_y = at.pad_x = 1;
  return at;
}

// The weights in both orders, and thresholds.
struct Packed {
  Aligned<std::int8_t> events, dense;
  Aligned<std::int32_t> theta, start;
  Aligned<std::int16_t> theta16;
  std::vector<std::int32_t> offsets;  // of four bytes under the kernel

  explicit Packed(const Kernels& kernels) {
    events.resize(static_cast<std::size_t>(kTaps) * kChannels * kLanes);
    dense.resize(events.size());
    theta.resize(kChannels);
    theta16.resize(kChannels);
    start.resize(kChannels);
    for (int tap = 0; tap < kTaps; ++tap) {
      for (int c = 0; c < kChannels; c += 4) offsets.push_back((tap / 3 * (kSide + 2) + tap % 3) * kChannels + c);
    }
    for (int o = 0; o < kChannels; ++o) {
      theta[static_cast<std::size_t>(o)] = static_cast<int>(dice() % 2000) - 500;
      theta16[static_cast<std::size_t>(o)] = static_cast<std::int16_t>(theta[static_cast<std::size_t>(o)]);
      start[static_cast<std::size_t>(o)] = -theta[static_cast<std::size_t>(o)] - 1;
      for (int tap = 0; tap < kTaps; ++tap) {
        for (int c = 0; c < kChannels; ++c) {
          const auto w = static_cast<std::int8_t>(static_cast<int>(dice() % 255) - 127);
          const EventByte byte = event_byte(kernels, kLanes, o, w);
          events[(static_cast<std::size_t>(tap) * kChannels + c) * kLanes + byte.at] = byte.value;
          const std::size_t group = (static_cast<std::size_t>(o / kDenseLanes) * kTaps + tap) * (kChannels / 4) + c / 4;
          dense[(group * kDenseLanes + o % kDenseLanes) * 4 + c % 4] = w;
        }
      }
    }
  }
};

std::vector<std::vector<std::uint64_t>> maps(double rate) {
  std::vector<std::vector<std::uint64_t>> made(kMaps, std::vector<std::uint64_t>(kSide * kSide * kChannels / 64));
  std::bernoulli_distribution fires(rate);
  for (auto& map : made) {
    for (auto& word : map) {
      for (int bit = 0; bit < 64; ++bit) word |= static_cast<std::uint64_t>(fires(dice)) << bit;
    }
  }
  return made;
}

}  // namespace

int main() {
  const Kernels& kernels = *usable_kernels().front();
  Packed packed(kernels);
  const EventLayer events{geometry(), kLanes, 1, packed.events.data(), packed.theta.data(), packed.theta16.data()};
  constexpr int kPlacesIn = kSide * kSide, kWords = kChannels / 64, kPadded = kSide + 2;
  DenseLayer dense;  // every product is one that is counted: those with padding, too
  dense.out_height = dense.out_width = kSide;
  dense.lanes = kDenseLanes;
  dense.blocks = kChannels / kDenseLanes;
  dense.groups = static_cast<int>(packed.offsets.size());
  dense.down = static_cast<std::size_t>(kPadded) * kChannels;
  dense.step = kChannels;
  dense.most = 1;
  dense.offsets = packed.offsets.data();
  dense.weights = packed.dense.data();
  dense.start = packed.start.data();
  Aligned<std::uint32_t> first, ids;
  Aligned<std::uint8_t> bytes, by_events, by_bytes;
  first.resize(kPlacesIn + 1);
  ids.resize(static_cast<std::size_t>(kPlacesIn) * kChannels + 16);
  bytes.resize(static_cast<std::size_t>(kPadded) * kPadded * kChannels);
  by_events.resize(static_cast<std::size_t>(kPlacesIn) * kChannels / 8);
  by_bytes.resize(by_events.size());
  const double peak = dot_peak();
  std::printf("{\"kernels\": \"%s\", \"dot_peak_gmac_s\": %.1f, \"event_peak_gadd_s\": %.1f, \"rates\": [", kernels.name, peak / 1e3, event_peak(kernels) / 1e3);
  double best_product = 1e9;
  bool equal = true;
  const double rates[] = {0.02, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.50};
  for (const double rate : rates) {
    const auto all = maps(rate);
    Times event_us, dense_us, product_us;
    for (int run = 0; run < kRuns; ++run) {
      const auto& map = all[dice() % kMaps];  // not one map again and again: a branch predictor learns it
      const double begin = now_us();
      std::uint32_t count = 0;
      for (int y = 0; y < kSide; ++y) {
        const BitWindows row{&map[static_cast<std::size_t>(y) * kSide * kWords], kWords, 1, 1, kSide, 0};
        count += kernels.extract(row, kChannels, count, first.data() + y * kSide, ids.data() + count);
      }
      first[kPlacesIn] = count;
      kernels.events(events, {first.data(), ids.data()}, {0, 1, 0, kSide}, {by_events.data(), kChannels / 8, nullptr});
      const double middle = now_us();
      for (int y = 0; y < kSide; ++y) {
        const std::size_t at = (static_cast<std::size_t>(y) + 1) * kPadded + 1;
        kernels.sum_bits({&map[static_cast<std::size_t>(y) * kSide * kWords], kWords, 1, 1, kSide, 0}, kChannels, bytes.data() + at * kChannels);
      }
      const double product = now_us();
      kernels.dense(dense, bytes.data(), {0, dense.blocks, 0, kSide}, {by_bytes.data(), kChannels / 8, nullptr});
      const double end = now_us();
      event_us.each.push_back(middle - begin);
      dense_us.each.push_back(end - middle);
      product_us.each.push_back(end - product);
      equal = equal && std::memcmp(by_events.data(), by_bytes.data(), by_events.size()) == 0;
    }
    best_product = std::min(best_product, product_us.min());
    std::printf("%s{\"rate\": %.2f, \"events_min_us\": %.1f, \"events_p50_us\": %.1f, \"dense_min_us\": %.1f, \"dense_p50_us\": %.1f}", rate == rates[0] ? "" : ", ", rate,
                event_us.min(), event_us.p50(), dense_us.min(), dense_us.p50());
  }
  const double reached = kProducts / best_product;
  std::printf("], \"dense_gmac_s\": %.1f, \"dense_share_of_peak\": %.3f, \"equal\": %s}\n", reached / 1e3, peak > 0 ? reached / peak : 0.0, equal ? "true" : "false");
  return equal ? 0 : 1;
}
