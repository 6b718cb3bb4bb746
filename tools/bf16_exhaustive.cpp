// Checks to_bf16 and to_float on every one of the 2^32 floats against a search for the nearest value in double.
// Build and run: make bf16-exhaustive && build/bf16_exhaustive      (about 20 s on two cores)
#include <atomic>
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "../hip/bf16.hpp"

// The largest BF16 magnitude not above `magnitude` and the next one; infinity counts as 2^128, as IEEE 754 rounds.
static uint16_t nearest(float value) {
  const double magnitude = std::fabs((double)value);
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const auto value_of = [](uint32_t b) {
    return b >= 0x7f80 ? std::ldexp(1.0, 128) : (double)getp_hip::to_float({(uint16_t)b});
  };
  const uint32_t below = (bits & 0x7fffffffu) >> 16, above = below + 1;  // BF16 truncates FP32
  const uint16_t sign = (uint16_t)(bits >> 31 << 15);
  if (std::isinf(value)) return (uint16_t)(sign | 0x7f80);
  const double down = magnitude - value_of(below), up = value_of(above) - magnitude;
  return (uint16_t)(sign | (down < up || (down == up && below % 2 == 0) ? below : above));
}

int main() {
  const unsigned count = std::max(1u, std::thread::hardware_concurrency());
  std::atomic<uint64_t> wrong{0}, checked{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; t++)
    threads.emplace_back([&, t] {
      uint64_t bad = 0, seen = 0;
      for (uint64_t bits = t; bits < 1ull << 32; bits += count, seen++) {
        const uint32_t b = (uint32_t)bits;
        float value;
        memcpy(&value, &b, sizeof value);
        const getp_hip::bf16 rounded = getp_hip::to_bf16(value);
        const float back = getp_hip::to_float(rounded);
        const bool good = std::isnan(value)
                              ? std::isnan(back) && std::signbit(back) == std::signbit(value)
                              : rounded.bits == nearest(value) && getp_hip::to_bf16(back).bits == rounded.bits;
        if (!good && bad++ == 0) fprintf(stderr, "wrong: float bits %08x give BF16 %04x\n", b, rounded.bits);
      }
      wrong += bad;
      checked += seen;
    });
  for (std::thread &thread : threads) thread.join();
  printf("%llu floats checked, %llu wrong\n", (unsigned long long)checked, (unsigned long long)wrong);
  return wrong != 0;
}
