// Threads that share the rows of one layer: they wait in a loop for the next one, and go to sleep when none comes for a while.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace edgekit::spike {

class Team {
 public:
  // parts: threads in all, the caller's among them.
  explicit Team(int parts);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  int parts() const { return parts_; }

  // work(part) for part 0 to parts() - 1, each once, by whichever thread is free: a helper that sleeps is not waited for. Returns when
  // all are done. work must not throw.
  template <typename Work>
  void run(const Work& work) {
    call_ = [](const void* what, int part) { (*static_cast<const Work*>(what))(part); };
    what_ = &work;
    start();
    take_parts();
    finish();
  }

 private:
  void start();
  void take_parts();
  void finish();
  void help();

  const int parts_;
  void (*call_)(const void*, int) = nullptr;
  const void* what_ = nullptr;
  std::atomic<unsigned> round_{0};
  std::atomic<int> next_{0}, done_{0}, asleep_{0};  // the part that is free next; beyond the last: none
  std::atomic<bool> over_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

// From how long on a layer is shared. What one layer shares, the next one reads from two caches, and a helper may be asleep or its core busy:
// only whole images say which is best, so that some are tried each way, in blocks, now and then anew.
class Sharing {
 public:
  template <typename Work>
  void run(const Work& work) {
    const int choice = next();
    const auto begin = measured_ ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
    work(kFromUs[choice]);
    if (measured_) note(choice, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }

 private:
  static constexpr int kChoices = 4;
  static constexpr double kFromUs[kChoices] = {1e300, 16, 4, 2};  // the first: no layer
  int next();
  void note(int choice, double us);

  std::uint32_t image_ = 0;
  int best_ = 0;
  bool measured_ = false;
  std::vector<double> us_[kChoices];
};

}  // namespace edgekit::spike
