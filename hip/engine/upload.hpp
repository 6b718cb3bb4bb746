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

// Where a stretch goes on one target: FP32 or BF16 value for value; else units and scales.
struct UploadPlace {
  size_t target;
  float *d_exact;
  bf16 *d_bf16;
  uint4 *d_units;
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
  size_t strip_units;     // of a strip, where it is written as strips
  const uint4 *h_units;   // of a packed one, ready to go: units
  const float *h_scales;  // and scales
  std::vector<UploadPlace> places;

  size_t count() const { return rows * n; }
  size_t units() const { return (rows + 15) / 16 * strip_units; }
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
      add({tensor, h_from + i, std::min(kUploadElements, count - i), 1, false, MatrixForm::kFp32, 0, {}, {}, {}},
          {target, d_to + i, {}, {}, {}});
  }

  // Stretches are whole strips of one matrix.
  void add(size_t target, const char *tensor, const DeviceMatrix &matrix, const float *h_from, size_t) {
    const size_t n = matrix.n, d = matrix.d, step = std::max<size_t>(1, kUploadElements / n / 16) * 16;
    const bool strips = matrix.form == MatrixForm::kFp16 || matrix.form == MatrixForm::kMxfp4;
    for (size_t i = 0; i < matrix.count; i++)
      for (size_t row = 0; row < d; row += step) {
        const size_t first = i * d + row;
        UploadStretch stretch = {
            tensor, h_from + first * n, std::min(step, d - row), matrix.n, matrix.rounded, matrix.form, 0, {}, {}, {}};
        UploadPlace place = {target, {}, {}, {}, {}};
        if (strips) {
          const size_t unit = (i * matrix.strips() + row / 16) * matrix.strip_units();
          stretch.strip_units = matrix.strip_units();
          place.d_units = matrix.d_units + unit;
          place.d_scales = matrix.d_scales + first;
          if (matrix.h_packed) {
            stretch.h_units = matrix.h_packed->units.get() + unit;
            stretch.h_scales = matrix.h_packed->scales.data() + first;
          }
        } else if (matrix.form == MatrixForm::kBf16) {
          place.d_bf16 = matrix.d_bf16 + first * n;
        } else {
          place.d_exact = matrix.d_exact + first * n;
        }
        add(stretch, place);
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

// Whether fits(row) for all rows of a matrix, on several CPU threads; those of a part come in ascending order.
template <class Fits>
inline bool all_rows(const DeviceMatrix &w, Fits fits) {
  const size_t rows_of_a_part = std::max<size_t>(1, kUploadElements / w.n);
  std::atomic<bool> all{true};
  on_several_threads((w.rows() + rows_of_a_part - 1) / rows_of_a_part, [&](size_t part) {
    const size_t end = std::min(w.rows(), (part + 1) * rows_of_a_part);
    for (size_t r = part * rows_of_a_part; all && r < end; r++)
      if (!fits(r)) all = false;
  });
  return all;
}

// A matrix in MXFP4, or none if a value is not of that form. Reads no more than the first strip of those that show it there.
inline std::shared_ptr<PackedMatrix> packed_in_mxfp4(DeviceMatrix w, const float *h_from) {
  if (w.n % kMxfp4Group != 0) return nullptr;
  w.form = MatrixForm::kMxfp4;
  const size_t d = w.d, n = w.n, strips = w.strips(), strip_units = w.strip_units();
  const auto packed = std::make_shared<PackedMatrix>();
  // Strip `strip` of all matrices'.
  const auto pack = [&](Mxfp4Packer &packer, size_t strip) {
    const size_t first = strip / strips * d + strip % strips * 16, rows = std::min<size_t>(16, d - strip % strips * 16);
    for (size_t r = 0; r < rows; r++)
      if (!packer.take((int)r, h_from + (first + r) * n, w.rounded, packed->scales[first + r])) return false;
    packer.write(packed->units.get() + strip * strip_units, (int)rows);
    return true;
  };
  try {
    packed->scales.resize(w.rows());
    packed->units.reset(new uint4[w.unit_count()]);
  } catch (const std::bad_alloc &) {
    fail_program(
        "no main memory to pack weights in: %.1f GB more are asked for; the experts of 20b take 11 GB while they are "
        "loaded, those of 120b 63 GB",
        (double)w.bytes() / 1e9);
  }
  Mxfp4Packer first_packer(w.n);
  std::atomic<bool> all{pack(first_packer, 0)};
  const size_t strips_of_a_part = std::max<size_t>(1, kUploadElements / n / 16), count = w.count * strips;
  if (all)
    on_several_threads((count + strips_of_a_part - 1) / strips_of_a_part, [&](size_t part) {
      Mxfp4Packer packer(w.n);
      const size_t end = std::min(count, (part + 1) * strips_of_a_part);
      for (size_t strip = part * strips_of_a_part; all && strip < end; strip++)
        if (!pack(packer, strip)) all = false;
    });
  return all ? packed : nullptr;
}

// Chooses the form of each matrix: the smallest that changes no value. MXFP4 is packed in host memory on that way, so that
// the file is read once; FP16 is for rows that fall on 16 bytes.
inline void choose_forms(DeviceWeights &w, const Config &p, const HostWeights &h) {
  w.each(p, h, [](const char *, auto &field, const float *h_from, size_t) {
    if constexpr (std::is_same_v<decltype(field), DeviceMatrix &>) {
      const size_t n = field.n;
      if (field.looked_up) {
        const bool exact = all_rows(field, [&](size_t r) { return row_is_bf16(h_from + r * n, (int)n); });
        field.form = exact ? MatrixForm::kBf16 : MatrixForm::kFp32;
        return;
      }
      field.h_packed = packed_in_mxfp4(field, h_from);
      if (field.h_packed) {
        field.form = MatrixForm::kMxfp4;
        return;
      }
      bool exact = can_split(field.n);
      if (exact && !field.rounded)
        exact = all_rows(field, [&](size_t r) {
          thread_local std::vector<fp16> row;
          bool row_is_exact = true;
          row.resize(n);
          row_to_fp16(row.data(), h_from + r * n, (int)n, false, row_is_exact);
          return row_is_exact;
        });
      field.form = exact ? MatrixForm::kFp16 : MatrixForm::kFp32;
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

// Writes a stretch as it lies on a device: FP32 or BF16 values, or units of whole strips, zero where there are none, and
// behind them the scales.
class StretchWriter {
 public:
  // Floats that a stretch takes.
  static size_t size(const UploadStretch &stretch) {
    if (stretch.strip_units) return stretch.units() * 4 + stretch.rows;
    return stretch.form == MatrixForm::kBf16 ? (stretch.count() + 1) / 2 : stretch.count();
  }

  // Returns the first weight that is unusable, or null: each is looked at while it is in the cache.
  const float *write(float *to, const UploadStretch &stretch) {
    const float *unusable = nullptr;
    const auto look = [&](const float *weights, size_t count) {
      if (!unusable) unusable = first_unusable(stretch.tensor, weights, count, stretch.rounded);
    };
    float *scales = to + stretch.units() * 4;
    if (stretch.h_units) {
      memcpy(to, stretch.h_units, stretch.units() * sizeof(uint4));
      memcpy(scales, stretch.h_scales, stretch.rows * sizeof(float));
      return nullptr;
    }
    if (!stretch.strip_units) {
      constexpr size_t kBlock = 4096;
      for (size_t first = 0; first < stretch.count(); first += kBlock) {
        const size_t end = std::min(first + kBlock, stretch.count());
        for (size_t i = first; i < end; i++) {
          if (stretch.form == MatrixForm::kBf16)
            ((bf16 *)to)[i] = to_bf16(stretch.h_from[i]);
          else
            to[i] = stretch.rounded ? to_float(to_bf16(stretch.h_from[i])) : stretch.h_from[i];
        }
        look(stretch.h_from + first, end - first);
      }
      return unusable;
    }
    bool exact;
    const size_t n = stretch.n, padded_n = stretch.strip_units / 2;
    fp16 *values = (fp16 *)to;
    memset(to, 0, stretch.units() * sizeof(uint4));
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
      const size_t units = stretch.units();
      for (const UploadPlace &place : stretch.places) {
        const hipStream_t stream = streams[on_target(place.target)];
        if (place.d_exact) {
          copy_to_device(place.d_exact, staging, stretch.count(), stream);
        } else if (place.d_bf16) {
          copy_to_device(place.d_bf16, (const bf16 *)staging, stretch.count(), stream);
        } else {
          copy_to_device(place.d_units, (const uint4 *)staging, units, stream);
          copy_to_device(place.d_scales, staging + units * 4, stretch.rows, stream);
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
  for (const UploadTarget &target : targets)
    target.w->each(p, h, [](const char *, auto &field, const float *, size_t) {
      if constexpr (std::is_same_v<decltype(field), DeviceMatrix &>) field.h_packed = nullptr;
    });
  if (terminal) fputs("\r\033[K", stderr);
  for (const float *weight : unusable)
    if (weight) fail("not a number among the weights: %s", unusable_weight(p, h, weight).c_str());
  fprintf(stderr, "weights loaded: %.3f GB of FP32 in %.1f s\n", (double)total / 1e9, seconds());
}

}  // namespace getp_hip
