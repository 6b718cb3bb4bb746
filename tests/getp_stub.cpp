// getp with a stub in place of the model: fills every row to its full length with values computed from request and
// step, so that the buffers and the writer of getp_eval.cpp can be tested with as many requests as one likes.
//
//   getp_stub <input> <output> <steps> [max_token_len=128]
//
// Token j of request i is (i * 1000003 + j * 7919) mod 201088.
#include "harness_alone.hpp"

float *forward_hip(Transformer *, int, int) { return nullptr; }

long long inference(Transformer *, Tokenizer *, Sampler *, Requests *requests) {
  const int steps = requests->max_seq_len;
  for (int64_t i = 0; i < requests->num_reqs; i++) {
    if (strtoll(get_str_req_ptr(requests, (int)i), nullptr, 10) != i)
      fatal("request %lld has another's prompt", (long long)i);
    int *row = get_tok_gen_ptr(requests, (int)i);
    if (row[0] != -1) fatal("row %lld does not start empty", (long long)i);
    for (int64_t j = 0; j < steps; j++) row[j] = (int)((i * 1000003 + j * 7919) % 201088);
    row[steps] = -1;
  }
  return (long long)requests->num_reqs * steps;
}

int main(int argc, char **argv) {
  if (argc < 4) fatal("usage: getp_stub <input> <output> <steps> [max_token_len]");
  Transformer transformer = {};
  Tokenizer tokenizer = {};
  Sampler sampler = {};
  tokenizer.max_token_length = argc > 4 ? atoi(argv[4]) : 128;
  getp(&transformer, &tokenizer, &sampler, argv[1], argv[2], atoi(argv[3]));
}
