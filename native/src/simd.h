// One vector holds the same number of W problems ("lanes"). Lanes never mix, so an answer does not depend on its neighbours.
// Compiled once per instruction set: PLANAHEAD_ISA names the namespace, PLANAHEAD_WIDTH the number of doubles in a vector.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// Small pieces that the compiler must put into their caller, where sizes may be known.
#define PLANAHEAD_INLINE static inline __attribute__((always_inline))

namespace planahead {
namespace PLANAHEAD_ISA {

constexpr int W = PLANAHEAD_WIDTH;
typedef double V __attribute__((vector_size(W * sizeof(double))));
typedef decltype(V{} < V{}) M;  // all bits of a lane set, or none

constexpr double kInfinity = std::numeric_limits<double>::infinity();

static inline V splat(double a) { return a - V{}; }  // one broadcast; entry by entry, compilers insert one after the other
// An entry of a matrix that lanes have of their own (V) or share (double): both multiply a vector.
static inline V spread(V a) { return a; }
static inline V spread(double a) { return splat(a); }
// W neighbours in memory.
static inline V read(const double* from) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}
static inline V read(const float* from) {
  typedef float Half __attribute__((vector_size(W * sizeof(float))));
  Half v;
  std::memcpy(&v, from, sizeof(Half));
  return __builtin_convertvector(v, V);
}
static inline V select(M where, V a, V b) { return where ? a : b; }
static inline V keep(M where, V a) { return where ? a : V{}; }
static inline V smaller(V a, V b) { return a < b ? a : b; }
static inline V larger(V a, V b) { return a > b ? a : b; }
static inline V magnitude(V a) { return V(M(a) & std::numeric_limits<int64_t>::max()); }  // all bits but the sign's
static inline V root(V a) {
  V v;
  for (int i = 0; i < W; i++) v[i] = std::sqrt(a[i]);
  return v;
}
static inline M finite(V a) { return magnitude(a) < kInfinity; }
// The largest magnitude so far; a NaN stays.
static inline void raise(V& most, V a) {
  // Magnitudes are ordered as their bits are, NaN above infinity.
  const M bits = M(magnitude(a));
  most = V(bits > M(most) ? bits : M(most));
}
static inline bool any(M where) {
  int64_t bits = 0;
  for (int i = 0; i < W; i++) bits |= where[i];
  return bits != 0;
}
static inline M none() { return M{}; }
static inline M lane_mask(int lane) {
  M m{};
  m[lane] = -1;
  return m;
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
