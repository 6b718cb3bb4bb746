// expert_combine: out[r,i] = sum over the chosen experts, in ascending expert index, of weight[r,j] * y[r,j,i]
//                                                                              reference: forward() in run.cpp
//   out (rows, hidden) f32 . y (rows, k, hidden) f32, the experts' outputs in the order of topk
//   weights (rows, k) f32 . experts (rows, k) int, distinct within a row
//   grid: (blocks over hidden, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void expert_combine_kernel(float *out, const float *y, const float *weights, const int *experts, int k,
                                      int hidden) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y;
  if (i >= hidden) return;
  float sum = 0;
  for (int round = 0, last = -1; round < k; round++) {
    int next = -1;  // the place of the smallest expert index above the last one
    for (int j = 0; j < k; j++) {
      const int expert = experts[row * k + j];
      if (expert > last && (next < 0 || expert < experts[row * k + next])) next = j;
    }
    last = experts[row * k + next];
    sum += weights[row * k + next] * y[(row * k + next) * hidden + i];
  }
  out[row * hidden + i] = sum;
}

inline void expert_combine(float *d_out, const float *d_y, const float *d_weights, const int *d_experts, int rows,
                           int k, int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && k > 0 && hidden > 0);
  HIP_LAUNCH(expert_combine_kernel, dim3(block_count(hidden, 256), rows), dim3(256), stream, d_out, d_y, d_weights,
             d_experts, k, hidden);
}

}  // namespace getp_hip
