// One device with a model on it: preflight, set-up, release.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "upload.hpp"

namespace getp_hip {

struct Device {
  int id = -1;
  hipStream_t stream = nullptr;
  DeviceWeights w = {};
  DeviceState s = {};
  float *h_logits = nullptr;  // (V), pinned
  int *h_step = nullptr;      // token and position of the step, pinned
  bool ready = false;

  static constexpr size_t kRows = 1;  // tokens a step

  static constexpr size_t kRuntime = 128u << 20;

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

  // Prints what the model needs against what the device has; ends the program if it does not fit.
  void preflight(const Config &p, const TransformerWeights &h) {
    HIP_REQUIRE(p.head_dim <= 256);  // attention_values
    size_t weights = 0, state = 0, cache = 0, free_bytes = 0, total_bytes = 0;
    w.each(p, h, [&](const char *, auto *field, const float *, size_t count) { weights += pages(field, count); });
    s.each(p, kRows, [&](const char *, auto *field, size_t count) { state += pages(field, count); });
    s.each_cache(p, [&](const char *, auto *field, size_t count) { cache += pages(field, count); });
    HIP_CHECK(hipMemGetInfo(&free_bytes, &total_bytes));
    hipDeviceProp_t properties = {};
    HIP_CHECK(hipGetDeviceProperties(&properties, id));
    const size_t needed = weights + state + cache + kRuntime;
    auto gb = [](size_t bytes) { return (double)bytes / 1e9; };
    fprintf(stderr,
            "device %d: %s (%s back end)\n"
            "  weights  %9.3f GB (w_mlp1, w_mlp2 in BF16)\n"
            "  state    %9.3f GB\n"
            "  KV cache %9.3f GB (%d layers x %d positions)\n"
            "  runtime  %9.3f GB (code and queues, estimated)\n"
            "  needed   %9.3f GB of %.3f GB free, %.3f GB in all\n",
            id, properties.name, getp_backend_name(), gb(weights), gb(state), gb(cache), p.n_layers, p.seq_len,
            gb(kRuntime), gb(needed), gb(free_bytes), gb(total_bytes));
    if (needed <= free_bytes) return;
    fprintf(stderr,
            "error: the model needs %.3f GB but device %d (%s) has %.3f GB free; free its memory, choose another with "
            "HIP_DEVICE_ID, or use a smaller model\n",
            gb(needed), id, properties.name, gb(free_bytes));
    exit(EXIT_FAILURE);
  }

  // Allocates everything on the device that HIP_DEVICE_ID names and uploads the model.
  void set_up(const Config &p, const TransformerWeights &h) {
    id = pick_device();
    preflight(p, h);
    HIP_CHECK(hipStreamCreate(&stream));
    w.each(p, h, [](const char *, auto *&field, const float *, size_t count) { allocate(field, count); });
    s.each(p, kRows, [](const char *, auto *&field, size_t count) { allocate(field, count); });
    s.each_cache(p, [](const char *, auto *&field, size_t count) { allocate(field, count); });
    h_logits = pinned_alloc<float>(p.vocab_size);
    h_step = pinned_alloc<int>(2);
    s.window = p.sliding_window;
    upload_weights(w, p, h);
    upload_angles(p);
    ready = true;
  }

  // Frees everything; ends the program if a byte is left.
  void release(const Config &p, const TransformerWeights &h) {
    if (!ready) return;
    HIP_CHECK(hipSetDevice(id));
    HIP_CHECK(hipStreamSynchronize(stream));
    w.each(p, h, [](const char *, auto *&field, const float *, size_t count) { device_free(field, count); });
    s.each(p, kRows, [](const char *, auto *&field, size_t count) { device_free(field, count); });
    s.each_cache(p, [](const char *, auto *&field, size_t count) { device_free(field, count); });
    pinned_free(h_logits, p.vocab_size);
    pinned_free(h_step, 2);
    HIP_CHECK(hipStreamDestroy(stream));
    ready = false;
    const size_t counted = bytes_in_use(), leaked = getp_report_leaks();
    if (counted == 0 && leaked == 0) return;
    fprintf(stderr, "error: finish left %zu bytes allocated (%zu by the back end's own list)\n", counted, leaked);
    exit(EXIT_FAILURE);
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
