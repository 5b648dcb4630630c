// What the fuzz targets share. A target takes bytes as a file would hold them; it ends quietly, or by a sanitizer or an EXPECT.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "edgekit/edgekit.hpp"
#include "printable.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

#define EXPECT(...)                                                                               \
  do {                                                                                            \
    if (!(__VA_ARGS__)) {                                                                         \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #__VA_ARGS__);       \
      std::abort();                                                                               \
    }                                                                                             \
  } while (false)

namespace edgekit::fuzz {

inline std::string_view text(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }

// A refusal has a sentence, and what is printed of it is one line without control characters. EDGEKIT_FUZZ_SAY=1 prints it.
inline void refused(const Status& status) {
  EXPECT(!status.text().empty());
  const std::string line = printable(status.text());
  EXPECT(!line.empty() && line.size() < 2100);
  static const bool say = std::getenv("EDGEKIT_FUZZ_SAY") != nullptr;
  if (say) std::fprintf(stderr, "%s\n", line.c_str());
  for (const char c : line) EXPECT(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
}

}  // namespace edgekit::fuzz
