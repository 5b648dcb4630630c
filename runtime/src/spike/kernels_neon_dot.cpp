// aarch64 with the dot product instructions (Cortex-A55, A76 and later): int8 by int8, four at a time.
#include "kernels.hpp"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "kernels_neon.hpp"

namespace edgekit::spike {
namespace {

constexpr int kDotLanes = 4, kWideLanes = 64;
template <int kVectors>
constexpr int kPlaces = kVectors == 4 ? 4 : kVectors == 8 ? 2 : 1;  // 16, 16 and 12 registers of sums of the 32

using Sums = int32x4_t;
using Bytes4 = int8x16_t;

inline Bytes4 broadcast(const std::uint8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

using Weights = int8x16_t;
inline Weights weights_at(const std::int8_t* from) { return vld1q_s8(from); }
inline void dot(Sums& sum, Bytes4 four, Weights weights) { sum = vdotq_s32(sum, weights, four); }

inline int32x4_t joined(Sums sum) { return sum; }
template <int kCount>
inline std::uint64_t spikes_of(const Sums* sum) {
  std::uint64_t bits = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) bits |= four_spikes(joined(sum[i])) << (i * kDotLanes);
  return bits;
}

inline Sums start_at(const std::int32_t* from) { return vld1q_s32(from); }
inline void store_dot(Sums sum, std::int32_t* out) { vst1q_s32(out, joined(sum)); }

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* neon_dot_kernels() {
  static const Kernels table{"neon-dot", true, 0, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* neon_dot_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
