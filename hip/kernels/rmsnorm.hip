// rmsnorm: out[r,i] = x[r,i] * w[i] / sqrt(mean_i x[r,i]^2 + 1e-5)              reference: rmsnorm() in run.cpp
//   x, out (rows, hidden) f32 . w (hidden) f32 . out may be x
//   grid: a block a row . block: 256, each thread strides over hidden
//   order: a thread's elements ascending, then block_reduce: depends on hidden alone
#pragma once

#include "reduce.hpp"

namespace getp_hip {

template <int Block>
__global__ void __launch_bounds__(Block) rmsnorm_kernel(float *out, const float *x, const float *w, int hidden) {
  const size_t row = (size_t)blockIdx.x * hidden;
  float sum = 0;
  for (int i = threadIdx.x; i < hidden; i += Block) sum += x[row + i] * x[row + i];
  sum = block_reduce<Block>(sum, Sum{});
  const float scale = 1.0f / sqrtf(sum / (float)hidden + 1e-5f);
  for (int i = threadIdx.x; i < hidden; i += Block) out[row + i] = w[i] * (scale * x[row + i]);
}

inline void rmsnorm(float *d_out, const float *d_x, const float *d_w, int rows, int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && hidden > 0);
  HIP_LAUNCH((rmsnorm_kernel<256>), dim3(rows), dim3(256), stream, d_out, d_x, d_w, hidden);
}

}  // namespace getp_hip
