// Packed math: two halves of 32 bits, or two words of 64 bits, each picked from its source by op_sel (low result) and
// op_sel_hi (high result). Mixed-precision FMA and dot products, which pick their sources likewise, are here as well.
#include "isa.hpp"

namespace amdsim {
namespace {

// A constant of packed 16-bit operations: integers are sign-extended to 32 bits, floats lie in the low half, the high
// half is zero. (LLVM states that the ISA document misleads here.)
template <class T>
void packed_constant(Op &op, int place) {
  Operand &operand = op.operand[place];
  if (operand.kind != Operand::constant) return;
  operand.bits = operand.written_as_float
                     ? (std::is_same_v<T, Half> ? constant_bits<Half>(operand) : constant_bits<float>(operand))
                     : operand.bits & 0xffffffffu;
}

template <class T>
T packed_value(uint32_t bits) {
  if constexpr (std::is_same_v<T, Half>)
    return Half{uint16_t(bits)};
  else
    return T(bits);
}

template <class T>
uint16_t half_bits(T value) {
  return std::bit_cast<uint16_t>(value);
}

template <class F, int N, class T>
void run_packed16(Wave &w, const Op &op) {
  uint32_t buffer[N][kLanes];
  const uint32_t *words[N];
  for (int i = 0; i < N; i++) words[i] = row_of(w, op.operand[1 + i], 0, buffer[i]);
  const Rounding rounding(std::is_same_v<T, Half> ? w.mode >> 2 & 3 : 0);
  uint32_t out[kLanes];
  for (int l = 0; l < w.size; l++) {
    uint32_t result = 0;
    for (int half = 0; half < 2; half++) {
      T x[3] = {};
      for (int i = 0; i < N; i++) {
        const bool high = (half ? op.op_sel_hi : op.op_sel) >> i & 1;
        uint32_t bits = words[i][l] >> (high ? 16 : 0) & 0xffff;
        if constexpr (std::is_same_v<T, Half>)
          if ((half ? op.neg_hi : op.neg_lo) >> i & 1) bits ^= 0x8000;
        x[i] = packed_value<T>(bits);
      }
      const bool clamp = op.clamp;
      uint16_t r;
      if constexpr (std::is_same_v<T, Half>) {
        Half h = F{}(x, false);
        r = half_bits(clamp ? limited(h) : h);
      } else {
        r = half_bits(T(F{}(x, clamp)));
      }
      result |= uint32_t(r) << (16 * half);
    }
    out[l] = result;
  }
  write_lanes(w, op.operand[0].index, out);
}

template <class T, int N, class F>
void packed16(const std::string &name, F) {
  Definition &d = define(name, Class::packed, run_packed16<F, N, T>, run_packed16<F, N, T>);
  d.handles_modifiers = true;
  d.prepare = [](Op &op) {
    for (int i = 0; i < N; i++) packed_constant<T>(op, 1 + i);
  };
}

Half half(double x) { return Half::from(x); }

// As v_max_f16 and v_min_f16: a signaling NaN comes out quiet, a quiet one gives way, +0 is above -0.
bool signaling(Half x) { return (x.bits & 0x7e00) == 0x7c00 && (x.bits & 0x1ff); }
constexpr Half kHalfNan = {0x7e00};
Half larger(Half x, Half y) {
  if (signaling(x) || signaling(y)) return kHalfNan;
  const double a = x.value(), b = y.value();
  return a != a ? y : b != b ? x : a == b ? Half{uint16_t(x.bits & y.bits)} : a > b ? x : y;
}
Half smaller(Half x, Half y) {
  if (signaling(x) || signaling(y)) return kHalfNan;
  const double a = x.value(), b = y.value();
  return a != a ? y : b != b ? x : a == b ? Half{uint16_t(x.bits | y.bits)} : a < b ? x : y;
}

template <class T>
T bounded(int64_t x, bool saturate) {
  if (!saturate) return T(x);
  return T(std::clamp<int64_t>(x, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
}

// Packed and mixed forms are written for single denormals kept and rounding to nearest, which is what HIP sets.
void refuse_other_modes(const Wave &w, const Op &op) {
  if (w.flush32 || (w.mode & 15))
    fault_at(w, op, -1, "not implemented under this MODE (rounding or flushed denormals)");
}

// --- two 32-bit words

template <class F, int N, int W>
void run_packed32(Wave &w, const Op &op) {
  refuse_other_modes(w, op);
  alignas(64) uint32_t out[2][kLanes], buffer[kLanes];
  alignas(64) float x[3][kLanes];
  for (int half = 0; half < 2; half++) {
    for (int i = 0; i < N; i++) {
      const Operand &operand = op.operand[1 + i];
      const bool high = (half ? op.op_sel_hi : op.op_sel) >> i & 1;
      const uint32_t flip = (half ? op.neg_hi : op.neg_lo) >> i & 1 ? 0x80000000u : 0;
      const uint32_t *from = row_of(w, operand, high, buffer);
      for (int l = 0; l < W; l++) x[i][l] = std::bit_cast<float>(from[l] ^ flip);
    }
    for (int l = 0; l < W; l++) {
      float r = F{}(x[0][l], x[1][l], N > 2 ? x[2][l] : 0.0f);
      if (op.clamp) r = limited(r);
      out[half][l] = std::bit_cast<uint32_t>(r);
    }
  }
  write_row<W>(w, op.operand[0].index, out[0]);
  write_row<W>(w, op.operand[0].index + 1, out[1]);
}

// What the high word of an inline constant holds is documented nowhere; only forms that read its low word are taken.
bool reads_high_of_constant(const Op &op, int sources) {
  for (int i = 0; i < sources; i++)
    if (op.operand[1 + i].kind == Operand::constant && op.operand[1 + i].bits != 0 &&
        ((op.op_sel | op.op_sel_hi) >> i & 1))
      return true;
  return false;
}

void refuse(Wave &w, const Op &op) {
  fault_at(w, op, -1, "an inline constant's high word is read; its value is not documented");
}

template <int N, class F>
void packed32(const std::string &name, F) {
  Definition &d = define(name, Class::packed, run_packed32<F, N, 64>, run_packed32<F, N, 32>);
  d.handles_modifiers = true;
  d.prepare = [](Op &op) {
    for (int i = 0; i < N; i++) type_constant<float>(op, 1 + i);
    if (reads_high_of_constant(op, N)) op.run = refuse;
  };
}

void run_pk_mov(Wave &w, const Op &op) {
  alignas(64) uint32_t out[2][kLanes], buffer[kLanes];
  for (int half = 0; half < 2; half++)
    std::copy_n(row_of(w, op.operand[1 + half], op.op_sel >> half & 1, buffer), kLanes, out[half]);
  write_row<64>(w, op.operand[0].index, out[0]);
  write_row<64>(w, op.operand[0].index + 1, out[1]);
}

// --- mixed precision: op_sel_hi says that a source is a half, op_sel which one

double mixed_source(const Wave &w, const Op &op, int i, int l) {
  const Operand &operand = op.operand[1 + i];
  uint32_t bits = operand.kind == Operand::vector     ? w.v[operand.index][l]
                  : operand.kind == Operand::constant ? uint32_t(operand.bits)
                                                      : w.read_scalar(operand.index);
  double x;
  if (op.op_sel_hi >> i & 1)
    x = Half{uint16_t(bits >> (op.op_sel >> i & 1 ? 16 : 0))}.value();
  else
    x = std::bit_cast<float>(bits);
  // In these forms neg_hi is the absolute value and neg_lo the sign.
  if (operand.absolute || (op.neg_hi >> i & 1)) x = std::fabs(x);
  if (operand.negate || (op.neg_lo >> i & 1)) x = -x;
  return x;
}

enum class MixResult { single, low_half, high_half };

template <MixResult Kind>
void run_mix(Wave &w, const Op &op) {
  refuse_other_modes(w, op);
  uint32_t out[kLanes];
  for (int l = 0; l < w.size; l++) {
    const double a = mixed_source(w, op, 0, l), b = mixed_source(w, op, 1, l), c = mixed_source(w, op, 2, l);
    const double sum = sum_to_odd(a * b, c);
    if (Kind == MixResult::single) {
      float r = float(sum);
      out[l] = std::bit_cast<uint32_t>(op.clamp ? limited(r) : r);
    } else {
      Half r = half(sum);
      if (op.clamp) r = limited(r);
      const uint32_t old = w.v[op.operand[0].index][l];
      out[l] = Kind == MixResult::low_half ? (old & 0xffff0000u) | r.bits : (old & 0xffffu) | uint32_t(r.bits) << 16;
    }
  }
  write_lanes(w, op.operand[0].index, out);
}

template <MixResult Kind>
void mix(const std::string &name) {
  Definition &d = define(name, Class::valu, run_mix<Kind>, run_mix<Kind>);
  d.handles_modifiers = true;
  d.prepare = [](Op &op) {
    if (op.op_sel_hi == 0xff) op.op_sel_hi = 0;  // not printed means all zero here
    for (int i = 1; i < 4; i++) type_constant<float>(op, i);
  };
}

// --- dot products: elements of a 32-bit word, summed in order onto the third source

template <class Element>
Element element(uint32_t word, int i, int bits) {
  const uint32_t field = bits == 32 ? word : word >> (i * bits) & ((1u << bits) - 1);
  if constexpr (std::is_signed_v<Element>) return Element(int32_t(field << (32 - bits)) >> (32 - bits));
  return Element(field);
}

template <class A, class B, int Bits>
int64_t dot(uint32_t a, uint32_t b) {
  int64_t sum = 0;
  for (int i = 0; i < 32 / Bits; i++) sum += int64_t(element<A>(a, i, Bits)) * int64_t(element<B>(b, i, Bits));
  return sum;
}

float dot2_half(uint32_t a, uint32_t b, float c) {
  for (int i = 0; i < 2; i++)
    c = float(sum_to_odd(Half{uint16_t(a >> (16 * i))}.value() * Half{uint16_t(b >> (16 * i))}.value(), double(c)));
  return c;
}

template <int Bits>
void run_mixed_sign(Wave &w, const Op &op) {
  uint32_t out[kLanes];
  for (int l = 0; l < w.size; l++) {
    uint32_t x[3];
    for (int i = 0; i < 3; i++) {
      const Operand &operand = op.operand[1 + i];
      x[i] = operand.kind == Operand::vector     ? w.v[operand.index][l]
             : operand.kind == Operand::constant ? uint32_t(operand.bits)
                                                 : w.read_scalar(operand.index);
    }
    const bool a = op.neg_lo & 1, b = op.neg_lo >> 1 & 1;
    int64_t sum = a && b ? dot<int32_t, int32_t, Bits>(x[0], x[1])
                  : a    ? dot<int32_t, uint32_t, Bits>(x[0], x[1])
                  : b    ? dot<uint32_t, int32_t, Bits>(x[0], x[1])
                         : dot<uint32_t, uint32_t, Bits>(x[0], x[1]);
    sum += int32_t(x[2]);
    if (op.clamp) sum = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
    out[l] = uint32_t(sum);
  }
  write_lanes(w, op.operand[0].index, out);
}

template <int Bits>
void mixed_sign(const std::string &name) {
  Definition &d = define(name, Class::packed, run_mixed_sign<Bits>, run_mixed_sign<Bits>);
  d.handles_modifiers = true;
  d.prepare = [](Op &op) { type_constants<uint32_t, uint32_t, uint32_t>(op, 1); };
}

}  // namespace

void define_packed() {
  packed16<Half, 2>("v_pk_add_f16", [](Half *x, bool) { return half(x[0].value() + x[1].value()); });
  packed16<Half, 2>("v_pk_mul_f16", [](Half *x, bool) { return half(x[0].value() * x[1].value()); });
  packed16<Half, 2>("v_pk_min_f16", [](Half *x, bool) { return smaller(x[0], x[1]); });
  packed16<Half, 2>("v_pk_max_f16", [](Half *x, bool) { return larger(x[0], x[1]); });
  packed16<Half, 3>("v_pk_fma_f16",
                    [](Half *x, bool) { return half(sum_to_odd(x[0].value() * x[1].value(), x[2].value())); });
  {
    Definition &d = definitions()["v_pk_fmac_f16"] = definitions()["v_pk_fma_f16"];
    d.prepare = [](Op &op) { op.operand[op.operands++] = op.operand[0]; };
  }
  packed16<uint16_t, 2>("v_pk_add_u16", [](uint16_t *x, bool s) { return bounded<uint16_t>(int64_t(x[0]) + x[1], s); });
  packed16<uint16_t, 2>("v_pk_sub_u16", [](uint16_t *x, bool s) { return bounded<uint16_t>(int64_t(x[0]) - x[1], s); });
  packed16<int16_t, 2>("v_pk_add_i16", [](int16_t *x, bool s) { return bounded<int16_t>(int64_t(x[0]) + x[1], s); });
  packed16<int16_t, 2>("v_pk_sub_i16", [](int16_t *x, bool s) { return bounded<int16_t>(int64_t(x[0]) - x[1], s); });
  packed16<uint16_t, 2>("v_pk_mul_lo_u16", [](uint16_t *x, bool) { return uint16_t(uint32_t(x[0]) * x[1]); });
  packed16<uint16_t, 3>("v_pk_mad_u16",
                        [](uint16_t *x, bool s) { return bounded<uint16_t>(int64_t(x[0]) * x[1] + x[2], s); });
  packed16<int16_t, 3>("v_pk_mad_i16",
                       [](int16_t *x, bool s) { return bounded<int16_t>(int64_t(x[0]) * x[1] + x[2], s); });
  packed16<uint16_t, 2>("v_pk_min_u16", [](uint16_t *x, bool) { return std::min(x[0], x[1]); });
  packed16<uint16_t, 2>("v_pk_max_u16", [](uint16_t *x, bool) { return std::max(x[0], x[1]); });
  packed16<int16_t, 2>("v_pk_min_i16", [](int16_t *x, bool) { return std::min(x[0], x[1]); });
  packed16<int16_t, 2>("v_pk_max_i16", [](int16_t *x, bool) { return std::max(x[0], x[1]); });
  packed16<uint16_t, 2>("v_pk_lshlrev_b16", [](uint16_t *x, bool) { return uint16_t(x[1] << (x[0] & 15)); });
  packed16<uint16_t, 2>("v_pk_lshrrev_b16", [](uint16_t *x, bool) { return uint16_t(x[1] >> (x[0] & 15)); });
  packed16<int16_t, 2>("v_pk_ashrrev_i16", [](int16_t *x, bool) { return int16_t(x[1] >> (x[0] & 15)); });

  packed32<3>("v_pk_fma_f32", [](float a, float b, float c) { return __builtin_fmaf(a, b, c); });
  packed32<2>("v_pk_mul_f32", [](float a, float b, float) { return a * b; });
  packed32<2>("v_pk_add_f32", [](float a, float b, float) { return a + b; });
  Definition &move = define("v_pk_mov_b32", Class::packed, run_pk_mov, run_pk_mov);
  move.handles_modifiers = true;
  move.prepare = [](Op &op) { type_constants<uint32_t, uint32_t>(op, 1); };

  for (const char *name : {"v_fma_mix_f32", "v_mad_mix_f32"}) mix<MixResult::single>(name);
  for (const char *name : {"v_fma_mixlo_f16", "v_mad_mixlo_f16"}) mix<MixResult::low_half>(name);
  for (const char *name : {"v_fma_mixhi_f16", "v_mad_mixhi_f16"}) mix<MixResult::high_half>(name);

  vector(
      "v_dot2_f32_f16", [](uint32_t a, uint32_t b, float c) { return dot2_half(a, b, c); }, Class::packed);
  for (const char *name : {"v_dot2c_f32_f16", "v_dot2acc_f32_f16"})
    accumulating(
        name, [](uint32_t a, uint32_t b, float c) { return dot2_half(a, b, c); }, Class::packed);
  vector(
      "v_dot2_f32_bf16",
      [](uint32_t a, uint32_t b, float c) {  // denormals are flushed
        for (int i = 0; i < 32; i += 16)
          c = flushed(float(sum_to_odd(
              double(flushed(std::bit_cast<float>(a >> i << 16))) * double(flushed(std::bit_cast<float>(b >> i << 16))),
              double(flushed(c)))));
        return c;
      },
      Class::packed);
  // iu8, iu4: neg_lo says which operand is signed.
  mixed_sign<8>("v_dot4_i32_iu8");
  mixed_sign<4>("v_dot8_i32_iu4");
  vector(
      "v_dot2_i32_i16",
      [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<int32_t, int32_t, 16>(a, b)) + c; }, Class::packed);
  accumulating(
      "v_dot2c_i32_i16",
      [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<int32_t, int32_t, 16>(a, b)) + c; }, Class::packed);
  vector(
      "v_dot2_u32_u16",
      [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<uint32_t, uint32_t, 16>(a, b)) + c; },
      Class::packed);
  vector(
      "v_dot4_i32_i8", [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<int32_t, int32_t, 8>(a, b)) + c; },
      Class::packed);
  accumulating(
      "v_dot4c_i32_i8", [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<int32_t, int32_t, 8>(a, b)) + c; },
      Class::packed);
  vector(
      "v_dot4_u32_u8",
      [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<uint32_t, uint32_t, 8>(a, b)) + c; }, Class::packed);
  vector(
      "v_dot8_i32_i4", [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<int32_t, int32_t, 4>(a, b)) + c; },
      Class::packed);
  accumulating(
      "v_dot8c_i32_i4", [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<int32_t, int32_t, 4>(a, b)) + c; },
      Class::packed);
  vector(
      "v_dot8_u32_u4",
      [](uint32_t a, uint32_t b, uint32_t c) { return uint32_t(dot<uint32_t, uint32_t, 4>(a, b)) + c; }, Class::packed);
}

}  // namespace amdsim
