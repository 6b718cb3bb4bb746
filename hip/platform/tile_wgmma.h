// Products by a warpgroup, four warps that multiply together: wgmma of Hopper (built for sm_90a). Sums lie in the
// registers of each warp as MmaSyncLayout has them, 16 outputs a warp, and so do weights; rows are read from shared
// memory. An instruction takes the same 16 k as one of mma.sync, and sums them to the same bits (matmul_test).
// Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".
#pragma once

#include "tile_layouts.h"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define GETP_WARPGROUP_TILES 1  // warpgroup:: is there
#else
#define GETP_WARPGROUP_TILES 0
#endif

namespace warpgroup {

#if GETP_WARPGROUP_TILES
// Where octet `octet` of 8 k of row `row` lies, in units of 16 bytes: 64 k (128 bytes) a row, 8 rows a KB, aligned to
// that; octets swizzled by the row.
__device__ inline int row_place(int row, int octet) { return row * 8 + (octet ^ row % 8); }

// Where unit `unit` of 32 of weights lies, so that no two lanes of load_weights meet in a bank.
__device__ inline int weight_place(int unit) { return unit ^ unit / 8 % 2 * 2; }

// What a lane takes of weights for an instruction of 16 k: of both octets pair t of outputs g and g + 8, lane 4 * g +
// t, from units of MmaSyncLayout at weight_place.
__device__ inline uint4 load_weights(const uint4 *units, int lane) {
  const uint2 *pair = (const uint2 *)(units + weight_place(lane / 4 * 4 + lane % 4 / 2)) + lane % 2;
  const uint2 *next = (const uint2 *)(units + weight_place(lane / 4 * 4 + 2 + lane % 4 / 2)) + lane % 2;
  return {pair->x, pair->y, next->x, next->y};
}

// The rows at `shared`, as instructions are told: swizzle of 128 bytes, a KB from 8 rows to the next 8. Counts in units
// of 16 bytes: 2 more are the next 16 k.
__device__ inline unsigned long long rows_at(const uint4 *shared) {
  const unsigned address = (unsigned)__cvta_generic_to_shared(shared);
  return (1ull << 62) | (64ull << 32) | (1ull << 16) | (address & 0x3ffff) >> 4;
}
// What instructions read has been written: registers by this warp, shared memory by cp.async that it has waited for.
__device__ inline void fence_registers() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most Pending groups are under way.
template <int Pending>
__device__ inline void wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Sums that an instruction has made, or is to begin with: nothing that uses them moves past this.
template <class Sums, int Strips>
__device__ inline void settle(Sums (&sums)[Strips]) {
  GETP_UNROLL
  for (int i = 0; i < Strips * 8; i++) asm volatile("" : "+f"(sums[i / 8].values[i % 8])::"memory");
}

#define GETP_SUMS(i)                                                                                  \
  "+f"(sums[i].values[0]), "+f"(sums[i].values[1]), "+f"(sums[i].values[2]), "+f"(sums[i].values[3]), \
      "+f"(sums[i].values[4]), "+f"(sums[i].values[5]), "+f"(sums[i].values[6]), "+f"(sums[i].values[7])
#define GETP_WGMMA(n, sum_list, weights_list, rows_operand, keep_operand, ...)                        \
  asm volatile("{.reg .pred keep; setp.ne.b32 keep, " keep_operand                                    \
               ", 0;\n"                                                                               \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.f16.f16 {" sum_list "}, {" weights_list \
               "}, " rows_operand ", keep, 1, 1, 0;}"                                                 \
               : __VA_ARGS__                                                                          \
               : "r"(weights.x), "r"(weights.y), "r"(weights.z), "r"(weights.w), "l"(rows), "r"(keep))

// sums = weights * rows + sums, without the last if not `keep`. All lanes of the warpgroup; `rows` by rows_at, 16 of
// them for each of Strips.
template <class Sums, int Strips>
__device__ inline void multiply_add(Sums (&sums)[Strips], const uint4 &weights, unsigned long long rows, int keep) {
  static_assert(Strips == 2 || Strips == 4 || Strips == 6 || Strips == 8, "rows of an instruction");
  if constexpr (Strips == 2)
    GETP_WGMMA("32",
               "%0,%1,%2,%3,%4,%5,%6,%7,"
               "%8,%9,%10,%11,%12,%13,%14,%15",
               "%16,%17,%18,%19", "%20", "%21", GETP_SUMS(0), GETP_SUMS(1));
  else if constexpr (Strips == 4)
    GETP_WGMMA("64",
               "%0,%1,%2,%3,%4,%5,%6,%7,"
               "%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,"
               "%24,%25,%26,%27,%28,%29,%30,%31",
               "%32,%33,%34,%35", "%36", "%37", GETP_SUMS(0), GETP_SUMS(1), GETP_SUMS(2), GETP_SUMS(3));
  else if constexpr (Strips == 6)
    GETP_WGMMA("96",
               "%0,%1,%2,%3,%4,%5,%6,%7,"
               "%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,"
               "%24,%25,%26,%27,%28,%29,%30,%31,"
               "%32,%33,%34,%35,%36,%37,%38,%39,"
               "%40,%41,%42,%43,%44,%45,%46,%47",
               "%48,%49,%50,%51", "%52", "%53", GETP_SUMS(0), GETP_SUMS(1), GETP_SUMS(2), GETP_SUMS(3), GETP_SUMS(4),
               GETP_SUMS(5));
  else
    GETP_WGMMA("128",
               "%0,%1,%2,%3,%4,%5,%6,%7,"
               "%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,"
               "%24,%25,%26,%27,%28,%29,%30,%31,"
               "%32,%33,%34,%35,%36,%37,%38,%39,"
               "%40,%41,%42,%43,%44,%45,%46,%47,"
               "%48,%49,%50,%51,%52,%53,%54,%55,"
               "%56,%57,%58,%59,%60,%61,%62,%63",
               "%64,%65,%66,%67", "%68", "%69", GETP_SUMS(0), GETP_SUMS(1), GETP_SUMS(2), GETP_SUMS(3), GETP_SUMS(4),
               GETP_SUMS(5), GETP_SUMS(6), GETP_SUMS(7));
}
#undef GETP_WGMMA
#undef GETP_SUMS

#endif
}  // namespace warpgroup
