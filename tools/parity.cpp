// CPU against HIP logits, step by step, over the first prompts of an input file and their greedy continuation.
//   parity MODEL TOKENIZER INPUT [--prompts N=4] [--steps N=32]
// Prints for every step the max abs and rel difference of the logits and the stage that differs most, then a table of
// all stages. The stages' CPU side uses the experts as rounded to BF16, like the device; the logits are compared with
// the plain CPU forward. Exit code 1 if an argmax differs or a stage differs by more than 5e-4.
#define TESTING
#include "../run.cpp"

#include "arguments.hpp"

#include <climits>
#include <string>

namespace gpu = getp_hip;

namespace {

constexpr double kStageBound = 5e-4;

int argmax(const float *values, int n) { return (int)(std::max_element(values, values + n) - values); }

}  // namespace

int main(int argc, char **argv) {
  int prompts = 4, steps = 32;
  const Arguments arguments("usage: parity MODEL TOKENIZER INPUT [--prompts N=4] [--steps N=32]");
  std::vector<std::string> files =
      arguments.parse(argc, argv,
                      {{"prompts", [&](const Argument &value) { prompts = value.number(1, INT_MAX); }},
                       {"steps", [&](const Argument &value) { steps = value.number(1, INT_MAX); }}});
  if (files.size() != 3) arguments.refuse("give a model, a tokenizer and an input");
  if (gpu::on_cpu()) fatal("GETP_CPU=1: there is no device to compare; unset it");
  Transformer transformer;
  build_transformer(&transformer, files[0].data());
  const Config &p = transformer.config;
  steps = std::min(steps, p.seq_len);
  Tokenizer tokenizer;
  read_tokenizer(&tokenizer, files[1].c_str(), p.vocab_size);
  Requests requests;
  read_inputfile(files[2].data(), tokenizer.max_token_length, steps, &requests);
  prompts = std::min(prompts, requests.num_reqs);

  using gpu::Stage;
  std::vector<gpu::Difference> worst((size_t)Stage::kCount);
  gpu::Difference logits_worst;
  int compared = 0, agree = 0;
  gpu::parity.collect();
  warm_up_forward(&transformer);
  for (int r = 0; r < prompts; r++) {
    const char *text = get_str_req_ptr(&requests, r);
    std::vector<int> prompt(strlen(text) + 3);
    int count = 0;
    encode(&tokenizer, text, -1, -1, prompt.data(), &count, (int)prompt.size());
    if (count == 0 || count > steps) {
      printf("prompt %d: %d tokens, skipped\n", r + 1, count);
      continue;
    }
    int token = prompt[0];
    for (int pos = 0; pos < steps; pos++) {
      const float *cpu = forward(&transformer, token, pos), *hip = forward_hip(&transformer, token, pos);
      gpu::Difference d;
      for (int i = 0; i < p.vocab_size; i++) d.add(hip[i], cpu[i]);
      logits_worst.add(d);
      const std::vector<gpu::Difference> stages = gpu::parity.take_differences();
      size_t largest = 0;
      for (size_t s = 0; s < stages.size(); s++) {
        worst[s].add(stages[s]);
        if (!(stages[s].abs <= stages[largest].abs)) largest = s;
      }
      const int best_cpu = argmax(cpu, p.vocab_size), best_hip = argmax(hip, p.vocab_size);
      printf("prompt %d step %d: logits abs %.3g rel %.3g, argmax %d %s, worst stage: %s abs %.3g rel %.3g\n", r + 1,
             pos, d.abs, d.rel, best_cpu, best_cpu == best_hip ? "agrees" : "DIFFERS", stage_name((Stage)largest),
             stages[largest].abs, stages[largest].rel);
      compared++;
      agree += best_cpu == best_hip;
      token = pos + 1 < count ? prompt[pos + 1] : best_cpu;
      if (pos + 1 >= count && gpt_oss::is_stop_token(token)) break;
    }
  }
  finish(&transformer, &tokenizer);
  if (compared == 0) fatal("no prompt fits into %d steps; give more with --steps", steps);
  bool within = true;
  printf("\n%-24s %12s %12s\n", "stage", "max abs", "max rel");
  for (size_t s = 0; s < worst.size(); s++) {
    const bool good = worst[s].abs <= kStageBound;
    within = within && good;
    printf("%-24s %12.3g %12.3g%s\n", stage_name((Stage)s), worst[s].abs, worst[s].rel, good ? "" : "  exceeds 5e-4");
  }
  printf("logits against the plain CPU forward: max abs %.3g, max rel %.3g; argmax agrees at %d of %d steps\n",
         logits_worst.abs, logits_worst.rel, agree, compared);
  free_requests(&requests);
  free_tokenizer(&tokenizer);
  free_transformer(&transformer);
  return agree == compared && within ? 0 : 1;
}
