// The kernels of one instruction set, chosen at run time.
#pragma once

#include "problem.h"

namespace planahead {

struct Pattern;
struct Queue;

struct Kernel {
  const char* name;
  void (*solve32)(const Shape&, const Pattern&, const Problem<float>&, const Settings&, const Solution<float>&, Queue&);
  void (*solve64)(const Shape&, const Pattern&, const Problem<double>&, const Settings&, const Solution<double>&, Queue&);
  void (*adjoint32)(const Shape&, const Pattern&, const Problem<float>&, const AdjointInputs<float>&, const AdjointOutputs<float>&, Queue&);
  void (*adjoint64)(const Shape&, const Pattern&, const Problem<double>&, const AdjointInputs<double>&, const AdjointOutputs<double>&,
                    Queue&);
};

// The best kernel for this processor; PLANAHEAD_ISA in the environment overrides it by name.
const Kernel& best_kernel();

}  // namespace planahead
