// What a thread keeps of the W problems it is solving: their data, two iterates, residuals, a step and the factorisation.
//
// Rows that exist in no lane of the call are left out: the sides of rows that exist are listed stage by stage (`Side`).
#pragma once

#include "buffer.h"
#include "queue.h"
#include "riccati.h"

namespace planahead {

namespace PLANAHEAD_ISA {

struct Iterate {
  V *z, *pi, *t, *lam, *s, *lam_s;
};

// Where to start, if the caller says so.
struct Guess {
  V *z, *pi, *lam;
};

struct Residual {
  V *stationarity, *dynamics, *initial, *row, *complementarity, *price, *violation;
};

// H, F and G hold vectors (E = V), or numbers where all lanes share them (E = Real).
template <class E>
struct Workspace {
  E *H, *F, *G;
  V *g, *c, *x0;
  V* unit;  // what counts as one unit of cost: cost_unit in src/planahead/qp/start.py
  V *bound, *linear, *quadratic;  // one entry a side
  M *exists, *soft;
  Iterate point, next, step;
  Residual residual;
  V *inverse_t, *inverse_lam, *inverse_s, *inverse_lam_s;  // one entry a side
  V *share, *w, *toward, *rho;                             // the same; `toward`: toward_price + toward_row
  V *gradient, *values, *net;                              // of one stage: [nz], [m], [m]
  Riccati riccati;
  Iterate total;  // of the adjoint's refinement; of the start's rollout
  Guess guess;
  bool guessed;
};

// Lay the workspace out in memory that the thread keeps from call to call.
class Memory {
 public:
  template <class E>
  Workspace<E> layout(const Shape& shape, size_t sides) {
    Workspace<E> w;
    // Calls find numbers of earlier ones, which no lane in use reads.
    place(w, shape, sides, buffer_.reserve(place(w, shape, sides, nullptr)));
    return w;
  }

 private:
  template <class E>
  static size_t place(Workspace<E>& w, const Shape& shape, size_t sides, V* base) {
    const size_t N = shape.N, nodes = N + 1, nx = shape.nx, nu = shape.nu, nz = nx + nu, ng = shape.ng;
    size_t used = 0;
    auto take = [&](V*& array, size_t count) {
      array = base ? base + used : nullptr;
      used += count;
    };
    auto take_matrix = [&](E*& array, size_t count) {
      array = base ? reinterpret_cast<E*>(base + used) : nullptr;
      used += (count * sizeof(E) + sizeof(V) - 1) / sizeof(V);
    };
    auto take_mask = [&](M*& array, size_t count) {
      array = base ? reinterpret_cast<M*>(base + used) : nullptr;
      used += count;
    };
    auto take_point = [&](Iterate& p) {
      take(p.z, nodes * nz), take(p.pi, nodes * nx);
      for (V** a : {&p.t, &p.lam, &p.s, &p.lam_s}) take(*a, sides);
    };
    take_matrix(w.H, nodes * nz * nz), take_matrix(w.F, N * nx * nz), take_matrix(w.G, nodes * ng * nz);
    take(w.g, nodes * nz), take(w.c, N * nx), take(w.x0, nx), take(w.unit, 1);
    for (V** a : {&w.bound, &w.linear, &w.quadratic}) take(*a, sides);
    take_mask(w.exists, sides), take_mask(w.soft, sides);
    take_point(w.point), take_point(w.next), take_point(w.step), take_point(w.total);
    Residual& r = w.residual;
    take(r.stationarity, nodes * nz), take(r.dynamics, N * nx), take(r.initial, nx);
    for (V** a : {&r.row, &r.complementarity, &r.price, &r.violation}) take(*a, sides);
    for (V** a : {&w.inverse_t, &w.inverse_lam, &w.inverse_s, &w.inverse_lam_s, &w.share, &w.w, &w.toward, &w.rho}) take(*a, sides);
    take(w.gradient, nz), take(w.values, nz + ng), take(w.net, nz + ng);
    take(w.guess.z, nodes * nz), take(w.guess.pi, nodes * nx), take(w.guess.lam, sides);
    Riccati& f = w.riccati;
    take(f.P, nodes * nx * nx), take(f.L, N * nu * nu), take(f.Y, N * nu * nx), take(f.p, nodes * nx), take(f.l, N * nu);
    take(f.Pe, N * nx), take(f.first, nx * nx), take(f.whole, nx * nx), take(f.root, nx * nx);
    take(f.M, nz * nz), take(f.PF, nx * nz), take(f.h, nz), take(f.v, nx);
    return used;
  }

  Buffer buffer_;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
