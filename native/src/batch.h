// A batch of problems in the caller's memory: loading them into lanes, checking them, and storing what came out.
#pragma once

#include <algorithm>

#include "interior_point.h"
#include "lanes.h"
#include "staging.h"

namespace planahead {

namespace PLANAHEAD_ISA {

// Entry `index` of lanes lane .. lane + W - 1.
template <typename T>
static inline V neighbours(const Array<const T>& array, int64_t index, int64_t lane) {
  return array.shared() ? splat(Real(array.data[index])) : read(array.data + index * array.step + lane);
}

// Copies arrays into lanes: of one problem into the lane `slot`, or of W neighbours at once (slot < 0). Entries are vectors, or numbers
// that all lanes share.
template <typename T>
class Loader {
 public:
  Loader(int64_t lane, int slot, bool shared = false) : lane_(lane), slot_(slot), shared_(shared) {}

  // `count` entries, of arrays that are shared by all lanes or of those that are not.
  template <class E>
  void numbers(const Array<const T>& from, E* to, int64_t count) {
    if (from.shared() != shared_) return;
    for (int64_t e = 0; e < count; e++) put(to[e], from, e);
  }

  // The lower triangles of symmetric matrices [n, n]: the means of both halves, so that a number that is not finite is found in either.
  template <class E>
  void symmetric(const Array<const T>& from, E* to, int64_t matrices, int64_t n) {
    if (from.shared() != shared_) return;
    for (int64_t k = 0; k < matrices; k++)
      for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
          const int64_t below = (k * n + i) * n + j, above = (k * n + j) * n + i;
          mean(to[below], from, below, above);
        }
  }

  void put(V& to, const Array<const T>& from, int64_t index) {
    if (slot_ < 0)
      set(to, neighbours(from, index, lane_));
    else
      set(of_slot(to), Real(from.at(index, lane_)));
  }
  void put(Real& to, const Array<const T>& from, int64_t index) { set(to, Real(from.at(index, lane_))); }

  bool shared() const { return shared_; }

  // The loaded lanes whose numbers so far were all finite.
  M good() const {
    const M one = good_one_ ? ~none() : none();
    return slot_ < 0 ? good_ & one : one & lane_mask(slot_);
  }

 private:
  void mean(V& to, const Array<const T>& from, int64_t a, int64_t b) {
    if (slot_ < 0)
      set(to, 0.5 * neighbours(from, a, lane_) + 0.5 * neighbours(from, b, lane_));
    else
      mean(of_slot(to), from, a, b);
  }
  void mean(Real& to, const Array<const T>& from, int64_t a, int64_t b) {
    set(to, Real(0.5) * Real(from.at(a, lane_)) + Real(0.5) * Real(from.at(b, lane_)));
  }

  void set(V& to, V numbers) {
    to = numbers;
    good_ &= finite(numbers);
  }
  void set(Real& to, Real number) {
    to = number;
    good_one_ &= std::abs(number) < kInfinity;
  }
  Real& of_slot(V& to) const { return reinterpret_cast<Real*>(&to)[slot_]; }

  const int64_t lane_;
  const int slot_;
  const bool shared_;
  M good_ = ~none();
  bool good_one_ = true;
};

// Index of a side in arrays [nodes, 2, m] and of its row in arrays [nodes, m].
static inline int64_t side_index(const Shape& shape, int k, const Side& side) {
  return (int64_t(k) * 2 + (side.sign < 0)) * shape.m() + side.row;
}
static inline int64_t row_index(const Shape& shape, int k, const Side& side) { return int64_t(k) * shape.m() + side.row; }

template <class E, typename T>
static void load_numbers(const Shape& shape, const Problem<T>& problem, Workspace<E>& w, Loader<T>& load) {
  const int64_t nodes = shape.nodes(), N = shape.N, nx = shape.nx, nz = shape.nz(), ng = shape.ng;
  load.symmetric(problem.H, w.H, nodes, nz);
  load.numbers(problem.g, w.g, nodes * nz);
  load.numbers(problem.F, w.F, N * nx * nz);
  load.numbers(problem.c, w.c, N * nx);
  load.numbers(problem.G, w.G, nodes * ng * nz);
  if (!shape.free_initial_state) load.numbers(problem.initial_state, w.x0, nx);
}

// What counts as one unit of cost, from the numbers in w of the lane `slot`, or of all lanes.
static inline Real& of_lane(V& entry, int slot) { return reinterpret_cast<Real*>(&entry)[slot]; }
static inline Real& of_lane(Real& entry, int) { return entry; }
template <class E>
static void find_unit(const Shape& shape, Workspace<E>& w, int slot) {
  const int nodes = shape.nodes(), nz = shape.nz(), nu = shape.nu;
  for (int i = slot < 0 ? 0 : slot; i < (slot < 0 ? W : slot + 1); i++) {
    Real curvature = 0;
    for (int k = 0; k < nodes; k++)
      for (int r = k + 1 < nodes ? 0 : nu; r < nz; r++)  // the dummy control of the last stage has no say
        for (int c = 0; c <= r; c++) curvature = std::max(curvature, std::abs(of_lane(w.H[(k * nz + r) * nz + c], i)));
    of_lane(*w.unit, i) = curvature > 0 ? std::min(curvature, Real(1)) : Real(1);
  }
}

// The guess; numbers that are not finite are for `Start` to find.
template <class E, typename T>
static void load_guess(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, Workspace<E>& w, Loader<T> load) {
  load.numbers(problem.guess_z, w.guess.z, int64_t(shape.nodes()) * shape.nz());
  load.numbers(problem.guess_pi, w.guess.pi, int64_t(shape.nodes()) * shape.nx);
  if (problem.guess_lam.shared() != load.shared()) return;
  for (int k = 0; k < shape.nodes(); k++)
    for (int e = pattern.begin[k]; e < pattern.begin[k + 1]; e++)
      load.put(w.guess.lam[e], problem.guess_lam, side_index(shape, k, pattern.sides[e]));
}

// What all lanes share, into w, once; whether it is valid.
template <class E, typename T>
static bool load_shared(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, Workspace<E>& w) {
  Loader<T> load(0, -1, true);
  load_numbers(shape, problem, w, load);
  w.guessed = problem.guessed();
  if (w.guessed) load_guess(shape, pattern, problem, w, Loader<T>(0, -1, true));
  if (problem.H.shared()) find_unit(shape, w, -1);
  return load.good()[0];
}

// A side's bound and prices as they are stored: zero where the row does not exist or is hard.
template <class E>
static inline void keep_side(Workspace<E>& w, int e, V bound, V linear, V quadratic, M loaded) {
  const M exists = finite(bound), soft = exists & finite(linear) & finite(quadratic);
  w.bound[e] = select(loaded, keep(exists, bound), w.bound[e]);
  w.linear[e] = select(loaded, keep(soft, linear), w.linear[e]);
  w.quadratic[e] = select(loaded, keep(soft, quadratic), w.quadratic[e]);
  w.exists[e] = (w.exists[e] & ~loaded) | (exists & loaded);
  w.soft[e] = (w.soft[e] & ~loaded) | (soft & loaded);
}

// The problem's own data into w: of `lane` into `slot`, or of W neighbours from `lane` (slot < 0); the loaded lanes that hold a valid
// problem.
template <class E, typename T>
static M load_problem(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, Workspace<E>& w, int64_t lane, int slot) {
  const int nodes = shape.nodes();
  Loader<T> load(lane, slot);
  load_numbers(shape, problem, w, load);
  if (w.guessed) load_guess(shape, pattern, problem, w, Loader<T>(lane, slot));
  if (!problem.H.shared()) find_unit(shape, w, slot);
  const M loaded = slot < 0 ? ~none() : lane_mask(slot);
  M valid = load.good();
  auto number = [&](const Array<const T>& array, int64_t index) {
    return slot < 0 ? neighbours(array, index, lane) : splat(Real(array.at(index, lane)));
  };
  for (int k = 0; k < nodes; k++)
    for (int e = pattern.begin[k]; e < pattern.begin[k + 1]; e++) {
      const Side& side = pattern.sides[e];
      const int64_t row = row_index(shape, k, side);
      const V bound = number(problem.bound, side_index(shape, k, side));
      const V linear = number(problem.linear, row), quadratic = number(problem.quadratic, row);
      // Prices of rows that do not exist mean nothing.
      valid &= (bound < kInfinity) & (((linear == linear) & (quadratic == quadratic)) | (bound == -kInfinity));
      keep_side(w, e, bound, linear, quadratic, loaded);
      if (side.sign < 0 && side.opposite >= 0)
        valid &= ~(w.exists[e] & w.exists[side.opposite] & (w.bound[side.opposite] > -w.bound[e]));
    }
  return valid & loaded;
}

template <class E, typename T>
class Batch : public Tasks {
 public:
  Batch(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const Solution<T>& solution, Queue& queue, Workspace<E>& w,
        Staging<T>& staging)
      : shape_(shape), pattern_(pattern), problem_(problem), solution_(solution), queue_(queue), w_(w), staging_(staging),
        shared_valid_(load_shared(shape, pattern, problem, w)) {}

  int64_t load(int slot) override {
    for (;;) {
      if (staged_next_ == staged_count_ && !stage()) return -1;
      const int i = staged_next_++;
      const int64_t lane = queue_.problems[staged_place_ + i];
      const bool valid = shared_valid_ && load_problem(shape_, pattern_, staged_, w_, staged_in_place_ ? lane : i, slot)[slot];
      if (valid) return lane;
      refuse(lane);
    }
  }

  M load_all(int64_t* problems) override {
    const int64_t count = queue_.problems.size();
    M filled = none();
    const int64_t place = take();
    if (place >= count) return filled;
    const int64_t first = queue_.problems[place];
    if (!shared_valid_) {
      for (int i = 0; i < W && place + i < count; i++) refuse(queue_.problems[place + i]);
    } else if (neighbouring(place)) {
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

  void store(M ended, const int64_t* problems, const Iterate& p, const Outcome& outcome) override {
    const int64_t lanes = shape_.lanes, nodes = shape_.nodes(), nz = shape_.nz(), nx = shape_.nx;
    const std::pair<T*, const V*> rows[] = {{solution_.t, p.t}, {solution_.lam, p.lam}, {solution_.s, p.s}, {solution_.lam_s, p.lam_s}};
    Lanes(ended, problems).each([&](auto put) {
      auto all = [&](T* to, const V* from, int64_t count) {
        if (to == nullptr) return;
        for (int64_t e = 0; e < count; e++) put(to + e * lanes, from[e]);
      };
      all(solution_.z, p.z, nodes * nz);
      all(solution_.pi, p.pi, nodes * nx);
      for (const auto& [to, from] : rows) {
        if (to == nullptr) continue;
        for (int k = 0; k < nodes; k++)
          for (int e = pattern_.begin[k]; e < pattern_.begin[k + 1]; e++)
            put(to + side_index(shape_, k, pattern_.sides[e]) * lanes, from[e]);
      }
    });
    for (int i = 0; i < W; i++) {
      if (!ended[i]) continue;
      if (solution_.gain && outcome.factorised[i]) store_gain(i, problems[i]);
      conclude(problems[i], outcome.status[i], int32_t(outcome.iterations[i]), outcome.residual[i], outcome.tau[i]);
    }
  }

 private:
  // The place in the queue of up to W problems that are this thread's now.
  int64_t take() {
    const int64_t count = queue_.problems.size();
    return queue_.next.load(std::memory_order_relaxed) < count ? queue_.next.fetch_add(W) : count;
  }

  // Whether W problems from `place` lie side by side in the caller's memory.
  bool neighbouring(int64_t place) const {
    const std::vector<int64_t>& problems = queue_.problems;
    return place + W <= int64_t(problems.size()) && problems[place + W - 1] == problems[place] + W - 1;
  }

  // Make the next problems of the queue ready for `load`; whether there are any.
  bool stage() {
    const int64_t count = queue_.problems.size();
    staged_place_ = take();
    if (staged_place_ >= count) return false;
    staged_next_ = 0;
    staged_count_ = int(std::min<int64_t>(W, count - staged_place_));
    staged_in_place_ = !neighbouring(staged_place_);
    staged_ = staged_in_place_ ? problem_ : staging_.copy(problem_, queue_.problems[staged_place_]);
    return true;
  }

  void claim(bool valid, int slot, int64_t lane, int64_t* problems) {
    if (valid)
      problems[slot] = lane;
    else
      refuse(lane);
  }

  void refuse(int64_t lane) { conclude(lane, kInvalidInput, 0, kInfinity, 0); }

  void conclude(int64_t lane, int32_t status, int32_t iterations, Real residual, Real tau) {
    solution_.status[lane] = status;
    solution_.iterations[lane] = iterations;
    solution_.residual[lane] = T(residual);
    solution_.tau[lane] = T(tau);
  }

  // K = -L^-T Y of the last factorisation.
  void store_gain(int slot, int64_t lane) {
    const int N = shape_.N, nx = shape_.nx, nu = shape_.nu;
    Real* column = reinterpret_cast<Real*>(w_.values);  // scratch
    for (int k = 0; k < N; k++) {
      const V *L = w_.riccati.L + k * nu * nu, *Y = w_.riccati.Y + k * nu * nx;
      for (int c = 0; c < nx; c++)
        for (int i = nu - 1; i >= 0; i--) {
          Real sum = -Y[i * nx + c][slot];
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
  Workspace<E>& w_;
  Staging<T>& staging_;
  const bool shared_valid_;
  Problem<T> staged_;  // problems that were taken from the queue and are not in a lane yet
  int64_t staged_place_ = 0;
  int staged_next_ = 0, staged_count_ = 0;
  bool staged_in_place_ = false;  // `staged_` is the caller's memory
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
