// The words that device code is written in, from the compiler's own headers or, on the CPU, from the host simulator:
// __global__, __device__, threadIdx, uint4, __syncthreads, ..., and where to unroll loops:
//   GETP_UNROLL_4, _1   before a loop: load four iterations at a time, or one (GPUs)
//   GETP_UNROLL         before a loop over registers: unroll it (GPUs)
#pragma once

#if defined(__HIP__) || defined(__HIPCC__)
#include <hip/hip_runtime.h>
#elif defined(__CUDACC__)
#include "nvidia_names.h"
#else
#include "host/keywords.h"
#endif

#if defined(__HIP__) || defined(__HIPCC__) || defined(__CUDACC__)
#define GETP_UNROLL_4 _Pragma("unroll 4")
#define GETP_UNROLL_1 _Pragma("unroll 1")
#define GETP_UNROLL _Pragma("unroll")
#else
#define GETP_UNROLL_4
#define GETP_UNROLL_1
#define GETP_UNROLL
#endif
