// safetensors files: 8 bytes of header length, a JSON header, the data; every claim of the header is checked.
#pragma once

#include <string>
#include <string_view>

#include "edgekit/edgekit.hpp"

namespace edgekit {

using Facts = std::map<std::string, std::string>;  // texts of the header, beside the tensors

Result<Tensors> read_safetensors(const std::string& path, Facts* facts = nullptr);
Result<Tensors> parse_safetensors(std::string_view bytes, const std::string& where, Facts* facts = nullptr);

std::string safetensors_bytes(const std::map<std::string, TensorView>& tensors, const Facts& facts = {});
// Written to a temporary file beside `path` and renamed.
Status write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors, const Facts& facts = {});

}  // namespace edgekit
