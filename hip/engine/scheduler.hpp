// Continuous batching: which tokens of which requests go through the next step, and which pages of the caches are whose.
// Knows nothing of devices.
//
// A step's rows are one token of every sequence that generates, and parts of the sequences that are being read. A
// sequence that ends gives its slot to the next request at once. Sequences get pages as they grow. Where none is left, the
// sequence that came last is put off: it gives up its pages, waits, and is read again later, its prompt and what it has
// generated, which changes none of its tokens. The oldest always goes on.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <vector>

#include "../fail.hpp"

namespace getp_hip {

// The rows of one step.
struct Batch {
  std::vector<int> tokens, positions, slots;  // of each row
  std::vector<int> logit_rows;                // rows after which a token is sampled
  std::vector<int> logit_slots;               // whose they are, for Scheduler::take
  std::vector<int> table_places;              // what changes of the table of pages (kv_cache.hpp): places in it
  std::vector<int> table_pages;               // and the pages there

  void clear() {
    for (std::vector<int> *each : {&tokens, &positions, &slots, &logit_rows, &logit_slots, &table_places, &table_pages})
      each->clear();
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

  // What there is at a time: sequences; rows of a step, at least as many; rows of one prompt in a step; pages, at least
  // pages_of_slot, which a sequence of full length needs; positions of a page.
  struct Room {
    int slots, rows, prompt_rows, pages, pages_of_slot, page_positions;
  };

  Scheduler(const Room &room, NextRequest next) : room_(room), sequences_(room.slots), next_(std::move(next)) {
    if (room.slots < 1 || room.rows < room.slots || room.pages < room.pages_of_slot)
      fail("Scheduler: %d slots, %d rows, %d pages of which a sequence needs %d", room.slots, room.rows, room.pages,
           room.pages_of_slot);
    room_.prompt_rows = std::min(room.prompt_rows, room.rows);
    for (int page = room.pages - 1; page >= 0; page--) free_.push_back(page);
  }

  // Fills the rows of the next step; false when every request has ended.
  bool compose(Batch &batch) {
    batch.clear();
    bool admits = give_pages(batch);
    count_expected();
    // Sequences that generate come first: a row each always fits. A request is taken only when the step has room for
    // it, so that the first steps need not wait until there is one in every slot.
    for (const bool generating : {true, false})
      for (int slot = 0; slot < room_.slots; slot++) {
        Sequence &sequence = sequences_[slot];
        const int room = room_.rows - (int)batch.tokens.size();
        if (!sequence.active && !generating && room > 0 && admits) admits = admit(slot, batch);
        if (!sequence.active || sequence.generates() != generating) continue;
        const int count = std::min(sequence.next_rows(room_.prompt_rows), room);
        for (int i = 0; i < count; i++, sequence.position++) {
          batch.tokens.push_back(sequence.tokens[sequence.position]);
          batch.positions.push_back(sequence.position);
          batch.slots.push_back(slot);
          if (sequence.position + 1 < (int)sequence.tokens.size()) continue;
          batch.logit_rows.push_back((int)batch.tokens.size() - 1);
          batch.logit_slots.push_back(slot);
        }
      }
    return !batch.tokens.empty();
  }

  // The request that a row of logits belongs to.
  const ScheduledRequest &request_of(int slot) const { return sequences_[slot].request; }

  // Takes the token sampled for a slot of logit_slots; true when that was the request's last.
  bool take(int slot, int token, bool stops) {
    Sequence &s = sequences_[slot];
    s.tokens.push_back(token);
    generated_++;
    stopped_ += stops;
    if (!stops && s.position < s.request.steps) return false;
    give_up(s);
    return true;
  }

  // How often a sequence was put off, and the tokens that were read again for it.
  long long put_off() const { return put_off_; }
  long long read_again() const { return read_again_; }

 private:
  struct Sequence {
    bool active = false;
    ScheduledRequest request;
    long long number = 0;     // in the order of arrival
    std::vector<int> tokens;  // the prompt's and what was generated
    int position = 0;         // of the next row
    std::vector<int> pages;

    bool generates() const { return position + 1 == (int)tokens.size() && tokens.size() > request.prompt.size(); }
    int next_rows(int prompt_rows) const { return std::min((int)tokens.size() - position, prompt_rows); }
  };

  int pages_for(int positions) const { return (positions + room_.page_positions - 1) / room_.page_positions; }

  // The pages that a sequence will have had in the end, so far as is known: one that generates goes on for as many tokens
  // as came for each stop token so far, if there was one, else to its limit.
  int expected_pages(const Sequence &s) const {
    const long long known = (long long)s.tokens.size(), most = s.request.steps - known;
    const long long more = stopped_ ? std::min(most, generated_ / stopped_ + 1) : most;
    return pages_for((int)(known + std::max(0ll, more)));
  }

  // Gives slot's sequence pages for its first `positions` positions, as far as there are any; false if they are too few.
  bool grow(int slot, int positions, Batch &batch) {
    Sequence &s = sequences_[slot];
    while ((int)s.pages.size() < pages_for(positions)) {
      if (free_.empty()) return false;
      batch.table_places.push_back(slot * room_.pages_of_slot + (int)s.pages.size());
      batch.table_pages.push_back(free_.back());
      s.pages.push_back(free_.back());
      free_.pop_back();
    }
    return true;
  }

  void give_up(Sequence &s) {
    free_.insert(free_.end(), s.pages.rbegin(), s.pages.rend());  // so that one sequence alone always has the same
    s.pages.clear();
    s.active = false;
  }

  // Pages for the next rows of all sequences, the oldest first; whoever came last makes room. False if one was put off.
  bool give_pages(Batch &batch) {
    std::vector<int> by_age;
    for (int slot = 0; slot < room_.slots; slot++)
      if (sequences_[slot].active) by_age.push_back(slot);
    std::sort(by_age.begin(), by_age.end(), [&](int a, int b) { return sequences_[a].number < sequences_[b].number; });
    const size_t all = by_age.size();
    for (size_t i = 0; i < by_age.size(); i++) {
      const Sequence &s = sequences_[by_age[i]];
      while (!grow(by_age[i], s.position + s.next_rows(room_.prompt_rows), batch)) {
        Sequence &last = sequences_[by_age.back()];
        by_age.pop_back();
        put_off_++;
        read_again_ += last.position;
        give_up(last);
        last.position = 0;
        waiting_.push_front(last);
        if (i == by_age.size()) break;  // it was its own
      }
    }
    return by_age.size() == all;
  }

  void count_expected() {
    active_ = expected_ = may_grow_ = 0;
    for (const Sequence &s : sequences_)
      if (s.active) {
        active_++;
        expected_ += expected_pages(s);
        may_grow_ += pages_for(s.request.steps) - (int)s.pages.size();
      }
  }

  // Takes the request that has waited longest, or the next one, into a free slot if pages are likely to do for all; false
  // if not, or if there is none.
  bool admit(int slot, Batch &batch) {
    // Some are left to those that are there, so that they need not put it off at once.
    const long long left = (long long)free_.size() - std::min<long long>(active_ / 8, may_grow_);
    if (active_ > 0 && (expected_ >= room_.pages || left <= 0)) return false;
    if (waiting_.empty() && more_) {
      Sequence arrived;
      more_ = next_(arrived.request);
      if (!more_) return false;
      arrived.number = arrived_++;
      arrived.tokens = arrived.request.prompt;
      waiting_.push_back(std::move(arrived));
    }
    if (waiting_.empty()) return false;
    const long long expected = expected_ + expected_pages(waiting_.front());
    const int now = pages_for((int)waiting_.front().tokens.size());
    if (active_ > 0 && (expected > room_.pages || now > left)) return false;
    sequences_[slot] = std::move(waiting_.front());
    waiting_.pop_front();
    sequences_[slot].active = true;
    grow(slot, sequences_[slot].next_rows(room_.prompt_rows), batch);
    active_++;
    expected_ = expected;
    may_grow_ += pages_for(sequences_[slot].request.steps) - (int)sequences_[slot].pages.size();
    return true;
  }

  Room room_;
  std::vector<Sequence> sequences_;  // a slot each
  std::deque<Sequence> waiting_;     // put off, or come and not yet taken: oldest first
  std::vector<int> free_;            // pages
  NextRequest next_;
  bool more_ = true;
  // Of this step: sequences, the pages that they will have in the end, and those that they may still ask for.
  long long active_ = 0, expected_ = 0, may_grow_ = 0;
  long long arrived_ = 0, generated_ = 0, stopped_ = 0, put_off_ = 0, read_again_ = 0;
};

}  // namespace getp_hip
