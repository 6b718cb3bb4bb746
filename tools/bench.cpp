// Speed of the engine's steps against the copy bandwidth of the same device in the same run.
//   bench MODEL [--batch N=1] [--position N=0] [--steps N=128] [--kernels 1] [--cpu-steps N=0]
// Runs `steps` decoding steps of `batch` requests (0: as many as fit), all from the same position on, each feeding the
// argmax of the step before; keys and values of earlier positions are drawn at random. Says the time of a step, tokens
// a second, and what share of the measured copy bandwidth the bytes make that a step must read. --kernels 1: time by
// kernel, of further steps. --cpu-steps: also runs the CPU's forward from position 0 and compares argmaxes.
#define TESTING
#include "../run.cpp"

#include "summation_orders.hpp"

#include <chrono>
#include <map>
#include <random>
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

// Bytes a step of `rows` requests at position pos must read: every weight it uses once (experts: as many as so many
// uniform choices hit), and the keys and values it attends to.
double bytes_per_step(Transformer &transformer, int rows, int pos) {
  const Config &p = transformer.config;
  double bytes = 0;
  gpu::node.devices[0].w.each(p, transformer.weights, [&](const char *name, auto &field, const float *, size_t count) {
    const double size = (double)gpu::Device::bytes_of(field, count);
    const std::string tensor = name;
    if (tensor == "token_embedding_table")
      bytes += size / p.vocab_size * rows;
    else if (tensor == "w_mlp1" || tensor == "w_mlp2" || tensor == "b_mlp1" || tensor == "b_mlp2")
      bytes += size * (1 - std::pow(1 - (double)p.experts_per_token / p.n_experts, rows));
    else
      bytes += size;
  });
  for (int l = 0; l < p.n_layers; l++) {
    const int seen = l % 2 == 0 && p.sliding_window > 0 ? std::min(pos + 1, p.sliding_window) : pos + 1;
    bytes += 2.0 * rows * seen * p.n_kv_heads * p.head_dim * sizeof(float);
  }
  return bytes;
}

// Time by kernel and grid, from events around each launch.
struct Launch {
  std::string kernel;
  hipEvent_t before, after;
};
std::vector<Launch> launches;

void time_launch(const char *kernel, dim3 grid, hipStream_t stream, bool after) {
  if (!after) {
    launches.push_back({std::string(kernel) + " " + std::to_string(grid.x) + "x" + std::to_string(grid.y), {}, {}});
    HIP_CHECK(hipEventCreate(&launches.back().before));
    HIP_CHECK(hipEventCreate(&launches.back().after));
  }
  HIP_CHECK(hipEventRecord(after ? launches.back().after : launches.back().before, stream));
}

void print_launches(int steps) {
  std::map<std::string, std::pair<double, int>> sums;
  double total = 0;
  for (Launch &launch : launches) {
    float milliseconds = 0;
    HIP_CHECK(hipEventElapsedTime(&milliseconds, launch.before, launch.after));
    HIP_CHECK(hipEventDestroy(launch.before));
    HIP_CHECK(hipEventDestroy(launch.after));
    sums[launch.kernel].first += milliseconds / steps;
    sums[launch.kernel].second++;
    total += milliseconds / steps;
  }
  launches.clear();
  std::vector<std::pair<std::string, std::pair<double, int>>> sorted(sums.begin(), sums.end());
  std::sort(sorted.begin(), sorted.end(), [](auto &a, auto &b) { return a.second.first > b.second.first; });
  for (auto &[kernel, time] : sorted)
    printf("%9.3f ms %5.1f %% %4d launches %9.1f us  %s\n", time.first, 100 * time.first / total, time.second / steps,
           1e3 * time.first * steps / time.second, kernel.c_str());
  printf("%9.3f ms in kernels a step\n", total);
}

// Random keys and values wherever no step has written any.
void fill_caches(gpu::Device &device) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(std::min<size_t>(16 << 20, device.cache_floats));
  for (float &value : values) value = normal(random);
  for (float *cache : {device.s.key_cache, device.s.value_cache})
    for (size_t i = 0; i < device.cache_floats; i += values.size())
      HIP_CHECK(hipMemcpy(cache + i, values.data(), std::min(values.size(), device.cache_floats - i) * sizeof(float),
                          hipMemcpyHostToDevice));
}

}  // namespace

int main(int argc, char **argv) {
  int batch_size = 1, position = 0, steps = 128, kernels = 0, cpu_steps = 0;
  const std::pair<std::string, int *> options[] = {{"--batch", &batch_size},
                                                   {"--position", &position},
                                                   {"--steps", &steps},
                                                   {"--kernels", &kernels},
                                                   {"--cpu-steps", &cpu_steps}};
  bool good = argc >= 2 && argc % 2 == 0;
  for (int i = 2; i + 1 < argc; i += 2) {
    char *end = nullptr;
    const long value = strtol(argv[i + 1], &end, 10);
    bool known = false;
    for (auto &[name, to] : options)
      if (name == argv[i]) known = true, *to = (int)value;
    good = good && known && !*end && end != argv[i + 1] && value >= 0 && value <= INT_MAX;
  }
  if (!good || steps < 1) {
    fprintf(stderr,
            "usage: bench MODEL [--batch N=1] [--position N=0] [--steps N=128] [--kernels 0|1] [--cpu-steps N=0]\n");
    return 1;
  }
  Transformer transformer;
  build_transformer(&transformer, argv[1]);
  const Config &p = transformer.config;
  position = std::min(position, p.seq_len - 1);
  steps = std::min(steps, p.seq_len - position);
  cpu_steps = std::min(cpu_steps, p.seq_len);

  HIP_CHECK(hipSetDevice(gpu::pick_devices()[0]));
  const double copy = copy_bandwidth();  // before the model takes the memory
  auto start = std::chrono::steady_clock::now();
  warm_up(&transformer, nullptr);
  printf("load: %.1f s\n", seconds_since(start));
  gpu::Device &device = gpu::node.devices[0];
  fill_caches(device);
  device.use_positions(p, position + steps);
  batch_size = std::min(batch_size ? batch_size : INT_MAX, device.batch.slots);
  gpu::Batch batch;
  for (int slot = 0; slot < batch_size; slot++) {
    batch.tokens.push_back((slot * 7919 + 1) % p.vocab_size);
    batch.positions.push_back(position);
    batch.slots.push_back(slot);
    batch.logit_rows.push_back(slot);
    batch.logit_sequences.push_back(slot);
  }
  const auto step = [&] {
    forward_rows(&transformer, device, batch);
    gpu::copy_to_host(device.h_next_tokens, device.s.next_tokens, batch_size, device.stream);
    HIP_CHECK(hipStreamSynchronize(device.stream));
    for (int slot = 0; slot < batch_size; slot++) batch.tokens[slot] = device.h_next_tokens[slot];
  };
  step();  // the first launch loads the kernels
  double bytes = 0;
  start = std::chrono::steady_clock::now();
  for (int i = 0; i < steps; i++) {
    for (int &at : batch.positions) at = position + i;
    step();
    bytes += bytes_per_step(transformer, batch_size, position + i);
  }
  const double seconds = seconds_since(start);
  unsigned long long hash = 14695981039346656037ull;  // FNV-1a of the last tokens
  for (int token : batch.tokens) hash = (hash ^ (unsigned)token) * 1099511628211ull;
  if (kernels) {
    gpu::launch_hook = time_launch;
    const int timed = std::min(steps, 8);
    for (int i = 0; i < timed; i++) step();
    gpu::launch_hook = nullptr;
    print_launches(timed);
  }
  printf(
      "%d requests at position %d, %d steps: %.2f ms a step, %.1f tok/s; %.2f GB a step at %.0f GB/s, %.1f %% of the "
      "copy bandwidth %.0f GB/s; tokens %016llx\n",
      batch_size, position, steps, seconds / steps * 1e3, batch_size * steps / seconds, bytes / steps / 1e9,
      bytes / seconds / 1e9, 100 * bytes / seconds / copy, copy / 1e9, hash);
  int agree = 0, token = 1 % p.vocab_size;
  double worst = 0;
  for (int pos = 0; pos < cpu_steps; pos++) {
    const auto best = [&](const float *logits) {
      return (int)(std::max_element(logits, logits + p.vocab_size) - logits);
    };
    const float *cpu = forward(&transformer, token, pos), *hip = forward_hip(&transformer, token, pos);
    agree += best(cpu) == best(hip);
    worst = std::max(worst, max_abs_difference(cpu, hip, p.vocab_size));
    token = best(cpu);
  }
  if (cpu_steps)
    printf("argmax agrees with the CPU at %d of %d steps, max abs difference %.3g\n", agree, cpu_steps, worst);
  finish(&transformer, nullptr);
  free_transformer(&transformer);
  return agree == cpu_steps ? 0 : 1;
}
