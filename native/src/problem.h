// What a batch of stage QPs is, as the caller lays it out: every array [stage][entry][lane], lanes last.
//
//   minimise    sum_k 1/2 z_k' H_k z_k + g_k' z_k + prices(s)            z_k = (u_k, x_k), k = 0..N
//   subject to  x_{k+1} = F_k z_k + c_k,   x_0 given or free
//               sigma (G z)_r - bound + s >= 0 for both sides of all rows r;  rows = (entries of z, general rows)
//
// `src/planahead/qp/types.py` (LaneQP) holds the same in Python, with the shapes and the meaning of infinities.
#pragma once

#include <array>
#include <cstdint>

namespace planahead {

enum Status : int32_t { kSolved = 0, kIterationLimit = 1, kStalled = 2, kInfeasible = 3, kInvalidInput = 4 };

struct Shape {
  int N = 0, nx = 0, nu = 0, ng = 0;
  int64_t lanes = 0;
  bool free_initial_state = false;

  int nodes() const { return N + 1; }
  int nz() const { return nu + nx; }
  int m() const { return nu + nx + ng; }
};

// `size` entries for every lane; entry e of lane l is data[e * step + l * lane_step]. Lanes share it where lane_step is 0.
template <typename T>
struct Array {
  T* data = nullptr;
  int64_t size = 0, step = 1, lane_step = 0;

  bool shared() const { return lane_step == 0; }
  T at(int64_t entry, int64_t lane) const { return data[entry * step + lane * lane_step]; }
};

template <typename T>
struct Problem {
  Array<const T> H, g, F, c, G, bound, linear, quadratic, initial_state;
  Array<const T> guess_z, guess_pi, guess_lam;  // empty: no guess

  bool guessed() const { return guess_lam.size > 0; }

  // All of them, in the order of the entry points.
  std::array<Array<const T>*, 12> arrays() {
    return {&H, &g, &F, &c, &G, &bound, &linear, &quadratic, &initial_state, &guess_z, &guess_pi, &guess_lam};
  }
  std::array<const Array<const T>*, 12> arrays() const {
    return {&H, &g, &F, &c, &G, &bound, &linear, &quadratic, &initial_state, &guess_z, &guess_pi, &guess_lam};
  }
};

struct Settings {
  double tolerance;     // largest relative residual of a solved lane
  double tau;           // smallest barrier, or
  double relative_tau;  // where tau < 0: the smallest barrier as a multiple of the gradient's magnitude
  int iterations;
  bool square_root;  // the Riccati recursion in its square-root form
};

// Outputs that are not wanted are null.
template <typename T>
struct Solution {
  T *z = nullptr, *pi = nullptr, *t = nullptr, *lam = nullptr, *s = nullptr, *lam_s = nullptr;
  int32_t *status = nullptr, *iterations = nullptr;
  T *residual = nullptr, *tau = nullptr, *gain = nullptr;
};

// A primal-dual point and a cotangent of it; what the adjoint returns are cotangents of the residuals.
template <typename T>
struct AdjointInputs {
  Array<const T> z, pi, t, lam, s, lam_s, bar_z, bar_pi, bar_lam, bar_s;
  bool square_root = false;  // as in Settings
};

template <typename T>
struct AdjointOutputs {
  T *stationarity = nullptr, *dynamics = nullptr, *initial = nullptr, *row = nullptr, *price = nullptr;
  uint8_t* definite = nullptr;
};

}  // namespace planahead
