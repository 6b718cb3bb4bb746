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

// The chosen experts of a row in ascending index, and their weights: for a Residual that has weights, by all threads of
// a block; order, ordered_weights: shared memory for kMaxChosen.
__device__ inline void order_experts(int *order, float *ordered_weights, const Residual &residual, size_t row) {
  const size_t k = residual.k;
  if (threadIdx.x < k) {
    int rank = 0;
    for (size_t j = 0; j < k; j++) rank += residual.d_experts[row * k + j] < residual.d_experts[row * k + threadIdx.x];
    order[rank] = threadIdx.x;
    ordered_weights[rank] = residual.d_weights[row * k + threadIdx.x];
  }
  __syncthreads();
}

// Values 2 * i and 2 * i + 1 of a row of a residual.
__device__ inline float2 residual_pair(const Residual &residual, const int *order, const float *ordered_weights,
                                       size_t row, int i, int hidden) {
  if (!residual.d_values) return {0, 0};
  if (!residual.d_weights) return row_pair(residual.d_values + row * hidden, i, hidden);
  const int k = residual.k;  // an int: with a size_t a compiler spilled a register of rmsnorm
  float2 sum = {0, 0};
  GETP_UNROLL_4
  for (int j = 0; j < k; j++) {
    const float2 y = row_pair(residual.d_values + (row * k + order[j]) * hidden, i, hidden);
    sum.x = multiply_add(ordered_weights[j], y.x, sum.x);
    sum.y = multiply_add(ordered_weights[j], y.y, sum.y);
  }
  return sum;
}

__global__ void __launch_bounds__(kResidualThreads) residual_kernel(float *x, Residual residual, int hidden) {
  GETP_AFTER_PREVIOUS();
  GETP_SHARED(int, order, kMaxChosen);
  GETP_SHARED(float, weights, kMaxChosen);
  if (residual.d_weights) order_experts(order, weights, residual, blockIdx.x);
  float *own = x + (size_t)blockIdx.x * hidden;
  for (int i = threadIdx.x; 2 * i < hidden; i += kResidualThreads) {
    const float2 added = residual_pair(residual, order, weights, blockIdx.x, i, hidden);
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
