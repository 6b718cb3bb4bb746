// rope: takes query, key and value out of qkv, rotates the pairs (i, i + head_dim/2) of every query and key head by the
// angle of the row's position, and puts key and value into the layer's cache
//                                              reference: apply_rotary_emb() and forward() in run.cpp
//   qkv (rows, (heads + 2 * kv_heads) * head_dim) f32 . q (rows, heads, head_dim) f32 . cache: kv_cache.hpp
//   cos, sin (seq_len, head_dim / 2) f32, made by the harness's compute_cos_sin
//   at: each position in [0, seq_len), no two rows with the same place
//   grid: (blocks over pairs of a row, rows) . block: 256, a thread a pair
#pragma once

#include "../kv_cache.hpp"
#include "reduce.hpp"

namespace getp_hip {

__global__ void rope_kernel(float *q, KvCache cache, const float *qkv, const float *cos_table, const float *sin_table,
                            const int *positions, const int *slots, int heads, int kv_heads, int head_dim) {
  const int half = head_dim / 2, pair = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const int head = pair / half, i = pair % half, all_heads = heads + 2 * kv_heads;
  // No kernel writes what leads to the angle.
  const size_t row = blockIdx.y, position = positions[row];
  const bool rotated = head < heads + kv_heads;
  const float c = rotated ? cos_table[position * half + i] : 1, s = rotated ? sin_table[position * half + i] : 0;
  GETP_AFTER_PREVIOUS();
  if (head >= all_heads) return;
  const float *from = qkv + (row * all_heads + head) * head_dim + i;
  const size_t cached = (cache.first_row(slots[row], (int)position) + cache.place((int)position)) * kv_heads;
  float *to = head < heads              ? q + (row * heads + head) * head_dim
              : head < heads + kv_heads ? cache.d_keys + (cached + head - heads) * head_dim
                                        : cache.d_values + (cached + head - heads - kv_heads) * head_dim;
  float a = from[0], b = from[half];
  if (rotated) {
    const float first = a;
    a = first * c - b * s;
    b = b * c + first * s;
  }
  to[i] = a;
  to[i + half] = b;
}

inline void rope(float *d_q, const KvCache &cache, const float *d_qkv, const float *d_cos, const float *d_sin,
                 const RowPlaces &at, int heads, int kv_heads, int head_dim, hipStream_t stream) {
  HIP_REQUIRE(at.rows > 0 && at.rows <= 65535 && heads > 0 && kv_heads > 0 && head_dim > 0 && head_dim % 2 == 0);
  HIP_REQUIRE(cache.length > 0 && cache.form == CacheForm::kFp32);
  HIP_REQUIRE(!cache.d_table || at.longest < cache.pages_of_slot * kPagePositions);
  const size_t pairs = (size_t)(heads + 2 * kv_heads) * (head_dim / 2);
  HIP_LAUNCH(rope_kernel, dim3(block_count(pairs, 256), at.rows), dim3(256), stream, d_q, cache, d_qkv, d_cos, d_sin,
             at.d_positions, at.d_slots, heads, kv_heads, head_dim);
}

}  // namespace getp_hip
