// How the meaning of an instruction is written down: a name and a function of one lane,
//   vector("v_add_f32", [](float a, float b) { return a + b; });
// The function's parameter and result types say how operands are read (32 or 64 bits, halves, lane masks) and results
// are written; modifiers (neg, abs, clamp, op_sel), exec and the wave size are applied here, once for all.
#pragma once
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <unordered_map>

#include "../decoder.hpp"
#include "../fault.hpp"
#include "../machine.hpp"

namespace amdsim {

// ---------------------------------------------------------------------------------------------------- values of a lane

// The compiler's vector type, for loops that it would not turn into vector code itself. Comparisons give ~0 where true.
template <class T, int N>
struct Pack {
  typedef T Vector __attribute__((vector_size(N * sizeof(T))));
  static Vector load(const T *from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
};

// The value of a half's bits; a NaN is made the common one. Without branches and rounding, so that a loop of it becomes
// vector code and MODE does not matter.
inline float half_value(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fff;
  const uint32_t denormal = std::bit_cast<uint32_t>(float(int32_t(magnitude)) * 0x1p-24f);
  const uint32_t normal = (magnitude << 13) + (112 << 23);
  const uint32_t special = magnitude > 0x7c00 ? 0x7fc00000 : 0x7f800000;
  const uint32_t value = magnitude < 0x400 ? denormal : magnitude < 0x7c00 ? normal : special;
  return std::bit_cast<float>(value | (bits & 0x8000) << 16);
}

// A 16-bit float. Arithmetic is done in double and rounded once.
struct Half {
  uint16_t bits = 0;
  static Half from(double value);
  double value() const { return double(half_value(bits)); }
};

inline uint32_t reversed_bits(uint32_t x) {
  uint32_t r = 0;
  for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
  return r;
}

// a + b rounded to odd: a later rounding to fewer bits then gives what one rounding of the exact sum would.
inline double sum_to_odd(double a, double b) {
  const double s = a + b;
  if (!std::isfinite(s)) return s;
  const double back = s - a, error = (a - (s - back)) + (b - back);
  const uint64_t bits = std::bit_cast<uint64_t>(s);
  if (error == 0 || (bits & 1)) return s;
  return std::bit_cast<double>((error > 0) == (s > 0) ? bits | 1 : (bits - 1) | 1);
}

// A float's nearest bfloat16, ties to even.
inline uint32_t bf16_bits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline uint32_t packed_bf16_sum(uint32_t a, uint32_t b) {
  const auto sum = [](uint32_t x, uint32_t y) {
    return bf16_bits(std::bit_cast<float>(x << 16) + std::bit_cast<float>(y << 16));
  };
  return sum(a, b) | sum(a >> 16, b >> 16) << 16;
}

// A lane's bit of a mask in scalar registers (vcc, s[0:1]).
struct LaneBit {
  bool bit;
};

// A result with a bit for a mask beside it (carry out).
template <class T>
struct WithMask {
  T value;
  bool bit;
};

// A scalar result that sets SCC.
template <class T>
struct WithScc {
  T value;
  bool scc;
};

template <class T>
constexpr bool is_float = std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, Half>;
template <class T>
constexpr bool is_16_bit = std::is_same_v<T, Half> || std::is_same_v<T, uint16_t> || std::is_same_v<T, int16_t>;

// By bits: a comparison of floats may trap, and compilers then leave loops of it alone.
inline float flushed(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>(bits & (bits & 0x7f800000 ? ~0u : 0x80000000u));
}

// ------------------------------------------------------------------------------------------------------- definitions

struct Definition {
  Handler run[2] = {};  // for waves of 64 and of 32
  Class kind = Class::valu;
  std::function<void(Op &)> prepare;  // types of constants, extra operands
  Handler saturating[2] = {};         // the integer form with clamp
  bool handles_modifiers = false;     // reads op_sel, neg_lo… itself
};

std::unordered_map<std::string, Definition> &definitions();

// Gives an operation its handler and resolves constants and branch targets. What has no definition gets a handler that
// stops the program with the instruction's text when it is executed.
void bind_operation(Op &op, const DecodedText &text, const std::string &architecture, int wave_size);

// VCC where the text leaves it out.
inline Operand vcc_operand() {
  Operand operand;
  operand.kind = Operand::scalar;
  operand.index = kVcc;
  operand.words = 2;
  return operand;
}

// The value of a constant as an operand of this type reads it.
template <class T>
uint64_t constant_bits(const Operand &operand);

void define_vector_alu();
void define_vector_compare();
void define_packed();
void define_cross_lane();
void define_scalar_alu();
void define_control();
void define_memory();
void define_lds();
void define_matrix();

// ------------------------------------------------------------------------------------------------------ reading
// operands

inline uint64_t read_scalar64(const Wave &w, int index) {
  if (index == kNull) return 0;
  return uint64_t(w.read_scalar(index + 1)) << 32 | w.read_scalar(index);
}

inline void write_scalar64(Wave &w, int index, uint64_t value) {
  if (index == kNull) return;
  if (index == kExec) {
    w.set_exec(value);
    return;
  }
  w.write_scalar(index, uint32_t(value));
  w.write_scalar(index + 1, uint32_t(value >> 32));
}

// A lane mask: as many bits as the wave has lanes.
inline uint64_t read_mask(const Wave &w, const Operand &operand) {
  if (operand.kind == Operand::constant) return operand.bits & w.all_lanes;
  return w.size == 32 ? w.read_scalar(operand.index) : read_scalar64(w, operand.index);
}

inline void write_mask(Wave &w, const Operand &operand, uint64_t value) {
  if (w.size == 32) {
    if (operand.index == kExec)
      w.set_exec(value);
    else
      w.write_scalar(operand.index, uint32_t(value));
  } else {
    write_scalar64(w, operand.index, value);
  }
}

// A row of one word a lane: the operand's register, or `buffer` filled with its scalar or constant. `word`: of several.
inline const uint32_t *row_of(const Wave &w, const Operand &operand, int word, uint32_t *buffer) {
  if (operand.kind == Operand::vector) return w.v[operand.index + word];
  const uint32_t value =
      operand.kind == Operand::constant ? uint32_t(operand.bits) : w.read_scalar(operand.index + word);
  std::fill_n(buffer, kLanes, value);
  return buffer;
}

// The 32-bit words of one operand, a word a lane; low and, for 64-bit types, high.
template <class T>
struct Source {
  const uint32_t *low, *high = nullptr;
  alignas(64) uint32_t buffer[sizeof(T) == 8 ? 2 : 1][kLanes];
  Source() {}  // a std::tuple would fill the buffer with zeros

  template <int W>
  void load(const Wave &w, const Op &op, const Operand &operand, int place) {
    constexpr bool wide = sizeof(T) == 8;
    uint32_t word[2];
    if (operand.kind == Operand::vector) {
      low = w.v[operand.index];
      if constexpr (wide) high = w.v[operand.index + 1];
    } else {
      if (operand.kind == Operand::constant) {
        word[0] = uint32_t(operand.bits);
        word[1] = uint32_t(operand.bits >> 32);
      } else {
        word[0] = w.read_scalar(operand.index);
        if constexpr (wide) word[1] = operand.index == kNull ? 0 : w.read_scalar(operand.index + 1);
      }
      for (int l = 0; l < W; l++) buffer[0][l] = word[0];
      low = buffer[0];
      if constexpr (wide) {
        for (int l = 0; l < W; l++) buffer[1][l] = word[1];
        high = buffer[1];
      }
    }
    if constexpr (is_16_bit<T>) {
      if (operand.kind != Operand::constant && (operand.high_half || op.op_sel >> place & 1)) {
        const uint32_t *from = low;
        for (int l = 0; l < W; l++) buffer[0][l] = from[l] >> 16;
        low = buffer[0];
      }
    }
    if constexpr (is_float<T>) {
      if (operand.negate || operand.absolute) {
        constexpr uint32_t sign = std::is_same_v<T, Half> ? 0x8000u : 0x80000000u;
        const uint32_t keep = operand.absolute ? ~sign : ~0u, flip = operand.negate ? sign : 0;
        const uint32_t *from = wide ? high : low;
        uint32_t *to = buffer[wide ? 1 : 0];
        for (int l = 0; l < W; l++) to[l] = (from[l] & keep) ^ flip;
        (wide ? high : low) = to;
      }
      if constexpr (std::is_same_v<T, float>) {
        if (w.flush32) {
          const uint32_t *from = low;
          for (int l = 0; l < W; l++) buffer[0][l] = from[l] & 0x7f800000 ? from[l] : from[l] & 0x80000000;
          low = buffer[0];
        }
      }
    } else if (operand.negate) {  // integer sources of some forms (v_cndmask) take float modifiers
      const uint32_t *from = low;
      for (int l = 0; l < W; l++) buffer[0][l] = (operand.absolute ? from[l] & 0x7fffffff : from[l]) ^ 0x80000000;
      low = buffer[0];
    } else if (operand.absolute) {
      const uint32_t *from = low;
      for (int l = 0; l < W; l++) buffer[0][l] = from[l] & 0x7fffffff;
      low = buffer[0];
    }
  }

  T operator[](int l) const {
    if constexpr (sizeof(T) == 8)
      return std::bit_cast<T>(uint64_t(high[l]) << 32 | low[l]);
    else if constexpr (std::is_same_v<T, Half>)
      return Half{uint16_t(low[l])};
    else if constexpr (sizeof(T) == 4)
      return std::bit_cast<T>(low[l]);
    else
      return T(low[l]);
  }
};

template <>
struct Source<LaneBit> {
  alignas(64) uint32_t bits[kLanes];
  Source() {}
  template <int W>
  void load(const Wave &w, const Op &, const Operand &operand, int) {
    spread_bits(read_mask(w, operand), bits);
  }
  LaneBit operator[](int l) const { return {bits[l] != 0}; }
};

// ------------------------------------------------------------------------------------------------------ writing
// results

template <int W>
inline void write_masked(const Wave &w, uint32_t *to, const uint32_t *values) {
  const uint32_t *mask = w.mask;
#pragma GCC ivdep
  for (int l = 0; l < W; l++) to[l] = (values[l] & mask[l]) | (to[l] & ~mask[l]);
}

inline void write_masked(const Wave &w, uint32_t *to, const uint32_t *values) {
  w.size == 64 ? write_masked<64>(w, to, values) : write_masked<32>(w, to, values);
}

template <int W>
inline void write_row(Wave &w, int row, const uint32_t *values) {
  write_masked<W>(w, w.v[row], values);
}

inline void write_lanes(Wave &w, int row, const uint32_t *values) { write_masked(w, w.v[row], values); }

// A mask of bytes that are 0 or 1, one a lane. The multiplication brings eight of them side by side.
template <int W>
uint64_t joined_bits(const uint8_t *bytes) {
  uint64_t mask = 0;
  for (int l = 0; l < W; l += 8) {
    uint64_t eight;
    std::memcpy(&eight, bytes + l, 8);
    mask |= (eight * 0x0102040810204080u >> 56) << l;
  }
  return mask;
}

template <class T>
T limited(T x) {  // clamp: to [0, 1], NaN to 0 (dx10_clamp, which HIP sets)
  if constexpr (std::is_same_v<T, Half>) {
    const double v = x.value();
    return Half::from(v > 0 ? (v < 1 ? v : 1) : 0);
  } else {
    return x > 0 ? (x < 1 ? x : T(1)) : T(0);
  }
}

// Rounding of MODE: bits 1:0 for single, 3:2 for double and half. 0 nearest, 1 up, 2 down, 3 to zero.
struct Rounding {
  explicit Rounding(uint32_t code) : changed(code != 0) {
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    if (changed) std::fesetround(modes[code & 3]);
  }
  ~Rounding() {
    if (changed) std::fesetround(FE_TONEAREST);
  }
  bool changed;
};

template <class T>
struct Result {  // T or WithMask<T>
  using Value = T;
  static constexpr bool mask = false;
};
template <class T>
struct Result<WithMask<T>> {
  using Value = T;
  static constexpr bool mask = true;
};

// dst, [mask,] sources… Half results keep or clear the upper half as the family does; `Keep` forces keeping.
template <class F, int W, bool Keep, class R, class... A>
struct VectorRun {
  using T = typename Result<R>::Value;
  static constexpr int first = Result<R>::mask ? 2 : 1;

  template <size_t... I>
  static void go(Wave &w, const Op &op, std::index_sequence<I...>) {
    std::tuple<Source<A>...> sources;
    (std::get<I>(sources).template load<W>(w, op, op.operand[first + I], int(I)), ...);
    alignas(64) T out[kLanes];
    alignas(64) uint8_t bits[kLanes];
    const uint32_t round = std::is_same_v<T, float> ? w.mode & 3 : w.mode >> 2 & 3;
    {
      const Rounding rounding(is_float<T> ? round : 0);
      if constexpr (Result<R>::mask) {  // two loops, for one is not turned into vector code
        for (int l = 0; l < W; l++) out[l] = F{}(std::get<I>(sources)[l]...).value;
        for (int l = 0; l < W; l++) bits[l] = F{}(std::get<I>(sources)[l]...).bit;
      } else {
        for (int l = 0; l < W; l++) out[l] = F{}(std::get<I>(sources)[l]...);
      }
      // The output multiplier (mul:2) has no effect where MODE.IEEE is set, which HIP sets.
      if constexpr (is_float<T>)
        if (op.clamp)
          for (int l = 0; l < W; l++) out[l] = limited(out[l]);
    }
    if constexpr (std::is_same_v<T, float>)
      if (w.flush32)
        for (int l = 0; l < W; l++) out[l] = flushed(out[l]);
    const int row = op.operand[0].index;
    alignas(64) uint32_t words[kLanes];
    if constexpr (sizeof(T) == 8) {
      for (int l = 0; l < W; l++) words[l] = uint32_t(std::bit_cast<uint64_t>(out[l]));
      write_row<W>(w, row, words);
      for (int l = 0; l < W; l++) words[l] = uint32_t(std::bit_cast<uint64_t>(out[l]) >> 32);
      write_row<W>(w, row + 1, words);
    } else if constexpr (sizeof(T) == 4) {
      std::memcpy(words, out, sizeof words);
      write_row<W>(w, row, words);
    } else {
      const bool high = op.operand[0].high_half || op.op_sel >> sizeof...(A) & 1;
      const bool keep = Keep || w.group->gfx11 || high;
      for (int l = 0; l < W; l++) {
        const uint32_t value = std::bit_cast<uint16_t>(out[l]);
        const uint32_t rest = keep ? w.v[row][l] & (high ? 0xffffu : 0xffff0000u) : 0;
        words[l] = rest | (high ? value << 16 : value);
      }
      write_row<W>(w, row, words);
    }
    if constexpr (Result<R>::mask) {
      write_mask(w, op.operand[1], joined_bits<W>(bits) & w.exec());
    }
  }

  static void run(Wave &w, const Op &op) { go(w, op, std::index_sequence_for<A...>{}); }
};

// Compares write a mask; cmpx writes exec too (gfx9), or nothing else (gfx11).
template <class F, int W, bool Exec, class... A>
struct CompareRun {
  template <size_t... I>
  static void go(Wave &w, const Op &op, std::index_sequence<I...>) {
    const int first = op.operands - int(sizeof...(A));
    std::tuple<Source<A>...> sources;
    (std::get<I>(sources).template load<W>(w, op, op.operand[first + int(I)], int(I)), ...);
    alignas(64) uint8_t bits[kLanes];
    for (int l = 0; l < W; l++) bits[l] = F{}(std::get<I>(sources)[l]...);
    const uint64_t mask = joined_bits<W>(bits) & w.exec();
    if (first == 1) write_mask(w, op.operand[0], mask);
    if (Exec) w.set_exec(mask);
  }
  static void run(Wave &w, const Op &op) { go(w, op, std::index_sequence_for<A...>{}); }
};

template <class F, class R, class... A>
struct ScalarRun {
  template <size_t... I>
  static void go(Wave &w, const Op &op, std::index_sequence<I...>) {
    constexpr bool result = !std::is_same_v<R, bool>;
    constexpr int first = result ? 1 : 0;
    const auto read = [&]<class T>(std::type_identity<T>, int place) -> T {
      const Operand &operand = op.operand[first + place];
      const uint64_t bits = operand.kind == Operand::constant ? operand.bits
                            : sizeof(T) == 8                  ? read_scalar64(w, operand.index)
                                                              : w.read_scalar(operand.index);
      if constexpr (sizeof(T) == 8)
        return std::bit_cast<T>(bits);
      else
        return T(uint32_t(bits));
    };
    const R r = F{}(read(std::type_identity<A>{}, int(I))...);
    const auto write = [&](auto value) {
      if constexpr (sizeof(value) == 8)
        write_scalar64(w, op.operand[0].index, uint64_t(value));
      else
        w.write_scalar(op.operand[0].index, uint32_t(value));
    };
    if constexpr (std::is_same_v<R, bool>) {
      w.scc = r;
    } else if constexpr (requires { r.scc; }) {
      write(r.value);
      w.scc = r.scc;
    } else {
      write(r);
    }
  }
  static void run(Wave &w, const Op &op) { go(w, op, std::index_sequence_for<A...>{}); }
};

// ----------------------------------------------------------------------------------------------------------
// registering

template <class T>
void type_constant(Op &op, int place) {
  Operand &operand = op.operand[place];
  if (operand.kind == Operand::constant) operand.bits = constant_bits<T>(operand);
}

template <class... A>
void type_constants(Op &op, int first) {
  int place = first;
  (type_constant<A>(op, place++), ...);
}

template <class F>
struct Signature : Signature<decltype(&F::operator())> {};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...) const> {
  using Return = R;
  template <class F, int W, bool Keep>
  using Vector = VectorRun<F, W, Keep, R, A...>;
  template <class F, int W, bool Exec>
  using Compare = CompareRun<F, W, Exec, A...>;
  template <class F>
  using Scalar = ScalarRun<F, R, A...>;
  static void type(Op &op, int first) { type_constants<A...>(op, first); }
  static constexpr int arguments = sizeof...(A);
};

inline Definition &define(const std::string &name, Class kind, Handler run64, Handler run32) {
  Definition &definition = definitions()[name];
  if (definition.run[0]) fault("instruction '%s' is defined twice", name.c_str());
  definition.run[0] = run64;
  definition.run[1] = run32;
  definition.kind = kind;
  return definition;
}

template <bool Keep = false, class F>
Definition &vector(const std::string &name, F, Class kind = Class::valu) {
  using S = Signature<F>;
  Definition &d = define(name, kind, S::template Vector<F, 64, Keep>::run, S::template Vector<F, 32, Keep>::run);
  d.prepare = [](Op &op) { S::type(op, Result<typename S::Return>::mask ? 2 : 1); };
  return d;
}

// The destination is the last source as well (fmac, dot2c).
template <class F>
Definition &accumulating(const std::string &name, F f, Class kind = Class::valu) {
  Definition &d = vector(name, f, kind);
  d.prepare = [inner = d.prepare](Op &op) {
    op.operand[op.operands++] = op.operand[0];
    inner(op);
  };
  return d;
}

template <class F>
void with_clamp(Definition &d, F) {
  using S = Signature<F>;
  d.saturating[0] = S::template Vector<F, 64, false>::run;
  d.saturating[1] = S::template Vector<F, 32, false>::run;
}

template <class F>
void compare(const std::string &predicate_and_type, F) {
  using S = Signature<F>;
  const auto prepare = [](Op &op) { S::type(op, op.operands - S::arguments); };
  define("v_cmp_" + predicate_and_type, Class::valu, S::template Compare<F, 64, false>::run,
         S::template Compare<F, 32, false>::run)
      .prepare = prepare;
  define("v_cmpx_" + predicate_and_type, Class::valu, S::template Compare<F, 64, true>::run,
         S::template Compare<F, 32, true>::run)
      .prepare = prepare;
}

template <class F>
Definition &scalar(const std::string &name, F) {
  using S = Signature<F>;
  Definition &d = define(name, Class::salu, S::template Scalar<F>::run, S::template Scalar<F>::run);
  d.prepare = [](Op &op) { S::type(op, std::is_same_v<typename S::Return, bool> ? 0 : 1); };
  return d;
}

inline void alias(const std::string &name, const std::string &of) {
  const auto found = definitions().find(of);
  if (found == definitions().end())
    fault("'%s' is to be another name of '%s', which is not defined", name.c_str(), of.c_str());
  const Definition copy = found->second;
  definitions()[name] = copy;
}

}  // namespace amdsim
