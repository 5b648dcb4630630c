// The command line of edgekit-run.
#include "arguments.hpp"

#include <cerrno>
#include <cstdlib>

namespace edgekit {

const char* const kHelp =
    "edgekit-run BUNDLE [options]: run a bundle with its loop, without Python\n"
    "\n"
    "  --task NAME                    which program of a bundle with tasks; default: its own; all that follows is then of that one\n"
    "  --digest SHA256                open no other bundle than this one; `edgekit sign` and `edgekit check-signature` say it\n"
    "  --input FILE.safetensors       all inputs by name; or [NAME=]FILE.npy, [NAME=]FILE.wav (NAME where there are several)\n"
    "  --wav FILE.wav                 the input that is a sampled signal; answers are cut to be in time with it\n"
    "  --voice FILE                   what --make-voice wrote: the inputs that the bundle's preparation makes\n"
    "  --make-voice FILE.wav          run the preparation alone on this sound; --output FILE.voice, default: beside the sound\n"
    "  --output FILE.safetensors      all answers by name; or [NAME=]FILE.npy; [NAME=]FILE.wav, a sampled signal;\n"
    "                                 [NAME=]FILE.png, a grid of pictures in -1..1; --out is the same\n"
    "    --columns N                  pictures in a row of it; default 0: about square\n"
    "  --chunks 100,37                push a stream in pieces of these sizes, again and again\n"
    "  --stream                       push one chunk at a time, print each answer as a line of JSON as it comes\n"
    "  --pcm                          sound from stdin to stdout as it comes: raw signed 16-bit little-endian mono, as in\n"
    "                                 arecord -r 16000 -f S16_LE -c 1 -t raw | edgekit-run BUNDLE --voice t.voice --pcm |\n"
    "                                 aplay -r 16000 -f S16_LE -c 1 -t raw\n"
    "  --golden                       run the golden inputs, of preparations and, without --task, of all tasks too, and compare; JSON;\n"
    "                                 exit code 1 when an answer differs\n"
    "  --bench SECONDS                time runs (of a stream: pushes of one chunk) on the golden inputs; JSON\n"
    "  --profile SECONDS              time single queries until they are steady, and then as long; needs --samples; JSON\n"
    "    --samples FILE.safetensors   a row a sample: start_ns, wall_ns, cpu_ns, preempted\n"
    "    --warmup-cap SECONDS         longest warm-up; default 1\n"
    "    --pin CORE|auto              keep the timed thread on this core (auto: the last one); use with --threads 1\n"
    "    --watch FILE                 read this small file meanwhile and print each text as a line of JSON; may be repeated\n"
    "    --watch-command COMMAND      the same with what a command prints\n"
    "    --watch-ms N                 milliseconds between readings; default 50\n"
    "  --energy SECONDS               run back to back so long, idle before and after a third each; JSON with the times\n"
    "  --engine NAME                  onnxruntime or openvino; default: by the bundle's format\n"
    "  --library PATH                 file or folder of libonnxruntime; default: EDGEKIT_ORT_LIBRARY, the system, python3\n"
    "  --threads N                    default 0: the engine's own choice; with --pcm 1, since threads that wait for the next chunk keep\n"
    "                                 their cores busy\n"
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

bool seconds(const std::string& text, double* out) {
  char* end = nullptr;
  *out = std::strtod(text.c_str(), &end);
  return !text.empty() && !*end && *out > 0 && *out <= 3600;
}

// An option of timing; false when it is none. `wrong` says what it takes.
bool timing_option(const std::string& word, const std::string& value, Arguments* made, Status* wrong) {
  std::uint64_t number = 0;
  for (const auto& [name, into] : {std::pair{"--bench", &made->bench_s}, {"--profile", &made->profile_s}, {"--energy", &made->energy_s},
                                   {"--warmup-cap", &made->warmup_cap_s}}) {
    if (word != name) continue;
    if (!seconds(value, into)) *wrong = Status(word + " takes seconds above 0 and up to 3600, found '" + value + "'");
    return true;
  }
  if (word == "--samples") {
    made->samples = value;
  } else if (word == "--watch" || word == "--watch-command") {
    made->watched.push_back({value, word != "--watch"});
  } else if (word == "--pin") {
    if (value != "auto" && (!whole(value, &number) || number > 4095)) *wrong = Status("--pin takes the number of a core, or auto, found '" + value + "'");
    made->pin = value == "auto" ? -1 : static_cast<int>(number);
  } else if (word == "--watch-ms") {
    if (!whole(value, &number) || !number || number > 60'000) *wrong = Status("--watch-ms takes a number from 1 to 60000, found '" + value + "'");
    made->watch_ms = static_cast<int>(number);
  } else {
    return false;
  }
  return true;
}

Status fit_together(const Arguments& made) {
  if (made.bundle.empty() && !made.help && !made.version) return Status("no bundle was named; see --help");
  if ((made.profile_s > 0) == made.samples.empty()) return Status("--profile and --samples go together; see --help");
  const bool timed = made.profile_s > 0 || made.energy_s > 0;
  if (made.pin && made.options.threads != 1) return Status("--pin keeps one thread on one core: it goes with --threads 1");
  if (!timed && (made.pin || !made.watched.empty())) return Status("--pin and --watch are for --profile and --energy; see --help");
  const bool voice = !made.make_voice.empty();
  if (timed + (made.bench_s > 0) + made.golden + made.stream + made.pcm + voice > 1) {
    return Status("one of --golden, --stream, --pcm, --make-voice, --bench and --profile at a time");
  }
  if (voice && (!made.inputs.empty() || !made.voice.empty() || !made.wav.empty() || made.outputs.size() > 1)) {
    return Status("--make-voice makes one voice and runs nothing else: of the other files it takes one --output");
  }
  if (made.pcm && (!made.wav.empty() || !made.outputs.empty() || !made.chunks.empty())) {
    return Status("--pcm reads sound from stdin and writes it to stdout: leave --wav, --output and --chunks out");
  }
  return {};
}

}  // namespace

Result<Arguments> read_arguments(int count, char** words) {
  Arguments made;
  bool threads_given = false;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto flag = [&](const char* name, bool* into) { return word == name && (*into = true); };
    if (flag("--help", &made.help) || flag("-h", &made.help) || flag("--version", &made.version) || flag("--golden", &made.golden) ||
        flag("--stream", &made.stream) || flag("--pcm", &made.pcm) || flag("--probes", &made.options.probes)) {
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
    } else if (word == "--output" || word == "--out") {
      made.outputs.push_back(value);
    } else if (word == "--voice" || word == "--wav" || word == "--make-voice") {
      (word == "--voice" ? made.voice : word == "--wav" ? made.wav : made.make_voice) = value;
    } else if (word == "--task") {
      if (value.empty()) return Status("--task takes the name of a task; leave it out for the bundle's own program");
      made.task = value;
    } else if (word == "--digest") {
      if (value.empty()) return Status("--digest takes the SHA-256 that `edgekit sign` says; leave it out to open any bundle");
      made.digest = value;
    } else if (word == "--engine") {
      made.options.engine = value;
    } else if (word == "--library") {
      made.options.library = value;
    } else if (word == "--threads") {
      if (!whole(value, &number) || number > 1024) return Status("--threads takes a number from 0 to 1024, found '" + value + "'");
      made.options.threads = static_cast<int>(number);
      threads_given = true;
    } else if (word == "--columns") {
      if (!whole(value, &number) || number > 4096) return Status("--columns takes a number from 0 to 4096, found '" + value + "'");
      made.columns = static_cast<int>(number);
    } else if (word == "--seed") {
      if (!whole(value, &number)) return Status("--seed takes a number from 0 to 2^64 - 1, found '" + value + "'");
      made.seed = number;
    } else if (word == "--chunks") {
      for (std::size_t at = 0; at <= value.size();) {
        const std::size_t comma = std::min(value.find(',', at), value.size());
        if (!whole(value.substr(at, comma - at), &number) || !number || number > 0x7FFFFFFF) return Status("--chunks takes sizes such as 100,37, found '" + value + "'");
        made.chunks.push_back(static_cast<std::int64_t>(number));
        at = comma + 1;
      }
    } else {
      Status wrong;
      if (!timing_option(word, value, &made, &wrong)) return Status("no option " + word + "; see --help");
      if (!wrong) return wrong;
    }
  }
  if (made.pcm && !threads_given) made.options.threads = 1;
  if (Status s = fit_together(made); !s) return s;
  return made;
}

}  // namespace edgekit
