// The extension point of the getp harness: warm_up, forward_hip, inference, finish.
// Included at the end of run.cpp, after Transformer, Tokenizer, Sampler and the functions that CONTRACT-conforming
// harnesses offer. Works where getp_eval.cpp lies beside this file and where it lies one folder up.
#ifndef GETP_RUN
#define GETP_RUN

#if __cplusplus < 201703L
#error "needs C++17: make runfast"
#else

#if __has_include("getp_eval.cpp")
#include "getp_eval.cpp"
#else
#include "../getp_eval.cpp"
#endif

#include "../hip/engine/parity.hpp"
#include "../hip/kernels/append_kv.hip"
#include "../hip/kernels/attention_scores.hip"
#include "../hip/kernels/attention_values.hip"
#include "../hip/kernels/bias.hip"
#include "../hip/kernels/embedding.hip"
#include "../hip/kernels/expert_combine.hip"
#include "../hip/kernels/matvec.hip"
#include "../hip/kernels/residual.hip"
#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/rope.hip"
#include "../hip/kernels/softmax.hip"
#include "../hip/kernels/split_qkv.hip"
#include "../hip/kernels/swiglu.hip"
#include "../hip/kernels/topk.hip"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

// In a namespace of their own: a harness may use these names.
namespace getp_hip {
inline Device device;
inline Parity parity;
}  // namespace getp_hip

// Allocates, converts and uploads: everything that need not be timed. Not an inference.
void warm_up(Transformer *transformer, Tokenizer *) {
#ifndef GETP_REFERENCE
  getp_hip::parity.read_environment();
  getp_hip::device.set_up(transformer->config, transformer->weights);
#endif
}

// Frees everything that warm_up took, and checks that nothing is left.
void finish(Transformer *transformer, Tokenizer *) {
  getp_hip::parity.reset();
  getp_hip::device.release(transformer->config, transformer->weights);
}

// forward() of run.cpp on the device: logits (vocab_size floats on the host, valid until the next call) of `token` at
// position `pos`. Positions before pos must have been forwarded; 0 <= pos < seq_len, 0 <= token < vocab_size.
float *forward_hip(Transformer *transformer, int token, int pos) {
  namespace gpu = getp_hip;
  using gpu::Stage;
  const gpu::Device &device = gpu::device;
  const Config &p = transformer->config;
  const gpu::DeviceWeights &w = device.w;
  const gpu::DeviceState &s = device.s;
  const hipStream_t stream = device.stream;
  if (!device.ready || token < 0 || token >= p.vocab_size || pos < 0 || pos >= p.seq_len) {
    fprintf(stderr, "error: forward_hip(token %d, position %d): %s\n", token, pos,
            device.ready ? "outside the model's vocabulary or sequence" : "call warm_up first");
    exit(EXIT_FAILURE);
  }
  const int rows = 1;
  const size_t hidden = p.hidden_dim, experts = p.n_experts, inter = p.intermediate_dim, k = p.experts_per_token;
  const int q_dim = p.n_attn_heads * p.head_dim, kv_dim = p.n_kv_heads * p.head_dim, qkv_dim = q_dim + 2 * kv_dim;
  const size_t att_stride = (size_t)p.seq_len + 1;
  const auto see = [&](Stage stage, int layer, const auto *d_values) {
    gpu::parity.check(stage, layer, d_values, stream);
  };
  gpu::parity.begin_step(p, transformer->weights, token, pos);

  device.h_step[0] = token;
  device.h_step[1] = pos;
  gpu::copy_to_device(s.tokens, device.h_step, 1, stream);
  gpu::copy_to_device(s.positions, device.h_step + 1, 1, stream);

  // copy the token embedding into x
  gpu::embedding(s.x, w.token_embedding_table, s.tokens, rows, hidden, stream);
  see(Stage::kEmbedding, 0, s.x);

  for (size_t l = 0; l < (size_t)p.n_layers; l++) {
    // attention: norm, then query, key and value, rotated by position; key and value join the cache
    gpu::rmsnorm(s.t, s.x, w.rms_attn_w + l * hidden, rows, hidden, stream);
    see(Stage::kAttentionNorm, l, s.t);
    gpu::matvec(s.qkv, w.w_qkv + l * qkv_dim * hidden, s.t, rows, hidden, qkv_dim, stream);
    gpu::add_bias(s.qkv, w.b_qkv + l * qkv_dim, rows, qkv_dim, stream);
    see(Stage::kQkv, l, s.qkv);
    gpu::split_qkv(s.q, s.k, s.v, s.qkv, rows, q_dim, kv_dim, stream);
    gpu::rope(s.q, s.cos_table, s.sin_table, s.positions, rows, p.n_attn_heads, p.head_dim, stream);
    gpu::rope(s.k, s.cos_table, s.sin_table, s.positions, rows, p.n_kv_heads, p.head_dim, stream);
    see(Stage::kQuery, l, s.q);
    see(Stage::kKey, l, s.k);
    float *key_cache = s.key_cache + l * p.seq_len * kv_dim, *value_cache = s.value_cache + l * p.seq_len * kv_dim;
    gpu::append_kv(key_cache, value_cache, s.k, s.v, s.positions, rows, kv_dim, stream);

    // even layers see the last s.window positions; each head's sink takes part in the softmax only
    const int window = l % 2 == 0 ? s.window : 0;
    gpu::attention_scores(s.att, s.q, key_cache, w.attn_sinks + l * p.n_attn_heads, s.positions, pos, rows,
                          p.n_attn_heads, p.n_kv_heads, p.head_dim, att_stride, window, stream);
    gpu::attention_softmax(s.att, s.positions, rows, p.n_attn_heads, att_stride, stream);
    see(Stage::kAttentionWeights, l, s.att);
    gpu::attention_values(s.tb, s.att, value_cache, s.positions, rows, p.n_attn_heads, p.n_kv_heads, p.head_dim,
                          att_stride, window, stream);
    see(Stage::kAttentionValues, l, s.tb);
    gpu::matvec(s.tb2, w.w_o + l * hidden * q_dim, s.tb, rows, q_dim, hidden, stream);
    gpu::add_bias(s.tb2, w.b_o + l * hidden, rows, hidden, stream);
    see(Stage::kAttentionProjection, l, s.tb2);
    gpu::residual_add(s.x, s.tb2, rows * hidden, stream);
    see(Stage::kAttentionResidual, l, s.x);

    // mixture of experts: norm, then the router's k best experts, weighted by softmax over the k
    gpu::rmsnorm(s.t, s.x, w.rms_ffn_w + l * hidden, rows, hidden, stream);
    see(Stage::kMlpNorm, l, s.t);
    gpu::matvec(s.router_score, w.w_router + l * experts * hidden, s.t, rows, hidden, experts, stream);
    gpu::add_bias(s.router_score, w.b_router + l * experts, rows, experts, stream);
    see(Stage::kRouter, l, s.router_score);
    gpu::topk(s.topk_v, s.topk_i, s.router_score, rows, experts, k, stream);
    gpu::softmax(s.topk_v, rows, k, k, stream);
    see(Stage::kTopkIndex, l, s.topk_i);
    see(Stage::kTopkWeight, l, s.topk_v);

    // the chosen experts, a row each; their outputs are added in ascending expert index
    gpu::expert_matvec(s.mlp1_out, w.w_mlp1 + l * experts * 2 * inter * hidden, s.t, s.topk_i, k, rows * k, hidden,
                       2 * inter, stream);
    gpu::add_expert_bias(s.mlp1_out, w.b_mlp1 + l * experts * 2 * inter, s.topk_i, rows * k, 2 * inter, stream);
    see(Stage::kMlp1, l, s.mlp1_out);
    gpu::swiglu(s.gate_up, s.gate, s.up, s.mlp1_out, rows * k, inter, p.swiglu_limit, stream);
    see(Stage::kSwiglu, l, s.gate_up);
    gpu::expert_matvec(s.tb2, w.w_mlp2 + l * experts * hidden * inter, s.gate_up, s.topk_i, 1, rows * k, inter, hidden,
                       stream);
    gpu::add_expert_bias(s.tb2, w.b_mlp2 + l * experts * hidden, s.topk_i, rows * k, hidden, stream);
    see(Stage::kMlp2, l, s.tb2);
    gpu::expert_combine(s.e_agg, s.tb2, s.topk_v, s.topk_i, rows, k, hidden, stream);
    see(Stage::kExperts, l, s.e_agg);
    gpu::residual_add(s.x, s.e_agg, rows * hidden, stream);
    see(Stage::kMlpResidual, l, s.x);
  }

  // final norm, logits
  gpu::rmsnorm(s.t, s.x, w.rms_out_w, rows, hidden, stream);
  see(Stage::kFinalNorm, 0, s.t);
  gpu::matvec(s.logits, w.out, s.t, rows, hidden, p.vocab_size, stream);
  see(Stage::kLogits, 0, s.logits);
  gpu::copy_to_host(device.h_logits, s.logits, p.vocab_size, stream);
  HIP_CHECK(hipStreamSynchronize(stream));
  return device.h_logits;
}

// Generates for one request: feeds the prompt one token a step, then samples, until a stop token or `steps` forwards.
// out: at least steps - prompt.size() + 2 ints; ends with -1. Returns the number of generated tokens.
static int generate_tokens(Transformer *transformer, Sampler *sampler, const std::vector<int> &prompt, int steps,
                           int *out) {
  int count = 0, token = prompt[0];
  for (int pos = 0; pos < steps; pos++) {
#ifdef GETP_REFERENCE
    float *logits = forward(transformer, token, pos);
#else
    float *logits = forward_hip(transformer, token, pos);
#endif
    if (pos + 1 < (int)prompt.size()) {
      token = prompt[pos + 1];
      continue;
    }
    token = sample(sampler, logits);
    out[count++] = token;
    if (token == 199999 || token == 200002) break;  // <|endoftext|>, <|return|>
  }
  out[count] = -1;
  return count;
}

// All requests, one after the other. Returns the number of generated tokens: the stop token counts, prompts do not.
// A prompt that is blank or longer than the steps gets an empty output line and a warning.
// With GETP_REFERENCE defined the CPU's forward serves them: the program to compare with.
long long inference(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, Requests *requests) {
  long long generated = 0;
  const bool terminal = isatty(STDERR_FILENO);
  for (int r = 0; r < requests->num_reqs; r++) {
    if (terminal) fprintf(stderr, "\rrequest %d of %d, %lld tokens ", r + 1, requests->num_reqs, generated);
    const char *text = get_str_req_ptr(requests, r);
    int *out = get_tok_gen_ptr(requests, r);
    out[0] = -1;
    std::vector<int> prompt(strlen(text) + 3);  // a byte gives at most one token
    int prompt_tokens = 0;
    encode(tokenizer, text, -1, -1, prompt.data(), &prompt_tokens, (int)prompt.size());
    prompt.resize(prompt_tokens);
    const int steps = requests->max_seq_len;
    if (prompt.empty())
      fprintf(stderr, "warning: input line %d: blank prompt; its output line stays empty\n", r + 2);
    else if (prompt_tokens > steps)
      fprintf(stderr,
              "warning: input line %d: %d prompt tokens exceed the %d steps of -n; its output line stays empty\n",
              r + 2, prompt_tokens, steps);
    else
      generated += generate_tokens(transformer, sampler, prompt, steps, out);
  }
  if (terminal) fprintf(stderr, "\r\033[K");
  return generated;
}

#endif  // C++17
#endif  // GETP_RUN
