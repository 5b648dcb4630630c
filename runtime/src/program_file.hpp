// Read tensors and programs from JSON. Throws Status.
#pragma once

#include "json.hpp"
#include "program.hpp"

namespace edgekit {

std::vector<Port> read_ports(const Json& data, const std::string& at);
Program read_program(const Json& data);

}  // namespace edgekit
