// Small HIP programs, each equal to the same computation in ordinary C++ on the CPU, element by element: what the
// compiler makes of everyday device code at any optimisation level must mean on the device what it means on the CPU.
#include <hip/hip_runtime.h>
#include <hip/hip_fp16.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

// Both sides round after every operation; where a fused multiply-add is wanted, fma is called.
#pragma STDC FP_CONTRACT OFF

// The CPU's side is the reference: compiled as written, whatever the device's is compiled with (and in a third of the
// time).
#if !defined(__HIP_DEVICE_COMPILE__)
#pragma clang optimize off
#endif

#define HD __host__ __device__
#define NOINLINE __attribute__((noinline))

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

static void check(hipError_t status) {
  if (status != hipSuccess) throw std::runtime_error(hipGetErrorString(status));
}

// A device buffer. Its bytes are 0xCD until something writes them, so an element that no thread wrote is found.
template <typename T>
class Device {
 public:
  explicit Device(size_t count) : count_(count) {
    check(hipMalloc(&data_, count * sizeof(T)));
    check(hipMemset(data_, 0xCD, count * sizeof(T)));
  }
  Device(const std::vector<T> &values) : Device(values.size()) {
    check(hipMemcpy(data_, values.data(), count_ * sizeof(T), hipMemcpyHostToDevice));
  }
  ~Device() { (void)hipFree(data_); }
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  T *data() const { return data_; }
  size_t size() const { return count_; }

  // The contents after everything launched so far.
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

static int wave_size() {
  hipDeviceProp_t properties;
  check(hipGetDeviceProperties(&properties, 0));
  return properties.warpSize;
}

// Several results of one thread.
template <typename T, int N>
struct Results {
  T value[N];
};

// A binary16 number by its bits: on the CPU nothing but half_value and half_of computes with it.
struct Half {
  uint16_t bits;
  __device__ _Float16 value() const {
    _Float16 x;
    __builtin_memcpy(&x, &bits, 2);
    return x;
  }
  __device__ static Half of(_Float16 x) {
    Half half;
    __builtin_memcpy(&half.bits, &x, 2);
    return half;
  }
};

static double half_value(Half x) {
  const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  const double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return x.bits & 0x8000 ? -magnitude : magnitude;
}

// Rounds to nearest, ties to even, or with `toward_zero` truncates.
static Half half_of(double x, bool toward_zero = false) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(x);
  if (std::isnan(x)) return {0x7E00};
  if (std::isinf(x)) return {uint16_t(sign | 0x7C00)};
  if (magnitude == 0) return {sign};
  if (magnitude >= (toward_zero ? 65536.0 : 65520.0)) return {uint16_t(sign | (toward_zero ? 0x7BFF : 0x7C00))};
  int exponent;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent - 1, -14);
  const double units = std::ldexp(magnitude, 10 - exponent);
  return {uint16_t(sign | (((exponent + 14) << 10) + (int)(toward_zero ? std::floor(units) : std::nearbyint(units))))};
}

static bool same(Half a, Half b) {
  return a.bits == b.bits || (std::isnan(half_value(a)) && std::isnan(half_value(b)));
}
static bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }
static bool same(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }
template <typename T, typename = std::enable_if_t<std::is_integral<T>::value>>
static bool same(T a, T b) {
  return a == b;
}

static std::string format(const char *pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}
static std::string show(double x) { return format("%a", x); }
static std::string show(float x) { return format("%a", x); }
static std::string show(Half x) { return format("half %a", half_value(x)); }
template <typename T, typename = std::enable_if_t<std::is_integral<T>::value>>
static std::string show(T x) {
  char text[32];
  std::snprintf(text, sizeof text, " (0x%llx)", (unsigned long long)(std::make_unsigned_t<T>)x);
  return std::to_string(x) + text;
}

// Index of the first difference, or -1.
template <typename T>
static long first_mismatch(const T *actual, const T *expected, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!same(actual[i], expected[i])) return (long)i;
  return -1;
}

static void report(long index, const std::string &actual, const std::string &expected, const std::string &context) {
  ADD_FAILURE() << "element " << index << ": " << actual << " on the device, " << expected << " on the CPU" << context;
}

template <typename T>
static void expect_equal(const std::vector<T> &actual, const std::vector<T> &expected,
                         const std::string &context = "") {
  ASSERT_EQ(actual.size(), expected.size()) << context;
  const long i = first_mismatch(actual.data(), expected.data(), actual.size());
  if (i >= 0) report(i, show(actual[i]), show(expected[i]), ", " + context);
}

template <typename T>
struct Shape {
  using Element = T;
  static constexpr int width = 1;
};
template <typename T, int N>
struct Shape<Results<T, N>> {
  using Element = T;
  static constexpr int width = N;
};

template <typename Op, typename Out, typename... In>
__global__ void elementwise(Out *out, size_t count, const In *...in) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = Op()(in[i]...);
}

// Op for every element on the device, `reference` on the CPU. Blocks of 100 leave the last wave of each block partial.
template <typename Op, typename Reference, typename... In>
static void expect_elementwise(Reference reference, const std::vector<In> &...in) {
  using Out = decltype(reference(in[0]...));
  using Element = typename Shape<Out>::Element;
  constexpr int width = Shape<Out>::width;
  const size_t count = std::min({in.size()...});
  Device<Out> out(count);
  std::vector<Out> actual, expected(count);
  [&](const Device<In> &...inputs) {
    elementwise<Op><<<dim3((count + 99) / 100), dim3(100)>>>(out.data(), count, (const In *)inputs.data()...);
    actual = out.fetch();
  }(in...);
  for (size_t i = 0; i < count; i++) expected[i] = reference(in[i]...);
  const Element *a = (const Element *)actual.data(), *e = (const Element *)expected.data();
  const long first = first_mismatch(a, e, count * width);
  if (first < 0) return;
  std::string context = ", result " + std::to_string(first % width) + " of";
  for (const std::string &input : {show(in[first / width])...}) context += " " + input;
  report(first / width, show(a[first]), show(e[first]), context);
}

// The same Op on both sides.
template <typename Op, typename... In>
static void expect_same(const std::vector<In> &...in) {
  expect_elementwise<Op>(Op(), in...);
}

// Distance in units of the last place of the result; infinity counts as the power of two after the largest number.
template <typename T>
static double ulps(T actual, long double exact) {
  using Limits = std::numeric_limits<T>;
  if (std::isnan(exact) || std::isnan(actual)) return std::isnan(exact) && std::isnan(actual) ? 0 : INFINITY;
  const long double end = std::ldexp(1.0L, Limits::max_exponent);
  const long double a = std::min(std::max((long double)actual, -end), end), e = std::min(std::max(exact, -end), end);
  int exponent;
  std::frexp(e, &exponent);
  if (std::fabs(e) == end) exponent--;
  return (double)(std::fabs(a - e) / std::ldexp(1.0L, std::max(exponent, Limits::min_exponent) - Limits::digits));
}

template <typename Op, typename Reference, typename T, typename... In>
static void expect_within(const char *name, double bound, Reference reference, const std::vector<T> &x,
                          const In &...more) {
  const size_t count = std::min({x.size(), more.size()...});
  std::vector<T> actual;
  [&](const Device<T> &dx, const auto &...dy) {
    Device<T> out(count);
    elementwise<Op>
        <<<dim3((count + 99) / 100), dim3(100)>>>(out.data(), count, (const T *)dx.data(), (const T *)dy.data()...);
    actual = out.fetch();
  }(Device<T>(x), Device<T>(more)...);
  for (size_t i = 0; i < count; i++) {
    const long double exact = reference((long double)x[i], (long double)more[i]...);
    const double error = ulps(actual[i], exact);
    if (error <= bound) continue;
    std::string arguments = show(x[i]);
    for (const std::string &y : std::vector<std::string>{show(more[i])...}) arguments += ", " + y;
    report((long)i, show(actual[i]), show((double)exact), format(": %g ulp, ", error) + name + "(" + arguments + ")");
    return;
  }
}

// splitmix64
struct Random {
  uint64_t state;
  uint64_t operator()() {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
};

template <typename T>
static T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Sign and fraction random, the binary exponent in [low, high].
template <typename T>
static std::vector<T> reals(size_t count, uint64_t seed, int low, int high) {
  Random random{seed};
  std::vector<T> values(count);
  for (T &x : values) {
    const double fraction = 1 + (double)(random() >> 12) / 0x1p52;
    const double magnitude = std::ldexp(fraction, low + (int)(random() % (uint64_t)(high - low + 1)));
    x = (T)(random() & 1 ? -magnitude : magnitude);
  }
  return values;
}

// Uniform integers in [low, high].
template <typename T>
static std::vector<T> integers(size_t count, uint64_t seed, int64_t low, int64_t high) {
  Random random{seed};
  std::vector<T> values(count);
  for (T &x : values) x = (T)(low + (int64_t)(random() % (uint64_t)(high - low + 1)));
  return values;
}

// Integers of every magnitude; floating-point numbers by random bits, near one, and around the smallest normal number.
template <typename T>
static std::enable_if_t<std::is_integral<T>::value, std::vector<T>> random_values(size_t count, uint64_t seed) {
  Random random{seed};
  std::vector<T> values(count);
  for (T &x : values) {
    const uint64_t bits = random();
    x = (T)((int64_t)bits >> (random() % (8 * sizeof(T)) + 64 - 8 * sizeof(T)));
  }
  return values;
}
template <typename T>
static std::enable_if_t<std::is_floating_point<T>::value, std::vector<T>> random_values(size_t count, uint64_t seed) {
  Random random{seed};
  constexpr int smallest = std::numeric_limits<T>::min_exponent - 1;
  const std::vector<T> near_one = reals<T>(count, seed + 1, -3, 3),
                       tiny = reals<T>(count, seed + 2, smallest - std::numeric_limits<T>::digits, smallest + 3),
                       root_of_tiny = reals<T>(count, seed + 3, smallest / 2 - 20, smallest / 2 + 3);
  std::vector<T> values(count);
  for (size_t i = 0; i < count; i++) {
    const uint64_t choice = random() % 8;
    values[i] = choice < 2   ? near_one[i]
                : choice < 4 ? tiny[i]
                : choice < 5 ? root_of_tiny[i]
                             : from_bits<T>(random() >> (64 - 8 * sizeof(T)));
  }
  return values;
}

template <typename T>
static std::enable_if_t<std::is_integral<T>::value, std::vector<T>> edges() {
  using Limits = std::numeric_limits<T>;
  const T half = (T)((T)1 << (4 * sizeof(T)));
  return {0,
          1,
          2,
          3,
          7,
          10,
          100,
          (T)-1,
          (T)-2,
          (T)-3,
          (T)-7,
          (T)-10,
          Limits::max(),
          (T)(Limits::max() - 1),
          Limits::min(),
          (T)(Limits::min() + 1),
          (T)(Limits::max() / 2),
          (T)(Limits::max() / 2 + 1),
          (T)(Limits::max() / 3),
          half,
          (T)(half - 1),
          (T)(half + 1)};
}
template <typename T>
static std::enable_if_t<std::is_floating_point<T>::value, std::vector<T>> edges() {
  using Limits = std::numeric_limits<T>;
  const T digits = std::ldexp((T)1, Limits::digits);
  std::vector<T> values = {0,
                           1,
                           2,
                           3,
                           (T)0.5,
                           (T)1.5,
                           (T)2.5,
                           (T)(1 / 3.0),
                           (T)10,
                           std::nextafter((T)1, (T)0),
                           std::nextafter((T)1, (T)2),
                           std::nextafter((T)0.5, (T)0),
                           Limits::denorm_min(),
                           3 * Limits::denorm_min(),
                           Limits::min() - Limits::denorm_min(),
                           Limits::min(),
                           Limits::min() + Limits::denorm_min(),
                           Limits::min() * 2,
                           std::sqrt(Limits::min()),
                           std::sqrt(Limits::max()),
                           Limits::max(),
                           Limits::max() / 2,
                           digits - 1,
                           digits,
                           digits / 2 - (T)0.5,
                           digits / 4 + (T)0.5,
                           Limits::infinity(),
                           Limits::quiet_NaN()};
  const size_t positive = values.size();
  for (size_t i = 0; i < positive; i++) values.push_back(-values[i]);
  return values;
}

// Edges, then random values.
template <typename T>
static std::vector<T> samples(size_t random_count, uint64_t seed = 1) {
  std::vector<T> values = edges<T>();
  const std::vector<T> more = random_values<T>(random_count, seed);
  values.insert(values.end(), more.begin(), more.end());
  return values;
}

template <typename T>
struct Pairs {
  std::vector<T> a, b;
};

// All pairs of edges, then random ones.
template <typename T>
static Pairs<T> pairs(size_t random_count) {
  Pairs<T> pairs{random_values<T>(random_count, 11), random_values<T>(random_count, 12)};
  for (T a : edges<T>())
    for (T b : edges<T>()) {
      pairs.a.push_back(a);
      pairs.b.push_back(b);
    }
  return pairs;
}

template <typename T>
static std::vector<unsigned> shifts(const std::vector<T> &values) {
  return integers<unsigned>(values.size(), 21, 0, 8 * sizeof(T) - 1);
}

static const int kBlockSizes[] = {1, 33, 64, 65, 100, 256, 1024};

// ---------------------------------------------------------------------------------------------------------------------
// Integers

template <typename T>
struct Divide {
  HD Results<T, 2> operator()(T a, T b) const {
    if (b == 0) return {{0, a}};
    if (std::is_signed<T>::value && b == (T)-1) return {{(T)(0 - (std::make_unsigned_t<T>)a), 0}};
    return {{(T)(a / b), (T)(a % b)}};
  }
};

template <typename T>
static void expect_division() {
  const Pairs<T> p = pairs<T>(4000);
  expect_same<Divide<T>>(p.a, p.b);
}

TEST(Integers, DivisionAndRemainderOf8And16Bits) {
  expect_division<int8_t>();
  expect_division<uint8_t>();
  expect_division<int16_t>();
  expect_division<uint16_t>();
}

TEST(Integers, DivisionAndRemainderOf32Bits) {
  expect_division<int32_t>();
  expect_division<uint32_t>();
}

TEST(Integers, DivisionAndRemainderOf64Bits) {
  expect_division<int64_t>();
  expect_division<uint64_t>();
}

template <typename T>
struct DivideByConstants {
  HD Results<T, 8> operator()(T x) const {
    return {
        {(T)(x / 3), (T)(x % 7), (T)(x / 10), (T)(x % 1000), (T)(x / 16), (T)(x % 64), (T)(x / 641), (T)(x / (T)-5)}};
  }
};

TEST(Integers, DivisionByConstants) {
  expect_same<DivideByConstants<int32_t>>(samples<int32_t>(3000));
  expect_same<DivideByConstants<uint32_t>>(samples<uint32_t>(3000));
  expect_same<DivideByConstants<int64_t>>(samples<int64_t>(3000));
  expect_same<DivideByConstants<uint64_t>>(samples<uint64_t>(3000));
}

struct Products32 {
  __device__ Results<uint32_t, 5> operator()(uint32_t a, uint32_t b) const {
    return {{a * b, __umulhi(a, b), (uint32_t)__mulhi((int)a, (int)b),
             (uint32_t)__mul24((int)(a << 8) >> 8, (int)(b << 8) >> 8),
             (uint32_t)__umul24(a & 0xFFFFFF, b & 0xFFFFFF)}};
  }
};
static Results<uint32_t, 5> products32(uint32_t a, uint32_t b) {
  return {{a * b, (uint32_t)((uint64_t)a * b >> 32), (uint32_t)((int64_t)(int32_t)a * (int32_t)b >> 32),
           (uint32_t)((int64_t)((int32_t)(a << 8) >> 8) * ((int32_t)(b << 8) >> 8)),
           (uint32_t)((uint64_t)(a & 0xFFFFFF) * (b & 0xFFFFFF))}};
}

struct Products64 {
  __device__ Results<uint64_t, 5> operator()(uint64_t a, uint64_t b) const {
    return {{a * b, __umul64hi(a, b), (uint64_t)__mul64hi((long long)a, (long long)b),
             (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF), (uint64_t)((int64_t)(int32_t)a * (int32_t)b) + (a ^ b)}};
  }
};
static Results<uint64_t, 5> products64(uint64_t a, uint64_t b) {
  return {{a * b, (uint64_t)((unsigned __int128)a * b >> 64), (uint64_t)((__int128)(int64_t)a * (int64_t)b >> 64),
           (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF), (uint64_t)((int64_t)(int32_t)a * (int32_t)b) + (a ^ b)}};
}

TEST(Integers, Multiplication) {
  const Pairs<uint32_t> p = pairs<uint32_t>(4000);
  expect_elementwise<Products32>(products32, p.a, p.b);
  const Pairs<uint64_t> q = pairs<uint64_t>(4000);
  expect_elementwise<Products64>(products64, q.a, q.b);
}

// 128-bit sums, differences and comparisons out of 64-bit halves.
struct Wide {
  HD Results<uint64_t, 6> operator()(uint64_t a, uint64_t b) const {
    const uint64_t high_a = a * 0x9E3779B97F4A7C15u, high_b = b + 0xFFFFFFFF00000000u;
    const uint64_t sum = a + b, difference = a - b;
    return {{sum, high_a + high_b + (sum < a), difference, high_a - high_b - (a < b),
             (uint64_t)(high_a < high_b || (high_a == high_b && a < b)), (uint64_t)((int64_t)a >= (int64_t)b)}};
  }
};

TEST(Integers, CarriesAndBorrows) {
  const Pairs<uint64_t> p = pairs<uint64_t>(4000);
  expect_same<Wide>(p.a, p.b);
}

template <typename T>
struct Shifts {
  HD Results<T, 4> operator()(T x, unsigned n) const {
    using U = std::make_unsigned_t<T>;
    using S = std::make_signed_t<T>;
    const unsigned rest = (8 * sizeof(T) - n) % (8 * sizeof(T));
    return {{(T)((U)x << n), (T)((U)x >> n), (T)((S)x >> n), (T)((U)((U)x << n) | (U)((U)x >> rest))}};
  }
};

TEST(Integers, ShiftsAndRotations) {
  const std::vector<uint8_t> x8 = samples<uint8_t>(2000);
  const std::vector<int16_t> x16 = samples<int16_t>(2000);
  const std::vector<int32_t> x32 = samples<int32_t>(2000);
  const std::vector<uint64_t> x64 = samples<uint64_t>(2000);
  expect_same<Shifts<uint8_t>>(x8, shifts(x8));
  expect_same<Shifts<int16_t>>(x16, shifts(x16));
  expect_same<Shifts<int32_t>>(x32, shifts(x32));
  expect_same<Shifts<uint64_t>>(x64, shifts(x64));
}

struct CountBits {
  __device__ Results<int, 8> operator()(uint64_t x) const {
    const uint32_t low = (uint32_t)x;
    return {{(int)__popc(low), (int)__popcll(x), __clz((int)low), __clzll((long long)x), (int)__ffs(low),
             (int)__ffsll((long long)x), (int)__popc(low ^ low >> 1), (int)(__popcll(x) & 1)}};
  }
};
static Results<int, 8> count_bits(uint64_t x) {
  const uint32_t low = (uint32_t)x;
  Results<int, 8> r = {};
  for (int i = 0; i < 64; i++) {
    const int bit = x >> i & 1;
    r.value[1] += bit;
    if (i < 32) r.value[0] += bit;
    if (i < 32) r.value[6] += (low ^ low >> 1) >> i & 1;
  }
  while (r.value[2] < 32 && !(low >> (31 - r.value[2]) & 1)) r.value[2]++;
  while (r.value[3] < 64 && !(x >> (63 - r.value[3]) & 1)) r.value[3]++;
  for (int i = 0; i < 64 && !r.value[5]; i++)
    if (x >> i & 1) r.value[5] = i + 1;
  r.value[4] = low ? r.value[5] : 0;
  r.value[7] = r.value[1] & 1;
  return r;
}

struct ReverseBits {
  __device__ Results<uint64_t, 4> operator()(uint64_t x) const {
    return {{__brev((uint32_t)x), __brevll(x), __builtin_bswap32((uint32_t)x), __builtin_bswap64(x)}};
  }
};
static Results<uint64_t, 4> reverse_bits(uint64_t x) {
  Results<uint64_t, 4> r = {};
  for (int i = 0; i < 64; i++) {
    r.value[1] |= (x >> i & 1) << (63 - i);
    r.value[3] |= (x >> i & 1) << ((7 - i / 8) * 8 + i % 8);
    if (i < 32) r.value[0] |= (x >> i & 1) << (31 - i);
    if (i < 32) r.value[2] |= (x >> i & 1) << ((3 - i / 8) * 8 + i % 8);
  }
  return r;
}

TEST(Integers, CountingAndReversingBits) {
  std::vector<uint64_t> x = samples<uint64_t>(3000);
  for (int i = 0; i < 64; i++) x.insert(x.end(), {1ull << i, (1ull << i) - 1, ~(1ull << i)});
  expect_elementwise<CountBits>(count_bits, x);
  expect_elementwise<ReverseBits>(reverse_bits, x);
}

struct PermuteBits {
  __device__ Results<uint32_t, 5> operator()(uint32_t a, uint32_t b, uint32_t s) const {
    return {{__byte_perm(a, b, s), __funnelshift_l(a, b, s), __funnelshift_r(a, b, s), __funnelshift_lc(a, b, s & 63),
             __funnelshift_rc(a, b, s & 63)}};
  }
};
static Results<uint32_t, 5> permute_bits(uint32_t a, uint32_t b, uint32_t s) {
  const uint64_t both = (uint64_t)b << 32 | a;
  uint32_t bytes = 0;
  for (int i = 0; i < 4; i++) bytes |= (uint32_t)(both >> (s >> 4 * i & 7) * 8 & 255) << 8 * i;
  const unsigned clamped = std::min(s & 63, 32u);
  return {{bytes, (uint32_t)(both << (s & 31) >> 32), (uint32_t)(both >> (s & 31)),
           clamped == 32 ? a : (uint32_t)(both << clamped >> 32), (uint32_t)(both >> clamped)}};
}

TEST(Integers, BytePermutationsAndFunnelShifts) {
  expect_elementwise<PermuteBits>(permute_bits, random_values<uint32_t>(4000, 1), random_values<uint32_t>(4000, 2),
                                  integers<uint32_t>(4000, 3, 0, 0xFFFF));
}

struct Bitfield {
  uint32_t a : 5;
  int32_t b : 11;
  uint32_t c : 1;
  uint32_t d : 15;
  uint64_t e : 37;
  int64_t f : 27;
};

// Bit fields of a struct, and extraction and insertion by offset and width.
struct Fields {
  HD Results<uint64_t, 8> operator()(uint64_t x, uint32_t where) const {
    const unsigned offset = where % 40, width = 1 + (where >> 8) % 24;
    const uint64_t mask = (1ull << width) - 1;
    Bitfield field = {};
    field.a = (uint32_t)x;
    field.b = (int32_t)(x >> 7) & 0x3FF;
    field.c = x >> 20 & 1;
    field.d += (uint32_t)(x >> 33);
    field.e = x >> 3;
    field.f = (int64_t)(x >> 38);
    field.a += 3;
    field.b -= 900;
    return {{x >> offset & mask, (x & ~(mask << offset)) | ((~x & mask) << offset),
             (uint64_t)((int64_t)(x << 13) >> 40), field.a, (uint64_t)(int64_t)field.b,
             (uint64_t)field.c << 15 | field.d, field.e, (uint64_t)(int64_t)field.f}};
  }
};

struct ExtractAndInsert {
  __device__ Results<uint64_t, 4> operator()(uint64_t x, uint32_t where) const {
    const unsigned offset = where % 20, width = 1 + (where >> 8) % 12;
    return {{__bitextract_u32((uint32_t)x, offset, width), __bitextract_u64(x, offset, width),
             __bitinsert_u32((uint32_t)x, (uint32_t)(x >> 32), offset, width), __bitinsert_u64(x, ~x, offset, width)}};
  }
};
static Results<uint64_t, 4> extract_and_insert(uint64_t x, uint32_t where) {
  const unsigned offset = where % 20, width = 1 + (where >> 8) % 12;
  const uint64_t mask = (1ull << width) - 1;
  return {{(uint32_t)x >> offset & mask, x >> offset & mask,
           ((uint32_t)x & (uint32_t) ~(mask << offset)) | (((x >> 32) & mask) << offset),
           (x & ~(mask << offset)) | ((~x & mask) << offset)}};
}

TEST(Integers, Bitfields) {
  const std::vector<uint64_t> x = samples<uint64_t>(3000);
  const std::vector<uint32_t> where = integers<uint32_t>(x.size(), 5, 0, 0xFFFF);
  expect_same<Fields>(x, where);
  expect_elementwise<ExtractAndInsert>(extract_and_insert, x, where);
}

// No a - b beside b - a: for gfx9, LLVM before 20 takes the two for the same once they are SDWA instructions
// (llvm-project#106920).
template <typename T>
struct SmallArithmetic {
  HD Results<T, 8> operator()(T a, T b) const {
    return {{(T)(a + b), (T)(a - b), (T)(a * b), (T)(a & ~b), (T)(a < b ? a : b), (T)(a > b ? a ^ b : a + 1),
             (T)((a + b) >> 1), (T)(a * a + 3 * b - 7)}};
  }
};

TEST(Integers, ArithmeticOf8And16Bits) {
  const Pairs<int8_t> a = pairs<int8_t>(3000);
  expect_same<SmallArithmetic<int8_t>>(a.a, a.b);
  const Pairs<uint8_t> b = pairs<uint8_t>(3000);
  expect_same<SmallArithmetic<uint8_t>>(b.a, b.b);
  // Below the magnitudes whose squares an int cannot hold.
  expect_same<SmallArithmetic<int16_t>>(integers<int16_t>(3000, 1, -23000, 23000),
                                        integers<int16_t>(3000, 2, -23000, 23000));
  expect_same<SmallArithmetic<uint16_t>>(integers<uint16_t>(3000, 1, 0, 46000), integers<uint16_t>(3000, 2, 0, 46000));
}

typedef uint16_t UShort2 __attribute__((ext_vector_type(2)));
typedef int16_t Short2 __attribute__((ext_vector_type(2)));
typedef uint8_t Byte4 __attribute__((ext_vector_type(4)));

template <typename To, typename From>
HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// Two 16-bit or four 8-bit numbers in a register.
struct PackedArithmetic {
  HD Results<uint32_t, 8> operator()(uint32_t a, uint32_t b) const {
    const UShort2 ua = bit_cast<UShort2>(a), ub = bit_cast<UShort2>(b),
                  n = {(uint16_t)(b & 15), (uint16_t)(b >> 16 & 15)};
    const Short2 sa = bit_cast<Short2>(a), sb = bit_cast<Short2>(b), sn = {(int16_t)(b & 15), (int16_t)(b >> 16 & 15)};
    const Byte4 ba = bit_cast<Byte4>(a), bb = bit_cast<Byte4>(b);
    return {{bit_cast<uint32_t>((UShort2)(ua + ub)), bit_cast<uint32_t>((UShort2)(ua * ub - ub)),
             bit_cast<uint32_t>((UShort2)(ua << n)), bit_cast<uint32_t>((Short2)(sa >> sn)),
             bit_cast<uint32_t>(__builtin_elementwise_max(sa, sb)),
             bit_cast<uint32_t>(__builtin_elementwise_min(ua, ub)), bit_cast<uint32_t>((Byte4)(ba + bb)),
             bit_cast<uint32_t>((Byte4)(ba * bb.wzyx))}};
  }
};

// Bytes taken out of a word, widened, weighted and packed again.
struct RepackBytes {
  HD Results<uint32_t, 3> operator()(uint32_t x) const {
    int sum = 0;
    uint32_t packed = 0, halves = 0;
    for (int i = 0; i < 4; i++) {
      const int8_t s = (int8_t)(x >> 8 * i);
      sum += (i + 1) * s;
      packed |= (uint32_t)(uint8_t)(3 * s + 1) << 8 * (3 - i);
      halves += (uint32_t)(uint16_t)(s * 257) << 16 * (i & 1);
    }
    return {{(uint32_t)sum, packed, halves}};
  }
};

TEST(Integers, PackedArithmetic) {
  const Pairs<uint32_t> p = pairs<uint32_t>(4000);
  expect_same<PackedArithmetic>(p.a, p.b);
  expect_same<RepackBytes>(p.a);
}

template <typename T>
struct Saturate {
  HD Results<T, 4> operator()(T a, T b) const {
    const T low = (T)(std::numeric_limits<T>::min() / 4 + 3), high = (T)(std::numeric_limits<T>::max() / 4);
    return {{(T)__builtin_elementwise_add_sat(a, b), (T)__builtin_elementwise_sub_sat(a, b),
             a < low    ? low
             : a > high ? high
                        : a,
             a > b ? a : b}};
  }
};

template <typename T>
static void expect_saturation() {
  const Pairs<T> p = pairs<T>(2000);
  expect_same<Saturate<T>>(p.a, p.b);
}

TEST(Integers, SaturationAndClamping) {
  expect_saturation<int8_t>();
  expect_saturation<uint8_t>();
  expect_saturation<int16_t>();
  expect_saturation<uint16_t>();
  expect_saturation<int32_t>();
  expect_saturation<uint32_t>();
  expect_saturation<int64_t>();
  expect_saturation<uint64_t>();
}

// ---------------------------------------------------------------------------------------------------------------------
// Conversions

template <typename To, typename From>
struct Convert {
  HD To operator()(From x) const { return (To)x; }
};

template <typename T>
static void expect_integer_to_real() {
  expect_same<Convert<float, T>>(samples<T>(3000));
  expect_same<Convert<double, T>>(samples<T>(3000));
}

TEST(Conversions, IntegersToFloatingPoint) {
  expect_integer_to_real<int8_t>();
  expect_integer_to_real<uint8_t>();
  expect_integer_to_real<int16_t>();
  expect_integer_to_real<uint16_t>();
  expect_integer_to_real<int32_t>();
  expect_integer_to_real<uint32_t>();
  expect_integer_to_real<int64_t>();
  expect_integer_to_real<uint64_t>();
}

// Numbers whose integral parts fit into To.
template <typename To, typename From>
static std::vector<From> convertible() {
  const int bits = std::numeric_limits<To>::digits;
  std::vector<From> values = {0,        (From)-0.0, (From)0.5, (From)1.5, (From)-0.75, (From)std::ldexp(1, bits - 1),
                              (From)127};
  const From largest = std::nextafter(std::ldexp((From)1, bits), (From)0);
  if (largest < (From)std::ldexp(1.0, bits)) values.push_back(largest);
  if (std::is_signed<To>::value) values.push_back((From)-std::ldexp(1.0, bits));
  for (From x : reals<From>(3000, 31, -4, bits - 1)) values.push_back(std::is_signed<To>::value ? x : std::fabs(x));
  return values;
}

template <typename T>
static void expect_real_to_integer() {
  expect_same<Convert<T, float>>(convertible<T, float>());
  expect_same<Convert<T, double>>(convertible<T, double>());
}

TEST(Conversions, FloatingPointToIntegers) {
  expect_real_to_integer<int8_t>();
  expect_real_to_integer<uint8_t>();
  expect_real_to_integer<int16_t>();
  expect_real_to_integer<uint16_t>();
  expect_real_to_integer<int32_t>();
  expect_real_to_integer<uint32_t>();
  expect_real_to_integer<int64_t>();
  expect_real_to_integer<uint64_t>();
}

template <typename T>
struct RoundedConversions;
template <>
struct RoundedConversions<float> {
  __device__ Results<long long, 12> operator()(float x) const {
    const float y = fabsf(x);
    return {{__float2int_rn(x), __float2int_rd(x), __float2int_ru(x), __float2int_rz(x), __float2ll_rn(x),
             __float2ll_rd(x), __float2ll_ru(x), __float2ll_rz(x), __float2uint_rn(y), (long long)__float2ull_ru(y),
             lrintf(x), lroundf(x)}};
  }
};
template <>
struct RoundedConversions<double> {
  __device__ Results<long long, 12> operator()(double x) const {
    const double y = fabs(x);
    return {{__double2int_rn(x), __double2int_rd(x), __double2int_ru(x), __double2int_rz(x), __double2ll_rn(x),
             __double2ll_rd(x), __double2ll_ru(x), __double2ll_rz(x), __double2uint_rn(y),
             (long long)__double2ull_ru(y), lrint(x), lround(x)}};
  }
};
static Results<long long, 12> rounded_conversions(double x) {
  const long long n = (long long)std::nearbyint(x), d = (long long)std::floor(x), u = (long long)std::ceil(x),
                  z = (long long)x;
  return {{n, d, u, z, n, d, u, z, (long long)std::nearbyint(std::fabs(x)), (long long)std::ceil(std::fabs(x)), n,
           std::llround(x)}};
}

TEST(Conversions, RoundingToIntegers) {
  std::vector<float> x = reals<float>(4000, 41, -3, 30);
  std::vector<double> y = reals<double>(4000, 42, -3, 29);
  for (int i = -20; i <= 20; i++) {
    x.push_back(0.5f * (float)i);
    y.push_back(0.5 * i);
  }
  x.insert(x.end(), {-0.0f, 8388607.5f, 0.49999997f, -0.49999997f, 1e-40f});
  expect_elementwise<RoundedConversions<float>>(rounded_conversions, x);
  expect_elementwise<RoundedConversions<double>>(rounded_conversions, y);
}

// What the hardware's conversions to 32 bits do with numbers that do not fit: the nearest limit, 0 for NaN.
template <typename T>
static int64_t saturated(double x, T) {
  if (std::isnan(x)) return 0;
  return (int64_t)std::trunc(
      std::min(std::max(x, (double)std::numeric_limits<T>::min()), (double)std::numeric_limits<T>::max()));
}
template <typename T>
struct SaturatingConversions {
  __device__ Results<int64_t, 2> operator()(T x) const { return {{(int32_t)x, (int64_t)(uint32_t)x}}; }
};

TEST(Conversions, OutOfRangeSaturates) {
  const auto reference = [](double x) -> Results<int64_t, 2> {
    return {{saturated(x, int32_t()), saturated(x, uint32_t())}};
  };
  expect_elementwise<SaturatingConversions<float>>(reference, samples<float>(4000));
  expect_elementwise<SaturatingConversions<double>>(reference, samples<double>(4000));
}

TEST(Conversions, BetweenFloatAndDouble) {
  expect_same<Convert<double, float>>(samples<float>(4000));
  std::vector<double> x = samples<double>(4000);
  for (double y : reals<double>(4000, 51, -155, 130)) x.push_back(y);
  for (float y : edges<float>()) x.insert(x.end(), {y * (1 + 0x1p-24), y * (1 - 0x1p-25), y + 0x1p-150});
  expect_same<Convert<float, double>>(x);
}

static std::vector<Half> all_halves() {
  std::vector<Half> values(65536);
  for (int i = 0; i < 65536; i++) values[i].bits = (uint16_t)i;
  return values;
}

struct FromHalf {
  __device__ Results<double, 5> operator()(Half x) const {
    const _Float16 h = x.value();
    const bool finite = (x.bits & 0x7C00) != 0x7C00;
    return {{(double)(float)h, (double)h,
             finite && h < (_Float16)32767 && h > (_Float16)-32768 ? (double)(int16_t)h : 0.0,
             finite && h >= (_Float16)0 ? (double)(uint16_t)h : 0.0, finite ? (double)(int32_t)h : 0.0}};
  }
};
static Results<double, 5> from_half(Half x) {
  const double h = half_value(x), whole = std::trunc(h) + 0.0;
  const bool finite = std::isfinite(h);
  return {{h, h, finite && h < 32767 && h > -32768 ? whole : 0, finite && h >= 0 ? whole : 0, finite ? whole : 0}};
}

struct FloatToHalf {
  __device__ Half operator()(float x) const { return Half::of((_Float16)x); }
};
struct DoubleToHalf {
  __device__ Half operator()(double x) const { return Half::of((_Float16)x); }
};
struct IntegerToHalf {
  __device__ Results<Half, 4> operator()(int32_t x) const {
    return {{Half::of((_Float16)x), Half::of((_Float16)(int16_t)x), Half::of((_Float16)(uint16_t)x),
             Half::of((_Float16)(int8_t)x)}};
  }
};
struct FloatsToHalvesTowardZero {
  __device__ uint32_t operator()(float x, float y) const {
    return bit_cast<uint32_t>(__builtin_amdgcn_cvt_pkrtz(x, y));
  }
};

TEST(Conversions, FromEveryHalf) { expect_elementwise<FromHalf>(from_half, all_halves()); }

TEST(Conversions, ToHalf) {
  std::vector<double> x = samples<double>(2000);
  for (double y : reals<double>(4000, 61, -27, 17)) x.push_back(y);
  for (Half h : all_halves())  // the numbers half way between two neighbours, and a little beside them
    if (h.bits % 61 == 0 && (h.bits & 0x7C00) != 0x7C00) {
      const double middle = (half_value(h) + half_value({uint16_t(h.bits + 1)})) / 2;
      x.insert(x.end(),
               {half_value(h), middle, middle * (1 + 0x1p-23), middle * (1 - 0x1p-23), middle * (1 + 0x1p-50)});
    }
  const std::vector<float> y(x.begin(), x.end());
  expect_elementwise<DoubleToHalf>([](double v) { return half_of(v); }, x);
  expect_elementwise<FloatToHalf>([](float v) { return half_of(v); }, y);
  expect_elementwise<IntegerToHalf>(
      [](int32_t v) -> Results<Half, 4> {
        return {{half_of(v), half_of((int16_t)v), half_of((uint16_t)v), half_of((int8_t)v)}};
      },
      samples<int32_t>(4000));
  std::vector<float> finite;
  for (float v : y)
    if (std::isfinite(v)) finite.push_back(v);
  expect_elementwise<FloatsToHalvesTowardZero>(
      [](float a, float b) { return half_of(a, true).bits | (uint32_t)half_of(b, true).bits << 16; }, finite,
      std::vector<float>(finite.rbegin(), finite.rend()));
}

// bfloat16 by its bits: rounding to nearest even, sums of products in float.
struct Bfloat16 {
  HD static uint16_t of(float x) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FC0;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
  HD static float value(uint16_t bits) { return bit_cast<float>((uint32_t)bits << 16); }
  HD Results<uint16_t, 4> operator()(float a, float b) const {
    const uint16_t x = of(a), y = of(b);
    return {{x, of(value(x) * value(y)), of(value(x) + value(y)), of(std::fma(value(x), value(y), a))}};
  }
};

TEST(Conversions, Bfloat16) {
  const Pairs<float> p = pairs<float>(4000);
  expect_same<Bfloat16>(p.a, p.b);
}

// Each byte of a word as a float, and doubles as their halves.
struct Reinterpret {
  HD Results<float, 5> operator()(uint32_t x) const {
    return {{(float)(x & 255), (float)(x >> 8 & 255), (float)(x >> 16 & 255), (float)(x >> 24),
             (float)(uint8_t)(x >> 8) * 0.25f - 3.0f}};
  }
};
struct SplitDouble {
  __device__ Results<double, 2> operator()(double x) const {
    return {{__hiloint2double(__double2hiint(x), __double2loint(x) ^ 1),
             __longlong_as_double(__double_as_longlong(x) ^ 0x8000000000000000ll)}};
  }
};

TEST(Conversions, PartsOfRegisters) {
  expect_same<Reinterpret>(samples<uint32_t>(3000));
  expect_elementwise<SplitDouble>(
      [](double x) -> Results<double, 2> {
        return {{from_bits<double>(bit_cast<uint64_t>(x) ^ 1), -x}};
      },
      samples<double>(3000));
}

// ---------------------------------------------------------------------------------------------------------------------
// Floating point: bit-equal with IEEE 754, denormals included

template <typename T>
struct Arithmetic {
  HD Results<T, 6> operator()(T a, T b) const {
    return {{a + b, a - b, a * b, a * -b, std::fabs(a) + b, (a - b) * (T)0.5}};
  }
};
template <typename T>
struct Quotient {
  HD Results<T, 3> operator()(T a, T b) const { return {{a / b, 1 / b, a / 3}}; }
};
struct QuotientOfTwo {
  __device__ double operator()(double a, double b) const { return a / b; }
};
template <typename T>
struct SquareRoot {
  HD Results<T, 2> operator()(T x) const { return {{std::sqrt(x), std::sqrt(std::fabs(x))}}; }
};
template <typename T>
struct MultiplyAdd {
  HD Results<T, 4> operator()(T a, T b, T c) const {
    return {{std::fma(a, b, c), std::fma(-a, b, c), std::fma(a, b, -c), a * b + c}};
  }
};

// All triples of some edges, and random triples among which c nearly cancels a * b.
template <typename T>
static void expect_multiply_add() {
  using Limits = std::numeric_limits<T>;
  const T few[] = {0,
                   1,
                   (T)-1,
                   (T)(1 / 3.0),
                   std::nextafter((T)1, (T)2),
                   Limits::denorm_min(),
                   -Limits::min(),
                   Limits::max(),
                   (T)-INFINITY,
                   Limits::quiet_NaN(),
                   std::sqrt(Limits::min()),
                   std::ldexp((T)3, -Limits::digits)};
  std::vector<T> a = random_values<T>(6000, 71), b = random_values<T>(6000, 72), c = random_values<T>(6000, 73);
  for (size_t i = 0; i < c.size(); i += 3) c[i] = -a[i] * b[i];
  for (T x : few)
    for (T y : few)
      for (T z : few) {
        a.push_back(x);
        b.push_back(y);
        c.push_back(z);
      }
  expect_same<MultiplyAdd<T>>(a, b, c);
}

TEST(FloatingPoint, ArithmeticOfFloats) {
  const Pairs<float> p = pairs<float>(6000);
  expect_same<Arithmetic<float>>(p.a, p.b);
}

TEST(FloatingPoint, ArithmeticOfDoubles) {
  const Pairs<double> p = pairs<double>(6000);
  expect_same<Arithmetic<double>>(p.a, p.b);
}

TEST(FloatingPoint, DivisionOfFloats) {
  const Pairs<float> p = pairs<float>(6000);
  expect_same<Quotient<float>>(p.a, p.b);
}

// The compiler's division in double ends with q + r * y, which is right if y is 1 / b correctly rounded. Newton's steps
// lead there from any first guess of the hardware's accuracy, unless the fraction of b is all ones: the inverse of
// 1 - 2^-53 lies next to the middle of two doubles. For such divisors the last place is open.
TEST(FloatingPoint, DivisionOfDoubles) {
  Pairs<double> p = pairs<double>(6000), open;
  for (size_t i = 0; i < p.b.size(); i++)
    if (std::isfinite(p.b[i]) && (~bit_cast<uint64_t>(p.b[i]) << 12) == 0) {
      open.a.push_back(p.a[i]);
      open.b.push_back(p.b[i]);
      p.b[i] = std::nextafter(p.b[i], 0.0);
    }
  expect_same<Quotient<double>>(p.a, p.b);
  expect_within<QuotientOfTwo>(
      "quotient", 1, [](long double a, long double b) { return a / b; }, open.a, open.b);
}

TEST(FloatingPoint, SquareRoots) {
  expect_same<SquareRoot<float>>(samples<float>(8000));
  expect_same<SquareRoot<double>>(samples<double>(8000));
}

TEST(FloatingPoint, FusedMultiplyAdd) {
  expect_multiply_add<float>();
  expect_multiply_add<double>();
}

template <typename T>
struct Compare {
  HD uint32_t operator()(T a, T b) const {
    uint32_t mask = 0;
    mask |= (a < b) << 0 | (a <= b) << 1 | (a == b) << 2 | (a != b) << 3 | (a >= b) << 4 | (a > b) << 5;
    mask |= !(a < b) << 6 | !(a <= b) << 7 | !(a >= b) << 8 | !(a > b) << 9;
    mask |= (a < b || a > b) << 10 | !(a < b || a > b) << 11 | (a != a || b != b) << 12 | (a == a && b == b) << 13;
    mask |= (a < (T)1) << 14 | (a == (T)0) << 15;
    if (a < b)
      mask |= 1u << 16;
    else if (a == b)
      mask |= 1u << 17;
    else if (a > b)
      mask |= 1u << 18;
    else
      mask |= 1u << 19;
    return mask;
  }
};
struct CompareHalves {
  __device__ uint32_t operator()(Half a, Half b) const { return Compare<_Float16>()(a.value(), b.value()); }
};

static std::vector<Half> halves(size_t count, uint64_t seed) {
  static const uint16_t special[] = {0,      0x8000, 1,      0x8001, 0x3FF,  0x400,  0x3C00,
                                     0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x3555};
  Random random{seed};
  std::vector<Half> values(count);
  for (Half &x : values) {
    const uint64_t r = random();
    x.bits = r % 4 == 0   ? special[(r >> 8) % 14]
             : r % 4 == 1 ? (uint16_t)(0x3800 + (r >> 8) % 0x1000)
                          : (uint16_t)(r >> 16);
  }
  return values;
}

TEST(FloatingPoint, Comparisons) {
  const Pairs<float> p = pairs<float>(4000);
  expect_same<Compare<float>>(p.a, p.b);
  const Pairs<double> q = pairs<double>(4000);
  expect_same<Compare<double>>(q.a, q.b);
  expect_elementwise<CompareHalves>([](Half a, Half b) { return Compare<double>()(half_value(a), half_value(b)); },
                                    halves(8000, 1), halves(8000, 2));
}

// A NaN argument is missing data. The sign of a zero result is open, hence + 0.
template <typename T>
struct MinMax {
  HD Results<T, 6> operator()(T a, T b) const {
    return {{std::fmin(a, b) + 0, std::fmax(a, b) + 0, std::fmin(std::fmax(a, (T)-2), (T)3) + 0, a < b ? a : b,
             std::fdim(a, b), std::fmax(std::fabs(a), -std::fabs(b)) + 0}};
  }
};

TEST(FloatingPoint, MinimaAndMaxima) {
  Pairs<float> p = pairs<float>(4000);
  Pairs<double> q = pairs<double>(4000);
  // Signaling NaNs become quiet: C leaves their minimum open.
  for (std::vector<float> *values : {&p.a, &p.b})
    for (float &x : *values) x = std::isnan(x) ? NAN : x;
  for (std::vector<double> *values : {&q.a, &q.b})
    for (double &x : *values) x = std::isnan(x) ? NAN : x;
  expect_same<MinMax<float>>(p.a, p.b);
  expect_same<MinMax<double>>(q.a, q.b);
}

template <typename T>
struct Classify {
  HD uint32_t operator()(T x) const {
    const T magnitude = std::fabs(x);
    return (__builtin_isnan(x) ? 1u : 0) | (__builtin_isinf(x) ? 2u : 0) | (__builtin_isfinite(x) ? 4u : 0) |
           (__builtin_isnormal(x) ? 8u : 0) | (__builtin_signbit(x) ? 16u : 0) |
           (magnitude > 0 && magnitude < std::numeric_limits<T>::min() ? 32u : 0);
  }
};

TEST(FloatingPoint, Classification) {
  expect_same<Classify<float>>(samples<float>(4000));
  expect_same<Classify<double>>(samples<double>(4000));
}

// C gives zeros the argument's sign; what AMD's compilers make of round() before LLVM 17 does not, hence + 0.
template <typename T>
struct RoundToWhole {
  HD Results<T, 7> operator()(T x) const {
    return {{std::floor(x), std::ceil(x), std::trunc(x), std::rint(x), std::nearbyint(x), std::round(x) + 0,
             x - std::floor(x)}};
  }
};
struct RoundHalfToWhole {
  __device__ Results<Half, 4> operator()(Half x) const {
    const __half h = __ushort_as_half(x.bits);
    return {{{__half_as_ushort(hfloor(h))},
             {__half_as_ushort(hceil(h))},
             {__half_as_ushort(htrunc(h))},
             {__half_as_ushort(hrint(h))}}};
  }
};

TEST(FloatingPoint, RoundingToWholeNumbers) {
  std::vector<float> x = samples<float>(2000);
  std::vector<double> y = samples<double>(2000);
  for (float v : reals<float>(4000, 81, -3, 25)) x.push_back(v);
  for (double v : reals<double>(4000, 82, -3, 54)) y.push_back(v);
  for (int i = -40; i <= 40; i++) {
    x.push_back(0.25f * (float)i);
    y.push_back(0.25 * i);
  }
  expect_same<RoundToWhole<float>>(x);
  expect_same<RoundToWhole<double>>(y);
  expect_elementwise<RoundHalfToWhole>(
      [](Half h) -> Results<Half, 4> {
        const double v = half_value(h);
        return {{half_of(std::floor(v)), half_of(std::ceil(v)), half_of(std::trunc(v)), half_of(std::nearbyint(v))}};
      },
      all_halves());
}

// Exponents and fractions taken apart and put together; exponents only where C defines them.
template <typename T>
struct Parts {
  HD Results<T, 7> operator()(T x, T y, int n) const {
    int exponent = 0;
    T whole = 0;
    const T fraction = std::frexp(x, &exponent), rest = std::modf(x, &whole);
    const bool ordinary = __builtin_isfinite(x) && x != 0;
    return {{std::copysign(x, y), std::ldexp(x, n), fraction, ordinary ? (T)exponent : 0, whole, rest,
             ordinary ? (T)std::ilogb(x) : 0}};
  }
};
// The sign of nextafter's zeros is open, hence + 0.
template <typename T>
struct ExactRemainders {
  HD Results<T, 3> operator()(T x, T y) const {
    return {{std::fmod(x, y), std::remainder(x, y), std::nextafter(x, y) + 0}};
  }
};

template <typename T>
static void expect_parts() {
  const Pairs<T> p = pairs<T>(4000);
  std::vector<int> n = integers<int>(p.a.size(), 91, -200, 200);
  for (size_t i = 0; i < n.size(); i += 7) n[i] = (int)(i % 5) * 1000 - 2200;
  expect_same<Parts<T>>(p.a, p.b, n);
}

TEST(FloatingPoint, FractionsAndExponents) {
  expect_parts<float>();
  expect_parts<double>();
}

TEST(FloatingPoint, RemaindersAndNeighbours) {
  const Pairs<float> p = pairs<float>(1000);
  expect_same<ExactRemainders<float>>(p.a, p.b);
  const Pairs<double> q = pairs<double>(300);
  expect_same<ExactRemainders<double>>(q.a, q.b);
}

// Sums in a loop: every intermediate value is rounded.
struct Polynomial {
  HD Results<float, 3> operator()(float x) const {
    float horner = 0.25f, sum = 0, fused = 0.25f;
    for (int i = 1; i <= 24; i++) {
      horner = horner * x + 1.0f / (float)i;
      sum += x / (float)(i * i);
      fused = std::fma(fused, x, -0.5f * (float)i);
    }
    return {{horner, sum, fused}};
  }
};

TEST(FloatingPoint, LoopsRoundEveryStep) { expect_same<Polynomial>(reals<float>(4000, 101, -8, 2)); }

// ---------------------------------------------------------------------------------------------------------------------
// Half precision

struct HalfArithmetic {
  __device__ Results<Half, 6> operator()(Half a, Half b) const {
    const _Float16 x = a.value(), y = b.value();
    const _Float16 sum = x + y, difference = x - y, product = x * y, negative = -x;
    const _Float16 smaller = x < y ? x : y;
    const _Float16 square = x * x;
    return {{Half::of(sum), Half::of(difference), Half::of(product), Half::of(negative), Half::of(smaller),
             Half::of(square)}};
  }
};
static Results<Half, 6> half_arithmetic(Half a, Half b) {
  const double x = half_value(a), y = half_value(b);
  return {{half_of(x + y), half_of(x - y), half_of(x * y), half_of(-x), x < y ? a : b, half_of(x * x)}};
}

TEST(HalfPrecision, Arithmetic) {
  expect_elementwise<HalfArithmetic>(half_arithmetic, halves(40000, 1), halves(40000, 2));
}

struct HalfRoots {
  __device__ Results<Half, 2> operator()(Half a, Half b) const {
    return {{{__half_as_ushort(__hdiv(__ushort_as_half(a.bits), __ushort_as_half(b.bits)))},
             {__half_as_ushort(hsqrt(__ushort_as_half(a.bits)))}}};
  }
};

TEST(HalfPrecision, DivisionAndSquareRoot) {
  expect_elementwise<HalfRoots>(
      [](Half a, Half b) -> Results<Half, 2> {
        return {{half_of(half_value(a) / half_value(b)), half_of(std::sqrt(half_value(a)))}};
      },
      halves(40000, 3), halves(40000, 4));
}

// a * b + c with one rounding: the product is exact in double, and a sum that is not is made odd, so that rounding it
// to half cannot round twice.
static Half half_fma(Half a, Half b, Half c) {
  const double product = half_value(a) * half_value(b), addend = half_value(c);
  double sum = product + addend;
  if (std::isfinite(sum)) {
    const double back = sum - product, error = (product - (sum - back)) + (addend - back);
    if (error != 0 && !(bit_cast<uint64_t>(sum) & 1)) sum = std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
  }
  return half_of(sum);
}

struct HalfFma {
  __device__ Half operator()(Half a, Half b, Half c) const {
    return {__half_as_ushort(__hfma(__ushort_as_half(a.bits), __ushort_as_half(b.bits), __ushort_as_half(c.bits)))};
  }
};

TEST(HalfPrecision, FusedMultiplyAdd) {
  expect_elementwise<HalfFma>(half_fma, halves(40000, 5), halves(40000, 6), halves(40000, 7));
}

struct PackedHalves {
  __device__ static uint32_t bits(__half2 x) { return bit_cast<uint32_t>(static_cast<__half2_raw>(x).data); }
  __device__ static __half2 halves(uint32_t bits) {
    return __halves2half2(__ushort_as_half((uint16_t)bits), __ushort_as_half((uint16_t)(bits >> 16)));
  }
  __device__ Results<Half, 12> operator()(uint32_t a, uint32_t b, uint32_t c) const {
    const __half2 x = halves(a), y = halves(b), z = halves(c);
    const uint32_t packed[6] = {bits(__hadd2(x, y)),    bits(__hsub2(x, y)), bits(__hmul2(x, __lowhigh2highlow(y))),
                                bits(__hfma2(x, y, z)), bits(__hneg2(x)),    bits(__highs2half2(x, y))};
    Results<Half, 12> r;
    for (int i = 0; i < 12; i++) r.value[i].bits = (uint16_t)(packed[i / 2] >> 16 * (i % 2));
    return r;
  }
};
static Results<Half, 12> packed_halves(uint32_t a, uint32_t b, uint32_t c) {
  Results<Half, 12> r;
  const auto half = [](uint32_t word, int i) { return Half{(uint16_t)(word >> 16 * i)}; };
  for (int i = 0; i < 2; i++) {
    const Half x = half(a, i), y = half(b, i), z = half(c, i);
    r.value[i] = half_of(half_value(x) + half_value(y));
    r.value[2 + i] = half_of(half_value(x) - half_value(y));
    r.value[4 + i] = half_of(half_value(x) * half_value(half(b, 1 - i)));
    r.value[6 + i] = half_fma(x, y, z);
    r.value[8 + i] = half_of(-half_value(x));
    r.value[10 + i] = half(i ? b : a, 1);
  }
  return r;
}

TEST(HalfPrecision, Packed) {
  std::vector<uint32_t> words[3];
  for (int k = 0; k < 3; k++) {
    const std::vector<Half> low = halves(20000, 10 + k), high = halves(20000, 20 + k);
    for (size_t i = 0; i < low.size(); i++) words[k].push_back(low[i].bits | (uint32_t)high[i].bits << 16);
  }
  expect_elementwise<PackedHalves>(packed_halves, words[0], words[1], words[2]);
}

// Products of halves summed in float, as matrix kernels do; integers, so that no order of summation matters.
__global__ void dot_halves(const Half *a, const Half *b, float *out, int length) {
  float sum = 0;
  for (int i = 0; i < length; i++) {
    const int at = threadIdx.x * length + i;
    sum = fmaf((float)a[at].value(), (float)b[at].value(), sum);
  }
  out[threadIdx.x] = sum;
}

TEST(HalfPrecision, DotProductInFloat) {
  const int rows = 65, length = 37;
  const std::vector<int> x = integers<int>(rows * length, 1, -200, 200), y = integers<int>(rows * length, 2, -200, 200);
  std::vector<Half> a, b;
  std::vector<float> expected(rows, 0.0f);
  for (int i = 0; i < rows * length; i++) {
    a.push_back(half_of(x[i]));
    b.push_back(half_of(y[i]));
    expected[i / length] += (float)(x[i] * y[i]);
  }
  Device<Half> da(a), db(b);
  Device<float> out(rows);
  dot_halves<<<1, rows>>>(da.data(), db.data(), out.data(), length);
  expect_equal(out.fetch(), expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// Library functions, within the bounds that OpenCL C 3.0 (7.4, full profile) sets and AMD's device library keeps

#define FUNCTION_OF_ONE(Name, T, expression)                  \
  struct Name {                                               \
    __device__ T operator()(T x) const { return expression; } \
  }
#define FUNCTION_OF_TWO(Name, T, expression)                       \
  struct Name {                                                    \
    __device__ T operator()(T x, T y) const { return expression; } \
  }

// Uniform in [low, high], and the ends.
template <typename T>
static std::vector<T> between(double low, double high, size_t count = 1500) {
  Random random{7};
  std::vector<T> values = {(T)low, (T)high};
  for (size_t i = 0; i < count; i++) values.push_back((T)(low + (high - low) * ((double)(random() >> 11) / 0x1p53)));
  return values;
}
template <typename T>
static std::vector<T> join(std::vector<T> a, const std::vector<T> &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
template <typename T>
static std::vector<T> positive(std::vector<T> values) {
  for (T &x : values) x = std::fabs(x);
  return values;
}
template <typename T>
static std::vector<T> specials() {
  return {0,
          (T)-0.0,
          1,
          -1,
          (T)INFINITY,
          (T)-INFINITY,
          (T)NAN,
          std::numeric_limits<T>::denorm_min(),
          std::numeric_limits<T>::min()};
}

using Long = long double;
static Long exact_exp(Long x) { return expl(x); }
static Long exact_exp2(Long x) { return exp2l(x); }
static Long exact_expm1(Long x) { return expm1l(x); }
static Long exact_log(Long x) { return logl(x); }
static Long exact_log2(Long x) { return log2l(x); }
static Long exact_log10(Long x) { return log10l(x); }
static Long exact_log1p(Long x) { return log1pl(x); }
static Long exact_sin(Long x) { return sinl(x); }
static Long exact_cos(Long x) { return cosl(x); }
static Long exact_tan(Long x) { return tanl(x); }
static Long exact_tanh(Long x) { return tanhl(x); }
static Long exact_erf(Long x) { return erfl(x); }
static Long exact_cbrt(Long x) { return cbrtl(x); }
static Long exact_rsqrt(Long x) { return 1 / sqrtl(x); }
static Long exact_atan2(Long y, Long x) { return atan2l(y, x); }
static Long exact_pow(Long x, Long y) { return powl(x, y); }

FUNCTION_OF_ONE(ExpF, float, expf(x));
FUNCTION_OF_ONE(Exp2F, float, exp2f(x));
FUNCTION_OF_ONE(Expm1F, float, expm1f(x));
FUNCTION_OF_ONE(LogF, float, logf(x));
FUNCTION_OF_ONE(Log2F, float, log2f(x));
FUNCTION_OF_ONE(Log10F, float, log10f(x));
FUNCTION_OF_ONE(Log1pF, float, log1pf(x));
FUNCTION_OF_ONE(SinF, float, sinf(x));
FUNCTION_OF_ONE(CosF, float, cosf(x));
FUNCTION_OF_ONE(TanF, float, tanf(x));
FUNCTION_OF_ONE(TanhF, float, tanhf(x));
FUNCTION_OF_ONE(ErfF, float, erff(x));
FUNCTION_OF_ONE(CbrtF, float, cbrtf(x));
FUNCTION_OF_ONE(RsqrtF, float, rsqrtf(x));
FUNCTION_OF_TWO(Atan2F, float, atan2f(x, y));
FUNCTION_OF_TWO(PowF, float, powf(x, y));
FUNCTION_OF_ONE(ExpD, double, exp(x));
FUNCTION_OF_ONE(Exp2D, double, exp2(x));
FUNCTION_OF_ONE(LogD, double, log(x));
FUNCTION_OF_ONE(Log2D, double, log2(x));
FUNCTION_OF_ONE(SinD, double, sin(x));
FUNCTION_OF_ONE(CosD, double, cos(x));
FUNCTION_OF_ONE(TanhD, double, tanh(x));
FUNCTION_OF_ONE(ErfD, double, erf(x));
FUNCTION_OF_ONE(CbrtD, double, cbrt(x));
FUNCTION_OF_ONE(RsqrtD, double, rsqrt(x));
FUNCTION_OF_TWO(PowD, double, pow(x, y));

TEST(Library, ExponentialsOfFloats) {
  const std::vector<float> x = join(join(between<float>(-104, 89), reals<float>(500, 1, -30, 0)), specials<float>());
  expect_within<ExpF>("expf", 3, exact_exp, x);
  expect_within<Exp2F>("exp2f", 3, exact_exp2, join(between<float>(-150, 128), x));
  expect_within<Expm1F>("expm1f", 3, exact_expm1, x);
}

TEST(Library, LogarithmsOfFloats) {
  const std::vector<float> x =
      join(join(positive(reals<float>(1500, 2, -149, 127)), between<float>(0.5, 2)), specials<float>());
  expect_within<LogF>("logf", 3, exact_log, x);
  expect_within<Log2F>("log2f", 3, exact_log2, x);
  expect_within<Log10F>("log10f", 3, exact_log10, x);
  expect_within<Log1pF>("log1pf", 2, exact_log1p, join(x, between<float>(-0.999, 1)));
}

TEST(Library, TrigonometryOfFloats) {
  const std::vector<float> x =
      join(join(between<float>(-10, 10), reals<float>(1000, 3, -30, 127)),
           {0.0f, INFINITY, NAN, 1e6f, 1e15f, 3.1415927f, -1.5707964f, 0x1.921fb6p+20f, FLT_MAX, 1e-40f});
  expect_within<SinF>("sinf", 4, exact_sin, x);
  expect_within<CosF>("cosf", 4, exact_cos, x);
  expect_within<TanF>("tanf", 5, exact_tan, x);
}

TEST(Library, RootsAndErrorFunctionsOfFloats) {
  const std::vector<float> x = join(join(between<float>(-6, 6), reals<float>(1500, 4, -149, 127)), specials<float>());
  expect_within<TanhF>("tanhf", 5, exact_tanh, x);
  expect_within<ErfF>("erff", 16, exact_erf, x);
  expect_within<CbrtF>("cbrtf", 2, exact_cbrt, x);
  expect_within<RsqrtF>("rsqrtf", 2, exact_rsqrt, positive(x));
}

template <typename T>
static Pairs<T> powers() {
  Pairs<T> p{positive(reals<T>(1500, 5, -20, 20)), reals<T>(1500, 6, -6, 2)};
  for (T x : {(T)0, (T)-0.0, (T)1, (T)-1, (T)2, (T)-2, (T)0.5, (T)-1.5, (T)10, (T)INFINITY, (T)-INFINITY, (T)NAN,
              std::numeric_limits<T>::denorm_min()})
    for (T y : {(T)0, (T)-0.0, (T)1, (T)-1, (T)2, (T)3, (T)-3, (T)0.5, (T)1.25, (T)31, (T)-24, (T)INFINITY,
                (T)-INFINITY, (T)NAN}) {
      p.a.push_back(x);
      p.b.push_back(y);
    }
  return p;
}

TEST(Library, PowersOfFloats) {
  const Pairs<float> p = powers<float>();
  expect_within<PowF>("powf", 16, exact_pow, p.a, p.b);
  expect_within<Atan2F>("atan2f", 6, exact_atan2, reals<float>(2000, 7, -20, 20), reals<float>(2000, 8, -20, 20));
}

TEST(Library, ExponentialsAndLogarithmsOfDoubles) {
  const std::vector<double> x =
      join(join(between<double>(-746, 710), reals<double>(500, 1, -60, 0)), specials<double>());
  expect_within<ExpD>("exp", 3, exact_exp, x);
  expect_within<Exp2D>("exp2", 3, exact_exp2, join(between<double>(-1075, 1024), specials<double>()));
  const std::vector<double> y =
      join(join(positive(reals<double>(1500, 2, -1074, 1023)), between<double>(0.5, 2)), specials<double>());
  expect_within<LogD>("log", 3, exact_log, y);
  expect_within<Log2D>("log2", 3, exact_log2, y);
}

TEST(Library, TrigonometryOfDoubles) {
  const std::vector<double> x = join(join(between<double>(-10, 10, 700), reals<double>(700, 3, -60, 1023)),
                                     {0.0, (double)INFINITY, (double)NAN, 1e6, 1e15, 1e22, 1e300, 0x1.921fb54442d18p+1,
                                      -0x1.921fb54442d18p+0, DBL_MAX, 1e-310});
  expect_within<SinD>("sin", 4, exact_sin, x);
  expect_within<CosD>("cos", 4, exact_cos, x);
}

TEST(Library, PowersRootsAndErrorFunctionsOfDoubles) {
  const std::vector<double> x =
      join(join(between<double>(-7, 7, 700), reals<double>(700, 4, -1074, 1023)), specials<double>());
  expect_within<TanhD>("tanh", 5, exact_tanh, x);
  expect_within<ErfD>("erf", 16, exact_erf, x);
  expect_within<CbrtD>("cbrt", 2, exact_cbrt, x);
  expect_within<RsqrtD>("rsqrt", 2, exact_rsqrt, positive(x));
  const Pairs<double> p = powers<double>();
  expect_within<PowD>("pow", 16, exact_pow, p.a, p.b);
}

// sincos gives what sin and cos give.
struct SinCos {
  __device__ Results<double, 4> operator()(double x) const {
    float s, c;
    double ds, dc;
    sincosf((float)x, &s, &c);
    sincos(x, &ds, &dc);
    return {{s, c, ds, dc}};
  }
};

TEST(Library, SineAndCosineTogether) {
  const std::vector<double> x = join(between<double>(-100, 100, 700), {1e6, 1e15, 1e22});
  Device<double> in(x);
  Device<Results<double, 4>> out(x.size());
  elementwise<SinCos><<<7, 128>>>(out.data(), x.size(), (const double *)in.data());
  const std::vector<Results<double, 4>> actual = out.fetch();
  for (size_t i = 0; i < x.size(); i++) {
    const Long f = (Long)(float)x[i];
    ASSERT_LE(ulps((float)actual[i].value[0], sinl(f)), 4) << show(x[i]);
    ASSERT_LE(ulps((float)actual[i].value[1], cosl(f)), 4) << show(x[i]);
    ASSERT_LE(ulps(actual[i].value[2], sinl(x[i])), 4) << show(x[i]);
    ASSERT_LE(ulps(actual[i].value[3], cosl(x[i])), 4) << show(x[i]);
  }
}

// The fast functions multiply their argument by a float constant before, or their result after, the hardware's
// approximation, which itself is taken to be within 2^-22. So the bound is of the absolute error.
template <typename Op, typename Bound>
static void expect_fast(const char *name, Long (*reference)(Long), double low, double high, Bound bound) {
  const std::vector<float> x = between<float>(low, high, 3000);
  Device<float> in(x), out(x.size());
  elementwise<Op><<<dim3((x.size() + 255) / 256), 256>>>(out.data(), x.size(), (const float *)in.data());
  const std::vector<float> actual = out.fetch();
  for (size_t i = 0; i < x.size(); i++) {
    const Long exact = reference(x[i]);
    if (!(std::fabs((Long)actual[i] - exact) <= bound(std::fabs(x[i]), std::fabs((double)exact))))
      return report((long)i, show(actual[i]), show((double)exact), std::string(": ") + name + " of " + show(x[i]));
  }
}

FUNCTION_OF_ONE(FastExp, float, __expf(x));
FUNCTION_OF_ONE(FastSin, float, __sinf(x));
FUNCTION_OF_ONE(FastCos, float, __cosf(x));
FUNCTION_OF_ONE(FastLog, float, __logf(x));
FUNCTION_OF_ONE(FastLog2, float, __log2f(x));
FUNCTION_OF_ONE(FastRsqrt, float, __frsqrt_rn(x));

TEST(Library, FastFunctions) {
  const double pi = 3.14159265358979;
  const auto of_angle = [](double x, double) { return x * 0x1p-23 + 0x1p-22; };
  const auto of_power = [](double x, double exact) { return exact * (x * 0x1p-23 + 0x1p-22); };
  const auto of_logarithm = [](double, double exact) { return exact * 0x1p-22 + 0x1p-22; };
  expect_fast<FastSin>("__sinf", exact_sin, -pi, pi, of_angle);
  expect_fast<FastCos>("__cosf", exact_cos, -pi, pi, of_angle);
  expect_fast<FastExp>("__expf", exact_exp, -10, 10, of_power);
  expect_fast<FastLog>("__logf", exact_log, 1e-6, 1e6, of_logarithm);
  expect_fast<FastLog2>("__log2f", exact_log2, 1e-6, 1e6, of_logarithm);
  expect_within<FastRsqrt>("__frsqrt_rn", 1, exact_rsqrt, between<float>(0.01, 100));
}

// ---------------------------------------------------------------------------------------------------------------------
// Control flow: every lane takes its own way

struct Collatz {
  HD Results<uint64_t, 2> operator()(uint32_t start) const {
    uint64_t n = (uint64_t)start + 1, steps = 0, highest = n;
    while (n != 1) {
      n = n % 2 ? 3 * n + 1 : n / 2;
      if (n > highest) highest = n;
      steps++;
    }
    return {{steps, highest}};
  }
};

struct GreatestCommonDivisor {
  HD uint64_t operator()(uint64_t a, uint64_t b) const {
    while (b != 0) {
      const uint64_t rest = a % b;
      a = b;
      b = rest;
    }
    return a;
  }
};

struct IntegerSquareRoot {
  HD uint64_t operator()(uint64_t x) const {
    if (x < 2) return x;
    uint64_t root = x / 2 + 1;
    for (;;) {
      const uint64_t next = root / 2 + x / root / 2 + (root % 2 + x / root % 2) / 2;
      if (next >= root) break;
      root = next;
    }
    return root;
  }
};

struct SmallestFactor {
  HD uint32_t operator()(uint32_t x) const {
    if (x < 2) return 0;
    if (x % 2 == 0) return 2;
    for (uint32_t d = 3; d * d <= x; d += 2)
      if (x % d == 0) return d;
    return x;
  }
};

TEST(ControlFlow, LoopsOfVaryingLength) {
  expect_same<Collatz>(integers<uint32_t>(1000, 1, 0, 100000));
  const Pairs<uint64_t> p = pairs<uint64_t>(500);
  expect_same<GreatestCommonDivisor>(p.a, p.b);
  expect_same<IntegerSquareRoot>(samples<uint64_t>(500));
  expect_same<SmallestFactor>(integers<uint32_t>(1000, 2, 0, 200000));
}

// Nested loops and branches with break, continue, fall-through, return out of the middle.
struct Maze {
  HD uint32_t operator()(uint32_t x) const {
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < (x & 31); i++) {
      switch ((x >> i % 13) % 7) {
        case 0:
          hash ^= i;
          continue;
        case 1:
          hash += x;
          break;
        case 2:
          if (hash & 1) {
            hash = hash * 3 + 1;
            break;
          }
          hash >>= 1;
          [[fallthrough]];
        case 3:
          for (uint32_t j = 0; j < i; j++) {
            if (j == (x & 7)) break;
            if (j % 3 == 1) continue;
            hash = hash * 33 + j;
          }
          break;
        case 4:
          if (i > 20) return hash ^ 0xDEAD;
          hash -= 77;
          break;
        case 5:
          do {
            hash = hash / 3 + 1;
          } while (hash > x);
          break;
        default:
          hash = hash << 5 | hash >> 27;
      }
      if (hash % 251 == 0) break;
      hash += i % 2 ? (hash & 2 ? 5 : 9) : (x & 4 ? 13 : (hash & 8 ? 17 : 21));
    }
    return hash;
  }
};

// A sparse switch, conditions joined by && and ||, and a goto out of two loops.
struct Choices {
  HD int operator()(int x, int y) const {
    int result = 0;
    switch (x) {
      case -1000:
        result = 1;
        break;
      case 0:
        result = y;
        break;
      case 17:
        result = y * 2;
        break;
      case 18:
        result = -y;
        break;
      case 255:
        result = y & 15;
        break;
      case 65536:
        result = y % 10;
        break;
      default:
        result = x > y ? x - y : 7;
    }
    if ((x > 0 && y > 0 && x % 2 == 0) || (y < -5 && x != 18)) result += 1000;
    for (int i = 0; i < 20; i++)
      for (int j = 0; j < i; j++)
        if (i * j > (x & 127) || (result & 63) == 63) {
          result += i * 100 + j;
          goto done;
        } else {
          result ^= j;
        }
    result = -result;
  done:
    return result;
  }
};

TEST(ControlFlow, NestedBranches) {
  expect_same<Maze>(join(integers<uint32_t>(4000, 1, 0, 1023), samples<uint32_t>(4000)));
  std::vector<int> x = integers<int>(3000, 2, -1000, 1000), y = integers<int>(3000, 3, -50, 50);
  for (size_t i = 0; i < x.size(); i += 2) {
    static const int cases[] = {-1000, 0, 17, 18, 255, 65536, 3};
    x[i] = cases[i / 2 % 7];
  }
  expect_same<Choices>(x, y);
}

struct Mandelbrot {
  HD int operator()(float cx, float cy) const {
    float x = 0, y = 0;
    for (int i = 0; i < 200; i++) {
      const float xx = x * x, yy = y * y;
      if (xx + yy > 4.0f) return i;
      y = 2.0f * x * y + cy;
      x = xx - yy + cx;
    }
    return -1;
  }
};

TEST(ControlFlow, Mandelbrot) {
  expect_same<Mandelbrot>(between<float>(-2, 1, 2500), positive(between<float>(-1, 1.3, 2500)));
}

// Threads search sorted numbers, count a byte string's matches, and leave early.
__global__ void search(const int *sorted, int length, const char *text, int text_length, const int *keys,
                       int keys_length, int *out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= keys_length) return;
  const int key = keys[i];
  int low = 0, high = length;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (sorted[middle] < key)
      low = middle + 1;
    else
      high = middle;
  }
  out[2 * i] = low;
  if (key < 0) {
    out[2 * i + 1] = -1;
    return;
  }
  int matches = 0;
  for (int at = 0; at + 3 <= text_length; at++) {
    int k = 0;
    while (k < 3 && text[at + k] == (char)('a' + key / (k * k + 1) % 3)) k++;
    if (k == 3) matches++;
  }
  out[2 * i + 1] = matches;
}

TEST(ControlFlow, Searches) {
  std::vector<int> sorted = integers<int>(777, 1, -3000, 3000), keys = integers<int>(450, 2, -3200, 3200), expected;
  std::sort(sorted.begin(), sorted.end());
  std::vector<char> text;
  for (int x : integers<int>(200, 3, 0, 2)) text.push_back((char)('a' + x));
  for (int key : keys) {
    expected.push_back((int)(std::lower_bound(sorted.begin(), sorted.end(), key) - sorted.begin()));
    int matches = 0;
    for (size_t at = 0; at + 3 <= text.size(); at++)
      matches += text[at] == 'a' + key % 3 && text[at + 1] == 'a' + key / 2 % 3 && text[at + 2] == 'a' + key / 5 % 3;
    expected.push_back(key < 0 ? -1 : matches);
  }
  Device<int> d_sorted(sorted), d_keys(keys), out(2 * keys.size());
  Device<char> d_text(text);
  search<<<5, 100>>>(d_sorted.data(), (int)sorted.size(), d_text.data(), (int)text.size(), d_keys.data(),
                     (int)keys.size(), out.data());
  expect_equal(out.fetch(), expected);
}

// A counter that needs more than 32 bits, and a step that is not known when compiling.
struct LongLoop {
  HD uint64_t operator()(uint64_t start, uint32_t step) const {
    uint64_t sum = 0;
    const uint64_t stride = (uint64_t)(step % 1000 + 1) << 30;
    for (uint64_t i = start % 1000; i < (1ull << 38); i += stride) sum = sum * 31 + (i >> 3);
    return sum;
  }
};

TEST(ControlFlow, LoopsOver64Bits) {
  expect_same<LongLoop>(samples<uint64_t>(400), integers<uint32_t>(400, 1, 0, 5000));
}

// ---------------------------------------------------------------------------------------------------------------------
// Functions, stack and local memory

HD NOINLINE uint32_t ackermann(uint32_t m, uint32_t n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}
HD NOINLINE uint32_t fibonacci(uint32_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
HD NOINLINE bool is_odd(uint32_t n);
HD NOINLINE bool is_even(uint32_t n) { return n == 0 || is_odd(n - 1); }
HD NOINLINE bool is_odd(uint32_t n) { return n != 0 && is_even(n - 1); }
// Ways to put the remaining queens on a board of `size` columns.
HD NOINLINE int queens(int size, uint32_t columns, uint32_t left, uint32_t right) {
  if (columns == (1u << size) - 1) return 1;
  int count = 0;
  for (uint32_t free = ~(columns | left | right) & ((1u << size) - 1); free; free &= free - 1) {
    const uint32_t bit = free & (0 - free);
    count += queens(size, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
  return count;
}
// Its frames hold an array each.
HD NOINLINE uint32_t digest(const uint32_t *values, int length) {
  uint32_t own[6];
  for (int i = 0; i < 6; i++) own[i] = values[i % length] * (uint32_t)(i + 3) + (uint32_t)length;
  if (length <= 1) return own[5];
  const uint32_t below = digest(own + length % 3, length - 1);
  return below ^ own[below % 6];
}

struct Recursion {
  HD Results<uint32_t, 5> operator()(uint32_t x) const {
    const uint32_t seeds[4] = {x, x * 7, x ^ 0xFFFF, x + 99};
    return {{ackermann(x % 3, x / 3 % 4), fibonacci(x % 11), is_even(x % 13) ? 1u : 0u,
             (uint32_t)queens((int)(x % 6) + 1, 0, 0, 0), digest(seeds, 4)}};
  }
};

TEST(Functions, Recursion) { expect_same<Recursion>(integers<uint32_t>(300, 1, 0, 100000)); }

struct Record {
  int8_t tag;
  double weights[3];
  int16_t counts[5];
  float scale;
  int64_t total;
};

// More arguments than registers pass, structs in and out by value, results through pointers to the caller's locals.
HD NOINLINE Record combine(Record a, Record b, int k, const float *extra, int *calls) {
  Record r = a;
  r.tag = (int8_t)(a.tag - b.tag);
  for (int i = 0; i < 3; i++) r.weights[i] = a.weights[i] * 2 + b.weights[2 - i];
  for (int i = 0; i < 5; i++) r.counts[i] = (int16_t)(a.counts[(i + k) % 5] + b.counts[i]);
  r.scale = a.scale * extra[k & 3] - b.scale;
  r.total = a.total + b.total * k;
  ++*calls;
  return r;
}
HD NOINLINE int64_t forty(int a0, int a1, int a2, int64_t a3, int a4, int8_t a5, int a6, uint16_t a7, int a8, int a9,
                          double b0, int b1, float b2, int b3, int64_t b4, int b5, int b6, int b7, int b8, int b9,
                          int c0, int c1, int c2, int c3, uint8_t c4, int c5, int64_t c6, int c7, int c8, int c9,
                          int d0, int d1, int d2, int d3, int d4, int d5, int64_t d6, int d7, int d8, bool d9) {
  return a0 + 2 * a1 - a2 + a3 + a4 * a5 - a6 + a7 + a8 - a9 + (int64_t)b0 + b1 + (int64_t)b2 - b3 + b4 + b5 - b6 +
         b7 * b8 - b9 + c0 - c1 + c2 - c3 + c4 - c5 + c6 - c7 + c8 * c9 + d0 - d1 + d2 - d3 + d4 + d5 - d6 + d7 * 5 -
         d8 + (d9 ? 1000000 : 0);
}

struct Calls {
  HD Results<double, 6> operator()(int x, int y) const {
    Record a = {(int8_t)x, {x * 0.5, y * 0.25, 3}, {1, 2, (int16_t)x, (int16_t)y, 5}, (float)y, (int64_t)x << 33};
    Record b = {(int8_t)y, {1, 2, y * 0.125}, {(int16_t)(x * y), 7, 8, 9, 10}, 0.5f, y};
    const float extra[4] = {1, 2, 3, (float)x};
    int calls = 0;
    for (int k = 0; k < (x & 3) + 1; k++) a = combine(a, b, k, extra, &calls);
    const int64_t sum = forty(x, y, 1, (int64_t)x << 32, 2, (int8_t)y, 3, (uint16_t)x, 4, 5, x * 1.0, 6, (float)y, 7,
                              (int64_t)y << 20, 8, 9, x, y, 10, x, y, 11, 12, (uint8_t)x, 13, -(int64_t)y << 40, 14, y,
                              15, 16, 17, x + y, 18, 19, 20, (int64_t)x * y, 21, 22, x > y);
    return {{a.weights[0] + a.weights[1], a.weights[2] + a.tag, (double)(a.counts[0] + 3 * a.counts[4]), a.scale,
             (double)a.total + calls, (double)(sum % (1ll << 52))}};
  }
};

TEST(Functions, StructsAndManyArguments) {
  expect_same<Calls>(integers<int>(1000, 1, -100, 100), integers<int>(1000, 2, -100, 100));
}

HD NOINLINE int op_add(int a, int b) { return a + b; }
HD NOINLINE int op_subtract(int a, int b) { return a - b; }
HD NOINLINE int op_mix(int a, int b) { return (a ^ b) * 3; }
HD NOINLINE int op_larger(int a, int b) { return a > b ? a : b; }

using Operation = int (*)(int, int);

// Lanes of one wave call different functions.
struct CallThroughPointers {
  HD int operator()(int which, int a, int b) const {
    const Operation operations[4] = {op_add, op_subtract, op_mix, op_larger};
    int result = a;
    for (int i = 0; i < 3; i++) result = operations[(which + i * which) & 3](result, b + i);
    return result;
  }
};

// A function with LDS of its own; the block meets in it.
__device__ NOINLINE int rotate_block(int x, int by) {
  __shared__ int slots[128];
  __syncthreads();
  slots[threadIdx.x] = x;
  __syncthreads();
  return slots[(threadIdx.x + by) % blockDim.x];
}
__global__ void rotate_twice(const int *in, int *out) {
  __shared__ int first[4];
  const int i = threadIdx.x, x = in[i];
  if (i < 4) first[i] = x;
  out[i] = rotate_block(rotate_block(x, 3) + i, 50) + first[i % 4];
}

TEST(Functions, LdsOfTheirOwn) {
  const int n = 128;
  const std::vector<int> in = integers<int>(n, 1, -1000, 1000);
  std::vector<int> expected;
  for (int i = 0; i < n; i++) expected.push_back(in[(i + 53) % n] + (i + 50) % n + in[i % 4]);
  Device<int> d_in(in), out(n);
  rotate_twice<<<1, n>>>(d_in.data(), out.data());
  expect_equal(out.fetch(), expected);
}

TEST(Functions, Pointers) {
  expect_same<CallThroughPointers>(integers<int>(500, 1, 0, 3), integers<int>(500, 2, -1000, 1000),
                                   integers<int>(500, 3, -1000, 1000));
}

// Arrays in the thread's own memory, indexed by data: sort, count, and look bytes up.
struct LocalArrays {
  HD Results<uint32_t, 4> operator()(uint32_t seed) const {
    uint32_t numbers[23];
    uint8_t bytes[64];
    int16_t counts[16] = {};
    double sums[5] = {0, 0, 0, 0, 0};
    for (int i = 0; i < 23; i++) {
      seed = seed * 1664525u + 1013904223u;
      numbers[i] = seed >> 8;
    }
    for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)(i * 37 + (int)(seed >> 24));
    for (int i = 1; i < 23; i++) {
      const uint32_t x = numbers[i];
      int at = i;
      for (; at > 0 && numbers[at - 1] > x; at--) numbers[at] = numbers[at - 1];
      numbers[at] = x;
    }
    for (int i = 0; i < 23; i++) {
      counts[numbers[i] % 16]++;
      sums[numbers[i] % 5] += numbers[i] * 0.5;
      bytes[numbers[i] % 64] ^= (uint8_t)i;
    }
    uint32_t hash = 0;
    for (int i = 0; i < 64; i++) hash = hash * 31 + bytes[(i * 11 + (int)seed) & 63];
    for (int i = 0; i < 16; i++) hash = hash * 31 + (uint32_t)counts[i];
    return {{numbers[seed % 23], numbers[22] - numbers[0], hash, (uint32_t)(uint64_t)(sums[seed % 5] * 2)}};
  }
};

TEST(Functions, LocalArrays) { expect_same<LocalArrays>(samples<uint32_t>(500)); }

// ---------------------------------------------------------------------------------------------------------------------
// Launches and arguments

__global__ void write_ids(Results<uint32_t, 4> *out) {
  const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[(size_t)block * blockDim.x * blockDim.y * blockDim.z + thread] = {
      {threadIdx.x | threadIdx.y << 10 | threadIdx.z << 20, blockIdx.x | blockIdx.y << 10 | blockIdx.z << 20,
       blockDim.x | blockDim.y << 10 | blockDim.z << 20, gridDim.x | gridDim.y << 10 | gridDim.z << 20}};
}

TEST(Launches, ThreeDimensions) {
  const dim3 shapes[][2] = {{{1, 1, 1}, {1, 1, 1}},    {{3, 5, 2}, {7, 3, 5}},   {{2, 1, 3}, {1, 33, 2}},
                            {{1, 7, 1}, {65, 1, 1}},   {{5, 1, 1}, {32, 4, 8}},  {{1, 1, 4}, {1, 1, 64}},
                            {{2, 2, 2}, {10, 10, 10}}, {{1, 2, 1}, {1024, 1, 1}}};
  for (const auto &shape : shapes) {
    const dim3 g = shape[0], b = shape[1];
    std::vector<uint32_t> expected;
    for (uint32_t block = 0; block < g.x * g.y * g.z; block++)
      for (uint32_t thread = 0; thread < b.x * b.y * b.z; thread++) {
        expected.push_back(thread % b.x | thread / b.x % b.y << 10 | thread / b.x / b.y << 20);
        expected.push_back(block % g.x | block / g.x % g.y << 10 | block / g.x / g.y << 20);
        expected.push_back(b.x | b.y << 10 | b.z << 20);
        expected.push_back(g.x | g.y << 10 | g.z << 20);
      }
    Device<Results<uint32_t, 4>> out(expected.size() / 4);
    write_ids<<<g, b>>>(out.data());
    const std::vector<Results<uint32_t, 4>> actual = out.fetch();
    expect_equal(std::vector<uint32_t>(actual[0].value, actual[0].value + expected.size()), expected,
                 "blocks of " + std::to_string(b.x) + " x " + std::to_string(b.y) + " x " + std::to_string(b.z));
  }
}

__global__ void accumulate_grid_stride(uint32_t *out, size_t count) {
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
    out[i] = (uint32_t)(i * i) + gridDim.x;
}

TEST(Launches, GridStrideAndManyBlocks) {
  for (int block : kBlockSizes) {
    const size_t count = 5003;
    std::vector<uint32_t> expected;
    for (size_t i = 0; i < count; i++) expected.push_back((uint32_t)(i * i) + 13);
    Device<uint32_t> out(count);
    accumulate_grid_stride<<<13, block>>>(out.data(), count);
    expect_equal(out.fetch(), expected, std::to_string(block) + " threads");
  }
  Device<uint32_t> out(3000);
  accumulate_grid_stride<<<3000, 1>>>(out.data(), 3000);
  std::vector<uint32_t> expected;
  for (size_t i = 0; i < 3000; i++) expected.push_back((uint32_t)(i * i) + 3000);
  expect_equal(out.fetch(), expected);
}

// Padding, arrays, pointers and other structs inside; larger than any register file's worth of arguments.
struct Inner {
  char c;
  double d;
};
struct LargeArgument {
  char first;
  int64_t wide;
  int16_t odd[7];
  Inner inner[3];
  const float *values;
  uint8_t bytes[5];
  float matrix[4][4];
  struct {
    const int *index;
    uint16_t length;
  } list;
  int table[64];
};
struct Small {
  int16_t a;
  int8_t b;
};

__global__ void read_large_argument(char before, LargeArgument arg, Small small, double *out, bool flag) {
  const int i = threadIdx.x;
  double sum = before + arg.first + (double)arg.wide + arg.odd[i % 7] + arg.inner[i % 3].c * arg.inner[i % 3].d;
  sum += arg.values[arg.list.index[i % arg.list.length]] + arg.bytes[i % 5] + arg.matrix[i % 4][i / 4 % 4] +
         arg.table[i % 64];
  out[i] = flag ? sum * small.a - small.b : 0;
}

TEST(Launches, LargeStructArgument) {
  LargeArgument arg = {};
  const std::vector<float> values = reals<float>(50, 1, 0, 4);
  const std::vector<int> index = integers<int>(33, 2, 0, 49);
  Device<float> d_values(values);
  Device<int> d_index(index);
  arg.first = -5;
  arg.wide = 0x123456789All;
  for (int i = 0; i < 7; i++) arg.odd[i] = (int16_t)(i * 1000 - 2500);
  for (int i = 0; i < 3; i++) arg.inner[i] = {(char)(i - 1), i * 1.5};
  arg.values = d_values.data();
  for (int i = 0; i < 5; i++) arg.bytes[i] = (uint8_t)(250 + i);
  for (int i = 0; i < 16; i++) arg.matrix[i / 4][i % 4] = (float)i * 0.25f;
  arg.list.index = d_index.data();
  arg.list.length = (uint16_t)index.size();
  for (int i = 0; i < 64; i++) arg.table[i] = i * i * i;
  const Small small = {-300, 77};
  const int threads = 200;
  std::vector<double> expected;
  for (int i = 0; i < threads; i++) {
    double sum = 42 + arg.first + (double)arg.wide + arg.odd[i % 7] + arg.inner[i % 3].c * arg.inner[i % 3].d;
    sum += values[index[i % 33]] + arg.bytes[i % 5] + arg.matrix[i % 4][i / 4 % 4] + arg.table[i % 64];
    expected.push_back(sum * small.a - small.b);
  }
  Device<double> out(threads);
  read_large_argument<<<1, threads>>>(42, arg, small, out.data(), true);
  expect_equal(out.fetch(), expected);
}

__global__ void read_many_arguments(char a, int64_t b, uint16_t c, float d, uint8_t e, double f, int g, bool h,
                                    int16_t i, uint64_t j, int8_t k, float l, uint32_t m, bool n, double o, int16_t p,
                                    char q, int64_t r, uint8_t s, double *out, uint16_t t, int8_t u, float3 v, int w,
                                    long x, unsigned char y, short4 z) {
  const double values[29] = {(double)a, (double)b, (double)c, d,           (double)e,  f,         (double)g, (double)h,
                             (double)i, (double)j, (double)k, l,           (double)m,  (double)n, o,         (double)p,
                             (double)q, (double)r, (double)s, (double)t,   (double)u,  v.x,       v.y,       v.z,
                             (double)w, (double)x, (double)y, (double)z.y, (double)z.w};
  if (threadIdx.x < 29) out[threadIdx.x] = values[threadIdx.x];
}

TEST(Launches, ArgumentsOfMixedWidths) {
  Device<double> out(29);
  read_many_arguments<<<1, 29>>>(-1, -0x123456789ll, 65535, 1.5f, 200, -2.25, -7, true, -300, 0x8000000000000000u, -128,
                                 0.125f, 4000000000u, false, 1e300, 32767, 'q', -1, 255, out.data(), 1, -2,
                                 make_float3(1, 2, 3), INT_MIN, LONG_MIN, 9, make_short4(1, -2, 3, -4));
  expect_equal(out.fetch(), {-1,
                             -(double)0x123456789ll,
                             65535,
                             1.5,
                             200,
                             -2.25,
                             -7,
                             1,
                             -300,
                             0x1p63,
                             -128,
                             0.125,
                             4000000000.0,
                             0,
                             1e300,
                             32767,
                             'q',
                             -1,
                             255,
                             1,
                             -2,
                             1,
                             2,
                             3,
                             INT_MIN,
                             (double)LONG_MIN,
                             9,
                             -2,
                             -4});
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

// Bytes and 16-bit numbers, signed and unsigned, at any offset.
__global__ void narrow_copies(const uint8_t *in, uint8_t *bytes, int16_t *words, int count, int offset) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  bytes[i + offset] = (uint8_t)(in[count - 1 - i] + 1);
  words[i + offset] = (int16_t)((int8_t)in[i] * 3);
}

TEST(Memory, BytesAndShorts) {
  for (int offset = 0; offset < 4; offset++) {
    const int count = 1001;
    const std::vector<uint8_t> in = random_values<uint8_t>(count, 1);
    std::vector<uint8_t> bytes(count + 8, 0xCD);
    std::vector<int16_t> words(count + 8, (int16_t)0xCDCD);
    for (int i = 0; i < count; i++) {
      bytes[i + offset] = (uint8_t)(in[count - 1 - i] + 1);
      words[i + offset] = (int16_t)((int8_t)in[i] * 3);
    }
    Device<uint8_t> d_in(in), d_bytes(count + 8);
    Device<int16_t> d_words(count + 8);
    narrow_copies<<<8, 128>>>(d_in.data(), d_bytes.data(), d_words.data(), count, offset);
    expect_equal(d_bytes.fetch(), bytes, "bytes");  // what lies beside them must be as it was
    expect_equal(d_words.fetch(), words, "shorts");
  }
}

struct __attribute__((packed)) Packed {
  uint8_t kind;
  uint32_t number;
  int16_t small;
  double real;
  uint64_t wide;
};
static_assert(sizeof(Packed) == 23, "");

__global__ void update_packed(Packed *records, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  Packed &r = records[i];
  r.number = r.number * 3 + r.kind;
  r.small = (int16_t)(r.small - 5);
  r.real = r.real * 0.5 + (double)r.small;
  r.wide = r.wide << 8 | r.kind;
  r.kind ^= 0x55;
}

// The compiler makes 4 and 8-byte accesses of it at any address, as ROCm lets it: the simulator needs
// AMDSIM_UNALIGNED=1.
TEST(Memory, PackedStructs) {
  const int count = 130;
  std::vector<uint8_t> bytes = random_values<uint8_t>(count * sizeof(Packed), 1);
  for (int i = 0; i < count; i++) {  // ordinary numbers
    const double real = i * 1.25 - 50;
    std::memcpy(bytes.data() + i * sizeof(Packed) + offsetof(Packed, real), &real, sizeof real);
  }
  Device<uint8_t> device(bytes);
  for (int i = 0; i < count; i++) {
    Packed r;
    std::memcpy(&r, bytes.data() + i * sizeof r, sizeof r);
    r.number = r.number * 3 + r.kind;
    r.small = (int16_t)(r.small - 5);
    r.real = r.real * 0.5 + (double)r.small;
    r.wide = r.wide << 8 | r.kind;
    r.kind ^= 0x55;
    std::memcpy(bytes.data() + i * sizeof r, &r, sizeof r);
  }
  update_packed<<<2, 100>>>((Packed *)device.data(), count);
  expect_equal(device.fetch(), bytes);
}

__global__ void vector_types(const float4 *f, const int4 *n, const double2 *d, const uchar4 *c, const ushort2 *s,
                             const float3 *t, int count, float4 *f_out, int4 *n_out, double2 *d_out, uchar4 *c_out,
                             float3 *t_out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float4 x = f[i];
  const int4 y = n[i];
  f_out[i] = make_float4(x.w, x.x + x.y, x.z * 2.0f, -x.x);
  n_out[i] = make_int4(y.x ^ y.w, y.y - s[i].x, y.z & s[i].y, y.w + 1);
  d_out[count - 1 - i] = make_double2(d[i].y, d[i].x + x.x);
  c_out[i] = make_uchar4(c[i].w, c[i].z, (unsigned char)(c[i].y + c[i].x), 7);
  t_out[i] = make_float3(t[i].z, t[i].x, t[i].y * 0.5f);
}

TEST(Memory, VectorTypes) {
  const int count = 333;
  const std::vector<float> f = reals<float>(4 * count, 1, -5, 5), t = reals<float>(3 * count, 2, -5, 5);
  const std::vector<int> n = integers<int>(4 * count, 3, -100000, 100000);
  const std::vector<double> d = reals<double>(2 * count, 4, -5, 5);
  const std::vector<uint8_t> c = random_values<uint8_t>(4 * count, 5);
  const std::vector<uint16_t> s = random_values<uint16_t>(2 * count, 6);
  std::vector<float> f_out(4 * count), t_out(3 * count);
  std::vector<int> n_out(4 * count);
  std::vector<double> d_out(2 * count);
  std::vector<uint8_t> c_out(4 * count);
  for (int i = 0; i < count; i++) {
    const float *x = &f[4 * i];
    const int *y = &n[4 * i];
    const float fs[] = {x[3], x[0] + x[1], x[2] * 2, -x[0]}, ts[] = {t[3 * i + 2], t[3 * i], t[3 * i + 1] * 0.5f};
    const int ns[] = {y[0] ^ y[3], y[1] - s[2 * i], y[2] & s[2 * i + 1], y[3] + 1};
    const uint8_t cs[] = {c[4 * i + 3], c[4 * i + 2], (uint8_t)(c[4 * i + 1] + c[4 * i]), 7};
    std::copy(fs, fs + 4, &f_out[4 * i]);
    std::copy(ts, ts + 3, &t_out[3 * i]);
    std::copy(ns, ns + 4, &n_out[4 * i]);
    std::copy(cs, cs + 4, &c_out[4 * i]);
    d_out[2 * (count - 1 - i)] = d[2 * i + 1];
    d_out[2 * (count - 1 - i) + 1] = d[2 * i] + (double)x[0];
  }
  Device<float> df(f), dt(t), df_out(f.size()), dt_out(t.size());
  Device<int> dn(n), dn_out(n.size());
  Device<double> dd(d), dd_out(d.size());
  Device<uint8_t> dc(c), dc_out(c.size());
  Device<uint16_t> ds(s);
  vector_types<<<4, 100>>>((float4 *)df.data(), (int4 *)dn.data(), (double2 *)dd.data(), (uchar4 *)dc.data(),
                           (ushort2 *)ds.data(), (float3 *)dt.data(), count, (float4 *)df_out.data(),
                           (int4 *)dn_out.data(), (double2 *)dd_out.data(), (uchar4 *)dc_out.data(),
                           (float3 *)dt_out.data());
  expect_equal(df_out.fetch(), f_out, "float4");
  expect_equal(dn_out.fetch(), n_out, "int4");
  expect_equal(dd_out.fetch(), d_out, "double2");
  expect_equal(dc_out.fetch(), c_out, "uchar4");
  expect_equal(dt_out.fetch(), t_out, "float3");
}

__constant__ int kPrimes[12] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
__constant__ float kWeights[8];
__device__ int counters[16] = {100, 200, 300};
__device__ double scale = 2.5;

__global__ void use_globals(double *out) {
  const int i = threadIdx.x;
  out[i] = kPrimes[i % 12] * scale + (double)kWeights[i % 8];
  atomicAdd(&counters[i % 16], kPrimes[i % 12]);
}

TEST(Memory, ConstantsAndGlobals) {
  const int threads = 150;
  const int primes[12] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  const float weights[8] = {1, -2, 0.5f, 8, 0.25f, 3, 7, -1};
  check(hipMemcpyToSymbol(HIP_SYMBOL(kWeights), weights, sizeof weights));
  std::vector<int> before(16), after(16);
  check(hipMemcpyFromSymbol(before.data(), HIP_SYMBOL(counters), sizeof counters));
  const std::vector<int> initial = before;
  expect_equal(initial, {100, 200, 300, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  double factor = 2.5;
  for (int launch = 0; launch < 2; launch++) {
    Device<double> out(threads);
    use_globals<<<1, threads>>>(out.data());
    std::vector<double> expected;
    for (int i = 0; i < threads; i++) {
      expected.push_back(primes[i % 12] * factor + (double)weights[i % 8]);
      before[i % 16] += primes[i % 12];
    }
    expect_equal(out.fetch(), expected);
    factor = -0.75;
    check(hipMemcpyToSymbol(HIP_SYMBOL(scale), &factor, sizeof factor));
  }
  check(hipMemcpyFromSymbol(after.data(), HIP_SYMBOL(counters), sizeof counters));
  expect_equal(after, before);
  factor = 2.5;  // as they were, for a repetition
  check(hipMemcpyToSymbol(HIP_SYMBOL(scale), &factor, sizeof factor));
  check(hipMemcpyToSymbol(HIP_SYMBOL(counters), initial.data(), sizeof counters));
}

extern __shared__ __attribute__((aligned(16))) unsigned char dynamic_lds[];

// Dynamic LDS, cut into arrays of three types, beside static LDS of two.
__global__ void mix_lds(const int *in, double *out) {
  __shared__ int fixed[64];
  __shared__ unsigned char flags[64];
  const int i = threadIdx.x, n = blockDim.x;
  double *wide = (double *)dynamic_lds;
  float *narrow = (float *)(wide + n);
  uint16_t *small = (uint16_t *)(narrow + n);
  const int x = in[blockIdx.x * n + i];
  if (i < 64) {
    fixed[i] = i * i;
    flags[i] = (unsigned char)(200 + i);
  }
  wide[i] = x * 0.5;
  narrow[n - 1 - i] = (float)x * 2.0f;
  small[(i * 7) % n] = (uint16_t)x;
  __syncthreads();
  const int next = (i + 1) % n;
  out[blockIdx.x * n + i] = wide[next] + narrow[next] + small[next] + fixed[(i * 5) % 64 % n] + flags[(i * 3) % 64 % n];
}

TEST(Memory, DynamicBesideStaticLds) {
  for (int n : {1, 33, 65, 100, 256, 1024}) {
    if (n % 7 == 0) continue;  // 7 and n must have no common divisor
    const int blocks = 3;
    const std::vector<int> in = integers<int>(n * blocks, n, 0, 60000);
    std::vector<double> expected(n * blocks);
    for (int b = 0; b < blocks; b++)
      for (int i = 0; i < n; i++) {
        const int next = (i + 1) % n, *x = &in[b * n];
        int small = 0;
        for (int k = 0; k < n; k++)
          if (k * 7 % n == next) small = x[k];
        const int a = (i * 5) % 64 % n, c = (i * 3) % 64 % n;
        expected[b * n + i] = x[next] * 0.5 + (double)((float)x[n - 1 - next] * 2.0f) + small + a * a + (200 + c) % 256;
      }
    Device<int> d_in(in);
    Device<double> out(n * blocks);
    mix_lds<<<blocks, n, n *(sizeof(double) + sizeof(float) + sizeof(uint16_t))>>>(d_in.data(), out.data());
    expect_equal(out.fetch(), expected, std::to_string(n) + " threads");
  }
}

// One pointer that is to global memory, LDS or the thread's own, which the hardware must find out.
__device__ NOINLINE int add_through(int *target, int value) {
  *target += value;
  return *target * 2;
}
__global__ void generic_pointers(const int *in, int *global, int *out) {
  __shared__ int shared[256];
  const int i = threadIdx.x, x = in[i];
  int own[4] = {x, x + 1, x + 2, x + 3};
  shared[i] = 10 * x;
  __syncthreads();
  int *target = x % 3 == 0 ? &global[i] : x % 3 == 1 ? &shared[i] : &own[x & 3];
  const int doubled = add_through(target, x + 5);
  const int *source = x % 5 < 2 ? &shared[i] : x % 5 < 4 ? &global[i] : &own[x % 4];
  out[i] = doubled + *source + own[(x + 1) & 3];
}

TEST(Memory, GenericPointers) {
  const int n = 256;
  const std::vector<int> in = integers<int>(n, 1, 0, 1000), before = integers<int>(n, 2, 0, 1000);
  std::vector<int> global = before, expected;
  for (int i = 0; i < n; i++) {
    const int x = in[i];
    int own[4] = {x, x + 1, x + 2, x + 3}, shared = 10 * x;
    int *target = x % 3 == 0 ? &global[i] : x % 3 == 1 ? &shared : &own[x & 3];
    *target += x + 5;
    const int doubled = *target * 2;
    const int source = x % 5 < 2 ? shared : x % 5 < 4 ? global[i] : own[x % 4];
    expected.push_back(doubled + source + own[(x + 1) & 3]);
  }
  Device<int> d_in(in), d_global(before), out(n);
  generic_pointers<<<1, n>>>(d_in.data(), d_global.data(), out.data());
  expect_equal(out.fetch(), expected);
  expect_equal(d_global.fetch(), global, "global memory");
}

// ---------------------------------------------------------------------------------------------------------------------
// Lanes of a wave

// out[4 i …]: the value of lane `step` of the segment, of the lane `step` before, after, and across; -1 where that is
// no thread of the block.
template <typename T>
__global__ void shuffle_every_way(const T *in, T *out, int width, int step) {
  const int i = threadIdx.x, lane = i % width;
  const T x = in[i];
  const T from = __shfl(x, step, width), up = __shfl_up(x, (unsigned)step, width),
          down = __shfl_down(x, (unsigned)step, width), across = __shfl_xor(x, step, width);
  out[4 * i] = i - lane + step < (int)blockDim.x ? from : (T)-1;
  out[4 * i + 1] = up;
  out[4 * i + 2] = lane + step >= width || i + step < (int)blockDim.x ? down : (T)-1;
  out[4 * i + 3] = (i ^ step) < (int)blockDim.x ? across : (T)-1;
}

template <typename T>
static void expect_shuffles() {
  for (int block : {33, 64, 100, 256})
    for (int width = 2; width <= wave_size(); width *= 2)
      for (int step : {0, 1, width / 2, width - 1}) {
        const std::vector<T> in = random_values<T>(block, 1);
        std::vector<T> expected;
        for (int i = 0; i < block; i++) {
          const int lane = i % width, from = i - lane + step, up = lane < step ? i : i - step,
                    down = lane + step >= width ? i : i + step;
          for (int source : {from, up, down, i ^ step}) expected.push_back(source < block ? in[source] : (T)-1);
        }
        Device<T> d_in(in), out(expected.size());
        shuffle_every_way<<<1, block>>>(d_in.data(), out.data(), width, step);
        expect_equal(
            out.fetch(), expected,
            "block " + std::to_string(block) + ", width " + std::to_string(width) + ", step " + std::to_string(step));
      }
}

TEST(Waves, Shuffles) {
  expect_shuffles<int>();
  expect_shuffles<unsigned>();
  expect_shuffles<float>();
}

TEST(Waves, ShufflesOf64Bits) {
  expect_shuffles<long long>();
  expect_shuffles<double>();
}

struct Vote {
  uint64_t ballot, odd_ballot, all_any;
  uint32_t rank, odd_rank, lane, first;
};

__global__ void vote(const int *in, Vote *out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, x = in[i];
  Vote v = {};
  v.lane = __lane_id();
  v.ballot = __ballot(x & 2);
  v.rank = __popcll(v.ballot & ((1ull << v.lane) - 1));
  v.all_any = (uint64_t)(__all(x & 2) != 0) | (uint64_t)(__any(x & 2) != 0) << 1;
  if (x & 1) {  // only odd lanes vote
    v.odd_ballot = __ballot(x & 4);
    v.odd_rank = __mbcnt_hi((uint32_t)(v.odd_ballot >> 32), __mbcnt_lo((uint32_t)v.odd_ballot, 0));
    v.all_any |= (uint64_t)(__all(x & 4) != 0) << 2 | (uint64_t)(__any(x & 4) != 0) << 3;
    v.first = (uint32_t)__builtin_amdgcn_readfirstlane(x);
  }
  out[i] = v;
}

TEST(Waves, Votes) {
  const int wave = wave_size();
  for (int block : kBlockSizes) {
    const int blocks = 3;
    std::vector<int> in = integers<int>(blocks * block, block, 0, 1000);
    for (int i = 0; i < std::min(block, wave); i++) in[i] |= 6;  // a wave that agrees
    for (int i = 0; i < std::min(block, wave); i++) in[block + i] &= ~6;
    std::vector<Vote> expected(in.size());
    for (int b = 0; b < blocks; b++)
      for (int first = 0; first < block; first += wave) {
        const int *x = &in[b * block + first], lanes = std::min(wave, block - first);
        uint64_t ballot = 0, odd = 0, odd_ballot = 0;
        int first_odd = -1;
        for (int l = 0; l < lanes; l++) {
          ballot |= (uint64_t)(x[l] >> 1 & 1) << l;
          odd |= (uint64_t)(x[l] & 1) << l;
          odd_ballot |= (uint64_t)(x[l] & 1 && x[l] & 4) << l;
          if (first_odd < 0 && x[l] & 1) first_odd = x[l];
        }
        const uint64_t full = lanes == 64 ? ~0ull : (1ull << lanes) - 1;
        for (int l = 0; l < lanes; l++) {
          Vote &v = expected[b * block + first + l];
          const uint64_t below = (1ull << l) - 1;
          v = {ballot,
               0,
               (uint64_t)(ballot == full) | (uint64_t)(ballot != 0) << 1,
               (uint32_t)__builtin_popcountll(ballot & below),
               0,
               (uint32_t)l,
               0};
          if (x[l] & 1) {
            v.odd_ballot = odd_ballot;
            v.all_any |= (uint64_t)(odd_ballot == odd) << 2 | (uint64_t)(odd_ballot != 0) << 3;
            v.odd_rank = (uint32_t)__builtin_popcountll(odd_ballot & below);
            v.first = (uint32_t)first_odd;
          }
        }
      }
    Device<int> d_in(in);
    Device<Vote> out(in.size());
    vote<<<blocks, block>>>(d_in.data(), out.data());
    const std::vector<Vote> actual = out.fetch();
    for (size_t i = 0; i < actual.size(); i++) {
      const Vote &a = actual[i], &e = expected[i];
      ASSERT_EQ(a.ballot, e.ballot) << "thread " << i << " of blocks of " << block;
      ASSERT_EQ(a.odd_ballot, e.odd_ballot) << "thread " << i << " of blocks of " << block;
      ASSERT_EQ(a.all_any, e.all_any) << "thread " << i << " of blocks of " << block;
      ASSERT_EQ(a.rank, e.rank) << "thread " << i << " of blocks of " << block;
      ASSERT_EQ(a.odd_rank, e.odd_rank) << "thread " << i << " of blocks of " << block;
      ASSERT_EQ(a.lane, e.lane) << "thread " << i << " of blocks of " << block;
      ASSERT_EQ(a.first, e.first) << "thread " << i << " of blocks of " << block;
    }
  }
}

// The data paths between lanes: DPP within rows of 16, LDS swizzles within 32, pushing and pulling permutations.
__global__ void move_between_lanes(const unsigned *in, Results<unsigned, 12> *out) {
  const int i = threadIdx.x, lane = i % warpSize;
  const unsigned x = in[i];
  Results<unsigned, 12> r;
  r.value[0] = (unsigned)__hip_move_dpp((int)x, 0x1B, 0xF, 0xF, true);   // quad_perm:[3,2,1,0]
  r.value[1] = (unsigned)__hip_move_dpp((int)x, 0x101, 0xF, 0xF, true);  // row_shl:1
  r.value[2] = (unsigned)__hip_move_dpp((int)x, 0x113, 0xF, 0xF, true);  // row_shr:3
  r.value[3] = (unsigned)__hip_move_dpp((int)x, 0x125, 0xF, 0xF, true);  // row_ror:5
  r.value[4] = (unsigned)__hip_move_dpp((int)x, 0x140, 0xF, 0xF, true);  // row_mirror
  r.value[5] = (unsigned)__hip_move_dpp((int)x, 0x141, 0xF, 0xF, true);  // row_half_mirror
  // row_shr:1 in rows 1 and 3, banks 0 and 2; elsewhere the old value stays.
  r.value[6] = (unsigned)__builtin_amdgcn_update_dpp((int)(x ^ 0xFFFF), (int)x, 0x111, 0xA, 0x5, false);
  r.value[7] = __hip_ds_swizzle(x, 0x041F);  // lane ^ 1
  r.value[8] = __hip_ds_swizzle(x, 0x0018);  // first lane of eight
  r.value[9] = __hip_ds_swizzle(x, 0x80B1);  // quad [1,0,3,2]
  r.value[10] = __hip_ds_permute((lane * 5 + 3) % warpSize * 4, x);
  r.value[11] = __hip_ds_bpermute((lane * 7 + 1) % warpSize * 4, x);
  out[i] = r;
}

TEST(Waves, DataPathsBetweenLanes) {
  const int wave = wave_size(), count = 256;
  const std::vector<unsigned> in = random_values<unsigned>(count, 1);
  std::vector<unsigned> expected(12 * count);
  for (int i = 0; i < count; i++) {
    const int lane = i % wave, at = i % 16, row = i - at, base = i - lane;
    unsigned *r = &expected[12 * i];
    r[0] = in[i ^ 3];
    r[1] = at + 1 < 16 ? in[i + 1] : 0;
    r[2] = at >= 3 ? in[i - 3] : 0;
    r[3] = in[row + (at + 16 - 5) % 16];
    r[4] = in[row + 15 - at];
    r[5] = in[row + at / 8 * 8 + 7 - at % 8];
    const bool enabled = (0xA >> (lane / 16) & 1) && (0x5 >> (at / 4) & 1) && at >= 1;
    r[6] = enabled ? in[i - 1] : in[i] ^ 0xFFFF;
    r[7] = in[i ^ 1];
    r[8] = in[i & ~7];
    r[9] = in[i ^ 1];
    expected[12 * (base + (lane * 5 + 3) % wave) + 10] = in[i];
    r[11] = in[base + (lane * 7 + 1) % wave];
  }
  Device<unsigned> d_in(in);
  Device<Results<unsigned, 12>> out(count);
  move_between_lanes<<<1, count>>>(d_in.data(), out.data());
  const std::vector<Results<unsigned, 12>> actual = out.fetch();
  expect_equal(std::vector<unsigned>(actual[0].value, actual[0].value + expected.size()), expected,
               "12 results of a lane");
}

__device__ int lanes_of_wave() { return min(warpSize, (int)blockDim.x - (int)threadIdx.x / warpSize * warpSize); }

template <typename T>
__device__ T wave_sum(T x, int lanes) {
  const int lane = threadIdx.x % warpSize;
  for (int step = warpSize / 2; step > 0; step /= 2) {
    const T other = __shfl_down(x, (unsigned)step);
    if (lane + step < lanes) x += other;
  }
  return x;
}

template <typename T>
__global__ void sum_by_shuffles(const T *in, T *out) {
  __shared__ T partial[32];
  const int lane = threadIdx.x % warpSize, wave = threadIdx.x / warpSize,
            waves = (blockDim.x + warpSize - 1) / warpSize;
  T x = wave_sum(in[blockIdx.x * blockDim.x + threadIdx.x], lanes_of_wave());
  if (lane == 0) partial[wave] = x;
  __syncthreads();
  if (wave == 0) {
    x = wave_sum(lane < waves ? partial[lane] : (T)0, min(waves, lanes_of_wave()));
    if (lane == 0) out[blockIdx.x] = x;
  }
}

// The same order of additions, so that floating-point sums are bit-equal.
template <typename T>
static T wave_sum_reference(std::vector<T> x, int wave) {
  const int lanes = (int)x.size();
  for (int step = wave / 2; step > 0; step /= 2) {
    const std::vector<T> before = x;
    for (int l = 0; l + step < lanes; l++) x[l] = before[l] + before[l + step];
  }
  return x[0];
}

template <typename T>
__global__ void sum_by_lds_tree(const T *in, T *out) {
  T *values = (T *)dynamic_lds;
  const unsigned i = threadIdx.x;
  values[i] = in[blockIdx.x * blockDim.x + i];
  __syncthreads();
  for (unsigned n = blockDim.x; n > 1; n = (n + 1) / 2) {
    const unsigned half = (n + 1) / 2;
    if (i + half < n) values[i] += values[i + half];
    __syncthreads();
  }
  if (i == 0) out[blockIdx.x] = values[0];
}

template <typename T>
static void expect_sums(const std::vector<T> &values) {
  const int wave = wave_size(), blocks = 3;
  for (int block : kBlockSizes) {
    const std::vector<T> in(values.begin(), values.begin() + blocks * block);
    std::vector<T> by_shuffles, by_tree;
    for (int b = 0; b < blocks; b++) {
      std::vector<T> x(in.begin() + b * block, in.begin() + (b + 1) * block), partial;
      for (int first = 0; first < block; first += wave)
        partial.push_back(
            wave_sum_reference(std::vector<T>(x.begin() + first, x.begin() + std::min(block, first + wave)), wave));
      by_shuffles.push_back(wave_sum_reference(partial, wave));
      for (int n = block; n > 1; n = (n + 1) / 2)
        for (int i = 0; i + (n + 1) / 2 < n; i++) x[i] += x[i + (n + 1) / 2];
      by_tree.push_back(x[0]);
    }
    Device<T> d_in(in), out(blocks), out_tree(blocks);
    sum_by_shuffles<<<blocks, block>>>(d_in.data(), out.data());
    sum_by_lds_tree<<<blocks, block, block * sizeof(T)>>>(d_in.data(), out_tree.data());
    expect_equal(out.fetch(), by_shuffles, "shuffles, blocks of " + std::to_string(block));
    expect_equal(out_tree.fetch(), by_tree, "LDS, blocks of " + std::to_string(block));
  }
}

TEST(Blocks, Sums) {
  expect_sums(integers<int>(3072, 1, -1000000, 1000000));
  expect_sums(reals<float>(3072, 2, -10, 10));
}

TEST(Blocks, SumsOf64Bits) {
  expect_sums(integers<unsigned long long>(3072, 1, 0, 1ll << 60));
  expect_sums(reals<double>(3072, 2, -10, 10));
}

// Largest value of a block and the first thread that has it.
__global__ void argmax(const float *in, Results<float, 2> *out) {
  __shared__ float values[32];
  __shared__ int indices[32];
  float best = in[blockIdx.x * blockDim.x + threadIdx.x];
  int at = threadIdx.x;
  const auto take = [&](float value, int index) {
    if (value > best || (value == best && index < at)) {
      best = value;
      at = index;
    }
  };
  for (int step = warpSize / 2; step > 0; step /= 2) take(__shfl_xor(best, step), __shfl_xor(at, step));
  if (threadIdx.x % warpSize == 0) {
    values[threadIdx.x / warpSize] = best;
    indices[threadIdx.x / warpSize] = at;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < (int)blockDim.x / warpSize; w++) take(values[w], indices[w]);
    out[blockIdx.x] = {{best, (float)at}};
  }
}

TEST(Blocks, Argmax) {
  for (int block : {64, 256, 1024}) {
    const int blocks = 5;
    std::vector<float> in = reals<float>(blocks * block, block, -3, 3), expected;
    for (size_t i = 0; i < in.size(); i += 3) in[i] = std::min(in[i], 7.5f);
    for (size_t i = 5; i < in.size(); i += 50) in[i] = 100;  // ties
    for (int b = 0; b < blocks; b++) {
      const auto first = in.begin() + b * block, best = std::max_element(first, first + block);
      expected.push_back(*best);
      expected.push_back((float)(best - first));
    }
    Device<float> d_in(in);
    Device<Results<float, 2>> out(blocks);
    argmax<<<blocks, block>>>(d_in.data(), out.data());
    const std::vector<Results<float, 2>> actual = out.fetch();
    expect_equal(std::vector<float>(actual[0].value, actual[0].value + 2 * blocks), expected,
                 "blocks of " + std::to_string(block));
  }
}

// Inclusive sums over the wave by shuffles, over the block in LDS; and the block's total.
__global__ void scan_blocks(const int *in, int *wave_out, int *block_out, int *totals) {
  int *sums = (int *)dynamic_lds;
  const int i = threadIdx.x, at = blockIdx.x * blockDim.x + i, lane = i % warpSize;
  int x = in[at];
  for (int step = 1; step < warpSize; step *= 2) {
    const int other = __shfl_up(x, (unsigned)step);
    if (lane >= step) x += other;
  }
  wave_out[at] = x;
  sums[i] = in[at];
  __syncthreads();
  for (int step = 1; step < (int)blockDim.x; step *= 2) {
    const int other = i >= step ? sums[i - step] : 0;
    __syncthreads();
    sums[i] += other;
    __syncthreads();
  }
  block_out[at] = sums[i];
  if (i == (int)blockDim.x - 1) totals[blockIdx.x] = sums[i];
}

// Exclusive sums, up and down a tree; the block is a power of two.
__global__ void scan_exclusive(int *values) {
  int *tree = (int *)dynamic_lds;
  const int i = threadIdx.x, n = blockDim.x;
  tree[i] = values[i];
  __syncthreads();
  for (int step = 1; step < n; step *= 2) {
    if ((i + 1) % (2 * step) == 0) tree[i] += tree[i - step];
    __syncthreads();
  }
  if (i == n - 1) tree[i] = 0;
  __syncthreads();
  for (int step = n / 2; step > 0; step /= 2) {
    if ((i + 1) % (2 * step) == 0) {
      const int left = tree[i - step];
      tree[i - step] = tree[i];
      tree[i] += left;
    }
    __syncthreads();
  }
  values[i] = tree[i];
}

__global__ void add_offsets(int *values, const int *offsets) {
  values[blockIdx.x * blockDim.x + threadIdx.x] += offsets[blockIdx.x];
}

TEST(Blocks, Scans) {
  const int wave = wave_size();
  for (int block : kBlockSizes) {
    const int blocks = 8, count = blocks * block;
    const std::vector<int> in = integers<int>(count, block, -1000, 1000);
    std::vector<int> by_wave(count), by_block(count), all(count);
    int sum = 0, block_sum = 0, wave_sum = 0;
    for (int i = 0; i < count; i++) {
      if (i % block == 0) block_sum = 0;
      if (i % block % wave == 0) wave_sum = 0;
      by_wave[i] = wave_sum += in[i];
      by_block[i] = block_sum += in[i];
      all[i] = sum += in[i];
    }
    Device<int> d_in(in), d_wave(count), d_block(count), totals(blocks);
    scan_blocks<<<blocks, block, block * sizeof(int)>>>(d_in.data(), d_wave.data(), d_block.data(), totals.data());
    expect_equal(d_wave.fetch(), by_wave, "waves, blocks of " + std::to_string(block));
    expect_equal(d_block.fetch(), by_block, "blocks of " + std::to_string(block));
    scan_exclusive<<<1, blocks, blocks * sizeof(int)>>>(totals.data());
    add_offsets<<<blocks, block>>>(d_block.data(), totals.data());
    expect_equal(d_block.fetch(), all, "all blocks of " + std::to_string(block));
  }
}

TEST(Blocks, ExclusiveScanOf1024) {
  const std::vector<int> in = integers<int>(1024, 1, -1000, 1000);
  std::vector<int> expected(1024, 0);
  for (int i = 1; i < 1024; i++) expected[i] = expected[i - 1] + in[i - 1];
  Device<int> values(in);
  scan_exclusive<<<1, 1024, 4096>>>(values.data());
  expect_equal(values.fetch(), expected);
}

__global__ void histogram(const uint8_t *in, int count, unsigned *bins) {
  __shared__ unsigned own[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) own[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    atomicAdd(&own[in[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x)
    if (own[i]) atomicAdd(&bins[i], own[i]);
}

TEST(Blocks, Histogram) {
  const std::vector<uint8_t> in = random_values<uint8_t>(20011, 1);
  std::vector<unsigned> expected(256, 0);
  for (uint8_t x : in) expected[x]++;
  for (int block : {33, 100, 1024}) {
    Device<uint8_t> d_in(in);
    Device<unsigned> bins(std::vector<unsigned>(256, 0));
    histogram<<<5, block>>>(d_in.data(), (int)in.size(), bins.data());
    expect_equal(bins.fetch(), expected, "blocks of " + std::to_string(block));
  }
}

template <typename T>
__global__ void sort_in_lds(T *values) {
  T *own = (T *)dynamic_lds;
  const unsigned i = threadIdx.x, n = blockDim.x;
  values += blockIdx.x * n;
  own[i] = values[i];
  __syncthreads();
  for (unsigned size = 2; size <= n; size *= 2)
    for (unsigned step = size / 2; step > 0; step /= 2) {
      const unsigned other = i ^ step;
      if (other > i && (own[i] > own[other]) == !(i & size)) {
        const T x = own[i];
        own[i] = own[other];
        own[other] = x;
      }
      __syncthreads();
    }
  values[i] = own[i];
}

template <typename T>
static void expect_sorted(int block) {
  std::vector<T> values = integers<T>(3 * block, block, -100000, 100000);
  Device<T> device(values);
  for (int b = 0; b < 3; b++) std::sort(values.begin() + b * block, values.begin() + (b + 1) * block);
  sort_in_lds<<<3, block, block * sizeof(T)>>>(device.data());
  expect_equal(device.fetch(), values, "blocks of " + std::to_string(block));
}

TEST(Blocks, BitonicSort) {
  for (int block : {2, 64, 512}) {
    expect_sorted<int16_t>(block);
    expect_sorted<float>(block);
    expect_sorted<long long>(block);
  }
}

__global__ void transpose_tiles(const float *in, float *out, int rows, int columns) {
  __shared__ float tile[32][33];
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += blockDim.y)
    if (x < columns && y + k < rows) tile[threadIdx.y + k][threadIdx.x] = in[(y + k) * columns + x];
  __syncthreads();
  const int tx = blockIdx.y * 32 + threadIdx.x, ty = blockIdx.x * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += blockDim.y)
    if (tx < rows && ty + k < columns) out[(ty + k) * rows + tx] = tile[threadIdx.x][threadIdx.y + k];
}

TEST(Blocks, TransposeInTiles) {
  const int rows = 71, columns = 45;
  const std::vector<float> in = reals<float>(rows * columns, 1, -5, 5);
  std::vector<float> expected(in.size());
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) expected[c * rows + r] = in[r * columns + c];
  Device<float> d_in(in), out(in.size());
  transpose_tiles<<<dim3(2, 3), dim3(32, 8)>>>(d_in.data(), out.data(), rows, columns);
  expect_equal(out.fetch(), expected);
}

template <typename T>
__global__ void multiply_matrices(const T *a, const T *b, T *c, int m, int n, int k) {
  __shared__ T ta[16][16], tb[16][16];
  const int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 16 + y, column = blockIdx.x * 16 + x;
  T sum = 0;
  for (int first = 0; first < k; first += 16) {
    ta[y][x] = row < m && first + x < k ? a[row * k + first + x] : (T)0;
    tb[y][x] = column < n && first + y < k ? b[(first + y) * n + column] : (T)0;
    __syncthreads();
    for (int i = 0; i < 16; i++) sum += ta[y][i] * tb[i][x];
    __syncthreads();
  }
  if (row < m && column < n) c[row * n + column] = sum;
}

template <typename T>
static void expect_product(const std::vector<T> &a, const std::vector<T> &b, int m, int n, int k) {
  std::vector<T> expected(m * n, (T)0);
  for (int r = 0; r < m; r++)
    for (int c = 0; c < n; c++)
      for (int i = 0; i < k; i++) expected[r * n + c] += a[r * k + i] * b[i * n + c];
  Device<T> d_a(a), d_b(b), d_c(m * n);
  multiply_matrices<<<dim3((n + 15) / 16, (m + 15) / 16), dim3(16, 16)>>>(d_a.data(), d_b.data(), d_c.data(), m, n, k);
  expect_equal(d_c.fetch(), expected);
}

TEST(Blocks, MatrixProductInTiles) {
  const int m = 37, n = 50, k = 29;
  expect_product(integers<int>(m * k, 1, -1000, 1000), integers<int>(k * n, 2, -1000, 1000), m, n, k);
  expect_product(reals<float>(m * k, 1, -4, 4), reals<float>(k * n, 2, -4, 4), m, n, k);
  expect_product(reals<double>(m * k, 1, -4, 4), reals<double>(k * n, 2, -4, 4), m, n, k);
}

__global__ void stencil(const float *in, float *out, int nx, int ny, int nz) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y,
            z = blockIdx.z * blockDim.z + threadIdx.z;
  if (x >= nx || y >= ny || z >= nz) return;
  const auto at = [&](int i, int j, int k) {
    return i < 0 || j < 0 || k < 0 || i >= nx || j >= ny || k >= nz ? 0.0f : in[(k * ny + j) * nx + i];
  };
  const float around =
      at(x - 1, y, z) + at(x + 1, y, z) + at(x, y - 1, z) + at(x, y + 1, z) + at(x, y, z - 1) + at(x, y, z + 1);
  out[(z * ny + y) * nx + x] = 0.5f * at(x, y, z) + around / 6.0f;
}

TEST(Blocks, StencilInThreeDimensions) {
  const int nx = 17, ny = 13, nz = 11;
  const std::vector<float> in = reals<float>(nx * ny * nz, 1, -5, 5);
  std::vector<float> expected;
  for (int z = 0; z < nz; z++)
    for (int y = 0; y < ny; y++)
      for (int x = 0; x < nx; x++) {
        const auto at = [&](int i, int j, int k) {
          return i < 0 || j < 0 || k < 0 || i >= nx || j >= ny || k >= nz ? 0.0f : in[(k * ny + j) * nx + i];
        };
        const float around =
            at(x - 1, y, z) + at(x + 1, y, z) + at(x, y - 1, z) + at(x, y + 1, z) + at(x, y, z - 1) + at(x, y, z + 1);
        expected.push_back(0.5f * at(x, y, z) + around / 6.0f);
      }
  Device<float> d_in(in), out(in.size());
  stencil<<<dim3(4, 5, 2), dim3(5, 3, 7)>>>(d_in.data(), out.data(), nx, ny, nz);
  expect_equal(out.fetch(), expected);
}

// Waves of a block pass numbers on through LDS, one barrier for each hand.
__global__ void pass_around(int *out, int rounds) {
  __shared__ int slots[1024];
  const int i = threadIdx.x, n = blockDim.x;
  slots[i] = i * 3 + (int)blockIdx.x;
  for (int round = 0; round < rounds; round++) {
    __syncthreads();
    const int x = slots[(i + 37) % n] + (round & 1 ? i : -round);
    __syncthreads();
    slots[i] = x;
  }
  out[blockIdx.x * n + i] = slots[i];
}

TEST(Blocks, Barriers) {
  for (int n : {64, 100, 1024}) {
    std::vector<int> expected;
    for (int b = 0; b < 2; b++) {
      std::vector<int> slots(n), next(n);
      for (int i = 0; i < n; i++) slots[i] = i * 3 + b;
      for (int round = 0; round < 21; round++) {
        for (int i = 0; i < n; i++) next[i] = slots[(i + 37) % n] + (round & 1 ? i : -round);
        slots.swap(next);
      }
      expected.insert(expected.end(), slots.begin(), slots.end());
    }
    Device<int> out(2 * n);
    pass_around<<<2, n>>>(out.data(), 21);
    expect_equal(out.fetch(), expected, std::to_string(n) + " threads");
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Atomics: results that do not depend on the order

template <typename T>
struct Accumulators {
  T add, sub, smallest, largest, all_bits, any_bits, parity, last, product;
};

template <typename T>
__device__ void accumulate(Accumulators<T> *to, T x, T *exchanged) {
  atomicAdd(&to->add, x);
  atomicMin(&to->smallest, x);
  atomicMax(&to->largest, x);
  atomicAnd(&to->all_bits, (T)(x | 0xFF00));
  atomicOr(&to->any_bits, (T)(x & 0x12345));
  atomicXor(&to->parity, x);
  *exchanged = atomicExch(&to->last, x);
  // Products by compare and swap.
  T seen = to->product, expected;
  do {
    expected = seen;
    seen = atomicCAS(&to->product, expected, (T)(expected * (x | 1)));
  } while (seen != expected);
}

// In global memory and, for each block, in LDS.
template <typename T>
__global__ void atomics(const T *in, Accumulators<T> *global, Accumulators<T> *blocks, T *exchanged) {
  __shared__ Accumulators<T> own;
  const int i = blockIdx.x * blockDim.x + threadIdx.x, count = gridDim.x * blockDim.x;
  if (threadIdx.x == 0) own = blocks[blockIdx.x];
  __syncthreads();
  accumulate(global, in[i], &exchanged[i]);
  accumulate(&own, in[i], &exchanged[count + i]);
  __syncthreads();
  if (threadIdx.x == 0) blocks[blockIdx.x] = own;
}

template <typename T>
static Accumulators<T> start_of_accumulation() {
  return {5, 0, std::numeric_limits<T>::max(), std::numeric_limits<T>::min(), (T)-1, 0, 77, 123, 1};
}
template <typename T>
static void expect_accumulated(const Accumulators<T> &actual, const T *in, const T *exchanged, int count,
                               const char *where) {
  Accumulators<T> e = start_of_accumulation<T>();
  using U = std::make_unsigned_t<T>;
  U add = (U)e.add, product = 1, into = (U)e.last, out = (U)actual.last;
  for (int i = 0; i < count; i++) {
    const T x = in[i];
    add += (U)x;
    e.smallest = std::min(e.smallest, x);
    e.largest = std::max(e.largest, x);
    e.all_bits = (T)(e.all_bits & (x | 0xFF00));
    e.any_bits = (T)(e.any_bits | (x & 0x12345));
    e.parity ^= x;
    product *= (U)(x | 1);
    into += (U)x;  // what was put in is what came out or is there still
    out += (U)exchanged[i];
  }
  expect_equal<T>({actual.add, actual.smallest, actual.largest, actual.all_bits, actual.any_bits, actual.parity,
                   actual.product, (T)out},
                  {(T)add, e.smallest, e.largest, e.all_bits, e.any_bits, e.parity, (T)product, (T)into}, where);
}

template <typename T>
static void expect_atomics() {
  const int blocks = 4, block = 100, count = blocks * block;
  const std::vector<T> in = random_values<T>(count, 1);
  Device<T> d_in(in), d_exchanged(2 * count);
  Device<Accumulators<T>> global(std::vector<Accumulators<T>>(1, start_of_accumulation<T>()));
  Device<Accumulators<T>> per_block(std::vector<Accumulators<T>>(blocks, start_of_accumulation<T>()));
  atomics<<<blocks, block>>>(d_in.data(), global.data(), per_block.data(), d_exchanged.data());
  const std::vector<T> exchanged = d_exchanged.fetch();
  expect_accumulated(global.fetch()[0], in.data(), exchanged.data(), count, "global memory");
  const std::vector<Accumulators<T>> own = per_block.fetch();
  for (int b = 0; b < blocks; b++)
    expect_accumulated(own[b], &in[b * block], &exchanged[count + b * block], block, "LDS");
}

TEST(Atomics, OperationsOf32Bits) {
  expect_atomics<int>();
  expect_atomics<unsigned>();
}

TEST(Atomics, OperationsOf64Bits) { expect_atomics<unsigned long long>(); }

template <typename T>
__global__ void atomic_real_sums(const T *in, T *sums, T *lds_sums) {
  __shared__ T own[3];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.x < 3) own[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&sums[i % 3], in[i]);
  unsafeAtomicAdd(&sums[3 + i % 3], in[i]);
  atomicAdd(&own[i % 3], in[i]);
  atomicMax(&sums[6], in[i]);
  atomicMin(&sums[7], in[i]);
  __syncthreads();
  if (threadIdx.x < 3) atomicAdd(&lds_sums[threadIdx.x], own[threadIdx.x]);
}

// Whole numbers, whose sums are exact in any order.
template <typename T>
static void expect_real_sums() {
  const int blocks = 5, block = 100;
  const std::vector<T> in = integers<T>(blocks * block, 1, -2000, 2000);
  std::vector<T> expected(8, 0), lds(3, 0);
  for (size_t i = 0; i < in.size(); i++) {
    expected[i % 3] += in[i];
    expected[3 + i % 3] += in[i];
    lds[i % 3] += in[i];
    expected[6] = std::max(expected[6], in[i]);
    expected[7] = std::min(expected[7], in[i]);
  }
  Device<T> d_in(in), sums(std::vector<T>(8, 0)), lds_sums(std::vector<T>(3, 0));
  atomic_real_sums<<<blocks, block>>>(d_in.data(), sums.data(), lds_sums.data());
  expect_equal(sums.fetch(), expected);
  expect_equal(lds_sums.fetch(), lds);
}

TEST(Atomics, FloatingPointSums) {
  expect_real_sums<float>();
  expect_real_sums<double>();
}

// Every thread draws tickets; nobody may draw one twice.
__global__ void draw_tickets(unsigned *next, unsigned *out) {
  __shared__ unsigned own;
  if (threadIdx.x == 0) own = 0;
  __syncthreads();
  const int i = blockIdx.x * blockDim.x + threadIdx.x, count = gridDim.x * blockDim.x;
  out[i] = atomicAdd(&next[0], 1u);
  out[count + i] = atomicSub(&next[1], 1u);
  out[2 * count + i] = atomicAdd(&own, 1u);
  // What atomicInc and atomicDec are made of; HIP 5.2's own do not link with newer compilers.
  out[3 * count + i] = __builtin_amdgcn_atomic_inc32(&next[2], 99u, __ATOMIC_RELAXED, "agent");  // 0 … 99, 0 …
  out[4 * count + i] = __builtin_amdgcn_atomic_dec32(&next[3], 49u, __ATOMIC_RELAXED, "agent");  // 49 … 0, 49 …
}

TEST(Atomics, TicketsAreUnique) {
  const unsigned blocks = 6, block = 100, count = blocks * block;
  Device<unsigned> next(std::vector<unsigned>{0, count, 0, 49}), out(5 * count);
  draw_tickets<<<blocks, block>>>(next.data(), out.data());
  std::vector<unsigned> tickets = out.fetch(), expected;
  for (int k = 0; k < 5; k++) std::sort(tickets.begin() + k * count, tickets.begin() + (k + 1) * count);
  for (unsigned i = 0; i < count; i++) expected.push_back(i);
  for (unsigned i = 0; i < count; i++) expected.push_back(i + 1);
  for (unsigned i = 0; i < count; i++) expected.push_back(i / blocks);
  for (unsigned i = 0; i < count; i++) expected.push_back(i / (count / 100));
  for (unsigned i = 0; i < count; i++) expected.push_back(i / (count / 50));
  expect_equal(tickets, expected);
  expect_equal(next.fetch(), {count, 0, 0, 49});
}

// The block that finishes last sums what all blocks wrote.
__global__ void sum_by_last_block(const int *in, volatile int *partial, unsigned *done, int *out) {
  __shared__ int own;
  __shared__ bool last;
  if (threadIdx.x == 0) own = 0;
  __syncthreads();
  atomicAdd(&own, in[blockIdx.x * blockDim.x + threadIdx.x]);
  __syncthreads();
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = own;
    __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++) sum += partial[b];
    *out = sum;
  }
}

TEST(Atomics, LastBlockSums) {
  const int blocks = 40, block = 65;
  const std::vector<int> in = integers<int>(blocks * block, 1, -10000, 10000);
  int sum = 0;
  for (int x : in) sum += x;
  Device<int> d_in(in), partial(blocks), out(1);
  Device<unsigned> done(std::vector<unsigned>(1, 0));
  sum_by_last_block<<<blocks, block>>>(d_in.data(), partial.data(), done.data(), out.data());
  expect_equal(out.fetch(), {sum});
}

// ---------------------------------------------------------------------------------------------------------------------
// The host's side

__global__ void fill(int *out, int count, int value) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = value + i;
}
__global__ void add_to(int *values, int count, int value) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += value;
}

TEST(Host, StreamsInOrderAndEventsBetweenThem) {
  const int count = 1000, rounds = 5;
  hipStream_t producer, consumer;
  hipEvent_t filled, taken;
  check(hipStreamCreate(&producer));
  check(hipStreamCreate(&consumer));
  check(hipEventCreate(&filled));
  check(hipEventCreate(&taken));
  Device<int> buffer(count), copy(count);
  std::vector<std::vector<int>> results(rounds, std::vector<int>(count));
  check(hipDeviceSynchronize());
  for (int round = 0; round < rounds; round++) {
    fill<<<10, 100, 0, producer>>>(buffer.data(), count, 7 * round);
    check(hipEventRecord(filled, producer));
    check(hipStreamWaitEvent(consumer, filled, 0));
    check(hipMemcpyAsync(copy.data(), buffer.data(), count * sizeof(int), hipMemcpyDeviceToDevice, consumer));
    check(hipEventRecord(taken, consumer));
    check(hipStreamWaitEvent(producer, taken, 0));  // before the next round overwrites the buffer
    add_to<<<4, 256, 0, consumer>>>(copy.data(), count, 1);
    check(hipMemcpyAsync(results[round].data(), copy.data(), count * sizeof(int), hipMemcpyDeviceToHost, consumer));
  }
  check(hipStreamSynchronize(consumer));
  check(hipEventSynchronize(filled));
  check(hipGetLastError());
  for (int round = 0; round < rounds; round++) {
    std::vector<int> expected(count);
    for (int i = 0; i < count; i++) expected[i] = 7 * round + i + 1;
    expect_equal(results[round], expected, "round " + std::to_string(round));
  }
  float milliseconds = -1;
  check(hipEventSynchronize(taken));
  check(hipEventElapsedTime(&milliseconds, filled, taken));
  EXPECT_GE(milliseconds, 0);
  check(hipEventDestroy(filled));
  check(hipEventDestroy(taken));
  check(hipStreamDestroy(producer));
  check(hipStreamDestroy(consumer));
}

TEST(Host, MemsetAndCopiesOfOddSizes) {
  for (size_t size : {1, 3, 7, 64, 255, 1001, 4097}) {
    Device<uint8_t> a(size), b(size);
    std::vector<uint8_t> expected(size, 0xCD);
    expect_equal(a.fetch(), expected, "as allocated");
    check(hipMemset(a.data(), 0x5A, size));
    std::fill(expected.begin(), expected.end(), 0x5A);
    if (size > 5) {
      check(hipMemset(a.data() + 3, 0, size - 5));
      std::fill(expected.begin() + 3, expected.end() - 2, 0);
    }
    check(hipMemsetAsync(a.data(), 0x1FF, 1, nullptr));  // the value's low byte
    expected[0] = 0xFF;
    expect_equal(a.fetch(), expected, std::to_string(size) + " bytes");
    check(hipMemcpy(b.data(), a.data(), size, hipMemcpyDeviceToDevice));
    expect_equal(b.fetch(), expected, "copy of " + std::to_string(size) + " bytes");
    std::vector<uint8_t> part(size, 1);
    check(hipMemcpy(part.data() + size / 2, b.data() + size / 2, size - size / 2, hipMemcpyDeviceToHost));
    std::fill(expected.begin(), expected.begin() + (long)(size / 2), 1);
    expect_equal(part, expected, "second half of " + std::to_string(size) + " bytes");
  }
}

TEST(Host, KernelsFromTwoThreads) {
  const int count = 3000, launches = 20;
  std::vector<int> results[2];
  std::string errors[2];
  const auto work = [&](int who) {
    try {
      hipStream_t stream;
      check(hipStreamCreate(&stream));
      Device<int> values(std::vector<int>(count, who));
      for (int i = 0; i < launches; i++) add_to<<<12, 256, 0, stream>>>(values.data(), count, 10 * who + i);
      check(hipStreamSynchronize(stream));
      results[who] = values.fetch();
      check(hipStreamDestroy(stream));
    } catch (const std::exception &error) {
      errors[who] = error.what();
    }
  };
  std::thread first(work, 0), second(work, 1);
  first.join();
  second.join();
  for (int who = 0; who < 2; who++) {
    ASSERT_EQ(errors[who], "");
    expect_equal(results[who], std::vector<int>(count, who + launches * 10 * who + launches * (launches - 1) / 2));
  }
}
