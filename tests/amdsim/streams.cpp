#include "streams.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "fault.hpp"

namespace amdsim {
namespace {

// One mutex for all bookkeeping; operations are executed without it. Never destroyed: threads may outlive main.
struct Schedule {
  std::mutex mutex;
  std::condition_variable changed;  // an operation is done
  std::mt19937_64 random;
  std::vector<std::vector<Stream *>> streams;  // of each device; the first is its null stream
};
Schedule &schedule = *new Schedule;
using Lock = std::unique_lock<std::mutex>;

template <class T>
const T &any_of(const std::vector<T> &choices) {
  return choices[schedule.random() % choices.size()];
}

void forget_done(Stream *stream) {
  while (!stream->pending.empty() && stream->pending.front()->state == Operation::done) stream->pending.pop_front();
}

void run(Lock &lock, Operation &operation) {
  operation.state = Operation::running;
  operation.thread = std::this_thread::get_id();
  lock.unlock();
  operation.run();
  operation.run = nullptr;  // and what it captured
  lock.lock();
  operation.ended = std::chrono::steady_clock::now();
  operation.state = Operation::done;
  schedule.changed.notify_all();
}

// Executes what `target` needs, then `target`; with `one_step` a single operation of these at most.
void advance(Lock &lock, const OperationPointer &target, bool one_step) {
  // Each entry waits for the next one. Operations come after earlier ones only, so there is no cycle.
  std::vector<OperationPointer> path{target};
  while (!path.empty()) {
    Operation &operation = *path.back();
    if (operation.state == Operation::running) {
      if (operation.thread == std::this_thread::get_id()) fault("a function that a stream calls waits for that stream");
      if (one_step) return;
      schedule.changed.wait(lock);
      continue;
    }
    if (operation.state == Operation::done) {
      path.pop_back();
      continue;
    }
    std::erase_if(operation.after, [](const OperationPointer &other) { return other->state == Operation::done; });
    if (!operation.after.empty()) {
      path.push_back(any_of(operation.after));
      continue;
    }
    run(lock, operation);
    if (one_step) return;
  }
}

// Until nothing is pending, takes the first operation of any of the streams.
void drain(Lock &lock, const std::function<std::vector<Stream *>()> &streams) {
  while (true) {
    std::vector<Stream *> busy;
    for (Stream *stream : streams()) {
      forget_done(stream);
      if (!stream->pending.empty()) busy.push_back(stream);
    }
    if (busy.empty()) return;
    advance(lock, OperationPointer(any_of(busy)->pending.front()), false);
  }
}

}  // namespace

void streams_init(int devices, uint64_t seed) {
  schedule.random.seed(seed);
  schedule.streams.resize(devices);
  for (int device = 0; device < devices; device++) stream_create(device, true)->is_null = true;
}

Stream *null_stream(int device) { return schedule.streams[device][0]; }

Stream *stream_create(int device, bool blocking) {
  Lock lock(schedule.mutex);
  return schedule.streams[device].emplace_back(new Stream{device, false, blocking, {}});
}

void stream_destroy(Stream *stream) {
  complete_stream(stream);
  Lock lock(schedule.mutex);
  std::erase(schedule.streams[stream->device], stream);
  delete stream;
}

OperationPointer issue(Stream *stream, std::function<void()> run, OperationPointer also_after) {
  Lock lock(schedule.mutex);
  auto operation = std::make_shared<Operation>();
  operation->run = std::move(run);
  auto come_after = [&](Stream *other) {
    forget_done(other);
    if (!other->pending.empty()) operation->after.push_back(other->pending.back());
  };
  come_after(stream);
  if (stream->is_null) {
    for (Stream *other : schedule.streams[stream->device])
      if (other->blocking && other != stream) come_after(other);
  } else if (stream->blocking) {
    come_after(schedule.streams[stream->device][0]);
  }
  if (also_after) operation->after.push_back(std::move(also_after));
  stream->pending.push_back(operation);
  return operation;
}

void complete(const OperationPointer &operation) {
  Lock lock(schedule.mutex);
  advance(lock, operation, false);
}

void complete_stream(Stream *stream) {
  Lock lock(schedule.mutex);
  if (!stream->pending.empty()) advance(lock, OperationPointer(stream->pending.back()), false);
}

void complete_device(int device) {
  Lock lock(schedule.mutex);
  drain(lock, [&] { return schedule.streams[device]; });
}

void complete_all() {
  Lock lock(schedule.mutex);
  drain(lock, [] {
    std::vector<Stream *> all;
    for (const auto &streams : schedule.streams) all.insert(all.end(), streams.begin(), streams.end());
    return all;
  });
}

bool is_done(const OperationPointer &operation) {
  Lock lock(schedule.mutex);
  return operation->state == Operation::done;
}

bool poll(const OperationPointer &operation) {
  Lock lock(schedule.mutex);
  if (operation->state == Operation::done) return true;
  advance(lock, operation, true);
  return false;
}

bool poll_stream(Stream *stream) {
  Lock lock(schedule.mutex);
  forget_done(stream);
  if (stream->pending.empty()) return true;
  advance(lock, OperationPointer(stream->pending.front()), true);
  return false;
}

}  // namespace amdsim
