// Instructions whose lanes see each other's registers.
#include "isa.hpp"

namespace amdsim {
namespace {

uint32_t scalar_or_constant(const Wave &w, const Operand &operand) {
  return operand.kind == Operand::constant ? uint32_t(operand.bits) : w.read_scalar(operand.index);
}

void readlane(Wave &w, const Op &op) {
  const int lane = int(scalar_or_constant(w, op.operand[2])) & (w.size - 1);
  w.write_scalar(op.operand[0].index, w.v[op.operand[1].index][lane]);
}

void writelane(Wave &w, const Op &op) {
  const int lane = int(scalar_or_constant(w, op.operand[2])) & (w.size - 1);
  w.v[op.operand[0].index][lane] = scalar_or_constant(w, op.operand[1]);
}

void readfirstlane(Wave &w, const Op &op) {
  const uint64_t exec = w.exec();
  const int lane = exec ? std::countr_zero(exec) : 0;
  uint32_t buffer[kLanes];
  w.write_scalar(op.operand[0].index, row_of(w, op.operand[1], 0, buffer)[lane]);
}

void mbcnt(Wave &w, const Op &op, int from) {
  uint32_t first[kLanes], second[kLanes], out[kLanes];
  const uint32_t *mask = row_of(w, op.operand[1], 0, first), *base = row_of(w, op.operand[2], 0, second);
  for (int l = 0; l < w.size; l++) {
    const uint64_t below = (1ull << l) - 1;
    out[l] = base[l] + uint32_t(std::popcount(mask[l] & uint32_t(below >> from)));
  }
  write_lanes(w, op.operand[0].index, out);
}

// Each lane fetches from the lane that the address names, four bytes a lane; a disabled source gives zero.
void bpermute(Wave &w, const Op &op) {
  const uint32_t *address = w.v[op.operand[1].index], *data = w.v[op.operand[2].index];
  uint32_t out[kLanes];
  for (int l = 0; l < w.size; l++) {
    const int from = int((address[l] + uint32_t(op.offset)) >> 2) & (w.size - 1);
    out[l] = w.mask[from] ? data[from] : 0;
  }
  write_lanes(w, op.operand[0].index, out);
}

// Each lane sends to the lane that the address names; of several senders the highest lane wins, no sender gives zero.
void permute(Wave &w, const Op &op) {
  const uint32_t *address = w.v[op.operand[1].index], *data = w.v[op.operand[2].index];
  uint32_t out[kLanes] = {};
  for (int l = 0; l < w.size; l++)
    if (w.mask[l]) out[int((address[l] + uint32_t(op.offset)) >> 2) & (w.size - 1)] = data[l];
  write_lanes(w, op.operand[0].index, out);
}

// Bit 15 set: a permutation within four lanes; else lane = ((lane & and) | or) ^ xor within 32 lanes.
void swizzle(Wave &w, const Op &op) {
  const uint32_t control = op.immediate, *data = w.v[op.operand[1].index];
  if (control >= 0xc000) fault_at(w, op, -1, "the FFT and rotate modes of ds_swizzle_b32 are not implemented");
  uint32_t out[kLanes];
  for (int l = 0; l < w.size; l++) {
    int from;
    if (control & 0x8000)
      from = (l & ~3) | (control >> (2 * (l & 3)) & 3);
    else
      from = (l & ~31) | int(((uint32_t(l & 31) & (control & 31)) | (control >> 5 & 31)) ^ (control >> 10 & 31));
    out[l] = w.mask[from] ? data[from] : 0;
  }
  write_lanes(w, op.operand[0].index, out);
}

// Any lane of the row of 16 (or, crossed, of the neighbouring row), picked by 16 fields of 4 bits in two scalars.
template <bool Cross>
void permlane16(Wave &w, const Op &op) {
  uint32_t before[kLanes];
  std::memcpy(before, w.v[op.operand[1].index], sizeof before);
  const uint64_t select = uint64_t(scalar_or_constant(w, op.operand[3])) << 32 | scalar_or_constant(w, op.operand[2]);
  const bool fetch_inactive = op.op_sel & 1, bound_control = op.op_sel >> 1 & 1;
  for (int l = 0; l < w.size; l++) {
    if (!w.mask[l]) continue;
    const int row = (l & ~15) ^ (Cross ? 16 : 0), from = row | int(select >> (4 * (l & 15)) & 15);
    if (w.mask[from] || fetch_inactive)
      w.v[op.operand[0].index][l] = before[from];
    else if (bound_control)
      w.v[op.operand[0].index][l] = 0;
  }
}

void permlane64(Wave &w, const Op &op) {
  if (w.size == 32) return;  // no other half: the instruction does nothing
  uint32_t before[kLanes];
  std::memcpy(before, w.v[op.operand[1].index], sizeof before);
  for (int l = 0; l < w.size; l++)
    if (w.mask[l]) w.v[op.operand[0].index][l] = before[l ^ 32];
}

void swap(Wave &w, const Op &op) {
  for (int l = 0; l < w.size; l++)
    if (w.mask[l]) std::swap(w.v[op.operand[0].index][l], w.v[op.operand[1].index][l]);
}

}  // namespace

void define_cross_lane() {
  const auto plain = [](const char *name, Handler run, Class kind = Class::valu) -> Definition & {
    Definition &d = define(name, kind, run, run);
    d.prepare = [](Op &op) {
      for (int i = 1; i < op.operands; i++) type_constant<uint32_t>(op, i);
    };
    return d;
  };
  plain("v_readlane_b32", readlane);
  plain("v_writelane_b32", writelane);
  plain("v_readfirstlane_b32", readfirstlane);
  plain("v_mbcnt_lo_u32_b32", [](Wave &w, const Op &op) { mbcnt(w, op, 0); });
  plain("v_mbcnt_hi_u32_b32", [](Wave &w, const Op &op) { mbcnt(w, op, 32); });
  plain("ds_bpermute_b32", bpermute, Class::lds);
  plain("ds_permute_b32", permute, Class::lds);
  plain("ds_swizzle_b32", swizzle, Class::lds);
  plain("v_permlane16_b32", permlane16<false>).handles_modifiers = true;
  plain("v_permlanex16_b32", permlane16<true>).handles_modifiers = true;
  plain("v_permlane64_b32", permlane64);
  plain("v_swap_b32", swap);
}

}  // namespace amdsim
