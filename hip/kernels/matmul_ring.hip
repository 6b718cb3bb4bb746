// matmul_ring_kernel: matmul.hip for 16 or 32 rows and few outputs, where copies to shared memory pass the registers by: what
// matmul_stream_kernel does, but a wave's weights and rows come through a ring of stages of its own. Its chunks are every
// waves-th one.
//   grid: blocks of outputs * row tiles . block: as planned (product_plan.hpp)
//   shared: ring_bytes: rings, the sums of a round of chunks, the totals
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

// Place of octet `octet` of row `row` of a step, in units: the quads that 16 lanes read together lie in different banks.
__device__ inline int ring_place(int row, int octet) { return row * 4 + (octet ^ (row & 2)); }

template <class Tile, class Weights, int Terms, int Rows, int Strips>
__global__ void __launch_bounds__(kRingWaves *Tile::kWave) matmul_ring_kernel(MatmulArguments a) {
  static_assert(Rows >= 16 && Weights::kSteps == 1, "whole tiles, in FP16");
  constexpr int kRowStrips = Rows / 16, kOutputs = Strips * 16, kPlaces = Rows * kOutputs;
  constexpr int kSteps = ring_steps(Rows), kChunkSteps = kMatmulChunk / kMatmulStep, kParts = kChunkSteps / kSteps;
  // Of a stage, in units.
  constexpr int kStepRows = Rows * 4, kRowUnits = Terms * kSteps * kStepRows, kStripUnits = kSteps * Weights::kUnits,
                kStage = kRowUnits + Strips * kStripUnits;
  const int lane = threadIdx.x % Tile::kWave, wave = threadIdx.x / Tile::kWave, waves = blockDim.x / Tile::kWave;
  GETP_SHARED_STAGES(shared, ring_bytes(Terms, Rows, waves, Strips) / sizeof(uint4));
  uint4 *ring = shared + wave * kRingStages * kStage;
  float *chunk_sums = (float *)(shared + waves * kRingStages * kStage), *totals = chunk_sums + waves * kPlaces;
  if (!a.matrix_known) GETP_AFTER_PREVIOUS();
  const MatmulTile tile(a, Rows, kOutputs);
  const int chunks = (a.steps + kChunkSteps - 1) / kChunkSteps, stage_count = (chunks + waves - 1) / waves * kParts;

  const auto first_step = [&](int number) {
    return (number / kParts * waves + wave) * kChunkSteps + number % kParts * kSteps;
  };
  // Zeros past the end of k.
  const uint4 *w[Strips];
  GETP_UNROLL
  for (int i = 0; i < Strips; i++) w[i] = weight_strip<Weights>(a, tile.matrix, tile.first_output + i * 16) + lane;
  const auto begin_weights = [&](int number) {
    const int step = first_step(number);
    uint4 *to = ring + number % kRingStages * kStage + kRowUnits + lane;
    GETP_UNROLL
    for (int i = 0; i < Strips; i++) {
      if (step >= a.steps) continue;
      GETP_UNROLL
      for (int u = 0; u < kStripUnits; u += Tile::kWave)
        copy_async(to + i * kStripUnits + u, w[i] + (ptrdiff_t)step * Weights::kUnits + u,
                   step + u / Weights::kUnits < a.steps);
    }
  };
  // A lane copies octet `octet` of every row that is kPassRows further. Rows past the last one are not copied; nothing
  // reads their sums.
  constexpr int kOctets = 4 * kSteps, kPassRows = Tile::kWave / kOctets, kPasses = Rows / kPassRows;
  const int octet = lane % kOctets, pass_row = lane / kOctets;
  const uint4 *x[kPasses];
  const ptrdiff_t to_lo = (const uint4 *)a.lo - (const uint4 *)a.hi;
  const auto begin_rows = [&](int number) {
    const int step = first_step(number);
    uint4 *to = ring + number % kRingStages * kStage + octet / 4 * kStepRows;
    GETP_UNROLL
    for (int i = 0; i < kPasses; i++) {
      const int row = pass_row + kPassRows * i;
      if (row >= tile.count || step >= a.steps) continue;
      GETP_UNROLL
      for (int term = 0; term < Terms; term++)
        copy_async(to + term * kSteps * kStepRows + ring_place(row, octet % 4), x[i] + (term ? to_lo : 0) + step * 4,
                   step + octet / 4 < a.steps);
    }
  };
  // What the kernel before does not make is asked for before it has ended.
  GETP_UNROLL
  for (int s = 0; s < kRingStages - 1; s++)
    if (s < stage_count && tile.count > 0) begin_weights(s);
  if (a.matrix_known) GETP_AFTER_PREVIOUS();
  if (tile.count <= 0) return;
  GETP_UNROLL
  for (int i = 0; i < kPasses; i++) x[i] = row_octets(a, tile, pass_row + kPassRows * i) + octet;
  GETP_UNROLL
  for (int s = 0; s < kRingStages - 1; s++) {
    if (s < stage_count) begin_rows(s);
    commit_copies();
  }

  typename Tile::Sums sums[Strips][kRowStrips] = {};
  for (int number = 0; number < stage_count; number++) {
    wait_for_copies<kRingStages - 2>();
    sync_wave();
    if (number + kRingStages - 1 < stage_count) {
      begin_weights(number + kRingStages - 1);
      begin_rows(number + kRingStages - 1);
    }
    commit_copies();
    if (first_step(number) < a.steps) {
      const uint4 *stage = ring + number % kRingStages * kStage;
      GETP_UNROLL
      for (int step = 0; step < kSteps; step++) {
        typename Tile::Operand own[Strips];
        GETP_UNROLL
        for (int i = 0; i < Strips; i++)
          own[i] = load_weights<Tile>(stage + kRowUnits + i * kStripUnits + step * Weights::kUnits, lane);
        GETP_UNROLL
        for (int j = 0; j < Terms * kRowStrips; j++) {
          const int term = j / kRowStrips, strip = j % kRowStrips;
          typename Tile::Operand rows;
          GETP_UNROLL
          for (int u = 0; u < Tile::kUnits; u++)
            rows.units[u] = load_row_unit<Tile>(lane, u, [&](int quad) {
              return (const uint2 *)(stage + (term * kSteps + step) * kStepRows +
                                     ring_place(strip * 16 + Tile::unit_row(lane, u), quad / 2)) +
                     quad % 2;
            });
          GETP_UNROLL
          for (int i = 0; i < Strips; i++) Tile::multiply_add(sums[i][strip], own[i], rows);
        }
      }
    }
    if ((number + 1) % kParts != 0) continue;
    GETP_UNROLL
    for (int i = 0; i < Strips * kRowStrips * Tile::kValues; i++) {
      const int v = i % Tile::kValues, strip = i / Tile::kValues % kRowStrips, o = i / Tile::kValues / kRowStrips;
      float &sum = sums[o][strip].values[v];
      chunk_sums[(wave * Rows + strip * 16 + Tile::row(lane, v)) * kOutputs + o * 16 + Tile::output(lane, v)] = sum;
      sum = 0;
    }
    __syncthreads();
    const int first_chunk = number / kParts * waves;
    for (int place = threadIdx.x; place < kPlaces; place += blockDim.x) {
      float total = first_chunk > 0 ? totals[place] : 0;
      for (int c = 0; c < waves && first_chunk + c < chunks; c++) total += chunk_sums[c * kPlaces + place];
      totals[place] = total;
    }
    __syncthreads();
  }
  wait_for_copies<0>();
  for (int place = threadIdx.x; place < kPlaces; place += blockDim.x) {
    const int r = place / kOutputs, o = tile.first_output + place % kOutputs;
    if (r >= tile.count || o >= a.d) continue;
    const int row = tile.row(a, r);
    MatmulOutput output;
    output.load(a, tile.matrix, o);
    a.out[(size_t)row * a.d + o] = output.finish(totals[place], a.x_scales[row / a.share]);
  }
}

}  // namespace getp_hip
