// Does a program fit its signature, the bundle's graphs and its tensors? Throws Status.
#pragma once

#include <string>

#include "bundle_data.hpp"

namespace edgekit {

// `who` stands before the sentence: which of the bundle's programs it is.
void check_program(const BundleData& bundle, const TaskData& program, const std::string& who);

}  // namespace edgekit
