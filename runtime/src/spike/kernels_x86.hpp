// What the two kinds of x86 processors with 32-byte registers share. In the unnamed namespace, see kernels_impl.hpp.

namespace edgekit::spike {
namespace {

constexpr int kBytes = 32;
constexpr bool kPaired = true;
typedef std::int16_t Int16 __attribute__((vector_size(kBytes)));

template <typename V>
inline V load(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// A register of dense sums holds eight channels.
using Sums = __m256i;

template <int kCount>
inline std::uint64_t spikes_of(const Sums* sum) {
  std::uint64_t negative = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) negative |= static_cast<std::uint64_t>(_mm256_movemask_ps(_mm256_castsi256_ps(sum[i]))) << (i * 8);
  return ~negative;
}

inline Sums start_at(const std::int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void store_dot(Sums sum, std::int32_t* out) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), sum); }

inline __m256i four_bytes(const std::uint8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, 4);
  return _mm256_set1_epi32(four);
}

inline void above(Int16 sum, Int16 theta, std::uint8_t* out) {
  const __m256i over = _mm256_cmpgt_epi16(reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(theta));
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(over), _mm256_extracti128_si256(over, 1));
  const auto bits = static_cast<std::uint16_t>(_mm_movemask_epi8(bytes));
  std::memcpy(out, &bits, 2);
}

inline std::uint32_t extract(const std::uint64_t* bits, int channels, std::uint32_t base, std::uint32_t* out) {
  const std::uint32_t* const begin = out;
  for (int w = 0; 64 * w < channels; ++w) {
    for (std::uint64_t left = bits[w]; left; left &= left - 1) *out++ = base + 64 * static_cast<std::uint32_t>(w) + static_cast<std::uint32_t>(__builtin_ctzll(left));
  }
  return static_cast<std::uint32_t>(out - begin);
}

using Ones = __m256i;
inline void add_ones(Ones& sum, std::uint64_t bits) {
  const __m256i each = _mm256_set1_epi64x(static_cast<std::int64_t>(0x8040201008040201));
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<std::int32_t>(bits)), spread);
  sum = _mm256_sub_epi8(sum, _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each));
}
inline void store_ones(Ones sum, std::uint8_t* out, int bytes) { std::memcpy(out, &sum, static_cast<std::size_t>(bytes)); }

inline int sum_pooled(const BitWindows&, int, std::uint8_t*) { return 0; }

}  // namespace
}  // namespace edgekit::spike
