// The kernels of one instruction set, chosen at run time.
#pragma once

#include "problem.h"
#include "tape_call.h"

namespace planahead {

struct Pattern;
struct Queue;

// Solves float32 problems.
typedef void (*SolveSingle)(const Shape&, const Pattern&, const Problem<float>&, const Settings&, const Solution<float>&, Queue&);

// Computes in float64, whatever the format of the data.
struct Kernel {
  const char* name;
  int lanes;  // problems that share a vector; twice as many where the arithmetic is in float32
  SolveSingle solve32;
  void (*solve64)(const Shape&, const Pattern&, const Problem<double>&, const Settings&, const Solution<double>&, Queue&);
  void (*adjoint32)(const Shape&, const Pattern&, const Problem<float>&, const AdjointInputs<float>&, const AdjointOutputs<float>&, Queue&);
  void (*adjoint64)(const Shape&, const Pattern&, const Problem<double>&, const AdjointInputs<double>&, const AdjointOutputs<double>&,
                    Queue&);
};

// Runs straight-line programs in float64.
struct Evaluators {
  void (*evaluate32)(const TapeCall<float>&, Blocks&);
  void (*evaluate64)(const TapeCall<double>&, Blocks&);
};

// Those that are compiled in: per instruction set a kernel, what solves float32 problems in float32, and what evaluates functions.
#define PLANAHEAD_DECLARE(isa)           \
  namespace isa {                        \
  extern const Kernel kernel;            \
  extern const Evaluators evaluators;    \
  }                                      \
  namespace isa##_single {               \
  extern const SolveSingle solve_single; \
  }
PLANAHEAD_DECLARE(generic)
#ifdef PLANAHEAD_X86
PLANAHEAD_DECLARE(avx2)
PLANAHEAD_DECLARE(avx512)
#endif

struct Kernels {
  const Kernel& kernel;
  const SolveSingle& solve_single;
  const Evaluators& evaluators;
};

// The best ones for this processor; PLANAHEAD_ISA in the environment overrides them by name.
const Kernels& best_kernels();

}  // namespace planahead
