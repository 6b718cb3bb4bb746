// matmul_stream_kernel: matmul.hip for few rows, bound by reading w. A block makes stream_outputs of a tile of 8, 16 or 32
// rows, its waves take a chunk each in turn, straight from global memory.
//   grid: blocks of outputs * row tiles . block: as planned (product_plan.hpp)
//   shared: the sums of a round of chunks
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

template <class Tile, class Weights, int Terms, int Rows>
__global__ void __launch_bounds__(stream_threads(Rows), Rows >= 16 && Tile::kHalves && Weights::kSteps > 1 ? 1 : 2)
    matmul_stream_kernel(MatmulArguments a) {
  static_assert(Rows >= 16 || Tile::kHalves, "a tile of 8 rows is half a tile");
  // Strips of 16 rows and of 16 outputs; what a lane holds of a strip of rows.
  constexpr int kRowStrips = (Rows + 15) / 16, kOutputs = stream_outputs(Weights::kForm, Rows, Tile::kHalves),
                kPlaces = Rows * kOutputs;
  constexpr int kOutputStrips = kOutputs / 16;
  constexpr int kRowUnits = Rows < 16 ? Tile::kUnits / 2 : Tile::kUnits;
  constexpr int kValues = Rows < 16 ? Tile::kValues / 2 : Tile::kValues;
  // Chunks of a round: so few that two blocks fit into 64 KB (32 rows, waves of 32: 72 KB). Groups of steps whose weights
  // are under way: as registers allow.
  constexpr int kWaves = stream_threads(Rows) / Tile::kWave, kRound = kPlaces <= 512 ? 16 : kWaves < 8 ? kWaves : 8;
  constexpr int kSteps = Weights::kSteps, kChunkSteps = kMatmulChunk / kMatmulStep;
  constexpr int kUnits = kRowStrips * (Tile::kUnits + kRowUnits) / 2;
  constexpr int kAhead = kSteps > 1   ? (kOutputStrips > 2 ? kChunkSteps / kSteps / 2 : kChunkSteps / kSteps)
                         : kUnits > 4 ? 1
                         : kUnits > 1 ? 4
                                      : 8;
  constexpr int kChunkSums = kRound * kPlaces;
  GETP_SHARED(float, chunk_sums, kChunkSums);
  GETP_SHARED(float, totals, kPlaces);
  GETP_AFTER_PREVIOUS();
  const MatmulTile tile(a, Rows, kOutputs);
  if (tile.count <= 0) return;
  const int first_output = tile.first_output;
  const int lane = threadIdx.x % Tile::kWave, wave = threadIdx.x / Tile::kWave, waves = blockDim.x / Tile::kWave;

  MatmulOutput first;  // of the thread's first result: what it needs comes with the weights
  first.load(a, tile.matrix, first_output + (int)threadIdx.x % kOutputs);
  // What lies past the last output or row repeats it; nothing reads the sums.
  const uint2 *x[kRowStrips][kRowUnits];
  const uint4 *w[kOutputStrips];
  GETP_UNROLL
  for (int i = 0; i < kOutputStrips; i++) w[i] = weight_strip<Weights>(a, tile.matrix, first_output + i * 16);
  GETP_UNROLL
  for (int i = 0; i < kRowStrips * kRowUnits; i++) {
    const int r = i / kRowUnits * 16 + Tile::unit_row(lane, i % kRowUnits);
    x[i / kRowUnits][i % kRowUnits] =
        (const uint2 *)a.hi + (size_t)(tile.row(a, r < tile.count ? r : tile.count - 1) / a.share) * a.steps * 8;
  }
  const ptrdiff_t to_lo = (const uint2 *)a.lo - (const uint2 *)a.hi;
  const int chunks = (a.steps + kChunkSteps - 1) / kChunkSteps;
  for (int first_chunk = 0; first_chunk < chunks; first_chunk += kRound) {
    for (int c = wave; c < kRound && first_chunk + c < chunks; c += waves) {
      typename Tile::Sums sums[kOutputStrips][kRowStrips] = {};
      const auto add_step = [&](int step, const Weights(&weights)[kOutputStrips], int of_group) {
        typename Tile::Operand own[kOutputStrips];
        GETP_UNROLL
        for (int i = 0; i < kOutputStrips; i++) own[i] = weights[i].operand(of_group);
        GETP_UNROLL
        for (int j = 0; j < Terms * kRowStrips; j++) {
          const int term = j / kRowStrips, strip = j % kRowStrips;
          typename Tile::Operand rows = {};
          GETP_UNROLL
          for (int u = 0; u < kRowUnits; u++) {
            const uint2 *row = x[strip][u] + (term ? to_lo : 0) + step * 8;
            rows.units[u] = load_row_unit<Tile>(lane, u, [&](int quad) { return row + quad; });
          }
          GETP_UNROLL
          for (int i = 0; i < kOutputStrips; i++) Tile::multiply_add(sums[i][strip], own[i], rows);
        }
      };
      // The weights of kAhead groups are under way together.
      int step = (first_chunk + c) * kChunkSteps;
      const int end = step + kChunkSteps < a.steps ? step + kChunkSteps : a.steps;
      for (; step + kAhead * kSteps <= end; step += kAhead * kSteps) {
        Weights weights[kAhead][kOutputStrips];
        GETP_UNROLL
        for (int i = 0; i < kOutputStrips; i++) {
          const typename Weights::From from(w[i] + (ptrdiff_t)(step / kSteps) * Weights::kUnits, lane);
          GETP_UNROLL
          for (int group = 0; group < kAhead; group++) weights[group][i].load(from, group, lane);
        }
        GETP_UNROLL
        for (int i = 0; i < kAhead * kSteps; i++) add_step(step + i, weights[i / kSteps], i % kSteps);
      }
      for (; step < end; step += kSteps) {
        Weights weights[kOutputStrips];
        GETP_UNROLL
        for (int i = 0; i < kOutputStrips; i++) {
          const typename Weights::From from(w[i] + (ptrdiff_t)(step / kSteps) * Weights::kUnits, lane);
          weights[i].load(from, 0, lane);
        }
        GETP_UNROLL
        for (int i = 0; i < kSteps; i++)
          if (step + i < end) add_step(step + i, weights, i);
      }
      GETP_UNROLL
      for (int i = 0; i < kOutputStrips * kRowStrips * kValues; i++) {
        const int v = i % kValues, j = i / kValues % kRowStrips, o = i / kValues / kRowStrips;
        chunk_sums[(c * Rows + j * 16 + Tile::row(lane, v)) * kOutputs + o * 16 + Tile::output(lane, v)] =
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
    const int r = place / kOutputs, o = first_output + place % kOutputs;
    if (r >= tile.count || o >= a.d) continue;
    const int row = tile.row(a, r);
    MatmulOutput output = first;
    if (place != (int)threadIdx.x) output.load(a, tile.matrix, o);
    a.out[(size_t)row * a.d + o] = output.finish(totals[place], a.x_scales[row / a.share]);
  }
}

}  // namespace getp_hip
