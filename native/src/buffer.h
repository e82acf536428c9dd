// Memory that a thread keeps from call to call: fresh pages cost as much as computing in them.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>

#include "simd.h"

namespace planahead {
namespace PLANAHEAD_ISA {

// Room for vectors. No std::vector: its functions would be compiled for every instruction set under one name, and the linker would keep
// those of any.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(base_); }

  // At least `count` vectors: those of the call before, or where they are too few others, all zero.
  V* reserve(size_t count) {
    if (count > size_) {
      std::free(base_);
      size_ = 0;
      base_ = static_cast<V*>(std::aligned_alloc(sizeof(V) > 64 ? sizeof(V) : 64, (count * sizeof(V) + 63) / 64 * 64));
      if (base_ == nullptr) throw std::bad_alloc();
      size_ = count;
      std::memset(static_cast<void*>(base_), 0, count * sizeof(V));
    }
    return base_;
  }

 private:
  V* base_ = nullptr;
  size_t size_ = 0;
};

}  // namespace PLANAHEAD_ISA
}  // namespace planahead
