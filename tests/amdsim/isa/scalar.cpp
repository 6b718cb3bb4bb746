// Scalar ALU and what steers a wave: branches, calls, barriers, the MODE register, exec.
#include "isa.hpp"

namespace amdsim {
namespace {

using u32 = uint32_t;
using i32 = int32_t;
using u64 = uint64_t;
using i64 = int64_t;

template <class T>
WithScc<T> logical(T x) {
  return {x, x != 0};
}

u64 read_source(const Wave &w, const Operand &operand, bool wide) {
  if (operand.kind == Operand::constant) return operand.bits;
  return wide ? read_scalar64(w, operand.index) : w.read_scalar(operand.index);
}

// Bit field extraction: offset in bits 4:0 (5:0), width in 22:16.
template <class T>
WithScc<T> field(T x, u32 control) {
  constexpr int bits = 8 * sizeof(T);
  const int offset = int(control & (bits - 1)), width = int(control >> 16 & 0x7f);
  if (width == 0) return {0, false};
  T r = x >> offset;
  if (width < bits) {
    using U = std::make_unsigned_t<T>;
    r = T(T(U(r) << (bits - width)) >> (bits - width));
  }
  return {r, r != 0};
}

void define_arithmetic() {
  scalar("s_mov_b32", [](u32 x) { return x; });
  scalar("s_mov_b64", [](u64 x) { return x; });
  scalar("s_movk_i32", [](u32 x) { return u32(i32(int16_t(x))); });
  scalar("s_not_b32", [](u32 x) { return logical(~x); });
  scalar("s_not_b64", [](u64 x) { return logical(~x); });
  scalar("s_brev_b32", [](u32 x) { return reversed_bits(x); });
  scalar("s_brev_b64", [](u64 x) { return u64(reversed_bits(u32(x))) << 32 | reversed_bits(u32(x >> 32)); });
  scalar("s_add_u32", [](u32 a, u32 b) { return WithScc<u32>{a + b, a + b < a}; });
  scalar("s_sub_u32", [](u32 a, u32 b) { return WithScc<u32>{a - b, a < b}; });
  scalar("s_add_i32", [](i32 a, i32 b) {
    i32 r;
    const bool o = __builtin_add_overflow(a, b, &r);
    return WithScc<i32>{r, o};
  });
  scalar("s_sub_i32", [](i32 a, i32 b) {
    i32 r;
    const bool o = __builtin_sub_overflow(a, b, &r);
    return WithScc<i32>{r, o};
  });
  scalar("s_mul_i32", [](u32 a, u32 b) { return a * b; });
  scalar("s_mul_hi_u32", [](u32 a, u32 b) { return u32(u64(a) * b >> 32); });
  scalar("s_mul_hi_i32", [](i32 a, i32 b) { return u32(u64(i64(a) * b) >> 32); });
  scalar("s_min_u32", [](u32 a, u32 b) { return WithScc<u32>{std::min(a, b), a < b}; });
  scalar("s_max_u32", [](u32 a, u32 b) { return WithScc<u32>{std::max(a, b), a >= b}; });
  scalar("s_min_i32", [](i32 a, i32 b) { return WithScc<i32>{std::min(a, b), a < b}; });
  scalar("s_max_i32", [](i32 a, i32 b) { return WithScc<i32>{std::max(a, b), a >= b}; });
  scalar("s_abs_i32", [](i32 x) { return logical(x < 0 ? 0u - u32(x) : u32(x)); });
  scalar("s_absdiff_i32", [](i32 a, i32 b) {
    const u32 d = u32(a) - u32(b);
    return logical(i32(d) < 0 ? 0u - d : d);
  });
  scalar("s_lshl1_add_u32", [](u32 a, u32 b) {
    const u64 r = (u64(a) << 1) + b;
    return WithScc<u32>{u32(r), r >> 32 != 0};
  });
  scalar("s_lshl2_add_u32", [](u32 a, u32 b) {
    const u64 r = (u64(a) << 2) + b;
    return WithScc<u32>{u32(r), r >> 32 != 0};
  });
  scalar("s_lshl3_add_u32", [](u32 a, u32 b) {
    const u64 r = (u64(a) << 3) + b;
    return WithScc<u32>{u32(r), r >> 32 != 0};
  });
  scalar("s_lshl4_add_u32", [](u32 a, u32 b) {
    const u64 r = (u64(a) << 4) + b;
    return WithScc<u32>{u32(r), r >> 32 != 0};
  });
}

template <class T>
void define_logic(const std::string &type) {
  scalar("s_and_" + type, [](T a, T b) { return logical(T(a & b)); });
  scalar("s_or_" + type, [](T a, T b) { return logical(T(a | b)); });
  scalar("s_xor_" + type, [](T a, T b) { return logical(T(a ^ b)); });
  scalar("s_nand_" + type, [](T a, T b) { return logical(T(~(a & b))); });
  scalar("s_nor_" + type, [](T a, T b) { return logical(T(~(a | b))); });
  scalar("s_xnor_" + type, [](T a, T b) { return logical(T(~(a ^ b))); });
  for (const char *name : {"s_andn2_", "s_and_not1_"}) scalar(name + type, [](T a, T b) { return logical(T(a & ~b)); });
  for (const char *name : {"s_orn2_", "s_or_not1_"}) scalar(name + type, [](T a, T b) { return logical(T(a | ~b)); });
}

void define_bits() {
  scalar("s_lshl_b32", [](u32 a, u32 b) { return logical(a << (b & 31)); });
  scalar("s_lshr_b32", [](u32 a, u32 b) { return logical(a >> (b & 31)); });
  scalar("s_ashr_i32", [](i32 a, u32 b) { return logical(a >> (b & 31)); });
  scalar("s_lshl_b64", [](u64 a, u32 b) { return logical(a << (b & 63)); });
  scalar("s_lshr_b64", [](u64 a, u32 b) { return logical(a >> (b & 63)); });
  scalar("s_ashr_i64", [](i64 a, u32 b) { return logical(a >> (b & 63)); });
  scalar("s_bfm_b32", [](u32 a, u32 b) { return ((1u << (a & 31)) - 1) << (b & 31); });
  scalar("s_bfm_b64", [](u32 a, u32 b) { return ((1ull << (a & 63)) - 1) << (b & 63); });
  scalar("s_bfe_u32", [](u32 a, u32 b) { return field(a, b); });
  scalar("s_bfe_i32", [](i32 a, u32 b) { return field(a, b); });
  scalar("s_bfe_u64", [](u64 a, u32 b) { return field(a, b); });
  scalar("s_bfe_i64", [](i64 a, u32 b) { return field(a, b); });
  scalar("s_bcnt0_i32_b32", [](u32 x) { return logical(u32(32 - std::popcount(x))); });
  scalar("s_bcnt0_i32_b64", [](u64 x) { return logical(u32(64 - std::popcount(x))); });
  scalar("s_bcnt1_i32_b32", [](u32 x) { return logical(u32(std::popcount(x))); });
  scalar("s_bcnt1_i32_b64", [](u64 x) { return logical(u32(std::popcount(x))); });
  scalar("s_ff0_i32_b32", [](u32 x) { return ~x ? u32(std::countr_one(x)) : ~0u; });
  scalar("s_ff0_i32_b64", [](u64 x) { return ~x ? u32(std::countr_one(x)) : ~0u; });
  for (const char *name : {"s_ff1_i32_b32", "s_ctz_i32_b32"})
    scalar(name, [](u32 x) { return x ? u32(std::countr_zero(x)) : ~0u; });
  for (const char *name : {"s_ff1_i32_b64", "s_ctz_i32_b64"})
    scalar(name, [](u64 x) { return x ? u32(std::countr_zero(x)) : ~0u; });
  for (const char *name : {"s_flbit_i32_b32", "s_clz_i32_u32"})
    scalar(name, [](u32 x) { return x ? u32(std::countl_zero(x)) : ~0u; });
  for (const char *name : {"s_flbit_i32_b64", "s_clz_i32_u64"})
    scalar(name, [](u64 x) { return x ? u32(std::countl_zero(x)) : ~0u; });
  for (const char *name : {"s_flbit_i32", "s_cls_i32"})
    scalar(name, [](i32 x) {
      const u32 y = u32(x ^ (x >> 31));
      return y ? u32(std::countl_zero(y)) : ~0u;
    });
  for (const char *name : {"s_flbit_i32_i64", "s_cls_i32_i64"})
    scalar(name, [](i64 x) {
      const u64 y = u64(x ^ (x >> 63));
      return y ? u32(std::countl_zero(y)) : ~0u;
    });
  scalar("s_sext_i32_i8", [](u32 x) { return u32(i32(int8_t(x))); });
  scalar("s_sext_i32_i16", [](u32 x) { return u32(i32(int16_t(x))); });
  scalar("s_bitcmp0_b32", [](u32 a, u32 b) { return !(a >> (b & 31) & 1); });
  scalar("s_bitcmp1_b32", [](u32 a, u32 b) { return bool(a >> (b & 31) & 1); });
  scalar("s_bitcmp0_b64", [](u64 a, u32 b) { return !(a >> (b & 63) & 1); });
  scalar("s_bitcmp1_b64", [](u64 a, u32 b) { return bool(a >> (b & 63) & 1); });
  scalar("s_pack_ll_b32_b16", [](u32 a, u32 b) { return (a & 0xffff) | b << 16; });
  scalar("s_pack_lh_b32_b16", [](u32 a, u32 b) { return (a & 0xffff) | (b & 0xffff0000u); });
  scalar("s_pack_hh_b32_b16", [](u32 a, u32 b) { return a >> 16 | (b & 0xffff0000u); });
  scalar("s_pack_hl_b32_b16", [](u32 a, u32 b) { return a >> 16 | b << 16; });
  scalar("s_wqm_b64", [](u64 x) {
    u64 r = 0;
    for (int i = 0; i < 64; i += 4)
      if (x >> i & 15) r |= 15ull << i;
    return logical(r);
  });
  scalar("s_wqm_b32", [](u32 x) {
    u32 r = 0;
    for (int i = 0; i < 32; i += 4)
      if (x >> i & 15) r |= 15u << i;
    return logical(r);
  });
  scalar("s_quadmask_b32", [](u32 x) {
    u32 r = 0;
    for (int i = 0; i < 8; i++) r |= u32((x >> (4 * i) & 15) != 0) << i;
    return logical(r);
  });
  scalar("s_quadmask_b64", [](u64 x) {
    u64 r = 0;
    for (int i = 0; i < 16; i++) r |= u64((x >> (4 * i) & 15) != 0) << i;
    return logical(r);
  });
  scalar("s_bitreplicate_b64_b32", [](u32 x) {
    u64 r = 0;
    for (int i = 0; i < 32; i++) r |= u64(x >> i & 1 ? 3 : 0) << (2 * i);
    return r;
  });
}

void define_compares() {
  scalar("s_cmp_eq_i32", [](i32 a, i32 b) { return a == b; });
  scalar("s_cmp_lg_i32", [](i32 a, i32 b) { return a != b; });
  scalar("s_cmp_gt_i32", [](i32 a, i32 b) { return a > b; });
  scalar("s_cmp_ge_i32", [](i32 a, i32 b) { return a >= b; });
  scalar("s_cmp_lt_i32", [](i32 a, i32 b) { return a < b; });
  scalar("s_cmp_le_i32", [](i32 a, i32 b) { return a <= b; });
  scalar("s_cmp_eq_u32", [](u32 a, u32 b) { return a == b; });
  scalar("s_cmp_lg_u32", [](u32 a, u32 b) { return a != b; });
  scalar("s_cmp_gt_u32", [](u32 a, u32 b) { return a > b; });
  scalar("s_cmp_ge_u32", [](u32 a, u32 b) { return a >= b; });
  scalar("s_cmp_lt_u32", [](u32 a, u32 b) { return a < b; });
  scalar("s_cmp_le_u32", [](u32 a, u32 b) { return a <= b; });
  scalar("s_cmp_eq_u64", [](u64 a, u64 b) { return a == b; });
  for (const char *name : {"s_cmp_lg_u64", "s_cmp_ne_u64"}) scalar(name, [](u64 a, u64 b) { return a != b; });
  scalar("s_cmpk_eq_i32", [](i32 a, u32 b) { return a == int16_t(b); });
  scalar("s_cmpk_lg_i32", [](i32 a, u32 b) { return a != int16_t(b); });
  scalar("s_cmpk_gt_i32", [](i32 a, u32 b) { return a > int16_t(b); });
  scalar("s_cmpk_ge_i32", [](i32 a, u32 b) { return a >= int16_t(b); });
  scalar("s_cmpk_lt_i32", [](i32 a, u32 b) { return a < int16_t(b); });
  scalar("s_cmpk_le_i32", [](i32 a, u32 b) { return a <= int16_t(b); });
  scalar("s_cmpk_eq_u32", [](u32 a, u32 b) { return a == (b & 0xffff); });
  scalar("s_cmpk_lg_u32", [](u32 a, u32 b) { return a != (b & 0xffff); });
  scalar("s_cmpk_gt_u32", [](u32 a, u32 b) { return a > (b & 0xffff); });
  scalar("s_cmpk_ge_u32", [](u32 a, u32 b) { return a >= (b & 0xffff); });
  scalar("s_cmpk_lt_u32", [](u32 a, u32 b) { return a < (b & 0xffff); });
  scalar("s_cmpk_le_u32", [](u32 a, u32 b) { return a <= (b & 0xffff); });
}

// Handlers that need the wave itself.
Definition &custom(const std::string &name, Handler run, bool wide, Class kind = Class::salu) {
  Definition &d = define(name, kind, run, run);
  d.prepare = [wide](Op &op) {
    for (int i = 0; i < op.operands; i++)
      if (wide)
        type_constant<u64>(op, i);
      else
        type_constant<u32>(op, i);
  };
  return d;
}

template <bool Wide>
void write_destination(Wave &w, const Op &op, u64 value) {
  if (Wide)
    write_scalar64(w, op.operand[0].index, value);
  else
    w.write_scalar(op.operand[0].index, u32(value));
}

template <bool Wide>
void cselect(Wave &w, const Op &op) {
  write_destination<Wide>(w, op, read_source(w, op.operand[w.scc ? 1 : 2], Wide));
}

template <bool Wide>
void cmov(Wave &w, const Op &op) {
  if (w.scc) write_destination<Wide>(w, op, read_source(w, op.operand[1], Wide));
}

template <bool Wide, bool Set>
void bitset(Wave &w, const Op &op) {
  const u64 old = Wide ? read_scalar64(w, op.operand[0].index) : w.read_scalar(op.operand[0].index);
  const u64 bit = 1ull << (read_source(w, op.operand[1], false) & (Wide ? 63 : 31));
  write_destination<Wide>(w, op, Set ? old | bit : old & ~bit);
}

void addc(Wave &w, const Op &op) {
  const u64 sum = u64(u32(read_source(w, op.operand[1], false))) + u32(read_source(w, op.operand[2], false)) + w.scc;
  w.write_scalar(op.operand[0].index, u32(sum));
  w.scc = sum >> 32;
}

void subb(Wave &w, const Op &op) {
  const u64 a = u32(read_source(w, op.operand[1], false)), b = u64(u32(read_source(w, op.operand[2], false))) + w.scc;
  w.write_scalar(op.operand[0].index, u32(a - b));
  w.scc = b > a;
}

void addk(Wave &w, const Op &op) {
  const i32 a = i32(w.read_scalar(op.operand[0].index));
  i32 r;
  w.scc = __builtin_add_overflow(a, i32(int16_t(op.operand[1].bits)), &r);
  w.write_scalar(op.operand[0].index, u32(r));
}

void mulk(Wave &w, const Op &op) {
  w.write_scalar(op.operand[0].index, w.read_scalar(op.operand[0].index) * u32(i32(int16_t(op.operand[1].bits))));
}

void cmovk(Wave &w, const Op &op) {
  if (w.scc) w.write_scalar(op.operand[0].index, u32(i32(int16_t(op.operand[1].bits))));
}

// saveexec: the old exec goes to the destination, exec becomes f(source, exec), SCC says whether any lane is left.
template <class F, bool Wide>
void saveexec(Wave &w, const Op &op) {
  const u64 old = w.exec(), source = read_source(w, op.operand[1], Wide);
  const u64 now = F{}(source, old) & w.all_lanes;
  write_destination<Wide>(w, op, old);
  w.set_exec(now);
  w.scc = now != 0;
}

template <class F>
void define_saveexec(const std::string &operation, F) {
  custom("s_" + operation + "_saveexec_b64", saveexec<F, true>, true);
  custom("s_" + operation + "_saveexec_b32", saveexec<F, false>, false);
}

template <class F, bool Wide>
void writeexec(Wave &w, const Op &op) {  // as saveexec, but the destination gets the new value
  const u64 now = F{}(read_source(w, op.operand[1], Wide), w.exec()) & w.all_lanes;
  write_destination<Wide>(w, op, now);
  w.set_exec(now);
  w.scc = now != 0;
}

template <class F>
void define_writeexec(const std::string &operation, F) {
  custom("s_" + operation + "_wrexec_b64", writeexec<F, true>, true);
  custom("s_" + operation + "_wrexec_b32", writeexec<F, false>, false);
}

// --- registers indexed by M0

void movrel_scalar(Wave &w, const Op &op, int from, int to, bool wide) {
  const int source = op.operand[1].index + from, destination = op.operand[0].index + to;
  if (source > 105 || destination > 105) fault_at(w, op, -1, "M0 leads outside of the scalar registers");
  w.write_scalar(destination, w.read_scalar(source));
  if (wide) w.write_scalar(destination + 1, w.read_scalar(source + 1));
}

void movrel_vector(Wave &w, const Op &op, int from, int to) {
  const Operand &source = op.operand[1];
  const int destination = op.operand[0].index + to, row = source.index + from;
  if (destination < 0 || destination > 255 || (source.kind == Operand::vector && (row < 0 || row > 255)))
    fault_at(w, op, -1, "M0 leads outside of the vector registers");
  for (int l = 0; l < w.size; l++)
    if (w.mask[l])
      w.v[destination][l] = source.kind == Operand::vector     ? w.v[row][l]
                            : source.kind == Operand::constant ? u32(source.bits)
                                                               : w.read_scalar(source.index);
}

// gfx9: up to s_set_gpr_idx_off, vector operands of the kinds that the mode names count from M0 on. The instructions
// between are run from here, changed; compilers put moves there and nothing else.
void indexed_registers(Wave &w, const Op &op) {
  const u32 index = u32(read_source(w, op.operand[0], false)) & 0xff, mode = op.immediate;
  w.s[kM0] = (w.s[kM0] & ~0xf0ffu) | index | mode << 12;
  for (const Op *at = w.next;; at++) {
    if (at->mnemonic == "s_set_gpr_idx_off") {
      w.next = at + 1;
      return;
    }
    if (at->kind != Class::valu || at->inner) fault_at(w, *at, -1, "not implemented while registers are indexed");
    Op moved = *at;
    for (int i = 0; i < moved.operands; i++) {
      Operand &operand = moved.operand[i];
      if (operand.kind != Operand::vector || !(mode >> (i == 0 ? 3 : i - 1) & 1)) continue;
      operand.index = uint16_t(operand.index + index);
      if (operand.index > 255) fault_at(w, *at, -1, "M0 leads outside of the vector registers");
    }
    w.counts->instructions[int(moved.kind)]++;
    w.counts->lanes[int(moved.kind)] += u64(w.active);
    moved.run(w, moved);
  }
}

// --- control flow

void jump(Wave &w, const Op &op) { w.next = &w.group->text->ops[size_t(op.target)]; }

void jump_to(Wave &w, const Op &op, u64 address) {
  const int index = w.group->text->index_of(address);
  if (index < 0)
    fault_at(w, op, -1, "jumps to 0x%llx, where no instruction of this code object starts",
             (unsigned long long)address);
  w.next = &w.group->text->ops[size_t(index)];
}

u64 next_address(const Op &op) { return op.address + op.bytes; }

void set_mode(Wave &w, const Op &op, u32 mode) {
  if ((mode >> 6 & 3) != 3) fault_at(w, op, -1, "flushing of double and half denormals is not modelled");
  if ((mode & 0x300) != 0x300) fault_at(w, op, -1, "MODE without DX10_CLAMP or IEEE is not modelled");
  if ((mode >> 4 & 3) % 3) fault_at(w, op, -1, "flushing of denormals on one side only is not modelled");
  w.mode = mode;
  w.flush32 = (mode >> 4 & 3) != 3;
}

void wave_ends(Wave &w, const Op &) {
  w.status = Status::ended;
  w.stop = true;
}

void barrier(Wave &w, const Op &) {
  w.status = Status::at_barrier;
  w.stop = true;
  w.counts->barriers++;
}

u32 hardware_register(Wave &w, const Op &op) {
  switch (op.immediate & 63) {
    case 1:
      return w.mode;
    case 15:
      return kPrivateAperture >> 16 | (kSharedAperture >> 16) << 16;
    default:
      fault_at(w, op, -1, "this hardware register is not modelled");
  }
}

void getreg(Wave &w, const Op &op) {
  const int offset = int(op.immediate >> 6 & 31), size = int(op.immediate >> 11 & 31) + 1;
  const u32 value = hardware_register(w, op) >> offset;
  w.write_scalar(op.operand[0].index, size == 32 ? value : value & ((1u << size) - 1));
}

void setreg(Wave &w, const Op &op) {
  const int offset = int(op.immediate >> 6 & 31), size = int(op.immediate >> 11 & 31) + 1;
  if ((op.immediate & 63) != 1) fault_at(w, op, -1, "only the MODE register can be written");
  const u32 mask = (size == 32 ? ~0u : (1u << size) - 1) << offset;
  const u32 mode = (w.mode & ~mask) | (u32(read_source(w, op.operand[0], false)) << offset & mask);
  set_mode(w, op, mode);
}

void nothing(Wave &, const Op &) {}

void send_message(Wave &w, const Op &op) {
  if (op.text.find("MSG_DEALLOC_VGPRS") == std::string::npos) fault_at(w, op, -1, "this message is not modelled");
}

void trap(Wave &w, const Op &op) {
  const int lane = w.exec() ? std::countr_zero(w.exec()) : -1;  // the first that got here
  fault_at(w, op, lane, "the kernel trapped (abort, assert or __builtin_trap)");
}

}  // namespace

void define_scalar_alu() {
  define_arithmetic();
  define_logic<u32>("b32");
  define_logic<u64>("b64");
  define_bits();
  define_compares();
  custom("s_cselect_b32", cselect<false>, false);
  custom("s_cselect_b64", cselect<true>, true);
  custom("s_cmov_b32", cmov<false>, false);
  custom("s_cmov_b64", cmov<true>, true);
  custom("s_bitset0_b32", bitset<false, false>, false);
  custom("s_bitset1_b32", bitset<false, true>, false);
  custom("s_bitset0_b64", bitset<true, false>, false);
  custom("s_bitset1_b64", bitset<true, true>, false);
  custom("s_addc_u32", addc, false);
  custom("s_subb_u32", subb, false);
  custom("s_addk_i32", addk, false);
  custom("s_mulk_i32", mulk, false);
  custom("s_cmovk_i32", cmovk, false);
  define_saveexec("and", [](u64 s, u64 e) { return s & e; });
  define_saveexec("or", [](u64 s, u64 e) { return s | e; });
  define_saveexec("xor", [](u64 s, u64 e) { return s ^ e; });
  define_saveexec("nand", [](u64 s, u64 e) { return ~(s & e); });
  define_saveexec("nor", [](u64 s, u64 e) { return ~(s | e); });
  define_saveexec("xnor", [](u64 s, u64 e) { return ~(s ^ e); });
  define_saveexec("andn1", [](u64 s, u64 e) { return ~s & e; });
  define_saveexec("andn2", [](u64 s, u64 e) { return s & ~e; });
  define_saveexec("orn1", [](u64 s, u64 e) { return ~s | e; });
  define_saveexec("orn2", [](u64 s, u64 e) { return s | ~e; });
  define_saveexec("and_not0", [](u64 s, u64 e) { return ~s & e; });
  define_saveexec("and_not1", [](u64 s, u64 e) { return s & ~e; });
  define_saveexec("or_not0", [](u64 s, u64 e) { return ~s | e; });
  define_saveexec("or_not1", [](u64 s, u64 e) { return s | ~e; });
  for (const char *name : {"andn1", "and_not0"}) define_writeexec(name, [](u64 s, u64 e) { return ~s & e; });
  for (const char *name : {"andn2", "and_not1"}) define_writeexec(name, [](u64 s, u64 e) { return s & ~e; });
}

void define_control() {
  const auto branch = [](const char *name, Handler run) { custom(name, run, false, Class::branch); };
  branch("s_branch", jump);
  branch("s_cbranch_scc0", [](Wave &w, const Op &op) {
    if (!w.scc) jump(w, op);
  });
  branch("s_cbranch_scc1", [](Wave &w, const Op &op) {
    if (w.scc) jump(w, op);
  });
  branch("s_cbranch_vccz", [](Wave &w, const Op &op) {
    if (!w.vcc()) jump(w, op);
  });
  branch("s_cbranch_vccnz", [](Wave &w, const Op &op) {
    if (w.vcc()) jump(w, op);
  });
  branch("s_cbranch_execz", [](Wave &w, const Op &op) {
    if (!w.exec()) jump(w, op);
  });
  branch("s_cbranch_execnz", [](Wave &w, const Op &op) {
    if (w.exec()) jump(w, op);
  });
  branch("s_setpc_b64", [](Wave &w, const Op &op) { jump_to(w, op, read_scalar64(w, op.operand[0].index)); });
  branch("s_swappc_b64", [](Wave &w, const Op &op) {
    const u64 target = read_scalar64(w, op.operand[1].index);
    write_scalar64(w, op.operand[0].index, next_address(op));
    jump_to(w, op, target);
  });
  branch("s_call_b64", [](Wave &w, const Op &op) {
    write_scalar64(w, op.operand[0].index, next_address(op));
    jump(w, op);
  });
  branch("s_endpgm", wave_ends);
  custom(
      "s_getpc_b64", [](Wave &w, const Op &op) { write_scalar64(w, op.operand[0].index, next_address(op)); }, true);
  custom("s_set_gpr_idx_on", indexed_registers, false);
  custom(
      "s_movrels_b32", [](Wave &w, const Op &op) { movrel_scalar(w, op, int(w.s[kM0]), 0, false); }, false);
  custom(
      "s_movrels_b64", [](Wave &w, const Op &op) { movrel_scalar(w, op, int(w.s[kM0]), 0, true); }, true);
  custom(
      "s_movreld_b32", [](Wave &w, const Op &op) { movrel_scalar(w, op, 0, int(w.s[kM0]), false); }, false);
  custom(
      "s_movreld_b64", [](Wave &w, const Op &op) { movrel_scalar(w, op, 0, int(w.s[kM0]), true); }, true);
  custom(
      "v_movrels_b32", [](Wave &w, const Op &op) { movrel_vector(w, op, int(w.s[kM0]), 0); }, false, Class::valu);
  custom(
      "v_movreld_b32", [](Wave &w, const Op &op) { movrel_vector(w, op, 0, int(w.s[kM0])); }, false, Class::valu);
  custom(
      "v_movrelsd_b32", [](Wave &w, const Op &op) { movrel_vector(w, op, int(w.s[kM0]), int(w.s[kM0])); }, false,
      Class::valu);
  custom("s_barrier", barrier, false, Class::other);
  custom("s_getreg_b32", getreg, false);
  custom("s_setreg_b32", setreg, false);
  custom("s_setreg_imm32_b32", setreg, false);
  custom(
      "s_round_mode", [](Wave &w, const Op &op) { set_mode(w, op, (w.mode & ~15u) | (u32(op.operand[0].bits) & 15)); },
      false);
  custom(
      "s_denorm_mode",
      [](Wave &w, const Op &op) { set_mode(w, op, (w.mode & ~0xf0u) | (u32(op.operand[0].bits) & 15) << 4); }, false);
  custom("s_trap", trap, false, Class::other);
  custom("s_sendmsg", send_message, false, Class::other);
  // Timing and caches are not modelled: nothing to wait for, nothing to flush.
  for (const char *name : {"s_nop",
                           "s_waitcnt",
                           "s_waitcnt_vscnt",
                           "s_waitcnt_vmcnt",
                           "s_waitcnt_expcnt",
                           "s_waitcnt_lgkmcnt",
                           "s_waitcnt_depctr",
                           "s_delay_alu",
                           "s_clause",
                           "s_set_inst_prefetch_distance",
                           "s_sleep",
                           "s_setprio",
                           "s_icache_inv",
                           "s_dcache_inv",
                           "s_dcache_wb",
                           "s_inst_prefetch",
                           "buffer_wbl2",
                           "buffer_invl2",
                           "buffer_inv",
                           "buffer_wbinvl1",
                           "buffer_wbinvl1_vol",
                           "buffer_gl0_inv",
                           "buffer_gl1_inv",
                           "v_nop",
                           "s_ttracedata",
                           "s_wakeup"})
    define(name, Class::other, nothing, nothing);
}

}  // namespace amdsim
