// All requests of a run: continuous batching over all devices, or one after the other by the CPU's forward.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <string>
#include <vector>

#include "../gpt_oss.hpp"
#include "forward.hpp"
#include "node.hpp"
#include "stop.hpp"

namespace getp_hip {

// The requests of a run, which of them are done, and what they have generated.
class Run {
 public:
  explicit Run(RequestList &requests) : requests_(requests), counts_(requests.count()), done_(requests.count()) {
    for (int r = 0; r < requests_.count(); r++) requests_.tokens(r)[0] = -1;
  }

  int count() const { return requests_.count(); }
  int finished() const { return finished_; }
  RequestList &requests() { return requests_; }

  // The next request that has a prompt, in ascending order; false when there is none. Any thread.
  bool next(ScheduledRequest &request) {
    const std::lock_guard<std::mutex> lock(queue_);
    while (next_ < count()) {
      request = {next_, requests_.prompt(next_), requests_.steps()};
      next_++;
      if (!request.prompt.empty()) return true;
      finish(request.index);
    }
    return false;
  }
  // A token of a request; like finish, called by the thread that serves it.
  void add(int r, int token) {
    int *tokens = requests_.tokens(r);
    tokens[counts_[r]++] = token;
    tokens[counts_[r]] = -1;
  }
  void finish(int r) {
    done_[r] = true;
    finished_++;
  }

  // At the end: the number of generated tokens, of finished requests alone; the rows of others become empty.
  long long close() {
    long long generated = 0;
    for (int r = 0; r < count(); r++)
      if (done_[r])
        generated += counts_[r];
      else
        requests_.tokens(r)[0] = -1;
    report_stop(finished_, count());
    return generated;
  }

 private:
  RequestList &requests_;
  std::mutex queue_;  // guards next_, and the harness's tokenizer: not every one may be shared by threads
  int next_ = 0;
  std::vector<int> counts_;
  std::vector<char> done_;
  std::atomic<int> finished_{0};
};

// The line about logits that are not numbers, after an upload, which takes weights that are and no others.
inline std::string no_token(const std::string &where) {
  return where + ": the logits are not numbers, though the weights are: values overflow FP32";
}

// The same where nobody has looked at the weights: names the first that is none, if there is one, which takes a reading
// of the whole model.
inline std::string no_token(const std::string &where, const Config &p, const HostWeights &h) {
  const float *weight = find_unusable(p, h);
  if (!weight) return no_token(where);
  return where + ": the logits are not numbers, nor are all weights: " + unusable_weight(p, h, weight);
}

inline std::string place_of(int request, int position) {
  return "request " + std::to_string(request + 1) + ", position " + std::to_string(position);
}

// Takes the tokens after a step: the device's argmaxes, or what the request samples from its logits, which come to the
// host a few rows at a time. Waits for the device. Logits that are not numbers stop the run.
inline void take_tokens(Run &run, Scheduler &scheduler, Device &device, const Batch &batch) {
  const size_t sampled = batch.logit_rows.size(), vocab = device.p.vocab_size, at_a_time = device.host_logits();
  const bool greedy = run.requests().greedy();
  copy_to_host(device.h_next_tokens, device.s.next_tokens, sampled, device.stream);
  HIP_CHECK(hipStreamSynchronize(device.stream));
  for (size_t i = 0; i < sampled; i++) {
    if (!greedy && i % at_a_time == 0) {
      copy_to_host(device.h_logits, device.s.logits + i * vocab, std::min(at_a_time, sampled - i) * vocab,
                   device.stream);
      HIP_CHECK(hipStreamSynchronize(device.stream));
    }
    const int slot = batch.logit_slots[i], r = scheduler.request_of(slot).index;
    if (device.h_next_tokens[i] == kNoToken) {
      stop_for_error(no_token(place_of(r, batch.positions[batch.logit_rows[i]])));
      continue;  // with the others, which may end with this step
    }
    const int token =
        greedy ? device.h_next_tokens[i] : run.requests().sample(r, device.h_logits + i % at_a_time * vocab);
    run.add(r, token);
    if (scheduler.take(slot, token, gpt_oss::is_stop_token(token))) run.finish(r);
  }
}

// All requests, from one queue, as many at a time as the devices have slots. Returns the number of generated tokens:
// the stop token counts, prompts and requests that were not finished do not. A request's tokens depend neither on what
// it is served with nor on the devices (drawn ones: on its number).
inline long long serve(Node &node, RequestList &requests) {
  const StopOnSignals signals;
  const bool terminal = isatty(STDERR_FILENO);
  Run run(requests);
  std::atomic<long long> tokens{0};
  const auto start = std::chrono::steady_clock::now();
  for (Device &device : node.devices) device.use_growing(requests.steps(), node.share(device, run.count()));
  std::atomic<long long> put_off{0}, read_again{0};
  node.run([&](Device &device) {
    const BatchShape &of = device.batch;
    Scheduler scheduler({of.slots, of.rows, of.prompt_rows, of.pages, of.pages_of_slot(), kPagePositions},
                        [&](ScheduledRequest &request) { return run.next(request); });
    for (Batch batch; stop_code == 0 && scheduler.compose(batch);) {
      forward_rows(device, batch);
      take_tokens(run, scheduler, device, batch);
      tokens += (long long)batch.logit_rows.size();
      if (!terminal) continue;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      fprintf(stderr, "\r%d of %d requests done, %lld tokens, %.0f tok/s ", run.finished(), run.count(), tokens.load(),
              (double)tokens / seconds);
    }
    put_off += scheduler.put_off();
    read_again += scheduler.read_again();
  });
  if (terminal) fprintf(stderr, "\r\033[K");
  if (put_off)
    fprintf(stderr, "memory for keys and values was short: requests were put off %lld times, %lld tokens read again\n",
            put_off.load(), read_again.load());
  return run.close();
}

// All requests, one after the other, by forward(token, position), which gives logits (vocab_size): what the harness's
// own forward would make of them.
template <class Forward>
inline long long serve_in_turn(RequestList &requests, const Config &p, const HostWeights &h, Forward forward) {
  const StopOnSignals signals;
  Run run(requests);
  for (ScheduledRequest request; stop_code == 0 && run.next(request);) {
    const int prompt = (int)request.prompt.size();
    for (int pos = 0, token = request.prompt[0]; stop_code == 0; pos++) {
      float *logits = forward(token, pos);
      if (pos + 1 < prompt) {
        token = request.prompt[pos + 1];
        continue;
      }
      if (!are_usable(logits, p.vocab_size)) {
        stop_for_error(no_token(place_of(request.index, pos), p, h));
        break;
      }
      run.add(request.index, token = requests.sample(request.index, logits));
      if (pos + 1 < request.steps && !gpt_oss::is_stop_token(token)) continue;
      run.finish(request.index);
      break;
    }
  }
  return run.close();
}

}  // namespace getp_hip
