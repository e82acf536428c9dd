// Small dense products, one entry of all lanes per vector, blocked so that sums stay in registers.
#pragma once

#include "simd.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// C[i, j] = D[i, j] + sum_m A[m, i] B[m, j] for one block of I x J; D may be null (zero) or C itself.
template <int I, int J>
static inline void block(const V* A, int lda, const V* B, int ldb, const V* D, int ldd, V* C, int ldc, int count) {
  V sum[I][J];
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++) sum[i][j] = D ? D[i * ldd + j] : V{};
  for (int m = 0; m < count; m++) {
    V b[J];
    for (int j = 0; j < J; j++) b[j] = B[m * ldb + j];
    for (int i = 0; i < I; i++) {
      V a = A[m * lda + i];
      for (int j = 0; j < J; j++) sum[i][j] += a * b[j];
    }
  }
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++) C[i * ldc + j] = sum[i][j];
}

constexpr int kRows = 4, kColumns = W >= 8 ? 6 : 3;  // accumulators: 24 of 32 registers, or 12 of 16

template <int I>
static inline void block_row(const V* A, int lda, const V* B, int ldb, const V* D, int ldd, V* C, int ldc, int columns, int count) {
  int j = 0;
  for (; j + kColumns <= columns; j += kColumns) block<I, kColumns>(A, lda, B + j, ldb, D ? D + j : D, ldd, C + j, ldc, count);
  for (; j + 2 <= columns; j += 2) block<I, 2>(A, lda, B + j, ldb, D ? D + j : D, ldd, C + j, ldc, count);
  for (; j < columns; j++) block<I, 1>(A, lda, B + j, ldb, D ? D + j : D, ldd, C + j, ldc, count);
}

// C = D + A' B with A [count, rows], B [count, columns]. `lower`: entries above the diagonal need not be written.
static inline void product(const V* A, int lda, const V* B, int ldb, const V* D, int ldd, V* C, int ldc, int rows, int columns,
                           int count, bool lower = false) {
  int i = 0;
  for (; i + kRows <= rows; i += kRows)
    block_row<kRows>(A + i, lda, B, ldb, D ? D + i * ldd : D, ldd, C + i * ldc, ldc, lower ? i + kRows : columns, count);
  for (; i + 2 <= rows; i += 2)
    block_row<2>(A + i, lda, B, ldb, D ? D + i * ldd : D, ldd, C + i * ldc, ldc, lower ? i + 2 : columns, count);
  for (; i < rows; i++) block_row<1>(A + i, lda, B, ldb, D ? D + i * ldd : D, ldd, C + i * ldc, ldc, lower ? i + 1 : columns, count);
}

// y = d + A x with A [rows, columns].
static inline void times(const V* A, int lda, const V* x, const V* d, V* y, int rows, int columns) {
  int i = 0;
  for (; i + 4 <= rows; i += 4) {
    V s0 = d ? d[i] : V{}, s1 = d ? d[i + 1] : V{}, s2 = d ? d[i + 2] : V{}, s3 = d ? d[i + 3] : V{};
    const V* a = A + i * lda;
    for (int j = 0; j < columns; j++) {
      V v = x[j];
      s0 += a[j] * v;
      s1 += a[lda + j] * v;
      s2 += a[2 * lda + j] * v;
      s3 += a[3 * lda + j] * v;
    }
    y[i] = s0;
    y[i + 1] = s1;
    y[i + 2] = s2;
    y[i + 3] = s3;
  }
  for (; i < rows; i++) {
    V sum = d ? d[i] : V{};
    for (int j = 0; j < columns; j++) sum += A[i * lda + j] * x[j];
    y[i] = sum;
  }
}

// y += sign A' x with A [rows, columns].
static inline void add_transposed(const V* A, int lda, const V* x, V* y, int rows, int columns, double sign = 1.0) {
  int j = 0;
  for (; j + 4 <= columns; j += 4) {
    V s0{}, s1{}, s2{}, s3{};
    for (int i = 0; i < rows; i++) {
      V v = x[i];
      const V* a = A + i * lda + j;
      s0 += a[0] * v;
      s1 += a[1] * v;
      s2 += a[2] * v;
      s3 += a[3] * v;
    }
    y[j] += sign * s0;
    y[j + 1] += sign * s1;
    y[j + 2] += sign * s2;
    y[j + 3] += sign * s3;
  }
  for (; j < columns; j++) {
    V sum{};
    for (int i = 0; i < rows; i++) sum += A[i * lda + j] * x[i];
    y[j] += sign * sum;
  }
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
