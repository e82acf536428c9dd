// The kernels without XLA, for sanitizers: random batches of many sizes, some of them not numbers, in both formats, with and without
// guesses and lanes that are left out, solved and differentiated by several threads at once. Answers must not depend on the number of
// threads. Built by native/tests/sanitize.sh.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <thread>

#include "../src/crew.h"
#include "../src/kernel.h"
#include "../src/queue.h"

namespace planahead {
namespace {

// All that run here, each also with float32 problems solved in float32.
std::vector<Kernel> kernels() {
  std::vector<Kernel> found;
  auto add = [&](Kernel kernel, SolveSingle solve_single) {
    found.push_back(kernel);
    kernel.solve32 = solve_single;
    found.push_back(kernel);
  };
  add(generic::kernel, generic_single::solve_single);
#ifdef PLANAHEAD_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(avx2::kernel, avx2_single::solve_single);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    add(avx512::kernel, avx512_single::solve_single);
#endif
  return found;
}

// A batch in the caller's layout, with or without matrices that all lanes share.
template <typename T>
struct Data {
  Shape shape;
  std::vector<T> H, g, F, c, G, bound, linear, quadratic, x0, guess_z, guess_pi, guess_lam;
  Problem<T> problem;
  Pattern pattern;
  std::vector<int64_t> active;

  Data(std::mt19937& random, bool shared) {
    std::normal_distribution<double> normal;
    auto whole = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    const bool common = whole(0, 2) == 0;  // sizes the compiler knows
    shape.nx = common ? (whole(0, 1) ? 4 : 8) : whole(1, 14);
    shape.nu = common ? (shape.nx == 4 ? 1 : 4) : whole(1, 5);
    shape.ng = whole(0, 3), shape.N = whole(1, 9), shape.lanes = whole(1, 40);
    shape.free_initial_state = whole(0, 4) == 0;
    const int64_t nodes = shape.nodes(), nz = shape.nz(), m = shape.m(), B = shape.lanes;
    auto fill = [&](std::vector<T>& to, int64_t size, bool one, double factor, Array<const T>& array) {
      to.resize(size * (one ? 1 : B));
      for (T& number : to) number = T(factor * normal(random));
      array = one ? Array<const T>{to.data(), size, 1, 0} : Array<const T>{to.data(), size, B, 1};
    };
    fill(H, nodes * nz * nz, shared, 0.1 / nz, problem.H);
    fill(g, nodes * nz, false, 1, problem.g);
    fill(F, shape.N * shape.nx * nz, shared, 1 / std::sqrt(double(nz)), problem.F);
    fill(c, shape.N * shape.nx, false, 0.1, problem.c);
    fill(G, nodes * shape.ng * nz, shared, 1, problem.G);
    fill(bound, nodes * 2 * m, false, 0, problem.bound);
    fill(linear, nodes * m, false, 0, problem.linear);
    fill(quadratic, nodes * m, false, 0, problem.quadratic);
    if (!shape.free_initial_state) fill(x0, shape.nx, false, 1, problem.initial_state);
    if (whole(0, 1)) {
      fill(guess_z, nodes * nz, false, 1, problem.guess_z);
      fill(guess_pi, nodes * shape.nx, false, 1, problem.guess_pi);
      fill(guess_lam, nodes * 2 * m, false, 1, problem.guess_lam);
      if (whole(0, 2) == 0) guess_pi[whole(0, int(guess_pi.size()) - 1)] = std::nan("");
    }
    const int every = whole(1, 3);  // all lanes, or some in no order
    for (int64_t l = 0; l < B; l++)
      if (every == 1 || whole(0, every) != 0) active.push_back(l);
    const int64_t lanes = shared ? 1 : B;
    for (int64_t k = 0; k < nodes; k++)
      for (int64_t i = 0; i < nz; i++) {
        for (int64_t j = 0; j < i; j++)
          for (int64_t l = 0; l < lanes; l++) H[((k * nz + j) * nz + i) * lanes + l] = H[((k * nz + i) * nz + j) * lanes + l];
        for (int64_t l = 0; l < lanes; l++) H[((k * nz + i) * nz + i) * lanes + l] += T(1);
      }
    for (T& number : bound) number = whole(0, 2) ? T(-0.5) : -std::numeric_limits<T>::infinity();
    for (T& number : quadratic) number = T(2);
    if (whole(0, 2) == 0) g[whole(0, int(g.size()) - 1)] = std::nan("");
    for (int k = 0; k < nodes; k++) {
      pattern.begin.push_back(int(pattern.sides.size()));
      for (int row = 0; row < m; row++) {
        const bool hard = whole(0, 2) == 0;  // in all lanes
        for (int64_t l = 0; l < B; l++)
          linear[(k * m + row) * B + l] = hard || whole(0, 1) ? std::numeric_limits<T>::infinity() : T(3);
        const int at = int(pattern.sides.size());
        pattern.sides.push_back({row, 1, at + 1, !hard});
        pattern.sides.push_back({row, -1, at, !hard});
      }
    }
    pattern.begin.push_back(int(pattern.sides.size()));
  }
};

// A pool like XLA's. Some of its threads come late.
class Pool {
 public:
  void Schedule(std::function<void()> work) {
    const bool late = threads_.size() % 2 == 1;
    threads_.emplace_back([work, late]() {
      if (late) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      work();
    });
  }
  ~Pool() {
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::vector<std::thread> threads_;
};

void in_threads(int threads, Queue& queue, const std::vector<int64_t>& lanes, const std::function<void()>& work) {
  queue.problems = lanes;
  queue.next = 0;
  Pool pool;
  if (!Crew::run(pool, threads - 1, work)) std::abort();
}

template <typename T>
std::vector<T> answers(const Kernel& kernel, const Data<T>& data, int threads) {
  const Shape& s = data.shape;
  const int64_t nodes = s.nodes(), nz = s.nz(), m = s.m(), B = s.lanes;
  std::vector<T> z(nodes * nz * B), pi(nodes * s.nx * B), t(nodes * 2 * m * B, T(1)), lam(t.size()), viol(t.size()), lam_s(t.size()),
      residual(B), tau(B), gain(s.N * s.nu * s.nx * B);
  std::vector<int32_t> status(B), iterations(B);
  Solution<T> solution{z.data(),   pi.data(),         t.data(),        lam.data(), viol.data(), lam_s.data(),
                       status.data(), iterations.data(), residual.data(), tau.data(), gain.data()};
  const Settings settings{sizeof(T) == 4 ? 2e-5 : 1e-9, -1, sizeof(T) == 4 ? 1e-6 : 1e-11, 60, s.N % 2 == 0};
  Queue queue;
  in_threads(threads, queue, data.active, [&]() {
    if constexpr (sizeof(T) == 4)
      kernel.solve32(s, data.pattern, data.problem, settings, solution, queue);
    else
      kernel.solve64(s, data.pattern, data.problem, settings, solution, queue);
  });
  auto of = [&](const std::vector<T>& numbers) {
    return Array<const T>{numbers.data(), int64_t(numbers.size()) / B, B, 1};
  };
  AdjointInputs<T> inputs{of(z), of(pi), of(t), of(lam), of(viol), of(lam_s), of(z), of(pi), of(lam), of(viol), s.N % 2 == 0};
  std::vector<T> stationarity(z.size()), dynamics(s.N * s.nx * B), initial(s.nx * B), row(t.size()), price(t.size());
  std::vector<uint8_t> definite(B);
  AdjointOutputs<T> outputs{stationarity.data(), dynamics.data(), initial.data(), row.data(), price.data(), definite.data()};
  in_threads(threads, queue, data.active, [&]() {
    if constexpr (sizeof(T) == 4)
      kernel.adjoint32(s, data.pattern, data.problem, inputs, outputs, queue);
    else
      kernel.adjoint64(s, data.pattern, data.problem, inputs, outputs, queue);
  });
  std::vector<T> all;
  for (const auto* part : {&z, &pi, &t, &lam, &viol, &lam_s, &residual, &gain, &stationarity, &dynamics, &initial, &row, &price})
    all.insert(all.end(), part->begin(), part->end());
  for (int32_t code : status) all.push_back(T(code));
  return all;
}

template <typename T>
int differing(std::mt19937& random, const Kernel& kernel, bool shared) {
  const Data<T> data(random, shared);
  const std::vector<T> one = answers(kernel, data, 1), three = answers(kernel, data, 3);
  return std::memcmp(one.data(), three.data(), one.size() * sizeof(T)) != 0;
}

}  // namespace
}  // namespace planahead

int main() {
  using namespace planahead;
  int wrong = 0, count = 0;
  for (const Kernel& kernel : kernels()) {
    std::mt19937 random(0);
    for (int round = 0; round < 40; round++)
      for (bool shared : {false, true}) {
        wrong += differing<float>(random, kernel, shared) + differing<double>(random, kernel, shared);
        count += 2;
      }
    std::printf("%-8s %d batches so far, %d depend on the number of threads\n", kernel.name, count, wrong);
  }
  return wrong != 0;
}
