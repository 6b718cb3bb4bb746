// Host back end: kernels run on the CPU, and are checked while they run. A correctness tool of its own; host/ has it:
// host/block.h what it checks in kernels, host/device.h memory and settings, host/runtime.h the runtime's functions.
#pragma once

#include <cstddef>

#include "card.h"
#include "half_bits.h"
#include "host/runtime.h"
#include "host/tile.h"
#include "host/waves.h"
#include "keywords.h"
#include "stage_registers.h"

#define hipLaunchKernelGGL(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(shared_bytes), (void)(stream), getp_host::launch_kernel(#kernel, kernel, grid, block, __VA_ARGS__))

#define GETP_SHARED_STAGES(name, count) GETP_SHARED(uint4, name, count)
constexpr bool kStagesAreDynamic = false, kWarpgroups = false;
template <class Kernel>
void getp_allow_shared(Kernel, size_t) {}

constexpr bool kAsyncCopies = true;  // so that the kernels that are written for them are run

#define GETP_AFTER_PREVIOUS() ((void)0)

// Two groups of 32 lanes: switching between threads costs more than what they do.
constexpr int block_threads(int) { return 64; }

constexpr int kDefaultBatch = 32;  // requests at a time: more would not be faster

inline unsigned short getp_fp16_bits(float value) { return getp_half_bits(value); }
inline float getp_fp16_value(unsigned short bits) { return getp_half_value(bits); }

inline uint4 load_once(const uint4 *from) { return *from; }

// a * b + c, rounded twice: plain x86-64 has no fused form, and a call of fmaf would be slow.
inline float multiply_add(float a, float b, float c) { return a * b + c; }

// That whose tiles are asked for; stages are as on AMD's (stage_registers.h).
inline hipError_t getp_card(Card *card, std::string *) {
  *card = getp_host::options().wave == 64 ? kGfx9Card : getp_host::options().wmma ? kGfx11Card : kSm80Card;
  card->stages = kSharedStages;
  card->bulk_copies = card->async_copies;
  return hipSuccess;
}

inline const char *getp_backend_name() { return "host"; }
inline size_t getp_report_leaks() { return getp_host::memory().report_leaks(); }
inline bool getp_set_lanes(int wave, unsigned long long seed, bool wmma) {
  getp_host::options().wave = wave;
  getp_host::options().seed = seed;
  getp_host::options().wmma = wmma;
  return true;
}
