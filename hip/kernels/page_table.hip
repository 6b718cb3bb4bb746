// page_table: table[places[i]] = pages[i], what a step changes of where slots' pages lie (kv_cache.hpp)
//   grid: blocks over i . block: 256
#pragma once

#include "reduce.hpp"

namespace getp_hip {

__global__ void page_table_kernel(int *table, const int *places, const int *pages, int count) {
  GETP_AFTER_PREVIOUS();
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) table[places[i]] = pages[i];
}

inline void change_pages(int *d_table, const int *d_places, const int *d_pages, int count, hipStream_t stream) {
  HIP_REQUIRE(count > 0);
  HIP_LAUNCH(page_table_kernel, dim3(block_count(count, 256)), dim3(256), stream, d_table, d_places, d_pages, count);
}

}  // namespace getp_hip
