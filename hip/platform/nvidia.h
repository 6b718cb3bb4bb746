// NVIDIA back end: the HIP names this project uses, mapped onto CUDA. (HIP's own NVIDIA headers lag behind CUDA.)
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

using hipError_t = cudaError_t;
using hipStream_t = cudaStream_t;
using hipEvent_t = cudaEvent_t;
using hipDeviceProp_t = cudaDeviceProp;

#define hipSuccess cudaSuccess
#define hipErrorInvalidValue cudaErrorInvalidValue
#define hipErrorOutOfMemory cudaErrorMemoryAllocation
#define hipErrorNoDevice cudaErrorNoDevice

#define hipMemcpyHostToDevice cudaMemcpyHostToDevice
#define hipMemcpyDeviceToHost cudaMemcpyDeviceToHost
#define hipMemcpyDeviceToDevice cudaMemcpyDeviceToDevice
#define hipHostMallocDefault cudaHostAllocDefault

#define hipGetErrorName cudaGetErrorName
#define hipGetErrorString cudaGetErrorString
#define hipGetLastError cudaGetLastError
#define hipGetDeviceCount cudaGetDeviceCount
#define hipGetDevice cudaGetDevice
#define hipSetDevice cudaSetDevice
#define hipGetDeviceProperties cudaGetDeviceProperties
#define hipDeviceSynchronize cudaDeviceSynchronize
#define hipMemGetInfo cudaMemGetInfo
#define hipMemcpy cudaMemcpy
#define hipMemcpyAsync cudaMemcpyAsync
#define hipMemset cudaMemset
#define hipFree cudaFree
#define hipHostFree cudaFreeHost
#define hipStreamCreate cudaStreamCreate
#define hipStreamDestroy cudaStreamDestroy
#define hipStreamSynchronize cudaStreamSynchronize
#define hipEventCreate cudaEventCreate
#define hipEventDestroy cudaEventDestroy
#define hipEventRecord cudaEventRecord
#define hipEventSynchronize cudaEventSynchronize
#define hipEventElapsedTime cudaEventElapsedTime

inline hipError_t hipMalloc(void **pointer, size_t bytes) { return cudaMalloc(pointer, bytes); }
inline hipError_t hipHostMalloc(void **pointer, size_t bytes, unsigned flags) {
  return cudaHostAlloc(pointer, bytes, flags);
}

// Programmatic dependent launch: from sm_90 on the blocks of a kernel may begin while the kernel before ends;
// GETP_AFTER_PREVIOUS() lets them wait there. So a launch costs the card no time between kernels. A block lets the next
// kernel begin as soon as it has waited itself: so at most two kernels are under way, each ends after the one before,
// and one wait orders all that came before it. Code for older cards does not wait, and is launched as ever.
#if __CUDA_ARCH__ >= 900
#define GETP_AFTER_PREVIOUS() asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory")
#else
#define GETP_AFTER_PREVIOUS()
#endif
static __global__ void getp_probe_kernel() {}
inline bool getp_launches_early() {
  static const bool early = [] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, getp_probe_kernel) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return early;
}

template <class... Parameters, class... Arguments>
void hipLaunchKernelGGL(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, hipStream_t stream,
                        Arguments... arguments) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = getp_launches_early() ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, arguments...);  // HIP_LAUNCH reports errors
}

// Every lane of a warp takes part wherever this project shuffles (the host back end checks it), hence the full mask.
template <class T>
__device__ inline T __shfl_xor(T value, int distance, int width) {
  return __shfl_xor_sync(0xffffffffu, value, distance, width);
}

#include "gpu_common.h"
#include "tile_mma_sync.h"
#include "tile_wgmma.h"

#ifdef __CUDA_ARCH__
#define GETP_DEVICE_CODE 1
#else
#define GETP_DEVICE_CODE 0
#endif

__device__ inline unsigned short getp_fp16_bits(float value) { return __half_as_ushort(__float2half_rn(value)); }
__device__ inline float getp_fp16_value(unsigned short bits) { return __half2float(__ushort_as_half(bits)); }

// Volatile: loads that are written before the products that need them are to be issued before them.
__device__ inline uint4 load_once(const uint4 *from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

#define GETP_SHARED_STAGES(name, count) extern __shared__ __align__(1024) uint4 name[]

#include "stage_async.h"

template <class Kernel>
unsigned getp_allow_shared(Kernel kernel, size_t step_bytes) {
  cudaFuncAttributes attributes{};
  cudaFuncGetAttributes(&attributes, kernel);              // the launch reports errors
  const bool warpgroups = attributes.binaryVersion == 90;  // or code for plain sm_90, which takes less
  const size_t bytes =
      step_bytes * (warpgroups ? warpgroup::kStages * warpgroup::kStageSteps : kSharedStages * kStageSteps);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
  return (unsigned)bytes;
}

inline const char *getp_backend_name() { return "nvidia"; }
