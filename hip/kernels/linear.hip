// linear: out[r] = w x[r] + bias, expert_linear: out[s] = w[expert[s]] x[s / share] + bias[expert[s]], by the kernels
// that suit the form of w: matmul.hip for FP16, matvec.hip for FP32
//   x (rows, n) f32 and `split`, the same rows split in terms . out (rows, d) f32 . bias (d), (n_experts, d) f32 or
//   none
#pragma once

#include "bias.hip"
#include "matmul.hip"
#include "matvec.hip"

namespace getp_hip {

inline void linear(float *d_out, const DeviceMatrix &w, const float *d_bias, const float *d_x, const SplitRows &split,
                   int rows, hipStream_t stream) {
  if (w.in_fp16) return matmul(d_out, w, d_bias, split, rows, stream);
  matvec(d_out, w.d_exact, d_x, rows, w.n, w.d, stream);
  if (d_bias) add_bias(d_out, d_bias, rows, w.d, stream);
}

inline void expert_linear(float *d_out, const DeviceMatrix &w, const float *d_bias, const float *d_x,
                          const SplitRows &split, const int *d_experts, const ExpertTiles &groups, int share, int rows,
                          hipStream_t stream) {
  if (w.in_fp16) return expert_matmul(d_out, w, d_bias, split, d_experts, groups, share, rows, stream);
  expert_matvec(d_out, w.d_exact, d_x, d_experts, groups, share, rows, w.n, w.d, stream);
  add_expert_bias(d_out, d_bias, d_experts, rows, w.d, stream);
}

// Rows of a tile of expert_tiles that suits both matrices, `rows` rows spread over n_experts.
inline int expert_tile_rows(const DeviceMatrix &first, const DeviceMatrix &second, int rows, int n_experts) {
  if (!first.in_fp16 || !second.in_fp16) return kMatvecTile;
  return std::max(16, matmul_tile_rows((rows + n_experts - 1) / n_experts, std::min(first.d, second.d)));
}

}  // namespace getp_hip
