// Strict reading of JSON values: every field present, none unknown, each of its type. Throws Status; bundle.cpp catches it.
#pragma once

#include <cfloat>
#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "edgekit/edgekit.hpp"
#include "limits.hpp"

namespace edgekit {

using Json = nlohmann::json;

// The value of a text within limits.hpp, no name twice in an object. Throws a Status that begins with "it".
Json parse_json(std::string_view text);

[[noreturn]] inline void refuse(const std::string& at, const std::string& wanted) { throw Status(at + " must be " + wanted); }

// Every one of `names` is there, some of `may_be` are, and nothing else.
inline const Json& object(const Json& data, std::initializer_list<const char*> names, std::initializer_list<const char*> may_be,
                          const std::string& at) {
  std::string wanted;
  for (const char* name : names) wanted += (wanted.empty() ? "" : ", ") + std::string(name);
  std::size_t count = names.size();
  for (const char* name : may_be) count += data.is_object() && data.contains(name);
  if (!data.is_object() || data.size() != count) refuse(at, "an object of " + wanted);
  for (const char* name : names) {
    if (!data.contains(name)) refuse(at, "an object of " + wanted);
  }
  return data;
}

inline const Json& object(const Json& data, std::initializer_list<const char*> names, const std::string& at) {
  return object(data, names, {}, at);
}

inline std::string text(const Json& data, const std::string& at, bool may_be_empty = false) {
  if (!data.is_string() || (!may_be_empty && data.get_ref<const std::string&>().empty())) refuse(at, "a name");
  const auto& said = data.get_ref<const std::string&>();
  if (!may_be_empty && said.size() > limits::kNameBytes) refuse(at, "a name of at most " + std::to_string(limits::kNameBytes) + " bytes");
  return said;
}

inline std::uint64_t whole(const Json& data, std::uint64_t low, std::uint64_t high, const std::string& at) {
  const bool fits = data.is_number_unsigned() && data.get<std::uint64_t>() >= low && data.get<std::uint64_t>() <= high;
  if (!fits) refuse(at, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return data.get<std::uint64_t>();
}

inline std::int64_t signed_whole(const Json& data, std::int64_t low, std::int64_t high, const std::string& at) {
  const bool small = data.is_number_integer() && (!data.is_number_unsigned() || data.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
  if (!small || data.get<std::int64_t>() < low || data.get<std::int64_t>() > high) {
    refuse(at, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return data.get<std::int64_t>();
}

inline double number(const Json& data, const std::string& at) {
  if (!data.is_number()) refuse(at, "a number");
  return data.get<double>();
}

// The nearest float32; a float64 beyond its range has none.
inline float number32(const Json& data, const std::string& at) {
  const double found = number(data, at);
  if (!(std::fabs(found) <= static_cast<double>(FLT_MAX))) refuse(at, "a number that float32 holds");
  return static_cast<float>(found);
}

inline const Json& array(const Json& data, const std::string& at, std::size_t most = limits::kJsonValues) {
  if (!data.is_array()) refuse(at, "an array");
  if (data.size() > most) refuse(at, "an array of at most " + std::to_string(most));
  return data;
}

inline const Json& names(const Json& data, const std::string& at, std::size_t most = limits::kJsonValues) {
  if (!data.is_object()) refuse(at, "an object");
  if (data.size() > most) refuse(at, "an object of at most " + std::to_string(most) + " names");
  return data;
}

}  // namespace edgekit
