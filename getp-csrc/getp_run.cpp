// The extension point of the getp harness: warm_up, forward_hip, inference, finish. Hands the harness's model, requests
// and sampler to the engine (hip/engine/), which does the work; forward() on the device is hip/engine/forward.hpp.
//
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

#include "../hip/debug/parity.hpp"
#include "../hip/engine/serving.hpp"
#include "../hip/environment.hpp"
#include "../hip/splitmix64.hpp"

#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

// In a namespace of their own: a harness may use these names.
namespace getp_hip {
inline Node node;
inline Parity parity;

// Whether GETP_CPU asks for the harness's own forward instead of the device's.
inline bool on_cpu() { return environment_flag("GETP_CPU", "1 (compute on the CPU, with the reference) or 0"); }

inline void set_up(Transformer *transformer, bool one_sequence) {
  if (on_cpu()) return;
  parity.read_environment();
  // The parity switch follows one sequence token by token.
  node.set_up(transformer->config, transformer->weights, one_sequence || parity.on());
  if (!parity.on()) return;
  parity.use_model(transformer->config, transformer->weights);
  node.devices[0].observer = &parity;
}

// The harness's requests, tokenizer and sampler. Each request has a sampler of its own, so that what it draws depends on
// neither the others nor the batch: one request alone has the harness's stream of random numbers, else each has one of
// its own, seeded from the harness's seed and its number.
class HarnessRequests : public RequestList {
 public:
  HarnessRequests(Requests *requests, Tokenizer *tokenizer, const Sampler &sampler)
      : requests_(requests), tokenizer_(tokenizer), samplers_(requests->num_reqs, sampler) {
    for (int r = 0; r < count() && count() > 1; r++)  // a state of 0 would stay 0
      samplers_[r].rng_state = splitmix64(sampler.rng_state + (r + 1) * kSplitMixStep) | 1;
  }

  int count() const override { return requests_->num_reqs; }
  int steps() const override { return requests_->max_seq_len; }
  bool greedy() const override { return samplers_[0].temperature == 0.0f; }

  std::vector<int> prompt(int r) override {
    const char *text = get_str_req_ptr(requests_, r);
    std::vector<int> prompt(strlen(text) + 3);  // a byte gives at most one token
    int count = 0;
    encode(tokenizer_, text, -1, -1, prompt.data(), &count, (int)prompt.size());
    prompt.resize(count);
    if (count > 0 && count <= steps()) return prompt;
    if (count == 0)
      fprintf(stderr, "warning: input line %d: blank prompt; its output line stays empty\n", r + 2);
    else
      fprintf(stderr,
              "warning: input line %d: %d prompt tokens exceed the %d steps of -n; its output line stays empty\n",
              r + 2, count, steps());
    return {};
  }

  int sample(int r, float *logits) override {
    // What sampling works in must not be another thread's.
    static thread_local std::vector<std::remove_pointer_t<decltype(Sampler::probindex)> > probindex;
    probindex.resize(samplers_[r].vocab_size);
    samplers_[r].probindex = probindex.data();
    return ::sample(&samplers_[r], logits);
  }

  int *tokens(int r) override { return get_tok_gen_ptr(requests_, r); }

 private:
  Requests *requests_;
  Tokenizer *tokenizer_;
  std::vector<Sampler> samplers_;
};
}  // namespace getp_hip

// Allocates, converts and uploads: everything that need not be timed. Not an inference.
void warm_up(Transformer *transformer, Tokenizer *) { getp_hip::set_up(transformer, false); }

// As much of it as forward_hip needs: one device, one sequence. The sequence may go back to any position, which after
// warm_up only position 0 allows: there even layers keep no more than the window.
void warm_up_forward(Transformer *transformer) { getp_hip::set_up(transformer, true); }

// Frees everything that they took, and checks that nothing is left.
void finish(Transformer *, Tokenizer *) {
  getp_hip::parity.reset();
  getp_hip::node.release();
}

// forward() of run.cpp on the first device: logits (vocab_size floats on the host, valid until the next call) of
// `token` at position `pos`. Positions before pos must have been forwarded; 0 <= pos < seq_len, and token is one of
// the vocabulary. Logits that are not numbers end the program.
float *forward_hip(Transformer *transformer, int token, int pos) {
  namespace gpu = getp_hip;
  const auto where = [pos] { return "position " + std::to_string(pos); };
  if (gpu::on_cpu()) {
    float *logits = forward(transformer, token, pos);
    if (!gpu::are_usable(logits, transformer->config.vocab_size))
      gpu::fail("%s", gpu::no_token(where(), transformer->config, transformer->weights).c_str());
    return logits;
  }
  const bool ready = !gpu::node.devices.empty();
  const Config &p = transformer->config;
  if (!ready || token < 0 || token >= p.vocab_size || pos < 0 || pos >= p.seq_len)
    gpu::fail("forward_hip(token %d, position %d): %s", token, pos,
              ready ? "outside the model's vocabulary or sequence" : "call warm_up first");
  gpu::Device &device = gpu::node.devices[0];
  device.use_positions(p.seq_len);
  gpu::forward_rows(device, {{token}, {pos}, {0}, {0}, {0}, {}, {}});
  gpu::copy_to_host(device.h_logits, device.s.logits, p.vocab_size, device.stream);
  gpu::copy_to_host(device.h_next_tokens, device.s.next_tokens, 1, device.stream);
  HIP_CHECK(hipStreamSynchronize(device.stream));
  if (device.h_next_tokens[0] == gpu::kNoToken) gpu::fail("%s", gpu::no_token(where()).c_str());
  return device.h_logits;
}

// All requests; returns the number of generated tokens (hip/engine/serving.hpp).
long long inference(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, Requests *requests) {
  namespace gpu = getp_hip;
  gpu::HarnessRequests list(requests, tokenizer, *sampler);
  if (!gpu::on_cpu()) return gpu::serve(gpu::node, list);
  return gpu::serve_in_turn(list, transformer->config, transformer->weights,
                            [&](int token, int pos) { return forward(transformer, token, pos); });
}

#endif  // C++17
#endif  // GETP_RUN
