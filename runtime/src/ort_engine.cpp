// ONNX Runtime as an engine: the library is loaded by dlopen, graphs run through bindings to our own buffers.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "engine.hpp"
#include "files.hpp"
#include "ort_api.hpp"
#include "ort_library.hpp"
#include "processor.hpp"
#include "protobuf_outputs.hpp"

namespace edgekit {

namespace {

using namespace ort;

constexpr int kLogFatal = 4;  // errors come back as values; a line of its own with colours and names from files would come beside ours

constexpr int kElement[] = {9, 2, 3, 6, 7, 10, 1, 11};  // ONNXTensorElementDataType by DType

class Api {
 public:
  explicit Api(const void* const* table) : table_(table) {}

  // Call a function of the table; its own error text when it fails.
  template <typename... Arguments>
  Status call(Slot slot, Arguments... arguments) const {
    const auto function = reinterpret_cast<Handle (*)(Arguments...)>(const_cast<void*>(table_[slot]));
    const Handle error = function(arguments...);
    if (!error) return {};
    const auto message = reinterpret_cast<const char* (*)(Handle)>(const_cast<void*>(table_[kGetErrorMessage]));
    std::string text = message(error);
    release(kReleaseStatus, error);
    const std::size_t line = text.find('\n');
    return Status("onnxruntime: " + text.substr(0, line));
  }

  void release(Slot slot, Handle handle) const {
    if (handle) reinterpret_cast<void (*)(Handle)>(const_cast<void*>(table_[slot]))(handle);
  }

  Handle run_with_binding(Handle session, Handle binding) const {
    return reinterpret_cast<Handle (*)(Handle, Handle, Handle)>(const_cast<void*>(table_[kRunWithBinding]))(session, nullptr, binding);
  }

 private:
  const void* const* table_;
};

// A handle that is released with its owner.
class Held {
 public:
  Held(const Api* api, Slot release) : api_(api), release_(release) {}
  Held(Held&& other) noexcept : api_(other.api_), release_(other.release_), handle_(other.handle_) { other.handle_ = nullptr; }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  Held& operator=(Held&&) = delete;
  ~Held() { api_->release(release_, handle_); }
  Handle get() const { return handle_; }
  Handle* out() { return &handle_; }

 private:
  const Api* api_;
  Slot release_;
  Handle handle_ = nullptr;
};

// The library with its environment; one for each library file of a process.
struct Library {
  Library(const void* const* table, std::string name) : api(table), version(std::move(name)) {}
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    api.release(kReleaseMemoryInfo, memory);
    api.release(kReleaseEnv, environment);
  }

  Api api;
  std::string version;
  Handle environment = nullptr;
  Handle memory = nullptr;
};

Result<Held> value_over(const Library& library, const Bound& bound) {
  Held value(&library.api, kReleaseValue);
  const auto* shape = bound.shape.empty() ? nullptr : bound.shape.data();
  const Status status = library.api.call(kCreateTensorWithData, library.memory, bound.data, count_of(bound.shape) * size_of(bound.dtype), shape,
                                         bound.shape.size(), kElement[static_cast<int>(bound.dtype)], value.out());
  if (!status) return status;
  return value;
}

class OrtBinding : public Binding {
 public:
  OrtBinding(const Library& library, Handle session) : library_(library), session_(session), binding_(&library.api, kReleaseBinding) {}

  Status bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) {
    if (Status s = library_.api.call(kCreateBinding, session_, binding_.out()); !s) return s;
    for (const auto* list : {&inputs, &outputs}) {
      for (const Bound& bound : *list) {
        auto value = value_over(library_, bound);
        if (!value) return value.status();
        const Slot slot = list == &inputs ? kBindInput : kBindOutput;
        if (Status s = library_.api.call(slot, binding_.get(), bound.name.c_str(), value->get()); !s) return s;
        values_.push_back(std::move(*value));
      }
    }
    return {};
  }

  Status run() override {
    if (library_.api.run_with_binding(session_, binding_.get()) == nullptr) return {};
    return library_.api.call(kRunWithBinding, session_, static_cast<Handle>(nullptr), binding_.get());  // again, for its text
  }

 private:
  const Library& library_;
  Handle session_;
  Held binding_;
  std::vector<Held> values_;
};

class OrtGraph : public Graph {
 public:
  OrtGraph(std::shared_ptr<Library> library, std::vector<std::string> outputs)
      : library_(std::move(library)), session_(&library_->api, kReleaseSession), outputs_(std::move(outputs)) {}

  Status open(const std::string& path, const std::vector<std::string>& probes, int threads, bool exact) {
    const Api& api = library_->api;
    Held options(&api, kReleaseSessionOptions);
    if (Status s = api.call(kCreateSessionOptions, options.out()); !s) return s;
    if (Status s = api.call(kSetIntraThreads, options.get(), threads); !s) return s;
    if (Status s = api.call(kSetInterThreads, options.get(), 1); !s) return s;
    const auto configure = [&](const char* key, const char* value) { return api.call(kAddSessionConfig, options.get(), key, value); };
    const bool saturates = !exact && byte_products_saturate();
    if (saturates) {  // in 16 bits, then, with unsigned weights
      if (Status s = configure("session.x64quantprecision", "1"); !s) return s;
    }
    const Status first = create(path, probes, options);
    if (first || !saturates || first.text().find("existing tensor") == std::string::npos) return first;
    // It cannot where two layers share weights or a zero point: rounded numbers in float.
    if (Status s = configure("session.x64quantprecision", "0"); !s) return s;
    if (Status s = configure("session.disable_quant_qdq", "1"); !s) return s;
    return create(path, probes, options);
  }

  Status create(const std::string& path, const std::vector<std::string>& probes, const Held& options) {
    const Api& api = library_->api;
    if (probes.empty()) return api.call(kCreateSession, library_->environment, path.c_str(), options.get(), session_.out());
    auto bytes = read_file(path);
    if (!bytes) return bytes.status();
    const std::string model = *bytes + onnx_outputs(probes);
    return api.call(kCreateSessionFromArray, library_->environment, static_cast<const void*>(model.data()), model.size(), options.get(), session_.out());
  }

  Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) override {
    auto made = std::make_unique<OrtBinding>(*library_, session_.get());
    std::vector<Bound> all = outputs;
    if (Status s = made->bind(inputs, all); !s) return s;
    return std::unique_ptr<Binding>(std::move(made));
  }

  Status run(const std::vector<Bound>& inputs, Tensors* found) override {
    std::vector<Held> held;
    std::vector<const char*> in_names, out_names;
    std::vector<Handle> in_values, out_values(outputs_.size(), nullptr);
    for (const Bound& bound : inputs) {
      auto value = value_over(*library_, bound);
      if (!value) return value.status();
      in_names.push_back(bound.name.c_str());
      in_values.push_back(value->get());
      held.push_back(std::move(*value));
    }
    for (const std::string& name : outputs_) out_names.push_back(name.c_str());
    Status status = library_->api.call(kRun, session_.get(), static_cast<Handle>(nullptr), in_names.data(), in_values.data(), in_values.size(),
                                       out_names.data(), out_names.size(), out_values.data());
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (status) status = copy_out(outputs_[i], out_values[i], &(*found)[outputs_[i]]);
      library_->api.release(kReleaseValue, out_values[i]);
    }
    return status;
  }

 private:
  Status copy_out(const std::string& name, Handle value, Tensor* out) const {
    const Api& api = library_->api;
    Held info(&api, kReleaseTypeAndShape);
    int element = 0;
    std::size_t rank = 0;
    void* data = nullptr;
    if (Status s = api.call(kTensorTypeAndShape, value, info.out()); !s) return s;
    if (Status s = api.call(kElementType, info.get(), &element); !s) return s;
    if (Status s = api.call(kDimensionsCount, info.get(), &rank); !s) return s;
    Shape shape(rank);
    if (Status s = api.call(kDimensions, info.get(), shape.data(), rank); !s) return s;
    if (Status s = api.call(kTensorData, value, &data); !s) return s;
    for (int dtype = 0; dtype < 8; ++dtype) {
      if (kElement[dtype] != element) continue;
      out->assign({static_cast<DType>(dtype), shape, data});
      return {};
    }
    return Status("the output '" + name + "' has ONNX element type " + std::to_string(element) + ", which bundles do not hold");
  }

  std::shared_ptr<Library> library_;
  Held session_;
  std::vector<std::string> outputs_;
};

class OrtEngine : public Engine {
 public:
  explicit OrtEngine(std::shared_ptr<Library> library) : library_(std::move(library)) {}
  const std::string& version() const override { return library_->version; }

  Result<std::unique_ptr<Graph>> open(const BundleData& bundle, const GraphFile& graph, const Options& options) override {
    std::vector<std::string> outputs, probes;
    for (const Port& port : graph.outputs) outputs.push_back(port.name);
    if (options.probes) probes = graph.probes;
    outputs.insert(outputs.end(), probes.begin(), probes.end());
    auto made = std::make_unique<OrtGraph>(library_, outputs);
    if (Status s = made->open(bundle.folder + "/" + graph.file, probes, options.threads, bundle.exact); !s) {
      return Status("cannot open " + bundle.folder + "/" + graph.file + ": " + s.text());
    }
    return std::unique_ptr<Graph>(std::move(made));
  }

 private:
  std::shared_ptr<Library> library_;
};

Result<std::shared_ptr<Library>> load(const std::string& path) {
  // Not closed again: its threads and allocators may outlive any session.
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return Status("cannot load ONNX Runtime: " + std::string(::dlerror()));
  const auto base = reinterpret_cast<const ApiBase* (*)()>(::dlsym(handle, "OrtGetApiBase"));
  if (!base) return Status(path + " is not ONNX Runtime: it has no OrtGetApiBase");
  const void* const* table = base()->get_api(kApiVersion);
  if (!table) return Status("ONNX Runtime " + std::string(base()->version()) + " in " + path + " is too old: 1.12 or newer is needed");
  auto made = std::make_shared<Library>(table, "onnxruntime " + std::string(base()->version()));
  if (Status s = made->api.call(kCreateEnv, kLogFatal, "edgekit", &made->environment); !s) return s;
  if (Status s = made->api.call(kCreateCpuMemoryInfo, 0, 0, &made->memory); !s) return s;
  return made;
}

}  // namespace

Result<std::shared_ptr<Engine>> onnxruntime_engine(const std::string& library) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<Library>> loaded;
  auto path = find_onnxruntime(library);
  if (!path) return path.status();
  const std::lock_guard<std::mutex> lock(mutex);
  auto& known = loaded[*path];
  if (!known) {
    auto made = load(*path);
    if (!made) return made.status();
    known = *made;
  }
  return std::shared_ptr<Engine>(std::make_shared<OrtEngine>(known));
}

}  // namespace edgekit
