// BF16: the upper half of an FP32 value (1 sign, 8 exponent, 7 mantissa bits).
#pragma once

#include <cstdint>
#include <cstring>

#include "platform/platform.h"

namespace getp_hip {

struct bf16 {
  uint16_t bits;
};

// Exact.
__host__ __device__ inline float to_float(bf16 value) {
  const uint32_t bits = (uint32_t)value.bits << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// To the nearest BF16 value, ties to the even one; overflow gives infinity, a NaN stays a (quiet) NaN with its sign and
// upper payload. Source: IEEE 754-2019, 4.3.1, on the upper 16 bits.
__host__ __device__ inline bf16 to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {(uint16_t)((bits >> 16) | 0x40u)};
  return {(uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// Whether BF16 holds all n values.
inline bool row_is_bf16(const float *row, int n) {
  uint32_t lost = 0;
  for (int i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, row + i, sizeof bits);
    lost |= bits & 0xffffu;
  }
  return lost == 0;
}

}  // namespace getp_hip
