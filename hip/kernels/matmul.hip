// matmul: out[r,o] = sum_i w[o,i] * x[r,i] + bias[o] on matrix cores                reference: matmul() in run.cpp
// expert_matmul: out[s,o] = sum_i w[expert[s],o,i] * x[s / share,i] + bias[expert[s],o], a row s for each chosen expert
//   w (matrices, d, n): DeviceMatrix, in FP16 . x (rows, n): SplitRows, its first term or both
//   bias (matrices, d) f32 or none . out (rows, d) f32
//   precondition: n % 8 == 0, rows aligned to 16 bytes
//   order: chunks of kMatmulChunk k, summed by the matrix cores (at each 32 k the first term, then the second), added
//   up in FP32 in ascending order: depends on n alone, not on the kernel, the tile or what shares it. Matrix cores that
//   truncate their sums stay at FP32 grade that way.
//
// Two kernels: matmul_stream.hip for few rows, matmul_tile.hip for many.
#pragma once

#include "matmul_stream.hip"
#include "matmul_tile.hip"

namespace getp_hip {

// Rows of a tile that suits `rows` rows of one matrix with d outputs.
inline int matmul_tile_rows(int rows, int d) {
  if (rows <= 8) return 8;
  if (rows <= 16 || d <= kMatmulOutputs / 2) return 16;  // few outputs: many blocks, rather than full ones
  return rows <= 32 ? 32 : rows <= 96 ? 64 : 128;
}

// Outputs that a block makes of a tile of tile_rows rows.
inline int matmul_tile_outputs(int tile_rows) { return tile_rows <= 16 ? 16 : tile_rows <= 32 ? 32 : kMatmulOutputs; }

// Launches the kernel for tiles of tile_rows rows, one of those that matmul_tile_rows gives.
inline void launch_matmul(MatmulArguments a, int tile_rows, int terms, hipStream_t stream) {
  HIP_REQUIRE(a.rows > 0 && a.n > 0 && a.n % 8 == 0 && a.d > 0 && a.share > 0 && a.rows % a.share == 0);
  HIP_REQUIRE((uintptr_t)a.w % 16 == 0 && (uintptr_t)a.hi % 16 == 0 && (uintptr_t)a.lo % 16 == 0);
  HIP_REQUIRE(terms == 1 || terms == 2);
  const int outputs = matmul_tile_outputs(tile_rows);
  const unsigned blocks = block_count((size_t)((a.d + outputs - 1) / outputs) * a.row_tiles, 1, 512);
  a.steps = (a.n + kMatmulStep - 1) / kMatmulStep;
  const auto launch_kernel = [&](auto tile, auto term_count) {
    using Tile = decltype(tile);
    constexpr int kTerms = decltype(term_count)::value;
    const auto launch_tiles = [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      const size_t step_bytes = (kMatmulOutputs + kTerms * kRows) * kMatmulStep * sizeof(fp16);
      HIP_LAUNCH_SHARED((matmul_tile_kernel<Tile, kTerms, kRows>), dim3(blocks), dim3(256), step_bytes, stream, a);
    };
    // The fewer blocks, the more waves each: loads of all of a matrix are to be under way. Many blocks: few waves,
    // which end together.
    const int chunks = (a.n + kMatmulChunk - 1) / kMatmulChunk, most = stream_threads(tile_rows) / Tile::kWave;
    const int threads = std::min({chunks, most, blocks <= 32 ? 12 : blocks <= 512 ? 8 : 4}) * Tile::kWave;
    const auto launch_stream = [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      HIP_LAUNCH((matmul_stream_kernel<Tile, kTerms, kRows>), dim3(blocks), dim3(threads), stream, a);
    };
    constexpr int kFew = Tile::kHalves ? 8 : 16;
    if (tile_rows == 8)
      launch_stream(std::integral_constant<int, kFew>{});
    else if (tile_rows == 16)
      launch_stream(std::integral_constant<int, 16>{});
    else if (tile_rows == 32)
      launch_stream(std::integral_constant<int, 32>{});
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
                !grouped                ? 8
                : groups.tile_rows > 16 ? groups.tile_rows
                                        : 16,
                x.terms, stream);
}

}  // namespace getp_hip
