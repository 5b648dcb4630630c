// edgekit-run: run, stream, check or time a bundle from the command line.
#include <algorithm>
#include <cstdio>

#include "bundle_data.hpp"
#include "golden.hpp"
#include "json.hpp"
#include "safetensors.hpp"
#include "timing.hpp"

namespace edgekit {

namespace {

bool ends(const std::string& text, const std::string& with) {
  return text.size() >= with.size() && text.compare(text.size() - with.size(), with.size(), with) == 0;
}

// [NAME=]FILE; without a name there must be one tensor only.
Result<std::pair<std::string, std::string>> named(const std::string& word, const std::vector<TensorInfo>& tensors, const char* side) {
  const std::size_t equals = word.find('=');
  const std::string name = equals == std::string::npos ? "" : word.substr(0, equals);
  std::string all;
  for (const TensorInfo& t : tensors) {
    if (t.name == name) return std::make_pair(name, word.substr(equals + 1));
    all += (all.empty() ? "" : ", ") + t.name;
  }
  if (equals == std::string::npos && tensors.size() == 1) return std::make_pair(tensors[0].name, word);
  if (equals == std::string::npos) return Status("this bundle has the " + std::string(side) + "s " + all + "; say which: NAME=" + word);
  return Status("no " + std::string(side) + " '" + name + "'; there are: " + all);
}

Result<Tensors> read_inputs(const Bundle& bundle, const Arguments& arguments) {
  Tensors inputs;
  for (const std::string& word : arguments.inputs) {
    if (ends(word, ".safetensors")) {
      auto all = read_safetensors(word);
      if (!all) return all.status();
      for (auto& [name, tensor] : *all) inputs[name] = std::move(tensor);
      continue;
    }
    auto found = named(word, bundle.inputs(), "input");
    if (!found) return found.status();
    if (ends(found->second, ".wav")) {
      auto sound = read_wav(found->second);
      if (!sound) return sound.status();
      std::fprintf(stderr, "%s: %d Hz, %d channel%s, %.2f s\n", found->second.c_str(), sound->rate_hz, sound->channels,
                   sound->channels == 1 ? "" : "s averaged", static_cast<double>(sound->samples.count()) / std::max(1, sound->rate_hz));
      inputs[found->first] = std::move(sound->samples);
    } else if (ends(found->second, ".npy")) {
      auto array = read_npy(found->second);
      if (!array) return array.status();
      inputs[found->first] = std::move(*array);
    } else {
      return Status("--input takes .safetensors, .npy or .wav, found '" + word + "'");
    }
  }
  return inputs;
}

Status write_outputs(const Bundle& bundle, const Arguments& arguments, const Tensors& answers) {
  for (const std::string& word : arguments.outputs) {
    if (ends(word, ".safetensors")) {
      if (Status s = write_safetensors(word, views(answers)); !s) return s;
      continue;
    }
    auto found = named(word, bundle.outputs(), "output");
    if (!found) return found.status();
    const auto answer = answers.find(found->first);
    if (answer == answers.end()) return Status("there is no answer '" + found->first + "': the stream ran no chunk");
    const bool picture = ends(found->second, ".png");
    if (!picture && !ends(found->second, ".npy")) return Status("--output takes .safetensors, .npy or .png, found '" + word + "'");
    const TensorView view = answer->second.view();
    if (Status s = picture ? write_png(found->second, view, arguments.columns) : write_npy(found->second, view); !s) {
      return Status("'" + found->first + "': " + s.text());
    }
  }
  return {};
}

Json values(const Tensor& tensor) {
  Json made = Json::array();
  for (std::size_t i = 0; i < tensor.count(); ++i) {
    switch (tensor.dtype()) {
      case DType::kFloat32: made.push_back(tensor.as<float>()[i]); break;
      case DType::kFloat64: made.push_back(tensor.as<double>()[i]); break;
      case DType::kInt64: made.push_back(tensor.as<std::int64_t>()[i]); break;
      case DType::kInt32: made.push_back(tensor.as<std::int32_t>()[i]); break;
      case DType::kInt8: made.push_back(tensor.as<std::int8_t>()[i]); break;
      case DType::kFloat16: made.push_back(tensor.as<std::uint16_t>()[i]); break;
      default: made.push_back(tensor.as<std::uint8_t>()[i]);
    }
  }
  return made;
}

void print(const Tensors& answers) {
  Json line = Json::object();
  for (const auto& [name, tensor] : answers) {
    if (tensor.count()) line[name] = {{"shape", tensor.shape()}, {"values", values(tensor)}};
  }
  if (line.empty()) return;
  std::puts(line.dump().c_str());
  std::fflush(stdout);
}

Status stream(const Bundle& bundle, Session* session, const Inputs& inputs, std::uint64_t seed) {
  if (!bundle.streams()) return Status("'" + bundle.name() + "' is no stream; leave --stream out");
  std::int64_t hop = 1;
  Inputs given;
  for (const auto& [name, value] : inputs) {
    const auto feed = bundle.data()->program.stream->feeds.find(name);
    if (feed == bundle.data()->program.stream->feeds.end()) given[name] = value;
    else hop = std::max(hop, feed->second.hop);
  }
  if (Status s = session->begin(given, seed); !s) return s;
  for (std::int64_t from = 0; from < stream_length(bundle, inputs); from += hop) {
    const Tensors piece = cut(bundle, inputs, from, from + hop);
    if (Status s = session->push(views(piece)); !s) return s;
    print(session->answers());
  }
  if (Status s = session->close(); !s) return s;
  print(session->answers());
  return {};
}

Result<int> work(const Arguments& arguments) {
  auto bundle = Bundle::open(arguments.bundle);
  if (!bundle) return bundle.status();
  if (arguments.golden) return check_golden(*bundle, arguments);
  if (arguments.bench_s > 0 || arguments.profile_s > 0 || arguments.energy_s > 0) {
    if (Status s = arguments.bench_s > 0 ? bench(*bundle, arguments) : profile(*bundle, arguments); !s) return s;
    return 0;
  }
  auto inputs = read_inputs(*bundle, arguments);
  if (!inputs) return inputs.status();
  auto session = Session::open(*bundle, arguments.options);
  if (!session) return session.status();
  const std::uint64_t seed = arguments.seed.value_or(bundle->seed());
  if (arguments.stream) {
    if (Status s = stream(*bundle, &*session, views(*inputs), seed); !s) return s;
    return 0;
  }
  auto answers = run_pieces(*bundle, &*session, views(*inputs), arguments.chunks, seed);
  if (!answers) return answers.status();
  if (arguments.outputs.empty()) print(*answers);
  if (Status s = write_outputs(*bundle, arguments, *answers); !s) return s;
  return 0;
}

}  // namespace

}  // namespace edgekit

int main(int count, char** words) {
  auto arguments = edgekit::read_arguments(count, words);
  if (arguments && arguments->help) return std::fputs(edgekit::kHelp, stdout) < 0;
  if (arguments && arguments->version) return std::printf("edgekit-run %s\n", edgekit::kVersion) < 0;
  edgekit::Result<int> code = edgekit::Status("nothing was done");
  if (!arguments) {
    code = arguments.status();
  } else {
    try {
      code = edgekit::work(*arguments);
    } catch (const std::exception& error) {
      code = edgekit::Status(error.what());
    }
  }
  if (!code) std::fprintf(stderr, "error: %s\n", code.status().text().c_str());
  return code ? *code : 2;
}
