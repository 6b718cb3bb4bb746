// swiglu: gate = min(gate, limit), up = clamp(up, -limit, limit), out = gate * sigmoid(1.702 * gate) * (up + 1)
//                       reference: forward() in run.cpp; source: swiglu() of gpt_oss/torch/model.py in openai/gpt-oss
//   mlp1_out (rows, 2 * intermediate) f32, alternating gate, up . out (rows, intermediate) f32
//   grid: (blocks over intermediate, rows) . block: 256, a thread an element
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void swiglu_kernel(float *out, const float *mlp1_out, int intermediate, float limit) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= intermediate) return;
  const size_t at = (size_t)blockIdx.y * intermediate + i;
  const float g = mlp1_out[2 * at], u = mlp1_out[2 * at + 1];  // comparisons, not fminf: a NaN must stay one
  const float gate = g > limit ? limit : g, up = u > limit ? limit : u < -limit ? -limit : u;
  out[at] = gate / (1.0f + expf(-1.702f * gate)) * (up + 1.0f);
}

inline void swiglu(float *d_out, const float *d_mlp1_out, int rows, int intermediate, float limit, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && intermediate > 0);
  HIP_LAUNCH(swiglu_kernel, dim3(block_count(intermediate, 256), rows), dim3(256), stream, d_out, d_mlp1_out,
             intermediate, limit);
}

}  // namespace getp_hip
