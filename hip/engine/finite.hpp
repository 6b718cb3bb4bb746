// Weights and logits that are no numbers to compute with: how they are found, and what is said of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "../fail.hpp"
#include "weights.hpp"

namespace getp_hip {

// Whether no value is NaN or infinite, nor becomes so when `rounded` to BF16.
inline bool all_finite(const float *values, size_t count, bool rounded) {
  int32_t largest = 0;  // magnitude, whose bits ascend as it does: infinity and NaN come last
  for (size_t i = 0; i < count; i++) {
    int32_t bits;
    memcpy(&bits, values + i, sizeof bits);
    largest = std::max(largest, bits & 0x7fffffff);
  }
  return largest < (rounded ? 0x7f7f8000 : 0x7f800000);  // from 0x7f7f8000 on the nearest BF16 value is infinity
}

// The first of a tensor's weights that forward cannot compute with, or null. A sink of minus infinity is one that takes
// no part.
inline const float *first_unusable(const char *tensor, const float *weights, size_t count, bool rounded) {
  constexpr size_t kBlock = 4096;
  for (size_t first = 0; first < count; first += kBlock) {
    const float *const block = weights + first, *const end = block + std::min(kBlock, count - first);
    if (all_finite(block, end - block, rounded)) continue;
    for (const float *weight = block; weight < end; weight++)
      if (!all_finite(weight, 1, rounded) && !(*weight == -INFINITY && !strcmp(tensor, "attn_sinks"))) return weight;
  }
  return nullptr;
}

// Says which weight it is that first_unusable has found, and what to do: "layer 3, w_mlp1, index 5 is NaN; export ...".
inline std::string unusable_weight(const Config &p, const HostWeights &h, const float *weight) {
  std::string place;
  const auto look = [&](const char *name, auto &, const float *tensor, size_t count) {
    if (weight < tensor || weight >= tensor + count) return false;
    place = std::string(name) + ", index " + std::to_string(weight - tensor);
    return true;
  };
  DeviceWeights all;
  all.own_layers(p, 0, p.n_layers);
  all.each(p, h, look);
  for (Layer &layer : all.layers)
    layer.each(p, h, [&](auto &&...field) {
      if (look(field...)) place = "layer " + std::to_string(layer.index) + ", " + place;
    });
  if (std::isnan(*weight)) return place + " is NaN; export the model again";
  if (std::isinf(*weight)) return place + " is " + (*weight < 0 ? "minus " : "") + "infinity; export the model again";
  char value[32];
  snprintf(value, sizeof value, "%g", *weight);
  return place + " is " + value + ", infinite once rounded to BF16; GETP_CPU=1 computes without rounding";
}

// Whether a token can be sampled from logits: none is NaN, and the largest is finite.
inline bool are_usable(const float *logits, int n) {
  float largest = -INFINITY;
  bool none_is_nan = true;
  for (int i = 0; i < n; i++) {
    none_is_nan = none_is_nan && !std::isnan(logits[i]);
    largest = std::max(largest, logits[i]);
  }
  return none_is_nan && std::isfinite(largest);
}

}  // namespace getp_hip
