// A stack of weight matrices on the device, in the form that its kernels take.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "bf16.hpp"
#include "fp16.hpp"
#include "hip_utils.h"
#include "mxfp4.hpp"

namespace getp_hip {

enum class MatrixForm { kFp32, kFp16, kMxfp4, kBf16 };
inline const char *name_of(MatrixForm form) {
  constexpr const char *kNames[] = {"FP32", "FP16", "MXFP4", "BF16"};
  return kNames[(int)form];
}

// Rows of a matrix on the host, packed while their form was looked for, until they are on the devices.
struct PackedMatrix {
  std::unique_ptr<uint4[]> units;  // as DeviceMatrix::d_units
  std::vector<float> scales;       // (count, d)
};

// `count` matrices of d rows of n values, one behind the other. For matrix cores either packed in MXFP4, where the values
// are of that form, or in FP16, each with a power of two for each row, where that is exact (as it is for what BF16 holds:
// 8 bits of mantissa fit into 11); else the values themselves. Values under 2^-28 of their row's largest may become zero
// in FP16: the matrix cores of gfx90a would flush them.
//
// FP16 values lie in tiles of 16 rows and 32 values (1 KB, in the order of MatrixTile), strips of 16 rows one behind
// the other; zeros fill the last tiles. MXFP4: mxfp4.hpp, with the same products to the bit.
//
// A table whose rows are only looked up lies in BF16, where that is exact, row by row; else in FP32.
struct DeviceMatrix {
  uint4 *d_units = nullptr;   // (unit_count()) strips, in units of 16 bytes, or null
  float *d_scales = nullptr;  // (count, d): a power of two by which d_units' values are multiplied
  float *d_exact = nullptr;   // (count, d, n), or null
  bf16 *d_bf16 = nullptr;     // (count, d, n), or null
  bool looked_up = false;     // is never multiplied
  bool rounded = false;       // values are rounded to BF16 first
  MatrixForm form = MatrixForm::kFp32;
  int d = 0, n = 0;
  size_t count = 0;
  std::shared_ptr<PackedMatrix> h_packed;  // of form kMxfp4, until it is uploaded

  size_t rows() const { return count * d; }
  size_t strips() const { return ((size_t)d + 15) / 16; }  // of one matrix
  size_t padded_n() const { return ((size_t)n + 31) / 32 * 32; }
  // Units of 16 bytes of a strip.
  size_t strip_units() const {
    return form == MatrixForm::kMxfp4 ? mxfp4_strip_units(n) : padded_n() * sizeof(fp16);
  }
  size_t unit_count() const { return count * strips() * strip_units(); }
  size_t bytes() const {
    if (form == MatrixForm::kFp32) return rows() * n * sizeof(float);
    if (form == MatrixForm::kBf16) return rows() * n * sizeof(bf16);
    return unit_count() * sizeof(uint4) + rows() * sizeof(float);
  }

  // Sets the shape; a model has one shape for all its life.
  DeviceMatrix &shaped(size_t matrices, size_t rows_of_one, size_t values_of_row, bool round = false) {
    count = matrices;
    d = (int)rows_of_one;
    n = (int)values_of_row;
    rounded = round;
    return *this;
  }

  // The same for a table whose rows are looked up.
  DeviceMatrix &shaped_table(size_t rows_of_table, size_t values_of_row) {
    looked_up = true;
    return shaped(1, rows_of_table, values_of_row);
  }

  void allocate() {
    if (form == MatrixForm::kFp32) {
      d_exact = device_alloc<float>(rows() * n);
    } else if (form == MatrixForm::kBf16) {
      d_bf16 = device_alloc<bf16>(rows() * n);
    } else {
      d_units = device_alloc<uint4>(unit_count());
      d_scales = device_alloc<float>(rows());
    }
  }
  void release() {
    device_free(d_units, unit_count());
    device_free(d_scales, rows());
    device_free(d_exact, rows() * n);
    device_free(d_bf16, rows() * n);
  }
};

// Writes a row of n values in FP16 and returns its scale, a power of two: value = fp16 * scale. Clears `exact` if that
// changes a value that is not under 2^-28 of the row's largest.
inline float row_to_fp16(fp16 *to, const float *from, int n, bool rounded, bool &exact) {
  const auto value = [&](int i) { return rounded ? to_float(to_bf16(from[i])) : from[i]; };
  float largest = 0;
  for (int i = 0; i < n; i++) largest = std::max(largest, std::fabs(value(i)));
  const unsigned exponent = split_exponent(largest);
  const float scale = power_of_two(exponent);
  for (int i = 0; i < n; i++) {
    const float scaled = value(i) * scale;
    if (std::fabs(scaled) < 6.103515625e-5f) {  // 2^-14, the smallest normal FP16 value
      to[i] = {0};
      continue;
    }
    to[i] = to_fp16(scaled);
    if (to_float(to[i]) != scaled) exact = false;
  }
  return power_of_two(254u - exponent);
}

// Lays out a strip: of 16 rows of padded_n values, those that there are, the tiles of the strip. `word_of` is
// MatrixTile's weight_word as a table of 16 x 16; `to` has 16 * padded_n values, all zero.
inline void lay_out_strip(fp16 *to, const fp16 *rows, int row_count, size_t padded_n, const int *word_of) {
  for (size_t tile = 0; tile < padded_n / 32; tile++)
    for (int row = 0; row < row_count; row++)
      for (int pair = 0; pair < 16; pair++)
        memcpy(to + tile * 512 + 2 * word_of[row * 16 + pair], rows + row * padded_n + tile * 32 + 2 * pair,
               2 * sizeof(fp16));
}

// The table for lay_out_strip.
inline std::vector<int> weight_words() {
  std::vector<int> word_of(256);
  with_matrix_tile([&](auto tile) {
    for (int row = 0; row < 16; row++)
      for (int pair = 0; pair < 16; pair++) word_of[row * 16 + pair] = decltype(tile)::weight_word(row, pair);
  });
  return word_of;
}

}  // namespace getp_hip
