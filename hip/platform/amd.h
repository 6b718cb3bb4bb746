// AMD back end: HIP as it is. Only names that every ROCm from 5.2 to 7 has are used.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "card.h"
#include "gpu_common.h"
#include "half_bits.h"
#include "stage_registers.h"
#include "tile_amd.h"

__host__ __device__ inline unsigned short getp_fp16_bits(float value) {
#ifdef __HIP_DEVICE_COMPILE__
  const _Float16 half = (_Float16)value;
  unsigned short bits;
  __builtin_memcpy(&bits, &half, sizeof bits);
  return bits;
#else
  return getp_half_bits(value);
#endif
}
__host__ __device__ inline float getp_fp16_value(unsigned short bits) {
#ifdef __HIP_DEVICE_COMPILE__
  _Float16 half;
  __builtin_memcpy(&half, &bits, sizeof half);
  return (float)half;
#else
  return getp_half_value(bits);
#endif
}

__device__ inline uint4 load_once(const uint4 *from) {
  using Words = unsigned __attribute__((ext_vector_type(4)));
  const Words words = __builtin_nontemporal_load((const Words *)from);
  return {words.x, words.y, words.z, words.w};
}

#define GETP_AFTER_PREVIOUS() ((void)0)

__device__ inline void sync_wave() { __builtin_amdgcn_wave_barrier(); }  // see stage_async.h

#define GETP_SHARED_STAGES(name, count) __shared__ uint4 name[count]
constexpr bool kStagesAreDynamic = false, kWarpgroups = false, kAsyncCopies = false;
static_assert(kGfx9Card.stages == kSharedStages && kGfx11Card.stages == kSharedStages, "as planned, so compiled");
template <class Kernel>
void getp_allow_shared(Kernel, size_t) {}

static __global__ void getp_probe_kernel() {}

// Of the current device.
inline hipError_t getp_card(Card *card, std::string *refusal) {
  int device = 0;
  hipDeviceProp_t properties = {};
  hipError_t error = hipGetDevice(&device);
  if (error == hipSuccess) error = hipGetDeviceProperties(&properties, device);
  if (error != hipSuccess) return error;
  std::string architecture = properties.gcnArchName;  // as in gfx90a:sramecc+:xnack-
  architecture.resize(std::min(architecture.size(), architecture.find(':')));
  const bool mfma = is_word_of(kMfmaArchitectures, architecture);
  *card = mfma ? kGfx9Card : kGfx11Card;
  hipFuncAttributes attributes = {};
  if (!mfma && !is_word_of(kWmmaArchitectures, architecture)) {
    *refusal = architecture + " has no matrix instructions that the kernels are written for; they are for " +
               kMfmaArchitectures + " " + kWmmaArchitectures;
  } else if (hipFuncGetAttributes(&attributes, (const void *)getp_probe_kernel) != hipSuccess) {
    (void)hipGetLastError();
    *refusal = "this program was not built for " + architecture + "; build it with GPU_ARCH=" + architecture +
               " (make), or --offload-arch=" + architecture + " (hipcc)";
  }
  return hipSuccess;
}

inline const char *getp_backend_name() { return "amd"; }
