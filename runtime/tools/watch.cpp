// The watching thread, and which core it runs on.
#include "watch.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <random>

#include "json.hpp"
#include "samples.hpp"

namespace edgekit {

namespace {

constexpr std::size_t kMostBytes = 4096;  // of a text: the first lines of /proc/stat, and all of any sensor
constexpr double kJitter = 0.2;           // of the interval: readings in step with a periodic load see one phase of it only

Json read_text(const Watched& source) {
  char buffer[kMostBytes];
  std::size_t count = 0;
  if (source.command) {
    std::FILE* pipe = popen(source.name.c_str(), "re");
    if (!pipe) return {};
    count = std::fread(buffer, 1, sizeof buffer, pipe);
    if (pclose(pipe) != 0) return {};
    return std::string(buffer, count);
  }
  const int file = open(source.name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return {};
  ssize_t got = 0;
  while (count < sizeof buffer && (got = read(file, buffer + count, sizeof buffer - count)) > 0) count += static_cast<std::size_t>(got);
  close(file);
  if (got < 0) return {};
  return std::string(buffer, count);
}

std::string list_of(const cpu_set_t& set) {
  std::string found;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) found += (found.empty() ? "" : ", ") + std::to_string(core);
  }
  return found;
}

}  // namespace

Watch::Watch(std::vector<Watched> what, int interval_ms, std::optional<int> pinned)
    : what_(std::move(what)), interval_ms_(interval_ms), pinned_(pinned) {
  if (what_.empty()) return;
  once();
  thread_ = std::thread([this] { work(); });
}

Watch::~Watch() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
  once();
}

void Watch::work() {
  // The thread was made after pinning, so that its own mask is that one core: ask for all, less it.
  cpu_set_t cores;
  if (pinned_) {
    CPU_ZERO(&cores);
    for (long core = 0; core < sysconf(_SC_NPROCESSORS_CONF) && core < CPU_SETSIZE; ++core) {
      if (core != *pinned_) CPU_SET(static_cast<int>(core), &cores);
    }
    if (CPU_COUNT(&cores)) (void)sched_setaffinity(0, sizeof cores, &cores);  // refused: it stays where it is
  }
  std::minstd_rand random(static_cast<unsigned>(now_ns()));
  std::uniform_real_distribution<double> jitter(1 - kJitter, 1 + kJitter);
  std::unique_lock<std::mutex> lock(mutex_);
  auto due = std::chrono::steady_clock::now();
  while (!stop_) {
    due += std::chrono::microseconds(static_cast<std::int64_t>(1000 * interval_ms_ * jitter(random)));
    due = std::max(due, std::chrono::steady_clock::now());  // where the machine was busy: no burst to catch up
    if (stopped_.wait_until(lock, due, [this] { return stop_; })) return;
    lock.unlock();
    once();
    lock.lock();
  }
}

void Watch::once() const {
  Json texts = Json::array();
  const std::int64_t start = now_ns();
  for (const Watched& source : what_) texts.push_back(read_text(source));
  const std::int64_t end = now_ns();
  const Json line = {{"watch", {{"t_ns", start + (end - start) / 2}, {"read_ns", end - start}, {"texts", texts}}}};
  std::puts(line.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
}

Result<int> pin_to(int core) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof mine, &mine) != 0) return Status("this system does not say which cores a thread may use; leave --pin out");
  for (int i = CPU_SETSIZE - 1; core < 0 && i >= 0; --i) {
    if (CPU_ISSET(i, &mine)) core = i;
  }
  if (core >= CPU_SETSIZE || !CPU_ISSET(core, &mine)) {
    return Status("core " + std::to_string(core) + " is none of those that this process may use: " + list_of(mine));
  }
  CPU_ZERO(&mine);
  CPU_SET(core, &mine);
  if (sched_setaffinity(0, sizeof mine, &mine) != 0) return Status("this system does not let a thread be pinned; leave --pin out");
  return core;
}

}  // namespace edgekit
