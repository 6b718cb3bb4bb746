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

// Until all lanes of the wave are here; what they wrote to shared memory can be read.
__device__ inline void sync_wave() { __syncwarp(); }

// A place in shared memory that tells when all copies of a stage have come. By sm_90's bulk copies; other cards have the
// interface alone, since no plan of theirs uses it.
class CopyBarrier {
 public:
  // By one thread; begun(): by all, after it.
  __device__ void begin() { asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(&state_)) : "memory"); }
  __device__ static void begun() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
    __syncthreads();
  }
  // By one thread for each stage: so many units of 16 bytes will be copied.
  __device__ void expect(int units) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(&state_)), "r"(units * 16)
                 : "memory");
#endif
  }
  __device__ void copy(uint4 *to, const uint4 *from, int units) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address(to)),
        "l"(from), "r"(units * 16), "r"(address(&state_))
        : "memory");
#endif
  }
  // Until all copies have come; parity: of the stages that have used it before.
  __device__ void wait(int parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{.reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;}" ::"r"(address(&state_)),
        "r"(parity)
        : "memory");
#endif
  }

 private:
  __device__ static unsigned address(const void *shared) { return (unsigned)__cvta_generic_to_shared(shared); }
  unsigned long long state_;
};

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
