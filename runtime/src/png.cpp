// PNG files (ISO/IEC 15948): pictures as a grid of enlarged tiles, 8 bits, stored without compression. Pixels as edgekit/picture_grid.py.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "files.hpp"

namespace edgekit {

namespace {

constexpr std::size_t kTile = 64;    // pixels: smaller pictures are enlarged by the whole factor that keeps them within it
constexpr std::size_t kBorder = 2;   // pixels between tiles and around them
constexpr char kGrey = '\x80';       // of the border
constexpr std::size_t kMostPixels = std::size_t{1} << 28;
constexpr std::size_t kStored = 65535;  // bytes of one stored block (RFC 1951, 3.2.4)

std::string big_endian(std::uint32_t n) {
  return {static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n)};
}

// CRC-32 of ISO 3309, bit-reflected.
std::uint32_t crc32(const std::string& bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t n = 0; n < 256; ++n) {
      std::uint32_t c = n;
      for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      made[n] = c;
    }
    return made;
  }();
  std::uint32_t c = ~0u;
  for (const char b : bytes) c = table[(c ^ static_cast<unsigned char>(b)) & 0xFF] ^ (c >> 8);
  return ~c;
}

std::string chunk(const char* kind, const std::string& data) {
  const std::string both = kind + data;
  return big_endian(static_cast<std::uint32_t>(data.size())) + both + big_endian(crc32(both));
}

// A zlib stream (RFC 1950) of stored blocks.
std::string zlib_stored(const std::string& bytes) {
  std::string made = "\x78\x01";
  std::uint32_t a = 1, b = 0;  // Adler-32
  for (std::size_t at = 0; at < bytes.size(); at += kStored) {
    const std::size_t size = std::min(kStored, bytes.size() - at);
    made.push_back(at + size == bytes.size());
    for (const std::size_t n : {size, ~size}) {
      made.push_back(static_cast<char>(n));
      made.push_back(static_cast<char>(n >> 8));
    }
    made.append(bytes, at, size);
  }
  for (const char c : bytes) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  return made + big_endian(b << 16 | a);
}

}  // namespace

Status write_png(const std::string& path, const TensorView& pictures, int columns) {
  const Shape& shape = pictures.shape;
  if (pictures.dtype != DType::kFloat32 || shape.size() != 4 || (shape[1] != 1 && shape[1] != 3) || !pictures.count()) {
    return Status("a PNG holds pictures float32 [batch, 1 or 3, height, width] in -1..1, found " + std::string(name_of(pictures.dtype)) + " " + text_of(shape));
  }
  const auto at = [&](std::size_t i) { return static_cast<std::size_t>(shape[i]); };
  const std::size_t count = at(0), channels = at(1), height = at(2), width = at(3);
  std::size_t across = columns > 0 ? static_cast<std::size_t>(columns) : 1;
  while (columns <= 0 && across * across < count) ++across;
  across = std::min(across, count);
  const std::size_t rows = (count + across - 1) / across, factor = std::max<std::size_t>(1, kTile / std::max(height, width));
  const std::size_t tall = kBorder + rows * (factor * height + kBorder), wide = kBorder + across * (factor * width + kBorder);
  if (tall > kMostPixels / wide) return Status("a grid of " + std::to_string(wide) + " x " + std::to_string(tall) + " pixels is too large for one PNG; give fewer pictures");
  const std::size_t line = 1 + wide * channels;  // each line begins with its filter: 0, none
  std::string lines(tall * line, kGrey);
  for (std::size_t y = 0; y < tall; ++y) lines[y * line] = 0;
  const float* value = pictures.as<float>();
  for (std::size_t i = 0; i < count * channels * height * width; ++i) {
    if (!std::isfinite(value[i])) return Status("a picture holds values that are not finite; look at the answers themselves, as a .npy");
    const std::size_t x = i % width, y = i / width % height, c = i / (width * height) % channels, tile = i / (width * height * channels);
    const std::size_t top = kBorder + tile / across * (factor * height + kBorder) + y * factor;
    const std::size_t left = kBorder + tile % across * (factor * width + kBorder) + x * factor;
    const float level = std::floor(std::clamp(value[i], -1.0f, 1.0f) * 127.5f + 128.0f);
    const char pixel = static_cast<char>(static_cast<unsigned char>(level));
    for (std::size_t down = 0; down < factor; ++down) {
      for (std::size_t right = 0; right < factor; ++right) lines[(top + down) * line + 1 + (left + right) * channels + c] = pixel;
    }
  }
  const std::string header = big_endian(static_cast<std::uint32_t>(wide)) + big_endian(static_cast<std::uint32_t>(tall)) + '\x08' + (channels == 3 ? '\x02' : '\x00') + std::string(3, '\0');
  return write_file(path, "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", zlib_stored(lines)) + chunk("IEND", ""));
}

}  // namespace edgekit
