// Newton steps of a stage QP by a Riccati recursion (classic form: only the reduced Hessian must be positive definite).
//
//   M = H + F' P F,   L L' = M_uu,   Y = L^-1 M_ux,   P <- M_xx - Y' Y                                (factorise)
//   h = g + F' (P e + p),   l = L^-1 h_u,   p <- h_x - Y' l;   du = -L^-T (l + Y dx),   pi = P dx + p      (solve)
//
// Reference: Rawlings, Mayne, Diehl, Model Predictive Control, 2nd ed., section 8.8; in Python: src/planahead/qp/riccati.py.
#pragma once

#include "blocks.h"
#include "problem.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// The factorisation of all stages, and scratch for the solves.
struct Riccati {
  V *P, *L, *Y, *p, *l, *Pe, *first;  // [nodes, nx, nx], [N, nu, nu] with inverse pivots, [N, nu, nx], [nodes, nx], [N, nu], [N, nx], [nx, nx]
  V *M, *PF, *h, *v;                  // one stage: [nz, nz], [nx, nz], [nz], [nx]
};

// Cholesky factor of the lower triangle of A [n, n] in place, inverse pivots on the diagonal. Lanes with a pivot that is not positive
// get the pivot 1 and leave `definite`.
static inline void cholesky(V* A, int lda, int n, M& definite) {
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
static inline void forward_substitution(const V* L, int n, V* x) {
  for (int i = 0; i < n; i++) {
    V sum = x[i];
    for (int m = 0; m < i; m++) sum -= L[i * n + m] * x[m];
    x[i] = sum * L[i * n + i];
  }
}
static inline void backward_substitution(const V* L, int n, V* x) {
  for (int i = n - 1; i >= 0; i--) {
    V sum = x[i];
    for (int m = i + 1; m < n; m++) sum -= L[m * n + i] * x[m];
    x[i] = sum * L[i * n + i];
  }
}

// One stage: `r.M` holds its Hessian (lower triangle), F its dynamics; P_k from P_{k+1}.
static inline void factorise_stage(const Shape& shape, Riccati& r, int k, const V* F, M& definite) {
  const int nx = shape.nx, nu = shape.nu, nz = nx + nu;
  const V* P_next = r.P + (k + 1) * nx * nx;
  V *L = r.L + k * nu * nu, *Y = r.Y + k * nu * nx, *P = r.P + k * nx * nx;
  product(P_next, nx, F, nz, nullptr, 0, r.PF, nz, nx, nz, nx);
  product(F, nz, r.PF, nz, r.M, nz, r.M, nz, nz, nz, nx, true);
  for (int i = 0; i < nu; i++)
    for (int j = 0; j <= i; j++) L[i * nu + j] = r.M[i * nz + j];
  cholesky(L, nu, nu, definite);
  for (int i = 0; i < nu; i++)  // Y = L^-1 M_ux, row by row; M_ux is the transpose of M_xu, which lies below the diagonal
    for (int c = 0; c < nx; c++) {
      V sum = r.M[(nu + c) * nz + i];
      for (int m = 0; m < i; m++) sum -= L[i * nu + m] * Y[m * nx + c];
      Y[i * nx + c] = sum * L[i * nu + i];
    }
  for (int i = 0; i < nx; i++)
    for (int j = 0; j <= i; j++) {
      V sum = r.M[(nu + i) * nz + nu + j];
      for (int m = 0; m < nu; m++) sum -= Y[m * nx + i] * Y[m * nx + j];
      P[i * nx + j] = sum;
      P[j * nx + i] = sum;
    }
}

// Where x_0 is free, P_0 must be positive definite too.
static inline void factorise_initial(const Shape& shape, Riccati& r, M& definite) {
  for (int i = 0; i < shape.nx * shape.nx; i++) r.first[i] = r.P[i];
  cholesky(r.first, shape.nx, shape.nx, definite);
}

// dz and dpi for the gradient g, dynamics residuals e and initial residual e0 (ignored where x_0 is free). `again`: e is that of
// the last call.
static inline void solve(const Shape& shape, Riccati& r, const V* F, const V* g, const V* e, const V* e0, V* dz, V* dpi, bool again) {
  const int N = shape.N, nx = shape.nx, nu = shape.nu, nz = nx + nu;
  for (int i = 0; i < nx; i++) r.p[N * nx + i] = g[N * nz + nu + i];
  for (int k = N - 1; k >= 0; k--) {
    const V *P_next = r.P + (k + 1) * nx * nx, *p_next = r.p + (k + 1) * nx, *Y = r.Y + k * nu * nx;
    V *Pe = r.Pe + k * nx, *l = r.l + k * nu, *p = r.p + k * nx;
    if (!again) times(P_next, nx, e + k * nx, nullptr, Pe, nx, nx);
    for (int i = 0; i < nx; i++) r.v[i] = Pe[i] + p_next[i];
    for (int i = 0; i < nz; i++) r.h[i] = g[k * nz + i];
    add_transposed(F + k * nx * nz, nz, r.v, r.h, nx, nz);
    for (int i = 0; i < nu; i++) l[i] = r.h[i];
    forward_substitution(r.L + k * nu * nu, nu, l);
    for (int i = 0; i < nx; i++) p[i] = r.h[nu + i];
    add_transposed(Y, nx, l, p, nu, nx, -1.0);
  }
  V* x = dz + nu;
  if (shape.free_initial_state) {
    for (int i = 0; i < nx; i++) x[i] = -r.p[i];
    forward_substitution(r.first, nx, x);
    backward_substitution(r.first, nx, x);
  } else {
    for (int i = 0; i < nx; i++) x[i] = e0[i];
  }
  for (int k = 0; k < N; k++) {
    V *u = dz + k * nz, *x_k = u + nu, *x_next = dz + (k + 1) * nz + nu;
    times(r.Y + k * nu * nx, nx, x_k, r.l + k * nu, u, nu, nx);
    for (int i = 0; i < nu; i++) u[i] = -u[i];
    backward_substitution(r.L + k * nu * nu, nu, u);
    times(F + k * nx * nz, nz, u, e + k * nx, x_next, nx, nz);
  }
  for (int i = 0; i < nu; i++) dz[N * nz + i] = V{};
  for (int k = 0; k <= N; k++) times(r.P + k * nx * nx, nx, dz + k * nz + nu, r.p + k * nx, dpi + k * nx, nx, nx);
  if (shape.free_initial_state)
    for (int i = 0; i < nx; i++) dpi[i] = V{};
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
