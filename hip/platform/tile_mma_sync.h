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

  // The unit whose codes are word `word` of a slot: a byte of FP16 tells a magnitude, and a power of two.
  __device__ static uint4 unpack(unsigned codes, unsigned scales, int word) {
    const unsigned magnitudes = codes & 0x77777777u, scale = word / 2 * 2;
    const unsigned first = select(0x3e3c3800u, 0x46444240u, magnitudes) | (codes & 0x80808080u);
    const unsigned second = select(0x3e3c3800u, 0x46444240u, magnitudes >> 16) | (codes << 4 & 0x80808080u);
    const unsigned first_scale = select(scales, 0, 0x0404u + scale * 0x1010u);
    const unsigned second_scale = select(scales, 0, 0x1414u + scale * 0x1010u);
    return {scaled(select(first, 0, 0x1404u), first_scale), scaled(select(second, 0, 0x1404u), second_scale),
            scaled(select(first, 0, 0x3424u), first_scale), scaled(select(second, 0, 0x3424u), second_scale)};
  }

 private:
  // Four of the eight bytes, by the nibbles of `which`.
  __device__ static unsigned select(unsigned low, unsigned high, unsigned which) {
    unsigned bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(which));
    return bytes;
  }
  __device__ static unsigned scaled(unsigned halves, unsigned scales) {
    asm("mul.f16x2 %0, %0, %1;" : "+r"(halves) : "r"(scales));
    return halves;
  }
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
