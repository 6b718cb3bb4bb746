// Calls to the HIP runtime: error checks, device pick, typed memory.
#pragma once

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "platform/platform.h"

namespace getp_hip {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Set in a thread that can end without the program: fail throws a DeviceError there.
inline thread_local bool throw_device_errors = false;

// Ends the program with one line "error: ..." (format as printf).
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char *format, ...) {
  char line[1024];
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

// Fails with what was called, where, the error's name, number and text, and on which device.
inline void hip_check(hipError_t error, const char *expression, const char *file, int line) {
  if (error == hipSuccess) return;
  int device = -1;
  hipDeviceProp_t properties = {};
  if (hipGetDevice(&device) != hipSuccess || hipGetDeviceProperties(&properties, device) != hipSuccess)
    snprintf(properties.name, sizeof properties.name, "unknown");
  fail("%s at %s:%d failed: %s (%d), %s, on device %d (%s)", expression, file, line, hipGetErrorName(error), (int)error,
       hipGetErrorString(error), device, properties.name);
}

}  // namespace getp_hip

#define HIP_CHECK(expression) getp_hip::hip_check((expression), #expression, __FILE__, __LINE__)

namespace getp_hip {

// Called before and after every launch, with the kernel's name and grid, where a tool (bench) sets it.
using LaunchHook = void (*)(const char *kernel, dim3 grid, hipStream_t stream, bool after);
inline LaunchHook launch_hook = nullptr;

}  // namespace getp_hip

// Launches a kernel on `stream` and checks the launch. A kernel with template arguments stands in parentheses.
#define HIP_LAUNCH(kernel, grid, block, stream, ...) HIP_LAUNCH_WITH(0, kernel, grid, block, stream, __VA_ARGS__)

// The same for a kernel with GETP_SHARED_STAGES, a step of which takes `step_bytes`.
#define HIP_LAUNCH_SHARED(kernel, grid, block, step_bytes, stream, ...) \
  HIP_LAUNCH_WITH(getp_allow_shared(kernel, step_bytes), kernel, grid, block, stream, __VA_ARGS__)

#define HIP_LAUNCH_WITH(dynamic_bytes, kernel, grid, block, stream, ...)              \
  do {                                                                                \
    if (getp_hip::launch_hook) getp_hip::launch_hook(#kernel, grid, stream, false);   \
    hipLaunchKernelGGL(kernel, grid, block, dynamic_bytes, stream, __VA_ARGS__);      \
    getp_hip::hip_check(hipGetLastError(), "launch of " #kernel, __FILE__, __LINE__); \
    if (getp_hip::launch_hook) getp_hip::launch_hook(#kernel, grid, stream, true);    \
  } while (0)

// A launcher's precondition: fails with one line if it does not hold.
#define HIP_REQUIRE(condition)                                                                              \
  do {                                                                                                      \
    if (!(condition)) getp_hip::fail("%s at %s:%d: requires %s", __func__, __FILE__, __LINE__, #condition); \
  } while (0)

namespace getp_hip {

// The numbers of the devices to use: the one that HIP_DEVICE_ID names, else all. Ends the program with a list of the
// devices when there is no such device.
inline std::vector<int> pick_devices() {
  int count = 0;
  const hipError_t error = hipGetDeviceCount(&count);
  if (error != hipSuccess || count == 0) {
    fprintf(stderr, "error: no %s device found (%s); build with `make GPU=host` to run without one\n",
            getp_backend_name(), error == hipSuccess ? "the runtime lists none" : hipGetErrorString(error));
    exit(EXIT_FAILURE);
  }
  const char *text = getenv("HIP_DEVICE_ID");
  if (!text || !*text) {
    std::vector<int> all(count);
    for (int i = 0; i < count; i++) all[i] = i;
    return all;
  }
  char *end = nullptr;
  errno = 0;
  const long device = strtol(text, &end, 10);
  if (*end || errno || device < 0 || device >= count) {
    fprintf(stderr, "error: HIP_DEVICE_ID=%s names no device; set it to one of:", text);
    for (int i = 0; i < count; i++) {
      hipDeviceProp_t properties = {};
      HIP_CHECK(hipGetDeviceProperties(&properties, i));
      fprintf(stderr, "%s %d (%s, %.1f GB)", i ? "," : "", i, properties.name, (double)properties.totalGlobalMem / 1e9);
    }
    fprintf(stderr, "\n");
    exit(EXIT_FAILURE);
  }
  return {(int)device};
}

// Bytes of device and pinned memory that device_alloc and pinned_alloc gave out and that were not freed yet.
inline std::atomic<size_t> &bytes_in_use() {
  static std::atomic<size_t> bytes{0};
  return bytes;
}

// `count` elements of device memory, uninitialised; ends the program if the device has no room. count may be 0.
template <class T>
T *device_alloc(size_t count) {
  void *pointer = nullptr;
  if (count == 0) return nullptr;
  HIP_REQUIRE(count <= SIZE_MAX / sizeof(T));
  HIP_CHECK(hipMalloc(&pointer, count * sizeof(T)));
  bytes_in_use() += count * sizeof(T);
  return (T *)pointer;
}

// Frees what device_alloc<T>(count) returned and clears the pointer.
template <class T>
void device_free(T *&pointer, size_t count) {
  if (!pointer) return;
  HIP_CHECK(hipFree((void *)pointer));
  bytes_in_use() -= count * sizeof(T);
  pointer = nullptr;
}

// `count` elements of pinned host memory (the device reads and writes it at full speed).
template <class T>
T *pinned_alloc(size_t count) {
  void *pointer = nullptr;
  HIP_CHECK(hipHostMalloc(&pointer, count * sizeof(T), hipHostMallocDefault));
  bytes_in_use() += count * sizeof(T);
  return (T *)pointer;
}

template <class T>
void pinned_free(T *&pointer, size_t count) {
  if (!pointer) return;
  HIP_CHECK(hipHostFree((void *)pointer));
  bytes_in_use() -= count * sizeof(T);
  pointer = nullptr;
}

// Copies `count` elements; on return the copy is queued on `stream`. Host memory must stay as it is until then.
template <class T>
void copy_to_device(T *d_to, const T *h_from, size_t count, hipStream_t stream) {
  HIP_CHECK(hipMemcpyAsync((void *)d_to, h_from, count * sizeof(T), hipMemcpyHostToDevice, stream));
}

template <class T>
void copy_to_host(T *h_to, const T *d_from, size_t count, hipStream_t stream) {
  HIP_CHECK(hipMemcpyAsync(h_to, d_from, count * sizeof(T), hipMemcpyDeviceToHost, stream));
}

}  // namespace getp_hip
