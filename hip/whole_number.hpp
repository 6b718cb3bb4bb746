// How whole numbers are written, wherever a program reads one: on its command line, in the environment, in a file.
#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>
#include <system_error>

namespace getp_hip {

// Reads decimal digits and nothing else; leading zeros are fine. False, and `number` as it was, if `text` is anything else
// or lies outside of [low, high]. (whole_number in tools/files.py is the same for Python.)
inline bool read_number(std::string_view text, uint64_t low, uint64_t high, uint64_t &number) {
  uint64_t value = 0;
  const char *end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stopped != end || value < low || value > high) return false;
  number = value;
  return true;
}

}  // namespace getp_hip
