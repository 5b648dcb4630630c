// A program as data: which graphs run, how often, with which rows, states and noise (docs/bundle-format.md, section 2).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "edgekit/edgekit.hpp"

namespace edgekit {

// A size, or the name of one that is free.
struct Dim {
  std::int64_t size = 0;
  std::string name;  // empty: `size` is the size
};
using DimShape = std::vector<Dim>;

struct Source {
  enum class Kind { kValue, kTensor, kRow, kZeros, kNoise };
  Kind kind = Kind::kZeros;
  std::string name;  // of the value or tensor
  bool normal = true;
  std::uint32_t id = 0;
  int calls = 0;
};

struct State {
  DType dtype = DType::kFloat32;
  DimShape shape;
  Source initial;
};

struct Term {
  Source of;
  std::optional<Source> by;  // a row or tensor; else `factor`
  float factor = 0;
};

struct Operation {
  enum class Kind { kAffine, kClamp, kArgMax };
  Kind kind = Kind::kAffine;
  std::vector<Term> terms;  // one, without a factor, for clamp and argmax
  float low = 0, high = 0;
  int axis = 0;
  std::string to;
};

using Renames = std::map<std::string, std::string>;

struct Phase {
  bool loops = false;  // "steps"
  std::uint32_t steps = 1;
  std::string graph;
  std::map<std::string, State> states;
  std::map<std::string, Source> inputs;
  Renames outputs, carry, collect;
  std::vector<Operation> epilogue;
};

struct Feed {
  int axis = 0;
  std::int64_t window = 0, hop = 0;  // both 0: slices without the axis
};

struct Join {
  enum class How { kConcat, kStack, kLast };
  How how = How::kConcat;
  int axis = 0;
  std::int64_t delay = 0;  // of concat: element k + delay belongs to element k of the input; the first ones to nothing
};

struct Stream {
  std::map<std::string, Feed> feeds;
  std::map<std::string, Join> joins;
  std::map<std::string, State> states;
  std::vector<Phase> phases;
  bool pad = true;
};

struct Program {
  std::uint64_t seed = 0;
  std::vector<Phase> before, after;
  std::optional<Stream> stream;  // without one, all phases are `before`
};

struct Port {
  std::string name;
  DType dtype = DType::kFloat32;
  DimShape shape;
  std::string meaning;
  std::vector<std::int64_t> categories;  // of each place of the last axis, how many there are; empty: any number
  std::int64_t rate_hz = 0;              // of a sampled signal, along its last axis; 0: none
  std::vector<std::vector<std::string>> words;  // of whole numbers: what each value of each place of the last axis is called
};

struct GraphFile {
  std::string file;
  std::vector<Port> inputs, outputs;
  std::vector<std::string> probes;
};

}  // namespace edgekit
