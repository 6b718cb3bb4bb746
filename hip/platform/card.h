// The figures of a card that the choice of a kernel depends on (hip/kernels/product_plan.hpp).
#pragma once

struct Card {
  int wave;          // lanes of a wave
  int stream_group;  // threads by which a block of the few-rows product grows: 64 on AMD (gfx11: two waves), a wave on NVIDIA
  bool half_tiles;    // a matrix tile may have 8 rows (MatrixTile::kHalves)
  bool warpgroups;    // four waves can multiply together (wgmma), and there is code for it
  int stages;         // of a product by waves, in shared memory at a time
  int shared_limit;   // bytes of shared memory that a block may have
  bool async_copies;  // to shared memory, past the registers (cp.async)
  bool bulk_copies;   // of a whole stretch, by one thread (cp.async.bulk)
  int processors;     // multiprocessors; no plan of an AMD card asks
};

// MI250, MI300X: MFMA. A second stage waits in registers (stage_registers.h).
constexpr Card kGfx9Card = {64, 64, false, false, 1, 64 << 10, false, false, 0};
// RX 7900, Strix Halo: WMMA, of which two waves have the lanes of one of gfx9.
constexpr Card kGfx11Card = {32, 64, false, false, 1, 64 << 10, false, false, 0};
// NVIDIA from sm_80 on, of which cards other than the data centre's have the least: mma.sync.
constexpr Card kSm80Card = {32, 32, true, false, 4, 99 << 10, true, false, 128};
// H100, H200: wgmma.
constexpr Card kSm90aCard = {32, 32, true, true, 4, 227 << 10, true, true, 132};
