// All that the engine takes from a harness. getp-csrc/getp_run.cpp, which is compiled into one, hands it over.
#pragma once

#include <cstddef>
#include <vector>

// Cosine and sine (head_dim / 2 each) of the rotary angles at position pos; the harness's run.cpp defines it.
void compute_cos_sin(int pos, float base, int head_dim, float scaling_factor, float initial_context_length,
                     float ntk_beta, float ntk_alpha, float *cos_out, float *sin_out);

namespace getp_hip {

// The fields of a harness's Config, from which it is made.
struct Config {
  int vocab_size = 0, hidden_dim = 0, n_experts = 0, experts_per_token = 0, intermediate_dim = 0, n_layers = 0;
  int head_dim = 0, n_attn_heads = 0, n_kv_heads = 0, seq_len = 0, initial_context_length = 0;
  float rope_theta = 0, rope_scaling_factor = 0;
  int sliding_window = 0;
  float swiglu_limit = 0;

  Config() = default;
  template <class HarnessConfig>
  Config(const HarnessConfig &h)
      : vocab_size(h.vocab_size),
        hidden_dim(h.hidden_dim),
        n_experts(h.n_experts),
        experts_per_token(h.experts_per_token),
        intermediate_dim(h.intermediate_dim),
        n_layers(h.n_layers),
        head_dim(h.head_dim),
        n_attn_heads(h.n_attn_heads),
        n_kv_heads(h.n_kv_heads),
        seq_len(h.seq_len),
        initial_context_length(h.initial_context_length),
        rope_theta(h.rope_theta),
        rope_scaling_factor(h.rope_scaling_factor),
        sliding_window(h.sliding_window),
        swiglu_limit(h.swiglu_limit) {}

  // Of all query heads; of all key (value) heads; of a row of w_qkv's product.
  int attn_dim() const { return n_attn_heads * head_dim; }
  int kv_dim() const { return n_kv_heads * head_dim; }
  int qkv_dim() const { return attn_dim() + 2 * kv_dim(); }
  // Positions that a layer sees, 0 for all: even layers have a window.
  int window(int layer) const { return layer % 2 == 0 ? sliding_window : 0; }
};

// The tensors of a harness's TransformerWeights, from which it is made: FP32, each contiguous over the layers, shapes as
// in Layer and DeviceWeights (weights.hpp) with a dimension of the layers in front.
struct HostWeights {
  const float *token_embedding_table = nullptr, *rms_attn_w = nullptr, *rms_ffn_w = nullptr, *w_qkv = nullptr,
              *w_o = nullptr, *b_qkv = nullptr, *b_o = nullptr, *attn_sinks = nullptr, *w_router = nullptr,
              *b_router = nullptr, *w_mlp1 = nullptr, *w_mlp2 = nullptr, *b_mlp1 = nullptr, *b_mlp2 = nullptr,
              *rms_out_w = nullptr, *out = nullptr;
  bool one_layer = false;  // there are one layer's, and all layers have them

  HostWeights() = default;
  template <class TransformerWeights>
  HostWeights(const TransformerWeights &h)
      : token_embedding_table(h.token_embedding_table),
        rms_attn_w(h.rms_attn_w),
        rms_ffn_w(h.rms_ffn_w),
        w_qkv(h.w_qkv),
        w_o(h.w_o),
        b_qkv(h.b_qkv),
        b_o(h.b_o),
        attn_sinks(h.attn_sinks),
        w_router(h.w_router),
        b_router(h.b_router),
        w_mlp1(h.w_mlp1),
        w_mlp2(h.w_mlp2),
        b_mlp1(h.b_mlp1),
        b_mlp2(h.b_mlp2),
        rms_out_w(h.rms_out_w),
        out(h.out) {}
};

// The requests of a run, as serving sees a harness's Requests, Tokenizer and Sampler, numbered from 0 on. Several threads
// serve; sample and tokens of one request are called by the same thread always.
class RequestList {
 public:
  virtual ~RequestList() = default;
  virtual int count() const = 0;
  virtual int steps() const = 0;    // positions a request may take: prompt and generated tokens, less one
  virtual bool greedy() const = 0;  // whether sample takes the most likely token, always
  // The tokens of a request's prompt; empty, having warned, where there is nothing to generate. One thread at a time.
  virtual std::vector<int> prompt(int r) = 0;
  // The next token of a request after these logits (vocab_size), which it may change.
  virtual int sample(int r, float *logits) = 0;
  // The generated tokens of a request: room for steps() + 1, -1 behind the last.
  virtual int *tokens(int r) = 0;
};

}  // namespace getp_hip
