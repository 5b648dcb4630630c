// Whole files: read into memory, written atomically, hashed.
#pragma once

#include <new>
#include <string>
#include <utility>

#include "limits.hpp"

namespace edgekit {

// A regular file, no link, of at most `most` bytes.
Result<std::string> read_file(const std::string& path, std::uint64_t most = limits::kFileBytes);
// All of it is on disk under `path`, or what was there before is. A device or a folder is not replaced.
Status write_file(const std::string& path, const std::string& bytes);
std::string sha256(const std::string& bytes);  // 64 hexadecimal digits (FIPS 180-4)
Result<std::string> sha256_of(const std::string& path);  // the same of a file, piece by piece

// What `make` returns; a sentence where there is not enough memory for it.
template <typename T, typename F>
Result<T> no_throw(const std::string& where, F make) {
  try {
    return Result<T>(make());
  } catch (const std::bad_alloc&) {
    return Status(where + " does not fit into the memory that there is");
  } catch (const std::exception& error) {
    return Status(where + ": " + error.what());
  }
}

}  // namespace edgekit
