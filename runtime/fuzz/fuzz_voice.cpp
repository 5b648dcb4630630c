// A voice for a bundle whose preparation makes one float32 [1, 4]: what is taken fits it.
#include "program.hpp"
#include "target.hpp"
#include "voice.hpp"

using namespace edgekit;

namespace {

BundleData outer() {
  BundleData made;
  made.name = "outer";
  made.checkpoint_sha256 = "0123456789abcdef";
  return made;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const BundleData bundle = outer();
  static const std::vector<Port> wanted{Port{"voice", DType::kFloat32, {Dim{1, ""}, Dim{4, ""}}, "", {}, 0, {}}};
  auto voice = parse_voice(bundle, wanted, fuzz::text(data, size), "f");
  if (!voice) {
    fuzz::refused(voice.status());
    return 0;
  }
  EXPECT(voice->size() == 1 && voice->at("voice").shape() == Shape({1, 4}) && voice->at("voice").bytes() == 16);
  return 0;
}
