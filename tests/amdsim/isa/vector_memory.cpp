// Loads, stores and atomics of global, flat, scratch and buffer instructions, and scalar loads.
#include <array>

#include "../report.hpp"
#include "access.hpp"

namespace amdsim {

const bool allow_unaligned = std::getenv("AMDSIM_UNALIGNED") && *std::getenv("AMDSIM_UNALIGNED") == '1';

void global_fault(const Wave &w, const Op &op, int lane, uint64_t address, uint32_t bytes, const char *what) {
  if (address >> 32 == kHostcallAperture)
    fault_at(w, op, lane, "the kernel calls the host (printf, or an assert that failed), which is not modelled");
  fault_at(w, op, lane, "out-of-bounds %s of %u bytes at 0x%llx: %s", what, bytes, (unsigned long long)address,
           memory_describe(address, bytes).c_str());
}

void scratch_fault(const Wave &w, const Op &op, int lane, uint32_t offset, uint32_t bytes) {
  fault_at(w, op, lane, "out-of-bounds access of %u bytes at scratch offset %d: the kernel has %u bytes a lane", bytes,
           int32_t(offset), w.group->scratch_bytes);
}

namespace {

// The address of a lane that is past a buffer's records: it loads zero and stores nothing.
constexpr uint64_t kOutOfBuffer = ~0ull;

uint64_t address_of(const Wave &w, const Operand &operand, int lane) {
  return uint64_t(w.v[operand.index + 1][lane]) << 32 | w.v[operand.index][lane];
}

void count_access(Wave &w, const uint64_t *address, uint32_t bytes, bool write) {
  Counts &counts = *w.counts;
  uint64_t total = 0;
  // Distinct segments of one access: few, so a linear list is quickest.
  uint64_t seen64[2 * kLanes * 2], seen128[2 * kLanes * 2];
  int n64 = 0, n128 = 0;
  const auto add = [&](uint64_t *seen, int &n, uint64_t segment) {
    for (int i = n - 1; i >= 0; i--)
      if (seen[i] == segment) return;
    seen[n++] = segment;
    if (seen == seen64 && first_touch(segment << 6, w.group->launch)) counts.footprint += 64;
  };
  for (int l = 0; l < w.size; l++) {
    if (!w.mask[l] || space_of_flat(address[l]) != Space::global) continue;
    total += bytes;
    add(seen64, n64, address[l] >> 6);
    if ((address[l] + bytes - 1) >> 6 != address[l] >> 6) add(seen64, n64, (address[l] + bytes - 1) >> 6);
    add(seen128, n128, address[l] >> 7);
    if ((address[l] + bytes - 1) >> 7 != address[l] >> 7) add(seen128, n128, (address[l] + bytes - 1) >> 7);
  }
  (write ? counts.global_bytes_written : counts.global_bytes_read) += total;
  counts.segments64 += uint64_t(n64);
  counts.segments128 += uint64_t(n128);
}

enum class Form { global, flat, scratch, buffer };

// `place`: the first address operand in the text. Global: vaddr, [data,] saddr or off. Flat: vaddr. Scratch: vaddr or
// off, [data,] saddr or off. Buffer: vaddr or off, descriptor, soffset, after the data.
template <Form F>
Space addresses(Wave &w, const Op &op, int place, int scalar_place, uint64_t *out) {
  if constexpr (F == Form::flat) {
    for (int l = 0; l < w.size; l++) out[l] = address_of(w, op.operand[place], l) + int64_t(op.offset);
  } else if constexpr (F == Form::global) {
    const Operand &base = op.operand[scalar_place];
    if (base.kind == Operand::off || base.index == kNull) {
      for (int l = 0; l < w.size; l++) out[l] = address_of(w, op.operand[place], l) + int64_t(op.offset);
    } else {
      const uint64_t from = read_scalar64(w, base.index) + int64_t(op.offset);
      for (int l = 0; l < w.size; l++) out[l] = from + w.v[op.operand[place].index][l];
    }
  } else if constexpr (F == Form::scratch) {
    const Operand &vector = op.operand[place], &base = op.operand[scalar_place];
    const uint32_t from = uint32_t(op.offset) + (base.kind == Operand::scalar ? w.read_scalar(base.index) : 0);
    for (int l = 0; l < w.size; l++)
      out[l] = uint32_t(from + (vector.kind == Operand::vector ? w.v[vector.index][l] : 0));
    return Space::scratch;
  } else {
    // Descriptor: base address (48 bits), stride, number of records, swizzling (ISA document, "Buffer Resource
    // Descriptor").
    const Operand &vector = op.operand[place], &descriptor = op.operand[place + 1], &offset = op.operand[place + 2];
    uint32_t d[4];
    for (int i = 0; i < 4; i++) d[i] = w.read_scalar(descriptor.index + i);
    const uint64_t base = (uint64_t(d[1] & 0xffff) << 32 | d[0]) +
                          (offset.kind == Operand::constant ? uint32_t(offset.bits) : w.read_scalar(offset.index));
    if (op.index_in_register || (d[1] >> 16 & 0x3fff))
      fault_at(w, op, -1, "buffers with an index or a stride are not implemented");
    const bool swizzle = d[1] >> 31, add_lane = d[3] >> 23 & 1;
    const uint32_t element = 2u << (d[3] >> 19 & 3), index_stride = 8u << (d[3] >> 21 & 3);
    if (swizzle && (!add_lane || element != 4 || index_stride != uint32_t(w.size)))
      fault_at(w, op, 0, "this swizzle of a buffer is not implemented");
    for (int l = 0; l < w.size; l++) {
      const uint32_t at = uint32_t(op.offset) + (op.offset_in_register ? w.v[vector.index][l] : 0);
      if (swizzle)
        out[l] = base + uint64_t(at / 4) * 4u * uint32_t(w.size) + uint32_t(l) * 4 + at % 4;
      else
        out[l] = at < d[2] ? base + at : kOutOfBuffer;
    }
  }
  return Space::global;
}

// Private memory reached through the descriptor that the runtime sets up: each dword of a lane lies apart from the
// next.
bool in_own_scratch(const Wave &w, uint64_t address) {
  return address >= w.scratch && address < w.scratch + uint64_t(w.group->scratch_bytes) * uint32_t(w.size);
}

template <Form F, int Bytes, bool Write>
void move_lane(Wave &w, const Op &op, Space space, int l, uint64_t address, uint32_t *data) {
  if constexpr (F == Form::flat) space = space_of_flat(address);
  if constexpr (F == Form::buffer) {
    if (address == kOutOfBuffer) {
      if (!Write) std::memset(data, 0, (Bytes + 3) / 4 * 4);
      return;
    }
    if (in_own_scratch(w, address)) {
      for (int i = 0; i < (Bytes + 3) / 4; i++) {
        const uint64_t at = address + uint64_t(i) * 4u * uint32_t(w.size);
        if (!in_own_scratch(w, at)) scratch_fault(w, op, l, uint32_t((at - w.scratch) / uint32_t(w.size)), Bytes);
        const uint32_t count = Bytes < 4 ? Bytes : 4;
        if (Write) scratch_written(w, at + count - 1);
        if (Write)
          std::memcpy(reinterpret_cast<void *>(at), data + i, count);
        else
          std::memcpy(data + i, reinterpret_cast<void *>(at), count);
      }
      return;
    }
    // Outside of this wave's part, though maybe inside another's: no kernel's pointer may do that.
    Block block;
    if (memory_find(address, &block) && block.kind == MemoryKind::scratch)
      scratch_fault(w, op, l, uint32_t((int64_t(address - w.scratch)) / w.size), Bytes);
  }
  if (Write)
    write_memory(w, op, space, l, address, Bytes, data);
  else
    read_memory(w, op, space, l, address, Bytes, data);
}

// How the active lanes' accesses can be done together: all of them in one space, or in rows of their scratch, which
// begin at `scratch`. `several`: one lane after the other.
struct Together {
  enum { global, lds, rows, several } how;
  uint64_t scratch = 0;
};

template <Form F, int Bytes>
Together together(const Wave &w, const uint64_t *address) {
  if constexpr (F == Form::global) return {Together::global};
  if (!w.exec()) return {Together::several};
  if constexpr (F == Form::buffer) {
    // The descriptor of private memory puts the lanes' words side by side.
    uint64_t differences = address[0] & 3;
    for (int l = 0; l < w.size; l++) differences |= address[l] ^ (address[0] + 4u * uint32_t(l));
    const uint64_t last = address[0] + Bytes / 4 * 4u * uint32_t(w.size) - 1;
    const bool rows = Bytes % 4 == 0 && !differences && in_own_scratch(w, address[0]) && in_own_scratch(w, last);
    return {rows ? Together::rows : Together::several, address[0]};
  }
  const uint64_t first = address[std::countr_zero(w.exec())];
  uint64_t differences = 0;
  for (int l = 0; l < w.size; l++) differences |= (address[l] ^ first) & uint64_t(int64_t(int32_t(w.mask[l])));
  const uint32_t offset = uint32_t(first);
  const Space space = F == Form::scratch ? Space::scratch : space_of_flat(first);
  if (space == Space::scratch) {
    const bool rows =
        Bytes % 4 == 0 && !differences && offset % 4 == 0 && uint64_t(offset) + Bytes <= w.group->scratch_bytes;
    return {rows ? Together::rows : Together::several, scratch_address(w, 0, offset)};
  }
  if (differences >> 32) return {Together::several};
  return {space == Space::lds ? Together::lds : Together::global};
}

template <Form F, int Bytes, Part P>
void load(Wave &w, const Op &op) {
  uint64_t address[kLanes];
  const Space space = addresses<F>(w, op, 1, 2, address);
  if (counting && F != Form::scratch && F != Form::buffer) count_access(w, address, Bytes, false);
  const int row = op.operand[0].index;
  const Together at = together<F, Bytes>(w, address);
  if (at.how == Together::global) {
    check_global_lanes<Bytes>(w, op, address, "read");
    load_lanes<Bytes, P>(w, row, [&](int l) { return reinterpret_cast<const void *>(address[l]); });
  } else if (at.how == Together::lds) {
    uint32_t low[kLanes];
    std::copy_n(address, kLanes, low);
    load_lds<Bytes, P>(w, op, row, low);
  } else if (at.how == Together::rows) {
    move_scratch_rows<Bytes, false>(w, at.scratch, row);
  } else {
    for (int l = 0; l < w.size; l++) {
      if (!w.mask[l]) continue;
      uint32_t data[4] = {};
      move_lane<F, Bytes, false>(w, op, space, l, address[l], data);
      put_register<Bytes, P>(w, row, l, data);
    }
  }
}

template <Form F, int Bytes, bool High>
void store(Wave &w, const Op &op) {
  uint64_t address[kLanes];
  // Buffer stores name the data first, the others the address.
  constexpr int address_place = F == Form::buffer ? 1 : 0, data_place = F == Form::buffer ? 0 : 1;
  const Space space = addresses<F>(w, op, address_place, 2, address);
  if (counting && F != Form::scratch && F != Form::buffer) count_access(w, address, Bytes, true);
  const int row = op.operand[data_place].index;
  const Together at = together<F, Bytes>(w, address);
  if (at.how == Together::global) {
    check_global_lanes<Bytes>(w, op, address, "write");
    store_lanes<Bytes, High>(w, row, [&](int l) { return reinterpret_cast<void *>(address[l]); });
  } else if (at.how == Together::lds) {
    uint32_t low[kLanes];
    std::copy_n(address, kLanes, low);
    store_lds<Bytes, High>(w, op, row, low);
  } else if (at.how == Together::rows) {
    move_scratch_rows<Bytes, true>(w, at.scratch, row);
  } else {
    for (int l = 0; l < w.size; l++) {
      if (!w.mask[l]) continue;
      uint32_t data[4];
      get_register<Bytes, High>(w, row, l, data);
      move_lane<F, Bytes, true>(w, op, space, l, address[l], data);
    }
  }
}

// --- atomics: T is the type in memory; F combines memory and operand

template <Form Fm, class T, class F>
void atomic(Wave &w, const Op &op) {
  uint64_t address[kLanes] = {};
  const int first = op.returns ? 1 : 0;
  const Space space = addresses<Fm>(w, op, first, first + 2, address);
  if (counting) count_access(w, address, sizeof(T), true);
  const Operand &source = op.operand[first + 1];
  using B = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  const auto word = [&](int at, int l) {
    const int row = source.index + at * int(sizeof(T) / 4);
    if constexpr (sizeof(T) == 8)
      return B(uint64_t(w.v[row + 1][l]) << 32 | w.v[row][l]);
    else
      return B(w.v[row][l]);
  };
  for (int l = 0; l < w.size; l++) {
    if (!w.mask[l]) continue;
    const Space where = Fm == Form::flat ? space_of_flat(address[l]) : space;
    if (address[l] % sizeof(T))
      fault_at(w, op, l, "misaligned atomic of %zu bytes at 0x%llx", sizeof(T), (unsigned long long)address[l]);
    const B data = word(0, l);
    const B second = source.words > int(sizeof(T) / 4) ? word(1, l) : 0;
    B *memory;
    if (where == Space::global) {
      check_global(w, op, l, address[l], sizeof(T), "atomic");
      memory = reinterpret_cast<B *>(address[l]);
    } else if (where == Space::lds) {
      check_lds(w, op, l, uint32_t(address[l]), sizeof(T), true, true, true);
      memory = reinterpret_cast<B *>(&w.group->lds[uint32_t(address[l])]);
    } else {
      fault_at(w, op, l, "an atomic on scratch");
    }
    B old = __atomic_load_n(memory, __ATOMIC_SEQ_CST), now;
    do {
      now = std::bit_cast<B>(F{}(std::bit_cast<T>(old), std::bit_cast<T>(data), std::bit_cast<T>(second)));
    } while (!__atomic_compare_exchange_n(memory, &old, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (op.returns) {
      w.v[op.operand[0].index][l] = uint32_t(old);
      if constexpr (sizeof(T) == 8) w.v[op.operand[0].index + 1][l] = uint32_t(uint64_t(old) >> 32);
    }
  }
}

template <class T, class F>
void define_atomic(const std::string &name, F) {
  define("global_atomic_" + name, Class::vector_memory, atomic<Form::global, T, F>, atomic<Form::global, T, F>);
  define("flat_atomic_" + name, Class::vector_memory, atomic<Form::flat, T, F>, atomic<Form::flat, T, F>);
}

using u32 = uint32_t;
using u64 = uint64_t;

template <class T>
void define_integer_atomics(const std::vector<std::array<std::string, 2>> &names) {
  using S = std::make_signed_t<T>;
  for (const auto &[operation, name] : names) {
    if (operation == "swap") define_atomic<T>(name, [](T, T data, T) { return data; });
    if (operation == "cmpswap")
      define_atomic<T>(name, [](T old, T data, T expected) { return old == expected ? data : old; });
    if (operation == "add") define_atomic<T>(name, [](T old, T data, T) { return T(old + data); });
    if (operation == "sub") define_atomic<T>(name, [](T old, T data, T) { return T(old - data); });
    if (operation == "smin") define_atomic<T>(name, [](T old, T data, T) { return S(old) < S(data) ? old : data; });
    if (operation == "smax") define_atomic<T>(name, [](T old, T data, T) { return S(old) > S(data) ? old : data; });
    if (operation == "umin") define_atomic<T>(name, [](T old, T data, T) { return old < data ? old : data; });
    if (operation == "umax") define_atomic<T>(name, [](T old, T data, T) { return old > data ? old : data; });
    if (operation == "and") define_atomic<T>(name, [](T old, T data, T) { return T(old & data); });
    if (operation == "or") define_atomic<T>(name, [](T old, T data, T) { return T(old | data); });
    if (operation == "xor") define_atomic<T>(name, [](T old, T data, T) { return T(old ^ data); });
    if (operation == "inc") define_atomic<T>(name, [](T old, T data, T) { return old >= data ? T(0) : T(old + 1); });
    if (operation == "dec")
      define_atomic<T>(name, [](T old, T data, T) { return old == 0 || old > data ? data : T(old - 1); });
  }
}

template <Form F>
void define_loads_and_stores(const std::string &space) {
  const auto both = [](const std::string &name, Handler run) { define(name, Class::vector_memory, run, run); };
  const auto two = [&](const std::string &gfx9, const std::string &gfx11, Handler run) {
    both(space + gfx9, run);
    if (!gfx11.empty() && gfx11 != gfx9) both(space + gfx11, run);
  };
  two("_load_ubyte", "_load_u8", load<F, 1, Part::unsigned_small>);
  two("_load_sbyte", "_load_i8", load<F, 1, Part::signed_small>);
  two("_load_ushort", "_load_u16", load<F, 2, Part::unsigned_small>);
  two("_load_sshort", "_load_i16", load<F, 2, Part::signed_small>);
  two("_load_dword", "_load_b32", load<F, 4, Part::whole>);
  two("_load_dwordx2", "_load_b64", load<F, 8, Part::whole>);
  two("_load_dwordx3", "_load_b96", load<F, 12, Part::whole>);
  two("_load_dwordx4", "_load_b128", load<F, 16, Part::whole>);
  two("_load_ubyte_d16", "_load_d16_u8", load<F, 1, Part::low_half_unsigned>);
  two("_load_ubyte_d16_hi", "_load_d16_hi_u8", load<F, 1, Part::high_half_unsigned>);
  two("_load_sbyte_d16", "_load_d16_i8", load<F, 1, Part::low_half_signed>);
  two("_load_sbyte_d16_hi", "_load_d16_hi_i8", load<F, 1, Part::high_half_signed>);
  two("_load_short_d16", "_load_d16_b16", load<F, 2, Part::low_half_unsigned>);
  two("_load_short_d16_hi", "_load_d16_hi_b16", load<F, 2, Part::high_half_unsigned>);
  two("_store_byte", "_store_b8", store<F, 1, false>);
  two("_store_short", "_store_b16", store<F, 2, false>);
  two("_store_byte_d16_hi", "_store_d16_hi_b8", store<F, 1, true>);
  two("_store_short_d16_hi", "_store_d16_hi_b16", store<F, 2, true>);
  two("_store_dword", "_store_b32", store<F, 4, false>);
  two("_store_dwordx2", "_store_b64", store<F, 8, false>);
  two("_store_dwordx3", "_store_b96", store<F, 12, false>);
  two("_store_dwordx4", "_store_b128", store<F, 16, false>);
}

// --- scalar loads

template <int Words>
void scalar_load(Wave &w, const Op &op) {
  uint64_t address = read_scalar64(w, op.operand[1].index);
  const Operand &offset = op.operand[2];
  if (offset.kind == Operand::constant)
    address += int64_t(offset.bits << 43) >> 43;  // 21 bits, signed
  else if (offset.kind == Operand::scalar)
    address += w.read_scalar(offset.index);
  address += int64_t(op.offset);
  if (address & 3) fault_at(w, op, -1, "misaligned scalar load at 0x%llx", (unsigned long long)address);
  if (!memory_valid(address, 4 * Words)) global_fault(w, op, -1, address, 4 * Words, "scalar read");
  uint32_t data[Words];
  std::memcpy(data, reinterpret_cast<const void *>(address), sizeof data);
  if (Words == 1) {
    w.write_scalar(op.operand[0].index, data[0]);
    return;
  }
  for (int i = 0; i < Words; i += 2) write_scalar64(w, op.operand[0].index + i, uint64_t(data[i + 1]) << 32 | data[i]);
}

// Through a buffer descriptor without stride: base address and bytes.
template <int Words>
void scalar_buffer_load(Wave &w, const Op &op) {
  const int descriptor = op.operand[1].index;
  const Operand &offset = op.operand[2];
  const uint32_t at =
      (offset.kind == Operand::constant ? uint32_t(offset.bits) : w.read_scalar(offset.index)) + uint32_t(op.offset);
  const uint64_t base = uint64_t(w.read_scalar(descriptor + 1) & 0xffff) << 32 | w.read_scalar(descriptor);
  if (w.read_scalar(descriptor + 1) >> 16 & 0x3fff) fault_at(w, op, -1, "buffers with a stride are not implemented");
  const uint64_t address = base + (at & ~3u);
  if (uint64_t(at) + 4 * Words > w.read_scalar(descriptor + 2))
    fault_at(w, op, -1, "scalar read at offset %u of a buffer of %u bytes", at, w.read_scalar(descriptor + 2));
  if (!memory_valid(address, 4 * Words)) global_fault(w, op, -1, address, 4 * Words, "scalar read");
  for (int i = 0; i < Words; i++)
    w.write_scalar(op.operand[0].index + i, reinterpret_cast<const uint32_t *>(address)[i]);
}

}  // namespace

void define_memory() {
  define_loads_and_stores<Form::global>("global");
  define_loads_and_stores<Form::flat>("flat");
  define_loads_and_stores<Form::scratch>("scratch");
  define_loads_and_stores<Form::buffer>("buffer");
  for (const char *name :
       {"swap", "add", "sub", "smin", "smax", "umin", "umax", "and", "or", "xor", "inc", "dec", "cmpswap"}) {
    const std::string n = name;
    const std::string gfx11 = n == "smin"                                            ? "min_i"
                              : n == "smax"                                          ? "max_i"
                              : n == "umin"                                          ? "min_u"
                              : n == "umax"                                          ? "max_u"
                              : n == "add" || n == "sub" || n == "inc" || n == "dec" ? n + "_u"
                                                                                     : n + "_b";
    define_integer_atomics<u32>({{n, n}, {n, gfx11 + "32"}});
    define_integer_atomics<u64>({{n, n + "_x2"}, {n, gfx11 + "64"}});
  }
  define_atomic<float>("add_f32", [](float old, float data, float) { return old + data; });
  define_atomic<double>("add_f64", [](double old, double data, double) { return old + data; });
  define_atomic<float>("min_f32", [](float old, float data, float) { return data < old || old != old ? data : old; });
  define_atomic<float>("max_f32", [](float old, float data, float) { return data > old || old != old ? data : old; });
  define_atomic<double>("min_f64",
                        [](double old, double data, double) { return data < old || old != old ? data : old; });
  define_atomic<double>("max_f64",
                        [](double old, double data, double) { return data > old || old != old ? data : old; });
  define_atomic<u32>("pk_add_f16", [](u32 old, u32 data, u32) {
    u32 sum = 0;
    for (int i = 0; i < 32; i += 16)
      sum |= u32(Half::from(Half{uint16_t(old >> i)}.value() + Half{uint16_t(data >> i)}.value()).bits) << i;
    return sum;
  });
  define_atomic<u32>("pk_add_bf16", [](u32 old, u32 data, u32) { return packed_bf16_sum(old, data); });
  const auto scalar = [](const char *gfx9, const char *gfx11, Handler run) {
    for (const char *name : {gfx9, gfx11}) {
      Definition &d = define(name, Class::scalar_memory, run, run);
      d.prepare = [](Op &op) { type_constant<uint64_t>(op, 2); };
    }
  };
  scalar("s_buffer_load_dword", "s_buffer_load_b32", scalar_buffer_load<1>);
  scalar("s_buffer_load_dwordx2", "s_buffer_load_b64", scalar_buffer_load<2>);
  scalar("s_buffer_load_dwordx4", "s_buffer_load_b128", scalar_buffer_load<4>);
  scalar("s_buffer_load_dwordx8", "s_buffer_load_b256", scalar_buffer_load<8>);
  scalar("s_buffer_load_dwordx16", "s_buffer_load_b512", scalar_buffer_load<16>);
  scalar("s_load_dword", "s_load_b32", scalar_load<1>);
  scalar("s_load_dwordx2", "s_load_b64", scalar_load<2>);
  scalar("s_load_dwordx4", "s_load_b128", scalar_load<4>);
  scalar("s_load_dwordx8", "s_load_b256", scalar_load<8>);
  scalar("s_load_dwordx16", "s_load_b512", scalar_load<16>);
}

}  // namespace amdsim
