// One lane's access to global memory, LDS and scratch, with the checks of the sanitizer and the counts.
#pragma once
#include "isa.hpp"

namespace amdsim {

// AMDSIM_UNALIGNED=1: words at odd addresses are allowed, as ROCm configures the hardware.
extern const bool allow_unaligned;
// AMDSIM_REPORT is set: the memory segments of each access are counted.
extern const bool count_segments;

void global_fault
    [[noreturn]] (const Wave &w, const Op &op, int lane, uint64_t address, uint32_t bytes, const char *what);
void lds_fault [[noreturn]] (const Wave &w, const Op &op, int lane, uint32_t address, uint32_t bytes, const char *what);
void lds_race
    [[noreturn]] (const Wave &w, const Op &op, int lane, uint32_t address, bool writes, int other, const char *did);

inline void check_alignment(const Wave &w, const Op &op, int lane, uint64_t address, uint32_t bytes,
                            const char *space) {
  if ((address & (bytes < 4 ? bytes - 1 : 3)) && !allow_unaligned)
    fault_at(w, op, lane, "misaligned access of %u bytes at %s 0x%llx (AMDSIM_UNALIGNED=1 allows it, as ROCm does)",
             bytes, space, (unsigned long long)address);
}

inline void check_global(const Wave &w, const Op &op, int lane, uint64_t address, uint32_t bytes, const char *what) {
  if (!memory_valid(address, bytes)) [[unlikely]]
    global_fault(w, op, lane, address, bytes, what);
  check_alignment(w, op, lane, address, bytes, "address");
}

// Marks an access of a wave to LDS bytes and finds races: two waves, one of them writing, with no barrier between.
inline void check_lds(Wave &w, const Op &op, int lane, uint32_t address, uint32_t bytes, bool reads, bool writes,
                      bool atomic) {
  Workgroup &group = *w.group;
  if (uint64_t(address) + bytes > group.lds.size()) [[unlikely]]
    lds_fault(w, op, lane, address, bytes, writes ? "write" : "read");
  check_alignment(w, op, lane, address, bytes, "LDS address");
  const uint8_t me = uint8_t(w.number + 1);
  const auto other = [me](uint8_t who) { return who && who != me; };
  const auto joined = [me](uint8_t who) { return who && who != me ? Workgroup::kSeveral : me; };
  for (uint32_t i = 0; i < bytes; i++) {
    Workgroup::LdsShadow &shadow = group.lds_shadow[address + i];
    if (shadow.interval != group.interval) shadow = {group.interval, 0, 0, 0};
    if (other(shadow.writer)) [[unlikely]]
      lds_race(w, op, lane, address + i, writes, shadow.writer, "wrote");
    if (atomic) {
      // An atomic against a plain read is no race: atomic loads compile to plain ones.
      shadow.atomic = joined(shadow.atomic);
      continue;
    }
    if (writes) {
      if (other(shadow.reader)) [[unlikely]]
        lds_race(w, op, lane, address + i, true, shadow.reader, "read");
      if (other(shadow.atomic)) [[unlikely]]
        lds_race(w, op, lane, address + i, true, shadow.atomic, "changed atomically");
      shadow.writer = me;
    }
    if (reads) shadow.reader = joined(shadow.reader);
  }
}

// Where a lane's scratch byte lies: dwords of the lanes side by side, as the hardware swizzles them.
inline uint64_t scratch_address(const Wave &w, int lane, uint32_t offset) {
  return w.scratch + uint64_t(offset / 4) * (4u * uint32_t(w.size)) + uint32_t(lane) * 4 + offset % 4;
}

void scratch_fault [[noreturn]] (const Wave &w, const Op &op, int lane, uint32_t offset, uint32_t bytes);

inline void access_scratch(Wave &w, const Op &op, int lane, uint32_t offset, uint32_t bytes, void *data, bool write) {
  if (uint64_t(offset) + bytes > w.group->scratch_bytes) [[unlikely]]
    scratch_fault(w, op, lane, offset, bytes);
  uint8_t *at = static_cast<uint8_t *>(data);
  if (offset % 4 == 0 && bytes % 4 == 0) {
    for (uint32_t i = 0; i < bytes; i += 4) {
      void *memory = reinterpret_cast<void *>(scratch_address(w, lane, offset + i));
      if (write)
        std::memcpy(memory, at + i, 4);
      else
        std::memcpy(at + i, memory, 4);
    }
    return;
  }
  check_alignment(w, op, lane, offset, bytes, "scratch offset");
  for (uint32_t i = 0; i < bytes; i++) {
    auto *memory = reinterpret_cast<uint8_t *>(scratch_address(w, lane, offset + i));
    if (write)
      *memory = at[i];
    else
      at[i] = *memory;
  }
}

enum class Space { global, lds, scratch };

inline Space space_of_flat(uint64_t address) {
  const uint32_t high = uint32_t(address >> 32);
  return high == kSharedAperture ? Space::lds : high == kPrivateAperture ? Space::scratch : Space::global;
}

inline void read_memory(Wave &w, const Op &op, Space space, int lane, uint64_t address, uint32_t bytes, void *data) {
  switch (space) {
    case Space::global:
      check_global(w, op, lane, address, bytes, "read");
      std::memcpy(data, reinterpret_cast<const void *>(address), bytes);
      break;
    case Space::lds:
      check_lds(w, op, lane, uint32_t(address), bytes, true, false, false);
      std::memcpy(data, &w.group->lds[uint32_t(address)], bytes);
      break;
    case Space::scratch:
      access_scratch(w, op, lane, uint32_t(address), bytes, data, false);
      break;
  }
}

inline void write_memory(Wave &w, const Op &op, Space space, int lane, uint64_t address, uint32_t bytes,
                         const void *data) {
  switch (space) {
    case Space::global:
      check_global(w, op, lane, address, bytes, "write");
      std::memcpy(reinterpret_cast<void *>(address), data, bytes);
      break;
    case Space::lds:
      check_lds(w, op, lane, uint32_t(address), bytes, false, true, false);
      std::memcpy(&w.group->lds[uint32_t(address)], data, bytes);
      break;
    case Space::scratch:
      access_scratch(w, op, lane, uint32_t(address), bytes, const_cast<void *>(data), true);
      break;
  }
}

// How an element in memory becomes a register and back.
enum class Part {
  whole,
  unsigned_small,
  signed_small,
  low_half_unsigned,
  low_half_signed,
  high_half_unsigned,
  high_half_signed
};

template <int Bytes>
uint32_t extended(uint32_t raw, bool sign) {
  if constexpr (Bytes == 1) return sign ? uint32_t(int32_t(int8_t(raw))) : raw & 0xff;
  if constexpr (Bytes == 2) return sign ? uint32_t(int32_t(int16_t(raw))) : raw & 0xffff;
  return raw;
}

template <int Bytes, Part P>
void put_register(Wave &w, int row, int lane, const uint32_t *data) {
  if constexpr (P == Part::whole) {
    for (int i = 0; i < (Bytes + 3) / 4; i++) w.v[row + i][lane] = data[i];
  } else if constexpr (P == Part::unsigned_small || P == Part::signed_small) {
    w.v[row][lane] = extended<Bytes>(data[0], P == Part::signed_small);
  } else {
    const uint32_t value = extended<Bytes>(data[0], P == Part::low_half_signed || P == Part::high_half_signed) & 0xffff;
    uint32_t &to = w.v[row][lane];
    to = P == Part::low_half_unsigned || P == Part::low_half_signed ? (to & 0xffff0000u) | value
                                                                    : (to & 0xffffu) | value << 16;
  }
}

template <int Bytes, bool High>
void get_register(const Wave &w, int row, int lane, uint32_t *data) {
  for (int i = 0; i < (Bytes + 3) / 4; i++) data[i] = w.v[row + i][lane];
  if (High) data[0] >>= 16;
}

}  // namespace amdsim
