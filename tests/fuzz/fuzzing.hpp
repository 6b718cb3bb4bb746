// What the fuzz targets share: fatal() throws instead of ending the program, and files that lie in memory.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

// The input was refused with one line, as it should be if it is bad.
struct Refused {};
#define exit(status) throw Refused()
#include "../../fatal.hpp"
#undef exit

// Where messages go when libFuzzer has closed stderr to the lines of fatal().
inline const int messages = dup(STDERR_FILENO);

// Ends the run unless `holds`: libFuzzer then keeps the input.
inline void require(bool holds, const char *what) {
  if (holds) return;
  dprintf(messages, "broken: %s\n", what);
  abort();
}

// A file with a path, for what reads files.
class MemoryFile {
 public:
  MemoryFile() : file_(memfd_create("fuzz", 0)), path_("/proc/self/fd/" + std::to_string(file_)) {
    require(file_ >= 0, "a file in memory");
  }
  // Its contents from now on; up to `file_size` bytes zeros follow.
  void set(const uint8_t *data, size_t size, size_t file_size) {
    require(ftruncate(file_, 0) == 0 && pwrite(file_, data, size, 0) == (ssize_t)size &&
                ftruncate(file_, (off_t)file_size) == 0,
            "writing the file in memory");
  }
  char *path() { return path_.data(); }

 private:
  int file_;
  std::string path_;
};
