// One header picks the back end from compiler macros alone; nothing outside hip/platform names a vendor.
//   amd     hipcc or clang -x hip: HIP itself
//   nvidia  nvcc: the HIP names this project uses, mapped onto CUDA
//   host    any C++17 compiler: kernels run on the CPU, and are checked while they run
//
// What kernels may use on every back end: the HIP names below hip/platform, and what is our own:
//   GETP_SHARED(type, name, count)   shared memory of a block, `count` elements (a constant expression)
//   group_reduce<N>(value, op)       reduction over aligned groups of N lanes, result in every lane
//   multiply_add(a, b, c)            a * b + c, always rounded the same way
//   GETP_UNROLL_4, _1                before a loop: load four iterations at a time, or one (GPUs)
//   getp_set_lanes(wave, seed)       host: sets wave size and lane order for tests; elsewhere false
//   getp_report_leaks()              host: lists device allocations still alive, returns their bytes; elsewhere 0
#pragma once

#if defined(__HIP__) || defined(__HIPCC__)
#include "amd.h"
#elif defined(__CUDACC__)
#include "nvidia.h"
#else
#include "host.h"
#endif
