// MatrixTile on NVIDIA cards from sm_80 on: mma.sync.m16n8k16.
#pragma once

#include "tile_layouts.h"

struct MatrixTile : TileOperands<MmaSyncLayout> {
  struct Sums {
    float values[kValues];
  };

  __device__ static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
    GETP_UNROLL
    for (int block = 0; block < 2; block++) {  // of 8 rows
      step(sums.values + 4 * block, weights.units[0], rows.units[block].x, rows.units[block].y);
      step(sums.values + 4 * block, weights.units[1], rows.units[block].z, rows.units[block].w);
    }
  }

 private:
  __device__ static void step(float *d, const uint4 &a, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  }
};

template <class Launch>
void with_matrix_tile(Launch launch) {
  launch(MatrixTile{});
}
