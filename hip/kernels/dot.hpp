// Dot product of one weight row with one activation row by a group of lanes: the inner loop of matvec.
#pragma once

#include <type_traits>

#include "reduce.hpp"

namespace getp_hip {

// Adds the products of 16 bytes of weights with the activations beside them to four running sums.
__device__ inline void add_products(float4 &sum, const float *w, const float *x) {
  const float4 a = *(const float4 *)w, b = *(const float4 *)x;
  sum.x = multiply_add(a.x, b.x, sum.x);
  sum.y = multiply_add(a.y, b.y, sum.y);
  sum.z = multiply_add(a.z, b.z, sum.z);
  sum.w = multiply_add(a.w, b.w, sum.w);
}

constexpr int kVector = 4;  // floats in 16 bytes

// Whether rows of n floats, the first at `w` or `x`, all begin on 16 bytes.
inline bool rows_are_aligned(const float *w, const float *x, int n) {
  return n % kVector == 0 && (uintptr_t)w % 16 == 0 && (uintptr_t)x % 16 == 0;
}

// Calls launch(Lanes, Vector), both as compile-time constants.
template <class Launch>
inline void with_dot_shape(int lanes, bool vector, Launch launch) {
  auto with_lanes = [&](auto constant) {
    vector ? launch(constant, std::true_type{}) : launch(constant, std::false_type{});
  };
  if (lanes == 1)
    with_lanes(std::integral_constant<int, 1>{});
  else if (lanes == 8)
    with_lanes(std::integral_constant<int, 8>{});
  else
    with_lanes(std::integral_constant<int, 32>{});
}

// results[r] = sum_i w[i] * x[r][i] for i < n, the results in every one of the Lanes lanes of the group.
//   Vector: w and x are 16-byte aligned and n is a multiple of kVector
//   order: a lane adds every Lanes-th vector in ascending order into four sums, (x + y) + (z + w), then group_reduce:
//   depends on n, Lanes and Vector alone, so for 16-byte aligned tensors on n alone
template <int Lanes, bool Vector, int Rows>
__device__ inline void dot(float (&results)[Rows], const float *w, const float *const (&x)[Rows], int n, int lane) {
  float4 sums[Rows];
  for (int r = 0; r < Rows; r++) sums[r] = {0, 0, 0, 0};
  const auto add = [&](int i) {
    for (int r = 0; r < Rows; r++) {
      if constexpr (Vector)
        add_products(sums[r], w + i, x[r] + i);
      else
        sums[r].x = multiply_add(w[i], x[r][i], sums[r].x);
    }
  };
  if constexpr (!Vector) {
    for (int i = lane; i < n; i += Lanes) add(i);
  } else if constexpr (Rows == 1) {
    GETP_UNROLL_4
    for (int i = lane * kVector; i < n; i += Lanes * kVector) add(i);
  } else {  // many rows give the loads enough to overlap with; unrolled, they run out of scalar registers
    GETP_UNROLL_1
    for (int i = lane * kVector; i < n; i += Lanes * kVector) add(i);
  }
  for (int r = 0; r < Rows; r++)
    results[r] = group_reduce<Lanes>((sums[r].x + sums[r].y) + (sums[r].z + sums[r].w), Sum{});
}

}  // namespace getp_hip
