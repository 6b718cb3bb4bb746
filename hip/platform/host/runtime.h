// The part of the HIP runtime that the project uses, for virtual devices of the host back end; semantics as HIP
// documents them. Everything is synchronous.
#pragma once

#include "launch.h"

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
  properties->totalGlobalMem = getp_host::options().memory_of(device);
  properties->warpSize = getp_host::options().wave;
  properties->multiProcessorCount = getp_host::options().threads;
  return hipSuccess;
}
inline hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *total_bytes = getp_host::options().memory_of(getp_host::current_device);
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
