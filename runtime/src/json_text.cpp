// JSON from strangers: measured before anything is built from it.
#include <unordered_set>

#include "json.hpp"
#include "limits.hpp"

namespace edgekit {

namespace {

// Walks the text without building values. What is deep, long, or has a name twice (which a parsed object would hide) is refused here:
// copying and printing values goes down by calls, as deep as they nest.
class Measure : public nlohmann::json_sax<Json> {
 public:
  std::string wrong = "it is not JSON";

  bool null() override { return one(); }
  bool boolean(bool) override { return one(); }
  bool number_integer(number_integer_t) override { return one(); }
  bool number_unsigned(number_unsigned_t) override { return one(); }
  bool number_float(number_float_t, const string_t&) override { return one(); }
  bool string(string_t& said) override { return one() && plain(said); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }
  bool key(string_t& name) override {
    if (!one() || !plain(name)) return false;
    if (name.size() > limits::kNameBytes) return refused("it has a name of " + std::to_string(name.size()) + " bytes, above " + std::to_string(limits::kNameBytes));
    return names_.back().insert(name).second || refused("it has a name twice: '" + name + "'");
  }

 private:
  bool refused(std::string why) {
    wrong = std::move(why);
    return false;
  }
  bool one() { return ++values_ <= limits::kJsonValues || refused("it has more than " + std::to_string(limits::kJsonValues) + " values"); }
  // A NUL ends names for the system and for engines: "a\0b" would open "a".
  bool plain(const std::string& said) { return said.find('\0') == std::string::npos || refused("it has a text with a NUL in it"); }
  bool open() {
    names_.emplace_back();
    return one() && (names_.size() <= limits::kJsonDepth || refused("it nests more than " + std::to_string(limits::kJsonDepth) + " deep"));
  }
  bool close() {
    names_.pop_back();
    return true;
  }

  std::size_t values_ = 0;
  std::vector<std::unordered_set<std::string>> names_;  // of each open object or array
};

}  // namespace

Json parse_json(std::string_view text) {
  Measure measure;
  if (!Json::sax_parse(text.begin(), text.end(), &measure)) throw Status(measure.wrong);
  return Json::parse(text.begin(), text.end());
}

}  // namespace edgekit
