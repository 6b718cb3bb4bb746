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

// A row as codes, a byte each: bits 0 to 2 the magnitude's number in the list above, bit 3 the sign; and a scale for each
// group, FP16's upper byte of a power of two. value = magnitude * group's scale * row_scale.
struct Mxfp4Row {
  uint8_t *codes;
  uint8_t *scales;
  float row_scale;
};

// Writes a row of n values, a multiple of 32; false if a group is not of that form (then the rest of it is not written).
// `rounded`: values are rounded to BF16 first. Values under 2^-28 of the row's largest become zero, as they do in FP16.
inline bool row_to_mxfp4(Mxfp4Row &to, const float *from, int n, bool rounded) {
  const auto bits_of = [&](int i) {
    uint32_t bits;
    memcpy(&bits, from + i, sizeof bits);
    return rounded ? (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u : bits;
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
  to.row_scale = power_of_two(254u - exponent);
  const int shift = (int)exponent - 127;  // of exponents, to FP16's
  for (int first = 0; first < n; first += kMxfp4Group) {
    uint32_t largest = 0;
    for (int i = first; i < first + kMxfp4Group; i++) largest = std::max(largest, bits_of(i) & 0x7fffffffu);
    // Exponents of FP16 from here on. A grid finer than FP16's normal values keeps what is one of them.
    const int grid = std::max((int)(largest >> 23) - 127 + shift - 2, -14), half = (grid - 1 - shift + 127) * 2;
    const uint32_t least = (uint32_t)std::max(-14 - shift + 127, 0) << 23;
    to.scales[first / kMxfp4Group] = largest ? (uint8_t)((grid + 15) << 2) : 0;
    for (int i = first; i < first + kMxfp4Group; i++) {
      const uint32_t bits = bits_of(i), size = bits & 0x7fffffffu;
      const int above = (int)(size >> 22) - half;
      const int code = (above == 0 ? 1 : above) | (int)(bits >> 31 << 3);
      to.codes[i] = size == 0 || size < least ? 0 : (uint8_t)code;
    }
  }
  return true;
}

// Packs strips of 16 rows into groups as MatrixTile has them (platform/tile_layouts.h).
class Mxfp4Packer {
 public:
  // For the device's tile.
  Mxfp4Packer() {
    with_matrix_tile([&](auto tile) {
      using Tile = decltype(tile);
      steps_ = Tile::kPackedSteps;
      slots_ = Tile::kSlots;
      units_ = Tile::kGroupUnits;
      for (int i = 0; i < 8; i++) {
        magnitude_bit_[i] = Tile::magnitude_bit(i);
        sign_bit_[i] = Tile::sign_bit(i);
      }
      std::vector<Place> of_tile(512);
      for (int row = 0; row < 16; row++)
        for (int k = 0; k < kMxfp4Group; k++)
          of_tile[2 * Tile::weight_word(row, k / 2) + k % 2] = {(short)row, (short)k};
      for (int slot = 0; slot < slots_; slot++)
        for (int word = 0; word < 4; word++)
          for (int i = 0; i < 8; i++) {
            const int step = word / Tile::kStepWords;
            Place place = of_tile[Tile::slot_unit(slot, word) * 8 + i];
            scale_places_[place.row][step] = (short)(4 * Tile::slot_scales(slot) + Tile::scale_byte(word, i));
            place.k = (short)(place.k + step * kMxfp4Group);
            places_.push_back(place);
          }
    });
  }
  // Steps of 32 k of a group.
  int steps() const { return steps_; }
  // Groups of a row of n values.
  size_t groups(int n) const { return ((size_t)n / kMxfp4Group + steps_ - 1) / steps_; }
  // Units of 16 bytes of a strip of such rows.
  size_t strip_units(int n) const { return groups(n) * units_; }

  // `codes`: 16 rows of `pitch` bytes, `scales`: 16 rows of pitch / 32, zeros where there is nothing; pitch is that of
  // whole groups.
  void pack(void *to, const uint8_t *codes, const uint8_t *scales, size_t pitch) const {
    uint8_t *group = (uint8_t *)to;
    for (size_t first = 0; first < pitch; first += (size_t)steps_ * kMxfp4Group, group += 16 * units_) {
      const Place *place = places_.data();
      for (int at = 0; at < 4 * slots_; at++, place += 8) {
        uint32_t word = 0;
        for (int i = 0; i < 8; i++) {
          const uint32_t code = codes[(size_t)place[i].row * pitch + first + place[i].k];
          word |= (code & 7) << magnitude_bit_[i] | code >> 3 << sign_bit_[i];
        }
        memcpy(group + 4 * at, &word, sizeof word);
      }
      for (int row = 0; row < 16; row++)
        for (int step = 0; step < steps_; step++)
          group[16 * slots_ + scale_places_[row][step]] = scales[(row * pitch + first) / kMxfp4Group + step];
    }
  }

 private:
  struct Place {
    short row, k;
  };
  int steps_ = 0, slots_ = 0, units_ = 0, magnitude_bit_[8], sign_bit_[8];
  std::vector<Place> places_;  // of the codes in a group
  short scale_places_[16][4];
};

}  // namespace getp_hip
