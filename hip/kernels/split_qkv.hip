// split_qkv: q, k, v = the three parts of each row of qkv                      reference: forward() in run.cpp
//   qkv (rows, q_dim + 2 * kv_dim) f32 . q (rows, q_dim) . k, v (rows, kv_dim) f32
//   grid: (blocks over the row of qkv, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void split_qkv_kernel(float *q, float *k, float *v, const float *qkv, int q_dim, int kv_dim) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), width = q_dim + 2 * kv_dim;
  const size_t row = blockIdx.y;
  if (i >= width) return;
  const float value = qkv[row * width + i];
  if (i < q_dim)
    q[row * q_dim + i] = value;
  else if (i < q_dim + kv_dim)
    k[row * kv_dim + i - q_dim] = value;
  else
    v[row * kv_dim + i - q_dim - kv_dim] = value;
}

inline void split_qkv(float *d_q, float *d_k, float *d_v, const float *d_qkv, int rows, int q_dim, int kv_dim,
                      hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && q_dim > 0 && kv_dim > 0);
  HIP_LAUNCH(split_qkv_kernel, dim3(block_count((size_t)q_dim + 2 * kv_dim, 256), rows), dim3(256), stream, d_q, d_k,
             d_v, d_qkv, q_dim, kv_dim);
}

}  // namespace getp_hip
