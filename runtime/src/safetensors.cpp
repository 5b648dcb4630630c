// safetensors: read with every header check of docs/bundle-format.md, section 5; written whole.
#include "safetensors.hpp"

#include <algorithm>
#include <cstring>

#include "files.hpp"
#include "json.hpp"

namespace edgekit {

namespace {

constexpr std::uint64_t kMostHeader = 100'000'000;  // bytes, the limit of the format's own library
constexpr std::pair<const char*, DType> kNames[] = {{"BOOL", DType::kBool}, {"U8", DType::kUint8},    {"I8", DType::kInt8},
                                                    {"I32", DType::kInt32}, {"I64", DType::kInt64},   {"F16", DType::kFloat16},
                                                    {"F32", DType::kFloat32}, {"F64", DType::kFloat64}};

struct Span {
  std::uint64_t begin, end;
};

// Notices a name that comes twice, which a parsed object would hide.
class Unique : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_ < 8; }
  bool end_object() override { return --depth_ >= 0; }
  bool start_array(std::size_t) override { return ++depth_ < 8; }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    if (std::find(seen_.begin(), seen_.end(), name) != seen_.end()) return false;
    seen_.push_back(name);
    return true;
  }

 private:
  int depth_ = 0;
  std::vector<std::string> seen_;
};

Tensor tensor(const Json& entry, const std::string& at, const char* data, std::uint64_t size, Span* span) {
  object(entry, {"dtype", "shape", "data_offsets"}, at);
  const std::string name = text(entry["dtype"], at);
  const auto* kind = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& k) { return name == k.first; });
  if (kind == std::end(kNames)) refuse(at, "of a dtype of the bundle format, found " + name);
  Shape shape;
  std::uint64_t bytes = size_of(kind->second);
  for (const Json& n : array(entry["shape"], at)) {
    const std::uint64_t dim = whole(n, 0, std::uint64_t{1} << 40, at);
    if (dim && bytes > size / dim) throw Status(at + " is larger than its file");
    bytes *= dim;
    shape.push_back(static_cast<std::int64_t>(dim));
  }
  const Json& offsets = array(entry["data_offsets"], at);
  if (offsets.size() != 2) refuse(at, "given by two offsets");
  *span = {whole(offsets[0], 0, size, at), whole(offsets[1], 0, size, at)};
  if (span->end < span->begin || span->end - span->begin != bytes) {
    throw Status(at + " has " + std::to_string(bytes) + " bytes by its shape, its offsets say otherwise");
  }
  Tensor made(kind->second, shape);
  if (bytes) std::memcpy(made.data(), data + span->begin, bytes);
  return made;
}

}  // namespace

Result<Tensors> parse_safetensors(const std::string& bytes, const std::string& where, Facts* facts) {
  if (bytes.size() < 8) return Status(where + ": not a safetensors file, it has " + std::to_string(bytes.size()) + " bytes");
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  if (header > kMostHeader || header > bytes.size() - 8) return Status(where + ": not a safetensors file, its header is longer than the file");
  const auto begin = bytes.begin() + 8;
  const auto end = begin + static_cast<std::ptrdiff_t>(header);
  Unique unique;
  if (!Json::sax_parse(begin, end, &unique)) return Status(where + ": the safetensors header is no JSON, or has a name twice");
  const Json data = Json::parse(begin, end, nullptr, false);
  if (data.is_discarded() || !data.is_object()) return Status(where + ": the safetensors header is no JSON object");
  const std::uint64_t size = bytes.size() - 8 - header;
  Tensors tensors;
  std::vector<Span> spans;
  try {
    for (const auto& [name, entry] : data.items()) {
      if (name == "__metadata__") {
        for (const auto& [key, value] : names(entry, "the metadata").items()) {
          const std::string said = text(value, "the metadata '" + key + "'", true);
          if (facts) (*facts)[key] = said;
        }
        continue;
      }
      Span span{};
      tensors.emplace(name, tensor(entry, "'" + name + "'", bytes.data() + 8 + header, size, &span));
      spans.push_back(span);
    }
  } catch (const Status& status) {
    return Status(where + ": " + status.text());
  } catch (const std::exception& error) {
    return Status(where + ": " + error.what());
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::uint64_t at = 0;
  for (const Span& span : spans) {
    if (span.begin != at) return Status(where + ": its tensors overlap or leave a hole");
    at = span.end;
  }
  if (at != size) return Status(where + ": its data ends at " + std::to_string(at) + " of " + std::to_string(size) + " bytes");
  return tensors;
}

Result<Tensors> read_safetensors(const std::string& path, Facts* facts) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  return parse_safetensors(*bytes, path, facts);
}

Status write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors, const Facts& facts) {
  Json header = Json::object();
  if (!facts.empty()) header["__metadata__"] = facts;
  std::uint64_t at = 0;
  // Largest values first, as the format asks, so that every tensor is aligned.
  std::vector<std::pair<std::string, TensorView>> order(tensors.begin(), tensors.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return size_of(a.second.dtype) > size_of(b.second.dtype); });
  for (const auto& [name, view] : order) {
    const auto* kind = std::find_if(std::begin(kNames), std::end(kNames), [&v = view](const auto& k) { return v.dtype == k.second; });
    header[name] = {{"dtype", kind->first}, {"shape", view.shape}, {"data_offsets", {at, at + view.bytes()}}};
    at += view.bytes();
  }
  std::string head = header.dump();
  head.resize((head.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(std::uint64_t{head.size()} >> (8 * i)));
  bytes += head;
  for (const auto& [name, view] : order) {
    (void)name;
    bytes.append(static_cast<const char*>(view.data), view.bytes());
  }
  return write_file(path, bytes);
}

}  // namespace edgekit
