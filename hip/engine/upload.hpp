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

// A stretch of a tensor, small enough for a staging buffer.
struct UploadChunk {
  const float *h_from;
  void *d_to;
  size_t count;
  bool to_bf16;  // else FP32, value for value
};

inline constexpr size_t kUploadChunk = 4u << 20;  // elements: 16 MB of FP32

inline void add_chunks(std::vector<UploadChunk> &chunks, float *d_to, const float *h_from, size_t count) {
  for (size_t i = 0; i < count; i += kUploadChunk)
    chunks.push_back({h_from + i, d_to + i, std::min(kUploadChunk, count - i), false});
}
inline void add_chunks(std::vector<UploadChunk> &chunks, bf16 *d_to, const float *h_from, size_t count) {
  for (size_t i = 0; i < count; i += kUploadChunk)
    chunks.push_back({h_from + i, d_to + i, std::min(kUploadChunk, count - i), true});
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
    targets[t].w->each(p, h, [&](const char *, auto *&d_to, const float *h_from, size_t count) {
      add_chunks(chunks_of[t], d_to, h_from, count);
      if (t == 0) total += count * sizeof(float);
    });
  const std::vector<UploadChunk> &chunks = chunks_of[0];
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
    float *staging = pinned_alloc<float>(kUploadChunk);
    for (size_t c; (c = next++) < chunks.size();) {
      const UploadChunk &chunk = chunks[c];
      size_t bytes = chunk.count * sizeof(float);
      if (chunk.to_bf16) {
        bf16 *rounded = (bf16 *)staging;
        for (size_t i = 0; i < chunk.count; i++) rounded[i] = to_bf16(chunk.h_from[i]);
        bytes = chunk.count * sizeof(bf16);
      } else {
        memcpy(staging, chunk.h_from, bytes);
      }
      on_each_target(
          [&](size_t t) { copy_to_device((char *)chunks_of[t][c].d_to, (const char *)staging, bytes, streams[t]); });
      on_each_target([&](size_t t) { HIP_CHECK(hipStreamSynchronize(streams[t])); });
      done += chunk.count * sizeof(float);
    }
    pinned_free(staging, kUploadChunk);
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
