// split_terms: x[r,i] = (hi[r,i] + lo[r,i]) * scale[r] but for what FP16 cannot hold: activations as matrix cores take
// them
//   x (rows, n) f32 . hi, lo (rows, split_pitch(n)) fp16, zeros past n
//   scale (rows) f32, a power of two that brings the row's largest value to 2^14 .. 2^15
//   hi is the nearest FP16 value, lo the nearest to what is left: together 22 bits of a value within 2^18 of the row's
//   largest, and an error of at most 2^-40 of the largest below (2^-29 where matrix cores flush what is subnormal)
//   grid: a block a row . block: kSplitThreads
//   does nothing where n % 8 != 0: such rows are not multiplied in FP16
#pragma once

#include "../fp16.hpp"
#include "reduce.hpp"

namespace getp_hip {

constexpr int kSplitThreads = block_threads(512);

// Rows in split form; `lo` takes part where terms is 2.
struct SplitRows {
  fp16 *d_hi, *d_lo;  // (rows, split_pitch(n))
  float *d_scales;    // (rows)
  int terms;
};

// Elements from one split row of n values to the next: whole steps of the matrix cores.
__host__ __device__ inline int split_pitch(int n) { return (n + 31) / 32 * 32; }

// A row of n values as pairs, `Pairs` of which a thread keeps in registers where that is all of its own.
constexpr int kRowPairs = 4;
template <int Block, int Pairs = kRowPairs>
__device__ inline bool keeps_pairs(int n) {
  return split_pitch(n) / 2 <= Pairs * Block;
}
// Values 2 * i and 2 * i + 1 of a row of n, 0 past its end.
__device__ inline float2 row_pair(const float *row, int i, int n) {
  return {2 * i < n ? row[2 * i] : 0, 2 * i + 1 < n ? row[2 * i + 1] : 0};
}

__device__ inline float larger_size(float largest, float value) { return Max{}(value < 0 ? -value : value, largest); }

// Splits row `row`: pair(i, a) for 2 * i < n, i and a as `strided` has them. `largest`: the largest |value| that this
// thread has seen; each value must have been seen by some thread of the block.
template <int Block, int Pairs = kRowPairs, class Pair>
__device__ inline void split_row(const SplitRows &split, size_t row, int n, float largest, Pair pair) {
  const unsigned exponent = split_exponent(block_reduce<Block>(largest, Max{}));  // a barrier, too
  const float scale = power_of_two(exponent);
  if (threadIdx.x == 0) split.d_scales[row] = power_of_two(254u - exponent);
  const int pitch = split_pitch(n);
  unsigned *hi = (unsigned *)(split.d_hi + row * pitch), *lo = (unsigned *)(split.d_lo + row * pitch);
  strided<Block, Pairs>(
      pitch / 2,
      [&](int i, int a) {
        return 2 * i < n ? pair(i, a) : float2{0, 0};
      },
      [&](int i, int, float2 value) {
        const float a = value.x * scale, b = value.y * scale;
        const fp16 hi_a = to_fp16(a), hi_b = to_fp16(b);
        hi[i] = hi_a.bits | (unsigned)hi_b.bits << 16;
        lo[i] = to_fp16(a - to_float(hi_a)).bits | (unsigned)to_fp16(b - to_float(hi_b)).bits << 16;
      });
}

__global__ void __launch_bounds__(kSplitThreads) split_terms_kernel(SplitRows split, const float *x, int n) {
  GETP_AFTER_PREVIOUS();
  const float *row = x + (size_t)blockIdx.x * n;
  const bool keeps = keeps_pairs<kSplitThreads>(n);
  float2 kept[kRowPairs];
  float largest = 0;
  strided<kSplitThreads, kRowPairs>(
      n / 2, [&](int i, int) { return row_pair(row, i, n); },
      [&](int, int a, float2 pair) {
        kept[a] = pair;
        largest = larger_size(larger_size(largest, pair.x), pair.y);
      });
  split_row<kSplitThreads>(split, blockIdx.x, n, largest, [&](int i, int a) {
    if (!keeps) kept[a] = row_pair(row, i, n);
    return kept[a];
  });
}

// Whether rows of n values are multiplied in FP16 at all.
inline bool can_split(int n) { return n % 8 == 0; }

inline void split_terms(const SplitRows &split, const float *d_x, int rows, int n, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && n > 0 && (uintptr_t)d_x % 16 == 0);
  if (can_split(n)) HIP_LAUNCH(split_terms_kernel, dim3(rows), dim3(kSplitThreads), stream, split, d_x, n);
}

}  // namespace getp_hip
