// Random weights of a shape of gpt-oss: what make_model writes, and bench without a file runs on.
//
// The same seed gives the same values with any number of threads, compiler and processor: value i of tensor t depends on
// (seed, t, i) alone, in MXFP4 on those of its group, and the arithmetic is IEEE single precision without libm and without
// fused multiply-adds.
#pragma once

#include <cstdint>
#include <cstring>

#include "../hip/splitmix64.hpp"
#include "shapes.hpp"

// GCC's lasts to the end of this file, and lets it use vectors; clang's stands in each function.
#if defined(__clang__)
#define NO_FUSED_MULTIPLY_ADDS _Pragma("clang fp contract(off)")
#else
#define NO_FUSED_MULTIPLY_ADDS
#if defined(__CUDACC__)
#pragma nv_diag_suppress 1675  // nvcc hands the pragmas to GCC, with a warning
#endif
#if defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-trapping-math", "no-math-errno")
#endif
#endif

namespace random_weights {

struct Tensor {
  int64_t count;  // values
  int64_t fan_in;
  float mean, stddev;       // stddev 0: 1/sqrt(fan_in)
  bool of_experts = false;  // a matrix of theirs: released models have it in MXFP4
};
constexpr int kTensors = 16;
struct Tensors {
  Tensor at[kTensors];
};

// The tensors of model.bin in file order, each contiguous over the layers.
constexpr Tensors tensors_of(const Shape &c) {
  const int64_t V = c.vocab_size, H = c.hidden_dim, E = c.n_experts, I = c.intermediate_dim, L = c.n_layers;
  const int64_t A = int64_t{c.n_attn_heads} * c.head_dim, Q = A + int64_t{2} * c.n_kv_heads * c.head_dim;
  return {{
      {V * H, H, 0, 1},                    // token embedding
      {V * H, H, 0, 0},                    // unembedding
      {L * H, H, 1, 0.1f},                 // rms_attn
      {L * H, H, 1, 0.1f},                 // rms_ffn
      {H, H, 1, 0.1f},                     // rms_out
      {L * Q * H, H, 0, 0},                // w_qkv
      {L * Q, H, 0, 0.2f},                 // b_qkv
      {L * H * A, A, 0, 0},                // w_o
      {L * H, A, 0, 0.2f},                 // b_o
      {L * c.n_attn_heads, 1, 0, 1},       // attn_sinks
      {L * E * H, H, 0, 0},                // w_router
      {L * E, H, 0, 0.2f},                 // b_router
      {L * E * 2 * I * H, H, 0, 0, true},  // w_mlp1, rows alternate gate, up
      {L * E * 2 * I, H, 0, 0.2f},         // b_mlp1
      {L * E * H * I, I, 0, 0, true},      // w_mlp2
      {L * E * H, I, 0, 0.2f},             // b_mlp2
  }};
}

constexpr int64_t model_bytes(const Shape &c) {
  int64_t values = 0;
  const Tensors tensors = tensors_of(c);
  for (const Tensor &t : tensors.at) values += t.count;
  return int64_t{sizeof(Shape)} + 4 * values;
}
static_assert(model_bytes(k20b) == 83659028796, "size of the exported gpt-oss-20b");

// Two independent standard normal values from 64 random bits: Box and Muller, "A Note on the Generation of Random
// Normal Deviates", 1958. Radius from the low 24 bits, angle from the high 24; |z| <= sqrt(48 ln 2) = 5.77. log, sin
// and cos are written out so that every machine gets the same bits, and so that the compiler can vectorise the loop
// around.
inline void normal_pair(uint64_t bits, float *z0, float *z1) {
  NO_FUSED_MULTIPLY_ADDS
  const float u = static_cast<float>(static_cast<int32_t>(bits & 0xffffff) + 1) * 0x1p-24f;  // (0, 1], exact
  int32_t word;
  std::memcpy(&word, &u, 4);
  const int32_t exponent = (word - 0x3f3504f3) >> 23;  // u = m 2^exponent, m in [sqrt(1/2), sqrt(2))
  const int32_t mantissa = word - exponent * (1 << 23);
  float m;
  std::memcpy(&m, &mantissa, 4);
  const float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;  // log m = 2 atanh(s), |s| <= 0.172
  const float atanh_s = s * (1.0f + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7 + s2 * (1.0f / 9)))));
  const float log_u = static_cast<float>(exponent) * 0.69314718f + 2.0f * atanh_s;
  const float radius = __builtin_sqrtf(-2.0f * (log_u < 0.0f ? log_u : 0.0f));

  const int32_t turn = static_cast<int32_t>(bits >> 40);  // angle = 2 pi turn / 2^24 = quadrant pi/2 + t
  const int32_t quadrant = turn >> 22;
  const float t = static_cast<float>((turn & 0x3fffff) - 0x200000) * (1.57079633f * 0x1p-22f);  // [-pi/4, pi/4)
  const float t2 = t * t;
  const float sin_t = t * (1.0f + t2 * (-1.0f / 6 + t2 * (1.0f / 120 + t2 * (-1.0f / 5040))));
  const float cos_t = 1.0f + t2 * (-0.5f + t2 * (1.0f / 24 + t2 * (-1.0f / 720 + t2 * (1.0f / 40320))));
  const float cosine = quadrant & 1 ? sin_t : cos_t, sine = quadrant & 1 ? cos_t : sin_t;
  *z0 = radius * ((quadrant + 1) & 2 ? -cosine : cosine);
  *z1 = radius * (quadrant & 2 ? -sine : sine);
}

// Nearest BF16 value, ties to even; values here are finite.
inline float round_to_bf16(float x) {
  uint32_t word;
  std::memcpy(&word, &x, 4);
  word = (word + 0x7fff + ((word >> 16) & 1)) & 0xffff0000;
  std::memcpy(&x, &word, 4);
  return x;
}

constexpr int kMxfp4Group = 32;

// Rounds a group as MXFP4 has it (OCP Microscaling Formats 1.0, 6.3): 2^e such that its largest value lies in
// [4, 8) * 2^e is 1; of 0, 0.5, 1, 1.5, 2, 3, 4, 6 the nearest, ties to even, and 6 for what is larger. Values, but for zero,
// lie between 2^-100 and 2^100.
inline void round_to_mxfp4(float *group) {
  NO_FUSED_MULTIPLY_ADDS
  int32_t words[kMxfp4Group], largest = 0;
  std::memcpy(words, group, sizeof words);
  for (int i = 0; i < kMxfp4Group; ++i) {  // sizes ascend as their bits do
    const int32_t size = words[i] & 0x7fffffff;
    largest = size > largest ? size : largest;
  }
  largest &= 0x7f800000;
  float four;
  std::memcpy(&four, &largest, 4);
  const float one = four * 0.25f, six = four * 1.5f;
  const float halves = one * 0x1.8p22f;  // a sum with it has no finer part than one / 2
  for (int i = 0; i < kMxfp4Group; ++i) {
    const int32_t sign = words[i] & INT32_MIN, size = words[i] ^ sign;
    const int32_t of_one_bit = (size + 0x1fffff + ((size >> 22) & 1)) & 0x7fc00000;  // of mantissa
    float x, rounded;
    std::memcpy(&x, &size, 4);
    std::memcpy(&rounded, &of_one_bit, 4);
    rounded = x < one ? (x + halves) - halves : rounded < six ? rounded : six;
    int32_t word;
    std::memcpy(&word, &rounded, 4);
    words[i] = word | sign;
  }
  std::memcpy(group, words, sizeof words);
}

// What the values are rounded to: nothing, BF16, or MXFP4 for the experts' matrices and BF16 for all else.
enum class Rounding { kNone, kBf16, kMxfp4 };

// Values first .. first + count - 1 of tensor `index` into out. first is even, and starts a group of MXFP4, as the end
// ends one, if they are rounded so; out has room for count + 1 values.
inline void fill(float *out, const Tensor &tensor, int index, int64_t first, int64_t count, uint64_t seed,
                 Rounding rounding) {
  NO_FUSED_MULTIPLY_ADDS
  using getp_hip::kSplitMixStep, getp_hip::splitmix64;
  const uint64_t key = splitmix64(splitmix64(seed + kSplitMixStep) + static_cast<uint64_t>(index + 1) * kSplitMixStep);
  const float mean = tensor.mean;
  const float stddev = tensor.stddev > 0 ? tensor.stddev : 1.0f / __builtin_sqrtf(static_cast<float>(tensor.fan_in));
  constexpr int kBlock = 256;  // pairs; the bits of a block come first, so that the float part is one vector loop
  uint64_t bits[kBlock];
  for (int64_t done = 0; done < count; done += 2 * kBlock) {
    const int64_t rest = (count - done + 1) / 2;
    const int pairs = rest < kBlock ? static_cast<int>(rest) : kBlock;
    const uint64_t counter = static_cast<uint64_t>(first + done) / 2;
    for (int p = 0; p < pairs; ++p) bits[p] = splitmix64(key + (counter + p) * kSplitMixStep);
    float *block = out + done;
    for (int p = 0; p < pairs; ++p) {
      float z0, z1;
      normal_pair(bits[p], &z0, &z1);
      block[2 * p] = mean + stddev * z0;
      block[2 * p + 1] = mean + stddev * z1;
    }
    if (rounding == Rounding::kMxfp4 && tensor.of_experts) {
      for (int i = 0; i < 2 * pairs; i += kMxfp4Group) round_to_mxfp4(block + i);
    } else if (rounding != Rounding::kNone) {
      for (int i = 0; i < 2 * pairs; ++i) block[i] = round_to_bf16(block[i]);
    }
  }
}

}  // namespace random_weights

#undef NO_FUSED_MULTIPLY_ADDS
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
