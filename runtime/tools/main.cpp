// edgekit-run: run, stream, check or time a bundle from the command line.
#include <algorithm>
#include <cstdio>
#include <new>

#include "bundle_data.hpp"
#include "golden.hpp"
#include "json.hpp"
#include "pcm.hpp"
#include "printable.hpp"
#include "run_files.hpp"
#include "sound.hpp"
#include "timing.hpp"

namespace edgekit {

namespace {

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
  std::puts(line.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
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
  auto bundle = Bundle::open(arguments.bundle, arguments.task, arguments.digest);
  if (!bundle) return bundle.status();
  if (arguments.golden) return check_golden(*bundle, arguments);
  if (arguments.bench_s > 0 || arguments.profile_s > 0 || arguments.energy_s > 0) {
    if (Status s = arguments.bench_s > 0 ? bench(*bundle, arguments) : profile(*bundle, arguments); !s) return s;
    return 0;
  }
  if (!arguments.make_voice.empty()) {
    if (Status s = make_voice(*bundle, arguments); !s) return s;
    return 0;
  }
  auto given = read_inputs(*bundle, arguments);
  if (!given) return given.status();
  const Inputs inputs = views(given->tensors);
  auto session = Session::open(*bundle, arguments.options);
  if (!session) return session.status();
  const std::uint64_t seed = arguments.seed.value_or(bundle->seed());
  if (arguments.stream) {
    if (Status s = stream(*bundle, &*session, inputs, seed); !s) return s;
    return 0;
  }
  if (arguments.pcm) {
    if (Status s = pipe_pcm(*bundle, &*session, inputs, seed); !s) return s;
    return 0;
  }
  auto answers = run_pieces(*bundle, &*session, inputs, arguments.chunks, seed);
  if (!answers) return answers.status();
  in_time(*bundle, *given, &*answers);
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
    } catch (const edgekit::Status& status) {
      code = status;
    } catch (const std::bad_alloc&) {
      code = edgekit::Status("out of memory");
    } catch (const std::exception& error) {
      code = edgekit::Status(error.what());
    }
  }
  if (!code) std::fprintf(stderr, "error: %s\n", edgekit::printable(code.status().text()).c_str());
  return code ? *code : 2;
}
