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

  // The unit whose codes are word `word` of a slot.
  __device__ static uint4 unpack(unsigned codes, unsigned scales, int word) {
    const uint2 bytes = upper_bytes(codes), scale = group_scales(scales, word);
    return {spread(bytes.x, 0x1404u, scale.x), spread(bytes.y, 0x1404u, scale.y), spread(bytes.x, 0x3424u, scale.x),
            spread(bytes.y, 0x3424u, scale.y)};
  }
  // The upper bytes of FP16 values before their scale, which tell magnitude and sign: four of each of the two outputs.
  __device__ static uint2 upper_bytes(unsigned codes) {
    const unsigned magnitudes = codes & 0x77777777u;
    return {select(0x3e3c3800u, 0x46444240u, magnitudes) | (codes & 0x80808080u),
            select(0x3e3c3800u, 0x46444240u, magnitudes >> 16) | (codes << 4 & 0x80808080u)};
  }
  // The scales of both outputs for word `word`, as pairs of FP16.
  __device__ static uint2 group_scales(unsigned scales, int word) {
    const unsigned at = word / 2 * 2 * 0x1010u;
    return {select(scales, 0, 0x0404u + at), select(scales, 0, 0x1414u + at)};
  }
  // Two values with those upper bytes, as `which` selects them, times their scale.
  __device__ static unsigned spread(unsigned bytes, unsigned which, unsigned scale) {
    unsigned halves = select(bytes, 0, which);
    asm("mul.f16x2 %0, %0, %1;" : "+r"(halves) : "r"(scale));
    return halves;
  }

 private:
  // Four of the eight bytes, by the nibbles of `which`.
  __device__ static unsigned select(unsigned low, unsigned high, unsigned which) {
    unsigned bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(which));
    return bytes;
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
