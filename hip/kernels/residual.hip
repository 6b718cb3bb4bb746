// residual: x[r,:] += what a branch has made: values, or the chosen experts' outputs under their weights, added up in
// ascending expert index                                                          reference: forward() in run.cpp
//   x (rows, hidden) f32 . Residual: see below
//   grid: a block a row . block: kResidualThreads, a thread strides over pairs
//   order: experts ascending, then onto x: the bits that rmsnorm, which can do it on its way, leaves in x
#pragma once

#include "split_terms.hip"
#include "topk.hip"

namespace getp_hip {

constexpr int kResidualThreads = block_threads(512);

// What is still to be added to rows of x: nothing, values (rows, hidden), or the chosen experts' outputs
// (rows, k, hidden) in the order of topk, under their weights (rows, k).
struct Residual {
  const float *d_values = nullptr, *d_weights = nullptr;
  const int *d_experts = nullptr;  // (rows, k), distinct within a row
  int k = 0;                       // at most kMaxChosen
};

static_assert(kResidualThreads >= kMaxChosen, "a thread for each chosen expert");

// A row of a residual. The block's threads call begin together, then pair as they like.
class ResidualRow {
 public:
  // order, weights: shared memory for kMaxChosen.
  __device__ ResidualRow(const Residual &residual, size_t row, int hidden, int *order, float *weights)
      : residual_(residual), row_(row), hidden_(hidden), order_(order), weights_(weights) {}

  // Sorts the experts by their index.
  __device__ void begin() {
    if (!residual_.d_weights) return;
    const size_t k = residual_.k, own = row_ * k + threadIdx.x;
    if (threadIdx.x < k) {
      int rank = 0;
      for (size_t j = 0; j < k; j++) rank += residual_.d_experts[row_ * k + j] < residual_.d_experts[own];
      order_[rank] = threadIdx.x;
      weights_[rank] = residual_.d_weights[own];
    }
    __syncthreads();
  }

  // Values 2 * i and 2 * i + 1.
  __device__ float2 pair(int i) const {
    if (!residual_.d_values) return {0, 0};
    if (!residual_.d_weights) return row_pair(residual_.d_values + row_ * hidden_, i, hidden_);
    float2 sum = {0, 0};
    const size_t k = residual_.k;
    GETP_UNROLL_4
    for (size_t j = 0; j < k; j++) {
      const float2 y = row_pair(residual_.d_values + (row_ * k + order_[j]) * hidden_, i, hidden_);
      sum.x = multiply_add(weights_[j], y.x, sum.x);
      sum.y = multiply_add(weights_[j], y.y, sum.y);
    }
    return sum;
  }

 private:
  const Residual &residual_;
  const size_t row_;
  const int hidden_;
  int *const order_;
  float *const weights_;
};

__global__ void __launch_bounds__(kResidualThreads) residual_kernel(float *x, Residual residual, int hidden) {
  GETP_AFTER_PREVIOUS();
  GETP_SHARED(int, order, kMaxChosen);
  GETP_SHARED(float, weights, kMaxChosen);
  ResidualRow row(residual, blockIdx.x, hidden, order, weights);
  row.begin();
  float *own = x + (size_t)blockIdx.x * hidden;
  for (int i = threadIdx.x; 2 * i < hidden; i += kResidualThreads) {
    const float2 added = row.pair(i);
    own[2 * i] += added.x;
    if (2 * i + 1 < hidden) own[2 * i + 1] += added.y;
  }
}

inline void add_residual(float *d_x, const Residual &residual, int rows, int hidden, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && hidden > 0 && residual.d_values && residual.k <= kMaxChosen);
  HIP_REQUIRE(!residual.d_weights || (residual.d_experts && residual.k > 0));
  HIP_LAUNCH(residual_kernel, dim3(rows), dim3(kResidualThreads), stream, d_x, residual, hidden);
}

}  // namespace getp_hip
