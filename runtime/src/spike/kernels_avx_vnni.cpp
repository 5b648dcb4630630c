// AVX2 with VNNI (Alder Lake, Sierra Forest, Zen 5 and later): products of bytes four at a time in 32-byte registers.
#include "kernels.hpp"

#if defined(__AVXVNNI__) && defined(__AVX2__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels_x86.hpp"

namespace edgekit::spike {
namespace {

constexpr int kDotLanes = 8, kWideLanes = 64;
template <int kVectors>
constexpr int kPlaces = kVectors == 2 ? 4 : kVectors == 4 ? 2 : 1;  // 8, 8 and 6 registers of sums of the 16

using Sums = __m256i;
using Bytes4 = __m256i;

inline Bytes4 broadcast(const std::uint8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, 4);
  return _mm256_set1_epi32(four);
}

using Weights = __m256i;
inline Weights weights_at(const std::int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void dot(Sums& sum, Bytes4 four, Weights weights) { asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(four), "x"(weights)); }

template <int kCount>
inline std::uint64_t spikes_of(const Sums* sum) {
  std::uint64_t negative = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) negative |= static_cast<std::uint64_t>(_mm256_movemask_ps(_mm256_castsi256_ps(sum[i]))) << (i * kDotLanes);
  return ~negative;
}

inline Sums start_at(const std::int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

inline void store_dot(Sums sum, std::int32_t* out) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), sum); }

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* avx_vnni_kernels() {
  static const Kernels table{"avx-vnni", false, 32, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* avx_vnni_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
