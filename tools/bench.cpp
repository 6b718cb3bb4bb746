// Single-stream speed of forward_hip against the copy bandwidth of the same device in the same run.
//   bench MODEL [--steps N=128] [--cpu-steps N=0]
// Feeds N tokens (the argmax of the step before), times them, and says what share of the measured copy bandwidth the
// bytes make that a step must read. --cpu-steps also runs the CPU's forward that many steps and compares argmaxes.
#define TESTING
#include "../run.cpp"

#include "summation_orders.hpp"

#include <chrono>
#include <string>

namespace gpu = getp_hip;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Device to device, bytes read plus bytes written a second: the best of ten copies of at most 4 GB.
double copy_bandwidth() {
  size_t free_bytes = 0, total = 0;
  HIP_CHECK(hipMemGetInfo(&free_bytes, &total));
  const size_t bytes = std::min<size_t>(size_t(4) << 30, free_bytes / 4);
  char *from = gpu::device_alloc<char>(bytes), *to = gpu::device_alloc<char>(bytes);
  HIP_CHECK(hipMemset(from, 1, bytes));
  hipEvent_t start, stop;
  HIP_CHECK(hipEventCreate(&start));
  HIP_CHECK(hipEventCreate(&stop));
  double best = 0;
  for (int i = 0; i < 10; i++) {
    float milliseconds = 0;
    HIP_CHECK(hipEventRecord(start, nullptr));
    HIP_CHECK(hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToDevice, nullptr));
    HIP_CHECK(hipEventRecord(stop, nullptr));
    HIP_CHECK(hipEventSynchronize(stop));
    HIP_CHECK(hipEventElapsedTime(&milliseconds, start, stop));
    best = std::max(best, 2.0 * (double)bytes / milliseconds * 1e3);
  }
  HIP_CHECK(hipEventDestroy(start));
  HIP_CHECK(hipEventDestroy(stop));
  gpu::device_free(from, bytes);
  gpu::device_free(to, bytes);
  return best;
}

// Bytes a step at position pos must read: every weight it uses once, and the keys and values it attends to.
double bytes_per_step(Transformer &transformer, int pos) {
  const Config &p = transformer.config;
  double bytes = 0;
  gpu::node.devices[0].w.each(p, transformer.weights, [&](const char *name, auto *field, const float *, size_t count) {
    const double size = (double)gpu::Device::bytes_of(field, count);
    const std::string tensor = name;
    if (tensor == "token_embedding_table")
      bytes += size / p.vocab_size;
    else if (tensor == "w_mlp1" || tensor == "w_mlp2" || tensor == "b_mlp1" || tensor == "b_mlp2")
      bytes += size * p.experts_per_token / p.n_experts;
    else
      bytes += size;
  });
  for (int l = 0; l < p.n_layers; l++) {
    const int seen = l % 2 == 0 && p.sliding_window > 0 ? std::min(pos + 1, p.sliding_window) : pos + 1;
    bytes += 2.0 * seen * p.n_kv_heads * p.head_dim * sizeof(float);
  }
  return bytes;
}

}  // namespace

int main(int argc, char **argv) {
  int steps = 128, cpu_steps = 0;
  bool good = argc >= 2 && argc % 2 == 0;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    char *end = nullptr;
    const long value = strtol(argv[i + 1], &end, 10);
    good = good && !*end && end != argv[i + 1] && value >= 0 && value <= INT_MAX;
    if (option == "--steps" && value > 0)
      steps = (int)value;
    else if (option == "--cpu-steps")
      cpu_steps = (int)value;
    else
      good = false;
  }
  if (!good) {
    fprintf(stderr, "usage: bench MODEL [--steps N=128] [--cpu-steps N=0]\n");
    return 1;
  }
  Transformer transformer;
  build_transformer(&transformer, argv[1]);
  const Config &p = transformer.config;
  steps = std::min(steps, p.seq_len);
  cpu_steps = std::min(cpu_steps, steps);

  auto start = std::chrono::steady_clock::now();
  warm_up_forward(&transformer);
  printf("load: %.1f s\n", seconds_since(start));
  std::vector<int> tokens = {1 % p.vocab_size};
  const auto next = [&](const float *logits) {
    return (int)(std::max_element(logits, logits + p.vocab_size) - logits);
  };
  forward_hip(&transformer, tokens[0], 0);  // the first launch loads the kernels
  double bytes = 0;
  start = std::chrono::steady_clock::now();
  for (int pos = 0; pos < steps; pos++) {
    tokens.push_back(next(forward_hip(&transformer, tokens[pos], pos)));
    bytes += bytes_per_step(transformer, pos);
  }
  const double seconds = seconds_since(start), copy = copy_bandwidth();
  printf("%d steps: %.2f ms a step, %.1f tok/s; %.2f GB a step at %.0f GB/s, %.1f %% of the copy bandwidth %.0f GB/s\n",
         steps, seconds / steps * 1e3, steps / seconds, bytes / steps / 1e9, bytes / seconds / 1e9,
         100 * bytes / seconds / copy, copy / 1e9);
  int agree = 0;
  double worst = 0;
  for (int pos = 0; pos < cpu_steps; pos++) {
    const float *cpu = forward(&transformer, tokens[pos], pos), *hip = forward_hip(&transformer, tokens[pos], pos);
    agree += next(cpu) == next(hip);
    worst = std::max(worst, max_abs_difference(cpu, hip, p.vocab_size));
  }
  if (cpu_steps)
    printf("argmax agrees with the CPU at %d of %d steps, max abs difference %.3g\n", agree, cpu_steps, worst);
  finish(&transformer, nullptr);
  free_transformer(&transformer);
  return agree == cpu_steps ? 0 : 1;
}
