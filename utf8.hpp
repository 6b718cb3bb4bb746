// UTF-8, byte by byte as it comes: by table 3-7 of the Unicode standard (no overlong forms, no surrogates, nothing above
// U+10FFFF).
#pragma once

#include <cstddef>
#include <cstdint>

struct Utf8 {
  enum { kCharacter, kInvalid, kCutOff } kind;  // kCutOff: the bytes end within what may become a character
  int length;                                   // of the character, or of what cannot be part of one: at least 1
  uint32_t code_point;                          // of a character
};

// What the `size` >= 1 bytes at `text` begin with. What is invalid is as long as it could have been a character
// (the standard's maximal subpart), so that one U+FFFD stands for it.
inline Utf8 read_utf8(const char *text, size_t size) {
  const unsigned char lead = (unsigned char)text[0];
  if (lead < 0x80) return {Utf8::kCharacter, 1, lead};
  const int continuations = lead >= 0xC2 && lead <= 0xDF   ? 1
                            : lead >= 0xE0 && lead <= 0xEF ? 2
                            : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                           : 0;
  if (continuations == 0) return {Utf8::kInvalid, 1, 0};
  uint32_t code_point = lead & (0x3F >> continuations);
  for (int k = 1; k <= continuations; k++) {
    if ((size_t)k == size) return {Utf8::kCutOff, k, 0};
    const unsigned char next = (unsigned char)text[k];
    const unsigned char low = k > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = k > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (next < low || next > high) return {Utf8::kInvalid, k, 0};
    code_point = code_point << 6 | (next & 0x3F);
  }
  return {Utf8::kCharacter, continuations + 1, code_point};
}
