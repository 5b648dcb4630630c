// safetensors files: 8 bytes of header length, a JSON header, the data; every claim of the header is checked.
#pragma once

#include <string>

#include "edgekit/edgekit.hpp"

namespace edgekit {

Result<Tensors> read_safetensors(const std::string& path);
Result<Tensors> parse_safetensors(const std::string& bytes, const std::string& where);

// Written to a temporary file beside `path` and renamed.
Status write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors);

}  // namespace edgekit
