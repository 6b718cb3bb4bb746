// Where the parts of a matrix tile (platform.h) lie in the registers of a wave, for each kind of matrix instruction:
// used by the card's own tile and by the host back end's.
//
// Which of an instruction's places a k takes is free, as long as both operands agree; so a lane takes quads of 4 k that
// lie beside each other.
#pragma once

#include "keywords.h"

// NVIDIA's mma.sync.m16n8k16, each of the two instructions the 16 k that follow each other, since wgmma (tile_wgmma.h) is
// to sum the same 16. Lane 4 * g + t has quads t and 4 + t: in rows, of rows g and g + 8; in weights, a quad of outputs
// g and g + 8 in turns. Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
struct MmaSyncLayout {
  static constexpr int kWave = 32, kUnits = 2, kValues = 8;
  static constexpr bool kOctets = false, kHalves = true;
  __host__ __device__ static constexpr int weight_word(int output, int pair) {
    return (pair / 8 * 32 + output % 8 * 4 + pair / 2 % 4) * 4 + pair % 2 * 2 + output / 8;
  }
  __host__ __device__ static constexpr int weight_unit(int lane, int unit) { return unit * 32 + lane; }
  // A unit has a quad of two outputs, each of which has its scale. The magnitudes of the first's values are the nibbles of
  // the lower half of a word of codes, as prmt takes them; the signs lie where they can stay, at the tops of bytes, or four
  // bits below.
  static constexpr int kPackedSteps = 2;
  __host__ __device__ static constexpr int magnitude_bit(int i) { return i / 2 % 2 * 16 + (i / 4 * 2 + i % 2) * 4; }
  __host__ __device__ static constexpr int sign_bit(int i) { return (i / 4 * 2 + i % 2) * 8 + (i / 2 % 2 ? 3 : 7); }
  __host__ __device__ static constexpr int slot_scales(int slot) { return slot / 4; }
  __host__ __device__ static constexpr int scale_byte(int word, int i) { return word / 2 * 2 + i / 2 % 2; }
  __host__ __device__ static constexpr int unit_row(int lane, int unit) { return lane / 4 + 8 * unit; }
  __host__ __device__ static constexpr int unit_quad(int lane, int, int half) { return half * 4 + lane % 4; }
  __host__ __device__ static constexpr int output(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
  __host__ __device__ static constexpr int row(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }
};

// AMD's: weights in units of one output and octet, the outputs of an octet beside each other, whatever the instruction.
// Source of both: ROCm/amd_matrix_instruction_calculator.
struct AmdWeights {
  static constexpr bool kOctets = true;   // the two quads of a unit lie beside each other
  static constexpr bool kHalves = false;  // the first half of a lane's units and sums belongs to the first 8 rows
  __host__ __device__ static constexpr int weight_word(int output, int pair) {
    return (pair / 4 * 16 + output) * 4 + pair % 4;
  }
  static constexpr int kPackedSteps = 4;
  __host__ __device__ static constexpr int magnitude_bit(int i) { return 4 * i; }
  __host__ __device__ static constexpr int sign_bit(int i) { return 4 * i + 3; }
  __host__ __device__ static constexpr int slot_scales(int slot) { return slot % 16; }
  __host__ __device__ static constexpr int scale_byte(int word, int) { return word; }
};

// MFMA 16x16x16. Lane 16 * q + r holds row r, octet q: four k for each of two instructions.
struct MfmaLayout : AmdWeights {
  static constexpr int kWave = 64, kUnits = 1, kValues = 4;
  __host__ __device__ static constexpr int weight_unit(int lane, int) { return lane; }
  __host__ __device__ static constexpr int unit_row(int lane, int) { return lane % 16; }
  __host__ __device__ static constexpr int unit_quad(int lane, int, int half) { return lane / 16 * 2 + half; }
  __host__ __device__ static constexpr int output(int lane, int i) { return lane / 16 * 4 + i; }
  __host__ __device__ static constexpr int row(int lane, int) { return lane % 16; }
};

// WMMA 16x16x16 of gfx11. A lane holds a whole row of 16 k, lanes 16 to 31 the same as lanes 0 to 15.
struct WmmaLayout : AmdWeights {
  static constexpr int kWave = 32, kUnits = 4, kValues = 8;
  __host__ __device__ static constexpr int weight_unit(int lane, int unit) { return unit * 16 + lane % 16; }
  __host__ __device__ static constexpr int unit_row(int lane, int) { return lane % 16; }
  __host__ __device__ static constexpr int unit_quad(int, int unit, int half) { return unit * 2 + half; }
  __host__ __device__ static constexpr int output(int lane, int i) { return 2 * i + lane / 16; }
  __host__ __device__ static constexpr int row(int lane, int) { return lane % 16; }
};

// What a lane holds of weights or rows; how weights in MXFP4 lie (hip/mxfp4.hpp). Those of kPackedSteps tiles of a strip are
// a group: kSlots slots of 16 bytes, of which a word has the codes of a unit, code i of its value i: three bits of
// magnitude at magnitude_bit(i), a sign at sign_bit(i). Behind them the scales, a word for every four slots: that of slot's
// values is slot_scales(slot), the byte for value i of its word `word` is scale_byte(word, i).
template <class Layout>
struct TileOperands : Layout {
  struct Operand {
    uint4 units[Layout::kUnits];
  };

  static constexpr int kStepWords = 4 / Layout::kPackedSteps;  // of a slot, of one tile
  static constexpr int kStepScales = kStepWords;               // bytes of a slot's scales, of one tile
  static constexpr int kSlots = 64 / kStepWords, kGroupUnits = kSlots + kSlots / 16;
  __host__ __device__ static constexpr int slot_unit(int slot, int word) { return slot + word % kStepWords * kSlots; }
  // A lane's weights are those of slots weight_unit(lane, i); its unit `unit` of step `step` is word packed_word(step,
  // unit) of the unit / kStepWords-th.
  static constexpr int kLaneSlots = Layout::kUnits / kStepWords;
  __host__ __device__ static constexpr int packed_word(int step, int unit) {
    return step * kStepWords + unit % kStepWords;
  }
};
