// Newton steps of a stage QP by a Riccati recursion (classic form: only the reduced Hessian must be positive definite).
//
//   M = H + F' P F,   L L' = M_uu,   Y = L^-1 M_ux,   P <- M_xx - Y' Y                                (factorise)
//   h = g + F' (P e + p),   l = L^-1 h_u,   p <- h_x - Y' l;   du = -L^-T (l + Y dx),   pi = P dx + p      (solve)
//
// The square-root form carries S with P = S S', M = H + (S' F)' (S' F), so that no rounding makes P indefinite.
//
// Reference: Rawlings, Mayne, Diehl, Model Predictive Control, 2nd ed., section 8.8; in Python: src/planahead/qp/riccati.py.
#pragma once

#include "blocks.h"
#include "problem.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// The sizes of a stage: known to the compiler for problems that are solved often, else (0, 0) those of the call. Loops of known length
// are unrolled and their sums stay in registers: a fifth of the time of eight states and four controls.
template <int NX, int NU>
struct Sizes {
  static constexpr int nx = NX, nu = NU, nz = NX + NU;
  explicit Sizes(const Shape&) {}
};
template <>
struct Sizes<0, 0> {
  const int nx, nu, nz;
  explicit Sizes(const Shape& shape) : nx(shape.nx), nu(shape.nu), nz(shape.nz()) {}
};

// The factorisation of all stages, and scratch for the solves. Of P_k the lower triangle is kept, of P_{k+1} also the whole
// matrix while stage k needs it.
struct Riccati {
  bool square_root = false;
  Real epsilon = 0;         // to which the data are known
  V *P, *L, *Y, *p, *l;     // [nodes, nx, nx], [N, nu, nu] with inverse pivots, [N, nu, nx], [nodes, nx], [N, nu]
  V *Pe, *first;            // [N, nx], [nx, nx]
  V *whole, *root;          // [nx, nx] each
  V *M, *PF, *h, *v;        // one stage: [nz, nz], [nx, nz], [nz], [nx]
};

// Cholesky factor of the lower triangle of A [n, n] in place, inverse pivots on the diagonal. Lanes with a pivot that is not positive
// get the pivot 1 and leave `definite`.
PLANAHEAD_INLINE void cholesky(V* A, int lda, int n, M& definite) {
  for (int j = 0; j < n; j++) {
    V pivot = A[j * lda + j];
    for (int m = 0; m < j; m++) pivot -= A[j * lda + m] * A[j * lda + m];
    M positive = pivot > 0;
    definite &= positive;
    V inverse = splat(1.0) / root(select(positive, pivot, splat(1.0)));
    A[j * lda + j] = inverse;
    for (int i = j + 1; i < n; i++) {
      V entry = A[i * lda + j];
      for (int m = 0; m < j; m++) entry -= A[i * lda + m] * A[j * lda + m];
      A[i * lda + j] = entry * inverse;
    }
  }
}

// x <- L^-1 x and x <- L^-T x.
PLANAHEAD_INLINE void forward_substitution(const V* L, int n, V* x) {
  for (int i = 0; i < n; i++) {
    V sum = x[i];
    for (int m = 0; m < i; m++) sum -= L[i * n + m] * x[m];
    x[i] = sum * L[i * n + i];
  }
}
PLANAHEAD_INLINE void backward_substitution(const V* L, int n, V* x) {
  for (int i = n - 1; i >= 0; i--) {
    V sum = x[i];
    for (int m = i + 1; m < n; m++) sum -= L[m * n + i] * x[m];
    x[i] = sum * L[i * n + i];
  }
}

// The whole of a symmetric matrix from its lower triangle.
PLANAHEAD_INLINE void mirror(const V* lower, V* whole, int n) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j <= i; j++) whole[i * n + j] = whole[j * n + i] = lower[i * n + j];
}

// The factor S of P = S S' for the lower triangle of P [n, n], which is positive semidefinite but for rounding; P becomes what S says. See
// `semidefinite_cholesky` in src/planahead/qp/lanes.py; `from`, with rows of `ld`, is the matrix that P was computed from, from numbers
// that are known to `epsilon`.
PLANAHEAD_INLINE void semidefinite_cholesky(V* P, V* S, int n, const V* from, int ld, Real epsilon, M& definite) {
  const Real lost = 10 * std::sqrt(epsilon), noise = Real(n) * epsilon;
  for (int j = 0; j < n; j++) {
    const V terms = magnitude(from[j * ld + j]);
    V pivot = P[j * n + j];
    for (int m = 0; m < j; m++) pivot -= S[j * n + m] * S[j * n + m];
    const M positive = pivot > noise * terms;
    definite &= pivot >= -lost * terms;
    const V inverse = keep(positive, splat(1.0) / root(select(positive, pivot, splat(1.0))));
    S[j * n + j] = pivot * inverse;
    for (int i = j + 1; i < n; i++) {
      V entry = P[i * n + j];
      for (int m = 0; m < j; m++) entry -= S[i * n + m] * S[j * n + m];
      definite &= positive | (entry * entry <= lost * lost * terms * magnitude(from[i * ld + i]));
      S[i * n + j] = entry * inverse;
      S[j * n + i] = V{};
    }
  }
  for (int i = 0; i < n; i++)
    for (int j = 0; j <= i; j++) {
      V entry{};
      for (int m = 0; m <= j; m++) entry += S[i * n + m] * S[j * n + m];
      P[i * n + j] = entry;
    }
}

// P_N from the Hessian in `r.M` (lower triangle).
template <class S>
PLANAHEAD_INLINE void factorise_last(const S& sizes, Riccati& r, int N, M& definite) {
  const int nx = sizes.nx, nu = sizes.nu, nz = sizes.nz;
  V* P = r.P + N * nx * nx;
  for (int i = 0; i < nx; i++)
    for (int j = 0; j <= i; j++) P[i * nx + j] = r.M[(nu + i) * nz + nu + j];
  if (r.square_root) semidefinite_cholesky(P, r.root, nx, r.M + nu * nz + nu, nz, r.epsilon, definite);
  mirror(P, r.whole, nx);
}

// `r.M` = H + F' P_{k+1} F (lower triangles), with P_{k+1} in `r.whole`, or its factor in `r.root`.
template <class S, class E>
PLANAHEAD_INLINE void propagate(const S& sizes, Riccati& r, const E* H, const E* F) {
  const int nx = sizes.nx, nz = sizes.nz;
  product(r.square_root ? r.root : r.whole, nx, F, nz, static_cast<const V*>(nullptr), 0, r.PF, nz, nx, nz, nx);
  if (r.square_root)
    product(r.PF, nz, r.PF, nz, H, nz, r.M, nz, nz, nz, nx, true);
  else
    product(F, nz, r.PF, nz, H, nz, r.M, nz, nz, nz, nx, true);
}

// Eliminate the control of stage k from `r.M`; P_k into `r.whole`.
template <class S>
PLANAHEAD_INLINE void factorise_stage(const S& sizes, Riccati& r, int k, M& definite) {
  const int nx = sizes.nx, nu = sizes.nu, nz = sizes.nz;
  V *L = r.L + k * nu * nu, *Y = r.Y + k * nu * nx, *P = r.P + k * nx * nx;
  for (int i = 0; i < nu; i++)
    for (int j = 0; j <= i; j++) L[i * nu + j] = r.M[i * nz + j];
  cholesky(L, nu, nu, definite);
  for (int i = 0; i < nu; i++)  // Y = L^-1 M_ux, row by row; M_ux is the transpose of M_xu, which lies below the diagonal
    for (int c = 0; c < nx; c++) {
      V sum = r.M[(nu + c) * nz + i];
      for (int m = 0; m < i; m++) sum -= L[i * nu + m] * Y[m * nx + c];
      Y[i * nx + c] = sum * L[i * nu + i];
    }
  const V* M_xx = r.M + nu * nz + nu;
  product<-1>(Y, nx, Y, nx, M_xx, nz, P, nx, nx, nx, nu, true);
  if (r.square_root) semidefinite_cholesky(P, r.root, nx, M_xx, nz, r.epsilon, definite);
  mirror(P, r.whole, nx);
}

// Where x_0 is free, P_0 must be positive definite too.
template <class S>
PLANAHEAD_INLINE void factorise_initial(const S& sizes, Riccati& r, M& definite) {
  const int nx = sizes.nx;
  for (int i = 0; i < nx; i++)
    for (int j = 0; j <= i; j++) r.first[i * nx + j] = r.P[i * nx + j];
  cholesky(r.first, nx, nx, definite);
}

// One stage of the recursion in p: g [nz] is its gradient, `r.Pe` holds P_{k+1} e_k.
template <class S, class E>
PLANAHEAD_INLINE void solve_backward(const S& sizes, Riccati& r, int k, const E* F, const V* g) {
  const int nx = sizes.nx, nu = sizes.nu, nz = sizes.nz;
  V *l = r.l + k * nu, *p = r.p + k * nx;
  const V *Pe = r.Pe + k * nx, *p_next = p + nx;
  for (int i = 0; i < nx; i++) r.v[i] = Pe[i] + p_next[i];
  for (int i = 0; i < nz; i++) r.h[i] = g[i];
  add_transposed(F, nz, r.v, r.h, nx, nz);
  for (int i = 0; i < nu; i++) l[i] = r.h[i];
  forward_substitution(r.L + k * nu * nu, nu, l);
  for (int i = 0; i < nx; i++) p[i] = r.h[nu + i];
  add_transposed(r.Y + k * nu * nx, nx, l, p, nu, nx, -1.0);
}

// The first state where it is free.
template <class S>
PLANAHEAD_INLINE void solve_initial(const S& sizes, Riccati& r, V* x) {
  for (int i = 0; i < sizes.nx; i++) x[i] = -r.p[i];
  forward_substitution(r.first, sizes.nx, x);
  backward_substitution(r.first, sizes.nx, x);
}

// One stage of the rollout: z [nz] holds dx_k; its du_k, and dx_{k+1} behind it.
template <class S, class E>
PLANAHEAD_INLINE void solve_forward(const S& sizes, Riccati& r, int k, const E* F, const V* e, V* z) {
  const int nx = sizes.nx, nu = sizes.nu, nz = sizes.nz;
  V *u = z, *x = z + nu, *x_next = z + nz + nu;
  times(r.Y + k * nu * nx, nx, x, r.l + k * nu, u, nu, nx);
  for (int i = 0; i < nu; i++) u[i] = -u[i];
  backward_substitution(r.L + k * nu * nu, nu, u);
  times(F, nz, u, e, x_next, nx, nz);
}

// dpi_k = P_k dx_k + p_k.
template <class S>
PLANAHEAD_INLINE void solve_costate(const S& sizes, const Riccati& r, int k, const V* x, V* pi) {
  const int nx = sizes.nx;
  for (int i = 0; i < nx; i++) pi[i] = r.p[k * nx + i];
  add_symmetric(r.P + k * nx * nx, nx, x, pi, nx);
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
