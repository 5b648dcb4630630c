// Three bodies in a plane, 4th-order Hermite in double: the equations of edgekit/models/_time_stepping_numpy.py, in the same order.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>

namespace three_body {

inline constexpr int kBodies = 3;
using Plane = std::array<std::array<double, 2>, kBodies>;

// N-body units: G = 1, the total mass 3 Msun is 1, 1 au is 1.
inline constexpr double kSunGm = 1.3271244e20, kAuM = 149597870700.0, kYearS = 365.25 * 86400.0;

inline double unit_time_s() { return std::sqrt(kAuM * kAuM * kAuM / (3.0 * kSunGm)); }

struct System {
  std::array<double, kBodies> mass{};
  Plane x{}, v{}, a{}, j{};
  double quartic = 0;           // shortest time scale of any pair, to the 4th power
  std::int64_t evaluations = 0; // of the force law
};

// Accelerations and jerks; returns the shortest time scale, min(r / v, sqrt(r^3 / M)), to the 4th power.
inline double forces(const std::array<double, kBodies>& mass, const Plane& x, const Plane& v, Plane& a, Plane& j) {
  a = Plane{};
  j = Plane{};
  double quartic = 1e300;
  for (int i = 0; i < kBodies; ++i) {
    for (int k = i + 1; k < kBodies; ++k) {
      const double dx = x[k][0] - x[i][0], dy = x[k][1] - x[i][1];
      const double du = v[k][0] - v[i][0], dw = v[k][1] - v[i][1];
      const double r2 = dx * dx + dy * dy, v2 = du * du + dw * dw;
      const double r3 = r2 * std::sqrt(r2);
      const double alpha = 3.0 * (dx * du + dy * dw) / r2;
      const double ax = dx / r3, ay = dy / r3;
      const double jx = (du - alpha * dx) / r3, jy = (dw - alpha * dy) / r3;
      a[i][0] += mass[k] * ax;
      a[i][1] += mass[k] * ay;
      a[k][0] -= mass[i] * ax;
      a[k][1] -= mass[i] * ay;
      j[i][0] += mass[k] * jx;
      j[i][1] += mass[k] * jy;
      j[k][0] -= mass[i] * jx;
      j[k][1] -= mass[i] * jy;
      const double both = mass[i] + mass[k];
      if (v2 > 0) quartic = std::min(quartic, r2 * r2 / (v2 * v2));
      quartic = std::min(quartic, r2 * r2 * r2 / (both * both));
    }
  }
  return quartic;
}

inline double energy(const System& s) {
  double total = 0;
  for (int i = 0; i < kBodies; ++i) total = total + 0.5 * s.mass[i] * (s.v[i][0] * s.v[i][0] + s.v[i][1] * s.v[i][1]);
  for (int i = 0; i < kBodies; ++i) {
    for (int k = i + 1; k < kBodies; ++k) {
      const double dx = s.x[k][0] - s.x[i][0], dy = s.x[k][1] - s.x[i][1];
      total = total - s.mass[i] * s.mass[k] / std::sqrt(dx * dx + dy * dy);
    }
  }
  return total;
}

// The published system of a seed: x2, y2, x3, y3 as NumPy's legacy generator draws them (Mersenne Twister, 53 bits a number).
inline System published(std::uint32_t seed) {
  std::mt19937 twister(seed);
  const auto uniform = [&twister](double low, double high) {
    const std::uint32_t upper = static_cast<std::uint32_t>(twister()) >> 5, lower = static_cast<std::uint32_t>(twister()) >> 6;
    return low + (high - low) * ((upper * 67108864.0 + lower) / 9007199254740992.0);
  };
  System s;
  s.mass.fill(1.0 / 3.0);
  s.x[1] = {uniform(5, 20), 0};
  s.x[1][1] = uniform(0, 10);
  s.x[2] = {uniform(0, -10), 0};
  s.x[2][1] = uniform(5, 20);
  const double unit_km_s = kAuM / unit_time_s() / 1000.0;
  s.v[0] = {0.0 / unit_km_s, 10.0 / unit_km_s};
  s.v[1] = {-10.0 / unit_km_s, 0.0 / unit_km_s};
  for (Plane* p : {&s.x, &s.v}) {
    for (int c = 0; c < 2; ++c) {
      const double mean = ((*p)[0][c] + (*p)[1][c] + (*p)[2][c]) / 3.0;
      for (auto& body : *p) body[c] -= mean;
    }
  }
  s.quartic = forces(s.mass, s.x, s.v, s.a, s.j);
  s.evaluations = 1;
  return s;
}

// Advance by `span` with the shared step mu * time scale, the last step clipped to the end: predict, evaluate, correct once.
inline void hermite(System& s, double span, double mu) {
  double done = 0;
  Plane xp, vp, an, jn;
  while (done < span) {
    double h = std::max(mu * std::sqrt(std::sqrt(s.quartic)), 1e-8 * span);
    if (h >= span - done) {
      h = span - done;
      done = span;
    } else {
      done = done + h;
    }
    for (int i = 0; i < kBodies; ++i) {
      for (int c = 0; c < 2; ++c) {
        xp[i][c] = s.x[i][c] + s.v[i][c] * h + s.a[i][c] * h * h / 2.0 + s.j[i][c] * h * h * h / 6.0;
        vp[i][c] = s.v[i][c] + s.a[i][c] * h + s.j[i][c] * h * h / 2.0;
      }
    }
    s.quartic = forces(s.mass, xp, vp, an, jn);
    for (int i = 0; i < kBodies; ++i) {
      for (int c = 0; c < 2; ++c) {
        const double now = s.v[i][c] + (s.a[i][c] + an[i][c]) * h / 2.0 + (s.j[i][c] - jn[i][c]) * h * h / 12.0;
        s.x[i][c] = s.x[i][c] + (s.v[i][c] + now) * h / 2.0 + (s.a[i][c] - an[i][c]) * h * h / 12.0;
        s.v[i][c] = now;
      }
    }
    s.a = an;
    s.j = jn;
    ++s.evaluations;
  }
}

}  // namespace three_body
