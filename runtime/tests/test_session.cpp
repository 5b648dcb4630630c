// Opening bundles and engines: what is wrong with a folder or a library is one sentence. With EDGEKIT_TEST_BUNDLE (an ONNX
// bundle without a stream) it also runs: the golden answers, and two threads with a session each.
#include <sys/stat.h>

#include <cmath>
#include <thread>

#include "bundle_data.hpp"
#include "check.hpp"
#include "files.hpp"
#include "safetensors.hpp"

using namespace edgekit;

namespace {

bool says(const Status& status, const char* what) { return !status && status.text().find(what) != std::string::npos && status.text().find('\n') == std::string::npos; }

const char* const kManifest =
    R"({"format_version":4,"name":"toy","format":"onnx","variant":"","precision":"f32","signature":{"inputs":[],"outputs":[]},)"
    R"("graphs":{"main":{"file":"m","inputs":[],"outputs":[],"probes":[]}},"program":{"seed":0,"phases":[{"run":"once","steps":1,"graph":"main",)"
    R"("states":{},"inputs":{},"outputs":{},"carry":{},"epilogue":[],"collect":{}}]},"golden":{"answers_by":"","inputs_from":""},"model":null,)"
    R"("allowed":{"output_max_abs":{},"near_threshold":0,"score_drop":0,"exact":false,"sqnr_db":{},"same_share":{}},"lineage":{"step":"","parent_sha256":"","options":{},"tools":{}},)"
    R"("details":{},"prepares":[],"task":"","tasks":{},"files":{"m":"@"}})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  CHECK(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void a_folder_that_is_no_bundle_is_one_sentence() {
  char name[] = "/tmp/edgekit-test-XXXXXX";
  CHECK(::mkdtemp(name));
  const std::string folder = name;
  CHECK(says(Bundle::open(folder).status(), "no bundle in"));
  MUST(write_file(folder + "/m", "graph"));
  const std::string good = replaced(kManifest, "@", sha256("graph"));
  const auto opened = [&](const std::string& manifest) {
    MUST(write_file(folder + "/bundle.json", manifest));
    return Bundle::open(folder).status();
  };
  MUST(opened(good));
  CHECK(says(opened("{"), "not JSON"));
  CHECK(says(opened(replaced(good, "\"format_version\":4", "\"format_version\":3")), "is of bundle format 3, this runtime reads 4"));
  CHECK(says(opened(replaced(good, "\"details\":{}", "\"details\":{},\"more\":1")), "must be an object of"));
  CHECK(says(opened(replaced(good, "\"variant\":\"\",", "")), "must be an object of"));
  CHECK(says(opened(replaced(good, "\"prepares\":[],", "")), "must be an object of"));
  CHECK(says(opened(replaced(good, "\"prepares\":[]", "\"prepares\":[\"voice\"]")), "the preparation 'voice' must be a folder of the bundle"));
  CHECK(says(opened(replaced(good, "\"steps\":1", "\"steps\":2")), "steps must be a whole number from 1 to 1"));
  CHECK(says(opened(replaced(good, "\"run\":\"once\"", "\"run\":\"twice\"")), "once or steps"));
  CHECK(says(opened(replaced(good, "\"m\":\"", "\"../m\":\"")), "outside the bundle"));
  CHECK(says(opened(replaced(good, "\"file\":\"m\"", "\"file\":\"n\"")), "not listed in 'files'"));
  for (std::size_t size = 0; size < good.size(); size += 7) CHECK(!opened(good.substr(0, size)));  // truncated
  MUST(write_file(folder + "/m", "graph changed"));
  CHECK(says(opened(good), "was changed after the bundle was made"));
  MUST(write_file(folder + "/m", "graph"));
  MUST(write_file(folder + "/extra", ""));
  CHECK(says(opened(good), "differ from what bundle.json lists: extra"));
  std::remove((folder + "/extra").c_str());
  auto bundle = Bundle::open(folder);
  MUST(bundle.status());
  Options options;
  options.library = folder;
  CHECK(says(Session::open(*bundle, options).status(), "holds no libonnxruntime.so"));
  options.library = folder + "/none.so";
  CHECK(says(Session::open(*bundle, options).status(), "which is not there"));
  options.library = folder + "/m";
  CHECK(says(Session::open(*bundle, options).status(), "cannot load ONNX Runtime"));
  options.engine = "tpu";
  CHECK(says(Session::open(*bundle, options).status(), "no engine 'tpu'; there are: onnxruntime, openvino"));
  CHECK(says(Session::open(Bundle(), {}).status(), "no bundle was opened"));
}

void two_threads_with_a_session_each(const char* folder) {
  auto bundle = Bundle::open(folder);
  MUST(bundle.status());
  auto golden = read_safetensors(std::string(folder) + "/golden.safetensors");
  MUST(golden.status());
  Inputs inputs;
  for (const auto& [name, tensor] : *golden) {
    if (name.rfind("inputs/", 0) == 0) inputs[name.substr(7)] = tensor.view();
  }
  const auto work = [&] {
    Options options;
    options.threads = 1;
    auto session = Session::open(*bundle, options);
    MUST(session.status());
    for (int i = 0; i < 20; ++i) {
      MUST(session->run(inputs));
      for (const auto& [name, want] : *golden) {
        if (name.rfind("outputs/", 0) != 0 || want.dtype() != DType::kFloat32) continue;
        const Tensor& got = session->answers().at(name.substr(8));
        CHECK(got.shape() == want.shape());
        for (std::size_t k = 0; k < want.count(); ++k) CHECK(std::fabs(got.as<float>()[k] - want.as<float>()[k]) <= 1e-4f);
      }
    }
  };
  std::thread one(work), other(work);
  one.join();
  other.join();
}

}  // namespace

int main() {
  a_folder_that_is_no_bundle_is_one_sentence();
  if (const char* folder = std::getenv("EDGEKIT_TEST_BUNDLE")) two_threads_with_a_session_each(folder);
}
