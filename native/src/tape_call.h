// What a call of the evaluator is given: programs for ranges of stages, arrays to read and to write.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace planahead {

constexpr int kBlock = 32;  // positions that an instruction works on

// The numbers of src/planahead/tape/graph.py.
enum Operation : int32_t {
  kAdd, kSub, kMul, kDiv, kFma, kFms, kFnma, kNeg, kSelect, kMax, kMin, kLess, kLessOrEqual, kEqual, kNotEqual, kAbs, kSqrt, kSign, kFloor,
  kSin, kCos, kTan, kExp, kLog, kTanh, kPow, kAtan2, kAsin, kAcos, kAtan, kSinh, kCosh, kExpm1, kLog1p, kErf, kFinite,
  kStore = 255
};

struct Instruction {
  int32_t operation, out, a, b, c;
};

// An input: entry (stage, lane) is array[offset + stage * stage_step + lane * lane_step].
struct Source {
  int32_t slot, array, offset, stage_step, lane_step;

  bool varies() const { return stage_step != 0 || lane_step != 0; }
};

// An output, lanes last.
struct Target {
  int32_t array, offset, stage_step;
};

// A program for consecutive stages, counted from zero.
struct Segment {
  int32_t stages, slots, constants, inputs, once_count, every_count, outputs;
  const double* values;
  const Source* sources;
  const Instruction *once, *every;
  const Target* targets;
  int64_t blocks;
};

template <typename T>
struct TapeCall {
  int64_t lanes;
  std::vector<Segment> segments;
  std::vector<const T*> arrays;
  std::vector<T*> outputs;
};

// The blocks of all segments, one after the other.
struct Blocks {
  int64_t count = 0;
  std::atomic<int64_t> next{0};
};

}  // namespace planahead
