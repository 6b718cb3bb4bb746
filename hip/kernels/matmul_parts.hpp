// What the kernels of matmul.hip share: arguments, the tile that a block makes, what finishes a sum.
#pragma once

#include "../device_matrix.hpp"
#include "expert_tiles.hip"
#include "split_terms.hip"

namespace getp_hip {

constexpr int kMatmulStep = 32, kMatmulChunk = 256, kMatmulOutputs = 128;

// The arguments of both kernels, in the terms of matmul.hip. experts: that of each row, where a tile is one row; tiles:
// where rows of an expert are grouped; nullptr: one matrix.
struct MatmulArguments {
  float *out;
  const fp16 *w;
  const float *w_scales, *bias;
  const fp16 *hi, *lo;
  const float *x_scales;
  const int *experts;
  const ExpertTile *tiles;
  const int *tile_rows;
  int share, rows, n, d, row_tiles;
  int steps = 0;  // of kMatmulStep k, to the end of n: the launcher's to set
};

// Which outputs of which rows of which matrix a block makes. Blocks beside each other take the row tiles of one matrix,
// then its next outputs: what runs at a time shares weights and rows.
struct MatmulTile {
  size_t matrix;
  int first, count, first_output;

  __device__ MatmulTile(const MatmulArguments &a, int tile_rows, int tile_outputs) {
    int output;
    if (a.tiles) {
      const int output_tiles = (a.d + tile_outputs - 1) / tile_outputs;
      const ExpertTile any = a.tiles[blockIdx.x / output_tiles];
      const int of_expert = (int)blockIdx.x - any.first_tile * output_tiles;
      const ExpertTile own = a.tiles[any.first_tile + of_expert % any.tiles_of_expert];
      output = of_expert / any.tiles_of_expert;
      matrix = own.expert;
      first = own.first;
      count = own.count;
    } else {
      const int tile = (int)blockIdx.x % a.row_tiles;
      output = (int)blockIdx.x / a.row_tiles;
      matrix = a.experts ? (size_t)a.experts[tile] : 0;
      first = a.experts ? tile : tile * tile_rows;
      count = a.experts ? 1 : a.rows - first < tile_rows ? a.rows - first : tile_rows;
    }
    first_output = output * tile_outputs;
  }
  // The row of out that row r < count of the tile is.
  __device__ int row(const MatmulArguments &a, int r) const { return a.tile_rows ? a.tile_rows[first + r] : first + r; }
};

// What finishes the sums of an output: scale and bias.
struct MatmulOutput {
  float scale, bias;

  __device__ void load(const MatmulArguments &a, size_t matrix, int o) {
    const size_t at = matrix * a.d + (o < a.d ? o : a.d - 1);
    scale = a.w_scales[at];
    bias = a.bias ? a.bias[at] : 0;
  }
  __device__ float finish(float sum, float x_scale) const { return sum * x_scale * scale + bias; }
};

// Unit u of rows; at(quad): where quad `quad` of 4 k of its row lies.
template <class Tile, class At>
__device__ inline uint4 load_row_unit(int lane, int u, At at) {
  const uint2 *low = at(Tile::unit_quad(lane, u, 0));
  if constexpr (Tile::kOctets) return *(const uint4 *)low;
  const uint2 high = *at(Tile::unit_quad(lane, u, 1));
  return {low->x, low->y, high.x, high.y};
}

template <class Tile>
__device__ inline typename Tile::Operand load_weights(const uint4 *tile, int lane) {
  typename Tile::Operand operand;
  GETP_UNROLL
  for (int u = 0; u < Tile::kUnits; u++) operand.units[u] = tile[Tile::weight_unit(lane, u)];
  return operand;
}

// The first tile of the strip that holds output o; past the last one the last.
__device__ inline const uint4 *weight_strip(const MatmulArguments &a, size_t matrix, int o) {
  const int strips = (a.d + 15) / 16, strip = o / 16 < strips ? o / 16 : strips - 1;
  return (const uint4 *)a.w + (matrix * strips + strip) * a.steps * 64;
}

}  // namespace getp_hip
