// The spike engine on made-up networks: every table of kernels that this processor runs, by events, as products and mixed, against loops that
// say the definition; and files that lie.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "check.hpp"
#include "safetensors.hpp"
#include "spike/machine.hpp"

using namespace edgekit;
using namespace edgekit::spike;

namespace {

std::mt19937 dice(7);

int pick(int low, int high) { return low + static_cast<int>(dice() % static_cast<unsigned>(high - low + 1)); }

int one_of(std::initializer_list<int> values) { return values.begin()[dice() % values.size()]; }

std::vector<std::int8_t> weights(std::size_t count) {
  std::vector<std::int8_t> made(count);
  for (auto& w : made) w = static_cast<std::int8_t>(pick(-127, 127));
  return made;
}

Synapse synapse(const Network& net, int source, bool dense) {
  Synapse s;
  s.source = source;
  const Size full = net.size_of(source);
  if (source != kInput) s.pool_y = s.pool_x = full.height >= 4 && full.width >= 4 ? one_of({1, 1, 2}) : 1;
  const Size from = pooled(full, s);
  if (dense) {
    s.kernel_y = from.height;
    s.kernel_x = from.width;
  } else {
    s.kernel_y = std::min(one_of({1, 2, 3, 5}), from.height);
    s.kernel_x = std::min(one_of({1, 3, 3}), from.width);
    s.stride_y = one_of({1, 1, 2});
    s.stride_x = one_of({1, 1, 3});
    s.pad_y = pick(0, s.kernel_y - 1);
    s.pad_x = pick(0, s.kernel_x - 1);
    if (from.height >= 2 * s.kernel_y) s.dilation_y = one_of({1, 1, 1, 2});
    if (from.channels % 2 == 0) s.groups = one_of({1, 1, 1, 2});
  }
  s.per_group = from.channels / s.groups;
  s.outputs = dense ? one_of({10, 40, 200}) : one_of({4, 16, 24, 32, 48, 64, 130}) / s.groups * s.groups;
  s.weights = weights(static_cast<std::size_t>(s.outputs) * s.per_group * s.kernel_y * s.kernel_x);
  return s;
}

Size made_of(const Synapse& s, const Size& full) {
  const Size from = pooled(full, s);
  const auto along = [](int n, int k, int stride, int pad, int dilation) { return (n + 2 * pad - dilation * (k - 1) - 1) / stride + 1; };
  return {s.outputs, along(from.height, s.kernel_y, s.stride_y, s.pad_y, s.dilation_y), along(from.width, s.kernel_x, s.stride_x, s.pad_x, s.dilation_x)};
}

void add(Network& net, bool dense, bool spiking, int twice) {
  Population p;
  p.name = "p" + std::to_string(net.populations.size());
  const int source = static_cast<int>(net.populations.size()) - 1;
  p.synapses.push_back(synapse(net, source, dense));
  if (twice) {
    p.synapses.push_back(p.synapses.front());
    p.synapses.back().weights = weights(p.synapses.front().weights.size());
  }
  p.size = made_of(p.synapses.front(), net.size_of(source));
  p.spiking = spiking;
  p.threshold = spiking ? pick(-900, 900) : 0;
  // Thresholds near what sums are, so that there are spikes and silence: about a twentieth to a half of the neurons fire.
  const double spread = 60.0 * std::sqrt(static_cast<double>(p.synapses.front().weights.size()) / p.synapses.front().outputs) * (source == kInput ? 100 : 0.5);
  std::normal_distribution<double> normal(-spread * pick(0, 2) / 2, spread);
  for (int o = 0; o < p.size.channels; ++o) p.bias.push_back(static_cast<std::int32_t>(normal(dice)));
  net.populations.push_back(std::move(p));
}

Network network() {
  Network net;
  net.input = {one_of({1, 2, 3, 4, 6}), pick(5, 17), pick(5, 17)};
  net.offset = one_of({0, 0, 128});
  net.readout_scale = 0.25;
  for (int i = pick(1, 3); i > 0; --i) add(net, false, true, pick(0, 9) == 0);
  if (pick(0, 1)) add(net, true, true, 0);
  add(net, pick(0, 3) > 0, false, pick(0, 5) == 0);
  return net;
}

// The same with membranes, some of which forget all at once.
Network stepped() {
  Network net = network();
  net.stepped = true;
  net.offset = 0;
  for (Population& p : net.populations) {
    if (!p.spiking) continue;
    p.leak = one_of({0, 4096, 3000, 1234, -2048});
    p.hard = pick(0, 1) == 1;
    p.membrane = p.leak != 0;
    for (std::int32_t& bias : p.bias) {
      p.thresholds.push_back(pick(-200, 2000));
      if (!p.membrane) bias -= p.thresholds.back();
    }
    p.threshold = 0;
  }
  return net;
}

using Values = std::vector<std::vector<std::int64_t>>;

// By the definition, with nothing shared: values [channels][height][width] of each population. membranes: of a stepped network.
Values defined(const Network& net, const std::vector<std::uint8_t>& image, Values* membranes = nullptr) {
  Values values;
  for (const Population& p : net.populations) {
    std::vector<std::int64_t> sums(p.size.count());
    for (const Synapse& s : p.synapses) {
      const Size full = net.size_of(s.source), from = pooled(full, s);
      const auto k = [&](int c, int y, int x) {
        if (y < 0 || x < 0 || y >= from.height || x >= from.width) return std::int64_t{0};
        std::int64_t sum = 0;
        for (int i = 0; i < s.pool_y; ++i) {
          for (int j = 0; j < s.pool_x; ++j) {
            const std::size_t at = (static_cast<std::size_t>(c) * full.height + y * s.pool_y + i) * full.width + x * s.pool_x + j;
            sum += s.source == kInput ? std::int64_t{image[at]} - net.offset : values[static_cast<std::size_t>(s.source)][at];
          }
        }
        return sum;
      };
      std::size_t at = 0;
      for (int o = 0; o < p.size.channels; ++o) {
        for (int y = 0; y < p.size.height; ++y) {
          for (int x = 0; x < p.size.width; ++x, ++at) {
            for (int c = 0; c < s.per_group; ++c) {
              for (int ky = 0; ky < s.kernel_y; ++ky) {
                for (int kx = 0; kx < s.kernel_x; ++kx) {
                  const std::int64_t w = s.weights[((static_cast<std::size_t>(o) * s.per_group + c) * s.kernel_y + ky) * s.kernel_x + kx];
                  sums[at] += w * k(o / (s.outputs / s.groups) * s.per_group + c, y * s.stride_y - s.pad_y + ky * s.dilation_y, x * s.stride_x - s.pad_x + kx * s.dilation_x);
                }
              }
            }
          }
        }
      }
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] += p.bias[i / p.size.places()];
      if (p.membrane) {
        std::int64_t& u = (*membranes)[values.size()][i];
        const std::int64_t theta = p.thresholds[i / p.size.places()];
        u = std::clamp(u * p.leak / kLeakOne + sums[i], -std::int64_t{kMembrane}, std::int64_t{kMembrane});  // C++ divides towards zero
        sums[i] = u > theta;
        if (sums[i]) u = p.hard ? 0 : u - theta;
      } else if (p.spiking) {
        sums[i] = sums[i] > p.threshold;
      }
    }
    values.push_back(std::move(sums));
  }
  return values;
}

void same_integers(const Network& net) {
  std::vector<std::vector<std::uint8_t>> images(3, std::vector<std::uint8_t>(net.input.count()));
  for (auto& byte : images[1]) byte = 255;
  for (auto& byte : images[2]) byte = static_cast<std::uint8_t>(dice());
  std::vector<std::vector<std::vector<std::int64_t>>> expected;
  for (const auto& image : images) expected.push_back(defined(net, image));
  for (const Kernels* kernels : usable_kernels()) {
    for (int way = 0; way < 3; ++way) {
      Settings settings;
      settings.kernels = kernels;
      settings.only_events = way == 1;
      settings.only_dense = way == 2;
      Machine machine(net, settings);
      std::vector<float> logits(net.populations.back().size.count());
      for (std::size_t i = 0; i < images.size(); ++i) {
        machine.run(images[i].data(), logits.data());
        for (std::size_t p = 0; p + 1 < net.populations.size(); ++p) {
          std::vector<std::uint8_t> spikes(net.populations[p].size.count());
          machine.spikes(p, spikes.data());
          for (std::size_t n = 0; n < spikes.size(); ++n) CHECK(spikes[n] == expected[i][p][n]);
        }
        for (std::size_t n = 0; n < logits.size(); ++n) CHECK(logits[n] == static_cast<float>(static_cast<double>(expected[i].back()[n]) * net.readout_scale));
      }
    }
  }
}

// Steps on images, on an image again, and on packets that hold the same, with one thread and with two.
void same_steps(const Network& net) {
  constexpr int kSteps = 5;
  std::vector<std::vector<std::uint8_t>> images(kSteps, std::vector<std::uint8_t>(net.input.count()));
  for (int t = 0; t < kSteps; ++t) {
    for (auto& byte : images[static_cast<std::size_t>(t)]) byte = static_cast<std::uint8_t>(t == 3 ? dice() : dice() % 8 ? 0 : dice() % 4);
  }
  images[1] = images[0];
  images[4].assign(net.input.count(), 255);
  Values rest, membranes;
  for (const Population& p : net.populations) rest.emplace_back(p.size.count());
  membranes = rest;
  std::vector<Values> expected;
  for (const auto& image : images) expected.push_back(defined(net, image, &membranes));
  const std::size_t outputs = net.populations.back().size.count();
  for (const Kernels* kernels : usable_kernels()) {
    for (int way = 0; way < 12; ++way) {
      Settings settings;
      settings.kernels = kernels;
      settings.only_events = way % 3 == 1;
      settings.only_dense = way % 3 == 2;
      settings.threads = way % 6 < 3 ? 1 : 2;
      settings.share_from_us = 0;
      Machine machine(net, settings);
      const bool packets = way >= 6 && machine.takes_packets();
      std::vector<std::vector<std::int32_t>> memory;
      for (const Population& p : net.populations) memory.emplace_back(p.membrane ? p.size.places() * p.padded() : 0);
      std::vector<float> logits(outputs), wanted(outputs);
      for (std::size_t t = 0; t < images.size(); ++t) {
        Membranes now;
        for (auto& values : memory) {
          now.before.push_back(values.data());
          now.after.push_back(values.data());
        }
        now.logits = logits.data();
        std::vector<std::uint32_t> places;
        for (std::size_t i = 0; i < images[t].size(); ++i) places.insert(places.end(), images[t][i] + (images[t][i] == 255 ? 9u : 0u), static_cast<std::uint32_t>(i));
        std::shuffle(places.begin(), places.end(), dice);
        if (packets) {
          machine.run(Packet{places.data(), places.size()}, logits.data(), now);
        } else {
          machine.run(images[t].data(), logits.data(), &now);
        }
        for (std::size_t p = 0; p + 1 < net.populations.size(); ++p) {
          std::vector<std::uint8_t> spikes(net.populations[p].size.count());
          machine.spikes(p, spikes.data());
          for (std::size_t n = 0; n < spikes.size(); ++n) CHECK(spikes[n] == expected[t][p][n]);
        }
        for (std::size_t n = 0; n < outputs; ++n) {
          wanted[n] += static_cast<float>(static_cast<double>(expected[t].back()[n]) * net.readout_scale);
          CHECK(logits[n] == wanted[n]);
        }
      }
    }
  }
}

// Layers whose ways are close try both on the first images: the integers stay, and two threads share what they find worth it.
void many_images() {
  for (int i = 0; i < 4; ++i) {
    const Network net = network();
    Settings settings;
    settings.threads = i % 2 + 1;
    Machine machine(net, settings), one(net, {});
    std::vector<float> logits(net.populations.back().size.count()), same(logits.size());
    for (int n = 0; n < 200; ++n) {
      std::vector<std::uint8_t> image(net.input.count());
      for (auto& byte : image) byte = static_cast<std::uint8_t>(dice() % static_cast<unsigned>(n % 255 + 1));
      machine.run(image.data(), logits.data());
      one.run(image.data(), same.data());
      CHECK(logits == same);
    }
  }
}

// RGB under kernels of all sizes, in images as narrow as the kernel and wider than a register: bytes that go over the ends of places and rows.
void colours() {
  for (const int width : {3, 4, 17, 40}) {
    for (const int kernel : {1, 2, 3}) {
      for (int i = 0; i < 2; ++i) {
        Network net;
        net.input = {3, pick(3, 6), width};
        net.offset = one_of({0, 128});
        net.readout_scale = 1;
        add(net, false, true, 0);
        Population& p = net.populations.back();
        Synapse& s = p.synapses.front();
        s = Synapse{};
        s.kernel_y = kernel;
        s.kernel_x = 3;
        s.pad_y = pick(0, kernel - 1);
        s.pad_x = pick(0, 2);
        s.stride_x = pick(1, 2);
        s.outputs = p.size.channels;
        s.per_group = 3;
        s.weights = weights(static_cast<std::size_t>(s.outputs) * 9 * kernel);
        p.size = made_of(s, net.input);
        add(net, true, false, 0);
        same_integers(net);
      }
    }
  }
}

// A threshold that no sum reaches, or every one, as far away as a file may say.
void thresholds_out_of_reach() {
  Network net;
  net.input = {3, 9, 9};
  net.readout_scale = 1;
  add(net, false, true, 0);
  for (std::size_t c = 0; c < net.populations.back().bias.size(); ++c) net.populations.back().bias[c] = c % 2 ? 1 << 30 : -(1 << 30);
  net.populations.back().threshold = -(1 << 30);
  add(net, false, true, 0);
  net.populations.back().threshold = 1 << 30;
  add(net, true, false, 0);
  same_integers(net);
}

// OR pooling: depthwise, one spike is enough, over windows that overlap, reach over the border or leave a row out.
void any_of_a_window() {
  for (int i = 0; i < 12; ++i) {
    Network net;
    net.input = {2, pick(6, 11), pick(6, 11)};
    net.readout_scale = 1;
    add(net, false, true, 0);
    const Size from = net.populations.back().size;
    Synapse s;
    s.source = 0;
    s.outputs = s.groups = from.channels;
    s.per_group = 1;
    s.kernel_y = std::min(from.height, pick(1, 3));
    s.kernel_x = std::min(from.width, pick(1, 3));
    s.stride_y = pick(1, 3);
    s.stride_x = pick(1, 3);
    s.pad_y = pick(0, s.kernel_y - 1);
    s.weights.assign(static_cast<std::size_t>(from.channels) * s.kernel_y * s.kernel_x, 3);
    Population p;
    p.name = "any";
    p.synapses = {s};
    p.size = made_of(s, from);
    p.threshold = 2;
    for (int c = 0; c < from.channels; ++c) p.bias.push_back(pick(0, 2));
    net.populations.push_back(p);
    add(net, true, false, 0);
    same_integers(net);
    Machine machine(net, {});
    std::vector<float> logits(net.populations.back().size.count());
    const std::vector<std::uint8_t> image(net.input.count());
    machine.run(image.data(), logits.data());
    CHECK(machine.report()[1].way == Way::kAny);
  }
}

// Every weight the largest, every input on: sums beyond int16, one event more and one fewer than fit it.
void large_sums() {
  for (const int channels : {255, 256, 257, 600}) {
    for (const int sign : {-1, 1}) {
      Network net;
      net.input = {1, 1, 1};
      Population ones;
      ones.name = "ones";
      ones.size = {channels, 1, 1};
      Synapse from_image;
      from_image.outputs = channels;
      from_image.per_group = 1;
      from_image.weights.assign(static_cast<std::size_t>(channels), 1);
      ones.synapses = {from_image};
      ones.bias.assign(static_cast<std::size_t>(channels), 1);  // all fire
      net.populations.push_back(ones);
      Population sums;
      sums.name = "sums";
      sums.size = {65, 1, 1};
      Synapse all;
      all.source = 0;
      all.outputs = 65;
      all.per_group = channels;
      all.weights.assign(static_cast<std::size_t>(65) * channels, static_cast<std::int8_t>(127 * sign));
      sums.synapses = {all};
      for (int o = 0; o < 65; ++o) sums.bias.push_back(-127 * sign * channels + o - 32);  // the sums are -32..32
      net.populations.push_back(sums);
      Population out = ones;
      out.name = "out";
      out.spiking = false;
      out.synapses.front().source = 1;
      out.synapses.front().per_group = 65;
      out.synapses.front().weights = weights(static_cast<std::size_t>(65) * channels);
      net.populations.push_back(out);
      same_integers(net);
    }
  }
}

// Windows of 32 places and of 33, all on, under the largest weights of either sign: what four groups of bytes add up to in int16, and more.
void large_windows() {
  for (const int columns : {1, 8, 11}) {
    for (const int weight : {127, -127, -128}) {
      const int rows = columns == 1 ? 1 : columns == 8 ? 4 : 3, channels = 20;
      Network net;
      net.input = {1, 2 * rows, 3 * columns};
      Population ones;
      ones.name = "ones";
      ones.size = {channels, 2 * rows, 3 * columns};
      Synapse from_image;
      from_image.outputs = channels;
      from_image.per_group = 1;
      from_image.weights.assign(static_cast<std::size_t>(channels), 1);
      ones.synapses = {from_image};
      ones.bias.assign(static_cast<std::size_t>(channels), 1);  // all fire
      net.populations.push_back(ones);
      Population sums;
      sums.name = "sums";
      sums.size = {65, 2, 3};
      Synapse all;
      all.source = 0;
      all.outputs = 65;
      all.per_group = channels;
      all.pool_y = rows;
      all.pool_x = columns;
      all.weights.assign(static_cast<std::size_t>(65) * channels, static_cast<std::int8_t>(weight));
      sums.synapses = {all};
      for (int o = 0; o < 65; ++o) sums.bias.push_back(-weight * rows * columns * channels + o - 32);
      net.populations.push_back(sums);
      Population out = sums;
      out.name = "out";
      out.spiking = false;
      out.size = {2, 2, 3};
      out.bias = {1, -1};
      out.synapses.front() = Synapse();
      out.synapses.front().source = 1;
      out.synapses.front().outputs = 2;
      out.synapses.front().per_group = 65;
      out.synapses.front().weights = weights(2 * 65);
      net.populations.push_back(out);
      same_integers(net);
    }
  }
}

void lies() {
  const std::string good = R"({"input_shape":[1,1,1],"input_offset":0,"input_scale":1,"input_range":[0,255],"readout_scale":1,"neurons":{},"populations":[{"name":"a","shape":[2],"threshold":null,"synapses":[{"source":"input","kind":"dense","groups":1,"stride":[1,1],"padding":[0,0],"dilation":[1,1],"pool":[1,1]}]}]})";
  const std::int8_t w[2] = {1, -1};
  const std::int32_t b[2] = {0, 0};
  const auto file = [&](const std::string& head) {
    return safetensors_bytes({{"a/bias", {DType::kInt32, {2}, b}}, {"a/0/weight", {DType::kInt8, {2, 1}, w}}}, {{"spiking_net", head}});
  };
  CHECK(parse_network(file(good), "f").ok());
  const auto refused = [&](const std::string& from, const std::string& to, const std::string& says) {
    std::string head = good;
    head.replace(head.find(from), from.size(), to);
    const auto read = parse_network(file(head), "f");
    if (read.ok() || read.status().text().find(says) == std::string::npos) std::fprintf(stderr, "%s -> %s: %s\n", from.c_str(), to.c_str(), read.ok() ? "taken" : read.status().text().c_str());
    CHECK(!read.ok() && read.status().text().find(says) != std::string::npos);
  };
  refused("[1,1,1]", "[1,1,70000]", "from 1 to 65536");
  refused("[1,1,1]", "[1,2,1]", "does not fit");
  refused("\"shape\":[2]", "\"shape\":[3]", "a bias of the shape");
  refused("null", "0", "exactly one read-out");
  refused("\"input\"", "\"b\"", "does not come before");
  refused("dense", "conv", "must have 4 axes");
  refused("\"groups\":1", "\"groups\":2", "does not fit");
  refused("\"pool\":[1,1]", "\"pool\":[2,1]", "larger than its source");
  refused("\"name\":\"a\"", "\"name\":\"c\"", "no array 'c/bias'");
  refused("\"readout_scale\":1", "\"readout_scale\":1e999", "it");
  refused("[0,255]", "[0]", "two whole numbers");
  refused("\"neurons\":{}", "\"neurons\":[]", "neurons must be an object");
  refused("\"neurons\":{}", "\"neurons\":{\"a\":{\"leak\":1,\"reset\":\"soft\"}}", "neurons of 1 populations, but 0 spike");
}

}  // namespace

int main() {
  for (int i = 0; i < 40; ++i) same_integers(network());
  for (int i = 0; i < 30; ++i) same_steps(stepped());
  any_of_a_window();
  large_sums();
  large_windows();
  colours();
  thresholds_out_of_reach();
  many_images();
  lies();
  std::printf("spike: ");
  for (const Kernels* kernels : usable_kernels()) std::printf("%s ", kernels->name);
  std::printf("\n");
  return 0;
}
