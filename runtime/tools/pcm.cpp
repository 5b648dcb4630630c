// A pipe of samples: no memory is asked for once the first hops have gone through.
#include "pcm.hpp"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "bundle_data.hpp"
#include "sound.hpp"
#include "wav.hpp"

namespace edgekit {

namespace {

constexpr int kLookMs = 200;  // how often a pipe at rest looks whether it was told to end

volatile sig_atomic_t told_to_end = 0;

// The first signal ends the pipe cleanly; a second one does what it always does.
void catch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_end = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int number : {SIGINT, SIGTERM}) ::sigaction(number, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// The one output that sounds, joined sample by sample.
Result<TensorInfo> sounding_output(const Bundle& bundle) {
  std::vector<TensorInfo> found;
  for (const TensorInfo& t : bundle.outputs()) {
    if (t.rate_hz && t.dtype == DType::kFloat32 && joined_in_time(bundle, t)) found.push_back(t);
  }
  if (found.size() == 1) return found[0];
  const std::string count = found.empty() ? "none" : std::to_string(found.size());
  return Status("--pcm writes the one output that is a sampled signal, float32 and joined in time; '" + bundle.name() + "' has " + count);
}

// Fill `bytes` from stdin; fewer come at its end and when the pipe was told to end.
Result<std::size_t> fill(std::vector<unsigned char>* bytes) {
  std::size_t have = 0;
  while (have < bytes->size() && !told_to_end) {
    pollfd ready{STDIN_FILENO, POLLIN, 0};
    const int found = ::poll(&ready, 1, kLookMs);
    if (found == 0 || (found < 0 && errno == EINTR)) continue;
    const ssize_t got = ::read(STDIN_FILENO, bytes->data() + have, bytes->size() - have);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return Status("cannot read sound from stdin: " + std::string(std::strerror(errno)));
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  return have;
}

// False when nobody reads any more.
Result<bool> write_all(const std::vector<unsigned char>& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t sent = ::write(STDOUT_FILENO, bytes.data() + at, bytes.size() - at);
    if (sent < 0 && errno == EPIPE) return false;
    if (sent < 0 && errno != EINTR) return Status("cannot write sound to stdout: " + std::string(std::strerror(errno)));
    if (sent > 0) at += static_cast<std::size_t>(sent);
  }
  return true;
}

void to_samples(const std::vector<unsigned char>& bytes, Tensor* samples) {
  for (std::size_t i = 0; i < samples->count(); ++i) {
    const auto value = static_cast<std::int16_t>(static_cast<std::uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8));
    samples->as<float>()[i] = static_cast<float>(value) / 32768.0f;
  }
}

class Pipe {
 public:
  Pipe(Session* session, TensorInfo input, std::string output, std::int64_t hop)
      : session_(session), input_(std::move(input)), output_(std::move(output)), bytes_(2 * static_cast<std::size_t>(hop)),
        samples_(DType::kFloat32, one_channel(input_, hop)), pushed_{{input_.name, samples_.view()}} {}

  Status run() {
    bool any = false;
    while (true) {
      auto have = fill(&bytes_);
      if (!have) return have.status();
      const bool whole = *have == bytes_.size();
      if (!whole && *have < 2) break;
      if (!whole) {
        samples_.resize(DType::kFloat32, one_channel(input_, static_cast<std::int64_t>(*have / 2)));
        pushed_[input_.name] = samples_.view();
      }
      to_samples(bytes_, &samples_);
      if (Status s = session_->push(pushed_); !s) return s;
      any = true;
      auto read = answer();
      if (!read) return read.status();
      if (!*read) return {};
      if (!whole) break;
    }
    if (!any) return {};  // nothing came, so there is nothing to answer
    if (Status s = session_->close(); !s) return s;
    return answer().status();
  }

 private:
  // Write what the last call gave; false when nobody reads any more.
  Result<bool> answer() {
    const auto found = session_->answers().find(output_);
    if (found == session_->answers().end()) return true;
    const float* values = found->second.as<float>();
    written_.resize(2 * found->second.count());
    for (std::size_t i = 0; i < found->second.count(); ++i) {
      if (!std::isfinite(values[i])) return Status("the answer '" + output_ + "' is not finite, which no sound card can play");
      const auto value = static_cast<std::uint16_t>(pcm_of(values[i]));
      written_[2 * i] = static_cast<unsigned char>(value & 0xFF);
      written_[2 * i + 1] = static_cast<unsigned char>(value >> 8);
    }
    return write_all(written_);
  }

  Session* session_;
  TensorInfo input_;
  std::string output_;
  std::vector<unsigned char> bytes_, written_;
  Tensor samples_;
  Inputs pushed_;
};

}  // namespace

Status pipe_pcm(const Bundle& bundle, Session* session, const Inputs& given, std::uint64_t seed) {
  if (!bundle.streams()) return Status("'" + bundle.name() + "' is no stream, so that it cannot answer while sound comes; give --wav");
  auto input = sampled_input(bundle, "--pcm");
  if (!input) return input.status();
  const auto& feeds = bundle.data()->program.stream->feeds;
  if (feeds.size() != 1) return Status("--pcm feeds one input, but the stream of '" + bundle.name() + "' takes " + std::to_string(feeds.size()));
  auto output = sounding_output(bundle);
  if (!output) return output.status();
  const std::int64_t hop = std::max<std::int64_t>(1, feeds.begin()->second.hop);
  catch_signals();
  if (Status s = session->begin(given, seed); !s) return s;
  const double late_ms = 1000.0 * static_cast<double>(hop) / static_cast<double>(input->rate_hz) +
                         1000.0 * static_cast<double>(output->delay) / static_cast<double>(output->rate_hz);
  std::fprintf(stderr, "sound: %lld Hz in, %lld Hz out, %.1f ms late by the algorithm (a hop of %lld samples, a delay of %lld)\n",
               static_cast<long long>(input->rate_hz), static_cast<long long>(output->rate_hz), late_ms, static_cast<long long>(hop),
               static_cast<long long>(output->delay));
  return Pipe(session, *input, output->name, hop).run();
}

}  // namespace edgekit
