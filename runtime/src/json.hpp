// Strict reading of JSON values: every field present, none unknown, each of its type. Throws Status; bundle.cpp catches it.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

#include "edgekit/edgekit.hpp"

namespace edgekit {

using Json = nlohmann::json;

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
  return data.get<std::string>();
}

inline std::uint64_t whole(const Json& data, std::uint64_t low, std::uint64_t high, const std::string& at) {
  const bool fits = data.is_number_unsigned() && data.get<std::uint64_t>() >= low && data.get<std::uint64_t>() <= high;
  if (!fits) refuse(at, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return data.get<std::uint64_t>();
}

inline double number(const Json& data, const std::string& at) {
  if (!data.is_number()) refuse(at, "a number");
  return data.get<double>();
}

inline const Json& array(const Json& data, const std::string& at) {
  if (!data.is_array()) refuse(at, "an array");
  return data;
}

inline const Json& names(const Json& data, const std::string& at) {
  if (!data.is_object()) refuse(at, "an object");
  return data;
}

}  // namespace edgekit
