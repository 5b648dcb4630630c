// A layer takes some microseconds: waking a sleeping thread takes as long, so that helpers look for work before they sleep.
#include "team.hpp"

#include <algorithm>
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

Team::Team(int parts) : parts_(parts), next_{parts} {
  for (int part = 1; part < parts; ++part) helpers_.emplace_back([this] { help(); });
}

Team::~Team() {
  over_ = true;
  ++round_;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  for (std::thread& helper : helpers_) helper.join();
}

void Team::start() {
  done_.store(0, std::memory_order_relaxed);
  next_.store(0, std::memory_order_release);  // what is called was written before, and is read after a part was taken
  ++round_;
  if (asleep_ > 0) {
    std::lock_guard<std::mutex> lock(mutex_);  // a helper that has counted itself asleep holds it until it waits
    wake_.notify_all();
  }
}

void Team::take_parts() {
  for (int part; (part = next_.fetch_add(1, std::memory_order_acquire)) < parts();) {
    call_(what_, part);
    done_.fetch_add(1, std::memory_order_release);
  }
}

void Team::finish() {
  for (int i = 0; done_.load(std::memory_order_acquire) < parts(); ++i) {
    pause();
    if (i > 10000) std::this_thread::yield();  // the helper's core is taken by somebody else
  }
}

void Team::help() {
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
    seen = round_;
    if (over_) return;
    take_parts();
  }
}

int Sharing::next() {
  constexpr std::uint32_t kFirst = 40, kBlock = 16, kRounds = 2, kTrial = kChoices * kBlock * kRounds, kAgain = 8192;
  const std::uint32_t at = image_++;
  measured_ = false;
  if (at < kFirst) return 0;  // layers still find out their way
  const std::uint32_t in = (at - kFirst) % kAgain;
  if (in >= kTrial) return best_;
  if (in == 0) {
    for (auto& us : us_) us.clear();
  }
  measured_ = in % kBlock >= kBlock / 2;  // helpers wake up before, and caches hold what the choice before left
  return static_cast<int>(in / kBlock % kChoices);
}

void Sharing::note(int choice, double us) {
  constexpr double kBetter = 0.95;  // what a team must reach of the time alone
  us_[choice].push_back(us);
  double medians[kChoices];
  for (int i = 0; i < kChoices; ++i) {
    const std::size_t middle = us_[i].size() / 2;
    if (us_[i].empty()) return;
    std::nth_element(us_[i].begin(), us_[i].begin() + static_cast<std::ptrdiff_t>(middle), us_[i].end());
    medians[i] = us_[i][middle];
  }
  const int shared = static_cast<int>(std::min_element(medians + 1, medians + kChoices) - medians);
  best_ = medians[shared] < kBetter * medians[0] ? shared : 0;
}

}  // namespace edgekit::spike
