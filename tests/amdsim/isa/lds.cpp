// LDS instructions (ds_…), with bank conflicts counted and races found.
#include "../report.hpp"
#include "access.hpp"

namespace amdsim {

void lds_fault(const Wave &w, const Op &op, int lane, uint32_t address, uint32_t bytes, const char *what) {
  fault_at(w, op, lane, "out-of-bounds %s of %u bytes at LDS address %d: the group has %zu bytes", what, bytes,
           int32_t(address), w.group->lds.size());
}

void lds_race(const Wave &w, const Op &op, int lane, uint32_t address, bool writes, int other, const char *did) {
  const std::string who = other == LdsShadow::kSeveral ? "more than one wave" : "wave " + std::to_string(other - 1);
  fault_at(w, op, lane, "LDS race: wave %d %s byte %u, which %s %s since the last barrier", w.number,
           writes ? "writes" : "reads", address, who.c_str(), did);
}

namespace {

// Cycles that 32 banks of 4 bytes need for one instruction. 32 lanes (16 for 64 bits, 8 for 128) go at once; lanes that
// read the same word share it. A model, declared in docs/AMDSIM.md.
void count_banks(Wave &w, const uint32_t *address, uint32_t bytes) {
  const int words = int(bytes + 3) / 4, at_once = std::max(1, 32 / std::max(1, words));
  uint64_t cycles = 0, least = 0;
  for (int first = 0; first < w.size; first += at_once) {
    uint32_t seen[32][32];
    int depth[32] = {}, deepest = 0;
    for (int l = first; l < first + at_once && l < w.size; l++) {
      if (!w.mask[l]) continue;
      for (int k = 0; k < words; k++) {
        const uint32_t word = address[l] / 4 + uint32_t(k), bank = word & 31;
        bool known = false;
        for (int i = 0; i < depth[bank]; i++) known |= seen[bank][i] == word;
        if (!known) seen[bank][depth[bank]++] = word;
        deepest = std::max(deepest, depth[bank]);
      }
    }
    cycles += uint64_t(deepest);
    least += deepest > 0;
  }
  w.counts->lds_cycles += cycles;
  w.counts->lds_conflict_cycles += cycles - least;
}

template <int Bytes, Part P>
void load(Wave &w, const Op &op) {
  uint32_t address[kLanes];
  for (int l = 0; l < w.size; l++) address[l] = w.v[op.operand[1].index][l] + uint32_t(op.offset);
  if (counting) count_banks(w, address, Bytes);
  load_lds<Bytes, P>(w, op, op.operand[0].index, address);
}

template <int Bytes, bool High>
void store(Wave &w, const Op &op) {
  uint32_t address[kLanes];
  for (int l = 0; l < w.size; l++) address[l] = w.v[op.operand[0].index][l] + uint32_t(op.offset);
  if (counting) count_banks(w, address, Bytes);
  store_lds<Bytes, High>(w, op, op.operand[1].index, address);
}

// Two addresses a lane; a fault is that of the first lane that has one.
template <int Bytes, bool Write>
void check_both(Wave &w, const Op &op, const uint32_t (&address)[2][kLanes]) {
  if (check_lds_of_wave<Bytes, Write>(w, address[0]) && check_lds_of_wave<Bytes, Write>(w, address[1])) return;
  for (int l = 0; l < w.size; l++)
    for (int i = 0; i < 2; i++)
      if (w.mask[l]) check_lds(w, op, l, address[i][l], Bytes, !Write, Write, false);
}

template <int Bytes, int Stride>
void load2(Wave &w, const Op &op) {
  uint32_t address[2][kLanes];
  for (int l = 0; l < w.size; l++) {
    const uint32_t base = w.v[op.operand[1].index][l];
    address[0][l] = base + uint32_t(op.offset0) * Bytes * Stride;
    address[1][l] = base + uint32_t(op.offset1) * Bytes * Stride;
  }
  for (int i = 0; i < 2; i++)
    if (counting) count_banks(w, address[i], Bytes);
  check_both<Bytes, false>(w, op, address);
  const uint8_t *lds = w.group->lds.data();
  for (int i = 0; i < 2; i++)
    load_lanes<Bytes, Part::whole>(w, op.operand[0].index + i * Bytes / 4, [&](int l) { return lds + address[i][l]; });
}

template <int Bytes, int Stride>
void store2(Wave &w, const Op &op) {
  uint32_t address[2][kLanes];
  for (int l = 0; l < w.size; l++) {
    const uint32_t base = w.v[op.operand[0].index][l];
    address[0][l] = base + uint32_t(op.offset0) * Bytes * Stride;
    address[1][l] = base + uint32_t(op.offset1) * Bytes * Stride;
  }
  for (int i = 0; i < 2; i++)
    if (counting) count_banks(w, address[i], Bytes);
  check_both<Bytes, true>(w, op, address);
  for (int l = 0; l < w.size; l++)
    for (int i = 0; i < 2; i++) {
      if (!w.mask[l]) continue;
      uint32_t data[2];
      get_register<Bytes, false>(w, op.operand[1 + i].index, l, data);
      std::memcpy(&w.group->lds[address[i][l]], data, Bytes);
    }
}

// Operands: [destination,] address, data [, second data]. F(memory, data, second) is the new value.
template <class T, class F, bool Returns>
void atomic(Wave &w, const Op &op) {
  using B = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  constexpr int first = Returns ? 1 : 0;
  const auto word = [&](const Operand &operand, int l) {
    if constexpr (sizeof(T) == 8)
      return B(uint64_t(w.v[operand.index + 1][l]) << 32 | w.v[operand.index][l]);
    else
      return B(w.v[operand.index][l]);
  };
  for (int l = 0; l < w.size; l++) {
    if (!w.mask[l]) continue;
    const uint32_t address = w.v[op.operand[first].index][l] + uint32_t(op.offset);
    if (address % sizeof(T)) fault_at(w, op, l, "misaligned atomic of %zu bytes at LDS address %u", sizeof(T), address);
    check_lds(w, op, l, address, sizeof(T), true, true, true);
    const B data = word(op.operand[first + 1], l);
    const B second = op.operands > first + 2 ? word(op.operand[first + 2], l) : 0;
    B old;
    std::memcpy(&old, &w.group->lds[address], sizeof old);
    const B now = std::bit_cast<B>(F{}(std::bit_cast<T>(old), std::bit_cast<T>(data), std::bit_cast<T>(second)));
    std::memcpy(&w.group->lds[address], &now, sizeof now);
    if (Returns) {
      w.v[op.operand[0].index][l] = uint32_t(old);
      if constexpr (sizeof(T) == 8) w.v[op.operand[0].index + 1][l] = uint32_t(uint64_t(old) >> 32);
    }
  }
}

template <class T, class F>
void define_atomic(const std::string &operation, const std::string &type, F) {
  define("ds_" + operation + "_" + type, Class::lds, atomic<T, F, false>, atomic<T, F, false>);
  define("ds_" + operation + "_rtn_" + type, Class::lds, atomic<T, F, true>, atomic<T, F, true>);
}

template <class T>
void define_integer_atomics(const std::string &u, const std::string &i, const std::string &b) {
  using S = std::make_signed_t<T>;
  define_atomic<T>("add", u, [](T old, T data, T) { return T(old + data); });
  define_atomic<T>("sub", u, [](T old, T data, T) { return T(old - data); });
  define_atomic<T>("rsub", u, [](T old, T data, T) { return T(data - old); });
  define_atomic<T>("inc", u, [](T old, T data, T) { return old >= data ? T(0) : T(old + 1); });
  define_atomic<T>("dec", u, [](T old, T data, T) { return old == 0 || old > data ? data : T(old - 1); });
  define_atomic<T>("min", u, [](T old, T data, T) { return old < data ? old : data; });
  define_atomic<T>("max", u, [](T old, T data, T) { return old > data ? old : data; });
  define_atomic<T>("min", i, [](T old, T data, T) { return S(old) < S(data) ? old : data; });
  define_atomic<T>("max", i, [](T old, T data, T) { return S(old) > S(data) ? old : data; });
  define_atomic<T>("and", b, [](T old, T data, T) { return T(old & data); });
  define_atomic<T>("or", b, [](T old, T data, T) { return T(old | data); });
  define_atomic<T>("xor", b, [](T old, T data, T) { return T(old ^ data); });
  define_atomic<T>("mskor", b, [](T old, T mask, T data) { return T((old & ~mask) | data); });
  // gfx9 names the expected value first, gfx11 the new one.
  define_atomic<T>("cmpst", b, [](T old, T expected, T data) { return old == expected ? data : old; });
  define_atomic<T>("cmpstore", b, [](T old, T data, T expected) { return old == expected ? data : old; });
  const auto exchange = [](T, T data, T) { return data; };
  using X = decltype(exchange);
  define("ds_wrxchg_rtn_" + b, Class::lds, atomic<T, X, true>, atomic<T, X, true>);
  define("ds_storexchg_rtn_" + b, Class::lds, atomic<T, X, true>, atomic<T, X, true>);
}

}  // namespace

void define_lds() {
  const auto both = [](const char *gfx9, const char *gfx11, Handler run) {
    define(gfx9, Class::lds, run, run);
    define(gfx11, Class::lds, run, run);
  };
  both("ds_read_u8", "ds_load_u8", load<1, Part::unsigned_small>);
  both("ds_read_i8", "ds_load_i8", load<1, Part::signed_small>);
  both("ds_read_u16", "ds_load_u16", load<2, Part::unsigned_small>);
  both("ds_read_i16", "ds_load_i16", load<2, Part::signed_small>);
  both("ds_read_u8_d16", "ds_load_u8_d16", load<1, Part::low_half_unsigned>);
  both("ds_read_u8_d16_hi", "ds_load_u8_d16_hi", load<1, Part::high_half_unsigned>);
  both("ds_read_i8_d16", "ds_load_i8_d16", load<1, Part::low_half_signed>);
  both("ds_read_i8_d16_hi", "ds_load_i8_d16_hi", load<1, Part::high_half_signed>);
  both("ds_read_u16_d16", "ds_load_u16_d16", load<2, Part::low_half_unsigned>);
  both("ds_read_u16_d16_hi", "ds_load_u16_d16_hi", load<2, Part::high_half_unsigned>);
  both("ds_read_b32", "ds_load_b32", load<4, Part::whole>);
  both("ds_read_b64", "ds_load_b64", load<8, Part::whole>);
  both("ds_read_b96", "ds_load_b96", load<12, Part::whole>);
  both("ds_read_b128", "ds_load_b128", load<16, Part::whole>);
  both("ds_write_b8", "ds_store_b8", store<1, false>);
  both("ds_write_b16", "ds_store_b16", store<2, false>);
  both("ds_write_b8_d16_hi", "ds_store_b8_d16_hi", store<1, true>);
  both("ds_write_b16_d16_hi", "ds_store_b16_d16_hi", store<2, true>);
  both("ds_write_b32", "ds_store_b32", store<4, false>);
  both("ds_write_b64", "ds_store_b64", store<8, false>);
  both("ds_write_b96", "ds_store_b96", store<12, false>);
  both("ds_write_b128", "ds_store_b128", store<16, false>);
  both("ds_read2_b32", "ds_load_2addr_b32", load2<4, 1>);
  both("ds_read2_b64", "ds_load_2addr_b64", load2<8, 1>);
  both("ds_read2st64_b32", "ds_load_2addr_stride64_b32", load2<4, 64>);
  both("ds_read2st64_b64", "ds_load_2addr_stride64_b64", load2<8, 64>);
  both("ds_write2_b32", "ds_store_2addr_b32", store2<4, 1>);
  both("ds_write2_b64", "ds_store_2addr_b64", store2<8, 1>);
  both("ds_write2st64_b32", "ds_store_2addr_stride64_b32", store2<4, 64>);
  both("ds_write2st64_b64", "ds_store_2addr_stride64_b64", store2<8, 64>);
  define_integer_atomics<uint32_t>("u32", "i32", "b32");
  define_integer_atomics<uint64_t>("u64", "i64", "b64");
  define_atomic<float>("add", "f32", [](float old, float data, float) { return old + data; });
  define_atomic<uint32_t>("pk_add", "f16", [](uint32_t old, uint32_t data, uint32_t) {
    uint32_t sum = 0;
    for (int i = 0; i < 32; i += 16)
      sum |= uint32_t(Half::from(Half{uint16_t(old >> i)}.value() + Half{uint16_t(data >> i)}.value()).bits) << i;
    return sum;
  });
  define_atomic<uint32_t>("pk_add", "bf16",
                          [](uint32_t old, uint32_t data, uint32_t) { return packed_bf16_sum(old, data); });
  define_atomic<double>("add", "f64", [](double old, double data, double) { return old + data; });
  define_atomic<float>("min", "f32",
                       [](float old, float data, float) { return data < old || old != old ? data : old; });
  define_atomic<float>("max", "f32",
                       [](float old, float data, float) { return data > old || old != old ? data : old; });
  define_atomic<double>("min", "f64",
                        [](double old, double data, double) { return data < old || old != old ? data : old; });
  define_atomic<double>("max", "f64",
                        [](double old, double data, double) { return data > old || old != old ? data : old; });
}

}  // namespace amdsim
