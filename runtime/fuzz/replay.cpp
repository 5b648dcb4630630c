// A target without libFuzzer: every file that is named (of a folder: all of it), then so many changed ones, the same ones each time.
//     replay-json FOLDER... [--mutations N]
#include <dirent.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "files.hpp"
#include "target.hpp"

namespace {

using Texts = std::vector<std::string>;

constexpr std::size_t kMostBytes = 4096;  // of a changed one, as libFuzzer is told
constexpr std::uint64_t kInteresting[] = {0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000u, 0xFFFFFFFFu, 0x7FFFFFFFFFFFFFFFu, ~std::uint64_t{0}};

Texts files_of(const std::string& path) {
  Texts found;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), &::closedir);
  if (!dir) return {path};
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') found.push_back(path + "/" + entry->d_name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void run(const std::string& bytes) {
  // Memory of exactly this size, so that a sanitizer sees the first byte behind it.
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[bytes.size()]);
  if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
  (void)LLVMFuzzerTestOneInput(exact.get(), bytes.size());
}

std::string changed(const Texts& seeds, std::mt19937* random) {
  const auto below = [&](std::size_t n) { return n ? (*random)() % n : 0; };
  std::string made = seeds[below(seeds.size())];
  for (std::size_t k = 1 + below(4); k-- > 0;) {
    const std::size_t at = below(made.size() + 1), length = below(std::min<std::size_t>(made.size() - at, 32) + 1);
    const std::string& other = seeds[below(seeds.size())];
    const std::size_t from = below(other.size() + 1);
    switch (below(6)) {
      case 0: made.resize(at); break;
      case 1: made.erase(at, length); break;
      case 2: made.insert(at, made.substr(at, length)); break;
      case 3: made.replace(at, length, other.substr(from, 64)); break;
      case 4:
        for (std::size_t i = 0, size = std::size_t{1} << below(4), n = kInteresting[below(12)]; i < size && at + i < made.size(); ++i, n >>= 8) made[at + i] = static_cast<char>(n);
        break;
      default:
        if (at < made.size()) made[at] = static_cast<char>((*random)());
    }
  }
  made.resize(std::min(made.size(), kMostBytes));
  return made;
}

}  // namespace

int main(int count, char** words) {
  Texts seeds;
  long mutations = 0;
  for (int i = 1; i < count; ++i) {
    if (!std::strcmp(words[i], "--mutations") && i + 1 < count) {
      mutations = std::strtol(words[++i], nullptr, 10);
      continue;
    }
    for (const std::string& path : files_of(words[i])) {
      auto bytes = edgekit::read_file(path);
      if (!bytes) {
        std::fprintf(stderr, "error: %s\n", bytes.status().text().c_str());
        return 2;
      }
      seeds.push_back(*bytes);
    }
  }
  if (seeds.empty()) seeds.emplace_back();
  for (const std::string& seed : seeds) run(seed);
  std::mt19937 random(1);
  for (long i = 0; i < mutations; ++i) run(changed(seeds, &random));
  std::printf("%zu files, %ld changed: no finding\n", seeds.size(), mutations);
}
