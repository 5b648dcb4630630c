// Philox4x32-10 and Box-Muller, in float64, rounded to float32 at the end.
#include "noise.hpp"

#include <cmath>

namespace edgekit {

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return c;
}

namespace {

template <typename Four>
void draw(float* out, std::size_t count, const Place& place, Four four) {
  const std::array<std::uint32_t, 2> key = {static_cast<std::uint32_t>(place.seed),
                                            static_cast<std::uint32_t>(place.seed >> 32)};
  for (std::size_t at = 0; at < count; at += 4) {
    float values[4];
    four(philox({static_cast<std::uint32_t>(at / 4), place.id, place.iteration, place.chunk}, key), values);
    for (std::size_t i = 0; i < 4 && at + i < count; ++i) out[at + i] = values[i];
  }
}

}  // namespace

void draw_normal(float* out, std::size_t count, const Place& place) {
  constexpr double kUnit = 1.0 / 4294967296.0;  // 2^-32
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  draw(out, count, place, [](const std::array<std::uint32_t, 4>& x, float* values) {
    for (int pair = 0; pair < 2; ++pair) {
      const double radius = std::sqrt(-2.0 * std::log((x[2 * pair] + 1.0) * kUnit));
      const double angle = kTwoPi * (x[2 * pair + 1] * kUnit);
      values[2 * pair] = static_cast<float>(radius * std::cos(angle));
      values[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
    }
  });
}

void draw_uniform(float* out, std::size_t count, const Place& place) {
  constexpr double kUnit = 1.0 / 16777216.0;  // 2^-24
  draw(out, count, place, [](const std::array<std::uint32_t, 4>& x, float* values) {
    for (int i = 0; i < 4; ++i) values[i] = static_cast<float>((x[i] >> 8) * kUnit);
  });
}

}  // namespace edgekit
