// Residuals of the smoothed optimality conditions and the Newton step that cancels them; mathematics and symbols:
// src/planahead/qp/newton.py.
#pragma once

#include "workspace.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// Largest magnitudes that a residual is judged by.
struct Largest {
  V stationarity{}, price{}, primal{}, miss{}, pi{}, lam{}, z{};
};

// What a step does to the pairs (t, lam) and (s, lam_s): their products add up to now + alpha * linear + alpha^2 * square after a step of
// length alpha, and 1 / shrink is the longest one at which none becomes negative.
struct Reach {
  V shrink = splat(1.0), now{}, linear{}, square{};

  void take(V a, V b, V da, V db, V inverse_a, V inverse_b) {
    shrink = larger(-da * inverse_a, shrink);
    shrink = larger(-db * inverse_b, shrink);
    now += a * b;
    linear += a * db + b * da;
    square += da * db;
  }
  V longest() const { return splat(1.0) / shrink; }
  V products(V alpha) const { return now + alpha * (linear + alpha * square); }
};

// By how much the products of the pairs are wrong, for the right-hand side of a Newton step: as given,
struct Given {
  const Residual& r;
  V row(int e) const { return r.complementarity[e]; }
  V violation(int e) const { return r.violation[e]; }
};
// against a target,
struct Predicted {
  const Iterate& p;
  V target;
  V row(int e) const { return p.lam[e] * p.t[e] - target; }
  V violation(int e) const { return p.lam_s[e] * p.s[e] - target; }
};
// and with the products of the predicted steps d, where `second` is 1.
struct Corrected {
  const Iterate &p, &d;
  V target, second;
  V row(int e) const { return p.lam[e] * p.t[e] + second * d.lam[e] * d.t[e] - target; }
  V violation(int e) const { return p.lam_s[e] * p.s[e] + second * d.lam_s[e] * d.s[e] - target; }
};

template <class E, class S>
class Newton : private S {
 public:
  Newton(const Shape& shape, const Pattern& pattern, Workspace<E>& w)
      : S(shape), shape_(shape), pattern_(pattern), w_(w), N(shape.N), ng(shape.ng) {}

  // The values of all rows of stage k at z_k: its entries, then the general rows.
  const V* row_values(int k, const V* z) {
    if (ng == 0) return z;
    for (int i = 0; i < nz; i++) w_.values[i] = z[i];
    times(w_.G + k * ng * nz, nz, z, nullptr, w_.values + nz, ng, nz);
    return w_.values;
  }

  // Where one number a row is summed up, to be added to y [nz] by `add_rows_transposed`: y itself if there are only boxes.
  V* row_sums(V* y) {
    if (ng == 0) return y;
    for (int i = 0; i < nz + ng; i++) w_.net[i] = V{};
    return w_.net;
  }

  // y += G' sums.
  void add_rows_transposed(int k, const V* sums, V* y) {
    if (ng == 0) return;
    for (int i = 0; i < nz; i++) y[i] += sums[i];
    add_transposed(w_.G + k * ng * nz, nz, sums + nz, y, ng, nz);
  }

  // Into w.residual, but for the products of pairs; tau [lane]. `prepare(k)` is called before stage k of `p` is read for the first time.
  template <class Prepare>
  Largest residuals(const Iterate& p, V tau, Prepare prepare) {
    Residual& r = w_.residual;
    Largest most;
    prepare(0);
    for (int k = 0; k <= N; k++) {
      if (k < N) prepare(k + 1);
      const V *z = p.z + k * nz, *pi = p.pi + k * nx;
      V* stationarity = r.stationarity + k * nz;
      for (int i = 0; i < nz; i++) stationarity[i] = w_.g[k * nz + i];
      add_symmetric(w_.H + k * nz * nz, nz, z, stationarity, nz);
      if (k < N) {
        add_transposed(w_.F + k * nx * nz, nz, pi + nx, stationarity, nx, nz);
        V* dynamics = r.dynamics + k * nx;
        times(w_.F + k * nx * nz, nz, z, w_.c + k * nx, dynamics, nx, nz);
        for (int i = 0; i < nx; i++) {
          dynamics[i] -= z[nz + nu + i];
          raise(most.primal, dynamics[i]);
        }
      }
      for (int i = 0; i < nx; i++) {
        stationarity[nu + i] -= pi[i];
        raise(most.pi, pi[i]);
      }
      if (has_sides(k)) {
        const V* values = row_values(k, z);
        V* sums = row_sums(stationarity);
        for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
          const Side& side = pattern_.sides[e];
          const Real sign = side.sign;
          const M exists = w_.exists[e];
          sums[side.row] -= sign * p.lam[e];
          raise(most.lam, p.lam[e]);
          V distance = sign * values[side.row] - w_.bound[e] - p.t[e];
          if (side.soft) {
            const M soft = w_.soft[e];
            distance += p.s[e];
            r.price[e] = keep(soft, w_.quadratic[e] * p.s[e] + w_.linear[e] - p.lam[e] - p.lam_s[e]);
            raise(most.price, r.price[e]);
            raise(most.miss, keep(soft, p.s[e] * p.lam_s[e] - tau));
          }
          r.row[e] = keep(exists, distance);
          raise(most.primal, r.row[e]);
          raise(most.miss, keep(exists, p.lam[e] * p.t[e] - tau));
        }
        add_rows_transposed(k, sums, stationarity);
      }
      for (int i = 0; i < nz; i++) {
        raise(most.stationarity, stationarity[i]);
        raise(most.z, z[i]);
      }
    }
    for (int i = 0; i < nx; i++) {
      r.initial[i] = shape_.free_initial_state ? V{} : w_.x0[i] - p.z[nu + i];
      raise(most.primal, r.initial[i]);
    }
    return most;
  }

  // Eliminate the rows of `p` and factorise; the lanes whose reduced Hessian is positive definite. A row with multiplier 0 does not count.
  M factorise(const Iterate& p) {
    M definite = ~none();
    for (int k = N; k >= 0; k--) factorise_stage(p, k, definite);
    if (shape_.free_initial_state) factorise_initial(sizes(), w_.riccati, definite);
    return definite;
  }

  // Factorise, and put into w.step the step from `p` that cancels `r`, and `wrong` in the products, to first order. `costates`: its pi is
  // wanted too. One sweep does both, while a stage is at hand.
  template <class Wrong>
  M factorise_and_step(const Iterate& p, const Residual& r, const Wrong& wrong, bool costates, Reach& reach) {
    M definite = ~none();
    for (int k = N; k >= 0; k--) {
      if (k < N) times(w_.riccati.whole, nx, r.dynamics + k * nx, nullptr, w_.riccati.Pe + k * nx, nx, nx);
      factorise_stage(p, k, definite);
      backward(k, p, r, wrong);
    }
    if (shape_.free_initial_state) factorise_initial(sizes(), w_.riccati, definite);
    reach = forward(p, r, wrong, costates);
    return definite;
  }

  // The step after `factorise_and_step` for another `r` or `wrong`. `same_dynamics`: those residuals are the same.
  template <class Wrong>
  Reach step(const Iterate& p, const Residual& r, const Wrong& wrong, bool same_dynamics) {
    for (int k = N; k >= 0; k--) {
      if (k < N && !same_dynamics) {
        V* Pe = w_.riccati.Pe + k * nx;
        for (int i = 0; i < nx; i++) Pe[i] = V{};
        add_symmetric(w_.riccati.P + (k + 1) * nx * nx, nx, r.dynamics + k * nx, Pe, nx);
      }
      backward(k, p, r, wrong);
    }
    return forward(p, r, wrong, true);
  }

  bool has_sides(int k) const { return pattern_.begin[k] < pattern_.begin[k + 1]; }

 private:
  using S::nu;
  using S::nx;
  using S::nz;

  const S& sizes() const { return *this; }
  void factorise_stage(const Iterate& p, int k, M& definite) {
    const E* H = w_.H + k * nz * nz;
    Riccati& riccati = w_.riccati;
    if (k < N)
      propagate(sizes(), riccati, H, w_.F + k * nx * nz);
    else
      for (int i = 0; i < nz; i++)
        for (int j = 0; j <= i; j++) riccati.M[i * nz + j] = spread(H[i * nz + j]);
    if (has_sides(k)) eliminate(p, k, riccati.M);
    if (k < N)
      PLANAHEAD_ISA::factorise_stage(sizes(), riccati, k, definite);
    else
      factorise_last(sizes(), riccati, N, definite);
  }

  void eliminate(const Iterate& p, int k, V* hessian) {
    V* weights = w_.net;
    for (int i = 0; i < nz + ng; i++) weights[i] = V{};
    for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
      const Side& side = pattern_.sides[e];
      invert(p.t[e], p.lam[e], w_.inverse_t[e], w_.inverse_lam[e]);
      const V barrier = p.lam[e] * w_.inverse_t[e];
      if (!side.soft) {
        weights[side.row] += barrier;
        continue;
      }
      const M soft = w_.soft[e];
      invert(p.s[e], p.lam_s[e], w_.inverse_s[e], w_.inverse_lam_s[e]);
      const V stiffness = w_.quadratic[e] + p.lam_s[e] * w_.inverse_s[e];
      w_.w[e] = keep(soft, splat(1.0) / select(soft, stiffness + barrier, splat(1.0)));
      w_.share[e] = select(soft, stiffness * w_.w[e], splat(1.0));
      weights[side.row] += barrier * w_.share[e];
    }
    for (int i = 0; i < nz; i++) hessian[i * nz + i] += weights[i];
    const E* G = w_.G + k * ng * nz;
    for (int row = 0; row < ng; row++)
      for (int i = 0; i < nz; i++) {
        V weighted = weights[nz + row] * spread(G[row * nz + i]);
        for (int j = 0; j <= i; j++) hessian[i * nz + j] += weighted * spread(G[row * nz + j]);
      }
  }

  // 1/a and 1/b by one division. Where there is no pair b is 0, and 1/a is taken as 0 too: it does not push.
  static void invert(V a, V b, V& inverse_a, V& inverse_b) {
    const V product = a * b, inverse = splat(1.0) / select(product > 0, product, splat(1.0));
    inverse_a = b * inverse;
    inverse_b = a * inverse;
  }

  // The gradient of stage k with its rows eliminated, and its part of the recursion in p.
  template <class Wrong>
  void backward(int k, const Iterate& p, const Residual& r, const Wrong& wrong) {
    V* gradient = w_.gradient;
    for (int i = 0; i < nz; i++) gradient[i] = r.stationarity[k * nz + i];
    if (has_sides(k)) {
      V* sums = row_sums(gradient);
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const Side& side = pattern_.sides[e];
        V toward_row = (wrong.row(e) + p.lam[e] * r.row[e]) * w_.inverse_t[e], rho = toward_row;
        if (side.soft) {
          V toward_price = r.price[e] + wrong.violation(e) * w_.inverse_s[e];
          rho = w_.share[e] * toward_row - p.lam[e] * w_.inverse_t[e] * w_.w[e] * toward_price;
          w_.toward[e] = toward_price + toward_row;
        }
        w_.rho[e] = rho;
        sums[side.row] += Real(side.sign) * rho;
      }
      add_rows_transposed(k, sums, gradient);
    }
    if (k == N)
      for (int i = 0; i < nx; i++) w_.riccati.p[N * nx + i] = gradient[nu + i];
    else
      solve_backward(sizes(), w_.riccati, k, w_.F + k * nx * nz, gradient);
  }

  // The rollout, and with it the steps of the rows.
  template <class Wrong>
  Reach forward(const Iterate& p, const Residual& r, const Wrong& wrong, bool costates) {
    Iterate& d = w_.step;
    Reach reach;
    if (shape_.free_initial_state)
      solve_initial(sizes(), w_.riccati, d.z + nu);
    else
      for (int i = 0; i < nx; i++) d.z[nu + i] = r.initial[i];
    for (int k = 0; k <= N; k++) {
      V* z = d.z + k * nz;
      if (k < N)
        solve_forward(sizes(), w_.riccati, k, w_.F + k * nx * nz, r.dynamics + k * nx, z);
      else
        for (int i = 0; i < nu; i++) z[i] = V{};
      if (costates) solve_costate(sizes(), w_.riccati, k, z + nu, d.pi + k * nx);
      if (has_sides(k)) step_rows(k, p, r, wrong, z, reach);
    }
    if (costates && shape_.free_initial_state)
      for (int i = 0; i < nx; i++) d.pi[i] = V{};
    return reach;
  }

  template <class Wrong>
  void step_rows(int k, const Iterate& p, const Residual& r, const Wrong& wrong, const V* z, Reach& reach) {
    Iterate& d = w_.step;
    const V* values = row_values(k, z);
    Reach here = reach;
    for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
      const Side& side = pattern_.sides[e];
      const V moved = Real(side.sign) * values[side.row], t = p.t[e], lam = p.lam[e], inverse_t = w_.inverse_t[e];
      const V barrier = lam * inverse_t;
      V dt = moved + r.row[e], dlam;
      if (side.soft) {
        const V s = p.s[e], lam_s = p.lam_s[e], inverse_s = w_.inverse_s[e];
        const V ds = -w_.w[e] * (w_.toward[e] + barrier * moved);
        const V dlam_s = -(wrong.violation(e) + lam_s * ds) * inverse_s;
        here.take(s, lam_s, ds, dlam_s, inverse_s, w_.inverse_lam_s[e]);
        d.s[e] = ds;
        d.lam_s[e] = dlam_s;
        dlam = -barrier * w_.share[e] * moved - w_.rho[e];
        dt += ds;
      } else {
        dlam = -barrier * moved - w_.rho[e];
      }
      dt = keep(w_.exists[e], dt);
      here.take(t, lam, dt, dlam, inverse_t, w_.inverse_lam[e]);
      d.t[e] = dt;
      d.lam[e] = dlam;
    }
    reach = here;
  }

  const Shape& shape_;
  const Pattern& pattern_;
  Workspace<E>& w_;
  const int N, ng;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
