// gather_rows: out[r,:] = x[index[r],:]
//   out (rows, n) f32 . x (at least max index + 1, n) f32, apart from out . index (rows) int
//   grid: (blocks over n, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void gather_rows_kernel(float *out, const float *x, const int *index, int n) {
  GETP_AFTER_PREVIOUS();
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const size_t row = blockIdx.y;
  if (i < n) out[row * n + i] = x[(size_t)index[row] * n + i];
}

inline void gather_rows(float *d_out, const float *d_x, const int *d_index, int rows, int n, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && n > 0);
  HIP_LAUNCH(gather_rows_kernel, dim3(block_count(n, 256), rows), dim3(256), stream, d_out, d_x, d_index, n);
}

}  // namespace getp_hip
