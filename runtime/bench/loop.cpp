// What the program's loop adds to a step: our executor beside bare calls of ONNX Runtime's C API, in turns, in one process.
//
//   edgekit-bench BUNDLE [ROUNDS]: a bundle whose only phase is `steps` with one carried state. Prints JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "bundle_data.hpp"
#include "engine.hpp"
#include "environment.hpp"
#include "safetensors.hpp"

namespace edgekit {

namespace {

using Clock = std::chrono::steady_clock;

double ns_since(Clock::time_point start) { return std::chrono::duration<double, std::nano>(Clock::now() - start).count(); }

long resident_kb() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  long pages = 0, resident = 0;
  if (file && std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
  if (file) std::fclose(file);
  return resident * 4;
}

int failed(const Status& status) {
  std::fprintf(stderr, "error: %s\n", status.text().c_str());
  return 2;
}

int work(const std::string& folder, int rounds) {
  auto bundle = Bundle::open(folder);
  if (!bundle) return failed(bundle.status());
  const BundleData& data = *bundle->data();
  if (data.program.before.size() != 1 || !data.program.before[0].loops || data.program.before[0].carry.size() != 1) {
    return failed(Status("the benchmark takes one phase of steps with one carried state"));
  }
  auto golden = read_safetensors(data.folder + "/golden.safetensors");
  if (!golden) return failed(golden.status());
  Inputs inputs;
  for (const auto& [name, tensor] : *golden) {
    if (name.rfind("inputs/", 0) == 0) inputs[name.substr(7)] = tensor.view();
  }
  Options options;
  options.threads = 1;
  auto session = Session::open(*bundle, options);
  if (!session) return failed(session.status());

  // The bare way: the same graph bound to two orders of the state's buffers, called in turns.
  auto engine = onnxruntime_engine("");
  if (!engine) return failed(engine.status());
  const Phase& phase = data.program.before[0];
  const GraphFile& file = data.graphs.at(phase.graph);
  auto graph = (*engine)->open(data, file, options);
  if (!graph) return failed(graph.status());
  const auto& [out, state] = *phase.carry.begin();
  const Shape shape = *resolved(phase.states.at(state).shape, {});
  Tensor ping(DType::kFloat32, shape), pong(DType::kFloat32, shape);
  std::map<std::string, Tensor> fixed;
  const auto bindings = [&](Tensor* from, Tensor* to) {
    std::vector<Bound> in, result{{out, DType::kFloat32, shape, to->data()}};
    for (const Port& port : file.inputs) {
      const Source& source = phase.inputs.at(port.name);
      if (source.name == state) {
        in.push_back({port.name, DType::kFloat32, shape, from->data()});
      } else {
        Tensor& t = fixed[port.name];
        t.assign(inputs.at(source.name));
        in.push_back({port.name, t.dtype(), t.shape(), t.data()});
      }
    }
    for (const auto& [extra, name] : phase.outputs) {
      (void)name;
      for (const Port& port : file.outputs) {
        if (port.name != extra) continue;
        fixed[extra].resize(port.dtype, *resolved(port.shape, {}));
        result.push_back({extra, port.dtype, fixed[extra].shape(), fixed[extra].data()});
      }
    }
    return (*graph)->bind(in, result);
  };
  auto forth = bindings(&ping, &pong), back = bindings(&pong, &ping);
  if (!forth) return failed(forth.status());
  if (!back) return failed(back.status());

  std::vector<double> ours, bare;
  if (Status s = session->run(inputs); !s) return failed(s);
  const long before_kb = resident_kb();
  for (int round = 0; round < rounds; ++round) {
    auto start = Clock::now();
    if (Status s = session->run(inputs); !s) return failed(s);
    ours.push_back(ns_since(start) / phase.steps);
    start = Clock::now();
    for (std::uint32_t i = 0; i < phase.steps; ++i) {
      if (Status s = (i & 1 ? *back : *forth)->run(); !s) return failed(s);
    }
    bare.push_back(ns_since(start) / phase.steps);
  }
  const long after_kb = resident_kb();
  std::sort(ours.begin(), ours.end());
  std::sort(bare.begin(), bare.end());
  const std::size_t mid = ours.size() / 2;
  std::printf(
      "{\"engine\": \"%s\", \"steps\": %u, \"rounds\": %d, \"loop_ns_per_step_p50\": %.1f, \"bare_ns_per_step_p50\": %.1f, "
      "\"loop_ns_per_step_min\": %.1f, \"bare_ns_per_step_min\": %.1f, \"added_ns_per_step_p50\": %.1f, \"added_ns_per_step_min\": %.1f, "
      "\"steps_total\": %llu, \"resident_before_kb\": %ld, \"resident_after_kb\": %ld}\n",
      session->engine().c_str(), phase.steps, rounds, ours[mid], bare[mid], ours[0], bare[0], ours[mid] - bare[mid], ours[0] - bare[0],
      static_cast<unsigned long long>(session->steps()), before_kb, after_kb);
  return 0;
}

}  // namespace

}  // namespace edgekit

int main(int count, char** words) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s BUNDLE [ROUNDS]\n", words[0]);
    return 2;
  }
  return edgekit::work(words[1], count > 2 ? std::max(1, std::atoi(words[2])) : 1000);
}
