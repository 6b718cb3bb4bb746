// matmul_warpgroup_kernel: matmul.hip for many rows where the card has warpgroups: what
// matmul_tile_kernel does by waves, with the same bits
//   grid: blocks of outputs * row tiles . block: 256, two warpgroups . shared: kWarpgroupStages stages, packed weights
#pragma once

#include "matmul_parts.hpp"

namespace getp_hip {

#if GETP_WARPGROUP_TILES
// How a warp's weights, kWarpgroupStageSteps tiles of its strip a stage, come to `to`, a stage's place for them. In FP16
// they are copied with the rows:
template <class Tile, class Weights>
struct WarpgroupWeights {
  const uint4 *from;
  int lane;

  __device__ WarpgroupWeights(const MatmulArguments &a, const MatmulTile &tile, uint4 *, int warp, int own_lane)
      : from(weight_strip<Weights>(a, tile.matrix, tile.first_output + warp * 16)), lane(own_lane) {}
  // With the rows of stage `number`.
  __device__ void copy(uint4 *to, int number, int steps) const {
    const int first_step = number * kWarpgroupStageSteps;
    GETP_UNROLL
    for (int i = 0; i < 2 * kWarpgroupStageSteps; i++)
      copy_async(to + i * 32 + warpgroup::weight_place(lane), from + first_step * 64 + i * 32 + lane,
                 first_step + i / 2 < steps);
  }
  __device__ void begin(const uint4 *to, int) { stage = to; }
  // Those of instruction `i` of the stage.
  __device__ uint4 operand(int i) const { return warpgroup::load_weights(stage + i * 32, lane); }

 private:
  const uint4 *stage;
};

// In MXFP4 they wait packed behind the stages, as many as there are stages. A lane unpacks its slot to upper bytes; what an
// instruction wants of them is in other lanes.
template <class Tile>
struct WarpgroupWeights<Tile, Mxfp4Weights<Tile>> {
  static_assert(Tile::kPackedSteps == kWarpgroupStageSteps && Tile::kSlots == 32, "a stage is a group");
  const uint4 *from;
  uint4 *packed;
  int lane;

  __device__ WarpgroupWeights(const MatmulArguments &a, const MatmulTile &tile, uint4 *behind_stages, int warp,
                              int own_lane)
      : from(weight_strip<Mxfp4Weights<Tile>>(a, tile.matrix, tile.first_output + warp * 16)),
        packed(behind_stages + warp * kWarpgroupStages * Tile::kGroupUnits),
        lane(own_lane) {}
  __device__ void copy(uint4 *, int number, int steps) const {
    const bool inside = number * kWarpgroupStageSteps < steps;
    const uint4 *group = from + number * Tile::kGroupUnits;
    copy_async(place(number) + lane, group + lane, inside);
    if (lane < Tile::kGroupUnits - Tile::kSlots)
      copy_async(place(number) + Tile::kSlots + lane, group + Tile::kSlots + lane, inside);
  }
  __device__ void begin(const uint4 *, int number) {
    const uint4 *group = place(number);
    slot = group[lane];
    scales = ((const unsigned *)(group + Tile::kSlots))[Tile::slot_scales(lane)];
  }
  __device__ uint4 operand(int i) const {
    const uint2 bytes = Tile::upper_bytes(word_of(slot, i), scales, i);
    const int low = lane / 4 * 4 + lane % 4 / 2, high = low + 2;
    const unsigned which = lane % 2 ? 0x3424u : 0x1404u;
    return {Tile::spread(shuffle(bytes.x, low), which), Tile::spread(shuffle(bytes.y, low), which),
            Tile::spread(shuffle(bytes.x, high), which), Tile::spread(shuffle(bytes.y, high), which)};
  }

 private:
  uint4 slot;
  unsigned scales;

  __device__ static unsigned shuffle(unsigned value, int lane) { return __shfl_sync(~0u, value, lane); }
  __device__ uint4 *place(int number) const { return packed + number % kWarpgroupStages * Tile::kGroupUnits; }
};

// The tile by two warpgroups, 64 outputs each, of 16 * Strips rows: sums and weights in registers, rows read from
// shared memory by the instructions themselves. Stages of 64 k: one is multiplied while the next one's operations
// queue, two more are under way.
template <class Tile, class Weights, int Terms, int Strips>
__device__ inline void warpgroup_product(const MatmulArguments &a, const MatmulTile &tile, uint4 *stages) {
  constexpr int kRows = 16 * Strips, kSteps = kWarpgroupStageSteps, kOctets = 4 * kSteps, kPassRows = 256 / kOctets;
  // units of 16 bytes
  constexpr bool kPacked = Weights::kForm == MatrixForm::kMxfp4;  // weights wait behind the stages
  constexpr int kTerm = kRows * kOctets, kWeightsAt = Terms * kTerm, kWarp = 64 * kSteps,
                kStage = kWeightsAt + (kPacked ? 0 : 8 * kWarp);
  constexpr int kStages = kWarpgroupStages, kChunkStages = kMatmulChunk / (kSteps * kMatmulStep);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

  // A warp copies its own weights, a thread octet `octet` of every row that is kPassRows further.
  const int octet = thread % kOctets, pass_row = thread / kOctets;
  WarpgroupWeights<Tile, Weights> own_weights(a, tile, stages + kStages * kStage, warp, lane);
  const uint4 *from_x[kRows / kPassRows];
  GETP_UNROLL
  for (int i = 0; i < kRows / kPassRows; i++) from_x[i] = row_octets(a, tile, pass_row + kPassRows * i) + octet;
  const ptrdiff_t to_lo = (const uint4 *)a.lo - (const uint4 *)a.hi;
  const int row_place = warpgroup::row_place(pass_row, octet);
  const auto begin_stage = [&](int number) {
    uint4 *stage = stages + number % kStages * kStage;
    const int first_step = number * kSteps;
    own_weights.copy(stage + kWeightsAt + warp * kWarp, number, a.steps);
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
      own_weights.begin(stage + kWeightsAt + warp * kWarp, number);
      GETP_UNROLL
      for (int step = 0; step < kSteps; step++) {
        const uint4 weights[2] = {own_weights.operand(2 * step), own_weights.operand(2 * step + 1)};
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

template <class Tile, class Weights, int Terms, int Rows>
__global__ void __launch_bounds__(256, 1) matmul_warpgroup_kernel([[maybe_unused]] MatmulArguments a) {
  GETP_AFTER_PREVIOUS();
#if GETP_WARPGROUP_TILES
  GETP_SHARED_STAGES(stages, warpgroup_bytes(Weights::kForm, Terms, Rows) / sizeof(uint4));
  const MatmulTile tile(a, Rows, kMatmulOutputs);
  if (tile.count <= 0) return;
  const int pairs = (tile.count + 31) / 32;  // of strips: no more than the tile has
  if (pairs == 1) return warpgroup_product<Tile, Weights, Terms, 2>(a, tile, stages);
  if (pairs == 2) return warpgroup_product<Tile, Weights, Terms, 4>(a, tile, stages);
  if constexpr (Rows == 128) {
    if (pairs == 3) return warpgroup_product<Tile, Weights, Terms, 6>(a, tile, stages);
    return warpgroup_product<Tile, Weights, Terms, 8>(a, tile, stages);
  }
#endif
}

}  // namespace getp_hip
