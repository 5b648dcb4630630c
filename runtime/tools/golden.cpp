// The self-test of a bundle: golden inputs, answers compared by docs/bundle-format.md, section 4.
#include "golden.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "agreement.hpp"
#include "bundle_data.hpp"
#include "json.hpp"
#include "safetensors.hpp"

namespace edgekit {

namespace {

constexpr int kSplits = 3;  // a stream is pushed in pieces of random sizes so many times

double at(const TensorView& t, std::size_t i) {
  switch (t.dtype) {
    case DType::kBool:
    case DType::kUint8: return t.as<std::uint8_t>()[i];
    case DType::kInt8: return t.as<std::int8_t>()[i];
    case DType::kInt32: return t.as<std::int32_t>()[i];
    case DType::kInt64: return static_cast<double>(t.as<std::int64_t>()[i]);
    case DType::kFloat32: return t.as<float>()[i];
    case DType::kFloat64: return t.as<double>()[i];
    case DType::kFloat16: break;
  }
  const std::uint16_t h = t.as<std::uint16_t>()[i];
  const int exponent = h >> 10 & 31;
  const double part = h & 1023;
  const double size = exponent == 31 ? (part != 0.0 ? std::nan("") : INFINITY)
                      : exponent     ? std::ldexp(1024 + part, exponent - 25)
                                     : std::ldexp(part, -24);
  return h >> 15 ? -size : size;
}

Views group(const Tensors& golden, const std::string& name) {
  std::map<std::string, TensorView> found;
  for (const auto& [full, tensor] : golden) {
    if (full.rfind(name + "/", 0) == 0) found[full.substr(name.size() + 1)] = tensor.view();
  }
  return found;
}

// Spikes by calls and layers; images behind a flip are no longer compared.
struct Spikes {
  std::size_t compared = 0, flips = 0, near = 0;
  std::vector<bool> flipped;

  void compare(const BundleData& bundle, const Tensors& golden, const Tensors& answers, std::vector<std::string>* failures) {
    const auto expected = group(golden, "probes");
    const auto at_threshold = group(golden, "near");
    std::size_t calls = 1;
    for (const auto& [graph, file] : bundle.graphs) {
      for (const std::string& name : file.probes) {
        const auto want = expected.find(name);
        const auto got = answers.find(name);
        if (!graph_loops(bundle.program, graph) || want == expected.end() || got == answers.end()) continue;
        // The golden file is as foreign as the rest: only what the engine gave says that these calls were made.
        const bool alike = !want->second.shape.empty() && got->second.shape() == want->second.shape;
        if (alike) calls = std::max(calls, static_cast<std::size_t>(want->second.shape[0]));
      }
    }
    for (std::size_t call = 0; call < calls; ++call) {
      for (const auto& [graph, file] : bundle.graphs) {
        const bool loops = graph_loops(bundle.program, graph);
        for (const std::string& name : file.probes) {
          const auto want = expected.find(name);
          const auto got = answers.find(name);
          if (want == expected.end() || got == answers.end()) continue;
          if (got->second.shape() != want->second.shape || want->second.dtype != DType::kUint8) {
            if (!call) failures->push_back("spikes of '" + name + "' have the shape " + text_of(got->second.shape()) + ", expected " + text_of(want->second.shape));
            continue;
          }
          const std::size_t made = !loops ? 1 : want->second.shape.empty() ? 0 : static_cast<std::size_t>(want->second.shape[0]);
          if (call >= made) continue;
          const std::size_t each = want->second.count() / made;
          layer(name, call * each, each, want->second, got->second, at_threshold, failures);
        }
      }
    }
  }

  void layer(const std::string& name, std::size_t from, std::size_t count, const TensorView& want, const Tensor& got,
             const std::map<std::string, TensorView>& at_threshold, std::vector<std::string>* failures) {
    const std::size_t image = std::max<std::size_t>(1, count / std::max<std::size_t>(1, flipped.size()));
    const auto image_of = [&](std::size_t i) { return std::min(i / image, flipped.size() - 1); };
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < count; ++i) {
      if (want.as<unsigned char>()[from + i] != got.as<unsigned char>()[from + i] && !flipped[image_of(i)]) found.push_back(i);
    }
    compared += count;
    std::size_t far = 0;
    for (std::size_t i : found) {
      bool close = false;
      const auto list = at_threshold.find(name);
      for (std::size_t k = 0; list != at_threshold.end() && list->second.dtype == DType::kInt64 && k < list->second.count(); ++k) {
        close = close || list->second.as<std::int64_t>()[k] == static_cast<std::int64_t>(from + i);
      }
      ++flips;
      near += close;
      far += !close;
    }
    for (std::size_t i : found) flipped[image_of(i)] = true;
    if (far) failures->push_back(std::to_string(far) + " spikes of '" + name + "' flipped away from the threshold");
  }
};

// Shares against what is promised, and how many chunks there are and are equal.
Agreement compare_decisions(const BundleData& bundle, const Tensors& golden, const Tensors& answers, std::vector<std::string>* failures) {
  const Agreement found = agreement(bundle, group(golden, "inputs"), group(golden, "outputs"), answers);
  for (const auto& [name, share] : found.shares) {
    if (share < bundle.same_share.at(name)) {
      failures->push_back(std::to_string(100 * share) + " % of the places of output '" + name + "' are equal; at least " + std::to_string(100 * bundle.same_share.at(name)) + " % is promised");
    }
  }
  return found;
}

// Largest difference of an output over images without a flip, before the first chunk, or in no sample, that is decided otherwise.
void compare_outputs(const BundleData& bundle, const Tensors& golden, const Tensors& answers, const std::vector<bool>& flipped,
                     const Agreement& found_alike, double* worst, std::vector<std::string>* failures) {
  for (const auto& [name, want] : group(golden, "outputs")) {
    const auto got = answers.find(name);
    if (got == answers.end() || got->second.shape() != want.shape || got->second.dtype() != want.dtype) {
      failures->push_back("output '" + name + "' is missing or has another shape than " + text_of(want.shape));
      continue;
    }
    if (bundle.same_share.count(name)) continue;
    const Part part(bundle, found_alike, name, want.shape);
    const std::size_t image = std::max<std::size_t>(1, want.count() / std::max<std::size_t>(1, flipped.size()));
    bool any = false;
    for (bool f : flipped) any = any || f;
    double difference = 0, signal = 0, noise = 0;
    for (std::size_t i = 0; i < want.count(); ++i) {
      if (!std::isfinite(at(got->second.view(), i)) && std::isfinite(at(want, i))) difference = std::nan("");
      if (!part.holds(i)) continue;
      signal += at(want, i) * at(want, i);
      noise += (at(got->second.view(), i) - at(want, i)) * (at(got->second.view(), i) - at(want, i));
      if (any && flipped[std::min(i / image, flipped.size() - 1)]) continue;
      const double gap = std::fabs(at(got->second.view(), i) - at(want, i));
      difference = gap > difference || std::isnan(gap) ? gap : difference;
      if (std::isnan(difference)) break;
    }
    if (!(difference <= *worst)) *worst = difference;
    if (const auto least = bundle.sqnr_db.find(name); least != bundle.sqnr_db.end()) {
      const double found = noise == 0 ? 200.0 : 10 * std::log10(signal / noise);
      if (!(found >= least->second) || std::isnan(difference)) failures->push_back("output '" + name + "' has " + std::to_string(found) + " dB of signal to noise; at least " + std::to_string(least->second) + " dB is promised");
      continue;
    }
    const auto limit = bundle.output_max_abs.find(name);
    const double allowed = limit == bundle.output_max_abs.end() ? (bundle.exact ? INFINITY : 0.0) : limit->second;
    if (!(difference <= allowed)) failures->push_back("output '" + name + "' differs by " + std::to_string(difference) + "; allowed " + std::to_string(allowed));
  }
}

bool same(const Tensors& a, const Tensors& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second.shape() != tensor.shape() || other->second.dtype() != tensor.dtype()) return false;
    if (tensor.bytes() && std::memcmp(other->second.data(), tensor.data(), tensor.bytes()) != 0) return false;
  }
  return true;
}

int axis_of(const BundleData& bundle, const std::string& name) {
  const auto feed = bundle.program.stream->feeds.find(name);
  return feed == bundle.program.stream->feeds.end() ? -1 : feed->second.axis;
}

// Append `more` to `whole` along an axis.
Tensor joined(const Tensor& whole, const Tensor& more, std::size_t axis) {
  Shape shape = whole.shape();
  shape[axis] += more.shape()[axis];
  Tensor made(whole.dtype(), shape);
  std::size_t before = 1, a = size_of(whole.dtype()), b = a;
  for (std::size_t i = 0; i < axis; ++i) before *= static_cast<std::size_t>(shape[i]);
  for (std::size_t i = axis; i < shape.size(); ++i) {
    a *= static_cast<std::size_t>(whole.shape()[i]);
    b *= static_cast<std::size_t>(more.shape()[i]);
  }
  auto* out = static_cast<unsigned char*>(made.data());
  for (std::size_t i = 0; i < before; ++i) {
    if (a) std::memcpy(out + i * (a + b), static_cast<const unsigned char*>(whole.data()) + i * a, a);
    if (b) std::memcpy(out + i * (a + b) + a, static_cast<const unsigned char*>(more.data()) + i * b, b);
  }
  return made;
}

void take(const BundleData& bundle, const Tensors& answers, Tensors* whole) {
  for (const auto& [name, tensor] : answers) {
    const auto& joins = bundle.program.stream->joins;
    const auto join = joins.find(name);
    const bool last = join != joins.end() && join->second.how == Join::How::kLast;
    if (last || !whole->count(name)) {
      (*whole)[name] = tensor;
    } else {
      (*whole)[name] = joined((*whole)[name], tensor, join == joins.end() ? 0 : static_cast<std::size_t>(join->second.axis));
    }
  }
}

Status no_golden(const Bundle& bundle) {
  const std::string of = bundle.task().empty() ? "" : " of the task '" + bundle.task() + "'";
  return Status("'" + bundle.name() + "' has no golden answers" + of + ", so there is nothing to compare with or to time; export it again");
}

}  // namespace

Inputs views(const Tensors& tensors) {
  Inputs made;
  for (const auto& [name, tensor] : tensors) made[name] = tensor.view();
  return made;
}

std::int64_t stream_length(const Bundle& bundle, const Inputs& inputs) {
  std::int64_t longest = 0;
  for (const auto& [name, value] : inputs) {
    const int axis = axis_of(*bundle.data(), name);
    if (axis >= 0 && static_cast<std::size_t>(axis) < value.shape.size()) longest = std::max(longest, value.shape[static_cast<std::size_t>(axis)]);
  }
  return longest;
}

Tensors cut(const Bundle& bundle, const Inputs& inputs, std::int64_t from, std::int64_t to) {
  Tensors made;
  for (const auto& [name, value] : inputs) {
    const int axis = axis_of(*bundle.data(), name);
    if (axis < 0) continue;
    const auto a = static_cast<std::size_t>(axis);
    if (a >= value.shape.size()) {  // pushed as it is, and refused with a sentence
      made[name].assign(value);
      continue;
    }
    const std::int64_t low = std::min(from, value.shape[a]), high = std::min(to, value.shape[a]);
    Shape shape = value.shape;
    shape[a] = high - low;
    Tensor piece(value.dtype, shape);
    std::size_t before = 1, after = size_of(value.dtype);
    for (std::size_t i = 0; i < a; ++i) before *= static_cast<std::size_t>(shape[i]);
    for (std::size_t i = a + 1; i < shape.size(); ++i) after *= static_cast<std::size_t>(shape[i]);
    const std::size_t row = static_cast<std::size_t>(value.shape[a]) * after, part = static_cast<std::size_t>(high - low) * after;
    for (std::size_t i = 0; part && i < before; ++i) {
      std::memcpy(static_cast<unsigned char*>(piece.data()) + i * part,
                  static_cast<const unsigned char*>(value.data) + i * row + static_cast<std::size_t>(low) * after, part);
    }
    made[name] = std::move(piece);
  }
  return made;
}

Result<Tensors> run_pieces(const Bundle& bundle, Session* session, const Inputs& inputs, const std::vector<std::int64_t>& sizes, std::uint64_t seed) {
  if (sizes.empty() || !bundle.streams()) {
    if (Status s = session->run(inputs, seed); !s) return s;
    return session->answers();
  }
  Inputs given;
  for (const auto& [name, value] : inputs) {
    if (axis_of(*bundle.data(), name) < 0) given[name] = value;
  }
  if (Status s = session->begin(given, seed); !s) return s;
  Tensors whole;
  std::size_t turn = 0;
  for (std::int64_t from = 0; from < stream_length(bundle, inputs); ++turn) {
    const std::int64_t size = sizes[turn % sizes.size()];
    const Tensors piece = cut(bundle, inputs, from, from + size);
    if (Status s = session->push(views(piece)); !s) return s;
    take(*bundle.data(), session->answers(), &whole);
    from += size;
  }
  if (Status s = session->close(); !s) return s;
  take(*bundle.data(), session->answers(), &whole);
  return whole;
}

Result<Inputs> golden_inputs(const Bundle& bundle, Tensors* memory) {
  if (bundle.data()->goldens.empty()) return no_golden(bundle);
  auto golden = read_safetensors(bundle.data()->folder + "/" + bundle.data()->goldens[0]);
  if (!golden) return golden.status();
  *memory = std::move(*golden);
  return Inputs(group(*memory, "inputs"));
}

namespace {

// A case for every golden file of a bundle; `prefix` stands before its name.
Status check_cases(const Bundle& bundle, Options options, const std::string& prefix, Json* cases, std::string* engine) {
  const BundleData& data = *bundle.data();
  if (data.goldens.empty()) return no_golden(bundle);
  auto plain = Session::open(bundle, options);
  if (!plain) return plain.status();
  options.probes = true;
  auto probed = Session::open(bundle, options);
  if (!probed) return probed.status();
  *engine = plain->engine();
  std::int64_t chunks = 0, equal = 0;
  for (const std::string& file : data.goldens) {
    auto golden = read_safetensors(data.folder + "/" + file);
    if (!golden) return golden.status();
    const Inputs inputs = group(*golden, "inputs");
    std::vector<std::string> failures;
    Spikes spikes;
    const std::size_t batch = inputs.empty() || inputs.begin()->second.shape.empty() ? 1 : static_cast<std::size_t>(inputs.begin()->second.shape[0]);
    spikes.flipped.assign(std::max<std::size_t>(1, batch), false);
    double worst = 0;
    if (Status s = probed->run(inputs, data.program.seed); !s) return s;
    spikes.compare(data, *golden, probed->answers(), &failures);
    const Agreement alike = compare_decisions(data, *golden, probed->answers(), &failures);
    chunks += alike.chunks;
    equal += alike.equal;
    compare_outputs(data, *golden, probed->answers(), spikes.flipped, alike, &worst, &failures);
    auto whole = run_pieces(bundle, &*plain, inputs, {}, data.program.seed);
    if (!whole) return whole.status();
    compare_outputs(data, *golden, *whole, spikes.flipped, compare_decisions(data, *golden, *whole, &failures), &worst, &failures);
    int pieces = 0;
    std::mt19937 random(0);
    for (int i = 0; bundle.streams() && i <= kSplits; ++i) {
      std::vector<std::int64_t> sizes;
      for (int k = 0; i && k < 20; ++k) sizes.push_back(1 + random() % static_cast<unsigned>(std::max<std::int64_t>(1, std::min<std::int64_t>(2000, stream_length(bundle, inputs)))));
      auto again = run_pieces(bundle, &*plain, inputs, sizes, data.program.seed);
      if (!again) return again.status();
      const bool repeated = same(*whole, *again);
      pieces += repeated;
      if (!repeated) failures.push_back(i ? "the stream answers otherwise when it is pushed in other pieces" : "the stream answers otherwise the second time");
    }
    if (file == data.goldens.back() && chunks && !equal && data.outputs.size() > data.same_share.size()) {
      failures.push_back(std::string("every golden input is decided otherwise in ") + (bundle.streams() ? "its first chunk" : "every sample") + ": nothing else could be compared");
    }
    cases->push_back({{"file", prefix + file}, {"output_max_abs", std::isfinite(worst) ? Json(worst) : Json()}, {"spikes_compared", spikes.compared},
                     {"spike_flips", spikes.flips}, {"spike_flips_near", spikes.near}, {"pieces_equal", pieces}, {"failures", failures}});
    if (!alike.shares.empty()) {
      cases->back()["same_share"] = alike.shares;
      cases->back()["chunks"] = alike.chunks;
      cases->back()["chunks_equal"] = alike.equal;
    }
  }
  return {};
}

}  // namespace

Result<int> check_golden(const Bundle& bundle, const Arguments& arguments) {
  Json cases = Json::array();
  std::string engine;
  for (const std::string& name : bundle.prepares()) {
    auto inner = bundle.preparation(name);
    if (!inner) return inner.status();
    if (Status s = check_cases(*inner, arguments.options, name + "/", &cases, &engine); !s) return s;
  }
  if (Status s = check_cases(bundle, arguments.options, "", &cases, &engine); !s) return s;
  for (const std::string& name : arguments.task.empty() ? bundle.tasks() : std::vector<std::string>()) {
    if (name == bundle.task()) continue;
    auto other = Bundle::open(arguments.bundle, name, arguments.digest);
    if (!other) return other.status();
    if (Status s = check_cases(*other, arguments.options, "", &cases, &engine); !s) return s;
  }
  const bool passed = std::all_of(cases.begin(), cases.end(), [](const Json& found) { return found["failures"].empty(); });
  const Json found = {{"bundle", bundle.name()}, {"task", bundle.task()}, {"engine", engine}, {"version", kVersion}, {"passed", passed}, {"cases", cases}};
  std::puts(found.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  return passed ? 0 : 1;
}

}  // namespace edgekit
