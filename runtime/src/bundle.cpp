// Open a bundle: version, fields, hashes of all files, then the parts of the manifest.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "bundle_data.hpp"
#include "environment.hpp"
#include "files.hpp"
#include "json.hpp"
#include "limits.hpp"
#include "manifest_file.hpp"
#include "program_check.hpp"
#include "safetensors.hpp"

namespace edgekit {

namespace {

constexpr int kFormatVersion = 4;

using Strings = std::vector<std::string>;

bool holds(const Strings& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

// Evidence is no part of a bundle: neither its own nor that of a preparation. A folder that cannot be read might hide anything.
void list_files(const std::string& folder, const std::string& prefix, const Strings& prepares, int depth, Strings* found) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir((folder + "/" + prefix).c_str()), &::closedir);
  if (!dir) throw Status("the folder '" + prefix + "' cannot be read: " + std::strerror(errno));
  if (depth > limits::kFolders) throw Status("folders lie more than " + std::to_string(limits::kFolders) + " deep in it: " + prefix);
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const std::string relative = prefix + name;
    if (prefix.empty() && name == "bundle.json") continue;
    if (name == "evidence" && (prefix.empty() || holds(prepares, prefix.substr(0, prefix.size() - 1)))) continue;
    if (name.rfind(".draft-", 0) == 0) continue;
    struct stat info {};
    if (::lstat((folder + "/" + relative).c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      list_files(folder, relative + "/", prepares, depth + 1, found);
    } else {
      found->push_back(relative);
    }
    if (found->size() > limits::kFiles) throw Status("more than " + std::to_string(limits::kFiles) + " files lie in its folder");
  }
}

bool is_digest(const std::string& text) { return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos; }

bool inside(const std::string& name) {
  if (name.empty() || name[0] == '/') return false;
  std::size_t at = 0;
  while (at <= name.size()) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    if (name.substr(at, end - at) == "..") return false;
    at = end + 1;
  }
  return true;
}

// Every file is there, none else is, and each has its hash. proven: hashes of files that were compared already, by name.
void check_files(const std::string& folder, const Json& listed, const Strings& prepares, const std::map<std::string, std::string>& proven) {
  Strings there;
  list_files(folder, "", prepares, 0, &there);
  Strings wanted;
  for (const auto& [name, hash] : listed.items()) {
    if (!inside(name)) throw Status("the file '" + name + "' would lie outside the bundle");
    text(hash, "files." + name);
    wanted.push_back(name);
  }
  std::sort(there.begin(), there.end());
  std::sort(wanted.begin(), wanted.end());
  Strings odd;
  std::set_symmetric_difference(there.begin(), there.end(), wanted.begin(), wanted.end(), std::back_inserter(odd));
  if (!odd.empty()) throw Status("the files differ from what bundle.json lists: " + odd[0] + "; export the bundle again");
  for (const auto& [name, hash] : listed.items()) {
    const auto known = proven.find(name);
    auto found = known == proven.end() ? sha256_of(folder + "/" + name) : Result<std::string>(known->second);
    if (!found) throw found.status();
    if (*found != hash.get_ref<const std::string&>()) {
      throw Status(folder + "/" + name + " was changed after the bundle was made; export the bundle again");
    }
  }
}

Strings read_prepares(const Json& data) {
  Strings found;
  for (const Json& entry : array(data["prepares"], "prepares", limits::kPreparations)) {
    const std::string name = text(entry, "prepares");
    const bool plain = name.find('/') == std::string::npos && name != "evidence" && !holds(found, name);
    if (!plain || !data["files"].contains(name + "/bundle.json")) {
      throw Status("the preparation '" + name + "' must be a folder of the bundle, named once, whose bundle.json is listed in 'files'");
    }
    found.push_back(name);
  }
  return found;
}

// The hashes of the files in a folder of the bundle, by their names there.
std::map<std::string, std::string> hashes_within(const Json& files, const std::string& folder) {
  std::map<std::string, std::string> found;
  for (const auto& [name, hash] : files.items()) {
    if (name.rfind(folder + "/", 0) == 0) found[name.substr(folder.size() + 1)] = hash.get<std::string>();
  }
  return found;
}

bool could_be(const Port& a, const Port& b) {
  if (a.dtype != b.dtype || a.shape.size() != b.shape.size()) return false;
  for (std::size_t i = 0; i < a.shape.size(); ++i) {
    const bool fixed = a.shape[i].name.empty() && b.shape[i].name.empty();
    if (fixed && a.shape[i].size != b.shape[i].size) return false;
  }
  return true;
}

// All that a preparation makes is an input that is given whole, and no other preparation makes it.
void check_preparation(const BundleData& outer, const std::string& name, const BundleData& inner, Strings* made) {
  if (inner.format != outer.format) {
    throw Status("the preparation '" + name + "' is of format " + inner.format + ", the bundle of " + outer.format + "; export it again");
  }
  for (const Port& output : inner.outputs) {
    const auto taken = std::find_if(outer.inputs.begin(), outer.inputs.end(), [&](const Port& p) { return p.name == output.name; });
    const bool streamed = outer.program.stream && outer.program.stream->feeds.count(output.name);
    if (taken == outer.inputs.end() || streamed) {
      throw Status("the preparation '" + name + "' makes '" + output.name + "', which is no input that is given whole");
    }
    if (!could_be(*taken, output)) {
      throw Status("the preparation '" + name + "' makes '" + output.name + "' as " + name_of(output.dtype) + " " + text_of(output.shape) +
                   ", but the program takes " + name_of(taken->dtype) + " " + text_of(taken->shape));
    }
    if (holds(*made, output.name)) throw Status("two preparations make '" + output.name + "'; one must be left out");
    made->push_back(output.name);
  }
}

// The program that is asked for takes the place of the bundle's own.
void choose(const std::string& task, std::map<std::string, TaskData>* tasks, BundleData* made) {
  if (task.empty() || task == made->task) return;
  const auto found = tasks->find(task);
  if (tasks->empty()) throw Status("it has one program and no task '" + task + "'; leave the task out");
  if (found == tasks->end()) {
    std::string there;
    for (const std::string& name : made->task_names) there += (there.empty() ? "" : ", ") + name;
    throw Status("there is no task '" + task + "' here; there are: " + there);
  }
  static_cast<TaskData&>(*made) = std::move(found->second);
  made->task = task;
}

}  // namespace

bool graph_loops(const Program& program, const std::string& graph) {
  if (program.stream) {
    for (const Phase& phase : program.stream->phases) {
      if (phase.graph == graph) return true;
    }
  }
  for (const auto* phases : {&program.before, &program.after}) {
    for (const Phase& phase : *phases) {
      if (phase.graph == graph && phase.loops) return true;
    }
  }
  return false;
}

Result<Bundle> Bundle::open(const std::string& folder, const std::string& task, const std::string& digest) {
  return read(folder, task, digest, nullptr);
}

Result<Bundle> Bundle::read(const std::string& folder, const std::string& task, const std::string& digest,
                            const std::map<std::string, std::string>* proven) {
  const std::string path = folder + "/bundle.json";
  auto bytes = read_file(path, limits::kManifestBytes);
  if (!bytes) return Status("no bundle in " + folder + ": " + bytes.status().text());
  const std::string sha256 = edgekit::sha256(*bytes);
  if (!digest.empty() && digest != sha256) {  // before anything is parsed
    if (!is_digest(digest)) return Status("a digest is a SHA-256, 64 of 0-9 and a-f, found '" + digest + "'; `edgekit sign` says it");
    return Status(folder + " is not the bundle that was asked for: its digest is " + sha256 + ", not " + digest);
  }
  Json data;
  try {
    data = parse_json(*bytes);
  } catch (const Status& status) {
    return Status(path + ": " + status.text() + "; export the bundle again");
  } catch (const std::exception& error) {
    return Status(path + ": " + error.what());
  }
  if (!data.is_object()) return Status(path + ": it is not JSON of an object; export the bundle again");
  auto made = std::make_shared<BundleData>();
  made->folder = folder;
  made->sha256 = sha256;
  try {
    const Json version = data.contains("format_version") ? data["format_version"] : Json();
    if (version != kFormatVersion) {
      return Status(path + ": is of bundle format " + version.dump() + ", this runtime reads " + std::to_string(kFormatVersion) +
                    "; export it again, or use the edgekit that made it");
    }
    if (!data.contains("files")) refuse("files", "an object");
    const Json& files = names(data["files"], "files", limits::kFiles);
    const Strings prepares = data.contains("prepares") ? read_prepares(data) : Strings();
    if (proven && !prepares.empty()) throw Status("a preparation has none of its own, but this one names " + prepares[0]);
    check_files(folder, files, prepares, proven ? *proven : std::map<std::string, std::string>());
    std::map<std::string, TaskData> tasks = read_manifest(data, made.get());
    if (data["files"].contains("tensors.safetensors")) {
      auto tensors = read_safetensors(folder + "/tensors.safetensors");
      if (!tensors) return tensors.status();
      made->tensors = std::move(*tensors);
    }
    check_program(*made, *made, "");
    for (const auto& [name, other] : tasks) check_program(*made, other, "task '" + name + "': ");
    Strings outputs;
    for (const std::string& name : prepares) {
      const auto own = hashes_within(files, name);
      auto inner = read(folder + "/" + name, "", "", &own);
      if (!inner) return inner.status();
      check_preparation(*made, name, *inner->data(), &outputs);
      made->prepares.emplace(name, *inner);
    }
    choose(task, &tasks, made.get());
  } catch (const Status& status) {
    return Status(path + ": " + status.text());
  } catch (const std::bad_alloc&) {
    return Status(folder + " does not fit into the memory that there is");
  } catch (const std::exception& error) {
    return Status(path + ": " + error.what());
  }
  Bundle bundle;
  bundle.data_ = std::move(made);
  return bundle;
}

const std::string& Bundle::name() const { return data_->name; }
const std::string& Bundle::sha256() const { return data_->sha256; }
const std::string& Bundle::format() const { return data_->format; }
const std::string& Bundle::task() const { return data_->task; }
std::vector<std::string> Bundle::tasks() const { return data_->task_names; }
bool Bundle::streams() const { return data_->program.stream.has_value(); }
std::uint64_t Bundle::seed() const { return data_->program.seed; }

std::vector<std::string> Bundle::prepares() const {
  Strings found;
  for (const auto& [name, bundle] : data_->prepares) {
    (void)bundle;
    found.push_back(name);
  }
  return found;
}

Result<Bundle> Bundle::preparation(const std::string& name) const {
  const auto found = data_->prepares.find(name);
  if (found == data_->prepares.end()) return Status("'" + data_->name + "' has no preparation '" + name + "'");
  return found->second;
}

namespace {

std::vector<TensorInfo> infos(const std::vector<Port>& ports) {
  std::vector<TensorInfo> found;
  for (const Port& port : ports) {
    TensorInfo info{port.name, port.dtype, {}, {}, port.meaning, port.rate_hz, 0, port.words};
    for (const Dim& dim : port.shape) {
      info.shape.push_back(dim.name.empty() ? dim.size : -1);
      info.names.push_back(dim.name);
    }
    found.push_back(info);
  }
  return found;
}

}  // namespace

std::vector<TensorInfo> Bundle::inputs() const { return infos(data_->inputs); }

std::vector<TensorInfo> Bundle::outputs() const {
  std::vector<TensorInfo> found = infos(data_->outputs);
  for (TensorInfo& info : found) {
    if (!streams()) break;
    const auto join = data_->program.stream->joins.find(info.name);
    if (join != data_->program.stream->joins.end()) info.delay = join->second.delay;
  }
  return found;
}

}  // namespace edgekit
