// RIFF WAVE files: PCM of 8, 16, 24 or 32 bits, or float32, as samples in -1..1; written as PCM of 16 bits.
#include "wav.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "files.hpp"
#include "limits.hpp"

namespace edgekit {

namespace {

constexpr unsigned kPcm = 1, kFloat = 3, kExtensible = 0xFFFE;

std::size_t number(std::string_view bytes, std::size_t at, std::size_t size) {
  std::size_t n = 0;
  for (std::size_t i = size; i-- > 0;) n = n << 8 | static_cast<unsigned char>(bytes[at + i]);
  return n;
}

float sample(std::string_view bytes, std::size_t at, unsigned bits, unsigned format) {
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

namespace {

// What the fmt chunk says; channels 0 before there was one.
struct Format {
  unsigned kind = 0, channels = 0, bits = 0;
  std::uint64_t rate_hz = 0;
  std::size_t frame = 0;  // bytes of a sample of all channels
};

Format format_of(std::string_view chunk) {
  Format made;
  made.kind = static_cast<unsigned>(number(chunk, 0, 2));
  made.channels = static_cast<unsigned>(number(chunk, 2, 2));
  made.rate_hz = number(chunk, 4, 4);
  made.frame = number(chunk, 12, 2);
  made.bits = static_cast<unsigned>(number(chunk, 14, 2));
  if (made.kind == kExtensible && chunk.size() >= 26) made.kind = static_cast<unsigned>(number(chunk, 24, 2));
  return made;
}

Status check(const Format& format, const std::string& where) {
  const unsigned bits = format.bits;
  const bool pcm = format.kind == kPcm && (bits == 8 || bits == 16 || bits == 24 || bits == 32);
  if (!format.channels) return Status(where + " is a WAVE file that does not say of how many channels");
  if (!pcm && !(format.kind == kFloat && bits == 32)) {
    return Status(where + " holds samples of format " + std::to_string(format.kind) + " with " + std::to_string(bits) + " bits; PCM of 8 to 32 bits or float32 is read");
  }
  if (format.frame != std::size_t{format.channels} * (bits / 8)) {
    return Status(where + " says " + std::to_string(format.frame) + " bytes for " + std::to_string(format.channels) + " channels of " + std::to_string(bits) + " bits");
  }
  if (format.rate_hz < 1 || format.rate_hz > limits::kSteps) return Status(where + " says a rate of " + std::to_string(format.rate_hz) + " Hz");
  return {};
}

Sound sound_of(std::string_view data, const Format& format) {
  Sound made;
  const std::size_t count = data.size() / format.frame, each = format.bits / 8;
  made.samples = Tensor(DType::kFloat32, {1, static_cast<std::int64_t>(count)});
  made.channels = static_cast<int>(format.channels);
  made.rate_hz = static_cast<int>(format.rate_hz);
  for (std::size_t i = 0; i < count; ++i) {
    float total = 0;
    for (unsigned c = 0; c < format.channels; ++c) total += sample(data, i * format.frame + c * each, format.bits, format.kind);
    made.samples.as<float>()[i] = total / static_cast<float>(format.channels);
  }
  return made;
}

}  // namespace

Result<Sound> parse_wav(std::string_view bytes, const std::string& where) {
  const std::string_view kind = bytes.substr(0, 4);
  if (bytes.size() >= 12 && (kind == "RF64" || kind == "BW64" || kind == "RIFX")) {
    return Status(where + " is a WAVE file of the kind " + std::string(kind) + "; RIFF is read: convert it, sox " + where + " out.wav");
  }
  if (bytes.size() < 12 || kind != "RIFF" || bytes.substr(8, 4) != "WAVE") return Status(where + " is no WAVE file");
  Format format;
  for (std::size_t at = 12; bytes.size() - at >= 8;) {
    const std::string_view name = bytes.substr(at, 4);
    const std::size_t size = number(bytes, at + 4, 4), left = bytes.size() - at - 8;
    // A recorder that was cut off leaves a size beyond the end (or of all ones): what is there is taken.
    const std::string_view chunk = bytes.substr(at + 8, std::min(size, left));
    if (name == "fmt " && chunk.size() >= 16) format = format_of(chunk);
    if (name == "data") {
      if (Status s = check(format, where); !s) return s;
      auto sound = no_throw<Sound>(where, [&] { return sound_of(chunk, format); });
      if (!sound) return sound.status();
      const float* values = sound->samples.as<float>();
      if (!std::all_of(values, values + sound->samples.count(), [](float x) { return std::isfinite(x); })) {
        return Status(where + " holds samples that are not finite");
      }
      return sound;
    }
    if (size >= left) break;
    at += 8 + size + (size & 1);  // chunks begin at even places
  }
  return Status(where + " is a WAVE file without samples");
}

Result<Sound> read_wav(const std::string& path) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  return parse_wav(*bytes, path);
}

}  // namespace edgekit
