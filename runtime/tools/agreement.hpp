// How far answers agree with golden ones where whole numbers may differ: their share, and all else up to the first chunk that differs,
// or, without a stream, in the samples that do not.
#pragma once

#include <map>
#include <string>

#include "bundle_data.hpp"

namespace edgekit {

using Views = std::map<std::string, TensorView>;

// Of one golden. A chunk is equal when all whole numbers in it are; `equal` counts the chunks before the first that is not. Without a
// stream the samples along axis 0 are the chunks, and since none follows from another, `equal` counts all that are equal.
struct Agreement {
  std::map<std::string, double> shares;  // output that may differ -> share of its places that are equal
  std::int64_t chunks = 0, equal = 0;
  std::vector<bool> alike;  // of a program without a stream: which samples are equal
};

// Of a bundle without allowed.same_share: nothing.
Agreement agreement(const BundleData& bundle, const Views& inputs, const Views& expected, const Tensors& answers);

// The elements of an output before the first chunk that differs, or of the samples that do not.
class Part {
 public:
  Part(const BundleData& bundle, const Agreement& found, const std::string& output, const Shape& shape);
  bool holds(std::size_t i) const {
    if (all_) return true;
    const std::int64_t place = static_cast<std::int64_t>(i) / inner_ % length_;
    return alike_.empty() ? place < until_ : alike_[static_cast<std::size_t>(place)];
  }

 private:
  bool all_ = true;
  std::vector<bool> alike_;
  std::int64_t inner_ = 1, length_ = 1, until_ = 0;
};

}  // namespace edgekit
