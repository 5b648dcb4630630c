// safetensors: read with every header check of docs/bundle-format.md, section 5; written whole.
#include "safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "files.hpp"
#include "json.hpp"
#include "limits.hpp"

namespace edgekit {

namespace {

constexpr std::pair<const char*, DType> kNames[] = {{"BOOL", DType::kBool}, {"U8", DType::kUint8},    {"I8", DType::kInt8},
                                                    {"I32", DType::kInt32}, {"I64", DType::kInt64},   {"F16", DType::kFloat16},
                                                    {"F32", DType::kFloat32}, {"F64", DType::kFloat64}};

// A tensor as the header describes it.
struct Placed {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin, end;
};

Placed placed(const std::string& name, const Json& entry, std::uint64_t size) {
  const std::string at = "'" + name + "'";
  object(entry, {"dtype", "shape", "data_offsets"}, at);
  const std::string kind_name = text(entry["dtype"], at);
  const auto* kind = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& k) { return kind_name == k.first; });
  if (kind == std::end(kNames)) refuse(at, "of a dtype of the bundle format, found " + kind_name);
  Placed made{name, kind->second, {}, 0, 0};
  for (const Json& n : array(entry["shape"], at, limits::kAxes)) {
    made.shape.push_back(static_cast<std::int64_t>(whole(n, 0, static_cast<std::uint64_t>(limits::kDimension), at)));
  }
  const auto bytes = limits::bytes_of(made.shape, size_of(made.dtype));
  if (!bytes || *bytes > size) throw Status(at + " is larger than its file");
  const Json& offsets = array(entry["data_offsets"], at);
  if (offsets.size() != 2) refuse(at, "given by two offsets");
  made.begin = whole(offsets[0], 0, size, at);
  made.end = whole(offsets[1], 0, size, at);
  if (made.end < made.begin || made.end - made.begin != *bytes) {
    throw Status(at + " has " + std::to_string(*bytes) + " bytes by its shape, its offsets say otherwise");
  }
  return made;
}

void read_facts(const Json& entry, Facts* facts) {
  for (const auto& [key, value] : names(entry, "the metadata").items()) {
    const std::string said = text(value, "the metadata '" + key + "'", true);
    if (facts) (*facts)[key] = said;
  }
}

// All that the header says, compared with the size of the data before anything is made of it: tensors that overlap would together
// take more memory than the file has bytes.
std::vector<Placed> read_header(const Json& data, std::uint64_t size, Facts* facts) {
  std::vector<Placed> found;
  if (!data.is_object() || data.size() > limits::kTensors) {
    throw Status("the safetensors header is no JSON object of at most " + std::to_string(limits::kTensors) + " tensors");
  }
  for (const auto& [name, entry] : data.items()) {
    if (name == "__metadata__") {
      read_facts(entry, facts);
    } else {
      found.push_back(placed(name, entry, size));
    }
  }
  std::sort(found.begin(), found.end(), [](const Placed& a, const Placed& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::uint64_t at = 0;
  for (const Placed& one : found) {
    if (one.begin != at) throw Status("its tensors overlap or leave a hole");
    at = one.end;
  }
  if (at != size) throw Status("its data ends at " + std::to_string(at) + " of " + std::to_string(size) + " bytes");
  return found;
}

Tensors parse(std::string_view bytes, Facts* facts) {
  if (bytes.size() < 8) throw Status("not a safetensors file, it has " + std::to_string(bytes.size()) + " bytes");
  std::uint64_t header = 0;
  for (std::size_t i = 8; i-- > 0;) header = header << 8 | static_cast<unsigned char>(bytes[i]);
  if (header > limits::kSafetensorsHeaderBytes || header > bytes.size() - 8) throw Status("not a safetensors file, its header is longer than the file");
  Json data;
  try {
    data = parse_json(bytes.substr(8, header));
  } catch (const Status& status) {
    throw Status("the safetensors header cannot be read: " + status.text());
  }
  const std::string_view values = bytes.substr(8 + header);
  Tensors tensors;
  for (const Placed& one : read_header(data, values.size(), facts)) {
    Tensor& made = tensors.emplace(one.name, Tensor(one.dtype, one.shape)).first->second;
    if (made.bytes()) std::memcpy(made.data(), values.data() + one.begin, made.bytes());
  }
  return tensors;
}

}  // namespace

Result<Tensors> parse_safetensors(std::string_view bytes, const std::string& where, Facts* facts) {
  try {
    return parse(bytes, facts);
  } catch (const Status& status) {
    return Status(where + ": " + status.text());
  } catch (const std::bad_alloc&) {
    return Status(where + " does not fit into the memory that there is");
  } catch (const std::exception& error) {
    return Status(where + ": " + error.what());
  }
}

Result<Tensors> read_safetensors(const std::string& path, Facts* facts) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  return parse_safetensors(*bytes, path, facts);
}

std::string safetensors_bytes(const std::map<std::string, TensorView>& tensors, const Facts& facts) {
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
    if (view.bytes()) bytes.append(static_cast<const char*>(view.data), view.bytes());
  }
  return bytes;
}

Status write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors, const Facts& facts) {
  return write_file(path, safetensors_bytes(tensors, facts));
}

}  // namespace edgekit
