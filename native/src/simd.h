// One vector holds the same number of W problems ("lanes"). Lanes never mix, so an answer does not depend on its neighbours.
// Compiled per instruction set and precision: PLANAHEAD_ISA names the namespace, PLANAHEAD_BYTES is the size of a vector, and
// PLANAHEAD_SINGLE says that numbers are floats.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#if defined(__AVX__)
#include <immintrin.h>
#endif

// Small pieces that the compiler must put into their caller, where sizes may be known.
#define PLANAHEAD_INLINE static inline __attribute__((always_inline))

namespace planahead {
namespace PLANAHEAD_ISA {

#ifdef PLANAHEAD_SINGLE
typedef float Real;
typedef int32_t Bits;
#else
typedef double Real;
typedef int64_t Bits;
#endif
constexpr int W = PLANAHEAD_BYTES / sizeof(Real);
typedef Real V __attribute__((vector_size(PLANAHEAD_BYTES)));
typedef decltype(V{} < V{}) M;  // all bits of a lane set, or none

constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

static inline V splat(Real a) { return a - V{}; }  // one broadcast; entry by entry, compilers insert one after the other
// An entry of a matrix that lanes have of their own (V) or share (Real): both multiply a vector.
static inline V spread(V a) { return a; }
static inline V spread(Real a) { return splat(a); }
// From and to W neighbours in memory.
template <typename T>
static inline V read(const T* from) {
  typedef T Vector __attribute__((vector_size(W * sizeof(T))));
  Vector v;
  std::memcpy(&v, from, sizeof(Vector));
  return __builtin_convertvector(v, V);
}
template <typename T>
static inline void write(T* to, V v) {
  typedef T Vector __attribute__((vector_size(W * sizeof(T))));
  const Vector numbers = __builtin_convertvector(v, Vector);
  std::memcpy(to, &numbers, sizeof(Vector));
}
static inline V select(M where, V a, V b) { return where ? a : b; }
static inline V keep(M where, V a) { return where ? a : V{}; }
static inline V smaller(V a, V b) { return a < b ? a : b; }
static inline V larger(V a, V b) { return a > b ? a : b; }
static inline V magnitude(V a) { return V(M(a) & std::numeric_limits<Bits>::max()); }  // all bits but the sign's
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
#if PLANAHEAD_BYTES == 64 && defined(__AVX512DQ__)
  if constexpr (sizeof(Real) == 8)
    return _mm512_movepi64_mask(__m512i(where)) != 0;
  else
    return _mm512_movepi32_mask(__m512i(where)) != 0;
#elif PLANAHEAD_BYTES == 32 && defined(__AVX__)
  return _mm256_movemask_ps(__m256(where)) != 0;
#else
  Bits bits = 0;
  for (int i = 0; i < W; i++) bits |= where[i];
  return bits != 0;
#endif
}
static inline M none() { return M{}; }
static inline M lane_mask(int lane) {
  M m{};
  m[lane] = -1;
  return m;
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
