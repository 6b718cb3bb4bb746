// embedding: out[r,:] = table[token[r],:]                                      reference: forward() in run.cpp
//   out (rows, hidden) f32 . table (vocab, hidden) in FP32 or BF16 . tokens (rows) int, each in [0, vocab)
//   grid: (blocks over hidden, rows) . block: 256, a thread an element
#pragma once

#include <type_traits>

#include "../device_matrix.hpp"
#include "reduce.hpp"

namespace getp_hip {

template <class T>
__global__ void embedding_kernel(float *out, const T *table, const int *tokens, int hidden) {
  GETP_AFTER_PREVIOUS();
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y;
  if (i >= hidden) return;
  const T value = table[(size_t)tokens[row] * hidden + i];
  if constexpr (std::is_same_v<T, bf16>)
    out[row * hidden + i] = to_float(value);
  else
    out[row * hidden + i] = value;
}

inline void embedding(float *d_out, const DeviceMatrix &table, const int *d_tokens, int rows, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && table.n > 0 && table.looked_up);
  const dim3 blocks(block_count(table.n, 256), rows), threads(256);
  if (table.form == MatrixForm::kBf16)
    HIP_LAUNCH(embedding_kernel<bf16>, blocks, threads, stream, d_out, table.d_bf16, d_tokens, table.n);
  else
    HIP_LAUNCH(embedding_kernel<float>, blocks, threads, stream, d_out, table.d_exact, d_tokens, table.n);
}

}  // namespace getp_hip
