// argmax: tokens[r] = the index of the row's largest value, the lowest of equal ones    reference: sample_argmax() in
// run.cpp
//   tokens (rows) int . x (rows, n) f32, aligned to 16 bytes
//   grid: a block a row . block: kArgmaxThreads, a thread four neighbouring values at a time
//   A value's key is its order as an integer, then its index, as in topk: the maximum of keys needs no tie-breaking.
#pragma once

#include "topk.hip"

namespace getp_hip {

constexpr int kArgmaxThreads = block_threads(1024);

__global__ void __launch_bounds__(kArgmaxThreads) argmax_kernel(int *tokens, const float *x, int n) {
  GETP_AFTER_PREVIOUS();
  const float *row = x + (size_t)blockIdx.x * n;
  TopkKey best = 0;
  if (n % 4 == 0)
    strided<kArgmaxThreads, 8>(
        n / 4, [&](int i, int) { return ((const float4 *)row)[i]; },
        [&](int i, int, float4 v) {
          best = Max{}(best, Max{}(topk_key(v.x, 4 * i), topk_key(v.y, 4 * i + 1)));
          best = Max{}(best, Max{}(topk_key(v.z, 4 * i + 2), topk_key(v.w, 4 * i + 3)));
        });
  else
    for (int i = threadIdx.x; i < n; i += kArgmaxThreads) best = Max{}(best, topk_key(row[i], i));
  best = block_reduce<kArgmaxThreads>(best, Max{});
  if (threadIdx.x == 0) tokens[blockIdx.x] = (int)(0xffffffffu - (unsigned)best);
}

inline void argmax(int *d_tokens, const float *d_x, int rows, int n, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && n > 0 && (uintptr_t)d_x % 16 == 0);
  HIP_LAUNCH(argmax_kernel, dim3(rows), dim3(kArgmaxThreads), stream, d_tokens, d_x, n);
}

}  // namespace getp_hip
