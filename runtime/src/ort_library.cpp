// Find libonnxruntime.
#include "ort_library.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>

namespace edgekit {

namespace {

// The library in a folder: the wheel has only the versioned name, libonnxruntime.so.1.32.0.
std::string in_folder(const std::string& folder) {
  std::string found;
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return found;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    const bool library = name.rfind("libonnxruntime.so", 0) == 0 || name == "libonnxruntime.dylib";
    if (library && (found.empty() || name.size() < found.size())) found = name;
  }
  ::closedir(dir);
  return found.empty() ? found : folder + "/" + found;
}

Result<std::string> named(const std::string& path, const std::string& origin) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return Status(origin + " names " + path + ", which is not there");
  if (!S_ISDIR(info.st_mode)) return path;
  for (const char* inside : {"", "/capi", "/onnxruntime/capi", "/lib"}) {
    const std::string found = in_folder(path + inside);
    if (!found.empty()) return found;
  }
  return Status(origin + " names the folder " + path + ", which holds no libonnxruntime.so");
}

bool loads(const char* name) {
  void* handle = ::dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (handle) ::dlclose(handle);
  return handle != nullptr;
}

// The folder of Python's own package, without importing it. `python -c` looks in the working folder first, which may be a stranger's
// bundle with a library of that name in it: the working folder is left out.
std::string in_python(const std::string& python) {
  const std::string command = python +
                              " -c \"import sys; sys.path[:] = [p for p in sys.path if p]; import importlib.util as u; s = u.find_spec('onnxruntime'); "
                              "print(list(s.submodule_search_locations)[0] if s else '')\" 2>/dev/null";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) return "";
  char line[4096] = {};
  const bool read = std::fgets(line, sizeof line, pipe) != nullptr;
  ::pclose(pipe);
  std::string folder = read ? line : "";
  while (!folder.empty() && (folder.back() == '\n' || folder.back() == '\r')) folder.pop_back();
  return folder.empty() ? "" : in_folder(folder + "/capi");
}

std::string quoted(const std::string& text) {
  std::string made = "'";
  for (char c : text) made += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return made + "'";
}

}  // namespace

Result<std::string> find_onnxruntime(const std::string& given) {
  if (!given.empty()) return named(given, "the option for the library");
  if (const char* path = std::getenv("EDGEKIT_ORT_LIBRARY"); path && *path) return named(path, "EDGEKIT_ORT_LIBRARY");
  for (const char* name : {"libonnxruntime.so.1", "libonnxruntime.so"}) {
    if (loads(name)) return std::string(name);
  }
  const char* own = std::getenv("EDGEKIT_PYTHON");
  for (const std::string& python : {own && *own ? quoted(own) : std::string(), std::string("python3")}) {
    if (python.empty()) continue;
    const std::string found = in_python(python);
    if (!found.empty()) return found;
  }
  return Status(
      "no ONNX Runtime was found: name libonnxruntime.so with --library or EDGEKIT_ORT_LIBRARY, or `pip install onnxruntime` (1.20 or newer) "
      "for the python3 on PATH");
}

}  // namespace edgekit
