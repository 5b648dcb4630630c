// AVX-512 with VNNI: 64-byte registers, products of bytes four at a time, comparisons that give bits.
#include "kernels.hpp"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

namespace edgekit::spike {
namespace {

constexpr int kBytes = 64, kDotLanes = 16;
constexpr bool kPaired = true;
template <int kVectors>
constexpr int kPlaces = kVectors == 1 ? 16 : 8;  // 16, 16 and 24 registers of sums of the 32

typedef std::int16_t Int16 __attribute__((vector_size(kBytes)));
using Sums = __m512i;
using Bytes4 = __m512i;

template <typename V>
inline V load(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline Bytes4 broadcast(const std::uint8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, 4);
  return _mm512_set1_epi32(four);
}

// As an instruction: gcc 12 copies registers around the intrinsic, which costs three quarters of the speed.
using Weights = __m512i;
inline Weights weights_at(const std::int8_t* from) { return _mm512_loadu_si512(from); }
inline void dot(Sums& sum, Bytes4 four, Weights weights) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(four), "v"(weights)); }

inline unsigned above_dot(Sums sum, const std::int32_t* theta) { return _mm512_cmpgt_epi32_mask(sum, _mm512_loadu_si512(theta)); }
inline void store_dot(Sums sum, std::int32_t* out) { _mm512_storeu_si512(out, sum); }

inline void above(Int16 sum, Int16 theta, std::uint8_t* out) {
  const std::uint32_t bits = _mm512_cmpgt_epi16_mask(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(theta));
  std::memcpy(out, &bits, 4);
}

std::uint32_t extract(const std::uint64_t* bits, int channels, std::uint32_t base, std::uint32_t* out) {
  const std::uint32_t* const begin = out;
  const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int c = 0; c < channels; c += 16) {
    const auto mask = static_cast<__mmask16>(bits[c / 64] >> (c % 64));
    const __m512i id = _mm512_add_epi32(count, _mm512_set1_epi32(static_cast<int>(base) + c));
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(mask, id));
    out += __builtin_popcount(mask);
  }
  return static_cast<std::uint32_t>(out - begin);
}

void sum_bits(const BitWindow& window, int depth, std::uint8_t* out) {
  for (int w = 0; 64 * w < depth; ++w) {
    __m512i sum = _mm512_setzero_si512();
    for (int y = 0; y < window.rows; ++y) {
      const std::uint64_t* const row = window.bits + static_cast<std::size_t>(y) * window.row + w;
      for (int x = 0; x < window.columns; ++x) sum = _mm512_sub_epi8(sum, _mm512_movm_epi8(row[x * window.words]));
    }
    const int left = depth - 64 * w;
    // A store of these bytes alone: whole registers would overlap the next place's, and loads of it would wait for two stores.
    _mm512_mask_storeu_epi8(out + 64 * w, left < 64 ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0}, sum);
  }
}

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* avx512_kernels() {
  static const Kernels table{"avx512-vnni", false, 64, event_layer, dense_layer, fire_layer, extract, sum_bits, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
