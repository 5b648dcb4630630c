// A layer takes some microseconds: waking a sleeping thread takes as long, so that helpers look for work before they sleep.
#include "team.hpp"

#include <chrono>

namespace edgekit::spike {

namespace {

constexpr auto kLook = std::chrono::microseconds(200);  // so long a helper looks for work: longer than the gap between two layers

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Team::Team(int parts) {
  for (int part = 1; part < parts; ++part) helpers_.emplace_back([this, part] { help(part); });
}

Team::~Team() {
  over_ = true;
  start();
  for (std::thread& helper : helpers_) helper.join();
}

void Team::start() {
  left_.store(static_cast<int>(helpers_.size()), std::memory_order_relaxed);
  ++round_;
  if (asleep_ > 0) {
    std::lock_guard<std::mutex> lock(mutex_);  // a helper that has counted itself asleep holds it until it waits
    wake_.notify_all();
  }
}

void Team::finish() {
  for (int i = 0; left_.load(std::memory_order_acquire) > 0; ++i) {
    pause();
    if (i > 10000) std::this_thread::yield();  // the helper's core is taken by somebody else
  }
}

void Team::help(int part) {
  for (unsigned seen = 0;;) {
    const auto until = std::chrono::steady_clock::now() + kLook;
    while (round_ == seen) {
      for (int i = 0; i < 100 && round_ == seen; ++i) pause();
      if (round_ == seen && std::chrono::steady_clock::now() > until) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++asleep_;
        wake_.wait(lock, [&] { return round_ != seen; });
        --asleep_;
      }
    }
    ++seen;
    if (over_) return;
    call_(what_, part);
    left_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace edgekit::spike
