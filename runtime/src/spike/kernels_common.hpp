// What is written alike for every processor and compiled for each: a step of leaky membranes, in vectors of 16 numbers that the compiler
// cuts into its registers, and the counting of bits. In the unnamed namespace, see kernels_impl.hpp.

namespace edgekit::spike {
namespace {

typedef std::int32_t Int32x16 __attribute__((vector_size(64)));
typedef std::int8_t Int8x16 __attribute__((vector_size(16)));
typedef std::uint8_t Byte16 __attribute__((vector_size(16)));
typedef std::uint8_t Byte64 __attribute__((vector_size(64)));

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

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define EDGEKIT_SHUFFLES
#endif
#endif

// RGB side by side, 16 pixels at a time.
inline void interleave3(const std::uint8_t* from, std::size_t plane, int width, std::uint8_t flip, std::uint8_t* to) {
  int x = 0;
#if defined(EDGEKIT_SHUFFLES)
  for (; x + 16 <= width; x += 16) {
    Byte16 r, g, b;
    std::memcpy(&r, from + x, 16);
    std::memcpy(&g, from + plane + x, 16);
    std::memcpy(&b, from + 2 * plane + x, 16);
    r ^= flip;
    g ^= flip;
    b ^= flip;
    const Byte16 rg0 = __builtin_shufflevector(r, g, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    const Byte16 out0 = __builtin_shufflevector(rg0, b, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
    const Byte16 rg1 = __builtin_shufflevector(r, g, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    const Byte16 out1 = __builtin_shufflevector(rg1, b, 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15);
    const Byte16 rg2 = __builtin_shufflevector(r, g, 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    const Byte16 out2 = __builtin_shufflevector(rg2, b, 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31);
    std::memcpy(to + 3 * x, &out0, 16);
    std::memcpy(to + 3 * x + 16, &out1, 16);
    std::memcpy(to + 3 * x + 32, &out2, 16);
  }
#endif
  for (; x < width; ++x) {
    to[3 * x] = from[x] ^ flip;
    to[3 * x + 1] = from[plane + x] ^ flip;
    to[3 * x + 2] = from[2 * plane + x] ^ flip;
  }
}

// kernels.hpp, PixelLayer: one byte of up to three rows in turn, 21 columns at a time; what is written too much, the next row or nobody needs.
inline void tall_columns(const PixelLayer& layer) {
  constexpr std::size_t kOnce = 63;
  Byte64 top, middle, bottom;
  for (int j = 0; j < 64; ++j) {
    top[j] = j % 3 == 0 ? 255 : 0;
    middle[j] = j % 3 == 1 ? 255 : 0;
    bottom[j] = j % 3 == 2 ? 255 : 0;
  }
  const std::size_t last = layer.tall > 2 ? 2 * layer.row : 0;
  for (int y = 0; y < layer.tall_rows; ++y) {
    const std::uint8_t* const from = layer.bytes + y * layer.row;
    std::uint8_t* const to = layer.columns + y * layer.row;
    for (std::size_t at = 0; at < layer.row; at += kOnce) {
      Byte64 a, b, c;
      std::memcpy(&a, from + at + 2, 64);
      std::memcpy(&b, from + layer.row + at + 1, 64);
      std::memcpy(&c, from + last + at, 64);
      a = (a & top) | (b & middle) | (c & bottom);
      std::memcpy(to + at, &a, 64);
    }
  }
}

void pixel_layer(const PixelLayer& layer, const std::uint8_t* image) {
  const std::size_t plane = static_cast<std::size_t>(layer.height) * layer.width;
  for (int y = 0; y < layer.height; ++y) {
    std::uint8_t* const to = layer.pixels + y * layer.row;
    const std::uint8_t* const from = image + static_cast<std::size_t>(y) * layer.width;
    if (layer.channels == 3 && layer.depth == 3) {
      interleave3(from, plane, layer.width, layer.flip, to);
      continue;
    }
    for (int x = 0; x < layer.width; ++x) {
      for (int c = 0; c < layer.channels; ++c) to[static_cast<std::size_t>(x) * layer.depth + c] = from[c * plane + x] ^ layer.flip;
    }
  }
  if (layer.tall > 0) tall_columns(layer);
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
