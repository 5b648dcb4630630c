// Changes JSON as a value, not as bytes: a manifest whose braces match reaches what lies behind the parser. Every other change is one of bytes.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "json.hpp"
#include "target.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace edgekit::fuzz {

// Every value within `data`, itself first.
inline void all_of(Json* data, std::vector<Json*>* found) {
  found->push_back(data);
  if (!data->is_structured()) return;
  for (Json& inner : *data) all_of(&inner, found);
}

inline Json odd_value(std::mt19937* random, const std::vector<Json*>& all) {
  static const char* const kTexts[] = {"", "x", "batch", "normal", "stream", "once", "steps", "last", "stack", "concat", "int64", "uint8", "../x", "\x1b[2J"};
  static const double kFloats[] = {0.5, -1e300, 1e308, 1e-320, -0.0};
  switch ((*random)() % 8) {
    case 0: return static_cast<std::int64_t>((*random)() % 18) - 9;
    case 1: return std::uint64_t{1} << (*random)() % 64;
    case 2: return (std::uint64_t{1} << (*random)() % 64) - 1;
    case 3: return kTexts[(*random)() % (sizeof kTexts / sizeof *kTexts)];
    case 4: return kFloats[(*random)() % (sizeof kFloats / sizeof *kFloats)];
    case 5: return (*random)() & 1 ? Json(nullptr) : Json(true);
    case 6: return (*random)() & 1 ? Json::array() : Json::object();
    default: return *all[(*random)() % all.size()];  // from another place of the same text
  }
}

inline void change(Json* data, std::mt19937* random) {
  std::vector<Json*> all;
  all_of(data, &all);
  Json& at = *all[(*random)() % all.size()];
  const std::uint32_t way = (*random)() % 4;
  if (at.is_array() && !at.empty() && way) {
    const std::size_t i = (*random)() % at.size();
    if (way == 1) {
      at.erase(at.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      const Json copy = at[i];
      at.push_back(copy);
    }
  } else if (at.is_object() && !at.empty() && way) {
    auto one = at.begin();
    std::advance(one, static_cast<std::ptrdiff_t>((*random)() % at.size()));
    if (way == 1) {
      at.erase(one);
    } else {  // its value under another name of the text
      const Json copy = one.value();
      const Json* other = all[(*random)() % all.size()];
      at[other->is_string() ? other->get<std::string>() : other->is_object() && !other->empty() ? other->begin().key() : "x"] = copy;
    }
  } else {
    const Json fresh = odd_value(random, all);
    at = fresh;
  }
}

inline std::size_t mutate_json(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  std::mt19937 random(seed);
  if (random() & 1) return LLVMFuzzerMutate(data, size, most);
  Json made = Json::parse(data, data + size, nullptr, false);
  if (!made.is_discarded()) {
    for (std::uint32_t k = 1 + random() % 3; k-- > 0;) change(&made, &random);
    const std::string bytes = made.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (bytes.size() <= most) {
      std::memcpy(data, bytes.data(), bytes.size());
      return bytes.size();
    }
  }
  return LLVMFuzzerMutate(data, size, most);
}

}  // namespace edgekit::fuzz

#define EDGEKIT_MUTATES_JSON                                                                                                          \
  extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned int seed) {         \
    return edgekit::fuzz::mutate_json(data, size, most, seed);                                                                        \
  }
