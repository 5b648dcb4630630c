// Sound at the ends of a program: which input it is, and answers cut to be in time with it.
#pragma once

#include "run_files.hpp"

namespace edgekit {

// A sound file as an input, in its shape; refused at another rate than its own.
Result<Tensor> read_sound(const TensorInfo& input, const std::string& path);

// The one input that is a sampled signal (of a stream: that is fed). padded: with zeros behind it, by the largest delay of the
// outputs that sound at its rate, and up to a whole hop. Says in `given` which input it is and how long the sound is.
Result<Tensor> hear(const Bundle& bundle, const std::string& path, bool padded, Given* given);

// Outputs that sound at the rate of what was heard lose their delay: as long as it was, sample k to sample k.
void in_time(const Bundle& bundle, const Given& given, Tensors* answers);

// Run the only preparation on a sound and write the voice; says where.
Status make_voice(const Bundle& bundle, const Arguments& arguments);

// The one input that is a sampled signal, float32 of one channel; of a stream, of those that are fed.
Result<TensorInfo> sampled_input(const Bundle& bundle, const std::string& option);
// Is it joined by concat along its last axis, so that its delay counts samples?
bool joined_in_time(const Bundle& bundle, const TensorInfo& output);
Shape one_channel(const TensorInfo& info, std::int64_t samples);  // [1, ..., samples]

}  // namespace edgekit
