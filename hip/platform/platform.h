// One header picks the back end from compiler macros alone; nothing outside hip/platform names a vendor.
//   amd     hipcc or clang -x hip: HIP itself
//   nvidia  nvcc: the HIP names this project uses, mapped onto CUDA
//   host    any C++17 compiler: kernels run on the CPU, and are checked while they run
//
// What kernels may use on every back end: the HIP names below hip/platform, and what is our own:
//   GETP_AFTER_PREVIOUS()            in every kernel, before it reads what a kernel writes: what those before it have
//                                    written is there
//   GETP_SHARED(type, name, count)   shared memory of a block, `count` elements (a constant expression)
//   group_reduce<N>(value, op)       reduction over aligned groups of N lanes, result in every lane
//   group_sums<N>(values)            N reductions by addition at once: lane i gets the sum of the group's values[i]
//   multiply_add(a, b, c)            a * b + c, always rounded the same way
//   GETP_UNROLL, _4, _1              before a loop (keywords.h)
//   GETP_SHARED_STAGES(name, count)  shared memory of `count` uint4, at most 64 KB (kStagesAreDynamic: as many bytes as
//                                    HIP_LAUNCH_SHARED gives, which getp_allow_shared(kernel, bytes) has allowed once a
//                                    device), one a kernel
//   StageCopy<N>, kPipelineStages    copies N units of 16 bytes a thread to shared memory, kPipelineStages - 1 stages
//                                    ahead, into kSharedStages places in turn; end is called by the whole block;
//                                    kStageBlocks: blocks of 256
//                                    threads that a multiprocessor is to hold, for __launch_bounds__
//   kWarpgroups                      whether there are cards with products by warpgroups (tile_wgmma.h);
//                                    GETP_WARPGROUP_TILES: 1 in device code for those that are
//   getp_card(card, refusal)         the current device's figures (card.h); refusal: why the program's kernels cannot run
//                                    there, untouched if they can
//   load_once(pointer)               16 bytes of global memory that nobody reads again soon
//   MatrixTile                       16 x 16 sums over 32 k on the matrix cores, by a wave; with_matrix_tile(launch)
//                                    calls launch(tile) with the one to use. A lane holds units of 16 bytes:
//     Operand.units[u]   of weights: unit weight_unit(lane, u) of a KB in which k 2 * pair and the next of an output
//                        are word weight_word(output, pair); of rows: row unit_row(lane, u), quads unit_quad(lane, u, 0
//                        and 1) of k; kOctets: the second follows the first;
//                        kHalves: rows 0 to 7 have the first half of the units, and of Sums.values, for themselves
//     unpack(codes, scales, word)           a unit of weights in MXFP4 as FP16: word `word` of its slot, and the word of
//                                           scales that the slot has (tile_layouts.h)
//     Sums.values[i]     of output output(lane, i) and row row(lane, i)
//     multiply_add(sums, weights, rows)     all lanes of the wave; FP32 sums, k in an order of the card's own
//   getp_set_lanes(wave, seed, wmma) host: sets wave size, lane order and tile layout for tests; elsewhere false
//   block_threads(n)                 of a block whose size any kernel can choose: n on GPUs, few on the host
//   getp_fp16_bits, getp_fp16_value  FP32 to the bits of the nearest FP16 value, and back
//   getp_backend_name()              amd, nvidia or host
//   kDefaultBatch                    requests at a time where nothing else is asked for
//   getp_report_leaks()              host: lists device allocations still alive, returns their bytes; elsewhere 0
#pragma once

#if defined(__HIP__) || defined(__HIPCC__)
#include "amd.h"
#elif defined(__CUDACC__)
#include "nvidia.h"
#else
#include "host.h"
#endif
