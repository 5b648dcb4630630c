// AVX-512 with VNNI: 64-byte registers, products of bytes four at a time, comparisons that give bits.
#include "kernels.hpp"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

namespace edgekit::spike {
namespace {

constexpr int kBytes = 64, kDotLanes = 16, kWideLanes = 64;
constexpr bool kPaired = true;
template <int kVectors>
constexpr int kPlaces = kVectors == 1 ? 16 : kVectors < 4 ? 8 : 1;  // 16, 16 and 24 registers of sums of the 32

constexpr int kGroupsAtOnce = 0, kMostAtOnce = 0;  // small bytes have no loop of their own
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

// Comparisons take the port of products; to pack four registers and to read the sign of each byte takes half of it.
template <int kCount>
__attribute__((always_inline)) inline std::uint64_t spikes_of(const Sums* sum) {
  if constexpr (kCount == 4) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(sum[0], sum[1]), _mm512_packs_epi32(sum[2], sum[3]));
    return ~_mm512_movepi8_mask(_mm512_maskz_permutexvar_epi32(0xffff, order, bytes));
  }
  std::uint64_t negative = 0;
  for (int i = 0; i < kCount; ++i) negative |= static_cast<std::uint64_t>(_mm512_movepi32_mask(sum[i])) << (i * kDotLanes);
  return ~negative;
}

inline Sums start_at(const std::int32_t* from) { return _mm512_loadu_si512(from); }
inline void store_dot(Sums sum, std::int32_t* out) { _mm512_storeu_si512(out, sum); }

inline void above(Int16 sum, Int16 theta, std::uint8_t* out) {
  const std::uint32_t bits = _mm512_cmpgt_epi16_mask(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(theta));
  std::memcpy(out, &bits, 4);
}

inline std::uint32_t extract(const std::uint64_t* bits, int channels, std::uint32_t base, std::uint32_t* out) {
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

using Ones = __m512i;
inline void add_ones(Ones& sum, std::uint64_t bits) { sum = _mm512_sub_epi8(sum, _mm512_movm_epi8(bits)); }
inline void store_ones(Ones sum, std::uint8_t* out, int bytes) {
  if (bytes == 64) {
    _mm512_storeu_si512(out, sum);
  } else {
    _mm512_mask_storeu_epi8(out, (std::uint64_t{1} << bytes) - 1, sum);
  }
}

// Sixteen channels of every second place of a register of eight, a byte each.
inline __m512i sixteen(__m512i places, __m512i spread) {
  const __m512i each = _mm512_set1_epi64(static_cast<std::int64_t>(0x8040201008040201));
  return _mm512_min_epu8(_mm512_and_si512(_mm512_shuffle_epi8(places, spread), each), _mm512_set1_epi8(1));
}

inline __m512i four_ones(const std::uint64_t* bits) {
  const __m512i a = _mm512_add_epi8(_mm512_movm_epi8(bits[0]), _mm512_movm_epi8(bits[1]));
  return _mm512_sub_epi8(_mm512_setzero_si512(), _mm512_add_epi8(a, _mm512_add_epi8(_mm512_movm_epi8(bits[2]), _mm512_movm_epi8(bits[3]))));
}

// Windows of 2x2 places of 16 or 32 channels, four at a time.
int sum_pooled(const BitWindows& windows, int depth, std::uint8_t* out) {
  if (windows.words != 1 || windows.rows != 2 || windows.columns != 2 || (depth != 16 && depth != 32)) return 0;
  const __m512i even = _mm512_set_epi64(0x0101010101010101, 0, 0x0101010101010101, 0, 0x0101010101010101, 0, 0x0101010101010101, 0);
  const __m512i odd = _mm512_add_epi8(even, _mm512_set1_epi8(8));
  const __m512i order = _mm512_setr_epi32(0, 4, 2, 6, 16, 20, 18, 22, 8, 12, 10, 14, 24, 28, 26, 30);
  const std::uint64_t* row = windows.bits;
  const std::size_t next = windows.row;
  const int count = windows.count;
  int i = 0;
  for (; i + 4 <= count; i += 4, row += 8) {
    const __m512i top = _mm512_loadu_si512(row), bottom = _mm512_loadu_si512(row + next);
    if (depth == 16) {
      const __m512i above = _mm512_add_epi8(sixteen(top, even), sixteen(top, odd)), below = _mm512_add_epi8(sixteen(bottom, even), sixteen(bottom, odd));
      _mm512_storeu_si512(out, _mm512_add_epi8(above, below));
      out += 64;
    } else {
      alignas(64) std::uint64_t bits[8];
      _mm512_store_si512(bits, _mm512_permutex2var_epi32(top, order, bottom));
      _mm512_storeu_si512(out, four_ones(bits));
      _mm512_storeu_si512(out + 64, four_ones(bits + 4));
      out += 128;
    }
  }
  return i;
}

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* avx512_kernels() {
  static const Kernels table{"avx512-vnni", false, 64, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
