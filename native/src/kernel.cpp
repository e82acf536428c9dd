// Compiled once per instruction set, with PLANAHEAD_ISA and PLANAHEAD_WIDTH.
#include "kernel.h"

#include "adjoint.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// Kept by the thread from call to call: fresh pages cost as much as solving.
static Memory& memory() {
  static thread_local Memory memory;
  return memory;
}

template <typename T>
static void run_solve(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const Settings& settings,
                      const Solution<T>& solution, Queue& queue) {
  Workspace w = memory().layout(shape, pattern.sides.size());
  Batch<T> batch(shape, pattern, problem, solution, queue, w);
  InteriorPoint(shape, pattern, settings, w, batch).run();
}

template <typename T>
static void run_adjoint(const Shape& shape, const Pattern& pattern, const Problem<T>& problem, const AdjointInputs<T>& inputs,
                        const AdjointOutputs<T>& outputs, Queue& queue) {
  Workspace w = memory().layout(shape, pattern.sides.size());
  Adjoint<T>(shape, pattern, problem, inputs, outputs, queue, w).run();
}

#define PLANAHEAD_TEXT_(x) #x
#define PLANAHEAD_TEXT(x) PLANAHEAD_TEXT_(x)
extern const Kernel kernel;
const Kernel kernel = {PLANAHEAD_TEXT(PLANAHEAD_ISA), run_solve<float>, run_solve<double>, run_adjoint<float>, run_adjoint<double>};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
