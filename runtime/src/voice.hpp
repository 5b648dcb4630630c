// Voices from memory.
#pragma once

#include <string>
#include <string_view>

#include "bundle_data.hpp"

namespace edgekit {

// wanted: what the preparations of the bundle make.
Result<Tensors> parse_voice(const BundleData& data, const std::vector<Port>& wanted, std::string_view bytes, const std::string& where);

}  // namespace edgekit
