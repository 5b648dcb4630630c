// The timed loop and its phases.
#include "timing.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "json.hpp"
#include "query.hpp"
#include "safetensors.hpp"
#include "samples.hpp"
#include "watch.hpp"

namespace edgekit {

namespace {

constexpr std::size_t kLeast = 100, kMost = 200'000;  // samples of the steady state
constexpr double kPatience_s = 10;                    // a slow model ends there with fewer than kLeast, and at least kFew
constexpr std::size_t kFew = 3;
constexpr std::size_t kWindow = 20;                   // samples in a window of the warm-up; fewer where a run takes long
constexpr double kWindow_ns = 50e6;
constexpr double kSteady = 1.05;                      // largest of three windows' medians / smallest, and of the clock
constexpr std::size_t kBenchLeast = 20;
constexpr std::size_t kEmptyCalls = 400;

double seconds_since(std::int64_t start) { return static_cast<double>(now_ns() - start) / 1e9; }

double core_clock(std::optional<int> core) {
  double found = 1;  // where no clock can be read, it stands still
  if (core) std::ifstream("/sys/devices/system/cpu/cpu" + std::to_string(*core) + "/cpufreq/scaling_cur_freq") >> found;
  return found > 0 ? found : 1;
}

bool stands(const std::vector<double>& values) {
  if (values.size() < 3) return false;
  const auto [low, high] = std::minmax_element(values.end() - 3, values.end());
  return *high <= *low * kSteady;
}

struct WarmUp {
  std::size_t runs = 0;
  bool steady = false;
};

Result<WarmUp> warm(Query* query, double cap_s, std::optional<int> core) {
  WarmUp found;
  std::vector<double> medians, clocks;
  std::size_t window = kWindow;
  for (const std::int64_t start = now_ns(); seconds_since(start) < cap_s;) {
    Samples taken(window);
    while (taken.size() < window) {
      query->next();
      if (Status s = taken.take([&] { return query->ask(); }); !s) return s;
    }
    found.runs += window;
    medians.push_back(taken.quantile_ns(0.5));
    clocks.push_back(core_clock(core));
    window = std::clamp(static_cast<std::size_t>(kWindow_ns / std::max(1.0, medians.back())), kFew, kWindow);
    found.steady = stands(medians) && stands(clocks);
    if (found.steady) break;
  }
  return found;
}

Status steady_state(Query* query, double seconds, Samples* taken) {
  const std::int64_t begin = now_ns();
  while (taken->size() < kMost) {
    const double spent = seconds_since(begin);
    if (spent >= seconds && (taken->size() >= kLeast || (spent >= kPatience_s && taken->size() >= kFew))) break;
    query->next();
    if (Status s = taken->take([&] { return query->ask(); }); !s) return s;
  }
  return {};
}

// What timing itself adds: p50 of a call that does nothing, by the same loop.
double overhead_ns() {
  Samples taken(kEmptyCalls);
  while (taken.size() < kEmptyCalls) (void)taken.take([] { return Status(); });
  return taken.quantile_ns(0.5);
}

// Peak resident memory in MiB. VmHWM begins anew at exec; ru_maxrss would still hold the parent's.
double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return static_cast<double>([] { rusage used{}; getrusage(RUSAGE_SELF, &used); return used.ru_maxrss; }()) / 1024;
}

Status write(const Samples& taken, const std::string& path) {
  const Shape shape = {static_cast<std::int64_t>(taken.size())};
  return write_safetensors(path, {{"start_ns", {DType::kInt64, shape, taken.start_ns.data()}},
                                  {"wall_ns", {DType::kInt64, shape, taken.wall_ns.data()}},
                                  {"cpu_ns", {DType::kInt64, shape, taken.cpu_ns.data()}},
                                  {"preempted", {DType::kUint8, shape, taken.preempted.data()}}});
}

// |-- idle --|-- back to back --|-- idle --|: the four times, and how many inferences ran.
Status back_to_back(Query* query, double seconds, Json* found) {
  const auto idle = [&] { std::this_thread::sleep_for(std::chrono::duration<double>(seconds / 3)); };
  std::vector<std::int64_t> edges = {now_ns()};
  idle();
  edges.push_back(now_ns());
  std::uint64_t inferences = 0;
  while (!inferences || seconds_since(edges[1]) < seconds) {
    query->next();
    if (Status s = query->ask(); !s) return s;
    ++inferences;
  }
  edges.push_back(now_ns());
  idle();
  edges.push_back(now_ns());
  (*found)["edges_ns"] = edges;
  (*found)["inferences"] = inferences;
  return {};
}

}  // namespace

Status profile(const Bundle& bundle, const Arguments& arguments) {
  std::optional<int> core;
  if (arguments.pin) {
    auto pinned = pin_to(*arguments.pin);
    if (!pinned) return pinned.status();
    core = *pinned;
  }
  Json found = Json::object();
  {
    const Watch watch(arguments.watched, arguments.watch_ms, core);
    auto query = Query::open(bundle, arguments.options, true);
    if (!query) return query.status();
    Samples first(1);
    if (Status s = first.take([&] { return query->ask(); }); !s) return s;
    auto warmed = warm(&*query, arguments.warmup_cap_s, core);
    if (!warmed) return warmed.status();
    if (arguments.profile_s > 0) {
      Samples taken(kMost);
      if (Status s = steady_state(&*query, arguments.profile_s, &taken); !s) return s;
      const double peak = peak_mb();
      found["facts"] = {{"engine", std::string("edgekit-run ") + kVersion + " with " + query->session().engine()},
                        {"load_ms", query->load_ms()},
                        {"first_run_ms", static_cast<double>(first.wall_ns[0]) / 1e6},
                        {"warm_up_runs", warmed->runs},
                        {"steady", warmed->steady},
                        {"memory_peak_mb", peak},
                        {"overhead_ns", overhead_ns()},
                        {"samples_per_query", 1},
                        {"different_inputs", query->different_inputs()},
                        {"period_ns", 0},
                        {"offered_per_s", 0.0},
                        {"pinned_to", core ? Json(*core) : Json()}};
      if (Status s = write(taken, arguments.samples); !s) return s;
    }
    if (arguments.energy_s > 0) {
      if (Status s = back_to_back(&*query, arguments.energy_s, &found); !s) return s;
    }
  }
  std::puts(found.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  return {};
}

Status bench(const Bundle& bundle, const Arguments& arguments) {
  auto query = Query::open(bundle, arguments.options, false);
  if (!query) return query.status();
  const auto ask = [&] { return query->ask(); };
  Samples first(1), taken(kMost);
  if (Status s = first.take(ask); !s) return s;
  const std::uint64_t steps = query->session().steps();
  for (const std::int64_t begin = now_ns(); seconds_since(begin) < arguments.bench_s || taken.size() < kBenchLeast;) {
    if (Status s = taken.take(ask); !s) return s;
  }
  const std::uint64_t each = (query->session().steps() - steps) / taken.size();
  const double p50 = taken.quantile_ns(0.5);
  const Json found = {{"bundle", bundle.name()},
                      {"task", bundle.task()},
                      {"engine", query->session().engine()},
                      {"load_ms", query->load_ms()},
                      {"first_run_ms", static_cast<double>(first.wall_ns[0]) / 1e6},
                      {"runs", taken.size()},
                      {"latency_p50_ms", p50 / 1e6},
                      {"latency_p90_ms", taken.quantile_ns(0.9) / 1e6},
                      {"latency_min_ms", taken.quantile_ns(0) / 1e6},
                      {"steps_per_run", each},
                      {"ns_per_step_p50", each ? p50 / static_cast<double>(each) : 0.0}};
  std::puts(found.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  return {};
}

}  // namespace edgekit
