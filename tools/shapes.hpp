// Shapes of models: the header of model.bin, field for field.
#pragma once

#include <cstdint>
#include <string>

struct Shape {
  int32_t vocab_size, hidden_dim, n_experts, experts_per_token, intermediate_dim, n_layers, head_dim, n_attn_heads,
      n_kv_heads, seq_len, initial_context_length;
  float rope_theta, rope_scaling_factor;
  int32_t sliding_window;
  float swiglu_limit;
};
static_assert(sizeof(Shape) == 60, "15 fields of 4 bytes");

//                               V       H     E    k  I     L  hd  q  kv seq   context theta   factor win limit
inline constexpr Shape kTiny = {512, 96, 8, 4, 96, 4, 32, 6, 2, 160, 4096, 150000, 32, 24, 7};
inline constexpr Shape k7m = {201088, 32, 32, 4, 64, 2, 32, 2, 1, 2048, 4096, 150000, 32, 128, 7};
inline constexpr Shape k20b = {201088, 2880, 32,   4,      2880, 24,  64, 64,
                               8,      2048, 4096, 150000, 32,   128, 7};  // gpt-oss-20b
inline constexpr Shape k120b = {201088, 2880, 128, 4, 2880, 36, 64, 64, 8, 2048, 4096, 150000, 32, 128, 7};  // -120b

// One of these, or null.
inline const Shape *find_shape(const std::string &name) {
  return name == "tiny" ? &kTiny : name == "7m" ? &k7m : name == "20b" ? &k20b : name == "120b" ? &k120b : nullptr;
}
