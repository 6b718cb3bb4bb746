// Wave operations of the host back end.
#pragma once

#include "device.h"

// See ../gpu_common.h: the same order of the same operations, in one rendezvous.
template <int N, class T, class Op>
T group_reduce(T value, Op) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a group has 1, 2, 4, 8, 16 or 32 lanes");
  if constexpr (N == 1) return value;
  return getp_host::current_block->rendezvous(value, [](const void *values, void *results, int lanes) {
    const Op op{};
    for (int first = 0; first + N <= lanes; first += N) {
      T group[N];
      memcpy(group, (const T *)values + first, sizeof group);
      for (int distance = N / 2; distance > 0; distance /= 2)
        for (int i = 0; i < distance; i++) group[i] = op(group[i], group[i + distance]);
      for (int i = 0; i < N; i++) ((T *)results)[first + i] = group[0];
    }
  });
}

// See ../gpu_common.h. Lanes leave where their values are: fibers see each other's stacks.
template <int N>
float group_sums(float (&values)[N]) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a group has 1, 2, 4, 8, 16 or 32 lanes");
  getp_host::current_block->rendezvous((float *)values, [](const void *all_values, void *, int lanes) {
    for (int first = 0; first + N <= lanes; first += N) {
      float *const *of_lane = (float *const *)all_values + first;
      float sums[N][N];
      for (int lane = 0; lane < N; lane++) memcpy(sums[lane], of_lane[lane], sizeof sums[lane]);
      for (int distance = N / 2; distance > 0; distance /= 2)
        for (int lane = 0; lane < distance; lane++)
          for (int i = 0; i < N; i++) sums[lane][i] += sums[lane + distance][i];
      for (int lane = 0; lane < N; lane++) of_lane[lane][0] = sums[0][lane];
    }
  });
  return values[0];
}

// See ../stage_async.h.
inline void sync_wave() {
  getp_host::current_block->rendezvous(0, [](const void *, void *, int) {});
}
