// rope: rotates the pairs (i, i + head_dim/2) of every head by the angle of its row's position
//                                                       reference: apply_rotary_emb() in run.cpp
//   x (rows, heads, head_dim) f32, in place . cos, sin (seq_len, head_dim/2) f32, made by the host's compute_cos_sin
//   positions (rows) int, each in [0, seq_len)
//   grid: (blocks over heads * head_dim/2, rows) . block: 256, a thread a pair
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void rope_kernel(float *x, const float *cos_table, const float *sin_table, const int *positions, int heads,
                            int head_dim) {
  const int half = head_dim / 2, pair = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (pair >= heads * half) return;
  const int head = pair / half, i = pair % half;
  const size_t row = blockIdx.y, angle = (size_t)positions[row] * half + i;
  float *first = x + (row * heads + head) * head_dim + i, *second = first + half;
  const float c = cos_table[angle], s = sin_table[angle], a = *first, b = *second;
  *first = a * c - b * s;
  *second = b * c + a * s;
}

inline void rope(float *d_x, const float *d_cos, const float *d_sin, const int *d_positions, int rows, int heads,
                 int head_dim, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && heads > 0 && head_dim > 0 && head_dim % 2 == 0);
  HIP_LAUNCH(rope_kernel, dim3(block_count((size_t)heads * head_dim / 2, 256), rows), dim3(256), stream, d_x, d_cos,
             d_sin, d_positions, heads, head_dim);
}

}  // namespace getp_hip
