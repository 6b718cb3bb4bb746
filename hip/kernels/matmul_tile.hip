// matmul_tile_kernel: matmul.hip for many rows, bound by the matrix cores. A block makes 128 outputs of 64 or 128 rows
// from stages in shared memory, by waves.
//   grid: blocks of outputs * row tiles . block: 256 . shared: kSharedStages stages
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

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

// How a block's weights come to a stage, a unit of every fourth tile by each thread. In FP16 they are copied with the rows:
template <class Tile, class Weights>
struct TileWeights {
  static constexpr int kCopies = kMatmulOutputs / 16 / 4;
  const uint4 *from[kCopies];

  __device__ TileWeights(const MatmulArguments &a, const MatmulTile &tile) {
    GETP_UNROLL
    for (int i = 0; i < kCopies; i++)
      from[i] = weight_strip<Weights>(a, tile.matrix, tile.first_output + ((int)threadIdx.x / 64 + 4 * i) * 16) +
                threadIdx.x % 64;
  }
  template <class Copy>
  __device__ void begin(Copy &copy, uint4 *stage, int step, int steps) {
    GETP_UNROLL
    for (int i = 0; i < kCopies; i++)
      copy.begin(i, stage + (threadIdx.x / 64 + 4 * i) * 64 + threadIdx.x % 64, from[i] + step * 64, step < steps);
  }
  __device__ void end(uint4 *) {}
};

// In MXFP4 a thread loads slots of its own when their group begins, and unpacks those of a step into its stage.
template <class Tile>
struct TileWeights<Tile, Mxfp4Weights<Tile>> {
  static constexpr int kCopies = 0, kPass = 256 / Tile::kSlots, kOwn = kMatmulOutputs / 16 / kPass;
  const uint4 *from[kOwn];
  uint4 slots[kOwn];
  unsigned scales[kOwn];

  __device__ TileWeights(const MatmulArguments &a, const MatmulTile &tile) {
    GETP_UNROLL
    for (int i = 0; i < kOwn; i++)
      from[i] = weight_strip<Mxfp4Weights<Tile>>(a, tile.matrix, tile.first_output + strip(i) * 16);
  }
  template <class Copy>
  __device__ void begin(Copy &, uint4 *, int step, int steps) {
    if (step % Tile::kPackedSteps != 0 || step >= steps) return;
    const int slot = (int)threadIdx.x % Tile::kSlots;
    GETP_UNROLL
    for (int i = 0; i < kOwn; i++) {
      const uint4 *group = from[i] + step / Tile::kPackedSteps * Tile::kGroupUnits;
      slots[i] = group[slot];
      scales[i] = ((const unsigned *)(group + Tile::kSlots))[Tile::slot_scales(slot)];
    }
  }
  // What is begun and not ended is at the front.
  __device__ void end(uint4 *stage) {
    GETP_UNROLL
    for (int i = 0; i < kOwn; i++) {
      uint4 *to = stage + strip(i) * 64;
      GETP_UNROLL
      for (int word = 0; word < Tile::kStepWords; word++)
        to[Tile::slot_unit((int)threadIdx.x % Tile::kSlots, word)] =
            Tile::unpack(word_of(slots[i], word), scales[i], word);
      if constexpr (Tile::kStepWords == 1)
        slots[i] = {slots[i].y, slots[i].z, slots[i].w, 0};
      else
        slots[i] = {slots[i].z, slots[i].w, 0, 0};
      scales[i] >>= 8 * Tile::kStepScales;
    }
  }

 private:
  __device__ static int strip(int i) { return (int)threadIdx.x / Tile::kSlots + kPass * i; }
};

// The tile by waves, each of which multiplies strips of outputs and rows from shared memory through its registers.
template <class Tile, class Weights, int Terms, int Rows>
__device__ inline void wave_product(const MatmulArguments &a, const MatmulTile &tile, uint4 *stages) {
  constexpr int kWaves = 256 / Tile::kWave, kStrips = kMatmulOutputs / 16, kRowStrips = Rows / 16;
  // of a wave: strips of rows, strips of outputs (few where their operands take many registers)
  constexpr int kOwnRowStrips = Rows == 128 && (kWaves == 4 || Tile::kUnits == 4) ? 4 : 2,
                kOwnOutputStrips = kStrips * kRowStrips / kOwnRowStrips / kWaves;
  constexpr int kStage = (kStrips + Terms * kRowStrips) * 64;  // a step, in units
  constexpr int kCopiesW = TileWeights<Tile, Weights>::kCopies, kOctets = 4, kPassRows = 256 / kOctets;
  constexpr int kCopiesX = Rows / kPassRows;
  const int thread = threadIdx.x, lane = thread % Tile::kWave, wave = thread / Tile::kWave;
  // Waves beside each other take the same rows: where a tile is half empty, each of a processor's schedulers keeps
  // work.
  constexpr int kOutputWaves = kStrips / kOwnOutputStrips;
  const int first_row_strip = wave / kOutputWaves * kOwnRowStrips,
            first_output_strip = wave % kOutputWaves * kOwnOutputStrips;
  const bool has_rows = first_row_strip * 16 < tile.count;

  // A thread copies weights, and octet `octet` of every row that is kPassRows further. What lies past the last output or
  // row repeats it; nothing reads the sums.
  const int octet = thread % kOctets, pass_row = thread / kOctets;
  TileWeights<Tile, Weights> weights(a, tile);
  const uint4 *from_x[kCopiesX];
  GETP_UNROLL
  for (int i = 0; i < kCopiesX; i++) from_x[i] = row_octets(a, tile, pass_row + kPassRows * i) + octet;
  const ptrdiff_t to_lo = (const uint4 *)a.lo - (const uint4 *)a.hi;
  StageCopy<kCopiesW + Terms * kCopiesX> copy;
  const auto begin_stage = [&](int step, uint4 *stage) {
    weights.begin(copy, stage, step, a.steps);
    GETP_UNROLL
    for (int i = 0; i < Terms * kCopiesX; i++) {
      const int term = i / kCopiesX, pass = i % kCopiesX;
      copy.begin(kCopiesW + i,
                 stage + (kStrips + term * kRowStrips) * 64 + step_place(pass_row + kPassRows * pass, octet),
                 from_x[pass] + (term ? to_lo : 0) + step * 4, step < a.steps);
    }
    copy.commit();
  };
  for (int s = 0; s < kPipelineStages - 1; s++) {
    begin_stage(s, stages + s * kStage);
    copy.end();
    weights.end(stages + s * kStage);
  }
  TileRows rows;
  rows.load(a, tile);

  typename Tile::Sums sums[kOwnOutputStrips][kOwnRowStrips] = {}, totals[kOwnOutputStrips][kOwnRowStrips] = {};
  int stage = 0, next_stage = (kPipelineStages - 1) % kSharedStages;
  for (int step = 0; step < a.steps; step++) {
    copy.wait();
    __syncthreads();
    begin_stage(step + kPipelineStages - 1, stages + next_stage * kStage);
    if (has_rows) {
      const uint4 *w = stages + stage * kStage + first_output_strip * 64;
      const uint4 *x = stages + stage * kStage + (kStrips + first_row_strip) * 64;
      typename Tile::Operand own[kOwnOutputStrips];
      GETP_UNROLL
      for (int i = 0; i < kOwnOutputStrips; i++) own[i] = load_weights<Tile>(w + i * 64, lane);
      GETP_UNROLL
      for (int j = 0; j < Terms * kOwnRowStrips; j++) {
        const int term = j / kOwnRowStrips, strip = j % kOwnRowStrips;
        const typename Tile::Operand own_rows = load_rows<Tile>(x + (term * kRowStrips + strip) * 64, lane);
        GETP_UNROLL
        for (int i = 0; i < kOwnOutputStrips; i++) Tile::multiply_add(sums[i][strip], own[i], own_rows);
      }
    }
    if ((step + 1) % (kMatmulChunk / kMatmulStep) == 0 || step + 1 == a.steps) {
      GETP_UNROLL
      for (int i = 0; i < kOwnOutputStrips * kOwnRowStrips * Tile::kValues; i++) {
        float &sum =
            sums[i / Tile::kValues / kOwnRowStrips][i / Tile::kValues % kOwnRowStrips].values[i % Tile::kValues];
        totals[i / Tile::kValues / kOwnRowStrips][i / Tile::kValues % kOwnRowStrips].values[i % Tile::kValues] += sum;
        sum = 0;
      }
    }
    copy.end();
    weights.end(stages + next_stage * kStage);
    stage = stage + 1 == kSharedStages ? 0 : stage + 1;
    next_stage = next_stage + 1 == kSharedStages ? 0 : next_stage + 1;
  }
  copy.finish();
  rows.share(stages, Rows);
  store_totals<Tile>(a, tile, rows, totals, first_output_strip, first_row_strip, lane);
}

template <class Tile, class Weights, int Terms, int Rows>
__global__ void __launch_bounds__(256, kStageBlocks) matmul_tile_kernel(MatmulArguments a) {
  GETP_AFTER_PREVIOUS();
  GETP_SHARED_STAGES(stages, kSharedStages * (kMatmulOutputs + Terms * Rows) * 4);
  const MatmulTile tile(a, Rows, kMatmulOutputs);
  if (tile.count <= 0) return;
  wave_product<Tile, Weights, Terms, Rows>(a, tile, stages);
}

}  // namespace getp_hip
