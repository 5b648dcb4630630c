// RIFF WAVE files: PCM of 8, 16, 24 or 32 bits, or float32, as samples in -1..1.
#include <cstring>

#include "files.hpp"

namespace edgekit {

namespace {

constexpr unsigned kPcm = 1, kFloat = 3, kExtensible = 0xFFFE;

unsigned long number(const std::string& bytes, std::size_t at, std::size_t size) {
  unsigned long n = 0;
  for (std::size_t i = size; i-- > 0;) n = n << 8 | static_cast<unsigned char>(bytes[at + i]);
  return n;
}

float sample(const std::string& bytes, std::size_t at, unsigned bits, unsigned format) {
  const auto n = static_cast<std::uint32_t>(number(bytes, at, bits / 8));
  if (format == kFloat) {
    float value;
    std::memcpy(&value, &n, sizeof value);
    return value;
  }
  if (bits == 8) return (static_cast<float>(n) - 128.0f) / 128.0f;
  const auto shifted = static_cast<std::int32_t>(n << (32 - bits));
  return static_cast<float>(shifted) / 2147483648.0f;
}

}  // namespace

Result<Sound> read_wav(const std::string& path) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  if (bytes->size() < 12 || bytes->compare(0, 4, "RIFF") != 0 || bytes->compare(8, 4, "WAVE") != 0) return Status(path + " is no WAVE file");
  unsigned format = 0, channels = 0, bits = 0;
  Sound sound;
  for (std::size_t at = 12; at + 8 <= bytes->size();) {
    const std::string kind = bytes->substr(at, 4);
    const std::size_t left = bytes->size() - at - 8;
    std::size_t size = number(*bytes, at + 4, 4);
    at += 8;
    if (kind == "fmt " && size >= 16 && left >= 16) {
      format = static_cast<unsigned>(number(*bytes, at, 2));
      channels = static_cast<unsigned>(number(*bytes, at + 2, 2));
      sound.rate_hz = static_cast<int>(number(*bytes, at + 4, 4) & 0x7FFFFFFF);
      bits = static_cast<unsigned>(number(*bytes, at + 14, 2));
      if (format == kExtensible && size >= 26 && left >= 26) format = static_cast<unsigned>(number(*bytes, at + 24, 2));
    } else if (kind == "data") {
      const bool pcm = format == kPcm && (bits == 8 || bits == 16 || bits == 24 || bits == 32);
      if (!channels || !(pcm || (format == kFloat && bits == 32))) {
        return Status(path + " holds samples of format " + std::to_string(format) + " with " + std::to_string(bits) + " bits; PCM of 8 to 32 bits or float32 is read");
      }
      // A recorder that was cut off leaves a size beyond the end (or of all ones): what is there is taken.
      if (size > left) size = left;
      const std::size_t frame = channels * bits / 8;
      const std::size_t count = size / frame;
      sound.samples = Tensor(DType::kFloat32, {1, static_cast<std::int64_t>(count)});
      sound.channels = static_cast<int>(channels);
      for (std::size_t i = 0; i < count; ++i) {
        float total = 0;
        for (unsigned c = 0; c < channels; ++c) total += sample(*bytes, at + i * frame + c * bits / 8, bits, format);
        sound.samples.as<float>()[i] = total / static_cast<float>(channels);
      }
      return sound;
    }
    at += size + (size & 1);  // chunks begin at even places
  }
  return Status(path + " is a WAVE file without samples");
}

}  // namespace edgekit
