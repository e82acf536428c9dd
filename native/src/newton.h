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

class Newton {
 public:
  Newton(const Shape& shape, const Pattern& pattern, Workspace& w)
      : shape_(shape), pattern_(pattern), w_(w), N(shape.N), nx(shape.nx), nu(shape.nu), nz(shape.nz()), ng(shape.ng) {}

  // values[r] of all rows of stage k at z_k: its entries, then the general rows.
  void row_values(int k, const V* z) {
    for (int i = 0; i < nz; i++) w_.values[i] = z[i];
    if (ng) times(w_.G + k * ng * nz, nz, z, nullptr, w_.values + nz, ng, nz);
  }

  // Into w.residual, all of it; tau [lane].
  Largest residuals(const Iterate& p, V tau) {
    Residual& r = w_.residual;
    Largest most;
    for (int k = 0; k <= N; k++) {
      const V *z = p.z + k * nz, *pi = p.pi + k * nx;
      V* stationarity = r.stationarity + k * nz;
      times(w_.H + k * nz * nz, nz, z, w_.g + k * nz, stationarity, nz, nz);
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
        row_values(k, z);
        clear_net();
        for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
          const Side& side = pattern_.sides[e];
          const double sign = side.sign;
          const M exists = w_.exists[e];
          w_.net[side.row] += sign * p.lam[e];
          raise(most.lam, p.lam[e]);
          V distance = sign * w_.values[side.row] - w_.bound[e] - p.t[e];
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
        pull_net(k, stationarity, -1.0);
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
    for (int k = N; k >= 0; k--) {
      V* hessian = w_.riccati.M;
      const V* H = w_.H + k * nz * nz;
      for (int i = 0; i < nz; i++)
        for (int j = 0; j <= i; j++) hessian[i * nz + j] = H[i * nz + j];
      if (has_sides(k)) {
        clear_net();
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
          w_.net[side.row] += barrier * share;
        }
        for (int i = 0; i < nz; i++) hessian[i * nz + i] += w_.net[i];
        const V* G = w_.G + k * ng * nz;
        for (int row = 0; row < ng; row++)
          for (int i = 0; i < nz; i++) {
            V weighted = w_.net[nz + row] * G[row * nz + i];
            for (int j = 0; j <= i; j++) hessian[i * nz + j] += weighted * G[row * nz + j];
          }
      }
      if (k == N) {
        V* P = w_.riccati.P + N * nx * nx;
        for (int i = 0; i < nx; i++)
          for (int j = 0; j <= i; j++) P[i * nx + j] = P[j * nx + i] = hessian[(nu + i) * nz + nu + j];
      } else {
        factorise_stage(shape_, w_.riccati, k, w_.F + k * nx * nz, definite);
      }
    }
    if (shape_.free_initial_state) factorise_initial(shape_, w_.riccati, definite);
    return definite;
  }

  // Into w.step: the step from `p` that cancels `r` to first order, after `factorise`. `again`: only complementarity and violation
  // differ from the last call.
  void step(const Iterate& p, const Residual& r, bool again) {
    for (int k = 0; k <= N; k++) {
      V* gradient = w_.gradient + k * nz;
      for (int i = 0; i < nz; i++) gradient[i] = r.stationarity[k * nz + i];
      if (!has_sides(k)) continue;
      clear_net();
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const Side& side = pattern_.sides[e];
        V toward_row = r.complementarity[e] * w_.inverse_t[e] + w_.barrier[e] * r.row[e], rho = toward_row;
        if (side.soft) {
          V toward_price = r.price[e] + r.violation[e] * w_.inverse_s[e];
          rho = w_.share[e] * toward_row - w_.barrier[e] * w_.w[e] * toward_price;
          w_.toward[e] = toward_price + toward_row;
        }
        w_.rho[e] = rho;
        w_.net[side.row] += double(side.sign) * rho;
      }
      pull_net(k, gradient, 1.0);
    }
    Iterate& d = w_.step;
    solve(shape_, w_.riccati, w_.F, w_.gradient, r.dynamics, r.initial, d.z, d.pi, again);
    for (int k = 0; k <= N; k++) {
      if (!has_sides(k)) continue;
      row_values(k, d.z + k * nz);
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const Side& side = pattern_.sides[e];
        V moved = double(side.sign) * w_.values[side.row];
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
  }

  bool has_sides(int k) const { return pattern_.begin[k] < pattern_.begin[k + 1]; }

  void clear_net() {
    for (int i = 0; i < nz + ng; i++) w_.net[i] = V{};
  }

  // y += sign G' net.
  void pull_net(int k, V* y, double sign) {
    for (int i = 0; i < nz; i++) y[i] += sign * w_.net[i];
    if (ng) add_transposed(w_.G + k * ng * nz, nz, w_.net + nz, y, ng, nz, sign);
  }

 private:
  const Shape& shape_;
  const Pattern& pattern_;
  Workspace& w_;
  const int N, nx, nu, nz, ng;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
