// Scheduler, without a device: the model is a hash of a sequence's tokens, kept in pages as the caches keep keys.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "../hip/engine/scheduler.hpp"
#include "../hip/splitmix64.hpp"

using namespace getp_hip;

namespace {

struct Ask {
  std::vector<int> prompt;
  int generates;  // tokens, the last of which stops it, unless its steps end it
};

constexpr int kStop = -7;

struct Outcome {
  std::vector<std::vector<int>> tokens;
  long long put_off = 0, read_again = 0, steps = 0;
  int most_at_a_time = 0;
};

// A token from those before it.
int next_token(const std::vector<int> &before) {
  unsigned long long sum = 0;
  for (int token : before) sum = splitmix64(sum + (unsigned)token);
  return (int)(sum % 1000);
}

// Serves them, each with at most `steps` positions. The model reads what was written to the pages that the table has.
Outcome serve(const std::vector<Ask> &asks, int steps, const Scheduler::Room &room) {
  Outcome made;
  made.tokens.resize(asks.size());
  size_t next = 0;
  Scheduler scheduler(room, [&](ScheduledRequest &request) {
    if (next == asks.size()) return false;
    request = {(int)next, asks[next].prompt, steps};
    next++;
    return true;
  });
  std::map<int, int> table;                                  // page of a place
  std::vector<int> cache(room.pages * room.page_positions);  // a token each
  for (Batch batch; scheduler.compose(batch); made.steps++) {
    EXPECT_LE((int)batch.tokens.size(), room.rows);
    EXPECT_EQ(batch.table_places.size(), batch.table_pages.size());
    for (size_t i = 0; i < batch.table_places.size(); i++) table[batch.table_places[i]] = batch.table_pages[i];
    if (room.slots == 1) {  // one sequence alone: its pages lie in order
      EXPECT_EQ(batch.table_places, batch.table_pages);
    }
    std::set<int> slots(batch.slots.begin(), batch.slots.end()), pages;
    made.most_at_a_time = std::max(made.most_at_a_time, (int)slots.size());
    const auto row = [&](int slot, int position) {
      const int page = table.at(slot * room.pages_of_slot + position / room.page_positions);
      return &cache.at(page * room.page_positions + position % room.page_positions);
    };
    std::map<int, int> longest;
    for (size_t r = 0; r < batch.tokens.size(); r++) {
      *row(batch.slots[r], batch.positions[r]) = batch.tokens[r];
      longest[batch.slots[r]] = batch.positions[r];
    }
    for (const auto &[slot, position] : longest)  // no page is two sequences'
      for (int p = 0; p <= position; p += room.page_positions)
        EXPECT_TRUE(pages.insert(table.at(slot * room.pages_of_slot + p / room.page_positions)).second);
    for (size_t i = 0; i < batch.logit_rows.size(); i++) {
      const int slot = batch.logit_slots[i], r = scheduler.request_of(slot).index;
      std::vector<int> before;
      for (int p = 0; p <= batch.positions[batch.logit_rows[i]]; p++) before.push_back(*row(slot, p));
      const bool stops = (int)made.tokens[r].size() + 1 == asks[r].generates;
      const int token = stops ? kStop : next_token(before);
      made.tokens[r].push_back(token);
      scheduler.take(slot, token, stops);
    }
    if (made.steps > 1000000) {
      ADD_FAILURE() << "no end";
      break;
    }
  }
  made.put_off = scheduler.put_off();
  made.read_again = scheduler.read_again();
  return made;
}

// What each generates by itself.
std::vector<std::vector<int>> alone(const std::vector<Ask> &asks, int steps) {
  std::vector<std::vector<int>> tokens(asks.size());
  for (size_t r = 0; r < asks.size(); r++) {
    std::vector<int> all = asks[r].prompt;
    while ((int)all.size() <= steps) {
      const bool stops = (int)tokens[r].size() + 1 == asks[r].generates;
      tokens[r].push_back(stops ? kStop : next_token(all));
      if (stops) break;
      all.push_back(tokens[r].back());
    }
  }
  return tokens;
}

std::vector<Ask> asks_of(int count, int steps, int most_generated, std::mt19937 &random) {
  std::vector<Ask> asks(count);
  for (Ask &ask : asks) {
    ask.prompt.resize(1 + random() % (steps / 3));
    for (int &token : ask.prompt) token = (int)(random() % 1000);
    ask.generates = 1 + (int)(random() % most_generated);
  }
  return asks;
}

TEST(Scheduler, TokensDoNotDependOnSlotsOrPages) {
  std::mt19937 random(1);
  const int steps = 60;
  const std::vector<Ask> asks = asks_of(120, steps, 50, random);
  const auto expected = alone(asks, steps);
  for (int slots : {1, 3, 16, 64})
    for (int pages : {8, 9, 16, 40, 8 * 64}) {
      const Outcome made = serve(asks, steps, {slots, slots + 6, 7, pages, 8, 8});
      EXPECT_EQ(made.tokens, expected) << slots << " slots, " << pages << " pages";
      if (slots == 1) {
        EXPECT_EQ(made.put_off, 0);
      }
    }
}

TEST(Scheduler, SomeArePutOffWherePagesAreScarceAndNoneWhereTheyAreNot) {
  std::mt19937 random(2);
  const int steps = 60;
  const std::vector<Ask> asks = asks_of(200, steps, 100, random);  // ends earlier than most reach their limit
  const Outcome scarce = serve(asks, steps, {32, 40, 8, 60, 8, 8}), plenty = serve(asks, steps, {32, 40, 8, 256, 8, 8});
  EXPECT_GT(scarce.put_off, 0);
  EXPECT_GT(scarce.read_again, 0);
  EXPECT_EQ(plenty.put_off, 0);
  EXPECT_EQ(scarce.tokens, plenty.tokens);
}

TEST(Scheduler, EverySlotIsUsedWherePagesDoForAll) {
  std::mt19937 random(5);
  EXPECT_EQ(serve(asks_of(100, 8, 8, random), 8, {32, 63, 32, 32, 1, 8}).most_at_a_time, 32);
  EXPECT_EQ(serve(asks_of(100, 60, 1 << 20, random), 60, {16, 47, 32, 128, 8, 8}).most_at_a_time, 16);
}

// Of the full length, as random models generate: what is admitted fits to the end, so that nothing is read twice.
TEST(Scheduler, NothingIsReadTwiceWhereAllReachTheirLimit) {
  std::mt19937 random(3);
  const std::vector<Ask> asks = asks_of(300, 128, 1 << 20, random);
  const Outcome made = serve(asks, 128, {64, 95, 32, 200, 8, 16});
  EXPECT_EQ(made.read_again, 0);
  EXPECT_EQ(made.most_at_a_time, 200 / 8);
}

// Lengths drawn evenly: more at a time than full lengths would let in, and few read twice.
TEST(Scheduler, EarlyEndsLetMoreInAtATime) {
  std::mt19937 random(4);
  std::vector<Ask> asks = asks_of(1000, 256, 170, random);
  long long tokens = 0;
  for (const Ask &ask : asks) tokens += ask.generates + (long long)ask.prompt.size();
  const Outcome made = serve(asks, 256, {256, 287, 32, 512, 16, 16});
  EXPECT_GE(made.most_at_a_time, 1.4 * 512 / 16);
  EXPECT_LT(made.read_again, 0.03 * tokens);
}

}  // namespace
