// What the kernels of matmul.hip share: arguments, the tile that a block makes, what finishes its sums.
#pragma once

#include "product_rows.hpp"
#include "split_terms.hip"

namespace getp_hip {

// The arguments of the kernels, in the terms of matmul.hip; matmul_arguments fills them.
struct MatmulArguments {
  float *out;
  const uint4 *w;  // strips, in MXFP4 or FP16
  const float *w_scales, *bias;
  const fp16 *hi, *lo;
  const float *x_scales;
  const int *experts;       // that of each row, where a tile is one row; else none
  const ExpertTile *tiles;  // where rows of an expert are grouped; else none
  const int *grouped_rows;  // their rows
  int share, rows, n, d, row_tiles;
  int steps;          // of kMatmulStep k, to the end of n
  bool matrix_known;  // which matrix and rows a block takes: before the kernel before has ended
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
  __device__ int row(const MatmulArguments &a, int r) const {
    return a.grouped_rows ? a.grouped_rows[first + r] : first + r;
  }
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

// What a lane holds of a group of weights, kSteps tiles of a strip, loaded together; kUnits of memory. `From`: where a lane
// finds its own, so that a group that is a constant further costs no arithmetic. FP16:
template <class Tile>
struct Fp16Weights {
  static constexpr MatrixForm kForm = MatrixForm::kFp16;
  static constexpr int kSteps = 1, kUnits = 64;
  struct From {
    const uint4 *units;
    __device__ From(const uint4 *strip, int lane) : units(strip + Tile::weight_unit(lane, 0)) {}
  };
  typename Tile::Operand held;

  __device__ void load(const From &from, int group, int lane) {
    GETP_UNROLL
    for (int u = 0; u < Tile::kUnits; u++)
      held.units[u] =
          load_once(from.units + group * kUnits + (Tile::weight_unit(lane, u) - Tile::weight_unit(lane, 0)));
  }
  __device__ void load_shared(const uint4 *group, int lane) { held = load_weights<Tile>(group, lane); }
  __device__ typename Tile::Operand operand(int) const { return held; }
};

__device__ inline unsigned word_of(const uint4 &unit, int word) {
  return word == 0 ? unit.x : word == 1 ? unit.y : word == 2 ? unit.z : unit.w;
}

// MXFP4, unpacked to the operands that FP16 would hold.
template <class Tile>
struct Mxfp4Weights {
  static constexpr MatrixForm kForm = MatrixForm::kMxfp4;
  static constexpr int kSteps = Tile::kPackedSteps, kUnits = Tile::kGroupUnits;
  struct From {
    const uint4 *slots;
    const unsigned *scales;
    __device__ From(const uint4 *strip, int lane)
        : slots(strip + Tile::weight_unit(lane, 0)),
          scales((const unsigned *)(strip + Tile::kSlots) + Tile::slot_scales(Tile::weight_unit(lane, 0))) {}
  };
  uint4 slots[Tile::kLaneSlots];
  unsigned scales;

  __device__ void load(const From &from, int group, int lane) {
    GETP_UNROLL
    for (int i = 0; i < Tile::kLaneSlots; i++)
      slots[i] = load_once(from.slots + group * kUnits + (Tile::weight_unit(lane, i) - Tile::weight_unit(lane, 0)));
    scales = from.scales[group * kUnits * 4];
  }
  __device__ void load_shared(const uint4 *group, int lane) {
    GETP_UNROLL
    for (int i = 0; i < Tile::kLaneSlots; i++) slots[i] = group[Tile::weight_unit(lane, i)];
    scales = ((const unsigned *)(group + Tile::kSlots))[Tile::slot_scales(Tile::weight_unit(lane, 0))];
  }
  __device__ typename Tile::Operand operand(int step) const {
    typename Tile::Operand operand;
    GETP_UNROLL
    for (int u = 0; u < Tile::kUnits; u++) {
      const int word = Tile::packed_word(step, u);
      operand.units[u] = Tile::unpack(word_of(slots[u / Tile::kStepWords], word), scales, word);
    }
    return operand;
  }
};

// The first group of the strip that holds output o; past the last one the last.
template <class Weights>
__device__ inline const uint4 *weight_strip(const MatmulArguments &a, size_t matrix, int o) {
  const int strips = (a.d + 15) / 16, strip = o / 16 < strips ? o / 16 : strips - 1;
  const int groups = (a.steps + Weights::kSteps - 1) / Weights::kSteps;
  return a.w + (matrix * strips + strip) * groups * Weights::kUnits;
}

// Where the octets of 8 k of row r of a block's tile begin; past the last one those of the last, whose sums nothing
// stores.
__device__ inline const uint4 *row_octets(const MatmulArguments &a, const MatmulTile &tile, int r) {
  const int row = tile.row(a, r < tile.count ? r : tile.count - 1);
  return (const uint4 *)a.hi + (size_t)(row / a.share) * a.steps * 4;
}

// What finishes the sums of a tile's rows. Thread r loads row r's while the block multiplies; in the end all of them
// share these in the room of the stages.
struct TileRows {
  int *out;
  float *x_scales;
  int own_out;
  float own_scale;

  __device__ void load(const MatmulArguments &a, const MatmulTile &tile) {
    const int r = threadIdx.x;
    own_out = r < tile.count ? tile.row(a, r) : 0;
    own_scale = a.x_scales[own_out / a.share];
  }
  // By all threads, whose copies to `stages` have ended.
  __device__ void share(uint4 *stages, int rows) {
    out = (int *)stages;
    x_scales = (float *)(out + rows);
    __syncthreads();
    if ((int)threadIdx.x < rows) {
      out[threadIdx.x] = own_out;
      x_scales[threadIdx.x] = own_scale;
    }
    __syncthreads();
  }
};

// Finishes and stores the sums of a wave: `OutputStrips` strips of 16 outputs from strip first_output_strip of the tile
// on, `RowStrips` of 16 rows from strip first_row_strip on.
template <class Tile, int OutputStrips, int RowStrips, int Values = Tile::kValues>
__device__ inline void store_totals(const MatmulArguments &a, const MatmulTile &tile, const TileRows &rows,
                                    typename Tile::Sums (&totals)[OutputStrips][RowStrips], int first_output_strip,
                                    int first_row_strip, int lane) {
  MatmulOutput outputs[OutputStrips][Values];
  GETP_UNROLL
  for (int i = 0; i < OutputStrips * Values; i++)
    outputs[i / Values][i % Values].load(
        a, tile.matrix, tile.first_output + (first_output_strip + i / Values) * 16 + Tile::output(lane, i % Values));
  GETP_UNROLL
  for (int j = 0; j < RowStrips * Values; j++) {
    const int strip = j / Values, v = j % Values, r = (first_row_strip + strip) * 16 + Tile::row(lane, v);
    float *out = a.out + (size_t)rows.out[r] * a.d;
    GETP_UNROLL
    for (int i = 0; i < OutputStrips; i++) {
      const int o = tile.first_output + (first_output_strip + i) * 16 + Tile::output(lane, v);
      if (r < tile.count && o < a.d) out[o] = outputs[i][v].finish(totals[i][strip].values[v], rows.x_scales[r]);
    }
  }
}

}  // namespace getp_hip
