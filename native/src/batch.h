// A batch of problems in the caller's memory: loading them into lanes, checking them, and storing what came out.
#pragma once

#include <algorithm>

#include "interior_point.h"

namespace planahead {

namespace PLANAHEAD_ISA {

// Entry `index` of `array` in lane `lane` of `lanes`.
template <typename T>
static inline double entry(const Array<const T>& array, int64_t index, int64_t lane, int64_t lanes) {
  return array.shared ? double(array.data[index]) : double(array.data[index * lanes + lane]);
}

template <typename T>
static inline V neighbours(const Array<const T>& array, int64_t index, int64_t lane, int64_t lanes) {
  if (array.shared) return splat(double(array.data[index]));
  const T* from = array.data + index * lanes + lane;
  V v;
  for (int i = 0; i < W; i++) v[i] = double(from[i]);
  return v;
}

// Copy arrays into lanes: one lane at a time, or W neighbours at once.
template <typename T>
class Loader {
 public:
  Loader(int64_t lanes, int64_t lane, int slot, bool shared = false) : lanes_(lanes), lane_(lane), slot_(slot), shared_(shared) {}

  // `count` entries, of arrays that are shared by all lanes or of those that are not; a number that is not finite makes `bad` a NaN.
  void numbers(const Array<const T>& from, V* to, int64_t count) {
    if (from.shared != shared_) return;
    for (int64_t e = 0; e < count; e++) put(to[e], from, e);
    if (slot_ < 0)
      for (int64_t e = 0; e < count; e++) bad += 0.0 * to[e];
    else
      for (int64_t e = 0; e < count; e++) bad[slot_] += 0.0 * to[e][slot_];
  }

  void put(V& to, const Array<const T>& from, int64_t index) {
    if (slot_ < 0)
      to = neighbours(from, index, lane_, lanes_);
    else
      to[slot_] = entry(from, index, lane_, lanes_);
  }

  V bad{};

 private:
  const int64_t lanes_, lane_;
  const int slot_;
  const bool shared_;
};

// Index of a side in arrays [nodes, 2, m] and of its row in arrays [nodes, m].
static inline int64_t side_index(const Shape& shape, int k, const Side& side) {
  return (int64_t(k) * 2 + (side.sign < 0)) * shape.m() + side.row;
}
static inline int64_t row_index(const Shape& shape, int k, const Side& side) { return int64_t(k) * shape.m() + side.row; }

template <typename T>
static void load_numbers(const Shape& shape, const Problem<T>& problem, Workspace& w, Loader<T>& load) {
  const int64_t nodes = shape.nodes(), N = shape.N, nx = shape.nx, nz = shape.nz(), ng = shape.ng;
  load.numbers(problem.H, w.H, nodes * nz * nz);
  load.numbers(problem.g, w.g, nodes * nz);
  load.numbers(problem.F, w.F, N * nx * nz);
  load.numbers(problem.c, w.c, N * nx);
  load.numbers(problem.G, w.G, nodes * ng * nz);
  if (!shape.free_initial_state) load.numbers(problem.initial_state, w.x0, nx);
}

// What all lanes share, into w, once; whether it is valid.
template <typename T>
static bool load_shared(const Shape& shape, const Problem<T>& problem, Workspace& w) {
  Loader<T> load(shape.lanes, 0, -1, true);
  load_numbers(shape, problem, w, load);
  return load.bad[0] == 0;
}

// The problem's own data into w; the lanes (of those loaded) that hold a valid problem.
template <typename T>
static M load_problem(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, Workspace& w, int64_t lane, int slot) {
  const int nodes = shape.nodes();
  Loader<T> load(shape.lanes, lane, slot);
  load_numbers(shape, problem, w, load);
  const M loaded = slot < 0 ? ~none() : lane_mask(slot);
  M valid = load.bad == 0;
  for (int k = 0; k < nodes; k++)
    for (int e = pattern.begin[k]; e < pattern.begin[k + 1]; e++) {
      const Side& side = pattern.sides[e];
      V bound = w.bound[e], linear = w.linear[e], quadratic = w.quadratic[e];
      load.put(bound, problem.bound, side_index(shape, k, side));
      load.put(linear, problem.linear, row_index(shape, k, side));
      load.put(quadratic, problem.quadratic, row_index(shape, k, side));
      const M exists = finite(bound), soft = exists & finite(linear) & finite(quadratic);
      valid &= (bound < kInfinity) & (linear == linear) & (quadratic == quadratic);
      w.bound[e] = select(loaded, keep(exists, bound), w.bound[e]);
      w.linear[e] = select(loaded, keep(soft, linear), w.linear[e]);
      w.quadratic[e] = select(loaded, keep(soft, quadratic), w.quadratic[e]);
      w.exists[e] = (w.exists[e] & ~loaded) | (exists & loaded);
      w.soft[e] = (w.soft[e] & ~loaded) | (soft & loaded);
      if (side.sign < 0 && side.opposite >= 0)
        valid &= ~(w.exists[e] & w.exists[side.opposite] & (w.bound[side.opposite] > -w.bound[e]));
    }
  return valid & loaded;
}

template <typename T>
class Batch : public Tasks {
 public:
  Batch(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const Solution<T>& solution, Queue& queue, Workspace& w)
      : shape_(shape), pattern_(pattern), problem_(problem), solution_(solution), queue_(queue), w_(w),
        shared_valid_(load_shared(shape, problem, w)) {}

  int64_t load(int slot) override {
    const int64_t count = queue_.problems.size();
    for (;;) {
      const int64_t place = queue_.next.load(std::memory_order_relaxed) < count ? queue_.next.fetch_add(1) : count;
      if (place >= count) return -1;
      const int64_t lane = queue_.problems[place];
      if (shared_valid_ && load_problem(shape_, pattern_, problem_, w_, lane, slot)[slot]) return lane;
      refuse(lane);
    }
  }

  M load_all(int64_t* problems) override {
    const int64_t count = queue_.problems.size();
    M filled = none();
    const int64_t place = queue_.next.load(std::memory_order_relaxed) < count ? queue_.next.fetch_add(W) : count;
    if (place >= count) return filled;
    const int64_t first = queue_.problems[place];
    if (!shared_valid_) {
      for (int i = 0; i < W && place + i < count; i++) refuse(queue_.problems[place + i]);
    } else if (place + W <= count && queue_.problems[place + W - 1] == first + W - 1) {
      filled = load_problem(shape_, pattern_, problem_, w_, first, -1);
      for (int i = 0; i < W; i++) claim(filled[i], i, first + i, problems);
    } else {
      for (int i = 0; i < W && place + i < count; i++) {
        const int64_t lane = queue_.problems[place + i];
        filled |= load_problem(shape_, pattern_, problem_, w_, lane, i);
        claim(filled[i], i, lane, problems);
      }
    }
    return filled;
  }

  void store(int slot, int64_t lane, const Iterate& p, int32_t status, int32_t iterations, double residual, double tau) override {
    const int64_t lanes = shape_.lanes, nodes = shape_.nodes(), nz = shape_.nz(), nx = shape_.nx;
    auto scatter = [&](T* to, const V* from, int64_t count) {
      if (to == nullptr) return;
      for (int64_t e = 0; e < count; e++) to[e * lanes + lane] = T(from[e][slot]);
    };
    scatter(solution_.z, p.z, nodes * nz);
    scatter(solution_.pi, p.pi, nodes * nx);
    const std::pair<T*, const V*> rows[] = {{solution_.t, p.t}, {solution_.lam, p.lam}, {solution_.s, p.s}, {solution_.lam_s, p.lam_s}};
    for (const auto& [to, from] : rows) {
      if (to == nullptr) continue;
      for (int k = 0; k < nodes; k++)
        for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++)
          to[side_index(shape_, k, pattern_.sides[e]) * lanes + lane] = T(from[e][slot]);
    }
    if (solution_.gain) store_gain(slot, lane);
    outcome(lane, status, iterations, residual, tau);
  }

 private:
  void claim(bool valid, int slot, int64_t lane, int64_t* problems) {
    if (valid)
      problems[slot] = lane;
    else
      refuse(lane);
  }

  void refuse(int64_t lane) { outcome(lane, kInvalidInput, 0, kInfinity, 0); }

  void outcome(int64_t lane, int32_t status, int32_t iterations, double residual, double tau) {
    solution_.status[lane] = status;
    solution_.iterations[lane] = iterations;
    solution_.residual[lane] = T(residual);
    solution_.tau[lane] = T(tau);
  }

  // K = -L^-T Y of the last factorisation; zero where that failed.
  void store_gain(int slot, int64_t lane) {
    const int N = shape_.N, nx = shape_.nx, nu = shape_.nu;
    std::vector<double>& column = column_;
    column.resize(nu);
    for (int k = 0; k < N; k++) {
      const V *L = w_.riccati.L + k * nu * nu, *Y = w_.riccati.Y + k * nu * nx;
      for (int c = 0; c < nx; c++)
        for (int i = nu - 1; i >= 0; i--) {
          double sum = -Y[i * nx + c][slot];
          for (int m = i + 1; m < nu; m++) sum -= L[m * nu + i][slot] * column[m];
          column[i] = sum * L[i * nu + i][slot];
          solution_.gain[((int64_t(k) * nu + i) * nx + c) * shape_.lanes + lane] = std::isfinite(column[i]) ? T(column[i]) : T(0);
        }
    }
  }

  const Shape& shape_;
  const Pattern& pattern_;
  const Problem<T>& problem_;
  const Solution<T>& solution_;
  Queue& queue_;
  Workspace& w_;
  const bool shared_valid_;
  std::vector<double> column_;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
