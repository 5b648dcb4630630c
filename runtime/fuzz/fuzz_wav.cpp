// Sounds: whatever is taken is finite and no longer than its file; as 16 bits each sample stays within them.
#include "target.hpp"
#include "wav.hpp"

#include <cmath>

using namespace edgekit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto sound = parse_wav(fuzz::text(data, size), "f");
  if (!sound) {
    fuzz::refused(sound.status());
    return 0;
  }
  EXPECT(sound->rate_hz > 0 && sound->channels > 0 && sound->samples.count() < size);
  for (std::size_t i = 0; i < sound->samples.count(); ++i) {
    const float value = sound->samples.as<float>()[i];
    EXPECT(std::isfinite(value));
    EXPECT(pcm_of(value) >= -32767);
  }
  return 0;
}
