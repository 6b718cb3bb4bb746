// append_kv: key_cache[slot,pos,:] = k[r,:], value_cache[slot,pos,:] = v[r,:] at each row's slot and position
//                                                                              reference: forward() in run.cpp
//   key_cache, value_cache (slots, length, kv_dim) f32 of one layer; a slot's position p lies at p % length: a ring
//   where length is less than the sequence . k, v (rows, kv_dim) f32
//   positions, slots (rows) int: no two rows have the same place
//   grid: (blocks over kv_dim, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void append_kv_kernel(float *key_cache, float *value_cache, const float *k, const float *v,
                                 const int *positions, const int *slots, int length, int kv_dim) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y;
  if (i >= kv_dim) return;
  const size_t at = ((size_t)slots[row] * length + positions[row] % length) * kv_dim + i;
  key_cache[at] = k[row * kv_dim + i];
  value_cache[at] = v[row * kv_dim + i];
}

inline void append_kv(float *d_key_cache, float *d_value_cache, const float *d_k, const float *d_v,
                      const int *d_positions, const int *d_slots, int length, int rows, int kv_dim,
                      hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && kv_dim > 0 && length > 0);
  HIP_LAUNCH(append_kv_kernel, dim3(block_count(kv_dim, 256), rows), dim3(256), stream, d_key_cache, d_value_cache, d_k,
             d_v, d_positions, d_slots, length, kv_dim);
}

}  // namespace getp_hip
