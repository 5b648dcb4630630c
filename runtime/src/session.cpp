// The public session: which engine, and nothing thrown.
#include <new>

#include "execution.hpp"

namespace edgekit {

namespace {

// Memory may run out and an engine may throw; neither leaves the library.
template <typename F>
Status guarded(F call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return Status("out of memory");
  } catch (const Status& status) {
    return status;
  } catch (const std::exception& error) {
    return Status(error.what());
  }
}

}  // namespace

Session::Session() = default;
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Result<Session> Session::open(const Bundle& bundle, const Options& options) {
  const auto data = bundle.data();
  if (!data) return Status("no bundle was opened");
  const bool own = data->format == "openvino" || data->format == "spike";  // formats with one engine, named alike
  const std::string chosen = !options.engine.empty() ? options.engine : own ? data->format : "onnxruntime";
  if (own ? chosen != data->format : data->format != "onnx" || chosen == "spike") {
    return Status("'" + data->name + "' is a bundle of format " + data->format + ", which " + chosen + " does not open here; export it as onnx, openvino or spike");
  }
  Session session;
  const Status status = guarded([&]() -> Status {
    auto engine = chosen == "onnxruntime" ? onnxruntime_engine(options.library)
                  : chosen == "openvino"  ? openvino_engine()
                  : chosen == "spike"     ? spike_engine()
                                          : Result<std::shared_ptr<Engine>>(Status("no engine '" + chosen + "'; there are: onnxruntime, openvino, spike"));
    if (!engine) return engine.status();
    auto execution = Execution::make(data, *engine, options);
    if (!execution) return execution.status();
    session.execution_ = std::move(*execution);
    return {};
  });
  if (!status) return status;
  return session;
}

const std::string& Session::engine() const { return execution_->engine(); }
Status Session::run(const Inputs& inputs) { return run(inputs, execution_->bundle().program.seed); }
Status Session::run(const Inputs& inputs, std::uint64_t seed) {
  return guarded([&] { return execution_->run(inputs, seed); });
}
Status Session::bind(const Inputs& inputs, std::size_t* bound) {
  return guarded([&] { return execution_->bind(inputs, bound); });
}
Status Session::run_bound(std::size_t bound) {
  return guarded([&] { return execution_->run_bound(bound); });
}
Status Session::begin(const Inputs& inputs) { return begin(inputs, execution_->bundle().program.seed); }
Status Session::begin(const Inputs& inputs, std::uint64_t seed) {
  return guarded([&] { return execution_->begin(inputs, seed); });
}
Status Session::push(const Inputs& inputs) {
  return guarded([&] { return execution_->push(inputs); });
}
Status Session::push_events(const std::uint32_t* places, std::size_t count) {
  return guarded([&] { return execution_->push_events(places, count); });
}
Status Session::close() {
  return guarded([&] { return execution_->close(); });
}
const Tensors& Session::answers() const { return execution_->answers(); }
std::vector<LayerTime> Session::layers() const { return execution_->layers(); }
std::uint64_t Session::steps() const { return execution_->steps(); }

}  // namespace edgekit
