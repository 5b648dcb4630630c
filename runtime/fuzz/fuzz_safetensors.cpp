// Tables, golden answers, inputs: what is taken is written again and read as the same.
#include "safetensors.hpp"
#include "target.hpp"

#include <cstring>

using namespace edgekit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Facts facts, again_facts;
  auto tensors = parse_safetensors(fuzz::text(data, size), "f", &facts);
  if (!tensors) {
    fuzz::refused(tensors.status());
    return 0;
  }
  std::map<std::string, TensorView> views;
  std::size_t total = 0;
  for (const auto& [name, tensor] : *tensors) {
    views[name] = tensor.view();
    total += tensor.bytes();
  }
  EXPECT(total + 8 <= size);
  auto again = parse_safetensors(safetensors_bytes(views, facts), "g", &again_facts);
  EXPECT(again && again->size() == tensors->size() && again_facts == facts);
  for (const auto& [name, tensor] : *tensors) {
    const Tensor& other = again->at(name);
    EXPECT(other.shape() == tensor.shape() && other.dtype() == tensor.dtype());
    EXPECT(tensor.bytes() == 0 || std::memcmp(other.data(), tensor.data(), tensor.bytes()) == 0);
  }
  return 0;
}
