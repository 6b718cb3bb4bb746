// StageCopy by cp.async (sm_80 on): global to shared memory past the registers, several stages in flight. The interface
// is that of stage_registers.h.
#pragma once

constexpr int kPipelineStages = 3, kSharedStages = kPipelineStages, kStageSteps = 2, kStageBlocks = 1;

template <int Count>
struct StageCopy {
  __device__ void begin(int, uint4 *shared, const void *from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(from), "r"(inside ? 16 : 0));
  }
  __device__ void commit() { asm volatile("cp.async.commit_group;"); }
  __device__ void end() {}
  __device__ static void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(kPipelineStages - 2) : "memory"); }
};
