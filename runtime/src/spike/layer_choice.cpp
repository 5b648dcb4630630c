// By events or as a product: a guess when the network is opened, and what the first images took.
#include <algorithm>
#include <chrono>
#include <limits>

#include "layer.hpp"

namespace edgekit::spike {

namespace {

constexpr int kRuns = 7;                // of a way on made-up spikes
constexpr std::size_t kTries = 8;       // images in each way
constexpr std::uint32_t kAgain = 4096;  // images after which they are tried anew, since others may have come
constexpr std::uint32_t kAsked = 64;    // of them may be trials; after those, spikes are counted only as far as the choice needs
constexpr double kClose = 3;            // a guess is not trusted where the ways are this near to each other

double now_us() { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

// Up to how many events the layer is faster by events: both ways are timed on made-up spikes, here, on this processor. Real ones lie in
// clusters, so this is a guess.
void Layer::find_break_even() {
  const bool fixed = settings_.only_events || settings_.only_dense, pixels = !sources_.front();
  if (fixed) report_.break_even = settings_.only_dense ? 0 : std::numeric_limits<std::uint64_t>::max();
  if ((fixed || pixels) && !team_) return;
  std::uint64_t few_events = 0, more_events = 0;
  dense_us_ = timed_us(Way::kDense, 8, &more_events);
  if (pixels) return;
  const double few = timed_us(Way::kEvents, 32, &few_events), more = timed_us(Way::kEvents, 8, &more_events);
  event_us_ = std::max((more - few) / static_cast<double>(std::max<std::uint64_t>(more_events - few_events, 1)), 1e-5);
  none_events_ = std::max(few / event_us_ - static_cast<double>(few_events), 0.0);
  if (!fixed) set_break_even();
}

void Layer::set_break_even() { report_.break_even = static_cast<std::uint64_t>(std::max(dense_us_ / event_us_ - none_events_, 0.0)); }

// The median of some runs, each on spikes of its own, of which one in `one_in` is set: one map again and again is learned by the branch
// predictor. events: how many there were.
double Layer::timed_us(Way way, std::uint32_t one_in, std::uint64_t* events) {
  Aligned<std::uint64_t>* const bits = sources_.front() ? &const_cast<Map*>(sources_.front())->bits : nullptr;  // not in use yet: nothing has run
  const std::vector<std::uint8_t> image(bits ? 0 : network_.input.count());
  std::uint32_t random = 12345;
  const auto next = [&random] { return (random = random * 1664525u + 1013904223u) >> 8; };
  std::vector<double> times;
  for (int run = 0; run < kRuns; ++run) {
    if (bits) {
      const Map& source = *sources_.front();
      std::memset(bits->data(), 0, bits->size() * sizeof(std::uint64_t));
      for (std::size_t place = 0; place < source.size.places(); ++place) {
        for (int c = 0; c < source.size.channels; ++c) {
          const std::size_t word = place * static_cast<std::size_t>(source.words) + static_cast<std::size_t>(c / 64);
          if (next() % one_in == 0) (*bits)[word] |= std::uint64_t{1} << (c % 64);
        }
      }
      *events = kernels_.count_bits(bits->data(), bits->size());
    }
    const double begin = now_us();
    compute(way, Given{image.data(), nullptr, false, 0});
    times.push_back(now_us() - begin);
  }
  if (bits) std::memset(bits->data(), 0, bits->size() * sizeof(std::uint64_t));
  std::memset(map_.bits.data(), 0, map_.bits.size() * sizeof(std::uint64_t));
  return median(times);
}

// How many events need be counted to choose: where they are too many for a trial, too, nobody asks how many there are.
std::uint64_t Layer::enough() const {
  if (settings_.timed) return std::numeric_limits<std::uint64_t>::max();
  const std::uint32_t number = (images_ + 1) % kAgain;  // as choose() will count this image
  const bool tried = number >= kAsked || (number > 0 && std::min(costs_[0].size(), costs_[1].size()) >= kTries);
  if (tried || settings_.only_events || settings_.only_dense) return report_.break_even;
  return static_cast<std::uint64_t>(kClose * (static_cast<double>(report_.break_even) + none_events_));
}

// Both ways give the same integers, so that the first images can try what the guess left open.
Way Layer::choose() {
  const Way way = report_.events <= report_.break_even ? Way::kEvents : Way::kDense;
  if (settings_.only_events || settings_.only_dense) return way;
  if (++images_ % kAgain == 0) costs_[0].clear(), costs_[1].clear();
  const std::size_t products = costs_[0].size(), sums = costs_[1].size();
  const auto events = static_cast<double>(report_.events) + none_events_, limit = static_cast<double>(report_.break_even) + none_events_;
  trying_ = images_ % kAgain < kAsked && std::min(products, sums) < kTries && events < kClose * limit && limit < kClose * events;
  return !trying_ ? way : sums <= products ? Way::kEvents : Way::kDense;
}

// What this image took, of events for each one.
void Layer::note(Way way, double us) {
  costs_[way == Way::kEvents].push_back(way == Way::kEvents ? us / std::max(static_cast<double>(report_.events) + none_events_, 1.0) : us);
  if (std::min(costs_[0].size(), costs_[1].size()) < kTries) return;
  dense_us_ = median(costs_[0]);
  event_us_ = median(costs_[1]);
  set_break_even();
}

// On one thread; none where it is not worth a thought.
double Layer::expected_us(Way way) const {
  return way == Way::kDense ? dense_us_ : way == Way::kEvents ? event_us_ * (static_cast<double>(report_.events) + none_events_) : 0;
}

}  // namespace edgekit::spike
