// Continuous batching: which tokens of which requests go through the next step. Knows nothing of devices.
//
// A step's rows are one token of every sequence that generates, and parts of the prompts that are being read. A
// sequence that ends gives its slot to the next request at once.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

namespace getp_hip {

// The rows of one step.
struct Batch {
  std::vector<int> tokens, positions, slots;  // of each row
  std::vector<int> logit_rows;                // rows after which a token is sampled
  std::vector<int> logit_slots;               // whose they are, for Scheduler::take

  void clear() {
    for (std::vector<int> *each : {&tokens, &positions, &slots, &logit_rows, &logit_slots}) each->clear();
  }
};

struct ScheduledRequest {
  int index;                // the caller's number of it
  std::vector<int> prompt;  // at least one token, at most `steps`
  int steps;                // positions it may take: prompt and generated tokens, less one
};

class Scheduler {
 public:
  // Gives the next request; false when there is none, after which it is not asked again.
  using NextRequest = std::function<bool(ScheduledRequest &)>;

  // `slots` sequences at a time, at most `rows` >= slots rows a step and `prompt_rows` of one prompt.
  Scheduler(int slots, int rows, int prompt_rows, NextRequest next)
      : rows_(rows), prompt_rows_(prompt_rows), sequences_(slots), next_(std::move(next)) {}

  // Fills the rows of the next step; false when every request has ended.
  bool compose(Batch &batch) {
    batch.clear();
    // Sequences that generate come first: a row each always fits. A request is taken only when the step has room for
    // it, so that the first steps need not wait until there is one in every slot.
    for (const bool generating : {true, false})
      for (size_t slot = 0; slot < sequences_.size(); slot++) {
        Sequence &sequence = sequences_[slot];
        const int room = rows_ - (int)batch.tokens.size();
        if (!sequence.active && !generating && room > 0 && more_) {
          sequence.active = more_ = next_(sequence.request);
          sequence.position = 0;
        }
        const int prompt = (int)sequence.request.prompt.size(), left = prompt - sequence.position;
        if (!sequence.active || (left <= 0) != generating) continue;
        const int count = std::min({generating ? 1 : left, prompt_rows_, room});
        for (int i = 0; i < count; i++, sequence.position++) {
          batch.tokens.push_back(generating ? sequence.token : sequence.request.prompt[sequence.position]);
          batch.positions.push_back(sequence.position);
          batch.slots.push_back((int)slot);
          if (sequence.position + 1 < prompt) continue;
          batch.logit_rows.push_back((int)batch.tokens.size() - 1);
          batch.logit_slots.push_back((int)slot);
        }
      }
    return !batch.tokens.empty();
  }

  // The request that a row of logits belongs to.
  const ScheduledRequest &request_of(int slot) const { return sequences_[slot].request; }

  // Takes the token sampled for a slot of logit_slots; true when that was the request's last.
  bool take(int slot, int token, bool stops) {
    Sequence &s = sequences_[slot];
    s.token = token;
    if (!stops && s.position < s.request.steps) return false;
    s.active = false;
    return true;
  }

 private:
  struct Sequence {
    bool active = false;
    ScheduledRequest request;
    int position = 0;  // of the next row
    int token = 0;     // the last one sampled
  };
  int rows_, prompt_rows_;
  std::vector<Sequence> sequences_;  // a slot each
  NextRequest next_;
  bool more_ = true;
};

}  // namespace getp_hip
