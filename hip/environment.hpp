// The environment variables of the patch set: read here and nowhere else. One that is unset or empty does not count.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fail.hpp"
#include "whole_number.hpp"

namespace getp_hip {

// The variable's text, or null.
inline const char *environment_text(const char *name) {
  const char *text = getenv(name);
  return text && *text ? text : nullptr;
}

// The words of a list with commas, without the blanks around them; one that is missing is empty.
inline std::vector<std::string> words_of(const std::string &list) {
  std::vector<std::string> words;
  for (size_t start = 0, end = 0; end != std::string::npos; start = end + 1) {
    end = list.find(',', start);
    const std::string word = list.substr(start, end - start);
    const size_t first = word.find_first_not_of(" \t"), last = word.find_last_not_of(" \t");
    words.push_back(first == std::string::npos ? "" : word.substr(first, last - first + 1));
  }
  return words;
}

// Reads a count of bytes, at least one, perhaps in K, M or G. False if `text` is anything else.
inline bool read_bytes(const std::string &text, uint64_t &bytes) {
  const char *units = "KMG", *unit = text.empty() ? nullptr : strchr(units, text.back());
  const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
  if (!read_number(text.substr(0, text.size() - (unit ? 1 : 0)), 1, UINT64_MAX >> shift, bytes)) return false;
  bytes <<= shift;
  return true;
}

// The variable as a number within [low, high], or `fallback`. Fails, saying what was `expected`, if it is anything else.
inline uint64_t environment_number(const char *name, uint64_t fallback, uint64_t low, uint64_t high,
                                   const char *expected = nullptr) {
  const char *text = environment_text(name);
  uint64_t number = fallback;
  if (!text || read_number(text, low, high, number)) return number;
  if (expected) fail_program("%s=%s: expected %s", name, text, expected);
  fail_program("%s=%s: expected a number from %llu to %llu", name, text, (unsigned long long)low,
               (unsigned long long)high);
}

// The variable as counts of bytes, as read_bytes and words_of read them, or `fallback` alone.
inline std::vector<uint64_t> environment_bytes_list(const char *name, uint64_t fallback) {
  const char *text = environment_text(name);
  if (!text) return {fallback};
  std::vector<uint64_t> list;
  for (const std::string &word : words_of(text))
    if (!read_bytes(word, list.emplace_back()))
      fail_program("%s=%s: expected a number of bytes, as in 64G", name, text);
  return list;
}

// The variable as a count of bytes, or `fallback`.
inline uint64_t environment_bytes(const char *name, uint64_t fallback) {
  const char *text = environment_text(name);
  uint64_t bytes = fallback;
  if (!text || read_bytes(text, bytes)) return bytes;
  fail_program("%s=%s: expected a number of bytes, as in 64G", name, text);
}

// The variable as 0 or 1, 0 if it does not count.
inline bool environment_flag(const char *name, const char *expected) {
  const char *text = environment_text(name);
  if (!text || !strcmp(text, "0")) return false;
  if (strcmp(text, "1") != 0) fail_program("%s=%s: expected %s", name, text, expected);
  return true;
}

// The variable as a number above 0, perhaps infinite, or 0 if it does not count.
inline double environment_positive(const char *name, const char *expected) {
  const char *text = environment_text(name);
  if (!text) return 0;
  char *end = nullptr;
  const double value = strtod(text, &end);
  if (*end || !(value > 0)) fail_program("%s=%s: expected %s", name, text, expected);
  return value;
}

}  // namespace getp_hip
