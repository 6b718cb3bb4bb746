// Reductions within a block, and the operations to reduce with. group_reduce (lanes) comes from the platform.
#pragma once

#include "../hip_utils.h"

namespace getp_hip {

struct Sum {
  template <class T>
  __host__ __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  template <class T>
  __host__ __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Over the Block threads of a one-dimensional block, which all call it; every thread gets the result.
// order: lanes of a group of 32 by group_reduce, then groups in ascending index: the same on every card
template <int Block, class T, class Op>
__device__ inline T block_reduce(T value, Op op) {
  static_assert(Block % 32 == 0, "a block is made of whole groups of 32 lanes");
  GETP_SHARED(T, partial, Block / 32);
  value = group_reduce<32>(value, op);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  T total = partial[0];
  for (int group = 1; group < Block / 32; group++) total = op(total, partial[group]);
  __syncthreads();  // `partial` may be written again by the next reduction
  return total;
}

// use(i, a, load(i, a)) for i = threadIdx.x, threadIdx.x + Block, ... below n, in ascending order. Ahead loads are
// under way before the first is used: a row that one block works on would else wait for each of them. a counts them:
// where n is at most Ahead * Block it tells a thread's elements apart, so that it can keep them in registers. What is
// loaded past n (i is then the thread's first) is not used.
template <int Block, int Ahead, class Load, class Use>
__device__ inline void strided(int n, Load load, Use use) {
  for (int first = threadIdx.x; first < n; first += Ahead * Block) {
    decltype(load(0, 0)) values[Ahead];
    GETP_UNROLL
    for (int a = 0; a < Ahead; a++) values[a] = load(first + a * Block < n ? first + a * Block : first, a);
    GETP_UNROLL
    for (int a = 0; a < Ahead; a++) {
      if (first + a * Block < n) use(first + a * Block, a, values[a]);
    }
  }
}

// Blocks of at most `threads` threads needed for `items` items at `per_block` each. AMD's grids hold less than 2^32
// threads.
inline unsigned block_count(size_t items, size_t per_block, size_t threads = 256) {
  const size_t blocks = (items + per_block - 1) / per_block;
  HIP_REQUIRE(blocks * threads <= UINT32_MAX);
  return (unsigned)blocks;
}

}  // namespace getp_hip
