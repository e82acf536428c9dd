// What the threads of a call share: which rows exist, and which problems are still to be solved.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace planahead {

// One side of a row that exists in some lane.
struct Side {
  int row;       // in 0..m-1
  int sign;      // +1 lower, -1 upper
  int opposite;  // index of the other side of the same row, or -1
  bool soft;     // priced in some lane
};

struct Pattern {
  std::vector<Side> sides;
  std::vector<int> begin;  // of stage k; nodes + 1 entries
};

struct Queue {
  std::vector<int64_t> problems;  // lanes to be worked on, ascending
  std::atomic<int64_t> next{0};
};

}  // namespace planahead
