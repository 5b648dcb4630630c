// Whole files: read into memory, written atomically, hashed.
#pragma once

#include <string>

#include "edgekit/edgekit.hpp"

namespace edgekit {

Result<std::string> read_file(const std::string& path);
Status write_file(const std::string& path, const std::string& bytes);
std::string sha256(const std::string& bytes);  // 64 hexadecimal digits (FIPS 180-4)

}  // namespace edgekit
