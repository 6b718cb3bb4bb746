// AMD back end: HIP as it is. Only names that every ROCm from 5.2 to 7 has are used.
#pragma once

#include <hip/hip_runtime.h>

#include <cstddef>

#include "gpu_common.h"
#include "tile_amd.h"

#ifdef __HIP_DEVICE_COMPILE__
#define GETP_DEVICE_CODE 1
#else
#define GETP_DEVICE_CODE 0
#endif

__device__ inline unsigned short getp_fp16_bits(float value) {
  const _Float16 half = (_Float16)value;
  unsigned short bits;
  __builtin_memcpy(&bits, &half, sizeof bits);
  return bits;
}
__device__ inline float getp_fp16_value(unsigned short bits) {
  _Float16 half;
  __builtin_memcpy(&half, &bits, sizeof half);
  return (float)half;
}

__device__ inline uint4 load_once(const uint4 *from) {
  using Words = unsigned __attribute__((ext_vector_type(4)));
  const Words words = __builtin_nontemporal_load((const Words *)from);
  return {words.x, words.y, words.z, words.w};
}

#define GETP_AFTER_PREVIOUS()

#define GETP_SHARED_STAGES(name, count) __shared__ uint4 name[count]
template <class Kernel>
unsigned getp_allow_shared(Kernel, size_t) {
  return 0;  // declared in the kernel
}

#include "stage_registers.h"

inline const char *getp_backend_name() { return "amd"; }
