// forward() of run.cpp once more, in stages that can be looked at one by one, with the number type and the way of
// summing as parameters. It is what the parity switch compares the device with, and what measures how far plain FP32
// summation orders lie from float64. Written for clarity; nothing fast depends on it.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "../bf16.hpp"
#include "../engine/harness.hpp"
#include "../engine/stages.hpp"
#include "../gpt_oss.hpp"

namespace getp_hip {

// Sums in double, as run.cpp does.
struct DoubleSum {
  using Accumulator = double;
  template <class Term>
  double operator()(int n, Term term) const {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += term(i);
    return sum;
  }
};

inline const char *stage_name(Stage stage) {
  static const char *names[] = {"embedding",
                                "attention norm",
                                "qkv",
                                "query (rotated)",
                                "key (rotated)",
                                "attention values",
                                "attention projection",
                                "attention residual",
                                "mlp norm",
                                "router",
                                "top-k experts",
                                "top-k weights",
                                "mlp1",
                                "swiglu",
                                "mlp2",
                                "mlp residual",
                                "final norm",
                                "logits"};
  static_assert(sizeof names / sizeof *names == (size_t)Stage::kCount, "a name for each stage");
  return names[(int)stage];
}

template <class Real, class Summation>
class ReferenceForward {
 public:
  // Sees each stage's values: (stage, layer, values). Layer is 0 outside layers.
  using Observe = std::function<void(Stage, int, const std::vector<Real> &)>;

  // `round_experts`: use w_mlp1 and w_mlp2 rounded to BF16, as they lie on the device.
  ReferenceForward(const Config &config, const HostWeights &weights, bool round_experts,
                   Summation summation = Summation())
      : p(config), w(weights), round_(round_experts), sum_(summation) {
    const size_t cache = (size_t)p.n_layers * p.seq_len * p.n_kv_heads * p.head_dim;
    key_cache_.resize(cache);
    value_cache_.resize(cache);
  }

  // Logits (vocab_size) of `token` at position `pos`; positions before it must have been stepped through.
  std::vector<Real> step(int token, int pos, const Observe &observe) {
    const size_t H = p.hidden_dim, I = p.intermediate_dim, A = p.attn_dim(), KV = p.kv_dim(), Q = p.qkv_dim();
    const size_t E = p.n_experts;
    const int group = p.n_attn_heads / p.n_kv_heads, k = p.experts_per_token;
    std::vector<float> cosines(p.head_dim / 2), sines(p.head_dim / 2);
    compute_cos_sin(pos, p.rope_theta, p.head_dim, p.rope_scaling_factor, p.initial_context_length, gpt_oss::kYarnBeta,
                    gpt_oss::kYarnAlpha, cosines.data(), sines.data());
    const float *row = w.token_embedding_table + (size_t)token * H;
    std::vector<Real> x(row, row + H);
    observe(Stage::kEmbedding, 0, x);
    for (int l = 0; l < p.n_layers; l++) {
      std::vector<Real> t = norm(x, w.rms_attn_w + l * H);
      observe(Stage::kAttentionNorm, l, t);
      std::vector<Real> qkv = linear(w.w_qkv + l * Q * H, w.b_qkv + l * Q, t, Q, false);
      observe(Stage::kQkv, l, qkv);
      rotate(qkv.data(), p.n_attn_heads + p.n_kv_heads, cosines, sines);
      observe(Stage::kQuery, l, {qkv.begin(), qkv.begin() + A});
      observe(Stage::kKey, l, {qkv.begin() + A, qkv.begin() + A + KV});
      const size_t layer = (size_t)l * p.seq_len * KV;
      std::copy_n(qkv.begin() + A, KV, key_cache_.begin() + layer + pos * KV);
      std::copy_n(qkv.begin() + A + KV, KV, value_cache_.begin() + layer + pos * KV);

      std::vector<Real> tb(A);
      for (int h = 0; h < p.n_attn_heads; h++) {
        const size_t kv_head = layer + (size_t)(h / group) * p.head_dim;
        const Real *q = qkv.data() + (size_t)h * p.head_dim;
        std::vector<Real> att(pos + 2);
        for (int t_key = 0; t_key <= pos; t_key++) {
          const Real *key = key_cache_.data() + kv_head + t_key * KV;
          att[t_key] =
              (Real)(sum_(p.head_dim, [&](int i) { return (Acc)q[i] * (Acc)key[i]; }) / std::sqrt((Acc)p.head_dim));
          if (p.window(l) > 0 && pos - t_key >= p.window(l)) att[t_key] = -INFINITY;
        }
        att[pos + 1] = w.attn_sinks[(size_t)l * p.n_attn_heads + h];
        normalise(att);
        for (int i = 0; i < p.head_dim; i++)
          tb[(size_t)h * p.head_dim + i] = (Real)sum_(
              pos + 1, [&](int t_key) { return (Acc)att[t_key] * (Acc)value_cache_[kv_head + t_key * KV + i]; });
      }
      observe(Stage::kAttentionValues, l, tb);
      std::vector<Real> tb2 = linear(w.w_o + l * H * A, w.b_o + l * H, tb, H, false);
      observe(Stage::kAttentionProjection, l, tb2);
      for (size_t i = 0; i < H; i++) x[i] += tb2[i];
      observe(Stage::kAttentionResidual, l, x);

      t = norm(x, w.rms_ffn_w + l * H);
      observe(Stage::kMlpNorm, l, t);
      std::vector<Real> router = linear(w.w_router + l * E * H, w.b_router + l * E, t, E, false);
      observe(Stage::kRouter, l, router);
      std::vector<int> order(E);
      for (size_t e = 0; e < E; e++) order[e] = (int)e;
      const auto score = [&](int e) { return std::isnan(router[e]) ? -INFINITY : router[e]; };  // NaN has no order
      std::sort(order.begin(), order.end(),
                [&](int a, int b) { return score(a) != score(b) ? score(a) > score(b) : a < b; });
      order.resize(k);
      std::vector<Real> topk;
      for (int e : order) topk.push_back(router[e]);
      normalise(topk);
      observe(Stage::kTopkIndex, l, {order.begin(), order.end()});
      observe(Stage::kTopkWeight, l, topk);

      std::vector<Real> mlp1, gated, mlp2, e_agg(H);
      for (int e : order) {
        const size_t expert = (size_t)l * E + e;
        std::vector<Real> h1 = linear(w.w_mlp1 + expert * 2 * I * H, w.b_mlp1 + expert * 2 * I, t, 2 * I, round_);
        std::vector<Real> act(I);
        for (size_t i = 0; i < I; i++) {
          const Real limit = p.swiglu_limit, gate = std::min(h1[2 * i], limit);
          const Real up = std::max(std::min(h1[2 * i + 1], limit), -limit);
          act[i] = gate / (1 + std::exp((Real)-1.702 * gate)) * (up + 1);
        }
        std::vector<Real> h2 = linear(w.w_mlp2 + expert * H * I, w.b_mlp2 + expert * H, act, H, round_);
        mlp1.insert(mlp1.end(), h1.begin(), h1.end());
        gated.insert(gated.end(), act.begin(), act.end());
        mlp2.insert(mlp2.end(), h2.begin(), h2.end());
      }
      observe(Stage::kMlp1, l, mlp1);
      observe(Stage::kSwiglu, l, gated);
      observe(Stage::kMlp2, l, mlp2);
      std::vector<int> ascending(k);
      for (int j = 0; j < k; j++) ascending[j] = j;
      std::sort(ascending.begin(), ascending.end(), [&](int a, int b) { return order[a] < order[b]; });
      for (int j : ascending)
        for (size_t i = 0; i < H; i++) e_agg[i] += topk[j] * mlp2[j * H + i];
      for (size_t i = 0; i < H; i++) x[i] += e_agg[i];
      observe(Stage::kMlpResidual, l, x);
    }
    x = norm(x, w.rms_out_w);
    observe(Stage::kFinalNorm, 0, x);
    std::vector<Real> logits = linear(w.out, nullptr, x, p.vocab_size, false);
    observe(Stage::kLogits, 0, logits);
    return logits;
  }

 private:
  using Acc = typename Summation::Accumulator;

  std::vector<Real> norm(const std::vector<Real> &x, const float *weight) const {
    const int n = (int)x.size();
    const Acc mean = sum_(n, [&](int i) { return (Acc)x[i] * (Acc)x[i]; }) / n;
    const Acc scale = 1 / std::sqrt(mean + (Acc)1e-5);
    std::vector<Real> out(n);
    for (int i = 0; i < n; i++) out[i] = (Real)(weight[i] * (scale * x[i]));
    return out;
  }

  std::vector<Real> linear(const float *weight, const float *bias, const std::vector<Real> &x, size_t outputs,
                           bool round) const {
    const size_t n = x.size();
    std::vector<Real> out(outputs);
    for (size_t o = 0; o < outputs; o++) {
      const float *row = weight + o * n;
      out[o] = (Real)(round ? sum_((int)n, [&](int i) { return (Acc)to_float(to_bf16(row[i])) * (Acc)x[i]; })
                            : sum_((int)n, [&](int i) { return (Acc)row[i] * (Acc)x[i]; }));
      if (bias) out[o] += bias[o];
    }
    return out;
  }

  void rotate(Real *x, int heads, const std::vector<float> &cosines, const std::vector<float> &sines) const {
    const int half = p.head_dim / 2;
    for (int h = 0; h < heads; h++)
      for (int i = 0; i < half; i++) {
        Real &a = x[(size_t)h * p.head_dim + i], &b = x[(size_t)h * p.head_dim + half + i];
        const Real c = cosines[i], s = sines[i], first = a * c - b * s, second = b * c + a * s;
        a = first;
        b = second;
      }
  }

  void normalise(std::vector<Real> &x) const {  // softmax
    const Real largest = *std::max_element(x.begin(), x.end());
    for (Real &value : x) value = std::exp(value - largest);
    const Acc total = sum_((int)x.size(), [&](int i) { return (Acc)x[i]; });
    for (Real &value : x) value = (Real)(value / total);
  }

  Config p;
  HostWeights w;
  bool round_;
  Summation sum_;
  std::vector<Real> key_cache_, value_cache_;
};

}  // namespace getp_hip
