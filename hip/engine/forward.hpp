// forward() of run.cpp on a device, for all rows of a batch at once: embed, a block a layer, head.
#pragma once

#include <algorithm>
#include <vector>

#include "../kernels/embedding.hip"
#include "../kernels/linear.hip"
#include "../kernels/rmsnorm.hip"
#include "../kernels/rope.hip"
#include "../kernels/swiglu.hip"
#include "device.hpp"
#include "scheduler.hpp"

namespace getp_hip {

// What all parts of a step share: the batch, and its lists on the device.
struct Step {
  Device &device;
  const Batch &batch;
  const int rows, logit_rows;
  const int *d_tokens, *d_logit_rows;
  RowPlaces at;

  // Copies the lists.
  Step(Device &on, const Batch &of)
      : device(on), batch(of), rows((int)of.tokens.size()), logit_rows((int)of.logit_rows.size()) {
    HIP_REQUIRE(rows > 0 && rows <= device.batch.rows && logit_rows <= device.batch.slots);
    int *h_batch = device.h_batch;
    for (const std::vector<int> *each : {&batch.tokens, &batch.positions, &batch.slots, &batch.logit_rows})
      h_batch = std::copy(each->begin(), each->end(), h_batch);
    copy_to_device(device.s.batch, device.h_batch, h_batch - device.h_batch, device.stream);
    d_tokens = device.s.batch;
    at = {d_tokens + rows, d_tokens + 2 * rows, rows,
          *std::max_element(batch.positions.begin(), batch.positions.end())};
    d_logit_rows = d_tokens + 3 * rows;
  }

  template <class T>
  void see(Stage stage, int layer, const T *d_values) const {
    if (device.observer) device.observer->see(stage, layer, d_values, device.stream);
  }
};

// The residual stream, which crosses from one layer to the next: rows of x, to which a term may still be pending. The
// next norm adds it on its way, a kernel less; what crosses a device's border is closed first, with the same bits.
struct ResidualStream {
  float *d_x;
  Residual pending;

  void close(const Step &step) {
    if (pending.d_values) add_residual(d_x, pending, step.rows, step.device.p.hidden_dim, step.device.stream);
    pending = {};
  }
};

// Copies the tokens' embeddings into x.
inline ResidualStream embed(const Step &step) {
  const Device &device = step.device;
  embedding(device.s.x, device.w.token_embedding_table, step.d_tokens, step.rows, device.p.hidden_dim, device.stream);
  step.see(Stage::kEmbedding, 0, device.s.x);
  return {device.s.x, {}};
}

// Attention: norm, then query, key and value, rotated by position; key and value join the layer's cache.
inline void attention_block(const Step &step, const Layer &layer, ResidualStream &residual) {
  const Device &device = step.device;
  const Config &p = device.p;
  const DeviceState &s = device.s;
  const SplitRows split = device.split();
  const hipStream_t stream = device.stream;
  const int l = layer.index, rows = step.rows;
  rmsnorm(s.t, split, residual.d_x, residual.pending, layer.rms_attn_w, nullptr, rows, p.hidden_dim, stream);
  if (residual.pending.d_values) step.see(Stage::kMlpResidual, l - 1, residual.d_x);
  step.see(Stage::kAttentionNorm, l, s.t);
  linear(device.card, s.qkv, layer.w_qkv, layer.b_qkv, s.t, split, rows, stream);
  step.see(Stage::kQkv, l, s.qkv);
  rope(s.q, layer.cache, s.qkv, s.cos_table, s.sin_table, step.at, p.n_attn_heads, p.n_kv_heads, p.head_dim, stream);
  step.see(Stage::kQuery, l, s.q);
  step.see(Stage::kKey, l, layer.cache.d_keys + (size_t)(step.batch.positions[0] % layer.cache.length) * p.kv_dim());

  // even layers see the last sliding_window positions; each head's sink takes part in the softmax only
  attention(s.tb, s.att, s.q, layer.cache, layer.attn_sinks, step.at, p.n_attn_heads, p.n_kv_heads, p.head_dim, stream);
  step.see(Stage::kAttentionValues, l, s.tb);
  split_terms(split, s.tb, rows, p.attn_dim(), stream);
  linear(device.card, s.tb2, layer.w_o, layer.b_o, s.tb, split, rows, stream);
  step.see(Stage::kAttentionProjection, l, s.tb2);
  residual.pending = {s.tb2, nullptr, nullptr, 0};
}

// Mixture of experts: norm, then the router's k best experts, weighted by softmax over the k.
inline void expert_block(const Step &step, const Layer &layer, ResidualStream &residual) {
  const Device &device = step.device;
  const Config &p = device.p;
  const DeviceState &s = device.s;
  const SplitRows split = device.split();
  const hipStream_t stream = device.stream;
  const int l = layer.index, rows = step.rows, k = p.experts_per_token;
  rmsnorm(s.t, split, residual.d_x, residual.pending, layer.rms_ffn_w, nullptr, rows, p.hidden_dim, stream);
  step.see(Stage::kAttentionResidual, l, residual.d_x);
  step.see(Stage::kMlpNorm, l, s.t);
  linear(device.card, s.router_score, layer.w_router, layer.b_router, s.t, split, rows, stream);
  step.see(Stage::kRouter, l, s.router_score);
  topk(s.topk_v, s.topk_i, s.router_score, rows, p.n_experts, k, stream);
  step.see(Stage::kTopkIndex, l, s.topk_i);
  step.see(Stage::kTopkWeight, l, s.topk_v);

  // the chosen experts, a row each; a token alone has no expert twice, so that there is nothing to group
  ProductRows chosen;
  chosen.rows = rows * k;
  chosen.share = k;
  chosen.d_experts = s.topk_i;
  if (rows > 1)
    chosen.groups = expert_tiles({s.expert_tiles, s.expert_rows, s.expert_counts}, s.topk_i, rows * k, p.n_experts,
                                 plan_expert_tile_rows(layer.w_mlp1, layer.w_mlp2, rows * k, p.n_experts), stream);
  expert_linear(device.card, s.mlp1_out, layer.w_mlp1, layer.b_mlp1, s.t, split, chosen, stream);
  step.see(Stage::kMlp1, l, s.mlp1_out);
  const bool split_alone = layer.w_mlp2.form == MatrixForm::kFp16 && !device.observer;  // is all that is read
  swiglu(split_alone ? nullptr : s.gate_up, split, s.mlp1_out, rows * k, p.intermediate_dim, p.swiglu_limit, stream);
  step.see(Stage::kSwiglu, l, s.gate_up);
  chosen.share = 1;
  expert_linear(device.card, s.mlp2_out, layer.w_mlp2, layer.b_mlp2, s.gate_up, split, chosen, stream);
  step.see(Stage::kMlp2, l, s.mlp2_out);
  residual.pending = {s.mlp2_out, s.topk_v, s.topk_i, k};
}

// Final norm, logits and argmax of the rows after which a token is sampled.
inline void head(const Step &step, const ResidualStream &residual) {
  const Device &device = step.device;
  const Config &p = device.p;
  const DeviceState &s = device.s;
  const SplitRows split = device.split();
  const int rows = step.logit_rows;
  if (rows == 0) return;
  rmsnorm(s.t, split, residual.d_x, residual.pending, device.w.rms_out_w, step.d_logit_rows, rows, p.hidden_dim,
          device.stream);
  step.see(Stage::kMlpResidual, p.n_layers - 1, residual.d_x);  // not of tokens without logits: nobody needs theirs
  step.see(Stage::kFinalNorm, 0, s.t);
  linear(device.card, s.logits, device.w.out, nullptr, s.t, split, rows, device.stream);
  step.see(Stage::kLogits, 0, s.logits);
  argmax(s.next_tokens, s.argmax_parts, s.logits, rows, p.vocab_size, device.stream);
}

// forward() of run.cpp for all rows of a batch: tokens, each at its position of its slot's sequence. Positions of a slot
// must come in order, though several may come in one batch. A device that has the model's end leaves the logits of
// batch.logit_rows in s.logits and their argmaxes in s.next_tokens, another the closed residual stream in s.x, where one
// without the model's beginning finds it. Waits for nothing: the caller synchronises the stream before the next call.
inline void forward_rows(Device &device, const Batch &batch) {
  const Step step(device, batch);
  if (device.observer) device.observer->begin_step(batch.tokens[0], batch.positions[0]);
  ResidualStream residual = device.w.has_embedding ? embed(step) : ResidualStream{device.s.x, {}};
  for (const Layer &layer : device.w.layers) {
    attention_block(step, layer, residual);
    expert_block(step, layer, residual);
  }
  if (device.w.has_head)
    head(step, residual);
  else
    residual.close(step);
}

}  // namespace getp_hip
