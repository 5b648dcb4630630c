// Threads that share the rows of one layer: they wait in a loop for the next one, and go to sleep when none comes for a while.
#pragma once

#include <atomic>
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
  int parts() const { return static_cast<int>(helpers_.size()) + 1; }

  // work(part) for part 0 to parts() - 1, each in a thread of its own; returns when all are done. work must not throw.
  template <typename Work>
  void run(const Work& work) {
    call_ = [](const void* what, int part) { (*static_cast<const Work*>(what))(part); };
    what_ = &work;
    start();
    work(0);
    finish();
  }

 private:
  void start();
  void finish();
  void help(int part);

  void (*call_)(const void*, int) = nullptr;
  const void* what_ = nullptr;
  std::atomic<unsigned> round_{0};
  std::atomic<int> left_{0}, asleep_{0};
  std::atomic<bool> over_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

}  // namespace edgekit::spike
