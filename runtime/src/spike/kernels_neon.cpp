// aarch64 as every such processor is (Cortex-A53): bytes are widened to int16 and multiplied there.
#include "kernels.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "kernels_neon.hpp"

namespace edgekit::spike {
namespace {

constexpr int kDotLanes = 4, kWideLanes = 32;
template <int kVectors>
constexpr int kPlaces = kVectors == 4 ? 2 : 1;  // 16, 16 and 24 registers of sums of the 32

// Of four channels: pairs of products of channels 0 and 1, and of 2 and 3.
struct Sums {
  int32x4_t low, high;
};
using Bytes4 = int16x8_t;

inline Bytes4 broadcast(const std::uint8_t* from) {
  std::uint32_t four;
  std::memcpy(&four, from, 4);
  return vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(four | static_cast<std::uint64_t>(four) << 32)));
}

// 127 * 255 = 32,385 fits int16.
struct Weights {
  int16x8_t low, high;
};
inline Weights weights_at(const std::int8_t* from) {
  const int8x16_t w = vld1q_s8(from);
  return {vmovl_s8(vget_low_s8(w)), vmovl_high_s8(w)};
}
inline void dot(Sums& sum, Bytes4 four, const Weights& w) {
  sum.low = vpadalq_s16(sum.low, vmulq_s16(w.low, four));
  sum.high = vpadalq_s16(sum.high, vmulq_s16(w.high, four));
}

inline int32x4_t joined(const Sums& sum) { return vpaddq_s32(sum.low, sum.high); }
template <int kCount>
inline std::uint64_t spikes_of(const Sums* sum) {
  std::uint64_t bits = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) bits |= four_spikes(joined(sum[i])) << (i * kDotLanes);
  return bits;
}

inline Sums start_at(const std::int32_t* from) {
  const int32x4_t start = vld1q_s32(from), none = vdupq_n_s32(0);
  return {vzip1q_s32(start, none), vzip2q_s32(start, none)};
}
inline void store_dot(const Sums& sum, std::int32_t* out) { vst1q_s32(out, joined(sum)); }

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* neon_kernels() {
  static const Kernels table{"neon", false, 0, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* neon_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
