// expert_combine: x[r,i] += sum over the chosen experts, in ascending expert index, of weight[r,j] * y[r,j,i]
//                                                                              reference: forward() in run.cpp
//   x (rows, hidden) f32 . y (rows, k, hidden) f32, the experts' outputs in the order of topk
//   weights (rows, k) f32 . experts (rows, k) int, distinct within a row
//   grid: (blocks over hidden, rows) . block: 256, a thread an element . precondition: k <= 64
#pragma once

#include "reduce.hpp"

namespace getp_hip {

constexpr int kMaxChosen = 64;

__global__ void __launch_bounds__(256)
    expert_combine_kernel(float *x, const float *y, const float *weights, const int *experts, int k, int hidden) {
  GETP_AFTER_PREVIOUS();
  GETP_SHARED(int, order, kMaxChosen);  // places of the experts, by index
  GETP_SHARED(float, ordered_weights, kMaxChosen);
  const size_t row = blockIdx.y;
  const int place = threadIdx.x;
  if (place < k) {
    int rank = 0;
    for (int j = 0; j < k; j++) rank += experts[row * k + j] < experts[row * k + place];
    order[rank] = place;
    ordered_weights[rank] = weights[row * k + place];
  }
  __syncthreads();
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= hidden) return;
  float sum = 0;
  for (int j = 0; j < k; j++) sum += ordered_weights[j] * y[(row * k + order[j]) * hidden + i];
  x[row * hidden + i] += sum;
}

inline void expert_combine(float *d_x, const float *d_y, const float *d_weights, const int *d_experts, int rows, int k,
                           int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && k > 0 && k <= kMaxChosen && hidden > 0);
  HIP_LAUNCH(expert_combine_kernel, dim3(block_count(hidden, 256), rows), dim3(256), stream, d_x, d_y, d_weights,
             d_experts, k, hidden);
}

}  // namespace getp_hip
