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
// Source: IEEE 754-2019, 4.3.1.
__host__ __device__ inline fp16 to_fp16(float value) {
#if GETP_DEVICE_CODE
  return {getp_fp16_bits(value)};
#else
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return {(uint16_t)(sign | 0x7e00u)};
  if (bits >= 0x47800000u) return {(uint16_t)(sign | 0x7c00u)};  // 2^16 and more
  if (bits < 0x38800000u) {                                      // under 2^-14: adding 1/2 rounds to units of 2^-24
    float small;
    memcpy(&small, &bits, sizeof small);
    small += 0.5f;
    memcpy(&bits, &small, sizeof bits);
    return {(uint16_t)(sign | (bits - 0x3f000000u))};
  }
  return {(uint16_t)(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13))};
#endif
}

// Exact.
__host__ __device__ inline float to_float(fp16 value) {
#if GETP_DEVICE_CODE
  return getp_fp16_value(value.bits);
#else
  // The fields at their FP32 places, then the exponent's bias by a product, which takes care of subnormal values.
  uint32_t bits = (uint32_t)(value.bits & 0x7fffu) << 13;
  float result;
  memcpy(&result, &bits, sizeof result);
  result *= 5.192296858534827628530496329220096e33f;  // 2^112
  memcpy(&bits, &result, sizeof bits);
  bits |= (uint32_t)(value.bits & 0x8000u) << 16;
  if ((value.bits & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  memcpy(&result, &bits, sizeof result);
  return result;
#endif
}

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
