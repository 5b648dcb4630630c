// AVX2, which every x86 processor since 2013 has: 32-byte registers; bytes are widened to int16 before they are multiplied, since the
// instruction that multiplies bytes there (vpmaddubsw) saturates.
#include "kernels.hpp"

#if defined(__AVX2__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels_x86.hpp"

namespace edgekit::spike {
namespace {

constexpr int kDotLanes = 4, kWideLanes = 32;
template <int kVectors>
constexpr int kPlaces = kVectors == 4 ? 2 : 1;  // 8, 8 and 12 registers of sums of the 16

// A register of sums holds two halves of four channels: a0 + a1, a2 + a3 of each.
using Sums = __m256i;
using Bytes4 = __m256i;

inline Bytes4 broadcast(const std::uint8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, 4);
  return _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
}

using Weights = __m256i;  // widened
inline Weights weights_at(const std::int8_t* from) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }
inline void dot(Sums& sum, Bytes4 four, Weights wide) { sum = _mm256_add_epi32(sum, _mm256_madd_epi16(four, wide)); }

inline __m128i joined(Sums sum) {
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_hadd_epi32(sum, sum), 0x08));
}

template <int kCount>
inline std::uint64_t spikes_of(const Sums* sum) {
  std::uint64_t negative = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) negative |= static_cast<std::uint64_t>(_mm_movemask_ps(_mm_castsi128_ps(joined(sum[i])))) << (i * kDotLanes);
  return ~negative;
}

inline Sums start_at(const std::int32_t* from) { return _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }

inline void store_dot(Sums sum, std::int32_t* out) { _mm_storeu_si128(reinterpret_cast<__m128i*>(out), joined(sum)); }

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* avx2_kernels() {
  static const Kernels table{"avx2", false, 32, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
