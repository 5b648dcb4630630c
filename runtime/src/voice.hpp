// Voices from memory.
#pragma once

#include <string>
#include <string_view>

#include "bundle_data.hpp"

namespace edgekit {

Result<Tensors> parse_voice(const BundleData& data, std::string_view bytes, const std::string& where);

}  // namespace edgekit
