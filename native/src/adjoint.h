// Cotangents of the data from cotangents of a solution: one factorisation, one back-solve, one refinement; the mathematics:
// src/planahead/qp/sensitivity.py.
#pragma once

#include "batch.h"

namespace planahead {
namespace PLANAHEAD_ISA {

template <class E, typename T>
class Adjoint {
 public:
  Adjoint(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const AdjointInputs<T>& inputs,
          const AdjointOutputs<T>& outputs, Queue& queue, Workspace<E>& w)
      : shape_(shape), pattern_(pattern), problem_(problem), inputs_(inputs), outputs_(outputs), queue_(queue), w_(w),
        newton_(shape, pattern, w), shared_valid_(load_shared(shape, pattern, problem, w)) {}

  void run() {
    const int64_t count = queue_.problems.size();
    for (;;) {
      const int64_t place = queue_.next.fetch_add(W);
      if (place >= count) return;
      const int used = int(std::min<int64_t>(W, count - place));
      const int64_t* problems = queue_.problems.data() + place;
      M lanes = none();
      if (!shared_valid_) {
      } else if (used == W && problems[W - 1] == problems[0] + W - 1) {
        lanes = load_problem(shape_, pattern_, problem_, w_, problems[0], -1);
        Loader<T> load(problems[0], -1), seeds(problems[0], -1);
        load_point(load);
        if (outputs_.stationarity) load_seeds(seeds);
        lanes &= load.good();
      } else {
        for (int i = 0; i < used; i++) {
          Loader<T> load(problems[i], i), seeds(problems[i], i);
          lanes |= load_problem(shape_, pattern_, problem_, w_, problems[i], i);
          load_point(load);
          if (outputs_.stationarity) load_seeds(seeds);
          lanes &= load.good() | ~lane_mask(i);
        }
      }
      const M good = any(lanes) ? lanes & solve() : none();
      for (int i = 0; i < used; i++) outputs_.definite[problems[i]] = good[i] != 0;
      if (any(good) && outputs_.stationarity) store(good, problems, used);
    }
  }

 private:
  static constexpr double kRootEpsilon = 1.4901161193847656e-8;

  void load_point(Loader<T>& load) {
    for (int k = 0; k < shape_.nodes(); k++)
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const int64_t at = side_index(shape_, k, pattern_.sides[e]);
        load.put(w_.point.t[e], inputs_.t, at);
        load.put(w_.point.lam[e], inputs_.lam, at);
        load.put(w_.point.s[e], inputs_.s, at);
        load.put(w_.point.lam_s[e], inputs_.lam_s, at);
      }
  }

  // A cotangent that is not a number is passed on as one: whoever made it shall see it.
  void load_seeds(Loader<T>& load) {
    const int64_t nodes = shape_.nodes(), nx = shape_.nx, nz = shape_.nz();
    Residual& seeds = w_.residual;
    auto all = [&](const Array<const T>& from, V* to, int64_t count, int64_t offset) {
      for (int64_t e = 0; e < count; e++) load.put(to[e], from, offset + e);
    };
    all(inputs_.bar_z, seeds.stationarity, nodes * nz, 0);
    all(inputs_.bar_pi, seeds.dynamics, (nodes - 1) * nx, nx);
    all(inputs_.bar_pi, seeds.initial, nx, 0);
    for (int k = 0; k < nodes; k++)
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const int64_t at = side_index(shape_, k, pattern_.sides[e]);
        load.put(seeds.row[e], inputs_.bar_lam, at);
        load.put(seeds.price[e], inputs_.bar_s, at);
      }
  }

  // The point into w.next, without barriers above 1/sqrt(epsilon) of the Hessian's magnitude: see newton.conditioned in Python.
  void condition() {
    const int nodes = shape_.nodes(), nz = shape_.nz(), sides = int(pattern_.sides.size());
    V most = splat(1.0);
    for (int k = 0; k < nodes; k++)
      for (int i = 0; i < nz; i++)
        for (int j = 0; j <= i; j++) raise(most, spread(w_.H[(k * nz + i) * nz + j]));
    const V smallest = kRootEpsilon / most;
    for (int e = 0; e < sides; e++) {
      const M exists = w_.exists[e], soft = w_.soft[e];
      w_.point.t[e] = select(exists, w_.point.t[e], splat(1.0));
      w_.next.t[e] = select(exists, larger(w_.point.t[e], w_.point.lam[e] * smallest), w_.point.t[e]);
      w_.next.lam[e] = keep(exists, w_.point.lam[e]);
      w_.next.s[e] = keep(soft, larger(w_.point.s[e], w_.point.lam_s[e] * smallest));
      w_.next.lam_s[e] = keep(soft, w_.point.lam_s[e]);
    }
  }

  M solve() {
    condition();
    if (outputs_.stationarity == nullptr) return newton_.factorise(w_.next);  // no more was asked for
    const int nodes = shape_.nodes(), nx = shape_.nx, nz = shape_.nz(), sides = int(pattern_.sides.size());
    Residual& r = w_.residual;
    for (int i = 0; i < nodes * nz; i++) r.stationarity[i] = -r.stationarity[i];
    for (int i = 0; i < shape_.N * nx; i++) r.dynamics[i] = -r.dynamics[i];
    for (int i = 0; i < nx; i++) r.initial[i] = -r.initial[i];
    for (int e = 0; e < sides; e++) {
      r.row[e] = keep(w_.exists[e], r.row[e]);
      r.price[e] = -keep(w_.soft[e], r.price[e]);
      r.complementarity[e] = r.violation[e] = V{};
    }
    Reach reach;
    const M definite = newton_.factorise_and_step(w_.next, r, Given{r}, true, reach);
    Iterate &d = w_.step, &total = w_.total;
    auto add = [&](bool first) {
      for (int i = 0; i < nodes * nz; i++) total.z[i] = first ? d.z[i] : total.z[i] + d.z[i];
      for (int i = 0; i < nodes * nx; i++) total.pi[i] = first ? d.pi[i] : total.pi[i] + d.pi[i];
      for (int e = 0; e < sides; e++) {
        total.lam[e] = first ? d.lam[e] : total.lam[e] + d.lam[e];
        const V ds = pattern_.sides[e].soft ? d.s[e] : V{};  // hard rows have none
        total.s[e] = first ? ds : total.s[e] + ds;
      }
    };
    add(true);
    add_reached();
    newton_.step(w_.next, r, Given{r}, false);
    add(false);
    return definite;
  }

  // What the step leaves of the seeds in the true system, at w.point.
  void add_reached() {
    const int N = shape_.N, nx = shape_.nx, nu = shape_.nu, nz = shape_.nz();
    Residual& r = w_.residual;
    const Iterate &p = w_.point, &d = w_.step;
    for (int k = 0; k <= N; k++) {
      const V *dz = d.z + k * nz, *dpi = d.pi + k * nx;
      V* stationarity = r.stationarity + k * nz;
      add_symmetric(w_.H + k * nz * nz, nz, dz, stationarity, nz);
      if (k < N) {
        add_transposed(w_.F + k * nx * nz, nz, dpi + nx, stationarity, nx, nz);
        V* dynamics = r.dynamics + k * nx;
        times(w_.F + k * nx * nz, nz, dz, dynamics, dynamics, nx, nz);
        for (int i = 0; i < nx; i++) dynamics[i] -= dz[nz + nu + i];
      }
      for (int i = 0; i < nx; i++) stationarity[nu + i] -= dpi[i];
      if (!newton_.has_sides(k)) continue;
      const V* values = newton_.row_values(k, dz);
      V* sums = newton_.row_sums(stationarity);
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const Side& side = pattern_.sides[e];
        const M exists = w_.exists[e], soft = w_.soft[e];
        const double sign = side.sign;
        sums[side.row] -= sign * d.lam[e];
        V row = sign * values[side.row] - d.t[e];
        if (side.soft) {
          row += d.s[e];
          r.price[e] += keep(soft, w_.quadratic[e] * d.s[e] - d.lam[e] - d.lam_s[e]);
          r.violation[e] += keep(soft, p.s[e] * d.lam_s[e] + p.lam_s[e] * d.s[e]);
        }
        r.row[e] += keep(exists, row);
        r.complementarity[e] += keep(exists, p.lam[e] * d.t[e] + p.t[e] * d.lam[e]);
      }
      newton_.add_rows_transposed(k, sums, stationarity);
    }
    if (!shape_.free_initial_state)
      for (int i = 0; i < nx; i++) r.initial[i] -= d.z[nu + i];
  }

  void store(M good, const int64_t* problems, int used) {
    const int64_t lanes = shape_.lanes, nodes = shape_.nodes(), nz = shape_.nz(), nx = shape_.nx;
    const Iterate& d = w_.total;
    int64_t places[W] = {};
    std::copy(problems, problems + used, places);
    Lanes(good, places).each([&](auto put) {
      auto all = [&](T* to, const V* from, int64_t count) {
        for (int64_t e = 0; e < count; e++) put(to + e * lanes, -from[e]);
      };
      all(outputs_.stationarity, d.z, nodes * nz);
      all(outputs_.dynamics, d.pi + nx, (nodes - 1) * nx);
      all(outputs_.initial, d.pi, nx);
      for (int k = 0; k < nodes; k++)
        for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
          const int64_t at = side_index(shape_, k, pattern_.sides[e]) * lanes;
          put(outputs_.row + at, d.lam[e]);
          put(outputs_.price + at, -d.s[e]);
        }
    });
  }

  const Shape& shape_;
  const Pattern& pattern_;
  const Problem<T>& problem_;
  const AdjointInputs<T>& inputs_;
  const AdjointOutputs<T>& outputs_;
  Queue& queue_;
  Workspace<E>& w_;
  Newton<E, Sizes<0, 0>> newton_;
  const bool shared_valid_;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
