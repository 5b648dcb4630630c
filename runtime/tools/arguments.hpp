// What edgekit-run was asked to do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgekit/edgekit.hpp"

namespace edgekit {

// What a watch reads: a file, or what a command prints.
struct Watched {
  std::string name;
  bool command = false;
};

struct Arguments {
  std::string bundle, task;  // task: which program of it; empty: its own
  std::string digest;        // of the only bundle that is opened; empty: any
  Options options;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> inputs, outputs;  // [NAME=]FILE
  std::string voice, wav, make_voice;        // files
  int columns = 0;                           // of a grid of pictures; 0: about square
  std::vector<std::int64_t> chunks;
  bool stream = false, pcm = false, golden = false, help = false, version = false;
  double bench_s = 0, profile_s = 0, energy_s = 0, warmup_cap_s = 1;
  std::string samples;
  std::optional<int> pin;  // a core; -1: the last that may be used
  std::vector<Watched> watched;
  int watch_ms = 50;
};

extern const char* const kHelp;

Result<Arguments> read_arguments(int count, char** words);

}  // namespace edgekit
