// swiglu: gate = min(gate, limit), up = clamp(up, -limit, limit), out = gate * sigmoid(1.702 * gate) * (up + 1), and
// out in split terms                                                              reference: forward() in run.cpp
//   source: swiglu() of gpt_oss/torch/model.py in openai/gpt-oss
//   mlp1_out (rows, 2 * intermediate) f32, alternating gate, up
//   out (rows, intermediate) f32 or none: whoever takes the split form alone saves its traffic
//   split: see split_terms.hip
//   grid: a block a row . block: kSplitThreads, a thread strides over pairs
#pragma once

#include "split_terms.hip"

namespace getp_hip {

__device__ inline float swiglu_value(float2 gate_up, float limit) {
  const float g = gate_up.x, u = gate_up.y;  // comparisons, not fminf: a NaN must stay one
  const float gate = g > limit ? limit : g, up = u > limit ? limit : u < -limit ? -limit : u;
  return gate / (1.0f + expf(-1.702f * gate)) * (up + 1.0f);
}

__global__ void __launch_bounds__(kSplitThreads)
    swiglu_kernel(float *out, SplitRows split, const float *mlp1_out, int intermediate, float limit) {
  GETP_AFTER_PREVIOUS();
  const size_t row = (size_t)blockIdx.x * intermediate;
  float largest = 0;
  const float2 *gate_up = (const float2 *)mlp1_out + row;
  const auto value_pair = [&](int i) {
    return float2{swiglu_value(gate_up[2 * i], limit),
                  2 * i + 1 < intermediate ? swiglu_value(gate_up[2 * i + 1], limit) : 0};
  };
  const bool keeps = keeps_pairs<kSplitThreads>(intermediate);
  float2 kept[kRowPairs];
  strided<kSplitThreads, kRowPairs>((intermediate + 1) / 2, [&](int i, int) { return value_pair(i); },
                                    [&](int i, int a, float2 value) {
                                      if (out) {
                                        out[row + 2 * i] = value.x;
                                        if (2 * i + 1 < intermediate) out[row + 2 * i + 1] = value.y;
                                      }
                                      largest = larger_size(larger_size(largest, value.x), value.y);
                                      kept[a] = value;
                                    });
  if (split.d_hi)
    split_row<kSplitThreads>(split, blockIdx.x, intermediate, largest, [&](int i, int a) {
      if (!keeps) kept[a] = value_pair(i);
      return kept[a];
    });
}

inline void swiglu(float *d_out, SplitRows split, const float *d_mlp1_out, int rows, int intermediate, float limit,
                   hipStream_t stream) {
  if (!can_split(intermediate)) split.d_hi = nullptr;
  HIP_REQUIRE(rows > 0 && intermediate > 0 && (d_out || split.d_hi));
  HIP_LAUNCH(swiglu_kernel, dim3(rows), dim3(kSplitThreads), stream, d_out, split, d_mlp1_out, intermediate, limit);
}

}  // namespace getp_hip
