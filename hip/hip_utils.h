// Calls to the HIP runtime: error checks, device pick, typed memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "environment.hpp"
#include "fail.hpp"
#include "platform/platform.h"

namespace getp_hip {

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
#define HIP_LAUNCH(kernel, grid, block, stream, ...) HIP_LAUNCH_SHARED(kernel, grid, block, 0, stream, __VA_ARGS__)

// The same for a kernel with GETP_SHARED_STAGES of so many bytes.
#define HIP_LAUNCH_SHARED(kernel, grid, block, shared_bytes, stream, ...)                                 \
  do {                                                                                                    \
    if (getp_hip::launch_hook) getp_hip::launch_hook(#kernel, grid, stream, false);                       \
    hipLaunchKernelGGL(kernel, grid, block, kStagesAreDynamic ? (shared_bytes) : 0, stream, __VA_ARGS__); \
    getp_hip::hip_check(hipGetLastError(), "launch of " #kernel, __FILE__, __LINE__);                     \
    if (getp_hip::launch_hook) getp_hip::launch_hook(#kernel, grid, stream, true);                        \
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
  if (error != hipSuccess || count == 0)
    fail("no %s device found (%s); build with `make GPU=host` to run without one", getp_backend_name(),
         error == hipSuccess ? "the runtime lists none" : hipGetErrorString(error));
  const char *text = environment_text("HIP_DEVICE_ID");
  if (!text) {
    std::vector<int> all(count);
    for (int i = 0; i < count; i++) all[i] = i;
    return all;
  }
  uint64_t device = 0;
  if (read_number(text, 0, (uint64_t)count - 1, device)) return {(int)device};
  std::string list;
  for (int i = 0; i < count; i++) {
    hipDeviceProp_t properties = {};
    HIP_CHECK(hipGetDeviceProperties(&properties, i));
    char gigabytes[32];
    snprintf(gigabytes, sizeof gigabytes, "%.1f GB", (double)properties.totalGlobalMem / 1e9);
    list += (i ? ", " : " ") + std::to_string(i) + " (" + properties.name + ", " + gigabytes + ")";
  }
  fail("HIP_DEVICE_ID=%s names no device; set it to one of:%s", text, list.c_str());
}

// The figures of the current device.
inline Card current_card() {
  Card card = {};
  HIP_CHECK(getp_card(&card));
  return card;
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
