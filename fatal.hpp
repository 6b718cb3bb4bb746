// How the harness ends on bad input.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

// Prints one line "error: ..." (format as printf) to stderr and ends the program with status 1.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fatal(const char *format, ...) {
  fflush(stdout);
  va_list arguments;
  va_start(arguments, format);
  fputs("error: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(EXIT_FAILURE);
}
