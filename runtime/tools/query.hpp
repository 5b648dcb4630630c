// What is timed: one run on the golden inputs, of a stream the push of one chunk.
#pragma once

#include "arguments.hpp"

namespace edgekit {

class Query {
 public:
  // one_sample: only the first of the golden inputs, where the batch is free.
  static Result<Query> open(const Bundle& bundle, const Options& options, bool one_sample);

  Status ask() { return streams_ ? session_.push(inputs_) : session_.run(inputs_); }
  const Session& session() const { return session_; }
  double load_ms() const { return load_ms_; }

 private:
  Session session_;
  Tensors memory_, piece_;
  Inputs inputs_;
  bool streams_ = false;
  double load_ms_ = 0;
};

}  // namespace edgekit
