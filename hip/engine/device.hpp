// One device with a model on it: preflight, set-up, release.
#pragma once

#include <algorithm>
#include <climits>
#include <numeric>
#include <string>
#include <vector>

#include "../gpt_oss.hpp"
#include "../kernels/matmul.hip"
#include "stages.hpp"
#include "state.hpp"
#include "weights.hpp"

namespace getp_hip {

struct Device {
  int id = -1;
  Card card = {};
  hipStream_t stream = nullptr;
  Config p;
  DeviceWeights w;
  DeviceState s = {};
  BatchShape batch;  // as it is used now; buffers have room for most_slots slots
  int most_slots = 0;
  bool one_sequence = false;          // whose cache keeps every position
  size_t cache_floats = 0;            // of s.key_cache, and of s.value_cache
  bool pages_are_fixed = false;       // as use_positions leaves them
  int terms = 2;                      // FP16 terms of an activation in products: 2 are FP32 grade, 1 is the fast mode
  StageObserver *observer = nullptr;  // who looks at the stages of a step, if anybody does
  float *h_logits = nullptr;          // (host_logits(), V), pinned
  int *h_next_tokens = nullptr;       // (slots), pinned
  int *h_batch = nullptr;             // (6, rows), pinned

  static constexpr size_t kRuntime = 128u << 20;
  static constexpr int kPromptRows = 32;
  static_assert(kPromptRows <= kPagePositions, "a step gives a sequence one page at most");
  static constexpr int kLikelyPages = 4;  // of a request whose limit is more than twice as far

  // Bytes of `count` elements of the field's type, or of a matrix.
  template <class T>
  static size_t bytes_of(T *, size_t count) {
    return count * sizeof(T);
  }
  static size_t bytes_of(const DeviceMatrix &matrix, size_t) { return matrix.bytes(); }

  // The same in whole pages of 2 MiB, which is how drivers hand out device memory; small pieces share a page.
  static size_t pages(size_t bytes) {
    constexpr size_t kPage = 2u << 20, kSmall = kPage / 2;
    return bytes < kSmall ? (bytes + 511) / 512 * 512 : (bytes + kPage - 1) / kPage * kPage;
  }

  // Of so many slots with pages for sequences of full length.
  BatchShape shape(int slots, int positions) const {
    BatchShape of = {one_sequence ? 1 : slots + batch.prompt_rows - 1, slots, batch.prompt_rows, positions};
    of.pages = slots * of.pages_of_slot();
    return of;
  }

  // Bytes of the state for so many slots.
  size_t state_bytes(int slots) {
    size_t bytes = 0;
    s.each(p, shape(slots, p.seq_len),
           [&](const char *, auto *field, size_t count) { bytes += pages(bytes_of(field, count)); });
    return bytes;
  }

  // Floats of the keys (or values) of all layers.
  size_t cache_count(const BatchShape &of) const {
    size_t floats = 0;
    for (const Layer &layer : w.layers) floats += of.cache_floats(p, layer.index);
    return floats;
  }
  size_t cache_count(int slots, int positions) const { return cache_count(shape(slots, positions)); }

  // The largest number from 1 to `most`, of slots or pages, that fits(number); 0 if none.
  template <class Fits>
  static int most_that(int most, Fits fits) {
    int low = 0;
    for (int high = most; low < high;) {
      const int middle = low + (high - low + 1) / 2;
      if (fits(middle))
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }

  // From now on sequences have at most `positions` tokens: the shorter, the more of them at a time. Each slot has the pages
  // of a sequence of full length.
  void use_positions(int positions) {
    positions = std::min(positions, p.seq_len);
    if (pages_are_fixed && positions == batch.positions) return;
    use_shape(shape(most_that(most_slots, [&](int slots) { return cache_count(slots, positions) <= cache_floats; }),
                    positions));
    if (!s.page_table) return;  // not yet set up
    pages_are_fixed = true;
    std::vector<int> table(batch.pages);
    std::iota(table.begin(), table.end(), 0);
    copy_to_device(s.page_table, table.data(), table.size(), stream);
    HIP_CHECK(hipStreamSynchronize(stream));
  }

  // The same for at most `requests` sequences at a time that may end before, and get pages as they grow, from Scheduler: as
  // many slots as leave half the pages of full length to each, or kLikelyPages, and pages where what is left of the memory of
  // the caches. Where all reach full length, some slots, and their rings, are not used.
  void use_growing(int positions, int requests) {
    positions = std::min(positions, p.seq_len);
    const auto with_pages = [&](int slots, int pages) {
      BatchShape of = shape(slots, positions);
      of.pages = std::min(pages, of.pages);
      return of;
    };
    const int of_slot = with_pages(1, INT_MAX).pages_of_slot();
    const int slots = most_that(std::min(most_slots, std::max(1, requests)), [&](int some) {
      return cache_count(with_pages(some, std::max(of_slot, some * std::min((of_slot + 1) / 2, kLikelyPages)))) <=
             cache_floats;
    });
    const int pages =
        most_that(slots * of_slot, [&](int some) { return cache_count(with_pages(slots, some)) <= cache_floats; });
    HIP_REQUIRE(slots > 0 && pages >= of_slot);
    use_shape(with_pages(slots, pages));
    pages_are_fixed = false;
  }

  // Lays out the caches.
  void use_shape(const BatchShape &of) {
    batch = of;
    size_t at = 0;
    for (Layer &layer : w.layers) {
      layer.cache = batch.cache(p, layer.index);
      if (layer.cache.pages_of_slot) layer.cache.d_table = s.page_table;
      layer.cache.d_keys = s.key_cache + at;
      layer.cache.d_values = s.value_cache + at;
      at += batch.cache_floats(p, layer.index);
    }
  }

  // Rows of logits that the host takes at a time, where it samples.
  int host_logits() const { return std::min(most_slots, 32); }

  // GETP_BATCH, or what suits the back end.
  static int wanted_slots() {
    return (int)environment_number("GETP_BATCH", kDefaultBatch, 1, 32768,
                                   "how many requests to serve at a time, 1 to 32768");
  }

  // FP16 terms of an activation in products, as GETP_FAST asks for.
  static int wanted_terms() {
    return environment_flag("GETP_FAST", "1 (activations in one FP16 term) or 0 (in two, FP32 grade)") ? 1 : 2;
  }

  // The rows that the next product takes, split.
  SplitRows split() const { return {s.hi, s.lo, s.split_scales, terms}; }

  // "MXFP4", or "FP16, rounded to BF16", or where matrices differ "MXFP4 and FP16, rounded to BF16".
  std::string forms_of_experts() const {
    std::string names;
    bool rounded = false;
    for (MatrixForm form : {MatrixForm::kMxfp4, MatrixForm::kFp16, MatrixForm::kFp32}) {
      if (!std::any_of(w.layers.begin(), w.layers.end(),
                       [&](const Layer &layer) { return layer.w_mlp1.form == form || layer.w_mlp2.form == form; }))
        continue;
      names += (names.empty() ? "" : " and ") + std::string(name_of(form));
      rounded = form != MatrixForm::kMxfp4;  // BF16 holds what is packed
    }
    return names + (rounded ? ", rounded to BF16" : "");
  }

  // Chooses how many sequences to serve at a time, prints what the device's part of the model needs against what it
  // has; fails if not even one fits. With `one_sequence`: one, a token a step, whose cache keeps every position.
  void preflight(const HostWeights &h) {
    size_t weights = 0;
    w.each(p, h,
           [&](const char *, auto &field, const float *, size_t count) { weights += pages(bytes_of(field, count)); });
    const auto [free_bytes, total_bytes] = device_memory();
    const size_t used = weights + kRuntime, room = free_bytes > used ? free_bytes - used : 0;
    const size_t state = choose_slots(room), cache = cache_bytes(cache_floats), needed = used + state + cache;
    use_positions(p.seq_len);
    hipDeviceProp_t properties = {};
    HIP_CHECK(hipGetDeviceProperties(&properties, id));
    auto gb = [](size_t bytes) { return (double)bytes / 1e9; };
    fprintf(stderr,
            "device %d: %s (%s back end)\n"
            "  weights  %9.3f GB (experts in %s)\n"
            "  state    %9.3f GB (%d requests at a time, %d tokens a step%s)\n"
            "  KV cache %9.3f GB (%d requests of %d tokens)\n"
            "  runtime  %9.3f GB (code and queues, estimated)\n"
            "  needed   %9.3f GB of %.3f GB free, %.3f GB in all\n",
            id, properties.name, getp_backend_name(), gb(weights), forms_of_experts().c_str(), gb(state), most_slots,
            shape(most_slots, 1).rows, terms == 1 ? "; GETP_FAST: one FP16 term" : "", gb(cache), batch.slots,
            batch.positions, gb(kRuntime), gb(needed), gb(free_bytes), gb(total_bytes));
    if (needed > free_bytes)
      fail(
          "the model needs %.3f GB but device %d (%s) has %.3f GB free; free its memory, choose another with "
          "HIP_DEVICE_ID, say with GETP_MEMORY=24G that more is free there, or use a smaller model",
          gb(needed), id, properties.name, gb(free_bytes));
  }

  // Allocates everything on a device, or fails; what release is then called for. What of the model w owns, and in which
  // forms, is chosen before; the values are upload_weights' business.
  void set_up(int device, const Config &config, const HostWeights &h, bool alone) {
    id = device;
    p = config;
    one_sequence = alone;
    HIP_CHECK(hipSetDevice(id));
    card = current_card();
    terms = wanted_terms();
    preflight(h);
    prepare_matmul(card);
    HIP_CHECK(hipStreamCreate(&stream));
    w.each(p, h, [](const char *, auto &field, const float *, size_t count) { allocate(field, count); });
    const BatchShape most = shape(most_slots, p.seq_len);
    s.each(p, most, [](const char *, auto &field, size_t count) { allocate(field, count); });
    allocate(s.key_cache, cache_floats);
    allocate(s.value_cache, cache_floats);
    h_logits = pinned_alloc<float>((size_t)host_logits() * p.vocab_size);
    h_next_tokens = pinned_alloc<int>(most.slots);
    h_batch = pinned_alloc<int>(6 * (size_t)most.rows);
    use_positions(p.seq_len);
    upload_angles();
  }

  // Frees everything that set_up took, also where that failed on its way.
  void release() {
    HIP_CHECK(hipSetDevice(id));
    HIP_CHECK(hipStreamSynchronize(stream));
    w.each(p, {}, [](const char *, auto &field, const float *, size_t count) { release(field, count); });
    const BatchShape most = shape(most_slots, p.seq_len);
    s.each(p, most, [](const char *, auto &field, size_t count) { release(field, count); });
    release(s.key_cache, cache_floats);
    release(s.value_cache, cache_floats);
    pinned_free(h_logits, (size_t)host_logits() * p.vocab_size);
    pinned_free(h_next_tokens, most.slots);
    pinned_free(h_batch, 6 * (size_t)most.rows);
    if (stream) HIP_CHECK(hipStreamDestroy(stream));
  }

 private:
  static size_t cache_bytes(size_t floats) { return 2 * pages(floats * sizeof(float)); }

  // Sets most_slots and cache_floats to what fits into `room` bytes, or to the least that is needed; returns the bytes
  // of the state.
  size_t choose_slots(size_t room) {
    batch.prompt_rows = one_sequence ? p.seq_len : kPromptRows;  // as long as the sequence: no layer's cache is a ring
    // The expert kernels' grids hold 65,535 rows.
    const int wanted = one_sequence ? 1 : std::min(wanted_slots(), 65535 / p.experts_per_token - kPromptRows);
    // A sequence of any length: those within a window keep pages there, too, which may take more than a ring.
    const size_t one =
        std::max(cache_count(1, p.seq_len), cache_count(1, std::min(p.seq_len, std::max(1, p.window(0)))));
    const int planned = std::min(p.seq_len, kPagePositions);  // how long sequences will be is not known yet
    most_slots = std::max(1, most_that(wanted, [&](int slots) {
                            const size_t least = std::max(cache_count(slots, planned), one);
                            return state_bytes(slots) + cache_bytes(least) <= room;
                          }));
    // All that is left, up to what the slots can use; one sequence of full length must fit.
    const size_t state = state_bytes(most_slots), left = room > state ? room - state : 0;
    size_t fits = left / 2 / sizeof(float);
    while (cache_bytes(fits) > left) fits -= std::min<size_t>(fits, 1u << 19);
    cache_floats = std::max(one, std::min(fits, cache_count(most_slots, p.seq_len)));
    return state;
  }

  template <class T>
  static void allocate(T *&field, size_t count) {
    field = device_alloc<T>(count);
  }
  static void allocate(DeviceMatrix &matrix, size_t) { matrix.allocate(); }
  template <class T>
  static void release(T *&field, size_t count) {
    device_free(field, count);
  }
  static void release(DeviceMatrix &matrix, size_t) { matrix.release(); }

  // cos and sin of every position, from the harness, so that both forwards turn by the same values.
  void upload_angles() {
    const size_t half = p.head_dim / 2, count = (size_t)p.seq_len * half;
    std::vector<float> cosines(count), sines(count);
    for (int pos = 0; pos < p.seq_len; pos++)
      compute_cos_sin(pos, p.rope_theta, p.head_dim, p.rope_scaling_factor, p.initial_context_length,
                      gpt_oss::kYarnBeta, gpt_oss::kYarnAlpha, cosines.data() + pos * half, sines.data() + pos * half);
    copy_to_device(s.cos_table, cosines.data(), count, stream);
    copy_to_device(s.sin_table, sines.data(), count, stream);
    HIP_CHECK(hipStreamSynchronize(stream));
  }
};

}  // namespace getp_hip
