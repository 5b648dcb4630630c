// Where libonnxruntime lies: an option, EDGEKIT_ORT_LIBRARY, the system's own, or a Python package.
#pragma once

#include <string>

#include "edgekit/edgekit.hpp"

namespace edgekit {

// A file that dlopen can take. `given` is a file or a folder; when it is given, nothing else is tried.
Result<std::string> find_onnxruntime(const std::string& given);

}  // namespace edgekit
