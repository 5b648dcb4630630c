// What a bundle holds, read and checked.
#pragma once

#include "program.hpp"

namespace edgekit {

struct BundleData {
  std::string folder, name, format, precision, sha256;
  std::vector<Port> inputs, outputs;
  std::map<std::string, GraphFile> graphs;
  Program program;
  Tensors tensors;
  std::map<std::string, double> output_max_abs;
  std::map<std::string, double> sqnr_db;  // of outputs that are rounded: the least signal to noise
  std::map<std::string, double> same_share;  // of whole-number outputs of a stream that may differ: the least share of equal places
  bool exact = false;
  std::string inference_precision;  // openvino
  std::vector<std::string> goldens;  // file names
  std::string checkpoint_sha256;     // of the trained model; empty where edgekit did not train it
  std::map<std::string, Bundle> prepares;  // subfolders, each a bundle that makes inputs of this one
};

// True where the graph's probes have a leading axis of calls.
bool graph_loops(const Program& program, const std::string& graph);

}  // namespace edgekit
