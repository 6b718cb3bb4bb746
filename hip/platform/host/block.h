// One block of a kernel on the host back end: its threads are fibers of one CPU thread, scheduled here.
//
// A fiber that never waits runs one thread after the other to its end, so kernels without barriers cost no switches.
// A wave operation is one rendezvous: lanes leave their value, the last one to come computes all results. Operations
// whose results are needed later only are deferred: lanes leave their parts and go on, one rendezvous settles many.
// An error that names the kernel: a barrier or wave operation that some threads skip, threads that meet at different
// barriers or in different wave operations, a write past the end of shared memory. Shared memory starts as NaN for
// every block.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <string>
#include <vector>

#include "../../splitmix64.hpp"
#include "fiber.h"
#include "types.h"

// What a kernel sees of its place. The scheduler sets them whenever it changes the thread that runs.
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace getp_host {

constexpr int kMaxWave = 64, kMaxBlock = 1024;

inline std::string format(const char *pattern, ...) {
  va_list arguments;
  va_start(arguments, pattern);
  const std::string text = getp_hip::formatted(pattern, arguments);
  va_end(arguments);
  return text;
}

// A hash good enough to draw lane orders from.
inline uint64_t mix(uint64_t value) { return getp_hip::splitmix64(value + getp_hip::kSplitMixStep); }

// A kernel launch with its arguments bound: runs the calling thread of the block to its end.
struct Body {
  void (*call)(const void *arguments);
  const void *arguments;
  void operator()() const { call(arguments); }
};

class BlockRunner {
 public:
  ~BlockRunner() {
    for (Fiber &fiber : fibers_) free_fiber(fiber);
  }

  // Runs one block. Returns an empty string, or what went wrong. `seed` 0 runs the threads in ascending order, anything
  // else in an order drawn from seed and block, anew after every barrier. shared_limit: bytes of shared memory that a
  // block may have, at most kMaxShared.
  std::string run(const Body &body, dim3 grid, dim3 block, dim3 index, int wave, size_t shared_limit, uint64_t seed) {
    body_ = &body;
    wave_ = wave;
    shared_left_ = shared_limit;
    threads_ = (int)(block.x * block.y * block.z);
    gridDim = grid;
    blockDim = block;
    blockIdx = index;
    random_ = seed ? mix(seed ^ mix(((uint64_t)index.z << 42) ^ ((uint64_t)index.y << 21) ^ index.x)) : 0;
    finished_ = at_barrier_ = started_ = 0;
    fault_.clear();
    ready_.clear();
    shared_used_ = 0;
    sites_.clear();
    for (int w = 0; w * wave_ < threads_; w++) waves_[w].arrived = 0;
    for (int i = 0; i < threads_; i++) deferred_[i].count = 0;
    order_.resize(threads_);
    for (int i = 0; i < threads_; i++) order_[i] = i;
    shuffle(order_.data(), threads_);
    if ((int)fibers_.size() < threads_) fibers_.resize(threads_);
    free_.clear();
    for (int i = threads_ - 1; i >= 0; i--) free_.push_back(&fibers_[i]);
    running_ = &main_;
    enter_from(main_, *start_fiber());
    for (const Site &site : sites_) {
      const unsigned char *guard = shared_.data() + site.offset + site.bytes;
      if (fault_.empty() &&
          std::any_of(guard, guard + kSharedGuard, [](unsigned char c) { return c != kSharedPattern; }))
        fault_ = format("shared memory '%s' of %zu bytes was written past its end", site.name, site.bytes);
    }
    return fault_;
  }

  // A barrier of the block; the file and line tell one from another.
  void barrier(const char *file, int line) {
    settle();
    if (at_barrier_ > 0 && (line != barrier_line_ || (file != barrier_file_ && strcmp(file, barrier_file_) != 0))) {
      set_fault(format("threads meet at different barriers, line %d and line %d", barrier_line_, line));
      abandon();
    }
    barrier_file_ = file;
    barrier_line_ = line;
    at_barrier_++;
    if (at_barrier_ < threads_) return wait();
    at_barrier_ = 0;
    release(0, threads_);
  }

  // Leaves `value` with the wave; once all its lanes have come, combine(values, results, lanes) fills all results.
  using Combine = void (*)(const void *values, void *results, int lanes);
  template <class T>
  T rendezvous(T value, Combine combine) {
    settle();
    return meet(value, combine);
  }

  // A lane's parts of operations that its wave has yet to do.
  struct Deferred {
    static constexpr int kMost = 64;
    std::vector<unsigned char> parts;
    int count = 0;
    Combine combine = nullptr;

    template <class Part>
    const Part &part(int i) const {
      return ((const Part *)parts.data())[i];
    }
    template <class Part>
    void drop(int first) {
      count -= first;
      if (count > 0) memmove(parts.data(), parts.data() + first * sizeof(Part), count * sizeof(Part));
    }
  };

  // Leaves the lane's part of an operation. Once the lanes of the wave settle, combine(values, nullptr, lanes) does
  // what all of them have a part in, in the order they left them, and drops those parts; values: pointers to their
  // Deferred.
  template <class Part>
  void defer(const Part &part, Combine combine) {
    Deferred &own = deferred_[running_->lane];
    if (own.count == Deferred::kMost || (own.count > 0 && own.combine != combine)) settle();
    own.combine = combine;
    own.parts.resize(std::max(own.parts.size(), sizeof(Part) * Deferred::kMost));
    memcpy(own.parts.data() + own.count++ * sizeof(Part), &part, sizeof(Part));
  }

  // Returns when all operations that the lane has a part in are done.
  void settle() {
    Deferred &own = deferred_[running_->lane];
    while (own.count > 0) meet(&own, own.combine);
  }

  // Shared memory of the block for the declaration that `site` identifies; NaN at first, the same for all threads.
  void *shared(const void *site, const char *name, size_t bytes) {
    for (const Site &known : sites_)
      if (known.id == site) return shared_.data() + known.offset;
    const size_t offset = (shared_used_ + 15) / 16 * 16;
    if (bytes > shared_left_ || offset + bytes + kSharedGuard > shared_.size()) {
      set_fault(format("shared memory '%s' does not fit: of a block's bytes %zu are left", name, shared_left_));
      abandon();
    }
    memset(shared_.data() + offset, 0xff, bytes);
    memset(shared_.data() + offset + bytes, kSharedPattern, kSharedGuard);
    sites_.push_back({site, name, offset, bytes});
    shared_used_ = offset + bytes + kSharedGuard;
    shared_left_ -= bytes;
    return shared_.data() + offset;
  }

  // Body of every fiber: runs threads that have not started yet until none is left, then makes way for good.
  void fiber_loop(Fiber *self) {
    while (started_ < threads_) {
      set_lane(*self, order_[started_++]);
      (*body_)();
      finished_++;
    }
    free_.push_back(self);
    Fiber *next = next_runnable();
    enter_from(*self, next ? *next : *done_or_deadlock(), true);
  }

 private:
  static void fiber_main(Fiber *self) {
#ifdef GETP_ASAN
    asan_entered(*self);
#endif
    ((BlockRunner *)self->owner)->fiber_loop(self);
  }

  static constexpr size_t kMaxShared = 99 << 10, kSharedGuard = 64;
  static constexpr unsigned char kSharedPattern = 0xa5;
  struct Site {
    const void *id;
    const char *name;
    size_t offset, bytes;
  };
  struct Wave {
    int arrived;
    Combine combine;
    alignas(8) unsigned char values[8 * kMaxWave], results[8 * kMaxWave];
  };

  template <class T>
  T meet(T value, Combine combine) {
    static_assert(sizeof(T) <= 8, "a lane leaves at most 8 bytes");
    const int lane = running_->lane, first = lane / wave_ * wave_;
    const int lanes = std::min(wave_, threads_ - first);
    Wave &w = waves_[lane / wave_];
    if (w.arrived > 0 && w.combine != combine) {
      set_fault(format("lanes of the wave of thread %d meet in different wave operations", lane));
      abandon();
    }
    w.combine = combine;
    ((T *)w.values)[lane - first] = value;
    if (++w.arrived < lanes)
      wait();
    else {
      combine(w.values, w.results, lanes);
      w.arrived = 0;
      release(first, first + lanes);
    }
    return ((T *)w.results)[lane - first];
  }

  void shuffle(int *values, int count) {
    if (!random_) return;
    for (int i = count - 1; i > 0; i--) {
      random_ = mix(random_);
      std::swap(values[i], values[random_ % (uint64_t)(i + 1)]);
    }
  }

  void set_lane(Fiber &fiber, int lane) {
    fiber.lane = lane;
    fiber_of_[lane] = &fiber;
    place(lane);
  }

  void place(int lane) {
    const unsigned i = (unsigned)lane, plane = blockDim.x * blockDim.y;
    threadIdx = i < blockDim.x ? dim3(i, 0, 0) : dim3(i % blockDim.x, i % plane / blockDim.x, i / plane);
  }

  Fiber *start_fiber() {
    Fiber *fiber = free_.back();
    free_.pop_back();
    fiber->owner = this;
    make_fiber(*fiber, fiber - fibers_.data(), fiber_main);
    return fiber;
  }

  // Threads [first, last) but the running one may go on.
  void release(int first, int last) {
    const size_t before = ready_.size();
    for (int lane = last - 1; lane >= first; lane--)  // taken from the back: ascending order
      if (lane != running_->lane) ready_.push_back(lane);
    shuffle(ready_.data() + before, (int)(ready_.size() - before));
  }

  Fiber *next_runnable() {
    if (!ready_.empty()) {
      Fiber *fiber = fiber_of_[ready_.back()];
      ready_.pop_back();
      return fiber;
    }
    return started_ < threads_ ? start_fiber() : nullptr;
  }

  void wait() {
    Fiber *self = running_, *next = next_runnable();
    enter_from(*self, next ? *next : *done_or_deadlock());
  }

  Fiber *done_or_deadlock() {
    if (finished_ == threads_ || !fault_.empty()) return &main_;
    if (at_barrier_ > 0)
      fault_ = format("__syncthreads() was reached by %d of %d threads", at_barrier_, threads_);
    else
      for (int w = 0; w * wave_ < threads_; w++)
        if (waves_[w].arrived > 0)
          fault_ = format("a wave operation was reached by %d of %d lanes of wave %d", waves_[w].arrived,
                          std::min(wave_, threads_ - w * wave_), w);
    return &main_;
  }

  // Ends the block at once; its fibers are abandoned where they stand and set up anew for the next block. Nothing that
  // owns memory may live on the caller's stack.
  void abandon() { enter_from(*running_, main_); }

  void set_fault(const std::string &what) {
    if (fault_.empty()) fault_ = what;
  }

  void enter_from(Fiber &from, Fiber &to, bool for_good = false) {
    running_ = &to;
    if (to.lane >= 0) place(to.lane);
    switch_fiber(from, to, for_good);
  }

  const Body *body_ = nullptr;
  int wave_ = 64, threads_ = 0, started_ = 0, finished_ = 0, at_barrier_ = 0;
  const char *barrier_file_ = nullptr;
  int barrier_line_ = 0;
  uint64_t random_ = 0;
  std::string fault_;
  Fiber main_;
  Fiber *running_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<Fiber *> free_;
  Fiber *fiber_of_[kMaxBlock] = {};
  std::vector<int> order_, ready_;
  Wave waves_[kMaxBlock / 32];
  Deferred deferred_[kMaxBlock];
  std::vector<Site> sites_;
  size_t shared_used_ = 0, shared_left_ = 0;
  std::vector<unsigned char> shared_ = std::vector<unsigned char>(kMaxShared + 64 * kSharedGuard);
};

// The block that the calling CPU thread runs now; null outside kernels.
inline thread_local BlockRunner *current_block = nullptr;

}  // namespace getp_host
