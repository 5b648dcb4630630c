// The whole program of a bundle at work on one engine.
#pragma once

#include "phase.hpp"
#include "stream.hpp"

namespace edgekit {

std::string strange_category(const Port& port, const TensorView& value);

class Execution {
 public:
  static Result<std::unique_ptr<Execution>> make(std::shared_ptr<const BundleData> bundle, std::shared_ptr<Engine> engine, const Options& options);

  const std::string& engine() const { return engine_->version(); }
  const BundleData& bundle() const { return *bundle_; }
  Status run(const Inputs& inputs, std::uint64_t seed);
  Status bind(const Inputs& inputs, std::size_t* bound);
  Status run_bound(std::size_t bound);
  Status begin(const Inputs& inputs, std::uint64_t seed);
  Status push(const Inputs& inputs);
  Status push_events(const std::uint32_t* places, std::size_t count);
  Status close();
  const Tensors& answers() const { return answers_; }
  std::uint64_t steps() const;
  std::vector<LayerTime> layers() const;

 private:
  // Buffers and bound phases for one combination of free sizes.
  struct Layout {
    std::unique_ptr<Environment> env;
    std::vector<std::unique_ptr<PhaseRun>> before, inner, after;
  };

  // A run whose inputs always lie in the same places: where they go, and where answers come from, in one layout.
  struct BoundRun {
    struct Input {
      const Port* port = nullptr;
      TensorView value;
      Slot* slot = nullptr;
    };
    std::vector<Input> inputs;
    std::vector<std::pair<const Slot*, Tensor*>> answers;
    std::uint64_t layout = 0;
  };

  Status lay_out_bound(BoundRun* run);
  Status check(const Inputs& inputs, bool streamed, bool given) const;
  Status sizes(const Inputs& inputs, Sizes* found) const;
  Status lay_out(const Inputs& inputs);
  Status make_phases(const std::vector<Phase>& phases, std::vector<std::unique_ptr<PhaseRun>>* made);
  Status start_stream(const Inputs& inputs);
  Status run_chunks();
  Status run_chunk();
  Status append_chunks(bool anew);
  void forget_answers();
  Status gather_answers(bool anew);
  void append_probes(bool anew);
  Status answer_outputs(bool joined_too);

  std::shared_ptr<const BundleData> bundle_;
  std::shared_ptr<Engine> engine_;
  Options options_;
  std::map<std::string, std::unique_ptr<Graph>> graphs_;
  std::optional<Layout> layout_;
  std::uint64_t layouts_ = 0;  // so many were made
  std::vector<BoundRun> bound_;
  Tensors answers_;
  std::map<std::string, std::pair<Shape, std::vector<unsigned char>>> seen_;  // probes of this call

  bool begun_ = false, laid_ = false, keep_ = false;  // keep_: a close after a push within one run
  std::uint64_t seed_ = 0;
  Tensors given_;
  std::map<std::string, Queue> queues_;
  std::map<std::string, Gathered> gathered_;
  std::uint32_t chunk_ = 0;
};

}  // namespace edgekit
