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

inline void above(Int16 sum, Int16 theta, std::uint8_t* out) {
  const __m256i over = _mm256_cmpgt_epi16(reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(theta));
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(over), _mm256_extracti128_si256(over, 1));
  const auto bits = static_cast<std::uint16_t>(_mm_movemask_epi8(bytes));
  std::memcpy(out, &bits, 2);
}

std::uint32_t extract(const std::uint64_t* bits, int channels, std::uint32_t base, std::uint32_t* out) {
  const std::uint32_t* const begin = out;
  for (int w = 0; 64 * w < channels; ++w) {
    for (std::uint64_t left = bits[w]; left; left &= left - 1) *out++ = base + 64 * static_cast<std::uint32_t>(w) + static_cast<std::uint32_t>(__builtin_ctzll(left));
  }
  return static_cast<std::uint32_t>(out - begin);
}

void sum_bits(const BitWindow& window, int depth, std::uint8_t* out) {
  const __m256i each = _mm256_set1_epi64x(static_cast<std::int64_t>(0x8040201008040201));
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  for (int c = 0; c < depth; c += 32) {
    __m256i sum = _mm256_setzero_si256();
    for (int y = 0; y < window.rows; ++y) {
      const std::uint64_t* const row = window.bits + static_cast<std::size_t>(y) * window.row + c / 64;
      for (int x = 0; x < window.columns; ++x) {
        const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<std::int32_t>(row[x * window.words] >> (c % 64))), spread);
        sum = _mm256_sub_epi8(sum, _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each));
      }
    }
    std::memcpy(out + c, &sum, static_cast<std::size_t>(depth - c < 32 ? depth - c : 32));
  }
}

}  // namespace
}  // namespace edgekit::spike
