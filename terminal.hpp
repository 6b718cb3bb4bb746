// What of a text may reach a terminal. A model, or a file that someone sent, can hold sequences that clear the screen,
// rename the window or type into the shell, and marks that show text in another order than it has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "utf8.hpp"

// Controls but tab and line feed: C0 (a carriage return would overwrite the line), DEL and C1, which a terminal obeys as it
// does ESC; and the embeddings, overrides and isolates of bidirectional text, which hold on beyond the words around them.
// (U+200E, U+200F and U+061C pass: they act on their neighbours alone, and Arabic and Hebrew need them.)
inline bool is_for_terminal(uint32_t code_point) {
  if (code_point < 0x20) return code_point == '\t' || code_point == '\n';
  return !(code_point >= 0x7F && code_point <= 0x9F) && !(code_point >= 0x202A && code_point <= 0x202E) &&
         !(code_point >= 0x2066 && code_point <= 0x2069);
}

// A text that comes in pieces which may end anywhere, also within a character.
class TerminalText {
 public:
  // What may be printed now: of the next piece all but what is not for a terminal, U+FFFD for what is not UTF-8. A
  // character that has only begun waits for the next piece.
  std::string take(std::string_view piece) {
    const std::string text = begun_.append(piece);
    begun_.clear();
    std::string shown;
    for (size_t i = 0; i < text.size();) {
      const Utf8 next = read_utf8(text.data() + i, text.size() - i);
      if (next.kind == Utf8::kCutOff) {
        begun_ = text.substr(i);
        break;
      }
      if (next.kind == Utf8::kInvalid)
        shown += "\uFFFD";
      else if (is_for_terminal(next.code_point))
        shown.append(text, i, (size_t)next.length);
      i += (size_t)next.length;
    }
    return shown;
  }

  // The same at the end of the text, where nothing waits.
  std::string take_last(std::string_view piece) {
    std::string shown = take(piece);
    if (!begun_.empty()) shown += "\uFFFD";
    begun_.clear();
    return shown;
  }

 private:
  std::string begun_;  // the bytes of a character of which others are to come, 0 to 3
};
