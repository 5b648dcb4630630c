// numpy's .npy files, versions 1 to 3, little-endian, row-major.
#include <cstring>

#include "files.hpp"

namespace edgekit {

namespace {

constexpr std::pair<const char*, DType> kDescr[] = {{"|b1", DType::kBool}, {"|u1", DType::kUint8},   {"|i1", DType::kInt8},
                                                    {"<i4", DType::kInt32}, {"<i8", DType::kInt64},   {"<f2", DType::kFloat16},
                                                    {"<f4", DType::kFloat32}, {"<f8", DType::kFloat64}};

// The text of a key's value in the header's Python literal.
std::string value_of(const std::string& header, const std::string& key) {
  const std::size_t at = header.find("'" + key + "'");
  if (at == std::string::npos) return "";
  std::size_t from = header.find(':', at);
  if (from == std::string::npos) return "";
  from = header.find_first_not_of(" ", from + 1);
  if (from == std::string::npos) return "";
  const char end = header[from] == '(' ? ')' : ',';
  const std::size_t to = header.find(end, from);
  return header.substr(from, to == std::string::npos ? std::string::npos : to - from + (end == ')'));
}

}  // namespace

Result<Tensor> read_npy(const std::string& path) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>((*bytes)[i])); };
  if (bytes->size() < 10 || bytes->compare(0, 6, "\x93NUMPY", 6) != 0) return Status(path + " is no .npy file");
  const bool wide = byte(6) >= 2;
  if (byte(6) < 1 || byte(6) > 3 || (wide && bytes->size() < 12)) return Status(path + " is a .npy file of an unknown version");
  const std::size_t start = wide ? 12 : 10;
  const std::size_t length = wide ? byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24 : byte(8) | byte(9) << 8;
  if (length > bytes->size() - start) return Status(path + " ends in its header");
  const std::string header = bytes->substr(start, length);
  const std::string descr = value_of(header, "descr");
  if (value_of(header, "fortran_order").rfind("False", 0) != 0) return Status(path + " is column-major; save it with numpy.ascontiguousarray");
  DType dtype = DType::kFloat32;
  bool known = false;
  for (const auto& [name, kind] : kDescr) {
    if (descr != "'" + std::string(name) + "'") continue;
    dtype = kind;
    known = true;
  }
  if (!known) return Status(path + " holds values of type " + descr + ", which bundles do not take");
  Shape shape;
  std::size_t values = 1;
  const std::size_t left = bytes->size() - start - length;
  const std::string text = value_of(header, "shape");
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] < '0' || text[i] > '9') {
      ++i;
      continue;
    }
    std::size_t n = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
      n = n * 10 + static_cast<std::size_t>(text[i] - '0');
      if (n > left + 1) return Status(path + " is shorter than its shape " + text);
    }
    if (n && values > left / n) return Status(path + " is shorter than its shape " + text);
    values *= n;
    shape.push_back(static_cast<std::int64_t>(n));
  }
  if (values * size_of(dtype) != left) return Status(path + " holds " + std::to_string(left) + " bytes, its shape " + text + " says " + std::to_string(values * size_of(dtype)));
  Tensor made(dtype, shape);
  if (left) std::memcpy(made.data(), bytes->data() + start + length, left);
  return made;
}

Status write_npy(const std::string& path, const TensorView& value) {
  std::string shape;
  for (std::int64_t n : value.shape) shape += std::to_string(n) + ",";
  std::string header = "{'descr': '" + std::string(kDescr[static_cast<int>(value.dtype)].first) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');  // the data begins at a multiple of 64
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes.push_back(static_cast<char>(header.size() & 0xFF));
  bytes.push_back(static_cast<char>(header.size() >> 8));
  bytes += header;
  bytes.append(static_cast<const char*>(value.data), value.bytes());
  return write_file(path, bytes);
}

}  // namespace edgekit
