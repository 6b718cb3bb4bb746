// append_kv: key_cache[pos,:] = k[r,:], value_cache[pos,:] = v[r,:] at each row's position
//                                                                              reference: forward() in run.cpp
//   key_cache, value_cache (seq_len, kv_dim) f32 of one layer . k, v (rows, kv_dim) f32
//   positions (rows) int, distinct, each in [0, seq_len)
//   grid: (blocks over kv_dim, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void append_kv_kernel(float *key_cache, float *value_cache, const float *k, const float *v,
                                 const int *positions, int kv_dim) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y;
  if (i >= kv_dim) return;
  const size_t at = (size_t)positions[row] * kv_dim + i;
  key_cache[at] = k[row * kv_dim + i];
  value_cache[at] = v[row * kv_dim + i];
}

inline void append_kv(float *d_key_cache, float *d_value_cache, const float *d_k, const float *d_v,
                      const int *d_positions, int rows, int kv_dim, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && kv_dim > 0);
  HIP_LAUNCH(append_kv_kernel, dim3(block_count(kv_dim, 256), rows), dim3(256), stream, d_key_cache, d_value_cache, d_k,
             d_v, d_positions, kv_dim);
}

}  // namespace getp_hip
