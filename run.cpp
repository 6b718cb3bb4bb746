// Inference for gpt-oss on the CPU, in one file that reads from top to bottom: the model, its forward pass, the
// sampler, the modes generate, chat and getp, the command line.
//
// Weights and activations are FP32. Every sum is taken in double and rounded once, so this file is the reference that
// other back ends are measured against. Every offset into weights, caches and request buffers is 64-bit.
//
// Formulas: "gpt-oss-120b & gpt-oss-20b Model Card" (2025) and openai/gpt-oss, gpt_oss/torch/model.py.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "fatal.hpp"
#include "hip/gpt_oss.hpp"
#include "hip/whole_number.hpp"
#include "tokenizer.hpp"

#ifdef _OPENMP
#define PARALLEL_FOR _Pragma("omp parallel for")
#else
#define PARALLEL_FOR
#endif

// ---------------------------------------------------------------------------------------------------------------------
// The model

// The header of model.bin, field for field.
typedef struct {
  int vocab_size;
  int hidden_dim;
  int n_experts;
  int experts_per_token;
  int intermediate_dim;
  int n_layers;
  int head_dim;
  int n_attn_heads;            // query heads
  int n_kv_heads;              // key/value heads; n_attn_heads is a multiple of it
  int seq_len;                 // positions that the KV cache holds
  int initial_context_length;  // context before YaRN extends it
  float rope_theta;
  float rope_scaling_factor;  // YaRN; 1 means plain rotary embedding
  int sliding_window;         // keys that an even layer sees; 0 means all
  float swiglu_limit;
} Config;
static_assert(sizeof(Config) == 60, "the header of model.bin has 15 fields of 4 bytes");

// Pointers into the mapped file. Letters: V vocab_size, H hidden_dim, E n_experts, I intermediate_dim, L n_layers,
// A = n_attn_heads * head_dim, Q = A + 2 * n_kv_heads * head_dim. Matrices are (out features, in features).
typedef struct {
  float *token_embedding_table;  // (V, H)
  float *rms_attn_w;             // (L, H)
  float *rms_ffn_w;              // (L, H)
  float *w_qkv;                  // (L, Q, H), rows: all of q, then k, then v
  float *w_o;                    // (L, H, A)
  float *b_qkv;                  // (L, Q)
  float *b_o;                    // (L, H)
  float *attn_sinks;             // (L, n_attn_heads)
  float *w_router;               // (L, E, H)
  float *b_router;               // (L, E)
  float *w_mlp1;                 // (L, E, 2I, H), rows alternate gate, up
  float *w_mlp2;                 // (L, E, H, I)
  float *b_mlp1;                 // (L, E, 2I)
  float *b_mlp2;                 // (L, E, H)
  float *rms_out_w;              // (H)
  float *out;                    // (V, H)
} TransformerWeights;

// Activations of the token being processed, and the KV cache.
typedef struct {
  float *x;             // (H) residual stream
  float *t;             // (H) normalised x
  float *tb;            // (A) attention output of all heads
  float *tb2;           // (H) output of a branch before it joins x
  float *router_score;  // (E)
  float *topk_v;        // (experts_per_token) weights of the chosen experts
  int *topk_i;          // (experts_per_token) their indices
  float *mlp1_out;      // (2I) alternating gate, up
  float *gate;          // (I)
  float *up;            // (I)
  float *gate_up;       // (I) SwiGLU output
  float *e_agg;         // (H) weighted sum of the experts
  float *qkv;           // (Q)
  float *q;             // (A)
  float *k;             // (n_kv_heads * head_dim) in key_cache, at the current layer and position
  float *v;             // the same in value_cache
  float *att;           // (n_attn_heads, seq_len + 1) scores; the sink stands at pos + 1, so a row needs one float more
  float *logits;        // (V)
  float *key_cache;     // (L, seq_len, n_kv_heads * head_dim)
  float *value_cache;   // (L, seq_len, n_kv_heads * head_dim)
  float *mask;          // (seq_len) what an even layer adds to the scores of the current position: 0 or -inf
} RunState;

typedef struct {
  Config config;
  TransformerWeights weights;
  RunState state;
  int fd;             // of the mapped file
  float *data;        // start of the mapping
  ssize_t file_size;  // bytes
} Transformer;

int64_t attn_dim(const Config *p) { return int64_t{p->n_attn_heads} * p->head_dim; }
int64_t kv_dim(const Config *p) { return int64_t{p->n_kv_heads} * p->head_dim; }
int64_t qkv_dim(const Config *p) { return attn_dim(p) + 2 * kv_dim(p); }

// Where the keys (values) of a layer and position start in key_cache (value_cache), in floats.
int64_t kv_offset(const Config *p, int layer, int pos) { return (int64_t{layer} * p->seq_len + pos) * kv_dim(p); }

// Where the scores of a head start in att, in floats.
int64_t att_offset(const Config *p, int head) { return int64_t{head} * (p->seq_len + 1); }

template <class T>
T *allocate(int64_t count) {
  T *memory = static_cast<T *>(calloc(count, sizeof(T)));
  if (!memory) fatal("out of memory: cannot allocate %lld bytes", (long long)(count * sizeof(T)));
  return memory;
}

// Allocates all buffers, zeroed; ends the program when memory runs out.
void malloc_run_state(RunState *s, Config *p) {
  s->x = allocate<float>(p->hidden_dim);
  s->t = allocate<float>(p->hidden_dim);
  s->tb = allocate<float>(attn_dim(p));
  s->tb2 = allocate<float>(p->hidden_dim);
  s->router_score = allocate<float>(p->n_experts);
  s->topk_v = allocate<float>(p->experts_per_token);
  s->topk_i = allocate<int>(p->experts_per_token);
  s->mlp1_out = allocate<float>(int64_t{2} * p->intermediate_dim);
  s->gate = allocate<float>(p->intermediate_dim);
  s->up = allocate<float>(p->intermediate_dim);
  s->gate_up = allocate<float>(p->intermediate_dim);
  s->e_agg = allocate<float>(p->hidden_dim);
  s->qkv = allocate<float>(qkv_dim(p));
  s->q = allocate<float>(attn_dim(p));
  s->att = allocate<float>(att_offset(p, p->n_attn_heads));
  s->logits = allocate<float>(p->vocab_size);
  s->key_cache = allocate<float>(kv_offset(p, p->n_layers, 0));
  s->value_cache = allocate<float>(kv_offset(p, p->n_layers, 0));
  s->mask = allocate<float>(p->seq_len);
  s->k = s->key_cache;
  s->v = s->value_cache;
}

void free_run_state(RunState *s) {
  for (float *buffer : {s->x, s->t, s->tb, s->tb2, s->router_score, s->topk_v, s->mlp1_out, s->gate, s->up, s->gate_up,
                        s->e_agg, s->qkv, s->q, s->att, s->logits, s->key_cache, s->value_cache, s->mask})
    free(buffer);
  free(s->topk_i);
}

// Points the weights into `ptr`, which starts behind the header; returns the end of the last tensor. The order is that
// of the file; each tensor is contiguous over the layers.
float *memory_map_weights(TransformerWeights *w, Config *p, float *ptr) {
  const int64_t V = p->vocab_size, H = p->hidden_dim, E = p->n_experts, I = p->intermediate_dim, L = p->n_layers;
  const int64_t A = attn_dim(p), Q = qkv_dim(p);
  auto next = [&ptr](int64_t count) {
    float *tensor = ptr;
    ptr += count;
    return tensor;
  };
  w->token_embedding_table = next(V * H);
  w->out = next(V * H);
  w->rms_attn_w = next(L * H);
  w->rms_ffn_w = next(L * H);
  w->rms_out_w = next(H);
  w->w_qkv = next(L * Q * H);
  w->b_qkv = next(L * Q);
  w->w_o = next(L * H * A);
  w->b_o = next(L * H);
  w->attn_sinks = next(L * p->n_attn_heads);
  w->w_router = next(L * E * H);
  w->b_router = next(L * E);
  w->w_mlp1 = next(L * E * 2 * I * H);
  w->b_mlp1 = next(L * E * 2 * I);
  w->w_mlp2 = next(L * E * H * I);
  w->b_mlp2 = next(L * E * H);
  return ptr;
}

// Size in bytes of the model file that belongs to this header. Exact in 64 bits for every header that check_config
// accepts.
int64_t model_file_size(const Config *p) {
  const int64_t V = p->vocab_size, H = p->hidden_dim, E = p->n_experts, I = p->intermediate_dim, L = p->n_layers;
  const int64_t A = attn_dim(p), Q = qkv_dim(p);
  const int64_t embeddings = 2 * V * H, norms = 2 * L * H + H;
  const int64_t attention = Q * H + Q + H * A + H + p->n_attn_heads;
  const int64_t experts = E * H + E + E * (2 * I * H + 2 * I) + E * (H * I + H);
  return int64_t{sizeof(Config)} + int64_t{sizeof(float)} * (embeddings + norms + L * (attention + experts));
}

// Ends the program unless the header describes a gpt-oss model. `path` names the file in the message.
void check_config(const Config *p, const char *path) {
  const struct {
    const char *name;
    int value, low, high;
  } ranges[] = {{"vocab_size", p->vocab_size, 1, 1 << 22},
                {"hidden_dim", p->hidden_dim, 1, 1 << 16},
                {"n_experts", p->n_experts, 1, 1 << 12},
                {"experts_per_token", p->experts_per_token, 1, p->n_experts},
                {"intermediate_dim", p->intermediate_dim, 1, 1 << 16},
                {"n_layers", p->n_layers, 1, 1 << 10},
                {"head_dim", p->head_dim, 2, 1 << 10},
                {"n_attn_heads", p->n_attn_heads, 1, 1 << 12},
                {"n_kv_heads", p->n_kv_heads, 1, p->n_attn_heads},
                {"seq_len", p->seq_len, 1, 1 << 24},
                {"initial_context_length", p->initial_context_length, 1, 1 << 24},
                {"sliding_window", p->sliding_window, 0, 1 << 24}};
  for (const auto &range : ranges)
    if (range.value < range.low || range.value > range.high)
      fatal("%s: not a gpt-oss model: its header says %s = %d, outside %d..%d; export it again", path, range.name,
            range.value, range.low, range.high);
  if (p->head_dim % 2 != 0)
    fatal("%s: not a gpt-oss model: its header says head_dim = %d, which is odd; export it again", path, p->head_dim);
  if (p->n_attn_heads % p->n_kv_heads != 0)
    fatal("%s: not a gpt-oss model: %d query heads do not divide among %d key/value heads; export it again", path,
          p->n_attn_heads, p->n_kv_heads);
  if (!std::isfinite(p->rope_theta) || p->rope_theta <= 1.0f)
    fatal("%s: not a gpt-oss model: its header says rope_theta = %g, not above 1; export it again", path,
          p->rope_theta);
  if (!std::isfinite(p->rope_scaling_factor) || p->rope_scaling_factor < 1.0f)
    fatal("%s: not a gpt-oss model: its header says rope_scaling_factor = %g, below 1; export it again", path,
          p->rope_scaling_factor);
  if (!std::isfinite(p->swiglu_limit) || p->swiglu_limit <= 0.0f)
    fatal("%s: not a gpt-oss model: its header says swiglu_limit = %g, not above 0; export it again", path,
          p->swiglu_limit);
}

// Maps the model file and allocates the run state. Before anything else the header is checked, and the size of the file
// against the header; a file that fails ends the program with one line.
void build_transformer(Transformer *t, char *path) {
  t->fd = open(path, O_RDONLY);
  if (t->fd < 0) fatal("%s: cannot open the model: %s", path, strerror(errno));
  struct stat status;
  if (fstat(t->fd, &status) != 0) fatal("%s: cannot read the model: %s", path, strerror(errno));
  if (!S_ISREG(status.st_mode)) fatal("%s: not a regular file; give the path of a model.bin", path);
  t->file_size = status.st_size;
  if (t->file_size < ssize_t{sizeof(Config)})
    fatal("%s: not a gpt-oss model: %lld bytes are less than its 60-byte header; export it again", path,
          (long long)t->file_size);
  if (pread(t->fd, &t->config, sizeof(Config), 0) != ssize_t{sizeof(Config)})
    fatal("%s: cannot read the model's header: %s", path, strerror(errno));
  check_config(&t->config, path);
  const int64_t expected = model_file_size(&t->config);
  if (t->file_size != expected)
    fatal("%s: the file has %lld bytes, its header asks for %lld: it is %s; copy or export it again", path,
          (long long)t->file_size, (long long)expected,
          t->file_size < expected ? "truncated" : "no gpt-oss model, or damaged");
  void *mapping = mmap(nullptr, t->file_size, PROT_READ, MAP_PRIVATE, t->fd, 0);
  if (mapping == MAP_FAILED) fatal("%s: cannot map the model: %s", path, strerror(errno));
  t->data = static_cast<float *>(mapping);
  memory_map_weights(&t->weights, &t->config, t->data + sizeof(Config) / sizeof(float));
  malloc_run_state(&t->state, &t->config);
}

void free_transformer(Transformer *t) {
  munmap(t->data, t->file_size);
  close(t->fd);
  free_run_state(&t->state);
}

// ---------------------------------------------------------------------------------------------------------------------
// The forward pass

// Sum of a[i] * b[i] over n values. The products are exact in double; eight running sums let the compiler use vector
// instructions, which it may not do with one sum, since that would change the order.
double dot(const float *a, const float *b, int n) {
  double sums[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int lane = 0; lane < 8; lane++) sums[lane] += (double)a[i + lane] * b[i + lane];
  double sum = 0.0;
  for (; i < n; i++) sum += (double)a[i] * b[i];
  for (double lane_sum : sums) sum += lane_sum;
  return sum;
}

// o[i] = weight[i] * x[i] / sqrt(mean of x^2 + 1e-5), i < size; o may be x. Zhang and Sennrich, "Root Mean Square Layer
// Normalization", 2019.
void rmsnorm(float *o, float *x, float *weight, int size) {
  const double scale = 1.0 / sqrt(dot(x, x, size) / size + 1e-5);
  for (int i = 0; i < size; i++) o[i] = (float)(weight[i] * (scale * x[i]));
}

// x[i] = exp(x[i]) / sum of exp(x), i < size, in place. At least one x[i] is above -inf.
void softmax(float *x, int size) {
  const double max = *std::max_element(x, x + size);
  double sum = 0.0;
  for (int i = 0; i < size; i++) {
    const double e = exp(x[i] - max);
    x[i] = (float)e;
    sum += e;
  }
  for (int i = 0; i < size; i++) x[i] = (float)(x[i] / sum);
}

// xout (d) = w (d, n) * x (n): n in features, d out features. Most of the time is spent here.
void matmul(float *xout, float *x, float *w, int n, int d) {
  PARALLEL_FOR
  for (int i = 0; i < d; i++) xout[i] = (float)dot(w + int64_t{i} * n, x, n);
}

// x[i] += bias[i], i < size.
void add(float *x, const float *bias, int size) {
  for (int i = 0; i < size; i++) x[i] += bias[i];
}

// The experts_per_token largest of router_score (num_experts) and their indices, largest first; equal scores by
// ascending index. NaN, which has no order, counts as minus infinity.
void topk(float *topk_values, int *topk_indices, float *router_score, int num_experts, int experts_per_token) {
  std::vector<int> order(num_experts);
  for (int i = 0; i < num_experts; i++) order[i] = i;
  const auto score = [router_score](int e) { return std::isnan(router_score[e]) ? -INFINITY : router_score[e]; };
  std::partial_sort(order.begin(), order.begin() + experts_per_token, order.end(),
                    [score](int a, int b) { return score(a) > score(b) || (score(a) == score(b) && a < b); });
  for (int k = 0; k < experts_per_token; k++) {
    topk_indices[k] = order[k];
    topk_values[k] = router_score[order[k]];
  }
}

// Cosine and sine of the rotary angles at position `pos`, head_dim / 2 of each, times YaRN's concentration. Computed in
// double, rounded at the end.
//
// Pair i turns by pos * base^(-2i / head_dim). YaRN (Peng et al., "YaRN: Efficient Context Window Extension of Large
// Language Models", 2023): pairs that turn more than ntk_beta times within the initial context keep their frequency,
// those that turn less than ntk_alpha times have it divided by scaling_factor, a linear ramp over i lies between
// (its ends are not rounded to integers). A scaling_factor of 1 is the plain rotary embedding.
void compute_cos_sin(int pos, float base, int head_dim, float scaling_factor, float initial_context_length,
                     float ntk_beta, float ntk_alpha, float *cos_out, float *sin_out) {
  const int half = head_dim / 2;
  // The (fractional) pair that turns `turns` times within the initial context.
  auto pair_of = [=](double turns) {
    return half * std::log(initial_context_length / (turns * 2.0 * M_PI)) / std::log((double)base);
  };
  const double low = pair_of(ntk_beta), high = pair_of(ntk_alpha);
  const double concentration = scaling_factor > 1.0f ? 0.1 * std::log((double)scaling_factor) + 1.0 : 1.0;
  for (int i = 0; i < half; i++) {
    const double frequency = std::pow((double)base, -2.0 * i / head_dim);
    const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
    const double angle = pos * (frequency * (1.0 - ramp) + frequency / scaling_factor * ramp);
    cos_out[i] = (float)(std::cos(angle) * concentration);
    sin_out[i] = (float)(std::sin(angle) * concentration);
  }
}

// Rotates x (n_heads, head_dim) in place: value i of a head is paired with value i + head_dim / 2. Su et al.,
// "RoFormer", 2021.
void apply_rotary_emb(float *x, float *cos, float *sin, int n_heads, int head_dim) {
  const int half = head_dim / 2;
  for (int h = 0; h < n_heads; h++) {
    float *first = x + int64_t{h} * head_dim, *second = first + half;
    for (int i = 0; i < half; i++) {
      const double a = first[i], b = second[i];
      first[i] = (float)(a * cos[i] - b * sin[i]);
      second[i] = (float)(b * cos[i] + a * sin[i]);
    }
  }
}

// One token at position `pos` (0 <= pos < seq_len; the positions before it have been through here): returns the logits
// (vocab_size) of the token after it, in a buffer that the next call overwrites.
float *forward(Transformer *transformer, int token, int pos) {
  Config *p = &transformer->config;
  TransformerWeights *w = &transformer->weights;
  RunState *s = &transformer->state;
  const int hidden = p->hidden_dim, intermediate = p->intermediate_dim, head_dim = p->head_dim;
  const int attn = (int)attn_dim(p), kv = (int)kv_dim(p), qkv = (int)qkv_dim(p);
  const int heads_per_kv = p->n_attn_heads / p->n_kv_heads;

  memcpy(s->x, w->token_embedding_table + int64_t{token} * hidden, hidden * sizeof(float));

  std::vector<float> cos(head_dim / 2), sin(head_dim / 2);
  compute_cos_sin(pos, p->rope_theta, head_dim, p->rope_scaling_factor, (float)p->initial_context_length,
                  gpt_oss::kYarnBeta, gpt_oss::kYarnAlpha, cos.data(), sin.data());
  for (int t = 0; t <= pos; t++) s->mask[t] = p->sliding_window > 0 && pos - t >= p->sliding_window ? -INFINITY : 0.0f;

  for (int64_t l = 0; l < p->n_layers; l++) {
    // Queries, keys, values; keys and values go into the cache.
    rmsnorm(s->t, s->x, w->rms_attn_w + l * hidden, hidden);
    matmul(s->qkv, s->t, w->w_qkv + l * qkv * hidden, hidden, qkv);
    add(s->qkv, w->b_qkv + l * qkv, qkv);
    s->k = s->key_cache + kv_offset(p, (int)l, pos);
    s->v = s->value_cache + kv_offset(p, (int)l, pos);
    memcpy(s->q, s->qkv, attn * sizeof(float));
    memcpy(s->k, s->qkv + attn, kv * sizeof(float));
    memcpy(s->v, s->qkv + attn + kv, kv * sizeof(float));
    apply_rotary_emb(s->q, cos.data(), sin.data(), p->n_attn_heads, head_dim);
    apply_rotary_emb(s->k, cos.data(), sin.data(), p->n_kv_heads, head_dim);

    // Attention. The head's sink takes part in the softmax as one more score and is dropped after it.
    PARALLEL_FOR
    for (int h = 0; h < p->n_attn_heads; h++) {
      const float *q = s->q + int64_t{h} * head_dim;
      const float *keys = s->key_cache + kv_offset(p, (int)l, 0) + int64_t{h / heads_per_kv} * head_dim;
      const float *values = s->value_cache + kv_offset(p, (int)l, 0) + int64_t{h / heads_per_kv} * head_dim;
      float *att = s->att + att_offset(p, h);
      for (int t = 0; t <= pos; t++) {
        att[t] = (float)(dot(q, keys + int64_t{t} * kv, head_dim) / sqrt((double)head_dim));
        if (l % 2 == 0) att[t] += s->mask[t];
      }
      att[pos + 1] = w->attn_sinks[l * p->n_attn_heads + h];
      softmax(att, pos + 2);
      std::vector<double> sum(head_dim);
      for (int t = 0; t <= pos; t++)
        for (int i = 0; i < head_dim; i++) sum[i] += (double)att[t] * values[int64_t{t} * kv + i];
      std::copy(sum.begin(), sum.end(), s->tb + int64_t{h} * head_dim);
    }
    matmul(s->tb2, s->tb, w->w_o + l * hidden * attn, attn, hidden);
    add(s->tb2, w->b_o + l * hidden, hidden);
    add(s->x, s->tb2, hidden);

    // Router: the best experts, weighted by the softmax over their scores alone.
    rmsnorm(s->t, s->x, w->rms_ffn_w + l * hidden, hidden);
    matmul(s->router_score, s->t, w->w_router + l * p->n_experts * hidden, hidden, p->n_experts);
    add(s->router_score, w->b_router + l * p->n_experts, p->n_experts);
    topk(s->topk_v, s->topk_i, s->router_score, p->n_experts, p->experts_per_token);
    softmax(s->topk_v, p->experts_per_token);

    // Experts, in ascending index.
    std::fill(s->e_agg, s->e_agg + hidden, 0.0f);
    for (int e = 0; e < p->n_experts; e++) {
      const int *chosen = std::find(s->topk_i, s->topk_i + p->experts_per_token, e);
      if (chosen == s->topk_i + p->experts_per_token) continue;
      const float weight = s->topk_v[chosen - s->topk_i];
      const int64_t expert = l * p->n_experts + e;
      matmul(s->mlp1_out, s->t, w->w_mlp1 + expert * 2 * intermediate * hidden, hidden, 2 * intermediate);
      add(s->mlp1_out, w->b_mlp1 + expert * 2 * intermediate, 2 * intermediate);
      for (int i = 0; i < intermediate; i++) {
        s->gate[i] = std::min(s->mlp1_out[2 * i], p->swiglu_limit);
        s->up[i] = std::clamp(s->mlp1_out[2 * i + 1], -p->swiglu_limit, p->swiglu_limit);
        // SwiGLU: gate * sigmoid(1.702 * gate) * (up + 1)
        s->gate_up[i] = (float)(s->gate[i] / (1.0 + exp(-1.702 * s->gate[i])) * (s->up[i] + 1.0));
      }
      matmul(s->tb2, s->gate_up, w->w_mlp2 + expert * hidden * intermediate, intermediate, hidden);
      add(s->tb2, w->b_mlp2 + expert * hidden, hidden);
      for (int i = 0; i < hidden; i++) s->e_agg[i] += weight * s->tb2[i];
    }
    add(s->x, s->e_agg, hidden);
  }

  rmsnorm(s->x, s->x, w->rms_out_w, hidden);
  matmul(s->logits, s->x, w->out, hidden, p->vocab_size);
  return s->logits;
}

// ---------------------------------------------------------------------------------------------------------------------
// The sampler

typedef struct {
  float prob;
  int index;
} ProbIndex;

typedef struct {
  int vocab_size;
  ProbIndex *probindex;          // (vocab_size) work space of top-p
  float temperature;             // 0: the most likely token
  float topp;                    // 0 or 1: all tokens
  unsigned long long rng_state;  // never 0
} Sampler;

// rng_seed must not be 0, where the generator would stay for ever.
void build_sampler(Sampler *sampler, int vocab_size, float temperature, float topp, unsigned long long rng_seed) {
  sampler->vocab_size = vocab_size;
  sampler->probindex = allocate<ProbIndex>(vocab_size);
  sampler->temperature = temperature;
  sampler->topp = topp;
  sampler->rng_state = rng_seed;
}

void free_sampler(Sampler *sampler) { free(sampler->probindex); }

// A float in [0, 1) with 24 random bits. xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift
// generators, scrambled", 2016.
float random_f32(unsigned long long *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (float)((*state * 0x2545F4914F6CDD1Dull) >> 40) / (float)(1 << 24);
}

// The index of the largest of n values, the lowest one among equals; -1 if a value is NaN, or the largest is infinite.
int sample_argmax(float *probabilities, int n) {
  if (std::any_of(probabilities, probabilities + n, [](float value) { return std::isnan(value); })) return -1;
  const float *largest = std::max_element(probabilities, probabilities + n);
  return std::isfinite(*largest) ? (int)(largest - probabilities) : -1;
}

// The token in whose share of the n probabilities `coin`, in [0, 1), falls.
int sample_mult(float *probabilities, int n, float coin) {
  double cumulative = 0.0;
  for (int i = 0; i < n; i++) {
    cumulative += probabilities[i];
    if (coin < cumulative) return i;
  }
  return sample_argmax(probabilities, n);  // the probabilities' rounded sum may lie just below the coin
}

// The same among the most likely tokens alone: the fewest whose probabilities add up to more than topp. Holtzman et
// al., "The Curious Case of Neural Text Degeneration", 2020.
int sample_topp(float *probabilities, int n, float topp, ProbIndex *probindex, float coin) {
  for (int i = 0; i < n; i++) probindex[i] = {probabilities[i], i};
  auto less_likely = [](const ProbIndex &a, const ProbIndex &b) {
    return a.prob < b.prob || (a.prob == b.prob && a.index > b.index);
  };
  // A heap gives the tokens by falling probability, and only as many as are needed: each goes to the end of the array.
  ProbIndex *rest = probindex + n;
  std::make_heap(probindex, rest, less_likely);
  double nucleus = 0.0;
  while (rest > probindex && nucleus <= topp) {
    std::pop_heap(probindex, rest, less_likely);
    nucleus += (--rest)->prob;
  }
  double cumulative = 0.0;
  for (ProbIndex *candidate = probindex + n - 1; candidate > rest; candidate--) {
    cumulative += candidate->prob;
    if (coin * nucleus < cumulative) return candidate->index;
  }
  return rest->index;
}

// The next token. With a temperature above 0, `logits` (vocab_size) become probabilities in place. Logits that are not
// numbers end the program.
int sample(Sampler *sampler, float *logits) {
  const int n = sampler->vocab_size, best = sample_argmax(logits, n);
  if (best < 0) fatal("no token can be sampled: the logits are not numbers");
  // A temperature so low that the quotient overflows is greedy.
  if (sampler->temperature == 0.0f || !std::isfinite(logits[best] / sampler->temperature)) return best;
  for (int i = 0; i < n; i++) logits[i] /= sampler->temperature;
  softmax(logits, n);
  const float coin = random_f32(&sampler->rng_state);
  if (sampler->topp <= 0.0f || sampler->topp >= 1.0f) return sample_mult(logits, n, coin);
  return sample_topp(logits, n, sampler->topp, sampler->probindex, coin);
}

// ---------------------------------------------------------------------------------------------------------------------
// The modes

// Milliseconds of a clock that never steps back.
long time_in_ms() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Appends the tokens of `text`. Special tokens written out in it are text like any other.
void append_text(std::vector<int> *tokens, Tokenizer *tokenizer, const std::string &text) {
  std::vector<int> encoded(text.size() + 3);
  int count = 0;
  encode(tokenizer, text.c_str(), -1, -1, encoded.data(), &count, (int)encoded.size());
  tokens->insert(tokens->end(), encoded.begin(), encoded.begin() + count);
}

void print_token(Tokenizer *tokenizer, int previous, int token) {
  print_text({decode_piece(tokenizer, previous, token), (size_t)tokenizer->lengths[token]});
  fflush(stdout);
}

// In getp-csrc/getp_run.cpp: forward on the device, or with GETP_CPU=1 this file's, and what gets it ready.
void warm_up_forward(Transformer *transformer);
float *forward_hip(Transformer *transformer, int token, int pos);

// Mode generate: prints the prompt and its continuation, `steps` (1..seq_len) tokens at most, until <|endoftext|> or
// <|return|>; then the speed on stderr. No prompt: starts from <|startoftext|>, where the vocabulary has it.
void generate(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, const char *prompt, int steps) {
  std::vector<int> tokens;
  append_text(&tokens, tokenizer, prompt ? prompt : "");
  if (tokens.empty()) tokens.push_back(find_special(tokenizer, "<|startoftext|>"));
  if (tokens[0] < 0) fatal("the prompt is empty, and this vocabulary has no <|startoftext|>; give a prompt with -i");
  if (tokens.size() > (size_t)steps)
    fatal("the prompt's %zu tokens exceed the %d steps; shorten it or raise -n (seq_len is %d)", tokens.size(), steps,
          transformer->config.seq_len);

  warm_up_forward(transformer);
  for (size_t i = 0; i < tokens.size(); i++) print_token(tokenizer, i ? tokens[i - 1] : -1, tokens[i]);
  const long start = time_in_ms();
  int pos = 0;
  for (; pos < steps; pos++) {
    float *logits = forward_hip(transformer, tokens[pos], pos);
    if (pos + 1 < (int)tokens.size()) continue;  // still reading the prompt
    const int next = sample(sampler, logits);
    if (gpt_oss::is_stop_token(next)) break;
    tokens.push_back(next);
    print_token(tokenizer, tokens[pos], next);
  }
  print_text("\n");
  fprintf(stderr, "achieved tok/s: %f\n", pos * 1000.0 / (double)std::max(time_in_ms() - start, 1L));
}

// The special tokens of harmony, the format that gpt-oss speaks (openai/harmony, docs/format.md).
typedef struct {
  int start, message, channel, end, ret, call, endoftext;
} Harmony;

Harmony find_harmony(Tokenizer *tokenizer) {
  auto find = [tokenizer](const char *text) {
    const int token = find_special(tokenizer, text);
    if (token < 0) fatal("chat needs the harmony tokens, but this vocabulary has no %s; use gpt-oss's tokenizer", text);
    return token;
  };
  return {find("<|start|>"),  find("<|message|>"), find("<|channel|>"),  find("<|end|>"),
          find("<|return|>"), find("<|call|>"),    find("<|endoftext|>")};
}

// Appends <|start|>role<|message|>text<|end|>.
void append_message(std::vector<int> *dialog, Tokenizer *tokenizer, const Harmony &harmony, const char *role,
                    const std::string &text) {
  dialog->push_back(harmony.start);
  append_text(dialog, tokenizer, role);
  dialog->push_back(harmony.message);
  append_text(dialog, tokenizer, text);
  dialog->push_back(harmony.end);
}

// Mode chat: a conversation over stdin and stdout, one line a message, until the input ends or the conversation has
// `steps` (1..seq_len) tokens. user_prompt is the first message (NULL: ask for it), instructions the developer message
// (NULL or empty: none), reasoning what the system message asks for: low, medium or high.
void chat(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, const char *user_prompt,
          const char *instructions, const char *reasoning, int steps) {
  const Harmony harmony = find_harmony(tokenizer);
  warm_up_forward(transformer);
  std::vector<int> dialog;  // the conversation so far
  size_t fed = 0;           // how many of its tokens are in the KV cache
  const std::string system =
      "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: " +
      std::string(reasoning) +
      "\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.";
  append_message(&dialog, tokenizer, harmony, "system", system);
  if (instructions && *instructions)
    append_message(&dialog, tokenizer, harmony, "developer", std::string("# Instructions\n\n") + instructions);

  std::vector<std::pair<size_t, size_t>> analysis;  // where in the dialog messages of that channel begin and end
  const auto leave_out = [&](size_t begin, size_t end) {
    dialog.erase(dialog.begin() + begin, dialog.begin() + end);
    fed = std::min(fed, begin);
  };
  std::string text = user_prompt ? user_prompt : "";
  for (;; text.clear()) {
    while (text.empty()) {
      printf("User: ");
      fflush(stdout);
      if (!std::getline(std::cin, text)) {
        printf("\n");
        return;
      }
      if (!text.empty() && text.back() == '\r') text.pop_back();
    }
    append_message(&dialog, tokenizer, harmony, "user", text);
    size_t begin = dialog.size();  // of the message that the assistant is at
    dialog.push_back(harmony.start);
    append_text(&dialog, tokenizer, "assistant");

    // The assistant's turn: messages, up to a stop token. Of a header, such as "assistant to=functions.f<|channel|>
    // commentary <|constrain|>json", all but the role is shown, in brackets.
    printf("Assistant: ");
    enum { kRole, kChannel, kMessage } part = kRole;
    std::string role, channel;  // what stands in the header before and after <|channel|>
    int next = -1;
    const auto stops = [&] { return next == harmony.ret || next == harmony.call || next == harmony.endoftext; };
    const auto is_of = [&](const char *name) {
      return part == kMessage && channel.substr(0, channel.find_first_of(" <")) == name;
    };
    while (!stops()) {
      if (dialog.size() > (size_t)steps) {
        print_text("\n");
        fprintf(stderr, "the conversation has used up its %d steps (-n; seq_len is %d)\n", steps,
                transformer->config.seq_len);
        return;
      }
      float *logits = nullptr;
      for (; fed < dialog.size(); fed++) logits = forward_hip(transformer, dialog[fed], (int)fed);
      next = sample(sampler, logits);
      if (next == harmony.start) {
        part = kRole;
        role = channel = "";
      } else if (next == harmony.channel) {
        part = kChannel;
      } else if (next == harmony.message) {
        part = kMessage;
        channel += role.substr(std::min(role.find(' '), role.size()));
        if (!channel.empty()) print_text(("[" + channel + "] ").c_str());
      } else if (next == harmony.end || stops()) {
        print_text(next == harmony.call ? "\n[a tool call; no tool is run]\n" : "\n");
        if (is_of("analysis")) analysis.push_back({begin, dialog.size() + 1});
        if (next == harmony.end) {
          part = kRole;
          begin = dialog.size() + 1;
        }
      } else if (part == kMessage) {
        print_token(tokenizer, dialog.back(), next);
      } else {
        (part == kRole ? role : channel) += decode_piece(tokenizer, dialog.back(), next);
      }
      dialog.push_back(next);
    }

    // In the history a message ends in <|end|> or <|call|>. An answer takes all analysis out, that of calls before it too.
    if (next != harmony.call) dialog.back() = harmony.end;
    if (part != kMessage) leave_out(begin, dialog.size());  // a header alone
    if (is_of("final"))
      for (; !analysis.empty(); analysis.pop_back()) leave_out(analysis.back().first, analysis.back().second);
  }
}

#include "getp_eval.cpp"
#include "getp-csrc/getp_run.cpp"

// ---------------------------------------------------------------------------------------------------------------------
// The command line

#ifndef TESTING

const char *kUsage =
    "usage: run <model.bin> [options]\n"
    "  -m <mode>    generate (default), chat, getp or requests (writes the requests of -i, as getp reads them, to -o)\n"
    "  -i <text>    generate, chat: the prompt; getp: the input file (first line: number of requests, then one a "
    "line)\n"
    "  -o <file>    getp: the output file (one line of token ids a request)\n"
    "  -n <steps>   forward passes a sequence may take: prompt + generated tokens - 1 (default 1024; 0, or more "
    "than seq_len: seq_len)\n"
    "  -t <float>   temperature (default 0: always the most likely token)\n"
    "  -p <float>   top-p, 0..1 (default 0.9; 0 or 1: off)\n"
    "  -s <int>     random seed (default, or 0: from the clock)\n"
    "  -z <file>    tokenizer (default tokenizer.bin)\n"
    "  -y <text>    chat: instructions, as the developer message\n"
    "  --reasoning <level>  chat: low, medium (default) or high\n"
    "  --cpu        compute on the CPU, with the reference, instead of the device (the same as GETP_CPU=1)\n";

#define USAGE_HINT "\nhint: run -h lists the options"

// What is above 0 stays so, however small: 0 has a meaning of its own.
float parse_float(const char *flag, const char *text, double low, double high) {
  char *end;
  errno = 0;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= low && value <= high))
    fatal("%s \"%s\": not a number from %g to %g" USAGE_HINT, flag, text, low, high);
  const bool above_zero = value > 0.0 || (errno == ERANGE && !std::signbit(value));
  return above_zero ? std::max((float)value, std::numeric_limits<float>::denorm_min()) : (float)value;
}

unsigned long long parse_count(const char *flag, const char *text) {
  uint64_t value = 0;
  if (!getp_hip::read_number(text, 0, UINT64_MAX, value))
    fatal("%s \"%s\": not a whole number below 2^64" USAGE_HINT, flag, text);
  return value;
}

// Whether two paths lead to one existing file.
bool same_file(const char *a, const char *b) {
  struct stat first, second;
  return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

int main(int argc, char **argv) {
  char *model_path = nullptr, *input = nullptr, *output = nullptr, *instructions = nullptr;
  const char *tokenizer_path = "tokenizer.bin";
  std::string mode = "generate", reasoning = "medium";
  float temperature = 0.0f, topp = 0.9f;
  unsigned long long seed = 0, steps = 1024;

  if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
    fputs(kUsage, stdout);
    return EXIT_SUCCESS;
  }
  if (argc < 2 || argv[1][0] == '-') fatal("the first argument must be the model's path" USAGE_HINT);
  model_path = argv[1];
  for (int i = 2; i < argc; i++) {
    const std::string flag = argv[i];
    if (flag == "--cpu") {
      setenv("GETP_CPU", "1", 1);
      continue;
    }
    const bool is_short = flag.size() == 2 && flag[0] == '-' && strchr("tpsniozmy", flag[1]);
    if (!is_short && flag != "--reasoning") fatal("unknown option \"%s\"" USAGE_HINT, argv[i]);
    if (i + 1 == argc) fatal("option %s lacks its value" USAGE_HINT, argv[i]);
    char *value = argv[++i];
    if (!is_short) {
      reasoning = value;
      continue;
    }
    switch (flag[1]) {
      case 't':
        temperature = parse_float("-t", value, 0.0, 1e6);
        break;
      case 'p':
        topp = parse_float("-p", value, 0.0, 1.0);
        break;
      case 's':
        seed = parse_count("-s", value);
        break;
      case 'n':
        steps = parse_count("-n", value);
        break;
      case 'i':
        input = value;
        break;
      case 'o':
        output = value;
        break;
      case 'z':
        tokenizer_path = value;
        break;
      case 'm':
        mode = value;
        break;
      case 'y':
        instructions = value;
        break;
    }
  }
  const bool from_file = mode == "getp" || mode == "requests";
  if (mode != "generate" && mode != "chat" && !from_file)
    fatal("-m \"%s\": the modes are generate, chat, getp and requests" USAGE_HINT, mode.c_str());
  if (reasoning != "low" && reasoning != "medium" && reasoning != "high")
    fatal("--reasoning \"%s\": the levels are low, medium and high" USAGE_HINT, reasoning.c_str());
  if (from_file && (!input || !output))
    fatal("mode %s needs an input file (-i) and an output file (-o)" USAGE_HINT, mode.c_str());
  if (from_file && (same_file(output, model_path) || same_file(output, tokenizer_path)))
    fatal("%s: the output (-o) is the model or the tokenizer itself; choose another output", output);
  if (mode == "requests") {
    copy_requests(input, output);
    return EXIT_SUCCESS;
  }
  if (seed == 0) seed = (unsigned long long)time(nullptr);

  Transformer transformer;
  build_transformer(&transformer, model_path);
  const unsigned long long seq_len = transformer.config.seq_len;
  if (steps == 0 || steps > seq_len) steps = seq_len;
  Tokenizer tokenizer;
  read_tokenizer(&tokenizer, tokenizer_path, transformer.config.vocab_size);
  Sampler sampler;
  build_sampler(&sampler, transformer.config.vocab_size, temperature, topp, seed);

  if (mode == "generate")
    generate(&transformer, &tokenizer, &sampler, input, (int)steps);
  else if (mode == "chat")
    chat(&transformer, &tokenizer, &sampler, input, instructions, reasoning.c_str(), (int)steps);
  else
    getp(&transformer, &tokenizer, &sampler, input, output, (int)steps);
  if (mode != "getp") finish(&transformer, &tokenizer);  // getp times it

  free_sampler(&sampler);
  free_tokenizer(&tokenizer);
  free_transformer(&transformer);
  return EXIT_SUCCESS;
}

#endif  // TESTING
