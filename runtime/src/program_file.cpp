// Read tensors and programs from JSON, strictly.
#include "program_file.hpp"

#include <set>

namespace edgekit {

namespace {

constexpr std::uint64_t kMost32 = 0xFFFFFFFFu;

DType dtype(const Json& data, const std::string& at) {
  DType found;
  if (!dtype_named(text(data, at), &found)) refuse(at, "a dtype of the format");
  return found;
}

DimShape shape(const Json& data, const std::string& at) {
  DimShape dims;
  Shape fixed;
  for (const Json& n : array(data, at, limits::kAxes)) {
    Dim dim;
    if (n.is_string()) {
      dim.name = text(n, at);
    } else {
      dim.size = static_cast<std::int64_t>(whole(n, 1, static_cast<std::uint64_t>(limits::kDimension), at));
      fixed.push_back(dim.size);
    }
    dims.push_back(dim);
  }
  if (!limits::bytes_of(fixed, size_of(DType::kInt64))) refuse(at, "of sizes that memory holds");
  return dims;
}

Source source(const Json& data, const std::string& at) {
  Source made;
  if (!data.is_object()) refuse(at, "a source");
  if (data.contains("noise")) {
    object(data, {"noise", "id", "calls"}, at);
    const std::string name = text(data["noise"], at);
    if (name != "normal" && name != "uniform") refuse(at, "normal or uniform");
    made.kind = Source::Kind::kNoise;
    made.normal = name == "normal";
    made.id = static_cast<std::uint32_t>(whole(data["id"], 0, kMost32, at));
    made.calls = static_cast<int>(whole(data["calls"], 0, limits::kFusedCalls, at));
    return made;
  }
  if (data.size() != 1) refuse(at, "a source");
  const std::string key = data.begin().key();
  if (key == "zeros") {
    if (data["zeros"] != true) refuse(at, "a source");
    return made;
  }
  if (key == "value") {
    made.kind = Source::Kind::kValue;
  } else if (key == "tensor") {
    made.kind = Source::Kind::kTensor;
  } else if (key == "row") {
    made.kind = Source::Kind::kRow;
  } else {
    refuse(at, "a source, one of value, tensor, row, zeros, noise");
  }
  made.name = text(data.begin().value(), at);
  return made;
}

std::map<std::string, State> states(const Json& data, const std::string& at) {
  std::map<std::string, State> made;
  for (const auto& [name, state] : names(data, at, limits::kPorts).items()) {
    object(state, {"dtype", "shape", "initial"}, at + "." + name);
    made[name] = {dtype(state["dtype"], at), shape(state["shape"], at), source(state["initial"], at + "." + name)};
  }
  return made;
}

Renames renames(const Json& data, const std::string& at) {
  Renames made;
  for (const auto& [name, to] : names(data, at, limits::kPorts).items()) made[name] = text(to, at + "." + name);
  return made;
}

Operation operation(const Json& data, const std::string& at) {
  Operation made;
  const std::string op = data.is_object() && data.contains("op") ? text(data["op"], at) : "";
  if (op == "affine") {
    object(data, {"op", "terms", "to"}, at);
    for (const Json& term : array(data["terms"], at, limits::kOperations)) {
      object(term, {"of", "by"}, at);
      Term t;
      t.of = source(term["of"], at);
      if (term["by"].is_object()) {
        t.by = source(term["by"], at);
      } else {
        t.factor = number32(term["by"], at);
      }
      made.terms.push_back(t);
    }
  } else if (op == "clamp") {
    object(data, {"op", "of", "low", "high", "to"}, at);
    made.kind = Operation::Kind::kClamp;
    made.terms.push_back({source(data["of"], at), {}, 1});
    made.low = number32(data["low"], at);
    made.high = number32(data["high"], at);
  } else if (op == "argmax") {
    object(data, {"op", "of", "axis", "to"}, at);
    made.kind = Operation::Kind::kArgMax;
    made.terms.push_back({source(data["of"], at), {}, 1});
    made.axis = static_cast<int>(signed_whole(data["axis"], -static_cast<std::int64_t>(limits::kAxes), limits::kAxis, at));
  } else {
    refuse(at, "an operation, one of affine, clamp, argmax");
  }
  if (made.terms.empty()) refuse(at, "an operation with terms");
  made.to = text(data["to"], at);
  return made;
}

Phase phase(const Json& data, const std::string& at) {
  object(data, {"run", "steps", "graph", "states", "inputs", "outputs", "carry", "epilogue", "collect"}, at);
  Phase made;
  const std::string run = text(data["run"], at + ".run");
  if (run != "once" && run != "steps") refuse(at + ".run", "once or steps");
  made.loops = run == "steps";
  made.steps = static_cast<std::uint32_t>(whole(data["steps"], 1, made.loops ? limits::kSteps : 1, at + ".steps"));
  made.graph = text(data["graph"], at + ".graph");
  made.states = states(data["states"], at + ".states");
  for (const auto& [name, from] : names(data["inputs"], at + ".inputs", limits::kPorts).items()) {
    made.inputs[name] = source(from, at + ".inputs." + name);
  }
  made.outputs = renames(data["outputs"], at + ".outputs");
  made.carry = renames(data["carry"], at + ".carry");
  made.collect = renames(data["collect"], at + ".collect");
  for (const Json& op : array(data["epilogue"], at + ".epilogue", limits::kOperations)) made.epilogue.push_back(operation(op, at + ".epilogue"));
  return made;
}

Stream stream(const Json& data, const std::string& at) {
  object(data, {"run", "feeds", "tail", "states", "phases", "joins"}, at);
  Stream made;
  for (const auto& [name, feed] : names(data["feeds"], at + ".feeds", limits::kPorts).items()) {
    const std::string here = at + ".feeds." + name;
    object(feed, {"axis", "window", "hop"}, here);
    Feed f;
    f.axis = static_cast<int>(whole(feed["axis"], 0, limits::kAxis, here));
    if (!feed["window"].is_null() || !feed["hop"].is_null()) {
      f.window = static_cast<std::int64_t>(whole(feed["window"], 1, limits::kSteps, here));
      f.hop = static_cast<std::int64_t>(whole(feed["hop"], 1, static_cast<std::uint64_t>(f.window), here));
    }
    made.feeds[name] = f;
  }
  for (const auto& [name, join] : names(data["joins"], at + ".joins", limits::kPorts).items()) {
    const std::string here = at + ".joins." + name;
    object(join, {"axis", "how", "delay"}, here);
    const std::string how = text(join["how"], here);
    Join j;
    j.axis = static_cast<int>(whole(join["axis"], 0, limits::kAxis, here));
    j.delay = static_cast<std::int64_t>(whole(join["delay"], 0, how == "concat" ? limits::kSteps : 0, here + ".delay"));
    if (how == "stack") {
      j.how = Join::How::kStack;
    } else if (how == "last") {
      j.how = Join::How::kLast;
    } else if (how != "concat") {
      refuse(here, "concat, stack or last");
    }
    made.joins[name] = j;
  }
  made.states = states(data["states"], at + ".states");
  for (const Json& inner : array(data["phases"], at + ".phases", limits::kPhases)) made.phases.push_back(phase(inner, at + ".phases"));
  const std::string tail = text(data["tail"], at + ".tail");
  if (tail != "pad" && tail != "drop") refuse(at + ".tail", "pad or drop");
  made.pad = tail == "pad";
  if (made.feeds.empty() || made.phases.empty()) refuse(at, "a stream with feeds and phases");
  return made;
}

// What each value of each place of the last axis is called; one category more than words means "not given".
std::vector<std::vector<std::string>> words(const Json& data, const Port& port, const std::string& at) {
  const bool numbers = port.dtype == DType::kInt32 || port.dtype == DType::kInt64;
  const bool fits = !array(data, at).empty() && !port.shape.empty() && port.shape.back().name.empty() &&
                    port.shape.back().size == static_cast<std::int64_t>(data.size());
  if (!numbers || !fits) refuse(at, "names for each place of the last axis of int32 or int64");
  std::vector<std::vector<std::string>> made;
  for (std::size_t k = 0; k < data.size(); ++k) {
    std::set<std::string> seen;
    made.emplace_back();
    for (const Json& word : array(data[k], at)) {
      if (!seen.insert(text(word, at)).second) refuse(at, "names that differ within a place");
      made.back().push_back(word.get<std::string>());
    }
    const auto named = static_cast<std::int64_t>(seen.size());
    const bool all = port.categories.empty() || port.categories[k] == named || port.categories[k] == named + 1;
    if (!named || !all) refuse(at, "as many names as categories in each place, or one fewer");
  }
  return made;
}

}  // namespace

std::vector<Port> read_ports(const Json& data, const std::string& at) {
  std::vector<Port> ports;
  std::set<std::string> seen;
  for (const Json& t : array(data, at, limits::kPorts)) {
    const bool named = t.is_object() && t.contains("categories"), sampled = t.is_object() && t.contains("rate_hz");
    object(t, {"name", "dtype", "shape", "meaning"}, {"categories", "rate_hz", "words"}, at);
    Port port{text(t["name"], at), dtype(t["dtype"], at), shape(t["shape"], at), text(t["meaning"], at, true), {}, 0, {}};
    if (!seen.insert(port.name).second) refuse(at, "tensors with different names, found '" + port.name + "' twice");
    if (sampled) {
      const std::string where = at + "." + port.name + ".rate_hz";
      port.rate_hz = static_cast<std::int64_t>(whole(t["rate_hz"], 1, limits::kSteps, where));
      if (port.shape.empty()) refuse(where, "of a tensor with an axis");
    }
    if (named) {
      const std::string where = at + "." + port.name + ".categories";
      for (const Json& n : array(t["categories"], where)) {
        port.categories.push_back(static_cast<std::int64_t>(whole(n, 1, limits::kCategories, where)));
      }
      const bool numbers = port.dtype == DType::kInt32 || port.dtype == DType::kInt64;
      const bool fits = !port.shape.empty() && port.shape.back().name.empty() &&
                        port.shape.back().size == static_cast<std::int64_t>(port.categories.size());
      if (!numbers || !fits) refuse(where, "a number for each place of the last axis of int32 or int64");
    }
    if (t.contains("words")) port.words = words(t["words"], port, at + "." + port.name + ".words");
    ports.push_back(std::move(port));
  }
  return ports;
}

Program read_program(const Json& data) {
  object(data, {"seed", "phases"}, "program");
  Program made;
  made.seed = whole(data["seed"], 0, ~std::uint64_t{0}, "program.seed");
  if (array(data["phases"], "program.phases", limits::kPhases).empty()) refuse("program.phases", "at least one phase");
  for (std::size_t i = 0; i < data["phases"].size(); ++i) {
    const Json& p = data["phases"][i];
    const std::string at = "program.phases[" + std::to_string(i) + "]";
    if (p.is_object() && p.contains("run") && p["run"] == "stream") {
      if (made.stream) refuse(at, "the only stream of the program");
      made.stream = stream(p, at);
    } else {
      (made.stream ? made.after : made.before).push_back(phase(p, at));
    }
  }
  return made;
}

}  // namespace edgekit
