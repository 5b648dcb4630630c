// Whole inputs through a session in pieces, and the comparison with golden answers.
#pragma once

#include <string>
#include <vector>

#include "arguments.hpp"

namespace edgekit {

Inputs views(const Tensors& tensors);

// Run whole inputs, of a stream in pieces of these sizes (again and again; empty: in one); the answers, joined.
Result<Tensors> run_pieces(const Bundle& bundle, Session* session, const Inputs& inputs, const std::vector<std::int64_t>& sizes, std::uint64_t seed);

// The inputs of a stream between two places along its axis.
Tensors cut(const Bundle& bundle, const Inputs& inputs, std::int64_t from, std::int64_t to);
std::int64_t stream_length(const Bundle& bundle, const Inputs& inputs);

// Prints JSON; 0 all equal, 1 not. Throws nothing; a Status that cannot run.
Result<int> check_golden(const Bundle& bundle, const Arguments& arguments);
Result<Inputs> golden_inputs(const Bundle& bundle, Tensors* memory);

}  // namespace edgekit
