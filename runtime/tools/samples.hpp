// A row a sample, as edgekit/process_run.py reads it: when it began, how long it took, how much of that was computed.
#pragma once

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "edgekit/edgekit.hpp"

namespace edgekit {

inline std::int64_t now_ns(clockid_t clock = CLOCK_MONOTONIC) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

inline long switches() {
  rusage used{};
  getrusage(RUSAGE_THREAD, &used);
  return used.ru_nivcsw;
}

class Samples {
 public:
  std::vector<std::int64_t> start_ns, wall_ns, cpu_ns;
  std::vector<std::uint8_t> preempted;

  // Memory for all rows is reserved here, so that none is asked for between samples.
  explicit Samples(std::size_t most) {
    for (auto* column : {&start_ns, &wall_ns, &cpu_ns}) column->reserve(most);
    preempted.reserve(most);
  }
  std::size_t size() const { return wall_ns.size(); }

  // Ask once and write a row. The core was taken away when the thread's count of involuntary switches rose.
  template <typename F>
  Status take(F&& ask) {
    const long before = switches();
    const std::int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    const std::int64_t start = now_ns();
    Status status = ask();
    const std::int64_t end = now_ns();
    cpu_ns.push_back(now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu);
    preempted.push_back(switches() != before);
    start_ns.push_back(start);
    wall_ns.push_back(end - start);
    return status;
  }

  // The wall time that this share of the samples from row `from` on stays within.
  double quantile_ns(double share, std::size_t from = 0) const {
    std::vector<std::int64_t> sorted(wall_ns.begin() + static_cast<std::ptrdiff_t>(from), wall_ns.end());
    std::sort(sorted.begin(), sorted.end());
    return static_cast<double>(sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))]);
  }
};

}  // namespace edgekit
