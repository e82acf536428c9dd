// Where the interior-point method starts: the solution without rows where that keeps all of them, else a rollout of its feedback with
// clipped controls; the mathematics: src/planahead/qp/start.py.
#pragma once

#include "newton.h"

namespace planahead {
namespace PLANAHEAD_ISA {

template <class E, class S>
class Start : private S {
 public:
  Start(const Shape& shape, const Pattern& pattern, const Settings& settings, Workspace<E>& w, Newton<E, S>& newton)
      : S(shape), shape_(shape), pattern_(pattern), settings_(settings), w_(w), newton_(newton), nodes_(shape.nodes()) {}

  // From w.point, which is zero, and the step in w.step, which leads to the solution without rows: the first iterate of `lanes` into
  // w.next. Returns tau.
  V place(M lanes, M definite) {
    Iterate &p = w_.point, &d = w_.step, &q = w_.next;
    V most{};
    for (int i = 0; i < nodes_ * nz; i++) raise(most, p.z[i] + d.z[i]);
    for (int i = 0; i < nodes_ * nx; i++) raise(most, d.pi[i]);
    const M usable = definite & finite(most);
    for (int i = 0; i < nodes_ * nz; i++) q.z[i] = select(lanes, p.z[i] + keep(usable, d.z[i]), q.z[i]);
    for (int i = 0; i < nodes_ * nx; i++) q.pi[i] = select(lanes, keep(usable, d.pi[i]), q.pi[i]);
    if (!shape_.free_initial_state)
      for (int i = 0; i < nx; i++) q.z[nu + i] = select(lanes, w_.x0[i], q.z[nu + i]);
    V slope{};
    for (int k = 0; k < nodes_; k++) {
      gradient(k);
      for (int i = 0; i < nz; i++) raise(slope, w_.gradient[i]);
    }
    const V relative = Real(settings_.relative_tau) * larger(slope, Real(1e-3) * *w_.unit);
    const V tau = settings_.tau >= 0 ? splat(settings_.tau) : relative;
    M inside = usable;
    for (int k = 0; k < nodes_; k++) {
      if (!newton_.has_sides(k)) continue;
      const V* values = newton_.row_values(k, q.z + k * nz);
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) inside &= (distance(e, values) > 0) | ~w_.exists[e];
    }
    V mu = tau;
    const M outside = lanes & ~inside, warm = w_.guessed ? take_guess(outside) : none();
    if (any(outside & ~warm)) {
      roll_out(outside & ~warm);
      mu = select(outside, larger(mean_slope(), kSmallest * larger(slope, *w_.unit)), mu);
    }
    if (any(warm)) mu = select(warm, larger(larger(kWarm * mismatch(), kHot * larger(slope, *w_.unit)), tau), mu);
    place_rows(lanes, inside, warm, mu);
    return tau;
  }

 private:
  using S::nu;
  using S::nx;
  using S::nz;
  static constexpr Real kMargin = 0.1, kSmallest = 1e-3, kWarm = 0.1, kNarrow = 1e-6, kHot = 1e-5;

  // The guess into w.next, in those of `lanes` where it is finite and says that some row is active.
  M take_guess(M lanes) {
    const Guess& guess = w_.guess;
    V most{}, active{};
    for (int i = 0; i < nodes_ * nz; i++) raise(most, guess.z[i]);
    for (int i = 0; i < nodes_ * nx; i++) raise(most, guess.pi[i]);
    for (int e = 0; e < int(pattern_.sides.size()); e++) raise(active, keep(w_.exists[e], guess.lam[e]));
    const M taken = lanes & finite(most) & finite(active) & (active > 0);
    for (int i = 0; i < nodes_ * nz; i++) w_.next.z[i] = select(taken, guess.z[i], w_.next.z[i]);
    for (int i = 0; i < nodes_ * nx; i++) w_.next.pi[i] = select(taken, guess.pi[i], w_.next.pi[i]);
    return taken;
  }

  // The largest residual of stationarity at the guess: how far its multipliers are from balancing the cost.
  V mismatch() {
    const Guess& guess = w_.guess;
    V most{};
    for (int k = 0; k < nodes_; k++) {
      gradient(k);
      if (k < shape_.N) add_transposed(w_.F + k * nx * nz, nz, guess.pi + (k + 1) * nx, w_.gradient, nx, nz);
      for (int i = 0; i < nx; i++) w_.gradient[nu + i] -= guess.pi[k * nx + i];
      if (newton_.has_sides(k)) {
        V* sums = newton_.row_sums(w_.gradient);
        for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++)
          sums[pattern_.sides[e].row] -= Real(pattern_.sides[e].sign) * keep(w_.exists[e], guess.lam[e]);
        newton_.add_rows_transposed(k, sums, w_.gradient);
      }
      for (int i = 0; i < nz; i++) raise(most, w_.gradient[i]);
    }
    return most;
  }

  // Into w.next.z: the feedback of the solution without rows, its controls clipped, through the dynamics.
  void roll_out(M lanes) {
    const Riccati& r = w_.riccati;
    V *z = w_.total.z, *next = w_.next.z;
    for (int i = 0; i < nx; i++) z[nu + i] = next[nu + i];
    V most{};
    for (int k = 0; k < nodes_; k++) {
      V *u = z + k * nz, *x = u + nu;
      if (k < shape_.N) {
        times(r.Y + k * nu * nx, nx, x, r.l + k * nu, u, nu, nx);
        for (int i = 0; i < nu; i++) u[i] = -u[i];
        backward_substitution(r.L + k * nu * nu, nu, u);
      } else {
        for (int i = 0; i < nu; i++) u[i] = V{};
      }
      clip_controls(k, u);
      if (k < shape_.N) times(w_.F + k * nx * nz, nz, u, w_.c + k * nx, u + nz + nu, nx, nz);
      for (int i = 0; i < nz; i++) raise(most, u[i]);
    }
    const M reached = lanes & finite(most);
    for (int i = 0; i < nodes_ * nz; i++) next[i] = select(reached, z[i], next[i]);
    if (!any(lanes & ~reached)) return;
    for (int k = 0; k < nodes_; k++) {
      for (int i = 0; i < nu; i++) z[i] = next[k * nz + i];
      clip_controls(k, z);
      for (int i = 0; i < nu; i++) next[k * nz + i] = select(lanes & ~reached, z[i], next[k * nz + i]);
    }
  }

  void clip_controls(int k, V* u) {
    for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
      const Side& side = pattern_.sides[e];
      if (side.row >= nu) return;  // rows are listed in order
      const V edge = Real(side.sign) * (w_.bound[e] + margin(e)), now = u[side.row];
      u[side.row] = select(w_.exists[e], side.sign > 0 ? larger(now, edge) : smaller(now, edge), now);
    }
  }

  // The mean magnitude of the cost's derivatives by the controls along w.next.z: what multipliers of the control box have to balance.
  V mean_slope() {
    V *costate = w_.total.pi, sum{};
    for (int k = nodes_ - 1; k >= 0; k--) {
      gradient(k);
      if (k < shape_.N) {
        add_transposed(w_.F + k * nx * nz, nz, costate, w_.gradient, nx, nz);
        for (int i = 0; i < nu; i++) sum += magnitude(w_.gradient[i]);
      }
      for (int i = 0; i < nx; i++) costate[i] = w_.gradient[nu + i];
    }
    return select(finite(sum), sum / Real(shape_.N * nu), V{});
  }

  // Of the cost of stage k at w.next.z, into w.gradient.
  void gradient(int k) {
    for (int i = 0; i < nz; i++) w_.gradient[i] = w_.g[k * nz + i];
    add_symmetric(w_.H + k * nz * nz, nz, w_.next.z + k * nz, w_.gradient, nz);
  }

  // Distances, multipliers and violations of `lanes` in w.next, from its z; `inside`: z keeps all rows; `warm`: it is the guess. Divisions
  // and roots are what this costs: a hard row of a cold start has one.
  void place_rows(M lanes, M inside, M warm, V mu) {
    Iterate& q = w_.next;
    for (int k = 0; k < nodes_; k++) {
      if (!newton_.has_sides(k)) continue;
      const V* values = newton_.row_values(k, q.z + k * nz);
      for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
        const M exists = w_.exists[e], soft = w_.soft[e];
        const V away = distance(e, values), lack = larger(-away, V{}), room = margin(e);
        V given{}, least = larger(room, 0.5 * lack);
        if (pattern_.sides[e].soft) least = select(soft, room, least);
        if (any(warm)) {
          given = keep(warm & exists, larger(w_.guess.lam[e], V{}));
          least = select(warm, mu / larger(given, root(mu)), least);
        }
        const V t = select(exists, larger(away, keep(~inside, least)), splat(1.0));
        V lam = mu / select(inside | warm, t, splat(1.0)), s{}, lam_s{};
        lam = keep(exists, larger(lam, given));
        if (pattern_.sides[e].soft) {
          // A soft row starts without a row residual: its violation is what is missing, and its price is shared.
          const V force = w_.linear[e] + w_.quadratic[e] * lack;
          lam = select(soft & ~inside, smaller(lam, select(warm, splat(0.99), splat(0.5)) * force), lam);
          const V balanced = mu / larger(force, root(mu * larger(w_.quadratic[e], splat(1e-12))));
          s = larger(lack, balanced);
          lam_s = keep(soft, larger(mu / s, keep(~inside, force - lam)));
          s = keep(soft, s);
        }
        q.t[e] = select(lanes, t, q.t[e]);
        q.lam[e] = select(lanes, lam, q.lam[e]);
        q.s[e] = select(lanes, s, q.s[e]);
        q.lam_s[e] = select(lanes, lam_s, q.lam_s[e]);
      }
    }
  }

  V distance(int e, const V* values) const {
    const Side& side = pattern_.sides[e];
    return Real(side.sign) * values[side.row] - w_.bound[e];
  }

  V margin(int e) const {
    const Side& side = pattern_.sides[e];
    V size = larger(splat(1.0), magnitude(w_.bound[e]));
    if (side.opposite >= 0)
      size = select(w_.exists[side.opposite],
                    smaller(size, larger(-(w_.bound[e] + w_.bound[side.opposite]), splat(kNarrow))), size);
    return kMargin * size;
  }

  const Shape& shape_;
  const Pattern& pattern_;
  const Settings& settings_;
  Workspace<E>& w_;
  Newton<E, S>& newton_;
  const int nodes_;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
