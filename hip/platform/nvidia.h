// NVIDIA back end: CUDA under the HIP names of nvidia_names.h.
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <string>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "cards older than sm_80 have no matrix instructions that the kernels are written for"
#endif

#include "card.h"
#include "gpu_common.h"
#include "half_bits.h"
#include "stage_async.h"
#include "tile_mma_sync.h"
#include "tile_wgmma.h"

// Programmatic dependent launch: from sm_90 on the blocks of a kernel may begin while the kernel before ends;
// GETP_AFTER_PREVIOUS() lets them wait there. So a launch costs the card no time between kernels. A block lets the next
// kernel begin as soon as it has waited itself: so at most two kernels are under way, each ends after the one before,
// and one wait orders all that came before it. Code for older cards does not wait, and is launched as ever.
#if __CUDA_ARCH__ >= 900
#define GETP_AFTER_PREVIOUS() asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory")
#else
#define GETP_AFTER_PREVIOUS() ((void)0)
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

__host__ __device__ inline unsigned short getp_fp16_bits(float value) {
#ifdef __CUDA_ARCH__
  return __half_as_ushort(__float2half_rn(value));
#else
  return getp_half_bits(value);
#endif
}
__host__ __device__ inline float getp_fp16_value(unsigned short bits) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(bits));
#else
  return getp_half_value(bits);
#endif
}

// Volatile: loads that are written before the products that need them are to be issued before them.
__device__ inline uint4 load_once(const uint4 *from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

#define GETP_SHARED_STAGES(name, count) extern __shared__ __align__(1024) uint4 name[]
constexpr bool kStagesAreDynamic = true, kWarpgroups = true, kAsyncCopies = true;
static_assert(kSm80Card.stages == kSharedStages && kSm90aCard.stages == kSharedStages, "as planned, so compiled");
// The launch reports errors.
template <class Kernel>
void getp_allow_shared(Kernel kernel, size_t bytes) {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

// Whether the code that the card runs has wgmma: that for sm_90a has, that for plain sm_90 has not.
static __global__ void getp_probe_warpgroups_kernel(int *has) { *has = GETP_WARPGROUP_TILES; }

// Of the current device.
inline hipError_t getp_card(Card *card, std::string *refusal) {
  int device = 0, *d_has = nullptr, has = 0;
  cudaDeviceProp properties = {};
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return error;
  const std::string architecture = "sm_" + std::to_string(properties.major * 10 + properties.minor);
  if (properties.major < 8) {
    *refusal =
        architecture + " has no matrix instructions that the kernels are written for; they are for sm_80 and newer";
    return cudaSuccess;
  }
  error = cudaMalloc((void **)&d_has, sizeof has);
  if (error != cudaSuccess) return error;
  getp_probe_warpgroups_kernel<<<1, 1>>>(d_has);
  error = cudaGetLastError();
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    *refusal = "this program was not built for " + architecture + "; build it with GPU_ARCH=" + architecture +
               (architecture == "sm_90" ? "a" : "");
    error = cudaSuccess;
  } else if (error == cudaSuccess) {
    error = cudaMemcpy(&has, d_has, sizeof has, cudaMemcpyDeviceToHost);
  }
  cudaFree(d_has);
  *card = has ? kSm90aCard : kSm80Card;
  card->processors = properties.multiProcessorCount;
  return error;
}

inline const char *getp_backend_name() { return "nvidia"; }
