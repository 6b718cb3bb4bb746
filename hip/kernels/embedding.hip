// embedding: out[r,:] = table[token[r],:]                                      reference: forward() in run.cpp
//   out (rows, hidden) f32 . table (vocab, hidden) f32 . tokens (rows) int, each in [0, vocab)
//   grid: (blocks over hidden, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void embedding_kernel(float *out, const float *table, const int *tokens, int hidden) {
  GETP_AFTER_PREVIOUS();
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y;
  if (i < hidden) out[row * hidden + i] = table[(size_t)tokens[row] * hidden + i];
}

inline void embedding(float *d_out, const float *d_table, const int *d_tokens, int rows, int hidden,
                      hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && hidden > 0);
  HIP_LAUNCH(embedding_kernel, dim3(block_count(hidden, 256), rows), dim3(256), stream, d_out, d_table, d_tokens,
             hidden);
}

}  // namespace getp_hip
