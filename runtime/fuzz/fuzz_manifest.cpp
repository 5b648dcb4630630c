// bundle.json: what is taken is checked as a whole program, without any tensors.
#include "manifest_file.hpp"
#include "program_check.hpp"
#include "target.hpp"

#ifdef EDGEKIT_FUZZ
#include "json_mutator.hpp"
EDGEKIT_MUTATES_JSON
#endif

using namespace edgekit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const Json manifest = parse_json(fuzz::text(data, size));
    BundleData bundle;
    const auto tasks = read_manifest(manifest, &bundle);
    for (const auto& [name, graph] : bundle.graphs) EXPECT(manifest["files"].contains(graph.file) && !name.empty());
    check_program(bundle, bundle, "");
    for (const auto& [name, task] : tasks) check_program(bundle, task, "task '" + name + "': ");
  } catch (const Status& status) {
    fuzz::refused(status);
  }
  return 0;
}
