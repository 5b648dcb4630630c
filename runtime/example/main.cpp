// Copy this: open a bundle, give it .npy files by name, print what comes out.
#include <cstdio>

#include "edgekit/edgekit.hpp"

int main(int count, char** words) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s BUNDLE [NAME=FILE.npy ...]\n", words[0]);
    return 2;
  }
  const auto failed = [](const edgekit::Status& status) {
    std::fprintf(stderr, "error: %s\n", status.text().c_str());
    return 2;
  };
  auto bundle = edgekit::Bundle::open(words[1]);
  if (!bundle) return failed(bundle.status());
  auto session = edgekit::Session::open(*bundle, {});
  if (!session) return failed(session.status());

  edgekit::Tensors arrays;
  edgekit::Inputs inputs;
  for (int i = 2; i < count; ++i) {
    const std::string word = words[i];
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) return failed(edgekit::Status("'" + word + "' is not of the form NAME=FILE.npy"));
    auto array = edgekit::read_npy(word.substr(equals + 1));
    if (!array) return failed(array.status());
    const std::string name = word.substr(0, equals);
    arrays[name] = std::move(*array);
    inputs[name] = arrays[name].view();
  }
  if (edgekit::Status s = session->run(inputs); !s) return failed(s);
  for (const auto& [name, answer] : session->answers()) {
    std::printf("%s: %s %s on %s\n", name.c_str(), edgekit::name_of(answer.dtype()), edgekit::text_of(answer.shape()).c_str(), session->engine().c_str());
  }
  return 0;
}
