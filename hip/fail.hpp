// How the patch set ends on an error: one line, on stderr.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace getp_hip {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Set in a thread that can end without the program: fail throws a DeviceError there.
inline thread_local bool throw_device_errors = false;

// Ends the program with one line "error: ..." (format as printf) and exit code 1.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char *format, ...) {
  char line[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (throw_device_errors) throw DeviceError(line);
  fprintf(stderr, "error: %s\n", line);
  // Not exit: another thread may be using what static destructors would take away.
  fflush(nullptr);
  _Exit(EXIT_FAILURE);
}

}  // namespace getp_hip
