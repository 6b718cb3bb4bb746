// attention_scores: att[r,h,t] = q[r,h] . key[t, h / group] / sqrt(head_dim) for t = 0..pos, then the head's sink at
// t = pos + 1; with a window, -inf where pos - t >= window                     reference: forward() in run.cpp
//   att (rows, heads, stride) f32, stride > seq_len . q (rows, heads, head_dim) f32
//   key_cache (seq_len, kv_heads, head_dim) f32 of one layer . sinks (heads) f32 . positions (rows) int
//   window: positions seen, 0 for all . longest: the largest position of all rows
//   grid: (blocks over longest + 2, heads, rows) . block: 256, a group of 1, 8 or 32 lanes a score
//   order: dot(): depends on head_dim alone
#pragma once

#include "dot.hpp"

namespace getp_hip {

template <int Lanes, bool Vector>
__global__ void __launch_bounds__(256)
    attention_scores_kernel(float *att, const float *q, const float *key_cache, const float *sinks,
                            const int *positions, int kv_heads, int head_dim, size_t stride, int window) {
  const int head = blockIdx.y, heads = gridDim.y, position = positions[blockIdx.z];
  const int t = (int)(blockIdx.x * (256 / Lanes) + threadIdx.x / Lanes), lane = threadIdx.x % Lanes;
  const size_t row_head = (size_t)blockIdx.z * heads + head;
  const int key = t <= position ? t : position;  // groups past the end repeat the last key: whole waves meet
  const size_t kv_row = (size_t)key * kv_heads + head / (heads / kv_heads);
  float score = dot<Lanes, Vector>(key_cache + kv_row * head_dim, q + row_head * head_dim, head_dim, lane);
  score /= sqrtf((float)head_dim);
  if (lane != 0 || t > position + 1) return;
  if (window > 0 && position - t >= window) score = -INFINITY;
  att[row_head * stride + t] = t <= position ? score : sinks[head];
}

inline void attention_scores(float *d_att, const float *d_q, const float *d_key_cache, const float *d_sinks,
                             const int *d_positions, int longest, int rows, int heads, int kv_heads, int head_dim,
                             size_t stride, int window, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && heads <= 65535 && kv_heads > 0 && heads % kv_heads == 0);
  HIP_REQUIRE(longest >= 0 && (size_t)longest + 2 <= stride);
  with_dot_shape(head_dim, rows_are_aligned(d_key_cache, d_q, head_dim), [&](auto lanes, auto vector) {
    HIP_LAUNCH((attention_scores_kernel<lanes.value, vector.value>),
               dim3(block_count((size_t)longest + 2, 256 / lanes.value), heads, rows), dim3(256), stream, d_att, d_q,
               d_key_cache, d_sinks, d_positions, kv_heads, head_dim, stride, window);
  });
}

}  // namespace getp_hip
