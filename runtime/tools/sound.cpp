// WAVE files as inputs, delays taken off, and voices made.
#include "sound.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "bundle_data.hpp"
#include "golden.hpp"
#include "printable.hpp"

namespace edgekit {

namespace {

std::string names_of(const std::vector<TensorInfo>& tensors) {
  std::string all;
  for (const TensorInfo& t : tensors) all += (all.empty() ? "'" : ", '") + t.name + "'";
  return all.empty() ? "none" : all;
}

// The part of each row of the last axis from `from` on, `length` long, or what there is of it.
Tensor part(const Tensor& whole, std::int64_t from, std::int64_t length) {
  Shape shape = whole.shape();
  const std::int64_t there = shape.back();
  from = std::min(from, there);
  shape.back() = std::min(length, there - from);
  Tensor made(whole.dtype(), shape);
  const std::size_t each = size_of(whole.dtype()), row = static_cast<std::size_t>(shape.back()) * each;
  const std::size_t rows = there ? whole.count() / static_cast<std::size_t>(there) : 0;
  for (std::size_t i = 0; i < rows && row; ++i) {
    const std::size_t at = (i * static_cast<std::size_t>(there) + static_cast<std::size_t>(from)) * each;
    std::memcpy(static_cast<unsigned char*>(made.data()) + i * row, static_cast<const unsigned char*>(whole.data()) + at, row);
  }
  return made;
}

}  // namespace

Shape one_channel(const TensorInfo& info, std::int64_t samples) {
  Shape shape(info.shape.size(), 1);
  shape.back() = samples;
  return shape;
}

bool joined_in_time(const Bundle& bundle, const TensorInfo& output) {
  const auto& joins = bundle.data()->program.stream->joins;
  const auto join = joins.find(output.name);
  return join != joins.end() && join->second.how == Join::How::kConcat && join->second.axis + 1 == static_cast<int>(output.shape.size());
}

Result<TensorInfo> sampled_input(const Bundle& bundle, const std::string& option) {
  std::vector<TensorInfo> found;
  for (const TensorInfo& t : bundle.inputs()) {
    if (t.rate_hz && (!bundle.streams() || bundle.data()->program.stream->feeds.count(t.name))) found.push_back(t);
  }
  if (found.size() != 1) {
    return Status(option + " is for a bundle with one input that is a sampled signal; '" + bundle.name() + "' has " +
                  (found.empty() ? "none among " + names_of(bundle.inputs()) : names_of(found)) + ": give --input");
  }
  const TensorInfo& t = found[0];
  const bool mono = std::all_of(t.shape.begin(), t.shape.end() - 1, [](std::int64_t n) { return n == 1 || n == -1; });
  if (t.dtype != DType::kFloat32 || !mono) {
    return Status("'" + t.name + "' is " + name_of(t.dtype) + " " + text_of(t.shape) + ", but a sound gives float32 of one channel");
  }
  return t;
}

Result<Tensor> read_sound(const TensorInfo& input, const std::string& path) {
  auto sound = read_wav(path);
  if (!sound) return sound.status();
  if (!input.rate_hz) {  // nobody said at which rate it is to be: the reader should know at which it is
    std::fprintf(stderr, "%s: %d Hz, %d channel%s, %.2f s\n", printable(path).c_str(), sound->rate_hz, sound->channels,
                 sound->channels == 1 ? "" : "s averaged", static_cast<double>(sound->samples.count()) / std::max(1, sound->rate_hz));
    return std::move(sound->samples);
  }
  if (sound->rate_hz != input.rate_hz) {
    return Status(path + " is at " + std::to_string(sound->rate_hz) + " Hz, but '" + input.name + "' takes " + std::to_string(input.rate_hz) +
                  " Hz; convert it: sox " + path + " -r " + std::to_string(input.rate_hz) + " out.wav");
  }
  if (!sound->samples.count()) return Status(path + " holds no samples; give a sound file that is not empty");
  if (static_cast<std::int64_t>(input.shape.size()) == 2) return std::move(sound->samples);
  Tensor made;
  made.assign({DType::kFloat32, one_channel(input, static_cast<std::int64_t>(sound->samples.count())), sound->samples.data()});
  return made;
}

Result<Tensor> hear(const Bundle& bundle, const std::string& path, bool padded, Given* given) {
  auto input = sampled_input(bundle, "--wav");
  if (!input) return input.status();
  auto sound = read_sound(*input, path);
  if (!sound) return sound.status();
  given->heard = input->name;
  given->samples = sound->shape().back();
  if (!bundle.streams() || !padded) return sound;
  std::int64_t behind = 0;
  for (const TensorInfo& output : bundle.outputs()) {
    if (output.rate_hz == input->rate_hz && joined_in_time(bundle, output)) behind = std::max(behind, output.delay);
  }
  const std::int64_t hop = std::max<std::int64_t>(1, bundle.data()->program.stream->feeds.at(input->name).hop);
  const std::int64_t length = (given->samples + behind + hop - 1) / hop * hop;
  Tensor longer(DType::kFloat32, one_channel(*input, length));
  std::memcpy(longer.data(), sound->data(), sound->bytes());
  return longer;
}

void in_time(const Bundle& bundle, const Given& given, Tensors* answers) {
  if (given.heard.empty() || !bundle.streams()) return;
  std::int64_t rate_hz = 0;
  for (const TensorInfo& t : bundle.inputs()) {
    if (t.name == given.heard) rate_hz = t.rate_hz;
  }
  for (const TensorInfo& output : bundle.outputs()) {
    const auto answer = answers->find(output.name);
    if (answer == answers->end() || output.rate_hz != rate_hz || !joined_in_time(bundle, output)) continue;
    answer->second = part(answer->second, output.delay, given.samples);
  }
}

Status make_voice(const Bundle& bundle, const Arguments& arguments) {
  const auto names = bundle.prepares();
  if (names.size() != 1) {
    const std::string count = names.empty() ? "no" : std::to_string(names.size());
    return Status("'" + bundle.name() + "' has " + count + " preparations, but a voice is made by the only one that a bundle has");
  }
  if (bundle.data()->checkpoint_sha256.empty()) return write_voice(bundle, "", {});  // it says why not
  auto inner = bundle.preparation(names[0]);
  if (!inner) return inner.status();
  if (inner->inputs().size() != 1 || !inner->inputs()[0].rate_hz) {
    return Status("the preparation '" + names[0] + "' of '" + bundle.name() + "' takes " + names_of(inner->inputs()) +
                  ", but a voice is made from one sampled signal");
  }
  auto input = sampled_input(*inner, "--make-voice");
  if (!input) return input.status();
  auto sound = read_sound(*input, arguments.make_voice);
  if (!sound) return sound.status();
  auto session = Session::open(*inner, arguments.options);
  if (!session) return session.status();
  auto answers = run_pieces(*inner, &*session, {{input->name, sound->view()}}, {}, arguments.seed.value_or(inner->seed()));
  if (!answers) return answers.status();
  const std::string& from = arguments.make_voice;
  const std::size_t dot = from.rfind('.'), slash = from.rfind('/');
  const bool suffix = dot != std::string::npos && (slash == std::string::npos || dot > slash + 1);
  const std::string path = arguments.outputs.empty() ? from.substr(0, suffix ? dot : from.size()) + ".voice" : arguments.outputs[0];
  if (Status s = write_voice(bundle, path, *answers); !s) return s;
  std::printf("voice: %s\n", printable(path).c_str());
  return {};
}

}  // namespace edgekit
