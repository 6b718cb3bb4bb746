// FP16 (IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits): what matrix cores multiply.
#pragma once

#include <cstdint>
#include <cstring>

#include "platform/platform.h"

namespace getp_hip {

struct fp16 {
  uint16_t bits;
};

// To the nearest FP16 value, ties to the even one; overflow gives infinity, a NaN stays a (quiet) NaN.
__host__ __device__ inline fp16 to_fp16(float value) { return {getp_fp16_bits(value)}; }

// Exact.
__host__ __device__ inline float to_float(fp16 value) { return getp_fp16_value(value.bits); }

// The scale that brings values into FP16's range: 2^k with largest * 2^k in [2^14, 2^15), k at most 126, as the
// exponent field of an FP32 number; 2^0 where `largest` is zero or no number.
__host__ __device__ inline unsigned split_exponent(float largest) {
  unsigned bits;
  memcpy(&bits, &largest, sizeof bits);
  const unsigned exponent = (bits >> 23) & 255u;
  if (!(largest > 0) || exponent == 255u) return 127u;
  return 268u - (exponent < 15u ? 15u : exponent);
}

// The power of two with that exponent field, 1 to 253, and its inverse.
__host__ __device__ inline float power_of_two(unsigned exponent) {
  const unsigned bits = exponent << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

}  // namespace getp_hip
