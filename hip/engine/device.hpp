// One device with a model on it: preflight, set-up, release.
#pragma once

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "upload.hpp"

namespace getp_hip {

struct Device {
  int id = -1;
  hipStream_t stream = nullptr;
  DeviceWeights w = {};
  DeviceState s = {};
  BatchShape batch = {};
  float *h_logits = nullptr;     // (slots, V), pinned
  int *h_next_tokens = nullptr;  // (slots), pinned
  int *h_step = nullptr;         // (4, rows), pinned

  static constexpr size_t kRuntime = 128u << 20;
  static constexpr int kSlots = 32, kChunk = 32;  // sequences at a time, unless GETP_BATCH or memory says otherwise

  // Bytes of `count` elements of the field's type.
  template <class T>
  static size_t bytes_of(T *, size_t count) {
    return count * sizeof(T);
  }

  // The same in whole pages of 2 MiB, which is how drivers hand out device memory.
  template <class T>
  static size_t pages(T *field, size_t count) {
    constexpr size_t kPage = 2u << 20;
    return (bytes_of(field, count) + kPage - 1) / kPage * kPage;
  }

  static BatchShape shape(int slots, int chunk) { return {slots + chunk - 1, slots, chunk}; }

  // Bytes of state and KV cache.
  std::pair<size_t, size_t> batch_bytes(const Config &p, const BatchShape &b) {
    size_t state = 0, cache = 0;
    s.each(p, b, [&](const char *, auto *field, size_t count) { state += pages(field, count); });
    s.each_cache(p, b, [&](const char *, auto *field, size_t count) { cache += pages(field, count); });
    return {state, cache};
  }

  // GETP_BATCH, or kSlots; ends the program if the variable is no count of sequences.
  static int wanted_slots() {
    const char *text = getenv("GETP_BATCH");
    if (!text || !*text) return kSlots;
    char *end = nullptr;
    const long slots = strtol(text, &end, 10);
    if (*end || slots < 1 || slots > 32768) {
      fprintf(stderr, "error: GETP_BATCH=%s: expected how many requests to serve at a time, 1 to 32768\n", text);
      exit(EXIT_FAILURE);
    }
    return (int)slots;
  }

  // Chooses how many sequences to serve at a time, prints what the model needs against what the device has; ends the
  // program if not even one fits. With `one_sequence`: one, a token a step, whose cache keeps every position.
  void preflight(const Config &p, const TransformerWeights &h, bool one_sequence) {
    HIP_REQUIRE(p.head_dim <= 256);  // attention
    size_t weights = 0, free_bytes = 0, total_bytes = 0;
    w.each(p, h, [&](const char *, auto *field, const float *, size_t count) { weights += pages(field, count); });
    HIP_CHECK(hipMemGetInfo(&free_bytes, &total_bytes));
    hipDeviceProp_t properties = {};
    HIP_CHECK(hipGetDeviceProperties(&properties, id));
    size_t state = 0, cache = 0, needed = 0;
    // The expert kernels' grids hold 65,535 rows.
    const int most = 65535 / p.experts_per_token - kChunk;
    for (int slots = one_sequence ? 1 : std::min(wanted_slots(), most);; slots /= 2) {
      batch = one_sequence ? BatchShape{1, 1, p.seq_len} : shape(slots, kChunk);
      std::tie(state, cache) = batch_bytes(p, batch);
      needed = weights + state + cache + kRuntime;
      if (needed <= free_bytes || slots == 1) break;
    }
    auto gb = [](size_t bytes) { return (double)bytes / 1e9; };
    fprintf(stderr,
            "device %d: %s (%s back end)\n"
            "  weights  %9.3f GB (w_mlp1, w_mlp2 in BF16)\n"
            "  state    %9.3f GB (%d tokens a step)\n"
            "  KV cache %9.3f GB (%d requests at a time)\n"
            "  runtime  %9.3f GB (code and queues, estimated)\n"
            "  needed   %9.3f GB of %.3f GB free, %.3f GB in all\n",
            id, properties.name, getp_backend_name(), gb(weights), gb(state), batch.rows, gb(cache), batch.slots,
            gb(kRuntime), gb(needed), gb(free_bytes), gb(total_bytes));
    if (needed <= free_bytes) return;
    fprintf(stderr,
            "error: the model needs %.3f GB but device %d (%s) has %.3f GB free; free its memory, choose another with "
            "HIP_DEVICE_ID, or use a smaller model\n",
            gb(needed), id, properties.name, gb(free_bytes));
    exit(EXIT_FAILURE);
  }

  // Allocates everything on a device. The weights' values are upload_weights' business.
  void set_up(int device, const Config &p, const TransformerWeights &h, bool one_sequence) {
    id = device;
    HIP_CHECK(hipSetDevice(id));
    preflight(p, h, one_sequence);
    HIP_CHECK(hipStreamCreate(&stream));
    w.each(p, h, [](const char *, auto *&field, const float *, size_t count) { allocate(field, count); });
    s.each(p, batch, [](const char *, auto *&field, size_t count) { allocate(field, count); });
    s.each_cache(p, batch, [](const char *, auto *&field, size_t count) { allocate(field, count); });
    h_logits = pinned_alloc<float>((size_t)batch.slots * p.vocab_size);
    h_next_tokens = pinned_alloc<int>(batch.slots);
    h_step = pinned_alloc<int>(4 * (size_t)batch.rows);
    s.window = p.sliding_window < p.seq_len ? p.sliding_window : 0;  // a window over everything is none
    upload_angles(p);
  }

  // Frees everything.
  void release(const Config &p, const TransformerWeights &h) {
    HIP_CHECK(hipSetDevice(id));
    HIP_CHECK(hipStreamSynchronize(stream));
    w.each(p, h, [](const char *, auto *&field, const float *, size_t count) { device_free(field, count); });
    s.each(p, batch, [](const char *, auto *&field, size_t count) { device_free(field, count); });
    s.each_cache(p, batch, [](const char *, auto *&field, size_t count) { device_free(field, count); });
    pinned_free(h_logits, (size_t)batch.slots * p.vocab_size);
    pinned_free(h_next_tokens, batch.slots);
    pinned_free(h_step, 4 * (size_t)batch.rows);
    HIP_CHECK(hipStreamDestroy(stream));
  }

 private:
  template <class T>
  static void allocate(T *&field, size_t count) {
    field = device_alloc<T>(count);
  }

  // cos and sin of every position, from the harness, so that both forwards turn by the same values.
  void upload_angles(const Config &p) {
    const size_t half = p.head_dim / 2, count = (size_t)p.seq_len * half;
    std::vector<float> cosines(count), sines(count);
    for (int pos = 0; pos < p.seq_len; pos++)
      compute_cos_sin(pos, p.rope_theta, p.head_dim, p.rope_scaling_factor, p.initial_context_length, 32.0f, 1.0f,
                      cosines.data() + pos * half, sines.data() + pos * half);
    copy_to_device(s.cos_table, cosines.data(), count, stream);
    copy_to_device(s.sin_table, sines.data(), count, stream);
    HIP_CHECK(hipStreamSynchronize(stream));
  }
};

}  // namespace getp_hip
