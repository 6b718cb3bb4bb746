// rmsnorm: x[i,:] += residual[i,:], out[r,:] = x[i,:] * w / sqrt(mean_j x[i,j]^2 + 1e-5), and out in split terms, where
// i is r, or the row index[r] of x                                                reference: rmsnorm() in run.cpp
//   out (rows, hidden), x (at least max index + 1, hidden) f32 . w (hidden) f32 . split: see split_terms.hip
//   grid: a block a row . block: kNormThreads, a thread strides over pairs
//   order: a thread's pairs ascending, then block_reduce: depends on hidden alone
//   A sum of squares beyond FP32 makes the row NaN, not 0.
#pragma once

#include "residual.hip"

namespace getp_hip {

constexpr int kNormThreads = block_threads(512);

template <int Block, int Pairs>
__global__ void __launch_bounds__(Block, 2) rmsnorm_kernel(float *out, SplitRows split, float *x, Residual residual,
                                                           const float *w, const int *index, int hidden) {
  GETP_SHARED(int, order, kMaxChosen);  // places of the experts, by their index
  GETP_SHARED(float, ordered_weights, kMaxChosen);
  const int pairs = (hidden + 1) / 2;
  const bool keeps = keeps_pairs<Block, Pairs>(hidden);
  float2 kept[Pairs], kept_w[Pairs];
  if (keeps)  // no kernel writes w
    strided<Block, Pairs>(
        pairs, [&](int i, int) { return row_pair(w, i, hidden); }, [&](int, int a, float2 v) { kept_w[a] = v; });
  GETP_AFTER_PREVIOUS();
  const size_t of_x = index ? index[blockIdx.x] : blockIdx.x;
  float *own = x + of_x * hidden, *own_out = out + (size_t)blockIdx.x * hidden;
  if (residual.d_weights) order_experts(order, ordered_weights, residual, of_x);
  struct TwoPairs {
    float2 first, second;
  };
  float sum = 0;
  strided<Block, Pairs>(
      pairs,
      [&](int i, int) {
        return TwoPairs{row_pair(own, i, hidden), residual_pair(residual, order, ordered_weights, of_x, i, hidden)};
      },
      [&](int i, int a, TwoPairs v) {
        if (residual.d_values) {
          own[2 * i] = v.first.x += v.second.x;
          if (2 * i + 1 < hidden) own[2 * i + 1] = v.first.y += v.second.y;
        }
        sum += v.first.x * v.first.x;
        sum += v.first.y * v.first.y;
        kept[a] = v.first;
      });
  sum = block_reduce<Block>(sum, Sum{});
  const float scale = sum < INFINITY ? 1.0f / sqrtf(sum / (float)hidden + 1e-5f) : NAN;
  float largest = 0;
  strided<Block, Pairs>(
      pairs,
      [&](int i, int a) {
        if (!keeps) {
          kept_w[a] = row_pair(w, i, hidden);
          kept[a] = row_pair(own, i, hidden);
        }
        return TwoPairs{kept_w[a], kept[a]};
      },
      [&](int i, int a, TwoPairs v) {
        const float2 value = {v.first.x * (scale * v.second.x), v.first.y * (scale * v.second.y)};
        own_out[2 * i] = value.x;
        if (2 * i + 1 < hidden) own_out[2 * i + 1] = value.y;
        largest = larger_size(larger_size(largest, value.x), value.y);
        kept[a] = value;
      });
  if (split.d_hi)
    split_row<Block, Pairs>(split, blockIdx.x, hidden, largest, [&](int i, int a) {
      if (!keeps) kept[a] = row_pair(own_out, i, hidden);
      return kept[a];
    });
}

// d_index: rows of x to take, distinct; nullptr: all.
inline void rmsnorm(float *d_out, SplitRows split, float *d_x, const Residual &residual, const float *d_w,
                    const int *d_index, int rows, int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && hidden > 0 && d_out != d_x && residual.k <= kMaxChosen);
  HIP_REQUIRE(!residual.d_weights || (residual.d_values && residual.d_experts && residual.k > 0));
  if (!can_split(hidden)) split.d_hi = nullptr;
  HIP_LAUNCH((rmsnorm_kernel<kNormThreads, 3>), dim3(rows), dim3(kNormThreads), stream, d_out, split, d_x, residual,
             d_w, d_index, hidden);
}

}  // namespace getp_hip
