// Runs whose inputs always lie in the same places: names, shapes and sizes are looked at once, which takes as long as a small network.
#include <cstring>

#include "execution.hpp"

namespace edgekit {

Status Execution::bind(const Inputs& inputs, std::size_t* bound) {
  if (bundle_->program.stream) return Status("'" + bundle_->name + "' is a stream: it is pushed on, not bound");
  if (Status s = check(inputs, true, true); !s) return s;
  BoundRun run;
  for (const Port& port : bundle_->inputs) run.inputs.push_back({&port, inputs.at(port.name), nullptr});
  *bound = bound_.size();
  bound_.push_back(std::move(run));
  return {};
}

// Anew where another run came between, of other sizes.
Status Execution::lay_out_bound(BoundRun* run) {
  Inputs inputs;
  for (const BoundRun::Input& input : run->inputs) inputs[input.port->name] = input.value;
  if (Status s = lay_out(inputs); !s) return s;
  for (BoundRun::Input& input : run->inputs) input.slot = layout_->env->find(input.port->name);
  run->answers.clear();
  for (const Port& port : bundle_->outputs) {
    const Slot* slot = layout_->env->find(port.name);
    if (!slot) return Status("the program never writes the output '" + port.name + "'");
    run->answers.emplace_back(slot, &answers_[port.name]);
  }
  run->layout = layouts_;
  return {};
}

Status Execution::run_bound(std::size_t bound) {
  if (bound >= bound_.size()) return Status("no run was bound under the number " + std::to_string(bound));
  BoundRun& run = bound_[bound];
  for (const BoundRun::Input& input : run.inputs) {
    if (input.port->categories.empty()) continue;
    if (const std::string strange = strange_category(*input.port, input.value); !strange.empty()) return Status(strange);
  }
  if (!layout_ || run.layout != layouts_) {
    if (Status s = lay_out_bound(&run); !s) return s;
  }
  layout_->env->seed = bundle_->program.seed;
  for (const BoundRun::Input& input : run.inputs) {
    if (Status s = input.slot->write(input.value); !s) return s;
  }
  for (const auto& phase : layout_->before) {
    if (Status s = phase->run(0); !s) return s;
  }
  append_probes(true);
  for (const auto& [slot, answer] : run.answers) {
    const Tensor& value = slot->value();
    if (value.dtype() != answer->dtype() || value.shape() != answer->shape()) {
      answer->assign(value.view());
    } else if (value.bytes()) {
      std::memcpy(answer->data(), value.data(), value.bytes());
    }
  }
  return {};
}

}  // namespace edgekit
