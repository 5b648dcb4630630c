// Noise that depends on its place alone: Philox4x32-10 and Box-Muller (docs/bundle-format.md, section 3).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edgekit {

// Ten rounds of Philox4x32 (Salmon et al., SC11).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

struct Place {
  std::uint64_t seed = 0;
  std::uint32_t id = 0;
  std::uint32_t iteration = 0;
  std::uint32_t chunk = 0;
};

void draw_normal(float* out, std::size_t count, const Place& place);
void draw_uniform(float* out, std::size_t count, const Place& place);

}  // namespace edgekit
