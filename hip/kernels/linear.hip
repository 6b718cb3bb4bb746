// linear: out[r] = w x[r] + bias, expert_linear: out[s] = w[expert[s]] x[s / share] + bias[expert[s]], by the kernels
// that suit the form of w: matmul.hip for MXFP4 and FP16, matvec.hip for FP32 (product_plan.hpp)
//   x (rows, n) f32 and `split`, the same rows split in terms . out (rows, d) f32
//   bias (d), (n_experts, d) f32 or none
#pragma once

#include "bias.hip"
#include "matmul.hip"
#include "matvec.hip"

namespace getp_hip {

inline void linear(const Card &card, float *d_out, const DeviceMatrix &w, const float *d_bias, const float *d_x,
                   const SplitRows &split, int rows, hipStream_t stream) {
  ProductRows of;
  of.rows = rows;
  if (w.form != MatrixForm::kFp32) return matmul(card, d_out, w, d_bias, split, of, stream);
  matvec(card, d_out, w, d_x, of, stream);
  if (d_bias) add_bias(d_out, d_bias, rows, w.d, stream);
}

inline void expert_linear(const Card &card, float *d_out, const DeviceMatrix &w, const float *d_bias, const float *d_x,
                          const SplitRows &split, const ProductRows &of, hipStream_t stream) {
  if (w.form != MatrixForm::kFp32) return matmul(card, d_out, w, d_bias, split, of, stream);
  matvec(card, d_out, w, d_x, of, stream);
  add_expert_bias(d_out, d_bias, of.d_experts, of.rows, w.d, stream);
}

// The rows of the k chosen experts of `tokens` tokens, grouped for both matrices of an expert where that pays: a token
// alone has no expert twice, so that there is nothing to group. `room`: see expert_tiles.
inline ExpertTiles group_chosen(const Card &card, const ExpertTiles &room, const DeviceMatrix &first,
                                const DeviceMatrix &second, const int *d_experts, int tokens, int k, int n_experts,
                                hipStream_t stream) {
  if (tokens == 1) return {};
  const int tile_rows = plan_expert_tile_rows(card, first, second, tokens * k, n_experts);
  return expert_tiles(room, d_experts, tokens * k, n_experts, tile_rows, stream);
}

}  // namespace getp_hip
