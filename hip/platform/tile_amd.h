// MatrixTile on AMD cards: MFMA 16x16x16 (waves of 64) and WMMA 16x16x16 of gfx11 (waves of 32). gfx12's WMMA lays its
// operands out otherwise, gfx906 and gfx10 have no matrix instructions.
#pragma once

#include <algorithm>
#include <string_view>

#include "tile_layouts.h"

// The architectures that have the tile, as __amdgcn_processor__ names them. tools/gpu.sh reads these two lines.
constexpr char kMfmaArchitectures[] = "gfx90a gfx940 gfx941 gfx942 gfx950 gfx9_4_generic";
constexpr char kWmmaArchitectures[] = "gfx1100 gfx1101 gfx1102 gfx1103 gfx1150 gfx1151 gfx1152 gfx1153 gfx11_generic";

constexpr bool is_word_of(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const std::string_view first = words.substr(0, words.find(' '));
    if (first == word) return true;
    words.remove_prefix(std::min(words.size(), first.size() + 1));
  }
  return false;
}

// Kernels for an architecture without the tile compile, so that a list may name it, and trap; getp_card refuses the card.
#ifdef __amdgcn_processor__
constexpr bool kHasTile =
    is_word_of(kMfmaArchitectures, __amdgcn_processor__) || is_word_of(kWmmaArchitectures, __amdgcn_processor__);
#else
constexpr bool kHasTile = false;          // the host's half of the compilation
#endif

// The unit whose codes are word `word` of a slot: a byte of FP16 tells a magnitude and a power of two, so that the eight
// bytes of a scale are a table, of which v_perm_b32 looks up four at a time.
__device__ inline uint4 getp_unpack_mxfp4(unsigned codes, unsigned scales, int word) {
#ifdef __HIP_DEVICE_COMPILE__
  const unsigned low = 0x01fffc00u + __builtin_amdgcn_perm(0, scales, word * 0x01010100u + 0x0c);
  const unsigned high = 0x0a080604u + __builtin_amdgcn_perm(0, scales, word * 0x01010101u);
  const unsigned even = __builtin_amdgcn_perm(high, low, codes & 0x07070707u) | (codes << 4 & 0x80808080u);
  const unsigned odd = __builtin_amdgcn_perm(high, low, codes >> 4 & 0x07070707u) | (codes & 0x80808080u);
  return {__builtin_amdgcn_perm(odd, even, 0x040c000cu), __builtin_amdgcn_perm(odd, even, 0x050c010cu),
          __builtin_amdgcn_perm(odd, even, 0x060c020cu), __builtin_amdgcn_perm(odd, even, 0x070c030cu)};
#else
  (void)codes, (void)scales, (void)word;  // the host's half of the compilation does not run kernels
  return {};
#endif
}

#if defined(__GFX11__)

struct MatrixTile : TileOperands<WmmaLayout> {
  struct Sums {
    float values[kValues];
  };

  __device__ static uint4 unpack(unsigned codes, unsigned scales, int word) {
    return getp_unpack_mxfp4(codes, scales, word);
  }

  __device__ static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
    if constexpr (kHasTile) {
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
    } else {
      __builtin_trap();
    }
  }
};

#else

struct MatrixTile : TileOperands<MfmaLayout> {
  struct Sums {
    float values[kValues];
  };

  __device__ static uint4 unpack(unsigned codes, unsigned scales, int word) {
    return getp_unpack_mxfp4(codes, scales, word);
  }

  __device__ static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
    if constexpr (kHasTile) {
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
    } else {
      __builtin_trap();
    }
  }
};

#endif

template <class Launch>
void with_matrix_tile(Launch launch) {
  launch(MatrixTile{});
}
