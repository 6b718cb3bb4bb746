// Vector ALU, one lane at a time. Source of meaning: AMD's ISA documents "MI200", "CDNA3", "RDNA3"; names of both
// families.
#include <array>

#include "isa.hpp"

namespace amdsim {
namespace {

using u8 = uint8_t;
using u16 = uint16_t;
using i16 = int16_t;
using u32 = uint32_t;
using i32 = int32_t;
using u64 = uint64_t;
using i64 = int64_t;

// Transcendental units flush denormals on both sides (docs/AMDSIM.md, assumptions).
template <class F>
float transcendental(float x, F f) {
  return flushed(float(f(double(flushed(x)))));
}

// v_rcp_f64 and v_rsq_f64 are good to 2^29 ulp: what lies below is cut off, so that a missing refinement shows.
double coarse(double x) {
  if (!std::isfinite(x)) return x;
  return std::bit_cast<double>(std::bit_cast<u64>(x) & ~((1ull << 28) - 1));
}

template <class T>
bool signaling(T x) {
  if constexpr (std::is_same_v<T, Half>)
    return (x.bits & 0x7e00) == 0x7c00 && (x.bits & 0x1ff);
  else if constexpr (sizeof(T) == 8)
    return x != x && !(std::bit_cast<u64>(x) >> 51 & 1);
  else
    return x != x && !(std::bit_cast<u32>(x) >> 22 & 1);
}

// Of floats: a signaling NaN comes out quiet (MODE.IEEE, which HIP sets), a quiet one gives way, +0 is above -0.
template <class T>
T maximum(T a, T b) {
  if constexpr (is_float<T>) {
    using B = std::conditional_t<sizeof(T) == 8, u64, u32>;
    const T nan = std::numeric_limits<T>::quiet_NaN();
    if (signaling(a) || signaling(b)) return nan;
    if (a == b) return std::bit_cast<T>(B(std::bit_cast<B>(a) & std::bit_cast<B>(b)));
    if (a != a) return b;
    if (b != b) return a;
  }
  return a > b ? a : b;
}

template <class T>
T minimum(T a, T b) {
  if constexpr (is_float<T>) {
    using B = std::conditional_t<sizeof(T) == 8, u64, u32>;
    const T nan = std::numeric_limits<T>::quiet_NaN();
    if (signaling(a) || signaling(b)) return nan;
    if (a == b) return std::bit_cast<T>(B(std::bit_cast<B>(a) | std::bit_cast<B>(b)));
    if (a != a) return b;
    if (b != b) return a;
  }
  return a < b ? a : b;
}

constexpr Half kHalfNan = {0x7e00};
Half maximum(Half a, Half b) {
  return signaling(a) || signaling(b) ? kHalfNan : Half::from(maximum(a.value(), b.value()));
}
Half minimum(Half a, Half b) {
  return signaling(a) || signaling(b) ? kHalfNan : Half::from(minimum(a.value(), b.value()));
}

template <class T>
T median(T a, T b, T c) {
  if constexpr (std::is_floating_point_v<T>)
    if (a != a || b != b || c != c) return minimum(minimum(a, b), c);
  const T largest = maximum(maximum(a, b), c);
  if (largest == a) return maximum(b, c);
  if (largest == b) return maximum(a, c);
  return maximum(a, b);
}

i32 to_i32(double x) {
  if (x != x) return 0;
  return x <= -2147483648.0 ? INT32_MIN : x >= 2147483647.0 ? INT32_MAX : i32(x);
}

u32 to_u32(double x) {
  if (!(x > 0)) return 0;
  return x >= 4294967295.0 ? UINT32_MAX : u32(x);
}

// v_fma_f16: the product is exact in double, the sum is rounded once.
Half fused(Half a, Half b, Half c) { return Half::from(sum_to_odd(a.value() * b.value(), c.value())); }

Half half(double x) { return Half::from(x); }

// Float of one precision as an exact scaled value: f32 results via double are rounded once.
float scaled(float x, int exponent) {
  const int e = exponent < -400 ? -400 : exponent > 400 ? 400 : exponent;
  return float(std::ldexp(double(x), e));
}

int exponent_of(float x) { return int(std::bit_cast<u32>(x) >> 23 & 0xff); }
int exponent_of(double x) { return int(std::bit_cast<u64>(x) >> 52 & 0x7ff); }

template <class T>
struct Division;
template <>
struct Division<float> {
  static constexpr int near_maximum = 96, tiny = 23, scale = 64, underflow = -150;
  static constexpr float least_normal = 0x1p-126f;
  static float scaled_by(float x, int e) { return scaled(x, e); }
};
template <>
struct Division<double> {
  static constexpr int near_maximum = 768, tiny = 53, scale = 128, underflow = -1075;
  static constexpr double least_normal = 0x1p-1022;
  static double scaled_by(double x, int e) { return std::ldexp(x, e); }
};

template <class T>
bool denormal(T x) {
  return x != 0 && std::fabs(x) < Division<T>::least_normal;
}

// s0: what is scaled (the denominator or the numerator), s1: denominator, s2: numerator. The bit tells div_fmas to undo
// it.
template <class T>
WithMask<T> div_scale(T s0, T s1, T s2) {
  using D = Division<T>;
  if (s2 == 0 || s1 == 0) return {std::numeric_limits<T>::quiet_NaN(), false};
  const auto up = [&] { return D::scaled_by(s0, D::scale); };
  if (exponent_of(s2) - exponent_of(s1) >= D::near_maximum) return {s0 == s1 ? up() : s0, true};
  if (denormal(s1)) return {up(), false};
  const bool small_inverse = denormal(T(1) / s1), small_quotient = denormal(T(s2 / s1));
  // Down, although AMD's pseudocode says up in the first case: up would overflow, and div_fmas scales a small quotient
  // down.
  const auto down = [&] { return D::scaled_by(s0, -D::scale); };
  if (small_inverse && small_quotient) return {s0 == s1 ? down() : s0, true};
  if (small_inverse) return {down(), false};
  if (small_quotient) return {s0 == s2 ? up() : s0, true};
  if (exponent_of(s2) <= D::tiny) return {up(), false};
  return {s0, false};
}

template <class T>
T div_fixup(T s0, T s1, T s2) {
  const bool negative = std::signbit(s1) != std::signbit(s2);
  const auto signed_as = [&](T x) { return negative ? -x : x; };
  if (s2 != s2) return s2 + s2;
  if (s1 != s1) return s1 + s1;
  if ((s1 == 0 && s2 == 0) || (std::isinf(s1) && std::isinf(s2))) return -std::numeric_limits<T>::quiet_NaN();
  if (s1 == 0 || std::isinf(s2)) return signed_as(std::numeric_limits<T>::infinity());
  if (std::isinf(s1) || s2 == 0) return signed_as(T(0));
  if (exponent_of(s2) - exponent_of(s1) < Division<T>::underflow) return signed_as(T(0));
  // Ordinary operands, but the refinement went from infinity to NaN: the quotient overflows (the pseudocode's OVERFLOW
  // case).
  if (s0 != s0) return signed_as(std::numeric_limits<T>::infinity());
  return signed_as(std::fabs(s0));
}

// With the lane's VCC bit the scaling of div_scale is undone on the exact sum, so that a denormal quotient is rounded
// once.
float div_fmas(float a, float b, float c, LaneBit undo) {
  if (!undo.bit) return std::fma(a, b, c);
  const int e = exponent_of(c) > 127 ? 64 : -64;
  return float(std::ldexp(sum_to_odd(double(a) * double(b), double(c)), e));
}

double div_fmas(double a, double b, double c, LaneBit undo) {
  if (!undo.bit) return std::fma(a, b, c);
  const int e = exponent_of(c) > 1023 ? 128 : -128;
  const __float128 s = __float128(a) * b + c;
  return double(s * (e > 0 ? __float128(0x1p128) : __float128(0x1p-128)));
}

// 2/π, 1201 bits after the binary point, most significant first, for v_trig_preop_f64. Computed once: π by Machin's
// formula in fixed point, then a long division.
class TwoOverPi {
 public:
  static constexpr int kBits = 1201;
  TwoOverPi() {
    Number pi = arctangent_inverse(5);
    times(pi, 16);
    Number other = arctangent_inverse(239);
    times(other, 4);
    subtract(pi, other);
    // Long division of 2 by π, one bit at a time; remainder < π < 4, so two bits before the point are enough.
    Number rest{};
    rest[kWords - 1] = 2;
    for (int i = 0; i < kBits; i++) {
      times(rest, 2);
      if (!less(rest, pi)) {
        subtract(rest, pi);
        bits_[i] = true;
      }
    }
  }
  // 53 bits from `shift` on, as an integer.
  u64 field(int shift) const {
    u64 value = 0;
    for (int i = shift; i < shift + 53; i++) value = value << 1 | (i < kBits && bits_[i]);
    return value;
  }

 private:
  static constexpr int kWords = 46;  // 32-bit words: one before the point, 1440 bits after it
  using Number = std::array<u32, kWords>;
  static void times(Number &x, u32 factor) {
    u64 carry = 0;
    for (u32 &word : x) {
      carry += u64(word) * factor;
      word = u32(carry);
      carry >>= 32;
    }
  }
  static void divide(Number &x, u32 by) {
    u64 rest = 0;
    for (int i = kWords - 1; i >= 0; i--) {
      rest = rest << 32 | x[i];
      x[i] = u32(rest / by);
      rest %= by;
    }
  }
  static bool less(const Number &a, const Number &b) {
    for (int i = kWords - 1; i >= 0; i--)
      if (a[i] != b[i]) return a[i] < b[i];
    return false;
  }
  static void subtract(Number &a, const Number &b) {
    i64 borrow = 0;
    for (int i = 0; i < kWords; i++) {
      const i64 difference = i64(a[i]) - i64(b[i]) + borrow;
      a[i] = u32(difference);
      borrow = difference >> 32;
    }
  }
  static void add(Number &a, const Number &b) {
    u64 carry = 0;
    for (int i = 0; i < kWords; i++) {
      carry += u64(a[i]) + b[i];
      a[i] = u32(carry);
      carry >>= 32;
    }
  }
  static Number arctangent_inverse(u32 x) {  // Σ (-1)^k / ((2k+1) x^(2k+1))
    Number power{}, sum{};
    power[kWords - 1] = 1;
    divide(power, x);
    for (u32 k = 1; k < 2200; k += 2) {
      Number term = power;
      divide(term, k);
      if (k % 4 == 1)
        add(sum, term);
      else
        subtract(sum, term);
      divide(power, x * x);
    }
    return sum;
  }
  bool bits_[kBits] = {};
};

double trig_preop(double x, u32 segment) {
  static const TwoOverPi two_over_pi;
  int shift = int(segment & 31) * 53;
  if (exponent_of(x) > 1077) shift += exponent_of(x) - 1077;
  int scale = -53 - shift;
  if (exponent_of(x) >= 1968) scale += 128;
  return std::ldexp(double(two_over_pi.field(shift)), scale);
}

u32 bytes_permuted(u32 s0, u32 s1, u32 selector) {
  const u64 data = u64(s0) << 32 | s1;
  u32 result = 0;
  for (int i = 0; i < 4; i++) {
    const u32 select = selector >> (8 * i) & 0xff;
    u32 byte;
    if (select >= 13)
      byte = 0xff;
    else if (select == 12)
      byte = 0;
    else if (select >= 8)
      byte = data >> (16 * (select - 8) + 15) & 1 ? 0xff : 0;
    else
      byte = data >> (8 * select) & 0xff;
    result |= byte << (8 * i);
  }
  return result;
}

u32 absolute_difference(u32 a, u32 b) { return a > b ? a - b : b - a; }

u32 sum_of_differences(u32 a, u32 b, u32 c, int width, bool skip_zero) {
  const u32 field = width == 8 ? 0xff : 0xffff;
  for (int i = 0; i < 32; i += width) {
    const u32 x = a >> i & field, y = b >> i & field;
    if (skip_zero && y == 0) continue;
    c += absolute_difference(x, y);
  }
  return c;
}

u32 first_one_high(u32 x) { return x ? u32(std::countl_zero(x)) : ~0u; }
u32 first_one_low(u32 x) { return x ? u32(std::countr_zero(x)) : ~0u; }
u32 first_other_than_sign(i32 x) {
  const u32 y = u32(x) ^ u32(x >> 31);
  return y ? u32(std::countl_zero(y)) : ~0u;
}

u32 half_toward_zero(float x) {
  std::fesetround(FE_TOWARDZERO);
  const u32 bits = Half::from(double(x)).bits;
  std::fesetround(FE_TONEAREST);
  return bits;
}

u32 normalized_signed(double x) {
  return u32(u16(i16(std::nearbyint((x != x ? 0 : x < -1 ? -1 : x > 1 ? 1 : x) * 32767))));
}
u32 normalized_unsigned(double x) { return u32(u16(std::nearbyint((x != x ? 0 : x < 0 ? 0 : x > 1 ? 1 : x) * 65535))); }
u32 to_byte(float x) { return !(x > 0) ? 0 : x >= 255 ? 255 : u32(std::nearbyint(x)); }

float mantissa(float x) {
  int e;
  return std::isfinite(x) ? std::frexp(x, &e) : x;
}
double mantissa(double x) {
  int e;
  return std::isfinite(x) ? std::frexp(x, &e) : x;
}
template <class T>
i32 binary_exponent(T x) {
  int e = 0;
  if (std::isfinite(x)) std::frexp(x, &e);
  return x == 0 ? 0 : e;
}

template <class T>
T saturated_sum(i64 x) {
  constexpr i64 low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
  return T(x < low ? low : x > high ? high : x);
}

void define_float32() {
  vector("v_add_f32", [](float a, float b) { return a + b; });
  vector("v_sub_f32", [](float a, float b) { return a - b; });
  vector("v_subrev_f32", [](float a, float b) { return b - a; });
  vector("v_mul_f32", [](float a, float b) { return a * b; });
  const auto legacy = [](float a, float b) { return a == 0 || b == 0 ? 0.0f : a * b; };
  vector("v_mul_legacy_f32", legacy);
  vector("v_mul_dx9_zero_f32", legacy);
  vector("v_min_f32", [](float a, float b) { return minimum(a, b); });
  vector("v_max_f32", [](float a, float b) { return maximum(a, b); });
  vector("v_min3_f32", [](float a, float b, float c) { return minimum(minimum(a, b), c); });
  vector("v_max3_f32", [](float a, float b, float c) { return maximum(maximum(a, b), c); });
  vector("v_med3_f32", [](float a, float b, float c) { return median(a, b, c); });
  vector("v_minmax_f32", [](float a, float b, float c) { return maximum(minimum(a, b), c); });
  vector("v_maxmin_f32", [](float a, float b, float c) { return minimum(maximum(a, b), c); });
  const auto fma32 = [](float a, float b, float c) { return __builtin_fmaf(a, b, c); };
  vector("v_fma_f32", fma32);
  vector("v_fmamk_f32", fma32);
  vector("v_fmaak_f32", fma32);
  accumulating("v_fmac_f32", fma32);
  // mad and mac round the product and flush denormals on the way in and out.
  const auto mad = [](float a, float b, float c) { return flushed(flushed(flushed(a) * flushed(b)) + flushed(c)); };
  vector("v_mad_f32", mad);
  vector("v_madmk_f32", mad);
  vector("v_madak_f32", mad);
  accumulating("v_mac_f32", mad);
  vector(
      "v_rcp_f32", [](float x) { return transcendental(x, [](double v) { return 1 / v; }); }, Class::transcendental);
  vector(
      "v_rcp_iflag_f32", [](float x) { return transcendental(x, [](double v) { return 1 / v; }); },
      Class::transcendental);
  vector(
      "v_rsq_f32", [](float x) { return transcendental(x, [](double v) { return 1 / std::sqrt(v); }); },
      Class::transcendental);
  vector(
      "v_sqrt_f32", [](float x) { return transcendental(x, [](double v) { return std::sqrt(v); }); },
      Class::transcendental);
  vector(
      "v_exp_f32", [](float x) { return transcendental(x, [](double v) { return std::exp2(v); }); },
      Class::transcendental);
  vector(
      "v_log_f32", [](float x) { return transcendental(x, [](double v) { return std::log2(v); }); },
      Class::transcendental);
  // Inputs are turns; outside of ±256 the hardware gives sin 0, cos 1.
  vector(
      "v_sin_f32",
      [](float x) {
        return std::fabs(x) > 256 ? 0.0f
                                  : float(std::sin(6.283185307179586476925 * (double(x) - std::floor(double(x)))));
      },
      Class::transcendental);
  vector(
      "v_cos_f32",
      [](float x) {
        return std::fabs(x) > 256 ? 1.0f
                                  : float(std::cos(6.283185307179586476925 * (double(x) - std::floor(double(x)))));
      },
      Class::transcendental);
  vector("v_floor_f32", [](float x) { return std::floor(x); });
  vector("v_ceil_f32", [](float x) { return std::ceil(x); });
  vector("v_trunc_f32", [](float x) { return std::trunc(x); });
  vector("v_rndne_f32", [](float x) { return __builtin_nearbyintf(x); });
  vector("v_fract_f32", [](float x) { return x != x ? x : minimum(x - std::floor(x), 0x1.fffffep-1f); });
  vector("v_ldexp_f32", [](float x, i32 e) { return scaled(x, e); });
  vector("v_frexp_mant_f32", [](float x) { return mantissa(x); });
  vector("v_frexp_exp_i32_f32", [](float x) { return binary_exponent(x); });
  vector("v_div_scale_f32", [](float a, float b, float c) { return div_scale(a, b, c); });
  vector("v_div_fixup_f32", [](float a, float b, float c) { return div_fixup(a, b, c); });
}

void define_float64() {
  vector("v_add_f64", [](double a, double b) { return a + b; });
  vector("v_mul_f64", [](double a, double b) { return a * b; });
  const auto fma64 = [](double a, double b, double c) { return __builtin_fma(a, b, c); };
  vector("v_fma_f64", fma64);
  accumulating("v_fmac_f64", fma64);
  vector("v_min_f64", [](double a, double b) { return minimum(a, b); });
  vector("v_max_f64", [](double a, double b) { return maximum(a, b); });
  vector(
      "v_rcp_f64", [](double x) { return coarse(1 / x); }, Class::transcendental);
  vector(
      "v_rsq_f64", [](double x) { return coarse(1 / std::sqrt(x)); }, Class::transcendental);
  vector(
      "v_sqrt_f64", [](double x) { return coarse(std::sqrt(x)); }, Class::transcendental);
  vector("v_floor_f64", [](double x) { return std::floor(x); });
  vector("v_ceil_f64", [](double x) { return std::ceil(x); });
  vector("v_trunc_f64", [](double x) { return std::trunc(x); });
  vector("v_rndne_f64", [](double x) { return std::nearbyint(x); });
  vector("v_fract_f64", [](double x) { return x != x ? x : minimum(x - std::floor(x), 0x1.fffffffffffffp-1); });
  vector("v_ldexp_f64", [](double x, i32 e) { return std::ldexp(x, e); });
  vector("v_frexp_mant_f64", [](double x) { return mantissa(x); });
  vector("v_frexp_exp_i32_f64", [](double x) { return binary_exponent(x); });
  vector("v_div_scale_f64", [](double a, double b, double c) { return div_scale(a, b, c); });
  vector("v_div_fixup_f64", [](double a, double b, double c) { return div_fixup(a, b, c); });
  vector("v_trig_preop_f64", [](double x, u32 s) { return trig_preop(x, s); });
  // div_fmas reads VCC, which its text does not show.
  const auto with_vcc = [](Definition &d) {
    d.prepare = [inner = d.prepare](Op &op) {
      op.operand[op.operands++] = vcc_operand();
      inner(op);
    };
  };
  with_vcc(vector("v_div_fmas_f32", [](float a, float b, float c, LaneBit v) { return div_fmas(a, b, c, v); }));
  with_vcc(vector("v_div_fmas_f64", [](double a, double b, double c, LaneBit v) { return div_fmas(a, b, c, v); }));
}

void define_float16() {
  vector("v_add_f16", [](Half a, Half b) { return half(a.value() + b.value()); });
  vector("v_sub_f16", [](Half a, Half b) { return half(a.value() - b.value()); });
  vector("v_subrev_f16", [](Half a, Half b) { return half(b.value() - a.value()); });
  vector("v_mul_f16", [](Half a, Half b) { return half(a.value() * b.value()); });
  vector("v_min_f16", [](Half a, Half b) { return minimum(a, b); });
  vector("v_max_f16", [](Half a, Half b) { return maximum(a, b); });
  vector("v_min3_f16", [](Half a, Half b, Half c) { return minimum(minimum(a, b), c); });
  vector("v_max3_f16", [](Half a, Half b, Half c) { return maximum(maximum(a, b), c); });
  vector("v_med3_f16", [](Half a, Half b, Half c) {
    const double x = a.value(), y = b.value(), z = c.value();
    return x != x || y != y || z != z ? minimum(minimum(a, b), c) : half(median(x, y, z));
  });
  vector<true>("v_fma_f16", [](Half a, Half b, Half c) { return fused(a, b, c); });
  accumulating("v_fmac_f16", [](Half a, Half b, Half c) { return fused(a, b, c); });
  vector("v_fmamk_f16", [](Half a, Half b, Half c) { return fused(a, b, c); });
  vector("v_fmaak_f16", [](Half a, Half b, Half c) { return fused(a, b, c); });
  vector<true>("v_mad_f16",
               [](Half a, Half b, Half c) { return half(half(a.value() * b.value()).value() + c.value()); });
  vector("v_mad_legacy_f16",
         [](Half a, Half b, Half c) { return half(half(a.value() * b.value()).value() + c.value()); });
  vector("v_fma_legacy_f16", [](Half a, Half b, Half c) { return fused(a, b, c); });
  accumulating("v_mac_f16",
               [](Half a, Half b, Half c) { return half(half(a.value() * b.value()).value() + c.value()); });
  vector(
      "v_rcp_f16", [](Half x) { return half(1 / x.value()); }, Class::transcendental);
  vector(
      "v_rsq_f16", [](Half x) { return half(1 / std::sqrt(x.value())); }, Class::transcendental);
  vector(
      "v_sqrt_f16", [](Half x) { return half(std::sqrt(x.value())); }, Class::transcendental);
  vector(
      "v_exp_f16", [](Half x) { return half(std::exp2(x.value())); }, Class::transcendental);
  vector(
      "v_log_f16", [](Half x) { return half(std::log2(x.value())); }, Class::transcendental);
  vector(
      "v_sin_f16", [](Half x) { return half(std::sin(6.283185307179586476925 * (x.value() - std::floor(x.value())))); },
      Class::transcendental);
  vector(
      "v_cos_f16", [](Half x) { return half(std::cos(6.283185307179586476925 * (x.value() - std::floor(x.value())))); },
      Class::transcendental);
  vector("v_floor_f16", [](Half x) { return half(std::floor(x.value())); });
  vector("v_ceil_f16", [](Half x) { return half(std::ceil(x.value())); });
  vector("v_trunc_f16", [](Half x) { return half(std::trunc(x.value())); });
  vector("v_rndne_f16", [](Half x) { return half(std::nearbyint(x.value())); });
  vector("v_fract_f16", [](Half x) {
    const double v = x.value();
    return v != v ? x : half(minimum(v - std::floor(v), 0x1.ffcp-1));
  });
  vector("v_ldexp_f16", [](Half x, i16 e) { return half(std::ldexp(x.value(), e)); });
  vector("v_frexp_mant_f16", [](Half x) { return half(mantissa(x.value())); });
  vector("v_frexp_exp_i16_f16", [](Half x) { return i16(binary_exponent(x.value())); });
  vector<true>("v_div_fixup_f16", [](Half a, Half b, Half c) {
    const double n = c.value(), d = b.value(), q = a.value();
    const bool negative = std::signbit(n) != std::signbit(d);
    if (n != n) return c;
    if (d != d) return b;
    if ((d == 0 && n == 0) || (std::isinf(d) && std::isinf(n))) return Half{0xfe00};
    if (d == 0 || std::isinf(n)) return Half{u16(negative ? 0xfc00 : 0x7c00)};
    if (std::isinf(d) || n == 0) return Half{u16(negative ? 0x8000 : 0)};
    return half(negative ? -std::fabs(q) : std::fabs(q));
  });
}

void define_conversions() {
  vector("v_cvt_f32_i32", [](i32 x) { return float(x); });
  vector("v_cvt_f32_u32", [](u32 x) { return float(x); });
  vector("v_cvt_i32_f32", [](float x) { return to_i32(x); });
  vector("v_cvt_u32_f32", [](float x) { return to_u32(x); });
  for (const char *name : {"v_cvt_rpi_i32_f32", "v_cvt_nearest_i32_f32"})
    vector(name, [](float x) { return to_i32(std::floor(double(x) + 0.5)); });
  for (const char *name : {"v_cvt_flr_i32_f32", "v_cvt_floor_i32_f32"})
    vector(name, [](float x) { return to_i32(std::floor(double(x))); });
  vector("v_cvt_f32_ubyte0", [](u32 x) { return float(x & 0xff); });
  vector("v_cvt_f32_ubyte1", [](u32 x) { return float(x >> 8 & 0xff); });
  vector("v_cvt_f32_ubyte2", [](u32 x) { return float(x >> 16 & 0xff); });
  vector("v_cvt_f32_ubyte3", [](u32 x) { return float(x >> 24); });
  vector("v_cvt_off_f32_i4", [](u32 x) { return float(i32(x << 28) >> 28) / 16; });
  vector("v_cvt_i32_i16", [](i16 x) { return i32(x); });
  vector("v_cvt_u32_u16", [](u16 x) { return u32(x); });
  vector("v_cvt_f64_i32", [](i32 x) { return double(x); });
  vector("v_cvt_f64_u32", [](u32 x) { return double(x); });
  vector("v_cvt_i32_f64", [](double x) { return to_i32(x); });
  vector("v_cvt_u32_f64", [](double x) { return to_u32(x); });
  vector("v_cvt_f32_f64", [](double x) { return float(x); });
  vector("v_cvt_f64_f32", [](float x) { return double(x); });
  vector("v_cvt_f32_f16", [](Half x) { return float(x.value()); });
  vector("v_cvt_f16_f32", [](float x) { return half(double(x)); });
  vector("v_cvt_f16_u16", [](u16 x) { return half(x); });
  vector("v_cvt_f16_i16", [](i16 x) { return half(x); });
  vector("v_cvt_u16_f16", [](Half x) {
    const double v = x.value();
    return u16(!(v > 0) ? 0 : v >= 65535 ? 65535 : u32(v));
  });
  vector("v_cvt_i16_f16", [](Half x) {
    const double v = x.value();
    return i16(v != v ? 0 : v <= -32768 ? -32768 : v >= 32767 ? 32767 : i32(v));
  });
  for (const char *name : {"v_cvt_pkrtz_f16_f32", "v_cvt_pk_rtz_f16_f32"})
    vector(name, [](float a, float b) { return half_toward_zero(a) | half_toward_zero(b) << 16; });
  for (const char *name : {"v_cvt_pknorm_i16_f32", "v_cvt_pk_norm_i16_f32"})
    vector(name, [](float a, float b) { return normalized_signed(a) | normalized_signed(b) << 16; });
  for (const char *name : {"v_cvt_pknorm_u16_f32", "v_cvt_pk_norm_u16_f32"})
    vector(name, [](float a, float b) { return normalized_unsigned(a) | normalized_unsigned(b) << 16; });
  vector("v_cvt_pk_i16_f32", [](float a, float b) {
    return u32(u16(saturated_sum<i16>(to_i32(a)))) | u32(u16(saturated_sum<i16>(to_i32(b)))) << 16;
  });
  vector("v_cvt_pk_u16_f32",
         [](float a, float b) { return std::min(to_u32(a), 0xffffu) | std::min(to_u32(b), 0xffffu) << 16; });
  vector("v_cvt_pk_u16_u32", [](u32 a, u32 b) { return std::min(a, 0xffffu) | std::min(b, 0xffffu) << 16; });
  vector("v_cvt_pk_i16_i32",
         [](i32 a, i32 b) { return u32(u16(saturated_sum<i16>(a))) | u32(u16(saturated_sum<i16>(b))) << 16; });
  vector("v_cvt_pk_u8_f32", [](float x, u32 place, u32 rest) {
    const int shift = int(place & 3) * 8;
    return (rest & ~(0xffu << shift)) | to_byte(x) << shift;
  });
}

void define_integer() {
  vector("v_mov_b32", [](u32 x) { return x; });
  vector("v_mov_b64", [](u64 x) { return x; });
  vector<true>("v_mov_b16", [](u16 x) { return x; });
  vector("v_accvgpr_read_b32", [](u32 x) { return x; });
  vector("v_accvgpr_write_b32", [](u32 x) { return x; });
  vector("v_accvgpr_mov_b32", [](u32 x) { return x; });
  vector("v_not_b32", [](u32 x) { return ~x; });
  vector("v_bfrev_b32", [](u32 x) { return reversed_bits(x); });
  for (const char *name : {"v_ffbh_u32", "v_clz_i32_u32"}) vector(name, [](u32 x) { return first_one_high(x); });
  for (const char *name : {"v_ffbl_b32", "v_ctz_i32_b32"}) vector(name, [](u32 x) { return first_one_low(x); });
  for (const char *name : {"v_ffbh_i32", "v_cls_i32"}) vector(name, [](i32 x) { return first_other_than_sign(x); });
  vector("v_and_b32", [](u32 a, u32 b) { return a & b; });
  vector("v_or_b32", [](u32 a, u32 b) { return a | b; });
  vector("v_xor_b32", [](u32 a, u32 b) { return a ^ b; });
  vector("v_xnor_b32", [](u32 a, u32 b) { return ~(a ^ b); });
  vector<true>("v_and_b16", [](u16 a, u16 b) { return u16(a & b); });
  vector<true>("v_or_b16", [](u16 a, u16 b) { return u16(a | b); });
  vector<true>("v_xor_b16", [](u16 a, u16 b) { return u16(a ^ b); });
  vector<true>("v_not_b16", [](u16 a) { return u16(~a); });
  vector("v_and_or_b32", [](u32 a, u32 b, u32 c) { return (a & b) | c; });
  vector("v_or3_b32", [](u32 a, u32 b, u32 c) { return a | b | c; });
  vector("v_xor3_b32", [](u32 a, u32 b, u32 c) { return a ^ b ^ c; });
  vector("v_xad_u32", [](u32 a, u32 b, u32 c) { return (a ^ b) + c; });
  vector("v_lshl_add_u32", [](u32 a, u32 b, u32 c) { return (a << (b & 31)) + c; });
  vector("v_add_lshl_u32", [](u32 a, u32 b, u32 c) { return (a + b) << (c & 31); });
  vector("v_lshl_or_b32", [](u32 a, u32 b, u32 c) { return a << (b & 31) | c; });
  vector("v_lshl_add_u64", [](u64 a, u32 b, u64 c) { return (a << (b & 63)) + c; });
  vector("v_add3_u32", [](u32 a, u32 b, u32 c) { return a + b + c; });
  for (const char *name : {"v_add_u32", "v_add_nc_u32"})
    with_clamp(vector(name, [](u32 a, u32 b) { return a + b; }),
               [](u32 a, u32 b) { return saturated_sum<u32>(i64(a) + b); });
  for (const char *name : {"v_sub_u32", "v_sub_nc_u32"})
    with_clamp(vector(name, [](u32 a, u32 b) { return a - b; }),
               [](u32 a, u32 b) { return saturated_sum<u32>(i64(a) - b); });
  for (const char *name : {"v_subrev_u32", "v_subrev_nc_u32"})
    with_clamp(vector(name, [](u32 a, u32 b) { return b - a; }),
               [](u32 a, u32 b) { return saturated_sum<u32>(i64(b) - a); });
  for (const char *name : {"v_add_i32", "v_add_nc_i32"})
    with_clamp(vector(name, [](u32 a, u32 b) { return a + b; }),
               [](i32 a, i32 b) { return saturated_sum<i32>(i64(a) + b); });
  for (const char *name : {"v_sub_i32", "v_sub_nc_i32"})
    with_clamp(vector(name, [](u32 a, u32 b) { return a - b; }),
               [](i32 a, i32 b) { return saturated_sum<i32>(i64(a) - b); });
  vector("v_add_co_u32", [](u32 a, u32 b) { return WithMask<u32>{a + b, a + b < a}; });
  vector("v_sub_co_u32", [](u32 a, u32 b) { return WithMask<u32>{a - b, a < b}; });
  vector("v_subrev_co_u32", [](u32 a, u32 b) { return WithMask<u32>{b - a, b < a}; });
  for (const char *name : {"v_addc_co_u32", "v_add_co_ci_u32"})
    vector(name, [](u32 a, u32 b, LaneBit c) {
      const u32 sum = a + b, all = sum + c.bit;
      return WithMask<u32>{all, bool((sum < a) | (all < sum))};
    });
  for (const char *name : {"v_subb_co_u32", "v_sub_co_ci_u32"})
    vector(name, [](u32 a, u32 b, LaneBit c) { return WithMask<u32>{a - b - c.bit, bool((b > a) | (a - b < c.bit))}; });
  for (const char *name : {"v_subbrev_co_u32", "v_subrev_co_ci_u32"})
    vector(name, [](u32 a, u32 b, LaneBit c) { return WithMask<u32>{b - a - c.bit, u64(a) + c.bit > b}; });
  vector("v_min_u32", [](u32 a, u32 b) { return minimum(a, b); });
  vector("v_max_u32", [](u32 a, u32 b) { return maximum(a, b); });
  vector("v_min_i32", [](i32 a, i32 b) { return minimum(a, b); });
  vector("v_max_i32", [](i32 a, i32 b) { return maximum(a, b); });
  vector("v_min3_u32", [](u32 a, u32 b, u32 c) { return minimum(minimum(a, b), c); });
  vector("v_max3_u32", [](u32 a, u32 b, u32 c) { return maximum(maximum(a, b), c); });
  vector("v_med3_u32", [](u32 a, u32 b, u32 c) { return median(a, b, c); });
  vector("v_min3_i32", [](i32 a, i32 b, i32 c) { return minimum(minimum(a, b), c); });
  vector("v_max3_i32", [](i32 a, i32 b, i32 c) { return maximum(maximum(a, b), c); });
  vector("v_med3_i32", [](i32 a, i32 b, i32 c) { return median(a, b, c); });
  vector("v_maxmin_u32", [](u32 a, u32 b, u32 c) { return minimum(maximum(a, b), c); });
  vector("v_minmax_u32", [](u32 a, u32 b, u32 c) { return maximum(minimum(a, b), c); });
  vector("v_maxmin_i32", [](i32 a, i32 b, i32 c) { return minimum(maximum(a, b), c); });
  vector("v_minmax_i32", [](i32 a, i32 b, i32 c) { return maximum(minimum(a, b), c); });
  vector("v_mul_lo_u32", [](u32 a, u32 b) { return a * b; });
  vector("v_mul_hi_u32", [](u32 a, u32 b) { return u32(u64(a) * b >> 32); });
  vector("v_mul_hi_i32", [](i32 a, i32 b) { return u32(u64(i64(a) * b) >> 32); });
  vector("v_mul_u32_u24", [](u32 a, u32 b) { return (a & 0xffffff) * (b & 0xffffff); });
  vector("v_mul_i32_i24", [](i32 a, i32 b) { return u32(i64(a << 8 >> 8) * (b << 8 >> 8)); });
  vector("v_mul_hi_u32_u24", [](u32 a, u32 b) { return u32(u64(a & 0xffffff) * (b & 0xffffff) >> 32); });
  vector("v_mul_hi_i32_i24", [](i32 a, i32 b) { return u32(u64(i64(a << 8 >> 8) * (b << 8 >> 8)) >> 32); });
  vector("v_mad_u32_u24", [](u32 a, u32 b, u32 c) { return (a & 0xffffff) * (b & 0xffffff) + c; });
  vector("v_mad_i32_i24", [](i32 a, i32 b, u32 c) { return u32(i64(a << 8 >> 8) * (b << 8 >> 8)) + c; });
  vector("v_mad_u64_u32", [](u32 a, u32 b, u64 c) {
    const u64 p = u64(a) * b;
    return WithMask<u64>{p + c, p + c < p};
  });
  vector("v_mad_i64_i32", [](i32 a, i32 b, i64 c) {
    const __int128 sum = __int128(i64(a) * b) + c;  // 65 bits; the mask gets the highest
    return WithMask<i64>{i64(sum), sum < 0};
  });
  vector("v_mad_u32_u16", [](u16 a, u16 b, u32 c) { return u32(a) * b + c; });
  vector("v_mad_i32_i16", [](i16 a, i16 b, u32 c) { return u32(i32(a) * b) + c; });
  vector("v_lshlrev_b32", [](u32 a, u32 b) { return b << (a & 31); });
  vector("v_lshrrev_b32", [](u32 a, u32 b) { return b >> (a & 31); });
  vector("v_ashrrev_i32", [](u32 a, i32 b) { return b >> (a & 31); });
  vector("v_lshlrev_b64", [](u32 a, u64 b) { return b << (a & 63); });
  vector("v_lshrrev_b64", [](u32 a, u64 b) { return b >> (a & 63); });
  vector("v_ashrrev_i64", [](u32 a, i64 b) { return b >> (a & 63); });
  vector("v_lshl_b32", [](u32 a, u32 b) { return a << (b & 31); });
  vector("v_bfe_u32", [](u32 a, u32 b, u32 c) { return a >> (b & 31) & ((1u << (c & 31)) - 1); });
  vector("v_bfe_i32", [](i32 a, u32 b, u32 c) {
    const int width = int(c & 31);
    if (!width) return 0;
    const i32 field = a >> (b & 31);
    return i32(u32(field) << (32 - width)) >> (32 - width);
  });
  vector("v_bfi_b32", [](u32 a, u32 b, u32 c) { return (a & b) | (~a & c); });
  vector("v_bfm_b32", [](u32 a, u32 b) { return ((1u << (a & 31)) - 1) << (b & 31); });
  vector("v_bcnt_u32_b32", [](u32 a, u32 b) { return u32(std::popcount(a)) + b; });
  vector("v_alignbit_b32", [](u32 a, u32 b, u32 c) { return u32((u64(a) << 32 | b) >> (c & 31)); });
  vector("v_alignbyte_b32", [](u32 a, u32 b, u32 c) { return u32((u64(a) << 32 | b) >> (8 * (c & 3))); });
  vector("v_perm_b32", [](u32 a, u32 b, u32 c) { return bytes_permuted(a, b, c); });
  vector("v_sad_u8", [](u32 a, u32 b, u32 c) { return sum_of_differences(a, b, c, 8, false); });
  vector("v_msad_u8", [](u32 a, u32 b, u32 c) { return sum_of_differences(a, b, c, 8, true); });
  vector("v_sad_hi_u8", [](u32 a, u32 b, u32 c) { return (sum_of_differences(a, b, 0, 8, false) << 16) + c; });
  vector("v_sad_u16", [](u32 a, u32 b, u32 c) { return sum_of_differences(a, b, c, 16, false); });
  vector("v_sad_u32", [](u32 a, u32 b, u32 c) { return absolute_difference(a, b) + c; });
  vector("v_lerp_u8", [](u32 a, u32 b, u32 c) {
    u32 r = 0;
    for (int i = 0; i < 32; i += 8) r |= ((a >> i & 0xff) + (b >> i & 0xff) + (c >> i & 1)) >> 1 << i;
    return r;
  });
  vector("v_sat_pk_u8_i16", [](u32 x) {
    const auto byte = [](i16 v) { return u32(v < 0 ? 0 : v > 255 ? 255 : v); };
    return byte(i16(x)) | byte(i16(x >> 16)) << 8;
  });
  vector("v_pack_b32_f16", [](Half a, Half b) { return u32(a.bits) | u32(b.bits) << 16; });
  vector("v_cndmask_b32", [](u32 a, u32 b, LaneBit c) { return c.bit ? b : a; });
}

void define_integer16() {
  for (const char *name : {"v_add_u16", "v_add_nc_u16"})
    with_clamp(vector(name, [](u16 a, u16 b) { return u16(a + b); }),
               [](u16 a, u16 b) { return saturated_sum<u16>(i64(a) + b); });
  for (const char *name : {"v_sub_u16", "v_sub_nc_u16"})
    with_clamp(vector(name, [](u16 a, u16 b) { return u16(a - b); }),
               [](u16 a, u16 b) { return saturated_sum<u16>(i64(a) - b); });
  vector("v_subrev_u16", [](u16 a, u16 b) { return u16(b - a); });
  for (const char *name : {"v_add_i16", "v_add_nc_i16"})
    with_clamp(vector<true>(name, [](i16 a, i16 b) { return i16(a + b); }),
               [](i16 a, i16 b) { return saturated_sum<i16>(i64(a) + b); });
  for (const char *name : {"v_sub_i16", "v_sub_nc_i16"})
    with_clamp(vector<true>(name, [](i16 a, i16 b) { return i16(a - b); }),
               [](i16 a, i16 b) { return saturated_sum<i16>(i64(a) - b); });
  vector("v_mul_lo_u16", [](u16 a, u16 b) { return u16(u32(a) * b); });
  vector<true>("v_mad_u16", [](u16 a, u16 b, u16 c) { return u16(u32(a) * b + c); });
  vector("v_mad_legacy_u16", [](u16 a, u16 b, u16 c) { return u16(u32(a) * b + c); });
  vector("v_mad_legacy_i16", [](i16 a, i16 b, i16 c) { return i16(i32(a) * b + c); });
  vector<true>("v_mad_i16", [](i16 a, i16 b, i16 c) { return i16(i32(a) * b + c); });
  vector("v_min_u16", [](u16 a, u16 b) { return minimum(a, b); });
  vector("v_max_u16", [](u16 a, u16 b) { return maximum(a, b); });
  vector("v_min_i16", [](i16 a, i16 b) { return minimum(a, b); });
  vector("v_max_i16", [](i16 a, i16 b) { return maximum(a, b); });
  vector<true>("v_min3_u16", [](u16 a, u16 b, u16 c) { return minimum(minimum(a, b), c); });
  vector<true>("v_max3_u16", [](u16 a, u16 b, u16 c) { return maximum(maximum(a, b), c); });
  vector<true>("v_med3_u16", [](u16 a, u16 b, u16 c) { return median(a, b, c); });
  vector<true>("v_min3_i16", [](i16 a, i16 b, i16 c) { return minimum(minimum(a, b), c); });
  vector<true>("v_max3_i16", [](i16 a, i16 b, i16 c) { return maximum(maximum(a, b), c); });
  vector<true>("v_med3_i16", [](i16 a, i16 b, i16 c) { return median(a, b, c); });
  vector("v_lshlrev_b16", [](u16 a, u16 b) { return u16(b << (a & 15)); });
  vector("v_lshrrev_b16", [](u16 a, u16 b) { return u16(b >> (a & 15)); });
  vector("v_ashrrev_i16", [](u16 a, i16 b) { return i16(b >> (a & 15)); });
  vector<true>("v_cndmask_b16", [](u16 a, u16 b, LaneBit c) { return c.bit ? b : a; });
}

}  // namespace

void define_vector_alu() {
  define_float32();
  define_float64();
  define_float16();
  define_conversions();
  define_integer();
  define_integer16();
}

// ------------------------------------------------------------------------------------------------------------ compares

namespace {

template <class T>
auto number(T x) {
  if constexpr (std::is_same_v<T, Half>)
    return x.value();
  else
    return x;
}

template <class T>
void define_compares(const std::string &type) {
  compare("f_" + type, [](T, T) { return false; });
  compare("lt_" + type, [](T a, T b) { return number(a) < number(b); });
  compare("eq_" + type, [](T a, T b) { return number(a) == number(b); });
  compare("le_" + type, [](T a, T b) { return number(a) <= number(b); });
  compare("gt_" + type, [](T a, T b) { return number(a) > number(b); });
  compare("ge_" + type, [](T a, T b) { return number(a) >= number(b); });
  if constexpr (is_float<T>) {
    compare("lg_" + type, [](T a, T b) { return number(a) < number(b) || number(a) > number(b); });
    compare("o_" + type, [](T a, T b) { return number(a) == number(a) && number(b) == number(b); });
    compare("u_" + type, [](T a, T b) { return number(a) != number(a) || number(b) != number(b); });
    compare("nge_" + type, [](T a, T b) { return !(number(a) >= number(b)); });
    compare("nlg_" + type, [](T a, T b) { return !(number(a) < number(b) || number(a) > number(b)); });
    compare("ngt_" + type, [](T a, T b) { return !(number(a) > number(b)); });
    compare("nle_" + type, [](T a, T b) { return !(number(a) <= number(b)); });
    compare("neq_" + type, [](T a, T b) { return !(number(a) == number(b)); });
    compare("nlt_" + type, [](T a, T b) { return !(number(a) < number(b)); });
    compare("tru_" + type, [](T, T) { return true; });
  } else {
    compare("ne_" + type, [](T a, T b) { return a != b; });
    compare("t_" + type, [](T, T) { return true; });
  }
}

// Bits of a class mask: signaling and quiet NaN, -inf, -normal, -denormal, -0, +0, +denormal, +normal, +inf.
bool in_class(bool negative, int exponent, int largest, uint64_t mantissa, bool quiet, uint32_t mask) {
  int bit;
  if (exponent == largest && mantissa)
    bit = quiet ? 1 : 0;
  else if (exponent == largest)
    bit = negative ? 2 : 9;
  else if (exponent)
    bit = negative ? 3 : 8;
  else if (mantissa)
    bit = negative ? 4 : 7;
  else
    bit = negative ? 5 : 6;
  return mask >> bit & 1;
}

}  // namespace

void define_vector_compare() {
  define_compares<float>("f32");
  define_compares<double>("f64");
  define_compares<Half>("f16");
  define_compares<int32_t>("i32");
  define_compares<uint32_t>("u32");
  define_compares<int64_t>("i64");
  define_compares<uint64_t>("u64");
  define_compares<int16_t>("i16");
  define_compares<uint16_t>("u16");
  for (const char *type : {"f32", "f64", "f16"})
    for (const char *prefix : {"v_cmp_", "v_cmpx_"})
      alias(std::string(prefix) + "t_" + type, std::string(prefix) + "tru_" + type);
  compare("class_f32", [](float x, uint32_t mask) {
    const uint32_t b = std::bit_cast<uint32_t>(x);
    return in_class(b >> 31, int(b >> 23 & 0xff), 0xff, b & 0x7fffff, b >> 22 & 1, mask);
  });
  compare("class_f64", [](double x, uint32_t mask) {
    const uint64_t b = std::bit_cast<uint64_t>(x);
    return in_class(b >> 63, int(b >> 52 & 0x7ff), 0x7ff, b & ((1ull << 52) - 1), b >> 51 & 1, mask);
  });
  compare("class_f16", [](Half x, uint32_t mask) {
    const uint32_t b = x.bits;
    return in_class(b >> 15, int(b >> 10 & 31), 31, b & 1023, b >> 9 & 1, mask);
  });
}

}  // namespace amdsim
