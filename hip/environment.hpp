// The environment variables of the patch set: read here and nowhere else. One that is unset or empty does not count.
#pragma once

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "fail.hpp"

namespace getp_hip {

// The variable's text, or null.
inline const char *environment_text(const char *name) {
  const char *text = getenv(name);
  return text && *text ? text : nullptr;
}

// Reads a whole number written in digits, then, for counts of bytes, perhaps K, M or G. False if `text` is anything
// else or lies outside of [low, high].
inline bool read_number(const char *text, uint64_t low, uint64_t high, uint64_t &number) {
  if (*text < '0' || *text > '9') return false;
  char *end = nullptr;
  errno = 0;
  number = strtoull(text, &end, 10);
  if (errno) return false;
  const char *units = "KMG";
  if (const char *unit = *end ? strchr(units, *end) : nullptr) {
    const int shift = 10 * (int)(unit - units + 1);
    if (number > UINT64_MAX >> shift) return false;
    number <<= shift;
    end++;
  }
  return !*end && number >= low && number <= high;
}

// The variable as a number within [low, high], or `fallback`. Fails, saying what was `expected`, if it is anything else.
inline uint64_t environment_number(const char *name, uint64_t fallback, uint64_t low, uint64_t high,
                                   const char *expected = nullptr) {
  const char *text = environment_text(name);
  uint64_t number = fallback;
  if (!text || read_number(text, low, high, number)) return number;
  if (expected) fail("%s=%s: expected %s", name, text, expected);
  fail("%s=%s: expected a number from %llu to %llu", name, text, (unsigned long long)low, (unsigned long long)high);
}

// The variable as 0 or 1, 0 if it does not count.
inline bool environment_flag(const char *name, const char *expected) {
  return environment_number(name, 0, 0, 1, expected) != 0;
}

// The variable as a finite number above 0, or 0 if it does not count.
inline double environment_positive(const char *name, const char *expected) {
  const char *text = environment_text(name);
  if (!text) return 0;
  char *end = nullptr;
  const double value = strtod(text, &end);
  if (*end || !(value > 0) || !std::isfinite(value)) fail("%s=%s: expected %s", name, text, expected);
  return value;
}

}  // namespace getp_hip
