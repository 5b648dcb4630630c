// Voices: a safetensors file whose header says of which trained model it is (edgekit/voice_file.py writes the same).
#include "voice.hpp"

#include "environment.hpp"
#include "files.hpp"
#include "safetensors.hpp"

namespace edgekit {

namespace {

const char* const kOf = "edgekit_voice_of";

Status no_model(const Bundle& bundle) {
  return Status("'" + bundle.name() + "' names no trained model, so that nobody could tell its voices from another's; give inputs with --input");
}

}  // namespace

Result<Tensors> parse_voice(const BundleData& data, const std::vector<Port>& wanted, std::string_view bytes, const std::string& where) {
  Facts facts;
  auto tensors = parse_safetensors(bytes, where, &facts);
  if (!tensors) return tensors.status();
  const std::string& of = facts[kOf];
  if (of.empty()) return Status(where + " does not say of which model it is a voice; make one: edgekit-run BUNDLE --make-voice FILE.wav");
  if (of != data.checkpoint_sha256) {
    return Status(where + " is a voice of another model (checkpoint " + of.substr(0, 12) + ") than '" + data.name + "' (checkpoint " +
                  data.checkpoint_sha256.substr(0, 12) + "); make it again with this bundle: --make-voice FILE.wav");
  }
  for (const Port& output : wanted) {
    const auto value = tensors->find(output.name);
    if (value == tensors->end()) return Status(where + " lacks '" + output.name + "', which the preparation makes; make it again");
    if (!fits(output, value->second.view())) {
      return Status("'" + output.name + "' must be " + name_of(output.dtype) + " " + text_of(output.shape) + ", but " + where + " holds " +
                    name_of(value->second.dtype()) + " " + text_of(value->second.shape()));
    }
  }
  if (wanted.size() != tensors->size()) return Status(where + " holds more than the preparations make; make it again");
  return tensors;
}

Result<Tensors> read_voice(const Bundle& bundle, const std::string& path) {
  const BundleData& data = *bundle.data();
  if (data.prepares.empty()) return Status("'" + data.name + "' has no preparation, so it takes no voice; give its inputs with --input");
  if (data.checkpoint_sha256.empty()) return no_model(bundle);
  auto bytes = read_file(path);
  if (!bytes) return bytes.status();
  std::vector<Port> wanted;
  for (const auto& [name, inner] : data.prepares) {
    (void)name;
    wanted.insert(wanted.end(), inner.data()->outputs.begin(), inner.data()->outputs.end());
  }
  return parse_voice(data, wanted, *bytes, path);
}

Status write_voice(const Bundle& bundle, const std::string& path, const Tensors& made) {
  if (bundle.data()->checkpoint_sha256.empty()) return no_model(bundle);
  Inputs views;
  for (const auto& [name, tensor] : made) views[name] = tensor.view();
  return write_safetensors(path, views, {{kOf, bundle.data()->checkpoint_sha256}});
}

}  // namespace edgekit
