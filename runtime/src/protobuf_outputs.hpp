// Make inner tensors of an ONNX model outputs, without a protobuf library.
#pragma once

#include <string>
#include <vector>

namespace edgekit {

// Bytes to append to a serialized ModelProto. A parser merges a message field that comes twice and appends repeated
// ones, so `graph` (field 7) with only `output` (field 12) of `name` (field 1) adds outputs; types are inferred.
inline std::string onnx_outputs(const std::vector<std::string>& names) {
  const auto field = [](int number, const std::string& bytes) {
    std::string made(1, static_cast<char>(number << 3 | 2));  // length-delimited
    for (std::size_t size = bytes.size(); ; size >>= 7) {
      const char low = static_cast<char>(size & 0x7F);
      if (size < 0x80) {
        made.push_back(low);
        break;
      }
      made.push_back(static_cast<char>(low | 0x80));
    }
    return made + bytes;
  };
  std::string outputs;
  for (const std::string& name : names) outputs += field(12, field(1, name));
  return field(7, outputs);
}

}  // namespace edgekit
