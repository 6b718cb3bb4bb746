// swiglu: gate = min(gate, limit), up = clamp(up, -limit, limit), out = gate * sigmoid(1.702 * gate) * (up + 1), and
// out in split terms          reference: forward() in run.cpp; source: swiglu() of gpt_oss/torch/model.py in
// openai/gpt-oss
//   mlp1_out (rows, 2 * intermediate) f32, alternating gate, up . out (rows, intermediate) f32 or none: whoever takes
//   the split form alone saves its traffic . split: see split_terms.hip
//   grid: a block a row . block: kSplitThreads, each thread strides over intermediate
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
  strided<kSplitThreads, 6>(
      intermediate, [&](int i) { return gate_up[i]; },
      [&](int i, float2 both) {
        const float value = swiglu_value(both, limit);
        if (out) out[row + i] = value;
        largest = larger_size(largest, value);
      });
  if (split.d_hi)
    split_row<kSplitThreads>(split, blockIdx.x, intermediate, largest,
                             [&](int i) { return swiglu_value(gate_up[i], limit); });
}

inline void swiglu(float *d_out, SplitRows split, const float *d_mlp1_out, int rows, int intermediate, float limit,
                   hipStream_t stream) {
  if (!can_split(intermediate)) split.d_hi = nullptr;
  HIP_REQUIRE(rows > 0 && intermediate > 0 && (d_out || split.d_hi));
  HIP_LAUNCH(swiglu_kernel, dim3(rows), dim3(kSplitThreads), stream, d_out, split, d_mlp1_out, intermediate, limit);
}

}  // namespace getp_hip
