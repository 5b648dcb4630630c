// Files around one run: inputs by name, a voice, a sound; answers as safetensors, arrays, sounds or pictures.
#pragma once

#include "arguments.hpp"

namespace edgekit {

struct Given {
  Tensors tensors;           // all inputs
  std::string heard;         // the input that --wav gave, with as many zeros behind the sound as answers come late; or empty
  std::int64_t samples = 0;  // of the sound itself
};

// Of --pcm, all inputs but the one that is fed.
Result<Given> read_inputs(const Bundle& bundle, const Arguments& arguments);
Status write_outputs(const Bundle& bundle, const Arguments& arguments, const Tensors& answers);

}  // namespace edgekit
