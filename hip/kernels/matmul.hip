// matmul: out[r,o] = sum_i w[o,i] * x[r,i] + bias[o] on matrix cores                reference: matmul() in run.cpp
// expert_matmul: out[s,o] = sum_i w[expert[s],o,i] * x[s / share,i] + bias[expert[s],o], a row s for each chosen expert
//   w (matrices, d, n): DeviceMatrix, in FP16 . x (rows, n): SplitRows, its first term or both
//   bias (matrices, d) f32 or none . out (rows, d) f32
//   precondition: n % 8 == 0, rows aligned to 16 bytes
//   order: chunks of kChunk k, summed by the matrix cores (at each 32 k the first term, then the second), added up in
//   FP32 in ascending order: depends on n alone, not on the kernel, the tile or what shares it. Matrix cores that
//   truncate their sums stay at FP32 grade that way (DESIGN, Numbers).
//
// Two kernels. Few rows: matmul_stream_kernel, bound by reading w: a block makes 16 outputs of a tile of 16 rows (or 32
// of 32), its waves take a chunk each in turn, straight from global memory.
//   grid: blocks of outputs * row tiles . block: a wave (of 64) a chunk, at most 256 . shared: the sums of a round of
//   chunks
// Many rows: matmul_tile_kernel, bound by the matrix cores: a block makes 128 outputs of 64 or 128 rows from stages of
// 32 k in shared memory: tiles of w as they are; of x 16 rows of 4 octets a KB, swizzled so that neither copies nor
// tiles meet in a bank.
//   grid: blocks of outputs * row tiles . block: 256
#pragma once

#include "../device_matrix.hpp"
#include "expert_tiles.hip"
#include "split_terms.hip"

namespace getp_hip {

constexpr int kMatmulStep = 32, kMatmulChunk = 256, kMatmulOutputs = 128;

// The arguments of both kernels, as in the contract above. experts: that of each row, where a tile is one row; tiles:
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

// Place of octet `octet` of row `row` in a step, in units: a row's octets stay together, since copies write what they
// read together, in an order that keeps the lanes of a tile off each other's banks.
__device__ inline int step_place(int row, int octet) { return row * 4 + (octet ^ (row / 2 % 4)); }

template <class Tile>
__device__ inline typename Tile::Operand load_rows(const uint4 *strip, int lane) {
  typename Tile::Operand operand;
  GETP_UNROLL
  for (int u = 0; u < Tile::kUnits; u++)
    operand.units[u] = strip[step_place(Tile::unit_row(lane, u), Tile::unit_octet(lane, u))];
  return operand;
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

template <class Tile, int Terms, int Rows>
__global__ void __launch_bounds__(256, kStageBlocks) matmul_tile_kernel(MatmulArguments a) {
  constexpr int kWaves = 256 / Tile::kWave, kStrips = kMatmulOutputs / 16, kRowStrips = Rows / 16;
  // of a wave: strips of rows, strips of outputs (few where their operands take many registers)
  constexpr int kOwnRows = Rows == 128 && (kWaves == 4 || Tile::kUnits == 4) ? 4 : 2,
                kOwn = kStrips * kRowStrips / kOwnRows / kWaves;
  constexpr int kStep = (kStrips + Terms * kRowStrips) * 64, kStage = kStageSteps * kStep;  // units
  constexpr int kCopiesW = kStageSteps * kStrips / 4, kOctets = 4 * kStageSteps, kPassRows = 256 / kOctets;
  constexpr int kCopiesX = Rows / kPassRows;
  static_assert(kMatmulChunk % (kStageSteps * kMatmulStep) == 0, "a chunk is made of whole stages");
  GETP_SHARED_STAGES(stages, kSharedStages * kStage);

  const MatmulTile tile(a, Rows, kMatmulOutputs);
  if (tile.count <= 0) return;
  const int first_output = tile.first_output;
  const int thread = threadIdx.x, lane = thread % Tile::kWave, wave = thread / Tile::kWave;
  // Waves beside each other take the same rows: where a tile is half empty, each of a processor's schedulers keeps
  // work.
  constexpr int kOutputWaves = kStrips / kOwn;
  const int own_row = wave / kOutputWaves * kOwnRows, own_output = wave % kOutputWaves * kOwn;
  const bool has_rows = own_row * 16 < tile.count;

  // A thread copies a unit of every fourth tile of weights, and octet `octet` of every row that is kPassRows further.
  // What lies past the last output or row repeats it; nothing reads the sums.
  const int octet = thread % kOctets, pass_row = thread / kOctets;
  const uint4 *from_w[kCopiesW];
  const fp16 *from_x[kCopiesX];
  GETP_UNROLL
  for (int i = 0; i < kCopiesW; i++) {
    const int strip = (thread / 64 + 4 * i) % kStrips, step = (thread / 64 + 4 * i) / kStrips;
    from_w[i] = weight_strip(a, tile.matrix, first_output + strip * 16) + step * 64 + thread % 64;
  }
  GETP_UNROLL
  for (int i = 0; i < kCopiesX; i++) {
    const int r = pass_row + kPassRows * i;
    from_x[i] =
        a.hi + (size_t)(tile.row(a, r < tile.count ? r : tile.count - 1) / a.share) * a.steps * kMatmulStep + octet * 8;
  }
  const ptrdiff_t to_lo = a.lo - a.hi;
  StageCopy<kCopiesW + Terms * kCopiesX> copy;
  const auto begin_stage = [&](int number, uint4 *stage) {
    const int first_step = number * kStageSteps;
    GETP_UNROLL
    for (int i = 0; i < kCopiesW; i++) {
      const int strip = (thread / 64 + 4 * i) % kStrips, step = (thread / 64 + 4 * i) / kStrips;
      copy.begin(i, stage + step * kStep + strip * 64 + thread % 64, from_w[i] + first_step * 64,
                 first_step + step < a.steps);
    }
    GETP_UNROLL
    for (int i = 0; i < Terms * kCopiesX; i++) {
      const int term = i / kCopiesX, pass = i % kCopiesX, step = octet / 4;
      copy.begin(kCopiesW + i,
                 stage + step * kStep + (kStrips + term * kRowStrips) * 64 +
                     step_place(pass_row + kPassRows * pass, octet % 4),
                 from_x[pass] + (term ? to_lo : 0) + first_step * kMatmulStep, first_step + step < a.steps);
    }
    copy.commit();
  };
  for (int s = 0; s < kPipelineStages - 1; s++) {
    begin_stage(s, stages + s * kStage);
    copy.end();
  }

  typename Tile::Sums sums[kOwn][kOwnRows] = {}, totals[kOwn][kOwnRows] = {};
  const int stage_count = (a.steps + kStageSteps - 1) / kStageSteps;
  int stage = 0, next_stage = (kPipelineStages - 1) % kSharedStages;
  for (int number = 0; number < stage_count; number++) {
    copy.wait();
    __syncthreads();
    begin_stage(number + kPipelineStages - 1, stages + next_stage * kStage);
    GETP_UNROLL
    for (int own_step = 0; own_step < kStageSteps && has_rows; own_step++) {
      const uint4 *step = stages + stage * kStage + own_step * kStep;
      const uint4 *w = step + own_output * 64, *x = step + (kStrips + own_row) * 64;
      typename Tile::Operand own[kOwn];
      GETP_UNROLL
      for (int i = 0; i < kOwn; i++) own[i] = load_weights<Tile>(w + i * 64, lane);
      GETP_UNROLL
      for (int j = 0; j < Terms * kOwnRows; j++) {
        const int term = j / kOwnRows, strip = j % kOwnRows;
        const typename Tile::Operand own_rows = load_rows<Tile>(x + (term * kRowStrips + strip) * 64, lane);
        GETP_UNROLL
        for (int i = 0; i < kOwn; i++) Tile::multiply_add(sums[i][strip], own[i], own_rows);
      }
    }
    if ((number + 1) * kStageSteps % (kMatmulChunk / kMatmulStep) == 0 || number + 1 == stage_count) {
      GETP_UNROLL
      for (int i = 0; i < kOwn * kOwnRows * Tile::kValues; i++) {
        float &sum = sums[i / Tile::kValues / kOwnRows][i / Tile::kValues % kOwnRows].values[i % Tile::kValues];
        totals[i / Tile::kValues / kOwnRows][i / Tile::kValues % kOwnRows].values[i % Tile::kValues] += sum;
        sum = 0;
      }
    }
    copy.end();
    stage = stage + 1 == kSharedStages ? 0 : stage + 1;
    next_stage = next_stage + 1 == kSharedStages ? 0 : next_stage + 1;
  }

  // All that the results need is loaded before the first is stored.
  MatmulOutput outputs[kOwn][Tile::kValues];
  float x_scales[kOwnRows][Tile::kValues];
  int rows[kOwnRows][Tile::kValues];
  GETP_UNROLL
  for (int v = 0; v < Tile::kValues; v++) {
    GETP_UNROLL
    for (int i = 0; i < kOwn; i++)
      outputs[i][v].load(a, tile.matrix, first_output + (own_output + i) * 16 + Tile::output(lane, v));
    GETP_UNROLL
    for (int j = 0; j < kOwnRows; j++) {
      const int r = (own_row + j) * 16 + Tile::row(lane, v);
      rows[j][v] = r < tile.count ? tile.row(a, r) : -1;
      x_scales[j][v] = a.x_scales[(rows[j][v] < 0 ? 0 : rows[j][v]) / a.share];
    }
  }
  GETP_UNROLL
  for (int j = 0; j < kOwnRows * Tile::kValues; j++) {
    const int strip = j / Tile::kValues, v = j % Tile::kValues;
    float *out = a.out + (size_t)rows[strip][v] * a.d;
    GETP_UNROLL
    for (int i = 0; i < kOwn; i++) {
      const int o = first_output + (own_output + i) * 16 + Tile::output(lane, v);
      if (rows[strip][v] >= 0 && o < a.d) out[o] = outputs[i][v].finish(totals[i][strip].values[v], x_scales[strip][v]);
    }
  }
}

// Strips: of 16 rows and of 16 outputs that a block works on.
template <class Tile, int Terms, int Strips>
__global__ void __launch_bounds__(256, Strips == 1 ? 3 : 2) matmul_stream_kernel(MatmulArguments a) {
  constexpr int kRows = 16 * Strips, kPlaces = kRows * kRows;
  // Chunks of a round: so few that two blocks fit into 64 KB. Steps whose weights are under way: as registers allow.
  constexpr int kRound = Strips == 1 ? 16 : 256 / Tile::kWave, kUnits = Strips * Tile::kUnits;
  constexpr int kAhead = kUnits > 4 ? 1 : kUnits > 1 ? 4 : 8;
  GETP_SHARED(float, chunk_sums, kRound *kPlaces);
  GETP_SHARED(float, totals, kPlaces);
  const MatmulTile tile(a, kRows, kRows);
  if (tile.count <= 0) return;
  const int first_output = tile.first_output;
  const int lane = threadIdx.x % Tile::kWave, wave = threadIdx.x / Tile::kWave, waves = blockDim.x / Tile::kWave;

  // What lies past the last output or row repeats it; nothing reads the sums.
  const uint4 *w[Strips];
  const fp16 *x[Strips][Tile::kUnits];
  GETP_UNROLL
  for (int s = 0; s < Strips; s++) {
    w[s] = weight_strip(a, tile.matrix, first_output + s * 16);
    GETP_UNROLL
    for (int u = 0; u < Tile::kUnits; u++) {
      const int r = s * 16 + Tile::unit_row(lane, u);
      x[s][u] = a.hi + (size_t)(tile.row(a, r < tile.count ? r : tile.count - 1) / a.share) * a.steps * kMatmulStep +
                Tile::unit_octet(lane, u) * 8;
    }
  }
  const ptrdiff_t to_lo = a.lo - a.hi;
  constexpr int kChunkSteps = kMatmulChunk / kMatmulStep;
  const int chunks = (a.steps + kChunkSteps - 1) / kChunkSteps;
  for (int first_chunk = 0; first_chunk < chunks; first_chunk += kRound) {
    for (int c = wave; c < kRound && first_chunk + c < chunks; c += waves) {
      typename Tile::Sums sums[Strips][Strips] = {};
      const auto add_step = [&](int step, const typename Tile::Operand *weights) {
        GETP_UNROLL
        for (int j = 0; j < Terms * Strips; j++) {
          const int term = j / Strips, strip = j % Strips;
          typename Tile::Operand rows;
          GETP_UNROLL
          for (int u = 0; u < Tile::kUnits; u++) {
            rows.units[u] = *(const uint4 *)(x[strip][u] + (term ? to_lo : 0) + step * kMatmulStep);
          }
          GETP_UNROLL
          for (int i = 0; i < Strips; i++) Tile::multiply_add(sums[i][strip], weights[i], rows);
        }
      };
      // The weights of kAhead steps are under way together.
      int step = (first_chunk + c) * kChunkSteps;
      const int end = step + kChunkSteps < a.steps ? step + kChunkSteps : a.steps;
      for (; step + kAhead <= end; step += kAhead) {
        typename Tile::Operand weights[kAhead][Strips];
        GETP_UNROLL
        for (int i = 0; i < kAhead * Strips * Tile::kUnits; i++) {
          const int u = i % Tile::kUnits, s = i / Tile::kUnits % Strips, ahead = i / Tile::kUnits / Strips;
          weights[ahead][s].units[u] = load_once(w[s] + (step + ahead) * 64 + Tile::weight_unit(lane, u));
        }
        GETP_UNROLL
        for (int ahead = 0; ahead < kAhead; ahead++) add_step(step + ahead, weights[ahead]);
      }
      for (; step < end; step++) {
        typename Tile::Operand weights[Strips];
        GETP_UNROLL
        for (int s = 0; s < Strips; s++) weights[s] = load_weights<Tile>(w[s] + step * 64, lane);
        add_step(step, weights);
      }
      GETP_UNROLL
      for (int i = 0; i < Strips * Strips * Tile::kValues; i++) {
        const int v = i % Tile::kValues, j = i / Tile::kValues % Strips, o = i / Tile::kValues / Strips;
        chunk_sums[(c * kRows + j * 16 + Tile::row(lane, v)) * kRows + o * 16 + Tile::output(lane, v)] =
            sums[o][j].values[v];
      }
    }
    __syncthreads();
    for (int place = threadIdx.x; place < kPlaces; place += blockDim.x) {
      float total = first_chunk > 0 ? totals[place] : 0;
      for (int c = 0; c < kRound && first_chunk + c < chunks; c++) total += chunk_sums[c * kPlaces + place];
      totals[place] = total;
    }
    __syncthreads();
  }
  for (int place = threadIdx.x; place < kPlaces; place += blockDim.x) {
    const int r = place / kRows, o = first_output + place % kRows;
    if (r >= tile.count || o >= a.d) continue;
    const int row = tile.row(a, r);
    MatmulOutput output;
    output.load(a, tile.matrix, o);
    a.out[(size_t)row * a.d + o] = output.finish(totals[place], a.x_scales[row / a.share]);
  }
}

// Rows of a tile that suits `rows` rows of one matrix with d outputs.
inline int matmul_tile_rows(int rows, int d) {
  if (rows <= 16 || d <= kMatmulOutputs / 2) return 16;  // few outputs: many blocks, rather than full ones
  return rows <= 32 ? 32 : rows <= 96 ? 64 : 128;
}

// Launches the kernel for tiles of tile_rows rows, one of those that matmul_tile_rows gives.
inline void launch_matmul(MatmulArguments a, int tile_rows, int terms, hipStream_t stream) {
  HIP_REQUIRE(a.rows > 0 && a.n > 0 && a.n % 8 == 0 && a.d > 0 && a.share > 0 && a.rows % a.share == 0);
  HIP_REQUIRE((uintptr_t)a.w % 16 == 0 && (uintptr_t)a.hi % 16 == 0 && (uintptr_t)a.lo % 16 == 0);
  HIP_REQUIRE(terms == 1 || terms == 2);
  const int outputs = tile_rows <= 32 ? tile_rows : kMatmulOutputs;
  const unsigned blocks = block_count((size_t)((a.d + outputs - 1) / outputs) * a.row_tiles, 1);
  a.steps = (a.n + kMatmulStep - 1) / kMatmulStep;
  const auto launch_kernel = [&](auto tile, auto term_count) {
    using Tile = decltype(tile);
    constexpr int kTerms = decltype(term_count)::value;
    const auto launch_tiles = [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      const size_t step = (kMatmulOutputs + kTerms * kRows) * kMatmulStep * sizeof(fp16);
      const size_t bytes = kSharedStages * kStageSteps * step;
      HIP_LAUNCH_SHARED((matmul_tile_kernel<Tile, kTerms, kRows>), dim3(blocks), dim3(256), bytes, stream, a);
    };
    const int chunks = (a.n + kMatmulChunk - 1) / kMatmulChunk, threads = std::min(256, 64 * chunks);
    if (tile_rows == 16)
      HIP_LAUNCH((matmul_stream_kernel<Tile, kTerms, 1>), dim3(blocks), dim3(threads), stream, a);
    else if (tile_rows == 32)
      HIP_LAUNCH((matmul_stream_kernel<Tile, kTerms, 2>), dim3(blocks), dim3(threads), stream, a);
    else if (tile_rows == 64)
      launch_tiles(std::integral_constant<int, 64>{});
    else
      launch_tiles(std::integral_constant<int, 128>{});
  };
  with_matrix_tile([&](auto tile) {
    if (terms == 1)
      launch_kernel(tile, std::integral_constant<int, 1>{});
    else
      launch_kernel(tile, std::integral_constant<int, 2>{});
  });
}

inline void matmul(float *d_out, const DeviceMatrix &w, const float *d_bias, const SplitRows &x, int rows,
                   hipStream_t stream) {
  const int tile_rows = matmul_tile_rows(rows, w.d);
  launch_matmul({d_out, w.d_values, w.d_scales, d_bias, x.d_hi, x.d_lo, x.d_scales, nullptr, nullptr, nullptr, 1, rows,
                 w.n, w.d, (rows + tile_rows - 1) / tile_rows},
                tile_rows, x.terms, stream);
}

// `share` rows of out read the same row of x: experts_per_token for w_mlp1, 1 for w_mlp2. `groups`: d_experts grouped
// by expert_tiles into tiles of at most 16 rows or such as matmul_tile_rows gives, or none, then each row reads its
// expert's matrix by itself.
inline void expert_matmul(float *d_out, const DeviceMatrix &w, const float *d_bias, const SplitRows &x,
                          const int *d_experts, const ExpertTiles &groups, int share, int rows, hipStream_t stream) {
  const bool grouped = groups.count > 0;
  launch_matmul({d_out, w.d_values, w.d_scales, d_bias, x.d_hi, x.d_lo, x.d_scales, grouped ? nullptr : d_experts,
                 grouped ? groups.d_tiles : nullptr, grouped ? groups.d_rows : nullptr, share, rows, w.n, w.d,
                 grouped ? groups.count : rows},
                grouped && groups.tile_rows > 16 ? groups.tile_rows : 16, x.terms, stream);
}

}  // namespace getp_hip
