// BF16 conversion. The whole of FP32 is checked by tools/bf16_exhaustive.cpp; here every BF16 value and its neighbours.
#include <gtest/gtest.h>

#include <cmath>

#include "../hip/bf16.hpp"

using getp_hip::bf16;
using getp_hip::to_bf16;
using getp_hip::to_float;

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

TEST(Bf16, All65536ValuesSurviveTheRoundTrip) {
  for (uint32_t b = 0; b < 65536; b++) {
    const bf16 value = {(uint16_t)b};
    const float f = to_float(value);
    ASSERT_EQ(bits_of(f), b << 16);
    if (std::isnan(f)) {
      ASSERT_TRUE(std::isnan(to_float(to_bf16(f)))) << b;
      ASSERT_EQ(to_bf16(f).bits & 0x8000u, b & 0x8000u) << "a NaN keeps its sign";
    } else {
      ASSERT_EQ(to_bf16(f).bits, b);
    }
  }
}

TEST(Bf16, RoundsToNearestAndTiesToEven) {
  for (uint32_t b = 0; b < 65536; b++) {
    const float f = float_of(b << 16);
    if (std::isnan(f) || std::isinf(f)) continue;
    ASSERT_EQ(to_bf16(float_of((b << 16) + 0x7fff)).bits, b) << "just below the half";
    ASSERT_EQ(to_bf16(float_of((b << 16) + 0x8000)).bits, b + (b & 1)) << "the half goes to the even neighbour";
    ASSERT_EQ(to_bf16(float_of((b << 16) + 0x8001)).bits, b + 1) << "just above the half";
  }
}

TEST(Bf16, NansStayNans) {
  for (uint32_t payload : {1u, 0x7fffu, 0x8000u, 0x400000u, 0x7fffffu})
    for (uint32_t sign : {0u, 0x80000000u}) {
      const bf16 value = to_bf16(float_of(sign | 0x7f800000u | payload));
      EXPECT_TRUE(std::isnan(to_float(value))) << payload;
      EXPECT_EQ(value.bits >> 15, sign >> 31);
    }
}
