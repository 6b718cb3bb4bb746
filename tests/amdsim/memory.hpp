// The memory that kernels may touch: device memory, pinned host memory, code, kernel arguments, scratch. All of it lies
// in one reserved range of addresses, with guard bands between the blocks and a shadow byte for every 8 bytes, so that
// one look says whether an access is inside a live block. Addresses that a program gets are never used twice: a stale
// pointer is always caught. (Kernel arguments and scratch, one block a launch, are used again.)
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace amdsim {

// NaN as float, double, half and bfloat16; an implausible index as an integer.
constexpr uint32_t kPoison = 0xFFFAFFFAu;

enum class MemoryKind : uint8_t { device, host, managed, code, kernarg, scratch };

struct Block {
  uint64_t address;
  uint64_t bytes;
  MemoryKind kind;
  int device;
};

// Reserves the range; called once before any other function of this header.
void memory_init();

// A block of `bytes` (0 counts as 1), 256-byte aligned, guard bands of at least 256 bytes on both sides, filled with
// kPoison. Returns nullptr when the range is used up. Thread-safe.
void *memory_allocate(uint64_t bytes, MemoryKind kind, int device);

// Makes a part of a live block invalid: the gaps between the segments of a code object. Whole multiples of 8 bytes.
void memory_forbid(uint64_t address, uint64_t bytes);

// Gives a block back; its addresses stay forbidden. False when `pointer` is not the start of a live block.
bool memory_free(void *pointer);

// Gives all that a program has on a device back, its code included.
void memory_free_all(int device);

// The live block that holds `address`; false when none does.
bool memory_find(uint64_t address, Block *block);

// Bytes of live blocks of one kind on one device.
uint64_t memory_used(MemoryKind kind, int device);

// Where an access that is not valid lies, for messages: "reaches 12 bytes past the end of a block of 256 bytes of
// device memory", "inside a block that was freed: …", "not memory of the device".
std::string memory_describe(uint64_t address, uint64_t bytes);

// Shadow: how many of 8 bytes are valid, from the first on. Pages that nobody touched are zero: nothing is valid there.
// Outside the range every access is invalid.
extern uint64_t memory_base, memory_size;
extern uint8_t *memory_shadow;

// `bytes` at most 64.
inline bool memory_valid(uint64_t address, uint32_t bytes) {
  const uint64_t offset = address - memory_base;
  if (offset >= memory_size - 64) return false;
  const uint64_t last = offset + bytes - 1;
  for (uint64_t granule = offset >> 3; granule < last >> 3; granule++)
    if (memory_shadow[granule] != 8) return false;
  return (last & 7) < memory_shadow[last >> 3];
}

// Whether every byte of a region is in live blocks; false also where only a part of the last 8 bytes is. One look
// instead of one for each access to it.
inline bool memory_all_valid(uint64_t address, uint64_t bytes) {
  const uint64_t offset = address - memory_base;
  if (offset >= memory_size || bytes > memory_size - offset) return false;
  uint8_t differences = 0;
  for (uint64_t granule = offset >> 3; granule <= (offset + bytes - 1) >> 3; granule++)
    differences |= memory_shadow[granule] ^ 8;
  return differences == 0;
}

}  // namespace amdsim
