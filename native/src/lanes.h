// From lanes into the caller's memory, which has lanes last.
#pragma once

#include <type_traits>

#include "simd.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// Some lanes of a group, and where each belongs in arrays that have lanes last.
class Lanes {
 public:
  Lanes(M which, const int64_t* problems) : problems_(problems) {
    for (int i = 0; i < W; i++)
      if (which[i]) slots_[count_++] = i;
    together_ = count_ == W;
    for (int i = 1; i < W; i++) together_ &= problems[i] == problems[0] + i;
  }

  // Call `store(put)`, where put(to, from) writes an entry: once if all lanes are neighbours there too, else lane by lane.
  template <class Store>
  void each(Store store) const {
    if (together_) {
      const int64_t first = problems_[0];
      store([first](auto* to, const V& from) { write(to + first, from); });
      return;
    }
    for (int j = 0; j < count_; j++) {
      const int64_t problem = problems_[slots_[j]];
      const int slot = slots_[j];
      store([problem, slot](auto* to, const V& from) { to[problem] = std::remove_reference_t<decltype(*to)>(from[slot]); });
    }
  }

 private:
  const int64_t* problems_;
  int slots_[W], count_ = 0;
  bool together_;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
