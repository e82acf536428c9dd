// A primal-dual interior-point method with a fixed smallest barrier tau, W problems at a time; the method and its references:
// src/planahead/qp/interior_point.py.
//
// A group holds one problem in each lane of a vector. A problem that ends is written out and the next one takes its lane: it starts
// with the same factorisation as its neighbours' next iteration, so no vector waits for its slowest problem.
#pragma once

#include <utility>

#include "start.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// How the problems of a group ended, of those lanes that did.
struct Outcome {
  int32_t status[W];
  V iterations, residual, tau;
  M factorised;  // the last factorisation succeeded
};

// Where the group gets its problems and leaves its answers.
struct Tasks {
  // The next problem for lane `slot`, or -1.
  virtual int64_t load(int slot) = 0;
  // Try to fill all lanes with neighbouring problems at once; the mask of those filled.
  virtual M load_all(int64_t* problems) = 0;
  // Write out the lanes that have `ended`; `problems` says which problem is in which.
  virtual void store(M ended, const int64_t* problems, const Iterate& p, const Outcome& outcome) = 0;
  virtual ~Tasks() = default;
};

template <class E, class S>
class InteriorPoint : private S {
 public:
  InteriorPoint(const Shape& shape, const Pattern& pattern, const Settings& settings, Workspace<E>& w, Tasks& tasks)
      : S(shape), shape_(shape), pattern_(pattern), settings_(settings), w_(w), tasks_(tasks), newton_(shape, pattern, w),
        start_(shape, pattern, settings, w, newton_), sides_(pattern.sides.size()), nodes_(shape.nodes()) {}

  // Solve problems until there are none left.
  void run() {
    for (int i = 0; i < W; i++) problem_[i] = -1;
    begin(tasks_.load_all(problem_));
    for (;;) {
      int free = 0;
      for (int i = 0; i < W; i++) free += problem_[i] < 0;
      if (free >= kTogether) {
        M fresh = none();
        for (int i = 0; i < W; i++)
          if (problem_[i] < 0 && (problem_[i] = tasks_.load(i)) >= 0) fresh[i] = -1;
        begin(fresh);
      }
      if (!any(active_)) return;
      iterate();
      if (!any(active_)) begin(tasks_.load_all(problem_));
    }
  }

 private:
  using S::nu;
  using S::nx;
  using S::nz;
  static constexpr int kTogether = W >= 8 ? W / 4 : 1;  // lanes that are filled at once: what fills one goes through all of them
  static constexpr Real kRecentre = 0.1, kShort = 0.99, kLong = sizeof(Real) == 8 ? 0.9999999 : 0.999999;
  static constexpr Real kRaise = 10.0, kWeary = 5.0, kPatience = 30.0;
  // In float32 it is rounding, as a rule, that holds problems up, against which a larger barrier helps little; float64 takes them over (ffi.cpp).
  static constexpr bool kHandsOver = sizeof(Real) == 4;
  static constexpr Real kTiny = 0.1, kMiddling = 0.3, kProgress = 0.9;  // step lengths; an error that has come down

  // Put lanes at zero, from where one full step leads to the solution without rows.
  void begin(M lanes) {
    if (!any(lanes)) return;
    active_ |= lanes;
    starting_ |= lanes;
    Iterate& p = w_.point;
    Residual& r = w_.residual;
    V data{}, offsets{};
    for (int i = 0; i < nodes_ * nz; i++) {
      p.z[i] = keep(~lanes, p.z[i]);
      r.stationarity[i] = select(lanes, w_.g[i], r.stationarity[i]);
      raise(data, w_.g[i]);
    }
    for (int i = 0; i < nodes_ * nx; i++) p.pi[i] = keep(~lanes, p.pi[i]);
    for (int i = 0; i < shape_.N * nx; i++) {
      r.dynamics[i] = select(lanes, w_.c[i], r.dynamics[i]);
      raise(offsets, w_.c[i]);
    }
    if (!shape_.free_initial_state)
      for (int i = 0; i < nx; i++) r.initial[i] = select(lanes, w_.x0[i], r.initial[i]);
    V count{};
    for (int e = 0; e < sides_; e++) {
      p.t[e] = select(lanes, splat(1.0), p.t[e]);
      p.lam[e] = keep(~lanes, p.lam[e]);
      p.s[e] = select(lanes, keep(w_.soft[e], splat(1.0)), p.s[e]);
      p.lam_s[e] = select(lanes, keep(w_.soft[e], splat(1.0)), p.lam_s[e]);
      r.row[e] = keep(~lanes, r.row[e]);
      r.price[e] = keep(~lanes, r.price[e]);
      count += keep(w_.exists[e], splat(1.0)) + keep(w_.soft[e], splat(1.0));
    }
    largest_g_ = select(lanes, data, largest_g_);
    largest_c_ = select(lanes, offsets, largest_c_);
    count_ = larger(count, splat(1.0));
    tau_ = keep(~lanes, tau_);
    iterations_ = keep(~lanes, iterations_);
    stuck_ = keep(~lanes, stuck_);
    idle_ = keep(~lanes, idle_);
    boost_ = keep(~lanes, boost_);
  }

  void iterate() {
    const M starting = starting_, moving = active_ & ~starting_;
    // A predictor's costates are not read; the first step of a problem has no corrector.
    Reach reach;
    M definite = newton_.factorise_and_step(w_.point, w_.residual, Predicted{w_.point, tau_}, any(starting), reach);
    if (any(starting)) tau_ = select(starting, start_.place(starting, definite), tau_);
    V alpha = splat(1.0), least{};
    if (any(moving)) {
      reach = correct(reach);
      alpha = reach.longest();
      // Short steps keep a hundredth of their distance to the nearest row, long ones next to nothing.
      alpha = select(alpha < 1.0, alpha * ((1.0 - alpha) * kShort + alpha * kLong), alpha);
      // Pairs far below the mean are raised, those of a short step more; neither factor by more than the root.
      least = select(alpha < kMiddling, splat(kRecentre), splat(Real(1e-3) * kRecentre)) * products_after(alpha) / count_;
    }
    const V bottom = root(least);
    Largest most = newton_.residuals(w_.next, tau_, [&](int k) {
      if (any(moving)) move(k, moving, alpha, least, bottom);
    });
    V error = relative_error(most);
    conclude(starting, moving, definite, alpha, error);
  }

  // From the predictor in w.step to the corrector.
  Reach correct(const Reach& predicted) {
    const V affine = predicted.products(predicted.longest());
    const V ratio = smaller(larger(affine / predicted.now, V{}), splat(1.0)), mu = predicted.now / count_;
    const V square = ratio * ratio, target = larger(mu * larger(square * square, boost_), tau_);
    const V second = select(boost_ > 0, V{}, splat(1.0));
    return newton_.step(w_.point, w_.residual, Corrected{w_.point, w_.step, target, second}, true);
  }

  // The products of all pairs after a step of length alpha, pair by pair: `Reach` knows them too, but where the step takes nearly all of
  // them away, only to the rounding of what they were.
  V products_after(V alpha) const {
    const Iterate &p = w_.point, &d = w_.step;
    V sum{};
    for (int e = 0; e < sides_; e++) {
      sum += keep(w_.exists[e], (p.t[e] + alpha * d.t[e]) * (p.lam[e] + alpha * d.lam[e]));
      if (pattern_.sides[e].soft) sum += keep(w_.soft[e], (p.s[e] + alpha * d.s[e]) * (p.lam_s[e] + alpha * d.lam_s[e]));
    }
    return sum;
  }

  // Stage k of `lanes` into w.next.
  void move(int k, M lanes, V alpha, V least, V bottom) {
    const Iterate &p = w_.point, &d = w_.step;
    Iterate& q = w_.next;
    for (int i = k * nz; i < (k + 1) * nz; i++) q.z[i] = select(lanes, p.z[i] + alpha * d.z[i], q.z[i]);
    for (int i = k * nx; i < (k + 1) * nx; i++) q.pi[i] = select(lanes, p.pi[i] + alpha * d.pi[i], q.pi[i]);
    for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
      move(q.t[e], q.lam[e], p.t[e] + alpha * d.t[e], p.lam[e] + alpha * d.lam[e], lanes, w_.exists[e], least, bottom);
      if (!pattern_.sides[e].soft) continue;
      move(q.s[e], q.lam_s[e], p.s[e] + alpha * d.s[e], p.lam_s[e] + alpha * d.lam_s[e], lanes, w_.soft[e], least, bottom);
    }
  }

  static void move(V& a, V& b, V new_a, V new_b, M lanes, M counts, V least, V bottom) {
    recentre(new_a, new_b, lanes & counts, least, bottom);
    a = select(lanes, new_a, a);
    b = select(lanes, new_b, b);
  }

  static void recentre(V& a, V& b, M where, V least, V bottom) {
    const M low = where & (a * b < least);
    if (!any(low)) return;
    a = select(low, larger(a, least / larger(b, bottom)), a);
    b = select(low, larger(b, least / larger(a, bottom)), b);
  }

  // Take the step back.
  void copy(M lanes) {
    const Iterate& p = w_.point;
    Iterate& q = w_.next;
    for (int i = 0; i < nodes_ * nz; i++) q.z[i] = select(lanes, p.z[i], q.z[i]);
    for (int i = 0; i < nodes_ * nx; i++) q.pi[i] = select(lanes, p.pi[i], q.pi[i]);
    for (int e = 0; e < sides_; e++) {
      q.t[e] = select(lanes, p.t[e], q.t[e]);
      q.lam[e] = select(lanes, p.lam[e], q.lam[e]);
      q.s[e] = select(lanes, p.s[e], q.s[e]);
      q.lam_s[e] = select(lanes, p.lam_s[e], q.lam_s[e]);
    }
  }

  V relative_error(const Largest& most) const {
    const V unit = *w_.unit, dual_scale = unit + largest_g_ + most.pi + most.lam, primal_scale = 1.0 + most.z + largest_c_;
    V error = V{};
    raise(error, most.stationarity / dual_scale);
    raise(error, most.price / dual_scale);
    raise(error, most.primal / primal_scale);
    raise(error, select(most.miss <= Real(1e-4) * tau_, most.miss / dual_scale, most.miss / unit));
    return error;
  }

  void conclude(M starting, M moving, M definite, V alpha, V error) {
    const M sound = finite(error), accepted = (moving & sound & definite) | (starting & sound);
    const M refused = active_ & ~accepted;
    if (any(refused)) copy(refused);
    const M progress = error < kProgress * error_;
    stuck_ = select(moving, select(accepted & (progress | (alpha > kTiny)), V{}, stuck_ + 1.0), stuck_);
    idle_ = select(moving, select(error < kProgress * best_, V{}, idle_ + 1.0), idle_);
    best_ = select(starting, splat(kInfinity), smaller(best_, error));
    const M weary = idle_ >= kWeary;
    idle_ = keep(~weary, idle_);
    boost_ = select(moving, select((alpha < kTiny) | weary, splat(kRaise), select(alpha < kMiddling, splat(kMiddling), V{})), boost_);
    error_ = select(accepted, error, select(starting, splat(kInfinity), error_));
    iterations_ += keep(moving, splat(1.0));
    const M solved = accepted & definite & (error_ <= Real(settings_.tolerance));
    const M stalled = active_ & ~solved & (refused | (stuck_ >= kPatience) | (kHandsOver ? moving & weary : none()));
    const M ended = solved | stalled | (active_ & (iterations_ >= Real(settings_.iterations)));
    if (any(ended)) {
      const M failed = ended & ~solved;
      const M contradiction = any(failed) ? infeasible(w_.next) : none();
      Outcome outcome{{}, iterations_, error_, tau_, definite};
      for (int i = 0; i < W; i++)
        outcome.status[i] = solved[i] ? kSolved : contradiction[i] ? kInfeasible : stalled[i] ? kStalled : kIterationLimit;
      tasks_.store(ended, problem_, w_.next, outcome);
      for (int i = 0; i < W; i++)
        if (ended[i]) problem_[i] = -1;
    }
    active_ &= ~ended;
    starting_ = none();
    std::swap(w_.point, w_.next);
  }

  // Whether the multipliers prove that the hard rows contradict the dynamics (Farkas), for all z up to a million times of what they and the
  // data are here; see `_infeasible` in Python.
  M infeasible(const Iterate& p) {
    const int N = shape_.N;
    V mismatch{}, gap{}, size = splat(1.0);
    for (int i = 0; i < nodes_ * nz; i++) raise(size, p.z[i]);
    for (int e = 0; e < sides_; e++) raise(size, w_.bound[e]);
    M other = none();  // hard rows other than the control box, which contradicts nothing
    for (int k = 0; k <= N; k++) {
      V* pulled = w_.gradient;
      for (int i = 0; i < nz; i++) pulled[i] = V{};
      if (k < N) add_transposed(w_.F + k * nx * nz, nz, p.pi + (k + 1) * nx, pulled, nx, nz);
      for (int i = 0; i < nx; i++) pulled[nu + i] -= p.pi[k * nx + i];
      if (newton_.has_sides(k)) {
        V* sums = newton_.row_sums(pulled);
        for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++) {
          const M hard = w_.exists[e] & ~w_.soft[e];
          if (pattern_.sides[e].row >= nu) other |= hard;
          V lam = keep(hard, p.lam[e]);
          sums[pattern_.sides[e].row] -= Real(pattern_.sides[e].sign) * lam;
          gap += lam * w_.bound[e];
        }
        newton_.add_rows_transposed(k, sums, pulled);
      }
      for (int i = 0; i < nz; i++) raise(mismatch, pulled[i]);
      if (k < N)
        for (int i = 0; i < nx; i++) gap += p.pi[(k + 1) * nx + i] * w_.c[k * nx + i];
    }
    if (!shape_.free_initial_state)
      for (int i = 0; i < nx; i++) gap += p.pi[i] * w_.x0[i];
    return other & (gap > 0) & (mismatch * size <= Real(1e-6) * gap);
  }

  const Shape& shape_;
  const Pattern& pattern_;
  const Settings& settings_;
  Workspace<E>& w_;
  Tasks& tasks_;
  Newton<E, S> newton_;
  Start<E, S> start_;
  const int sides_, nodes_;

  int64_t problem_[W];
  M active_{}, starting_{};
  V tau_{}, error_{}, iterations_{}, stuck_{}, idle_{}, best_{}, boost_{}, count_{}, largest_g_{}, largest_c_{};
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
