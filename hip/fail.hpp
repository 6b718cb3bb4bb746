// How the patch set ends on an error: one line, on stderr.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace getp_hip {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Set in a thread that can end without the program: fail throws a DeviceError there.
inline thread_local bool throw_device_errors = false;

// Ends the program, whichever thread calls, with one line "error: ..." and exit code 1.
[[noreturn]] inline void end_program(const std::string &line) {
  fprintf(stderr, "error: %s\n", line.c_str());
  // Not exit: another thread may be using what static destructors would take away.
  fflush(nullptr);
  _Exit(EXIT_FAILURE);
}

inline std::string formatted(const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  std::string line((size_t)vsnprintf(nullptr, 0, format, again), '\0');
  va_end(again);
  vsnprintf(line.data(), line.size() + 1, format, arguments);
  return line;
}

// Ends the program, or the thread where throw_device_errors is set, with that line (format as printf).
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string line = formatted(format, arguments);
  va_end(arguments);
  if (throw_device_errors) throw DeviceError(line);
  end_program(line);
}

// Ends the program with it: for what is no fault of one device.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail_program(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string line = formatted(format, arguments);
  va_end(arguments);
  end_program(line);
}

}  // namespace getp_hip
