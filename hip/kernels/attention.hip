// attention: out[r,h] = sum_t w[t] * value[t, h / group], w = softmax over (sink[h], q[r,h] . key[t, h / group] /
// sqrt(head_dim)) without the sink's own weight, t from the window's first position to the row's own
//                                                                              reference: forward() in run.cpp
//   out, q (rows, heads, head_dim) f32 . caches: one layer's (slots, length, kv_heads, head_dim) f32; position t of a
//   slot lies at t % length . sinks (heads) f32 . positions, slots (rows) int . window: positions seen, 0 for all
//   partial (rows, heads, chunks, 2 + head_dim) f32: of each chunk of positions the largest score, the sum of weights,
//   and the weighted sum of values; merged in order of the chunks, from the sink on
//   grid: (kv_heads * blocks of 8 heads, rows, chunks), then (heads, rows) . block: 256
//   order: chunks of kAttentionChunk positions from the first one seen, tiles of 32 in them, ascending: depends on the
//   row's position alone, not on the other rows, the slot or the length of the cache
//   precondition: head_dim <= 256, length covers what the window and the rows of a step need
#pragma once

#include "reduce.hpp"

namespace getp_hip {

constexpr int kAttentionChunk = 512, kAttentionTile = 32, kAttentionHeads = 8;

// Chunks that a row at position `longest` has at most.
inline int attention_chunks(int longest, int window) {
  const int seen = window > 0 && window < longest + 1 ? window : longest + 1;
  return (seen + kAttentionChunk - 1) / kAttentionChunk;
}

// A tile of keys or values, `pitch` floats a position. Positions past the chunk's end are zero, so that what was never
// written is not read. `cache`: the kv head's part of the slot's position 0.
// (A function of its own arguments: shared memory named in a function that is not inlined would count for all kernels.)
__device__ inline void load_attention_tile(float *tile, int pitch, const float *cache, int first, int end, int length,
                                           int kv_heads, int head_dim) {
  for (int i = threadIdx.x; i < kAttentionTile * head_dim; i += 256) {
    const int t = i / head_dim, d = i % head_dim;
    tile[t * pitch + d] = first + t < end ? cache[(size_t)((first + t) % length) * kv_heads * head_dim + d] : 0.0f;
  }
}

template <int Dim>
__global__ void __launch_bounds__(256)
    attention_chunk_kernel(float *partial, const float *q, const float *key_cache, const float *value_cache,
                           const int *positions, const int *slots, int heads, int kv_heads, int head_dim, int length,
                           int window) {
  constexpr int kPitch = Dim + 1, kOutputs = kAttentionHeads * Dim / 256;
  GETP_SHARED(float, tile, kAttentionTile *kPitch);
  GETP_SHARED(float, queries, kAttentionHeads *Dim);
  GETP_SHARED(float, weights, kAttentionHeads *kAttentionTile);
  GETP_SHARED(float, scales, kAttentionHeads);
  const int group = heads / kv_heads, blocks = (group + kAttentionHeads - 1) / kAttentionHeads;
  const int kv_head = blockIdx.x / blocks, first_head = (int)(blockIdx.x % blocks) * kAttentionHeads;
  const int own_heads = group - first_head < kAttentionHeads ? group - first_head : kAttentionHeads;
  const size_t row = blockIdx.y, row_head = row * heads + (size_t)kv_head * group + first_head;
  const int position = positions[row], first = window > 0 && position >= window ? position - window + 1 : 0;
  const int begin = first + (int)blockIdx.z * kAttentionChunk;
  if (begin > position) return;
  const int end = begin + kAttentionChunk < position + 1 ? begin + kAttentionChunk : position + 1;
  const size_t kv = ((size_t)slots[row] * length * kv_heads + kv_head) * head_dim;

  for (int i = threadIdx.x; i < own_heads * head_dim; i += 256) queries[i] = q[row_head * head_dim + i];
  const int head = threadIdx.x / kAttentionTile, t = threadIdx.x % kAttentionTile;  // of the score this thread makes
  const float *query = queries + (head < own_heads ? head : 0) * head_dim;
  float largest = -INFINITY, total = 0, sums[kOutputs] = {};
  for (int t0 = begin; t0 < end; t0 += kAttentionTile) {
    load_attention_tile(tile, kPitch, key_cache + kv, t0, end, length, kv_heads, head_dim);
    __syncthreads();
    float score = 0;
    for (int d = 0; d < head_dim; d++) score = multiply_add(query[d], tile[t * kPitch + d], score);
    score = t0 + t < end ? score / sqrtf((float)head_dim) : -INFINITY;
    const float now = Max{}(largest, group_reduce<32>(score, Max{}));
    const float weight = expf(score - now), scale = expf(largest - now);
    total = total * scale + group_reduce<32>(weight, Sum{});
    largest = now;
    weights[head * kAttentionTile + t] = weight;
    if (t == 0) scales[head] = scale;
    __syncthreads();
    load_attention_tile(tile, kPitch, value_cache + kv, t0, end, length, kv_heads, head_dim);
    __syncthreads();
    for (int i = 0; i < kOutputs; i++) {
      const int output = (int)threadIdx.x + i * 256, h = output / Dim, d = output % Dim;
      if (h >= own_heads || d >= head_dim) continue;
      float sum = 0;
      for (int k = 0; k < kAttentionTile; k++)
        sum = multiply_add(weights[h * kAttentionTile + k], tile[k * kPitch + d], sum);
      sums[i] = sums[i] * scales[h] + sum;
    }
    __syncthreads();
  }

  const size_t chunks = gridDim.z, width = head_dim + 2;
  if (t == 0 && head < own_heads) {
    float *to = partial + ((row_head + head) * chunks + blockIdx.z) * width;
    to[0] = largest;
    to[1] = total;
  }
  for (int i = 0; i < kOutputs; i++) {
    const int output = (int)threadIdx.x + i * 256, h = output / Dim, d = output % Dim;
    if (h < own_heads && d < head_dim) partial[((row_head + h) * chunks + blockIdx.z) * width + 2 + d] = sums[i];
  }
}

__global__ void __launch_bounds__(256)
    attention_merge_kernel(float *out, const float *partial, const float *sinks, const int *positions, int head_dim,
                           int chunks, int window) {
  const size_t row_head = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
  const int d = threadIdx.x, position = positions[blockIdx.y];
  if (d >= head_dim) return;
  const int seen = window > 0 && position >= window ? window : position + 1;
  float largest = sinks[blockIdx.x], total = 1, sum = 0;
  for (int c = 0; c * kAttentionChunk < seen; c++) {
    const float *from = partial + (row_head * chunks + c) * (head_dim + 2);
    const float now = Max{}(largest, from[0]), before = expf(largest - now), added = expf(from[0] - now);
    total = total * before + from[1] * added;
    sum = sum * before + from[2 + d] * added;
    largest = now;
  }
  out[row_head * head_dim + d] = sum / total;
}

// `longest`: the largest position of all rows. d_partial: room for attention_chunks(longest, window) chunks.
inline void attention(float *d_out, float *d_partial, const float *d_q, const float *d_key_cache,
                      const float *d_value_cache, const float *d_sinks, const int *d_positions, const int *d_slots,
                      int longest, int rows, int heads, int kv_heads, int head_dim, int length, int window,
                      hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && kv_heads > 0 && heads % kv_heads == 0 && longest >= 0);
  HIP_REQUIRE(head_dim > 0 && head_dim <= 256 && length > 0 && (window > 0 ? window <= length : longest < length));
  const int chunks = attention_chunks(longest, window);
  const int blocks = (heads / kv_heads + kAttentionHeads - 1) / kAttentionHeads;
  const auto launch = [&](auto dim) {
    HIP_LAUNCH((attention_chunk_kernel<dim.value>), dim3(kv_heads * blocks, rows, chunks), dim3(256), stream, d_partial,
               d_q, d_key_cache, d_value_cache, d_positions, d_slots, heads, kv_heads, head_dim, length, window);
  };
  if (head_dim <= 64)
    launch(std::integral_constant<int, 64>{});
  else if (head_dim <= 128)
    launch(std::integral_constant<int, 128>{});
  else
    launch(std::integral_constant<int, 256>{});
  HIP_LAUNCH(attention_merge_kernel, dim3(heads, rows), dim3(256), stream, d_out, d_partial, d_sinks, d_positions,
             head_dim, chunks, window);
}

}  // namespace getp_hip
