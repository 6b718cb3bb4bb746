// The weights on a device: TransformerWeights of run.cpp with the tensors of each layer together.
//
// each() is the one list of the fields of a struct: preflight, allocation, upload, release and tools walk it.
// H hidden, V vocabulary, E experts, I intermediate, A = n_attn_heads * head_dim, KV = n_kv_heads * head_dim,
// Q = A + 2 * KV.
#pragma once

#include <vector>

#include "../device_matrix.hpp"
#include "../kv_cache.hpp"
#include "harness.hpp"

namespace getp_hip {

// A layer: what it computes with, and the keys and values that it has seen.
struct Layer {
  int index = 0;                // in the model
  float *rms_attn_w = nullptr;  // (H)
  DeviceMatrix w_qkv;           // (Q, H)
  float *b_qkv = nullptr;       // (Q)
  float *attn_sinks = nullptr;  // (n_attn_heads)
  DeviceMatrix w_o;             // (H, A)
  float *b_o = nullptr;         // (H)
  float *rms_ffn_w = nullptr;   // (H)
  DeviceMatrix w_router;        // (E, H)
  float *b_router = nullptr;    // (E)
  DeviceMatrix w_mlp1;          // (E, 2I, H), rounded to BF16
  float *b_mlp1 = nullptr;      // (E, 2I)
  DeviceMatrix w_mlp2;          // (E, H, I), rounded to BF16
  float *b_mlp2 = nullptr;      // (E, H)
  KvCache cache;                // lies in DeviceState's key_cache and value_cache

  // visit(name, device pointer or matrix by reference, host pointer, count of elements) for every field but the cache.
  template <class Visit>
  void each(const Config &p, const HostWeights &h, Visit visit) {
    const size_t H = p.hidden_dim, E = p.n_experts, I = p.intermediate_dim, A = p.attn_dim(), Q = p.qkv_dim();
    const size_t in_tensor = h.one_layer ? 0 : index;
    const auto own = [&](const char *name, auto &field, const float *h_tensor, size_t count) {
      visit(name, field, h_tensor ? h_tensor + in_tensor * count : nullptr, count);
    };
    own("rms_attn_w", rms_attn_w, h.rms_attn_w, H);
    own("w_qkv", w_qkv.shaped(1, Q, H), h.w_qkv, Q * H);
    own("b_qkv", b_qkv, h.b_qkv, Q);
    own("attn_sinks", attn_sinks, h.attn_sinks, p.n_attn_heads);
    own("w_o", w_o.shaped(1, H, A), h.w_o, H * A);
    own("b_o", b_o, h.b_o, H);
    own("rms_ffn_w", rms_ffn_w, h.rms_ffn_w, H);
    own("w_router", w_router.shaped(1, E, H), h.w_router, E * H);
    own("b_router", b_router, h.b_router, E);
    own("w_mlp1", w_mlp1.shaped(E, 2 * I, H, true), h.w_mlp1, E * 2 * I * H);
    own("b_mlp1", b_mlp1, h.b_mlp1, E * 2 * I);
    own("w_mlp2", w_mlp2.shaped(E, H, I, true), h.w_mlp2, E * H * I);
    own("b_mlp2", b_mlp2, h.b_mlp2, E * H);
  }
};

// What a device owns of a model: layers that follow each other, the embedding with the model's first layer, final norm
// and unembedding with its last.
struct DeviceWeights {
  bool has_embedding = false, has_head = false;
  DeviceMatrix token_embedding_table;  // (V, H)
  std::vector<Layer> layers;
  float *rms_out_w = nullptr;  // (H)
  DeviceMatrix out;            // (V, H)

  // To own layers [first, end) of the model.
  void own_layers(const Config &p, int first, int end) {
    has_embedding = first == 0;
    has_head = end == p.n_layers;
    layers.resize(end - first);
    for (int i = 0; i < end - first; i++) layers[i].index = first + i;
  }

  // See Layer::each; all fields that the device owns.
  template <class Visit>
  void each(const Config &p, const HostWeights &h, Visit visit) {
    const size_t V = p.vocab_size, H = p.hidden_dim;
    if (has_embedding)
      visit("token_embedding_table", token_embedding_table.shaped_table(V, H), h.token_embedding_table, V * H);
    for (Layer &layer : layers) layer.each(p, h, visit);
    if (!has_head) return;
    visit("rms_out_w", rms_out_w, h.rms_out_w, H);
    visit("out", out.shaped(1, V, H), h.out, V * H);
  }
};

}  // namespace getp_hip
