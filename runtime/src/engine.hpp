// What an inference engine must do: open a graph, bind it to buffers, run it.
#pragma once

#include <memory>

#include "bundle_data.hpp"

namespace edgekit {

struct Bound {
  std::string name;
  DType dtype;
  Shape shape;
  void* data;
};

// A graph bound to buffers, which must outlive it. `run` allocates nothing of ours.
class Binding {
 public:
  virtual ~Binding() = default;
  virtual Status run() = 0;
};

class Graph {
 public:
  virtual ~Graph() = default;
  virtual Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) = 0;
  // The next run of either kind reads these events in place of its image (edgekit.hpp, Session::push_events).
  virtual Status take_events(const std::uint32_t*, std::size_t) { return Status("this engine takes no events; spike does"); }
  virtual std::vector<LayerTime> layers() const { return {}; }  // of the last run, where it was opened with Options::layers
  // Run once; the engine decides the sizes of the outputs, probes among them.
  virtual Status run(const std::vector<Bound>& inputs, Tensors* outputs) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const std::string& version() const = 0;
  virtual Result<std::unique_ptr<Graph>> open(const BundleData& bundle, const GraphFile& graph, const Options& options) = 0;
};

Result<std::shared_ptr<Engine>> onnxruntime_engine(const std::string& library);
Result<std::shared_ptr<Engine>> spike_engine();
Result<std::shared_ptr<Engine>> openvino_engine();  // says so when this build has none

}  // namespace edgekit
