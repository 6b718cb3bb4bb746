// matvec: out[r,o] = sum_i w[o,i] * x[r,i]                                     reference: matmul() in run.cpp
// expert_matvec: out[s,o] = sum_i w[expert[s],o,i] * x[s / share,i], a row s for each chosen expert of a token
//   w (d, n) or (n_experts, d, n), f32 or BF16 . x (rows, n) f32 . out (rows, d) f32
//   grid: (blocks over d, rows) . block: 256, a group of 1, 8 or 32 lanes an output
//   order: dot(), FP32 sums: depends on n alone
//   16-byte loads where all rows are aligned
#pragma once

#include "dot.hpp"

namespace getp_hip {

template <int Lanes, bool Vector, class W>
__global__ void __launch_bounds__(256)
    matvec_kernel(float *out, const W *w, const float *x, const int *experts, int share, int n, int d) {
  const int lane = threadIdx.x % Lanes;
  const size_t o = (size_t)blockIdx.x * (256 / Lanes) + threadIdx.x / Lanes, row = blockIdx.y;
  const size_t matrix = experts ? (size_t)experts[row] : 0;
  // Groups past the end repeat the last output, so that whole waves meet in group_reduce.
  const size_t w_row = matrix * d + (o < (size_t)d ? o : d - 1);
  const float sum = dot<Lanes, Vector>(w + w_row * n, x + row / share * n, n, lane);
  if (lane == 0 && o < (size_t)d) out[row * d + o] = sum;
}

// `share` rows of out read the same row of x: experts_per_token for w_mlp1, 1 for w_mlp2.
template <class W>
inline void expert_matvec(float *d_out, const W *d_w, const float *d_x, const int *d_experts, int share, int rows,
                          int n, int d, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && n > 0 && d > 0 && share > 0 && rows % share == 0);
  with_dot_shape(n, rows_are_aligned(d_w, d_x, n), [&](auto lanes, auto vector) {
    HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, W>), dim3(block_count(d, 256 / lanes.value), rows), dim3(256),
               stream, d_out, d_w, d_x, d_experts, share, n, d);
  });
}

template <class W>
inline void matvec(float *d_out, const W *d_w, const float *d_x, int rows, int n, int d, hipStream_t stream) {
  expert_matvec(d_out, d_w, d_x, nullptr, 1, rows, n, d, stream);
}

}  // namespace getp_hip
