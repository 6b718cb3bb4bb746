// FP16 in software: for the CPU, whichever the back end.
#pragma once

#include <cstdint>
#include <cstring>

// The bits of the nearest FP16 value, ties to the even one; overflow gives infinity, a NaN stays a (quiet) NaN.
// Source: IEEE 754-2019, 4.3.1.
inline unsigned short getp_half_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return (unsigned short)(sign | 0x7e00u);
  if (bits >= 0x47800000u) return (unsigned short)(sign | 0x7c00u);  // 2^16 and more
  if (bits < 0x38800000u) {                                          // under 2^-14: adding 1/2 rounds to units of 2^-24
    float small;
    memcpy(&small, &bits, sizeof small);
    small += 0.5f;
    memcpy(&bits, &small, sizeof bits);
    return (unsigned short)(sign | (bits - 0x3f000000u));
  }
  return (unsigned short)(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
}

// The value of FP16 bits, exact.
inline float getp_half_value(unsigned short half) {
  // The fields at their FP32 places, then the exponent's bias by a product, which takes care of subnormal values.
  uint32_t bits = (uint32_t)(half & 0x7fffu) << 13;
  float result;
  memcpy(&result, &bits, sizeof result);
  result *= 5.192296858534827628530496329220096e33f;  // 2^112
  memcpy(&bits, &result, sizeof bits);
  bits |= (uint32_t)(half & 0x8000u) << 16;
  if ((half & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  memcpy(&result, &bits, sizeof result);
  return result;
}
