// RIFF WAVE files: PCM of 8, 16, 24 or 32 bits, or float32, as samples in -1..1; written as PCM of 16 bits.
#include "wav.hpp"

#include <cmath>
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

std::string bytes_of(std::size_t value, int size) {
  std::string made;
  for (int i = 0; i < size; ++i) made.push_back(static_cast<char>(value >> (8 * i)));
  return made;
}

}  // namespace

std::int16_t pcm_of(float sample) {
  // 32767 on both sides: silence stays 0, and the sign of a sample never changes.
  const float clipped = sample < -1 ? -1.0f : sample > 1 ? 1.0f : sample;
  return static_cast<std::int16_t>(std::nearbyint(clipped * 32767.0f));
}

Status write_wav(const std::string& path, const TensorView& samples, int rate_hz) {
  const std::size_t count = samples.count();
  const bool mono = !samples.shape.empty() && samples.shape.back() == static_cast<std::int64_t>(count);
  if (samples.dtype != DType::kFloat32 || !mono) {
    return Status("a WAVE file takes float32 of one channel, found " + std::string(name_of(samples.dtype)) + " " + text_of(samples.shape));
  }
  if (rate_hz < 1 || count > 0x7FFFFFF0u / 2) return Status("a WAVE file takes a rate above 0 and less than 2 GiB of samples");
  const auto rate = static_cast<std::size_t>(rate_hz);
  std::string bytes = "RIFF" + bytes_of(36 + 2 * count, 4) + "WAVEfmt " + bytes_of(16, 4) + bytes_of(kPcm, 2) + bytes_of(1, 2) +
                      bytes_of(rate, 4) + bytes_of(2 * rate, 4) + bytes_of(2, 2) + bytes_of(16, 2) + "data" + bytes_of(2 * count, 4);
  bytes.reserve(bytes.size() + 2 * count);
  for (std::size_t i = 0; i < count; ++i) {
    const float sample_value = samples.as<float>()[i];
    if (!std::isfinite(sample_value)) return Status("the samples are not finite, which no WAVE file can say");
    const auto value = static_cast<std::uint16_t>(pcm_of(sample_value));
    bytes.push_back(static_cast<char>(value));
    bytes.push_back(static_cast<char>(value >> 8));
  }
  return write_file(path, bytes);
}

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
