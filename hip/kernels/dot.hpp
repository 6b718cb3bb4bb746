// Dot product of one weight row with one activation row by a group of lanes: the inner loop of everything that
// multiplies by a matrix.
#pragma once

#include <type_traits>

#include "../bf16.hpp"
#include "reduce.hpp"

namespace getp_hip {

__host__ __device__ inline float to_float(float value) { return value; }

// Adds the products of 16 bytes of weights with the activations beside them to four running sums.
__device__ inline void add_products(float4 &sum, const float *w, const float *x) {
  const float4 a = *(const float4 *)w, b = *(const float4 *)x;
  sum.x = multiply_add(a.x, b.x, sum.x);
  sum.y = multiply_add(a.y, b.y, sum.y);
  sum.z = multiply_add(a.z, b.z, sum.z);
  sum.w = multiply_add(a.w, b.w, sum.w);
}

__device__ inline float bits_to_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

__device__ inline void add_products(float4 &sum, const bf16 *w, const float *x) {
  const uint4 a = *(const uint4 *)w;  // eight weights, the even ones in the lower halves
  const float4 b = *(const float4 *)x, c = *(const float4 *)(x + 4);
  sum.x = multiply_add(bits_to_float(a.x << 16), b.x, sum.x);
  sum.y = multiply_add(bits_to_float(a.x & 0xffff0000u), b.y, sum.y);
  sum.z = multiply_add(bits_to_float(a.y << 16), b.z, sum.z);
  sum.w = multiply_add(bits_to_float(a.y & 0xffff0000u), b.w, sum.w);
  sum.x = multiply_add(bits_to_float(a.z << 16), c.x, sum.x);
  sum.y = multiply_add(bits_to_float(a.z & 0xffff0000u), c.y, sum.y);
  sum.z = multiply_add(bits_to_float(a.w << 16), c.z, sum.z);
  sum.w = multiply_add(bits_to_float(a.w & 0xffff0000u), c.w, sum.w);
}

// Elements of W in 16 bytes.
template <class W>
constexpr int kVector = 16 / (int)sizeof(W);

// Whether rows of n elements of W, the first at `w`, all begin on 16 bytes (and x rows of n floats too).
template <class W>
inline bool rows_are_aligned(const W *w, const float *x, int n) {
  return n % kVector<W> == 0 && (uintptr_t)w % 16 == 0 && (uintptr_t)x % 16 == 0;
}

// Calls launch(Lanes, Vector), both as compile-time constants, with the choice for rows of n elements: enough lanes to
// read a row together, not so many that most add nothing.
template <class Launch>
inline void with_dot_shape(int n, bool vector, Launch launch) {
  auto with_lanes = [&](auto lanes) { vector ? launch(lanes, std::true_type{}) : launch(lanes, std::false_type{}); };
  if (n <= 128)
    with_lanes(std::integral_constant<int, 1>{});
  else if (n <= 256)
    with_lanes(std::integral_constant<int, 8>{});
  else
    with_lanes(std::integral_constant<int, 32>{});
}

// results[r] = sum_i w[i] * x[r][i] for i < n, the results in every one of the Lanes lanes of the group.
//   Vector: w and x are 16-byte aligned and n is a multiple of kVector<W>
//   order: a lane adds every Lanes-th vector in ascending order into four sums, (x + y) + (z + w), then group_reduce:
//   depends on n, Lanes and Vector alone, so for 16-byte aligned tensors on n alone
template <int Lanes, bool Vector, int Rows, class W>
__device__ inline void dot(float (&results)[Rows], const W *w, const float *const (&x)[Rows], int n, int lane) {
  float4 sums[Rows];
  for (int r = 0; r < Rows; r++) sums[r] = {0, 0, 0, 0};
  const auto add = [&](int i) {
    for (int r = 0; r < Rows; r++) {
      if constexpr (Vector)
        add_products(sums[r], w + i, x[r] + i);
      else
        sums[r].x = multiply_add(to_float(w[i]), x[r][i], sums[r].x);
    }
  };
  if constexpr (!Vector) {
    for (int i = lane; i < n; i += Lanes) add(i);
  } else if constexpr (Rows == 1) {
    GETP_UNROLL_4
    for (int i = lane * kVector<W>; i < n; i += Lanes * kVector<W>) add(i);
  } else {  // many rows give the loads enough to overlap with; unrolled, they run out of scalar registers
    GETP_UNROLL_1
    for (int i = lane * kVector<W>; i < n; i += Lanes * kVector<W>) add(i);
  }
  for (int r = 0; r < Rows; r++)
    results[r] = group_reduce<Lanes>((sums[r].x + sums[r].y) + (sums[r].z + sums[r].w), Sum{});
}

}  // namespace getp_hip
