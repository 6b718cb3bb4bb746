// matvec: out[r,o] = sum_i w[o,i] * x[r,i]                                     reference: matmul() in run.cpp
// expert_matvec: out[s,o] = sum_i w[expert[s],o,i] * x[s / share,i], a row s for each chosen expert of a token
//   For matrices that the matrix cores cannot take (matmul.hip): FP32 in all things
//   w (d, n) or (n_experts, d, n) f32 . x (rows, n) f32 . out (rows, d) f32
//   grid: (blocks over d, tiles of 1 or 4 rows) . block: 256, a group of 1, 8 or 32 lanes an output
//   order: dot(), FP32 sums: depends on n alone, not on what shares the tile
//   16-byte loads where all rows are aligned
#pragma once

#include "dot.hpp"
#include "expert_tiles.hip"

namespace getp_hip {

constexpr int kMatvecTile = kSmallestTile;

// experts: that of each row, where a tile is one row; tiles: where rows of an expert are grouped; nullptr: one matrix.
template <int Lanes, bool Vector, int Rows>
__global__ void __launch_bounds__(256)
    matvec_kernel(float *out, const float *w, const float *x, const int *experts, const ExpertTile *tiles,
                  const int *tile_rows, int share, int rows, int n, int d) {
  GETP_AFTER_PREVIOUS();
  const int lane = threadIdx.x % Lanes;
  const size_t o = (size_t)blockIdx.x * (256 / Lanes) + threadIdx.x / Lanes;
  size_t matrix = experts ? (size_t)experts[blockIdx.y] : 0;
  int first = (int)blockIdx.y * Rows, count = rows - first < Rows ? rows - first : Rows;
  if (tiles) {
    const ExpertTile tile = tiles[blockIdx.y];
    if (tile.count == 0) return;
    matrix = tile.expert;
    first = tile.first;
    count = tile.count;
  }
  // Groups past the end repeat the last output, so that whole waves meet in group_reduce; so do rows past the tile's.
  const size_t w_row = matrix * d + (o < (size_t)d ? o : d - 1);
  size_t row[Rows];
  const float *x_rows[Rows];
  for (int r = 0; r < Rows; r++) {
    const int at = first + (r < count ? r : count - 1);
    row[r] = tile_rows ? tile_rows[at] : at;
    x_rows[r] = x + row[r] / share * n;
  }
  float sums[Rows];
  dot<Lanes, Vector, Rows>(sums, w + w_row * n, x_rows, n, lane);
  if (lane != 0 || o >= (size_t)d) return;
  for (int r = 0; r < Rows; r++)
    if (r < count) out[row[r] * d + o] = sums[r];
}

inline void matvec(float *d_out, const float *d_w, const float *d_x, int rows, int n, int d, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && n > 0 && d > 0);
  const int *none = nullptr;
  const ExpertTile *no_tiles = nullptr;
  with_dot_shape(n, rows_are_aligned(d_w, d_x, n), [&](auto lanes, auto vector) {
    const unsigned blocks = block_count(d, 256 / lanes.value);
    if (rows == 1)
      HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, 1>), dim3(blocks), dim3(256), stream, d_out, d_w, d_x, none,
                 no_tiles, none, 1, rows, n, d);
    else
      HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, kMatvecTile>),
                 dim3(blocks, (rows + kMatvecTile - 1) / kMatvecTile), dim3(256), stream, d_out, d_w, d_x, none,
                 no_tiles, none, 1, rows, n, d);
  });
}

// `share` rows of out read the same row of x: experts_per_token for w_mlp1, 1 for w_mlp2. `groups`: d_experts grouped
// by expert_tiles into tiles of kMatvecTile, or none, then each row reads its expert's matrix by itself.
inline void expert_matvec(float *d_out, const float *d_w, const float *d_x, const int *d_experts,
                          const ExpertTiles &groups, int share, int rows, int n, int d, hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && rows <= 65535 && n > 0 && d > 0 && share > 0 && rows % share == 0);
  HIP_REQUIRE(groups.count == 0 || groups.tile_rows == kMatvecTile);
  const int *none = nullptr;
  with_dot_shape(n, rows_are_aligned(d_w, d_x, n), [&](auto lanes, auto vector) {
    const unsigned blocks = block_count(d, 256 / lanes.value);
    if (groups.count == 0)
      HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, 1>), dim3(blocks, rows), dim3(256), stream, d_out, d_w, d_x,
                 d_experts, groups.d_tiles, none, share, rows, n, d);
    else
      HIP_LAUNCH((matvec_kernel<lanes.value, vector.value, kMatvecTile>), dim3(blocks, groups.count), dim3(256), stream,
                 d_out, d_w, d_x, none, groups.d_tiles, groups.d_rows, share, rows, n, d);
  });
}

}  // namespace getp_hip
