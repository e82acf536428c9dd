// Compiled twice per instruction set: for arithmetic in double precision, and (PLANAHEAD_SINGLE) for solving in single precision.
#include "kernel.h"

#ifdef PLANAHEAD_SINGLE
#include "batch.h"
#else
#include "adjoint.h"
#endif

namespace planahead {
namespace PLANAHEAD_ISA {

// Kept by the thread from call to call: fresh pages cost as much as solving.
static Memory& memory() {
  static thread_local Memory memory;
  return memory;
}

// Whether all matrices are shared: then they are kept as numbers, which a processor broadcasts as it loads them.
template <typename T>
static bool shares_matrices(const Shape& shape, const Problem<T>& problem) {
  return problem.H.shared() && problem.F.shared() && (problem.G.shared() || shape.ng == 0);
}

template <class E, typename T>
static void solve_as(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const Settings& settings,
                     const Solution<T>& solution, Queue& queue) {
  Workspace<E> w = memory().template layout<E>(shape, pattern.sides.size());
  w.riccati.square_root = settings.square_root;
  w.riccati.epsilon = std::numeric_limits<T>::epsilon();
  static thread_local Staging<T> staging;
  Batch<E, T> batch(shape, pattern, problem, solution, queue, w, staging);
  auto run = [&](auto sizes) { InteriorPoint<E, decltype(sizes)>(shape, pattern, settings, w, batch).run(); };
  if (shape.nx == 4 && shape.nu == 1)  // cart-poles
    run(Sizes<4, 1>(shape));
  else if (shape.nx == 8 && shape.nu == 4)  // the published benchmark
    run(Sizes<8, 4>(shape));
#ifndef PLANAHEAD_FEW_SIZES  // for builds that are to be quick rather than fast
  else if (shape.nx == 4 && shape.nu == 2)  // point masses in a plane
    run(Sizes<4, 2>(shape));
  else if (shape.nx == 13 && shape.nu == 4)  // rigid bodies with four rotors
    run(Sizes<13, 4>(shape));
#endif
  else
    run(Sizes<0, 0>(shape));
}

template <typename T>
static void run_solve(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const Settings& settings,
                      const Solution<T>& solution, Queue& queue) {
  if (shares_matrices(shape, problem))
    solve_as<Real>(shape, pattern, problem, settings, solution, queue);
  else
    solve_as<V>(shape, pattern, problem, settings, solution, queue);
}

#ifndef PLANAHEAD_SINGLE
template <class E, typename T>
static void adjoint_as(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const AdjointInputs<T>& inputs,
                       const AdjointOutputs<T>& outputs, Queue& queue) {
  Workspace<E> w = memory().template layout<E>(shape, pattern.sides.size());
  w.riccati.square_root = inputs.square_root;
  w.riccati.epsilon = std::numeric_limits<T>::epsilon();
  Adjoint<E, T>(shape, pattern, problem, inputs, outputs, queue, w).run();
}

template <typename T>
static void run_adjoint(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const AdjointInputs<T>& inputs,
                        const AdjointOutputs<T>& outputs, Queue& queue) {
  if (shares_matrices(shape, problem))
    adjoint_as<double>(shape, pattern, problem, inputs, outputs, queue);
  else
    adjoint_as<V>(shape, pattern, problem, inputs, outputs, queue);
}

#endif

#ifdef PLANAHEAD_SINGLE
extern const SolveSingle solve_single;
const SolveSingle solve_single = run_solve<float>;
#else
#define PLANAHEAD_TEXT_(x) #x
#define PLANAHEAD_TEXT(x) PLANAHEAD_TEXT_(x)
extern const Kernel kernel;
const Kernel kernel = {PLANAHEAD_TEXT(PLANAHEAD_ISA), W, run_solve<float>, run_solve<double>, run_adjoint<float>, run_adjoint<double>};
#endif

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
