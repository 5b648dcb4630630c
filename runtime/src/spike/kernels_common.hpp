// What is written alike for every processor and compiled for each: a step of leaky membranes, in vectors of 16 numbers that the compiler
// cuts into its registers, and the counting of bits. In the unnamed namespace, see kernels_impl.hpp.

namespace edgekit::spike {
namespace {

typedef std::int32_t Int32x16 __attribute__((vector_size(64)));
typedef std::int8_t Int8x16 __attribute__((vector_size(16)));

// By reference: how such a vector is passed depends on the processor that is compiled for.
inline void load16(Int32x16& v, const std::int32_t* from) { std::memcpy(&v, from, sizeof v); }

// Of 8 bytes that are 0 or 255 the lowest bit each, the first one lowest.
inline std::uint8_t bits_of(std::uint64_t bytes) {
  return static_cast<std::uint8_t>(((bytes & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
}

// trunc(leak u / 4096) in 32 bits: |u| < 2^30 is cut in two, and a whole number of 4096ths needs no rounding.
inline void leak_away(Int32x16& u, std::int32_t leak) {
  const Int32x16 sign = u >> 31;
  const Int32x16 size = (u ^ sign) - sign;
  const std::int32_t share = leak < 0 ? -leak : leak;
  const Int32x16 left = share * (size >> 12) + ((share * (size & 4095)) >> 12);
  const Int32x16 turned = leak < 0 ? ~sign : sign;
  u = (left ^ turned) - turned;
}

// An instruction where the processor has one; without, it costs as much as a small layer.
std::uint64_t count_bits(const std::uint64_t* bits, std::size_t words) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < words; ++i) count += static_cast<std::uint64_t>(__builtin_popcountll(bits[i]));
  return count;
}

void fire_layer(const FireLayer& layer) {
  for (std::size_t place = 0; place < layer.places; ++place) {
    const std::int32_t* const sums = layer.sums + place * layer.lanes;
    const std::int32_t* const before = layer.before + place * layer.channels;
    std::int32_t* const after = layer.after + place * layer.channels;
    std::uint8_t* const bits = layer.spikes + place * layer.stride;
    for (std::size_t c = 0; c < layer.channels; c += 16) {
      Int32x16 u, sum, bias, theta;
      load16(u, before + c);
      load16(sum, sums + c);
      load16(bias, layer.bias + c);
      load16(theta, layer.theta + c);
      if (layer.leak != kLeakOne) leak_away(u, layer.leak);
      u += sum + bias;
      u = u < -kMembrane ? Int32x16{} - kMembrane : u;
      u = u > kMembrane ? Int32x16{} + kMembrane : u;
      const Int32x16 fires = u > theta;
      u = layer.hard ? u & ~fires : u - (theta & fires);
      std::memcpy(after + c, &u, sizeof u);
      const Int8x16 narrow = __builtin_convertvector(fires, Int8x16);
      std::uint64_t halves[2];
      std::memcpy(halves, &narrow, sizeof halves);
      bits[c / 8] = bits_of(halves[0]);
      bits[c / 8 + 1] = bits_of(halves[1]);
    }
  }
}

}  // namespace
}  // namespace edgekit::spike
