// StageCopy where a copy to shared memory goes through registers: begun before a stage is multiplied, ended after it,
// so that the loads are in flight meanwhile. One stage is multiplied while the next waits in registers: with two in
// shared memory gfx9's CUs (64 KB, registers for two) would have room for one block of 128 rows, and nothing would run
// while it waits at a barrier.
#pragma once

#include "keywords.h"

constexpr int kPipelineStages = 2, kSharedStages = 1, kStageBlocks = 2;

template <int Count>
struct StageCopy {
  uint4 held[Count];
  uint4 *to[Count];

  // Unit i of the thread's; zeros if not `inside`, then `from` is not read.
  __device__ void begin(int i, uint4 *shared, const void *from, bool inside) {
    held[i] = inside ? *(const uint4 *)from : uint4{0, 0, 0, 0};
    to[i] = shared;
  }
  __device__ void commit() {}  // all of a stage have begun
  __device__ void end() {
    __syncthreads();  // all threads have read the stage before
    GETP_UNROLL
    for (int i = 0; i < Count; i++) *to[i] = held[i];
  }
  __device__ static void finish() {}  // nothing that has begun is still to be written
  // Before the barrier after which the oldest stage is read.
  __device__ static void wait() {}
};

// Copies to shared memory and their barrier, see stage_async.h: here they are made when they are asked for. Kernels of AMD's
// cards do without.
__device__ inline void copy_async(uint4 *shared, const void *from, bool inside) {
  *shared = inside ? *(const uint4 *)from : uint4{0, 0, 0, 0};
}
__device__ inline void commit_copies() {}
template <int>
__device__ inline void wait_for_copies() {}

class CopyBarrier {
 public:
  __device__ void begin() {}
  __device__ static void begun() { __syncthreads(); }
  __device__ void expect(int) {}
  __device__ void copy(uint4 *to, const uint4 *from, int units) {
    for (int u = 0; u < units; u++) to[u] = from[u];
  }
  __device__ void wait(int) { __syncthreads(); }
};
