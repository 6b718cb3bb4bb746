// The rows that a product is of.
#pragma once

#include "expert_tiles.hip"

namespace getp_hip {

// Which rows, and which matrix of a stack each of them takes.
struct ProductRows {
  int rows = 0;                    // of the result
  int share = 1;                   // so many of them read the same row of x: experts_per_token for w_mlp1
  const int *d_experts = nullptr;  // (rows) the matrix of each; none: there is one matrix
  ExpertTiles groups;              // d_experts grouped; none: each row reads its expert's matrix by itself
  bool experts_known = false;      // d_experts and groups are not made by the kernel just before

  bool grouped() const { return groups.count > 0; }
};

// The product of w with them, for plan_product.
inline Product product_of(const Card &card, const DeviceMatrix &w, int terms, const ProductRows &of) {
  if (of.grouped()) return {w.form, terms, w.n, w.d, of.groups.tile_rows, of.groups.count};
  if (of.d_experts) return {w.form, terms, w.n, w.d, 1, of.rows};
  const int tile_rows = plan_tile_rows(card, w.form, of.rows, w.d);
  return {w.form, terms, w.n, w.d, tile_rows, (of.rows + tile_rows - 1) / tile_rows};
}

}  // namespace getp_hip
