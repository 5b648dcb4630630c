// OpenVINO as an engine: precision always explicit, one request for each set of buffers.
#include <openvino/op/constant.hpp>
#include <openvino/op/fake_quantize.hpp>
#include <openvino/openvino.hpp>

#include "engine.hpp"
#include "processor.hpp"

namespace edgekit {

namespace {

// Bytes beyond 7 bits, 2 * 255 * 64 being less than 32,767, or weights that OpenVINO will round itself; edgekit/byte_products.py.
bool has_large_weights(const ov::Model& model) {
  for (const auto& node : model.get_ops()) {
    if (ov::is_type<ov::op::v0::FakeQuantize>(node) && ov::is_type<ov::op::v0::Constant>(node->get_input_node_shared_ptr(0))) return true;
    const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(node);
    const bool is_signed = constant && constant->get_element_type() == ov::element::i8;
    if (!is_signed && !(constant && constant->get_element_type() == ov::element::u8)) continue;
    const std::size_t count = ov::shape_size(constant->get_shape());
    const auto* const bytes = static_cast<const unsigned char*>(constant->get_data_ptr());
    for (std::size_t i = 0; count > 1 && i < count; ++i) {  // one number is a zero point
      const int weight = static_cast<int>(bytes[i] ^ (is_signed ? 0x80u : 0u)) - 128;
      if (weight < -64 || weight > 64) return true;
    }
  }
  return false;
}

ov::element::Type element(DType dtype) {
  switch (dtype) {
    case DType::kBool: return ov::element::boolean;
    case DType::kUint8: return ov::element::u8;
    case DType::kInt8: return ov::element::i8;
    case DType::kInt32: return ov::element::i32;
    case DType::kInt64: return ov::element::i64;
    case DType::kFloat16: return ov::element::f16;
    case DType::kFloat32: return ov::element::f32;
    case DType::kFloat64: return ov::element::f64;
  }
  return ov::element::dynamic;
}

ov::Tensor tensor(const Bound& bound) {
  return ov::Tensor(element(bound.dtype), ov::Shape(bound.shape.begin(), bound.shape.end()), bound.data);
}

// OpenVINO's errors are pages with the cause last.
Status told(const std::exception& error) {
  std::string text = error.what();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return Status("openvino: " + text.substr(text.rfind('\n') + 1));
}

class OvBinding : public Binding {
 public:
  explicit OvBinding(ov::InferRequest request) : request_(std::move(request)) {}

  Status run() override {
    try {
      request_.infer();
    } catch (const std::exception& error) {
      return told(error);
    }
    return {};
  }

 private:
  ov::InferRequest request_;
};

class OvGraph : public Graph {
 public:
  OvGraph(ov::CompiledModel model, std::vector<std::string> outputs)
      : model_(std::move(model)), request_(model_.create_infer_request()), outputs_(std::move(outputs)) {}

  Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) override {
    try {
      ov::InferRequest request = model_.create_infer_request();
      for (const auto* list : {&inputs, &outputs}) {
        for (const Bound& bound : *list) request.set_tensor(bound.name, tensor(bound));
      }
      return std::unique_ptr<Binding>(std::make_unique<OvBinding>(std::move(request)));
    } catch (const std::exception& error) {
      return told(error);
    }
  }

  Status run(const std::vector<Bound>& inputs, Tensors* found) override {
    try {
      for (const Bound& bound : inputs) request_.set_tensor(bound.name, tensor(bound));
      request_.infer();
      for (const std::string& name : outputs_) {
        const ov::Tensor value = request_.get_tensor(name);
        for (int dtype = 0; dtype < 8; ++dtype) {
          if (element(static_cast<DType>(dtype)) != value.get_element_type()) continue;
          const ov::Shape shape = value.get_shape();
          (*found)[name].assign({static_cast<DType>(dtype), Shape(shape.begin(), shape.end()), value.data()});
        }
      }
    } catch (const std::exception& error) {
      return told(error);
    }
    return {};
  }

 private:
  ov::CompiledModel model_;
  ov::InferRequest request_;
  std::vector<std::string> outputs_;
};

class OvEngine : public Engine {
 public:
  OvEngine() {
    // "2026.4.1-22190-..." -> "openvino 2026.4.1"
    const std::string build = ov::get_openvino_version().buildNumber;
    version_ = "openvino " + build.substr(0, build.find('-'));
  }
  const std::string& version() const override { return version_; }

  Result<std::unique_ptr<Graph>> open(const BundleData& bundle, const GraphFile& graph, const Options& options) override {
    const std::string path = bundle.folder + "/" + graph.file;
    try {
      std::shared_ptr<ov::Model> model = core_.read_model(path);
      std::vector<std::string> outputs;
      for (const Port& port : graph.outputs) outputs.push_back(port.name);
      if (options.probes) {
        for (const std::string& probe : graph.probes) {
          model->add_output(probe);
          outputs.push_back(probe);
        }
      }
      // Its own choice is bf16 on many processors, which does not give f32 answers.
      ov::AnyMap settings = {{"INFERENCE_PRECISION_HINT", bundle.inference_precision}, {"PERFORMANCE_HINT", "LATENCY"}, {"NUM_STREAMS", "1"}};
      if (!bundle.exact && byte_products_saturate() && has_large_weights(*model)) settings["LP_TRANSFORMS_MODE"] = false;  // INT8 layers as rounded numbers in float
      if (options.threads) settings["INFERENCE_NUM_THREADS"] = options.threads;
      return std::unique_ptr<Graph>(std::make_unique<OvGraph>(core_.compile_model(model, "CPU", settings), outputs));
    } catch (const std::exception& error) {
      return Status("cannot open " + path + ": " + told(error).text());
    }
  }

 private:
  ov::Core core_;
  std::string version_;
};

}  // namespace

Result<std::shared_ptr<Engine>> openvino_engine() {
  try {
    return std::shared_ptr<Engine>(std::make_shared<OvEngine>());
  } catch (const std::exception& error) {
    return told(error);
  }
}

}  // namespace edgekit
