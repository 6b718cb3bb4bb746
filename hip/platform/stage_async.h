// Copies by cp.async (sm_80 on): global to shared memory past the registers, several stages in flight. The interface of
// StageCopy is that of stage_registers.h.
#pragma once

#include "keywords.h"

// Copies 16 bytes, or writes zeros if not `inside`, then `from` is not read.
__device__ inline void copy_async(uint4 *shared, const void *from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
               "l"(from), "r"(inside ? 16 : 0));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
// Until at most Pending of the groups that this thread has committed are under way.
template <int Pending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// So that they fit into the 99 KB that a block has on cards other than the data centre's.
constexpr int kPipelineStages = 4, kSharedStages = kPipelineStages, kStageBlocks = 1;

template <int Count>
struct StageCopy {
  __device__ void begin(int, uint4 *shared, const void *from, bool inside) { copy_async(shared, from, inside); }
  __device__ void commit() { commit_copies(); }
  __device__ void end() {}
  __device__ static void finish() { wait_for_copies<0>(); }
  __device__ static void wait() { wait_for_copies<kPipelineStages - 2>(); }
};
