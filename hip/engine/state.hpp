// What a step computes with on a device: RunState of run.cpp for many rows at a time, and how many there are.
#pragma once

#include <algorithm>

#include "../kernels/argmax.hip"
#include "../kernels/attention.hip"
#include "../kernels/expert_tiles.hip"
#include "../kernels/split_terms.hip"
#include "harness.hpp"

namespace getp_hip {

// How many tokens go through the kernels at once, and how long sequences are.
struct BatchShape {
  int rows = 0;         // tokens of a step, at most
  int slots = 0;        // sequences at a time; also rows of logits
  int prompt_rows = 0;  // prompt tokens of one sequence in a step, at most
  int positions = 0;    // tokens of a sequence, at most
  int pages = 0;        // of each layer that sees everything

  int pages_of_slot() const { return (positions + kPagePositions - 1) / kPagePositions; }

  // The cache of a layer, but for where it lies. A layer with a window keeps a ring: the window and the rest of the
  // most prompt tokens, whose first still need the old keys. A window over everything is none.
  KvCache cache(const Config &p, int layer) const {
    KvCache cache;
    cache.window = p.window(layer) < positions ? p.window(layer) : 0;
    if (cache.window > 0) {
      cache.length = std::min(positions, cache.window + prompt_rows - 1);
    } else {
      cache.length = std::min(positions, kPagePositions);
      cache.pages_of_slot = pages_of_slot();
    }
    return cache;
  }
  // Floats of a layer's keys (or values); each layer's begin on 16 bytes.
  size_t cache_floats(const Config &p, int layer) const {
    const KvCache own = cache(p, layer);
    return ((size_t)own.length * (own.pages_of_slot ? pages : slots) * p.kv_dim() + 3) / 4 * 4;
  }
};

// Fields bear the names of RunState where they hold the same. Those of rows have room for BatchShape::rows, those of
// chosen experts a row for each of a row's k = experts_per_token. H hidden, V vocabulary, E experts, I intermediate,
// A = n_attn_heads * head_dim, KV = n_kv_heads * head_dim, Q = A + 2 * KV.
struct DeviceState {
  float *x;                  // (rows, H) the residual stream
  float *t;                  // (rows, H) its norm
  float *tb;                 // (rows, A) attention output
  float *tb2;                // (rows, H) attention's projection
  float *router_score;       // (rows, E)
  float *topk_v;             // (rows, k)
  int *topk_i;               // (rows, k)
  ExpertTile *expert_tiles;  // rows of topk_i grouped by expert
  int *expert_rows;          // (rows, k)
  int *expert_counts;        // (E)
  fp16 *hi;                  // the rows that the next product takes, split in two terms:
  fp16 *lo;                  // (rows, H), (rows, A) or (rows, k, I)
  float *split_scales;       // (rows, k)
  float *mlp1_out;           // (rows, k, 2I)
  float *gate_up;            // (rows, k, I)
  float *mlp2_out;           // (rows, k, H) outputs of the experts
  float *qkv;                // (rows, Q)
  float *q;                  // (rows, A)
  float *att;                // (rows, n_attn_heads, spans of positions, 2 + head_dim): attention's partial sums
  float *logits;             // (slots, V)
  TopkKey *argmax_parts;     // (slots, kArgmaxParts)
  int *next_tokens;          // (slots) argmax of each row of logits
  float *key_cache;          // room for the keys of all layers, which point into it
  float *value_cache;        // the same
  float *cos_table;          // (seq_len, head_dim / 2), what the harness's compute_cos_sin gives
  float *sin_table;          // (seq_len, head_dim / 2)
  int *batch;       // (6, rows): token, position and slot of each row; rows whose logits are wanted; places and
                    // pages that change in page_table
  int *page_table;  // (slots, pages of a sequence), see KvCache

  // visit(name, device pointer by reference, count of elements) for every field but the KV cache.
  template <class Visit>
  void each(const Config &p, const BatchShape &b, Visit visit) {
    const size_t V = p.vocab_size, H = p.hidden_dim, E = p.n_experts, I = p.intermediate_dim, K = p.experts_per_token;
    const size_t A = p.attn_dim(), Q = p.qkv_dim(), rows = b.rows, slots = b.slots;
    const size_t angles = (size_t)p.seq_len * (p.head_dim / 2);
    visit("x", x, rows * H);
    visit("t", t, rows * H);
    visit("tb", tb, rows * A);
    visit("tb2", tb2, rows * H);
    visit("router_score", router_score, rows * E);
    visit("topk_v", topk_v, rows * K);
    visit("topk_i", topk_i, rows * K);
    visit("expert_tiles", expert_tiles, expert_tile_count((int)(rows * K), (int)E, kMatvecTile));
    visit("expert_rows", expert_rows, rows * K);
    visit("expert_counts", expert_counts, E);
    const size_t split =
        std::max<size_t>({(size_t)split_pitch((int)H), (size_t)split_pitch((int)A), K * split_pitch((int)I)});
    visit("hi", hi, rows * split);
    visit("lo", lo, rows * split);
    visit("split_scales", split_scales, rows * K);
    visit("mlp1_out", mlp1_out, rows * K * 2 * I);
    visit("gate_up", gate_up, rows * K * I);
    visit("mlp2_out", mlp2_out, rows * K * H);
    visit("qkv", qkv, rows * Q);
    visit("q", q, rows * A);
    visit("att", att, rows * p.n_attn_heads * attention_spans(p.seq_len - 1, 0) * ((size_t)p.head_dim + 2));
    visit("logits", logits, slots * V);
    visit("argmax_parts", argmax_parts, slots * kArgmaxParts);
    visit("next_tokens", next_tokens, slots);
    visit("cos_table", cos_table, angles);
    visit("sin_table", sin_table, angles);
    visit("batch", batch, 6 * rows);
    visit("page_table", page_table, slots * ((p.seq_len + kPagePositions - 1) / kPagePositions));
  }
};

}  // namespace getp_hip
