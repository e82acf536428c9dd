// Small dense products, one entry of all lanes per vector, blocked so that sums stay in registers. Matrices of type E hold vectors,
// or numbers that all lanes share: those cost a fraction 1/W of the memory traffic, which is what bounds these products.
#pragma once

#include "simd.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// C[i, j] = D[i, j] + S sum_m A[m, i] B[m, j] for one block of I x J, S = 1 or -1; D may be null (zero).
template <int I, int J, int S, class EA, class EB, class ED>
PLANAHEAD_INLINE void block(const EA* A, int lda, const EB* B, int ldb, const ED* D, int ldd, V* C, int ldc, int count) {
  V sum[I][J];
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++) sum[i][j] = D ? spread(D[i * ldd + j]) : V{};
  for (int m = 0; m < count; m++) {
    V b[J];
    for (int j = 0; j < J; j++) b[j] = spread(B[m * ldb + j]);
    for (int i = 0; i < I; i++) {
      V a = spread(A[m * lda + i]);
      for (int j = 0; j < J; j++) sum[i][j] += S > 0 ? a * b[j] : -a * b[j];
    }
  }
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++) C[i * ldc + j] = sum[i][j];
}

constexpr int kRows = 4, kColumns = PLANAHEAD_BYTES >= 64 ? 6 : 3;  // accumulators: 24 of 32 registers, or 12 of 16

template <int I, int S, class EA, class EB, class ED>
PLANAHEAD_INLINE void block_row(const EA* A, int lda, const EB* B, int ldb, const ED* D, int ldd, V* C, int ldc, int columns, int count) {
  int j = 0;
  for (; j + kColumns <= columns; j += kColumns) block<I, kColumns, S>(A, lda, B + j, ldb, D ? D + j : D, ldd, C + j, ldc, count);
  for (; j + 2 <= columns; j += 2) block<I, 2, S>(A, lda, B + j, ldb, D ? D + j : D, ldd, C + j, ldc, count);
  for (; j < columns; j++) block<I, 1, S>(A, lda, B + j, ldb, D ? D + j : D, ldd, C + j, ldc, count);
}

// C = D + S A' B with A [count, rows], B [count, columns]. `lower`: entries above the diagonal need not be written.
template <int S = 1, class EA, class EB, class ED>
PLANAHEAD_INLINE void product(const EA* A, int lda, const EB* B, int ldb, const ED* D, int ldd, V* C, int ldc, int rows, int columns,
                           int count, bool lower = false) {
  int i = 0;
  for (; i + kRows <= rows; i += kRows)
    block_row<kRows, S>(A + i, lda, B, ldb, D ? D + i * ldd : D, ldd, C + i * ldc, ldc, lower ? i + kRows : columns, count);
  for (; i + 2 <= rows; i += 2)
    block_row<2, S>(A + i, lda, B, ldb, D ? D + i * ldd : D, ldd, C + i * ldc, ldc, lower ? i + 2 : columns, count);
  for (; i < rows; i++) block_row<1, S>(A + i, lda, B, ldb, D ? D + i * ldd : D, ldd, C + i * ldc, ldc, lower ? i + 1 : columns, count);
}

template <int I, class E>
PLANAHEAD_INLINE void rows_times(const E* A, int lda, const V* x, const V* d, V* y, int columns) {
  V sum[I];
  for (int i = 0; i < I; i++) sum[i] = d ? d[i] : V{};
  for (int j = 0; j < columns; j++) {
    V v = x[j];
    for (int i = 0; i < I; i++) sum[i] += spread(A[i * lda + j]) * v;
  }
  for (int i = 0; i < I; i++) y[i] = sum[i];
}

// y = d + A x with A [rows, columns]; d may be null (zero) or y itself.
template <class E>
PLANAHEAD_INLINE void times(const E* A, int lda, const V* x, const V* d, V* y, int rows, int columns) {
  int i = 0;
  for (; i + 4 <= rows; i += 4) rows_times<4>(A + i * lda, lda, x, d ? d + i : d, y + i, columns);
  for (; i < rows; i++) rows_times<1>(A + i * lda, lda, x, d ? d + i : d, y + i, columns);
}

template <int J, class E>
PLANAHEAD_INLINE void add_columns(const E* A, int lda, const V* x, V* y, int rows, Real sign) {
  V sum[J]{};
  for (int i = 0; i < rows; i++) {
    V v = x[i];
    for (int j = 0; j < J; j++) sum[j] += spread(A[i * lda + j]) * v;
  }
  for (int j = 0; j < J; j++) y[j] += sign * sum[j];
}

// y += sign A' x with A [rows, columns].
template <class E>
PLANAHEAD_INLINE void add_transposed(const E* A, int lda, const V* x, V* y, int rows, int columns, Real sign = 1.0) {
  int j = 0;
  for (; j + 4 <= columns; j += 4) add_columns<4>(A + j, lda, x, y + j, rows, sign);
  for (; j < columns; j++) add_columns<1>(A + j, lda, x, y + j, rows, sign);
}

template <int I, class E>
PLANAHEAD_INLINE void add_symmetric_rows(const E* A, int lda, int first, const V* x, V* y) {
  V sum[I], v[I];
  for (int i = 0; i < I; i++) sum[i] = y[first + i], v[i] = x[first + i];
  for (int j = 0; j < first; j++) {
    V xj = x[j], yj = y[j];
    for (int i = 0; i < I; i++) {
      V a = spread(A[(first + i) * lda + j]);
      sum[i] += a * xj;
      yj += a * v[i];
    }
    y[j] = yj;
  }
  for (int i = 0; i < I; i++) {
    for (int j = 0; j < i; j++) {
      V a = spread(A[(first + i) * lda + first + j]);
      sum[i] += a * v[j];
      sum[j] += a * v[i];
    }
    sum[i] += spread(A[(first + i) * lda + first + i]) * v[i];
  }
  for (int i = 0; i < I; i++) y[first + i] = sum[i];
}

// y += A x with A [n, n] symmetric, of which the lower triangle is read: once.
template <class E>
PLANAHEAD_INLINE void add_symmetric(const E* A, int lda, const V* x, V* y, int n) {
  int i = 0;
  for (; i + 4 <= n; i += 4) add_symmetric_rows<4>(A, lda, i, x, y);
  for (; i < n; i++) add_symmetric_rows<1>(A, lda, i, x, y);
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
