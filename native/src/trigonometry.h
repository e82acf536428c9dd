// Sine and cosine of vectors of doubles, to 2.5 units in the last place where |x| < 1e5; the C library's beyond.
//
// x = n pi/2 + r with |r| <= pi/4; then sin x and cos x are sin r or cos r but for the sign, by n modulo 4. n pi/2 is subtracted in three
// parts, of which two end in 20 zeros, so that n times them is exact. Parts and polynomials: those published with fdlibm.
#pragma once

#include "simd.h"

namespace planahead {
namespace PLANAHEAD_ISA {

constexpr double kReducible = 1e5;

// sin(x + quarter pi/2)
PLANAHEAD_INLINE V sine(V x, Bits quarter) {
  // Beside this number there are no fractions: adding it rounds, and its last bits count.
  const double whole = 6755399441055744.0;  // 1.5 * 2^52
  const V shifted = x * 0.63661977236758134308 + whole, n = shifted - whole;
  const V r = ((x - n * 1.57079632673412561417) - n * 6.07710050630396597660e-11) - n * 2.02226624879595063154e-21;
  const V z = r * r;
  const V s = -1.66666666666666324348e-01 +
              z * (8.33333333332248946124e-03 +
                   z * (-1.98412698298579493134e-04 +
                        z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))));
  const V c = 4.16666666666666019037e-02 +
              z * (-1.38888888888741095749e-03 +
                   z * (2.48015872894767294178e-05 +
                        z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 - z * 1.13596475577881948265e-11))));
  const V half = 0.5 * z, rest = 1.0 - half;
  const M turns = M(shifted) + quarter;
  const V odd = select(r == V{}, r, r + r * z * s);  // -0 plus anything is not -0
  const V found = select((turns & 1) != 0, rest + (((1.0 - rest) - half) + z * z * c), odd);
  V y = select((turns & 2) != 0, -found, found);
  const M beyond = ~(magnitude(x) < kReducible);
  if (any(beyond))
    for (int i = 0; i < W; i++)  // each by itself: an answer does not depend on its neighbours
      if (beyond[i]) y[i] = quarter ? std::cos(x[i]) : std::sin(x[i]);
  return y;
}

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
