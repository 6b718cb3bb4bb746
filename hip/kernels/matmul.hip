// matmul: out[r,o] = sum_i w[o,i] * x[r,i] + bias[o] on matrix cores                reference: matmul() in run.cpp
// by expert: out[s,o] = sum_i w[expert[s],o,i] * x[s / share,i] + bias[expert[s],o], a row s for each chosen expert
//   w (matrices, d, n): DeviceMatrix, in MXFP4 or FP16, with the same bits . x (rows, n): SplitRows, its first term or both
//   bias (matrices, d) f32 or none . out (rows, d) f32
//   precondition: n % 8 == 0, rows aligned to 16 bytes
//   order: chunks of kMatmulChunk k, summed by the matrix cores (at each 32 k the first term, then the second), added
//   up in FP32 in ascending order: depends on n alone, not on the kernel, the tile or what shares it. Matrix cores that
//   truncate their sums stay at FP32 grade that way.
//
// The kernels, of which product_plan.hpp chooses: for up to 32 rows matmul_stream.hip, or, by copies past the registers,
// matmul_staged.hip (many outputs) and matmul_ring.hip (few); for more matmul_tile.hip, or matmul_warpgroup.hip.
#pragma once

#include "matmul_ring.hip"
#include "matmul_staged.hip"
#include "matmul_stream.hip"
#include "matmul_tile.hip"
#include "matmul_warpgroup.hip"

namespace getp_hip {

// The template arguments of the kernels.
template <class TileOf, class WeightsOf, int TermsOf, int RowsOf>
struct MatmulConstants {
  using Tile = TileOf;
  using Weights = WeightsOf;
  static constexpr int kTerms = TermsOf, kRows = RowsOf;
  // Which kernels of few rows there are.
  static constexpr bool kStaged = kAsyncCopies && Tile::kHalves && kRows <= 32;
  static constexpr bool kRing = kStaged && kRows >= 16 && Weights::kForm == MatrixForm::kFp16;
};

// Calls use(constants) with the MatmulConstants for weights of that form, so many terms, tiles of so many rows.
template <class Use>
inline void with_matmul_constants(MatrixForm form, int terms, int tile_rows, Use use) {
  with_matrix_tile([&](auto tile) {
    using Tile = decltype(tile);
    const auto with_rows = [&](auto weights, auto terms_constant) {
      using Weights = decltype(weights);
      constexpr int kTerms = decltype(terms_constant)::value;
      if (tile_rows == 8)
        use(MatmulConstants < Tile, Weights, kTerms, Tile::kHalves ? 8 : 16 > {});
      else if (tile_rows == 16)
        use(MatmulConstants<Tile, Weights, kTerms, 16>{});
      else if (tile_rows == 32)
        use(MatmulConstants<Tile, Weights, kTerms, 32>{});
      else if (tile_rows == 64)
        use(MatmulConstants<Tile, Weights, kTerms, 64>{});
      else
        use(MatmulConstants<Tile, Weights, kTerms, 128>{});
    };
    const auto with_terms = [&](auto weights) {
      if (terms == 1)
        with_rows(weights, std::integral_constant<int, 1>{});
      else
        with_rows(weights, std::integral_constant<int, 2>{});
    };
    if (form == MatrixForm::kMxfp4)
      with_terms(Mxfp4Weights<Tile>{});
    else
      with_terms(Fp16Weights<Tile>{});
  });
}

// Calls use(strips) with how many strips of outputs a block of the ring kernel makes.
template <class Use>
inline void with_ring_strips(int outputs, Use use) {
  if (outputs == 16)
    use(std::integral_constant<int, 1>{});
  else if (outputs == 32)
    use(std::integral_constant<int, 2>{});
  else
    use(std::integral_constant<int, kRingStrips>{});
}

// Once a device, before its first product: allows the kernels the shared memory of their stages.
inline void prepare_matmul(const Card &card) {
  for (MatrixForm form : {MatrixForm::kFp16, MatrixForm::kMxfp4})
    for (int terms : {1, 2})
      for (int tile_rows : {8, 16, 32, 64, 128})
        with_matmul_constants(form, terms, tile_rows, [&](auto constants) {
          using C = decltype(constants);
          if constexpr (C::kStaged) {
            if (card.bulk_copies)
              getp_allow_shared(matmul_staged_kernel<typename C::Tile, typename C::Weights, C::kTerms, C::kRows>,
                                staged_bytes(form, terms, C::kRows));
          }
          if constexpr (C::kRing) {
            for (int strips = 1; strips <= kRingStrips; strips++)
              with_ring_strips(strips * 16, [&](auto constant) {
                getp_allow_shared(
                    matmul_ring_kernel<typename C::Tile, typename C::Weights, C::kTerms, C::kRows, constant.value>,
                    card.shared_limit);
              });
          }
          if constexpr (C::kRows >= 64) {
            getp_allow_shared(matmul_tile_kernel<typename C::Tile, typename C::Weights, C::kTerms, C::kRows>,
                              tile_bytes(card, terms, tile_rows));
            if constexpr (kWarpgroups) {
              if (card.warpgroups)
                getp_allow_shared(matmul_warpgroup_kernel<typename C::Tile, typename C::Weights, C::kTerms, C::kRows>,
                                  warpgroup_bytes(form, terms, tile_rows));
            }
          }
        });
  HIP_CHECK(hipGetLastError());
}

// The arguments for `of` rows in tiles as the plan has them.
inline MatmulArguments matmul_arguments(float *d_out, const DeviceMatrix &w, const float *d_bias, const SplitRows &x,
                                        const ProductRows &of, int row_tiles) {
  MatmulArguments a = {};
  a.out = d_out;
  a.w = w.d_units;
  a.w_scales = w.d_scales;
  a.bias = d_bias;
  a.hi = x.d_hi;
  a.lo = x.d_lo;
  a.x_scales = x.d_scales;
  a.experts = of.grouped() ? nullptr : of.d_experts;
  a.tiles = of.grouped() ? of.groups.d_tiles : nullptr;
  a.grouped_rows = of.grouped() ? of.groups.d_rows : nullptr;
  a.share = of.share;
  a.rows = of.rows;
  a.n = w.n;
  a.d = w.d;
  a.row_tiles = row_tiles;
  a.steps = (w.n + kMatmulStep - 1) / kMatmulStep;
  a.matrix_known = !of.d_experts || of.experts_known;
  return a;
}

inline void launch_matmul(const MatmulArguments &a, MatrixForm form, const ProductPlan &plan, int terms,
                          hipStream_t stream) {
  HIP_REQUIRE(a.rows > 0 && a.n > 0 && can_split(a.n) && a.d > 0 && a.share > 0 && a.rows % a.share == 0);
  HIP_REQUIRE((uintptr_t)a.w % 16 == 0 && (uintptr_t)a.hi % 16 == 0 && (uintptr_t)a.lo % 16 == 0);
  HIP_REQUIRE((terms == 1 || terms == 2) && plan.kernel != ProductKernel::kMatvec);
  HIP_REQUIRE(form == MatrixForm::kFp16 || (form == MatrixForm::kMxfp4 && a.n % kMxfp4Group == 0));
  HIP_REQUIRE((plan.kernel != ProductKernel::kTile && plan.kernel != ProductKernel::kWarpgroup) ==
              (plan.tile_rows <= 32));
  const int output_tiles = (a.d + plan.tile_outputs - 1) / plan.tile_outputs;
  const dim3 blocks(block_count((size_t)output_tiles * a.row_tiles, 1, 512)), threads(plan.threads);
  with_matmul_constants(form, terms, plan.tile_rows, [&](auto constants) {
    using C = decltype(constants);
    using Tile = typename C::Tile;
    using Weights = typename C::Weights;
    if constexpr (C::kRows <= 32) {
      if constexpr (C::kStaged) {
        if (plan.kernel == ProductKernel::kStaged) {
          HIP_LAUNCH_SHARED((matmul_staged_kernel<Tile, Weights, C::kTerms, C::kRows>), blocks, threads,
                            plan.shared_bytes, stream, a);
          return;
        }
      }
      if constexpr (C::kRing) {
        if (plan.kernel == ProductKernel::kRing) {
          with_ring_strips(plan.tile_outputs, [&](auto strips) {
            HIP_LAUNCH_SHARED((matmul_ring_kernel<Tile, Weights, C::kTerms, C::kRows, strips.value>), blocks, threads,
                              plan.shared_bytes, stream, a);
          });
          return;
        }
      }
      HIP_LAUNCH((matmul_stream_kernel<Tile, Weights, C::kTerms, C::kRows>), blocks, threads, stream, a);
    } else {
      if constexpr (kWarpgroups) {
        if (plan.kernel == ProductKernel::kWarpgroup) {
          HIP_LAUNCH_SHARED((matmul_warpgroup_kernel<Tile, Weights, C::kTerms, C::kRows>), blocks, threads,
                            plan.shared_bytes, stream, a);
          return;
        }
      }
      HIP_LAUNCH_SHARED((matmul_tile_kernel<Tile, Weights, C::kTerms, C::kRows>), blocks, threads, plan.shared_bytes,
                        stream, a);
    }
  });
}

// The form of w is MXFP4 or FP16.
inline void matmul(const Card &card, float *d_out, const DeviceMatrix &w, const float *d_bias, const SplitRows &x,
                   const ProductRows &of, hipStream_t stream) {
  const Product product = product_of(card, w, x.terms, of);
  launch_matmul(matmul_arguments(d_out, w, d_bias, x, of, product.row_tiles), w.form, plan_product(card, product),
                x.terms, stream);
}

}  // namespace getp_hip
