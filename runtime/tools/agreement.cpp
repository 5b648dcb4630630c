// Chunks are counted from the golden inputs; docs/bundle-format.md, section 4.
#include "agreement.hpp"

#include <algorithm>
#include <cstring>

namespace edgekit {

namespace {

std::int64_t chunks_of(const Stream& stream, const Views& inputs) {
  std::int64_t least = -1;
  for (const auto& [name, feed] : stream.feeds) {
    const std::int64_t length = inputs.at(name).shape[static_cast<std::size_t>(feed.axis)], hop = std::max<std::int64_t>(1, feed.hop);
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

}  // namespace

Agreement agreement(const BundleData& bundle, const Views& inputs, const Views& expected, const Tensors& answers) {
  Agreement found;
  if (bundle.same_share.empty()) return found;
  const Stream& stream = *bundle.program.stream;
  found.chunks = found.equal = chunks_of(stream, inputs);
  for (const auto& [name, least] : bundle.same_share) {
    (void)least;
    const auto want = expected.find(name);
    const auto got = answers.find(name);
    if (want == expected.end() || got == answers.end() || got->second.shape() != want->second.shape || got->second.dtype() != want->second.dtype) {
      found.shares[name] = 0;
      found.equal = 0;
      continue;
    }
    const Shape& shape = want->second.shape;
    const int axis = stream.joins.at(name).axis;
    const std::int64_t inner = inner_of(shape, axis), length = std::max<std::int64_t>(1, shape[static_cast<std::size_t>(axis)]);
    const std::int64_t each = std::max<std::int64_t>(1, length / std::max<std::int64_t>(1, found.chunks));
    const std::size_t bytes = size_of(want->second.dtype), count = want->second.count();
    std::size_t same = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const bool equal = std::memcmp(static_cast<const unsigned char*>(want->second.data) + i * bytes,
                                     static_cast<const unsigned char*>(got->second.data()) + i * bytes, bytes) == 0;
      same += equal;
      if (!equal) found.equal = std::min(found.equal, static_cast<std::int64_t>(i) / inner % length / each);
    }
    found.shares[name] = count ? static_cast<double>(same) / static_cast<double>(count) : 1.0;
  }
  return found;
}

Part::Part(const BundleData& bundle, const Agreement& found, const std::string& output, const Shape& shape) {
  all_ = found.equal == found.chunks;
  if (all_) return;
  const auto& joins = bundle.program.stream->joins;
  const auto join = joins.find(output);
  if (join == joins.end() || join->second.how == Join::How::kLast) return;  // until_ is 0: no part of it
  inner_ = inner_of(shape, join->second.axis);
  length_ = std::max<std::int64_t>(1, shape[static_cast<std::size_t>(join->second.axis)]);
  until_ = length_ / found.chunks * found.equal;
}

}  // namespace edgekit
