// Samples in -1..1 as integers of 16 bits; RIFF WAVE files from memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "edgekit/edgekit.hpp"

namespace edgekit {

std::int16_t pcm_of(float sample);  // beyond -1..1 is clipped
Result<Sound> parse_wav(std::string_view bytes, const std::string& where);

}  // namespace edgekit
