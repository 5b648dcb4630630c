// Golden inputs as one query.
#include "query.hpp"

#include "bundle_data.hpp"
#include "golden.hpp"
#include "samples.hpp"

namespace edgekit {

Result<Query> Query::open(const Bundle& bundle, const Options& options, bool one_sample) {
  Query made;
  auto inputs = golden_inputs(bundle, &made.memory_);
  if (!inputs) return inputs.status();
  made.inputs_ = *inputs;
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
  if (!made.streams_) return made;
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

}  // namespace edgekit
