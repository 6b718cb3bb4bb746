// The words of device code on the CPU.
#pragma once

#include <cmath>

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

#define __syncthreads() getp_host::current_block->barrier(__FILE__, __LINE__)

// Shared memory: the declaration is told from others by the address of a static, one for each template instance.
#define GETP_SHARED(type, name, count) \
  static char name##_site;             \
  type *const name = (type *)getp_host::current_block->shared(&name##_site, #name, sizeof(type) * (count))
