// Upload of the weights: memory-mapped file -> pinned staging buffers -> devices, several CPU threads at once.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "../device_structs.hpp"

namespace getp_hip {

// A stretch of a tensor: `rows` rows of n values, about as many as fit into a staging buffer.
struct UploadChunk {
  const float *h_from;
  size_t rows;
  int n;
  bool rounded;  // to BF16 first
  float *d_to;   // FP32, value for value; else, FP16 and scales:
  fp16 *d_values;
  float *d_scales;
};

inline constexpr size_t kUploadChunk = 4u << 20;  // elements: 16 MB of FP32

inline void add_chunks(std::vector<UploadChunk> &chunks, float *d_to, const float *h_from, size_t count) {
  for (size_t i = 0; i < count; i += kUploadChunk)
    chunks.push_back({h_from + i, std::min(kUploadChunk, count - i), 1, false, d_to + i, nullptr, nullptr});
}

// Chunks are whole strips of one matrix.
inline void add_chunks(std::vector<UploadChunk> &chunks, const DeviceMatrix &matrix, const float *h_from, size_t) {
  const size_t n = matrix.n, d = matrix.d, step = std::max<size_t>(1, kUploadChunk / n / 16) * 16;
  for (size_t i = 0; i < matrix.count; i++)
    for (size_t row = 0; row < d; row += step) {
      const size_t first = i * d + row, rows = std::min(step, d - row);
      UploadChunk chunk = {h_from + first * n, rows, matrix.n, matrix.rounded, {}, {}, {}};
      if (matrix.in_fp16) {
        chunk.d_values = matrix.d_values + (i * matrix.padded_d() + row) * matrix.padded_n();
        chunk.d_scales = matrix.d_scales + first;
      } else {
        chunk.d_to = matrix.d_exact + first * n;
      }
      chunks.push_back(chunk);
    }
}

// Calls work(i) for all i < count on several CPU threads.
template <class Work>
inline void on_all_cores(size_t count, Work work) {
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < std::min<size_t>({16, count, std::max(1u, std::thread::hardware_concurrency())}); t++)
    threads.emplace_back([&] {
      for (size_t i; (i = next++) < count;) work(i);
    });
  for (std::thread &thread : threads) thread.join();
}

// Chooses the form of each matrix: FP16 where rows fall on 16 bytes and no value is changed by it.
inline void choose_forms(DeviceWeights &w, const Config &p, const TransformerWeights &h) {
  w.each(p, h, [](const char *, auto &field, const float *h_from, size_t) {
    if constexpr (std::is_same_v<decltype(field), DeviceMatrix &>) {
      const size_t n = field.n, rows_of_a_part = std::max<size_t>(1, kUploadChunk / n);
      field.in_fp16 = n % 8 == 0;
      if (!field.in_fp16 || field.rounded) return;
      std::atomic<bool> all_exact{true};
      on_all_cores((field.rows() + rows_of_a_part - 1) / rows_of_a_part, [&](size_t part) {
        std::vector<fp16> row(n);
        bool exact = all_exact;
        for (size_t r = part * rows_of_a_part; exact && r < std::min(field.rows(), (part + 1) * rows_of_a_part); r++)
          row_to_fp16(row.data(), h_from + r * n, (int)n, false, exact);
        if (!exact) all_exact = false;
      });
      field.in_fp16 = all_exact;
    }
  });
}

// A device, and its weights, which are allocated.
struct UploadTarget {
  int device;
  DeviceWeights *w;
};

// Uploads all weights of the model to all targets: each value is read and converted once. Shows progress on stderr if
// that is a terminal, and a line when done. Returns when everything has arrived.
inline void upload_weights(const std::vector<UploadTarget> &targets, const Config &p, const TransformerWeights &h) {
  std::vector<std::vector<UploadChunk>> chunks_of(targets.size());  // the same ones for each target
  size_t total = 0;
  for (size_t t = 0; t < targets.size(); t++)
    targets[t].w->each(p, h, [&](const char *, auto &d_to, const float *h_from, size_t count) {
      add_chunks(chunks_of[t], d_to, h_from, count);
      if (t == 0) total += count * sizeof(float);
    });
  const std::vector<UploadChunk> &chunks = chunks_of[0];
  const auto padded = [](size_t value, size_t unit) { return (value + unit - 1) / unit * unit; };
  size_t staging_size = 0;  // floats: all values, or FP16 values of whole tiles (half a float each) and a scale a row
  for (const UploadChunk &chunk : chunks)
    staging_size = std::max(staging_size, padded(chunk.rows, 16) * padded(chunk.n, 32));
  const std::vector<int> word_of = weight_words();
  std::atomic<size_t> next{0}, done{0};
  auto work = [&] {
    std::vector<hipStream_t> streams(targets.size());
    const auto on_each_target = [&](auto action) {
      for (size_t t = 0; t < targets.size(); t++) {
        HIP_CHECK(hipSetDevice(targets[t].device));
        action(t);
      }
    };
    on_each_target([&](size_t t) { HIP_CHECK(hipStreamCreate(&streams[t])); });
    float *staging = pinned_alloc<float>(staging_size);
    std::vector<fp16> strip;
    for (size_t c; (c = next++) < chunks.size();) {
      const UploadChunk &chunk = chunks[c];
      const size_t n = chunk.n, count = chunk.rows * n;
      if (chunk.d_to) {
        for (size_t i = 0; i < count; i++)
          staging[i] = chunk.rounded ? to_float(to_bf16(chunk.h_from[i])) : chunk.h_from[i];
        on_each_target([&](size_t t) { copy_to_device(chunks_of[t][c].d_to, staging, count, streams[t]); });
      } else {
        bool exact;
        const size_t padded_n = padded(n, 32), padded_rows = padded(chunk.rows, 16);
        fp16 *values = (fp16 *)staging;
        float *scales = (float *)(values + padded_rows * padded_n);
        memset(values, 0, padded_rows * padded_n * sizeof(fp16));
        strip.assign(16 * padded_n, fp16{0});
        for (size_t r = 0; r < chunk.rows; r++) {
          scales[r] =
              row_to_fp16(strip.data() + r % 16 * padded_n, chunk.h_from + r * n, chunk.n, chunk.rounded, exact);
          if (r % 16 == 15 || r + 1 == chunk.rows)
            lay_out_strip(values + r / 16 * 16 * padded_n, strip.data(), (int)(r % 16) + 1, padded_n, word_of.data());
        }
        on_each_target([&](size_t t) {
          copy_to_device(chunks_of[t][c].d_values, values, padded_rows * padded_n, streams[t]);
          copy_to_device(chunks_of[t][c].d_scales, scales, chunk.rows, streams[t]);
        });
      }
      on_each_target([&](size_t t) { HIP_CHECK(hipStreamSynchronize(streams[t])); });
      done += count * sizeof(float);
    }
    pinned_free(staging, staging_size);
    on_each_target([&](size_t t) { HIP_CHECK(hipStreamDestroy(streams[t])); });
  };
  const size_t thread_count = std::min<size_t>({16, chunks.size(), std::max(1u, std::thread::hardware_concurrency())});
  std::vector<std::thread> threads;
  for (size_t i = 0; i < thread_count; i++) threads.emplace_back(work);
  const auto seconds = [start = std::chrono::steady_clock::now()] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const bool terminal = isatty(STDERR_FILENO);
  while (terminal && done < total) {
    fprintf(stderr, "\rloading weights: %.1f of %.1f GB, %.1f GB/s ", (double)done / 1e9, (double)total / 1e9,
            (double)done / 1e9 / seconds());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  for (std::thread &thread : threads) thread.join();
  fprintf(stderr, "%sweights loaded: %.3f GB of FP32 in %.1f s\n", terminal ? "\r\033[K" : "", (double)total / 1e9,
          seconds());
}

}  // namespace getp_hip
