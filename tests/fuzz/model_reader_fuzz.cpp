// build_transformer on any model.bin: one line, or a model of which the reference computes a step. Where the first byte
// after the header is odd, the file is made as long as its header asks for, with zeros.
#include "fuzzing.hpp"

#include "../harness_alone.hpp"
#include "../../tokenizer.cpp"

float *forward_hip(Transformer *, int, int) { return nullptr; }
long long inference(Transformer *, Tokenizer *, Sampler *, Requests *) { return 0; }

// Floats of a model, and of its cache and scores, that are still tried.
constexpr int64_t kMost = 1 << 17;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static MemoryFile file;
  size_t file_size = size;
  bool refused = size < sizeof(Config);
  if (size >= sizeof(Config)) {
    Config config;
    memcpy(&config, data, sizeof config);
    try {
      check_config(&config, "header");
      const int64_t state = int64_t{config.n_layers} * config.seq_len * kv_dim(&config) +
                            int64_t{config.n_attn_heads} * (config.seq_len + 1);
      if (state > kMost || model_file_size(&config) > kMost * (int64_t)sizeof(float)) return 0;
      if (size > sizeof config && data[sizeof config] % 2) file_size = (size_t)model_file_size(&config);
    } catch (Refused) {
      refused = true;
    }
  }
  file.set(data, size < file_size ? size : file_size, file_size);
  Transformer transformer = {};
  transformer.fd = -1;
  try {
    build_transformer(&transformer, file.path());
  } catch (Refused) {
    if (transformer.fd >= 0) close(transformer.fd);
    return 0;
  }
  require(!refused, "a header that is refused by itself is refused in a file");
  const Config &config = transformer.config;
  const float *end = transformer.weights.b_mlp2 + int64_t{config.n_layers} * config.n_experts * config.hidden_dim;
  require((const char *)end == (const char *)transformer.data + transformer.file_size, "weights end with the file");
  for (const int position : {0, 1, config.seq_len - 1})
    if (position < config.seq_len) forward(&transformer, config.vocab_size - 1, position);
  free_transformer(&transformer);
  return 0;
}
