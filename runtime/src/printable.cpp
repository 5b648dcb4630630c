// Which characters are safe to print, byte by byte.
#include "printable.hpp"

#include <cstdint>
#include <cstdio>

#include "limits.hpp"

namespace edgekit {

namespace {

// The length of the UTF-8 character at `at`, and its number; 0 where there is none (RFC 3629: shortest form, no surrogates).
std::size_t character(const std::string& text, std::size_t at, std::uint32_t* number) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(at);
  const std::size_t length = first < 0x80 ? 1 : first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
  if (!length || length > text.size() - at) return 0;
  *number = length == 1 ? first : first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
    *number = *number << 6 | (byte(at + i) & 0x3F);
  }
  const std::uint32_t least = length == 3 ? 0x800 : length == 4 ? 0x10000 : 0;
  return *number < least || *number > 0x10FFFF || (*number >= 0xD800 && *number < 0xE000) ? 0 : length;
}

// Ends of lines and paragraphs, marks and overrides of direction, signs without width, tags.
bool harmful(std::uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x61C || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE007F);
}

}  // namespace

std::string printable(const std::string& text) {
  std::string made;
  for (std::size_t at = 0; at < text.size();) {
    std::uint32_t number = 0;
    const std::size_t length = character(text, at, &number);
    if (length && !harmful(number)) {
      made.append(text, at, length);
    } else if (length && (number == '\n' || number == '\r' || number == '\t')) {
      made += ' ';
    } else {
      for (std::size_t i = 0; i < (length ? length : 1); ++i) {
        char shown[5];
        std::snprintf(shown, sizeof shown, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(text[at + i])));
        made += shown;
      }
    }
    at += length ? length : 1;
  }
  while (!made.empty() && made.back() == ' ') made.pop_back();
  if (made.size() <= limits::kLineBytes) return made;
  std::size_t head = limits::kLineBytes / 2, tail = made.size() - limits::kLineBytes / 2;
  const auto inside = [&](std::size_t at) { return (static_cast<unsigned char>(made[at]) & 0xC0) == 0x80; };
  while (head && inside(head)) --head;
  while (tail < made.size() && inside(tail)) ++tail;
  return made.substr(0, head) + " ... " + made.substr(tail);
}

}  // namespace edgekit
