// Speed of the engine's steps against the copy bandwidth of the same device in the same run.
//   bench MODEL|--shape SHAPE [--batch N,N,...=1] [--position N=0] [--steps N=128] [--kernels 0|1] [--cpu-steps N=0]
//     [--json FILE]
//   bench --kernel NAME [--rows N=1] [--form mxfp4|fp16] [MODEL|--shape SHAPE] [--position N] [--steps N=128] [--json FILE]
//   bench --memory                                            the bytes that are free on the device
//   bench --positions MODEL|--shape SHAPE                     how many its sequences have
// For each batch size (0: as many requests as fit) runs `steps` decoding steps, all requests from the same position on,
// each feeding the argmax of the step before; keys and values of earlier positions are drawn at random. Says the time
// of a step, tokens a second, what share of the measured copy bandwidth the bytes make that a step must read, and the
// rate of its products, both terms counted. --kernels 1: time by operation, of further steps. --cpu-steps: also runs
// the CPU's forward from position 0 and compares argmaxes. --json: the same figures for machines.
// --shape: without a file, tiny, 7m, 20b or 120b; each of its layers has what make_model --mxfp4 writes for the first.
// --kernel: one kernel by itself (kernel_cases.hpp) at gpt-oss-20b's shape, or that of MODEL, of which only the header
// is read; `steps` launches that take turns with as many buffers as no cache holds. --form: of its weights, by default
// MXFP4 for the experts', FP16 for others.
#define TESTING
#include "../run.cpp"

#include "arguments.hpp"
#include "kernel_cases.hpp"
#include "random_weights.hpp"
#include "summation_orders.hpp"

#include <chrono>
#include <random>
#include <string>

namespace gpu = getp_hip;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Device to device, bytes read plus bytes written a second: the best of several copies.
double copy_bandwidth(size_t bytes, int copies) {
  char *from = gpu::device_alloc<char>(bytes), *to = gpu::device_alloc<char>(bytes);
  HIP_CHECK(hipMemset(from, 1, bytes));
  hipEvent_t start, stop;
  HIP_CHECK(hipEventCreate(&start));
  HIP_CHECK(hipEventCreate(&stop));
  double best = 0;
  for (int i = 0; i < copies; i++) {
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

struct Roomiest {
  int id;
  size_t free_bytes;
};

// Of the devices that can run the kernels, the one with the most free memory; it is then the current one.
Roomiest use_roomiest_device() {
  Roomiest most = {-1, 0};
  gpu::use_devices(SIZE_MAX, [&](int id) {
    gpu::current_card();
    const size_t free_bytes = gpu::device_memory().free_bytes;
    if (most.id < 0 || free_bytes > most.free_bytes) most = {id, free_bytes};
  });
  HIP_CHECK(hipSetDevice(most.id));
  return most;
}

// By ten copies of at most 4 GB, but none of more than 10 ms: the host back end would copy for seconds.
double copy_bandwidth() {
  const size_t most = std::min<size_t>(size_t(4) << 30, gpu::device_memory().free_bytes / 32),
               least = std::min<size_t>(64 << 20, most);
  const size_t in_10_ms = (size_t)(copy_bandwidth(least, 2) / 2 * 0.01);
  return copy_bandwidth(std::clamp(in_10_ms, least, most), 10);
}

// Bytes a step of `rows` requests at position pos must read: every weight it uses once (experts: as many as so many
// uniform choices hit), and the keys and values it attends to.
double bytes_per_step(Transformer &transformer, int rows, int pos) {
  gpu::Device &device = gpu::node.devices[0];
  const gpu::Config &p = device.p;
  double bytes = 0;
  device.w.each(p, transformer.weights, [&](const char *name, auto &field, const float *, size_t count) {
    const double size = (double)gpu::Device::bytes_of(field, count);
    const std::string tensor = name;
    if (tensor == "token_embedding_table")
      bytes += size / p.vocab_size * rows;
    else if (tensor == "w_mlp1" || tensor == "w_mlp2" || tensor == "b_mlp1" || tensor == "b_mlp2")
      bytes += size * (1 - std::pow(1 - (double)p.experts_per_token / p.n_experts, rows));
    else
      bytes += size;
  });
  for (const gpu::Layer &layer : device.w.layers)
    bytes += 2.0 * rows * gpu::attention_seen(pos, layer.cache.window) * p.kv_dim() * sizeof(float);
  return bytes;
}

// The products of a step in the order of their launches, one of kNames for each layer, then the unembedding; and the
// floating-point operations of each, with all terms.
struct Products {
  static constexpr const char *kNames[] = {"qkv", "attention projection", "router", "mlp1", "mlp2"};
  static constexpr int kOfLayer = 5;
  double operations[kOfLayer], unembedding;
  int layers;

  Products(const Config &p, int rows, int terms) : layers(p.n_layers) {
    const double each = 2.0 * rows * terms, H = p.hidden_dim, A = (double)p.n_attn_heads * p.head_dim;
    const double k = p.experts_per_token, I = p.intermediate_dim, KV = (double)p.n_kv_heads * p.head_dim;
    const double of_layer[] = {H * (A + 2 * KV), A * H, H * p.n_experts, k * H * 2 * I, k * I * H};
    for (int i = 0; i < kOfLayer; i++) operations[i] = each * of_layer[i];
    unembedding = each * H * p.vocab_size;
  }
  double of_step() const {
    double sum = 0;
    for (double one : operations) sum += one * layers;
    return sum + unembedding;
  }
};

// Events around each launch.
struct Launch {
  const char *kernel;
  hipEvent_t before, after;
};
std::vector<Launch> launches;

void time_launch(const char *kernel, dim3, hipStream_t stream, bool after) {
  if (!after) {
    launches.push_back({kernel, {}, {}});
    HIP_CHECK(hipEventCreate(&launches.back().before));
    HIP_CHECK(hipEventCreate(&launches.back().after));
  }
  HIP_CHECK(hipEventRecord(after ? launches.back().after : launches.back().before, stream));
}

// Of a launch that has ended; frees its events.
float take_milliseconds(const Launch &launch) {
  float milliseconds = 0;
  HIP_CHECK(hipEventElapsedTime(&milliseconds, launch.before, launch.after));
  HIP_CHECK(hipEventDestroy(launch.before));
  HIP_CHECK(hipEventDestroy(launch.after));
  return milliseconds;
}

// "(rmsnorm_kernel<512>)" as "rmsnorm".
std::string kernel_name(const char *expression) {
  const char *begin = expression + (*expression == '(');
  std::string name(begin, strcspn(begin, "<)"));
  const size_t suffix = name.rfind("_kernel");
  if (suffix != std::string::npos) name.resize(suffix);
  return name;
}

struct Operation {
  std::string name;
  double milliseconds = 0, launches = 0, operations = 0;  // a step; operations: of products
  double tflops() const { return operations / milliseconds / 1e9; }
};

// The launches of `steps` steps, summed up by operation, the longest first.
std::vector<Operation> take_launches(int steps, const Products &products) {
  std::vector<Operation> sums;
  int product = 0;
  for (const Launch &launch : launches) {
    Operation one{kernel_name(launch.kernel), take_milliseconds(launch), 1};
    if (one.name.compare(0, 3, "mat") == 0) {  // matmul_*, matvec
      const bool last = product == products.layers * Products::kOfLayer;
      one.operations = last ? products.unembedding : products.operations[product % Products::kOfLayer];
      one.name = (last ? "unembedding" : Products::kNames[product % Products::kOfLayer]) + (" (" + one.name + ")");
      product = last ? 0 : product + 1;
    }
    auto sum = std::find_if(sums.begin(), sums.end(), [&](const Operation &o) { return o.name == one.name; });
    if (sum == sums.end()) sum = sums.insert(sums.end(), Operation{one.name});
    sum->milliseconds += one.milliseconds / steps;
    sum->launches += one.launches / steps;
    sum->operations += one.operations / steps;
  }
  launches.clear();
  std::sort(sums.begin(), sums.end(), [](auto &a, auto &b) { return a.milliseconds > b.milliseconds; });
  return sums;
}

// Sets up the first device with random weights, those of one layer for all: they are drawn, packed and read once.
void set_up_random(const Shape &shape) {
  Shape of_one = shape;
  of_one.n_layers = 1;
  const auto tensors = random_weights::tensors_of(of_one);
  const std::unique_ptr<float[]> values(new float[random_weights::model_bytes(of_one) / sizeof(float)]);
  constexpr int64_t kPart = 1 << 20;  // values
  struct Part {
    int tensor;
    int64_t first;
    float *to;
  };
  std::vector<Part> parts;
  float *to = values.get();
  for (int t = 0; t < random_weights::kTensors; to += tensors.at[t].count, t++)
    for (int64_t first = 0; first < tensors.at[t].count; first += kPart) parts.push_back({t, first, to + first});
  gpu::on_several_threads(parts.size(), [&](size_t i) {  // no tensor of these shapes has an odd number of values
    const random_weights::Tensor &tensor = tensors.at[parts[i].tensor];
    random_weights::fill(parts[i].to, tensor, parts[i].tensor, parts[i].first,
                         std::min(kPart, tensor.count - parts[i].first), 1, random_weights::Rounding::kMxfp4);
  });

  Config one;
  memcpy(&one, &of_one, sizeof one);
  TransformerWeights in_values;
  memory_map_weights(&in_values, &one, values.get());
  gpu::HostWeights h = in_values;
  h.one_layer = true;
  gpu::node.devices.resize(1);
  gpu::Device &device = gpu::node.devices[0];
  device.w.own_layers(of_one, 0, 1);
  gpu::choose_forms(device.w, of_one, h);
  const gpu::Layer first = device.w.layers[0];
  device.w.layers.assign(shape.n_layers, first);
  device.w.own_layers(shape, 0, shape.n_layers);
  device.set_up(gpu::pick_devices()[0], shape, h, false);
  gpu::upload_weights({{device.id, &device.w}}, shape, h);
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

// What was measured with one batch size.
struct Result {
  int requests;
  double milliseconds, bytes, operations;  // a step
  unsigned long long tokens;               // hash of the last step's
  std::vector<Operation> kernels;

  double tokens_per_second() const { return requests / milliseconds * 1e3; }
  double bandwidth() const { return bytes / milliseconds * 1e3; }
  double tflops() const { return operations / milliseconds / 1e9; }
};

void print(const std::vector<Result> &results, double copy) {
  printf("\n%9s %10s %10s %8s %8s %10s %9s  %s\n", "requests", "ms a step", "tok/s", "GB", "GB/s", "% of copy",
         "TFLOP/s", "tokens");
  for (const Result &r : results)
    printf("%9d %10.3f %10.1f %8.2f %8.0f %10.1f %9.3g  %016llx\n", r.requests, r.milliseconds, r.tokens_per_second(),
           r.bytes / 1e9, r.bandwidth() / 1e9, 100 * r.bandwidth() / copy, r.tflops(), r.tokens);
  for (const Result &r : results) {
    if (r.kernels.empty()) continue;
    double total = 0;
    for (const Operation &o : r.kernels) total += o.milliseconds;
    printf("\n%d requests: %.3f ms a step in kernels\n%10s %6s %9s %9s %9s  operation\n", r.requests, total,
           "ms a step", "%", "launches", "us each", "TFLOP/s");
    for (const Operation &o : r.kernels) {
      printf("%10.3f %6.1f %9.0f %9.1f ", o.milliseconds, 100 * o.milliseconds / total, o.launches,
             1e3 * o.milliseconds / o.launches);
      if (o.operations > 0)
        printf("%9.3g", o.tflops());
      else
        printf("%9s", "");
      printf("  %s\n", o.name.c_str());
    }
  }
}

std::string json_string(const std::string &text) {
  std::string quoted = "\"";
  for (unsigned char c : text) {
    char escape[8];
    snprintf(escape, sizeof escape, "\\u%04x", c);
    if (c < 0x20 || c == '"' || c == '\\')
      quoted += escape;
    else
      quoted += (char)c;
  }
  return quoted + "\"";
}

void write_json(FILE *file, const std::string &header, const std::vector<Result> &results) {
  fprintf(file, "{%s,\n \"results\": [", header.c_str());
  for (const Result &r : results) {
    fprintf(file,
            "%s\n  {\"requests\": %d, \"ms_per_step\": %.6g, \"tokens_per_second\": %.6g, \"bytes_per_step\": %.6g, "
            "\"bytes_per_second\": %.6g, \"product_tflops\": %.6g, \"tokens_hash\": \"%016llx\",\n   \"kernels\": [",
            &r == &results[0] ? "" : ",", r.requests, r.milliseconds, r.tokens_per_second(), r.bytes, r.bandwidth(),
            r.tflops(), r.tokens);
    for (const Operation &o : r.kernels) {
      fprintf(file, "%s\n    {\"operation\": %s, \"ms_per_step\": %.6g, \"launches_per_step\": %.6g",
              &o == &r.kernels[0] ? "" : ",", json_string(o.name).c_str(), o.milliseconds, o.launches);
      if (o.operations > 0) fprintf(file, ", \"tflops\": %.6g", o.tflops());
      fprintf(file, "}");
    }
    fprintf(file, "]}");
  }
  fprintf(file, "]}\n");
}

constexpr const char *kHelp =
    "usage: bench MODEL|--shape tiny|7m|20b|120b [--batch N,N,...=1] [--position N=0] [--steps N=128] [--kernels 0|1] "
    "[--cpu-steps N=0] [--json FILE], or bench --kernel NAME|help [--rows N=1] [--form mxfp4|fp16] [MODEL|--shape "
    "SHAPE] "
    "[--position N] [--steps N=128] [--json FILE], or bench --memory, or bench --positions MODEL|--shape SHAPE";

struct Options : Arguments {
  std::string model, json, kernel;
  const Shape *shape = nullptr;  // instead of a model
  std::string of_shape;          // its name
  std::optional<gpu::MatrixForm> form;
  std::vector<int> batches;
  int position = -1, steps = 128, kernels = 0, cpu_steps = 0, rows = 0;
  bool memory = false, positions = false;

  Options(int argc, char **argv) : Arguments(kHelp) {
    constexpr int kMost = INT_MAX / 2;
    const auto take_batches = [&](const Argument &value) {
      batches.clear();
      for (size_t begin = 0, end; begin <= value.text.size(); begin = end + 1) {
        end = std::min(value.text.find(',', begin), value.text.size());
        batches.push_back(Argument{*this, value.name, value.text.substr(begin, end - begin)}.number(0, 32768));
      }
    };
    const auto take_form = [&](const Argument &value) {
      if (value.text != "mxfp4" && value.text != "fp16") refuse("--form is mxfp4 or fp16, not '" + value.text + "'");
      form = value.text == "fp16" ? gpu::MatrixForm::kFp16 : gpu::MatrixForm::kMxfp4;
    };
    const auto operands = parse(argc, argv,
                                {{"batch", take_batches},
                                 {"position", [&](const Argument &value) { position = value.number(0, kMost); }},
                                 {"steps", [&](const Argument &value) { steps = value.number(1, kMost); }},
                                 {"kernels", [&](const Argument &value) { kernels = value.number(0, 1); }},
                                 {"cpu-steps", [&](const Argument &value) { cpu_steps = value.number(0, kMost); }},
                                 {"json", &json},
                                 {"kernel", &kernel},
                                 {"rows", [&](const Argument &value) { rows = value.number(1, 32768); }},
                                 {"shape", &of_shape},
                                 {"form", take_form},
                                 {"memory", &memory},
                                 {"positions", &positions}});
    if (operands.size() > 1) refuse("one model at a time, not also '" + operands[1] + "'");
    if (!operands.empty() && !of_shape.empty())
      refuse("--shape is instead of a model, not beside '" + operands[0] + "'");
    if (operands.empty() && of_shape.empty() && !memory && kernel.empty()) refuse("which model?");
    if (operands.empty() && of_shape.empty()) of_shape = "20b";
    if (!operands.empty())
      model = operands[0];
    else if (!(shape = find_shape(of_shape)))
      refuse("unknown shape '" + of_shape + "'");
    if (shape && cpu_steps) refuse("--cpu-steps needs a model file");
    if (kernel.empty() && (rows || form)) refuse(std::string(rows ? "--rows" : "--form") + " goes with --kernel");
    if (!kernel.empty() && (!batches.empty() || kernels || cpu_steps))
      refuse("--batch, --kernels and --cpu-steps do not go with --kernel");
    if (batches.empty()) batches = {1};
    if (kernel.empty() && position < 0) position = 0;
    if (!rows) rows = 1;
  }

  std::string weights() const { return shape ? "random weights of shape " + of_shape : model; }

  [[noreturn]] void refuse_position(int positions) const {
    refuse("the model's sequences have " + std::to_string(positions) + " positions, fewer than asked for");
  }

  // Null where none is asked for.
  FILE *open_json() const {
    if (json.empty()) return nullptr;
    FILE *file = fopen(json.c_str(), "w");
    if (!file) refuse("cannot write '" + json + "': " + strerror(errno));
    return file;
  }
  void close_json(FILE *file) const {
    if (fclose(file) != 0) refuse("cannot write '" + json + "': " + strerror(errno));
  }
};

// `steps` steps of `requests` requests.
Result measure(Transformer &transformer, gpu::Device &device, const Options &options, int requests) {
  const Config &p = transformer.config;
  const Products products(p, requests, device.terms);
  gpu::Batch batch;
  for (int slot = 0; slot < requests; slot++) {
    batch.tokens.push_back((slot * 7919 + 1) % p.vocab_size);
    batch.positions.push_back(options.position);
    batch.slots.push_back(slot);
    batch.logit_rows.push_back(slot);
    batch.logit_slots.push_back(slot);
  }
  const auto step = [&] {
    gpu::forward_rows(device, batch);
    gpu::copy_to_host(device.h_next_tokens, device.s.next_tokens, requests, device.stream);
    HIP_CHECK(hipStreamSynchronize(device.stream));
    for (int slot = 0; slot < requests; slot++) {
      batch.tokens[slot] = device.h_next_tokens[slot];
      if (batch.tokens[slot] == gpu::kNoToken)
        fatal("%s", gpu::no_token(gpu::place_of(slot, batch.positions[slot])).c_str());
    }
  };
  step();                                                                          // the first launch loads the kernels
  Result result{requests, 0, 0, products.of_step(), 14695981039346656037ull, {}};  // FNV-1a
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < options.steps; i++) {
    for (int &at : batch.positions) at = options.position + i;
    step();
    result.bytes += bytes_per_step(transformer, requests, options.position + i) / options.steps;
  }
  result.milliseconds = seconds_since(start) * 1e3 / options.steps;
  for (int token : batch.tokens) result.tokens = (result.tokens ^ (unsigned)token) * 1099511628211ull;
  if (options.kernels) {
    gpu::launch_hook = time_launch;
    const int timed = std::min(options.steps, 8);
    for (int i = 0; i < timed; i++) step();
    gpu::launch_hook = nullptr;
    result.kernels = take_launches(timed, products);
  }
  return result;
}

// The shape of a model file, whatever there is of it behind the header.
Config read_shape(const std::string &path) {
  Config config = {};
  FILE *file = fopen(path.c_str(), "rb");
  if (!file) fatal("%s: cannot open the model: %s", path.c_str(), strerror(errno));
  if (fread(&config, sizeof config, 1, file) != 1)
    fatal("%s: not a gpt-oss model: less than its 60-byte header", path.c_str());
  fclose(file);
  check_config(&config, path.c_str());
  return config;
}

const gpu::kernel_cases::Kernel &find_kernel(const Options &options) {
  std::string names;
  for (const auto &kernel : gpu::kernel_cases::kKernels) {
    if (options.kernel == kernel.name) return kernel;
    names += std::string(names.empty() ? "" : ", ") + kernel.name;
  }
  options.refuse("no kernel '" + options.kernel + "'; there are " + names);
}

// What was measured of one kernel.
struct KernelResult {
  std::string launched;      // names, in order
  std::vector<float> times;  // milliseconds, ascending
  size_t buffers, buffer_bytes;
  double bytes, flops;
  std::optional<gpu::MatrixForm> form;

  double median() const { return times[times.size() / 2]; }
  double bandwidth() const { return bytes / median() * 1e3; }
  double tflops() const { return flops / median() / 1e9; }
};

KernelResult measure_kernel(const gpu::kernel_cases::Kernel &kernel, const gpu::kernel_cases::Setting &setting,
                            int count) {
  constexpr size_t kCold = 512u << 20;                                     // twice the largest cache, MI300X's
  std::vector<gpu::kernel_cases::Work> works = {kernel.prepare(setting)};  // each in buffers of its own
  while (setting.memory.bytes() < kCold && (int)works.size() < count) works.push_back(kernel.prepare(setting));
  KernelResult result = {
      "", {}, works.size(), setting.memory.bytes() / works.size(), works[0].bytes, works[0].flops, works[0].form};

  gpu::launch_hook = time_launch;  // for the names; and the first launch loads the kernels
  works[0].launch();
  HIP_CHECK(hipStreamSynchronize(setting.stream));
  gpu::launch_hook = nullptr;
  for (const Launch &launch : launches) {
    take_milliseconds(launch);
    result.launched += (result.launched.empty() ? "" : ", ") + kernel_name(launch.kernel);
  }
  launches.clear();

  for (int i = 0; i < count; i++) {
    time_launch(kernel.name, {}, setting.stream, false);
    works[i % works.size()].launch();
    time_launch(kernel.name, {}, setting.stream, true);
  }
  HIP_CHECK(hipStreamSynchronize(setting.stream));
  for (const Launch &launch : launches) result.times.push_back(take_milliseconds(launch));
  launches.clear();
  std::sort(result.times.begin(), result.times.end());
  return result;
}

// What --kernel asks for.
void time_kernel(const Options &options) {
  if (options.kernel == "help") {
    for (const auto &kernel : gpu::kernel_cases::kKernels) printf("%-18s %s\n", kernel.name, kernel.what);
    return;
  }
  const gpu::kernel_cases::Kernel &kernel = find_kernel(options);
  if (options.form && !kernel.form) options.refuse(options.kernel + " has no weights: leave --form out");
  const gpu::Config p = options.shape ? gpu::Config(*options.shape) : gpu::Config(read_shape(options.model));
  const int position = options.position < 0 ? std::min(512, p.seq_len / 2) : options.position;
  if (position >= p.seq_len) options.refuse_position(p.seq_len);
  const int terms = gpu::Device::wanted_terms();
  FILE *json = options.open_json();

  const int device = use_roomiest_device().id;
  hipDeviceProp_t properties = {};
  HIP_CHECK(hipGetDeviceProperties(&properties, device));
  const double copy = copy_bandwidth();
  const Card card = gpu::current_card();
  gpu::prepare_matmul(card);
  hipStream_t stream;
  HIP_CHECK(hipStreamCreate(&stream));
  gpu::kernel_cases::Memory memory;
  const gpu::MatrixForm form = options.form ? *options.form : kernel.form.value_or(gpu::MatrixForm::kFp16);
  const KernelResult result =
      measure_kernel(kernel, {p, card, options.rows, position, terms, form, stream, memory}, options.steps);
  HIP_CHECK(hipStreamDestroy(stream));

  printf("%s (%s back end), shape of %s, FP16 terms of an activation: %d\n", properties.name, getp_backend_name(),
         options.shape ? options.of_shape.c_str() : options.model.c_str(), terms);
  const char *form_name = result.form ? name_of(*result.form) : "";
  printf(
      "copy bandwidth: %.0f GB/s; %s (%s)%s%s, %d row%s at position %d: %d launches in turns over %zu times %.1f "
      "MB\n\n",
      copy / 1e9, kernel.name, result.launched.c_str(), result.form ? ", weights in " : "", form_name, options.rows,
      options.rows == 1 ? "" : "s", position, options.steps, result.buffers, (double)result.buffer_bytes / 1e6);
  printf("%10s %10s %10s %8s %10s %10s %9s\n", "ms, median", "least", "MB", "GB/s", "% of copy", "GFLOP", "TFLOP/s");
  printf("%10.4f %10.4f %10.4g %8.4g %10.1f", result.median(), result.times[0], result.bytes / 1e6,
         result.bandwidth() / 1e9, 100 * result.bandwidth() / copy);
  if (result.flops > 0) printf(" %10.4g %9.3g", result.flops / 1e9, result.tflops());
  printf("\n");
  if (!json) return;
  fprintf(json,
          "{\"device\": %s, \"backend\": \"%s\", \"terms\": %d, \"copy_bytes_per_second\": %.6g,\n \"kernel\": \"%s\", "
          "\"launched\": \"%s\", \"form\": \"%s\", \"rows\": %d, \"position\": %d, \"launches\": %d, \"buffers\": "
          "%zu,\n \"ms\": %.6g, "
          "\"least_ms\": %.6g, \"bytes\": %.6g, \"bytes_per_second\": %.6g, \"flops\": %.6g, \"tflops\": %.6g}\n",
          json_string(properties.name).c_str(), getp_backend_name(), terms, copy, kernel.name, result.launched.c_str(),
          form_name, options.rows, position, options.steps, result.buffers, result.median(), (double)result.times[0],
          result.bytes, result.bandwidth(), result.flops, result.tflops());
  options.close_json(json);
}

}  // namespace

int main(int argc, char **argv) {
  const Options options(argc, argv);
  if (options.memory) {
    printf("%zu\n", use_roomiest_device().free_bytes);
    return 0;
  }
  if (options.positions) {
    printf("%d\n", options.shape ? options.shape->seq_len : read_shape(options.model).seq_len);
    return 0;
  }
  if (!options.kernel.empty()) {
    time_kernel(options);
    return 0;
  }
  Transformer transformer = {};
  if (options.shape)
    memcpy(&transformer.config, options.shape, sizeof(Config));
  else
    build_transformer(&transformer, const_cast<char *>(options.model.c_str()));
  const Config &p = transformer.config;
  if (options.position + options.steps > p.seq_len || options.cpu_steps > p.seq_len) options.refuse_position(p.seq_len);
  FILE *json = options.open_json();

  if (gpu::on_cpu()) fatal("GETP_CPU=1: there is no device to time; unset it");
  setenv("HIP_DEVICE_ID", std::to_string(use_roomiest_device().id).c_str(), 1);  // for warm_up
  const double copy = copy_bandwidth();                                          // before the model takes the memory
  const auto start = std::chrono::steady_clock::now();
  if (options.shape)
    set_up_random(*options.shape);
  else
    warm_up(&transformer, nullptr);
  const double load = seconds_since(start);
  gpu::Device &device = gpu::node.devices[0];
  fill_caches(device);
  device.use_positions(options.position + options.steps);
  hipDeviceProp_t properties = {};
  HIP_CHECK(hipGetDeviceProperties(&properties, device.id));
  printf("%s (%s back end), %s, FP16 terms of an activation: %d\n", properties.name, getp_backend_name(),
         options.weights().c_str(), device.terms);
  printf("load: %.1f s; copy bandwidth: %.0f GB/s; positions %d to %d\n", load, copy / 1e9, options.position,
         options.position + options.steps - 1);

  std::vector<Result> results;
  for (int asked : options.batches) {
    const int requests = std::min(asked ? asked : INT_MAX, device.batch.slots);
    const bool known = std::any_of(results.begin(), results.end(), [&](auto &r) { return r.requests == requests; });
    if (asked > requests) printf("%d requests at a time are more than fit (or than GETP_BATCH): %d\n", asked, requests);
    if (!known) results.push_back(measure(transformer, device, options, requests));
  }
  print(results, copy);
  if (json) {
    char header[512];
    snprintf(header, sizeof header,
             "\"backend\": \"%s\", \"terms\": %d, \"copy_bytes_per_second\": %.6g, \"load_seconds\": %.3g, "
             "\"first_position\": %d, \"steps\": %d",
             getp_backend_name(), device.terms, copy, load, options.position, options.steps);
    write_json(json,
               "\"device\": " + json_string(properties.name) + ", \"model\": " + json_string(options.weights()) +
                   ",\n " + header,
               results);
    options.close_json(json);
  }

  int agree = 0, token = 1 % p.vocab_size;
  double worst = 0;
  for (int pos = 0; pos < options.cpu_steps; pos++) {
    const auto best = [&](const float *logits) {
      return (int)(std::max_element(logits, logits + p.vocab_size) - logits);
    };
    const float *cpu = forward(&transformer, token, pos), *hip = forward_hip(&transformer, token, pos);
    agree += best(cpu) == best(hip);
    worst = std::max(worst, max_abs_difference(cpu, hip, p.vocab_size));
    token = best(cpu);
  }
  if (options.cpu_steps)
    printf("argmax agrees with the CPU at %d of %d steps, max abs difference %.3g\n", agree, options.cpu_steps, worst);
  finish(&transformer, nullptr);
  if (!options.shape) free_transformer(&transformer);
  return agree == options.cpu_steps ? 0 : 1;
}
