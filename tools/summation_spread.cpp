// How far do plain FP32 sums lie from float64 on a model, and how far does forward_hip?
// Prints for ten summation orders the max abs difference of the logits from float64, then that of forward_hip from the
// CPU's forward, and whether it is within atol 1e-5 + rtol 1e-4.
//   make tools && build/summation_spread MODEL [STEPS=16]
#define TESTING
#include "../run.cpp"

#include "arguments.hpp"
#include "summation_orders.hpp"

#include <climits>

int main(int argc, char **argv) {
  const Arguments arguments("usage: summation_spread MODEL [STEPS=16]");
  std::vector<std::string> operands = arguments.parse(argc, argv, {});
  if (operands.empty() || operands.size() > 2) arguments.refuse("give a model, and how many steps");
  const int steps = operands.size() == 2 ? Argument{arguments, "STEPS", operands[1]}.number(1, INT_MAX) : 16;
  Transformer transformer;
  build_transformer(&transformer, operands[0].data());
  const Config &p = transformer.config;
  const std::vector<int> tokens = random_tokens(p, std::min(steps, p.seq_len), 1);
  const std::vector<double> spread = summation_spread(p, transformer.weights, tokens);
  double worst = 0;
  for (size_t o = 0; o < spread.size(); o++) {
    printf("%-24s %.3g from float64\n", ten_orders()[o].name, spread[o]);
    worst = std::max(worst, spread[o]);
  }
  warm_up_forward(&transformer);
  double difference = 0, excess = 0;
  for (size_t pos = 0; pos < tokens.size(); pos++) {
    const float *cpu = forward(&transformer, tokens[pos], (int)pos),
                *hip = forward_hip(&transformer, tokens[pos], (int)pos);
    difference = std::max(difference, max_abs_difference(cpu, hip, p.vocab_size));
    excess = std::max(excess, tolerance_used(hip, cpu, p.vocab_size));
  }
  finish(&transformer, nullptr);
  free_transformer(&transformer);
  printf("forward_hip              %.3g from the CPU: %.2f of atol 1e-5 + rtol 1e-4, %.2f of twice the spread %.3g\n",
         difference, excess, difference / (2 * worst), worst);
  return difference <= 2 * worst ? 0 : 1;
}
