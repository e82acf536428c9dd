// Straight-line programs over many lanes at once: each instruction works on a block of kBlock numbers, one a lane, so that reading it costs
// little beside carrying it out. src/planahead/tape makes the programs and says what the numbers of the operations mean.
#pragma once

#include <algorithm>
#include <cmath>

#include "buffer.h"
#include "tape_call.h"
#include "trigonometry.h"

namespace planahead {
namespace PLANAHEAD_ISA {

constexpr int kVectors = kBlock / W;

PLANAHEAD_INLINE V truth(M where) { return select(where, splat(1), V{}); }

// One instruction a lane at a time, for what has no vector form.
template <typename F>
PLANAHEAD_INLINE void each(V* out, const V* a, F f) {
  Real from[kBlock], to[kBlock];
  std::memcpy(from, a, sizeof from);
  for (int i = 0; i < kBlock; i++) to[i] = f(from[i]);
  std::memcpy(out, to, sizeof to);
}
template <typename F>
PLANAHEAD_INLINE void each(V* out, const V* a, const V* b, F f) {
  Real first[kBlock], second[kBlock], to[kBlock];
  std::memcpy(first, a, sizeof first);
  std::memcpy(second, b, sizeof second);
  for (int i = 0; i < kBlock; i++) to[i] = f(first[i], second[i]);
  std::memcpy(out, to, sizeof to);
}

template <typename T>
class Evaluator {
 public:
  Evaluator(const TapeCall<T>& call, Blocks& blocks) : call_(call), blocks_(blocks) {}

  // Take blocks of positions until none is left.
  void run() {
    for (int64_t unit; (unit = blocks_.next.fetch_add(1, std::memory_order_relaxed)) < blocks_.count;) {
      size_t index = 0;
      while (unit >= call_.segments[index].blocks) unit -= call_.segments[index++].blocks;
      const Segment& segment = call_.segments[index];
      if (&segment != prepared_) prepare(segment);
      evaluate(segment, unit * kBlock);
    }
  }

 private:
  V* slot(int32_t number) { return slots_ + int64_t(number) * kVectors; }

  // What is the same in all blocks.
  void prepare(const Segment& segment) {
    slots_ = memory_.reserve(size_t(segment.slots) * kVectors);
    for (int i = 0; i < segment.constants; i++) fill(slot(i), Real(segment.values[i]));
    for (int i = 0; i < segment.inputs; i++) {
      const Source& source = segment.sources[i];
      if (!source.varies()) fill(slot(source.slot), Real(call_.arrays[source.array][source.offset]));
    }
    carry_out(segment.once, segment.once_count);
    prepared_ = &segment;
  }

  void fill(V* to, Real value) {
    for (int v = 0; v < kVectors; v++) to[v] = splat(value);
  }

  void evaluate(const Segment& segment, int64_t first) {
    // Positions are lanes within stages. A last block that is not full repeats its last position.
    const int64_t positions = segment.stages * call_.lanes;
    count_ = int(std::min<int64_t>(kBlock, positions - first));
    for (int i = 0; i < kBlock; i++) {
      const int64_t position = first + std::min(i, count_ - 1);
      stage_[i] = position / call_.lanes, lane_[i] = position % call_.lanes;
    }
    together_ = count_ == kBlock && stage_[0] == stage_[kBlock - 1];
    for (int i = 0; i < segment.inputs; i++) {
      const Source& source = segment.sources[i];
      if (!source.varies()) continue;
      const T* from = call_.arrays[source.array] + source.offset;
      V* to = slot(source.slot);
      if (together_ && source.lane_step == 1) {
        from += stage_[0] * source.stage_step + lane_[0];
        for (int v = 0; v < kVectors; v++) to[v] = read(from + v * W);
      } else {
        Real numbers[kBlock];
        for (int j = 0; j < kBlock; j++) numbers[j] = Real(from[stage_[j] * source.stage_step + lane_[j] * source.lane_step]);
        std::memcpy(to, numbers, sizeof numbers);
      }
    }
    segment_ = &segment;
    carry_out(segment.every, segment.every_count);
  }

  void store(const Target& target, const V* from) {
    T* to = call_.outputs[target.array] + target.offset;
    if (together_) {
      to += stage_[0] * target.stage_step + lane_[0];
      for (int v = 0; v < kVectors; v++) {
        typedef T Vector __attribute__((vector_size(W * sizeof(T))));
        const Vector numbers = __builtin_convertvector(from[v], Vector);
        std::memcpy(to + v * W, &numbers, sizeof numbers);
      }
    } else {
      Real numbers[kBlock];
      std::memcpy(numbers, from, sizeof numbers);
      for (int j = 0; j < count_; j++) to[stage_[j] * target.stage_step + lane_[j]] = T(numbers[j]);
    }
  }

#define PLANAHEAD_VECTORS(expression)                                 \
  for (int v = 0; v < kVectors; v++) out[v] = expression;             \
  break
#define PLANAHEAD_EACH(function)                                      \
  each(out, a, [](Real x) { return function; });                      \
  break

  void carry_out(const Instruction* instructions, int count) {
    for (int i = 0; i < count; i++) {
      const Instruction& step = instructions[i];
      if (step.operation == kStore) {
        store(segment_->targets[step.out], slot(step.a));
        continue;
      }
      V* out = slot(step.out);
      const V *a = slot(step.a), *b = slot(step.b), *c = slot(step.c);
      switch (step.operation) {
        case kAdd: PLANAHEAD_VECTORS(a[v] + b[v]);
        case kSub: PLANAHEAD_VECTORS(a[v] - b[v]);
        case kMul: PLANAHEAD_VECTORS(a[v] * b[v]);
        case kDiv: PLANAHEAD_VECTORS(a[v] / b[v]);
        case kFma: PLANAHEAD_VECTORS(a[v] * b[v] + c[v]);
        case kFms: PLANAHEAD_VECTORS(a[v] * b[v] - c[v]);
        case kFnma: PLANAHEAD_VECTORS(c[v] - a[v] * b[v]);
        case kNeg: PLANAHEAD_VECTORS(-a[v]);
        case kSelect: PLANAHEAD_VECTORS(select(a[v] != V{}, b[v], c[v]));
        case kMax: PLANAHEAD_VECTORS(select((a[v] > b[v]) | (a[v] != a[v]), a[v], b[v]));
        case kMin: PLANAHEAD_VECTORS(select((a[v] < b[v]) | (a[v] != a[v]), a[v], b[v]));
        case kLess: PLANAHEAD_VECTORS(truth(a[v] < b[v]));
        case kLessOrEqual: PLANAHEAD_VECTORS(truth(a[v] <= b[v]));
        case kEqual: PLANAHEAD_VECTORS(truth(a[v] == b[v]));
        case kNotEqual: PLANAHEAD_VECTORS(truth(a[v] != b[v]));
        case kAbs: PLANAHEAD_VECTORS(magnitude(a[v]));
        case kSqrt: PLANAHEAD_VECTORS(root(a[v]));
        case kSign: PLANAHEAD_VECTORS(select(a[v] != a[v], a[v], truth(a[v] > V{}) - truth(a[v] < V{})));
        case kFinite: PLANAHEAD_VECTORS(truth(finite(a[v])));
        case kFloor: PLANAHEAD_EACH(std::floor(x));
        case kSin: PLANAHEAD_VECTORS(sine(a[v], 0));
        case kCos: PLANAHEAD_VECTORS(sine(a[v], 1));
        case kTan: PLANAHEAD_EACH(std::tan(x));
        case kExp: PLANAHEAD_EACH(std::exp(x));
        case kLog: PLANAHEAD_EACH(std::log(x));
        case kTanh: PLANAHEAD_EACH(std::tanh(x));
        case kAsin: PLANAHEAD_EACH(std::asin(x));
        case kAcos: PLANAHEAD_EACH(std::acos(x));
        case kAtan: PLANAHEAD_EACH(std::atan(x));
        case kSinh: PLANAHEAD_EACH(std::sinh(x));
        case kCosh: PLANAHEAD_EACH(std::cosh(x));
        case kExpm1: PLANAHEAD_EACH(std::expm1(x));
        case kLog1p: PLANAHEAD_EACH(std::log1p(x));
        case kErf: PLANAHEAD_EACH(std::erf(x));
        case kPow: each(out, a, b, [](Real x, Real y) { return std::pow(x, y); }); break;
        case kAtan2: each(out, a, b, [](Real x, Real y) { return std::atan2(x, y); }); break;
      }
    }
  }
#undef PLANAHEAD_VECTORS
#undef PLANAHEAD_EACH

  const TapeCall<T>& call_;
  Blocks& blocks_;
  const Segment *prepared_ = nullptr, *segment_ = nullptr;
  V* slots_ = nullptr;
  int64_t stage_[kBlock], lane_[kBlock];
  int count_ = 0;
  bool together_ = false;
  static thread_local Buffer memory_;
};

template <typename T>
thread_local Buffer Evaluator<T>::memory_;

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
