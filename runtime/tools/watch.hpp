// Reads small text files (sensors, clocks) again and again beside the timed thread, and prints what they held and when.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "arguments.hpp"

namespace edgekit {

// Reads before its life as an object, about every `interval_ms` during it, and at its end. A reading is one line on stdout:
// {"watch": {"t_ns": monotonic, in the middle of the read, "read_ns": how long it took, "texts": [text or null, ...]}}
class Watch {
 public:
  // pinned: the core that the timed thread keeps; the watching thread stays off it where there is another.
  Watch(std::vector<Watched> what, int interval_ms, std::optional<int> pinned);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  void work();
  void once() const;

  std::vector<Watched> what_;
  int interval_ms_;
  std::optional<int> pinned_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

// Pin the calling thread: to `core`, or with -1 to the last core that it may use; the core. Threads made later inherit it.
Result<int> pin_to(int core);

}  // namespace edgekit
