// Every claim of the file is compared with its arrays before anything is computed with it.
#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "../files.hpp"
#include "../json.hpp"
#include "../safetensors.hpp"
#include "kernels.hpp"

namespace edgekit::spike {

namespace {

constexpr std::uint64_t kLargest = 1 << 16;          // of a size; a map of more places is no image
constexpr std::uint64_t kLargestKernel = 256;        // of a convolution, and of a map that a dense synapse covers
constexpr std::size_t kPopulations = 1024, kSynapses = 64;

// Arrays of the file, each taken once.
class Arrays {
 public:
  explicit Arrays(Tensors found) : found_(std::move(found)) {}

  const Tensor& take(const std::string& name, DType dtype) {
    const auto at = found_.find(name);
    if (at == found_.end()) throw Status("there is no array '" + name + "'");
    if (at->second.dtype() != dtype) throw Status("'" + name + "' must be " + name_of(dtype) + ", but is " + name_of(at->second.dtype()));
    taken_.insert(name);
    return at->second;
  }

  void done() const {
    for (const auto& [name, value] : found_) {
      if (!taken_.count(name)) throw Status("no population has the array '" + name + "'");
    }
  }

 private:
  Tensors found_;
  std::set<std::string> taken_;
};

void pair_of(const Json& data, std::uint64_t low, std::uint64_t high, const std::string& at, int* y, int* x) {
  if (array(data, at).size() != 2) refuse(at, "two whole numbers");
  *y = static_cast<int>(whole(data[0], low, high, at));
  *x = static_cast<int>(whole(data[1], low, high, at));
}

Size size_from(const Json& data, const std::string& at, bool* flat) {
  const std::size_t rank = array(data, at).size();
  if (rank != 1 && rank != 3) refuse(at, "[channels, height, width] or [channels]");
  Size size;
  size.channels = static_cast<int>(whole(data[0], 1, kLargest, at));
  if (rank == 3) {
    size.height = static_cast<int>(whole(data[1], 1, kLargest, at));
    size.width = static_cast<int>(whole(data[2], 1, kLargest, at));
  }
  if (static_cast<std::uint64_t>(size.height) * static_cast<std::uint64_t>(size.width) > kMostValues / static_cast<std::uint64_t>(size.channels)) {
    refuse(at, "at most " + std::to_string(kMostValues) + " values");
  }
  if (flat) *flat = rank == 1;
  return size;
}

// The size that a synapse makes of its source's, or a Status.
Size made_by(const Synapse& s, const Size& from, const std::string& at) {
  const auto along = [&](int n, int kernel, int stride, int pad, int dilation) {
    const std::int64_t room = static_cast<std::int64_t>(n) + 2 * static_cast<std::int64_t>(pad) - static_cast<std::int64_t>(dilation) * (kernel - 1) - 1;
    if (room < 0) throw Status(at + ": its kernel is larger than its source");
    return static_cast<int>(room / stride + 1);
  };
  if (from.channels != s.per_group * s.groups || s.outputs % s.groups) {
    throw Status(at + ": weights for " + std::to_string(s.per_group * s.groups) + " channels, but its source has " + std::to_string(from.channels));
  }
  return {s.outputs, along(from.height, s.kernel_y, s.stride_y, s.pad_y, s.dilation_y), along(from.width, s.kernel_x, s.stride_x, s.pad_x, s.dilation_x)};
}

Synapse synapse_from(const Json& data, const std::string& at, const std::vector<std::string>& before, const Network& net, const Tensor& weight) {
  object(data, {"source", "kind", "groups", "stride", "padding", "dilation", "pool"}, at);
  Synapse s;
  const std::string source = text(data["source"], at + ".source");
  if (source != "input") {
    const auto found = std::find(before.begin(), before.end(), source);
    if (found == before.end()) throw Status(at + " listens to '" + source + "', which does not come before it");
    s.source = static_cast<int>(found - before.begin());
  }
  s.groups = static_cast<int>(whole(data["groups"], 1, kLargest, at + ".groups"));
  pair_of(data["stride"], 1, kLargestKernel, at + ".stride", &s.stride_y, &s.stride_x);
  pair_of(data["padding"], 0, kLargestKernel, at + ".padding", &s.pad_y, &s.pad_x);
  pair_of(data["dilation"], 1, kLargestKernel, at + ".dilation", &s.dilation_y, &s.dilation_x);
  pair_of(data["pool"], 1, kLargestKernel, at + ".pool", &s.pool_y, &s.pool_x);
  const Size from = net.size_of(s.source);
  if (from.height < s.pool_y || from.width < s.pool_x) throw Status(at + ": its pooling window is larger than its source");
  const Size source_size = pooled(from, s);
  const std::string kind = text(data["kind"], at + ".kind");
  const Shape& shape = weight.shape();
  for (const std::int64_t n : shape) {
    if (n < 1 || n > static_cast<std::int64_t>(kMostValues)) throw Status(at + ": a weight of the shape " + text_of(shape));
  }
  if (kind == "dense") {
    const bool plain = s.groups == 1 && s.stride_y == 1 && s.stride_x == 1 && s.pad_y == 0 && s.pad_x == 0 && s.dilation_y == 1 && s.dilation_x == 1;
    if (shape.size() != 2 || !plain || shape[1] != static_cast<std::int64_t>(source_size.count())) {
      throw Status(at + ": a dense weight of the shape " + text_of(shape) + " does not fit " + std::to_string(source_size.count()) + " values");
    }
    s.per_group = source_size.channels;
    s.kernel_y = source_size.height;
    s.kernel_x = source_size.width;
  } else if (kind == "conv") {
    if (shape.size() != 4) throw Status(at + ": a conv weight of the shape " + text_of(shape) + "; it must have 4 axes");
    s.per_group = static_cast<int>(std::min<std::int64_t>(shape[1], kLargest + 1));
    s.kernel_y = static_cast<int>(std::min<std::int64_t>(shape[2], kLargest));
    s.kernel_x = static_cast<int>(std::min<std::int64_t>(shape[3], kLargest));
  } else {
    throw Status(at + ".kind must be dense or conv");
  }
  if (shape[0] > static_cast<std::int64_t>(kLargest)) throw Status(at + ": more than " + std::to_string(kLargest) + " channels");
  if (s.kernel_y > static_cast<int>(kLargestKernel) || s.kernel_x > static_cast<int>(kLargestKernel)) {
    throw Status(at + ": a kernel of more than " + std::to_string(kLargestKernel) + " rows or columns");
  }
  s.outputs = static_cast<int>(shape[0]);
  s.weights.assign(weight.as<std::int8_t>(), weight.as<std::int8_t>() + weight.count());
  return s;
}

// What lives on between steps; the bias takes the thresholds of neurons that forget everything.
void take_neuron(const Json& data, const std::string& at, Arrays& arrays, Population* p) {
  object(data, {"leak", "reset"}, at);
  p->leak = static_cast<std::int32_t>(signed_whole(data["leak"], -kLeakOne, kLeakOne, at + ".leak"));
  const std::string reset = text(data["reset"], at + ".reset");
  if (reset != "soft" && reset != "hard") throw Status(at + ".reset must be soft or hard");
  p->hard = reset == "hard";
  const Tensor& theta = arrays.take(p->name + "/threshold", DType::kInt32);
  if (theta.shape() != Shape{p->size.channels}) throw Status(at + ": thresholds of the shape " + text_of(theta.shape()) + " for " + std::to_string(p->size.channels) + " channels");
  p->thresholds.assign(theta.as<std::int32_t>(), theta.as<std::int32_t>() + theta.count());
  for (std::size_t c = 0; c < p->thresholds.size(); ++c) {
    const std::int64_t value = p->thresholds[c], bias = p->bias[c];
    if (value > kMembrane || value < -kMembrane || bias > kMembrane || bias < -kMembrane) throw Status(at + ": a threshold or bias beyond 2^28");
  }
  p->membrane = p->leak != 0;
  if (p->membrane) return;
  p->threshold = 0;
  for (std::size_t c = 0; c < p->thresholds.size(); ++c) p->bias[c] -= p->thresholds[c];
}

// Every sum and every distance from a threshold fits int32, whatever the input.
void check_reach(const Network& net, const Population& p) {
  std::vector<std::int64_t> up(static_cast<std::size_t>(p.size.channels)), down(up);
  for (const Synapse& s : p.synapses) {
    const std::int64_t window = static_cast<std::int64_t>(s.pool_y) * s.pool_x;
    const std::int64_t low = s.source == kInput ? -net.offset : 0, high = s.source == kInput ? 255 - net.offset : 1;  // any byte, whatever the file promises
    const std::size_t each = s.weights.size() / static_cast<std::size_t>(s.outputs);
    for (std::size_t o = 0; o < up.size(); ++o) {
      std::int64_t positive = 0, negative = 0;
      for (std::size_t i = o * each; i < (o + 1) * each; ++i) (s.weights[i] > 0 ? positive : negative) += s.weights[i];
      up[o] += (positive * high + negative * low) * window;
      down[o] += (positive * low + negative * high) * window;
    }
  }
  for (std::size_t o = 0; o < up.size(); ++o) {
    const std::int64_t bias = p.bias[o], most = p.membrane ? kMembrane - std::abs(bias) : std::int64_t{1} << 30;
    if (up[o] > most || down[o] < -most || bias > most || bias < -most) throw Status("population '" + p.name + "': its sums do not fit 31 bits");
  }
}

Network network_from(Arrays& arrays, const Json& head) {
  object(head, {"input_shape", "input_offset", "input_scale", "input_range", "readout_scale", "populations", "neurons"}, "spiking_net");
  if (!head["neurons"].is_object()) refuse("neurons", "an object");
  Network net;
  net.input = size_from(head["input_shape"], "input_shape", nullptr);
  net.offset = static_cast<std::int32_t>(signed_whole(head["input_offset"], 0, 255, "input_offset"));
  if (array(head["input_range"], "input_range").size() != 2) refuse("input_range", "two whole numbers");
  net.low = static_cast<std::int32_t>(signed_whole(head["input_range"][0], -255, 255, "input_range"));
  net.high = static_cast<std::int32_t>(signed_whole(head["input_range"][1], net.low, 255, "input_range"));
  net.readout_scale = number(head["readout_scale"], "readout_scale");
  if (!std::isfinite(net.readout_scale)) refuse("readout_scale", "finite");
  std::vector<std::string> names;
  std::size_t values = 0;
  for (const Json& data : array(head["populations"], "populations", kPopulations)) {
    const std::string at = "populations[" + std::to_string(names.size()) + "]";
    object(data, {"name", "shape", "threshold", "synapses"}, at);
    Population p;
    p.name = text(data["name"], at + ".name");
    if (p.name == "input" || std::find(names.begin(), names.end(), p.name) != names.end()) throw Status(at + ": a second population '" + p.name + "'");
    p.size = size_from(data["shape"], at + ".shape", &p.flat);
    values += p.size.count();
    if (values > kMostValues) throw Status(at + ": the populations hold more than " + std::to_string(kMostValues) + " values");
    p.spiking = !data["threshold"].is_null();
    if (p.spiking) p.threshold = static_cast<std::int32_t>(signed_whole(data["threshold"], -(1 << 30), 1 << 30, at + ".threshold"));
    const Tensor& bias = arrays.take(p.name + "/bias", DType::kInt32);
    if (bias.shape() != Shape{p.size.channels}) throw Status(at + ": a bias of the shape " + text_of(bias.shape()) + " for " + std::to_string(p.size.channels) + " channels");
    p.bias.assign(bias.as<std::int32_t>(), bias.as<std::int32_t>() + bias.count());
    if (array(data["synapses"], at + ".synapses", kSynapses).empty()) throw Status(at + " listens to nothing");
    for (const Json& synapse : data["synapses"]) {
      const std::string number = std::to_string(p.synapses.size()), place = at + ".synapses[" + number + "]";
      p.synapses.push_back(synapse_from(synapse, place, names, net, arrays.take(p.name + "/" + number + "/weight", DType::kInt8)));
      const Synapse& made = p.synapses.back();
      if (made.source != kInput && !net.populations[static_cast<std::size_t>(made.source)].spiking) throw Status(place + " listens to the read-out");
      if (!(made_by(made, pooled(net.size_of(made.source), made), place) == p.size)) throw Status(place + " does not make the shape of its population");
    }
    if (p.spiking && head["neurons"].contains(p.name)) take_neuron(head["neurons"][p.name], "neurons." + p.name, arrays, &p);
    check_reach(net, p);
    names.push_back(p.name);
    net.populations.push_back(std::move(p));
  }
  const std::size_t with = head["neurons"].size(), spiking = net.populations.size() - 1;
  net.stepped = with > 0;
  if (net.stepped && with != spiking) throw Status("neurons of " + std::to_string(with) + " populations, but " + std::to_string(spiking) + " spike");
  for (const Population& p : net.populations) {
    if (net.stepped && p.spiking && p.thresholds.empty()) throw Status("population '" + p.name + "' has no neuron");
  }
  const auto silent = std::count_if(net.populations.begin(), net.populations.end(), [](const Population& p) { return !p.spiking; });
  if (silent != 1 || net.populations.back().spiking) throw Status("a spiking network needs exactly one read-out, its last population");
  return net;
}

}  // namespace

Size pooled(const Size& source, const Synapse& synapse) {
  return {source.channels, source.height / synapse.pool_y, source.width / synapse.pool_x};
}

Result<Network> parse_network(std::string_view bytes, const std::string& where) {
  Facts facts;
  auto tensors = parse_safetensors(bytes, where, &facts);
  if (!tensors) return tensors.status();
  const auto head = facts.find("spiking_net");
  if (head == facts.end()) return Status(where + " holds no spiking network: its header has no 'spiking_net'");
  try {
    Arrays arrays(std::move(*tensors));
    Network net = network_from(arrays, parse_json(head->second));
    arrays.done();
    return net;
  } catch (const Status& status) {
    return Status(where + " is not a spiking network in integers: " + status.text());
  }
}

Result<Network> read_network(const std::string& path) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  return parse_network(*bytes, path);
}

}  // namespace edgekit::spike
