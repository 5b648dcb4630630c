// One phase at work: bind the graph's inputs, run it, carry states, do the epilogue, `steps` times over.
#pragma once

#include "engine.hpp"
#include "environment.hpp"
#include "operation.hpp"

namespace edgekit {

class PhaseRun {
 public:
  static Result<std::unique_ptr<PhaseRun>> make(const Phase& phase, Graph* graph, const GraphFile& file, Environment* env, bool probes);
  Status run(std::uint32_t chunk);
  std::uint64_t steps() const { return steps_; }

  struct Probe {
    std::string name;
    Shape shape;                       // of one call
    std::vector<unsigned char> spikes; // calls one after the other
    std::size_t calls = 0;
  };
  std::vector<Probe>& probes() { return probes_; }

 private:
  struct Read {
    std::string name;
    Slot* slot = nullptr;
    Tensor* buffer = nullptr;         // of a row, noise
    const Tensor* constant = nullptr;
  };
  struct Fill {
    Tensor* buffer;
    const Tensor* table = nullptr;    // row
    const Source* noise = nullptr;
  };
  struct Write {
    std::string name;
    Slot* slot;
  };
  struct Collect {
    Slot* from;
    Slot* to;
  };

  Status read(const Port& port, std::uint32_t steps);
  void fill(std::uint32_t iteration, std::uint32_t chunk);
  std::vector<Bound> inputs() const;
  Status step_bound();
  Status step_free();
  Status see(const Tensors& found);

  const Phase* phase_ = nullptr;
  Graph* graph_ = nullptr;
  Environment* env_ = nullptr;
  std::vector<Read> reads_;
  std::vector<Fill> fills_;
  std::vector<std::unique_ptr<Tensor>> buffers_;
  std::vector<Write> writes_, carries_;
  std::vector<Slot*> turning_;
  std::vector<std::pair<std::uint64_t, std::unique_ptr<Binding>>> bindings_;
  std::vector<std::unique_ptr<OperationRun>> epilogue_;
  std::vector<Collect> collects_;
  std::vector<Probe> probes_;
  bool bound_ = true;
  std::uint64_t steps_ = 0;
  Tensors found_;
};

}  // namespace edgekit
