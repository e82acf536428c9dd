// The next W problems, each in one piece. The caller keeps lanes last, so a lane that is loaded alone would fetch a cache line for
// every number; W neighbours fetched together use all of each line.
#pragma once

#include <memory>

#include "problem.h"
#include "simd.h"

namespace planahead {
namespace PLANAHEAD_ISA {

template <typename T>
class Staging {
 public:
  // `problem` with the arrays that lanes have of their own replaced by copies for lanes first .. first + W - 1, now lanes 0 .. W - 1.
  Problem<T> copy(const Problem<T>& problem, int64_t first) {
    int64_t size = 0;
    for (const Array<const T>* array : problem.arrays())
      if (!array->shared()) size += array->size;
    if (size * W > capacity_) {
      capacity_ = size * W;
      numbers_.reset(new T[capacity_]);
    }
    Problem<T> staged = problem;
    T* to = numbers_.get();
    for (Array<const T>* array : staged.arrays()) {
      if (array->shared()) continue;
      const int64_t count = array->size;
      const T* from = array->data + first * array->lane_step;
      for (int64_t e = 0; e < count; e++)
        for (int i = 0; i < W; i++) to[i * count + e] = from[e * array->step + i * array->lane_step];
      *array = {to, count, 1, count};
      to += count * W;
    }
    return staged;
  }

 private:
  std::unique_ptr<T[]> numbers_;
  int64_t capacity_ = 0;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
