// Samples in -1..1 as integers of 16 bits.
#pragma once

#include <cstdint>

#include "edgekit/edgekit.hpp"

namespace edgekit {

std::int16_t pcm_of(float sample);  // beyond -1..1 is clipped

}  // namespace edgekit
