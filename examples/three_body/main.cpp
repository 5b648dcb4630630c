// Integrates three bodies and asks the policy in a bundle for the step parameter mu, once each control interval.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bodies.hpp"
#include "edgekit/edgekit.hpp"

namespace {

// The actions of examples/time_stepping_hermite.toml: ten parameters mu, log-spaced from 0.001 to 0.1.
const std::vector<double> kParameters = {0.001, 0.001668100537200059, 0.0027825594022071257, 0.004641588833612777,
                                         0.007742636826811269, 0.01291549665014884, 0.021544346900318832,
                                         0.03593813663804626, 0.059948425031894084, 0.1};
constexpr double kIntervalYr = 0.1;

struct Words {
  std::string bundle;
  std::uint32_t seed = 0;
  int intervals = 300;
  double fixed = 0;  // above 0: this mu always, no policy
  std::vector<double> parameters = kParameters;
};

int usage(const char* name) {
  std::fprintf(stderr, "usage: %s BUNDLE [--seed N] [--intervals N] [--fixed MU] [--parameters MU,MU,...]\n", name);
  return 2;
}

int failed(const edgekit::Status& status) {
  std::fprintf(stderr, "error: %s\n", status.text().c_str());
  return 2;
}

bool read(int count, char** words, Words* out) {
  if (count < 2 || count % 2) return false;
  out->bundle = words[1];
  for (int i = 2; i < count; i += 2) {
    const std::string option = words[i];
    const char* value = words[i + 1];
    if (option == "--seed") {
      out->seed = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
    } else if (option == "--intervals") {
      out->intervals = std::atoi(value);
    } else if (option == "--fixed") {
      out->fixed = std::atof(value);
    } else if (option == "--parameters") {
      out->parameters.clear();
      for (char* at = words[i + 1]; *at; at += *at == ',') out->parameters.push_back(std::strtod(at, &at));
    } else {
      return false;
    }
  }
  return true;
}

// The 13 raw numbers of docs/time_stepping.md: x, y of each body, vx, vy of each, the relative energy error.
std::vector<float> state_of(const three_body::System& s, double error) {
  std::vector<float> state;
  for (const auto* plane : {&s.x, &s.v}) {
    for (const auto& body : *plane) {
      for (const double number : body) state.push_back(static_cast<float>(number));
    }
  }
  state.push_back(static_cast<float>(error));
  return state;
}

}  // namespace

int main(int count, char** words) {
  Words given;
  if (!read(count, words, &given)) return usage(words[0]);
  auto bundle = edgekit::Bundle::open(given.bundle);
  if (!bundle) return failed(bundle.status());
  auto session = edgekit::Session::open(*bundle, {});
  if (!session) return failed(session.status());
  if (edgekit::Status s = session->begin({}); !s) return failed(s);

  three_body::System system = three_body::published(given.seed);
  const double first = three_body::energy(system);
  const double span = kIntervalYr / (three_body::unit_time_s() / three_body::kYearS);
  double error = 0;
  std::printf("interval action mu error evaluations\n");
  for (int i = 1; i <= given.intervals && std::abs(error) <= 0.1; ++i) {
    std::int64_t action = -1;
    double mu = given.fixed;
    if (mu <= 0) {
      const std::vector<float> state = state_of(system, error);
      if (edgekit::Status s = session->push({{"state", {edgekit::DType::kFloat32, {1, 1, 13}, state.data()}}}); !s) return failed(s);
      action = session->answers().at("action").as<std::int64_t>()[0];
      if (action < 0 || action >= static_cast<std::int64_t>(given.parameters.size())) {
        return failed(edgekit::Status("the policy chose action " + std::to_string(action) + ", but there are " +
                                      std::to_string(given.parameters.size()) + " parameters; give them with --parameters"));
      }
      mu = given.parameters[static_cast<std::size_t>(action)];
    }
    three_body::hermite(system, span, mu);
    error = (three_body::energy(system) - first) / first + 1e-20;
    std::printf("%d %lld %.17g %.17g %lld\n", i, static_cast<long long>(action), mu, error, static_cast<long long>(system.evaluations));
  }
  std::printf("|dE| %.3e after %lld force evaluations\n", std::abs(error), static_cast<long long>(system.evaluations));
  return 0;
}
