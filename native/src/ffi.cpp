// The entry points that XLA calls: unpack buffers, find which rows exist, and let XLA's threads work through the batch.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "crew.h"
#include "kernel.h"
#include "queue.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace planahead {

const Kernels& best_kernels() {
  static const Kernels chosen = []() -> Kernels {
    const char* wanted = std::getenv("PLANAHEAD_ISA");
    auto allowed = [&](const Kernel& k) { return wanted == nullptr || std::strcmp(wanted, k.name) == 0; };
#ifdef PLANAHEAD_X86
    __builtin_cpu_init();
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (allowed(avx512::kernel) && has_avx512) return {avx512::kernel, avx512_single::solve_single, avx512::evaluators};
    if (allowed(avx2::kernel) && has_avx2) return {avx2::kernel, avx2_single::solve_single, avx2::evaluators};
#endif
    return {generic::kernel, generic_single::solve_single, generic::evaluators};
  }();
  return chosen;
}

namespace {

// Whether `holds` of entry `index` in some lane.
template <typename T, typename Condition>
bool somewhere(const Array<const T>& array, int64_t index, int64_t lanes, Condition holds) {
  const int64_t count = array.shared() ? 1 : lanes;
  const T* from = array.data + index * array.step;
  return std::any_of(from, from + count, holds);
}

template <typename T>
Pattern find_pattern(const Shape& shape, const Problem<T>& problem) {
  Pattern pattern;
  const int m = shape.m();
  auto present = [&](int64_t index) {
    return somewhere(problem.bound, index, shape.lanes, [](T bound) { return bound != -std::numeric_limits<T>::infinity(); });
  };
  auto finite = [&](const Array<const T>& price, int64_t index) {
    return somewhere(price, index, shape.lanes, [](T number) { return std::isfinite(number); });
  };
  for (int k = 0; k < shape.nodes(); k++) {
    pattern.begin.push_back(int(pattern.sides.size()));
    for (int row = 0; row < m; row++) {
      const bool lower = present((int64_t(k) * 2) * m + row), upper = present((int64_t(k) * 2 + 1) * m + row);
      if (!lower && !upper) continue;
      const bool soft = finite(problem.linear, int64_t(k) * m + row) && finite(problem.quadratic, int64_t(k) * m + row);
      const int at = int(pattern.sides.size());
      if (lower) pattern.sides.push_back({row, 1, upper ? at + 1 : -1, soft});
      if (upper) pattern.sides.push_back({row, -1, lower ? at : -1, soft});
    }
  }
  pattern.begin.push_back(int(pattern.sides.size()));
  return pattern;
}

template <typename T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::DataType::F32 : ffi::DataType::F64;

// Input `index`: an array with lanes last, or one that all lanes share.
template <typename T>
ffi::ErrorOr<Array<const T>> input(ffi::RemainingArgs& args, size_t index, int64_t lanes, bool shared) {
  auto buffer = args.get<ffi::AnyBuffer>(index);
  if (!buffer.has_value()) return ffi::Unexpected(buffer.error());
  if (buffer->element_type() != kType<T>) return ffi::Unexpected(ffi::Error::InvalidArgument("planahead: mixed number formats"));
  const int64_t count = buffer->element_count();
  if (shared) return Array<const T>{buffer->typed_data<T>(), count, 1, 0};
  return Array<const T>{buffer->typed_data<T>(), lanes > 0 ? count / lanes : 0, lanes, 1};
}

ffi::Error no_memory() { return ffi::Error(ffi::ErrorCode::kResourceExhausted, "planahead: no memory to solve in"); }

template <typename U>
U* output(ffi::RemainingRets& rets, size_t index) {
  auto buffer = rets.get<ffi::AnyBuffer>(index);
  return buffer.has_value() && (*buffer)->element_count() > 0 ? static_cast<U*>((*buffer)->untyped_data()) : nullptr;
}

template <typename U>
void fill(ffi::RemainingRets& rets, size_t index, U value) {
  auto buffer = rets.get<ffi::AnyBuffer>(index);
  if (buffer.has_value()) std::fill_n(static_cast<U*>((*buffer)->untyped_data()), (*buffer)->element_count(), value);
}

// What both entry points are given first: sizes, the arrays of the problem and a guess, and which lanes to work on.
template <typename T>
struct Call {
  Shape shape;
  Problem<T> problem;
  Pattern pattern;
  Queue queue;

  static constexpr size_t kInputs = 13;

  ffi::Error read(ffi::RemainingArgs& args, int64_t shared) {
    size_t index = 0;
    for (Array<const T>* array : problem.arrays()) {
      auto found = input<T>(args, index, shape.lanes, (shared >> index) & 1);
      if (!found.has_value()) return found.error();
      *array = *found;
      if (shape.lanes > 0 && array->size != expected(index))
        return ffi::Error::InvalidArgument("planahead: array " + std::to_string(index) + " of the problem has " +
                                           std::to_string(array->size) + " entries a lane; " +
                                           std::to_string(expected(index)) + " were expected");
      index++;
    }
    auto active = args.get<ffi::AnyBuffer>(index);
    if (!active.has_value()) return active.error();
    const auto* chosen = static_cast<const uint8_t*>(active->untyped_data());
    for (int64_t i = 0; i < shape.lanes; i++)
      if (chosen[i]) queue.problems.push_back(i);
    if (!queue.problems.empty()) pattern = find_pattern(shape, problem);
    return ffi::Error::Success();
  }

  // Entries a lane of the array at `index`, in the order of `Problem::arrays`.
  int64_t expected(size_t index) const {
    const int64_t nodes = shape.nodes(), N = shape.N, nx = shape.nx, nz = shape.nz(), ng = shape.ng, m = shape.m();
    const int64_t guess = problem.arrays()[index]->size > 0 ? 1 : 0;  // a guess may be left out
    const int64_t sizes[] = {nodes * nz * nz, nodes * nz, N * nx * nz, N * nx, nodes * ng * nz, nodes * 2 * m, nodes * m, nodes * m,
                             shape.free_initial_state ? 0 : nx, guess * nodes * nz, guess * nodes * nx, guess * nodes * 2 * m};
    return sizes[index];
  }

  // Let the pool work through the queue. Helpers pay where there is more than a vector of problems, `lanes` of them, for each.
  template <typename Work>
  ffi::Error run(ffi::ThreadPool& pool, int lanes, Work work) {
    if (queue.problems.empty()) return ffi::Error::Success();
    const int64_t vectors = (int64_t(queue.problems.size()) + lanes - 1) / lanes;
    return Crew::run(pool, std::min<int64_t>(pool.num_threads(), vectors) - 1, work) ? ffi::Error::Success() : no_memory();
  }

  // Queue those problems of the last run once more that came to a standstill, in place of the others.
  void queue_stalled(const int32_t* status) {
    auto& problems = queue.problems;
    problems.erase(std::remove_if(problems.begin(), problems.end(), [status](int64_t i) { return status[i] != kStalled; }), problems.end());
    queue.next = 0;
  }
};

Shape shape_of(int64_t lanes, int64_t horizon, int64_t states, int64_t controls, int64_t rows, bool free_initial_state) {
  Shape shape;
  shape.lanes = lanes, shape.N = int(horizon), shape.nx = int(states), shape.nu = int(controls), shape.ng = int(rows);
  shape.free_initial_state = free_initial_state;
  return shape;
}

template <typename T>
ffi::Error solve(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t lanes, int64_t horizon,
                 int64_t states, int64_t controls, int64_t rows, bool free_initial_state, int64_t shared, bool square_root,
                 double tolerance, double tau, double relative_tau, int64_t iterations, bool single) try {
  Call<T> call{shape_of(lanes, horizon, states, controls, rows, free_initial_state), {}, {}, {}};
  if (ffi::Error error = call.read(args, shared); error.failure()) return error;
  Solution<T> solution;
  T** const numbers[] = {&solution.z, &solution.pi, &solution.t, &solution.lam, &solution.s, &solution.lam_s};
  // What no problem writes: lanes that are left out, and rows that do not exist.
  for (size_t i = 0; i < 6; i++) {
    *numbers[i] = output<T>(rets, i);
    fill(rets, i, T(numbers[i] == &solution.t ? 1 : 0));
  }
  solution.status = output<int32_t>(rets, 6);
  solution.iterations = output<int32_t>(rets, 7);
  solution.residual = output<T>(rets, 8);
  solution.tau = output<T>(rets, 9);
  solution.gain = output<T>(rets, 10);
  fill(rets, 6, int32_t(kInvalidInput));
  fill(rets, 7, int32_t(0));
  for (size_t i = 8; i < 11; i++) fill(rets, i, T(0));
  const Settings settings{tolerance, tau, relative_tau, int(iterations), square_root};
  const Kernel& kernel = best_kernels().kernel;
  auto run = [&pool, &call, &solution](int together, auto solve, const Settings& settings) {
    return call.run(pool, together, [solve, &call, &settings, &solution]() {
      solve(call.shape, call.pattern, call.problem, settings, solution, call.queue);
    });
  };
  if constexpr (sizeof(T) == 8) {
    return run(kernel.lanes, kernel.solve64, settings);
  } else {
    if (!single) return run(kernel.lanes, kernel.solve32, settings);
    if (ffi::Error error = run(2 * kernel.lanes, best_kernels().solve_single, settings); error.failure()) return error;
    // What rounding brought to a standstill is solved in float64, from the start, and in the classic form: there it needs no other, and the
    // square-root form leaves out what is below the rounding of the data.
    call.queue_stalled(solution.status);
    std::vector<int32_t> before;
    for (int64_t i : call.queue.problems) before.push_back(solution.iterations[i]);
    Settings exact = settings;
    exact.square_root = false;
    if (ffi::Error error = run(kernel.lanes, kernel.solve32, exact); error.failure()) return error;
    for (size_t i = 0; i < before.size(); i++) solution.iterations[call.queue.problems[i]] += before[i];
    return ffi::Error::Success();
  }
} catch (const std::bad_alloc&) {
  return no_memory();
}

template <typename T>
ffi::Error adjoint(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t lanes, int64_t horizon,
                   int64_t states, int64_t controls, int64_t rows, bool free_initial_state, int64_t shared, bool square_root) try {
  Call<T> call{shape_of(lanes, horizon, states, controls, rows, free_initial_state), {}, {}, {}};
  if (ffi::Error error = call.read(args, shared); error.failure()) return error;
  AdjointInputs<T> inputs;
  inputs.square_root = square_root;
  const int64_t nodes = call.shape.nodes(), z = nodes * call.shape.nz(), pi = nodes * states, sides = nodes * 2 * call.shape.m();
  const std::pair<Array<const T>*, int64_t> arrays[] = {
      {&inputs.z, z},         {&inputs.pi, pi},    {&inputs.t, sides},  {&inputs.lam, sides},     {&inputs.s, sides},
      {&inputs.lam_s, sides}, {&inputs.bar_z, z}, {&inputs.bar_pi, pi}, {&inputs.bar_lam, sides}, {&inputs.bar_s, sides}};
  size_t index = Call<T>::kInputs;
  for (const auto& [array, size] : arrays) {
    auto found = input<T>(args, index++, lanes, false);
    if (!found.has_value()) return found.error();
    *array = *found;
    if (lanes > 0 && array->size != size) return ffi::Error::InvalidArgument("planahead: a point or cotangent of another problem");
  }
  AdjointOutputs<T> outputs;
  index = 0;
  for (T** numbers : {&outputs.stationarity, &outputs.dynamics, &outputs.initial, &outputs.row, &outputs.price}) {
    *numbers = output<T>(rets, index);
    fill(rets, index++, T(0));
  }
  outputs.definite = output<uint8_t>(rets, index);
  fill(rets, index, uint8_t(0));
  const Kernel& kernel = best_kernels().kernel;
  return call.run(pool, kernel.lanes, [&]() {
    if constexpr (sizeof(T) == 4)
      kernel.adjoint32(call.shape, call.pattern, call.problem, inputs, outputs, call.queue);
    else
      kernel.adjoint64(call.shape, call.pattern, call.problem, inputs, outputs, call.queue);
  });
} catch (const std::bad_alloc&) {
  return no_memory();
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
      .Attr<int64_t>("shared")
      .Attr<bool>("square_root");
}

auto settings() {
  return sizes()
      .Attr<double>("tolerance")
      .Attr<double>("tau")
      .Attr<double>("relative_tau")
      .Attr<int64_t>("iterations")
      .Attr<bool>("single");
}

}  // namespace
}  // namespace planahead

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_solve_f32, planahead::solve<float>, planahead::settings());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_solve_f64, planahead::solve<double>, planahead::settings());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_adjoint_f32, planahead::adjoint<float>, planahead::sizes());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_adjoint_f64, planahead::adjoint<double>, planahead::sizes());

extern "C" const char* planahead_kernel() { return planahead::best_kernels().kernel.name; }
#pragma GCC visibility pop
