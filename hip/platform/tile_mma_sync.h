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
    const uint2 bytes = upper_bytes(codes, scales, word);
    return {spread(bytes.x, 0x1404u), spread(bytes.y, 0x1404u), spread(bytes.x, 0x3424u), spread(bytes.y, 0x3424u)};
  }
  // The upper bytes of its FP16 values, which tell all of them: four of each of the two outputs.
  __device__ static uint2 upper_bytes(unsigned codes, unsigned scales, int word) {
    const unsigned magnitudes = codes & 0x77777777u;
    const unsigned scale = select(scales, 0, 0x4440u + word / 2 * 2), next = select(scales, 0, 0x4441u + word / 2 * 2);
    return {look_up(magnitudes, scale) | (codes & 0x80808080u),
            look_up(magnitudes >> 16, next) | (codes << 4 & 0x80808080u)};
  }
  // Two values with those upper bytes, as `which` selects them.
  __device__ static unsigned spread(unsigned bytes, unsigned which) { return select(bytes, 0, which); }

 private:
  // Four magnitudes, by nibbles, times the power of two whose upper byte is `scale`: a byte tells exponent and mantissa, so
  // that the table's eight bytes are the scale's and the differences to it, but for zero.
  __device__ static unsigned look_up(unsigned magnitudes, unsigned scale) {
    return select(scale * 0x01010100u + 0x01fffc00u, scale * 0x01010101u + 0x0a080604u, magnitudes);
  }
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
