// Golden inputs as one query.
#include "query.hpp"

#include <algorithm>
#include <cstring>

#include "bundle_data.hpp"
#include "golden.hpp"
#include "samples.hpp"

namespace edgekit {

Result<Query> Query::open(const Bundle& bundle, const Options& options, bool one_sample) {
  Query made;
  auto inputs = golden_inputs(bundle, &made.memory_);
  if (!inputs) return inputs.status();
  made.inputs_ = *inputs;
  const Inputs whole = made.inputs_;
  for (const TensorInfo& info : one_sample ? bundle.inputs() : std::vector<TensorInfo>()) {
    const auto found = made.inputs_.find(info.name);
    if (info.names.empty() || info.names[0] != "batch" || found == made.inputs_.end()) continue;
    TensorView& view = found->second;
    if (view.shape.empty() || view.shape[0] < 1) return Status("the golden input '" + info.name + "' holds no sample to time");
    view.shape[0] = 1;  // row-major: the first sample is the beginning of the memory
  }
  const std::int64_t start = now_ns();
  auto session = Session::open(bundle, options);
  if (!session) return session.status();
  made.load_ms_ = static_cast<double>(now_ns() - start) / 1e6;
  made.session_ = std::move(*session);
  made.streams_ = bundle.streams();
  if (!made.streams_) {
    // What the spike engine does depends on how much spikes.
    if (one_sample && made.session_.engine().rfind("spike", 0) == 0) made.take_turns(bundle, whole);
    return made;
  }
  std::int64_t hop = 1;
  Inputs given;
  const auto& feeds = bundle.data()->program.stream->feeds;
  for (const auto& [name, feed] : feeds) {
    (void)name;
    hop = std::max(hop, feed.hop);
  }
  for (const auto& [name, value] : made.inputs_) {
    if (!feeds.count(name)) given[name] = value;
  }
  if (Status s = made.session_.begin(given); !s) return s;
  made.piece_ = cut(bundle, made.inputs_, 0, hop);
  made.inputs_ = views(made.piece_);
  return made;
}

void Query::take_turns(const Bundle& bundle, const Inputs& whole) {
  std::size_t samples = 0;
  std::vector<std::string> batched;
  for (const TensorInfo& info : bundle.inputs()) {
    const auto found = whole.find(info.name);
    if (info.names.empty() || info.names[0] != "batch" || found == whole.end()) continue;
    const auto rows = static_cast<std::size_t>(found->second.shape[0]);
    samples = batched.empty() ? rows : std::min(samples, rows);
    batched.push_back(info.name);
  }
  if (samples < 2) return;
  turns_.resize(samples);
  for (std::size_t i = 0; i < samples; ++i) {
    for (const std::string& name : batched) {
      TensorView row = inputs_.at(name);
      row.data = static_cast<const unsigned char*>(row.data) + i * row.bytes();
      turns_[i][name].assign(row);
    }
  }
  piece_ = turns_.front();
  for (const std::string& name : batched) inputs_[name] = piece_.at(name).view();
}

void Query::next() {
  if (turns_.empty()) return;
  const Tensors& turn = turns_[random_() % turns_.size()];
  for (auto& [name, to] : piece_) std::memcpy(to.data(), turn.at(name).data(), to.bytes());
}

}  // namespace edgekit
