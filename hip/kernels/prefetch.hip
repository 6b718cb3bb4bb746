// prefetch_matrix: brings a matrix that few rows will be multiplied by into the card's cache, while kernels that leave
// the memory idle run: such a product takes as long as reading its matrix does
//   grid: a block for each strip of 16 outputs . block: 1
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

__global__ void prefetch_kernel(const fp16 *w, unsigned strip_bytes) {
  prefetch((const char *)w + (size_t)blockIdx.x * strip_bytes, strip_bytes);
  GETP_AFTER_PREVIOUS();
}

inline void prefetch_matrix(const DeviceMatrix &w, int rows, hipStream_t stream) {
  if (!kPrefetches || !w.in_fp16 || rows > 16) return;
  HIP_LAUNCH(prefetch_kernel, dim3(w.padded_d() / 16), dim3(1), stream, w.d_values,
             (unsigned)(w.padded_n() * 16 * sizeof(fp16)));
}

}  // namespace getp_hip
