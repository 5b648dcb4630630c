// numpy's .npy files, versions 1 to 3, little-endian, row-major.
#include "npy.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "files.hpp"
#include "limits.hpp"

namespace edgekit {

namespace {

constexpr std::pair<const char*, DType> kDescr[] = {{"|b1", DType::kBool}, {"|u1", DType::kUint8},   {"|i1", DType::kInt8},
                                                    {"<i4", DType::kInt32}, {"<i8", DType::kInt64},   {"<f2", DType::kFloat16},
                                                    {"<f4", DType::kFloat32}, {"<f8", DType::kFloat64}};

// What the header says; empty texts where it did not.
struct Header {
  std::string descr, order, shape_text;
  Shape shape;
};

// Reads the Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } and no other.
class Literal {
 public:
  explicit Literal(std::string_view text) : text_(text) {}

  bool read(Header* out) {
    if (!skip('{')) return false;
    while (!skip('}')) {
      std::string key;
      if (!quoted(&key) || !skip(':')) return false;
      if (key == "descr" && out->descr.empty()) {
        if (!value(&out->descr)) return false;
      } else if (key == "fortran_order" && out->order.empty()) {
        if (!value(&out->order)) return false;
      } else if (key == "shape" && out->shape_text.empty()) {
        const std::size_t from = at_;
        if (!tuple(&out->shape)) return false;
        out->shape_text = text_.substr(from, at_ - from);
      } else {
        return false;  // another key, or one twice
      }
      if (!skip(',') && !ahead('}')) return false;
    }
    blanks();
    return at_ == text_.size() && !out->descr.empty() && !out->order.empty() && !out->shape_text.empty();
  }

 private:
  void blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool ahead(char c) {
    blanks();
    return at_ < text_.size() && text_[at_] == c;
  }
  bool skip(char c) { return ahead(c) && ++at_; }

  bool quoted(std::string* out) {
    blanks();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) return false;
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) return false;
    *out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return true;
  }

  // A text with its quotes, a word, or a whole list: the fields of a record, which nobody reads here.
  bool value(std::string* out) {
    blanks();
    const std::size_t from = at_;
    std::string inner;
    if (ahead('[')) {
      const std::size_t end = text_.rfind(']');
      if (end == std::string_view::npos || end < from) return false;
      at_ = end + 1;
    } else if (!quoted(&inner)) {
      while (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_]))) ++at_;
    }
    *out = text_.substr(from, at_ - from);
    return at_ > from;
  }

  bool tuple(Shape* out) {
    if (!skip('(')) return false;
    while (!skip(')')) {
      blanks();
      std::int64_t n = 0;
      const std::size_t from = at_;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        n = n * 10 + (text_[at_] - '0');
        if (n > limits::kDimension) return false;
      }
      if (at_ == from || out->size() == limits::kAxes) return false;
      out->push_back(n);
      if (!skip(',') && !ahead(')')) return false;
    }
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Tensor> parse_npy(std::string_view bytes, const std::string& where) {
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY", 6) != 0) return Status(where + " is no .npy file");
  const bool wide = byte(6) >= 2;
  if (byte(6) < 1 || byte(6) > 3 || (wide && bytes.size() < 12)) return Status(where + " is a .npy file of an unknown version");
  const std::size_t start = wide ? 12 : 10;
  const std::size_t length = wide ? byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24 : byte(8) | byte(9) << 8;
  if (length > bytes.size() - start) return Status(where + " ends in its header");
  if (length > limits::kNpyHeaderBytes) return Status(where + " has a header of " + std::to_string(length) + " bytes, above " + std::to_string(limits::kNpyHeaderBytes));
  Header header;
  if (!Literal(bytes.substr(start, length)).read(&header)) {
    return Status(where + " is no .npy file: its header does not say descr, fortran_order and a shape of at most " + std::to_string(limits::kAxes) + " sizes");
  }
  if (header.order != "False") return Status(where + " is column-major; save it with numpy.ascontiguousarray");
  const auto* kind = std::find_if(std::begin(kDescr), std::end(kDescr), [&](const auto& k) { return header.descr == "'" + std::string(k.first) + "'"; });
  if (kind == std::end(kDescr)) return Status(where + " holds values of type " + header.descr + ", which bundles do not take");
  const std::string_view data = bytes.substr(start + length);
  const auto wanted = limits::bytes_of(header.shape, size_of(kind->second));
  if (!wanted || *wanted > data.size()) return Status(where + " is shorter than its shape " + header.shape_text);
  if (*wanted != data.size()) {
    return Status(where + " holds " + std::to_string(data.size()) + " bytes, its shape " + header.shape_text + " says " + std::to_string(*wanted));
  }
  return no_throw<Tensor>(where, [&] {
    Tensor made(kind->second, header.shape);
    if (!data.empty()) std::memcpy(made.data(), data.data(), data.size());
    return made;
  });
}

Result<Tensor> read_npy(const std::string& path) {
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  return parse_npy(*bytes, path);
}

std::string npy_bytes(const TensorView& value) {
  std::string shape;
  for (std::int64_t n : value.shape) shape += std::to_string(n) + ",";
  std::string header = "{'descr': '" + std::string(kDescr[static_cast<int>(value.dtype)].first) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');  // the data begins at a multiple of 64
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes.push_back(static_cast<char>(header.size() & 0xFF));
  bytes.push_back(static_cast<char>(header.size() >> 8));
  bytes += header;
  if (value.bytes()) bytes.append(static_cast<const char*>(value.data), value.bytes());
  return bytes;
}

Status write_npy(const std::string& path, const TensorView& value) { return write_file(path, npy_bytes(value)); }

}  // namespace edgekit
