// Accesses to global memory, LDS and scratch, with the checks of the sanitizer: of one lane, and of a whole wave at
// once. A check of a whole wave says yes only where the checks of its lanes would; where it does not, they are asked
// one by one, which finds the first that is wrong, if any is.
#pragma once
#include "isa.hpp"

namespace amdsim {

// AMDSIM_UNALIGNED=1: words at odd addresses are allowed, as ROCm configures the hardware.
extern const bool allow_unaligned;

void global_fault
    [[noreturn]] (const Wave &w, const Op &op, int lane, uint64_t address, uint32_t bytes, const char *what);
void lds_fault [[noreturn]] (const Wave &w, const Op &op, int lane, uint32_t address, uint32_t bytes, const char *what);
void lds_race
    [[noreturn]] (const Wave &w, const Op &op, int lane, uint32_t address, bool writes, int other, const char *did);

// The bits of an address that must be zero.
constexpr uint32_t alignment_mask(uint32_t bytes) { return bytes < 4 ? bytes - 1 : 3; }

inline void check_alignment(const Wave &w, const Op &op, int lane, uint64_t address, uint32_t bytes,
                            const char *space) {
  if ((address & alignment_mask(bytes)) && !allow_unaligned)
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
  const auto joined = [me](uint8_t who) { return who && who != me ? LdsShadow::kSeveral : me; };
  LdsShadow &shadow = group.lds_shadow;
  shadow.touch(address, address + bytes);
  for (uint32_t i = address; i < address + bytes; i++) {
    if (other(shadow.writer[i])) [[unlikely]]
      lds_race(w, op, lane, i, writes, shadow.writer[i], "wrote");
    if (atomic) {
      // An atomic against a plain read is no race: atomic loads compile to plain ones.
      shadow.atomic[i] = joined(shadow.atomic[i]);
      continue;
    }
    if (writes) {
      if (other(shadow.reader[i])) [[unlikely]]
        lds_race(w, op, lane, i, true, shadow.reader[i], "read");
      if (other(shadow.atomic[i])) [[unlikely]]
        lds_race(w, op, lane, i, true, shadow.atomic[i], "changed atomically");
      shadow.writer[i] = me;
    }
    if (reads) shadow.reader[i] = joined(shadow.reader[i]);
  }
}

// The same for all active lanes, if none of them is wrong; else nothing is marked that they would not mark.
template <int Bytes, bool Write>
bool check_lds_of_wave(Wave &w, const uint32_t *address) {
  Workgroup &group = *w.group;
  LdsShadow &shadow = group.lds_shadow;
  const int size = w.size;
  uint32_t low = ~0u, high = 0, together = 0;
  for (int l = 0; l < size; l++) {
    low = std::min(low, address[l] | ~w.mask[l]);
    high = std::max(high, address[l] & w.mask[l]);
    together |= address[l] & w.mask[l];
  }
  if (low > high) return true;  // no lane is active
  if (uint64_t(high) + Bytes > group.lds.size()) return false;
  if ((together & alignment_mask(Bytes)) && !allow_unaligned) return false;
  constexpr int kPart = Bytes == 12 ? 4 : Bytes;  // bytes of the shadow at once
  using Who = Pack<uint8_t, kPart>;
  using Vector = typename Who::Vector;
  const Vector nobody = {}, me = nobody + uint8_t(w.number + 1), several = nobody + LdsShadow::kSeveral;
  Vector others = {};
  for (int l = 0; l < size; l++) {
    if (!w.mask[l]) continue;
    for (uint32_t at = address[l]; at < address[l] + Bytes; at += kPart) {
      const Vector writer = Who::load(&shadow.writer[at]), reader = Who::load(&shadow.reader[at]);
      const Vector other_reader = Vector(reader != nobody) & Vector(reader != me);
      others |= Vector(writer != nobody) & Vector(writer != me);
      if (Write) {
        const Vector atomic = Who::load(&shadow.atomic[at]);
        others |= other_reader | (Vector(atomic != nobody) & Vector(atomic != me));
      } else {
        const Vector now = me | (other_reader & several);
        std::memcpy(&shadow.reader[at], &now, kPart);
      }
    }
  }
  if (std::memcmp(&others, &nobody, kPart)) return false;
  if (Write)
    for (int l = 0; l < size; l++)
      if (w.mask[l]) std::memset(&shadow.writer[address[l]], w.number + 1, Bytes);
  shadow.touch(low, high + Bytes);
  return true;
}

template <int Bytes, bool Write>
void check_lds_lanes(Wave &w, const Op &op, const uint32_t *address) {
  if (check_lds_of_wave<Bytes, Write>(w, address)) [[likely]]
    return;
  for (int l = 0; l < w.size; l++)
    if (w.mask[l]) check_lds(w, op, l, address[l], Bytes, !Write, Write, false);
}

// The same for global memory: one look at all that lies between the lowest and the highest address, if that is little.
template <int Bytes>
void check_global_lanes(const Wave &w, const Op &op, const uint64_t *address, const char *what) {
  const int size = w.size;
  uint64_t low = ~0ull, high = 0, together = 0;
  for (int l = 0; l < size; l++) {
    const uint64_t mask = uint64_t(int64_t(int32_t(w.mask[l])));
    low = std::min(low, address[l] | ~mask);
    high = std::max(high, address[l] & mask);
    together |= address[l] & mask;
  }
  if (low > high) return;
  const bool aligned = !(together & alignment_mask(Bytes)) || allow_unaligned;
  if (aligned && high - low <= 4096 && memory_all_valid(low, high - low + Bytes)) return;
  for (int l = 0; l < size; l++)
    if (w.mask[l]) check_global(w, op, l, address[l], Bytes, what);
}

// Where a lane's scratch byte lies: dwords of the lanes side by side, as the hardware swizzles them.
inline uint64_t scratch_address(const Wave &w, int lane, uint32_t offset) {
  return w.scratch + uint64_t(offset / 4) * (4u * uint32_t(w.size)) + uint32_t(lane) * 4 + offset % 4;
}

inline void scratch_written(Wave &w, uint64_t last_byte) {
  w.scratch_end = std::max(w.scratch_end, w.scratch + ((last_byte - w.scratch) | 3) + 1);
}

void scratch_fault [[noreturn]] (const Wave &w, const Op &op, int lane, uint32_t offset, uint32_t bytes);

inline void access_scratch(Wave &w, const Op &op, int lane, uint32_t offset, uint32_t bytes, void *data, bool write) {
  if (uint64_t(offset) + bytes > w.group->scratch_bytes) [[unlikely]]
    scratch_fault(w, op, lane, offset, bytes);
  if (write) scratch_written(w, scratch_address(w, lane, offset + bytes - 1));
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

// Words of one and the same offset in every lane's scratch lie in rows, as registers do.
template <int Bytes, bool Write>
void move_scratch_rows(Wave &w, uint64_t address, int row) {
  if (Write) scratch_written(w, address + uint64_t(w.size) * Bytes - 1);
  for (int i = 0; i < Bytes / 4; i++) {
    auto *memory = reinterpret_cast<uint32_t *>(address) + i * w.size;
    Write ? write_masked(w, memory, w.v[row + i]) : write_masked(w, w.v[row + i], memory);
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

// Between registers and what at(lane) points to, which has been checked.
template <int Bytes, Part P, class At>
void load_lanes(Wave &w, int row, At at) {
  for (int l = 0, size = w.size; l < size; l++) {
    if (!w.mask[l]) continue;
    uint32_t data[(Bytes + 3) / 4] = {};
    std::memcpy(data, at(l), Bytes);
    put_register<Bytes, P>(w, row, l, data);
  }
}

template <int Bytes, bool High, class At>
void store_lanes(const Wave &w, int row, At at) {
  for (int l = 0, size = w.size; l < size; l++) {
    if (!w.mask[l]) continue;
    uint32_t data[(Bytes + 3) / 4];
    get_register<Bytes, High>(w, row, l, data);
    std::memcpy(at(l), data, Bytes);
  }
}

template <int Bytes, Part P>
void load_lds(Wave &w, const Op &op, int row, const uint32_t *address) {
  check_lds_lanes<Bytes, false>(w, op, address);
  const uint8_t *lds = w.group->lds.data();
  load_lanes<Bytes, P>(w, row, [=](int l) { return lds + address[l]; });
}

template <int Bytes, bool High>
void store_lds(Wave &w, const Op &op, int row, const uint32_t *address) {
  check_lds_lanes<Bytes, true>(w, op, address);
  uint8_t *lds = w.group->lds.data();
  store_lanes<Bytes, High>(w, row, [=](int l) { return lds + address[l]; });
}

}  // namespace amdsim
