// Chunks are counted from the golden inputs, samples from the golden answers; docs/bundle-format.md, section 4.
#include "agreement.hpp"

#include <algorithm>
#include <cstring>

namespace edgekit {

namespace {

std::int64_t chunks_of(const Stream& stream, const Views& inputs) {
  std::int64_t least = -1;
  for (const auto& [name, feed] : stream.feeds) {
    const auto fed = inputs.find(name);
    const auto axis = static_cast<std::size_t>(feed.axis);
    if (fed == inputs.end() || axis >= fed->second.shape.size()) return 0;
    const std::int64_t length = fed->second.shape[axis], hop = std::max<std::int64_t>(1, feed.hop);
    const std::int64_t count = stream.pad ? (length + hop - 1) / hop : length / hop;
    least = least < 0 ? count : std::min(least, count);
  }
  return std::max<std::int64_t>(0, least);
}

std::int64_t inner_of(const Shape& shape, int axis) {
  std::int64_t count = 1;
  for (std::size_t i = static_cast<std::size_t>(axis) + 1; i < shape.size(); ++i) count *= shape[i];
  return std::max<std::int64_t>(1, count);
}

// Samples along axis 0 of the outputs that may differ; 1 where they do not agree on how many: then all is one sample.
std::int64_t samples_of(const BundleData& bundle, const Views& expected) {
  std::int64_t found = -1;
  for (const auto& [name, least] : bundle.same_share) {
    (void)least;
    const auto want = expected.find(name);
    const std::int64_t here = want == expected.end() || want->second.shape.empty() ? 1 : want->second.shape[0];
    if (found >= 0 && here != found) return 1;
    found = here;
  }
  return std::max<std::int64_t>(1, found);
}

// How many elements of an output make a chunk of it, and how often the chunks begin anew: of a program without a stream, once.
struct Cut {
  std::int64_t inner = 1, length = 1, each = 1;

  Cut(const BundleData& bundle, const std::string& name, const Shape& shape, std::int64_t chunks) {
    if (!bundle.program.stream) {
      inner = std::max<std::int64_t>(1, static_cast<std::int64_t>(count_of(shape)) / std::max<std::int64_t>(1, chunks));
      length = chunks;
      return;
    }
    const int axis = bundle.program.stream->joins.at(name).axis;
    inner = inner_of(shape, axis);
    length = std::max<std::int64_t>(1, shape[static_cast<std::size_t>(axis)]);
    each = std::max<std::int64_t>(1, length / std::max<std::int64_t>(1, chunks));
  }
};

}  // namespace

Agreement agreement(const BundleData& bundle, const Views& inputs, const Views& expected, const Tensors& answers) {
  Agreement found;
  if (bundle.same_share.empty()) return found;
  const auto& stream = bundle.program.stream;
  found.chunks = stream ? chunks_of(*stream, inputs) : samples_of(bundle, expected);
  std::int64_t first = found.chunks;
  found.alike.assign(stream ? 0 : static_cast<std::size_t>(found.chunks), true);
  for (const auto& [name, least] : bundle.same_share) {
    (void)least;
    const auto want = expected.find(name);
    const auto got = answers.find(name);
    if (want == expected.end() || got == answers.end() || got->second.shape() != want->second.shape || got->second.dtype() != want->second.dtype) {
      found.shares[name] = 0;
      first = 0;
      found.alike.assign(found.alike.size(), false);
      continue;
    }
    const Cut cut(bundle, name, want->second.shape, found.chunks);
    const std::size_t bytes = size_of(want->second.dtype), count = want->second.count();
    std::size_t same = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const bool equal = std::memcmp(static_cast<const unsigned char*>(want->second.data) + i * bytes,
                                     static_cast<const unsigned char*>(got->second.data()) + i * bytes, bytes) == 0;
      same += equal;
      if (equal) continue;
      const std::int64_t chunk = static_cast<std::int64_t>(i) / cut.inner % cut.length / cut.each;
      first = std::min(first, chunk);
      if (!stream) found.alike[static_cast<std::size_t>(chunk)] = false;
    }
    found.shares[name] = count ? static_cast<double>(same) / static_cast<double>(count) : 1.0;
  }
  found.equal = stream ? first : static_cast<std::int64_t>(std::count(found.alike.begin(), found.alike.end(), true));
  return found;
}

Part::Part(const BundleData& bundle, const Agreement& found, const std::string& output, const Shape& shape) {
  all_ = found.equal == found.chunks;
  if (all_) return;
  if (!bundle.program.stream) {
    if (shape.empty() || shape[0] != found.chunks || found.chunks < 2) return;  // until_ is 0: no part of it
    alike_ = found.alike;
    inner_ = inner_of(shape, 0);
    length_ = found.chunks;
    return;
  }
  const auto& joins = bundle.program.stream->joins;
  const auto join = joins.find(output);
  if (join == joins.end() || join->second.how == Join::How::kLast) return;  // until_ is 0: no part of it
  inner_ = inner_of(shape, join->second.axis);
  length_ = std::max<std::int64_t>(1, shape[static_cast<std::size_t>(join->second.axis)]);
  until_ = length_ / found.chunks * found.equal;
}

}  // namespace edgekit
