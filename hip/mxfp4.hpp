// MXFP4 (OCP Microscaling Formats 1.0): groups of 32 values along n that share a power of two, each value one of 0, 0.5,
// 1, 1.5, 2, 3, 4, 6 with a sign: the experts of every released gpt-oss. Packed for the kernels that multiply in FP16, as
// the FP16 form of the same row (device_matrix.hpp) would have them, under the same scale of the row: the same bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bf16.hpp"
#include "fp16.hpp"

namespace getp_hip {

constexpr int kMxfp4Group = 32;

// Writes a row of n values, a multiple of 32, as codes, a byte each: bits 0 to 2 the magnitude's number in the list
// above, bit 3 the sign; and a scale for each group, the upper byte of a power of two in FP16. value = magnitude * group's
// scale * row_scale. False if a group is not of that form. `rounded`: values are rounded to BF16 first. Values under 2^-28
// of the row's largest become zero, as they do in FP16.
inline bool row_to_mxfp4(uint8_t *codes, uint8_t *scales, float &row_scale, const float *from, int n, bool rounded) {
  const auto bits_of = [&](int i) {
    uint32_t bits;
    memcpy(&bits, from + i, sizeof bits);
    return rounded ? (uint32_t)to_bf16(from[i]).bits << 16 : bits;
  };
  // A value's size is its bits without the sign. Of a mantissa only the first bit may be set, so 22 are zero; one step of
  // the others is a factor of 1.5 or 4/3. The grid of a group is as fine as its largest value allows: that is 4 or 6.
  uint32_t row_largest = 0, wrong = 0;
  for (int first = 0; first < n; first += kMxfp4Group) {
    uint32_t largest = 0;
    for (int i = first; i < first + kMxfp4Group; i++) largest = std::max(largest, bits_of(i) & 0x7fffffffu);
    const int half = ((int)(largest >> 23) - 3) * 2;  // in such steps, the size of code 1
    for (int i = first; i < first + kMxfp4Group; i++) {
      const uint32_t size = bits_of(i) & 0x7fffffffu;
      const int above = (int)(size >> 22) - half;
      wrong |= size & 0x3fffffu;
      wrong |= size != 0 && (above < 0 || above == 1);
    }
    wrong |= largest >= 0x7f800000u || (largest != 0 && half < 2);  // no number, or grids of subnormal values
    row_largest = std::max(row_largest, largest);
    if (wrong) return false;
  }
  float largest_value;
  memcpy(&largest_value, &row_largest, sizeof largest_value);
  const unsigned exponent = split_exponent(largest_value);
  row_scale = power_of_two(254u - exponent);
  const int shift = (int)exponent - 127;  // of exponents, to FP16's
  for (int first = 0; first < n; first += kMxfp4Group) {
    uint32_t largest = 0;
    for (int i = first; i < first + kMxfp4Group; i++) largest = std::max(largest, bits_of(i) & 0x7fffffffu);
    // Exponents of FP16 from here on. A grid finer than FP16's normal values keeps what is one of them.
    const int grid = std::max((int)(largest >> 23) - 127 + shift - 2, -14), half = (grid - 1 - shift + 127) * 2;
    const uint32_t least = (uint32_t)std::max(-14 - shift + 127, 0) << 23;
    scales[first / kMxfp4Group] = largest ? (uint8_t)((grid + 15) << 2) : 0;
    for (int i = first; i < first + kMxfp4Group; i++) {
      const uint32_t bits = bits_of(i), size = bits & 0x7fffffffu;
      const int above = (int)(size >> 22) - half;
      const int code = (above == 0 ? 1 : above) | (int)(bits >> 31 << 3);
      codes[i] = size == 0 || size < least ? 0 : (uint8_t)code;
    }
  }
  return true;
}

// Units of 16 bytes that a strip of 16 rows of n values takes: whole groups of MatrixTile's (platform/tile_layouts.h).
inline size_t mxfp4_strip_units(int n) {
  size_t units = 0;
  with_matrix_tile([&](auto tile) {
    using Tile = decltype(tile);
    const size_t steps = n / kMxfp4Group;
    units = (steps + Tile::kPackedSteps - 1) / Tile::kPackedSteps * Tile::kGroupUnits;
  });
  return units;
}

// Packs strips of 16 rows, n values each, into groups as MatrixTile has them.
class Mxfp4Packer {
 public:
  explicit Mxfp4Packer(int n) : n_(n) {
    with_matrix_tile([&](auto tile) {
      using Tile = decltype(tile);
      steps_ = Tile::kPackedSteps;
      slots_ = Tile::kSlots;
      units_ = Tile::kGroupUnits;
      Place of_tile[512];
      for (int row = 0; row < 16; row++)
        for (int k = 0; k < kMxfp4Group; k++)
          of_tile[2 * Tile::weight_word(row, k / 2) + k % 2] = {(short)row, (short)k};
      for (int i = 0; i < 8; i++) {
        magnitude_bit_[i] = Tile::magnitude_bit(i);
        sign_bit_[i] = Tile::sign_bit(i);
      }
      for (int slot = 0; slot < slots_; slot++)
        for (int word = 0; word < 4; word++)
          for (int i = 0; i < 8; i++) {
            const int step = word / Tile::kStepWords;
            Place place = of_tile[Tile::slot_unit(slot, word) * 8 + i];
            scale_places_[place.row][step] = 4 * Tile::slot_scales(slot) + Tile::scale_byte(word, i);
            place.k = (short)(place.k + step * kMxfp4Group);
            places_.push_back(place);
          }
    });
    pitch_ = (size_t)(n / kMxfp4Group + steps_ - 1) / steps_ * steps_ * kMxfp4Group;
    codes_.assign(16 * pitch_, 0);
    scales_.assign(16 * pitch_ / kMxfp4Group, 0);
  }

  // Takes row `row` of a strip, and returns whether it is in MXFP4; see row_to_mxfp4.
  bool take(int row, const float *from, bool rounded, float &row_scale) {
    return row_to_mxfp4(&codes_[row * pitch_], &scales_[row * pitch_ / kMxfp4Group], row_scale, from, n_, rounded);
  }
  // Writes the strip, of which `rows` have been taken.
  void write(uint4 *to, int rows) {
    std::fill(codes_.begin() + rows * pitch_, codes_.end(), 0);
    std::fill(scales_.begin() + rows * pitch_ / kMxfp4Group, scales_.end(), 0);
    uint8_t *group = (uint8_t *)to;
    for (size_t first = 0; first < pitch_; first += (size_t)steps_ * kMxfp4Group, group += 16 * units_) {
      const Place *place = places_.data();
      for (int at = 0; at < 4 * slots_; at++, place += 8) {
        uint32_t word = 0;
        for (int i = 0; i < 8; i++) {
          const uint32_t code = codes_[place[i].row * pitch_ + first + place[i].k];
          word |= (code & 7) << magnitude_bit_[i] | code >> 3 << sign_bit_[i];
        }
        memcpy(group + 4 * at, &word, sizeof word);
      }
      for (int row = 0; row < 16; row++)
        for (int step = 0; step < steps_; step++)
          group[16 * slots_ + scale_places_[row][step]] = scales_[(row * pitch_ + first) / kMxfp4Group + step];
    }
  }

 private:
  struct Place {
    short row, k;
  };
  const int n_;
  int steps_ = 0, slots_ = 0, units_ = 0, magnitude_bit_[8], sign_bit_[8], scale_places_[16][4];
  std::vector<Place> places_;  // of the codes in a group
  size_t pitch_ = 0;           // values of whole groups
  std::vector<uint8_t> codes_, scales_;
};

}  // namespace getp_hip
