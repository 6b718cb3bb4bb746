// matmul_tile_kernel: matmul.hip for many rows, bound by the matrix cores. A block makes 128 outputs of 64 or 128 rows
// from stages in shared memory: by waves, or where the card has them (wgmma) by warpgroups.
//   grid: blocks of outputs * row tiles . block: 256 . shared: as many stages as the back end has
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

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

// Finishes and stores the sums of a wave: `Outputs` strips of 16 outputs from own_output of the tile on, `Strips` of 16
// rows from own_row on.
template <class Tile, int Outputs, int Strips>
__device__ inline void store_totals(const MatmulArguments &a, const MatmulTile &tile, const TileRows &rows,
                                    typename Tile::Sums (&totals)[Outputs][Strips], int own_output, int own_row,
                                    int lane) {
  MatmulOutput outputs[Outputs][Tile::kValues];
  GETP_UNROLL
  for (int i = 0; i < Outputs * Tile::kValues; i++)
    outputs[i / Tile::kValues][i % Tile::kValues].load(
        a, tile.matrix,
        tile.first_output + (own_output + i / Tile::kValues) * 16 + Tile::output(lane, i % Tile::kValues));
  GETP_UNROLL
  for (int j = 0; j < Strips * Tile::kValues; j++) {
    const int strip = j / Tile::kValues, v = j % Tile::kValues, r = (own_row + strip) * 16 + Tile::row(lane, v);
    float *out = a.out + (size_t)rows.out[r] * a.d;
    GETP_UNROLL
    for (int i = 0; i < Outputs; i++) {
      const int o = tile.first_output + (own_output + i) * 16 + Tile::output(lane, v);
      if (r < tile.count && o < a.d) out[o] = outputs[i][v].finish(totals[i][strip].values[v], rows.x_scales[r]);
    }
  }
}

// Place of octet `octet` of row `row` in a step, in units: a row's octets stay together, since copies write what they
// read together, in an order that keeps the lanes of a tile off each other's banks.
__device__ inline int step_place(int row, int octet) { return row * 4 + (octet ^ (row / 2 % 4)); }

template <class Tile>
__device__ inline typename Tile::Operand load_rows(const uint4 *strip, int lane) {
  typename Tile::Operand operand;
  GETP_UNROLL
  for (int u = 0; u < Tile::kUnits; u++)
    operand.units[u] = load_row_unit<Tile>(lane, u, [&](int quad) {
      return (const uint2 *)(strip + step_place(Tile::unit_row(lane, u), quad / 2)) + quad % 2;
    });
  return operand;
}

// The tile by waves, each of which multiplies strips of outputs and rows from shared memory through its registers.
template <class Tile, int Terms, int Rows>
__device__ inline void wave_product(const MatmulArguments &a, const MatmulTile &tile, uint4 *stages) {
  constexpr int kWaves = 256 / Tile::kWave, kStrips = kMatmulOutputs / 16, kRowStrips = Rows / 16;
  // of a wave: strips of rows, strips of outputs (few where their operands take many registers)
  constexpr int kOwnRows = Rows == 128 && (kWaves == 4 || Tile::kUnits == 4) ? 4 : 2,
                kOwn = kStrips * kRowStrips / kOwnRows / kWaves;
  constexpr int kStep = (kStrips + Terms * kRowStrips) * 64, kStage = kStageSteps * kStep;  // units
  constexpr int kCopiesW = kStageSteps * kStrips / 4, kOctets = 4 * kStageSteps, kPassRows = 256 / kOctets;
  constexpr int kCopiesX = Rows / kPassRows;
  static_assert(kMatmulChunk % (kStageSteps * kMatmulStep) == 0, "a chunk is made of whole stages");
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
  const uint4 *from_x[kCopiesX];
  GETP_UNROLL
  for (int i = 0; i < kCopiesW; i++) {
    const int strip = (thread / 64 + 4 * i) % kStrips, step = (thread / 64 + 4 * i) / kStrips;
    from_w[i] = weight_strip(a, tile.matrix, first_output + strip * 16) + step * 64 + thread % 64;
  }
  GETP_UNROLL
  for (int i = 0; i < kCopiesX; i++) from_x[i] = row_octets(a, tile, pass_row + kPassRows * i) + octet;
  const ptrdiff_t to_lo = (const uint4 *)a.lo - (const uint4 *)a.hi;
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
                 from_x[pass] + (term ? to_lo : 0) + first_step * 4, first_step + step < a.steps);
    }
    copy.commit();
  };
  for (int s = 0; s < kPipelineStages - 1; s++) {
    begin_stage(s, stages + s * kStage);
    copy.end();
  }
  TileRows rows;
  rows.load(a, tile);

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
  copy.finish();
  rows.share(stages, Rows);
  store_totals<Tile>(a, tile, rows, totals, own_output, own_row, lane);
}

#if GETP_WARPGROUP_TILES
// The tile by two warpgroups, 64 outputs each, of 16 * Strips rows: sums and weights in registers, rows read from
// shared memory by the instructions themselves. Stages of 64 k: one is multiplied while the next one's operations
// queue, two more are under way.
template <class Tile, int Terms, int Strips>
__device__ inline void warpgroup_product(const MatmulArguments &a, const MatmulTile &tile, uint4 *stages) {
  constexpr int kRows = 16 * Strips, kSteps = warpgroup::kStageSteps, kOctets = 4 * kSteps, kPassRows = 256 / kOctets;
  // units of 16 bytes
  constexpr int kTerm = kRows * kOctets, kWeightsAt = Terms * kTerm, kWarp = 64 * kSteps,
                kStage = kWeightsAt + 8 * kWarp;
  constexpr int kStages = warpgroup::kStages, kChunkStages = kMatmulChunk / (kSteps * kMatmulStep);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

  // A warp copies its own weights, a thread octet `octet` of every row that is kPassRows further.
  const int octet = thread % kOctets, pass_row = thread / kOctets;
  const uint4 *from_w = weight_strip(a, tile.matrix, tile.first_output + warp * 16) + lane;
  const uint4 *from_x[kRows / kPassRows];
  GETP_UNROLL
  for (int i = 0; i < kRows / kPassRows; i++) from_x[i] = row_octets(a, tile, pass_row + kPassRows * i) + octet;
  const ptrdiff_t to_lo = (const uint4 *)a.lo - (const uint4 *)a.hi;
  const int weight_place = warpgroup::weight_place(lane), row_place = warpgroup::row_place(pass_row, octet);
  const auto begin_stage = [&](int number) {
    uint4 *stage = stages + number % kStages * kStage;
    const int first_step = number * kSteps;
    GETP_UNROLL
    for (int i = 0; i < 2 * kSteps; i++)
      copy_async(stage + kWeightsAt + warp * kWarp + i * 32 + weight_place, from_w + first_step * 64 + i * 32,
                 first_step + i / 2 < a.steps);
    GETP_UNROLL
    for (int i = 0; i < Terms * (kRows / kPassRows); i++) {
      const int term = i % Terms, pass = i / Terms;
      copy_async(stage + term * kTerm + pass * kPassRows * kOctets + row_place,
                 from_x[pass] + (term ? to_lo : 0) + first_step * 4, first_step + octet / 4 < a.steps);
    }
    commit_copies();
  };
  begin_stage(0);
  begin_stage(1);
  TileRows tile_rows;
  tile_rows.load(a, tile);

  typename Tile::Sums sums[Strips], totals[1][Strips] = {};
  const int stage_count = (a.steps + kSteps - 1) / kSteps;
  for (int number = 0; number < stage_count;) {
    const int chunk_end = number + kChunkStages < stage_count ? number + kChunkStages : stage_count;
    int keep = 0;
    warpgroup::settle(sums);
    for (; number < chunk_end; number++) {
      wait_for_copies<1>();
      warpgroup::fence_shared();
      __syncthreads();
      const uint4 *stage = stages + number % kStages * kStage;
      const unsigned long long rows = warpgroup::rows_at(stage);
      GETP_UNROLL
      for (int step = 0; step < kSteps; step++) {
        const uint4 *own = stage + kWeightsAt + warp * kWarp + step * 64;
        const uint4 weights[2] = {warpgroup::load_weights(own, lane), warpgroup::load_weights(own + 32, lane)};
        warpgroup::fence_registers();
        GETP_UNROLL
        for (int i = 0; i < 2 * Terms; i++) {
          warpgroup::multiply_add(sums, weights[i % 2], rows + i / 2 * kTerm + step * 4 + i % 2 * 2, keep);
          keep = 1;
        }
        warpgroup::commit();
        // The place of the stage after next: its last readers were done at the barrier, at most one step is under way.
        if (step == 0) begin_stage(number + 2);
        warpgroup::wait<1>();
      }
    }
    warpgroup::wait<0>();
    warpgroup::settle(sums);
    GETP_UNROLL
    for (int i = 0; i < Strips * Tile::kValues; i++)
      totals[0][i / Tile::kValues].values[i % Tile::kValues] += sums[i / Tile::kValues].values[i % Tile::kValues];
  }
  wait_for_copies<0>();
  tile_rows.share(stages, kRows);
  store_totals<Tile>(a, tile, tile_rows, totals, warp, 0, lane);
}
#endif

template <class Tile, int Terms, int Rows>
__global__ void __launch_bounds__(256, kStageBlocks) matmul_tile_kernel(MatmulArguments a) {
  GETP_AFTER_PREVIOUS();
  GETP_SHARED_STAGES(stages, kSharedStages * kStageSteps * (kMatmulOutputs + Terms * Rows) * 4);
  const MatmulTile tile(a, Rows, kMatmulOutputs);
  if (tile.count <= 0) return;
#if GETP_WARPGROUP_TILES
  const int pairs = (tile.count + 31) / 32;  // of strips: no more than the tile has
  if (pairs == 1) return warpgroup_product<Tile, Terms, 2>(a, tile, stages);
  if (pairs == 2) return warpgroup_product<Tile, Terms, 4>(a, tile, stages);
  if constexpr (Rows == 128) {
    if (pairs == 3) return warpgroup_product<Tile, Terms, 6>(a, tile, stages);
    return warpgroup_product<Tile, Terms, 8>(a, tile, stages);
  }
#else
  wave_product<Tile, Terms, Rows>(a, tile, stages);
#endif
}

}  // namespace getp_hip
