// split_terms: x[r,i] = (hi[r,i] + lo[r,i]) * scale[r] but for what FP16 cannot hold: activations as matrix cores take
// them
//   x (rows, n) f32 . hi, lo (rows, n) fp16 . scale (rows) f32, a power of two that brings the row's largest value
//   to 2^14 .. 2^15
//   hi is the nearest FP16 value, lo the nearest to what is left: together 22 bits of a value within 2^18 of the
//   row's largest, and an error of at most 2^-40 of the largest below (2^-29 where matrix cores flush what is
//   subnormal) grid: a block a row . block: 256, a thread four neighbouring elements at a time . does nothing where n %
//   8 != 0: such rows are not multiplied in FP16
#pragma once

#include "../fp16.hpp"
#include "reduce.hpp"

namespace getp_hip {

// Rows in split form; `lo` takes part where terms is 2.
struct SplitRows {
  fp16 *d_hi, *d_lo;  // (rows, n)
  float *d_scales;    // (rows)
  int terms;
};

__device__ inline unsigned pack(fp16 a, fp16 b) { return a.bits | (unsigned)b.bits << 16; }

__global__ void __launch_bounds__(256) split_terms_kernel(fp16 *hi, fp16 *lo, float *scales, const float *x, int n) {
  const size_t row = (size_t)blockIdx.x * n;
  float largest = 0;
  for (int i = threadIdx.x * 4; i < n; i += 1024) {
    const float4 v = *(const float4 *)(x + row + i);
    for (float value : {v.x, v.y, v.z, v.w}) largest = Max{}(value < 0 ? -value : value, largest);
  }
  largest = block_reduce<256>(largest, Max{});
  const unsigned exponent = split_exponent(largest);
  const float scale = power_of_two(exponent);
  if (threadIdx.x == 0) scales[blockIdx.x] = power_of_two(254u - exponent);
  for (int i = threadIdx.x * 4; i < n; i += 1024) {
    const float4 v = *(const float4 *)(x + row + i);
    const float values[] = {v.x * scale, v.y * scale, v.z * scale, v.w * scale};
    fp16 high[4], low[4];
    for (int j = 0; j < 4; j++) {
      high[j] = to_fp16(values[j]);
      low[j] = to_fp16(values[j] - to_float(high[j]));
    }
    *(uint2 *)(hi + row + i) = uint2{pack(high[0], high[1]), pack(high[2], high[3])};
    *(uint2 *)(lo + row + i) = uint2{pack(low[0], low[1]), pack(low[2], low[3])};
  }
}

inline void split_terms(const SplitRows &split, const float *d_x, int rows, int n, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && n > 0 && (uintptr_t)d_x % 16 == 0);
  if (n % 8 != 0) return;  // no matrix is in FP16 for rows of such a length
  HIP_LAUNCH(split_terms_kernel, dim3(rows), dim3(256), stream, split.d_hi, split.d_lo, split.d_scales, d_x, n);
}

}  // namespace getp_hip
