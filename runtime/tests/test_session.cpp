// Opening bundles and engines: what is wrong with a folder or a library is one sentence. With EDGEKIT_TEST_BUNDLE (an ONNX
// bundle without a stream) it also runs: the golden answers, and two threads with a session each.
#include <sys/stat.h>

#include <cmath>
#include <thread>
#include <tuple>

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
  CHECK(says(Bundle::open(folder, "other").status(), "it has one program and no task 'other'; leave the task out"));
  MUST(Bundle::open(folder, "", sha256(good)).status());
  CHECK(Bundle::open(folder)->sha256() == sha256(good));
  CHECK(says(Bundle::open(folder, "", std::string(64, '0')).status(), ("is not the bundle that was asked for: its digest is " + sha256(good)).c_str()));
  CHECK(says(Bundle::open(folder, "", "none").status(), "64 of 0-9 and a-f, found 'none'"));
  CHECK(says(opened("{"), "not JSON"));
  CHECK(says(Bundle::open(folder, "", sha256(good)).status(), "is not the bundle that was asked for"));  // and not: not JSON
  CHECK(says(opened(replaced(good, "\"format_version\":4", "\"format_version\":3")), "is of bundle format 3, this runtime reads 4"));
  CHECK(says(opened(replaced(good, "\"details\":{}", "\"details\":{},\"more\":1")), "must be an object of"));
  CHECK(says(opened(replaced(good, "\"variant\":\"\",", "")), "must be an object of"));
  CHECK(says(opened(replaced(good, "\"prepares\":[],", "")), "must be an object of"));
  CHECK(says(opened(replaced(good, "\"tasks\":{},", "")), "must be an object of"));
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

// The manifest with a second program under it, whose seed is 7.
std::string with_a_task() {
  std::string made = replaced(kManifest, "\"tasks\":{}",
                              R"("tasks":{"other":{"signature":{"inputs":[],"outputs":[]},"program":{"seed":7,"phases":[{"run":"once","steps":1,"graph":"main",)"
                              R"("states":{},"inputs":{},"outputs":{},"carry":{},"epilogue":[],"collect":{}}]},"allowed":{"output_max_abs":{},"near_threshold":0,)"
                              R"("score_drop":0,"exact":false,"sqnr_db":{},"same_share":{}}}})");
  made = replaced(made, "\"task\":\"\"", "\"task\":\"own\"");
  made = replaced(made, "\"m\":\"@\"", "\"m\":\"@\",\"golden-other.safetensors\":\"@\"");
  made = replaced(made, "@", sha256("graph"));
  return replaced(made, "@", sha256("answers"));
}

void a_task_is_opened_by_its_name_and_checked_as_the_own_program_is() {
  char name[] = "/tmp/edgekit-test-XXXXXX";
  CHECK(::mkdtemp(name));
  const std::string folder = name, good = with_a_task();
  MUST(write_file(folder + "/m", "graph"));
  MUST(write_file(folder + "/golden-other.safetensors", "answers"));
  const auto opened = [&](const std::string& manifest, const char* task) {
    MUST(write_file(folder + "/bundle.json", manifest));
    return Bundle::open(folder, task);
  };
  for (const auto& [task, found, seed] : {std::tuple{"", "own", 0u}, {"own", "own", 0u}, {"other", "other", 7u}}) {
    auto bundle = opened(good, task);
    MUST(bundle.status());
    CHECK(bundle->task() == found && bundle->seed() == seed && bundle->tasks() == std::vector<std::string>{"own", "other"});
    CHECK(bundle->data()->goldens == (seed ? std::vector<std::string>{"golden-other.safetensors"} : std::vector<std::string>{}));
  }
  const auto refused = [&](const std::string& from, const std::string& to, const char* what) { return says(opened(replaced(good, from, to), "").status(), what); };
  CHECK(says(opened(good, "oher").status(), "there is no task 'oher' here; there are: own, other"));
  CHECK(refused("\"task\":\"own\"", "\"task\":\"other\"", "tasks have different names of small letters and hyphens, the bundle's own too, found 'other'"));
  CHECK(refused("\"task\":\"own\"", "\"task\":\"\"", "tasks have different names"));
  for (const char* odd : {"Other", "2", "a-2", "a b", "-a", "a-", "a--b", "a/b"}) {
    CHECK(refused("{\"other\":", std::string("{\"") + odd + "\":", "tasks have different names"));
  }
  CHECK(refused("{\"other\":", "{\"another\":", "the task 'another' has no golden answers"));
  CHECK(refused("\"seed\":7,", "", "task 'other': program must be an object of"));
  CHECK(refused("\"seed\":7,\"phases\":[{\"run\":\"once\",\"steps\":1,\"graph\":\"main\"", "\"seed\":7,\"phases\":[{\"run\":\"once\",\"steps\":1,\"graph\":\"none\"",
                "task 'other': the program runs the graph 'none', which the bundle does not hold"));
  const std::string output = "{\"name\":\"y\",\"dtype\":\"int64\",\"shape\":[2],\"meaning\":\"\"";
  const std::string from = "{\"other\":{\"signature\":{\"inputs\":[],\"outputs\":[", to = from + output;
  CHECK(refused(from, to + "}", "task 'other': the program never writes the output 'y'"));
  CHECK(refused(from, to + ",\"words\":[[\"a\"]]}", "words must be names for each place of the last axis"));
  CHECK(refused(from, to + ",\"words\":[[\"a\"],[]]}", "words must be as many names as categories"));
  CHECK(refused(from, to + ",\"words\":[[\"a\"],[\"b\",\"b\"]]}", "words must be names that differ"));
  CHECK(refused(from, to + ",\"words\":[[\"a\"],[\"b\"]],\"categories\":[1,3]}", "words must be as many names as categories"));
  CHECK(refused(from, to + ",\"words\":[[\"a\"],[\"b\"]],\"categories\":[1,2]}", "never writes the output 'y'"));
  auto worded = opened(replaced(good, "{\"other\":{\"signature\":{\"inputs\":[", "{\"other\":{\"signature\":{\"inputs\":[" + output + ",\"words\":[[\"a\"],[\"b\",\"c\"]]}"), "other");
  MUST(worded.status());
  CHECK(worded->inputs().at(0).words == std::vector<std::vector<std::string>>{{"a"}, {"b", "c"}});
  CHECK(says(opened(replaced(good, "\"same_share\":{}", "\"same_share\":{\"z\":1}"), "other").status(), "same_share names 'z', which is no whole-number output"));
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
    std::size_t bound = 0;
    CHECK(!session->run_bound(0).ok());
    MUST(session->bind(inputs, &bound));
    for (int i = 0; i < 20; ++i) {
      const Status done = i % 2 ? session->run_bound(bound) : session->run(inputs);
      MUST(done);
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
  a_task_is_opened_by_its_name_and_checked_as_the_own_program_is();
  a_folder_that_is_no_bundle_is_one_sentence();
  if (const char* folder = std::getenv("EDGEKIT_TEST_BUNDLE")) two_threads_with_a_session_each(folder);
}
