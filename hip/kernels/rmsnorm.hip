// rmsnorm: x[i,:] += residual[i,:], out[r,:] = x[i,:] * w / sqrt(mean_j x[i,j]^2 + 1e-5), and out in split terms, where
// i is r, or the row index[r] of x                                                reference: rmsnorm() in run.cpp
//   out (rows, hidden), x (at least max index + 1, hidden) f32 . w (hidden) f32 . split: see split_terms.hip
//   grid: a block a row . block: kNormThreads, a thread strides over pairs
//   order: a thread's pairs ascending, then block_reduce: depends on hidden alone
#pragma once

#include "split_terms.hip"
#include "topk.hip"

namespace getp_hip {

constexpr int kNormThreads = block_threads(512);

// What joins x: nothing, values (rows, hidden), or the chosen experts' outputs (rows, k, hidden) in the order of topk,
// under their weights (rows, k), added up in ascending expert index.                    reference: forward() in run.cpp
struct Residual {
  const float *values = nullptr, *weights = nullptr;
  const int *experts = nullptr;  // (rows, k), distinct within a row
  int k = 0;                     // at most kMaxChosen
};

static_assert(kNormThreads >= kMaxChosen, "a thread for each chosen expert");

template <int Block>
__global__ void __launch_bounds__(Block) rmsnorm_kernel(float *out, SplitRows split, float *x, Residual residual,
                                                        const float *w, const int *index, int hidden) {
  GETP_SHARED(int, order, kMaxChosen);  // places of the experts, by their index
  GETP_SHARED(float, ordered_weights, kMaxChosen);
  GETP_AFTER_PREVIOUS();
  const size_t of_x = index ? index[blockIdx.x] : blockIdx.x, k = residual.k;
  float *own = x + of_x * hidden, *own_out = out + (size_t)blockIdx.x * hidden;
  if (residual.weights) {
    if (threadIdx.x < k) {
      int rank = 0;
      for (size_t j = 0; j < k; j++) rank += residual.experts[of_x * k + j] < residual.experts[of_x * k + threadIdx.x];
      order[rank] = threadIdx.x;
      ordered_weights[rank] = residual.weights[of_x * k + threadIdx.x];
    }
    __syncthreads();
  }
  const auto added = [&](int i) {
    if (!residual.values) return 0.0f;
    if (!residual.weights) return residual.values[of_x * hidden + i];
    float sum = 0;
    GETP_UNROLL_4
    for (size_t j = 0; j < k; j++) sum += ordered_weights[j] * residual.values[(of_x * k + order[j]) * hidden + i];
    return sum;
  };
  struct Loaded {
    float2 x, added, w;
  };
  const bool keeps = keeps_pairs<Block>(hidden);
  float2 kept[kRowPairs], kept_w[kRowPairs];
  float sum = 0;
  strided<Block, kRowPairs>((hidden + 1) / 2,
                            [&](int i, int) {
                              return Loaded{row_pair(own, i, hidden),
                                            {added(2 * i), 2 * i + 1 < hidden ? added(2 * i + 1) : 0},
                                            row_pair(w, i, hidden)};
                            },
                            [&](int i, int a, Loaded v) {
                              if (residual.values) {
                                own[2 * i] = v.x.x += v.added.x;
                                if (2 * i + 1 < hidden) own[2 * i + 1] = v.x.y += v.added.y;
                              }
                              sum += v.x.x * v.x.x;
                              sum += v.x.y * v.x.y;
                              kept[a] = v.x;
                              kept_w[a] = v.w;
                            });
  sum = block_reduce<Block>(sum, Sum{});
  const float scale = 1.0f / sqrtf(sum / (float)hidden + 1e-5f);
  float largest = 0;
  strided<Block, kRowPairs>(
      (hidden + 1) / 2,
      [&](int i, int a) {
        return keeps ? Loaded{kept[a], {}, kept_w[a]} : Loaded{row_pair(own, i, hidden), {}, row_pair(w, i, hidden)};
      },
      [&](int i, int a, Loaded v) {
        const float2 value = {v.w.x * (scale * v.x.x), v.w.y * (scale * v.x.y)};
        own_out[2 * i] = value.x;
        if (2 * i + 1 < hidden) own_out[2 * i + 1] = value.y;
        largest = larger_size(larger_size(largest, value.x), value.y);
        kept[a] = value;
      });
  if (split.d_hi)
    split_row<Block>(split, blockIdx.x, hidden, largest,
                     [&](int i, int a) { return keeps ? kept[a] : row_pair(own_out, i, hidden); });
}

// d_index: rows of x to take, distinct; nullptr: all.
inline void rmsnorm(float *d_out, SplitRows split, float *d_x, const Residual &residual, const float *d_w,
                    const int *d_index, int rows, int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && hidden > 0 && d_out != d_x && residual.k >= 0 && residual.k <= kMaxChosen);
  if (!can_split(hidden)) split.d_hi = nullptr;
  HIP_LAUNCH((rmsnorm_kernel<kNormThreads>), dim3(rows), dim3(kNormThreads), stream, d_out, split, d_x, residual, d_w,
             d_index, hidden);
}

}  // namespace getp_hip
