// The C++ face of edgekit: open a bundle, run it, or push a stream. No exception leaves it; errors are values with text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace edgekit {

inline constexpr const char* kVersion = "0.1.0";

// Empty text means success.
class [[nodiscard]] Status {
 public:
  Status() = default;
  explicit Status(std::string text) : text_(std::move(text)) {}
  bool ok() const { return text_.empty(); }
  explicit operator bool() const { return ok(); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// A value, or the text that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                     // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}             // NOLINT(google-explicit-constructor)
  bool ok() const { return status_.ok(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }
  T& value() { return *value_; }
  T* operator->() { return &*value_; }
  T& operator*() { return *value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

enum class DType { kBool, kUint8, kInt8, kInt32, kInt64, kFloat16, kFloat32, kFloat64 };

std::size_t size_of(DType dtype);            // bytes of one value
const char* name_of(DType dtype);            // "float32"
bool dtype_named(std::string_view name, DType* out);

using Shape = std::vector<std::int64_t>;

std::size_t count_of(const Shape& shape);    // values in an array of this shape
std::string text_of(const Shape& shape);     // "[1, 512]"

// An array that somebody else owns, row-major.
struct TensorView {
  DType dtype = DType::kFloat32;
  Shape shape;
  const void* data = nullptr;

  std::size_t count() const { return count_of(shape); }
  std::size_t bytes() const { return count() * size_of(dtype); }
  template <typename T>
  const T* as() const { return static_cast<const T*>(data); }
};

// An array with its memory, row-major.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);          // zeros
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::size_t count() const { return count_of(shape_); }
  std::size_t bytes() const { return count() * size_of(dtype_); }
  void* data() { return data_.data(); }
  const void* data() const { return data_.data(); }
  template <typename T>
  T* as() { return reinterpret_cast<T*>(data_.data()); }
  template <typename T>
  const T* as() const { return reinterpret_cast<const T*>(data_.data()); }
  TensorView view() const { return {dtype_, shape_, data_.data()}; }
  void resize(DType dtype, const Shape& shape);  // contents are then unspecified; memory is kept where it suffices
  void assign(const TensorView& from);

 private:
  DType dtype_ = DType::kFloat32;
  Shape shape_{0};
  std::vector<unsigned char> data_;
};

using Inputs = std::map<std::string, TensorView>;
using Tensors = std::map<std::string, Tensor>;

// One input or output: a size of -1 is free and has a name in `names`. Of a sampled signal, its samples a second along the
// last axis. Of an output that a stream joins, by how many elements it comes late: its first `delay` elements answer to nothing.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  std::vector<std::string> names;
  std::string meaning;
  std::int64_t rate_hz = 0;
  std::int64_t delay = 0;
  std::vector<std::vector<std::string>> words;  // of whole numbers: what each value of each place of the last axis is called; empty: nothing
};

struct BundleData;   // the parsed bundle
class Execution;     // the program at work

// A bundle as it lies on disk, checked file by file. Cheap to copy; may be shared by threads.
class Bundle {
 public:
  // task: which program of it, by name; empty: its own. digest: the SHA-256 of the only bundle that is opened, as `edgekit sign` and
  // sha256() say it; empty: any bundle that is whole.
  static Result<Bundle> open(const std::string& folder, const std::string& task = "", const std::string& digest = "");
  const std::string& name() const;
  const std::string& sha256() const;                              // of its bundle.json, which holds the hash of every other file
  const std::string& format() const;
  const std::string& task() const;                                // the program's name; may be empty where there is but one
  std::vector<std::string> tasks() const;                         // names of all its programs, its own first; none where there is but one
  bool streams() const;
  std::uint64_t seed() const;
  std::vector<TensorInfo> inputs() const;
  std::vector<TensorInfo> outputs() const;
  std::vector<std::string> prepares() const;                      // names of its preparations
  Result<Bundle> preparation(const std::string& name) const;      // a bundle whose answers are inputs of this one
  std::shared_ptr<const BundleData> data() const { return data_; }

 private:
  // proven: hashes of the files of a preparation, compared when the bundle around it was opened.
  static Result<Bundle> read(const std::string& folder, const std::string& task, const std::string& digest,
                             const std::map<std::string, std::string>* proven);
  std::shared_ptr<const BundleData> data_;
};

struct Options {
  std::string engine;        // "onnxruntime", "openvino", "spike"; empty: by the bundle's format
  std::string library;       // file or folder of libonnxruntime; empty: environment EDGEKIT_ORT_LIBRARY, system, Python
  int threads = 0;           // 0: the engine's default
  bool probes = false;       // answers hold the inner tensors that the bundle names, too
  bool layers = false;       // of the engine spike: every layer is timed, see Session::layers
};

// What the last run of a spiking network did in one layer.
struct LayerTime {
  std::string name, way;          // events, dense, any, plain: docs/spike-engine.md
  double microseconds = 0;
  std::uint64_t inputs = 0;       // values that it listens to
  std::uint64_t events = 0;       // spikes among them, each of a pooling's window counted; 0 of pixels
  std::uint64_t spikes = 0;       // of its own
  std::uint64_t products = 0;     // weights times the places where they meet the map: what a dense layer multiplies
  std::uint64_t break_even = 0;   // up to so many events it goes by events
};

// Files that applications have their samples in; written whole or not at all.
Result<Tensor> read_npy(const std::string& path);
Status write_npy(const std::string& path, const TensorView& value);
// Pictures float32 [batch, 1 or 3, height, width] in -1..1 as one grid, small ones enlarged; columns 0: about square.
Status write_png(const std::string& path, const TensorView& pictures, int columns = 0);
struct Sound {
  Tensor samples;                            // float32 [1, n] in -1..1; channels are averaged
  int rate_hz = 0;
  int channels = 0;                          // of the file
};
Result<Sound> read_wav(const std::string& path);
// float32 of one channel, [n] or [1, n], as PCM of 16 bits; beyond -1..1 is clipped.
Status write_wav(const std::string& path, const TensorView& samples, int rate_hz);
// A voice: what the preparations of a bundle made, as inputs for it and for every bundle of the same trained model.
Result<Tensors> read_voice(const Bundle& bundle, const std::string& path);
Status write_voice(const Bundle& bundle, const std::string& path, const Tensors& made);

// A program at work: one at a time a thread. Answers stay valid until the next call of the session.
class Session {
 public:
  Session();
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  static Result<Session> open(const Bundle& bundle, const Options& options);
  const std::string& engine() const;                                        // "onnxruntime 1.32.0"

  Status run(const Inputs& inputs);                                         // with the bundle's own seed
  Status run(const Inputs& inputs, std::uint64_t seed);
  // For many runs, with the bundle's own seed, on arrays that stay where they are while their contents change: `bound` is the number of
  // these inputs, of which a session may have several. A small network takes as long as looking at names and shapes does.
  Status bind(const Inputs& inputs, std::size_t* bound);
  Status run_bound(std::size_t bound);
  Status begin(const Inputs& inputs);                                       // a stream, anew
  Status begin(const Inputs& inputs, std::uint64_t seed);
  Status push(const Inputs& inputs);                                        // any length along the stream
  // Of a stream whose one input is a camera's frames: one chunk, given as events and never made a frame, which the engine spike takes. Each
  // is a place of the frame, [channels][height][width] counted through; the frame would hold how often it came, 255 at most.
  Status push_events(const std::uint32_t* places, std::size_t count);
  Status close();                                                           // tail, and the phases after the stream
  const Tensors& answers() const;                                           // of the last call
  std::vector<LayerTime> layers() const;                                    // of the last run, where Options::layers; else none
  std::uint64_t steps() const;                                              // graph runs since the session was opened

 private:
  std::unique_ptr<Execution> execution_;
};

}  // namespace edgekit
