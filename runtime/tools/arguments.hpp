// What edgekit-run was asked to do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgekit/edgekit.hpp"

namespace edgekit {

struct Arguments {
  std::string bundle;
  Options options;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> inputs, outputs;  // [NAME=]FILE
  std::vector<std::int64_t> chunks;
  bool stream = false, golden = false, help = false, version = false;
  double bench_s = 0;
};

extern const char* const kHelp;

Result<Arguments> read_arguments(int count, char** words);

}  // namespace edgekit
