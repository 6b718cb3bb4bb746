// How the simulator ends a program: one message on stderr, exit code 1. Nothing is skipped or guessed.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace amdsim {

[[noreturn, gnu::format(printf, 1, 2)]] inline void fault(const char *format, ...) {
  std::fflush(stdout);
  std::fprintf(stderr, "amdsim: ");
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  std::_Exit(1);
}

}  // namespace amdsim
