// Streams that execute nothing until something waits for it. A copy or launch is queued with what it must come after;
// only a synchronisation executes it, and all that it needs, in a seeded order. So a program that reads a result
// without waiting for it never finds it, and work of two streams that no event orders really happens in another order.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace amdsim {

struct Operation {
  std::function<void()> run;
  std::vector<std::shared_ptr<Operation>> after;  // must be done first
  enum State : uint8_t { queued, running, done } state = queued;
  std::thread::id thread;  // that runs it
  std::chrono::steady_clock::time_point ended;
};
using OperationPointer = std::shared_ptr<Operation>;

struct Stream {
  int device;
  bool is_null, blocking;  // blocking: ordered with the null stream of its device
  std::deque<OperationPointer> pending;
};

// The null streams of all devices; called once before any other function of this header.
void streams_init(int devices, uint64_t seed);
Stream *null_stream(int device);
Stream *stream_create(int device, bool blocking);
void stream_destroy(Stream *stream);  // its work is done

// Queues `run` behind all that the stream's rules put before it, and behind `also_after` (nullptr: nothing).
OperationPointer issue(Stream *stream, std::function<void()> run, OperationPointer also_after = nullptr);

// Executes an operation and what it comes after; returns when all of that is done. Any number of threads may wait.
void complete(const OperationPointer &operation);
void complete_stream(Stream *stream);
void complete_device(int device);
void complete_all();

bool is_done(const OperationPointer &operation);

// For queries: whether it is done; when it is not, one operation nearer to it is executed.
bool poll(const OperationPointer &operation);
bool poll_stream(Stream *stream);

}  // namespace amdsim
