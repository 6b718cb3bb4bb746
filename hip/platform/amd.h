// AMD back end: HIP as it is. Only names that every ROCm from 5.2 to 7 has are used.
#pragma once

#include <hip/hip_runtime.h>

#include <cstddef>

#include "gpu_common.h"

inline const char *getp_backend_name() { return "amd"; }
