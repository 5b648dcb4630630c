// Inputs read from files, answers written to files.
#include "run_files.hpp"

#include <algorithm>
#include <cstdio>

#include "bundle_data.hpp"
#include "golden.hpp"
#include "safetensors.hpp"
#include "sound.hpp"

namespace edgekit {

namespace {

bool ends(const std::string& text, const std::string& with) {
  return text.size() >= with.size() && text.compare(text.size() - with.size(), with.size(), with) == 0;
}

// [NAME=]FILE; without a name there must be one tensor only.
Result<std::pair<TensorInfo, std::string>> named(const std::string& word, const std::vector<TensorInfo>& tensors, const char* side) {
  const std::size_t equals = word.find('=');
  const std::string name = equals == std::string::npos ? "" : word.substr(0, equals);
  std::string all;
  for (const TensorInfo& t : tensors) {
    if (t.name == name) return std::make_pair(t, word.substr(equals + 1));
    all += (all.empty() ? "" : ", ") + t.name;
  }
  if (equals == std::string::npos && tensors.size() == 1) return std::make_pair(tensors[0], word);
  if (equals == std::string::npos) return Status("this bundle has the " + std::string(side) + "s " + all + "; say which: NAME=" + word);
  return Status("no " + std::string(side) + " '" + name + "'; there are: " + all);
}

std::vector<TensorInfo> sampled(const std::vector<TensorInfo>& tensors) {
  std::vector<TensorInfo> found;
  std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(found), [](const TensorInfo& t) { return t.rate_hz > 0; });
  return found;
}

Status put(const std::string& name, Tensor value, const char* option, Tensors* into) {
  if (!into->emplace(name, std::move(value)).second) {
    return Status("'" + name + "' is given by " + option + " and by another file; give it once");
  }
  return {};
}

Status read_input(const Bundle& bundle, const std::string& word, Tensors* into) {
  if (ends(word, ".safetensors")) {
    auto all = read_safetensors(word);
    if (!all) return all.status();
    for (auto& [name, tensor] : *all) {
      if (Status s = put(name, std::move(tensor), "--input", into); !s) return s;
    }
    return {};
  }
  auto found = named(word, bundle.inputs(), "input");
  if (!found) return found.status();
  if (ends(found->second, ".wav")) {
    auto sound = read_sound(found->first, found->second);
    if (!sound) return sound.status();
    return put(found->first.name, std::move(*sound), "--input", into);
  }
  if (!ends(found->second, ".npy")) return Status("--input takes .safetensors, .npy or .wav, found '" + word + "'");
  auto array = read_npy(found->second);
  if (!array) return array.status();
  return put(found->first.name, std::move(*array), "--input", into);
}

// What a preparation makes must be there: whoever sees only that an input is missing would not know where it comes from.
Status check_prepared(const Bundle& bundle, const Tensors& there) {
  for (const auto& [name, inner] : bundle.data()->prepares) {
    for (const Port& output : inner.data()->outputs) {
      if (there.count(output.name)) continue;
      return Status("'" + output.name + "' is made by the preparation '" + name + "' of '" + bundle.name() +
                    "'; make it once from a sound with --make-voice FILE.wav, then give it with --voice FILE");
    }
  }
  return {};
}

}  // namespace

Result<Given> read_inputs(const Bundle& bundle, const Arguments& arguments) {
  Given given;
  for (const std::string& word : arguments.inputs) {
    if (Status s = read_input(bundle, word, &given.tensors); !s) return s;
  }
  if (!arguments.voice.empty()) {
    auto voice = read_voice(bundle, arguments.voice);
    if (!voice) return voice.status();
    for (auto& [name, tensor] : *voice) {
      if (Status s = put(name, std::move(tensor), "--voice", &given.tensors); !s) return s;
    }
  }
  if (!arguments.wav.empty()) {
    auto sound = hear(bundle, arguments.wav, !arguments.stream, &given);
    if (!sound) return sound.status();
    if (Status s = put(given.heard, std::move(*sound), "--wav", &given.tensors); !s) return s;
  }
  if (Status s = check_prepared(bundle, given.tensors); !s) return s;
  return given;
}

Status write_outputs(const Bundle& bundle, const Arguments& arguments, const Tensors& answers) {
  for (const std::string& word : arguments.outputs) {
    if (ends(word, ".safetensors")) {
      if (Status s = write_safetensors(word, views(answers)); !s) return s;
      continue;
    }
    const bool sound = ends(word, ".wav");
    const bool choose = sound && word.find('=') == std::string::npos;
    const auto outputs = choose ? sampled(bundle.outputs()) : bundle.outputs();
    if (choose && outputs.empty()) return Status("no output of '" + bundle.name() + "' is a sampled signal, so there is nothing for " + word + "; write an .npy");
    auto found = named(word, outputs, "output");
    if (!found) return found.status();
    const auto answer = answers.find(found->first.name);
    if (answer == answers.end()) return Status("there is no answer '" + found->first.name + "': the stream ran no chunk");
    const bool picture = ends(word, ".png");
    if (!sound && !picture && !ends(word, ".npy")) return Status("--output takes .safetensors, .npy, .wav or .png, found '" + word + "'");
    if (sound && !found->first.rate_hz) return Status("'" + found->first.name + "' is no sampled signal, so that it has no rate to be heard at; write an .npy");
    const TensorView view = answer->second.view();
    const Status status = sound     ? write_wav(found->second, view, static_cast<int>(found->first.rate_hz))
                          : picture ? write_png(found->second, view, arguments.columns)
                                    : write_npy(found->second, view);
    if (!status) return Status("'" + found->first.name + "': " + status.text());
  }
  return {};
}

}  // namespace edgekit
