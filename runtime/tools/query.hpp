// What is timed: one run on the golden inputs, of a stream the push of one chunk.
#pragma once

#include <random>
#include <vector>

#include "arguments.hpp"

namespace edgekit {

class Query {
 public:
  // one_sample: only the first of the golden inputs, where the batch is free.
  static Result<Query> open(const Bundle& bundle, const Options& options, bool one_sample);

  // Where the time depends on the input, the next of the golden samples is laid ready, in an order that no processor learns; it is not timed.
  void next();
  // How many there are.
  std::size_t different_inputs() const { return turns_.empty() ? 1 : turns_.size(); }
  Status ask() { return streams_ ? session_.push(inputs_) : session_.run(inputs_); }
  const Session& session() const { return session_; }
  double load_ms() const { return load_ms_; }

 private:
  Session session_;
  void take_turns(const Bundle& bundle, const Inputs& whole);

  Tensors memory_, piece_;
  std::vector<Tensors> turns_;
  std::minstd_rand random_;
  Inputs inputs_;
  bool streams_ = false;
  double load_ms_ = 0;
};

}  // namespace edgekit
