// expert_tiles: groups rows by their expert, so that a tile of kRowTile rows reads its expert's matrix once
//   experts (rows) int, each in [0, n_experts) . d_rows (rows) int: row numbers, ascending within each expert, experts
//   ascending . d_tiles (expert_tile_count): expert, first element of d_rows, count; those left over have count 0
//   grid: one block . block: 256, a thread an expert at a time . precondition: n_experts <= 1024
#pragma once

#include "reduce.hpp"

namespace getp_hip {

constexpr int kRowTile = 4, kMaxExperts = 1024;

struct ExpertTile {
  int expert, first, count;
};

// Rows grouped by expert on the device; count 0: not grouped.
struct ExpertTiles {
  ExpertTile *d_tiles = nullptr;
  int *d_rows = nullptr;
  int count = 0;
};

// Tiles that `rows` rows need at most.
inline int expert_tile_count(int rows, int n_experts) { return rows / kRowTile + (rows < n_experts ? rows : n_experts); }

__global__ void __launch_bounds__(256)
    expert_tiles_kernel(ExpertTile *tiles, int *grouped, const int *experts, int rows, int n_experts, int tile_count) {
  GETP_SHARED(int, first_row, kMaxExperts);
  GETP_SHARED(int, first_tile, kMaxExperts);
  for (int e = threadIdx.x; e < n_experts; e += 256) {
    int count = 0;
    for (int r = 0; r < rows; r++) count += experts[r] == e;
    first_row[e] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int row = 0, tile = 0;
    for (int e = 0; e < n_experts; e++) {
      const int count = first_row[e];
      first_row[e] = row;
      first_tile[e] = tile;
      row += count;
      tile += (count + kRowTile - 1) / kRowTile;
    }
    for (; tile < tile_count; tile++) tiles[tile] = {0, 0, 0};
  }
  __syncthreads();
  for (int e = threadIdx.x; e < n_experts; e += 256) {
    const int first = first_row[e];
    int next = first;
    for (int r = 0; r < rows; r++)
      if (experts[r] == e) grouped[next++] = r;
    for (int at = first, tile = first_tile[e]; at < next; at += kRowTile, tile++)
      tiles[tile] = {e, at, next - at < kRowTile ? next - at : kRowTile};
  }
}

// Groups rows and returns the tiles; d_tiles has room for expert_tile_count(rows, n_experts), d_rows for rows.
inline ExpertTiles expert_tiles(ExpertTile *d_tiles, int *d_rows, const int *d_experts, int rows, int n_experts,
                                hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && n_experts > 0 && n_experts <= kMaxExperts);
  const int count = expert_tile_count(rows, n_experts);
  HIP_LAUNCH(expert_tiles_kernel, dim3(1), dim3(256), stream, d_tiles, d_rows, d_experts, rows, n_experts, count);
  return {d_tiles, d_rows, count};
}

}  // namespace getp_hip
