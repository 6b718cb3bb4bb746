// forward() of run.cpp on a device, for all rows of a batch at once: embed, a block a layer, head.
#pragma once

#include <algorithm>
#include <vector>

#include "../kernels/embedding.hip"
#include "../kernels/linear.hip"
#include "../kernels/page_table.hip"
#include "../kernels/rmsnorm.hip"
#include "../kernels/rope.hip"
#include "../kernels/swiglu.hip"
#include "device.hpp"
#include "scheduler.hpp"

namespace getp_hip {

// One batch on its way through the layers of a device.
class ForwardPass {
 public:
  // Copies the batch's lists to the device.
  ForwardPass(const Device &on, const Batch &of)
      : device(on), batch(of), rows((int)of.tokens.size()), logit_rows((int)of.logit_rows.size()) {
    const int changes = (int)batch.table_places.size();
    HIP_REQUIRE(rows > 0 && rows <= device.batch.rows && logit_rows <= device.batch.slots && changes <= rows);
    int *h_end = device.h_batch;
    for (const std::vector<int> *each :
         {&batch.tokens, &batch.positions, &batch.slots, &batch.logit_rows, &batch.table_places, &batch.table_pages})
      h_end = std::copy(each->begin(), each->end(), h_end);
    copy_to_device(s.batch, device.h_batch, h_end - device.h_batch, stream);
    d_tokens = s.batch;
    at = {d_tokens + rows, d_tokens + 2 * rows, rows,
          *std::max_element(batch.positions.begin(), batch.positions.end())};
    d_logit_rows = d_tokens + 3 * rows;
    if (changes > 0) {
      const int *d_places = d_logit_rows + logit_rows;
      change_pages(s.page_table, d_places, d_places + changes, changes, stream);
    }
    if (device.observer) device.observer->begin_step(batch.tokens[0], batch.positions[0]);
  }

  // Copies the tokens' embeddings into x.
  void embed() {
    embedding(s.x, device.w.token_embedding_table, d_tokens, rows, stream);
    see(Stage::kEmbedding, 0, s.x);
  }

  void block(const Layer &layer) {
    attention_block(layer);
    expert_block(layer);
  }

  // Final norm, logits and argmax of the rows after which a token is sampled.
  void head() {
    if (logit_rows == 0) return;
    rmsnorm(s.t, split, s.x, pending, device.w.rms_out_w, d_logit_rows, logit_rows, p.hidden_dim, stream);
    see(Stage::kMlpResidual, p.n_layers - 1, s.x);  // not of tokens without logits: nobody needs theirs
    see(Stage::kFinalNorm, 0, s.t);
    linear(device.card, s.logits, device.w.out, nullptr, s.t, split, logit_rows, stream);
    see(Stage::kLogits, 0, s.logits);
    argmax(s.next_tokens, s.argmax_parts, s.logits, logit_rows, p.vocab_size, stream);
  }

  // Adds the residual stream's pending term, with the bits that a norm would leave in x: for what crosses a device's
  // border.
  void close() {
    add_residual(s.x, pending, rows, p.hidden_dim, stream);
    see(Stage::kMlpResidual, device.w.layers.back().index, s.x);
    pending = {};
  }

 private:
  // Norm, then query, key and value, rotated by position; key and value join the layer's cache.
  void attention_block(const Layer &layer) {
    const int l = layer.index;
    const KvCache &cache = layer.cache;
    rmsnorm(s.t, split, s.x, pending, layer.rms_attn_w, nullptr, rows, p.hidden_dim, stream);
    if (pending.d_values) see(Stage::kMlpResidual, l - 1, s.x);
    see(Stage::kAttentionNorm, l, s.t);
    linear(device.card, s.qkv, layer.w_qkv, layer.b_qkv, s.t, split, rows, stream);
    see(Stage::kQkv, l, s.qkv);
    rope(s.q, cache, s.qkv, s.cos_table, s.sin_table, at, p.n_attn_heads, p.n_kv_heads, p.head_dim, stream);
    see(Stage::kQuery, l, s.q);
    // An observer follows one sequence, whose pages lie in order.
    see(Stage::kKey, l,
        cache.d_keys + (size_t)(cache.d_table ? batch.positions[0] : batch.positions[0] % cache.length) * p.kv_dim());

    // even layers see the last sliding_window positions; each head's sink takes part in the softmax only
    attention(s.tb, s.att, s.q, cache, layer.attn_sinks, at, p.n_attn_heads, p.n_kv_heads, p.head_dim, stream);
    see(Stage::kAttentionValues, l, s.tb);
    split_terms(split, s.tb, rows, p.attn_dim(), stream);
    linear(device.card, s.tb2, layer.w_o, layer.b_o, s.tb, split, rows, stream);
    see(Stage::kAttentionProjection, l, s.tb2);
    pending = {};
    pending.d_values = s.tb2;
  }

  // Mixture of experts: norm, then the router's k best experts, weighted by softmax over the k.
  void expert_block(const Layer &layer) {
    const int l = layer.index, k = p.experts_per_token;
    rmsnorm(s.t, split, s.x, pending, layer.rms_ffn_w, nullptr, rows, p.hidden_dim, stream);
    see(Stage::kAttentionResidual, l, s.x);
    see(Stage::kMlpNorm, l, s.t);
    linear(device.card, s.router_score, layer.w_router, layer.b_router, s.t, split, rows, stream);
    see(Stage::kRouter, l, s.router_score);
    topk(s.topk_v, s.topk_i, s.router_score, rows, p.n_experts, k, stream);
    see(Stage::kTopkIndex, l, s.topk_i);
    see(Stage::kTopkWeight, l, s.topk_v);

    ProductRows chosen;  // a row for each chosen expert
    chosen.rows = rows * k;
    chosen.share = k;
    chosen.d_experts = s.topk_i;
    chosen.groups = group_chosen(device.card, {s.expert_tiles, s.expert_rows, s.expert_counts}, layer.w_mlp1,
                                 layer.w_mlp2, s.topk_i, rows, k, p.n_experts, stream);
    expert_linear(device.card, s.mlp1_out, layer.w_mlp1, layer.b_mlp1, s.t, split, chosen, stream);
    see(Stage::kMlp1, l, s.mlp1_out);
    const bool split_alone = layer.w_mlp2.form != MatrixForm::kFp32 && !device.observer;  // is all that is read
    swiglu(split_alone ? nullptr : s.gate_up, split, s.mlp1_out, rows * k, p.intermediate_dim, p.swiglu_limit, stream);
    see(Stage::kSwiglu, l, s.gate_up);
    chosen.share = 1;
    chosen.experts_known = true;
    expert_linear(device.card, s.mlp2_out, layer.w_mlp2, layer.b_mlp2, s.gate_up, split, chosen, stream);
    see(Stage::kMlp2, l, s.mlp2_out);
    pending.d_values = s.mlp2_out;
    pending.d_weights = s.topk_v;
    pending.d_experts = s.topk_i;
    pending.k = k;
  }

  template <class T>
  void see(Stage stage, int layer, const T *d_values) const {
    if (device.observer) device.observer->see(stage, layer, d_values, stream);
  }

  const Device &device;
  const Batch &batch;
  const Config &p = device.p;
  const DeviceState &s = device.s;
  const SplitRows split = device.split();
  const hipStream_t stream = device.stream;
  const int rows, logit_rows;
  const int *d_tokens, *d_logit_rows;
  RowPlaces at;
  // What is still to be added to x, the residual stream, which crosses from one layer to the next. The next norm does it
  // on its way, a kernel less.
  Residual pending;
};

// forward() of run.cpp for all rows of a batch: tokens, each at its position of its slot's sequence. Positions of a slot
// must come in order, though several may come in one batch. A device that has the model's end leaves the logits of
// batch.logit_rows in s.logits and their argmaxes in s.next_tokens, another the closed residual stream in s.x, where one
// without the model's beginning finds it. Waits for nothing: the caller synchronises the stream before the next call.
inline void forward_rows(const Device &device, const Batch &batch) {
  ForwardPass pass(device, batch);
  if (device.w.has_embedding) pass.embed();
  for (const Layer &layer : device.w.layers) pass.block(layer);
  if (device.w.has_head)
    pass.head();
  else
    pass.close();
}

}  // namespace getp_hip
