// What a bundle holds, read and checked.
#pragma once

#include "program.hpp"

namespace edgekit {

// One program over the bundle's graphs and tensors, and what its answers are held to.
struct TaskData {
  std::vector<Port> inputs, outputs;
  Program program;
  std::map<std::string, double> output_max_abs;
  std::map<std::string, double> sqnr_db;  // of outputs that are rounded: the least signal to noise
  std::map<std::string, double> same_share;  // of whole-number outputs that may differ: the least share of equal places
  bool exact = false;
  std::vector<std::string> goldens;  // file names
};

// What is there as TaskData is the program that was chosen when the bundle was opened.
struct BundleData : TaskData {
  std::string folder, name, format, precision, sha256;
  std::string task;                     // the chosen program's name; may be empty in a bundle of one program
  std::vector<std::string> task_names;  // of all programs, the bundle's own first; empty where there is but one
  std::map<std::string, GraphFile> graphs;
  Tensors tensors;
  std::string inference_precision;   // openvino
  std::string checkpoint_sha256;     // of the trained model; empty where edgekit did not train it
  std::map<std::string, Bundle> prepares;  // subfolders, each a bundle that makes inputs of this one
};

// True where the graph's probes have a leading axis of calls.
bool graph_loops(const Program& program, const std::string& graph);

}  // namespace edgekit
