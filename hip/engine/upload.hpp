// Upload of the weights: memory-mapped file -> pinned staging buffers -> devices, several CPU threads at once.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../kernels/split_terms.hip"
#include "finite.hpp"
#include "weights.hpp"

namespace getp_hip {

constexpr size_t kUploadElements = 4u << 20;  // of a stretch, at most or little more: 16 MB of FP32

// Where a stretch goes on one target: FP32 value for value; else FP16 and scales.
struct UploadPlace {
  size_t target;
  float *d_exact;
  fp16 *d_values;
  float *d_scales;
};

// A stretch of a tensor: `rows` rows of n values, about as many as fit into a staging buffer.
struct UploadStretch {
  const char *tensor;
  const float *h_from;
  size_t rows;
  int n;
  bool rounded;  // to BF16 first
  MatrixForm form;
  std::vector<UploadPlace> places;

  size_t count() const { return rows * n; }
};

// A device, and its weights, which are allocated.
struct UploadTarget {
  int device;
  DeviceWeights *w;
};

// What the targets own, cut into stretches: what several own is one stretch with as many places.
class UploadPlan {
 public:
  UploadPlan(const std::vector<UploadTarget> &targets, const Config &p, const HostWeights &h) {
    for (size_t t = 0; t < targets.size(); t++)
      targets[t].w->each(p, h, [&](const char *tensor, auto &field, const float *h_from, size_t count) {
        add(t, tensor, field, h_from, count);
      });
  }
  const std::vector<UploadStretch> &stretches() const { return stretches_; }

 private:
  void add(size_t target, const char *tensor, float *d_to, const float *h_from, size_t count) {
    for (size_t i = 0; i < count; i += kUploadElements)
      add({tensor, h_from + i, std::min(kUploadElements, count - i), 1, false, MatrixForm::kFp32, {}},
          {target, d_to + i, {}, {}});
  }

  // Stretches are whole strips of one matrix.
  void add(size_t target, const char *tensor, const DeviceMatrix &matrix, const float *h_from, size_t) {
    const size_t n = matrix.n, d = matrix.d, step = std::max<size_t>(1, kUploadElements / n / 16) * 16;
    for (size_t i = 0; i < matrix.count; i++)
      for (size_t row = 0; row < d; row += step) {
        const size_t first = i * d + row;
        UploadPlace place = {target, {}, {}, {}};
        if (matrix.form == MatrixForm::kFp32) {
          place.d_exact = matrix.d_exact + first * n;
        } else {
          place.d_values = matrix.d_values + (i * matrix.padded_d() + row) * matrix.padded_n();
          place.d_scales = matrix.d_scales + first;
        }
        add({tensor, h_from + first * n, std::min(step, d - row), matrix.n, matrix.rounded, matrix.form, {}}, place);
      }
  }

  void add(const UploadStretch &stretch, const UploadPlace &place) {
    const auto key = std::tuple(stretch.h_from, stretch.rows, stretch.n, stretch.rounded, stretch.form);
    const auto [known, is_new] = index_.emplace(key, stretches_.size());
    if (is_new) stretches_.push_back(stretch);
    stretches_[known->second].places.push_back(place);
  }

  std::vector<UploadStretch> stretches_;
  std::map<std::tuple<const float *, size_t, int, bool, MatrixForm>, size_t> index_;
};

// CPU threads for so many pieces of work: all cores, at most 16.
inline size_t upload_threads(size_t pieces) {
  return std::min<size_t>({16, pieces, std::max(1u, std::thread::hardware_concurrency())});
}

// Calls work(i) for all i < count on several CPU threads.
template <class Work>
inline void on_several_threads(size_t count, Work work) {
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < upload_threads(count); t++)
    threads.emplace_back([&] {
      for (size_t i; (i = next++) < count;) work(i);
    });
  for (std::thread &thread : threads) thread.join();
}

// Chooses the form of each matrix: FP16 where rows fall on 16 bytes and no value is changed by it.
inline void choose_forms(DeviceWeights &w, const Config &p, const HostWeights &h) {
  w.each(p, h, [](const char *, auto &field, const float *h_from, size_t) {
    if constexpr (std::is_same_v<decltype(field), DeviceMatrix &>) {
      const size_t n = field.n, rows_of_a_part = std::max<size_t>(1, kUploadElements / n);
      std::atomic<bool> all_exact{can_split(field.n)};
      if (all_exact && !field.rounded)
        on_several_threads((field.rows() + rows_of_a_part - 1) / rows_of_a_part, [&](size_t part) {
          std::vector<fp16> row(n);
          bool exact = all_exact;
          for (size_t r = part * rows_of_a_part; exact && r < std::min(field.rows(), (part + 1) * rows_of_a_part); r++)
            row_to_fp16(row.data(), h_from + r * n, (int)n, false, exact);
          if (!exact) all_exact = false;
        });
      field.form = all_exact ? MatrixForm::kFp16 : MatrixForm::kFp32;
    }
  });
}

// The first weight of the whole model that forward cannot compute with as it stands in the file, or null. Reads all of it.
inline const float *find_unusable(const Config &p, const HostWeights &h) {
  const float *found = nullptr;
  DeviceWeights all;
  all.own_layers(p, 0, p.n_layers);
  all.each(p, h, [&](const char *tensor, auto &, const float *weights, size_t count) {
    if (found) return;
    std::vector<const float *> of_parts((count + kUploadElements - 1) / kUploadElements);
    on_several_threads(of_parts.size(), [&](size_t part) {
      const size_t first = part * kUploadElements;
      of_parts[part] = first_unusable(tensor, weights + first, std::min(kUploadElements, count - first), false);
    });
    for (size_t part = of_parts.size(); part-- > 0;)
      if (of_parts[part]) found = of_parts[part];
  });
  return found;
}

// Writes a stretch as it lies on a device: FP32 values, or FP16 values of whole tiles, zero where there are none, and
// behind them the scales.
class StretchWriter {
 public:
  // Floats that a stretch takes.
  static size_t size(const UploadStretch &stretch) {
    return stretch.form == MatrixForm::kFp32 ? stretch.count() : padded_values(stretch) / 2 + stretch.rows;
  }
  static size_t padded_values(const UploadStretch &s) { return padded(s.rows, 16) * padded(s.n, 32); }

  // Returns the first weight that is unusable, or null: each is looked at while it is in the cache.
  const float *write(float *to, const UploadStretch &stretch) {
    const float *unusable = nullptr;
    const auto look = [&](const float *weights, size_t count) {
      if (!unusable) unusable = first_unusable(stretch.tensor, weights, count, stretch.rounded);
    };
    if (stretch.form == MatrixForm::kFp32) {
      constexpr size_t kBlock = 4096;
      for (size_t first = 0; first < stretch.count(); first += kBlock) {
        const size_t end = std::min(first + kBlock, stretch.count());
        for (size_t i = first; i < end; i++)
          to[i] = stretch.rounded ? to_float(to_bf16(stretch.h_from[i])) : stretch.h_from[i];
        look(stretch.h_from + first, end - first);
      }
      return unusable;
    }
    bool exact;
    const size_t n = stretch.n, padded_n = padded(n, 32);
    fp16 *values = (fp16 *)to;
    float *scales = to + padded_values(stretch) / 2;
    memset(values, 0, padded_values(stretch) * sizeof(fp16));
    strip_.assign(16 * padded_n, fp16{0});
    for (size_t r = 0; r < stretch.rows; r++) {
      scales[r] =
          row_to_fp16(strip_.data() + r % 16 * padded_n, stretch.h_from + r * n, stretch.n, stretch.rounded, exact);
      look(stretch.h_from + r * n, n);
      if (r % 16 == 15 || r + 1 == stretch.rows)
        lay_out_strip(values + r / 16 * 16 * padded_n, strip_.data(), (int)(r % 16) + 1, padded_n, word_of_.data());
    }
    return unusable;
  }

 private:
  static size_t padded(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

  std::vector<fp16> strip_;
  const std::vector<int> word_of_ = weight_words();
};

// Uploads to each target the weights that it owns; each value is read and converted once. Shows progress on stderr if
// that is a terminal, and a line when done. Returns when everything has arrived; ends the program at a weight that is no
// number, with its layer and tensor: the first in the order of upload, whatever thread comes upon one first.
inline void upload_weights(const std::vector<UploadTarget> &targets, const Config &p, const HostWeights &h) {
  const UploadPlan plan(targets, p, h);
  const std::vector<UploadStretch> &stretches = plan.stretches();
  size_t total = 0, staging_size = 0;  // bytes, floats
  for (const UploadStretch &stretch : stretches) {
    total += stretch.count() * sizeof(float);
    staging_size = std::max(staging_size, StretchWriter::size(stretch));
  }
  std::atomic<size_t> next{0}, done{0};
  std::atomic<bool> stopped{false};
  std::vector<const float *> unusable(stretches.size());
  const auto work = [&] {
    std::vector<hipStream_t> streams(targets.size());
    const auto on_target = [&](size_t t) {
      HIP_CHECK(hipSetDevice(targets[t].device));
      return t;
    };
    for (size_t t = 0; t < targets.size(); t++) HIP_CHECK(hipStreamCreate(&streams[on_target(t)]));
    float *staging = pinned_alloc<float>(staging_size);
    StretchWriter writer;
    for (size_t i; !stopped && (i = next++) < stretches.size();) {
      const UploadStretch &stretch = stretches[i];
      unusable[i] = writer.write(staging, stretch);
      if (unusable[i]) stopped = true;
      const size_t values = StretchWriter::padded_values(stretch);
      for (const UploadPlace &place : stretch.places) {
        const hipStream_t stream = streams[on_target(place.target)];
        if (place.d_exact) {
          copy_to_device(place.d_exact, staging, stretch.count(), stream);
        } else {
          copy_to_device(place.d_values, (const fp16 *)staging, values, stream);
          copy_to_device(place.d_scales, staging + values / 2, stretch.rows, stream);
        }
      }
      for (const UploadPlace &place : stretch.places) HIP_CHECK(hipStreamSynchronize(streams[on_target(place.target)]));
      done += stretch.count() * sizeof(float);
    }
    pinned_free(staging, staging_size);
    for (size_t t = 0; t < targets.size(); t++) HIP_CHECK(hipStreamDestroy(streams[on_target(t)]));
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < upload_threads(stretches.size()); i++) threads.emplace_back(work);
  const auto seconds = [start = std::chrono::steady_clock::now()] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const bool terminal = isatty(STDERR_FILENO);
  while (terminal && done < total && !stopped) {
    fprintf(stderr, "\rloading weights: %.1f of %.1f GB, %.1f GB/s ", (double)done / 1e9, (double)total / 1e9,
            (double)done / 1e9 / seconds());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  for (std::thread &thread : threads) thread.join();
  if (terminal) fputs("\r\033[K", stderr);
  for (const float *weight : unusable)
    if (weight) fail("not a number among the weights: %s", unusable_weight(p, h, weight).c_str());
  fprintf(stderr, "weights loaded: %.3f GB of FP32 in %.1f s\n", (double)total / 1e9, seconds());
}

}  // namespace getp_hip
