// Text from files on a terminal: one line, and nothing in it that moves the cursor, colours, or turns the direction of writing.
#pragma once

#include <string>

namespace edgekit {

// Control characters (of ASCII, of Latin-1, of direction) and bytes that are no UTF-8 become \xNN; line ends become blanks; what is
// beyond limits::kLineBytes is left out from the middle, since sentences say at their end what to do.
std::string printable(const std::string& text);

}  // namespace edgekit
