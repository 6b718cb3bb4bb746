// matvec: out[r,o] = sum_i w[o,i] * x[r,i]                                     reference: matmul() in run.cpp
// by expert: out[s,o] = sum_i w[expert[s],o,i] * x[s / share,i], a row s for each chosen expert of a token
//   For matrices that the matrix cores cannot take (matmul.hip): FP32 in all things
//   w (d, n) or (n_experts, d, n) f32 . x (rows, n) f32 . out (rows, d) f32
//   grid: (blocks over d, tiles of 1 or 4 rows) . block: 256, a group of 1, 8 or 32 lanes an output
//   order: dot(), FP32 sums: depends on n alone, not on what shares the tile
//   16-byte loads where all rows are aligned
#pragma once

#include "dot.hpp"
#include "product_rows.hpp"

namespace getp_hip {

// The arguments of the kernel, in the terms above.
struct MatvecArguments {
  float *out;
  const float *w, *x;
  const int *experts;       // that of each row, where a tile is one row; else none
  const ExpertTile *tiles;  // where rows of an expert are grouped; else none
  const int *grouped_rows;  // their rows
  int share, rows, n, d;
};

template <int Lanes, bool Vector, int Rows>
__global__ void __launch_bounds__(256) matvec_kernel(MatvecArguments a) {
  GETP_AFTER_PREVIOUS();
  const int lane = threadIdx.x % Lanes;
  const size_t o = (size_t)blockIdx.x * (256 / Lanes) + threadIdx.x / Lanes;
  size_t matrix = a.experts ? (size_t)a.experts[blockIdx.y] : 0;
  int first = (int)blockIdx.y * Rows, count = a.rows - first < Rows ? a.rows - first : Rows;
  if (a.tiles) {
    const ExpertTile tile = a.tiles[blockIdx.y];
    if (tile.count == 0) return;
    matrix = tile.expert;
    first = tile.first;
    count = tile.count;
  }
  // Groups past the end repeat the last output, so that whole waves meet in group_reduce; so do rows past the tile's.
  const size_t w_row = matrix * a.d + (o < (size_t)a.d ? o : a.d - 1);
  size_t row[Rows];
  const float *x_rows[Rows];
  for (int r = 0; r < Rows; r++) {
    const int at = first + (r < count ? r : count - 1);
    row[r] = a.grouped_rows ? a.grouped_rows[at] : at;
    x_rows[r] = a.x + row[r] / a.share * a.n;
  }
  float sums[Rows];
  dot<Lanes, Vector, Rows>(sums, a.w + w_row * a.n, x_rows, a.n, lane);
  if (lane != 0 || o >= (size_t)a.d) return;
  for (int r = 0; r < Rows; r++)
    if (r < count) a.out[row[r] * a.d + o] = sums[r];
}

// The form of w is FP32; tiles of `of.groups` have kMatvecTile rows.
inline void matvec(const Card &card, float *d_out, const DeviceMatrix &w, const float *d_x, const ProductRows &of,
                   hipStream_t stream) {
  HIP_REQUIRE(of.rows > 0 && of.rows <= 65535 && w.n > 0 && w.d > 0 && of.share > 0 && of.rows % of.share == 0);
  HIP_REQUIRE(!of.grouped() || of.groups.tile_rows == kMatvecTile);
  const Product product = product_of(card, w, 1, of);
  const ProductPlan plan = plan_product(card, product);
  MatvecArguments a = {};
  a.out = d_out;
  a.w = w.d_exact;
  a.x = d_x;
  a.experts = of.grouped() ? nullptr : of.d_experts;
  a.tiles = of.grouped() ? of.groups.d_tiles : nullptr;
  a.grouped_rows = of.grouped() ? of.groups.d_rows : nullptr;
  a.share = of.share;
  a.rows = of.rows;
  a.n = w.n;
  a.d = w.d;
  const dim3 grid(block_count(w.d, plan.tile_outputs), product.row_tiles), block(plan.threads);
  with_dot_shape(plan.output_lanes, rows_are_aligned(w.d_exact, d_x, w.n), [&](auto lanes, auto vector) {
    if (plan.tile_rows == 1)
      HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, 1>), grid, block, stream, a);
    else
      HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, kMatvecTile>), grid, block, stream, a);
  });
}

}  // namespace getp_hip
