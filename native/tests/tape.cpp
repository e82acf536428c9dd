// The evaluator without XLA, for sanitizers: random programs over random batches, in both formats, by several threads at once. Answers must
// be those of an evaluator of a few lines, and not depend on the number of threads. Built by native/tests/sanitize.sh.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>

#include "../src/kernel.h"

namespace planahead {
namespace {

std::vector<const Evaluators*> all_evaluators() {
  std::vector<const Evaluators*> found{&generic::evaluators};
#ifdef PLANAHEAD_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::evaluators);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512::evaluators);
#endif
  return found;
}

// Slots: two constants, one shared input, two that vary, then results. Operations whose answers do not depend on how they are rounded.
struct Program {
  std::vector<double> values{0.5, -2.0};
  std::vector<Source> sources;
  std::vector<Instruction> once, every;
  std::vector<Target> targets;
  Segment segment;

  Program(std::mt19937& random, int32_t stages, int32_t lanes) {
    auto whole = [&](int low, int high) { return std::uniform_int_distribution<int32_t>(low, high)(random); };
    sources = {{2, 0, 1, 0, 0}, {3, 1, 0, lanes, 1}, {4, 2, 0, 1, 0}};  // shared; of stages and lanes; of stages
    once.push_back({kNeg, 5, 2, 0, 0});
    const int32_t exact[] = {kAdd, kSub, kMax, kMin, kNeg, kAbs, kSelect, kLess, kLessOrEqual, kEqual, kNotEqual, kSign, kFloor, kFinite};
    int32_t slots = 6;
    for (int i = whole(1, 60); i > 0; i--)
      every.push_back({exact[whole(0, int(std::size(exact)) - 1)], slots++, whole(0, slots - 2), whole(0, slots - 2), whole(0, slots - 2)});
    for (int32_t output = 0; output < 3; output++) {
      every.push_back({kStore, output, whole(0, slots - 1), 0, 0});
      targets.push_back({0, output * lanes, 3 * lanes});
    }
    segment = {stages, slots, 2, 3, int32_t(once.size()), int32_t(every.size()), 3, values.data(), sources.data(), once.data(), every.data(),
               targets.data(), (int64_t(stages) * lanes + kBlock - 1) / kBlock};
  }
};

double meaning(int32_t operation, double a, double b, double c) {
  switch (operation) {
    case kAdd: return a + b;
    case kSub: return a - b;
    case kMax: return a > b || a != a ? a : b;
    case kMin: return a < b || a != a ? a : b;
    case kNeg: return -a;
    case kAbs: return std::fabs(a);
    case kSelect: return a != 0 ? b : c;
    case kLess: return a < b;
    case kLessOrEqual: return a <= b;
    case kEqual: return a == b;
    case kNotEqual: return a != b;
    case kSign: return a != a ? a : (a > 0) - (a < 0);
    case kFloor: return std::floor(a);
    default: return std::isfinite(a);
  }
}

template <typename T>
void run(const Evaluators& evaluators, const TapeCall<T>& call, int threads) {
  Blocks blocks;
  for (const Segment& segment : call.segments) blocks.count += segment.blocks;
  auto work = [&]() {
    if constexpr (sizeof(T) == 4)
      evaluators.evaluate32(call, blocks);
    else
      evaluators.evaluate64(call, blocks);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; i++) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
}

template <typename T>
int wrong(std::mt19937& random, const Evaluators& evaluators) {
  const int32_t stages = 1 + int32_t(random() % 5), lanes = 1 + int32_t(random() % 70);
  const Program program(random, stages, lanes);
  std::normal_distribution<double> normal;
  std::vector<T> shared(2), both(size_t(stages) * lanes), staged(stages);
  for (auto* array : {&shared, &both, &staged})
    for (T& number : *array) number = T(normal(random));
  both[0] = std::numeric_limits<T>::quiet_NaN(), both.back() = std::numeric_limits<T>::infinity();
  TapeCall<T> call{lanes, {program.segment}, {shared.data(), both.data(), staged.data()}, {}};
  std::vector<T> one(3 * both.size()), three(one.size()), expected(one.size());
  call.outputs = {one.data()};
  run(evaluators, call, 1);
  call.outputs = {three.data()};
  run(evaluators, call, 3);
  std::vector<double> slots(program.segment.slots);
  for (int32_t k = 0; k < stages; k++)
    for (int32_t lane = 0; lane < lanes; lane++) {
      slots[0] = 0.5, slots[1] = -2, slots[2] = shared[1], slots[3] = both[size_t(k) * lanes + lane], slots[4] = staged[k], slots[5] = -slots[2];
      for (const Instruction& step : program.every)
        if (step.operation == kStore)
          expected[(3 * size_t(k) + step.out) * lanes + lane] = T(slots[step.a]);
        else
          slots[step.out] = meaning(step.operation, slots[step.a], slots[step.b], slots[step.c]);
    }
  auto same = [](T a, T b) { return a == b || (a != a && b != b); };
  for (size_t i = 0; i < one.size(); i++)
    if (!same(one[i], three[i]) || !same(one[i], expected[i])) return 1;
  return 0;
}

}  // namespace
}  // namespace planahead

int main() {
  using namespace planahead;
  int failures = 0, count = 0;
  for (const Evaluators* evaluators : all_evaluators()) {
    std::mt19937 random(0);
    for (int round = 0; round < 300; round++, count += 2) failures += wrong<float>(random, *evaluators) + wrong<double>(random, *evaluators);
  }
  std::printf("evaluator: %d programs, %d wrong\n", count, failures);
  return failures != 0;
}
