// Ten orders to add the same FP32 terms in, and how far the logits of each lie from float64: the natural size of FP32
// rounding on a model, which bounds what a correct FP32 kernel may differ by. Include after run.cpp.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "../hip/debug/reference.hpp"

// How to add n FP32 terms: in runs of `block`, each over `lanes` partial sums that are then added pairwise.
struct Fp32Sum {
  using Accumulator = float;
  const char *name = "ascending";
  int lanes = 1;
  int block = 0;  // 0: one run
  bool descending = false;

  template <class Term>
  float operator()(int n, Term term) const {
    float total = 0;
    for (int first = 0; first < n; first += block ? block : n) {
      const int last = block ? std::min(n, first + block) : n;
      std::vector<float> sums(lanes, 0.0f);
      for (int i = first; i < last; i++) sums[i % lanes] += term(descending ? n - 1 - i : i);
      for (int width = lanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) sums[i] += sums[i + width];
      total += sums[0];
    }
    return total;
  }
};

inline std::vector<Fp32Sum> ten_orders() {
  return {{"ascending"},           {"descending", 1, 0, true},
          {"2 lanes", 2},          {"4 lanes", 4},
          {"8 lanes", 8},          {"16 lanes", 16},
          {"32 lanes", 32},        {"64 lanes", 64},
          {"blocks of 16", 1, 16}, {"blocks of 64, 4 lanes", 4, 64}};
}

// Largest absolute difference, infinite if a value is not a number.
template <class A, class B>
double max_abs_difference(const A *a, const B *b, size_t n) {
  double worst = 0;
  for (size_t i = 0; i < n; i++) {
    const double difference = std::fabs((double)a[i] - (double)b[i]);
    if (!(difference <= worst)) worst = std::isnan(difference) ? INFINITY : difference;
  }
  return worst;
}

// Largest |value - expected| / (1e-5 + 1e-4 |expected|), infinite if a value is not a number: at most 1 is the goal.
inline double tolerance_used(const float *values, const float *expected, size_t n) {
  double worst = 0;
  for (size_t i = 0; i < n; i++) {
    const double used = std::fabs((double)values[i] - expected[i]) / (1e-5 + 1e-4 * std::fabs(expected[i]));
    worst = std::isnan(used) ? INFINITY : std::max(worst, used);
  }
  return worst;
}

inline std::vector<int> random_tokens(const getp_hip::Config &p, int count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int> tokens(count);
  for (int &token : tokens) token = (int)(random() % (unsigned)p.vocab_size);
  return tokens;
}

// For each order the max abs difference of the logits from float64 over all the tokens, fed one after the other.
inline std::vector<double> summation_spread(const getp_hip::Config &p, const getp_hip::HostWeights &w,
                                            const std::vector<int> &tokens) {
  const auto ignore = [](auto...) {};
  getp_hip::ReferenceForward<double, getp_hip::DoubleSum> exact(p, w, false);
  std::vector<getp_hip::ReferenceForward<float, Fp32Sum>> orders;
  for (const Fp32Sum &order : ten_orders()) orders.emplace_back(p, w, false, order);
  std::vector<double> worst(orders.size());
  for (size_t pos = 0; pos < tokens.size(); pos++) {
    const std::vector<double> expected = exact.step(tokens[pos], (int)pos, ignore);
    for (size_t o = 0; o < orders.size(); o++) {
      const std::vector<float> logits = orders[o].step(tokens[pos], (int)pos, ignore);
      worst[o] = std::max(worst[o], max_abs_difference(logits.data(), expected.data(), logits.size()));
    }
  }
  return worst;
}
