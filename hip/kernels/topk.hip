// topk: the k largest scores of each row, in descending order, equal scores in ascending index, and their softmax over
// the k                                                          reference: topk() and softmax() in run.cpp
//   weights (rows, k) f32 . indices (rows, k) int . scores (rows, n) f32
//   grid: a block a row . block: 32, lane l looks at every 32nd score
//   precondition: k <= kMaxChosen
//   Every score has a key of its own: its order as an integer, then its index. A round takes the largest key below the
//   last one, so no list of what was taken is needed. NaN counts as less than -inf: the indices are always valid.
#pragma once

#include "reduce.hpp"

namespace getp_hip {

constexpr int kMaxChosen = 64;

using TopkKey = unsigned long long;

// NaN comes below all other scores, or above them.
template <bool NanFirst = false>
__device__ inline TopkKey topk_key(float score, int index) {
  score += 0.0f;  // -0 becomes +0, its equal
  unsigned order;
  memcpy(&order, &score, sizeof order);
  order = score != score ? (NanFirst ? ~0u : 0u) : order ^ ((0u - (order >> 31)) | 0x80000000u);
  return ((TopkKey)order << 32) | (0xffffffffu - (unsigned)index);
}

__global__ void __launch_bounds__(32) topk_kernel(float *weights, int *indices, const float *scores, int n, int k) {
  GETP_SHARED(float, chosen, kMaxChosen);
  GETP_AFTER_PREVIOUS();
  const float *row = scores + (size_t)blockIdx.x * n;
  float *own = weights + (size_t)blockIdx.x * k;
  TopkKey last = ~0ull;
  for (int rank = 0; rank < k; rank++) {
    TopkKey best = 0;
    for (int i = threadIdx.x; i < n; i += 32) {
      const TopkKey key = topk_key(row[i], i);
      if (key < last && key > best) best = key;
    }
    last = group_reduce<32>(best, Max{});
    if (threadIdx.x == 0) {
      const int index = (int)(0xffffffffu - (unsigned)last);
      indices[(size_t)blockIdx.x * k + rank] = index;
      chosen[rank] = row[index];
    }
  }
  if (threadIdx.x != 0) return;
  const float largest = chosen[0];
  float sum = 0;
  for (int rank = 0; rank < k; rank++) sum += chosen[rank] = expf(chosen[rank] - largest);
  for (int rank = 0; rank < k; rank++) own[rank] = chosen[rank] / sum;
}

inline void topk(float *d_weights, int *d_indices, const float *d_scores, int rows, int n, int k, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && k > 0 && k <= n && k <= kMaxChosen);
  HIP_LAUNCH(topk_kernel, dim3(rows), dim3(32), stream, d_weights, d_indices, d_scores, n, k);
}

}  // namespace getp_hip
