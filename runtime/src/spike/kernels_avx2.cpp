// AVX2, which every x86 processor since 2013 has: 32-byte registers; pixels are widened to int16 before they are multiplied, since the
// instruction that multiplies bytes there (vpmaddubsw) saturates; spikes need not be.
#include "kernels.hpp"

#if defined(__AVX2__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels_x86.hpp"

namespace edgekit::spike {
namespace {

constexpr int kDotLanes = 8, kWideLanes = 32;
template <int kVectors>
constexpr int kPlaces = kVectors == 2 ? 4 : kVectors == 4 ? 2 : 1;  // 8, 8 and 6 registers of sums of the 16

// Bytes 0 and 2 of four, and bytes 1 and 3, as int16.
struct Bytes4 {
  __m256i even, odd;
};
inline Bytes4 broadcast(const std::uint8_t* from) {
  const __m256i four = four_bytes(from);
  return {_mm256_and_si256(four, _mm256_set1_epi16(255)), _mm256_srli_epi16(four, 8)};
}
struct Weights {
  __m256i even, odd;
};
inline __m256i signed_bytes(const std::int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline Weights weights_at(const std::int8_t* from) {
  const __m256i w = signed_bytes(from);
  return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)};
}
inline void dot(Sums& sum, const Bytes4& four, const Weights& w) {
  sum = _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(four.even, w.even), _mm256_madd_epi16(four.odd, w.odd)));
}

// Spikes, and sums of up to 32 of them: of four groups a lane adds up 8 products of bytes, 8 * 32 * 127 = 32,512 < 32,768 (and of weights of
// -128 just -32,768), in int16, where vpmaddubsw is exact.
constexpr int kGroupsAtOnce = 4, kMostAtOnce = 32;
template <int kVectors>
__attribute__((always_inline)) inline void dot_groups(std::integral_constant<int, kVectors>, const std::uint8_t* from, const std::int32_t* offset,
                                                      const std::int8_t* weights, std::size_t next, Sums* sum) {
  __m256i four[kGroupsAtOnce];
#pragma GCC unroll 16
  for (int g = 0; g < kGroupsAtOnce; ++g) four[g] = four_bytes(from + offset[g]);
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v, weights += kDotLanes * 4) {
    const auto products = [&](int g) { return _mm256_maddubs_epi16(four[g], signed_bytes(weights + g * next)); };
    const __m256i pairs = _mm256_add_epi16(_mm256_add_epi16(products(0), products(1)), _mm256_add_epi16(products(2), products(3)));
    sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
}

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
