// numpy's .npy files in memory.
#pragma once

#include <string>
#include <string_view>

#include "edgekit/edgekit.hpp"

namespace edgekit {

Result<Tensor> parse_npy(std::string_view bytes, const std::string& where);
std::string npy_bytes(const TensorView& value);

}  // namespace edgekit
