// Virtual devices of the host back end: their memory, and the CPU threads that run blocks.
//
// Environment: GETP_HOST_DEVICES (count, 1), GETP_HOST_MEMORY (of each device: bytes, or with K, M, G, or
// a list of them; default: the machine's), GETP_HOST_WAVE (64 or 32), GETP_HOST_WMMA (1: waves of 32 have the tile layout of WMMA, not mma.sync's),
// GETP_HOST_SEED (0: threads in ascending order, else a random order drawn from it), GETP_HOST_THREADS (CPU threads,
// default: all), GETP_HOST_FAIL (which launch of the last device fails, counted from 1; 0: none).
#pragma once

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "../../environment.hpp"
#include "block.h"

namespace getp_host {

struct Options {
  int devices = 1, wave = 64, threads = 1;
  uint64_t seed = 0, fail = 0;
  bool wmma = false;             // waves of 32: the tile layout of WMMA instead of that of mma.sync
  std::vector<uint64_t> memory;  // bytes of each device; those beyond the list's end have as much as its last

  // Of the cards whose tiles are asked for (card.h).
  size_t shared_limit() const { return (wave == 64 || wmma ? 64 : 99) << 10; }
  uint64_t memory_of(int device) const { return memory[std::min((size_t)device, memory.size() - 1)]; }
};

inline Options &options() {
  static Options options = [] {
    using getp_hip::environment_number, getp_hip::environment_flag, getp_hip::environment_bytes_list;
    Options o;
    const size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    o.devices = (int)environment_number("GETP_HOST_DEVICES", 1, 1, 64);
    o.memory = environment_bytes_list("GETP_HOST_MEMORY", machine);
    o.wave = (int)environment_number("GETP_HOST_WAVE", 64, 32, 64, "32 or 64");
    if (o.wave != 32 && o.wave != 64) getp_hip::fail("GETP_HOST_WAVE=%d: expected 32 or 64", o.wave);
    o.wmma = environment_flag("GETP_HOST_WMMA", "1 (the tile layout of WMMA) or 0 (that of mma.sync)");
    o.seed = environment_number("GETP_HOST_SEED", 0, 0, UINT64_MAX);
    o.fail = environment_number("GETP_HOST_FAIL", 0, 0, UINT64_MAX);
    o.threads =
        (int)environment_number("GETP_HOST_THREADS", std::max(1u, std::thread::hardware_concurrency()), 1, 1024);
    return o;
  }();
  return options;
}

// Device memory: every allocation lies between guard bands and starts as NaN (all bits set).
class Memory {
 public:
  static constexpr size_t kGuard = 128;
  static constexpr unsigned char kPattern = 0xa5;

  void *allocate(int device, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t memory = options().memory_of(device);
    if (bytes > memory - std::min<uint64_t>(memory, used_[device])) return nullptr;
    unsigned char *block = (unsigned char *)aligned_alloc(kGuard, (bytes + kGuard - 1) / kGuard * kGuard + 2 * kGuard);
    if (!block) return nullptr;
    unsigned char *user = block + kGuard;
    memset(block, kPattern, kGuard);
    memset(user, 0xff, bytes);
    memset(user + bytes, kPattern, kGuard);
    protect(user, bytes, true);
    used_[device] += bytes;
    blocks_[user] = {bytes, device};
    return user;
  }

  // False when `pointer` is no live allocation.
  bool release(void *pointer) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto it = blocks_.find((unsigned char *)pointer);
    if (it == blocks_.end()) return false;
    protect(it->first, it->second.bytes, false);
    used_[it->second.device] -= it->second.bytes;
    free(it->first - kGuard);
    blocks_.erase(it);
    return true;
  }

  // Whether [pointer, pointer + bytes) lies within one allocation.
  bool holds(const void *pointer, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto it = blocks_.upper_bound((unsigned char *)pointer);
    if (it == blocks_.begin()) return false;
    --it;
    const size_t offset = (size_t)((unsigned char *)pointer - it->first);
    return offset <= it->second.bytes && bytes <= it->second.bytes - offset;
  }

  // Empty, or which guard band was written; the band is mended so that each fault is reported once.
  std::string check() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto &[user, block] : blocks_) {
      protect(user, block.bytes, false);
      std::string fault;
      for (bool after : {false, true}) {
        unsigned char *band = after ? user + block.bytes : user - kGuard;
        static const std::string intact(kGuard, (char)kPattern);
        if (memcmp(band, intact.data(), kGuard) == 0) continue;
        const size_t first = std::find_if(band, band + kGuard, [](unsigned char c) { return c != kPattern; }) - band;
        fault = after ? format("wrote %zu bytes past the end of an allocation of %zu bytes", first + 1, block.bytes)
                      : format("wrote %zu bytes before an allocation of %zu bytes", kGuard - first, block.bytes);
        memset(band, kPattern, kGuard);
      }
      protect(user, block.bytes, true);
      if (!fault.empty()) return fault;
    }
    return "";
  }

  size_t used(int device) {
    std::lock_guard<std::mutex> lock(mutex_);
    return used_[device];
  }

  // Bytes still allocated; says each allocation on stderr.
  size_t report_leaks() {
    std::lock_guard<std::mutex> lock(mutex_);
    size_t total = 0;
    for (auto &[user, block] : blocks_) {
      fprintf(stderr, "error: host back end: leak of %zu bytes on device %d\n", block.bytes, block.device);
      total += block.bytes;
    }
    return total;
  }

 private:
  struct Block {
    size_t bytes;
    int device;
  };

  // Under AddressSanitizer a read of a guard band is an error too, not only a write.
  static void protect(unsigned char *user, size_t bytes, bool on) {
#ifdef GETP_ASAN
    auto apply = on ? __asan_poison_memory_region : __asan_unpoison_memory_region;
    apply(user - kGuard, kGuard);
    apply(user + bytes, kGuard);
#else
    (void)user, (void)bytes, (void)on;
#endif
  }

  std::mutex mutex_;
  std::map<unsigned char *, Block> blocks_;
  size_t used_[64] = {};
};

inline Memory &memory() {
  static Memory memory;
  return memory;
}

// CPU threads that share the blocks of a launch; the calling thread works too.
class Workers {
 public:
  // Calls work(runner) here and on up to `count` - 1 other CPU threads, each with a BlockRunner of its own, and waits
  // for all that have begun: who has not by the time the caller is done would find nothing left.
  void run(int count, const std::function<void(BlockRunner &)> &work) {
    std::lock_guard<std::mutex> one_launch_at_a_time(launch_mutex_);
    while ((int)threads_.size() < count - 1) threads_.emplace_back([this] { loop(); });
    if (count > 1) {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      wanted_ = count - 1;
      generation_++;
    }
    if (count > 1) wake_.notify_all();
    if (!own_) own_ = std::make_unique<BlockRunner>();
    call(*own_, work);
    if (count == 1) return;
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;
    done_.wait(lock, [this] { return at_work_ == 0; });
  }

 private:
  static void call(BlockRunner &runner, const std::function<void(BlockRunner &)> &work) {
    current_block = &runner;
    work(runner);
    current_block = nullptr;
  }

  void loop() {
    BlockRunner runner;
    uint64_t seen = 0;
    while (true) {
      const std::function<void(BlockRunner &)> *work;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen && wanted_ > 0; });
        seen = generation_;
        work = work_;
        wanted_--;
        at_work_++;
      }
      call(runner, *work);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--at_work_ == 0) done_.notify_all();
    }
  }

  std::mutex launch_mutex_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  std::unique_ptr<BlockRunner> own_;
  const std::function<void(BlockRunner &)> *work_ = nullptr;
  uint64_t generation_ = 0;
  int wanted_ = 0, at_work_ = 0;  // helpers
};

// Never destroyed: its threads sleep until the process ends, so that any thread may call exit.
inline Workers &workers() {
  static Workers *workers = new Workers;
  return *workers;
}

}  // namespace getp_host
