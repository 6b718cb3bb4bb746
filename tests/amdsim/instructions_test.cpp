// Single instructions, each against its definition in AMD's instruction set documents (CDNA 2, CDNA 3, RDNA 3) written
// out in ordinary C++ on the host: every lane's result is compared, bit by bit unless the document grants an error.
// Built once per architecture, with AMDSIM_ARCH = 0x90a, 0x942 or 0x1100.
#include <hip/hip_runtime.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#pragma STDC FP_CONTRACT OFF

#ifndef AMDSIM_ARCH
#define AMDSIM_ARCH 0x90a
#endif
#define GFX90A (AMDSIM_ARCH == 0x90a)
#define GFX942 (AMDSIM_ARCH == 0x942)
#define GFX11 (AMDSIM_ARCH >= 0x1100)

// Text that differs between the architectures. A wave has 64 lanes on gfx9 and 32 on gfx11, so a lane mask is an SGPR
// pair there and one SGPR here.
#if GFX11
#define GFX9_11(nine, eleven) eleven
using Mask = uint32_t;
constexpr int kWave = 32;
#else
#define GFX9_11(nine, eleven) nine
using Mask = uint64_t;
constexpr int kWave = 64;
#endif
#define EXEC GFX9_11("exec", "exec_lo")
#define VCC GFX9_11("vcc", "vcc_lo")
#define S_MOV_MASK GFX9_11("s_mov_b64 ", "s_mov_b32 ")
#define S20_MASK GFX9_11("s[20:21]", "s20")

// ---------------------------------------------------------------------------------------------------------------------
// Number formats

using Vec2 = uint32_t __attribute__((ext_vector_type(2)));
using Vec3 = uint32_t __attribute__((ext_vector_type(3)));
using Vec4 = uint32_t __attribute__((ext_vector_type(4)));
using Vec8 = uint32_t __attribute__((ext_vector_type(8)));
using Vec16 = uint32_t __attribute__((ext_vector_type(16)));

template <typename To, typename From>
__host__ __device__ inline To bit_cast(const From &from) {
  To to{};
  __builtin_memcpy(&to, &from, sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
  return to;
}

// A double rounded to a format with that many bits of precision, least exponent and largest value, in the host's
// rounding mode.
static double round_to(double x, int precision, int min_exponent, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const double quantum = std::ldexp(1.0, std::max(std::ilogb(x), min_exponent) - precision + 1);
  const double rounded = std::nearbyint(x / quantum) * quantum;
  if (std::fabs(rounded) <= largest) return rounded;
  const int mode = std::fegetround();
  const bool to_infinity = mode == FE_TONEAREST || mode == (x > 0 ? FE_UPWARD : FE_DOWNWARD);
  return std::copysign(to_infinity ? INFINITY : largest, x);
}

struct F16 {
  uint16_t bits = 0;
  F16() = default;
  F16(double x) {
    x = round_to(x, 11, -14, 65504);
    const int sign = std::signbit(x) << 15;
    x = std::fabs(x);
    if (std::isnan(x)) {
      bits = 0x7e00;
    } else if (std::isinf(x)) {
      bits = sign | 0x7c00;
    } else if (x < 0x1p-14) {
      bits = sign | (int)(x * 0x1p24);
    } else {
      const int exponent = std::ilogb(x);
      bits = sign | (exponent + 15) << 10 | ((int)std::ldexp(x, 10 - exponent) & 0x3ff);
    }
  }
  operator double() const {
    const int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    double x = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    if (exponent == 31) x = fraction ? NAN : INFINITY;
    return bits & 0x8000 ? -x : x;
  }
};
static F16 f16_of(uint32_t bits) { return bit_cast<F16>((uint16_t)bits); }

static F16 f16_toward_zero(double x) {
  const F16 nearest = x;
  if (std::isfinite(x) && std::isinf((double)nearest)) return std::copysign(65504, x);
  if (std::isnan(x) || std::fabs((double)nearest) <= std::fabs(x)) return nearest;
  return f16_of(nearest.bits - 1);
}

// Results of 16 bits: what becomes of the register's upper half. gfx11 keeps it; so do gfx9's newer instructions
// (Keep16), while those that gfx8 had clear it. Any16: either.
template <typename T>
struct Keep16 {
  T value;
  Keep16() = default;
  template <typename U>
  Keep16(U x) : value(x) {}
  operator T() const { return value; }
};
template <typename T>
struct Any16 : Keep16<T> {
  using Keep16<T>::Keep16;
};

// Two values in one register or pair of registers.
template <typename T>
struct Pair {
  T lo, hi;
};
using F16x2 = Pair<F16>;
using U16x2 = Pair<uint16_t>;
using I16x2 = Pair<int16_t>;
using F32x2 = Pair<float>;
using U32x2 = Pair<uint32_t>;

// Operands with restricted values, where the documents leave the others open. Small: integers and quarters whose sums
// of products are exact; Turns: the domain of v_sin and v_cos.
template <typename T>
struct Small {
  T value;
  operator T() const { return value; }
};
template <typename T>
struct Turns {
  T value;
  operator double() const { return value; }
};
struct Unused {
  uint32_t bits;
};

static bool is_nan(float x) { return std::isnan(x); }
static bool is_nan(double x) { return std::isnan(x); }
static bool is_nan(F16 x) { return (x.bits & 0x7fff) > 0x7c00; }
static bool is_signalling(float x) { return is_nan(x) && !(bit_cast<uint32_t>(x) >> 22 & 1); }
static bool is_signalling(double x) { return is_nan(x) && !(bit_cast<uint64_t>(x) >> 51 & 1); }
static bool is_signalling(F16 x) { return is_nan(x) && !(x.bits >> 9 & 1); }
static bool sign_of(float x) { return std::signbit(x); }
static bool sign_of(double x) { return std::signbit(x); }
static bool sign_of(F16 x) { return x.bits >> 15; }
template <typename T>
T quiet_nan() {
  return T(NAN);
}

// ---------------------------------------------------------------------------------------------------------------------
// Operands: every instruction sees the same number of tuples, first the edge values of its operand types crossed with
// each other, then random ones.

struct Operands {
  uint64_t a, b, c, d, mask;  // d: the destination before; mask: this lane's bit of a mask operand
};
struct Result {
  uint64_t d, mask;
};
constexpr int kTuples = 2500;  // not a multiple of the wave size: the last wave runs with lanes switched off

using Random = std::mt19937_64;
struct Source {
  std::vector<uint64_t> edges;
  uint64_t (*random)(Random &);
};

template <typename T>
struct SourceOf;

template <>
struct SourceOf<uint32_t> {
  static Source get() {
    return {{0,       1,        2,        3,        5,          15,         16,         24,         31,
             32,      33,       63,       0x7f,     0x80,       0xff,       0x7fff,     0x8000,     0xffff,
             0x10000, 0x7fffff, 0x800000, 0xffffff, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff},
            [](Random &r) -> uint64_t { return (uint32_t)(r() >> (r() % 4 ? 0 : r() % 64)); }};
  }
};
template <>
struct SourceOf<int32_t> : SourceOf<uint32_t> {};
template <>
struct SourceOf<Unused> : SourceOf<uint32_t> {};

template <>
struct SourceOf<uint64_t> {
  static Source get() {
    return {{0, 1, 2, 31, 32, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff,
             0x8000000000000000, 0x8000000000000001, 0xfffffffffffffffe, 0xffffffffffffffff, 0xffffffff00000000,
             0x0123456789abcdef},
            [](Random &r) -> uint64_t { return r() >> (r() % 4 ? 0 : r() % 64); }};
  }
};
template <>
struct SourceOf<int64_t> : SourceOf<uint64_t> {};

// 16-bit operands have random upper halves, which the instructions must not see.
static Source with_random_upper_half(std::vector<uint64_t> edges) {
  for (size_t i = 0; i < edges.size(); i++) edges[i] |= (0x9e3779b9 * (i + 1)) & 0xffff0000;
  return {edges, [](Random &r) -> uint64_t { return (uint32_t)r(); }};
}
template <>
struct SourceOf<uint16_t> {
  static Source get() {
    return with_random_upper_half({0,    1,    2,     3,      7,      8,      15,     16,     17,     0x7f,
                                   0x80, 0xff, 0x100, 0x1234, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff});
  }
};
template <>
struct SourceOf<int16_t> : SourceOf<uint16_t> {};

static const std::vector<uint64_t> kF16Edges = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x8400, 0x3c00, 0xbc00,
                                                0x3c01, 0x3800, 0x3555, 0x3e00, 0xc100, 0x4248, 0x5140, 0x7000, 0x7bff,
                                                0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7d00, 0x1400, 0x9410};
static uint64_t random_f16(Random &r) {
  const uint64_t bits = r();
  if (bits >> 60 < 4) return (uint16_t)bits;
  return (bits & 0x83ff) | (11 + (bits >> 32) % 9) << 10;  // of similar magnitude
}
template <>
struct SourceOf<F16> {
  static Source get() {
    Source source = with_random_upper_half(kF16Edges);
    source.random = [](Random &r) -> uint64_t { return (r() & 0xffff0000) | random_f16(r); };
    return source;
  }
};
template <>
struct SourceOf<F16x2> {
  static Source get() {
    Source source{{}, [](Random &r) -> uint64_t { return random_f16(r) << 16 | random_f16(r); }};
    for (size_t i = 0; i < kF16Edges.size(); i++)
      source.edges.push_back(kF16Edges[i] | kF16Edges[(i * 7 + 3) % kF16Edges.size()] << 16);
    return source;
  }
};
template <>
struct SourceOf<U16x2> {
  static Source get() {
    Source source = SourceOf<uint32_t>::get();
    for (uint32_t bits : {0x00010001u, 0x80007fffu, 0x7fff8000u, 0xffff0001u, 0x0001ffffu})
      source.edges.push_back(bits);
    return source;
  }
};
template <>
struct SourceOf<I16x2> : SourceOf<U16x2> {};

static uint32_t random_f32(Random &r) {
  const uint64_t bits = r();
  if (bits >> 60 < 4) return (uint32_t)bits;
  return (bits & 0x807fffff) | (uint32_t)(120 + (bits >> 32) % 16) << 23;
}
template <>
struct SourceOf<float> {
  static Source get() {
    Source source{{}, [](Random &r) -> uint64_t { return random_f32(r); }};
    for (float x : {0.f,
                    -0.f,
                    1.f,
                    -1.f,
                    0.5f,
                    -1.5f,
                    2.5f,
                    3.1415927f,
                    0x1p-149f,
                    -0x1.fffffcp-127f,
                    0x1p-126f,
                    -0x1p-126f,
                    0x1.fffffep-2f,
                    0x1p-24f,
                    255.5f,
                    65504.f,
                    65520.f,
                    0x1p23f,
                    8388607.5f,
                    0x1p31f,
                    -0x1p31f,
                    0x1p32f,
                    FLT_MAX,
                    -FLT_MAX,
                    INFINITY,
                    -INFINITY,
                    NAN})
      source.edges.push_back(bit_cast<uint32_t>(x));
    source.edges.push_back(0xffa00001);  // a signalling NaN
    return source;
  }
};
template <>
struct SourceOf<F32x2> {
  static Source get() {
    Source source{{}, [](Random &r) -> uint64_t { return (uint64_t)random_f32(r) << 32 | random_f32(r); }};
    const std::vector<uint64_t> edges = SourceOf<float>::get().edges;
    for (size_t i = 0; i < edges.size(); i++)
      source.edges.push_back(edges[i] | edges[(i * 5 + 2) % edges.size()] << 32);
    return source;
  }
};
template <>
struct SourceOf<U32x2> : SourceOf<uint64_t> {};
template <>
struct SourceOf<double> {
  static Source get() {
    Source source{{}, [](Random &r) -> uint64_t {
                    const uint64_t bits = r(), more = r();
                    if (more % 4 == 0) return bits;
                    return (bits & 0x800fffffffffffff) | (1010 + more / 4 % 40) << 52;
                  }};
    for (double x : {0.,
                     -0.,
                     1.,
                     -1.,
                     0.5,
                     -2.5,
                     1.5,
                     3.141592653589793,
                     0x1p-1074,
                     -0x1.ffffffffffffep-1023,
                     0x1p-1022,
                     0x1.fffffffffffffp-2,
                     4503599627370495.5,
                     2147483647.5,
                     -2147483648.75,
                     4294967295.5,
                     0x1p53,
                     1e20,
                     1e39,
                     1e-40,
                     DBL_MAX,
                     -DBL_MAX,
                     (double)INFINITY,
                     -(double)INFINITY,
                     (double)NAN})
      source.edges.push_back(bit_cast<uint64_t>(x));
    source.edges.push_back(0x7ff4000000000001);
    return source;
  }
};

static double random_quarter(Random &r, int limit) { return ((int)(r() % (2 * limit + 1)) - limit) / 4.0; }
template <>
struct SourceOf<Small<float>> {
  static Source get() {
    return {{}, [](Random &r) -> uint64_t { return bit_cast<uint32_t>((float)random_quarter(r, 4096)); }};
  }
};
template <>
struct SourceOf<Small<double>> {
  static Source get() {
    return {{}, [](Random &r) -> uint64_t { return bit_cast<uint64_t>(random_quarter(r, 1 << 20)); }};
  }
};
template <>
struct SourceOf<Small<F16>> {
  static Source get() {
    return {{}, [](Random &r) -> uint64_t { return (r() & 0xffff0000) | F16(random_quarter(r, 40)).bits; }};
  }
};
template <>
struct SourceOf<Small<F16x2>> {
  static Source get() {
    return {{}, [](Random &r) -> uint64_t {
              return F16(random_quarter(r, 40)).bits | F16(random_quarter(r, 40)).bits << 16;
            }};
  }
};
template <>
struct SourceOf<Turns<float>> {
  static Source get() {
    return {{0, 0x80000000, 0x3e800000, 0x3f000000, 0xbf400000, 0x43800000, 0xc3800000},
            [](Random &r) -> uint64_t { return bit_cast<uint32_t>((float)((double)r() * 0x1p-55 - 256)); }};
  }
};
template <>
struct SourceOf<Turns<F16>> {
  static Source get() {
    return {{0, 0x8000, 0x3400, 0x3800, 0xb900},
            [](Random &r) -> uint64_t { return F16((double)r() * 0x1p-55 - 256).bits; }};
  }
};
template <typename T>
struct SourceOf<Keep16<T>> : SourceOf<T> {};
template <typename T>
struct SourceOf<Any16<T>> : SourceOf<T> {};

static std::vector<Operands> make_operands(const Source &a, const Source &b, const Source &c, const Source &d) {
  std::vector<Operands> operands(kTuples);
  Random random(20260101);
  auto pick = [&](const Source &source, size_t edge) {
    return edge < source.edges.size() ? source.edges[edge] : source.random(random);
  };
  const size_t na = a.edges.size(), nb = b.edges.size(), nc = c.edges.size(), nd = d.edges.size();
  const size_t crossed = std::max<size_t>(na, 1) * std::max<size_t>(nb, 1);
  for (size_t i = 0; i < kTuples; i++) {
    const size_t none = ~(size_t)0;
    const bool edges = i < crossed;
    operands[i] = {pick(a, edges && na ? i % na : none), pick(b, edges && nb ? i / std::max<size_t>(na, 1) % nb : none),
                   pick(c, i % 3 && nc ? i * 7 / 3 % nc : none), pick(d, i % 3 && nd ? i * 5 / 3 % nd : none),
                   random() & 1};
  }
  return operands;
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparison

// Set while an expectation is computed whose result the documents leave open for these operands.
static bool unspecified;
template <typename T>
T open(T value) {
  unspecified = true;
  return value;
}

template <typename T>
bool same(T a, T b) {
  return memcmp(&a, &b, sizeof(T)) == 0;
}
static bool same(float a, float b) {
  return (is_nan(a) && is_nan(b)) || bit_cast<uint32_t>(a) == bit_cast<uint32_t>(b);
}
static bool same(double a, double b) {
  return (is_nan(a) && is_nan(b)) || bit_cast<uint64_t>(a) == bit_cast<uint64_t>(b);
}
static bool same(F16 a, F16 b) { return (is_nan(a) && is_nan(b)) || a.bits == b.bits; }
template <typename T>
bool same(Pair<T> a, Pair<T> b) {
  return same(a.lo, b.lo) && same(a.hi, b.hi);
}

template <typename T>
struct UpperHalf {
  enum { kNone = sizeof(T) != 2, kCleared = !GFX11, kCompared = true };
  using Value = T;
};
template <typename T>
struct UpperHalf<Keep16<T>> {
  enum { kNone = false, kCleared = false, kCompared = true };
  using Value = T;
};
template <typename T>
struct UpperHalf<Any16<T>> {
  enum { kNone = false, kCleared = false, kCompared = false };
  using Value = T;
};

// The destination register that a result of type D makes of the register's former contents, and the comparison of two.
template <typename D>
uint64_t place(D result, uint64_t before) {
  const uint64_t bits = bit_cast<uint64_t>(result);
  return UpperHalf<D>::kNone || UpperHalf<D>::kCleared ? bits : bits | (before & 0xffff0000);
}
template <typename D>
bool equal_registers(uint64_t actual, uint64_t expected) {
  using Value = typename UpperHalf<D>::Value;
  if (!same(bit_cast<Value>(actual), bit_cast<Value>(expected))) return false;
  return UpperHalf<D>::kNone || !UpperHalf<D>::kCompared || (uint32_t)actual >> 16 == (uint32_t)expected >> 16;
}

static std::string hex(uint64_t x) {
  char text[20];
  snprintf(text, sizeof(text), x >> 32 ? "%016llx" : "%08llx", (unsigned long long)x);
  return text;
}

// Counts mismatches of one instruction and reports the first few.
class Mismatches {
 public:
  explicit Mismatches(const char *instruction) : instruction_(instruction) {}
  ~Mismatches() {
    if (count_) ADD_FAILURE() << instruction_ << ": " << count_ << " results differ" << text_;
  }
  void add(const std::string &inputs, const std::string &expected, const std::string &actual) {
    if (count_++ < 4) text_ += "\n  " + inputs + ": expected " + expected + ", got " + actual;
  }

 private:
  std::string instruction_, text_;
  int count_ = 0;
};

static void check(hipError_t status) {
  if (status != hipSuccess) throw std::runtime_error(hipGetErrorString(status));
}

// A device buffer.
template <typename T>
class Device {
 public:
  explicit Device(const std::vector<T> &values) : count_(values.size()) {
    check(hipMalloc(&data_, count_ * sizeof(T)));
    check(hipMemcpy(data_, values.data(), count_ * sizeof(T), hipMemcpyHostToDevice));
  }
  explicit Device(size_t count) : Device(std::vector<T>(count)) {}
  ~Device() { (void)hipFree(data_); }
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;
  T *data() const { return data_; }
  std::vector<T> fetch() const {
    check(hipGetLastError());
    check(hipDeviceSynchronize());
    std::vector<T> values(count_);
    check(hipMemcpy(values.data(), data_, count_ * sizeof(T), hipMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t count_;
  T *data_ = nullptr;
};

// ---------------------------------------------------------------------------------------------------------------------
// Instructions that compute each lane's result from the same lane's operands

template <int bytes>
struct RegisterOf {
  using Type = uint32_t;
};
template <>
struct RegisterOf<8> {
  using Type = uint64_t;
};
template <typename T>
using Register = typename RegisterOf<sizeof(T)>::Type;

__device__ inline int lane_id() { return threadIdx.x % kWave; }
__device__ inline bool lane_bit(Mask mask) { return mask >> lane_id() & 1; }
__device__ inline Mask ballot(uint32_t bit) {
  Mask mask;
  asm volatile("v_cmp_ne_u32 %0, 0, %1" : "=s"(mask) : "v"(bit));
  return mask;
}

template <bool masked, typename D, typename A, typename B, typename C, typename Body>
__global__ void execute(const Operands *operands, Result *results, Body body) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= kTuples) return;
  const Operands in = operands[i];
  Register<D> d = in.d;
  Mask mask = masked ? ballot((uint32_t)in.mask) : 0;
  body(d, mask, (Register<A>)in.a, (Register<B>)in.b, (Register<C>)in.c);
  results[i] = {d, masked ? (uint64_t)lane_bit(mask) : 0};
}

struct Instruction {
  const char *text;
  bool masked;
  void (*launch)(const Operands *, Result *);
  uint64_t (*expect)(const Operands &, bool &mask);
  bool (*equal)(uint64_t, uint64_t);
  Source (*a)(), (*b)(), (*c)(), (*d)();
  int rounding = FE_TONEAREST;
};

static void check_lanes(const Instruction &instruction) {
  const auto operands = make_operands(instruction.a(), instruction.b(), instruction.c(), instruction.d());
  const Device<Operands> device_operands(operands);
  const Device<Result> device_results(operands.size());
  instruction.launch(device_operands.data(), device_results.data());
  const auto results = device_results.fetch();
  Mismatches mismatches(instruction.text);
  int open_results = 0;
  for (size_t i = 0; i < operands.size(); i++) {
    const Operands &in = operands[i];
    bool mask = in.mask;
    unspecified = false;
    std::fesetround(instruction.rounding);
    const uint64_t expected = instruction.expect(in, mask);
    std::fesetround(FE_TONEAREST);
    open_results += unspecified;
    if (unspecified) continue;
    if (instruction.equal(results[i].d, expected) && (!instruction.masked || results[i].mask == mask)) continue;
    auto with_mask = [&](uint64_t d, bool bit) {
      return hex(d) + (instruction.masked ? bit ? " bit 1" : " bit 0" : "");
    };
    mismatches.add("a " + hex(in.a) + " b " + hex(in.b) + " c " + hex(in.c) + " d " + with_mask(in.d, in.mask),
                   with_mask(expected, mask), with_mask(results[i].d, results[i].mask));
  }
  EXPECT_LE(open_results, kTuples * 3 / 4) << instruction.text << ": too few operands with a specified result";
}

// A test of one instruction: STATEMENT works on registers d (in and out), mask, a, b, c; EXPECTED is the new d, from
// the typed values a, b, c, d, and may change carry, the lane's bit of the mask.
#define CHECK_STATEMENT(TEXT, MASKED, ROUNDING, D, A, B, C, STATEMENT, EXPECTED)                                \
  check_lanes({TEXT, MASKED,                                                                                    \
               [](const Operands *operands, Result *results) {                                                  \
                 execute<MASKED, D, A, B, C><<<(kTuples + 255) / 256, 256>>>(                                   \
                     operands, results,                                                                         \
                     [] __device__(Register<D> & d, Mask & mask, Register<A> a, Register<B> b, Register<C> c) { \
                       (void)mask, (void)a, (void)b, (void)c;                                                   \
                       STATEMENT;                                                                               \
                     });                                                                                        \
               },                                                                                               \
               [](const Operands &operands, bool &carry) -> uint64_t {                                          \
                 [[maybe_unused]] const A a = bit_cast<A>(operands.a);                                          \
                 [[maybe_unused]] const B b = bit_cast<B>(operands.b);                                          \
                 [[maybe_unused]] const C c = bit_cast<C>(operands.c);                                          \
                 [[maybe_unused]] const D d = bit_cast<D>(operands.d);                                          \
                 (void)carry;                                                                                   \
                 const D expected = EXPECTED;                                                                   \
                 return place(expected, operands.d);                                                            \
               },                                                                                               \
               equal_registers<D>, SourceOf<A>::get, SourceOf<B>::get, SourceOf<C>::get, SourceOf<D>::get, ROUNDING})

// Registers that a test's text may use. Hardware wants some cycles between a scalar or vector write and certain readers
// (DPP, lane selects, v_div_fmas); the s_nop gives them to every instruction.
#define SCRATCH_REGISTERS "vcc", "scc", "s20", "s21", "s22", "s23", "v20", "v21", "v22", "v23"
#define NOP "s_nop 4\n"

// %0: d, %1 to %3: a, b, c.
#define CASE(TEXT, D, A, B, C, EXPECTED)                 \
  CHECK_STATEMENT(TEXT, false, FE_TONEAREST, D, A, B, C, \
                  asm volatile(NOP TEXT                  \
                               : "+v"(d)                 \
                               : "v"(a), "v"(b), "v"(c)  \
                               : SCRATCH_REGISTERS),     \
                  EXPECTED)
#define UNARY(NAME, D, A, EXPECTED) CASE(NAME " %0, %1", D, A, Unused, Unused, EXPECTED)
#define BINARY(NAME, D, A, B, EXPECTED) CASE(NAME " %0, %1, %2", D, A, B, Unused, EXPECTED)
#define TERNARY(NAME, D, A, B, C, EXPECTED) CASE(NAME " %0, %1, %2, %3", D, A, B, C, EXPECTED)
// %1: mask, %2 to %4: a, b, c.
#define MASKED(TEXT, D, A, B, C, EXPECTED)              \
  CHECK_STATEMENT(TEXT, true, FE_TONEAREST, D, A, B, C, \
                  asm volatile(NOP TEXT                 \
                               : "+v"(d), "+s"(mask)    \
                               : "v"(a), "v"(b), "v"(c) \
                               : SCRATCH_REGISTERS),    \
                  EXPECTED)

// ---------------------------------------------------------------------------------------------------------------------
// Definitions that several instructions share

static int32_t i32(uint32_t x) { return (int32_t)x; }
static uint32_t bits_of(float x) { return bit_cast<uint32_t>(x); }
static float f32_of(uint32_t x) { return bit_cast<float>(x); }
static double f64_of(uint64_t x) { return bit_cast<double>(x); }
static uint32_t byte_of(uint32_t x, int n) { return x >> 8 * n & 0xff; }
static int32_t sign_extend(uint32_t x, int width) { return width ? (int32_t)(x << (32 - width)) >> (32 - width) : 0; }

static int leading_zeros(uint64_t x, int width) {
  for (int i = 0; i < width; i++)
    if (x >> (width - 1 - i) & 1) return i;
  return -1;
}
static int trailing_zeros(uint64_t x, int width) {
  for (int i = 0; i < width; i++)
    if (x >> i & 1) return i;
  return -1;
}
// Bits from the top before one differs from the sign.
static int leading_signs(uint64_t x, int width) { return leading_zeros(x >> (width - 1) & 1 ? ~x : x, width); }
static int count_ones(uint64_t x) { return __builtin_popcountll(x); }
static uint64_t reverse_bits(uint64_t x, int width) {
  uint64_t result = 0;
  for (int i = 0; i < width; i++) result |= (x >> i & 1) << (width - 1 - i);
  return result;
}

template <typename To>
To saturate(double x) {
  if (std::isnan(x)) return 0;
  if (x <= (double)std::numeric_limits<To>::min()) return std::numeric_limits<To>::min();
  if (x >= (double)std::numeric_limits<To>::max()) return std::numeric_limits<To>::max();
  return (To)x;
}

// Minimum and maximum with MODE.IEEE set: a signalling NaN makes a NaN, a quiet one yields to a number; -0 < +0.
template <typename T>
T minimum(T a, T b) {
  if (is_signalling(a) || is_signalling(b)) return quiet_nan<T>();
  if (is_nan(a)) return b;
  if (is_nan(b)) return a;
  if ((double)a == (double)b) return sign_of(a) ? a : b;
  return (double)a < (double)b ? a : b;
}
template <typename T>
T maximum(T a, T b) {
  if (is_signalling(a) || is_signalling(b)) return quiet_nan<T>();
  if (is_nan(a)) return b;
  if (is_nan(b)) return a;
  if ((double)a == (double)b) return sign_of(a) ? b : a;
  return (double)a > (double)b ? a : b;
}
template <typename T>
T minimum3(T a, T b, T c) {
  return minimum(minimum(a, b), c);
}
template <typename T>
T maximum3(T a, T b, T c) {
  return maximum(maximum(a, b), c);
}
template <typename T>
T median(T a, T b, T c) {
  if (is_nan(a) || is_nan(b) || is_nan(c)) return minimum3(a, b, c);
  const T most = maximum3(a, b, c);
  if ((double)most == (double)a) return maximum(b, c);
  if ((double)most == (double)b) return maximum(a, c);
  return maximum(a, b);
}
template <typename T>
T median_int(T a, T b, T c) {
  return std::max(std::min(a, b), std::min(std::max(a, b), c));
}

// a * b + c with one rounding: the sum is rounded to odd in double, which has bits enough for the second rounding.
static F16 fma_f16(F16 a, F16 b, F16 c) {
  const double product = (double)a * (double)b, addend = c, sum = product + addend;
  if (!std::isfinite(sum) || is_nan(a) || is_nan(b) || is_nan(c)) return sum;
  const double back = sum - product, error = (product - (sum - back)) + (addend - back);
  if (error != 0 && !(bit_cast<uint64_t>(sum) & 1)) return std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
  return sum;
}

static float flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.f, x) : x; }

static uint32_t sad_u8(uint32_t a, uint32_t b, uint32_t sum, bool masked = false) {
  for (int i = 0; i < 4; i++)
    if (!masked || byte_of(b, i)) sum += std::abs((int)byte_of(a, i) - (int)byte_of(b, i));
  return sum;
}

// ---------------------------------------------------------------------------------------------------------------------
// Vector ALU: bits and integers

TEST(VectorAlu, Bits) {
  UNARY("v_mov_b32", uint32_t, uint32_t, a);
  UNARY("v_not_b32", uint32_t, uint32_t, ~a);
  UNARY("v_bfrev_b32", uint32_t, uint32_t, reverse_bits(a, 32));
  UNARY("v_ffbh_u32", uint32_t, uint32_t, leading_zeros(a, 32));
  UNARY("v_ffbl_b32", uint32_t, uint32_t, trailing_zeros(a, 32));
  UNARY("v_ffbh_i32", uint32_t, uint32_t, leading_signs(a, 32));
  BINARY("v_and_b32", uint32_t, uint32_t, uint32_t, a & b);
  BINARY("v_or_b32", uint32_t, uint32_t, uint32_t, a | b);
  BINARY("v_xor_b32", uint32_t, uint32_t, uint32_t, a ^ b);
  BINARY("v_xnor_b32", uint32_t, uint32_t, uint32_t, ~(a ^ b));
  BINARY("v_bcnt_u32_b32", uint32_t, uint32_t, uint32_t, count_ones(a) + b);
  BINARY("v_bfm_b32", uint32_t, uint32_t, uint32_t, ((1u << (a & 31)) - 1) << (b & 31));
  TERNARY("v_bfe_u32", uint32_t, uint32_t, uint32_t, uint32_t, a >> (b & 31) & ((1u << (c & 31)) - 1));
  TERNARY("v_bfe_i32", uint32_t, int32_t, uint32_t, uint32_t, sign_extend(a >> (b & 31), c & 31));
  TERNARY("v_bfi_b32", uint32_t, uint32_t, uint32_t, uint32_t, (a & b) | (~a & c));
  TERNARY("v_alignbit_b32", uint32_t, uint32_t, uint32_t, uint32_t, ((uint64_t)a << 32 | b) >> (c & 31));
  TERNARY("v_alignbyte_b32", uint32_t, uint32_t, uint32_t, uint32_t, ((uint64_t)a << 32 | b) >> 8 * (c & 3));
  TERNARY("v_and_or_b32", uint32_t, uint32_t, uint32_t, uint32_t, (a & b) | c);
  TERNARY("v_or3_b32", uint32_t, uint32_t, uint32_t, uint32_t, a | b | c);
  TERNARY("v_lshl_or_b32", uint32_t, uint32_t, uint32_t, uint32_t, a << (b & 31) | c);
#if GFX11
  TERNARY("v_xor3_b32", uint32_t, uint32_t, uint32_t, uint32_t, a ^ b ^ c);
  UNARY("v_not_b16", uint16_t, uint16_t, ~a);
  BINARY("v_and_b16", uint16_t, uint16_t, uint16_t, a & b);
  BINARY("v_or_b16", uint16_t, uint16_t, uint16_t, a | b);
  BINARY("v_xor_b16", uint16_t, uint16_t, uint16_t, a ^ b);
#elif GFX942
  UNARY("v_mov_b64", uint64_t, uint64_t, a);
#endif
  CASE("v_mov_b32 v20, %1\n v_mov_b32 v21, %2\n v_swap_b32 v20, v21\n v_sub_f32 %0, v20, v21", float, float, float,
       Unused, b - a);
}

static uint32_t permute_byte(uint64_t bytes, uint32_t selector) {
  if (selector >= 13) return 0xff;
  if (selector == 12) return 0;
  if (selector >= 8) return bytes >> (16 * (selector - 8) + 15) & 1 ? 0xff : 0;
  return bytes >> 8 * selector & 0xff;
}

TEST(VectorAlu, PermuteBytes) {
  // Selectors of small bytes first: of a random one nearly all are above 12.
  CASE("v_and_b32 v20, 0x0f0f0f0f, %3\n v_perm_b32 %0, %1, %2, v20", uint32_t, uint32_t, uint32_t, uint32_t, ({
         uint32_t result = 0;
         for (int i = 0; i < 4; i++) result |= permute_byte((uint64_t)a << 32 | b, byte_of(c, i) & 15) << 8 * i;
         result;
       }));
  TERNARY("v_perm_b32", uint32_t, uint32_t, uint32_t, uint32_t, ({
            uint32_t result = 0;
            for (int i = 0; i < 4; i++) result |= permute_byte((uint64_t)a << 32 | b, byte_of(c, i)) << 8 * i;
            result;
          }));
}

TEST(VectorAlu, Shifts) {
  BINARY("v_lshlrev_b32", uint32_t, uint32_t, uint32_t, b << (a & 31));
  BINARY("v_lshrrev_b32", uint32_t, uint32_t, uint32_t, b >> (a & 31));
  BINARY("v_ashrrev_i32", int32_t, uint32_t, int32_t, b >> (a & 31));
  BINARY("v_lshlrev_b16", uint16_t, uint16_t, uint16_t, b << (a & 15));
  BINARY("v_lshrrev_b16", uint16_t, uint16_t, uint16_t, b >> (a & 15));
  BINARY("v_ashrrev_i16", int16_t, uint16_t, int16_t, b >> (a & 15));
  BINARY("v_lshlrev_b64", uint64_t, uint32_t, uint64_t, b << (a & 63));
  BINARY("v_lshrrev_b64", uint64_t, uint32_t, uint64_t, b >> (a & 63));
  BINARY("v_ashrrev_i64", int64_t, uint32_t, int64_t, b >> (a & 63));
}

#define V_ADD_U32 GFX9_11("v_add_u32", "v_add_nc_u32")
#define V_SUB_U32 GFX9_11("v_sub_u32", "v_sub_nc_u32")

TEST(VectorAlu, Integers32) {
  BINARY(V_ADD_U32, uint32_t, uint32_t, uint32_t, a + b);
  BINARY(V_SUB_U32, uint32_t, uint32_t, uint32_t, a - b);
  BINARY(GFX9_11("v_subrev_u32", "v_subrev_nc_u32"), uint32_t, uint32_t, uint32_t, b - a);
  BINARY(GFX9_11("v_add_i32", "v_add_nc_i32"), uint32_t, uint32_t, uint32_t, a + b);
  BINARY(GFX9_11("v_sub_i32", "v_sub_nc_i32"), uint32_t, uint32_t, uint32_t, a - b);
  BINARY("v_min_u32", uint32_t, uint32_t, uint32_t, std::min(a, b));
  BINARY("v_max_u32", uint32_t, uint32_t, uint32_t, std::max(a, b));
  BINARY("v_min_i32", int32_t, int32_t, int32_t, std::min(a, b));
  BINARY("v_max_i32", int32_t, int32_t, int32_t, std::max(a, b));
  TERNARY("v_min3_u32", uint32_t, uint32_t, uint32_t, uint32_t, std::min({a, b, c}));
  TERNARY("v_max3_u32", uint32_t, uint32_t, uint32_t, uint32_t, std::max({a, b, c}));
  TERNARY("v_med3_u32", uint32_t, uint32_t, uint32_t, uint32_t, median_int(a, b, c));
  TERNARY("v_min3_i32", int32_t, int32_t, int32_t, int32_t, std::min({a, b, c}));
  TERNARY("v_max3_i32", int32_t, int32_t, int32_t, int32_t, std::max({a, b, c}));
  TERNARY("v_med3_i32", int32_t, int32_t, int32_t, int32_t, median_int(a, b, c));
  TERNARY("v_add3_u32", uint32_t, uint32_t, uint32_t, uint32_t, a + b + c);
  TERNARY("v_lshl_add_u32", uint32_t, uint32_t, uint32_t, uint32_t, (a << (b & 31)) + c);
  TERNARY("v_add_lshl_u32", uint32_t, uint32_t, uint32_t, uint32_t, (a + b) << (c & 31));
  TERNARY("v_xad_u32", uint32_t, uint32_t, uint32_t, uint32_t, (a ^ b) + c);
#if GFX11
  TERNARY("v_maxmin_u32", uint32_t, uint32_t, uint32_t, uint32_t, std::min(std::max(a, b), c));
  TERNARY("v_minmax_i32", int32_t, int32_t, int32_t, int32_t, std::max(std::min(a, b), c));
#elif GFX942
  CASE("v_and_b32 v20, 3, %2\n v_lshl_add_u64 %0, %1, v20, %3", uint64_t, uint64_t, uint32_t, uint64_t,
       (a << (b & 3)) + c);
#endif
}

TEST(VectorAlu, Multiply) {
  BINARY("v_mul_lo_u32", uint32_t, uint32_t, uint32_t, a * b);
  BINARY("v_mul_hi_u32", uint32_t, uint32_t, uint32_t, (uint64_t)a * b >> 32);
  BINARY("v_mul_hi_i32", int32_t, int32_t, int32_t, (int64_t)a * b >> 32);
  BINARY("v_mul_u32_u24", uint32_t, uint32_t, uint32_t, (a & 0xffffff) * (b & 0xffffff));
  BINARY("v_mul_hi_u32_u24", uint32_t, uint32_t, uint32_t, (uint64_t)(a & 0xffffff) * (b & 0xffffff) >> 32);
  BINARY("v_mul_i32_i24", int32_t, uint32_t, uint32_t, (int64_t)sign_extend(a, 24) * sign_extend(b, 24));
  BINARY("v_mul_hi_i32_i24", int32_t, uint32_t, uint32_t, (int64_t)sign_extend(a, 24) * sign_extend(b, 24) >> 32);
  TERNARY("v_mad_u32_u24", uint32_t, uint32_t, uint32_t, uint32_t, (a & 0xffffff) * (b & 0xffffff) + c);
  TERNARY("v_mad_i32_i24", uint32_t, uint32_t, uint32_t, uint32_t,
          (int64_t)sign_extend(a, 24) * sign_extend(b, 24) + c);
  TERNARY("v_mad_u32_u16", uint32_t, uint16_t, uint16_t, uint32_t, (uint32_t)a * b + c);
  TERNARY("v_mad_i32_i16", uint32_t, int16_t, int16_t, uint32_t, a * b + c);
}

// The carry of 64-bit multiply-add is the 65th bit.
TEST(VectorAlu, MultiplyAdd64) {
  MASKED("v_mad_u64_u32 %0, %1, %2, %3, %4", uint64_t, uint32_t, uint32_t, uint64_t, ({
           const unsigned __int128 sum = (unsigned __int128)((uint64_t)a * b) + c;
           carry = sum >> 64 & 1;
           (uint64_t) sum;
         }));
  MASKED("v_mad_i64_i32 %0, %1, %2, %3, %4", uint64_t, int32_t, int32_t, int64_t, ({
           const __int128 sum = (__int128)((int64_t)a * b) + c;
           carry = sum >> 64 & 1;
           (uint64_t) sum;
         }));
}

#if GFX11
// Without a carry.
TEST(VectorAlu, MultiplyAdd64Null) {
  CASE("v_mad_u64_u32 %0, null, %1, %2, %3", uint64_t, uint32_t, uint32_t, uint64_t, (uint64_t)a * b + c);
}
#endif

// Through VCC in the short encoding and through any SGPRs in the long one.
#define CARRY(NAME, EXPECTED, CARRY_OUT)                                                               \
  MASKED(NAME " %0, %1, %2, %3", uint32_t, uint32_t, uint32_t, Unused, (carry = CARRY_OUT, EXPECTED)); \
  MASKED(NAME " %0, " VCC ", %2, %3\n " S_MOV_MASK "%1, " VCC, uint32_t, uint32_t, uint32_t, Unused,   \
         (carry = CARRY_OUT, EXPECTED))
#define CARRY_IN(NAME, EXPECTED, CARRY_OUT)                                                                          \
  MASKED(NAME " %0, %1, %2, %3, %1", uint32_t, uint32_t, uint32_t, Unused, ({                                        \
           const uint32_t in = carry;                                                                                \
           carry = CARRY_OUT;                                                                                        \
           (uint32_t)(EXPECTED);                                                                                     \
         }));                                                                                                        \
  MASKED(S_MOV_MASK VCC ", %1\n s_nop 4\n " NAME " %0, " VCC ", %2, %3, " VCC "\n " S_MOV_MASK "%1, " VCC, uint32_t, \
         uint32_t, uint32_t, Unused, ({                                                                              \
           const uint32_t in = carry;                                                                                \
           carry = CARRY_OUT;                                                                                        \
           (uint32_t)(EXPECTED);                                                                                     \
         }))

TEST(VectorAlu, Carry) {
  CARRY("v_add_co_u32", a + b, ((uint64_t)a + b) >> 32);
  CARRY("v_sub_co_u32", a - b, a < b);
  CARRY("v_subrev_co_u32", b - a, b < a);
  CARRY_IN(GFX9_11("v_addc_co_u32", "v_add_co_ci_u32"), a + b + in, ((uint64_t)a + b + in) >> 32);
  CARRY_IN(GFX9_11("v_subb_co_u32", "v_sub_co_ci_u32"), a - b - in, (uint64_t)a < (uint64_t)b + in);
  CARRY_IN(GFX9_11("v_subbrev_co_u32", "v_subrev_co_ci_u32"), b - a - in, (uint64_t)b < (uint64_t)a + in);
  MASKED("v_cndmask_b32 %0, %2, %3, %1", uint32_t, uint32_t, uint32_t, Unused, carry ? b : a);
  MASKED("v_cndmask_b32 %0, -%2, |%3|, %1", float, float, float, Unused,
         carry ? f32_of(bits_of(b) & INT_MAX) : f32_of(bits_of(a) ^ 1u << 31));
  MASKED(S_MOV_MASK VCC ", %1\n s_nop 4\n v_cndmask_b32 %0, %2, %3, " VCC, uint32_t, uint32_t, uint32_t, Unused,
         carry ? b : a);
}

TEST(VectorAlu, Integers16) {
  BINARY(GFX9_11("v_add_u16", "v_add_nc_u16"), uint16_t, uint16_t, uint16_t, a + b);
  BINARY(GFX9_11("v_sub_u16", "v_sub_nc_u16"), uint16_t, uint16_t, uint16_t, a - b);
  BINARY(GFX9_11("v_add_i16", "v_add_nc_i16"), Any16<uint16_t>, uint16_t, uint16_t, a + b);
  BINARY(GFX9_11("v_sub_i16", "v_sub_nc_i16"), Any16<uint16_t>, uint16_t, uint16_t, a - b);
  BINARY("v_mul_lo_u16", uint16_t, uint16_t, uint16_t, a * b);
  BINARY("v_min_u16", uint16_t, uint16_t, uint16_t, std::min(a, b));
  BINARY("v_max_u16", uint16_t, uint16_t, uint16_t, std::max(a, b));
  BINARY("v_min_i16", int16_t, int16_t, int16_t, std::min(a, b));
  BINARY("v_max_i16", int16_t, int16_t, int16_t, std::max(a, b));
  TERNARY("v_min3_u16", Any16<uint16_t>, uint16_t, uint16_t, uint16_t, std::min({a, b, c}));
  TERNARY("v_max3_i16", Any16<int16_t>, int16_t, int16_t, int16_t, std::max({a, b, c}));
  TERNARY("v_med3_i16", Any16<int16_t>, int16_t, int16_t, int16_t, median_int(a, b, c));
  TERNARY("v_mad_u16", Keep16<uint16_t>, uint16_t, uint16_t, uint16_t, (uint16_t)(a * b + c));
  TERNARY("v_mad_i16", Keep16<int16_t>, int16_t, int16_t, int16_t, (int16_t)(a * b + c));
#if !GFX11
  BINARY("v_subrev_u16", uint16_t, uint16_t, uint16_t, b - a);
#endif
}

TEST(VectorAlu, Bytes) {
  TERNARY("v_sad_u8", uint32_t, uint32_t, uint32_t, uint32_t, sad_u8(a, b, c));
  TERNARY("v_sad_hi_u8", uint32_t, uint32_t, uint32_t, uint32_t, (sad_u8(a, b, 0) << 16) + c);
  TERNARY("v_sad_u16", uint32_t, U16x2, U16x2, uint32_t, c + std::abs(a.lo - b.lo) + std::abs(a.hi - b.hi));
  TERNARY("v_sad_u32", uint32_t, uint32_t, uint32_t, uint32_t, c + (a > b ? a - b : b - a));
  TERNARY("v_msad_u8", uint32_t, uint32_t, uint32_t, uint32_t, sad_u8(a, b, c, true));
  TERNARY("v_lerp_u8", uint32_t, uint32_t, uint32_t, uint32_t, ({
            uint32_t result = 0;
            for (int i = 0; i < 4; i++) result |= (byte_of(a, i) + byte_of(b, i) + (byte_of(c, i) & 1)) >> 1 << 8 * i;
            result;
          }));
}

// ---------------------------------------------------------------------------------------------------------------------
// Vector ALU: floating point

TEST(VectorAlu, Float32) {
  BINARY("v_add_f32", float, float, float, a + b);
  BINARY("v_sub_f32", float, float, float, a - b);
  BINARY("v_subrev_f32", float, float, float, b - a);
  BINARY("v_mul_f32", float, float, float, a *b);
  BINARY("v_min_f32", float, float, float, minimum(a, b));
  BINARY("v_max_f32", float, float, float, maximum(a, b));
  TERNARY("v_min3_f32", float, float, float, float, minimum3(a, b, c));
  TERNARY("v_max3_f32", float, float, float, float, maximum3(a, b, c));
  TERNARY("v_med3_f32", float, float, float, float, median(a, b, c));
  BINARY(GFX9_11("v_mul_legacy_f32", "v_mul_dx9_zero_f32"), float, float, float, a == 0 || b == 0 ? 0.f : a * b);
#if GFX11
  TERNARY("v_maxmin_f32", float, float, float, float, minimum(maximum(a, b), c));
  TERNARY("v_minmax_f32", float, float, float, float, maximum(minimum(a, b), c));
#endif
}

TEST(VectorAlu, Fma32) {
  TERNARY("v_fma_f32", float, float, float, float, std::fma(a, b, c));
  BINARY("v_fmac_f32", float, float, float, std::fma(a, b, d));
#if !GFX90A
  CASE("v_fmamk_f32 %0, %1, 0x40490fdb, %2", float, float, float, Unused, std::fma(a, f32_of(0x40490fdb), b));
  CASE("v_fmaak_f32 %0, %1, %2, 0xc0490fdb", float, float, float, Unused, std::fma(a, b, f32_of(0xc0490fdb)));
#endif
}

TEST(VectorAlu, Float16) {
  BINARY("v_add_f16", F16, F16, F16, (double)a + (double)b);
  BINARY("v_sub_f16", F16, F16, F16, (double)a - (double)b);
  BINARY("v_subrev_f16", F16, F16, F16, (double)b - (double)a);
  BINARY("v_mul_f16", F16, F16, F16, (double)a * (double)b);
  BINARY("v_min_f16", F16, F16, F16, minimum(a, b));
  BINARY("v_max_f16", F16, F16, F16, maximum(a, b));
  TERNARY("v_min3_f16", F16, F16, F16, F16, minimum3(a, b, c));
  TERNARY("v_max3_f16", F16, F16, F16, F16, maximum3(a, b, c));
  TERNARY("v_med3_f16", F16, F16, F16, F16, median(a, b, c));
  TERNARY("v_fma_f16", Keep16<F16>, F16, F16, F16, fma_f16(a, b, c));
#if GFX11
  BINARY("v_fmac_f16", F16, F16, F16, fma_f16(a, b, d));
  CASE("v_fmamk_f16 %0, %1, 0x4248, %2", F16, F16, F16, Unused, fma_f16(a, f16_of(0x4248), b));
  CASE("v_fmaak_f16 %0, %1, %2, 0x4248", F16, F16, F16, Unused, fma_f16(a, b, f16_of(0x4248)));
#else
  // Not fused, with denormals flushed: exact operands only.
  TERNARY("v_mad_f16", Keep16<F16>, Small<F16>, Small<F16>, Small<F16>, F16((double)a.value * b.value + c.value));
#endif
}

TEST(VectorAlu, Float64) {
  BINARY("v_add_f64", double, double, double, a + b);
  BINARY("v_mul_f64", double, double, double, a *b);
  BINARY("v_min_f64", double, double, double, minimum(a, b));
  BINARY("v_max_f64", double, double, double, maximum(a, b));
  TERNARY("v_fma_f64", double, double, double, double, std::fma(a, b, c));
#if !GFX11
  BINARY("v_fmac_f64", double, double, double, std::fma(a, b, d));
#endif
}

TEST(VectorAlu, Rounding) {
  UNARY("v_trunc_f32", float, float, std::trunc(a));
  UNARY("v_ceil_f32", float, float, std::ceil(a));
  UNARY("v_floor_f32", float, float, std::floor(a));
  UNARY("v_rndne_f32", float, float, std::nearbyint(a));
  UNARY("v_trunc_f64", double, double, std::trunc(a));
  UNARY("v_ceil_f64", double, double, std::ceil(a));
  UNARY("v_floor_f64", double, double, std::floor(a));
  UNARY("v_rndne_f64", double, double, std::nearbyint(a));
  UNARY("v_trunc_f16", F16, F16, std::trunc((double)a));
  UNARY("v_ceil_f16", F16, F16, std::ceil((double)a));
  UNARY("v_floor_f16", F16, F16, std::floor((double)a));
  UNARY("v_rndne_f16", F16, F16, std::nearbyint((double)a));
  // Of a tiny negative number x - floor(x) rounds to 1; whether that or the number below is returned is not documented,
  // nor the fraction of infinity.
  UNARY("v_fract_f32", float, float, std::isinf(a) || a - std::floor(a) == 1 ? open(a) : a - std::floor(a));
  UNARY("v_fract_f64", double, double, std::isinf(a) || a - std::floor(a) == 1 ? open(a) : a - std::floor(a));
  UNARY("v_fract_f16", F16, F16, ({
          const F16 fraction = (double)a - std::floor((double)a);
          std::isinf((double)a) || fraction == 1 ? open(a) : fraction;
        }));
}

TEST(VectorAlu, Exponents) {
  BINARY("v_ldexp_f32", float, float, int32_t, std::ldexp(a, std::clamp(b, -5000, 5000)));
  BINARY("v_ldexp_f64", double, double, int32_t, std::ldexp(a, std::clamp(b, -5000, 5000)));
  BINARY("v_ldexp_f16", F16, F16, int16_t, std::ldexp((double)a, std::clamp<int>(b, -500, 500)));
  UNARY("v_frexp_mant_f32", float, float, ({
          int e;
          std::isfinite(a) ? std::frexp(a, &e) : a;
        }));
  UNARY("v_frexp_mant_f64", double, double, ({
          int e;
          std::isfinite(a) ? std::frexp(a, &e) : a;
        }));
  UNARY("v_frexp_mant_f16", F16, F16, ({
          int e;
          std::isfinite((double)a) ? F16(std::frexp((double)a, &e)) : a;
        }));
  UNARY("v_frexp_exp_i32_f32", int32_t, float, ({
          int e = 0;
          if (std::isfinite(a)) (void)std::frexp(a, &e);
          e;
        }));
  UNARY("v_frexp_exp_i32_f64", int32_t, double, ({
          int e = 0;
          if (std::isfinite(a)) (void)std::frexp(a, &e);
          e;
        }));
  UNARY("v_frexp_exp_i16_f16", int16_t, F16, ({
          int e = 0;
          if (std::isfinite((double)a)) (void)std::frexp((double)a, &e);
          (int16_t) e;
        }));
}

TEST(VectorAlu, Convert) {
  UNARY("v_cvt_f32_i32", float, int32_t, (float)a);
  UNARY("v_cvt_f32_u32", float, uint32_t, (float)a);
  UNARY("v_cvt_i32_f32", int32_t, float, saturate<int32_t>(a));
  UNARY("v_cvt_u32_f32", uint32_t, float, saturate<uint32_t>(a));
  UNARY("v_cvt_f64_i32", double, int32_t, a);
  UNARY("v_cvt_f64_u32", double, uint32_t, a);
  UNARY("v_cvt_i32_f64", int32_t, double, saturate<int32_t>(a));
  UNARY("v_cvt_u32_f64", uint32_t, double, saturate<uint32_t>(a));
  UNARY("v_cvt_f64_f32", double, float, a);
  UNARY("v_cvt_f32_f64", float, double, (float)a);
  UNARY("v_cvt_f32_f16", float, F16, (float)(double)a);
  UNARY("v_cvt_f16_f32", F16, float, (double)a);
  UNARY("v_cvt_f16_u16", F16, uint16_t, (double)a);
  UNARY("v_cvt_f16_i16", F16, int16_t, (double)a);
  UNARY("v_cvt_u16_f16", Any16<uint16_t>, F16, saturate<uint16_t>(a));
  UNARY("v_cvt_i16_f16", Any16<int16_t>, F16, saturate<int16_t>(a));
  UNARY("v_cvt_f32_ubyte0", float, uint32_t, byte_of(a, 0));
  UNARY("v_cvt_f32_ubyte1", float, uint32_t, byte_of(a, 1));
  UNARY("v_cvt_f32_ubyte2", float, uint32_t, byte_of(a, 2));
  UNARY("v_cvt_f32_ubyte3", float, uint32_t, byte_of(a, 3));
  UNARY("v_cvt_flr_i32_f32", int32_t, float, saturate<int32_t>(std::floor(a)));
  UNARY("v_cvt_rpi_i32_f32", int32_t, Small<float>, std::floor(a + 0.5f));
}

static uint32_t pack(uint32_t lo, uint32_t hi) { return (lo & 0xffff) | hi << 16; }
static int nearest(double x) { return is_nan(x) ? 0 : (int)std::nearbyint(x); }

TEST(VectorAlu, ConvertPacked) {
  BINARY("v_cvt_pkrtz_f16_f32", F16x2, float, float, (F16x2{f16_toward_zero(a), f16_toward_zero(b)}));
  BINARY("v_cvt_pk_i16_i32", uint32_t, int32_t, int32_t,
         pack(std::clamp(a, -0x8000, 0x7fff), std::clamp(b, -0x8000, 0x7fff)));
  BINARY("v_cvt_pk_u16_u32", uint32_t, uint32_t, uint32_t, pack(std::min(a, 0xffffu), std::min(b, 0xffffu)));
  BINARY("v_pack_b32_f16", F16x2, F16, F16, (F16x2{a, b}));
  // Rounding of ties is not documented: quarters times 32767 and 65535 have none but at 0 and beyond 1.
  BINARY("v_cvt_pknorm_i16_f32", uint32_t, Small<float>, Small<float>, ({
           auto norm = [](double x) {
             return std::fabs(x) == 0.5 ? open(0) : nearest(std::clamp(x, -1.0, 1.0) * 32767);
           };
           pack(norm(a), norm(b));
         }));
  BINARY("v_cvt_pknorm_u16_f32", uint32_t, Small<float>, Small<float>, ({
           auto norm = [](double x) { return x == 0.5 ? open(0) : nearest(std::clamp(x, 0.0, 1.0) * 65535); };
           pack(norm(a), norm(b));
         }));
  // Whole numbers: how others are rounded is not documented.
  TERNARY("v_cvt_pk_u8_f32", uint32_t, Small<float>, uint32_t, uint32_t, ({
            const int shift = 8 * (b & 3), byte = (int)std::clamp(a.value, 0.f, 255.f);
            std::floor(a) != a ? open(c) : (c & ~(0xff << shift)) | byte << shift;
          }));
}

TEST(VectorAlu, ConvertRare) {
  UNARY("v_cvt_off_f32_i4", float, uint32_t, sign_extend(a, 4) / 16.f);
  UNARY("v_sat_pk_u8_i16", Any16<uint16_t>, I16x2,
        (uint16_t)(std::clamp<int>(a.lo, 0, 255) | std::clamp<int>(a.hi, 0, 255) << 8));
#if GFX11
  UNARY("v_cvt_i32_i16", int32_t, int16_t, a);
  UNARY("v_cvt_u32_u16", uint32_t, uint16_t, a);
  BINARY("v_cvt_pk_i16_f32", uint32_t, float, float, pack(saturate<int16_t>(a), saturate<int16_t>(b)));
  BINARY("v_cvt_pk_u16_f32", uint32_t, float, float, pack(saturate<uint16_t>(a), saturate<uint16_t>(b)));
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Approximations, within the documents' error: 1 ulp in single and half precision, 2^29 ulp in double

// Expected value that accepts any register within ulps of the exact result. Denormal operands and results may be
// flushed where `flushes` is set.
struct Format {
  int precision, min_exponent;
  long double largest;
};
template <typename T>
Format format_of() {
  if (sizeof(T) == 2) return {11, -14, 65504};
  if (sizeof(T) == 4) return {24, -126, FLT_MAX};
  return {53, -1022, DBL_MAX};
}

static bool within(long double actual, long double exact, double ulps, const Format &format, bool flushes) {
  if (std::isnan(exact)) return std::isnan(actual);
  const long double least = std::ldexp(1.0L, format.min_exponent);
  if (flushes && std::fabs(exact) < least && actual == 0) return true;
  if (std::isinf(exact) || std::isinf(actual)) {
    if (std::signbit(exact) != std::signbit(actual)) return false;
    return std::fabs(exact) >= format.largest && std::fabs(actual) >= format.largest;
  }
  const int exponent = exact == 0 ? format.min_exponent : std::max(std::ilogb(exact), format.min_exponent);
  return std::fabs(actual - exact) <= ulps * std::ldexp(1.0L, exponent - format.precision + 1);
}

template <typename T>
struct Approximation {
  const char *text;
  void (*launch)(const Operands *, Result *);
  long double (*exact)(long double);
  Source (*source)();
  double ulps;      // of the result,
  double absolute;  // or this much
  bool flushes;
};

template <typename T, typename Operand>
void check_approximation(const Approximation<Operand> &test) {
  const Source none = SourceOf<Unused>::get();
  const auto operands = make_operands(test.source(), none, none, none);
  const Device<Operands> device_operands(operands);
  const Device<Result> device_results(operands.size());
  test.launch(device_operands.data(), device_results.data());
  const auto results = device_results.fetch();
  Mismatches mismatches(test.text);
  const Format format = format_of<T>();
  for (size_t i = 0; i < operands.size(); i++) {
    const long double a = (double)bit_cast<T>(operands[i].a), actual = (double)bit_cast<T>(results[i].d);
    const long double exact = test.exact(a);
    if (within(actual, exact, test.ulps, format, test.flushes)) continue;
    if (test.absolute && std::fabs(actual - exact) <= test.absolute) continue;
    if (test.flushes && std::fabs(a) < std::ldexp(1.0L, format.min_exponent) &&
        within(actual, test.exact(std::copysign(0.0L, a)), test.ulps, format, true))
      continue;
    mismatches.add("a " + hex(operands[i].a),
                   std::to_string(test.ulps) + " ulp of " + hex(bit_cast<uint64_t>((double)exact)), hex(results[i].d));
  }
}

#define APPROXIMATE(NAME, T, OPERAND, ULPS, ABSOLUTE, FLUSHES, EXACT)                                      \
  check_approximation<T>(Approximation<OPERAND>{                                                           \
      NAME,                                                                                                \
      [](const Operands *operands, Result *results) {                                                      \
        execute<false, T, T, Unused, Unused><<<(kTuples + 255) / 256, 256>>>(                              \
            operands, results, [] __device__(Register<T> & d, Mask &, Register<T> a, uint32_t, uint32_t) { \
              asm volatile(NOP NAME " %0, %1" : "+v"(d) : "v"(a));                                         \
            });                                                                                            \
      },                                                                                                   \
      [](long double a) -> long double { return EXACT; }, SourceOf<OPERAND>::get, ULPS, ABSOLUTE, FLUSHES})

TEST(VectorAlu, Transcendental32) {
  APPROXIMATE("v_exp_f32", float, float, 1, 0, true, std::exp2(a));
  APPROXIMATE("v_log_f32", float, float, 1, 0, true, std::log2(a));
  APPROXIMATE("v_rcp_f32", float, float, 1, 0, true, 1 / a);
  APPROXIMATE("v_rcp_iflag_f32", float, float, 1, 0, true, 1 / a);
  // Of -0 as well as of denormals flushed to it, the root is -0 and its reciprocal -infinity.
  APPROXIMATE("v_rsq_f32", float, float, 1, 0, true, a == 0 ? 1 / a : 1 / std::sqrt(a));
  APPROXIMATE("v_sqrt_f32", float, float, 1, 0, true, std::sqrt(a));
  APPROXIMATE("v_sin_f32", float, Turns<float>, 1, 1e-6, true, std::sin(a * 2 * M_PIl));
  APPROXIMATE("v_cos_f32", float, Turns<float>, 1, 1e-6, true, std::cos(a * 2 * M_PIl));
}

TEST(VectorAlu, Transcendental16) {
  APPROXIMATE("v_exp_f16", F16, F16, 1, 0, false, std::exp2(a));
  APPROXIMATE("v_log_f16", F16, F16, 1, 0, false, std::log2(a));
  APPROXIMATE("v_rcp_f16", F16, F16, 1, 0, false, 1 / a);
  APPROXIMATE("v_rsq_f16", F16, F16, 1, 0, false, a == 0 ? 1 / a : 1 / std::sqrt(a));
  APPROXIMATE("v_sqrt_f16", F16, F16, 1, 0, false, std::sqrt(a));
  APPROXIMATE("v_sin_f16", F16, Turns<F16>, 1, 1e-3, false, std::sin(a * 2 * M_PIl));
  APPROXIMATE("v_cos_f16", F16, Turns<F16>, 1, 1e-3, false, std::cos(a * 2 * M_PIl));
}

TEST(VectorAlu, Transcendental64) {
  APPROXIMATE("v_rcp_f64", double, double, 0x1p29, 0, true, 1 / a);
  APPROXIMATE("v_rsq_f64", double, double, 0x1p29, 0, true, a == 0 ? 1 / a : 1 / std::sqrt(a));
  APPROXIMATE("v_sqrt_f64", double, double, 0x1p29, 0, true, std::sqrt(a));
}

// ---------------------------------------------------------------------------------------------------------------------
// Division

template <typename T>
int biased_exponent(T x) {
  return sizeof(T) == 4 ? bit_cast<uint32_t>(x) >> 23 & 0xff : bit_cast<uint64_t>(x) >> 52 & 0x7ff;
}

// v_div_scale of the operand x, which is the denominator or the numerator. `big` is the exponent difference from which
// the quotient is large, `tiny` the exponent up to which the numerator is, `step` the power of two of a scaling.
template <typename T>
T div_scale(T x, T denominator, T numerator, bool &scaled, int big, int tiny, int step) {
  scaled = false;
  if (!std::isfinite(numerator) || !std::isfinite(denominator)) return open(x);
  if (numerator == 0 || denominator == 0) return NAN;
  const bool is_denominator = x == denominator;
  auto subnormal = [](long double q) { return q != 0 && std::fabs(q) < std::numeric_limits<T>::min(); };
  const long double quotient = (long double)numerator / denominator;
  // The documents do not say whether a quotient below the least denormal, or a reciprocal that is denormal in the
  // narrower format, counts.
  if (std::fabs(quotient) < std::numeric_limits<T>::denorm_min()) return open(x);
  if (subnormal(1.0L / denominator)) return open(x);
  if (biased_exponent(numerator) - biased_exponent(denominator) >= big) {
    scaled = true;
    return is_denominator ? std::ldexp(x, step) : x;
  }
  if (subnormal(denominator)) return std::ldexp(x, step);
  if (subnormal(quotient)) {
    scaled = true;
    return x == numerator ? std::ldexp(x, step) : x;
  }
  return biased_exponent(numerator) <= tiny ? std::ldexp(x, step) : x;
}

// The quotient is computed by the preceding instructions: only special cases and the sign are decided here.
template <typename T>
T div_fixup(T quotient, T denominator, T numerator, int underflow) {
  if (is_nan(numerator) || is_nan(denominator)) return quiet_nan<T>();
  if (is_nan(quotient)) return open(quotient);
  const double n = numerator, d = denominator, sign = sign_of(numerator) != sign_of(denominator) ? -1 : 1;
  if ((n == 0 && d == 0) || (std::isinf(n) && std::isinf(d))) return quiet_nan<T>();
  if (d == 0 || std::isinf(n)) return sign * INFINITY;
  if (std::isinf(d) || n == 0) return sign * 0.0;
  if constexpr (sizeof(T) > 2)
    if (biased_exponent(numerator) - biased_exponent(denominator) < underflow) return open(quotient);
  return std::copysign((double)quotient, sign);
}

TEST(Division, Scale) {
  MASKED("v_div_scale_f32 %0, %1, %2, %2, %3", float, float, float, Unused, div_scale(a, a, b, carry, 96, 23, 64));
  MASKED("v_div_scale_f32 %0, %1, %3, %2, %3", float, float, float, Unused, div_scale(b, a, b, carry, 96, 23, 64));
  MASKED("v_div_scale_f64 %0, %1, %2, %2, %3", double, double, double, Unused, div_scale(a, a, b, carry, 768, 53, 128));
  MASKED("v_div_scale_f64 %0, %1, %3, %2, %3", double, double, double, Unused, div_scale(b, a, b, carry, 768, 53, 128));
}

// v_div_fmas undoes the scaling, by 2^64 (2^128) upward when the estimate c is large and downward when it is small:
// that is what makes the sequence a division (Division.Sequence), though the documents print 2^32 (2^64).
TEST(Division, Fmas) {
  MASKED(S_MOV_MASK VCC ", %1\n s_nop 4\n v_div_fmas_f32 %0, %2, %3, %4", float, Small<float>, Small<float>, float, ({
           const float sum = std::fma(a.value, b.value, c);
           const int exponent = c == 0 ? -200 : std::ilogb(c);
           !carry                                                    ? sum
           : !std::isfinite(c) || std::abs(exponent) < 20            ? open(c)
           : std::fabs(a.value * b.value) >= std::fabs(c) * 0x1p-20f ? open(c)
                                                                     : std::ldexp(sum, exponent > 0 ? 64 : -64);
         }));
  MASKED(S_MOV_MASK VCC ", %1\n s_nop 4\n v_div_fmas_f64 %0, %2, %3, %4", double, double, double, double,
         carry ? open(c) : std::fma(a, b, c));
}

TEST(Division, Fixup) {
  TERNARY("v_div_fixup_f32", float, float, float, float, div_fixup(a, b, c, -150));
  TERNARY("v_div_fixup_f64", double, double, double, double, div_fixup(a, b, c, -1075));
  TERNARY("v_div_fixup_f16", Keep16<F16>, F16, F16, F16, div_fixup(a, b, c, 0));
}

// What the compiler makes of a division with these instructions is correctly rounded. Divisors whose fraction is all
// ones are left out: for them Newton's iteration ends at a tie, and the last bit depends on v_rcp's undocumented ones.
template <typename T>
bool all_ones(T x, int fraction_bits) {
  const uint64_t fraction = (1ull << fraction_bits) - 1;
  return (bit_cast<uint64_t>(x) & fraction) == fraction;
}
TEST(Division, Sequence) {
  CHECK_STATEMENT("float division", false, FE_TONEAREST, float, float, float, Unused,
                  (d = bit_cast<uint32_t>(bit_cast<float>(a) / bit_cast<float>(b))), all_ones(b, 23) ? open(a) : a / b);
  CHECK_STATEMENT("double division", false, FE_TONEAREST, double, double, double, Unused,
                  (d = bit_cast<uint64_t>(bit_cast<double>(a) / bit_cast<double>(b))),
                  all_ones(b, 52) ? open(a) : a / b);
#if __clang_major__ >= 19  // an older compiler takes v_sqrt_f32 as it is
  CHECK_STATEMENT("float square root", false, FE_TONEAREST, float, float, Unused, Unused,
                  (d = bit_cast<uint32_t>(__builtin_sqrtf(bit_cast<float>(a)))), std::sqrt(a));
#endif
}

// 1232 bits of 2/pi behind the binary point, of which v_trig_preop selects 53 by exponent and segment.
TEST(Division, TrigPreop) {
  BINARY(
      "v_trig_preop_f64", double, double, uint32_t, ({
        static const char *digits =
            "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1c"
            "b129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f"
            "6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cf";
        const int exponent = biased_exponent(a);
        const int shift = (b & 31) * 53 + std::max(exponent - 1077, 0);
        uint64_t bits = 0;
        for (int i = 0; i < 53; i++) {
          const int place = shift + i;  // the fraction has 1201 bits
          const int digit = place >= 1201              ? 0
                            : digits[place / 4] >= 'a' ? digits[place / 4] - 'a' + 10
                                                       : digits[place / 4] - '0';
          bits = bits << 1 | (digit >> (3 - place % 4) & 1);
        }
        !std::isfinite(a) ? open(a) : std::ldexp((double)bits, -53 - shift + (exponent >= 1968 ? 128 : 0));
      }));
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparisons: bit k of the result is predicate k's

#define COMPARE(PREFIX, SUFFIX, PREDICATE, BIT)                                            \
  {                                                                                        \
    Mask bits;                                                                             \
    asm volatile(PREFIX PREDICATE "_" SUFFIX " %0, %1, %2" : "=s"(bits) : "v"(a), "v"(b)); \
    d |= (uint32_t)lane_bit(bits) << BIT;                                                  \
  }
// v_cmpx writes EXEC, and on gfx9 a mask as well.
#define COMPARE_EXEC(PREFIX, SUFFIX, PREDICATE, BIT)                                             \
  {                                                                                              \
    Mask bits;                                                                                   \
    Mask saved;                                                                                  \
    asm volatile(S_MOV_MASK "%1, " EXEC "\n v_cmpx_" PREDICATE "_" SUFFIX GFX9_11(               \
                     " vcc,", "") " %2, %3\n" S_MOV_MASK "%0, " EXEC "\n" S_MOV_MASK EXEC ", %1" \
                 : "=&s"(bits), "=&s"(saved)                                                     \
                 : "v"(a), "v"(b)                                                                \
                 : "vcc");                                                                       \
    d |= (uint32_t)lane_bit(bits) << BIT;                                                        \
  }
#define FLOAT_PREDICATES(COMPARE, PREFIX, SUFFIX)                                                                  \
  COMPARE(PREFIX, SUFFIX, "f", 0)                                                                                  \
  COMPARE(PREFIX, SUFFIX, "lt", 1)                                                                                 \
  COMPARE(PREFIX, SUFFIX, "eq", 2)                                                                                 \
  COMPARE(PREFIX, SUFFIX, "le", 3)                                                                                 \
  COMPARE(PREFIX, SUFFIX, "gt", 4)                                                                                 \
  COMPARE(PREFIX, SUFFIX, "lg", 5) COMPARE(PREFIX, SUFFIX, "ge", 6) COMPARE(PREFIX, SUFFIX, "o", 7)                \
      COMPARE(PREFIX, SUFFIX, "u", 8) COMPARE(PREFIX, SUFFIX, "nge", 9) COMPARE(PREFIX, SUFFIX, "nlg", 10)         \
          COMPARE(PREFIX, SUFFIX, "ngt", 11) COMPARE(PREFIX, SUFFIX, "nle", 12) COMPARE(PREFIX, SUFFIX, "neq", 13) \
              COMPARE(PREFIX, SUFFIX, "nlt", 14) COMPARE(PREFIX, SUFFIX, GFX9_11("tru", "t"), 15)
// The f and t predicates of 16-bit integers are not part of gfx11's set.
#define INTEGER_PREDICATES(COMPARE, PREFIX, SUFFIX) \
  COMPARE(PREFIX, SUFFIX, "lt", 1)                  \
  COMPARE(PREFIX, SUFFIX, "eq", 2)                  \
  COMPARE(PREFIX, SUFFIX, "le", 3)                  \
  COMPARE(PREFIX, SUFFIX, "gt", 4) COMPARE(PREFIX, SUFFIX, "ne", 5) COMPARE(PREFIX, SUFFIX, "ge", 6)
#define CONSTANT_PREDICATES(COMPARE, PREFIX, SUFFIX) COMPARE(PREFIX, SUFFIX, "f", 0) COMPARE(PREFIX, SUFFIX, "t", 7)

template <typename T>
uint32_t float_predicates(T x, T y) {
  const double a = x, b = y;
  const bool unordered = is_nan(x) || is_nan(y);
  const uint32_t bits = (a < b) << 1 | (a == b) << 2 | (a <= b) << 3 | (a > b) << 4 | (a < b || a > b) << 5 |
                        (a >= b) << 6 | !unordered << 7 | unordered << 8;
  return bits | (~bits >> 6 & 1) << 9 | (~bits >> 5 & 1) << 10 | (~bits >> 4 & 1) << 11 | (~bits >> 3 & 1) << 12 |
         (~bits >> 2 & 1) << 13 | (~bits >> 1 & 1) << 14 | 1 << 15;
}
template <typename T>
uint32_t integer_predicates(T a, T b, bool constants = true) {
  return (a < b) << 1 | (a == b) << 2 | (a <= b) << 3 | (a > b) << 4 | (a != b) << 5 | (a >= b) << 6 | constants << 7;
}

#define CHECK_PREDICATES(NAME, A, STATEMENTS, EXPECTED) \
  CHECK_STATEMENT(NAME, false, FE_TONEAREST, uint32_t, A, A, Unused, d = 0; STATEMENTS, EXPECTED)

TEST(VectorCompare, Float) {
  CHECK_PREDICATES("v_cmp f32", float, FLOAT_PREDICATES(COMPARE, "v_cmp_", "f32"), float_predicates(a, b));
  CHECK_PREDICATES("v_cmp f64", double, FLOAT_PREDICATES(COMPARE, "v_cmp_", "f64"), float_predicates(a, b));
  CHECK_PREDICATES("v_cmp f16", F16, FLOAT_PREDICATES(COMPARE, "v_cmp_", "f16"), float_predicates(a, b));
}
TEST(VectorCompare, FloatToExec) {
  CHECK_PREDICATES("v_cmpx f32", float, FLOAT_PREDICATES(COMPARE_EXEC, "v_cmpx_", "f32"), float_predicates(a, b));
  CHECK_PREDICATES("v_cmpx f64", double, FLOAT_PREDICATES(COMPARE_EXEC, "v_cmpx_", "f64"), float_predicates(a, b));
  CHECK_PREDICATES("v_cmpx f16", F16, FLOAT_PREDICATES(COMPARE_EXEC, "v_cmpx_", "f16"), float_predicates(a, b));
}

#define CHECK_INTEGER_PREDICATES(COMPARE, PREFIX, SUFFIX, A)                                                 \
  CHECK_PREDICATES(PREFIX " " SUFFIX, A,                                                                     \
                   INTEGER_PREDICATES(COMPARE, PREFIX, SUFFIX) CONSTANT_PREDICATES(COMPARE, PREFIX, SUFFIX), \
                   integer_predicates(a, b))
#if GFX11
#define CHECK_PREDICATES16(COMPARE, PREFIX, SUFFIX, A) \
  CHECK_PREDICATES(PREFIX " " SUFFIX, A, INTEGER_PREDICATES(COMPARE, PREFIX, SUFFIX), integer_predicates(a, b, false))
#else
#define CHECK_PREDICATES16 CHECK_INTEGER_PREDICATES
#endif

TEST(VectorCompare, Integer) {
  CHECK_INTEGER_PREDICATES(COMPARE, "v_cmp_", "i32", int32_t);
  CHECK_INTEGER_PREDICATES(COMPARE, "v_cmp_", "u32", uint32_t);
  CHECK_INTEGER_PREDICATES(COMPARE, "v_cmp_", "i64", int64_t);
  CHECK_INTEGER_PREDICATES(COMPARE, "v_cmp_", "u64", uint64_t);
  CHECK_PREDICATES16(COMPARE, "v_cmp_", "i16", int16_t);
  CHECK_PREDICATES16(COMPARE, "v_cmp_", "u16", uint16_t);
}
TEST(VectorCompare, IntegerToExec) {
  CHECK_INTEGER_PREDICATES(COMPARE_EXEC, "v_cmpx_", "i32", int32_t);
  CHECK_INTEGER_PREDICATES(COMPARE_EXEC, "v_cmpx_", "u32", uint32_t);
  CHECK_INTEGER_PREDICATES(COMPARE_EXEC, "v_cmpx_", "i64", int64_t);
  CHECK_INTEGER_PREDICATES(COMPARE_EXEC, "v_cmpx_", "u64", uint64_t);
  CHECK_PREDICATES16(COMPARE_EXEC, "v_cmpx_", "i16", int16_t);
  CHECK_PREDICATES16(COMPARE_EXEC, "v_cmpx_", "u16", uint16_t);
}

// The class of a: bits 0 to 9 are signalling NaN, quiet NaN, -infinity, -normal, -denormal, -0, +0, and so on up.
template <typename T>
bool in_class(T a, uint32_t classes) {
  if (is_nan(a)) return classes >> (is_signalling(a) ? 0 : 1) & 1;
  const double x = std::fabs((double)a), least = std::ldexp(1.0, format_of<T>().min_exponent);
  const int kind = std::isinf(x) ? 0 : x >= least ? 1 : x > 0 ? 2 : 3;
  return classes >> (sign_of(a) ? 2 + kind : 9 - kind) & 1;
}

TEST(VectorCompare, Class) {
  MASKED("v_cmp_class_f32 %1, %2, %3", float, float, uint32_t, Unused, (carry = in_class(a, b), d));
  MASKED("v_cmp_class_f64 %1, %2, %3", double, double, uint32_t, Unused, (carry = in_class(a, b), d));
  MASKED("v_cmp_class_f16 %1, %2, %3", uint32_t, F16, uint16_t, Unused, (carry = in_class(a, b), d));
  MASKED("s_movk_i32 s20, 0x1f8\n v_cmp_class_f32 %1, %2, s20", float, float, Unused, Unused,
         (carry = std::isfinite(a), d));
}

// ---------------------------------------------------------------------------------------------------------------------
// Packed math, dot products

template <typename T, typename F>
Pair<T> each(Pair<T> a, Pair<T> b, F f) {
  return {(T)f(a.lo, b.lo), (T)f(a.hi, b.hi)};
}
template <typename T, typename F>
Pair<T> each(Pair<T> a, Pair<T> b, Pair<T> c, F f) {
  return {(T)f(a.lo, b.lo, c.lo), (T)f(a.hi, b.hi, c.hi)};
}
#define PACKED(NAME, T, EXPRESSION) BINARY(NAME, T, T, T, each(a, b, [](auto a, auto b) { return EXPRESSION; }))
#define PACKED3(NAME, T, EXPRESSION) \
  TERNARY(NAME, T, T, T, T, each(a, b, c, [](auto a, auto b, auto c) { return EXPRESSION; }))

TEST(Packed, Integer) {
  PACKED("v_pk_add_u16", U16x2, a + b);
  PACKED("v_pk_sub_u16", U16x2, a - b);
  PACKED("v_pk_add_i16", I16x2, a + b);
  PACKED("v_pk_sub_i16", I16x2, a - b);
  PACKED("v_pk_mul_lo_u16", U16x2, a * b);
  PACKED("v_pk_min_u16", U16x2, std::min(a, b));
  PACKED("v_pk_max_u16", U16x2, std::max(a, b));
  PACKED("v_pk_min_i16", I16x2, std::min(a, b));
  PACKED("v_pk_max_i16", I16x2, std::max(a, b));
  PACKED("v_pk_lshlrev_b16", U16x2, b << (a & 15));
  PACKED("v_pk_lshrrev_b16", U16x2, b >> (a & 15));
  PACKED("v_pk_ashrrev_i16", I16x2, b >> (a & 15));
  PACKED3("v_pk_mad_u16", U16x2, a * b + c);
  PACKED3("v_pk_mad_i16", I16x2, a * b + c);
  CASE("v_pk_add_u16 %0, %1, %2 op_sel:[1,0] op_sel_hi:[0,1]", U16x2, U16x2, U16x2, Unused,
       (U16x2{(uint16_t)(a.hi + b.lo), (uint16_t)(a.lo + b.hi)}));
  CASE("v_pk_sub_i16 %0, %1, %2 clamp", I16x2, I16x2, I16x2, Unused,
       each(a, b, [](int a, int b) { return std::clamp(a - b, -0x8000, 0x7fff); }));
  CASE("v_pk_lshlrev_b16 %0, 5, %1 op_sel_hi:[0,1]", U16x2, U16x2, Unused, Unused,
       (U16x2{(uint16_t)(a.lo << 5), (uint16_t)(a.hi << 5)}));
}

TEST(Packed, Half) {
  PACKED("v_pk_add_f16", F16x2, F16((double)a + (double)b));
  PACKED("v_pk_mul_f16", F16x2, F16((double)a * (double)b));
  PACKED("v_pk_min_f16", F16x2, minimum(a, b));
  PACKED("v_pk_max_f16", F16x2, maximum(a, b));
  PACKED3("v_pk_fma_f16", F16x2, fma_f16(a, b, c));
  CASE("v_pk_fma_f16 %0, %1, %2, %3 op_sel:[0,1,1] op_sel_hi:[1,0,0]", F16x2, F16x2, F16x2, F16x2,
       (F16x2{fma_f16(a.lo, b.hi, c.hi), fma_f16(a.hi, b.lo, c.lo)}));
  CASE("v_pk_add_f16 %0, %1, %2 neg_lo:[1,0] neg_hi:[0,1]", F16x2, F16x2, F16x2, Unused,
       (F16x2{(double)b.lo - (double)a.lo, (double)a.hi - (double)b.hi}));
  CASE("v_pk_mul_f16 %0, %1, 2.0 op_sel_hi:[1,0]", F16x2, F16x2, Unused, Unused, (F16x2{a.lo * 2.0, a.hi * 2.0}));
  CASE("v_pk_add_f16 %0, %1, %2 clamp", F16x2, Small<F16x2>, Small<F16x2>, Unused, ({
         auto clamped = [](double x) { return F16(std::clamp(x, 0.0, 1.0)); };
         F16x2{clamped((double)a.value.lo + b.value.lo), clamped((double)a.value.hi + b.value.hi)};
       }));
}

#if !GFX11
TEST(Packed, Float) {
  PACKED("v_pk_add_f32", F32x2, a + b);
  PACKED("v_pk_mul_f32", F32x2, a * b);
  PACKED3("v_pk_fma_f32", F32x2, std::fma(a, b, c));
  CASE("v_pk_add_f32 %0, %1, %2 op_sel:[1,0] op_sel_hi:[0,1]", F32x2, F32x2, F32x2, Unused,
       (F32x2{a.hi + b.lo, a.lo + b.hi}));
  CASE("v_pk_mul_f32 %0, %1, %2 op_sel_hi:[1,0]", F32x2, F32x2, F32x2, Unused, (F32x2{a.lo * b.lo, a.hi * b.lo}));
  CASE("v_pk_fma_f32 %0, %1, %2, %3 op_sel:[1,0,1] op_sel_hi:[0,0,1] neg_lo:[0,1,0] neg_hi:[1,0,1]", F32x2, F32x2,
       F32x2, F32x2, (F32x2{std::fma(a.hi, -b.lo, c.hi), std::fma(-a.lo, b.lo, -c.hi)}));
  CASE("v_pk_fma_f32 %0, %1, %2, %3 neg_lo:[0,0,1] neg_hi:[0,0,1]", F32x2, F32x2, F32x2, F32x2,
       (F32x2{std::fma(a.lo, b.lo, -c.lo), std::fma(a.hi, b.hi, -c.hi)}));
  CASE("v_pk_mov_b32 %0, %1, %2", U32x2, U32x2, U32x2, Unused, (U32x2{a.lo, b.lo}));
  CASE("v_pk_mov_b32 %0, %1, %2 op_sel:[1,0]", U32x2, U32x2, U32x2, Unused, (U32x2{a.hi, b.lo}));
  CASE("v_pk_mov_b32 %0, %1, %2 op_sel:[0,1]", U32x2, U32x2, U32x2, Unused, (U32x2{a.lo, b.hi}));
  CASE("v_pk_mov_b32 %0, %1, %2 op_sel:[1,1]", U32x2, U32x2, U32x2, Unused, (U32x2{a.hi, b.hi}));
}
#endif

// The mix instructions read each operand as f32, or as either half where op_sel_hi is set. Exact operands: whether the
// f32 sum is rounded before it becomes f16 is not documented.
TEST(Packed, Mix) {
  TERNARY("v_fma_mix_f32", float, float, float, float, std::fma(a, b, c));
  CASE("v_fma_mix_f32 %0, %1, %2, %3 op_sel:[0,1,0] op_sel_hi:[1,1,0]", float, F16x2, F16x2, float,
       std::fma((float)(double)a.lo, (float)(double)b.hi, c));
  CASE("v_fma_mix_f32 %0, -%1, |%2|, %3 op_sel:[0,0,1] op_sel_hi:[0,0,1]", float, float, float, F16x2,
       std::fma(-a, std::fabs(b), (float)(double)c.hi));
  CASE("v_fma_mixlo_f16 %0, %1, %2, %3 op_sel:[1,0,0] op_sel_hi:[1,1,0]", Keep16<F16>, Small<F16x2>, Small<F16x2>,
       Small<float>, F16(std::fma((double)a.value.hi, (double)b.value.lo, c.value)));
  CASE("v_fma_mixhi_f16 %0, %1, %2, %3 op_sel_hi:[1,1,1]", F16x2, Small<F16x2>, Small<F16x2>, Small<F16x2>,
       (F16x2{d.lo, (double)a.value.lo * b.value.lo + c.value.lo}));
}

static int64_t dot(uint32_t a, uint32_t b, int width, bool a_signed, bool b_signed) {
  int64_t sum = 0;
  for (int i = 0; i < 32; i += width) {
    const uint32_t x = a >> i & ((1u << width) - 1), y = b >> i & ((1u << width) - 1);
    sum += (int64_t)(a_signed ? sign_extend(x, width) : x) * (b_signed ? sign_extend(y, width) : y);
  }
  return sum;
}

TEST(Packed, Dot) {
  TERNARY("v_dot2_f32_f16", float, Small<F16x2>, Small<F16x2>, Small<float>,
          (double)a.value.lo *b.value.lo + (double)a.value.hi * b.value.hi + c.value);
  TERNARY("v_dot4_u32_u8", uint32_t, uint32_t, uint32_t, uint32_t, dot(a, b, 8, false, false) + c);
  TERNARY("v_dot8_u32_u4", uint32_t, uint32_t, uint32_t, uint32_t, dot(a, b, 4, false, false) + c);
#if GFX11
  CASE("v_dot4_i32_iu8 %0, %1, %2, %3 neg_lo:[1,1,0]", uint32_t, uint32_t, uint32_t, uint32_t,
       dot(a, b, 8, true, true) + c);
  CASE("v_dot4_i32_iu8 %0, %1, %2, %3 neg_lo:[0,1,0]", uint32_t, uint32_t, uint32_t, uint32_t,
       dot(a, b, 8, false, true) + c);
  CASE("v_dot8_i32_iu4 %0, %1, %2, %3 neg_lo:[1,0,0]", uint32_t, uint32_t, uint32_t, uint32_t,
       dot(a, b, 4, true, false) + c);
  // bf16 is the upper half of f32; 2 to 24 here.
  CASE(
      "v_and_b32 v20, 0x41c041c0, %1\n v_or_b32 v20, 0x40004000, v20\n v_and_b32 v21, 0x41c041c0, %2\n"
      "v_or_b32 v21, 0x40004000, v21\n v_dot2_f32_bf16 %0, v20, v21, %3",
      float, uint32_t, uint32_t, Small<float>, ({
        const uint32_t x = (a & 0x41c041c0) | 0x40004000, y = (b & 0x41c041c0) | 0x40004000;
        f32_of(x << 16) * f32_of(y << 16) + f32_of(x & 0xffff0000) * f32_of(y & 0xffff0000) + c.value;
      }));
#else
  TERNARY("v_dot2_i32_i16", uint32_t, I16x2, I16x2, uint32_t, (uint32_t)(a.lo * b.lo) + (uint32_t)(a.hi * b.hi) + c);
  TERNARY("v_dot2_u32_u16", uint32_t, U16x2, U16x2, uint32_t, (uint32_t)a.lo * b.lo + (uint32_t)a.hi * b.hi + c);
  TERNARY("v_dot4_i32_i8", uint32_t, uint32_t, uint32_t, uint32_t, dot(a, b, 8, true, true) + c);
  TERNARY("v_dot8_i32_i4", uint32_t, uint32_t, uint32_t, uint32_t, dot(a, b, 4, true, true) + c);
#endif
}

TEST(Packed, Accumulate) {
  BINARY("v_pk_fmac_f16", F16x2, F16x2, F16x2, each(a, b, d, fma_f16));
#if !GFX11
  BINARY("v_dot4c_i32_i8", uint32_t, uint32_t, uint32_t, dot(a, b, 8, true, true) + d);
  BINARY("v_dot8c_i32_i4", uint32_t, uint32_t, uint32_t, dot(a, b, 4, true, true) + d);
  BINARY("v_dot2c_i32_i16", uint32_t, I16x2, I16x2, (uint32_t)(a.lo * b.lo) + (uint32_t)(a.hi * b.hi) + d);
  BINARY("v_dot2c_f32_f16", Small<float>, Small<F16x2>, Small<F16x2>,
         (Small<float>{(float)((double)a.value.lo * b.value.lo + (double)a.value.hi * b.value.hi + d.value)}));
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Operand and result modifiers, constants

// v clamp: to 0..1, NaN to 0 (MODE.DX10_CLAMP is set). The sign of a zero is not documented.
template <typename T>
T clamped(T x) {
  if (is_nan(x)) return 0.;
  if ((double)x == 0) return open(x);
  return (double)x < 0 ? T(0.) : (double)x > 1 ? T(1.) : x;
}

TEST(Modifiers, NegAbs) {
  CASE("v_add_f32 %0, -%1, |%2|", float, float, float, Unused, -a + std::fabs(b));
  CASE("v_mul_f32 %0, -|%1|, %2", float, float, float, Unused, -std::fabs(a) * b);
  CASE("v_fma_f32 %0, -%1, %2, -|%3|", float, float, float, float, std::fma(-a, b, -std::fabs(c)));
  CASE("v_max_f32 %0, |%1|, -%2", float, float, float, Unused, maximum(std::fabs(a), -b));
  CASE("v_med3_f32 %0, -%1, |%2|, %3", float, float, float, float, median(-a, std::fabs(b), c));
  CASE("v_add_f64 %0, -%1, |%2|", double, double, double, Unused, -a + std::fabs(b));
  CASE("v_fma_f64 %0, |%1|, -%2, %3", double, double, double, double, std::fma(std::fabs(a), -b, c));
  CASE("v_add_f16 %0, -%1, |%2|", F16, F16, F16, Unused, -(double)a + std::fabs((double)b));
  CASE("v_fma_f16 %0, -|%1|, %2, -%3", Keep16<F16>, F16, F16, F16,
       fma_f16(-std::fabs((double)a), b, f16_of(c.bits ^ 0x8000)));
  CASE("v_cvt_i32_f32 %0, -|%1|", int32_t, float, Unused, Unused, saturate<int32_t>(-std::fabs(a)));
  CASE("v_cvt_f32_f16 %0, |%1|", float, F16, Unused, Unused, std::fabs((double)a));
  CASE("v_cvt_f64_f32 %0, -%1", double, float, Unused, Unused, -(double)a);
  CASE("v_ldexp_f32 %0, -%1, %2", float, float, int32_t, Unused, std::ldexp(-a, std::clamp(b, -5000, 5000)));
  MASKED("v_cmp_lt_f32 %1, |%2|, -%3", uint32_t, float, float, Unused, (carry = std::fabs(a) < -b, d));
  MASKED("v_cmp_ge_f64 %1, -%2, |%3|", uint32_t, double, double, Unused, (carry = -a >= std::fabs(b), d));
}

TEST(Modifiers, Clamp) {
  CASE("v_add_f32 %0, %1, %2 clamp", float, float, float, Unused, clamped(a + b));
  CASE("v_mul_f32 %0, -%1, %2 clamp", float, float, float, Unused, clamped(-a * b));
  CASE("v_fma_f32 %0, %1, %2, %3 clamp", float, float, float, float, clamped(std::fma(a, b, c)));
  CASE("v_max_f32 %0, %1, %1 clamp", float, float, Unused, Unused, clamped(a));
  CASE("v_add_f64 %0, %1, %2 clamp", double, double, double, Unused, clamped(a + b));
  CASE("v_add_f16 %0, %1, %2 clamp", F16, F16, F16, Unused, clamped(F16((double)a + (double)b)));
  CASE(V_ADD_U32 " %0, %1, %2 clamp", uint32_t, uint32_t, uint32_t, Unused,
       std::min<uint64_t>((uint64_t)a + b, 0xffffffff));
  CASE(V_SUB_U32 " %0, %1, %2 clamp", uint32_t, uint32_t, uint32_t, Unused, a > b ? a - b : 0);
  CASE(GFX9_11("v_add_i32", "v_add_nc_i32") " %0, %1, %2 clamp", int32_t, int32_t, int32_t, Unused,
       std::clamp<int64_t>((int64_t)a + b, INT_MIN, INT_MAX));
  CASE(GFX9_11("v_sub_i32", "v_sub_nc_i32") " %0, %1, %2 clamp", int32_t, int32_t, int32_t, Unused,
       std::clamp<int64_t>((int64_t)a - b, INT_MIN, INT_MAX));
  CASE(GFX9_11("v_add_u16", "v_add_nc_u16") " %0, %1, %2 clamp", uint16_t, uint16_t, uint16_t, Unused,
       std::min(a + b, 0xffff));
  CASE(GFX9_11("v_sub_i16", "v_sub_nc_i16") " %0, %1, %2 clamp", Any16<int16_t>, int16_t, int16_t, Unused,
       (int16_t)std::clamp(a - b, -0x8000, 0x7fff));
}

// Output multipliers have no effect while denormals and IEEE mode are on, as in compiled kernels.
TEST(Modifiers, OutputMultiplierIgnored) {
  CASE("v_add_f32 %0, %1, %2 mul:2", float, Small<float>, Small<float>, Unused, a + b);
  CASE("v_mul_f32 %0, %1, %2 mul:4", float, Small<float>, Small<float>, Unused, a.value *b.value);
  CASE("v_fma_f32 %0, %1, %2, %3 div:2", float, Small<float>, Small<float>, Small<float>,
       std::fma(a.value, b.value, c));
}

// op_sel chooses the halves of 16-bit operands and, as its last bit, of the result, whose other half is kept.
TEST(Modifiers, OpSel) {
  CASE("v_fma_f16 %0, %1, %2, %3 op_sel:[1,0,1,0]", Keep16<F16>, F16x2, F16x2, F16x2, fma_f16(a.hi, b.lo, c.hi));
  CASE("v_fma_f16 %0, %1, %2, %3 op_sel:[0,1,0,1]", F16x2, F16x2, F16x2, F16x2,
       (F16x2{d.lo, fma_f16(a.lo, b.hi, c.lo)}));
  CASE("v_mad_u16 %0, %1, %2, %3 op_sel:[1,1,0,1]", U16x2, U16x2, U16x2, U16x2,
       (U16x2{d.lo, (uint16_t)(a.hi * b.hi + c.lo)}));
  CASE("v_mad_i32_i16 %0, %1, %2, %3 op_sel:[1,0,0,0]", uint32_t, I16x2, I16x2, uint32_t, a.hi * b.lo + c);
  CASE("v_max3_i16 %0, %1, %2, %3 op_sel:[0,1,1,0]", Any16<int16_t>, I16x2, I16x2, I16x2, std::max({a.lo, b.hi, c.hi}));
  CASE("v_pack_b32_f16 %0, %1, %2 op_sel:[1,0,0]", U16x2, U16x2, U16x2, Unused, (U16x2{a.hi, b.lo}));
  CASE(GFX9_11("v_add_i16", "v_add_nc_i16") " %0, %1, %2 op_sel:[1,0,1]", U16x2, U16x2, U16x2, Unused,
       (U16x2{d.lo, (uint16_t)(a.hi + b.lo)}));
#if GFX11
  CASE("v_add_nc_u16 %0, %1, %2 op_sel:[0,1,1]", U16x2, U16x2, U16x2, Unused, (U16x2{d.lo, (uint16_t)(a.lo + b.hi)}));
#endif
}

TEST(Modifiers, InlineConstants) {
#define INTEGER_CONSTANT(TEXT, VALUE) \
  CASE(V_ADD_U32 " %0, " TEXT ", %1", uint32_t, uint32_t, Unused, Unused, a + (uint32_t)(VALUE))
  INTEGER_CONSTANT("0", 0);
  INTEGER_CONSTANT("1", 1);
  INTEGER_CONSTANT("64", 64);
  INTEGER_CONSTANT("-1", -1);
  INTEGER_CONSTANT("-16", -16);
  INTEGER_CONSTANT("1.0", 0x3f800000);
  INTEGER_CONSTANT("-4.0", 0xc0800000);
  INTEGER_CONSTANT("0.15915494", 0x3e22f983);
  INTEGER_CONSTANT("0x12345678", 0x12345678);
#define FLOAT_CONSTANT(TEXT, VALUE)                                                \
  CASE("v_add_f32 %0, " TEXT ", %1", float, float, Unused, Unused, a + (VALUE));   \
  CASE("v_add_f64 %0, " TEXT ", %1", double, double, Unused, Unused, a + (VALUE)); \
  CASE("v_add_f16 %0, " TEXT ", %1", F16, F16, Unused, Unused, (double)a + (VALUE))
  FLOAT_CONSTANT("0.5", 0.5f);
  FLOAT_CONSTANT("-0.5", -0.5f);
  FLOAT_CONSTANT("1.0", 1.f);
  FLOAT_CONSTANT("-1.0", -1.f);
  FLOAT_CONSTANT("2.0", 2.f);
  FLOAT_CONSTANT("-2.0", -2.f);
  FLOAT_CONSTANT("4.0", 4.f);
  FLOAT_CONSTANT("-4.0", -4.f);
  // 1/(2 pi) in each format; an integer constant is the number with those bits.
  CASE("v_add_f32 %0, 0.15915494, %1", float, float, Unused, Unused, a + f32_of(0x3e22f983));
  CASE("v_add_f64 %0, 0.15915494309189532, %1", double, double, Unused, Unused, a + f64_of(0x3fc45f306dc9c882));
  CASE("v_add_f16 %0, 0.15915494, %1", F16, F16, Unused, Unused, (double)a + (double)f16_of(0x3118));
  CASE("v_mul_f32 %0, 64, %1", float, float, Unused, Unused, f32_of(64) * a);
  CASE("v_max_f32 %0, -1, %1", float, float, Unused, Unused, maximum(f32_of(-1), a));
  CASE("v_mul_f64 %0, 17, %1", double, double, Unused, Unused, f64_of(17) * a);
  CASE("v_add_f16 %0, 33, %1", F16, F16, Unused, Unused, (double)f16_of(33) + (double)a);
  CASE("v_lshlrev_b64 %0, 3, -7", uint64_t, Unused, Unused, Unused, (uint64_t)-7 << 3);
  MASKED("v_mad_u64_u32 %0, %1, %2, 3, -2", uint64_t, uint32_t, Unused, Unused, ({
           const unsigned __int128 sum = (unsigned __int128)((uint64_t)a * 3) + (uint64_t)-2;
           carry = sum >> 64 & 1;
           (uint64_t) sum;
         }));
  MASKED("v_cmp_gt_i64 %1, -5, %2", uint32_t, int64_t, Unused, Unused, (carry = -5 > a, d));
  MASKED("v_cmp_lt_f64 %1, 2.0, %2", uint32_t, double, Unused, Unused, (carry = 2 < a, d));
}

// A 32-bit literal is the upper half of a 64-bit floating-point operand.
TEST(Modifiers, Literals) {
  CASE("v_add_f32 %0, 0x40490fdb, %1", float, float, Unused, Unused, f32_of(0x40490fdb) + a);
  CASE("v_add_f16 %0, 0x4248, %1", F16, F16, Unused, Unused, (double)f16_of(0x4248) + (double)a);
  CASE("v_cvt_i32_f64 %0, 0x40590000", int32_t, Unused, Unused, Unused, 100);
  MASKED("v_cmp_lt_f64 " VCC ", 0x41dfffff, %2\n" S_MOV_MASK "%1, " VCC, uint32_t, double, Unused, Unused,
         (carry = f64_of(0x41dfffffull << 32) < a, d));
  MASKED("v_cmp_eq_u32 " VCC ", 0xffff, %2\n" S_MOV_MASK "%1, " VCC, uint32_t, uint32_t, Unused, Unused,
         (carry = a == 0xffff, d));
#if GFX11
  CASE("v_fma_f32 %0, %1, 0x40490fdb, %2", float, float, float, Unused, std::fma(a, f32_of(0x40490fdb), b));
  CASE("v_fma_f64 %0, %1, 0x40080000, %2", double, double, double, Unused, std::fma(a, 3.0, b));
#endif
}

TEST(Modifiers, ScalarOperands) {
  CASE("s_mov_b32 s20, 0x40490fdb\n v_fma_f32 %0, s20, %1, s20", float, float, Unused, Unused,
       std::fma(f32_of(0x40490fdb), a, f32_of(0x40490fdb)));
  CASE("s_mov_b32 s20, 0x11111111\n s_mov_b32 s21, 0x40080000\n v_mul_f64 %0, s[20:21], -%1", double, double, Unused,
       Unused, f64_of(0x4008000011111111) * -a);
  CASE("s_mov_b32 s20, 7\n v_lshlrev_b64 %0, s20, %1", uint64_t, uint64_t, Unused, Unused, a << 7);
  CASE("s_mov_b32 vcc_lo, 0xff00ff\n v_bfi_b32 %0, vcc_lo, %1, %2", uint32_t, uint32_t, uint32_t, Unused,
       (a & 0xff00ff) | (b & 0xff00ff00));
  CASE("s_mov_b32 m0, 99\n v_add3_u32 %0, m0, %1, 5", uint32_t, uint32_t, Unused, Unused, a + 104);
  CASE("s_cmp_eq_u32 0, 0\n v_mov_b32 %0, src_scc", uint32_t, Unused, Unused, Unused, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// MODE: rounding and denormals

#define ROUNDED(MODE, ROUNDING, NAME, OPERANDS, D, A, B, C, EXPECTED)                                             \
  CHECK_STATEMENT(NAME " with rounding " MODE, false, ROUNDING, D, A, B, C,                                       \
                  asm volatile("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), " MODE "\n s_nop 4\n " NAME OPERANDS \
                               "\n s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), 0"                                \
                               : "+v"(d)                                                                          \
                               : "v"(a), "v"(b), "v"(c)),                                                         \
                  EXPECTED)
#define ROUNDED_ALL(MODE, ROUNDING)                                                                       \
  ROUNDED(MODE, ROUNDING, "v_add_f32", " %0, %1, %2", float, float, float, Unused, a + b);                \
  ROUNDED(MODE, ROUNDING, "v_mul_f32", " %0, %1, %2", float, float, float, Unused, a *b);                 \
  ROUNDED(MODE, ROUNDING, "v_fma_f32", " %0, %1, %2, %3", float, float, float, float, std::fma(a, b, c)); \
  ROUNDED(MODE, ROUNDING, "v_cvt_f32_i32", " %0, %1", float, int32_t, Unused, Unused, (float)a);          \
  ROUNDED(MODE, ROUNDING, "v_add_f64", " %0, %1, %2", double, double, double, Unused, a + b);             \
  ROUNDED(MODE, ROUNDING, "v_mul_f64", " %0, %1, %2", double, double, double, Unused, a *b);              \
  ROUNDED(MODE, ROUNDING, "v_add_f16", " %0, %1, %2", F16, F16, F16, Unused, (double)a + (double)b);      \
  ROUNDED(MODE, ROUNDING, "v_cvt_f16_f32", " %0, %1", F16, float, Unused, Unused, (double)a)

TEST(Mode, Rounding) {
  ROUNDED_ALL("5", FE_UPWARD);
  ROUNDED_ALL("10", FE_DOWNWARD);
  ROUNDED_ALL("15", FE_TOWARDZERO);
}

#define DENORMALS(SINGLE, TEXT)                                               \
  "s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), " SINGLE "\n s_nop 4\n " TEXT \
  "\n s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), 3"

// Single precision denormals flushed in operands and results; those of half precision are apart.
TEST(Mode, Denormals) {
  CASE(DENORMALS("0", "v_add_f32 %0, %1, %2"), float, float, float, Unused, flush(flush(a) + flush(b)));
  CASE(DENORMALS("0", "v_mul_f32 %0, %1, %2"), float, float, float, Unused, flush(flush(a) * flush(b)));
  CASE(DENORMALS("0", "v_fma_f32 %0, %1, %2, %3"), float, float, float, float,
       flush(std::fma(flush(a), flush(b), flush(c))));
  CASE(DENORMALS("0", "v_add_f16 %0, %1, %2"), F16, F16, F16, Unused, (double)a + (double)b);
}

// What a compiled kernel starts with: round to nearest, all denormals, DX10_CLAMP and IEEE; and the shifted fields of
// it.
TEST(Mode, Read) {
  CASE("s_getreg_b32 s20, hwreg(HW_REG_MODE, 0, 10)\n v_mov_b32 %0, s20", uint32_t, Unused, Unused, Unused, 0x3f0);
  CASE("s_getreg_b32 s20, hwreg(HW_REG_MODE, 4, 4)\n v_mov_b32 %0, s20", uint32_t, Unused, Unused, Unused, 15);
  CASE(
      "s_mov_b32 s21, 10\n s_setreg_b32 hwreg(HW_REG_MODE, 0, 4), s21\n s_getreg_b32 s20, hwreg(HW_REG_MODE, 0, 8)\n"
      "s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), 0\n v_mov_b32 %0, s20",
      uint32_t, Unused, Unused, Unused, 0xfa);
#if GFX11
  CASE(
      "s_round_mode 9\n s_denorm_mode 12\n s_getreg_b32 s20, hwreg(HW_REG_MODE, 0, 8)\n s_round_mode 0\n s_denorm_mode "
      "15\n"
      "v_mov_b32 %0, s20",
      uint32_t, Unused, Unused, Unused, 0xc9);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// SDWA (gfx9): operands and result are bytes or halves of registers

#if !GFX11
enum Select { BYTE_0, BYTE_1, BYTE_2, BYTE_3, WORD_0, WORD_1, DWORD };
enum Rest { PAD, SEXT, PRESERVE };

static int first_bit(Select select) { return select <= BYTE_3 ? 8 * select : select == WORD_1 ? 16 : 0; }
static int width_of(Select select) { return select <= BYTE_3 ? 8 : select == DWORD ? 32 : 16; }
static uint32_t part(uint32_t x, Select select) {
  return x >> first_bit(select) & (select == DWORD ? ~0u : (1u << width_of(select)) - 1);
}
static uint32_t signed_part(uint32_t x, Select select) { return sign_extend(part(x, select), width_of(select)); }
static uint32_t merge(uint32_t result, Select select, Rest rest, uint32_t before) {
  const int first = first_bit(select), width = width_of(select);
  const uint32_t field = part(~0u, select) << first, bits = part(result, (Select)(select == DWORD ? DWORD
                                                                                  : width == 8    ? BYTE_0
                                                                                                  : WORD_0));
  if (rest == PRESERVE) return (before & ~field) | bits << first;
  return (rest == SEXT ? (uint32_t)sign_extend(bits, width) : bits) << first;
}

#define SDWA(NAME, DST, REST, SRC0, SRC1, EXPECTED)                                                             \
  CASE(NAME "_sdwa %0, %1, %2 dst_sel:" #DST " dst_unused:UNUSED_" #REST " src0_sel:" #SRC0 " src1_sel:" #SRC1, \
       uint32_t, uint32_t, uint32_t, Unused, ({                                                                 \
         const uint32_t x = part(a, SRC0), y = part(b, SRC1);                                                   \
         merge(EXPECTED, DST, REST, d);                                                                         \
       }))

TEST(Sdwa, Integer) {
  SDWA("v_add_u32", DWORD, PAD, BYTE_0, BYTE_3, x + y);
  SDWA("v_add_u32", BYTE_1, PAD, DWORD, BYTE_1, x + y);
  SDWA("v_add_u32", BYTE_2, SEXT, BYTE_2, DWORD, x + y);
  SDWA("v_add_u32", BYTE_3, PRESERVE, WORD_0, WORD_1, x + y);
  SDWA("v_sub_u32", WORD_0, PAD, WORD_1, WORD_0, x - y);
  SDWA("v_sub_u32", WORD_0, SEXT, WORD_1, WORD_0, x - y);
  SDWA("v_sub_u32", WORD_1, PRESERVE, DWORD, DWORD, x - y);
  SDWA("v_or_b32", BYTE_0, PRESERVE, BYTE_3, BYTE_2, x | y);
  SDWA("v_and_b32", WORD_1, PAD, BYTE_1, WORD_1, x & y);
  SDWA("v_xor_b32", WORD_1, SEXT, WORD_0, WORD_0, x ^ y);
  SDWA("v_lshlrev_b32", DWORD, PAD, BYTE_1, WORD_1, y << (x & 31));
  SDWA("v_lshrrev_b32", BYTE_0, PAD, BYTE_0, DWORD, y >> (x & 31));
  SDWA("v_mul_u32_u24", DWORD, PAD, WORD_0, BYTE_2, x * y);
  SDWA("v_max_u32", DWORD, PAD, WORD_1, BYTE_3, std::max(x, y));
  SDWA("v_add_u16", WORD_1, PRESERVE, WORD_1, BYTE_0, x + y);
  SDWA("v_add_u16", DWORD, PAD, WORD_1, WORD_0, (uint16_t)(x + y));
  SDWA("v_lshlrev_b16", WORD_1, PAD, BYTE_1, WORD_1, y << (x & 15));
  SDWA("v_mul_lo_u16", WORD_0, PRESERVE, BYTE_3, WORD_1, x * y);
  CASE("v_mov_b32_sdwa %0, %1 dst_sel:BYTE_2 dst_unused:UNUSED_PRESERVE src0_sel:BYTE_1", uint32_t, uint32_t, Unused,
       Unused, merge(part(a, BYTE_1), BYTE_2, PRESERVE, d));
  CASE("v_mov_b32_sdwa %0, sext(%1) dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:WORD_1", uint32_t, uint32_t, Unused,
       Unused, signed_part(a, WORD_1));
  CASE("v_add_u32_sdwa %0, sext(%1), sext(%2) dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_3 src1_sel:WORD_0",
       uint32_t, uint32_t, uint32_t, Unused, signed_part(a, BYTE_3) + signed_part(b, WORD_0));
  CASE("v_mul_i32_i24_sdwa %0, sext(%1), %2 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_2 src1_sel:BYTE_0",
       uint32_t, uint32_t, uint32_t, Unused, signed_part(a, BYTE_2) * part(b, BYTE_0));
  CASE("v_ashrrev_i32_sdwa %0, %1, sext(%2) dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_0 src1_sel:WORD_1",
       uint32_t, uint32_t, uint32_t, Unused, i32(signed_part(b, WORD_1)) >> (part(a, BYTE_0) & 31));
  CASE(
      "v_max_i16_sdwa %0, sext(%1), sext(%2) dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:BYTE_1 src1_sel:WORD_1",
      uint32_t, uint32_t, uint32_t, Unused,
      merge(std::max(i32(signed_part(a, BYTE_1)), i32(signed_part(b, WORD_1))), WORD_1, PRESERVE, d));
  MASKED(
      "v_add_co_u32_sdwa %0, vcc, %2, %3 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:WORD_1 src1_sel:DWORD\n"
      "s_mov_b64 %1, vcc",
      uint32_t, uint32_t, uint32_t, Unused, ({
        const uint64_t sum = (uint64_t)part(a, WORD_1) + b;
        carry = sum >> 32;
        sum;
      }));
  MASKED(
      "s_mov_b64 vcc, %1\n s_nop 4\n v_cndmask_b32_sdwa %0, %2, %3, vcc dst_sel:BYTE_1 dst_unused:UNUSED_PRESERVE "
      "src0_sel:BYTE_0 src1_sel:BYTE_3",
      uint32_t, uint32_t, uint32_t, Unused, merge(carry ? part(b, BYTE_3) : part(a, BYTE_0), BYTE_1, PRESERVE, d));
}

TEST(Sdwa, Float) {
  CASE("v_cvt_f32_u32_sdwa %0, %1 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_2", float, uint32_t, Unused, Unused,
       part(a, BYTE_2));
  CASE("v_cvt_f32_i32_sdwa %0, sext(%1) dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_1", float, uint32_t, Unused,
       Unused, i32(signed_part(a, BYTE_1)));
  CASE("v_cvt_f32_f16_sdwa %0, %1 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:WORD_1", float, F16x2, Unused, Unused,
       (double)a.hi);
  CASE("v_cvt_f16_f32_sdwa %0, %1 dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:DWORD", F16x2, float, Unused,
       Unused, (F16x2{d.lo, (double)a}));
  CASE("v_add_f16_sdwa %0, %1, %2 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:WORD_1 src1_sel:WORD_0", F16x2, F16x2,
       F16x2, Unused, (F16x2{(double)a.hi + (double)b.lo, 0.0}));
  CASE("v_mul_f16_sdwa %0, -%1, |%2| dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:WORD_0 src1_sel:WORD_1", F16x2,
       F16x2, F16x2, Unused, (F16x2{d.lo, -(double)a.lo * std::fabs((double)b.hi)}));
  CASE("v_max_f16_sdwa %0, %1, %2 dst_sel:WORD_1 dst_unused:UNUSED_PAD src0_sel:WORD_1 src1_sel:WORD_1", F16x2, F16x2,
       F16x2, Unused, (F16x2{0.0, maximum(a.hi, b.hi)}));
  CASE("v_add_f32_sdwa %0, -%1, %2 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:DWORD", float, float,
       float, Unused, b - a);
}

TEST(Sdwa, Compare) {
  MASKED("v_cmp_eq_u32_sdwa %1, %2, %3 src0_sel:BYTE_1 src1_sel:BYTE_1", uint32_t, uint32_t, uint32_t, Unused,
         (carry = part(a, BYTE_1) == part(b, BYTE_1), d));
  MASKED("v_cmp_lt_i32_sdwa vcc, sext(%2), %3 src0_sel:WORD_1 src1_sel:DWORD\n s_mov_b64 %1, vcc", uint32_t, uint32_t,
         int32_t, Unused, (carry = i32(signed_part(a, WORD_1)) < b, d));
  MASKED("v_cmp_gt_u16_sdwa %1, %2, %3 src0_sel:WORD_1 src1_sel:WORD_0", uint32_t, U16x2, U16x2, Unused,
         (carry = a.hi > b.lo, d));
  MASKED("v_cmp_lt_f16_sdwa %1, |%2|, -%3 src0_sel:WORD_1 src1_sel:WORD_1", uint32_t, F16x2, F16x2, Unused,
         (carry = std::fabs((double)a.hi) < -(double)b.hi, d));
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Instructions that see other lanes, under several EXEC masks

struct Wave {
  const uint32_t *a, *b, *c, *d;  // a value per lane
  uint64_t mask;
  bool active(int lane) const { return mask >> lane & 1; }
};

struct WaveInstruction {
  const char *text;
  void (*launch)(const Operands *, uint32_t *, Mask);
  uint32_t (*expect)(const Wave &, int lane);
};

template <typename Body>
__global__ void execute_wave(const Operands *operands, uint32_t *results, Mask active, Body body) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  uint32_t d = operands[i].d;
  body(d, (uint32_t)operands[i].a, (uint32_t)operands[i].b, (uint32_t)operands[i].c, active);
  results[i] = d;
}

constexpr int kWaveLanes = 256;

static void check_waves(const WaveInstruction &instruction) {
  const Source words = {{}, [](Random &r) -> uint64_t { return (uint32_t)r(); }};
  auto operands = make_operands(words, words, words, words);
  operands.resize(kWaveLanes);
  const Device<Operands> device_operands(operands);
  std::vector<uint32_t> a, b, c, d;
  for (const Operands &in : operands) {
    a.push_back(in.a), b.push_back(in.b), c.push_back(in.c), d.push_back(in.d);
  }
  Mismatches mismatches(instruction.text);
  for (uint64_t mask : {~0ull, 0x5555555555555555ull, 0xf0f00ff0c3c3a596ull, 0x0000ffff80000000ull,
                        0x7fff0001ffff8000ull, 0x9249249249249249ull, 0x8000000080000000ull}) {
    const Device<uint32_t> device_results((size_t)kWaveLanes);
    instruction.launch(device_operands.data(), device_results.data(), (Mask)mask);
    const auto results = device_results.fetch();
    for (int first = 0; first < kWaveLanes; first += kWave) {
      const Wave wave{&a[first], &b[first], &c[first], &d[first], (Mask)mask};
      for (int lane = 0; lane < kWave; lane++) {
        const uint32_t expected = instruction.expect(wave, lane), actual = results[first + lane];
        if (actual != expected)
          mismatches.add("exec " + hex((Mask)mask) + " lane " + std::to_string(lane) + " a " + hex(wave.a[lane]) +
                             " b " + hex(wave.b[lane]) + " c " + hex(wave.c[lane]) + " d " + hex(wave.d[lane]),
                         hex(expected), hex(actual));
      }
    }
  }
}

// All lanes run TEXT with EXEC set to the mask inside it, so that inactive lanes still have their registers: %0: d,
// %2 to %4: a, b, c, %5: the EXEC mask. EXPECTED is the lane's new register.
#define WAVE_CASE(TEXT, EXPECTED)                                                                   \
  check_waves({TEXT,                                                                                \
               [](const Operands *operands, uint32_t *results, Mask active) {                       \
                 execute_wave<<<1, kWaveLanes>>>(                                                   \
                     operands, results, active,                                                     \
                     [] __device__(uint32_t & d, uint32_t a, uint32_t b, uint32_t c, Mask active) { \
                       Mask saved;                                                                  \
                       asm volatile(S_MOV_MASK "%1, " EXEC "\n" S_MOV_MASK EXEC ", %5\n" NOP TEXT   \
                                               "\n s_waitcnt lgkmcnt(0)\n" S_MOV_MASK EXEC ", %1"   \
                                    : "+v"(d), "=&s"(saved)                                         \
                                    : "v"(a), "v"(b), "v"(c), "s"(active)                           \
                                    : SCRATCH_REGISTERS, "memory");                                 \
                     });                                                                            \
               },                                                                                   \
               [](const Wave &wave, int lane) -> uint32_t { return (void)wave, (void)lane, EXPECTED; }})
// Of active lanes only; the others keep d.
#define ACTIVE_CASE(TEXT, EXPECTED) WAVE_CASE(TEXT, wave.active(lane) ? (EXPECTED) : wave.d[lane])

TEST(CrossLane, ExecMask) {
  ACTIVE_CASE("v_mov_b32 %0, %2", wave.a[lane]);
  ACTIVE_CASE("v_add_f32 %0, 1.0, 2.0", bits_of(3));
  ACTIVE_CASE("v_mad_u32_u24 %0, %2, %3, %4", (wave.a[lane] & 0xffffff) * (wave.b[lane] & 0xffffff) + wave.c[lane]);
  // A comparison writes the mask bits of inactive lanes as 0.
  WAVE_CASE(S_MOV_MASK S20_MASK ", -1\n v_cmp_lt_u32 " S20_MASK ", %2, %3\n" S_MOV_MASK EXEC
                                ", -1\n s_nop 4\n"
                                "v_mov_b32 %0, s20" GFX9_11(
                                    "\n v_mov_b32 v20, s21\n v_mov_b32 v21, 0xffff\n v_bfi_b32 %0, v21, %0, v20", ""),
            ({
              uint64_t bits = 0;
              for (int i = 0; i < kWave; i++) bits |= (uint64_t)(wave.active(i) && wave.a[i] < wave.b[i]) << i;
              GFX11 ? (uint32_t)bits : ((uint32_t)bits & 0xffff) | ((bits >> 32) & 0xffff0000);
            }));
  // Nothing is written with EXEC = 0.
  WAVE_CASE(S_MOV_MASK EXEC ", 0\n v_mov_b32 %0, 7\n v_add_f64 v[20:21], v[20:21], v[20:21]", wave.d[lane]);
}

static int first_active(const Wave &wave) { return wave.mask ? trailing_zeros(wave.mask, 64) : 0; }

TEST(CrossLane, ReadAndWriteLane) {
  WAVE_CASE("v_readlane_b32 s20, %2, 5\n" S_MOV_MASK EXEC ", -1\n v_mov_b32 %0, s20", wave.a[5]);
  WAVE_CASE("s_mov_b32 s21, 0x1e\n s_nop 4\n v_readlane_b32 s20, %2, s21\n" S_MOV_MASK EXEC ", -1\n v_mov_b32 %0, s20",
            wave.a[30]);
  // Only the lane number's low bits count.
  WAVE_CASE("s_mov_b32 s21, 0xf7\n s_nop 4\n v_readlane_b32 s20, %2, s21\n" S_MOV_MASK EXEC ", -1\n v_mov_b32 %0, s20",
            wave.a[0xf7 % kWave]);
  WAVE_CASE("v_readfirstlane_b32 s20, %2\n" S_MOV_MASK EXEC ", -1\n v_mov_b32 %0, s20", wave.a[first_active(wave)]);
  WAVE_CASE(S_MOV_MASK EXEC ", 0\n v_readfirstlane_b32 s20, %2\n" S_MOV_MASK EXEC ", -1\n v_mov_b32 %0, s20",
            wave.a[0]);
  WAVE_CASE("s_mov_b32 s20, 0x1234567\n s_nop 4\n v_writelane_b32 %0, s20, 7", lane == 7 ? 0x1234567 : wave.d[lane]);
  WAVE_CASE("s_mov_b32 m0, 19\n s_nop 4\n v_writelane_b32 %0, 44, m0", lane == 19 ? 44 : wave.d[lane]);
  WAVE_CASE("v_writelane_b32 %0, -3, 31", lane == 31 ? (uint32_t)-3 : wave.d[lane]);
}

TEST(CrossLane, MaskedBitCount) {
  ACTIVE_CASE("v_mbcnt_lo_u32_b32 %0, %2, %3",
              wave.b[lane] + count_ones(lane < 32 ? wave.a[lane] & ((1u << lane) - 1) : wave.a[lane]));
  ACTIVE_CASE("v_mbcnt_hi_u32_b32 %0, %2, %3",
              wave.b[lane] + (lane > 32 ? count_ones(wave.a[lane] & ((1u << (lane - 32)) - 1)) : 0));
  ACTIVE_CASE("v_mbcnt_lo_u32_b32 %0, -1, 0\n v_mbcnt_hi_u32_b32 %0, -1, %0", lane);
}

TEST(CrossLane, DsPermute) {
  // The lane is the address divided by 4, modulo 64 (32 on gfx11); an inactive source gives 0.
  ACTIVE_CASE("ds_bpermute_b32 %0, %2, %3", ({
                const int source = wave.a[lane] / 4 % kWave;
                wave.active(source) ? wave.b[source] : 0;
              }));
  ACTIVE_CASE("ds_bpermute_b32 %0, %2, %3 offset:36", ({
                const int source = (wave.a[lane] + 36) / 4 % kWave;
                wave.active(source) ? wave.b[source] : 0;
              }));
  ACTIVE_CASE("ds_permute_b32 %0, %2, %3", ({
                uint32_t value = 0;  // of the highest source lane that names this one
                for (int source = 0; source < kWave; source++)
                  if (wave.active(source) && (int)(wave.a[source] / 4 % kWave) == lane) value = wave.b[source];
                value;
              }));
}

static uint32_t swizzled(const Wave &wave, int source) { return wave.active(source) ? wave.a[source] : 0; }
TEST(CrossLane, DsSwizzle) {
#define QUAD(A, B, C, D)                                                                            \
  ACTIVE_CASE("ds_swizzle_b32 %0, %2 offset:swizzle(QUAD_PERM, " #A ", " #B ", " #C ", " #D ")", ({ \
                const int sources[] = {A, B, C, D};                                                 \
                swizzled(wave, (lane & ~3) | sources[lane & 3]);                                    \
              }))
  QUAD(1, 0, 3, 2);
  QUAD(3, 3, 0, 1);
  // Within 32 lanes: ((lane & and) | or) ^ xor.
#define BITS(AND, OR, XOR)                                                             \
  ACTIVE_CASE("ds_swizzle_b32 %0, %2 offset:" #AND " | " #OR " << 5 | " #XOR " << 10", \
              swizzled(wave, (lane & 32) | (((lane & AND) | OR) ^ XOR)))
  BITS(31, 0, 1);
  BITS(31, 0, 16);
  BITS(31, 0, 31);
  BITS(0, 5, 0);
  BITS(24, 3, 0);
  BITS(28, 2, 9);
}

// The lane that a DPP instruction reads, or -1 where there is none.
enum Dpp {
  kQuadPerm,
  kShl,
  kShr,
  kRor,
  kWaveShl,
  kWaveRol,
  kWaveShr,
  kWaveRor,
  kMirror,
  kHalfMirror,
  kBcast15,
  kBcast31,
  kShare,
  kXmask
};
static int dpp_source(Dpp control, int n, int lane) {
  const int row = lane & ~15, in_row = lane & 15;
  auto in_same_row = [&](int x) { return x >= 0 && x < 16 ? row + x : -1; };
  switch (control) {
    case kQuadPerm:
      return (lane & ~3) | (n >> 2 * (lane & 3) & 3);
    case kShl:
      return in_same_row(in_row + n);
    case kShr:
      return in_same_row(in_row - n);
    case kRor:
      return row + ((in_row - n) & 15);
    case kWaveShl:
      return lane + 1 < kWave ? lane + 1 : -1;
    case kWaveRol:
      return (lane + 1) % kWave;
    case kWaveShr:
      return lane - 1;
    case kWaveRor:
      return (lane + kWave - 1) % kWave;
    case kMirror:
      return row + 15 - in_row;
    case kHalfMirror:
      return lane ^ 7;
    case kBcast15:
      return row - 1;
    case kBcast31:
      return lane >= 32 ? 31 : -1;
    case kShare:
      return row + n;
    case kXmask:
      return row + (in_row ^ n);
  }
  return -1;
}

// A lane of which row_mask or bank_mask has no bit keeps its register, and so does one whose source lane does not
// exist, or is inactive and not fetched (fi), unless bound_ctrl makes that source 0.
struct DppModifiers {
  int row_mask = 15, bank_mask = 15;
  bool bound_ctrl = false, fetch_inactive = false;
};
template <typename F>
uint32_t dpp(const Wave &wave, int lane, int source, const DppModifiers &modifiers, F f) {
  if (!(modifiers.row_mask >> lane / 16 & 1) || !(modifiers.bank_mask >> lane % 16 / 4 & 1)) return wave.d[lane];
  if (source >= 0 && (wave.active(source) || modifiers.fetch_inactive)) return f(wave.a[source]);
  return modifiers.bound_ctrl ? f(0) : wave.d[lane];
}

#define MOVE_DPP(TEXT, CONTROL, N, MODIFIERS, ...)        \
  ACTIVE_CASE("v_mov_b32_dpp %0, %2 " TEXT " " MODIFIERS, \
              dpp(wave, lane, dpp_source(CONTROL, N, lane), DppModifiers{__VA_ARGS__}, [](uint32_t x) { return x; }))
#define ADD_DPP(TEXT, CONTROL, N, MODIFIERS, ...)                                      \
  ACTIVE_CASE(V_ADD_U32 "_dpp %0, %2, %3 " TEXT " " MODIFIERS,                         \
              dpp(wave, lane, dpp_source(CONTROL, N, lane), DppModifiers{__VA_ARGS__}, \
                  [&](uint32_t x) { return x + wave.b[lane]; }))
#define DPP(TEXT, CONTROL, N)                                                         \
  MOVE_DPP(TEXT, CONTROL, N, "row_mask:0xf bank_mask:0xf");                           \
  ADD_DPP(TEXT, CONTROL, N, "row_mask:0xf bank_mask:0xf bound_ctrl:1", 15, 15, true); \
  MOVE_DPP(TEXT, CONTROL, N, "row_mask:0xa bank_mask:0x6", 10, 6);                    \
  MOVE_DPP(TEXT, CONTROL, N, "row_mask:0x5 bank_mask:0xf bound_ctrl:1", 5, 15, true)

TEST(Dpp, Rows) {
  DPP("quad_perm:[1,2,3,0]", kQuadPerm, 0b00111001);
  DPP("quad_perm:[2,2,0,1]", kQuadPerm, 0b01001010);
  DPP("row_shl:1", kShl, 1);
  DPP("row_shl:15", kShl, 15);
  DPP("row_shr:1", kShr, 1);
  DPP("row_shr:8", kShr, 8);
  DPP("row_ror:1", kRor, 1);
  DPP("row_ror:12", kRor, 12);
  DPP("row_mirror", kMirror, 0);
  DPP("row_half_mirror", kHalfMirror, 0);
}

#if !GFX11
TEST(Dpp, WholeWave) {
  DPP("wave_shl:1", kWaveShl, 1);
  DPP("wave_rol:1", kWaveRol, 1);
  DPP("wave_shr:1", kWaveShr, 1);
  DPP("wave_ror:1", kWaveRor, 1);
  DPP("row_bcast:15", kBcast15, 0);
  DPP("row_bcast:31", kBcast31, 0);
  DPP("row_newbcast:3", kShare, 3);
  DPP("row_newbcast:15", kShare, 15);
}
#else
TEST(Dpp, Gfx11) {
  DPP("row_share:3", kShare, 3);
  DPP("row_share:15", kShare, 15);
  DPP("row_xmask:1", kXmask, 1);
  DPP("row_xmask:11", kXmask, 11);
  MOVE_DPP("row_shr:3", kShr, 3, "row_mask:0xf bank_mask:0xf fi:1", 15, 15, false, true);
  MOVE_DPP("row_shr:3", kShr, 3, "row_mask:0xf bank_mask:0xf bound_ctrl:1 fi:1", 15, 15, true, true);
  ADD_DPP("row_mirror", kMirror, 0, "row_mask:0xf bank_mask:0x9 fi:1", 15, 9, false, true);
}
// Eight lanes permute each other; inactive sources are 0 unless fetched.
TEST(Dpp, EightLanes) {
  ACTIVE_CASE("v_mov_b32_dpp %0, %2 dpp8:[7,6,5,4,3,2,1,0]", swizzled(wave, lane ^ 7));
  ACTIVE_CASE("v_mov_b32_dpp %0, %2 dpp8:[1,1,0,3,7,2,6,5] fi:1", ({
                const int sources[] = {1, 1, 0, 3, 7, 2, 6, 5};
                wave.a[(lane & ~7) | sources[lane & 7]];
              }));
  ACTIVE_CASE("v_add_nc_u32_dpp %0, %2, %3 dpp8:[0,0,0,0,4,4,4,4]", swizzled(wave, lane & ~3) + wave.b[lane]);
}
#endif

TEST(Dpp, Operations) {
  ACTIVE_CASE(
      "v_max_i32_dpp %0, %2, %3 row_shr:2 row_mask:0xf bank_mask:0xf",
      dpp(wave, lane, dpp_source(kShr, 2, lane), {}, [&](uint32_t x) { return std::max(i32(x), i32(wave.b[lane])); }));
  ACTIVE_CASE("v_xor_b32_dpp %0, %2, %3 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf",
              dpp(wave, lane, lane ^ 1, {}, [&](uint32_t x) { return x ^ wave.b[lane]; }));
  ACTIVE_CASE("v_not_b32_dpp %0, %2 row_ror:4 row_mask:0xf bank_mask:0xf",
              dpp(wave, lane, dpp_source(kRor, 4, lane), {}, [&](uint32_t x) { return ~x; }));
  // Floats are made normal first.
  ACTIVE_CASE(
      "v_and_b32 v20, 0x3fffffff, %2\n v_or_b32 v20, 0x20000000, v20\n v_and_b32 v21, 0x3fffffff, %3\n s_nop 4\n"
      "v_sub_f32_dpp %0, -v20, |v21| row_mirror row_mask:0xf bank_mask:0xf",
      dpp(wave, lane, dpp_source(kMirror, 0, lane), {}, [&](uint32_t x) {
        return bits_of(-f32_of((x & 0x3fffffff) | 0x20000000) - f32_of(wave.b[lane] & 0x3fffffff));
      }));
  ACTIVE_CASE(
      "v_mov_b32 %0, 3.0\n v_mov_b32 v20, 1.0\n v_mov_b32 v21, %2\n s_nop 4\n"
      "v_fmac_f32_dpp %0, v20, v20 row_shl:1 row_mask:0xf bank_mask:0xf",
      bits_of(lane % 16 < 15 && wave.active(lane + 1) ? 4 : 3));
#if GFX11
  ACTIVE_CASE("v_add3_u32_e64_dpp %0, %2, %3, %4 row_shr:1 row_mask:0xf bank_mask:0xf bound_ctrl:1",
              dpp(wave, lane, dpp_source(kShr, 1, lane), {15, 15, true},
                  [&](uint32_t x) { return x + wave.b[lane] + wave.c[lane]; }));
  ACTIVE_CASE(
      "v_cmp_lt_u32_e64_dpp s20, %2, %3 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf fi:1\n s_nop 4\n"
      "v_cndmask_b32 %0, 5, 7, s20",
      wave.a[lane ^ 1] < wave.b[lane] ? 7 : 5);
#else
  ACTIVE_CASE(
      "v_add_co_u32_dpp %0, vcc, %2, %3 row_shr:1 row_mask:0xf bank_mask:0xf bound_ctrl:1\n"
      "v_addc_co_u32 %0, vcc, 0, %0, vcc",
      dpp(wave, lane, dpp_source(kShr, 1, lane), {15, 15, true}, [&](uint32_t x) {
        const uint64_t sum = (uint64_t)x + wave.b[lane];
        return (uint32_t)(sum + (sum >> 32));
      }));
#endif
#if GFX942
  ACTIVE_CASE(
      "v_mov_b32 v20, %2\n v_mov_b32 v21, %3\n v_mov_b64 v[22:23], 0\n s_nop 4\n"
      "v_mov_b64_dpp v[22:23], v[20:21] row_newbcast:5 row_mask:0xf bank_mask:0xf\n v_xor_b32 %0, v22, v23",
      wave.active((lane & ~15) + 5) ? wave.a[(lane & ~15) + 5] ^ wave.b[(lane & ~15) + 5] : 0);
#endif
}

#if GFX11
TEST(CrossLane, Permlane16) {
  // The selectors of the row's 16 lanes are four bits each of two scalars; op_sel's first bit fetches inactive lanes,
  // its second makes invalid ones 0.
#define LANE_SELECT "s_mov_b32 s20, 0xaebcca18\n s_mov_b32 s21, 0x66740220\n"
  ACTIVE_CASE(LANE_SELECT "v_permlane16_b32 %0, %2, s20, s21 op_sel:[1,0]", ({
                const uint64_t selectors = 0x66740220aebcca18;
                wave.a[(lane & 16) | (selectors >> 4 * (lane & 15) & 15)];
              }));
  ACTIVE_CASE(LANE_SELECT "v_permlanex16_b32 %0, %2, s20, s21 op_sel:[1,0]", ({
                const uint64_t selectors = 0x66740220aebcca18;
                wave.a[(~lane & 16) | (selectors >> 4 * (lane & 15) & 15)];
              }));
  ACTIVE_CASE(LANE_SELECT "v_permlanex16_b32 %0, %2, s20, s21 op_sel:[0,1]", ({
                const uint64_t selectors = 0x66740220aebcca18;
                swizzled(wave, (~lane & 16) | (selectors >> 4 * (lane & 15) & 15));
              }));
  // Does nothing in a wave of 32 lanes.
  WAVE_CASE("v_permlane64_b32 %0, %2", wave.d[lane]);
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Registers: accumulation VGPRs, relative addressing, dual issue

#if !GFX11
TEST(Registers, Accumulation) {
  CASE("v_accvgpr_write_b32 a0, %1\n s_nop 4\n v_accvgpr_read_b32 %0, a0", uint32_t, uint32_t, Unused, Unused, a);
  CASE(
      "v_accvgpr_write_b32 a1, %1\n v_accvgpr_write_b32 a2, 17\n s_nop 4\n v_accvgpr_mov_b32 a3, a1\n s_nop 4\n"
      "v_accvgpr_read_b32 v20, a3\n v_accvgpr_read_b32 v21, a2\n s_nop 4\n v_add_u32 %0, v20, v21",
      uint32_t, uint32_t, Unused, Unused, a + 17);
  WAVE_CASE(
      "s_mov_b64 exec, -1\n v_accvgpr_write_b32 a4, %3\n s_mov_b64 exec, %5\n s_nop 4\n v_accvgpr_write_b32 a4, %2\n"
      "s_mov_b64 exec, -1\n s_nop 4\n v_accvgpr_read_b32 %0, a4",
      wave.active(lane) ? wave.a[lane] : wave.b[lane]);
}
#endif

TEST(Registers, Relative) {
  CASE(
      "s_mov_b32 s20, 10\n s_mov_b32 s21, 11\n s_mov_b32 s22, 12\n s_mov_b32 m0, 1\n s_nop 4\n s_movrels_b32 s23, s20\n"
      "s_mov_b32 m0, 2\n s_nop 4\n s_movreld_b32 s20, s23\n v_mov_b32 %0, s22",
      uint32_t, Unused, Unused, Unused, 11);
  CASE(
      "s_mov_b64 s[20:21], 5\n s_mov_b64 s[22:23], 9\n s_mov_b32 m0, 2\n s_nop 4\n s_movreld_b64 s[20:21], s[20:21]\n"
      "v_mov_b32 %0, s22",
      uint32_t, Unused, Unused, Unused, 5);
#if GFX11
  CASE(
      "v_mov_b32 v20, 10\n v_mov_b32 v21, %1\n v_mov_b32 v22, 12\n s_mov_b32 m0, 1\n v_movrels_b32 v23, v20\n"
      "v_movreld_b32 v20, 33\n v_add3_u32 %0, v23, v21, v22",
      uint32_t, uint32_t, Unused, Unused, a + 33 + 12);
#else
  CASE(
      "v_mov_b32 v20, 10\n v_mov_b32 v21, %1\n v_mov_b32 v22, 12\n s_mov_b32 s20, 1\n s_set_gpr_idx_on s20, "
      "gpr_idx(SRC0)\n"
      "v_mov_b32 v23, v20\n s_set_gpr_idx_off\n s_set_gpr_idx_on s20, gpr_idx(DST)\n v_mov_b32 v20, 33\n "
      "s_set_gpr_idx_off\n"
      "v_add3_u32 %0, v23, v21, v22",
      uint32_t, uint32_t, Unused, Unused, a + 33 + 12);
#endif
}

#if GFX11
// Two operations at once: both read before either writes. v20 and v21 are the results, v24 to v27 the operands.
#define DUAL(TEXT, D, A, EXPECTED_LO, EXPECTED_HI)                                                               \
  CHECK_STATEMENT(TEXT, false, FE_TONEAREST, Pair<D>, Pair<A>, Pair<A>, Unused, ({                               \
                    uint32_t lo, hi;                                                                             \
                    asm volatile(                                                                                \
                        "v_mov_b32 v24, %2\n v_mov_b32 v25, %3\n v_mov_b32 v26, %4\n v_mov_b32 v27, %5\n"        \
                        "v_mov_b32 v20, %2\n v_mov_b32 v21, %5\n s_mov_b32 vcc_lo, 0x5555aaaa\n" TEXT            \
                        "\n v_mov_b32 %0, v20\n v_mov_b32 %1, v21"                                               \
                        : "=&v"(lo), "=&v"(hi)                                                                   \
                        : "v"((uint32_t)a), "v"((uint32_t)(a >> 32)), "v"((uint32_t)b), "v"((uint32_t)(b >> 32)) \
                        : "v20", "v21", "v24", "v25", "v26", "v27", "vcc");                                      \
                    d = (uint64_t)hi << 32 | lo;                                                                 \
                  }),                                                                                            \
                  (Pair<D>{(D)(EXPECTED_LO), (D)(EXPECTED_HI)}))

TEST(Registers, DualIssue) {
  DUAL("v_dual_add_f32 v20, v24, v25 :: v_dual_mul_f32 v21, v27, v26", float, float, a.lo + a.hi, b.hi * b.lo);
  DUAL("v_dual_sub_f32 v20, v24, v25 :: v_dual_subrev_f32 v21, v27, v26", float, float, a.lo - a.hi, b.lo - b.hi);
  DUAL("v_dual_fmac_f32 v20, v24, v25 :: v_dual_fmac_f32 v21, v27, v26", float, float, std::fma(a.lo, a.hi, a.lo),
       std::fma(b.hi, b.lo, b.hi));
  DUAL("v_dual_min_f32 v20, v24, v25 :: v_dual_max_f32 v21, v27, v26", float, float, minimum(a.lo, a.hi),
       maximum(b.hi, b.lo));
  DUAL("v_dual_fmaak_f32 v20, v24, v25, 0x40490fdb :: v_dual_fmamk_f32 v21, v27, 0x40490fdb, v26", float, float,
       std::fma(a.lo, a.hi, f32_of(0x40490fdb)), std::fma(b.hi, f32_of(0x40490fdb), b.lo));
  DUAL("v_dual_mul_dx9_zero_f32 v20, v24, v25 :: v_dual_mov_b32 v21, v27", float, float,
       a.lo == 0 || a.hi == 0 ? 0 : a.lo * a.hi, b.hi);
  DUAL("v_dual_mov_b32 v20, v25 :: v_dual_add_nc_u32 v21, v24, v26", uint32_t, uint32_t, a.hi, a.lo + b.lo);
  DUAL("v_dual_mov_b32 v20, 5 :: v_dual_lshlrev_b32 v21, v24, v26", uint32_t, uint32_t, 5, b.lo << (a.lo & 31));
  DUAL("v_dual_mov_b32 v20, 0x12345 :: v_dual_and_b32 v21, v24, v26", uint32_t, uint32_t, 0x12345, a.lo & b.lo);
  DUAL("v_dual_mov_b32 v20, v21 :: v_dual_mov_b32 v21, v20", uint32_t, uint32_t, b.hi, a.lo);
}
TEST(Registers, DualSelect) {
  ACTIVE_CASE(
      "s_mov_b32 vcc_lo, 0x5555aaaa\n v_mov_b32 v20, %2\n v_mov_b32 v21, %3\n v_mov_b32 v22, %4\n"
      "v_dual_cndmask_b32 v20, v20, v21 :: v_dual_mov_b32 v23, v22\n v_mov_b32 %0, v20",
      0x5555aaaa >> lane & 1 ? wave.b[lane] : wave.a[lane]);
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Scalar ALU: the same comparison, one wave per tuple; the mask bit is SCC before and after

template <typename D, typename A, typename B, typename Body>
__global__ void execute_scalar(const Operands *__restrict__ operands, Result *__restrict__ results, Body body) {
  for (int i = blockIdx.x; i < kTuples; i += gridDim.x) {
    Register<D> d = operands[i].d;
    uint32_t scc = operands[i].mask;
    body(d, scc, (Register<A>)operands[i].a, (Register<B>)operands[i].b);
    if (threadIdx.x == 0) results[i] = {d, scc};
  }
}

// %0: d, %2 and %3: a, b. SCC_OUT may use the result r; carry is SCC before.
#define SCALAR(TEXT, D, A, B, EXPECTED, SCC_OUT)                                                                       \
  check_lanes({TEXT, true,                                                                                             \
               [](const Operands *operands, Result *results) {                                                         \
                 execute_scalar<D, A, B><<<25, kWave>>>(                                                               \
                     operands, results, [] __device__(Register<D> & d, uint32_t & scc, Register<A> a, Register<B> b) { \
                       asm volatile("s_cmp_lg_u32 %1, 0\n" TEXT "\n s_cselect_b32 %1, 1, 0"                            \
                                    : "+s"(d), "+s"(scc)                                                               \
                                    : "s"(a), "s"(b)                                                                   \
                                    : SCRATCH_REGISTERS);                                                              \
                     });                                                                                               \
               },                                                                                                      \
               [](const Operands &operands, bool &carry) -> uint64_t {                                                 \
                 [[maybe_unused]] const A a = bit_cast<A>(operands.a);                                                 \
                 [[maybe_unused]] const B b = bit_cast<B>(operands.b);                                                 \
                 [[maybe_unused]] const D d = bit_cast<D>(operands.d);                                                 \
                 const D r = EXPECTED;                                                                                 \
                 carry = SCC_OUT;                                                                                      \
                 return place(r, operands.d);                                                                          \
               },                                                                                                      \
               equal_registers<D>, SourceOf<A>::get, SourceOf<B>::get, SourceOf<Unused>::get, SourceOf<D>::get})
#define SCALAR1(NAME, D, A, EXPECTED, SCC_OUT) SCALAR(NAME " %0, %2", D, A, Unused, EXPECTED, SCC_OUT)
#define SCALAR2(NAME, D, A, B, EXPECTED, SCC_OUT) SCALAR(NAME " %0, %2, %3", D, A, B, EXPECTED, SCC_OUT)

TEST(ScalarAlu, Arithmetic) {
  SCALAR2("s_add_u32", uint32_t, uint32_t, uint32_t, a + b, ((uint64_t)a + b) >> 32);
  SCALAR2("s_sub_u32", uint32_t, uint32_t, uint32_t, a - b, a < b);
  SCALAR2("s_add_i32", int32_t, int32_t, int32_t, (uint32_t)a + b, (int64_t)a + b != r);
  SCALAR2("s_sub_i32", int32_t, int32_t, int32_t, (uint32_t)a - b, (int64_t)a - b != r);
  SCALAR2("s_addc_u32", uint32_t, uint32_t, uint32_t, a + b + carry, ((uint64_t)a + b + operands.mask) >> 32);
  SCALAR2("s_subb_u32", uint32_t, uint32_t, uint32_t, a - b - carry, a < (uint64_t)b + operands.mask);
  SCALAR2("s_mul_i32", uint32_t, uint32_t, uint32_t, a * b, carry);
  SCALAR2("s_mul_hi_u32", uint32_t, uint32_t, uint32_t, (uint64_t)a * b >> 32, carry);
  SCALAR2("s_mul_hi_i32", int32_t, int32_t, int32_t, (int64_t)a * b >> 32, carry);
  SCALAR2("s_min_i32", int32_t, int32_t, int32_t, std::min(a, b), a < b);
  SCALAR2("s_min_u32", uint32_t, uint32_t, uint32_t, std::min(a, b), a < b);
  SCALAR2("s_max_i32", int32_t, int32_t, int32_t, std::max(a, b), a >= b);
  SCALAR2("s_max_u32", uint32_t, uint32_t, uint32_t, std::max(a, b), a >= b);
  SCALAR1("s_abs_i32", uint32_t, int32_t, a < 0 ? -(uint32_t)a : a, r != 0);
  SCALAR2("s_absdiff_i32", uint32_t, uint32_t, uint32_t, i32(a - b) < 0 ? b - a : a - b, r != 0);
  SCALAR2("s_lshl1_add_u32", uint32_t, uint32_t, uint32_t, (a << 1) + b, (((uint64_t)a << 1) + b) >> 32);
  SCALAR2("s_lshl2_add_u32", uint32_t, uint32_t, uint32_t, (a << 2) + b, (((uint64_t)a << 2) + b) >> 32 != 0);
  SCALAR2("s_lshl3_add_u32", uint32_t, uint32_t, uint32_t, (a << 3) + b, (((uint64_t)a << 3) + b) >> 32 != 0);
  SCALAR2("s_lshl4_add_u32", uint32_t, uint32_t, uint32_t, (a << 4) + b, (((uint64_t)a << 4) + b) >> 32 != 0);
  SCALAR("s_movk_i32 %0, 0x8123", uint32_t, Unused, Unused, 0xffff8123, carry);
  SCALAR("s_addk_i32 %0, 0x8123", int32_t, Unused, Unused, (uint32_t)d + 0xffff8123, (int64_t)d - 0x7edd != r);
  SCALAR("s_addk_i32 %0, 0x7123", int32_t, Unused, Unused, (uint32_t)d + 0x7123, (int64_t)d + 0x7123 != r);
  SCALAR("s_mulk_i32 %0, -3", uint32_t, Unused, Unused, d * -3, carry);
  SCALAR("s_add_u32 %0, %2, 0x12345678", uint32_t, uint32_t, Unused, a + 0x12345678, ((uint64_t)a + 0x12345678) >> 32);
  SCALAR("s_sub_u32 %0, -16, %2", uint32_t, uint32_t, Unused, -16 - a, -16u < a);
}

#define LOGICAL(NAME, EXPRESSION)                                         \
  SCALAR2(NAME "_b32", uint32_t, uint32_t, uint32_t, EXPRESSION, r != 0); \
  SCALAR2(NAME "_b64", uint64_t, uint64_t, uint64_t, EXPRESSION, r != 0)

TEST(ScalarAlu, Logical) {
  LOGICAL("s_and", a & b);
  LOGICAL("s_or", a | b);
  LOGICAL("s_xor", a ^ b);
  LOGICAL("s_andn2", a & ~b);
  LOGICAL("s_orn2", a | ~b);
  LOGICAL("s_nand", ~(a & b));
  LOGICAL("s_nor", ~(a | b));
  LOGICAL("s_xnor", ~(a ^ b));
  SCALAR1("s_not_b32", uint32_t, uint32_t, ~a, r != 0);
  SCALAR1("s_not_b64", uint64_t, uint64_t, ~a, r != 0);
  SCALAR1("s_mov_b32", uint32_t, uint32_t, a, carry);
  SCALAR1("s_mov_b64", uint64_t, uint64_t, a, carry);
  SCALAR("s_mov_b64 %0, -7", uint64_t, Unused, Unused, (uint64_t)-7, carry);
  SCALAR("s_mov_b64 %0, 1.0", uint64_t, Unused, Unused, 0x3ff0000000000000, carry);
  SCALAR("s_mov_b64 %0, 0x12345678", uint64_t, Unused, Unused, 0x12345678, carry);
  SCALAR1("s_cmov_b32", uint32_t, uint32_t, carry ? a : d, carry);
  SCALAR1("s_cmov_b64", uint64_t, uint64_t, carry ? a : d, carry);
  SCALAR("s_cmovk_i32 %0, -9", uint32_t, Unused, Unused, carry ? (uint32_t)-9 : d, carry);
  SCALAR2("s_cselect_b32", uint32_t, uint32_t, uint32_t, carry ? a : b, carry);
  SCALAR2("s_cselect_b64", uint64_t, uint64_t, uint64_t, carry ? a : b, carry);
}

TEST(ScalarAlu, Shifts) {
  SCALAR2("s_lshl_b32", uint32_t, uint32_t, uint32_t, a << (b & 31), r != 0);
  SCALAR2("s_lshr_b32", uint32_t, uint32_t, uint32_t, a >> (b & 31), r != 0);
  SCALAR2("s_ashr_i32", int32_t, int32_t, uint32_t, a >> (b & 31), r != 0);
  SCALAR2("s_lshl_b64", uint64_t, uint64_t, uint32_t, a << (b & 63), r != 0);
  SCALAR2("s_lshr_b64", uint64_t, uint64_t, uint32_t, a >> (b & 63), r != 0);
  SCALAR2("s_ashr_i64", int64_t, int64_t, uint32_t, a >> (b & 63), r != 0);
}

static uint64_t low_bits(int width) { return width >= 64 ? ~0ull : (1ull << width) - 1; }

TEST(ScalarAlu, Fields) {
  // A field's offset is in the low bits of the second operand, its width in bits 22:16. Widths beyond the operand's are
  // left out.
#define FIELD                                                                                          \
  "s_and_b32 s20, %3, 31\n s_lshr_b32 s21, %3, 5\n s_and_b32 s21, s21, 31\n s_lshl_b32 s21, s21, 16\n" \
  "s_or_b32 s20, s20, s21\n s_cmp_lg_u32 %1, 0\n"
  SCALAR(FIELD "s_bfe_u32 %0, %2, s20", uint32_t, uint32_t, uint32_t, a >> (b & 31) & low_bits(b >> 5 & 31), r != 0);
  SCALAR(FIELD "s_bfe_i32 %0, %2, s20", int32_t, int32_t, uint32_t, sign_extend(a >> (b & 31), b >> 5 & 31), r != 0);
  SCALAR(FIELD "s_bfe_u64 %0, %2, s20", uint64_t, uint64_t, uint32_t, a >> (b & 31) & low_bits(b >> 5 & 31), r != 0);
  SCALAR(FIELD "s_bfe_i64 %0, %2, s20", int64_t, int64_t, uint32_t, ({
           const int width = b >> 5 & 31;
           width ? (int64_t)((uint64_t)(a >> (b & 31)) << (64 - width)) >> (64 - width) : 0;
         }),
         r != 0);
  SCALAR("s_bfe_u32 %0, %2, 0x80010", uint32_t, uint32_t, Unused, a >> 16 & 0xff, r != 0);
  SCALAR("s_bfe_u64 %0, %2, 0x280014", uint64_t, uint64_t, Unused, a >> 20 & low_bits(40), r != 0);
  SCALAR2("s_bfm_b32", uint32_t, uint32_t, uint32_t, ((1u << (a & 31)) - 1) << (b & 31), carry);
  SCALAR2("s_bfm_b64", uint64_t, uint32_t, uint32_t, ((1ull << (a & 63)) - 1) << (b & 63), carry);
  SCALAR1("s_bitset0_b32", uint32_t, uint32_t, d & ~(1u << (a & 31)), carry);
  SCALAR1("s_bitset1_b32", uint32_t, uint32_t, d | 1u << (a & 31), carry);
  SCALAR1("s_bitset0_b64", uint64_t, uint32_t, d & ~(1ull << (a & 63)), carry);
  SCALAR1("s_bitset1_b64", uint64_t, uint32_t, d | 1ull << (a & 63), carry);
  SCALAR1("s_sext_i32_i8", int32_t, uint32_t, sign_extend(a, 8), carry);
  SCALAR1("s_sext_i32_i16", int32_t, uint32_t, sign_extend(a, 16), carry);
  SCALAR2("s_pack_ll_b32_b16", uint32_t, uint32_t, uint32_t, pack(a, b), carry);
  SCALAR2("s_pack_lh_b32_b16", uint32_t, uint32_t, uint32_t, pack(a, b >> 16), carry);
  SCALAR2("s_pack_hh_b32_b16", uint32_t, uint32_t, uint32_t, pack(a >> 16, b >> 16), carry);
#if GFX11
  SCALAR2("s_pack_hl_b32_b16", uint32_t, uint32_t, uint32_t, pack(a >> 16, b), carry);
#endif
}

TEST(ScalarAlu, Bits) {
  SCALAR1("s_brev_b32", uint32_t, uint32_t, reverse_bits(a, 32), carry);
  SCALAR1("s_brev_b64", uint64_t, uint64_t, reverse_bits(a, 64), carry);
  SCALAR1("s_bcnt0_i32_b32", uint32_t, uint32_t, 32 - count_ones(a), r != 0);
  SCALAR1("s_bcnt0_i32_b64", uint32_t, uint64_t, 64 - count_ones(a), r != 0);
  SCALAR1("s_bcnt1_i32_b32", uint32_t, uint32_t, count_ones(a), r != 0);
  SCALAR1("s_bcnt1_i32_b64", uint32_t, uint64_t, count_ones(a), r != 0);
  SCALAR1("s_ff1_i32_b32", int32_t, uint32_t, trailing_zeros(a, 32), carry);
  SCALAR1("s_ff1_i32_b64", int32_t, uint64_t, trailing_zeros(a, 64), carry);
  SCALAR1("s_flbit_i32_b32", int32_t, uint32_t, leading_zeros(a, 32), carry);
  SCALAR1("s_flbit_i32_b64", int32_t, uint64_t, leading_zeros(a, 64), carry);
  SCALAR1("s_flbit_i32", int32_t, uint32_t, leading_signs(a, 32), carry);
  SCALAR1("s_flbit_i32_i64", int32_t, uint64_t, leading_signs(a, 64), carry);
  SCALAR1("s_bitreplicate_b64_b32", uint64_t, uint32_t, ({
            uint64_t bits = 0;
            for (int i = 0; i < 32; i++) bits |= (uint64_t)(a >> i & 1) * 3 << 2 * i;
            bits;
          }),
          carry);
#define WHOLE_QUADS(WIDTH)                                                              \
  ({                                                                                    \
    uint64_t bits = 0;                                                                  \
    for (int i = 0; i < WIDTH; i++) bits |= (uint64_t)((a >> (i & ~3) & 15) != 0) << i; \
    bits;                                                                               \
  })
#define QUAD_MASK(WIDTH)                                                                 \
  ({                                                                                     \
    uint64_t bits = 0;                                                                   \
    for (int i = 0; i < WIDTH / 4; i++) bits |= (uint64_t)((a >> 4 * i & 15) != 0) << i; \
    bits;                                                                                \
  })
  SCALAR1("s_wqm_b32", uint32_t, uint32_t, WHOLE_QUADS(32), r != 0);
  SCALAR1("s_wqm_b64", uint64_t, uint64_t, WHOLE_QUADS(64), r != 0);
  SCALAR1("s_quadmask_b32", uint32_t, uint32_t, QUAD_MASK(32), r != 0);
  SCALAR1("s_quadmask_b64", uint64_t, uint64_t, QUAD_MASK(64), r != 0);
#if !GFX11
  SCALAR1("s_ff0_i32_b32", int32_t, uint32_t, trailing_zeros(~a, 32), carry);
  SCALAR1("s_ff0_i32_b64", int32_t, uint64_t, trailing_zeros(~a, 64), carry);
#endif
}

#define SCALAR_COMPARE(NAME, A, B, SCC_OUT) SCALAR(NAME " %2, %3", uint32_t, A, B, d, SCC_OUT)
#define SCALAR_COMPARE_CONSTANT(NAME, T, K, SCC_OUT) SCALAR(NAME " %2, " K, uint32_t, T, Unused, d, SCC_OUT)

TEST(ScalarAlu, Compare) {
  SCALAR_COMPARE("s_cmp_eq_i32", int32_t, int32_t, a == b);
  SCALAR_COMPARE("s_cmp_lg_i32", int32_t, int32_t, a != b);
  SCALAR_COMPARE("s_cmp_gt_i32", int32_t, int32_t, a > b);
  SCALAR_COMPARE("s_cmp_ge_i32", int32_t, int32_t, a >= b);
  SCALAR_COMPARE("s_cmp_lt_i32", int32_t, int32_t, a < b);
  SCALAR_COMPARE("s_cmp_le_i32", int32_t, int32_t, a <= b);
  SCALAR_COMPARE("s_cmp_eq_u32", uint32_t, uint32_t, a == b);
  SCALAR_COMPARE("s_cmp_lg_u32", uint32_t, uint32_t, a != b);
  SCALAR_COMPARE("s_cmp_gt_u32", uint32_t, uint32_t, a > b);
  SCALAR_COMPARE("s_cmp_ge_u32", uint32_t, uint32_t, a >= b);
  SCALAR_COMPARE("s_cmp_lt_u32", uint32_t, uint32_t, a < b);
  SCALAR_COMPARE("s_cmp_le_u32", uint32_t, uint32_t, a <= b);
  SCALAR_COMPARE("s_cmp_eq_u64", uint64_t, uint64_t, a == b);
  SCALAR_COMPARE("s_cmp_lg_u64", uint64_t, uint64_t, a != b);
  SCALAR_COMPARE("s_bitcmp0_b32", uint32_t, uint32_t, !(a >> (b & 31) & 1));
  SCALAR_COMPARE("s_bitcmp1_b32", uint32_t, uint32_t, a >> (b & 31) & 1);
  SCALAR_COMPARE("s_bitcmp0_b64", uint64_t, uint32_t, !(a >> (b & 63) & 1));
  SCALAR_COMPARE("s_bitcmp1_b64", uint64_t, uint32_t, a >> (b & 63) & 1);
  SCALAR_COMPARE_CONSTANT("s_cmpk_eq_i32", int32_t, "0x8000", a == -0x8000);
  SCALAR_COMPARE_CONSTANT("s_cmpk_lg_i32", int32_t, "33", a != 33);
  SCALAR_COMPARE_CONSTANT("s_cmpk_gt_i32", int32_t, "-5", a > -5);
  SCALAR_COMPARE_CONSTANT("s_cmpk_ge_i32", int32_t, "31", a >= 31);
  SCALAR_COMPARE_CONSTANT("s_cmpk_lt_i32", int32_t, "0x7fff", a < 0x7fff);
  SCALAR_COMPARE_CONSTANT("s_cmpk_le_i32", int32_t, "0x8000", a <= -0x8000);
  SCALAR_COMPARE_CONSTANT("s_cmpk_eq_u32", uint32_t, "0x8000", a == 0x8000);
  SCALAR_COMPARE_CONSTANT("s_cmpk_lg_u32", uint32_t, "0xffff", a != 0xffff);
  SCALAR_COMPARE_CONSTANT("s_cmpk_gt_u32", uint32_t, "0x8000", a > 0x8000);
  SCALAR_COMPARE_CONSTANT("s_cmpk_ge_u32", uint32_t, "0xffff", a >= 0xffff);
  SCALAR_COMPARE_CONSTANT("s_cmpk_lt_u32", uint32_t, "32", a < 32);
  SCALAR_COMPARE_CONSTANT("s_cmpk_le_u32", uint32_t, "0x7fff", a <= 0x7fff);
}

// EXEC is b before; the result is what was saved and s[22:23] the new EXEC, which is checked through an exclusive or.
#if GFX11
#define SAVEEXEC(NAME, EXPRESSION)                                                                          \
  SCALAR("s_mov_b32 s20, exec_lo\n s_mov_b32 exec_lo, %3\n" NAME                                            \
         "_b32 %0, %2\n s_mov_b32 s22, exec_lo\n"                                                           \
         "s_mov_b32 exec_lo, s20\n s_cselect_b32 s21, 1, 0\n s_mul_i32 %0, %0, 3\n s_xor_b32 %0, %0, s22\n" \
         "s_cmp_lg_u32 s21, 0",                                                                             \
         uint32_t, uint32_t, uint32_t, b * 3 ^ (EXPRESSION), (EXPRESSION) != 0)
#else
#define SAVEEXEC(NAME, EXPRESSION)                                                                               \
  SCALAR("s_mov_b64 s[20:21], exec\n s_mov_b64 exec, %3\n" NAME                                                  \
         "_b64 %0, %2\n s_mov_b64 s[22:23], exec\n"                                                              \
         "s_mov_b64 exec, s[20:21]\n s_cselect_b32 s20, 1, 0\n s_brev_b64 %0, %0\n s_xor_b64 %0, %0, s[22:23]\n" \
         "s_cmp_lg_u32 s20, 0",                                                                                  \
         uint64_t, uint64_t, uint64_t, reverse_bits(b, 64) ^ (EXPRESSION), (EXPRESSION) != 0)
#endif

TEST(ScalarAlu, SaveExec) {
  SAVEEXEC("s_and_saveexec", a & b);
  SAVEEXEC("s_or_saveexec", a | b);
  SAVEEXEC("s_xor_saveexec", a ^ b);
  SAVEEXEC("s_andn2_saveexec", a & ~b);
  SAVEEXEC("s_orn2_saveexec", a | ~b);
  SAVEEXEC("s_nand_saveexec", ~(a & b));
  SAVEEXEC("s_nor_saveexec", ~(a | b));
  SAVEEXEC("s_xnor_saveexec", ~(a ^ b));
  SAVEEXEC(GFX9_11("s_andn1_saveexec", "s_and_not0_saveexec"), ~a & b);
  SAVEEXEC(GFX9_11("s_orn1_saveexec", "s_or_not0_saveexec"), ~a | b);
}

// ---------------------------------------------------------------------------------------------------------------------
// Branches

// SETUP, then a branch that should be TAKEN or not.
#define BRANCH(SETUP, NAME, TAKEN)                                        \
  SCALAR("s_mov_b64 s[20:21], exec\n" SETUP "\n s_mov_b32 s22, 1\n " NAME \
         " .Ltaken%=\n s_mov_b32 s22, 0\n"                                \
         ".Ltaken%=:\n s_mov_b64 exec, s[20:21]\n s_mov_b32 %0, s22",     \
         uint32_t, uint32_t, Unused, TAKEN, carry)

TEST(Control, Branches) {
  BRANCH("", "s_branch", 1);
  BRANCH("", "s_cbranch_scc0", !carry);
  BRANCH("", "s_cbranch_scc1", carry);
  BRANCH("s_mov_b32 vcc_hi, 0\n s_mov_b32 vcc_lo, %2", "s_cbranch_vccz", a == 0);
  BRANCH("s_mov_b32 vcc_hi, 0\n s_mov_b32 vcc_lo, %2", "s_cbranch_vccnz", a != 0);
  BRANCH("s_mov_b32 exec_hi, 0\n s_mov_b32 exec_lo, %2", "s_cbranch_execz", a == 0);
  BRANCH("s_mov_b32 exec_hi, 0\n s_mov_b32 exec_lo, %2", "s_cbranch_execnz", a != 0);
#if !GFX11
  BRANCH("s_mov_b32 vcc_lo, 0\n s_mov_b32 vcc_hi, %2", "s_cbranch_vccz", a == 0);
  BRANCH("s_mov_b32 exec_lo, 0\n s_mov_b32 exec_hi, %2", "s_cbranch_execz", a == 0);
#endif
  // A loop that counts the bits of a.
  SCALAR(
      "s_mov_b32 s20, %2\n s_mov_b32 s21, 0\n.Lnext%=:\n s_cmp_eq_u32 s20, 0\n s_cbranch_scc1 .Ldone%=\n"
      "s_sub_u32 s22, s20, 1\n s_and_b32 s20, s20, s22\n s_add_u32 s21, s21, 1\n s_branch .Lnext%=\n.Ldone%=:\n"
      "s_mov_b32 %0, s21",
      uint32_t, uint32_t, Unused, count_ones(a), true);
  // A call: the target is relative to the program counter.
  SCALAR(
      "s_getpc_b64 s[20:21]\n.Lhere%=:\n s_add_u32 s20, s20, .Lthere%=-.Lhere%=\n s_addc_u32 s21, s21, 0\n"
      "s_swappc_b64 s[20:21], s[20:21]\n s_branch .Lend%=\n.Lthere%=:\n s_mov_b32 s22, 77\n s_setpc_b64 s[20:21]\n"
      "s_mov_b32 s22, 0\n.Lend%=:\n s_cmp_eq_u32 0, 1\n s_add_u32 %0, s22, 1",
      uint32_t, Unused, Unused, 78, false);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory: every lane has its address; on the host the lanes' accesses happen one after the other

// Memory instructions also load and store gfx9's accumulation VGPRs.
#if GFX11
#define MEMORY_CLOBBERS SCRATCH_REGISTERS, "memory"
#else
#define MEMORY_CLOBBERS SCRATCH_REGISTERS, "memory", "a0", "a1", "a2", "a3"
#endif

// One lane's access.
struct Access {
  uint8_t *memory;  // at its address,
  int offset;       // which is so far from the first lane's
  uint32_t data[4], data2[4];
  uint32_t result[4];  // the result register before and after
  template <typename T>
  T load(int offset = 0) const {
    T value;
    memcpy(&value, memory + offset, sizeof(T));
    return value;
  }
  template <typename T>
  void store(T value, int offset = 0) {
    memcpy(memory + offset, &value, sizeof(T));
  }
  template <typename T>
  void give(T value) {
    memcpy(result, &value, sizeof(T));
  }
  uint64_t data64() const { return data[0] | (uint64_t)data[1] << 32; }
  // A read-modify-write; the old value is returned where the instruction does.
  template <typename T, typename F>
  void modify(bool returned, F f) {
    const T before = load<T>();
    if (returned) give(before);
    store<T>((T)f(before));
  }
};

enum Values { kWords, kFloats, kDoubles, kHalves, kBfloats };
constexpr int kMemoryLanes = 64, kMemoryBlocks = 4, kMemoryBytes = 8192;

struct MemoryInstruction {
  const char *text;
  int stride, base;  // a lane's address is its number times stride, plus base
  int result_words;
  Values values;
  void (*launch)(const Vec4 *data, uint32_t *memory, Vec4 *results, int stride);
  void (*expect)(Access &);
};

template <typename R>
constexpr int words_of() {
  return std::is_same<R, Vec3>::value ? 3 : sizeof(R) / 4;
}

static uint32_t word_of(Values values, Random &random, size_t index) {
  switch (values) {
    case kFloats:
      return bit_cast<uint32_t>((float)random_quarter(random, 1000));
    case kDoubles:
      return index % 2 ? (uint32_t)(bit_cast<uint64_t>(random_quarter(random, 1000)) >> 32) : 0;
    case kHalves:
      return F16(random_quarter(random, 100)).bits | F16(random_quarter(random, 100)).bits << 16;
    // Small integers: the upper halves of floats.
    case kBfloats:
      return bit_cast<uint32_t>((float)(int)(random() % 64)) >> 16 |
             (bit_cast<uint32_t>((float)(int)(random() % 64)) & ~0xffffu);
    default:
      return random();
  }
}

static void check_memory(const MemoryInstruction &instruction) {
  Random random(7);
  const int lanes = kMemoryLanes * kMemoryBlocks;
  std::vector<uint32_t> memory(kMemoryBlocks * kMemoryBytes / 4), data(8 * lanes), results(4 * lanes);
  for (auto *words : {&memory, &data, &results})
    for (size_t i = 0; i < words->size(); i++) (*words)[i] = word_of(instruction.values, random, i);
  auto address_of = [&](std::vector<uint32_t> &words, int lane) {
    return (uint8_t *)words.data() + lane / kMemoryLanes * kMemoryBytes + instruction.base +
           lane % kMemoryLanes * instruction.stride;
  };
  for (int lane = 0; lane < lanes; lane++) {
    // Some operands are equal to what lies in memory, for the comparisons.
    const int places[] = {0, 4, 1, 2};
    memcpy(&data[8 * lane + places[lane % 4]], address_of(memory, lane), lane % 4 == 2 ? 4 : 8);
  }
  auto as_vectors = [](const std::vector<uint32_t> &words) {
    std::vector<Vec4> vectors(words.size() / 4);
    memcpy(vectors.data(), words.data(), words.size() * 4);
    return vectors;
  };
  const Device<Vec4> device_data(as_vectors(data)), device_results(as_vectors(results));
  const Device<uint32_t> device_memory(memory);
  instruction.launch(device_data.data(), device_memory.data(), device_results.data(), instruction.stride);
  const auto memory_after = device_memory.fetch();
  const auto results_after = device_results.fetch();

  Mismatches mismatches(instruction.text);
  for (int lane = 0; lane < lanes; lane++) {
    Access access;
    access.memory = address_of(memory, lane);
    access.offset = lane % kMemoryLanes * instruction.stride;
    memcpy(access.data, &data[8 * lane], 16);
    memcpy(access.data2, &data[8 * lane + 4], 16);
    memcpy(access.result, &results[4 * lane], 16);
    instruction.expect(access);
    for (int word = 0; word < instruction.result_words; word++)
      if (results_after[lane][word] != access.result[word])
        mismatches.add("lane " + std::to_string(lane) + " data " + hex(access.data[0]) + " " + hex(access.data[1]) +
                           " register " + std::to_string(word),
                       hex(access.result[word]), hex(results_after[lane][word]));
  }
  for (size_t i = 0; i < memory.size(); i++)
    if (memory_after[i] != memory[i])
      mismatches.add("memory at " + hex(4 * i % kMemoryBytes), hex(memory[i]), hex(memory_after[i]));
}

template <typename R, typename A, typename Body>
__global__ void access_lds(const Vec4 *data, uint32_t *memory, Vec4 *results, int stride, Body body) {
  __shared__ uint32_t lds[kMemoryBytes / 4];
  const int lane = blockIdx.x * kMemoryLanes + threadIdx.x;
  uint32_t *image = memory + blockIdx.x * (kMemoryBytes / 4);
  for (int i = threadIdx.x; i < kMemoryBytes / 4; i += kMemoryLanes) lds[i] = image[i];
  __syncthreads();
  const uint32_t address =
      (uint32_t)(uintptr_t)(__attribute__((address_space(3))) uint32_t *)lds + threadIdx.x * stride;
  R r = bit_cast<R>(results[lane]);
  body(r, address, bit_cast<A>(data[2 * lane]), bit_cast<A>(data[2 * lane + 1]));
  results[lane] = bit_cast<Vec4>(r);
  __syncthreads();
  for (int i = threadIdx.x; i < kMemoryBytes / 4; i += kMemoryLanes) image[i] = lds[i];
}

// %0: result, %1: LDS address, %2, %3: data of type A; EXPECTED changes Access m.
#define LDS_CASE(TEXT, R, A, VALUES, STRIDE, EXPECTED)                                                         \
  check_memory({TEXT, STRIDE, 0, words_of<R>(), VALUES,                                                        \
                [](const Vec4 *data, uint32_t *memory, Vec4 *results, int stride) {                            \
                  access_lds<R, A><<<kMemoryBlocks, kMemoryLanes>>>(                                           \
                      data, memory, results, stride, [] __device__(R & r, uint32_t address, A data, A data2) { \
                        asm volatile(TEXT "\n s_waitcnt lgkmcnt(0)"                                            \
                                     : "+v"(r)                                                                 \
                                     : "v"(address), "v"(data), "v"(data2)                                     \
                                     : MEMORY_CLOBBERS);                                                       \
                      });                                                                                      \
                },                                                                                             \
                [](Access &m) { EXPECTED; }})

TEST(Lds, Load) {
  LDS_CASE("ds_read_u8 %0, %1 offset:1", uint32_t, uint32_t, kWords, 4, m.give<uint32_t>(m.load<uint8_t>(1)));
  LDS_CASE("ds_read_i8 %0, %1 offset:3", uint32_t, uint32_t, kWords, 4, m.give<int32_t>(m.load<int8_t>(3)));
  LDS_CASE("ds_read_u16 %0, %1 offset:2", uint32_t, uint32_t, kWords, 4, m.give<uint32_t>(m.load<uint16_t>(2)));
  LDS_CASE("ds_read_i16 %0, %1", uint32_t, uint32_t, kWords, 2, m.give<int32_t>(m.load<int16_t>()));
  LDS_CASE("ds_read_b32 %0, %1 offset:100", uint32_t, uint32_t, kWords, 4, m.give(m.load<uint32_t>(100)));
  LDS_CASE("ds_read_b64 %0, %1 offset:8", uint64_t, uint32_t, kWords, 8, m.give(m.load<uint64_t>(8)));
  LDS_CASE("ds_read_b96 %0, %1 offset:16", Vec3, uint32_t, kWords, 16, memcpy(m.result, m.memory + 16, 12));
  LDS_CASE("ds_read_b128 %0, %1 offset:4096", Vec4, uint32_t, kWords, 16, memcpy(m.result, m.memory + 4096, 16));
  LDS_CASE("ds_read2_b32 %0, %1 offset0:3 offset1:200", Vec2, uint32_t, kWords, 4,
           (memcpy(m.result, m.memory + 12, 4), memcpy(m.result + 1, m.memory + 800, 4)));
  LDS_CASE("ds_read2_b64 %0, %1 offset0:1 offset1:255", Vec4, uint32_t, kWords, 8,
           (memcpy(m.result, m.memory + 8, 8), memcpy(m.result + 2, m.memory + 2040, 8)));
  LDS_CASE("ds_read2st64_b32 %0, %1 offset0:2 offset1:9", Vec2, uint32_t, kWords, 4,
           (memcpy(m.result, m.memory + 512, 4), memcpy(m.result + 1, m.memory + 9 * 256, 4)));
  LDS_CASE("ds_read2st64_b64 %0, %1 offset0:1 offset1:11", Vec4, uint32_t, kWords, 8,
           (memcpy(m.result, m.memory + 512, 8), memcpy(m.result + 2, m.memory + 11 * 512, 8)));
  LDS_CASE("ds_read_u8_d16 %0, %1", uint32_t, uint32_t, kWords, 5,
           m.give<uint32_t>((m.result[0] & 0xffff0000) | m.load<uint8_t>()));
  LDS_CASE("ds_read_u8_d16_hi %0, %1", uint32_t, uint32_t, kWords, 5,
           m.give<uint32_t>((m.result[0] & 0xffff) | m.load<uint8_t>() << 16));
  LDS_CASE("ds_read_i8_d16 %0, %1", uint32_t, uint32_t, kWords, 5,
           m.give<uint32_t>((m.result[0] & 0xffff0000) | (uint16_t)m.load<int8_t>()));
  LDS_CASE("ds_read_i8_d16_hi %0, %1", uint32_t, uint32_t, kWords, 5,
           m.give<uint32_t>((m.result[0] & 0xffff) | (uint32_t)m.load<int8_t>() << 16));
  LDS_CASE("ds_read_u16_d16 %0, %1", uint32_t, uint32_t, kWords, 2,
           m.give<uint32_t>((m.result[0] & 0xffff0000) | m.load<uint16_t>()));
  LDS_CASE("ds_read_u16_d16_hi %0, %1", uint32_t, uint32_t, kWords, 2,
           m.give<uint32_t>((m.result[0] & 0xffff) | m.load<uint16_t>() << 16));
}

TEST(Lds, Store) {
  LDS_CASE("ds_write_b8 %1, %2 offset:3", uint32_t, uint32_t, kWords, 4, m.store<uint8_t>(m.data[0], 3));
  LDS_CASE("ds_write_b16 %1, %2 offset:2", uint32_t, uint32_t, kWords, 4, m.store<uint16_t>(m.data[0], 2));
  LDS_CASE("ds_write_b8_d16_hi %1, %2", uint32_t, uint32_t, kWords, 3, m.store<uint8_t>(m.data[0] >> 16));
  LDS_CASE("ds_write_b16_d16_hi %1, %2", uint32_t, uint32_t, kWords, 2, m.store<uint16_t>(m.data[0] >> 16));
  LDS_CASE("ds_write_b32 %1, %2 offset:256", uint32_t, uint32_t, kWords, 4, m.store(m.data[0], 256));
  LDS_CASE("ds_write_b64 %1, %2", uint32_t, uint64_t, kWords, 8, m.store(m.data64()));
  LDS_CASE("ds_write_b96 %1, %2", uint32_t, Vec3, kWords, 16, memcpy(m.memory, m.data, 12));
  LDS_CASE("ds_write_b128 %1, %2 offset:16", uint32_t, Vec4, kWords, 16, memcpy(m.memory + 16, m.data, 16));
  LDS_CASE("ds_write2_b32 %1, %2, %3 offset0:1 offset1:3", uint32_t, uint32_t, kWords, 16,
           (m.store(m.data[0], 4), m.store(m.data2[0], 12)));
  LDS_CASE("ds_write2_b64 %1, %2, %3 offset0:0 offset1:65", uint32_t, uint64_t, kWords, 8,
           (memcpy(m.memory, m.data, 8), memcpy(m.memory + 520, m.data2, 8)));
  LDS_CASE("ds_write2st64_b32 %1, %2, %3 offset0:4 offset1:1", uint32_t, uint32_t, kWords, 4,
           (m.store(m.data[0], 1024), m.store(m.data2[0], 256)));
  LDS_CASE("ds_write2st64_b64 %1, %2, %3 offset0:3 offset1:2", uint32_t, uint64_t, kWords, 8,
           (memcpy(m.memory + 1536, m.data, 8), memcpy(m.memory + 1024, m.data2, 8)));
}

// Each operation on 32 and 64 bits, with the old value returned and without.
#define LDS_ATOMIC(NAME, T, SUFFIX, EXPRESSION)                                                        \
  LDS_CASE("ds_" NAME "_rtn_" SUFFIX " %0, %1, %2 offset:8", T, T, kWords, 8,                          \
           (m.memory += 8, m.modify<T>(true, [&](T memory) {                                           \
             const T data = (T)m.data64();                                                             \
             return EXPRESSION;                                                                        \
           })));                                                                                       \
  LDS_CASE("ds_" NAME "_" SUFFIX " %1, %2", uint32_t, T, kWords, 8, m.modify<T>(false, [&](T memory) { \
    const T data = (T)m.data64();                                                                      \
    return EXPRESSION;                                                                                 \
  }))
#define LDS_ATOMICS(NAME, KIND, T32, T64, EXPRESSION) \
  LDS_ATOMIC(NAME, T32, KIND "32", EXPRESSION);       \
  LDS_ATOMIC(NAME, T64, KIND "64", EXPRESSION)

TEST(Lds, AtomicInteger) {
  LDS_ATOMICS("add", "u", uint32_t, uint64_t, memory + data);
  LDS_ATOMICS("sub", "u", uint32_t, uint64_t, memory - data);
  LDS_ATOMICS("rsub", "u", uint32_t, uint64_t, data - memory);
  LDS_ATOMICS("inc", "u", uint32_t, uint64_t, memory >= data ? 0 : memory + 1);
  LDS_ATOMICS("dec", "u", uint32_t, uint64_t, memory == 0 || memory > data ? data : memory - 1);
  LDS_ATOMICS("min", "i", int32_t, int64_t, std::min(memory, data));
  LDS_ATOMICS("max", "i", int32_t, int64_t, std::max(memory, data));
  LDS_ATOMICS("min", "u", uint32_t, uint64_t, std::min(memory, data));
  LDS_ATOMICS("max", "u", uint32_t, uint64_t, std::max(memory, data));
  LDS_ATOMICS("and", "b", uint32_t, uint64_t, memory & data);
  LDS_ATOMICS("or", "b", uint32_t, uint64_t, memory | data);
  LDS_ATOMICS("xor", "b", uint32_t, uint64_t, memory ^ data);
}

TEST(Lds, AtomicExchange) {
  LDS_CASE("ds_wrxchg_rtn_b32 %0, %1, %2 offset:4", uint32_t, uint32_t, kWords, 4,
           (m.memory += 4, m.modify<uint32_t>(true, [&](uint32_t) { return m.data[0]; })));
  LDS_CASE("ds_wrxchg_rtn_b64 %0, %1, %2", uint64_t, uint64_t, kWords, 8,
           m.modify<uint64_t>(true, [&](uint64_t) { return m.data64(); }));
  LDS_CASE("ds_mskor_rtn_b32 %0, %1, %2, %3", uint32_t, uint32_t, kWords, 4,
           m.modify<uint32_t>(true, [&](uint32_t memory) { return (memory & ~m.data[0]) | m.data2[0]; }));
  // The order of comparison and new value changed with gfx11.
  LDS_CASE(GFX9_11("ds_cmpst_rtn_b32", "ds_cmpstore_rtn_b32") " %0, %1, %2, %3", uint32_t, uint32_t, kWords, 8,
           m.modify<uint32_t>(true, [&](uint32_t memory) {
             const uint32_t compare = GFX11 ? m.data2[0] : m.data[0], value = GFX11 ? m.data[0] : m.data2[0];
             return memory == compare ? value : memory;
           }));
  LDS_CASE(GFX9_11("ds_cmpst_rtn_b64", "ds_cmpstore_rtn_b64") " %0, %1, %2, %3", uint64_t, uint64_t, kWords, 8,
           m.modify<uint64_t>(true, [&](uint64_t memory) {
             const uint64_t data2 = m.data2[0] | (uint64_t)m.data2[1] << 32;
             const uint64_t compare = GFX11 ? data2 : m.data64(), value = GFX11 ? m.data64() : data2;
             return memory == compare ? value : memory;
           }));
  LDS_CASE(GFX9_11("ds_cmpst_b32", "ds_cmpstore_b32") " %1, %2, %3", uint32_t, uint32_t, kWords, 8,
           m.modify<uint32_t>(false, [&](uint32_t memory) {
             const uint32_t compare = GFX11 ? m.data2[0] : m.data[0], value = GFX11 ? m.data[0] : m.data2[0];
             return memory == compare ? value : memory;
           }));
}

[[maybe_unused]] static F16x2 sum_of_halves(F16x2 a, F16x2 b) {
  return {(double)a.lo + (double)b.lo, (double)a.hi + (double)b.hi};
}
// bf16 numbers in 16 bits each; the sums are exact.
[[maybe_unused]] static uint32_t sum_of_bfloats(uint32_t a, uint32_t b) {
  return bits_of(f32_of(a << 16) + f32_of(b << 16)) >> 16 |
         (bits_of(f32_of(a & ~0xffffu) + f32_of(b & ~0xffffu)) & ~0xffffu);
}

TEST(Lds, AtomicFloat) {
  LDS_CASE("ds_add_rtn_f32 %0, %1, %2", uint32_t, uint32_t, kFloats, 4,
           m.modify<float>(true, [&](float memory) { return memory + f32_of(m.data[0]); }));
  LDS_CASE("ds_add_f32 %1, %2 offset:12", uint32_t, uint32_t, kFloats, 4,
           (m.memory += 12, m.modify<float>(false, [&](float memory) { return memory + f32_of(m.data[0]); })));
  LDS_CASE("ds_min_rtn_f32 %0, %1, %2", uint32_t, uint32_t, kFloats, 4,
           m.modify<float>(true, [&](float memory) { return std::min(memory, f32_of(m.data[0])); }));
  LDS_CASE("ds_max_f32 %1, %2", uint32_t, uint32_t, kFloats, 4,
           m.modify<float>(false, [&](float memory) { return std::max(memory, f32_of(m.data[0])); }));
  LDS_CASE("ds_min_rtn_f64 %0, %1, %2", uint64_t, uint64_t, kDoubles, 8,
           m.modify<double>(true, [&](double memory) { return std::min(memory, f64_of(m.data64())); }));
#if !GFX11
  LDS_CASE("ds_add_rtn_f64 %0, %1, %2", uint64_t, uint64_t, kDoubles, 8,
           m.modify<double>(true, [&](double memory) { return memory + f64_of(m.data64()); }));
  LDS_CASE("ds_add_f64 %1, %2", uint32_t, uint64_t, kDoubles, 8,
           m.modify<double>(false, [&](double memory) { return memory + f64_of(m.data64()); }));
#endif
#if GFX942
  LDS_CASE("ds_pk_add_rtn_f16 %0, %1, %2", uint32_t, uint32_t, kHalves, 4,
           m.modify<F16x2>(true, [&](F16x2 memory) { return sum_of_halves(memory, bit_cast<F16x2>(m.data[0])); }));
  LDS_CASE("ds_pk_add_bf16 %1, %2", uint32_t, uint32_t, kBfloats, 4,
           m.modify<uint32_t>(false, [&](uint32_t memory) { return sum_of_bfloats(memory, m.data[0]); }));
#endif
}

// All lanes at one address: no update may be lost.
TEST(Lds, AtomicSameAddress) {
  LDS_CASE("ds_add_u32 %1, %2", uint32_t, uint32_t, kWords, 0,
           m.modify<uint32_t>(false, [&](uint32_t x) { return x + m.data[0]; }));
  LDS_CASE("ds_max_u64 %1, %2", uint32_t, uint64_t, kWords, 0,
           m.modify<uint64_t>(false, [&](uint64_t x) { return std::max(x, m.data64()); }));
  LDS_CASE("ds_add_f32 %1, %2", uint32_t, uint32_t, kFloats, 0,
           m.modify<float>(false, [&](float x) { return x + f32_of(m.data[0]); }));
}

template <typename R, typename A, typename Body>
__global__ void access_global(const Vec4 *data, uint32_t *memory, Vec4 *results, int stride, int base, Body body) {
  const int lane = blockIdx.x * kMemoryLanes + threadIdx.x;
  const uint64_t start = (uint64_t)memory + blockIdx.x * kMemoryBytes + base;
  const uint32_t offset = threadIdx.x * stride;
  R r = bit_cast<R>(results[lane]);
  body(r, start + offset, bit_cast<A>(data[2 * lane]), start, offset);
  results[lane] = bit_cast<Vec4>(r);
}

// %0: result, %1: address, %2: data of type A, %3: scalar base and %4: 32-bit offset that make the same address.
#define GLOBAL_CASE(TEXT, R, A, VALUES, STRIDE, EXPECTED)                                               \
  check_memory({TEXT, STRIDE, 2048, words_of<R>(), VALUES,                                              \
                [](const Vec4 *data, uint32_t *memory, Vec4 *results, int stride) {                     \
                  access_global<R, A><<<kMemoryBlocks, kMemoryLanes>>>(                                 \
                      data, memory, results, stride, 2048,                                              \
                      [] __device__(R & r, uint64_t address, A data, uint64_t start, uint32_t offset) { \
                        asm volatile(TEXT "\n s_waitcnt vmcnt(0) lgkmcnt(0)"                            \
                                     : "+v"(r)                                                          \
                                     : "v"(address), "v"(data), "s"(start), "v"(offset)                 \
                                     : MEMORY_CLOBBERS);                                                \
                      });                                                                               \
                },                                                                                      \
                [](Access &m) { EXPECTED; }})

TEST(Global, Load) {
  GLOBAL_CASE("global_load_ubyte %0, %1, off", uint32_t, uint32_t, kWords, 3, m.give<uint32_t>(m.load<uint8_t>()));
  GLOBAL_CASE("global_load_sbyte %0, %4, %3 offset:-1", uint32_t, uint32_t, kWords, 3,
              m.give<int32_t>(m.load<int8_t>(-1)));
  GLOBAL_CASE("global_load_ushort %0, %1, off offset:2", uint32_t, uint32_t, kWords, 2,
              m.give<uint32_t>(m.load<uint16_t>(2)));
  GLOBAL_CASE("global_load_sshort %0, %4, %3 offset:6", uint32_t, uint32_t, kWords, 2,
              m.give<int32_t>(m.load<int16_t>(6)));
  GLOBAL_CASE("global_load_dword %0, %1, off offset:-2048", uint32_t, uint32_t, kWords, 4,
              m.give(m.load<uint32_t>(-2048)));
  GLOBAL_CASE("global_load_dword %0, %4, %3 offset:2044", uint32_t, uint32_t, kWords, 4,
              m.give(m.load<uint32_t>(2044)));
  GLOBAL_CASE("global_load_dwordx2 %0, %4, %3 offset:-16", uint64_t, uint32_t, kWords, 8,
              m.give(m.load<uint64_t>(-16)));
  GLOBAL_CASE("global_load_dwordx3 %0, %1, off offset:4", Vec3, uint32_t, kWords, 12,
              memcpy(m.result, m.memory + 4, 12));
  GLOBAL_CASE("global_load_dwordx4 %0, %4, %3 offset:-4", Vec4, uint32_t, kWords, 20,
              memcpy(m.result, m.memory - 4, 16));
  GLOBAL_CASE("global_load_ubyte_d16 %0, %1, off", uint32_t, uint32_t, kWords, 3,
              m.give<uint32_t>((m.result[0] & 0xffff0000) | m.load<uint8_t>()));
  GLOBAL_CASE("global_load_ubyte_d16_hi %0, %1, off", uint32_t, uint32_t, kWords, 3,
              m.give<uint32_t>((m.result[0] & 0xffff) | m.load<uint8_t>() << 16));
  GLOBAL_CASE("global_load_sbyte_d16 %0, %1, off", uint32_t, uint32_t, kWords, 3,
              m.give<uint32_t>((m.result[0] & 0xffff0000) | (uint16_t)m.load<int8_t>()));
  GLOBAL_CASE("global_load_sbyte_d16_hi %0, %4, %3", uint32_t, uint32_t, kWords, 3,
              m.give<uint32_t>((m.result[0] & 0xffff) | (uint32_t)m.load<int8_t>() << 16));
  GLOBAL_CASE("global_load_short_d16 %0, %1, off", uint32_t, uint32_t, kWords, 2,
              m.give<uint32_t>((m.result[0] & 0xffff0000) | m.load<uint16_t>()));
  GLOBAL_CASE("global_load_short_d16_hi %0, %4, %3 offset:-2", uint32_t, uint32_t, kWords, 2,
              m.give<uint32_t>((m.result[0] & 0xffff) | m.load<uint16_t>(-2) << 16));
}

// The 32-bit offset from the scalar base is unsigned.
TEST(Global, UnsignedOffset) {
  GLOBAL_CASE(
      "s_mov_b64 s[20:21], %3\n s_sub_u32 s20, s20, 0x80000000\n s_subb_u32 s21, s21, 0\n"
      "v_or_b32 v20, 0x80000000, %4\n global_load_dword %0, v20, s[20:21] offset:-4",
      uint32_t, uint32_t, kWords, 4, m.give(m.load<uint32_t>(-4)));
}

TEST(Global, Store) {
  GLOBAL_CASE("global_store_byte %1, %2, off offset:-5", uint32_t, uint32_t, kWords, 3,
              m.store<uint8_t>(m.data[0], -5));
  GLOBAL_CASE("global_store_byte_d16_hi %4, %2, %3", uint32_t, uint32_t, kWords, 3, m.store<uint8_t>(m.data[0] >> 16));
  GLOBAL_CASE("global_store_short %4, %2, %3 offset:10", uint32_t, uint32_t, kWords, 2,
              m.store<uint16_t>(m.data[0], 10));
  GLOBAL_CASE("global_store_short_d16_hi %1, %2, off", uint32_t, uint32_t, kWords, 2,
              m.store<uint16_t>(m.data[0] >> 16));
  GLOBAL_CASE("global_store_dword %4, %2, %3 offset:-2048", uint32_t, uint32_t, kWords, 4, m.store(m.data[0], -2048));
  GLOBAL_CASE("global_store_dwordx2 %1, %2, off", uint32_t, uint64_t, kWords, 8, m.store(m.data64()));
  GLOBAL_CASE("global_store_dwordx3 %4, %2, %3 offset:8", uint32_t, Vec3, kWords, 12, memcpy(m.memory + 8, m.data, 12));
  GLOBAL_CASE("global_store_dwordx4 %1, %2, off offset:2032", uint32_t, Vec4, kWords, 16,
              memcpy(m.memory + 2032, m.data, 16));
}

TEST(Flat, LoadAndStore) {
  GLOBAL_CASE("flat_load_ubyte %0, %1", uint32_t, uint32_t, kWords, 3, m.give<uint32_t>(m.load<uint8_t>()));
  GLOBAL_CASE("flat_load_sshort %0, %1", uint32_t, uint32_t, kWords, 2, m.give<int32_t>(m.load<int16_t>()));
  GLOBAL_CASE("flat_load_dword %0, %1 offset:2000", uint32_t, uint32_t, kWords, 4, m.give(m.load<uint32_t>(2000)));
  GLOBAL_CASE("flat_load_dwordx2 %0, %1", uint64_t, uint32_t, kWords, 8, m.give(m.load<uint64_t>()));
  GLOBAL_CASE("flat_load_dwordx3 %0, %1", Vec3, uint32_t, kWords, 12, memcpy(m.result, m.memory, 12));
  GLOBAL_CASE("flat_load_dwordx4 %0, %1 offset:16", Vec4, uint32_t, kWords, 16, memcpy(m.result, m.memory + 16, 16));
  GLOBAL_CASE("flat_load_short_d16_hi %0, %1", uint32_t, uint32_t, kWords, 2,
              m.give<uint32_t>((m.result[0] & 0xffff) | m.load<uint16_t>() << 16));
  GLOBAL_CASE("flat_store_byte %1, %2", uint32_t, uint32_t, kWords, 3, m.store<uint8_t>(m.data[0]));
  GLOBAL_CASE("flat_store_dword %1, %2 offset:4", uint32_t, uint32_t, kWords, 4, m.store(m.data[0], 4));
  GLOBAL_CASE("flat_store_dwordx4 %1, %2", uint32_t, Vec4, kWords, 16, memcpy(m.memory, m.data, 16));
}

// One instruction whose lanes address LDS, global memory and scratch.
__global__ void mixed_apertures(uint32_t *global, uint32_t *results) {
  __shared__ uint32_t lds[64];
  uint32_t scratch[4];
  for (uint32_t i = 0; i < 4; i++) scratch[i] = 1000 * i + threadIdx.x;
  lds[threadIdx.x] = 100 + threadIdx.x;
  __syncthreads();
  uint32_t *places[] = {&lds[threadIdx.x], &global[threadIdx.x], &scratch[threadIdx.x & 3]};
  uint32_t *place = places[threadIdx.x % 3], value;
  asm volatile("flat_load_dword %0, %1\n s_waitcnt vmcnt(0) lgkmcnt(0)" : "=v"(value) : "v"(place) : "memory");
  asm volatile("flat_store_dword %0, %1\n s_waitcnt vmcnt(0) lgkmcnt(0)" : : "v"(place), "v"(value + 7) : "memory");
  __syncthreads();
  results[threadIdx.x] = lds[threadIdx.x] + scratch[threadIdx.x & 3] * 10000;
}
TEST(Flat, MixedApertures) {
  std::vector<uint32_t> global(64);
  for (int i = 0; i < 64; i++) global[i] = 500 + i;
  const Device<uint32_t> device_global(global), device_results((size_t)64);
  mixed_apertures<<<1, 64>>>(device_global.data(), device_results.data());
  const auto results = device_results.fetch(), global_after = device_global.fetch();
  for (uint32_t i = 0; i < 64; i++) {
    EXPECT_EQ(global_after[i], 500 + i + (i % 3 == 1 ? 7 : 0)) << i;
    EXPECT_EQ(results[i], 100 + i + (i % 3 == 0 ? 7 : 0) + ((i & 3) * 1000 + i + (i % 3 == 2 ? 7 : 0)) * 10000) << i;
  }
}

// Old values are returned with this modifier.
#if GFX942
#define RETURNED " sc0"
#else
#define RETURNED " glc"
#endif

#define GLOBAL_ATOMIC(NAME, T, VALUES, STRIDE, EXPRESSION)                             \
  GLOBAL_CASE("global_atomic_" NAME " %0, %1, %2, off" RETURNED, T, T, VALUES, STRIDE, \
              m.modify<T>(true, [&](T memory) {                                        \
                const T data = bit_cast<T>(m.data64());                                \
                return EXPRESSION;                                                     \
              }));                                                                     \
  GLOBAL_CASE("global_atomic_" NAME " %4, %2, %3 offset:-16", T, T, VALUES, STRIDE,    \
              (m.memory -= 16, m.modify<T>(false, [&](T memory) {                      \
                const T data = bit_cast<T>(m.data64());                                \
                return EXPRESSION;                                                     \
              })))
#define GLOBAL_ATOMICS(NAME, T32, T64, EXPRESSION) \
  GLOBAL_ATOMIC(NAME, T32, kWords, 4, EXPRESSION); \
  GLOBAL_ATOMIC(NAME "_x2", T64, kWords, 8, EXPRESSION)

TEST(Global, AtomicInteger) {
  GLOBAL_ATOMICS("swap", uint32_t, uint64_t, (memory * 0 + data));
  GLOBAL_ATOMICS("add", uint32_t, uint64_t, memory + data);
  GLOBAL_ATOMICS("sub", uint32_t, uint64_t, memory - data);
  GLOBAL_ATOMICS("smin", int32_t, int64_t, std::min(memory, data));
  GLOBAL_ATOMICS("smax", int32_t, int64_t, std::max(memory, data));
  GLOBAL_ATOMICS("umin", uint32_t, uint64_t, std::min(memory, data));
  GLOBAL_ATOMICS("umax", uint32_t, uint64_t, std::max(memory, data));
  GLOBAL_ATOMICS("and", uint32_t, uint64_t, memory & data);
  GLOBAL_ATOMICS("or", uint32_t, uint64_t, memory | data);
  GLOBAL_ATOMICS("xor", uint32_t, uint64_t, memory ^ data);
  GLOBAL_ATOMICS("inc", uint32_t, uint64_t, memory >= data ? 0 : memory + 1);
  GLOBAL_ATOMICS("dec", uint32_t, uint64_t, memory == 0 || memory > data ? data : memory - 1);
  // The new value comes first, then the one to compare with.
  GLOBAL_CASE("global_atomic_cmpswap %0, %1, %2, off" RETURNED, uint32_t, uint64_t, kWords, 4,
              m.modify<uint32_t>(true, [&](uint32_t memory) { return memory == m.data[1] ? m.data[0] : memory; }));
  GLOBAL_CASE("global_atomic_cmpswap_x2 %0, %4, %2, %3" RETURNED, uint64_t, Vec4, kWords, 8,
              m.modify<uint64_t>(true, [&](uint64_t memory) {
                return memory == (m.data[2] | (uint64_t)m.data[3] << 32) ? m.data64() : memory;
              }));
  GLOBAL_CASE("flat_atomic_add %0, %1, %2" RETURNED, uint32_t, uint32_t, kWords, 4,
              m.modify<uint32_t>(true, [&](uint32_t memory) { return memory + m.data[0]; }));
  GLOBAL_CASE("flat_atomic_cmpswap_x2 %0, %1, %2" RETURNED, uint64_t, Vec4, kWords, 8,
              m.modify<uint64_t>(true, [&](uint64_t memory) {
                return memory == (m.data[2] | (uint64_t)m.data[3] << 32) ? m.data64() : memory;
              }));
}

TEST(Global, AtomicFloat) {
  GLOBAL_ATOMIC("add_f32", float, kFloats, 4, memory + data);
#if GFX11
  GLOBAL_ATOMIC("min_f32", float, kFloats, 4, std::min(memory, data));
  GLOBAL_ATOMIC("max_f32", float, kFloats, 4, std::max(memory, data));
#else
  GLOBAL_ATOMIC("pk_add_f16", F16x2, kHalves, 4, sum_of_halves(memory, data));
  GLOBAL_ATOMIC("add_f64", double, kDoubles, 8, memory + data);
  GLOBAL_ATOMIC("min_f64", double, kDoubles, 8, std::min(memory, data));
  GLOBAL_ATOMIC("max_f64", double, kDoubles, 8, std::max(memory, data));
#endif
#if GFX942
  GLOBAL_ATOMIC("pk_add_bf16", uint32_t, kBfloats, 4, sum_of_bfloats(memory, data));
#endif
}

TEST(Global, AtomicSameAddress) {
  GLOBAL_CASE("global_atomic_add %1, %2, off", uint32_t, uint32_t, kWords, 0,
              m.modify<uint32_t>(false, [&](uint32_t x) { return x + m.data[0]; }));
  GLOBAL_CASE("global_atomic_smin_x2 %4, %2, %3", uint32_t, uint64_t, kWords, 0,
              m.modify<int64_t>(false, [&](int64_t x) { return std::min(x, (int64_t)m.data64()); }));
  GLOBAL_CASE("global_atomic_add_f32 %1, %2, off", uint32_t, uint32_t, kFloats, 0,
              m.modify<float>(false, [&](float x) { return x + f32_of(m.data[0]); }));
}

#if !GFX11
TEST(Registers, AccumulationMemory) {
#define READ_A1 "\n s_waitcnt vmcnt(0) lgkmcnt(0)\n v_accvgpr_read_b32 %0, a1"
#define WRITE_A0 "v_accvgpr_write_b32 a0, %2\n s_nop 4\n "
  GLOBAL_CASE("global_load_dwordx2 a[0:1], %1, off" READ_A1, uint32_t, uint32_t, kWords, 4,
              m.give(m.load<uint32_t>(4)));
  GLOBAL_CASE("global_load_dwordx4 a[0:3], %4, %3 offset:16" READ_A1, uint32_t, uint32_t, kWords, 4,
              m.give(m.load<uint32_t>(20)));
  GLOBAL_CASE("flat_load_dword a1, %1" READ_A1, uint32_t, uint32_t, kWords, 4, m.give(m.load<uint32_t>()));
  GLOBAL_CASE(WRITE_A0 "global_store_dword %1, a0, off", uint32_t, uint32_t, kWords, 4, m.store(m.data[0]));
  LDS_CASE("ds_read_b64 a[0:1], %1" READ_A1, uint32_t, uint32_t, kWords, 4, m.give(m.load<uint32_t>(4)));
  LDS_CASE(WRITE_A0 "ds_write_b32 %1, a0 offset:8", uint32_t, uint32_t, kWords, 4, m.store(m.data[0], 8));
}
#endif

// Destinations that overlap sources: all is read before anything is written, in every lane.
TEST(Registers, Overlap) {
  CASE("v_mov_b32 v21, %1\n v_cvt_f64_f32 v[20:21], v21\n v_lshlrev_b64 %0, 0, v[20:21]", double, float, Unused, Unused,
       a);
  CASE("v_mov_b32 v20, %1\n v_cvt_f64_u32 v[20:21], v20\n v_lshlrev_b64 %0, 0, v[20:21]", double, uint32_t, Unused,
       Unused, a);
  CASE("v_mov_b32 v20, %1\n v_mov_b32 v21, %2\n v_mad_u64_u32 v[20:21], " S20_MASK
       ", v20, v21, v[20:21]\n"
       "v_lshrrev_b64 v[20:21], v20, v[20:21]\n v_lshlrev_b64 %0, 0, v[20:21]",
       uint64_t, uint32_t, uint32_t, Unused, ({
         const uint64_t sum = (uint64_t)a * b + (a | (uint64_t)b << 32);
         sum >> (sum & 63);
       }));
  CASE("v_mov_b32 v20, %1\n v_pk_add_u16 v20, v20, v20 op_sel:[1,1] op_sel_hi:[0,0]\n v_mov_b32 %0, v20", U16x2, U16x2,
       Unused, Unused, (U16x2{(uint16_t)(a.hi * 2), (uint16_t)(a.lo * 2)}));
#if !GFX11
  CASE(
      "v_lshlrev_b64 v[20:21], 0, %1\n v_pk_mov_b32 v[20:21], v[20:21], v[20:21] op_sel:[1,0]\n"
      "v_lshlrev_b64 %0, 0, v[20:21]",
      U32x2, U32x2, Unused, Unused, (U32x2{a.hi, a.lo}));
  CASE(
      "v_lshlrev_b64 v[20:21], 0, %1\n v_pk_mul_f32 v[20:21], v[20:21], v[20:21] op_sel:[1,0] op_sel_hi:[0,1]\n"
      "v_lshlrev_b64 %0, 0, v[20:21]",
      F32x2, F32x2, Unused, Unused, (F32x2{a.hi * a.lo, a.lo * a.hi}));
  CASE(
      "v_mov_b32 v20, %1\n v_mov_b32_sdwa v20, v20 dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:BYTE_3\n"
      "v_mov_b32 %0, v20",
      uint32_t, uint32_t, Unused, Unused, (a & 0xffff) | byte_of(a, 3) << 16);
#endif
  ACTIVE_CASE("v_mov_b32_dpp %0, %0 row_shr:1 row_mask:0xf bank_mask:0xf",
              lane % 16 && wave.active(lane - 1) ? wave.d[lane - 1] : wave.d[lane]);
  ACTIVE_CASE("v_mov_b32_dpp %0, %0 row_ror:15 row_mask:0xf bank_mask:0xf bound_ctrl:1", ({
                const int source = (lane & ~15) | ((lane + 1) & 15);
                wave.active(source) ? wave.d[source] : 0;
              }));
  ACTIVE_CASE(V_ADD_U32 "_dpp %0, %0, %0 quad_perm:[3,2,1,0] row_mask:0xf bank_mask:0xf",
              wave.active(lane ^ 3) ? wave.d[lane ^ 3] + wave.d[lane] : wave.d[lane]);
  ACTIVE_CASE("ds_bpermute_b32 %0, %0, %0", ({
                const int source = wave.d[lane] / 4 % kWave;
                wave.active(source) ? wave.d[source] : 0;
              }));
  GLOBAL_CASE(
      "v_lshlrev_b64 v[20:21], 0, %1\n global_load_dwordx4 v[20:23], v[20:21], off offset:4\n s_waitcnt vmcnt(0)\n"
      "v_add3_u32 %0, v20, v21, v23",
      uint32_t, uint32_t, kWords, 4, m.give(m.load<uint32_t>(4) + m.load<uint32_t>(8) + m.load<uint32_t>(16)));
  GLOBAL_CASE("v_mov_b32 v20, %2\n global_atomic_add v20, %1, v20, off" RETURNED
              "\n s_waitcnt vmcnt(0)\n v_mov_b32 %0, v20",
              uint32_t, uint32_t, kWords, 4, m.modify<uint32_t>(true, [&](uint32_t x) { return x + m.data[0]; }));
  LDS_CASE("v_mov_b32 v20, %1\n ds_read_b128 v[20:23], v20\n s_waitcnt lgkmcnt(0)\n v_xor_b32 %0, v20, v23", uint32_t,
           uint32_t, kWords, 16, m.give(m.load<uint32_t>() ^ m.load<uint32_t>(12)));
  LDS_CASE(
      "v_mov_b32 v20, %1\n ds_read2_b32 v[20:21], v20 offset0:1 offset1:3\n s_waitcnt lgkmcnt(0)\n"
      "v_xor_b32 %0, v20, v21",
      uint32_t, uint32_t, kWords, 16, m.give(m.load<uint32_t>(4) ^ m.load<uint32_t>(12)));
  SCALAR(
      "s_mov_b32 s20, %2\n s_mov_b32 s21, %3\n s_lshl_b64 s[20:21], s[20:21], s20\n s_xor_b64 s[22:23], s[20:21], -1\n"
      "s_not_b64 %0, s[22:23]",
      uint64_t, uint32_t, uint32_t, (a | (uint64_t)b << 32) << (a & 63), r != 0);
}

// Lanes that EXEC switches off access no memory and keep their registers. Here the odd lanes are on.
TEST(Memory, ExecMask) {
#define ODD(TEXT)                                                                                                   \
  S_MOV_MASK S20_MASK ", " EXEC "\n s_mov_b32 exec_lo, 0xaaaaaaaa\n" GFX9_11("s_mov_b32 exec_hi, 0xaaaaaaaa\n", "") \
      TEXT "\n s_waitcnt vmcnt(0) lgkmcnt(0)\n" S_MOV_MASK EXEC ", " S20_MASK
  GLOBAL_CASE(ODD("global_load_dword %0, %1, off"), uint32_t, uint32_t, kWords, 4,
              if (m.offset & 4) m.give(m.load<uint32_t>()));
  GLOBAL_CASE(ODD("global_store_dwordx2 %4, %2, %3"), uint32_t, uint64_t, kWords, 8,
              if (m.offset & 8) m.store(m.data64()));
  GLOBAL_CASE(ODD("global_atomic_add %0, %1, %2, off" RETURNED), uint32_t, uint32_t, kWords, 4,
              if (m.offset & 4) m.modify<uint32_t>(true, [&](uint32_t x) { return x + m.data[0]; }));
  GLOBAL_CASE(ODD("flat_load_dwordx2 %0, %1"), uint64_t, uint32_t, kWords, 8,
              if (m.offset & 8) m.give(m.load<uint64_t>()));
  LDS_CASE(ODD("ds_read_b32 %0, %1"), uint32_t, uint32_t, kWords, 4, if (m.offset & 4) m.give(m.load<uint32_t>()));
  LDS_CASE(ODD("ds_write_b64 %1, %2"), uint32_t, uint64_t, kWords, 8, if (m.offset & 8) m.store(m.data64()));
  LDS_CASE(ODD("ds_max_rtn_u32 %0, %1, %2"), uint32_t, uint32_t, kWords, 4,
           if (m.offset & 4) m.modify<uint32_t>(true, [&](uint32_t x) { return std::max(x, m.data[0]); }));
}

// A buffer of 200 bytes from the base on: beyond it loads give 0 and stores do nothing.
#define BUFFER \
  "s_mov_b64 s[20:21], %3\n s_movk_i32 s22, 200\n s_mov_b32 s23, " GFX9_11("0x00027000", "0x30016000") "\n "
TEST(Global, Buffer) {
  GLOBAL_CASE(BUFFER "buffer_load_dword %0, %4, s[20:23], 0 offen offset:12", uint32_t, uint32_t, kWords, 4,
              m.give<uint32_t>(m.offset + 12 < 200 ? m.load<uint32_t>(12) : 0));
  GLOBAL_CASE(BUFFER "buffer_load_dword %0, off, s[20:23], 16", uint32_t, uint32_t, kWords, 0,
              m.give(m.load<uint32_t>(16)));
  GLOBAL_CASE(BUFFER "buffer_load_ubyte %0, %4, s[20:23], 0 offen", uint32_t, uint32_t, kWords, 4,
              m.give<uint32_t>(m.offset < 200 ? m.load<uint8_t>() : 0));
  GLOBAL_CASE(BUFFER "s_movk_i32 s22, 1024\n buffer_load_dwordx4 %0, %4, s[20:23], 0 offen", Vec4, uint32_t, kWords, 16,
              memcpy(m.result, m.memory, 16));
  GLOBAL_CASE(BUFFER "buffer_store_dword %2, %4, s[20:23], 0 offen offset:4", uint32_t, uint32_t, kWords, 4,
              if (m.offset + 4 < 200) m.store(m.data[0], 4));
  GLOBAL_CASE(BUFFER "buffer_store_short %2, %4, s[20:23], 0 offen", uint32_t, uint32_t, kWords, 4,
              if (m.offset < 200) m.store<uint16_t>(m.data[0]));
}

// Arrays of a thread, indexed at run time, lie in scratch memory.
template <typename T>
__host__ __device__ uint64_t use_scratch(uint64_t a, uint32_t b, uint32_t c) {
  volatile T values[32];
  for (int i = 0; i < 32; i++) values[i] = (T)(a + a * i);
  values[b % 32] = values[c % 32] + 1;
  uint64_t sum = 0;
  for (int i = 0; i < 32; i++) sum = sum * 5 + (uint64_t)values[(i + c) % 32];
  return sum;
}
TEST(Scratch, Arrays) {
#define SCRATCH(T)                                                                               \
  CHECK_STATEMENT("scratch of " #T, false, FE_TONEAREST, uint64_t, uint64_t, uint32_t, uint32_t, \
                  (d = use_scratch<T>(a, b, c)), use_scratch<T>(a, b, c))
  SCRATCH(uint8_t);
  SCRATCH(int8_t);
  SCRATCH(uint16_t);
  SCRATCH(int16_t);
  SCRATCH(uint32_t);
  SCRATCH(uint64_t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Scalar and buffer loads

constexpr int kScalarWaves = 64, kScalarWords = 256;

template <typename R, typename Body>
__global__ void load_scalar(const uint32_t *memory, Vec16 *results, Body body) {
  const uint64_t base = (uint64_t)(memory + blockIdx.x * kScalarWords);
  // A buffer of 200 words.
  const Vec4 buffer = {(uint32_t)base, (uint32_t)(base >> 32) & 0xffff, 800, GFX11 ? 0x30016000 : 0x00027000};
  R r{};
  body(r, base, buffer, 4 * blockIdx.x);
  if (threadIdx.x == 0) results[blockIdx.x] = bit_cast<Vec16>(r);
}

static void check_scalar_load(const char *text, int words, int (*first_byte)(int wave),
                              void (*launch)(const uint32_t *, Vec16 *)) {
  std::vector<uint32_t> memory(kScalarWaves * kScalarWords);
  Random random(3);
  for (uint32_t &word : memory) word = random();
  const Device<uint32_t> device_memory(memory);
  const Device<Vec16> device_results((size_t)kScalarWaves);
  launch(device_memory.data(), device_results.data());
  const auto results = device_results.fetch();
  Mismatches mismatches(text);
  for (int wave = 0; wave < kScalarWaves; wave++)
    for (int i = 0; i < words; i++) {
      const int word = first_byte(wave) / 4 + i;
      const uint32_t expected = memory[wave * kScalarWords + word];
      if (results[wave][i] != expected)
        mismatches.add("wave " + std::to_string(wave) + " word " + std::to_string(i), hex(expected),
                       hex(results[wave][i]));
    }
}

// %0: result, %1: address, %2: buffer, %3: offset, 4 times the wave's number. FIRST is the first byte that is loaded.
#define SCALAR_LOAD(TEXT, R, FIRST)                                                                                    \
  check_scalar_load(                                                                                                   \
      TEXT, sizeof(R) / 4, [](int wave) -> int { return (void)wave, FIRST; },                                          \
      [](const uint32_t *memory, Vec16 *results) {                                                                     \
        load_scalar<R><<<kScalarWaves, kWave>>>(memory, results,                                                       \
                                                [] __device__(R & r, uint64_t address, Vec4 buffer, uint32_t offset) { \
                                                  asm volatile(TEXT "\n s_waitcnt lgkmcnt(0)"                          \
                                                               : "=&s"(r)                                              \
                                                               : "s"(address), "s"(buffer), "s"(offset)                \
                                                               : SCRATCH_REGISTERS, "memory");                         \
                                                });                                                                    \
      })

TEST(ScalarMemory, Load) {
  SCALAR_LOAD("s_load_dword %0, %1, 0x14", uint32_t, 0x14);
  SCALAR_LOAD("s_load_dword %0, %1, %3", uint32_t, 4 * wave);
  SCALAR_LOAD("s_load_dwordx2 %0, %1, 0x3f8", uint64_t, 0x3f8);
  SCALAR_LOAD("s_load_dwordx4 %0, %1, %3", Vec4, 4 * wave);
  SCALAR_LOAD("s_load_dwordx8 %0, %1, 0x10", Vec8, 0x10);
  SCALAR_LOAD("s_load_dwordx16 %0, %1, 0x0", Vec16, 0);
  SCALAR_LOAD("s_add_u32 s20, %3, 64\n s_load_dwordx2 %0, %1, s20", uint64_t, 4 * wave + 64);
  SCALAR_LOAD(
      "s_mov_b64 s[20:21], %1\n s_add_u32 s20, s20, 0x100\n s_addc_u32 s21, s21, 0\n s_load_dwordx2 %0, s[20:21], "
      "-0x40",
      uint64_t, 0xc0);
  SCALAR_LOAD("s_load_dword %0, %1, %3 offset:0x24", uint32_t, 4 * wave + 0x24);
  // The result may overlap the address.
  SCALAR_LOAD(
      "s_mov_b64 s[20:21], %1\n s_load_dwordx4 s[20:23], s[20:21], 0x20\n s_waitcnt lgkmcnt(0)\n s_mov_b64 %0, "
      "s[20:21]",
      uint64_t, 0x20);
}
TEST(ScalarMemory, BufferLoad) {
  SCALAR_LOAD("s_buffer_load_dword %0, %2, 0x14", uint32_t, 0x14);
  SCALAR_LOAD("s_buffer_load_dwordx2 %0, %2, 0x20", uint64_t, 0x20);
  SCALAR_LOAD("s_buffer_load_dwordx4 %0, %2, %3", Vec4, 4 * wave);
  SCALAR_LOAD("s_buffer_load_dwordx8 %0, %2, 0x100", Vec8, 0x100);
  SCALAR_LOAD("s_buffer_load_dwordx16 %0, %2, 0x40", Vec16, 0x40);
  SCALAR_LOAD("s_add_u32 s20, %3, 544\n s_buffer_load_dword %0, %2, s20", uint32_t, 4 * wave + 544);
}

// ---------------------------------------------------------------------------------------------------------------------
// Matrix instructions: D = A * B + C in whole numbers that every format holds exactly, with the register layouts of
// AMD's matrix instruction calculator

using Vec32 = uint32_t __attribute__((ext_vector_type(32)));
template <int registers>
struct MatrixRegisters;
template <>
struct MatrixRegisters<1> {
  using Type = uint32_t;
};
template <>
struct MatrixRegisters<2> {
  using Type = Vec2;
};
template <>
struct MatrixRegisters<4> {
  using Type = Vec4;
};
template <>
struct MatrixRegisters<8> {
  using Type = Vec8;
};
template <>
struct MatrixRegisters<16> {
  using Type = Vec16;
};
template <>
struct MatrixRegisters<32> {
  using Type = Vec32;
};

struct MatrixInstruction {
  const char *text;
  int m, n, k, blocks;
  const char *types[4];  // of A, B, C, D
  int registers[4];
  const char *layouts[4];
  void (*launch)(const uint32_t *, const uint32_t *, const uint32_t *, uint32_t *);
  // Modifiers: blocks and lanes that are broadcast, factors for the signs, signedness of unsigned formats
  int cbsz = 0, abid = 0, blgp = 0;
  int sign_a = 1, sign_b = 1, sign_c = 1;
  bool a_signed = false, b_signed = false;
};

static int bits_of_type(const std::string &type) {
  return type == "fp64"                      ? 64
         : type == "fp32" || type == "int32" ? 32
         : type == "fp16" || type == "bf16"  ? 16
         : type == "iu4"                     ? 4
                                             : 8;
}

// A whole number in a matrix format.
static uint64_t encode(const std::string &type, int x) {
  if (type == "fp64") return bit_cast<uint64_t>((double)x);
  if (type == "fp32") return bits_of(x);
  if (type == "bf16") return bits_of(x) >> 16;
  if (type == "fp16") return F16(x).bits;
  if (type == "int32") return (uint32_t)x;
  if (type == "fp8" || type == "bf8") {
    // gfx942's: 4 exponent bits with bias 8, or 5 with bias 16; no infinities, no negative zero
    const int fraction_bits = type == "fp8" ? 3 : 2, bias = type == "fp8" ? 8 : 16;
    if (x == 0) return 0;
    const int exponent = std::ilogb((double)std::abs(x));
    const int fraction = (int)std::ldexp((double)std::abs(x), fraction_bits - exponent) - (1 << fraction_bits);
    return (x < 0) << 7 | (exponent + bias) << fraction_bits | fraction;
  }
  return x & (type == "iu4" ? 15 : 255);
}

// Magnitude of random elements: sums of products are exact in D's format.
static int limit_of(const std::string &type, const std::string &result) {
  if (result == "bf16") return 3;
  if (result == "fp16") return 7;
  if (type == "fp8" || type == "bf8") return 8;
  if (type == "iu4") return 7;
  if (bits_of_type(type) == 8) return 127;
  return type == "bf16" || type == "fp16" ? 100 : 1000;
}

// The coordinates i, j, k and b that a layout gives to an item of a lane.
struct Coordinates {
  int i = 0, j = 0, k = 0, b = 0;
};
static Coordinates coordinates(const char *layout, int lane, int item) {
  Coordinates at;
  int *coordinate = nullptr, bit = 0;
  for (const char *p = strchr(layout, ' '); *p; p++) {
    if (p[1] == ':') {
      coordinate = *p == 'i' ? &at.i : *p == 'j' ? &at.j : *p == 'k' ? &at.k : &at.b;
      bit = 0;
      p++;
    } else if (*p == 'l' || *p == 'v') {
      const int source = *p == 'l' ? lane : item;
      *coordinate |= (source >> (p[1] - '0') & 1) << bit++;
      p++;
    }
  }
  return at;
}

// The registers of all lanes, indexed by lane and register, read and written by lane and item.
struct MatrixOperand {
  int width, registers, per_register;
  std::vector<uint32_t> words;
  MatrixOperand(const char *type, int registers, const char *layout) : registers(registers), words(kWave * registers) {
    width = bits_of_type(type);
    per_register = strstr(layout, "/half") ? 1 : std::max(32 / width, 1);
  }
  int items() const { return width == 64 ? registers / 2 : registers * per_register; }
  void set(int lane, int item, uint64_t bits) {
    uint32_t *first = &words[lane * registers];
    if (width == 64) {
      memcpy(first + 2 * item, &bits, 8);
    } else {
      first[item / per_register] |= bits << item % per_register * width;
    }
  }
  uint64_t get(int lane, int item) const {
    const uint32_t *first = &words[lane * registers];
    if (width == 64) return first[2 * item] | (uint64_t)first[2 * item + 1] << 32;
    return first[item / per_register] >> item % per_register * width & low_bits(width);
  }
};

static void check_matrix(const MatrixInstruction &test) {
  Mismatches mismatches(test.text);
  Random random(11);
  for (int trial = 0; trial < 4; trial++) {
    MatrixOperand operands[4] = {{test.types[0], test.registers[0], test.layouts[0]},
                                 {test.types[1], test.registers[1], test.layouts[1]},
                                 {test.types[2], test.registers[2], test.layouts[2]},
                                 {test.types[3], test.registers[3], test.layouts[3]}};
    const int m = test.m, n = test.n, k = test.k, blocks = test.blocks;
    auto numbers = [&](size_t count, int limit, bool is_unsigned) {
      std::vector<int> values(count);
      for (int &x : values) x = (int)(random() % (2 * limit + 1)) - (is_unsigned ? 0 : limit);
      return values;
    };
    auto is_unsigned = [](const char *type, bool is_signed) { return type[0] == 'i' && type[1] == 'u' && !is_signed; };
    const std::vector<int> a =
        numbers(blocks * m * k, limit_of(test.types[0], test.types[3]), is_unsigned(test.types[0], test.a_signed));
    const std::vector<int> b =
        numbers(blocks * n * k, limit_of(test.types[1], test.types[3]), is_unsigned(test.types[1], test.b_signed));
    const std::vector<int> c = numbers(blocks * m * n, limit_of(test.types[2], test.types[3]), false);
    for (int lane = 0; lane < kWave; lane++) {
      for (int item = 0; item < operands[0].items(); item++) {
        const Coordinates at = coordinates(test.layouts[0], lane, item);
        operands[0].set(lane, item, encode(test.types[0], a[(at.b * m + at.i) * k + at.k]));
      }
      for (int item = 0; item < operands[1].items(); item++) {
        const Coordinates at = coordinates(test.layouts[1], lane, item);
        operands[1].set(lane, item, encode(test.types[1], b[(at.b * n + at.j) * k + at.k]));
      }
      for (int item = 0; item < operands[2].items(); item++) {
        const Coordinates at = coordinates(test.layouts[2], lane, item);
        operands[2].set(lane, item, encode(test.types[2], c[(at.b * m + at.i) * n + at.j]));
      }
    }
    const Device<uint32_t> device_a(operands[0].words), device_b(operands[1].words), device_c(operands[2].words),
        device_d(operands[3].words);
    test.launch(device_a.data(), device_b.data(), device_c.data(), device_d.data());
    operands[3].words = device_d.fetch();

    // BLGP moves B between lanes: element (b, j, k) is then what another lane holds at the same item.
    std::vector<int> moved_b = b;
    if (test.blgp) {
      for (int lane = 0; lane < kWave; lane++)
        for (int item = 0; item < operands[1].items(); item++) {
          const int source = test.blgp == 1   ? lane & 31
                             : test.blgp == 2 ? lane | 32
                             : test.blgp == 3 ? (lane + 16) & 63
                                              : (test.blgp - 4) * 16 + (lane & 15);
          const Coordinates to = coordinates(test.layouts[1], lane, item),
                            from = coordinates(test.layouts[1], source, item);
          moved_b[(to.b * n + to.j) * k + to.k] = b[(from.b * n + from.j) * k + from.k];
        }
    }
    for (int lane = 0; lane < kWave; lane++)
      for (int item = 0; item < operands[3].items(); item++) {
        const Coordinates at = coordinates(test.layouts[3], lane, item);
        const int block_of_a = (at.b & ~((1 << test.cbsz) - 1)) + test.abid;
        int64_t sum = (int64_t)test.sign_c * c[(at.b * m + at.i) * n + at.j];
        for (int x = 0; x < k; x++)
          sum += (int64_t)test.sign_a * a[(block_of_a * m + at.i) * k + x] * test.sign_b *
                 moved_b[(at.b * n + at.j) * k + x];
        uint64_t expected = encode(test.types[3], sum), actual = operands[3].get(lane, item);
        if (sum == 0 && test.types[3][0] != 'i') actual &= low_bits(operands[3].width - 1);  // either zero
        if (actual != expected)
          mismatches.add("lane " + std::to_string(lane) + " item " + std::to_string(item) + " (row " +
                             std::to_string(at.i) + " column " + std::to_string(at.j) + " block " +
                             std::to_string(at.b) + ")",
                         hex(expected), hex(actual));
      }
  }
}

template <int ra, int rb, int rc, int rd, typename Body>
__global__ void multiply(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *d, Body body) {
  using A = typename MatrixRegisters<ra>::Type;
  using B = typename MatrixRegisters<rb>::Type;
  using C = typename MatrixRegisters<rc>::Type;
  using D = typename MatrixRegisters<rd>::Type;
  D result;
  body(((const A *)a)[threadIdx.x], ((const B *)b)[threadIdx.x], ((const C *)c)[threadIdx.x], result);
  ((D *)d)[threadIdx.x] = result;
}

constexpr bool is_this_architecture(const char *name) {
  const char *own = GFX90A ? "gfx90a" : GFX942 ? "gfx942" : "gfx1100";
  while (*name && *name == *own) name++, own++;
  return *name == *own;
}

// The result is not read, nor an operand written, before the instruction is through.
#define LAUNCH_MATRIX(RA, RB, RC, RD, TEXT, D, A, C)                                                         \
  [](const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *d) {                                 \
    using TypeA = typename MatrixRegisters<RA>::Type;                                                        \
    using TypeB = typename MatrixRegisters<RB>::Type;                                                        \
    using TypeC = typename MatrixRegisters<RC>::Type;                                                        \
    using TypeD = typename MatrixRegisters<RD>::Type;                                                        \
    multiply<RA, RB, RC, RD><<<1, kWave>>>(a, b, c, d, [] __device__(TypeA a, TypeB b, TypeC c, TypeD & d) { \
      asm volatile(NOP TEXT "\n s_nop 15\n s_nop 15" : "=&" D(d) : A(a), A(b), C(c));                        \
    });                                                                                                      \
  }

// The usual accumulation: the result replaces C.
#define LAUNCH_ACCUMULATION(RA, RB, RC, TEXT)                                                                \
  [](const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *d) {                                 \
    using TypeA = typename MatrixRegisters<RA>::Type;                                                        \
    using TypeB = typename MatrixRegisters<RB>::Type;                                                        \
    using TypeC = typename MatrixRegisters<RC>::Type;                                                        \
    multiply<RA, RB, RC, RC><<<1, kWave>>>(a, b, c, d, [] __device__(TypeA a, TypeB b, TypeC c, TypeC & d) { \
      d = c;                                                                                                 \
      asm volatile(NOP TEXT "\n s_nop 15\n s_nop 15" : "+v"(d) : "v"(a), "v"(b));                            \
    });                                                                                                      \
  }

// Every dense instruction of the calculator's table.
template <typename>
void check_all_matrices() {
#define MATRIX(ARCH, NAME, M, N, K, BLOCKS, A, B, C, D, RA, RB, RC, RD, PASSES, CYCLES, LA, LB, LC, LD)          \
  if constexpr (is_this_architecture(ARCH)) {                                                                    \
    MatrixInstruction test = {NAME, M, N, K, BLOCKS, {A, B, C, D}, {RA, RB, RC, RD}, {LA, LB, LC, LD}, nullptr}; \
    test.launch = LAUNCH_MATRIX(RA, RB, RC, RD, NAME " %0, %1, %2, %3", "v", "v", "v");                          \
    check_matrix(test);                                                                                          \
    test.launch = LAUNCH_ACCUMULATION(RA, RB, RC, NAME " %0, %1, %2, %0");                                       \
    check_matrix(test);                                                                                          \
  }
#include "matrix_layouts.inc"
#undef MATRIX
}
TEST(Matrix, All) { check_all_matrices<void>(); }

#if !GFX11
static MatrixInstruction f16_16x16x4(void (*launch)(const uint32_t *, const uint32_t *, const uint32_t *, uint32_t *)) {
  return {"v_mfma_f32_16x16x4f16",
          16,
          16,
          4,
          4,
          {"fp16", "fp16", "fp32", "fp32"},
          {2, 2, 16, 16},
          {"A i:l0l1l2l3 k:v0v1 b:l4l5", "B k:v0v1 j:l0l1l2l3 b:l4l5", "C i:v0v1l4l5 j:l0l1l2l3 b:v2v3",
           "D i:v0v1l4l5 j:l0l1l2l3 b:v2v3"},
          launch};
}
#if GFX90A
#define F16_16X16X4 "v_mfma_f32_16x16x4f16 %0, %1, %2, "
#define F64_16X16X4 "v_mfma_f64_16x16x4f64 %0, %1, %2, "
#else
#define F16_16X16X4 "v_mfma_f32_16x16x4_4b_f16 %0, %1, %2, "
#define F64_16X16X4 "v_mfma_f64_16x16x4_f64 %0, %1, %2, "
#endif

// Operands and result in accumulation VGPRs, C a constant, and a partial EXEC, which matrix instructions ignore.
TEST(Matrix, Registers) {
  check_matrix(f16_16x16x4(LAUNCH_MATRIX(2, 2, 16, 16, F16_16X16X4 "%3", "a", "v", "a")));
  check_matrix(f16_16x16x4(LAUNCH_MATRIX(2, 2, 16, 16, F16_16X16X4 "%3", "a", "a", "a")));
  check_matrix(f16_16x16x4(LAUNCH_MATRIX(2, 2, 16, 16, F16_16X16X4 "%3", "v", "a", "v")));
  MatrixInstruction constant = f16_16x16x4(LAUNCH_MATRIX(2, 2, 16, 16, F16_16X16X4 "0", "v", "v", "v"));
  constant.sign_c = 0;
  check_matrix(constant);
  check_matrix(f16_16x16x4(LAUNCH_MATRIX(
      2, 2, 16, 16, "s_mov_b64 exec, 0xf0f\n s_nop 4\n " F16_16X16X4 "%3\n s_mov_b64 exec, -1", "v", "v", "v")));
}

TEST(Matrix, Broadcast) {
#define BROADCAST(CBSZ, ABID, BLGP)                                                                              \
  {                                                                                                              \
    MatrixInstruction test = f16_16x16x4(                                                                        \
        LAUNCH_MATRIX(2, 2, 16, 16, F16_16X16X4 "%3 cbsz:" #CBSZ " abid:" #ABID " blgp:" #BLGP, "v", "v", "v")); \
    test.cbsz = CBSZ, test.abid = ABID, test.blgp = BLGP;                                                        \
    check_matrix(test);                                                                                          \
  }
  BROADCAST(2, 3, 0)
  BROADCAST(0, 0, 1)
  BROADCAST(0, 0, 2)
  BROADCAST(0, 0, 3)
  BROADCAST(0, 0, 4)
  BROADCAST(0, 0, 7)
  BROADCAST(2, 1, 6)
}
#endif

#if GFX942
// gfx942's double precision instructions use the BLGP field for signs.
TEST(Matrix, Negate) {
#define NEGATE(A, B, C)                                                                                               \
  {                                                                                                                   \
    MatrixInstruction test = {"v_mfma_f64_16x16x4_f64",                                                               \
                              16,                                                                                     \
                              16,                                                                                     \
                              4,                                                                                      \
                              1,                                                                                      \
                              {"fp64", "fp64", "fp64", "fp64"},                                                       \
                              {2, 2, 8, 8},                                                                           \
                              {"A i:l0l1l2l3 k:l4l5 b:", "B k:l4l5 j:l0l1l2l3 b:", "C i:l4l5v0v1 j:l0l1l2l3 b:",      \
                               "D i:l4l5v0v1 j:l0l1l2l3 b:"},                                                         \
                              LAUNCH_MATRIX(2, 2, 8, 8, F64_16X16X4 "%3 neg:[" #A "," #B "," #C "]", "v", "v", "v")}; \
    test.sign_a = A ? -1 : 1, test.sign_b = B ? -1 : 1, test.sign_c = C ? -1 : 1;                                     \
    check_matrix(test);                                                                                               \
  }
  NEGATE(1, 0, 0)
  NEGATE(0, 1, 0)
  NEGATE(0, 0, 1)
  NEGATE(1, 0, 1)
}
#endif

#if GFX11
// neg_lo's bits make the integers of A and B signed; op_sel's third bit chooses the half of 16-bit results.
TEST(Matrix, Signedness) {
#define SIGNEDNESS(NAME, TYPE, REGISTERS, A, B)                                                                     \
  {                                                                                                                 \
    MatrixInstruction test = {                                                                                      \
        NAME,                                                                                                       \
        16,                                                                                                         \
        16,                                                                                                         \
        16,                                                                                                         \
        1,                                                                                                          \
        {TYPE, TYPE, "int32", "int32"},                                                                             \
        {REGISTERS, REGISTERS, 8, 8},                                                                               \
        {"A i:l0l1l2l3 k:v0v1v2v3 b:", "B k:v0v1v2v3 j:l0l1l2l3 b:", "C i:l4v0v1v2 j:l0l1l2l3 b:",                  \
         "D i:l4v0v1v2 j:l0l1l2l3 b:"},                                                                             \
        LAUNCH_MATRIX(REGISTERS, REGISTERS, 8, 8, NAME " %0, %1, %2, %3 neg_lo:[" #A "," #B ",0]", "v", "v", "v")}; \
    test.a_signed = A, test.b_signed = B;                                                                           \
    check_matrix(test);                                                                                             \
  }
  SIGNEDNESS("v_wmma_i32_16x16x16_iu8", "iu8", 4, 1, 1)
  SIGNEDNESS("v_wmma_i32_16x16x16_iu8", "iu8", 4, 1, 0)
  SIGNEDNESS("v_wmma_i32_16x16x16_iu4", "iu4", 2, 1, 1)
  SIGNEDNESS("v_wmma_i32_16x16x16_iu4", "iu4", 2, 0, 1)
}
#endif
