// Threads that work through a queue together.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>

namespace planahead {

// Run `work` on this thread and on as many of the pool as help; false where one of them ran out of memory. A thread of the pool that comes
// too late finds the crew closed; this thread waits only for those that have begun, so a busy pool cannot block it.
//
// `Pool` is XLA's: `Schedule(callable)` lets one of its threads call it some time.
class Crew {
 public:
  template <typename Pool, typename Work>
  static bool run(Pool& pool, int64_t helpers, Work work) {
    auto state = std::make_shared<State>();
    const Close close{*state};  // whatever happens, nobody is at work when this returns
    for (int64_t i = 0; i < helpers; i++)
      pool.Schedule([state, work]() {
        {
          std::lock_guard<std::mutex> lock(state->mutex);
          if (state->closed) return;
          state->working++;
        }
        const bool done = finishes(work);
        std::lock_guard<std::mutex> lock(state->mutex);
        state->failed |= !done;
        if (--state->working == 0) state->idle.notify_all();
      });
    const bool done = finishes(work);
    close.now();
    return done && !state->failed;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable idle;
    int working = 0;
    bool closed = false, failed = false;
  };

  struct Close {
    State& state;

    void now() const {
      std::unique_lock<std::mutex> lock(state.mutex);
      state.closed = true;
      state.idle.wait(lock, [&] { return state.working == 0; });
    }
    ~Close() { now(); }
  };

  // No exception may leave a thread of the pool.
  template <typename Work>
  static bool finishes(const Work& work) {
    try {
      work();
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
};

}  // namespace planahead
