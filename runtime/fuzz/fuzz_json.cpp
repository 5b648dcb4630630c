// JSON text within limits: what is taken can be copied and printed, and is taken again.
#include "json.hpp"
#include "target.hpp"

using namespace edgekit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const Json made = parse_json(fuzz::text(data, size));
    const Json copy = made;
    const std::string again = copy.dump();
    EXPECT(parse_json(again).dump() == again);
  } catch (const Status& status) {
    fuzz::refused(status);
  }
  return 0;
}
