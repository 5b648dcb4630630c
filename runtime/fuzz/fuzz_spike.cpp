// A spiking network in integers: what is taken has sources before their listeners, weights for every tap, and a read-out at its end.
#include "spike/network.hpp"
#include "target.hpp"

using namespace edgekit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto net = spike::parse_network(fuzz::text(data, size), "f");
  if (!net) {
    fuzz::refused(net.status());
    return 0;
  }
  EXPECT(!net->populations.empty() && !net->populations.back().spiking && net->low <= net->high);
  std::size_t values = 0;
  for (std::size_t i = 0; i < net->populations.size(); ++i) {
    const spike::Population& p = net->populations[i];
    EXPECT(p.spiking == (i + 1 < net->populations.size()) && !p.synapses.empty() && p.size.count() > 0);
    EXPECT(p.bias.size() == static_cast<std::size_t>(p.size.channels));
    EXPECT(net->stepped == !p.thresholds.empty() || !p.spiking);
    EXPECT(!p.membrane || (p.spiking && p.leak != 0 && p.thresholds.size() == p.bias.size()));
    for (const spike::Synapse& s : p.synapses) {
      EXPECT(s.source >= spike::kInput && s.source < static_cast<int>(i) && s.outputs == p.size.channels);
      EXPECT(spike::pooled(net->size_of(s.source), s).channels == s.per_group * s.groups);
      EXPECT(s.weights.size() == static_cast<std::size_t>(s.outputs) * s.per_group * s.kernel_y * s.kernel_x);
    }
    values += p.size.count();
  }
  EXPECT(values <= spike::kMostValues);
  return 0;
}
