// What lives on a device: the mirrors of TransformerWeights and RunState in run.cpp, field for field.
//
// each() is the one list of a struct's fields: allocation, upload, preflight and release all walk it.
// L layers, H hidden, V vocabulary, E experts, I intermediate, A = n_attn_heads * head_dim,
// KV = n_kv_heads * head_dim, Q = A + 2 * KV, k = experts_per_token.
#pragma once

#include "device_matrix.hpp"
#include "kernels/argmax.hip"
#include "kernels/attention.hip"
#include "kernels/expert_tiles.hip"
#include "kernels/split_terms.hip"

namespace getp_hip {

struct DeviceWeights {
  float *token_embedding_table;  // (V, H)
  float *rms_attn_w;             // (L, H)
  float *rms_ffn_w;              // (L, H)
  DeviceMatrix w_qkv;            // (L, Q, H)
  DeviceMatrix w_o;              // (L, H, A)
  float *b_qkv;                  // (L, Q)
  float *b_o;                    // (L, H)
  float *attn_sinks;             // (L, n_attn_heads)
  DeviceMatrix w_router;         // (L, E, H)
  float *b_router;               // (L, E)
  DeviceMatrix w_mlp1;           // (L, E, 2I, H), rounded to BF16
  DeviceMatrix w_mlp2;           // (L, E, H, I), rounded to BF16
  float *b_mlp1;                 // (L, E, 2I)
  float *b_mlp2;                 // (L, E, H)
  float *rms_out_w;              // (H)
  DeviceMatrix out;              // (V, H)

  // visit(name, device pointer or matrix by reference, host pointer, count of elements) for every field.
  template <class Visit>
  void each(const Config &p, const TransformerWeights &h, Visit visit) {
    const size_t V = p.vocab_size, H = p.hidden_dim, L = p.n_layers, E = p.n_experts, I = p.intermediate_dim;
    const size_t A = (size_t)p.n_attn_heads * p.head_dim, Q = A + 2 * (size_t)p.n_kv_heads * p.head_dim;
    visit("token_embedding_table", token_embedding_table, h.token_embedding_table, V * H);
    visit("rms_attn_w", rms_attn_w, h.rms_attn_w, L * H);
    visit("rms_ffn_w", rms_ffn_w, h.rms_ffn_w, L * H);
    visit("w_qkv", w_qkv.shaped(L, Q, H), h.w_qkv, L * Q * H);
    visit("w_o", w_o.shaped(L, H, A), h.w_o, L * H * A);
    visit("b_qkv", b_qkv, h.b_qkv, L * Q);
    visit("b_o", b_o, h.b_o, L * H);
    visit("attn_sinks", attn_sinks, h.attn_sinks, L * p.n_attn_heads);
    visit("w_router", w_router.shaped(L, E, H), h.w_router, L * E * H);
    visit("b_router", b_router, h.b_router, L * E);
    visit("w_mlp1", w_mlp1.shaped(L * E, 2 * I, H, true), h.w_mlp1, L * E * 2 * I * H);
    visit("w_mlp2", w_mlp2.shaped(L * E, H, I, true), h.w_mlp2, L * E * H * I);
    visit("b_mlp1", b_mlp1, h.b_mlp1, L * E * 2 * I);
    visit("b_mlp2", b_mlp2, h.b_mlp2, L * E * H);
    visit("rms_out_w", rms_out_w, h.rms_out_w, H);
    visit("out", out.shaped(1, V, H), h.out, V * H);
  }
};

// How many tokens go through the kernels at once, and where each sequence keeps its keys and values.
struct BatchShape {
  int rows;       // tokens of a step, at most
  int slots;      // sequences at a time; also rows of logits
  int chunk;      // prompt tokens of one sequence in a step, at most
  int positions;  // tokens of a sequence, at most

  // Positions that layer l sees, 0 for all: a window over everything is none.
  int window(const Config &p, int l) const { return l % 2 == 0 && p.sliding_window < positions ? p.sliding_window : 0; }

  // Positions that a slot keeps in layer l. Even layers see the last sliding_window positions only, so they keep a
  // ring: the window and the rest of the longest chunk, whose first rows still need the old keys.
  int cache_length(const Config &p, int l) const {
    return window(p, l) > 0 ? std::min(positions, p.sliding_window + chunk - 1) : positions;
  }

  // Where layer l begins in the cache, in floats: layers of (slots, length, KV) one behind the other.
  size_t cache_offset(const Config &p, int l) const {
    const size_t even = (size_t)(l + 1) / 2, odd = (size_t)l / 2;
    const auto floats = [&](int length) {  // of a layer, which begins on 16 bytes
      return ((size_t)length * slots * p.n_kv_heads * p.head_dim + 3) / 4 * 4;
    };
    return even * floats(cache_length(p, 0)) + odd * floats(positions);
  }
};

// Per-row buffers have room for BatchShape::rows rows; per-expert buffers have a row for each chosen expert.
struct DeviceState {
  float *x;                  // (rows, H) the residual stream
  float *t;                  // (rows, H) its norm
  float *tb;                 // (rows, A) attention output
  float *tb2;                // (rows, k, H) outputs of the experts; of attention's projection (rows, H)
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
  float *qkv;                // (rows, Q)
  float *q;                  // (rows, A)
  float *att;                // (rows, n_attn_heads, chunks of positions, 2 + head_dim): attention's partial sums
  float *logits;             // (slots, V)
  TopkKey *argmax_parts;     // (slots, kArgmaxParts)
  int *next_tokens;          // (slots) argmax of each row of logits
  float *key_cache;          // layers of (slots, positions, KV), see BatchShape
  float *value_cache;        // the same
  float *cos_table;          // (seq_len, head_dim / 2), what the host's compute_cos_sin gives
  float *sin_table;          // (seq_len, head_dim / 2)
  int *step;                 // (4, rows): token, position and slot of each row; rows whose logits are wanted

  // visit(name, device pointer by reference, count of elements) for every field but the KV cache.
  template <class Visit>
  void each(const Config &p, const BatchShape &b, Visit visit) {
    const size_t V = p.vocab_size, H = p.hidden_dim, E = p.n_experts, I = p.intermediate_dim, K = p.experts_per_token;
    const size_t A = (size_t)p.n_attn_heads * p.head_dim, KV = (size_t)p.n_kv_heads * p.head_dim, Q = A + 2 * KV;
    const size_t angles = (size_t)p.seq_len * (p.head_dim / 2), rows = b.rows, slots = b.slots;
    visit("x", x, rows * H);
    visit("t", t, rows * H);
    visit("tb", tb, rows * A);
    visit("tb2", tb2, rows * K * H);
    visit("router_score", router_score, rows * E);
    visit("topk_v", topk_v, rows * K);
    visit("topk_i", topk_i, rows * K);
    visit("expert_tiles", expert_tiles, expert_tile_count((int)(rows * K), (int)E, kSmallestTile));
    visit("expert_rows", expert_rows, rows * K);
    visit("expert_counts", expert_counts, E);
    const size_t split =
        std::max<size_t>({(size_t)split_pitch((int)H), (size_t)split_pitch((int)A), K * split_pitch((int)I)});
    visit("hi", hi, rows * split);
    visit("lo", lo, rows * split);
    visit("split_scales", split_scales, rows * K);
    visit("mlp1_out", mlp1_out, rows * K * 2 * I);
    visit("gate_up", gate_up, rows * K * I);
    visit("qkv", qkv, rows * Q);
    visit("q", q, rows * A);
    visit("att", att, rows * p.n_attn_heads * attention_chunks(p.seq_len - 1, 0) * ((size_t)p.head_dim + 2));
    visit("logits", logits, slots * V);
    visit("argmax_parts", argmax_parts, slots * kArgmaxParts);
    visit("next_tokens", next_tokens, slots);
    visit("cos_table", cos_table, angles);
    visit("sin_table", sin_table, angles);
    visit("step", step, 4 * rows);
  }
};

}  // namespace getp_hip
