// rmsnorm: x[r,i] += add[r,i], out[r,i] = x[r,i] * w[i] / sqrt(mean_i x[r,i]^2 + 1e-5), and out in split terms
//                                                                              reference: rmsnorm() in run.cpp
//   x, out, add (rows, hidden) f32, add may be none . w (hidden) f32 . split: see split_terms.hip
//   grid: a block a row . block: kNormThreads, each thread strides over hidden
//   order: a thread's elements ascending, then block_reduce: depends on hidden alone
#pragma once

#include "split_terms.hip"

namespace getp_hip {

constexpr int kNormThreads = block_threads(512);

template <int Block>
__global__ void __launch_bounds__(Block)
    rmsnorm_kernel(float *out, SplitRows split, float *x, const float *add, const float *w, int hidden) {
  GETP_AFTER_PREVIOUS();
  const size_t row = (size_t)blockIdx.x * hidden;
  float sum = 0;
  strided<Block, 6>(
      hidden,
      [&](int i) {
        return float2{x[row + i], add ? add[row + i] : 0};
      },
      [&](int i, float2 v) {
        if (add) x[row + i] = v.x += v.y;
        sum += v.x * v.x;
      });
  sum = block_reduce<Block>(sum, Sum{});
  const float scale = 1.0f / sqrtf(sum / (float)hidden + 1e-5f);
  float largest = 0;
  strided<Block, 6>(
      hidden,
      [&](int i) {
        return float2{w[i], x[row + i]};
      },
      [&](int i, float2 v) {
        const float value = v.x * (scale * v.y);
        out[row + i] = value;
        largest = larger_size(largest, value);
      });
  if (split.d_hi) split_row<Block>(split, blockIdx.x, hidden, largest, [&](int i) { return out[row + i]; });
}

inline void rmsnorm(float *d_out, SplitRows split, float *d_x, const float *d_add, const float *d_w, int rows,
                    int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && hidden > 0 && d_out != d_x);
  if (!can_split(hidden)) split.d_hi = nullptr;
  HIP_LAUNCH((rmsnorm_kernel<kNormThreads>), dim3(rows), dim3(kNormThreads), stream, d_out, split, d_x, d_add, d_w,
             hidden);
}

}  // namespace getp_hip
