// Compiled once per instruction set.
#include "tape.h"

#include "kernel.h"

namespace planahead {
namespace PLANAHEAD_ISA {

template <typename T>
static void evaluate(const TapeCall<T>& call, Blocks& blocks) {
  Evaluator<T>(call, blocks).run();
}

extern const Evaluators evaluators;
const Evaluators evaluators = {evaluate<float>, evaluate<double>};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
