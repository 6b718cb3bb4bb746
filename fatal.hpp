// How the harness ends on bad input.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "terminal.hpp"

// Prints one line "error: ..." (format as printf) to stderr and ends the program with status 1. The line may quote a file:
// what is not for a terminal is left out.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fatal(const char *format, ...) {
  fflush(stdout);
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  std::string line((size_t)vsnprintf(nullptr, 0, format, arguments), '\0');
  vsnprintf(line.data(), line.size() + 1, format, again);
  va_end(again);
  va_end(arguments);
  fprintf(stderr, "error: %s\n", TerminalText().take_last(line).c_str());
  exit(EXIT_FAILURE);
}
