// The extension point of the getp harness: warm_up, forward_hip, inference,
// finish.
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

#include "../hip/engine/device.hpp"
#include "../hip/kernels/append_kv.hip"
#include "../hip/kernels/attention_scores.hip"
#include "../hip/kernels/attention_values.hip"
#include "../hip/kernels/bias.hip"
#include "../hip/kernels/embedding.hip"
#include "../hip/kernels/matvec.hip"
#include "../hip/kernels/residual.hip"
#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/rope.hip"
#include "../hip/kernels/softmax.hip"
#include "../hip/kernels/split_qkv.hip"

#include <cstdio>
#include <cstring>
#include <vector>

namespace gpu = getp_hip;

static gpu::Device device;

void warm_up(Transformer *transformer, Tokenizer *) {
  device.set_up(transformer->config, transformer->weights);
}

void finish(Transformer *transformer, Tokenizer *) {
  device.release(transformer->config, transformer->weights);
}

// The CPU's forward until all kernels stand.
float *forward_hip(Transformer *transformer, int token, int pos) {
  return forward(transformer, token, pos);
}

// Generates for one request: feeds the prompt one token a step, then samples,
// until a stop token or `steps` forwards. out: at least steps - prompt.size() +
// 2 ints; ends with -1. Returns the number of generated tokens.
static int generate_tokens(Transformer *transformer, Sampler *sampler,
                           const std::vector<int> &prompt, int steps,
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
    if (token == 199999 || token == 200002)
      break; // <|endoftext|>, <|return|>
  }
  out[count] = -1;
  return count;
}

// All requests, one after the other. Returns the number of generated tokens:
// the stop token counts, prompts do not. A prompt that is blank or longer than
// the steps gets an empty output line and a warning. With GETP_REFERENCE
// defined the CPU's forward serves them: the program to compare with.
long long inference(Transformer *transformer, Tokenizer *tokenizer,
                    Sampler *sampler, Requests *requests) {
  long long generated = 0;
  for (int r = 0; r < requests->num_reqs; r++) {
    const char *text = get_str_req_ptr(requests, r);
    int *out = get_tok_gen_ptr(requests, r);
    out[0] = -1;
    std::vector<int> prompt(strlen(text) + 3); // a byte gives at most one token
    int prompt_tokens = 0;
    encode(tokenizer, text, -1, -1, prompt.data(), &prompt_tokens,
           (int)prompt.size());
    prompt.resize(prompt_tokens);
    const int steps = requests->max_seq_len;
    if (prompt.empty())
      fprintf(
          stderr,
          "warning: input line %d: blank prompt; its output line stays empty\n",
          r + 2);
    else if (prompt_tokens > steps)
      fprintf(stderr,
              "warning: input line %d: %d prompt tokens exceed the %d steps of "
              "-n; its output line stays empty\n",
              r + 2, prompt_tokens, steps);
    else
      generated += generate_tokens(transformer, sampler, prompt, steps, out);
  }
  return generated;
}

#endif // C++17
#endif // GETP_RUN
