// The fields of bundle.json, strictly: graphs, and one program or several over them.
#include "manifest_file.hpp"

#include <algorithm>

#include "program_file.hpp"

namespace edgekit {

namespace {

bool whole_number(DType dtype) {
  return dtype == DType::kUint8 || dtype == DType::kInt8 || dtype == DType::kInt32 || dtype == DType::kInt64;
}

// What may differ is a whole-number output; of a stream, one whose elements come chunk by chunk.
void read_same_share(const Json& data, TaskData* out) {
  for (const auto& [name, least] : names(data, "same_share", limits::kPorts).items()) {
    const auto output = std::find_if(out->outputs.begin(), out->outputs.end(), [&name = name](const Port& p) { return p.name == name; });
    const bool number_there = output != out->outputs.end() && whole_number(output->dtype);
    if (!out->program.stream && !number_there) throw Status("same_share names '" + name + "', which is no whole-number output");
    const auto& stream = out->program.stream;
    const bool joined = !stream || (stream->joins.count(name) && stream->joins.at(name).how != Join::How::kLast);
    if (!joined || !number_there) {
      throw Status("same_share names '" + name + "', which is no whole-number output that a stream joins with concat or stack");
    }
    out->same_share[name] = number(least, name);
    if (!(out->same_share[name] >= 0 && out->same_share[name] <= 1)) refuse("same_share of '" + name + "'", "a number from 0 to 1");
  }
}

// A program with its signature and what is allowed: the fields that a bundle has itself and each of its tasks.
TaskData read_task(const Json& data) {
  TaskData made;
  const Json& signature = object(data["signature"], {"inputs", "outputs"}, "signature");
  made.inputs = read_ports(signature["inputs"], "signature.inputs");
  made.outputs = read_ports(signature["outputs"], "signature.outputs");
  made.program = read_program(data["program"]);
  const Json& allowed = object(data["allowed"], {"output_max_abs", "near_threshold", "score_drop", "exact", "sqnr_db", "same_share"}, "allowed");
  for (const auto& [name, limit] : names(allowed["output_max_abs"], "output_max_abs", limits::kPorts).items()) made.output_max_abs[name] = number(limit, name);
  for (const auto& [name, least] : names(allowed["sqnr_db"], "sqnr_db", limits::kPorts).items()) made.sqnr_db[name] = number(least, name);
  read_same_share(allowed["same_share"], &made);
  if (!allowed["exact"].is_boolean()) refuse("allowed.exact", "true or false");
  made.exact = allowed["exact"].get<bool>();
  return made;
}

// golden.safetensors, golden-2.safetensors to golden-9.safetensors; of a task, golden-NAME.safetensors, golden-NAME-2.safetensors, ...
std::vector<std::string> goldens_of(const Json& files, const std::string& task) {
  const std::string stem = task.empty() ? "golden" : "golden-" + task, ending = ".safetensors";
  std::vector<std::string> found;
  if (files.contains(stem + ending)) found.push_back(stem + ending);
  for (char digit = '2'; digit <= '9'; ++digit) {
    const std::string name = stem + "-" + digit + ending;
    if (files.contains(name)) found.push_back(name);
  }
  return found;
}

// Words of small letters with hyphens between them: golden-NAME-2.safetensors is then the second one of NAME.
bool task_name(const std::string& name) {
  bool letter = false;  // before
  for (const char c : name) {
    const bool hyphen = c == '-';
    if ((hyphen && !letter) || (!hyphen && (c < 'a' || c > 'z'))) return false;
    letter = !hyphen;
  }
  return letter;
}

std::map<std::string, TaskData> read_tasks(const Json& data, BundleData* out) {
  out->task = text(data["task"], "task", true);
  std::map<std::string, TaskData> made;
  const Json& tasks = names(data["tasks"], "tasks", limits::kTasks);
  std::vector<std::string> all;
  if (!out->task.empty() || !tasks.empty()) all.push_back(out->task);
  for (const auto& item : tasks.items()) all.push_back(item.key());
  for (const std::string& name : all) {
    if (task_name(name) && std::count(all.begin(), all.end(), name) == 1) continue;
    throw Status("tasks have different names of small letters and hyphens, the bundle's own too, found '" + name + "'");
  }
  for (const auto& [name, task] : tasks.items()) {
    try {
      made[name] = read_task(object(task, {"signature", "program", "allowed"}, "it"));
    } catch (const Status& status) {
      throw Status("task '" + name + "': " + status.text());
    }
    made[name].goldens = goldens_of(data["files"], name);
    if (made[name].goldens.empty()) throw Status("the task '" + name + "' has no golden answers in 'files'; export the bundle again");
  }
  if (!made.empty() && !data["prepares"].empty()) throw Status("a bundle has tasks or preparations, found the task '" + made.begin()->first + "' and a preparation");
  if (!made.empty()) out->task_names = all;
  return made;
}

}  // namespace

std::map<std::string, TaskData> read_manifest(const Json& data, BundleData* out) {
  object(data,
         {"format_version", "name", "format", "precision", "signature", "graphs", "program", "golden", "model", "allowed",
          "lineage", "variant", "details", "prepares", "task", "tasks", "files"},
         "bundle.json");
  out->name = text(data["name"], "name", true);
  out->format = text(data["format"], "format");
  out->precision = text(data["precision"], "precision");
  for (const auto& [name, graph] : names(data["graphs"], "graphs", limits::kPorts).items()) {
    if (name.empty()) throw Status(std::string("'graphs' has a graph without a name"));
    const std::string at = "graphs." + name;
    object(graph, {"file", "inputs", "outputs", "probes"}, at);
    GraphFile made{text(graph["file"], at + ".file"), read_ports(graph["inputs"], at), read_ports(graph["outputs"], at), {}};
    for (const Json& probe : array(graph["probes"], at + ".probes", limits::kPorts)) made.probes.push_back(text(probe, at + ".probes"));
    if (!data["files"].contains(made.file)) throw Status("the graph file '" + made.file + "' is not listed in 'files'");
    out->graphs[name] = made;
  }
  static_cast<TaskData&>(*out) = read_task(data);
  out->goldens = goldens_of(data["files"], "");
  if (!data["model"].is_null()) {
    const Json& model = names(data["model"], "model");
    out->checkpoint_sha256 = model.contains("checkpoint_sha256") ? text(model["checkpoint_sha256"], "model.checkpoint_sha256") : "";
  }
  const Json& details = names(data["details"], "details");
  out->inference_precision = details.contains("inference_precision") ? text(details["inference_precision"], "details") : "f32";
  return read_tasks(data, out);
}

}  // namespace edgekit
