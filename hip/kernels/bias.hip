// add_bias: x[r,i] += b[i]                                                     reference: forward() in run.cpp
// add_expert_bias: x[r,i] += b[expert[r],i], a row for each chosen expert
//   x (rows, n) f32 . b (n) or (n_experts, n) f32 . experts (rows) int
//   grid: (blocks over n, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void add_bias_kernel(float *x, const float *b, const int *experts, int n) {
  GETP_AFTER_PREVIOUS();
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y, bias_row = experts ? (size_t)experts[row] : 0;
  if (i < n) x[row * n + i] += b[bias_row * n + i];
}

inline void add_expert_bias(float *d_x, const float *d_b, const int *d_experts, int rows, int n, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && n > 0);
  HIP_LAUNCH(add_bias_kernel, dim3(block_count(n, 256), rows), dim3(256), stream, d_x, d_b, d_experts, n);
}

inline void add_bias(float *d_x, const float *d_b, int rows, int n, hipStream_t stream) {
  add_expert_bias(d_x, d_b, nullptr, rows, n, stream);
}

}  // namespace getp_hip
