// The extension point of the getp harness: warm_up, forward_hip, inference, finish.
// Included at the end of run.cpp, after Transformer, Tokenizer, Sampler and the functions that harnesses of
// this kind offer. Works where getp_eval.cpp lies beside this file and where it lies one folder up.
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

#include "../hip/engine/node.hpp"
#include "../hip/engine/parity.hpp"
#include "../hip/engine/scheduler.hpp"
#include "../hip/environment.hpp"
#include "../hip/kernels/argmax.hip"
#include "../hip/kernels/attention.hip"
#include "../hip/kernels/embedding.hip"
#include "../hip/kernels/expert_tiles.hip"
#include "../hip/kernels/linear.hip"
#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/rope.hip"
#include "../hip/kernels/swiglu.hip"
#include "../hip/kernels/topk.hip"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <type_traits>
#include <vector>

// In a namespace of their own: a harness may use these names.
namespace getp_hip {
inline Node node;
inline Parity parity;

// A sampler for each request, so that what it draws depends on neither the others nor the batch: one request alone has
// the harness's stream, else each has one of its own, seeded from the harness's seed and its number. They share the
// harness's work space.
inline auto samplers_of_requests(const Sampler &sampler, int requests) {
  return [&sampler, requests](int r) {
    Sampler own = sampler;
    if (requests == 1) return own;
    // splitmix64 (Steele, Lea, Flood 2014): neighbouring seeds give unrelated streams; a state of 0 would stay 0
    unsigned long long z = sampler.rng_state + (r + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    own.rng_state = (z ^ (z >> 31)) | 1;
    return own;
  };
}

// Whether GETP_CPU asks for the harness's own forward instead of the device's.
inline bool on_cpu() { return environment_flag("GETP_CPU", "1 (compute on the CPU, with the reference) or 0"); }

inline void set_up(Transformer *transformer, bool one_sequence) {
  if (on_cpu()) return;
  parity.read_environment();
  // The parity switch follows one sequence token by token.
  node.set_up(transformer->config, transformer->weights, one_sequence || parity.on());
}
}  // namespace getp_hip

// Allocates, converts and uploads: everything that need not be timed. Not an inference.
void warm_up(Transformer *transformer, Tokenizer *) { getp_hip::set_up(transformer, false); }

// As much of it as forward_hip needs: one device, one sequence. The sequence may go back to any position, which after
// warm_up only position 0 allows: there even layers keep no more than the window.
void warm_up_forward(Transformer *transformer) { getp_hip::set_up(transformer, true); }

// Frees everything that they took, and checks that nothing is left.
void finish(Transformer *transformer, Tokenizer *) {
  getp_hip::parity.reset();
  getp_hip::node.release(transformer->config, transformer->weights);
}

// forward() of run.cpp on the device, for all rows of a batch at once: tokens, each at its position of its slot's
// sequence. Positions of a slot must come in order, though several may come in one batch. Leaves the logits of
// batch.logit_rows in d.s.logits and their argmaxes in d.s.next_tokens; waits for nothing: the
// caller synchronises the stream before the next call.
static void forward_rows(Transformer *transformer, getp_hip::Device &device, const getp_hip::Batch &batch) {
  namespace gpu = getp_hip;
  using gpu::Stage;
  const Config &p = transformer->config;
  const gpu::DeviceWeights &w = device.w;
  const gpu::DeviceState &s = device.s;
  const gpu::SplitRows split = device.split();
  const hipStream_t stream = device.stream;
  const int rows = (int)batch.tokens.size(), logit_rows = (int)batch.logit_rows.size();
  HIP_REQUIRE(rows > 0 && rows <= device.batch.rows && logit_rows <= device.batch.slots);
  const int longest = *std::max_element(batch.positions.begin(), batch.positions.end());
  const size_t hidden = p.hidden_dim, experts = p.n_experts, inter = p.intermediate_dim, k = p.experts_per_token;
  const int q_dim = p.n_attn_heads * p.head_dim, kv_dim = p.n_kv_heads * p.head_dim, qkv_dim = q_dim + 2 * kv_dim;
  const auto see = [&](Stage stage, int layer, const auto *d_values) {
    gpu::parity.check(stage, layer, d_values, stream);
  };
  gpu::parity.begin_step(p, transformer->weights, batch.tokens[0], batch.positions[0]);

  int *d_tokens = s.step, *d_positions = d_tokens + rows, *d_slots = d_positions + rows, *d_logit_rows = d_slots + rows;
  int *h_step = device.h_step;
  for (const std::vector<int> *each : {&batch.tokens, &batch.positions, &batch.slots, &batch.logit_rows})
    h_step = std::copy(each->begin(), each->end(), h_step);
  gpu::copy_to_device(s.step, device.h_step, h_step - device.h_step, stream);

  // copy the token embedding into x
  gpu::embedding(s.x, w.token_embedding_table, d_tokens, rows, hidden, stream);
  see(Stage::kEmbedding, 0, s.x);

  // what a norm adds to x first: nothing before layer 0, the attention's projection, the last layer's chosen experts
  const gpu::Residual nothing, projection = {s.tb2}, chosen_experts = {s.tb2, s.topk_v, s.topk_i, (int)k};
  for (size_t l = 0; l < (size_t)p.n_layers; l++) {
    // attention: norm, then query, key and value, rotated by position; key and value join the cache
    gpu::rmsnorm(s.t, split, s.x, l == 0 ? nothing : chosen_experts, w.rms_attn_w + l * hidden, nullptr, rows, hidden,
                 stream);
    if (l > 0) see(Stage::kMlpResidual, l - 1, s.x);
    see(Stage::kAttentionNorm, l, s.t);
    gpu::linear(s.qkv, w.w_qkv.from(l), w.b_qkv + l * qkv_dim, s.t, split, rows, stream);
    see(Stage::kQkv, l, s.qkv);
    const int length = device.batch.cache_length(p, l);
    float *key_cache = s.key_cache + device.batch.cache_offset(p, l);
    float *value_cache = s.value_cache + device.batch.cache_offset(p, l);
    gpu::rope(s.q, key_cache, value_cache, s.qkv, s.cos_table, s.sin_table, d_positions, d_slots, rows, p.n_attn_heads,
              p.n_kv_heads, p.head_dim, length, stream);
    see(Stage::kQuery, l, s.q);
    see(Stage::kKey, l, key_cache + (size_t)(batch.positions[0] % length) * kv_dim);

    // even layers see the last sliding_window positions; each head's sink takes part in the softmax only
    gpu::attention(s.tb, s.att, s.q, key_cache, value_cache, w.attn_sinks + l * p.n_attn_heads, d_positions, d_slots,
                   longest, rows, p.n_attn_heads, p.n_kv_heads, p.head_dim, length, device.batch.window(p, l), stream);
    see(Stage::kAttentionValues, l, s.tb);
    gpu::split_terms(split, s.tb, rows, q_dim, stream);
    gpu::linear(s.tb2, w.w_o.from(l), w.b_o + l * hidden, s.tb, split, rows, stream);
    see(Stage::kAttentionProjection, l, s.tb2);

    // mixture of experts: residual and norm, then the router's k best experts, weighted by softmax over the k
    gpu::rmsnorm(s.t, split, s.x, projection, w.rms_ffn_w + l * hidden, nullptr, rows, hidden, stream);
    see(Stage::kAttentionResidual, l, s.x);
    see(Stage::kMlpNorm, l, s.t);
    gpu::linear(s.router_score, w.w_router.from(l), w.b_router + l * experts, s.t, split, rows, stream);
    see(Stage::kRouter, l, s.router_score);
    gpu::topk(s.topk_v, s.topk_i, s.router_score, rows, experts, k, stream);
    see(Stage::kTopkIndex, l, s.topk_i);
    see(Stage::kTopkWeight, l, s.topk_v);

    // the chosen experts, a row each; the next norm adds their outputs to x. A token alone has no expert twice
    gpu::ExpertTiles tiles;
    if (rows > 1)
      tiles = gpu::expert_tiles({s.expert_tiles, s.expert_rows, s.expert_counts}, s.topk_i, rows * k, experts,
                                gpu::expert_tile_rows(w.w_mlp1, w.w_mlp2, rows * k, experts), stream);
    gpu::expert_linear(s.mlp1_out, w.w_mlp1.from(l * experts), w.b_mlp1 + l * experts * 2 * inter, s.t, split, s.topk_i,
                       tiles, k, rows * k, stream);
    see(Stage::kMlp1, l, s.mlp1_out);
    gpu::swiglu(w.w_mlp2.in_fp16 && !gpu::parity.on() ? nullptr : s.gate_up, split, s.mlp1_out, rows * k, inter,
                p.swiglu_limit, stream);
    see(Stage::kSwiglu, l, s.gate_up);
    gpu::expert_linear(s.tb2, w.w_mlp2.from(l * experts), w.b_mlp2 + l * experts * hidden, s.gate_up, split, s.topk_i,
                       tiles, 1, rows * k, stream);
    see(Stage::kMlp2, l, s.tb2);
  }

  // final norm, logits and argmax of the rows after which a token is sampled
  if (logit_rows == 0) return;
  gpu::rmsnorm(s.t, split, s.x, chosen_experts, w.rms_out_w, d_logit_rows, logit_rows, hidden, stream);
  see(Stage::kMlpResidual, p.n_layers - 1, s.x);  // not of tokens without logits: nobody needs theirs
  see(Stage::kFinalNorm, 0, s.t);
  gpu::linear(s.logits, w.out, nullptr, s.t, split, logit_rows, stream);
  see(Stage::kLogits, 0, s.logits);
  gpu::argmax(s.next_tokens, s.argmax_parts, s.logits, logit_rows, p.vocab_size, stream);
}

// forward() of run.cpp on the first device: logits (vocab_size floats on the host, valid until the next call) of
// `token` at position `pos`. Positions before pos must have been forwarded; 0 <= pos < seq_len, and token is one of
// the vocabulary.
float *forward_hip(Transformer *transformer, int token, int pos) {
  if (getp_hip::on_cpu()) return forward(transformer, token, pos);
  const bool ready = !getp_hip::node.devices.empty();
  const Config &p = transformer->config;
  if (!ready || token < 0 || token >= p.vocab_size || pos < 0 || pos >= p.seq_len) {
    fprintf(stderr, "error: forward_hip(token %d, position %d): %s\n", token, pos,
            ready ? "outside the model's vocabulary or sequence" : "call warm_up first");
    exit(EXIT_FAILURE);
  }
  getp_hip::Device &device = getp_hip::node.devices[0];
  device.use_positions(p, p.seq_len);
  forward_rows(transformer, device, {{token}, {pos}, {0}, {0}, {0}});
  getp_hip::copy_to_host(device.h_logits, device.s.logits, p.vocab_size, device.stream);
  HIP_CHECK(hipStreamSynchronize(device.stream));
  return device.h_logits;
}

// The tokens of a request's prompt; empty, with a warning, for one that is blank or longer than the steps: its output
// line stays empty.
static std::vector<int> encode_prompt(Tokenizer *tokenizer, Requests *requests, int r) {
  const char *text = get_str_req_ptr(requests, r);
  std::vector<int> prompt(strlen(text) + 3);  // a byte gives at most one token
  int count = 0;
  encode(tokenizer, text, -1, -1, prompt.data(), &count, (int)prompt.size());
  prompt.resize(count);
  if (count > 0 && count <= requests->max_seq_len) return prompt;
  if (count == 0)
    fprintf(stderr, "warning: input line %d: blank prompt; its output line stays empty\n", r + 2);
  else
    fprintf(stderr, "warning: input line %d: %d prompt tokens exceed the %d steps of -n; its output line stays empty\n",
            r + 2, count, requests->max_seq_len);
  return {};
}

static bool is_stop_token(int token) { return token == 199999 || token == 200002; }  // <|endoftext|>, <|return|>

// All requests, one after the other, by the CPU's forward: what to compare with.
static long long inference_on_cpu(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, Requests *requests) {
  const getp_hip::StopOnSignals signals;
  const int total = requests->num_reqs;
  const auto samplers = getp_hip::samplers_of_requests(*sampler, total);
  for (int r = 0; r < total; r++) get_tok_gen_ptr(requests, r)[0] = -1;
  long long generated = 0;
  int finished = 0;
  for (; finished < total; finished++) {
    const std::vector<int> prompt = encode_prompt(tokenizer, requests, finished);
    int *out = get_tok_gen_ptr(requests, finished), count = 0;
    Sampler own = samplers(finished);
    bool stopped = false;
    for (int pos = 0, token = 0; pos < requests->max_seq_len && !prompt.empty(); pos++) {
      if ((stopped = getp_hip::stop_code != 0)) break;
      float *logits = forward(transformer, pos < (int)prompt.size() ? prompt[pos] : token, pos);
      if (pos + 1 < (int)prompt.size()) continue;
      out[count++] = token = sample(&own, logits);
      if (is_stop_token(token)) break;
    }
    out[stopped ? 0 : count] = -1;
    if (stopped) break;
    generated += count;
  }
  getp_hip::report_stop(finished, total);
  return generated;
}
// All requests, from one queue, as many at a time as the devices have slots. Returns the number of generated tokens:
// the stop token counts, prompts and requests that were not finished do not. A request's tokens depend neither on what
// it is served with nor on the devices (drawn ones: on its number in the input).
long long inference(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, Requests *requests) {
  namespace gpu = getp_hip;
  if (gpu::on_cpu()) return inference_on_cpu(transformer, tokenizer, sampler, requests);
  const gpu::StopOnSignals signals;
  const Config &p = transformer->config;
  const int total = requests->num_reqs;
  const bool terminal = isatty(STDERR_FILENO), greedy = sampler->temperature == 0.0f;
  const auto own_sampler = gpu::samplers_of_requests(*sampler, total);
  struct Served {
    Sampler sampler;
    int tokens;
    bool finished;
  };
  std::vector<Served> served;  // of each request; like its row, only the thread that took it writes it
  for (int r = 0; r < total; r++) {
    served.push_back({own_sampler(r), 0, false});
    get_tok_gen_ptr(requests, r)[0] = -1;
  }

  std::mutex queue;  // guards `next`, and the tokenizer: not every harness has one that threads may share
  int next = 0;
  std::atomic<int> finished{0};
  std::atomic<long long> tokens{0};
  const auto start = std::chrono::steady_clock::now();
  for (gpu::Device &device : gpu::node.devices) device.use_positions(p, requests->max_seq_len);
  gpu::node.run([&](gpu::Device &device) {
    // What sampling works in must not be another thread's.
    std::vector<std::remove_pointer_t<decltype(sampler->probindex)> > probindex(greedy ? 0 : p.vocab_size);
    gpu::Scheduler scheduler(gpu::node.share(device, total), device.batch.rows, device.batch.chunk,
                             [&](gpu::ScheduledRequest &request) {
                               const std::lock_guard<std::mutex> lock(queue);
                               while (next < total) {
                                 const int r = next++;
                                 request = {r, encode_prompt(tokenizer, requests, r), requests->max_seq_len};
                                 served[r].sampler.probindex = probindex.data();
                                 if (!request.prompt.empty()) return true;
                                 served[r].finished = true;
                                 finished++;
                               }
                               return false;
                             });
    for (gpu::Batch batch; gpu::stop_code == 0 && scheduler.compose(batch);) {
      forward_rows(transformer, device, batch);
      const size_t sampled = batch.logit_rows.size(), vocab = p.vocab_size, at_a_time = device.host_logits();
      gpu::copy_to_host(device.h_next_tokens, device.s.next_tokens, sampled, device.stream);
      HIP_CHECK(hipStreamSynchronize(device.stream));
      for (size_t i = 0; i < sampled; i++) {
        if (!greedy && i % at_a_time == 0) {
          gpu::copy_to_host(device.h_logits, device.s.logits + i * vocab, std::min(at_a_time, sampled - i) * vocab,
                            device.stream);
          HIP_CHECK(hipStreamSynchronize(device.stream));
        }
        const int sequence = batch.logit_sequences[i], r = scheduler.request_of(sequence).index;
        Served &own = served[r];
        const int token =
            greedy ? device.h_next_tokens[i] : sample(&own.sampler, device.h_logits + i % at_a_time * vocab);
        int *out = get_tok_gen_ptr(requests, r);
        out[own.tokens++] = token;
        out[own.tokens] = -1;
        own.finished = scheduler.take(sequence, token, is_stop_token(token));
        finished += own.finished;
      }
      tokens += (long long)sampled;
      if (!terminal) continue;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      fprintf(stderr, "\r%d of %d requests done, %lld tokens, %.0f tok/s ", finished.load(), total, tokens.load(),
              (double)tokens / seconds);
    }
  });
  if (terminal) fprintf(stderr, "\r\033[K");

  long long generated = 0;
  for (int r = 0; r < total; r++)
    if (served[r].finished)
      generated += served[r].tokens;
    else
      get_tok_gen_ptr(requests, r)[0] = -1;
  gpu::report_stop(finished, total);
  return generated;
}

#endif  // C++17
#endif  // GETP_RUN
