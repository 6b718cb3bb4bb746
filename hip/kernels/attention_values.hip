// attention_values: out[r,h,i] = sum over t = 0..pos of att[r,h,t] * value[t, h / group, i]; the sink's weight is
// dropped                                                                      reference: forward() in run.cpp
//   out (rows, heads, head_dim) f32 . att (rows, heads, stride) f32, after softmax
//   value_cache (seq_len, kv_heads, head_dim) f32 of one layer . positions (rows) int
//   window: positions seen, 0 for all; earlier weights are 0 and are not read
//   grid: (heads, rows), a block a head of a row . block: 256 = slices of head_dim threads, slice s takes every
//   (256 / head_dim)-th position . precondition: head_dim <= 256
//   order: positions ascending within a slice, then slices ascending: depends on pos, window and head_dim alone
#pragma once

#include "reduce.hpp"

namespace getp_hip {

template <int Block>
__global__ void __launch_bounds__(Block)
    attention_values_kernel(float *out, const float *att, const float *value_cache, const int *positions, int kv_heads,
                            int head_dim, size_t stride, int window) {
  GETP_SHARED(float, partial, Block);
  const int head = blockIdx.x, heads = gridDim.x, position = positions[blockIdx.y];
  const int slices = Block / head_dim, slice = threadIdx.x / head_dim, i = threadIdx.x % head_dim;
  const size_t row_head = (size_t)blockIdx.y * heads + head, kv_head = head / (heads / kv_heads);
  const float *weights = att + row_head * stride;
  const int first = window > 0 && position >= window ? position - window + 1 : 0;
  float sum = 0;
  if (slice < slices)
    for (int t = first + slice; t <= position; t += slices)
      sum += weights[t] * value_cache[((size_t)t * kv_heads + kv_head) * head_dim + i];
  partial[threadIdx.x] = sum;
  __syncthreads();
  if (slice > 0) return;
  for (int s = 1; s < slices; s++) sum += partial[s * head_dim + i];
  out[row_head * head_dim + i] = sum;
}

inline void attention_values(float *d_out, const float *d_att, const float *d_value_cache, const int *d_positions,
                             int rows, int heads, int kv_heads, int head_dim, size_t stride, int window,
                             hipStream_t stream) {
  constexpr int kBlock = 256;
  HIP_REQUIRE(rows > 0 && rows <= 65535 && kv_heads > 0 && heads % kv_heads == 0);
  HIP_REQUIRE(head_dim > 0 && head_dim <= kBlock);
  HIP_LAUNCH((attention_values_kernel<kBlock>), dim3(heads, rows), dim3(kBlock), stream, d_out, d_att, d_value_cache,
             d_positions, kv_heads, head_dim, stride, window);
}

}  // namespace getp_hip
