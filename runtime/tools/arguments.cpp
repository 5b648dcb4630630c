// The command line of edgekit-run.
#include "arguments.hpp"

#include <cerrno>
#include <cstdlib>

namespace edgekit {

const char* const kHelp =
    "edgekit-run BUNDLE [options]: run a bundle with its loop, without Python\n"
    "\n"
    "  --input FILE.safetensors       all inputs by name; or [NAME=]FILE.npy, [NAME=]FILE.wav (NAME where there are several)\n"
    "  --output FILE.safetensors      all answers by name; or [NAME=]FILE.npy\n"
    "  --chunks 100,37                push a stream in pieces of these sizes, again and again\n"
    "  --stream                       push one chunk at a time, print each answer as a line of JSON as it comes\n"
    "  --golden                       run the golden inputs and compare; JSON; exit code 1 when an answer differs\n"
    "  --bench SECONDS                time runs (of a stream: pushes of one chunk) on the golden inputs; JSON\n"
    "  --engine NAME                  onnxruntime or openvino; default: by the bundle's format\n"
    "  --library PATH                 file or folder of libonnxruntime; default: EDGEKIT_ORT_LIBRARY, the system, python3\n"
    "  --threads N                    default 0: the engine's own choice\n"
    "  --seed N                       of the noise; default: the bundle's\n"
    "  --probes                       inner tensors too\n"
    "  --version, --help\n"
    "\n"
    "Exit codes: 0 done, 1 an answer differs, 2 could not be done (one line on stderr says why).\n";

namespace {

bool whole(const std::string& text, std::uint64_t* out) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return false;
  errno = 0;
  *out = std::strtoull(text.c_str(), nullptr, 10);
  return errno == 0;
}

}  // namespace

Result<Arguments> read_arguments(int count, char** words) {
  Arguments made;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto flag = [&](const char* name, bool* into) { return word == name && (*into = true); };
    if (flag("--help", &made.help) || flag("-h", &made.help) || flag("--version", &made.version) || flag("--golden", &made.golden) ||
        flag("--stream", &made.stream) || flag("--probes", &made.options.probes)) {
      continue;
    }
    if (word.rfind("--", 0) != 0) {
      if (!made.bundle.empty()) return Status("one bundle is run at a time, but '" + made.bundle + "' and '" + word + "' were given");
      made.bundle = word;
      continue;
    }
    if (i + 1 >= count) return Status(word + " needs a value, or is no option; see --help");
    const std::string value = words[++i];
    std::uint64_t number = 0;
    if (word == "--input") {
      made.inputs.push_back(value);
    } else if (word == "--output") {
      made.outputs.push_back(value);
    } else if (word == "--engine") {
      made.options.engine = value;
    } else if (word == "--library") {
      made.options.library = value;
    } else if (word == "--threads") {
      if (!whole(value, &number) || number > 1024) return Status("--threads takes a number from 0 to 1024, found '" + value + "'");
      made.options.threads = static_cast<int>(number);
    } else if (word == "--seed") {
      if (!whole(value, &number)) return Status("--seed takes a number from 0 to 2^64 - 1, found '" + value + "'");
      made.seed = number;
    } else if (word == "--bench") {
      char* end = nullptr;
      made.bench_s = std::strtod(value.c_str(), &end);
      if (*end || !(made.bench_s > 0) || made.bench_s > 3600) return Status("--bench takes seconds above 0, found '" + value + "'");
    } else if (word == "--chunks") {
      for (std::size_t at = 0; at <= value.size();) {
        const std::size_t comma = std::min(value.find(',', at), value.size());
        if (!whole(value.substr(at, comma - at), &number) || !number || number > 0x7FFFFFFF) return Status("--chunks takes sizes such as 100,37, found '" + value + "'");
        made.chunks.push_back(static_cast<std::int64_t>(number));
        at = comma + 1;
      }
    } else {
      return Status("no option " + word + "; see --help");
    }
  }
  if (made.bundle.empty() && !made.help && !made.version) return Status("no bundle was named; see --help");
  return made;
}

}  // namespace edgekit
