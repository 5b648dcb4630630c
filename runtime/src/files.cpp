// Whole files, and SHA-256.
#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace edgekit {

namespace {

constexpr std::size_t kPiece = 1u << 20;  // bytes hashed at a time

// A descriptor that is closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }
  bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

std::string told() { return std::strerror(errno); }

// Opened without following a link or waiting for the other end of a pipe; then it is asked what it is.
Status open_regular(const std::string& path, std::uint64_t most, Descriptor* file, std::uint64_t* size) {
  struct stat info {};
  if (file->get() < 0) return Status(errno == ELOOP || errno == ENXIO ? path + " is no regular file" : "cannot read " + path + ": " + told());
  if (::fstat(file->get(), &info) != 0) return Status("cannot read " + path + ": " + told());
  if (!S_ISREG(info.st_mode)) return Status(path + " is no regular file");
  *size = static_cast<std::uint64_t>(info.st_size);
  if (*size > most) return Status(path + " has " + std::to_string(*size) + " bytes, above the " + std::to_string(most) + " that are read here");
  return {};
}

int opened(const std::string& path) { return ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); }

// Up to `size` bytes; fewer at the end of the file, -1 where reading fails.
std::int64_t fill(int file, char* into, std::size_t size) {
  std::size_t count = 0;
  while (count < size) {
    const ssize_t got = ::read(file, into + count, size - count);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    count += static_cast<std::size_t>(got);
  }
  return static_cast<std::int64_t>(count);
}

bool put(int file, const std::string& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t done = ::write(file, bytes.data() + at, bytes.size() - at);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    at += static_cast<std::size_t>(done);
  }
  return true;
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::uint64_t most) {
  Descriptor file(opened(path));
  std::uint64_t size = 0;
  if (Status s = open_regular(path, most, &file, &size); !s) return s;
  auto bytes = no_throw<std::string>(path, [&] { return std::string(static_cast<std::size_t>(size), '\0'); });
  if (!bytes) return bytes;
  if (fill(file.get(), bytes->data(), bytes->size()) != static_cast<std::int64_t>(size)) return Status("cannot read " + path + " whole");
  return bytes;
}

Status write_file(const std::string& path, const std::string& bytes) {
  const Status wrong("cannot write " + path + "; free space or choose another place");
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) return Status("cannot write " + path + ": it is there and no regular file");
  const std::string draft = path + ".draft-" + std::to_string(::getpid());
  (void)::unlink(draft.c_str());  // of a process that was killed
  Descriptor file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (file.get() < 0) return wrong;
  const bool whole = put(file.get(), bytes) && ::fsync(file.get()) == 0;
  if (!file.close() || !whole || std::rename(draft.c_str(), path.c_str()) != 0) {
    (void)::unlink(draft.c_str());
    return wrong;
  }
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash ? path.substr(0, slash) : "/";
  const Descriptor parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() >= 0) (void)::fsync(parent.get());  // some file systems cannot, and the file is whole already
  return {};
}

namespace {

constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t rotated(std::uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

void mix(std::uint32_t* h, const unsigned char* block) {
  std::uint32_t w[64];
  for (int i = 0; i < 16; ++i) {
    w[i] = std::uint32_t{block[4 * i]} << 24 | std::uint32_t{block[4 * i + 1]} << 16 | std::uint32_t{block[4 * i + 2]} << 8 |
           std::uint32_t{block[4 * i + 3]};
  }
  for (int i = 16; i < 64; ++i) {
    const std::uint32_t a = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const std::uint32_t b = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  std::uint32_t v[8];
  std::memcpy(v, h, sizeof v);
  for (int i = 0; i < 64; ++i) {
    const std::uint32_t s1 = rotated(v[4], 6) ^ rotated(v[4], 11) ^ rotated(v[4], 25);
    const std::uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + kRound[i] + w[i];
    const std::uint32_t s0 = rotated(v[0], 2) ^ rotated(v[0], 13) ^ rotated(v[0], 22);
    const std::uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    for (int k = 7; k > 0; --k) v[k] = v[k - 1];
    v[4] += t1;
    v[0] = t1 + t2;
  }
  for (int i = 0; i < 8; ++i) h[i] += v[i];
}

}  // namespace

namespace {

constexpr std::size_t kBlock = 64;

// SHA-256 (FIPS 180-4) of what is added.
class Sha256 {
 public:
  // All pieces but the last are whole blocks.
  void add(const char* data, std::size_t size) {
    const auto* from = reinterpret_cast<const unsigned char*>(data);
    std::size_t at = 0;
    for (; size - at >= kBlock; at += kBlock) mix(h_, from + at);
    total_ += size;
    left_.assign(data + at, size - at);
  }
  std::string text() {
    unsigned char last[2 * kBlock] = {};
    if (!left_.empty()) std::memcpy(last, left_.data(), left_.size());
    last[left_.size()] = 0x80;
    const std::size_t end = left_.size() < 56 ? kBlock : 2 * kBlock;
    for (std::size_t i = 0; i < 8; ++i) last[end - 1 - i] = static_cast<unsigned char>(total_ * 8 >> (8 * i));
    for (std::size_t i = 0; i < end; i += kBlock) mix(h_, last + i);
    std::string made;
    for (const std::uint32_t word : h_) {
      char digits[9];
      std::snprintf(digits, sizeof digits, "%08x", word);
      made += digits;
    }
    return made;
  }

 private:
  std::uint32_t h_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::uint64_t total_ = 0;
  std::string left_;
};

}  // namespace

std::string sha256(const std::string& bytes) {
  Sha256 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.text();
}

Result<std::string> sha256_of(const std::string& path) {
  Descriptor file(opened(path));
  std::uint64_t size = 0;
  if (Status s = open_regular(path, limits::kFileBytes, &file, &size); !s) return s;
  Sha256 hash;
  std::string piece(kPiece, '\0');
  for (std::uint64_t at = 0;;) {
    const std::int64_t got = fill(file.get(), piece.data(), piece.size());
    if (got < 0) return Status("cannot read " + path + " whole");
    hash.add(piece.data(), static_cast<std::size_t>(got));
    at += static_cast<std::uint64_t>(got);
    if (static_cast<std::size_t>(got) == piece.size()) continue;
    if (at != size) return Status("cannot read " + path + " whole");
    return hash.text();
  }
}

}  // namespace edgekit
