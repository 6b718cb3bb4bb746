// attention: out[r,h] = sum_t w[t] * value[t, h / group]
//   w = softmax over (sink[h], q[r,h] . key[t, h / group] / sqrt(head_dim)) without the sink's own weight
//   t from the window's first position to the row's own                       reference: forward() in run.cpp
//   out, q (rows, heads, head_dim) f32 . cache: kv_cache.hpp . sinks (heads) f32
//   partial (rows, heads, spans, 2 + head_dim) f32: of each span of a row that sees more than one the largest score,
//   the sum of weights, and the weighted sum of values; merged in order of the spans, from the sink on
//   span kernel: grid (kv_heads * blocks of 8 or 4 heads, rows, spans) . block 128 . shared 8.2 KB
//     groups of 16 or 32 lanes read a key or a value together, 16 bytes a lane, and use it for all heads of the block
//   merge kernel: grid (blocks over heads * head_dim, rows) . block 256
//   order: spans of kAttentionSpan positions from the first one seen. In a span a score is dot products of 4 or 8
//   dimensions, then group_sums; a value joins its group's sum in ascending position, then the groups are added up in
//   ascending order: depends on the row's position alone, not on the other rows, the slot or the length of the cache
//   precondition: head_dim <= 256, the cache's length covers what the window and the rows of a step need, q and the
//   caches begin on 16 bytes (a head_dim that is no multiple of 4 is read float by float)
#pragma once

#include <type_traits>

#include "../kv_cache.hpp"
#include "reduce.hpp"

namespace getp_hip {

constexpr int kAttentionSpan = kPagePositions, kAttentionThreads = 128;

// Positions that a row sees, its own included.
__host__ __device__ inline int attention_seen(int position, int window) {
  return window > 0 && window <= position ? window : position + 1;
}

// Spans that a row at position `longest` has at most.
inline int attention_spans(int longest, int window) {
  return (attention_seen(longest, window) + kAttentionSpan - 1) / kAttentionSpan;
}

// How a block of the span kernel divides its work for head_dim <= Dim.
template <int Dim>
struct AttentionShape {
  static constexpr int kLanes = Dim / 4 < 32 ? Dim / 4 : 32, kGroups = kAttentionThreads / kLanes;
  static constexpr int kWidth = Dim / kLanes;  // dimensions of a lane
  static constexpr int kHeads = 32 / kWidth;   // 32 registers for a lane's part of the queries, later of the sums
  // Keys: as many at once as give every lane of the group one score, and so many loads ahead that 32 registers wait.
  static constexpr int kKeys = kLanes / kHeads, kKeyStep = kGroups * kKeys;
  static constexpr int kKeysAhead = kKeys * kWidth < 32 ? 32 / (kKeys * kWidth) : 1;
  // Values: four at once, whose weights are one 16-byte load.
  static constexpr int kValues = 4, kValueStep = kGroups * kValues, kValuesAhead = 2;
  // Scores and weights of a head; the heads lie so that a wave's stores meet no bank twice.
  static constexpr int kPitch = kAttentionSpan + 32 / kHeads;
  // The groups' sums are added up for half the heads at a time, in the room of the weights.
  static constexpr int kSumHeads = kHeads / 2, kSums = kSumHeads * kGroups * Dim;
  static constexpr int kWeights = kHeads * kPitch, kShared = kWeights > kSums ? kWeights : kSums;
};

// A lane's part of a row: of every 4 * kLanes dimensions four. Past head_dim it repeats other dimensions.
template <int Dim, bool Vector>
__device__ inline void load_attention_row(float (&part)[AttentionShape<Dim>::kWidth], const float *row, int head_dim) {
  constexpr int kLanes = AttentionShape<Dim>::kLanes;
  GETP_UNROLL
  for (int i = 0; i < AttentionShape<Dim>::kWidth; i += 4) {
    const int d = i * kLanes + (int)(threadIdx.x % kLanes) * 4;
    if constexpr (Vector) {
      const float4 four = *(const float4 *)(row + (d < head_dim ? d : head_dim - 4));
      part[i] = four.x;
      part[i + 1] = four.y;
      part[i + 2] = four.z;
      part[i + 3] = four.w;
    } else {
      for (int j = 0; j < 4; j++) part[i + j] = row[d + j < head_dim ? d + j : head_dim - 1];
    }
  }
}

// Weights relative to that of the largest score: their total, and the sum of one dimension of the values under them.
struct AttentionSum {
  float largest, total, sum;

  __device__ void add(float other_largest, float other_total, float other_sum) {
    const float now = Max{}(largest, other_largest), before = expf(largest - now), added = expf(other_largest - now);
    total = multiply_add(total, before, other_total * added);
    sum = multiply_add(sum, before, other_sum * added);
    largest = now;
  }
};

template <int Dim, bool Vector>
__global__ void __launch_bounds__(kAttentionThreads, Dim <= 64 ? 4 : 2)
    attention_span_kernel(float *out, float *partial, const float *q, KvCache cache, const float *sinks,
                          const int *positions, const int *slots, int heads, int kv_heads, int head_dim) {
  GETP_AFTER_PREVIOUS();
  using Shape = AttentionShape<Dim>;
  constexpr int kLanes = Shape::kLanes, kWidth = Shape::kWidth, kHeads = Shape::kHeads, kPitch = Shape::kPitch;
  constexpr int kKeys = Shape::kKeys, kKeyStep = Shape::kKeyStep, kKeysAhead = Shape::kKeysAhead;
  constexpr int kValues = Shape::kValues, kValueStep = Shape::kValueStep, kValuesAhead = Shape::kValuesAhead;
  GETP_SHARED(float4, shared, Shape::kShared / 4);
  GETP_SHARED(float, largest, kHeads);
  GETP_SHARED(float, total, kHeads);
  float *weights = (float *)shared;  // (heads, kPitch), at first scores

  const int heads_per_kv = heads / kv_heads, blocks = (heads_per_kv + kHeads - 1) / kHeads;
  const int kv_head = (int)blockIdx.x / blocks, head_in_kv = (int)blockIdx.x % blocks * kHeads;
  const int own_heads = heads_per_kv - head_in_kv < kHeads ? heads_per_kv - head_in_kv : kHeads;
  const int first_head = kv_head * heads_per_kv + head_in_kv;
  const size_t row = blockIdx.y, row_head = row * heads + first_head;
  const int position = positions[row], seen = attention_seen(position, cache.window), length = cache.length;
  const int before = (int)blockIdx.z * kAttentionSpan;  // positions seen by earlier spans
  if (before >= seen) return;
  const int count = seen - before < kAttentionSpan ? seen - before : kAttentionSpan;
  const int first_position = position + 1 - seen + before, begin = cache.place(first_position);
  const size_t pitch = (size_t)kv_heads * head_dim,
               slot = cache.first_row(slots[row], first_position) * pitch + kv_head * head_dim;
  const int lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;

  // Where position i of the span lies in the slot. Past the last one it repeats it: loads need no condition, and what
  // was never written is not read.
  const auto place = [&](int i) {
    const int at = begin + (i < count ? i : count - 1);
    return slot + (size_t)(at < length ? at : at - length) * pitch;
  };

  float queries[kHeads][kWidth], keys[kKeysAhead][kKeys][kWidth];
  GETP_UNROLL
  for (int h = 0; h < kHeads; h++) {
    load_attention_row<Dim, Vector>(queries[h], q + (row_head + (h < own_heads ? h : 0)) * head_dim, head_dim);
    GETP_UNROLL
    for (int i = 0; i < kWidth; i++)
      if (i / 4 * 4 * kLanes + lane * 4 + i % 4 >= head_dim) queries[h][i] = 0;
  }
  const auto load_keys = [&](float(&to)[kKeys][kWidth], int first) {
    GETP_UNROLL
    for (int k = 0; k < kKeys; k++)
      load_attention_row<Dim, Vector>(to[k], cache.d_keys + place(first + group * kKeys + k), head_dim);
  };
  GETP_UNROLL
  for (int ahead = 0; ahead < kKeysAhead; ahead++) load_keys(keys[ahead], ahead * kKeyStep);
  const float scale = 1.0f / sqrtf((float)head_dim);
  for (int first = 0; first < count; first += kKeysAhead * kKeyStep) {
    GETP_UNROLL
    for (int ahead = 0; ahead < kKeysAhead; ahead++) {
      const int step = first + ahead * kKeyStep;
      if (step >= count) break;
      float sums[kLanes];  // (keys, heads), as lanes have them after the sums
      GETP_UNROLL
      for (int j = 0; j < kLanes; j++) {
        sums[j] = 0;
        GETP_UNROLL
        for (int i = 0; i < kWidth; i++)
          sums[j] = multiply_add(queries[j % kHeads][i], keys[ahead][j / kHeads][i], sums[j]);
      }
      weights[threadIdx.x % kHeads * kPitch + step + threadIdx.x / kHeads] = group_sums<kLanes>(sums) * scale;
      if (step + kKeysAhead * kKeyStep < count) load_keys(keys[ahead], step + kKeysAhead * kKeyStep);
    }
  }

  float values[kValuesAhead][kValues][kWidth];
  const auto load_values = [&](float(&to)[kValues][kWidth], int first) {
    GETP_UNROLL
    for (int k = 0; k < kValues; k++)
      load_attention_row<Dim, Vector>(to[k], cache.d_values + place(first + group * kValues + k), head_dim);
  };
  GETP_UNROLL
  for (int ahead = 0; ahead < kValuesAhead; ahead++) load_values(values[ahead], ahead * kValueStep);
  __syncthreads();

  // Scores become weights, a head to 32 lanes; those of repeated positions are 0. (Whole waves, of 64 lanes too, have a
  // head or have none: kHeads is even.)
  const int padded = (count + kValueStep - 1) / kValueStep * kValueStep;
  for (int h = threadIdx.x / 32; h < kHeads; h += kAttentionThreads / 32) {
    float *own = weights + h * kPitch;
    float most = -INFINITY, sum = 0;
    GETP_UNROLL_4
    for (int k = threadIdx.x % 32; k < count; k += 32) most = Max{}(most, own[k]);
    most = group_reduce<32>(most, Max{});
    GETP_UNROLL_4
    for (int k = threadIdx.x % 32; k < padded; k += 32) {
      const float weight = k < count ? expf(own[k] - most) : 0.0f;
      own[k] = weight;
      sum += weight;
    }
    sum = group_reduce<32>(sum, Sum{});
    if (threadIdx.x % 32 == 0) {
      largest[h] = most;
      total[h] = sum;
    }
  }
  __syncthreads();

  float sums[kHeads][kWidth] = {};
  for (int first = 0; first < count; first += kValuesAhead * kValueStep) {
    GETP_UNROLL
    for (int ahead = 0; ahead < kValuesAhead; ahead++) {
      const int step = first + ahead * kValueStep;
      if (step >= count) break;
      GETP_UNROLL
      for (int h = 0; h < kHeads; h++) {
        const float4 w = shared[h * (kPitch / 4) + step / 4 + group];
        GETP_UNROLL
        for (int i = 0; i < kWidth; i++) {
          sums[h][i] = multiply_add(w.x, values[ahead][0][i], sums[h][i]);
          sums[h][i] = multiply_add(w.y, values[ahead][1][i], sums[h][i]);
          sums[h][i] = multiply_add(w.z, values[ahead][2][i], sums[h][i]);
          sums[h][i] = multiply_add(w.w, values[ahead][3][i], sums[h][i]);
        }
      }
      if (step + kValuesAhead * kValueStep < count) load_values(values[ahead], step + kValuesAhead * kValueStep);
    }
  }

  constexpr int kSumHeads = Shape::kSumHeads;
  GETP_UNROLL
  for (int from = 0; from < kHeads; from += kSumHeads) {
    __syncthreads();
    GETP_UNROLL
    for (int h = 0; h < kSumHeads; h++) {
      const float *sum = sums[from + h];
      GETP_UNROLL
      for (int i = 0; i < kWidth; i += 4)
        shared[(group * kSumHeads + h) * (Dim / 4) + i / 4 * kLanes + lane] = {sum[i], sum[i + 1], sum[i + 2],
                                                                               sum[i + 3]};
    }
    __syncthreads();
    for (int o = threadIdx.x; o < kSumHeads * Dim; o += kAttentionThreads) {
      const int h = from + o / Dim, d = o % Dim;
      if (h >= own_heads || d >= head_dim) continue;
      float sum = 0;
      GETP_UNROLL
      for (int g = 0; g < Shape::kGroups; g++) sum += ((const float *)shared)[g * kSumHeads * Dim + o];
      if (seen <= kAttentionSpan) {
        AttentionSum all = {sinks[first_head + h], 1, 0};
        all.add(largest[h], total[h], sum);
        out[(row_head + h) * head_dim + d] = all.sum / all.total;
      } else {
        float *to = partial + ((row_head + h) * gridDim.z + blockIdx.z) * (head_dim + 2);
        if (d == 0) {
          to[0] = largest[h];
          to[1] = total[h];
        }
        to[2 + d] = sum;
      }
    }
  }
}

// Rows that see one span are left as they are.
__global__ void __launch_bounds__(256)
    attention_merge_kernel(float *out, const float *partial, const float *sinks, const int *positions, int heads,
                           int head_dim, int spans, int window) {
  GETP_AFTER_PREVIOUS();
  const int i = (int)(blockIdx.x * 256 + threadIdx.x), h = i / head_dim;
  const int seen = attention_seen(positions[blockIdx.y], window);
  if (seen <= kAttentionSpan || h >= heads) return;
  const size_t row_head = (size_t)blockIdx.y * heads + h;
  AttentionSum all = {sinks[h], 1, 0};
  for (int c = 0; c * kAttentionSpan < seen; c++) {
    const float *from = partial + (row_head * spans + c) * (head_dim + 2);
    all.add(from[0], from[1], from[2 + i % head_dim]);
  }
  out[(size_t)blockIdx.y * heads * head_dim + i] = all.sum / all.total;
}

// d_partial: room for attention_spans(at.longest, cache.window) spans.
inline void attention(float *d_out, float *d_partial, const float *d_q, const KvCache &cache, const float *d_sinks,
                      const RowPlaces &at, int heads, int kv_heads, int head_dim, hipStream_t stream) {
  HIP_REQUIRE(at.rows > 0 && at.rows <= 65535 && kv_heads > 0 && heads % kv_heads == 0 && at.longest >= 0);
  HIP_REQUIRE(head_dim > 0 && head_dim <= 256 && cache.length > 0 && cache.form == CacheForm::kFp32);
  HIP_REQUIRE(cache.d_table      ? cache.window == 0 && at.longest < cache.pages_of_slot * kPagePositions
              : cache.window > 0 ? cache.window <= cache.length
                                 : at.longest < cache.length);
  HIP_REQUIRE((uintptr_t)d_q % 16 == 0 && (uintptr_t)cache.d_keys % 16 == 0 && (uintptr_t)cache.d_values % 16 == 0);
  const int spans = attention_spans(at.longest, cache.window);
  HIP_REQUIRE(spans <= 65535);
  const auto launch = [&](auto dim, auto vector) {
    constexpr int kHeads = AttentionShape<dim.value>::kHeads;
    const int blocks = (heads / kv_heads + kHeads - 1) / kHeads;
    HIP_LAUNCH((attention_span_kernel<dim.value, vector.value>), dim3(kv_heads * blocks, at.rows, spans),
               dim3(kAttentionThreads), stream, d_out, d_partial, d_q, cache, d_sinks, at.d_positions, at.d_slots,
               heads, kv_heads, head_dim);
  };
  if (head_dim % 4 != 0)
    launch(std::integral_constant<int, 256>{}, std::false_type{});
  else if (head_dim <= 64)
    launch(std::integral_constant<int, 64>{}, std::true_type{});
  else if (head_dim <= 128)
    launch(std::integral_constant<int, 128>{}, std::true_type{});
  else
    launch(std::integral_constant<int, 256>{}, std::true_type{});
  if (spans > 1)
    HIP_LAUNCH(attention_merge_kernel, dim3(block_count((size_t)heads * head_dim, 256), at.rows), dim3(256), stream,
               d_out, d_partial, d_sinks, at.d_positions, heads, head_dim, spans, cache.window);
}

}  // namespace getp_hip
