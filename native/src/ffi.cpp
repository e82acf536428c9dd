// The entry points that XLA calls: unpack buffers, find which rows exist, and let XLA's threads work through the batch.
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>

#include "kernel.h"
#include "queue.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace planahead {

#define PLANAHEAD_DECLARE(isa) \
  namespace isa {              \
  extern const Kernel kernel;  \
  }
PLANAHEAD_DECLARE(generic)
#ifdef PLANAHEAD_X86
PLANAHEAD_DECLARE(avx2)
PLANAHEAD_DECLARE(avx512)
#endif

const Kernel& best_kernel() {
  static const Kernel& chosen = []() -> const Kernel& {
    const char* wanted = std::getenv("PLANAHEAD_ISA");
    auto allowed = [&](const Kernel& k) { return wanted == nullptr || std::strcmp(wanted, k.name) == 0; };
#ifdef PLANAHEAD_X86
    __builtin_cpu_init();
    if (allowed(avx512::kernel) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return avx512::kernel;
    if (allowed(avx2::kernel) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kernel;
#endif
    return generic::kernel;
  }();
  return chosen;
}

namespace {

// Whether some lane has a bound at `index`.
template <typename T>
bool present(const Array<const T>& bound, int64_t index, int64_t lanes) {
  const int64_t count = bound.shared ? 1 : lanes;
  const T* from = bound.data + index * count;
  for (int64_t i = 0; i < count; i++)
    if (!(from[i] == -std::numeric_limits<T>::infinity())) return true;
  return false;
}

template <typename T>
bool priced(const Problem<T>& problem, int64_t index, int64_t lanes) {
  auto finite = [&](const Array<const T>& array) {
    const int64_t count = array.shared ? 1 : lanes;
    const T* from = array.data + index * count;
    for (int64_t i = 0; i < count; i++)
      if (std::isfinite(from[i])) return true;
    return false;
  };
  return finite(problem.linear) && finite(problem.quadratic);
}

template <typename T>
Pattern find_pattern(const Shape& shape, const Problem<T>& problem) {
  Pattern pattern;
  const int m = shape.m();
  for (int k = 0; k < shape.nodes(); k++) {
    pattern.begin.push_back(int(pattern.sides.size()));
    for (int row = 0; row < m; row++) {
      const bool lower = present(problem.bound, (int64_t(k) * 2) * m + row, shape.lanes);
      const bool upper = present(problem.bound, (int64_t(k) * 2 + 1) * m + row, shape.lanes);
      if (!lower && !upper) continue;
      const bool soft = priced(problem, int64_t(k) * m + row, shape.lanes);
      const int at = int(pattern.sides.size());
      if (lower) pattern.sides.push_back({row, 1, upper ? at + 1 : -1, soft});
      if (upper) pattern.sides.push_back({row, -1, lower ? at : -1, soft});
    }
  }
  pattern.begin.push_back(int(pattern.sides.size()));
  return pattern;
}

// Run `work` on this thread and on as many of the pool as help. A pool thread that comes too late finds the queue empty; this thread
// waits only for those that have begun, so a busy pool cannot block it.
class Crew {
 public:
  template <typename Work>
  static void run(ffi::ThreadPool& pool, int64_t helpers, Work work) {
    auto state = std::make_shared<State>();
    for (int64_t i = 0; i < helpers; i++)
      pool.Schedule([state, work]() {
        {
          std::lock_guard<std::mutex> lock(state->mutex);
          if (state->closed) return;
          state->working++;
        }
        work();
        std::lock_guard<std::mutex> lock(state->mutex);
        if (--state->working == 0) state->idle.notify_all();
      });
    work();
    std::unique_lock<std::mutex> lock(state->mutex);
    state->closed = true;
    state->idle.wait(lock, [&] { return state->working == 0; });
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable idle;
    int working = 0;
    bool closed = false;
  };
};

template <typename T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::DataType::F32 : ffi::DataType::F64;

template <typename T>
ffi::ErrorOr<Array<const T>> input(ffi::RemainingArgs& args, size_t index, int64_t shared) {
  auto buffer = args.get<ffi::AnyBuffer>(index);
  if (!buffer.has_value()) return ffi::Unexpected(buffer.error());
  if (buffer->element_type() != kType<T>) return ffi::Unexpected(ffi::Error::InvalidArgument("planahead: mixed number formats"));
  return Array<const T>{buffer->typed_data<T>(), ((shared >> index) & 1) != 0};
}

template <typename U>
U* output(ffi::RemainingRets& rets, size_t index) {
  auto buffer = rets.get<ffi::AnyBuffer>(index);
  return buffer.has_value() && (*buffer)->element_count() > 0 ? static_cast<U*>((*buffer)->untyped_data()) : nullptr;
}

// The first arguments of both entry points: nine arrays of the problem, then which lanes to work on.
template <typename T>
ffi::Error read_problem(ffi::RemainingArgs& args, int64_t shared, Problem<T>& problem) {
  Array<const T>* const arrays[] = {&problem.H, &problem.g, &problem.F, &problem.c, &problem.G, &problem.bound, &problem.linear,
                                    &problem.quadratic, &problem.initial_state};
  for (size_t i = 0; i < 9; i++) {
    auto array = input<T>(args, i, shared);
    if (!array.has_value()) return array.error();
    *arrays[i] = *array;
  }
  return ffi::Error::Success();
}

std::vector<int64_t> chosen_lanes(ffi::RemainingArgs& args, size_t index, int64_t lanes) {
  auto buffer = args.get<ffi::AnyBuffer>(index);
  const auto* active = static_cast<const uint8_t*>(buffer->untyped_data());
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < lanes; i++)
    if (active[i]) chosen.push_back(i);
  return chosen;
}

Shape shape_of(int64_t lanes, int64_t horizon, int64_t states, int64_t controls, int64_t rows, bool free_initial_state) {
  Shape shape;
  shape.lanes = lanes, shape.N = int(horizon), shape.nx = int(states), shape.nu = int(controls), shape.ng = int(rows);
  shape.free_initial_state = free_initial_state;
  return shape;
}

// Helpers pay where there is more than a vector of problems for each.
int64_t helpers(ffi::ThreadPool& pool, const Queue& queue) {
  return std::min<int64_t>(pool.num_threads(), (int64_t(queue.problems.size()) + 7) / 8) - 1;
}

template <typename T>
ffi::Error solve(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t lanes, int64_t horizon,
                 int64_t states, int64_t controls, int64_t rows, bool free_initial_state, int64_t shared, double tolerance, double tau,
                 double relative_tau, int64_t iterations) {
  const Shape shape = shape_of(lanes, horizon, states, controls, rows, free_initial_state);
  Problem<T> problem;
  if (ffi::Error error = read_problem(args, shared, problem); error.failure()) return error;
  Solution<T> solution;
  T** const points[] = {&solution.z, &solution.pi, &solution.t, &solution.lam, &solution.s, &solution.lam_s};
  for (size_t i = 0; i < 6; i++) *points[i] = output<T>(rets, i);
  solution.status = output<int32_t>(rets, 6);
  solution.iterations = output<int32_t>(rets, 7);
  solution.residual = output<T>(rets, 8);
  solution.tau = output<T>(rets, 9);
  solution.gain = output<T>(rets, 10);
  if (lanes == 0) return ffi::Error::Success();
  // What no problem writes: lanes that are left out, and rows that do not exist.
  for (size_t i = 0; i < 11; i++) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    if (i == 2 && solution.t)
      std::fill_n(solution.t, (*buffer)->element_count(), T(1));
    else if (i == 6)
      std::fill_n(solution.status, lanes, int32_t(kInvalidInput));
    else if ((*buffer)->element_count() > 0)
      std::memset((*buffer)->untyped_data(), 0, (*buffer)->size_bytes());
  }
  const Pattern pattern = find_pattern(shape, problem);
  Queue queue;
  queue.problems = chosen_lanes(args, 9, lanes);
  const Settings settings{tolerance, tau, relative_tau, int(iterations)};
  const Kernel& kernel = best_kernel();
  Crew::run(pool, helpers(pool, queue), [&]() {
    if constexpr (sizeof(T) == 4)
      kernel.solve32(shape, pattern, problem, settings, solution, queue);
    else
      kernel.solve64(shape, pattern, problem, settings, solution, queue);
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error adjoint(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t lanes, int64_t horizon,
                   int64_t states, int64_t controls, int64_t rows, bool free_initial_state, int64_t shared) {
  const Shape shape = shape_of(lanes, horizon, states, controls, rows, free_initial_state);
  Problem<T> problem;
  if (ffi::Error error = read_problem(args, shared, problem); error.failure()) return error;
  AdjointInputs<T> inputs;
  Array<const T>* const arrays[] = {&inputs.z,  &inputs.pi,    &inputs.t,      &inputs.lam,     &inputs.s,
                                    &inputs.lam_s, &inputs.bar_z, &inputs.bar_pi, &inputs.bar_lam, &inputs.bar_s};
  for (size_t i = 0; i < 10; i++) {
    auto array = input<T>(args, 10 + i, shared);
    if (!array.has_value()) return array.error();
    *arrays[i] = *array;
  }
  AdjointOutputs<T> outputs;
  outputs.stationarity = output<T>(rets, 0);
  outputs.dynamics = output<T>(rets, 1);
  outputs.initial = output<T>(rets, 2);
  outputs.row = output<T>(rets, 3);
  outputs.price = output<T>(rets, 4);
  outputs.definite = output<uint8_t>(rets, 5);
  if (lanes == 0) return ffi::Error::Success();
  for (size_t i = 0; i < 6; i++) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    std::memset((*buffer)->untyped_data(), 0, (*buffer)->size_bytes());
  }
  const Pattern pattern = find_pattern(shape, problem);
  Queue queue;
  queue.problems = chosen_lanes(args, 9, lanes);
  const Kernel& kernel = best_kernel();
  Crew::run(pool, helpers(pool, queue), [&]() {
    if constexpr (sizeof(T) == 4)
      kernel.adjoint32(shape, pattern, problem, inputs, outputs, queue);
    else
      kernel.adjoint64(shape, pattern, problem, inputs, outputs, queue);
  });
  return ffi::Error::Success();
}

auto sizes() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<int64_t>("lanes")
      .Attr<int64_t>("horizon")
      .Attr<int64_t>("states")
      .Attr<int64_t>("controls")
      .Attr<int64_t>("rows")
      .Attr<bool>("free_initial_state")
      .Attr<int64_t>("shared");
}

auto settings() {
  return sizes().Attr<double>("tolerance").Attr<double>("tau").Attr<double>("relative_tau").Attr<int64_t>("iterations");
}

}  // namespace
}  // namespace planahead

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_solve_f32, planahead::solve<float>, planahead::settings());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_solve_f64, planahead::solve<double>, planahead::settings());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_adjoint_f32, planahead::adjoint<float>, planahead::sizes());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_adjoint_f64, planahead::adjoint<double>, planahead::sizes());

extern "C" const char* planahead_kernel() { return planahead::best_kernel().name; }
#pragma GCC visibility pop
