// Host back end: the HIP names this project uses, on the CPU. A correctness tool of its own; see host_block.h for what
// it checks in kernels and host_device.h for memory and settings. Everything is synchronous.
#pragma once

#include <chrono>
#include <cmath>
#include <tuple>
#include <utility>

#include "host_device.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

enum hipError_t {
  hipSuccess = 0,
  hipErrorInvalidValue = 1,
  hipErrorOutOfMemory = 2,
  hipErrorInvalidConfiguration = 9,
  hipErrorNoDevice = 100,
  hipErrorInvalidDevice = 101,
  hipErrorLaunchFailure = 719,
};
enum hipMemcpyKind { hipMemcpyHostToDevice = 1, hipMemcpyDeviceToHost = 2, hipMemcpyDeviceToDevice = 3 };
constexpr unsigned hipHostMallocDefault = 0;

using hipStream_t = struct getp_host_stream *;
using hipEvent_t = std::chrono::steady_clock::time_point *;

struct hipDeviceProp_t {
  char name[256];
  size_t totalGlobalMem;
  int warpSize, multiProcessorCount;
};

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace getp_host {

inline thread_local hipError_t last_error = hipSuccess;
inline thread_local int current_device = 0;

// What the checks found last, as it was printed; tests read it.
inline thread_local std::string last_fault;

inline hipError_t failed(hipError_t error) { return last_error = error; }

inline hipError_t fault(hipError_t error, const std::string &what) {
  last_fault = what;
  fprintf(stderr, "error: host back end: %s\n", what.c_str());
  return failed(error);
}

// Runs all blocks of a launch over the CPU threads; the first fault, lowest block first found, ends it.
inline void launch(const char *kernel, dim3 grid, dim3 block, const Body &body) {
  const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, threads = (uint64_t)block.x * block.y * block.z;
  if (blocks == 0 || threads == 0 || threads > kMaxBlock || grid.x * threads > UINT32_MAX || grid.y > 65535 ||
      grid.z > 65535) {
    fault(hipErrorInvalidConfiguration, format("kernel %s: invalid grid (%u, %u, %u) or block (%u, %u, %u)", kernel,
                                               grid.x, grid.y, grid.z, block.x, block.y, block.z));
    return;
  }
  const Options &settings = options();
  static std::atomic<uint64_t> launches{0};  // on the last device
  if (settings.fail && current_device == settings.devices - 1 && ++launches == settings.fail) {
    fault(hipErrorLaunchFailure, format("kernel %s fails because GETP_HOST_FAIL asks for it", kernel));
    return;
  }
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string what;
  const auto run_blocks = [&](BlockRunner &runner, uint64_t chunk, const auto &enough) {
    for (uint64_t first; !failed && !enough() && (first = next.fetch_add(chunk)) < blocks;)
      for (uint64_t b = first; b < std::min(blocks, first + chunk) && !failed; b++) {
        const dim3 index((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y));
        std::string found = runner.run(body, grid, block, index, settings.wave, settings.seed);
        if (found.empty()) continue;
        std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true))
          what = format("kernel %s, block (%u, %u, %u): %s", kernel, index.x, index.y, index.z, found.c_str());
      }
  };
  // Waking a CPU thread takes some ten microseconds: small launches end before they would have gained anything.
  const auto start = std::chrono::steady_clock::now();
  workers().run(1, [&](BlockRunner &runner) {
    run_blocks(runner, 1, [&] { return std::chrono::steady_clock::now() - start > std::chrono::microseconds(30); });
  });
  if (next < blocks && !failed)
    workers().run((int)std::min<uint64_t>(settings.threads, blocks - next), [&](BlockRunner &runner) {
      run_blocks(runner, std::max<uint64_t>(1, 512 / threads), [] { return false; });
    });
  if (what.empty()) {
    what = memory().check();
    if (!what.empty()) what = format("kernel %s: %s", kernel, what.c_str());
  }
  if (!what.empty()) fault(hipErrorLaunchFailure, what);
}

template <class... Parameters, class... Arguments>
void launch_kernel(const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments &&...arguments) {
  using Bound = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  const Bound bound{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  launch(name, grid, block,
         Body{[](const void *b) { std::apply(((const Bound *)b)->first, ((const Bound *)b)->second); }, &bound});
}

inline hipError_t copy(void *to, const void *from, size_t bytes, hipMemcpyKind kind) {
  if (kind != hipMemcpyDeviceToHost && !memory().holds(to, bytes))
    return fault(hipErrorInvalidValue, format("copy of %zu bytes to what is no device memory of that size", bytes));
  if (kind != hipMemcpyHostToDevice && !memory().holds(from, bytes))
    return fault(hipErrorInvalidValue, format("copy of %zu bytes from what is no device memory of that size", bytes));
  if (bytes) memmove(to, from, bytes);
  return hipSuccess;
}

}  // namespace getp_host

#define hipLaunchKernelGGL(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(shared_bytes), (void)(stream), getp_host::launch_kernel(#kernel, kernel, grid, block, __VA_ARGS__))

// Shared memory: the declaration is told from others by the address of a static, one for each template instance.
#define GETP_SHARED(type, name, count) \
  static char name##_site;             \
  type *const name = (type *)getp_host::current_block->shared(&name##_site, #name, sizeof(type) * (count))

// Two groups of 32 lanes: switching between threads costs more than what they do.
constexpr int block_threads(int) { return 64; }

constexpr int kDefaultBatch = 32;  // requests at a time: more would not be faster

#define GETP_UNROLL_4
#define GETP_UNROLL_1
#define GETP_UNROLL
#define GETP_DEVICE_CODE 0

inline uint4 load_once(const uint4 *from) { return *from; }

#define GETP_AFTER_PREVIOUS()

#define GETP_SHARED_STAGES(name, count) GETP_SHARED(uint4, name, count)
template <class Kernel>
unsigned getp_allow_shared(Kernel, size_t) {
  return 0;  // declared in the kernel
}

// a * b + c, rounded twice: plain x86-64 has no fused form, and a call of fmaf would be slow.
inline float multiply_add(float a, float b, float c) { return a * b + c; }

#define __syncthreads() getp_host::current_block->barrier(__FILE__, __LINE__)

// See gpu_common.h: the same order of the same operations, in one rendezvous.
template <int N, class T, class Op>
T group_reduce(T value, Op) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a group has 1, 2, 4, 8, 16 or 32 lanes");
  if constexpr (N == 1) return value;
  return getp_host::current_block->rendezvous(value, [](const void *values, void *results, int lanes) {
    const Op op{};
    for (int first = 0; first + N <= lanes; first += N) {
      T group[N];
      memcpy(group, (const T *)values + first, sizeof group);
      for (int distance = N / 2; distance > 0; distance /= 2)
        for (int i = 0; i < distance; i++) group[i] = op(group[i], group[i + distance]);
      for (int i = 0; i < N; i++) ((T *)results)[first + i] = group[0];
    }
  });
}

// See gpu_common.h. Lanes leave where their values are: fibers see each other's stacks.
template <int N>
float group_sums(float (&values)[N]) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a group has 1, 2, 4, 8, 16 or 32 lanes");
  getp_host::current_block->rendezvous((float *)values, [](const void *all_values, void *, int lanes) {
    for (int first = 0; first + N <= lanes; first += N) {
      float *const *of_lane = (float *const *)all_values + first;
      float sums[N][N];
      for (int lane = 0; lane < N; lane++) memcpy(sums[lane], of_lane[lane], sizeof sums[lane]);
      for (int distance = N / 2; distance > 0; distance /= 2)
        for (int lane = 0; lane < distance; lane++)
          for (int i = 0; i < N; i++) sums[lane][i] += sums[lane + distance][i];
      for (int lane = 0; lane < N; lane++) of_lane[lane][0] = sums[0][lane];
    }
  });
  return values[0];
}

#include "stage_registers.h"
#include "tile_host.h"

inline const char *getp_backend_name() { return "host"; }
inline size_t getp_report_leaks() { return getp_host::memory().report_leaks(); }
inline bool getp_set_lanes(int wave, unsigned long long seed, bool wmma) {
  getp_host::options().wave = wave;
  getp_host::options().seed = seed;
  getp_host::options().wmma = wmma;
  return true;
}

// The part of the HIP runtime that the project uses; semantics as HIP documents them.
inline const char *hipGetErrorName(hipError_t error) {
  switch (error) {
    case hipSuccess:
      return "hipSuccess";
    case hipErrorInvalidValue:
      return "hipErrorInvalidValue";
    case hipErrorOutOfMemory:
      return "hipErrorOutOfMemory";
    case hipErrorInvalidConfiguration:
      return "hipErrorInvalidConfiguration";
    case hipErrorNoDevice:
      return "hipErrorNoDevice";
    case hipErrorInvalidDevice:
      return "hipErrorInvalidDevice";
    case hipErrorLaunchFailure:
      return "hipErrorLaunchFailure";
  }
  return "unknown";
}
inline const char *hipGetErrorString(hipError_t error) {
  switch (error) {
    case hipSuccess:
      return "no error";
    case hipErrorInvalidValue:
      return "invalid argument";
    case hipErrorOutOfMemory:
      return "out of memory";
    case hipErrorInvalidConfiguration:
      return "invalid launch configuration";
    case hipErrorNoDevice:
      return "no device";
    case hipErrorInvalidDevice:
      return "invalid device ordinal";
    case hipErrorLaunchFailure:
      return "a check of the host back end failed, see the line above";
  }
  return "unknown";
}
inline hipError_t hipGetLastError() { return std::exchange(getp_host::last_error, hipSuccess); }
inline hipError_t hipGetDeviceCount(int *count) {
  *count = getp_host::options().devices;
  return hipSuccess;
}
inline hipError_t hipGetDevice(int *device) {
  *device = getp_host::current_device;
  return hipSuccess;
}
inline hipError_t hipSetDevice(int device) {
  if (device < 0 || device >= getp_host::options().devices) return getp_host::failed(hipErrorInvalidDevice);
  getp_host::current_device = device;
  return hipSuccess;
}
inline hipError_t hipGetDeviceProperties(hipDeviceProp_t *properties, int device) {
  if (device < 0 || device >= getp_host::options().devices) return getp_host::failed(hipErrorInvalidDevice);
  *properties = {};
  snprintf(properties->name, sizeof properties->name, "host CPU, waves of %d", getp_host::options().wave);
  properties->totalGlobalMem = getp_host::options().memory;
  properties->warpSize = getp_host::options().wave;
  properties->multiProcessorCount = getp_host::options().threads;
  return hipSuccess;
}
inline hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *total_bytes = getp_host::options().memory;
  *free_bytes = *total_bytes - getp_host::memory().used(getp_host::current_device);
  return hipSuccess;
}
inline hipError_t hipMalloc(void **pointer, size_t bytes) {
  *pointer = getp_host::memory().allocate(getp_host::current_device, bytes);
  return *pointer ? hipSuccess : getp_host::failed(hipErrorOutOfMemory);
}
inline hipError_t hipFree(void *pointer) {
  if (!pointer) return hipSuccess;
  const std::string what = getp_host::memory().check();
  if (!what.empty()) return getp_host::fault(hipErrorInvalidValue, "before hipFree: something " + what);
  if (!getp_host::memory().release(pointer))
    return getp_host::fault(hipErrorInvalidValue, "hipFree of what is no live allocation");
  return hipSuccess;
}
inline hipError_t hipHostMalloc(void **pointer, size_t bytes, unsigned) {
  *pointer = aligned_alloc(64, (bytes + 63) / 64 * 64);
  return *pointer ? hipSuccess : getp_host::failed(hipErrorOutOfMemory);
}
inline hipError_t hipHostFree(void *pointer) {
  free(pointer);
  return hipSuccess;
}
inline hipError_t hipMemcpy(void *to, const void *from, size_t bytes, hipMemcpyKind kind) {
  return getp_host::copy(to, from, bytes, kind);
}
inline hipError_t hipMemcpyAsync(void *to, const void *from, size_t bytes, hipMemcpyKind kind, hipStream_t) {
  return getp_host::copy(to, from, bytes, kind);
}
inline hipError_t hipMemset(void *to, int value, size_t bytes) {
  if (!getp_host::memory().holds(to, bytes))
    return getp_host::fault(hipErrorInvalidValue, "hipMemset of what is no device memory of that size");
  memset(to, value, bytes);
  return hipSuccess;
}
inline hipError_t hipDeviceSynchronize() { return hipSuccess; }
inline hipError_t hipStreamCreate(hipStream_t *stream) {
  *stream = nullptr;
  return hipSuccess;
}
inline hipError_t hipStreamDestroy(hipStream_t) { return hipSuccess; }
inline hipError_t hipStreamSynchronize(hipStream_t) { return hipSuccess; }
inline hipError_t hipEventCreate(hipEvent_t *event) {
  *event = new std::chrono::steady_clock::time_point();
  return hipSuccess;
}
inline hipError_t hipEventDestroy(hipEvent_t event) {
  delete event;
  return hipSuccess;
}
inline hipError_t hipEventRecord(hipEvent_t event, hipStream_t) {
  *event = std::chrono::steady_clock::now();
  return hipSuccess;
}
inline hipError_t hipEventSynchronize(hipEvent_t) { return hipSuccess; }
inline hipError_t hipEventElapsedTime(float *milliseconds, hipEvent_t from, hipEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(*to - *from).count();
  return hipSuccess;
}
