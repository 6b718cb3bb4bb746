// What the two GPU back ends share: shared memory and the group reduction over shuffles.
#pragma once

#include <cmath>
#include <cstddef>

#include "keywords.h"

constexpr int block_threads(int threads) { return threads; }

constexpr int kDefaultBatch = 2048;  // requests at a time, if memory allows

#define GETP_SHARED(type, name, count) __shared__ type name[count]

// a * b + c, rounded once. Said outright, because a compiler that may fuse does so in one kernel and not in another,
// and then a row's bits depend on which kernel it went through.
__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }

// The drivers of real devices keep no list of allocations; finish counts bytes itself (hip_utils.h).
inline size_t getp_report_leaks() { return 0; }

// Reduction over aligned groups of N lanes; N is a power of two of at most 32, so a group lies within one wave whether
// the card's waves have 32 or 64 lanes. Every lane of the wave must call it. Order: a butterfly, distance N/2 first;
// `op` must be commutative, then every lane holds the same bits.
template <int N, class T, class Op>
__device__ inline T group_reduce(T value, Op op) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a group has 1, 2, 4, 8, 16 or 32 lanes");
  for (int distance = N / 2; distance > 0; distance /= 2) value = op(value, __shfl_xor(value, distance, N));
  return value;
}

// Lane i of an aligned group of N one-dimensional threads gets values[i] summed over the group, in the order of
// group_reduce: at each distance a lane keeps one half of its sums and gives the other away. `values` are overwritten.
template <int N, int Distance = N / 2>
__device__ inline float group_sums(float (&values)[N]) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a group has 1, 2, 4, 8, 16 or 32 lanes");
  if constexpr (Distance > 0) {
    const bool upper = threadIdx.x & Distance;
    GETP_UNROLL
    for (int i = 0; i < Distance; i++) {
      const float low = values[i], high = values[i + Distance];
      values[i] = (upper ? high : low) + __shfl_xor(upper ? low : high, Distance, N);
    }
    return group_sums<N, Distance / 2>(values);
  }
  return values[0];
}

// Host: sets wave size, seed of the lane order and tile layout. The hardware decides here, so nothing is set.
inline bool getp_set_lanes(int, unsigned long long, bool) { return false; }
