// Arrays that a user gives as inputs.
#include "npy.hpp"
#include "target.hpp"

#include <cstring>

using namespace edgekit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto array = parse_npy(fuzz::text(data, size), "f");
  if (!array) {
    fuzz::refused(array.status());
    return 0;
  }
  EXPECT(array->bytes() < size);
  auto again = parse_npy(npy_bytes(array->view()), "g");
  EXPECT(again && again->shape() == array->shape() && again->dtype() == array->dtype());
  EXPECT(array->bytes() == 0 || std::memcmp(again->data(), array->data(), array->bytes()) == 0);
  return 0;
}
