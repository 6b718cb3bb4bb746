// softmax: each row in place, x[i] = exp(x[i] - max x) / sum_j exp(x[j] - max x)   reference: softmax() in run.cpp
//   x (rows, stride) f32, of which the first `length` elements of a row count; the rest is left as it is
//   grid: a block a row . block: 256, each thread strides over the row
//   order: a thread's elements ascending, then block_reduce: depends on the row's length alone
//   -inf is a weight of 0; a row needs one finite element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

template <int Block>
__device__ inline void softmax_row(float *x, int length) {
  float largest = -INFINITY;
  for (int i = threadIdx.x; i < length; i += Block) largest = Max{}(largest, x[i]);
  largest = block_reduce<Block>(largest, Max{});
  float sum = 0;
  for (int i = threadIdx.x; i < length; i += Block) {
    x[i] = expf(x[i] - largest);
    sum += x[i];
  }
  sum = block_reduce<Block>(sum, Sum{});
  for (int i = threadIdx.x; i < length; i += Block) x[i] /= sum;
}

template <int Block>
__global__ void __launch_bounds__(Block) softmax_kernel(float *x, int length, size_t stride) {
  softmax_row<Block>(x + blockIdx.x * stride, length);
}

inline void softmax(float *d_x, int rows, int length, size_t stride, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && length > 0 && (size_t)length <= stride);
  HIP_LAUNCH((softmax_kernel<256>), dim3(rows), dim3(256), stream, d_x, length, stride);
}

}  // namespace getp_hip
