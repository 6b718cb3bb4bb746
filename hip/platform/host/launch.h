// Launches on the host back end: all blocks of a grid over the CPU threads, each checked, and device memory after them.
#pragma once

#include <chrono>
#include <tuple>
#include <utility>

#include "device.h"

namespace getp_host {

inline thread_local hipError_t last_error = hipSuccess;
inline thread_local int current_device = 0;

// What the checks found last, as it was printed; tests read it.
inline thread_local std::string last_fault;

inline hipError_t failed(hipError_t error) { return last_error = error; }

inline hipError_t fault(hipError_t error, const std::string &what) {
  last_fault = what;
  fprintf(stderr, "error: host back end: %s\n", what.c_str());
  return failed(error);
}

// Runs all blocks of a launch over the CPU threads; the first fault, lowest block first found, ends it.
inline void launch(const char *kernel, dim3 grid, dim3 block, const Body &body) {
  const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, threads = (uint64_t)block.x * block.y * block.z;
  if (blocks == 0 || threads == 0 || threads > kMaxBlock || grid.x * threads > UINT32_MAX || grid.y > 65535 ||
      grid.z > 65535) {
    fault(hipErrorInvalidConfiguration, format("kernel %s: invalid grid (%u, %u, %u) or block (%u, %u, %u)", kernel,
                                               grid.x, grid.y, grid.z, block.x, block.y, block.z));
    return;
  }
  const Options &settings = options();
  static std::atomic<uint64_t> launches{0};  // on the last device
  if (settings.fail && current_device == settings.devices - 1 && ++launches == settings.fail) {
    fault(hipErrorLaunchFailure, format("kernel %s fails because GETP_HOST_FAIL asks for it", kernel));
    return;
  }
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string what;
  const auto run_blocks = [&](BlockRunner &runner, uint64_t at_a_time, const auto &enough) {
    for (uint64_t first; !failed && !enough() && (first = next.fetch_add(at_a_time)) < blocks;)
      for (uint64_t b = first; b < std::min(blocks, first + at_a_time) && !failed; b++) {
        const dim3 index((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y));
        std::string found = runner.run(body, grid, block, index, settings.wave, settings.shared_limit(), settings.seed);
        if (found.empty()) continue;
        std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true))
          what = format("kernel %s, block (%u, %u, %u): %s", kernel, index.x, index.y, index.z, found.c_str());
      }
  };
  // Waking a CPU thread takes some ten microseconds: small launches end before they would have gained anything.
  const auto start = std::chrono::steady_clock::now();
  workers().run(1, [&](BlockRunner &runner) {
    run_blocks(runner, 1, [&] { return std::chrono::steady_clock::now() - start > std::chrono::microseconds(30); });
  });
  if (next < blocks && !failed)
    workers().run((int)std::min<uint64_t>(settings.threads, blocks - next), [&](BlockRunner &runner) {
      run_blocks(runner, std::max<uint64_t>(1, 512 / threads), [] { return false; });
    });
  if (what.empty()) {
    what = memory().check();
    if (!what.empty()) what = format("kernel %s: %s", kernel, what.c_str());
  }
  if (!what.empty()) fault(hipErrorLaunchFailure, what);
}

template <class... Parameters, class... Arguments>
void launch_kernel(const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments &&...arguments) {
  using Bound = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  const Bound bound{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  launch(name, grid, block,
         Body{[](const void *b) { std::apply(((const Bound *)b)->first, ((const Bound *)b)->second); }, &bound});
}

inline hipError_t copy(void *to, const void *from, size_t bytes, hipMemcpyKind kind) {
  if (kind != hipMemcpyDeviceToHost && !memory().holds(to, bytes))
    return fault(hipErrorInvalidValue, format("copy of %zu bytes to what is no device memory of that size", bytes));
  if (kind != hipMemcpyHostToDevice && !memory().holds(from, bytes))
    return fault(hipErrorInvalidValue, format("copy of %zu bytes from what is no device memory of that size", bytes));
  if (bytes) memmove(to, from, bytes);
  return hipSuccess;
}

}  // namespace getp_host
