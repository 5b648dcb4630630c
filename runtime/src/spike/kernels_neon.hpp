// What the two kinds of aarch64 processors share. In the unnamed namespace, see kernels_impl.hpp.

namespace edgekit::spike {
namespace {

constexpr int kBytes = 16;
constexpr bool kPaired = false;  // an addition here widens by itself
constexpr int kGroupsAtOnce = 0, kMostAtOnce = 0;  // small bytes have no loop of their own
typedef std::int16_t Int16 __attribute__((vector_size(kBytes)));

template <typename V>
inline V load(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void above(Int16 sum, Int16 theta, std::uint8_t* out) {
  static const std::uint8_t each[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x8_t over = vmovn_u16(vcgtq_s16(reinterpret_cast<int16x8_t>(sum), reinterpret_cast<int16x8_t>(theta)));
  *out = vaddv_u8(vand_u8(over, vld1_u8(each)));
}

inline std::uint32_t extract(const std::uint64_t* bits, int channels, std::uint32_t base, std::uint32_t* out) {
  const std::uint32_t* const begin = out;
  for (int w = 0; 64 * w < channels; ++w) {
    for (std::uint64_t left = bits[w]; left; left &= left - 1) *out++ = base + 64 * static_cast<std::uint32_t>(w) + static_cast<std::uint32_t>(__builtin_ctzll(left));
  }
  return static_cast<std::uint32_t>(out - begin);
}

using Ones = uint8x16_t;
inline void add_ones(Ones& sum, std::uint64_t bits) {
  static const std::uint8_t each[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const auto two = static_cast<std::uint16_t>(bits);
  const uint8x16_t bytes = vcombine_u8(vdup_n_u8(static_cast<std::uint8_t>(two)), vdup_n_u8(static_cast<std::uint8_t>(two >> 8)));
  sum = vsubq_u8(sum, vtstq_u8(bytes, vld1q_u8(each)));
}
inline void store_ones(Ones sum, std::uint8_t* out, int bytes) { std::memcpy(out, &sum, static_cast<std::size_t>(bytes)); }

inline int sum_pooled(const BitWindows&, int, std::uint8_t*) { return 0; }

// A bit where a number is not negative.
inline std::uint64_t four_spikes(int32x4_t sums) {
  static const std::uint32_t each[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(vcgezq_s32(sums), vld1q_u32(each)));
}

}  // namespace
}  // namespace edgekit::spike
