// MatrixTile on NVIDIA cards from sm_80 on: mma.sync.m16n8k16. See matrix_tile.h for what a tile is.
// Source of the layout: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
//
// A lane's units feed the instructions as they are: which of an instruction's 16 places a k takes is free, as long as
// both operands agree. Lane 4 * g + t has octet t: in rows, of rows g and g + 8; in weights, for each of two
// instructions the four k that it takes from the octet, of outputs g and g + 8 in turns.
#pragma once

struct MatrixTile {
  static constexpr int kWave = 32, kUnits = 2, kValues = 8;
  struct Operand {
    uint4 units[kUnits];
  };
  struct Sums {
    float values[kValues];
  };

  __host__ __device__ static int weight_word(int output, int pair) {
    const int octet = pair / 4, instruction = pair / 2 % 2;
    return (instruction * 32 + output % 8 * 4 + octet) * 4 + pair % 2 * 2 + output / 8;
  }
  __device__ static int weight_unit(int lane, int unit) { return unit * 32 + lane; }
  __device__ static int unit_row(int lane, int unit) { return lane / 4 + 8 * unit; }
  __device__ static int unit_octet(int lane, int) { return lane % 4; }
  __device__ static int output(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
  __device__ static int row(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

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
