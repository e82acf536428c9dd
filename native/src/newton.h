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

  // Where one number a row is summed up, to be added to y [nz] by `pull`: y itself if there are only boxes.
  V* row_sums(V* y) {
    if (ng == 0) return y;
    for (int i = 0; i < nz + ng; i++) w_.net[i] = V{};
    return w_.net;
  }

  // y += G' sums.
  void pull(int k, const V* sums, V* y) {
    if (ng == 0) return;
    for (int i = 0; i < nz; i++) y[i] += sums[i];
    add_transposed(w_.G + k * ng * nz, nz, sums + nz, y, ng, nz);
  }

  // Into w.residual, all of it; tau [lane].
  Largest residuals(const Iterate& p, V tau) {
    Residual& r = w_.residual;
    Largest most;
    for (int k = 0; k <= N; k++) {
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
          const double sign = side.sign;
          const M exists = w_.exists[e];
          sums[side.row] -= sign * p.lam[e];
          raise(most.lam, p.lam[e]);
          V distance = sign * values[side.row] - w_.bound[e] - p.t[e];
          r.complementarity[e] = keep(exists, p.lam[e] * p.t[e] - tau);
          if (side.soft) {
            const M soft = w_.soft[e];
            distance += p.s[e];
            r.price[e] = keep(soft, w_.quadratic[e] * p.s[e] + w_.linear[e] - p.lam[e] - p.lam_s[e]);
            r.violation[e] = keep(soft, p.s[e] * p.lam_s[e] - tau);
            raise(most.price, r.price[e]);
            raise(most.miss, r.violation[e]);
          }
          r.row[e] = keep(exists, distance);
          raise(most.primal, r.row[e]);
          raise(most.miss, r.complementarity[e]);
        }
        pull(k, sums, stationarity);
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

  // Eliminate the rows of `p` and factorise; the lanes whose reduced Hessian is positive definite. `without_rows`: lanes in which
  // no row counts.
  M factorise(const Iterate& p, M without_rows) {
    M definite = ~none();
    for (int k = N; k >= 0; k--) factorise_stage(p, k, without_rows, definite);
    if (shape_.free_initial_state) factorise_initial(sizes(), w_.riccati, definite);
    return definite;
  }

  // Factorise, and put into w.step the step from `p` that cancels `r` to first order. `costates`: its pi is wanted too. One sweep does
  // both, while a stage is at hand.
  M factorise_and_step(const Iterate& p, const Residual& r, M without_rows, bool costates) {
    M definite = ~none();
    for (int k = N; k >= 0; k--) {
      if (k < N) times(w_.riccati.whole, nx, r.dynamics + k * nx, nullptr, w_.riccati.Pe + k * nx, nx, nx);
      factorise_stage(p, k, without_rows, definite);
      backward(k, r);
    }
    if (shape_.free_initial_state) factorise_initial(sizes(), w_.riccati, definite);
    forward(p, r, costates);
    return definite;
  }

  // The step after `factorise_and_step` for another `r`. `same_dynamics`: those residuals are the same.
  void step(const Iterate& p, const Residual& r, bool same_dynamics) {
    for (int k = N; k >= 0; k--) {
      if (k < N && !same_dynamics) {
        V* Pe = w_.riccati.Pe + k * nx;
        for (int i = 0; i < nx; i++) Pe[i] = V{};
        add_symmetric(w_.riccati.P + (k + 1) * nx * nx, nx, r.dynamics + k * nx, Pe, nx);
      }
      backward(k, r);
    }
    forward(p, r, true);
  }

  bool has_sides(int k) const { return pattern_.begin[k] < pattern_.begin[k + 1]; }

 private:
  using S::nu;
  using S::nx;
  using S::nz;

  const S& sizes() const { return *this; }
  void factorise_stage(const Iterate& p, int k, M without_rows, M& definite) {
    const E* H = w_.H + k * nz * nz;
    Riccati& riccati = w_.riccati;
    if (k < N)
      propagate(sizes(), riccati, H, w_.F + k * nx * nz);
    else
      for (int i = 0; i < nz; i++)
        for (int j = 0; j <= i; j++) riccati.M[i * nz + j] = spread(H[i * nz + j]);
    if (has_sides(k)) eliminate(p, k, without_rows, riccati.M);
    if (k < N)
      PLANAHEAD_ISA::factorise_stage(sizes(), riccati, k, definite);
    else
      factorise_last(sizes(), riccati, N);
  }

  void eliminate(const Iterate& p, int k, M without_rows, V* hessian) {
    V* weights = w_.net;
    for (int i = 0; i < nz + ng; i++) weights[i] = V{};
    for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
      const Side& side = pattern_.sides[e];
      w_.inverse_t[e] = splat(1.0) / p.t[e];
      V barrier = keep(~without_rows, p.lam[e] * w_.inverse_t[e]), share = splat(1.0);
      if (side.soft) {
        const M soft = w_.soft[e];
        w_.inverse_s[e] = keep(soft, splat(1.0) / select(soft, p.s[e], splat(1.0)));
        V stiffness = w_.quadratic[e] + p.lam_s[e] * w_.inverse_s[e];
        w_.w[e] = keep(soft, splat(1.0) / select(soft, stiffness + barrier, splat(1.0)));
        share = select(soft, stiffness * w_.w[e], share);
      }
      w_.barrier[e] = barrier;
      w_.share[e] = share;
      weights[side.row] += barrier * share;
    }
    for (int i = 0; i < nz; i++) hessian[i * nz + i] += weights[i];
    const E* G = w_.G + k * ng * nz;
    for (int row = 0; row < ng; row++)
      for (int i = 0; i < nz; i++) {
        V weighted = weights[nz + row] * spread(G[row * nz + i]);
        for (int j = 0; j <= i; j++) hessian[i * nz + j] += weighted * spread(G[row * nz + j]);
      }
  }

  // The gradient of stage k with its rows eliminated, and its part of the recursion in p.
  void backward(int k, const Residual& r) {
    V* gradient = w_.gradient;
    for (int i = 0; i < nz; i++) gradient[i] = r.stationarity[k * nz + i];
    if (has_sides(k)) {
      V* sums = row_sums(gradient);
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const Side& side = pattern_.sides[e];
        V toward_row = r.complementarity[e] * w_.inverse_t[e] + w_.barrier[e] * r.row[e], rho = toward_row;
        if (side.soft) {
          V toward_price = r.price[e] + r.violation[e] * w_.inverse_s[e];
          rho = w_.share[e] * toward_row - w_.barrier[e] * w_.w[e] * toward_price;
          w_.toward[e] = toward_price + toward_row;
        }
        w_.rho[e] = rho;
        sums[side.row] += double(side.sign) * rho;
      }
      pull(k, sums, gradient);
    }
    if (k == N)
      for (int i = 0; i < nx; i++) w_.riccati.p[N * nx + i] = gradient[nu + i];
    else
      solve_backward(sizes(), w_.riccati, k, w_.F + k * nx * nz, gradient);
  }

  // The rollout, and with it the steps of the rows.
  void forward(const Iterate& p, const Residual& r, bool costates) {
    Iterate& d = w_.step;
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
      if (has_sides(k)) step_rows(k, p, r, z);
    }
    if (costates && shape_.free_initial_state)
      for (int i = 0; i < nx; i++) d.pi[i] = V{};
  }

  void step_rows(int k, const Iterate& p, const Residual& r, const V* z) {
    Iterate& d = w_.step;
    const V* values = row_values(k, z);
    for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
      const Side& side = pattern_.sides[e];
      V moved = double(side.sign) * values[side.row];
      V dt = moved + r.row[e];
      if (side.soft) {
        d.lam[e] = -w_.barrier[e] * w_.share[e] * moved - w_.rho[e];
        d.s[e] = -w_.w[e] * (w_.toward[e] + w_.barrier[e] * moved);
        d.lam_s[e] = keep(w_.soft[e], -(r.violation[e] + p.lam_s[e] * d.s[e]) * w_.inverse_s[e]);
        dt += d.s[e];
      } else {
        d.lam[e] = -w_.barrier[e] * moved - w_.rho[e];
      }
      d.t[e] = keep(w_.exists[e], dt);
    }
  }

  const Shape& shape_;
  const Pattern& pattern_;
  Workspace<E>& w_;
  const int N, ng;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
