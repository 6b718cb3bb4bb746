// Which kernel makes a product, and how: decided here from the product's shape, the form of its weights, the terms of
// its activations and the card's figures, and from nothing else, so that a test on the CPU can ask for any card.
//
// Every plan of a form gives the same bits: a row's sum has one order, whatever the kernel, the tile and what shares it
// (matmul.hip, matvec.hip).
#pragma once

#include <algorithm>
#include <cstddef>

#include "../device_matrix.hpp"
#include "../platform/card.h"

namespace getp_hip {

// k of a step (a matrix tile), k after which a sum is closed, outputs of a block of the kernels for many rows.
constexpr int kMatmulStep = 32, kMatmulChunk = 256, kMatmulOutputs = 128;
// Steps of a stage of a product by warpgroups, and its stages in shared memory.
constexpr int kWarpgroupStageSteps = 2, kWarpgroupStages = 4;
// Rows of a tile of matvec_kernel, also the fewest that expert_tiles makes a tile of.
constexpr int kMatvecTile = 4;

enum class ProductKernel {
  kMatvec,     // matvec.hip: FP32
  kStream,     // matmul_stream.hip: few rows, weights straight from memory
  kRing,       // matmul_ring.hip: 16 or 32 rows, few outputs, weights and rows through stages of a wave's own
  kStaged,     // matmul_staged.hip: few rows, many outputs, weights and rows through stages of a block's
  kTile,       // matmul_tile.hip: many rows, by waves from shared memory
  kWarpgroup,  // matmul_warpgroup.hip: many rows, by warpgroups
};

// What is to be multiplied: rows in row_tiles tiles of at most tile_rows each, by n values of d outputs.
struct Product {
  MatrixForm form;
  int terms, n, d;
  int tile_rows, row_tiles;
};

struct ProductPlan {
  ProductKernel kernel;
  int tile_rows;        // that the kernel is made for: at least the product's
  int tile_outputs;     // of a block
  int threads;          // of a block
  size_t shared_bytes;  // of stages
  int output_lanes;     // matvec: lanes that make an output together
};

// Rows of a tile that suits `rows` rows of one matrix with d outputs.
inline int plan_tile_rows(const Card &card, MatrixForm form, int rows, int d) {
  if (form == MatrixForm::kFp32) return rows == 1 ? 1 : kMatvecTile;
  const bool few_outputs = d <= kMatmulOutputs / 2;  // many blocks, rather than full ones
  if (rows <= 8 || (few_outputs && card.half_tiles)) return rows == 1 ? 1 : 8;
  if (rows <= 16 || few_outputs) return 16;
  return rows <= 32 ? 32 : rows <= 96 ? 64 : 128;
}

// Rows of a tile of expert_tiles that suits both matrices of an expert, `rows` rows spread over n_experts: of experts with
// five rows or fewer each next to none has more than 8. (Tried with packed weights alone.)
inline int plan_expert_tile_rows(const Card &card, const DeviceMatrix &first, const DeviceMatrix &second, int rows,
                                 int n_experts) {
  if (first.form == MatrixForm::kFp32 || second.form == MatrixForm::kFp32) return kMatvecTile;
  const bool packed = first.form == MatrixForm::kMxfp4 && second.form == MatrixForm::kMxfp4;
  if (packed && card.half_tiles && rows <= 5 * n_experts) return 8;
  return std::max(16,
                  plan_tile_rows(card, first.form, (rows + n_experts - 1) / n_experts, std::min(first.d, second.d)));
}

// Threads of a block of matmul_stream_kernel at most.
__host__ __device__ constexpr int stream_threads(int tile_rows) { return tile_rows <= 16 ? 384 : 256; }

// Outputs of a block of matmul_stream_kernel. Where an instruction takes few registers of packed weights, a wave holds more
// of them for the rows that it loads.
__host__ __device__ constexpr int stream_outputs(MatrixForm form, int tile_rows, bool half_tiles) {
  if (tile_rows > 16) return 32;
  return form != MatrixForm::kMxfp4 || !half_tiles ? 16 : tile_rows > 8 ? 64 : 32;
}

// Bytes of the stages of a block that makes kMatmulOutputs outputs of tile_rows rows: of a step, of the kernel by waves,
// of that by warpgroups.
constexpr size_t step_bytes(int terms, int tile_rows) {
  return (size_t)kMatmulStep * (kMatmulOutputs + terms * tile_rows) * sizeof(fp16);
}
constexpr size_t tile_bytes(const Card &card, int terms, int tile_rows) {
  return card.stages * step_bytes(terms, tile_rows);
}
constexpr size_t warpgroup_bytes(MatrixForm form, int terms, int tile_rows) {
  const size_t rows = kMatmulStep * terms * tile_rows * sizeof(fp16);
  const size_t weights =
      kMatmulOutputs * (form == MatrixForm::kMxfp4 ? kMatmulStep / 2 + 1 : kMatmulStep * sizeof(fp16));
  return kWarpgroupStages * kWarpgroupStageSteps * (rows + weights);
}

// The staged kernel: stages, waves of a block, strips of outputs of each, what a row in a stage has beyond its steps (units
// of 16 bytes); steps of a stage; blocks on a multiprocessor that its registers are bounded for; bytes.
constexpr int kStagedStages = 2, kStagedWaves = 4, kStagedStrips = 2, kStagedPad = 2;
__host__ __device__ constexpr int staged_steps(MatrixForm form) { return form == MatrixForm::kMxfp4 ? 8 : 4; }
constexpr int staged_blocks(int tile_rows) { return tile_rows <= 16 ? 4 : 3; }
__host__ __device__ constexpr size_t staged_bytes(MatrixForm form, int terms, int tile_rows) {
  const size_t row = staged_steps(form) * kMatmulStep * sizeof(fp16) + kStagedPad * 16;
  const size_t output =
      staged_steps(form) * (form == MatrixForm::kMxfp4 ? kMatmulStep / 2 + 1 : kMatmulStep * sizeof(fp16));
  return kStagedStages * (terms * tile_rows * row + kStagedWaves * kStagedStrips * 16 * output + 8);
}

// The ring kernel: stages, waves of a block and strips of its outputs at most; steps of a stage; bytes.
constexpr int kRingStages = 3, kRingWaves = 12, kRingStrips = 3;
__host__ __device__ constexpr int ring_steps(int tile_rows) { return tile_rows <= 16 ? 2 : 1; }
__host__ __device__ constexpr size_t ring_bytes(int terms, int tile_rows, int waves, int strips) {
  const size_t stage = (size_t)ring_steps(tile_rows) * kMatmulStep * (terms * tile_rows + strips * 16) * sizeof(fp16);
  return waves * kRingStages * stage + (waves + 1) * (size_t)tile_rows * strips * 16 * sizeof(float);
}

// Of 32 rows or fewer.
inline ProductPlan plan_few_rows(const Card &card, const Product &p) {
  const int tile_rows = p.tile_rows <= 8 && card.half_tiles ? 8 : p.tile_rows <= 16 ? 16 : 32;
  const int chunks = (p.n + kMatmulChunk - 1) / kMatmulChunk;
  const auto blocks_of = [&](int outputs) { return (long long)((p.d + outputs - 1) / outputs) * p.row_tiles; };
  // Rows alone are nothing to share, and blocks that few processors would wait for are none to fill the card with.
  constexpr int kStagedOutputs = kStagedWaves * kStagedStrips * 16;
  const size_t staged = staged_bytes(p.form, p.terms, tile_rows);
  if (card.bulk_copies && p.tile_rows > 1 && blocks_of(kStagedOutputs) >= 8 * card.processors &&
      staged <= (size_t)card.shared_limit)
    return {ProductKernel::kStaged, tile_rows, kStagedOutputs, kStagedWaves * card.wave, staged, 0};
  if (card.async_copies && p.form == MatrixForm::kFp16 && tile_rows > 8) {
    // So many outputs that a processor reads the rows once; a wave for each chunk, as far as they have room.
    int strips = 1, waves = std::min(chunks, kRingWaves);
    while (strips < kRingStrips && blocks_of(strips * 16) > card.processors) strips++;
    const auto bytes = [&] { return ring_bytes(p.terms, tile_rows, waves, strips); };
    while (bytes() > (size_t)card.shared_limit) waves--;
    return {ProductKernel::kRing, tile_rows, strips * 16, waves * card.wave, bytes(), 0};
  }
  const int outputs = stream_outputs(p.form, tile_rows, card.half_tiles);
  // The fewer blocks, the more threads each: loads of all of a matrix are to be under way. Many blocks: few threads,
  // which end together. A group of threads for each chunk at most.
  const long long blocks = blocks_of(outputs);
  const int most = stream_threads(tile_rows) / card.stream_group;
  const int groups = std::min({chunks, most, blocks <= 32 ? 12 : blocks <= 512 ? 8 : 4});
  return {ProductKernel::kStream, tile_rows, outputs, groups * card.stream_group, 0, 0};
}

inline ProductPlan plan_product(const Card &card, const Product &p) {
  if (p.form == MatrixForm::kFp32) {
    // Enough lanes to read a row together, not so many that most add nothing.
    const int lanes = p.n <= 128 ? 1 : p.n <= 256 ? 8 : 32;
    return {ProductKernel::kMatvec, p.tile_rows, 256 / lanes, 256, 0, lanes};
  }
  if (p.tile_rows <= 32) return plan_few_rows(card, p);
  const int tile_rows = p.tile_rows <= 64 ? 64 : 128;
  if (card.warpgroups)
    return {ProductKernel::kWarpgroup, tile_rows, kMatmulOutputs, 256, warpgroup_bytes(p.form, p.terms, tile_rows), 0};
  return {ProductKernel::kTile, tile_rows, kMatmulOutputs, 256, tile_bytes(card, p.terms, tile_rows), 0};
}

}  // namespace getp_hip
