// The environment variables of the patch set: read here and nowhere else. One that is unset or empty does not count.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fail.hpp"
#include "whole_number.hpp"

namespace getp_hip {

// The variable's text, or null.
inline const char *environment_text(const char *name) {
  const char *text = getenv(name);
  return text && *text ? text : nullptr;
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

// The variable as a count of bytes, at least one, perhaps in K, M or G, or `fallback`.
inline uint64_t environment_bytes(const char *name, uint64_t fallback) {
  const char *text = environment_text(name);
  if (!text) return fallback;
  const char *units = "KMG", *unit = strchr(units, text[strlen(text) - 1]);
  const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
  uint64_t number = 0;
  const std::string_view digits(text, strlen(text) - (unit ? 1 : 0));
  if (read_number(digits, 1, UINT64_MAX >> shift, number)) return number << shift;
  fail("%s=%s: expected a number of bytes, as in 64G", name, text);
}

// The variable as 0 or 1, 0 if it does not count.
inline bool environment_flag(const char *name, const char *expected) {
  const char *text = environment_text(name);
  if (!text || !strcmp(text, "0")) return false;
  if (strcmp(text, "1") != 0) fail("%s=%s: expected %s", name, text, expected);
  return true;
}

// The variable as a number above 0, perhaps infinite, or 0 if it does not count.
inline double environment_positive(const char *name, const char *expected) {
  const char *text = environment_text(name);
  if (!text) return 0;
  char *end = nullptr;
  const double value = strtod(text, &end);
  if (*end || !(value > 0)) fail("%s=%s: expected %s", name, text, expected);
  return value;
}

}  // namespace getp_hip
