// expert_tiles: groups rows by their expert, so that a tile of rows reads its expert's matrix once
//   experts (rows) int, each in [0, n_experts) . d_counts (n_experts) int: rows of each expert
//   d_rows (rows) int: row numbers, ascending within each expert, experts ascending
//   d_tiles (expert_tile_count): those of an expert beside each other; those left over have count 0
//   grid: a block an expert . block: kGroupThreads . precondition: n_experts <= 1024
#pragma once

#include "product_plan.hpp"
#include "reduce.hpp"

namespace getp_hip {

constexpr int kMaxExperts = 1024, kGroupThreads = block_threads(256);

struct ExpertTile {
  int expert, first, count;         // rows [first, first + count) of d_rows
  int first_tile, tiles_of_expert;  // its expert's tiles
};

// Rows grouped by expert on the device, in tiles of at most tile_rows; count 0: not grouped.
struct ExpertTiles {
  ExpertTile *d_tiles = nullptr;
  int *d_rows = nullptr, *d_counts = nullptr;
  int count = 0, tile_rows = 0;
};

// Tiles that `rows` rows need at most.
inline int expert_tile_count(int rows, int n_experts, int tile_rows) {
  return rows / tile_rows + (rows < n_experts ? rows : n_experts);
}

__global__ void __launch_bounds__(kGroupThreads) expert_count_kernel(int *counts, const int *experts, int rows) {
  GETP_AFTER_PREVIOUS();
  int count = 0;
  for (int r = threadIdx.x; r < rows; r += kGroupThreads) count += experts[r] == (int)blockIdx.x;
  count = block_reduce<kGroupThreads>(count, Sum{});
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

__global__ void __launch_bounds__(kGroupThreads)
    expert_tiles_kernel(ExpertTile *tiles, int *grouped, const int *experts, const int *counts, int rows, int tile_rows,
                        int tile_count) {
  GETP_AFTER_PREVIOUS();
  GETP_SHARED(int, before, kGroupThreads);
  const int expert = blockIdx.x, thread = threadIdx.x;
  int first = 0, first_tile = 0;
  for (int e = thread; e < expert; e += kGroupThreads) {
    first += counts[e];
    first_tile += (counts[e] + tile_rows - 1) / tile_rows;
  }
  first = block_reduce<kGroupThreads>(first, Sum{});
  first_tile = block_reduce<kGroupThreads>(first_tile, Sum{});
  const int count = counts[expert], own_tiles = (count + tile_rows - 1) / tile_rows;
  for (int i = thread; i < own_tiles; i += kGroupThreads)
    tiles[first_tile + i] = {expert, first + i * tile_rows,
                             count - i * tile_rows < tile_rows ? count - i * tile_rows : tile_rows, first_tile,
                             own_tiles};
  if (expert + 1 == (int)gridDim.x)
    for (int i = first_tile + own_tiles + thread; i < tile_count; i += kGroupThreads) tiles[i] = {0, 0, 0, i, 1};

  // Each thread takes a stretch of rows: counts its expert's, then writes them behind those of the threads before.
  const int stretch = (rows + kGroupThreads - 1) / kGroupThreads, begin = thread * stretch;
  const int end = begin + stretch < rows ? begin + stretch : rows;
  int own = 0;
  for (int r = begin; r < end; r++) own += experts[r] == expert;
  before[thread] = own;
  __syncthreads();
  int next = first;
  for (int t = 0; t < thread; t++) next += before[t];
  for (int r = begin; r < end; r++)
    if (experts[r] == expert) grouped[next++] = r;
}

// Groups rows into tiles of tile_rows >= kMatvecTile. `room` has the memory: tiles for expert_tile_count(rows,
// n_experts, tile_rows), rows for rows, counts for n_experts.
inline ExpertTiles expert_tiles(const ExpertTiles &room, const int *d_experts, int rows, int n_experts, int tile_rows,
                                hipStream_t stream) {
  HIP_REQUIRE(rows > 0 && n_experts > 0 && n_experts <= kMaxExperts && tile_rows >= kMatvecTile);
  const int count = expert_tile_count(rows, n_experts, tile_rows);
  HIP_LAUNCH(expert_count_kernel, dim3(n_experts), dim3(kGroupThreads), stream, room.d_counts, d_experts, rows);
  HIP_LAUNCH(expert_tiles_kernel, dim3(n_experts), dim3(kGroupThreads), stream, room.d_tiles, room.d_rows, d_experts,
             room.d_counts, rows, tile_rows, count);
  return {room.d_tiles, room.d_rows, room.d_counts, count, tile_rows};
}

}  // namespace getp_hip
