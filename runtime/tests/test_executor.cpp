// The executor on an engine of the test's own, which computes in C++: answers, pieces, and no allocation in the loop.
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <random>

#include "check.hpp"
#include "execution.hpp"

namespace {
std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

void* counted(std::size_t size) {
  if (counting) ++allocations;
  void* made = std::malloc(size ? size : 1);
  if (!made) throw std::bad_alloc();
  return made;
}
}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

using namespace edgekit;

namespace {

// u_next = u / 2 + the sum of x, for each of u's values; x and u float32.
struct Half {
  static void compute(const Bound& x, const Bound& u, float* next) {
    float sum = 0;
    for (std::size_t i = 0; i < count_of(x.shape); ++i) sum += static_cast<const float*>(x.data)[i];
    for (std::size_t i = 0; i < count_of(u.shape); ++i) next[i] = static_cast<const float*>(u.data)[i] / 2 + sum;
  }
};

const Bound& named(const std::vector<Bound>& all, const char* name) {
  for (const Bound& bound : all) {
    if (bound.name == name) return bound;
  }
  CHECK(false);
  std::abort();
}

class HalfBinding : public Binding {
 public:
  HalfBinding(Bound x, Bound u, Bound next) : x_(std::move(x)), u_(std::move(u)), next_(std::move(next)) {}
  Status run() override {
    Half::compute(x_, u_, static_cast<float*>(next_.data));
    return {};
  }

 private:
  Bound x_, u_, next_;
};

class HalfGraph : public Graph {
 public:
  Result<std::unique_ptr<Binding>> bind(const std::vector<Bound>& inputs, const std::vector<Bound>& outputs) override {
    return std::unique_ptr<Binding>(std::make_unique<HalfBinding>(named(inputs, "x"), named(inputs, "u"), named(outputs, "u_next")));
  }
  Status run(const std::vector<Bound>& inputs, Tensors* outputs) override {
    const Bound& u = named(inputs, "u");
    (*outputs)["u_next"].resize(DType::kFloat32, u.shape);
    Half::compute(named(inputs, "x"), u, (*outputs)["u_next"].as<float>());
    return {};
  }
};

class HalfEngine : public Engine {
 public:
  const std::string& version() const override { return version_; }
  Result<std::unique_ptr<Graph>> open(const BundleData&, const GraphFile&, const Options&) override { return std::unique_ptr<Graph>(std::make_unique<HalfGraph>()); }

 private:
  std::string version_ = "half 1";
};

Source value(const char* name) { return {Source::Kind::kValue, name, true, 0, 0}; }
Source noise(std::uint32_t id) { return {Source::Kind::kNoise, "", true, id, 0}; }
Source row(const char* name) { return {Source::Kind::kRow, name, true, 0, 0}; }
DimShape dims(std::initializer_list<Dim> list) { return list; }

std::shared_ptr<BundleData> bundle(DimShape x, DimShape u) {
  auto made = std::make_shared<BundleData>();
  made->name = "toy";
  made->graphs["g"] = {"", {{"x", DType::kFloat32, std::move(x), ""}, {"u", DType::kFloat32, u, ""}}, {{"u_next", DType::kFloat32, u, ""}}, {}};
  return made;
}

Phase step(std::uint32_t steps) {
  Phase phase;
  phase.loops = steps > 0;
  phase.steps = steps ? steps : 1;
  phase.graph = "g";
  phase.inputs = {{"x", value("x")}, {"u", value("u")}};
  phase.carry = {{"u_next", "u"}};
  return phase;
}

std::unique_ptr<Execution> execution(const std::shared_ptr<BundleData>& data) {
  auto made = Execution::make(data, std::make_shared<HalfEngine>(), {});
  MUST(made.status());
  return std::move(*made);
}

void steps_carry_rows_noise_and_epilogues() {
  auto data = bundle(dims({{2, ""}}), dims({{0, "n"}, {2, ""}}));
  data->inputs = {{"start", DType::kFloat32, dims({{0, "n"}, {2, ""}}), ""}};
  data->outputs = {{"u", DType::kFloat32, dims({{0, "n"}, {2, ""}}), ""}, {"path", DType::kFloat32, dims({{3, ""}, {0, "n"}, {2, ""}}), ""}, {"best", DType::kInt64, dims({{0, "n"}}), ""}};
  data->tensors["table"] = Tensor(DType::kFloat32, {3, 2});
  data->tensors["scale"] = Tensor(DType::kFloat32, {3, 2});
  for (int i = 0; i < 6; ++i) {
    data->tensors["table"].as<float>()[i] = 0.25f * static_cast<float>(i);
    data->tensors["scale"].as<float>()[i] = i % 2 ? 0.0f : 1.5f;
  }
  Phase phase = step(3);
  phase.inputs["x"] = row("table");
  phase.states["u"] = {DType::kFloat32, dims({{0, "n"}, {2, ""}}), value("start")};
  Operation kick{Operation::Kind::kAffine, {{value("u"), {}, 1.0f}, {noise(4), row("scale"), 0}}, 0, 0, 0, "kicked"};
  Operation clamp{Operation::Kind::kClamp, {{value("kicked"), {}, 1}}, -2.0f, 2.0f, 0, "u"};
  Operation best{Operation::Kind::kArgMax, {{value("u"), {}, 1}}, 0, 0, -1, "best"};
  phase.epilogue = {kick, clamp, best};
  phase.collect = {{"path", "u"}};
  data->program.before = {phase};
  auto run = execution(data);
  for (const std::int64_t n : {2, 5, 2}) {
    Tensor start(DType::kFloat32, {n, 2});
    for (std::size_t i = 0; i < start.count(); ++i) start.as<float>()[i] = 0.1f * static_cast<float>(i);
    std::vector<float> u(start.as<float>(), start.as<float>() + start.count()), drawn(u.size());
    const Inputs inputs{{"start", start.view()}};
    MUST(run->run(inputs, 11));
    for (std::uint32_t i = 0; i < 3; ++i) {
      const float sum = data->tensors["table"].as<float>()[2 * i] + data->tensors["table"].as<float>()[2 * i + 1];
      draw_normal(drawn.data(), drawn.size(), {11, 4, i, 0});
      for (std::size_t k = 0; k < u.size(); ++k) {
        const float moved = u[k] / 2 + sum;
        const float product = data->tensors["scale"].as<float>()[2 * i + k % 2] * drawn[k];
        u[k] = std::fmin(std::fmax(moved + product, -2.0f), 2.0f);
      }
      CHECK(std::memcmp(run->answers().at("path").as<float>() + i * u.size(), u.data(), u.size() * 4) == 0);
    }
    CHECK(run->answers().at("u").shape() == Shape({n, 2}) && run->answers().at("path").shape() == Shape({3, n, 2}));
    for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) CHECK(run->answers().at("best").as<std::int64_t>()[k] == (u[2 * k + 1] > u[2 * k] ? 1 : 0));
    counting = true;
    allocations = 0;
    const Status again = run->run(inputs, 11);
    counting = false;
    MUST(again);
    if (n == 2) CHECK(allocations < 40);  // the caller's arguments are looked up by name; the loop itself is counted below
  }
}

void a_long_loop_allocates_nothing_a_step() {
  auto data = bundle(dims({{3, ""}}), dims({{1, ""}, {4, ""}}));
  data->inputs = {{"x", DType::kFloat32, dims({{3, ""}}), ""}};
  data->outputs = {{"u", DType::kFloat32, dims({{1, ""}, {4, ""}}), ""}};
  Phase phase = step(10);
  phase.states["u"] = {DType::kFloat32, dims({{1, ""}, {4, ""}}), {}};
  phase.epilogue = {{Operation::Kind::kAffine, {{value("u"), {}, 0.5f}, {noise(1), {}, 0.1f}}, 0, 0, 0, "u"}};
  const Tensor x(DType::kFloat32, {3});
  const Inputs inputs{{"x", x.view()}};
  long counted_for[2] = {};
  for (const int k : {0, 1}) {
    phase.steps = k ? 10000 : 10;
    data->program.before = {phase};
    auto run = execution(data);
    MUST(run->run(inputs, 1));
    allocations = 0;
    counting = true;
    const Status status = run->run(inputs, 1);
    counting = false;
    MUST(status);
    counted_for[k] = allocations;
  }
  CHECK(counted_for[0] == counted_for[1]);  // 9,990 steps more cost nothing
}

std::shared_ptr<BundleData> stream(bool windows, bool pad, Join::How how) {
  auto data = bundle(windows ? dims({{1, ""}, {6, ""}}) : dims({{1, ""}}), dims({{1, ""}, {2, ""}}));
  data->inputs = {{"x", DType::kFloat32, windows ? dims({{1, ""}, {0, "samples"}}) : dims({{1, ""}, {0, "samples"}}), ""}};
  data->outputs = {{"u", DType::kFloat32, how == Join::How::kStack ? dims({{0, "k"}, {1, ""}, {2, ""}}) : dims({{1, ""}, {0, "k"}}), ""}};
  Stream made;
  made.feeds["x"] = windows ? Feed{1, 6, 4} : Feed{1, 0, 0};
  made.joins["u"] = {how, how == Join::How::kConcat ? 1 : 0};
  made.states["u"] = {DType::kFloat32, dims({{1, ""}, {2, ""}}), {}};
  made.phases = {step(0)};
  made.pad = pad;
  data->program.stream = made;
  return data;
}

std::vector<float> expected(const std::vector<float>& x, bool windows, bool pad) {
  std::vector<float> found;
  float u = 0;
  const long hop = windows ? 4 : 1, size = static_cast<long>(x.size());
  const long chunks = pad ? (size + hop - 1) / hop : size / hop;
  for (long k = 0; k < chunks; ++k) {
    float sum = 0;
    for (long i = k * hop - (windows ? 2 : 0); i < (k + 1) * hop; ++i) sum += i >= 0 && i < size ? x[static_cast<std::size_t>(i)] : 0.0f;
    u = u / 2 + sum;
    found.insert(found.end(), {u, u});
  }
  return found;
}

void pieces_of_any_size_give_what_one_run_gives() {
  std::mt19937 random(3);
  for (const bool windows : {true, false}) {
    for (const bool pad : {true, false}) {
      for (const Join::How how : {Join::How::kConcat, Join::How::kStack}) {
        auto run = execution(stream(windows, pad, how));
        std::vector<float> x(41);
        for (float& v : x) v = static_cast<float>(random() % 1000) / 500.0f - 1.0f;
        const std::vector<float> want = expected(x, windows, pad);
        MUST(run->run({{"x", {DType::kFloat32, {1, 41}, x.data()}}}, 0));
        const Tensor& whole = run->answers().at("u");
        CHECK(whole.count() == want.size() && std::memcmp(whole.data(), want.data(), whole.bytes()) == 0);
        for (int attempt = 0; attempt < 50; ++attempt) {
          std::vector<float> got;
          const auto take = [&] { got.insert(got.end(), run->answers().at("u").as<float>(), run->answers().at("u").as<float>() + run->answers().at("u").count()); };
          MUST(run->begin({}, 0));
          for (std::size_t at = 0; at < x.size();) {
            const std::size_t size = std::min<std::size_t>(1 + random() % 13, x.size() - at);
            MUST(run->push({{"x", {DType::kFloat32, {1, static_cast<std::int64_t>(size)}, x.data() + at}}}));
            take();
            at += size;
          }
          MUST(run->close());
          take();
          CHECK(got.size() == want.size() && std::memcmp(got.data(), want.data(), want.size() * 4) == 0);
        }
      }
    }
  }
}

void equal_pushes_allocate_nothing() {
  auto run = execution(stream(true, true, Join::How::kConcat));
  const std::vector<float> x(4, 1.0f);
  const Inputs piece{{"x", {DType::kFloat32, {1, 4}, x.data()}}};
  MUST(run->begin({}, 0));
  for (int i = 0; i < 4; ++i) MUST(run->push(piece));
  allocations = 0;
  counting = true;
  Status status;
  for (int i = 0; i < 1000 && status; ++i) status = run->push(piece);
  counting = false;
  MUST(status);
  CHECK(allocations == 0);
}

void what_cannot_be_done_is_one_sentence() {
  auto run = execution(stream(true, true, Join::How::kConcat));
  const std::vector<float> x(8);
  const auto says = [](const Status& status, const char* what) { return !status && status.text().find(what) != std::string::npos && status.text().find('\n') == std::string::npos; };
  CHECK(says(run->close(), "before anything was pushed"));
  CHECK(says(run->push({}), "'x' is missing"));
  CHECK(says(run->push({{"y", {DType::kFloat32, {1, 8}, x.data()}}}), "'x' is missing"));
  CHECK(says(run->push({{"x", {DType::kFloat32, {8}, x.data()}}}), "must be float32 [1, samples], but got float32 [8]"));
  CHECK(says(run->push({{"x", {DType::kInt64, {1, 4}, x.data()}}}), "but got int64"));
  CHECK(says(run->begin({{"x", {DType::kFloat32, {1, 8}, x.data()}}}, 0), "more inputs"));
  auto data = stream(true, true, Join::How::kConcat);
  data->program.stream->phases[0].inputs["u"] = value("nothing");
  auto broken = execution(data);
  CHECK(says(broken->run({{"x", {DType::kFloat32, {1, 8}, x.data()}}}, 0), "reads 'nothing' before it is written"));
}

}  // namespace

int main() {
  steps_carry_rows_noise_and_epilogues();
  a_long_loop_allocates_nothing_a_step();
  pieces_of_any_size_give_what_one_run_gives();
  equal_pushes_allocate_nothing();
  what_cannot_be_done_is_one_sentence();
}
