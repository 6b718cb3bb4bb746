// MatrixTile on AMD cards: MFMA 16x16x16 (gfx908 on, waves of 64) and WMMA 16x16x16 (gfx11, waves of 32).
#pragma once

#include "tile_layouts.h"

#if defined(__GFX11__)

struct MatrixTile : TileOperands<WmmaLayout> {
  struct Sums {
    float values[kValues];
  };

  __device__ static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
    using Halves = _Float16 __attribute__((ext_vector_type(16)));
    using Floats = float __attribute__((ext_vector_type(8)));
    Floats d;
    __builtin_memcpy(&d, &sums, sizeof d);
    for (int step = 0; step < 2; step++) {
      Halves of_weights, of_rows;
      __builtin_memcpy(&of_weights, weights.units + 2 * step, sizeof of_weights);
      __builtin_memcpy(&of_rows, rows.units + 2 * step, sizeof of_rows);
      d = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(of_weights, of_rows, d);
    }
    __builtin_memcpy(&sums, &d, sizeof d);
  }
};

#else

struct MatrixTile : TileOperands<MfmaLayout> {
  struct Sums {
    float values[kValues];
  };

  __device__ static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
#if defined(__GFX9__)
    using Halves = _Float16 __attribute__((ext_vector_type(4)));
    using Floats = float __attribute__((ext_vector_type(4)));
    Floats d;
    Halves of_weights[2], of_rows[2];
    __builtin_memcpy(&d, &sums, sizeof d);
    __builtin_memcpy(of_weights, weights.units, sizeof of_weights);
    __builtin_memcpy(of_rows, rows.units, sizeof of_rows);
    for (int step = 0; step < 2; step++)
      d = __builtin_amdgcn_mfma_f32_16x16x16f16(of_weights[step], of_rows[step], d, 0, 0, 0);
    __builtin_memcpy(&sums, &d, sizeof d);
#elif defined(__gfx803__)
    __builtin_trap();  // what hipcc builds for where it finds no card and is told of none
#elif defined(__HIP_DEVICE_COMPILE__)
#error "no matrix instructions are known for this architecture; known: gfx908, gfx90a, gfx94x, gfx11xx"
#else
    (void)sums, (void)weights, (void)rows;  // the host's half of the compilation does not run kernels
#endif
  }
};

#endif

template <class Launch>
void with_matrix_tile(Launch launch) {
  launch(MatrixTile{});
}
