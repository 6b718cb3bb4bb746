// Names to handlers: suffixes of encodings are taken off, DPP and SDWA forms wrap the plain one, dual instructions run
// both halves on the old register values.
#include <mutex>

#include "isa.hpp"

namespace amdsim {

std::unordered_map<std::string, Definition> &definitions() {
  static std::unordered_map<std::string, Definition> table;
  return table;
}

Half Half::from(double value) {
  // To float with round-to-odd, then to half: one rounding in effect, since float keeps more than two spare bits.
  float f = float(value);
  if (double(f) != value && std::isfinite(value) && std::isfinite(f)) {
    uint32_t bits = std::bit_cast<uint32_t>(f);
    const bool away = std::fabs(double(f)) > std::fabs(value);
    if (away) bits--;  // towards zero
    f = std::bit_cast<float>(bits | 1);
  }
  const uint32_t bits = std::bit_cast<uint32_t>(f), sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {uint16_t(sign | 0x7e00 | (magnitude >> 13 & 0x1ff))};
  const int mode = std::fegetround();
  const bool negative = sign != 0;
  const auto rounded = [&](uint32_t kept, uint32_t rest, uint32_t half) {
    if (mode == FE_TONEAREST) return kept + (rest > half || (rest == half && (kept & 1)));
    if (mode == FE_UPWARD) return kept + (rest && !negative);
    if (mode == FE_DOWNWARD) return kept + (rest && negative);
    return kept;
  };
  if (magnitude >= 0x7f800000) return {uint16_t(sign | 0x7c00)};
  if (magnitude >= 0x47800000) {  // 2^16 and more: infinity, or the largest value where rounding forbids it
    const bool infinite = mode == FE_TONEAREST || (mode == FE_UPWARD && !negative) || (mode == FE_DOWNWARD && negative);
    return {uint16_t(sign | (infinite ? 0x7c00 : 0x7bff))};
  }
  if (magnitude >= 0x38800000) {  // normal
    const uint32_t shifted = magnitude - 0x38000000;
    return {uint16_t(sign | rounded(shifted >> 13, shifted & 0x1fff, 0x1000))};
  }
  const int exponent = int(magnitude >> 23);
  const uint32_t mantissa = exponent ? (magnitude & 0x7fffff) | 0x800000 : magnitude & 0x7fffff;
  const int shift = 126 - (exponent ? exponent : 1);  // value = mantissa · 2^(exponent - 150); unit of the result 2^-24
  if (shift > 31) return {uint16_t(sign | rounded(0, mantissa != 0, 2))};
  const uint64_t wide = uint64_t(mantissa);
  const uint64_t rest = wide & ((1ull << shift) - 1);
  return {uint16_t(sign | rounded(uint32_t(wide >> shift),
                                  uint32_t(rest > (1ull << (shift - 1))    ? 3
                                           : rest == (1ull << (shift - 1)) ? 2
                                           : rest                          ? 1
                                                                           : 0),
                                  2))};
}

template <class T>
uint64_t constant_bits(const Operand &operand) {
  constexpr bool wide = sizeof(T) == 8;
  if (operand.written_as_float) {
    const bool inverse_two_pi =
        operand.real == 0.15915494 || operand.real == 0.1592 || operand.real == 0.15915494309189532;
    if constexpr (wide) return inverse_two_pi ? 0x3fc45f306dc9c882u : std::bit_cast<uint64_t>(operand.real);
    if constexpr (is_16_bit<T>) return inverse_two_pi ? 0x3118u : Half::from(operand.real).bits;
    return inverse_two_pi ? 0x3e22f983u : std::bit_cast<uint32_t>(float(operand.real));
  }
  if (operand.written_as_hex && wide) {
    if (std::is_same_v<T, double>) return operand.bits << 32;
    return std::is_signed_v<T> ? uint64_t(int64_t(int32_t(operand.bits))) : operand.bits & 0xffffffffu;
  }
  return wide ? operand.bits : operand.bits & 0xffffffffu;
}
template uint64_t constant_bits<uint32_t>(const Operand &);
template uint64_t constant_bits<int32_t>(const Operand &);
template uint64_t constant_bits<float>(const Operand &);
template uint64_t constant_bits<uint64_t>(const Operand &);
template uint64_t constant_bits<int64_t>(const Operand &);
template uint64_t constant_bits<double>(const Operand &);
template uint64_t constant_bits<uint16_t>(const Operand &);
template uint64_t constant_bits<int16_t>(const Operand &);
template uint64_t constant_bits<Half>(const Operand &);
template uint64_t constant_bits<LaneBit>(const Operand &);

namespace {

void not_implemented(Wave &w, const Op &op) {
  fault_at(w, op, -1, "this instruction is not implemented (docs/AMDSIM.md says how to add it)");
}

bool take_suffix(std::string &name, const char *suffix) {
  const size_t length = std::strlen(suffix);
  if (name.size() <= length || name.compare(name.size() - length, length, suffix)) return false;
  name.resize(name.size() - length);
  return true;
}

// --- DPP: the first source is moved between lanes into a temporary row, then the plain form runs on it.

// The lane that `lane` reads, or -1 when the pattern leaves the row or wave.
int source_lane(const LaneControl &control, int lane, int lanes) {
  const int row = lane & ~15, place = lane & 15, n = control.amount;
  switch (control.pattern) {
    case LaneControl::quad_perm:
      return (lane & ~3) | control.select[lane & 3];
    case LaneControl::dpp8:
      return (lane & ~7) | control.select[lane & 7];
    case LaneControl::row_shl:
      return place + n < 16 ? lane + n : -1;
    case LaneControl::row_shr:
      return place - n >= 0 ? lane - n : -1;
    case LaneControl::row_ror:
      return row | ((place - n) & 15);
    case LaneControl::wave_shl:
      return lane + 1 < lanes ? lane + 1 : -1;
    case LaneControl::wave_rol:
      return (lane + 1) % lanes;
    case LaneControl::wave_shr:
      return lane - 1;
    case LaneControl::wave_ror:
      return (lane + lanes - 1) % lanes;
    case LaneControl::row_mirror:
      return row | (15 - place);
    case LaneControl::row_half_mirror:
      return (lane & ~7) | (7 - (lane & 7));
    // The last lane of each row of 16 to the next row (rows 1 and 3), or lane 31 to rows 2 and 3.
    case LaneControl::row_bcast15:
      return lane >= 16 ? row - 1 : -1;
    case LaneControl::row_bcast31:
      return lane >= 32 ? 31 : -1;
    case LaneControl::row_share:
      return row | n;
    case LaneControl::row_xmask:
      return row | (place ^ n);
    case LaneControl::none:
      break;
  }
  return lane;
}

void run_dpp(Wave &w, const Op &op) {
  const LaneControl &control = *op.lanes;
  const Op &inner = *op.inner;
  const int place = int(op.immediate);  // which operand of the text is the first source
  const int words = op.operand[place].words;
  const uint64_t exec = w.exec();
  uint64_t written = 0;
  for (int l = 0; l < w.size; l++) {
    if (!(exec >> l & 1)) continue;
    int from = source_lane(control, l, w.size);
    const bool row_enabled = control.pattern == LaneControl::dpp8 ||
                             ((control.row_mask >> (l / 16) & 1) && (control.bank_mask >> (l / 4 % 4) & 1));
    bool valid = from >= 0;
    // A source lane that exec disables gives no value, unless fi (gfx11) says to read it all the same; DPP8 reads zero.
    if (valid && !(exec >> from & 1) && !control.fetch_inactive) valid = false;
    if (!row_enabled) continue;
    if (!valid && !control.bound_control && control.pattern != LaneControl::dpp8) continue;
    for (int k = 0; k < words; k++) w.v[kTemporary + k][l] = valid ? w.v[op.operand[place].index + k][from] : 0;
    written |= 1ull << l;
  }
  // Lanes left out keep their destination: run with exec narrowed, then put it back (a cmpx writes exec itself).
  w.set_exec(written);
  inner.run(w, inner);
  if (op.mnemonic.compare(0, 6, "v_cmpx") != 0) w.set_exec(exec);
}

// --- SDWA: parts of the sources are taken out into temporary rows; the result is put into a part of the destination.

uint32_t taken(uint32_t word, int select, bool sign) {
  if (select < 4) {
    const uint32_t byte = word >> (8 * select) & 0xff;
    return sign ? uint32_t(int32_t(int8_t(byte))) : byte;
  }
  if (select < 6) {
    const uint32_t half = word >> (16 * (select - 4)) & 0xffff;
    return sign ? uint32_t(int32_t(int16_t(half))) : half;
  }
  return word;
}

void run_sdwa(Wave &w, const Op &op) {
  const LaneControl &control = *op.lanes;
  const Op &inner = *op.inner;
  const int place = int(op.immediate);
  for (int source = 0; source < 2 && place + source < op.operands; source++) {
    const Operand &operand = op.operand[place + source];
    const int select = control.source_select[source];
    if (operand.words != 1 || operand.kind == Operand::none) continue;
    if (inner.operand[place + source].index != kTemporary + source) continue;
    for (int l = 0; l < w.size; l++) {
      const uint32_t word = operand.kind == Operand::vector     ? w.v[operand.index][l]
                            : operand.kind == Operand::constant ? uint32_t(operand.bits)
                                                                : w.read_scalar(operand.index);
      w.v[kTemporary + source][l] = taken(word, select, operand.sign_extend);
    }
  }
  inner.run(w, inner);
  if (inner.operand[0].index != kTemporary + 2) return;  // a compare: the mask is written already
  const int select = control.destination_select;
  uint32_t *to = w.v[op.operand[0].index];
  const uint32_t *result = w.v[kTemporary + 2];
  const int shift = select < 4 ? 8 * select : select < 6 ? 16 * (select - 4) : 0;
  const uint32_t field = select < 4 ? 0xffu << shift : select < 6 ? 0xffffu << shift : ~0u;
  for (int l = 0; l < w.size; l++) {
    if (!w.mask[l]) continue;
    const uint32_t value = result[l] << shift & field;
    uint32_t rest = control.destination_unused == 2 ? to[l] & ~field : 0;
    if (control.destination_unused == 1 && select < 6 && value >> (shift + (select < 4 ? 7 : 15)) & 1)
      rest = ~(field | ((1u << shift) - 1));  // the sign, above the field
    to[l] = value | rest;
  }
}

// --- Dual instructions of gfx11: both halves read before either writes.

void run_dual(Wave &w, const Op &op) {
  // The first half writes into a temporary row, the second runs on unchanged registers, then the first result is
  // copied.
  const Op &first = *op.inner, &second = *op.second;
  const int row = op.operand[0].index;
  alignas(64) uint32_t before[kLanes], result[kLanes];
  std::memcpy(before, w.v[row], sizeof before);
  first.run(w, first);
  std::memcpy(result, w.v[row], sizeof result);
  std::memcpy(w.v[row], before, sizeof before);
  second.run(w, second);
  write_row<32>(w, row, result);
}

void define_all() {
  define_vector_alu();
  define_vector_compare();
  define_packed();
  define_cross_lane();
  define_scalar_alu();
  define_control();
  define_memory();
  define_lds();
  define_matrix();
}

}  // namespace

void bind_operation(Op &op, const DecodedText &text, const std::string &architecture, int wave_size) {
  static std::once_flag once;
  std::call_once(once, define_all);
  op.run = not_implemented;
  std::string name = op.mnemonic;
  if (op.second) {
    op.inner = std::make_shared<Op>(op);
    op.inner->second = nullptr;
    op.inner->mnemonic.erase(2, 5);  // v_dual_fmac_f32 → v_fmac_f32
    op.second->mnemonic.erase(2, 5);
    for (Op *half : {op.inner.get(), op.second.get()}) {
      if (half->mnemonic == "v_cndmask_b32" && half->operands == 3) half->operand[half->operands++] = vcc_operand();
      bind_operation(*half, text, architecture, wave_size);
      if (half->run == not_implemented) return;
      half->text = op.text;
      half->address = op.address;
    }
    op.kind = op.inner->kind;
    op.run = run_dual;
    return;
  }
  const bool any_dpp = take_suffix(name, "_e64_dpp") || take_suffix(name, "_dpp8") || take_suffix(name, "_dpp");
  const bool sdwa = take_suffix(name, "_sdwa");
  if (!any_dpp && !sdwa) (void)(take_suffix(name, "_e64") || take_suffix(name, "_e32"));
  const auto found = definitions().find(architecture + " " + name);  // meanings that differ between architectures
  const auto plain = found != definitions().end() ? found : definitions().find(name);
  if (plain == definitions().end()) return;
  const Definition &d = plain->second;
  const int which = wave_size == 32;
  op.kind = d.kind;

  const bool controlled = op.lanes && (op.lanes->sdwa || op.lanes->pattern != LaneControl::none);
  if (controlled) {
    // First source: after the destination and, where the text has one, a mask.
    int place = name.compare(0, 5, "v_cmp") == 0 ? op.operands - 2 : 1;
    if (place == 1 && op.operand[1].kind == Operand::scalar && op.operands >= 4 && name.compare(0, 9, "v_cndmask") != 0)
      place = 2;
    op.immediate = uint32_t(place);
    op.inner = std::make_shared<Op>(op);
    Op &inner = *op.inner;
    inner.lanes = nullptr;
    inner.inner = nullptr;
    inner.mnemonic = name;
    if (op.lanes->sdwa) {
      for (int source = 0; source < 2 && place + source < op.operands; source++) {
        Operand &operand = inner.operand[place + source];
        if (op.lanes->source_select[source] == 6 && !operand.sign_extend) continue;
        if (operand.words != 1) return;
        if (op.operand[place + source].kind == Operand::constant)
          op.operand[place + source].bits = constant_bits<uint32_t>(op.operand[place + source]);
        operand.kind = Operand::vector;
        operand.index = uint16_t(kTemporary + source);
      }
      if (op.operand[0].kind == Operand::vector) inner.operand[0].index = kTemporary + 2;
    } else {
      inner.operand[place].kind = Operand::vector;
      inner.operand[place].index = kTemporary;
    }
    bind_operation(inner, text, architecture, wave_size);
    if (inner.run == not_implemented) return;
    // An accumulating form would read its temporary destination; no compiler makes one with SDWA.
    if (op.lanes->sdwa && inner.operands > op.operands) return;
    op.run = op.lanes->sdwa ? run_sdwa : run_dpp;
    return;
  }

  if (op.clamp && d.saturating[which]) {
    op.run = d.saturating[which];
  } else if (op.clamp && !d.handles_modifiers && op.mnemonic.find("_f") == std::string::npos) {
    return;  // an integer clamp that nobody wrote down
  } else {
    op.run = d.run[which] ? d.run[which] : not_implemented;
  }
  if (d.prepare) d.prepare(op);
  if (op.kind == Class::branch && op.operands) {
    const Operand &last = op.operand[op.operands - 1];
    if (last.kind == Operand::constant) {
      op.target = text.index_of(op.address + 4 + 4 * int64_t(int16_t(last.bits)));
      if (op.target < 0) op.run = not_implemented;
    }
  }
}

}  // namespace amdsim
