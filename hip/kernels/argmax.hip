// argmax: tokens[r] = the index of the row's largest value, the lowest of equal ones; kNoToken where a value is NaN, or
// the largest is infinite                                                reference: sample_argmax() in run.cpp
//   tokens (rows) int . x (rows, n) f32, aligned to 16 bytes . partial (rows, kArgmaxParts) keys
//   part kernel: grid (parts, rows) . block: kArgmaxThreads, a thread four neighbouring values at a time
//   merge kernel: grid rows . block: 32
//   A value's key is its order as an integer, then its index, as in topk: the maximum of keys needs no tie-breaking.
//   NaN comes above infinity here, so that it reaches the end.
#pragma once

#include "topk.hip"

namespace getp_hip {

constexpr int kArgmaxThreads = block_threads(256), kArgmaxParts = 32;
constexpr int kNoToken = -1;

__device__ inline TopkKey argmax_key(float value, int index) { return topk_key<true>(value, index); }

__global__ void __launch_bounds__(kArgmaxThreads) argmax_part_kernel(TopkKey *partial, const float *x, int n) {
  GETP_AFTER_PREVIOUS();
  const float *row = x + (size_t)blockIdx.y * n;
  // Each part a stretch of whole groups of four values.
  const int stretch = ((n + 3) / 4 + (int)gridDim.x - 1) / (int)gridDim.x * 4, begin = (int)blockIdx.x * stretch;
  const int end = begin + stretch < n ? begin + stretch : n;
  TopkKey best = 0;
  if (n % 4 == 0 && begin < end)
    strided<kArgmaxThreads, 8>((end - begin) / 4, [&](int i, int) { return ((const float4 *)(row + begin))[i]; },
                               [&](int i, int, float4 v) {
                                 const int at = begin + 4 * i;
                                 best = Max{}(best, Max{}(argmax_key(v.x, at), argmax_key(v.y, at + 1)));
                                 best = Max{}(best, Max{}(argmax_key(v.z, at + 2), argmax_key(v.w, at + 3)));
                               });
  else
    for (int i = begin + (int)threadIdx.x; i < end; i += kArgmaxThreads) best = Max{}(best, argmax_key(row[i], i));
  best = block_reduce<kArgmaxThreads>(best, Max{});
  if (threadIdx.x == 0) partial[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = best;
}

__global__ void __launch_bounds__(32) argmax_merge_kernel(int *tokens, const TopkKey *partial, int parts) {
  GETP_AFTER_PREVIOUS();
  TopkKey best = 0;
  for (int i = threadIdx.x; i < parts; i += 32) best = Max{}(best, partial[(size_t)blockIdx.x * parts + i]);
  best = group_reduce<32>(best, Max{});
  if (threadIdx.x != 0) return;
  const bool finite = best > topk_key(-INFINITY, 0) && best < topk_key(INFINITY, 0x7fffffff);
  tokens[blockIdx.x] = finite ? (int)(0xffffffffu - (unsigned)best) : kNoToken;
}

// d_partial: room for kArgmaxParts keys a row.
inline void argmax(int *d_tokens, TopkKey *d_partial, const float *d_x, int rows, int n, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && n > 0 && (uintptr_t)d_x % 16 == 0);
  HIP_LAUNCH(argmax_part_kernel, dim3(kArgmaxParts, rows), dim3(kArgmaxThreads), stream, d_partial, d_x, n);
  HIP_LAUNCH(argmax_merge_kernel, dim3(rows), dim3(32), stream, d_tokens, d_partial, kArgmaxParts);
}

}  // namespace getp_hip
