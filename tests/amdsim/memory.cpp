#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "fault.hpp"

namespace amdsim {

uint64_t memory_base, memory_size;
uint8_t *memory_shadow;

namespace {

constexpr uint64_t kAlignment = 256, kPage = 4096;
constexpr uint64_t kLarge =
    32 << 20;  // from here on a fill is a mapping, so that a page costs memory only once written

using Key = std::pair<MemoryKind, int>;  // kind, device

// Addresses cost nothing, so the guard band behind a block is as wide as the block, within reason: an access that is
// one row or one block too far must not land in a neighbour.
uint64_t guard_of(uint64_t bytes, MemoryKind kind) {
  const bool internal = kind == MemoryKind::kernarg || kind == MemoryKind::scratch;
  return internal ? kAlignment : std::clamp<uint64_t>(bytes, 4 << 10, 1 << 20);
}

// The allocator's state; never destroyed, because work may still run while the program ends.
struct Memory {
  std::mutex mutex;
  uint64_t next = 0;  // first address that no block has used
  std::map<uint64_t, Block> live, freed;
  std::map<std::pair<Key, uint64_t>, std::vector<uint64_t>> reusable;  // kind, device, bytes -> addresses
  std::map<Key, uint64_t> used;
};
Memory &memory = *new Memory;

void *reserve(uint64_t bytes) {
  void *range = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return range == MAP_FAILED ? nullptr : range;
}

// A file of kLarge bytes in memory, the pattern over and over.
int pattern_file(uint32_t pattern) {
  const int file = memfd_create("amdsim", MFD_CLOEXEC);
  const std::vector<uint32_t> words(kLarge / 4, pattern);
  if (file < 0 || write(file, words.data(), kLarge) != (ssize_t)kLarge)
    fault("cannot create a file of %" PRIu64 " bytes in memory", kLarge);
  return file;
}

void fill_words(uint64_t address, uint64_t bytes, uint32_t pattern) {
  std::fill_n((uint32_t *)address, (bytes + 3) / 4, pattern);
}

// Fills memory that starts at a multiple of 4, up to 3 bytes past its end.
template <uint32_t Pattern>
void fill(uint64_t address, uint64_t bytes) {
  uint64_t at = address;
  const uint64_t end = address + bytes;
  if (bytes >= kLarge) {
    static const int file = Pattern ? pattern_file(Pattern) : -1;
    const uint64_t first = (address + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
    fill_words(address, first - address, Pattern);
    for (at = first; at < last;) {
      const uint64_t length = Pattern ? std::min(last - at, kLarge) : last - at;
      const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (Pattern ? 0 : MAP_ANONYMOUS);
      if (mmap((void *)at, length, PROT_READ | PROT_WRITE, flags, file, 0) == MAP_FAILED) break;
      at += length;
    }
  }
  if (at < end) fill_words(at, end - at, Pattern);
}

// Gives whole pages back to the system.
void release(uint64_t address, uint64_t bytes) {
  const uint64_t first = (address + kPage - 1) / kPage * kPage, end = (address + bytes) / kPage * kPage;
  if (bytes >= kLarge)
    fill<0>(first, end - first);
  else if (first < end)
    madvise((void *)first, end - first, MADV_DONTNEED);
}

uint64_t shadow_of(uint64_t address) { return (uint64_t)memory_shadow + ((address - memory_base) >> 3); }

void make_valid(uint64_t address, uint64_t bytes) {
  const uint64_t shadow = shadow_of(address), whole = bytes >> 3;
  fill<0x08080808>(shadow, whole);
  std::memset((void *)(shadow + whole), 0, 4);  // the fill's last word may have reached into the guard band
  *(uint8_t *)(shadow + whole) = bytes & 7;
}

const char *kind_name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::device:
      return "device memory";
    case MemoryKind::host:
      return "pinned host memory";
    case MemoryKind::managed:
      return "managed memory";
    case MemoryKind::code:
      return "code and variables";
    case MemoryKind::kernarg:
      return "kernel arguments";
    case MemoryKind::scratch:
      return "scratch";
  }
  return "memory";
}

std::string count_bytes(uint64_t bytes) { return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

std::string describe_block(const Block &block) {
  char where[64];
  std::snprintf(where, sizeof where, " (0x%" PRIx64 ", device %d)", block.address, block.device);
  return "block of " + count_bytes(block.bytes) + " of " + kind_name(block.kind) + where;
}

// The last block of `blocks` that starts at or before `address`; nullptr when there is none.
const Block *at_or_before(const std::map<uint64_t, Block> &blocks, uint64_t address) {
  auto after = blocks.upper_bound(address);
  return after == blocks.begin() ? nullptr : &std::prev(after)->second;
}

bool holds(const Block *block, uint64_t address) { return block && address - block->address < block->bytes; }

bool used_again(MemoryKind kind) { return kind == MemoryKind::kernarg || kind == MemoryKind::scratch; }

// The mutex is held. Returns the next live block.
std::map<uint64_t, Block>::iterator free_block(std::map<uint64_t, Block>::iterator found) {
  const Block block = found->second;
  memory.used[{block.kind, block.device}] -= block.bytes;
  fill<0>(shadow_of(block.address), (block.bytes + 7) >> 3);
  release(block.address, block.bytes);
  if (used_again(block.kind))
    memory.reusable[{{block.kind, block.device}, block.bytes}].push_back(block.address);
  else
    memory.freed[block.address] = block;
  return memory.live.erase(found);
}

}  // namespace

void memory_init() {
  for (memory_size = uint64_t(1) << 40; memory_size >= uint64_t(1) << 36; memory_size >>= 1) {
    void *range = reserve(memory_size), *shadow = reserve(memory_size >> 3);
    if (range && shadow) {
      memory_base = (uint64_t)range;
      memory_shadow = (uint8_t *)shadow;
      memory.next = memory_base + kPage;
      return;
    }
    if (range) munmap(range, memory_size);
    if (shadow) munmap(shadow, memory_size >> 3);
  }
  fault("cannot reserve 64 GiB of addresses (ulimit -v, vm.overcommit_memory?)");
}

void *memory_allocate(uint64_t bytes, MemoryKind kind, int device) {
  bytes = std::max(bytes, uint64_t(1));
  uint64_t address;
  {
    std::lock_guard lock(memory.mutex);
    std::vector<uint64_t> *again = used_again(kind) ? &memory.reusable[{{kind, device}, bytes}] : nullptr;
    if (again && !again->empty()) {
      address = again->back();
      again->pop_back();
    } else {
      const uint64_t guard = guard_of(bytes, kind);
      // Guard and a page at the end: the shadow of the last block's guard must exist, and no sum may overflow.
      const uint64_t left = memory_base + memory_size - memory.next;
      if (bytes > left || left - bytes < kAlignment + guard + kPage) return nullptr;
      address = memory.next;
      memory.next = (address + bytes + guard + kAlignment - 1) / kAlignment * kAlignment;
    }
    memory.live[address] = {address, bytes, kind, device};
    memory.used[{kind, device}] += bytes;
  }
  fill<kPoison>(address, bytes);
  make_valid(address, bytes);
  return (void *)address;
}

void memory_forbid(uint64_t address, uint64_t bytes) {
  const uint64_t first = (address + 7) & ~uint64_t(7), end = (address + bytes) & ~uint64_t(7);
  if (first < end) std::memset((void *)shadow_of(first), 0, (end - first) >> 3);
}

bool memory_free(void *pointer) {
  std::lock_guard lock(memory.mutex);
  const auto found = memory.live.find((uint64_t)pointer);
  if (found == memory.live.end()) return false;
  free_block(found);
  return true;
}

void memory_free_all(int device) {
  std::lock_guard lock(memory.mutex);
  for (auto block = memory.live.begin(); block != memory.live.end();) {
    const Block &b = block->second;
    block = b.device == device && !used_again(b.kind) ? free_block(block) : std::next(block);
  }
}

bool memory_find(uint64_t address, Block *block) {
  if (address - memory_base >= memory_size) return false;
  std::lock_guard lock(memory.mutex);
  const Block *candidate = at_or_before(memory.live, address);
  if (!holds(candidate, address)) return false;
  *block = *candidate;
  return true;
}

uint64_t memory_used(MemoryKind kind, int device) {
  std::lock_guard lock(memory.mutex);
  const auto found = memory.used.find({kind, device});
  return found == memory.used.end() ? 0 : found->second;
}

std::string memory_describe(uint64_t address, uint64_t bytes) {
  if (address < 1 << 20) return "near the null pointer";
  if (address - memory_base >= memory_size) return "not memory of the device";
  std::lock_guard lock(memory.mutex);
  const Block *before = at_or_before(memory.live, address), *freed = at_or_before(memory.freed, address);
  if (holds(before, address)) {
    const uint64_t inside = before->address + before->bytes - address;
    if (bytes <= inside) return "in a gap between the parts of a " + describe_block(*before);
    return "reaches " + count_bytes(bytes - inside) + " past the end of a " + describe_block(*before);
  }
  if (holds(freed, address)) return "inside a block that was freed: a " + describe_block(*freed);
  // Between blocks: name the nearer one.
  const auto after = memory.live.upper_bound(address);
  const uint64_t past = before ? address - (before->address + before->bytes) : UINT64_MAX;
  const uint64_t short_of = after != memory.live.end() ? after->first - address : UINT64_MAX;
  if (address >= memory.next || past == short_of) return "in memory that was never allocated";
  if (past < short_of) return "reaches " + count_bytes(past + bytes) + " past the end of a " + describe_block(*before);
  return count_bytes(short_of) + " before the start of a " + describe_block(after->second);
}

}  // namespace amdsim
