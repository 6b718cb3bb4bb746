// Calls to the HIP runtime: error checks, device pick, typed memory.
#pragma once

#include <algorithm>
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

// What hides devices from the runtimes, as set, for an error's text; empty if nothing is.
inline std::string hidden_by() {
  std::string text;
  for (const char *name : {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES"})
    if (const char *value = getenv(name)) text += std::string("; ") + name + "='" + value + "' may hide it";
  return text;
}

// The numbers of the devices to use, in order: those that HIP_DEVICE_ID names, else all. Ends the program with a list of
// the devices when it names what is none.
inline std::vector<int> pick_devices() {
  int count = 0;
  const hipError_t error = hipGetDeviceCount(&count);
  if (error != hipSuccess || count == 0)
    fail_program("no %s device found (%s)%s; build with `make GPU=host` to run without one", getp_backend_name(),
                 error == hipSuccess ? "the runtime lists none" : hipGetErrorString(error), hidden_by().c_str());
  std::vector<int> ids;
  const char *text = environment_text("HIP_DEVICE_ID");
  if (!text) {
    for (int i = 0; i < count; i++) ids.push_back(i);
    return ids;
  }
  std::string wrong;
  for (const std::string &word : words_of(text)) {
    uint64_t id = 0;
    if (!read_number(word, 0, (uint64_t)count - 1, id)) {
      wrong = word;
      break;
    }
    if (std::find(ids.begin(), ids.end(), (int)id) != ids.end())
      fail_program("HIP_DEVICE_ID=%s names %s twice", text, word.c_str());
    ids.push_back((int)id);
  }
  if (ids.size() == words_of(text).size()) return ids;
  std::string list;
  for (int i = 0; i < count; i++) {
    hipDeviceProp_t properties = {};
    HIP_CHECK(hipGetDeviceProperties(&properties, i));
    char gigabytes[32];
    snprintf(gigabytes, sizeof gigabytes, "%.1f GB", (double)properties.totalGlobalMem / 1e9);
    list += (i ? ", " : " ") + std::to_string(i) + " (" + properties.name + ", " + gigabytes + ")";
  }
  fail_program("HIP_DEVICE_ID=%s: '%s' names no device; set it to one of:%s", text, wrong.c_str(), list.c_str());
}

// Calls use(id) for each of pick_devices, which is then the current device, until `most` are in use. A failure there leaves
// the device out, with a line; that of the last, if none is in use, ends the program.
template <class Use>
void use_devices(size_t most, Use use) {
  const std::vector<int> ids = pick_devices();
  size_t in_use = 0;
  for (size_t i = 0; i < ids.size() && in_use < most; i++) {
    std::string failure;
    throw_device_errors = true;
    try {
      HIP_CHECK(hipSetDevice(ids[i]));
      use(ids[i]);
      in_use++;
    } catch (const DeviceError &error) {
      failure = error.what();
    }
    throw_device_errors = false;
    if (failure.empty()) continue;
    (void)hipGetLastError();  // which the next launch would be said to have failed with
    if (in_use == 0 && i + 1 == ids.size()) fail("%s", failure.c_str());
    fprintf(stderr, "warning: device %d is left out: %s\n", ids[i], failure.c_str());
  }
}

// The name of the current device, for an error's text.
inline std::string device_name() {
  int device = -1;
  hipDeviceProp_t properties = {};
  HIP_CHECK(hipGetDevice(&device));
  HIP_CHECK(hipGetDeviceProperties(&properties, device));
  return "device " + std::to_string(device) + " (" + properties.name + ")";
}

// The figures of the current device. Fails if the program's kernels cannot run there.
inline Card current_card() {
  Card card = {};
  std::string refusal;
  HIP_CHECK(getp_card(&card, &refusal));
  if (!refusal.empty()) fail("%s: %s", device_name().c_str(), refusal.c_str());
  return card;
}

struct DeviceMemory {
  size_t free_bytes, total;
};

// Of the current device. GETP_MEMORY, if set, is what is free: runtimes tell of an APU what was carved out for it, or nothing.
inline DeviceMemory device_memory() {
  DeviceMemory memory = {};
  const size_t told = environment_bytes("GETP_MEMORY", 0);
  const hipError_t error = hipMemGetInfo(&memory.free_bytes, &memory.total);
  if (error != hipSuccess) {
    (void)hipGetLastError();
    if (!told)
      fail("the runtime cannot tell the memory of %s (%s); say with GETP_MEMORY=24G what is free there",
           device_name().c_str(), hipGetErrorString(error));
    memory = {};
  }
  return told ? DeviceMemory{told, std::max(told, memory.total)} : memory;
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
