// The kernels that bench times one at a time: the memory that a launch works in, filled with random values, and what
// the launch must move and compute.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "../hip/engine/forward.hpp"
#include "../hip/engine/upload.hpp"
#include "random_weights.hpp"

namespace getp_hip::kernel_cases {

// Device memory that is freed together.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  ~Memory() {
    for (const auto &release : releases_) release();
  }

  size_t bytes() const { return bytes_; }

  template <class T>
  T *room(size_t count) {
    T *d_values = device_alloc<T>(count);
    bytes_ += count * sizeof(T);
    releases_.push_back([d_values, count]() mutable { device_free(d_values, count); });
    return d_values;
  }

  // As many of the values as are wanted, again and again.
  template <class T>
  T *filled(size_t count, const std::vector<T> &values) {
    T *d_values = room<T>(count);
    for (size_t i = 0; i < count; i += values.size())
      HIP_CHECK(hipMemcpy(d_values + i, values.data(), std::min(values.size(), count - i) * sizeof(T),
                          hipMemcpyHostToDevice));
    return d_values;
  }
  template <class T>
  T *copied(const std::vector<T> &values) {
    return filled(values.size(), values);
  }
  float *random(size_t count) { return filled(count, normal_values(count)); }

  // Random weights, as upload lays them out: in the form, where the shape can take it. What is packed repeats some strips.
  DeviceMatrix matrix(size_t count, int d, int n, MatrixForm form) {
    DeviceMatrix w = shape_of(count, d, n, form);
    if (w.form == MatrixForm::kFp32) {
      w.d_exact = random(w.rows() * n);
    } else if (w.form == MatrixForm::kFp16) {
      const std::vector<float> &values = normal_values(w.unit_count() * 8);
      for (size_t i = weights_.size(); i < values.size(); i++)
        weights_.push_back(to_fp16(to_float(to_bf16(values[i])) * 4096));
      w.d_units = (uint4 *)filled(w.unit_count() * 8, weights_);
      w.d_scales = filled(w.rows(), std::vector<float>(1024, 1.0f / (1 << 18)));  // 4096 comes off, and about sqrt(n)
    } else {
      DeviceMatrix some;
      some.shaped(1, std::max<size_t>(1, std::min<size_t>(w.rows(), kDrawn / n) / 16) * 16, n).form = w.form;
      std::vector<float> values = normal_values(some.rows() * n);
      values.resize(some.rows() * n, 0);
      for (size_t i = 0; i < values.size(); i += kMxfp4Group) random_weights::round_to_mxfp4(&values[i]);
      for (float &value : values) value /= 64;  // about sqrt(n)
      const std::shared_ptr<PackedMatrix> packed = packed_in_mxfp4(some, values.data());
      w.d_units = filled(w.unit_count(), std::vector<uint4>(&packed->units[0], &packed->units[some.unit_count()]));
      w.d_scales = filled(w.rows(), packed->scales);
    }
    return w;
  }
  static DeviceMatrix shape_of(size_t count, int d, int n, MatrixForm form) {
    DeviceMatrix w;
    w.shaped(count, d, n).form = form;
    if (form == MatrixForm::kMxfp4 && n % kMxfp4Group != 0) w.form = MatrixForm::kFp16;
    if (!can_split(n)) w.form = MatrixForm::kFp32;
    return w;
  }

 private:
  static constexpr size_t kDrawn = 4 << 20;  // at most

  // At least `count` values, or the most that are drawn.
  const std::vector<float> &normal_values(size_t count) {
    while (normals_.size() < std::min(count, kDrawn)) normals_.push_back(normal_(random_));
    return normals_;
  }

  std::vector<std::function<void()>> releases_;
  size_t bytes_ = 0;
  std::mt19937 random_{1};
  std::normal_distribution<float> normal_;
  std::vector<float> normals_;
  std::vector<fp16> weights_;
};

// What is asked of a kernel.
struct Setting {
  Config p;
  Card card;
  int rows, position, terms;
  MatrixForm form;  // of the weights of what has some
  hipStream_t stream;
  Memory &memory;
};

// A launch in memory of its own.
struct Work {
  double bytes, flops;  // that it must move (each input and output once) and do; 0 flops: none to speak of
  std::function<void()> launch;
  std::optional<MatrixForm> form = {};  // that its weights have
};

struct Kernel {
  const char *name, *what;
  Work (*prepare)(const Setting &);
  std::optional<MatrixForm> form = {};  // of its weights, unless another is asked for
};

constexpr double kFloat = sizeof(float);

// Room for rows in split form, two terms of two bytes.
inline SplitRows split_room(const Setting &at, size_t rows, int n) {
  const size_t count = rows * split_pitch(n);
  return {at.memory.room<fp16>(count), at.memory.room<fp16>(count), at.memory.room<float>(rows), at.terms};
}

// Rows as a product takes them.
struct Activations {
  const float *d_x;
  SplitRows split;
};
inline Activations activations(const Setting &at, size_t rows, int n) {
  const Activations x = {at.memory.random(rows * n), split_room(at, rows, n)};
  split_terms(x.split, x.d_x, (int)rows, n, at.stream);
  return x;
}

// A product of `matrices` matrices out of w's with `inputs` rows into `outputs`: what is moved, and done.
inline Work product_work(const Setting &at, const DeviceMatrix &w, double matrices, double inputs, double outputs,
                         std::function<void()> launch) {
  const bool fp16_terms = w.form != MatrixForm::kFp32;
  const double of_weights = matrices / (double)w.count * (double)w.bytes();
  const double of_inputs = inputs * w.n * (fp16_terms ? at.terms * sizeof(fp16) : sizeof(float));
  return {of_weights + of_inputs + outputs * w.d * kFloat, 2 * outputs * w.n * w.d * (fp16_terms ? at.terms : 1),
          std::move(launch), w.form};
}

inline Work product(const Setting &at, int d, int n, bool biased = true) {
  const DeviceMatrix w = at.memory.matrix(1, d, n, at.form);
  const Activations x = activations(at, at.rows, n);
  const float *d_bias = biased ? at.memory.random(d) : nullptr;
  float *d_out = at.memory.room<float>((size_t)at.rows * d);
  return product_work(at, w, 1, at.rows, at.rows,
                      [=] { linear(at.card, d_out, w, d_bias, x.d_x, x.split, at.rows, at.stream); });
}

// For each row the numbers of experts_per_token different experts, any as likely as any other.
inline std::vector<int> random_experts(const Setting &at) {
  std::mt19937 random(2);
  std::vector<int> all(at.p.n_experts), chosen;
  std::iota(all.begin(), all.end(), 0);
  for (int r = 0; r < at.rows; r++) {
    std::shuffle(all.begin(), all.end(), random);
    chosen.insert(chosen.end(), all.begin(), all.begin() + at.p.experts_per_token);
  }
  return chosen;
}

inline ExpertTiles room_of_groups(const Setting &at) {
  const int rows = at.rows * at.p.experts_per_token;
  ExpertTiles room;
  room.d_tiles = at.memory.room<ExpertTile>(expert_tile_count(rows, at.p.n_experts, kMatvecTile));
  room.d_rows = at.memory.room<int>(rows);
  room.d_counts = at.memory.room<int>(at.p.n_experts);
  return room;
}

// Groups the rows of chosen experts as forward does.
inline ExpertTiles group(const Setting &at, const ExpertTiles &room, const int *d_experts) {
  const Config &p = at.p;
  const DeviceMatrix first = Memory::shape_of(p.n_experts, 2 * p.intermediate_dim, p.hidden_dim, at.form);
  const DeviceMatrix second = Memory::shape_of(p.n_experts, p.hidden_dim, p.intermediate_dim, at.form);
  return group_chosen(at.card, room, first, second, d_experts, at.rows, p.experts_per_token, p.n_experts, at.stream);
}

// share: rows of the result that read the same row of x.
inline Work expert_product(const Setting &at, int d, int n, int share) {
  const std::vector<int> experts = random_experts(at);
  const DeviceMatrix w = at.memory.matrix(at.p.n_experts, d, n, at.form);
  ProductRows of;
  of.rows = (int)experts.size();
  of.share = share;
  of.d_experts = at.memory.copied(experts);
  const Activations x = activations(at, of.rows / share, n);
  of.groups = group(at, room_of_groups(at), of.d_experts);
  const float *d_bias = at.memory.random((size_t)at.p.n_experts * d);
  float *d_out = at.memory.room<float>((size_t)of.rows * d);
  const std::set<int> used(experts.begin(), experts.end());
  return product_work(at, w, (double)used.size(), of.rows / share, of.rows,
                      [=] { expert_linear(at.card, d_out, w, d_bias, x.d_x, x.split, of, at.stream); });
}

// The cache of a layer with a window, or of one without, for as many sequences as rows.
inline KvCache random_cache(const Setting &at, bool window) {
  const int layer = window ? 0 : 1, positions = window ? at.p.seq_len : at.position + 1;
  BatchShape shape = {at.rows, at.rows, Device::kPromptRows, positions};
  shape.pages = at.rows * shape.pages_of_slot();
  KvCache cache = shape.cache(at.p, layer);
  if (cache.pages_of_slot) {
    std::vector<int> table(shape.pages);
    std::iota(table.begin(), table.end(), 0);
    cache.d_table = at.memory.copied(table);
  }
  cache.d_keys = at.memory.random(shape.cache_floats(at.p, layer));
  cache.d_values = at.memory.random(shape.cache_floats(at.p, layer));
  return cache;
}

// All rows at the same position, each of a sequence of its own.
inline RowPlaces places(const Setting &at) {
  std::vector<int> slots(at.rows);
  std::iota(slots.begin(), slots.end(), 0);
  return {at.memory.copied(std::vector<int>(at.rows, at.position)), at.memory.copied(slots), at.rows, at.position};
}

inline Work attention_work(const Setting &at, bool window) {
  const Config &p = at.p;
  const KvCache cache = random_cache(at, window);
  const RowPlaces to = places(at);
  const size_t values = (size_t)at.rows * p.attn_dim();
  const int seen = attention_seen(at.position, cache.window), heads = p.n_attn_heads, kv_heads = p.n_kv_heads;
  float *d_out = at.memory.room<float>(values), *d_q = at.memory.random(values), *d_sinks = at.memory.random(heads);
  float *d_partial =
      at.memory.room<float>((size_t)at.rows * heads * attention_spans(at.position, cache.window) * (2 + p.head_dim));
  const int head_dim = p.head_dim;
  return {at.rows * kFloat * (2.0 * seen * p.kv_dim() + 2.0 * p.attn_dim()), 4.0 * at.rows * seen * p.attn_dim(),
          [=, stream = at.stream] {
            attention(d_out, d_partial, d_q, cache, d_sinks, to, heads, kv_heads, head_dim, stream);
          }};
}

inline Work rope_work(const Setting &at) {
  const Config &p = at.p;
  const KvCache cache = random_cache(at, false);
  const RowPlaces to = places(at);
  const size_t angles = (size_t)(at.position + 1) * (p.head_dim / 2);
  float *d_q = at.memory.room<float>((size_t)at.rows * p.attn_dim());
  const float *d_qkv = at.memory.random((size_t)at.rows * p.qkv_dim());
  const float *d_cos = at.memory.random(angles), *d_sin = at.memory.random(angles);
  return {2 * kFloat * at.rows * p.qkv_dim(), 0,
          [=] { rope(d_q, cache, d_qkv, d_cos, d_sin, to, p.n_attn_heads, p.n_kv_heads, p.head_dim, at.stream); }};
}

// A norm that adds one value, or the chosen experts' outputs, to each value of x on its way.
inline Work rmsnorm_work(const Setting &at, bool experts) {
  const size_t hidden = at.p.hidden_dim, values = at.rows * hidden, k = experts ? at.p.experts_per_token : 1;
  Residual residual = {at.memory.random(values * k), nullptr, nullptr, 0};
  if (experts) {
    // Small weights: x grows with every launch.
    residual.d_weights = at.memory.filled(at.rows * k, std::vector<float>(1024, 0.25f));
    residual.d_experts = at.memory.copied(random_experts(at));
    residual.k = (int)k;
  }
  float *d_x = at.memory.random(values), *d_out = at.memory.room<float>(values), *d_w = at.memory.random(hidden);
  const SplitRows split = split_room(at, at.rows, (int)hidden);
  // x is read and written, written again as the norm and as its two terms.
  return {values * kFloat * (4.0 + k), 0,
          [=] { rmsnorm(d_out, split, d_x, residual, d_w, nullptr, at.rows, (int)hidden, at.stream); }};
}

inline Work swiglu_work(const Setting &at) {
  const int rows = at.rows * at.p.experts_per_token, n = at.p.intermediate_dim;
  const float *d_mlp1_out = at.memory.random((size_t)rows * 2 * n), limit = at.p.swiglu_limit;
  const SplitRows split = split_room(at, rows, n);
  float *d_out = can_split(n) ? nullptr : at.memory.room<float>((size_t)rows * n);
  return {3 * kFloat * rows * n, 0, [=] { swiglu(d_out, split, d_mlp1_out, rows, n, limit, at.stream); }};
}

inline Work split_work(const Setting &at) {
  const int n = at.p.attn_dim();
  const float *d_x = at.memory.random((size_t)at.rows * n);
  const SplitRows split = split_room(at, at.rows, n);
  return {2 * kFloat * at.rows * n, 0, [=] { split_terms(split, d_x, at.rows, n, at.stream); }};
}

inline Work topk_work(const Setting &at) {
  const int n = at.p.n_experts, k = at.p.experts_per_token;
  const float *d_scores = at.memory.random((size_t)at.rows * n);
  float *d_weights = at.memory.room<float>((size_t)at.rows * k);
  int *d_indices = at.memory.room<int>((size_t)at.rows * k);
  return {kFloat * at.rows * (n + 2.0 * k), 0, [=] { topk(d_weights, d_indices, d_scores, at.rows, n, k, at.stream); }};
}

inline Work expert_tiles_work(const Setting &at) {
  const int *d_experts = at.memory.copied(random_experts(at));
  const ExpertTiles room = room_of_groups(at);
  return {2 * kFloat * at.rows * at.p.experts_per_token, 0, [=] { group(at, room, d_experts); }};
}

// The table holds the tokens that are asked for alone, so that every launch can have one of its own.
inline Work embedding_work(const Setting &at) {
  const int hidden = at.p.hidden_dim;
  std::vector<int> tokens(at.rows);
  std::iota(tokens.begin(), tokens.end(), 0);
  std::shuffle(tokens.begin(), tokens.end(), std::mt19937(3));
  DeviceMatrix table;
  table.shaped_table(at.rows, hidden).form = MatrixForm::kBf16;
  table.d_bf16 = at.memory.filled((size_t)at.rows * hidden, std::vector<bf16>(1024, to_bf16(1)));
  const int *d_tokens = at.memory.copied(tokens);
  float *d_out = at.memory.room<float>((size_t)at.rows * hidden);
  return {(sizeof(bf16) + kFloat) * at.rows * hidden, 0,
          [=] { embedding(d_out, table, d_tokens, at.rows, at.stream); }};
}

inline Work argmax_work(const Setting &at) {
  const int n = at.p.vocab_size;
  const float *d_x = at.memory.random((size_t)at.rows * n);
  TopkKey *d_parts = at.memory.room<TopkKey>((size_t)at.rows * kArgmaxParts);
  int *d_tokens = at.memory.room<int>(at.rows);
  return {kFloat * at.rows * n, 0, [=] { argmax(d_tokens, d_parts, d_x, at.rows, n, at.stream); }};
}

// In the order of a step.
inline const Kernel kKernels[] = {
    {"embedding", "rows of the table into x", embedding_work},
    {"rmsnorm", "with the attention's projection added to x",
     [](const Setting &at) { return rmsnorm_work(at, false); }},
    {"rmsnorm_experts", "with the chosen experts' outputs added to x",
     [](const Setting &at) { return rmsnorm_work(at, true); }},
    {"qkv", "product: query, key and value",
     [](const Setting &at) { return product(at, at.p.qkv_dim(), at.p.hidden_dim); }, MatrixForm::kFp16},
    {"rope", "rotates query and key; key and value into the cache", rope_work},
    {"attention", "over all positions up to --position", [](const Setting &at) { return attention_work(at, false); }},
    {"attention_window", "over the window that ends at --position",
     [](const Setting &at) { return attention_work(at, true); }},
    {"split", "attention's output in FP16 terms", split_work},
    {"w_o", "product: attention's projection",
     [](const Setting &at) { return product(at, at.p.hidden_dim, at.p.attn_dim()); }, MatrixForm::kFp16},
    {"router", "product: scores of the experts",
     [](const Setting &at) { return product(at, at.p.n_experts, at.p.hidden_dim); }, MatrixForm::kFp16},
    {"topk", "the router's best experts", topk_work},
    {"expert_tiles", "rows grouped by their experts", expert_tiles_work, MatrixForm::kMxfp4},
    {"mlp1", "product: the experts' first, of each row with its chosen ones",
     [](const Setting &at) {
       return expert_product(at, 2 * at.p.intermediate_dim, at.p.hidden_dim, at.p.experts_per_token);
     },
     MatrixForm::kMxfp4},
    {"swiglu", "between the experts' products", swiglu_work},
    {"mlp2", "product: the experts' second",
     [](const Setting &at) { return expert_product(at, at.p.hidden_dim, at.p.intermediate_dim, 1); },
     MatrixForm::kMxfp4},
    {"unembedding", "product: logits",
     [](const Setting &at) { return product(at, at.p.vocab_size, at.p.hidden_dim, false); }, MatrixForm::kFp16},
    {"argmax", "of the logits", argmax_work},
};

}  // namespace getp_hip::kernel_cases
