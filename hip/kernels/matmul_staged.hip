// matmul_staged_kernel: matmul.hip for few rows and many outputs, where a thread can have whole stretches copied to shared
// memory (bulk copies): rows are read once for all outputs of a block, what is under way takes no registers, and copying
// next to no instructions, of which unpacking weights leaves few.
//   grid: blocks of outputs * row tiles . block: kStagedWaves waves, each makes the sums of Strips strips of outputs
//   shared: staged_bytes: stages of the same k for all waves
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

template <class Tile, class Weights, int Terms, int Rows>
__global__ void __launch_bounds__(kStagedWaves *Tile::kWave, staged_blocks(Rows))
    matmul_staged_kernel(MatmulArguments a) {
  constexpr int kRowStrips = (Rows + 15) / 16, kOutputs = kStagedStrips * 16;
  constexpr int kRowUnits = Rows < 16 ? Tile::kUnits / 2 : Tile::kUnits;
  constexpr int kValues = Rows < 16 ? Tile::kValues / 2 : Tile::kValues;
  constexpr int kSteps = staged_steps(Weights::kForm), kGroups = kSteps / Weights::kSteps;
  constexpr int kChunkStages = kMatmulChunk / kMatmulStep / kSteps;
  // Of a stage, in units: a row, so that the quads that 16 lanes read together lie in different banks; rows; a strip.
  constexpr int kPitch = kSteps * 4 + kStagedPad, kRowsOfStage = Terms * Rows * kPitch,
                kStrip = kGroups * Weights::kUnits, kStage = kRowsOfStage + kStagedWaves * kStagedStrips * kStrip;
  GETP_SHARED_STAGES(stages, staged_bytes(Weights::kForm, Terms, Rows) / sizeof(uint4));
  CopyBarrier *barriers = (CopyBarrier *)(stages + kStagedStages * kStage);
  const int thread = threadIdx.x, lane = thread % Tile::kWave, wave = thread / Tile::kWave;
  const int stage_count = (a.steps + kSteps - 1) / kSteps, groups = (a.steps + Weights::kSteps - 1) / Weights::kSteps;
  if (!a.matrix_known) GETP_AFTER_PREVIOUS();
  const MatmulTile tile(a, Rows, kStagedWaves * kOutputs);
  const int first_output = tile.first_output + wave * kOutputs;
  if (thread < kStagedStages) barriers[thread].begin();
  CopyBarrier::begun();

  // Lanes below kStagedStrips have a strip each copied, and the first lanes of all waves a term of a row each. Rows past the last one
  // are not copied; nothing reads their sums.
  const uint4 *w = weight_strip<Weights>(a, tile.matrix, first_output + lane % kStagedStrips * 16), *x = nullptr;
  const int copier = lane * kStagedWaves + wave, row = copier % Rows, term = copier / Rows;
  const auto begin_weights = [&](int number) {
    const int own = number * kGroups + kGroups <= groups ? kGroups : groups - number * kGroups;
    uint4 *stage = stages + number % kStagedStages * kStage;
    if (thread == 0) {
      const int steps = number * kSteps + kSteps <= a.steps ? kSteps : a.steps - number * kSteps;
      barriers[number % kStagedStages].expect(kStagedWaves * kStagedStrips * own * Weights::kUnits +
                                              Terms * tile.count * steps * 4);
    }
    if (lane < kStagedStrips)
      barriers[number % kStagedStages].copy(stage + kRowsOfStage + (wave * kStagedStrips + lane) * kStrip,
                                            w + (ptrdiff_t)number * kStrip, own * Weights::kUnits);
  };
  const auto begin_rows = [&](int number) {
    const int steps = number * kSteps + kSteps <= a.steps ? kSteps : a.steps - number * kSteps;
    if (term < Terms && row < tile.count)
      barriers[number % kStagedStages].copy(stages + number % kStagedStages * kStage + copier * kPitch,
                                            x + number * (kSteps * 4), steps * 4);
  };
  // What the kernel before does not make is asked for before it has ended.
  for (int s = 0; s < kStagedStages; s++)
    if (s < stage_count && tile.count > 0) begin_weights(s);
  if (a.matrix_known) GETP_AFTER_PREVIOUS();
  if (tile.count <= 0) return;
  x = row_octets(a, tile, row) + (term ? (const uint4 *)a.lo - (const uint4 *)a.hi : 0);
  for (int s = 0; s < kStagedStages; s++)
    if (s < stage_count) begin_rows(s);
  TileRows rows;
  rows.load(a, tile);

  typename Tile::Sums sums[kStagedStrips][kRowStrips] = {}, totals[kStagedStrips][kRowStrips] = {};
  for (int number = 0; number < stage_count; number++) {
    const uint4 *stage = stages + number % kStagedStages * kStage;
    const uint4 *own_weights = stage + kRowsOfStage + wave * kStagedStrips * kStrip;
    barriers[number % kStagedStages].wait(number / kStagedStages % 2);
    const auto add_group = [&](int group, int steps) {
      Weights weights[kStagedStrips];
      GETP_UNROLL
      for (int i = 0; i < kStagedStrips; i++)
        weights[i].load_shared(own_weights + i * kStrip + group * Weights::kUnits, lane);
      GETP_UNROLL
      for (int step = 0; step < Weights::kSteps; step++) {
        if (step >= steps) break;
        typename Tile::Operand own[kStagedStrips];
        GETP_UNROLL
        for (int i = 0; i < kStagedStrips; i++) own[i] = weights[i].operand(step);
        GETP_UNROLL
        for (int j = 0; j < Terms * kRowStrips; j++) {
          const int of_term = j / kRowStrips, strip = j % kRowStrips;
          typename Tile::Operand own_rows = {};
          GETP_UNROLL
          for (int u = 0; u < kRowUnits; u++)
            own_rows.units[u] = load_row_unit<Tile>(lane, u, [&](int quad) {
              return (const uint2 *)(stage + (of_term * Rows + strip * 16 + Tile::unit_row(lane, u)) * kPitch +
                                     (group * Weights::kSteps + step) * 4) +
                     quad;
            });
          GETP_UNROLL
          for (int i = 0; i < kStagedStrips; i++) Tile::multiply_add(sums[i][strip], own[i], own_rows);
        }
      }
    };
    if ((number + 1) * kSteps <= a.steps) {
      GETP_UNROLL
      for (int group = 0; group < kGroups; group++) add_group(group, Weights::kSteps);
    } else {
      for (int step = number * kSteps, group = 0; step < a.steps; step += Weights::kSteps, group++)
        add_group(group, a.steps - step);
    }
    if ((number + 1) % kChunkStages == 0 || number + 1 == stage_count) {
      GETP_UNROLL
      for (int i = 0; i < kStagedStrips * kRowStrips * kValues; i++) {
        float &sum = sums[i / kValues / kRowStrips][i / kValues % kRowStrips].values[i % kValues];
        totals[i / kValues / kRowStrips][i / kValues % kRowStrips].values[i % kValues] += sum;
        sum = 0;
      }
    }
    __syncthreads();  // all have read the stage
    if (number + kStagedStages < stage_count) {
      begin_weights(number + kStagedStages);
      begin_rows(number + kStagedStages);
    }
  }
  rows.share(stages, Rows);
  store_totals<Tile, kStagedStrips, kRowStrips, kValues>(a, tile, rows, totals, wave * kStagedStrips, 0, lane);
}

}  // namespace getp_hip
