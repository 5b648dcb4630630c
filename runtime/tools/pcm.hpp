// Sound from stdin to stdout while it comes.
#pragma once

#include "edgekit/edgekit.hpp"

namespace edgekit {

// Raw signed 16-bit little-endian mono, at the rates of the input that is fed and of the output that sounds. A hop is pushed as
// soon as it is there, and what it gives is written at once. Ends with the input, at SIGINT or SIGTERM (the tail is answered
// then), or when nobody reads any more. given: the inputs that are not fed.
Status pipe_pcm(const Bundle& bundle, Session* session, const Inputs& given, std::uint64_t seed);

}  // namespace edgekit
