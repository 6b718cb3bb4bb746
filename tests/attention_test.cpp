// The attention block: scores with sink and window, softmax, weighted sum of values, against double.
#include "kernel_testing.hpp"

#include "../hip/kernels/attention.hip"

using AttentionTest = KernelTest;
INSTANTIATE_KERNEL_TEST(AttentionTest);

struct Shape {
  int heads, kv_heads, head_dim, seq_len, window;
};

// out (rows, heads, head_dim) by definition, in double.
static std::vector<double> reference(const Shape &p, const std::vector<int> &positions, const std::vector<float> &q,
                                     const std::vector<float> &keys, const std::vector<float> &values,
                                     const std::vector<float> &sinks, bool windowed) {
  std::vector<double> out(q.size());
  for (size_t r = 0; r < positions.size(); r++)
    for (int h = 0; h < p.heads; h++) {
      const size_t query = (r * p.heads + h) * p.head_dim;
      const int kv_head = h / (p.heads / p.kv_heads);
      std::vector<double> weights;
      double total = std::exp((double)sinks[h]);
      for (int t = 0; t <= positions[r]; t++) {
        double score = 0;
        for (int i = 0; i < p.head_dim; i++)
          score += (double)q[query + i] * keys[((size_t)t * p.kv_heads + kv_head) * p.head_dim + i];
        const bool hidden = windowed && positions[r] - t >= p.window;
        weights.push_back(hidden ? 0 : std::exp(score / std::sqrt((double)p.head_dim)));
        total += weights.back();
      }
      for (int t = 0; t <= positions[r]; t++)
        for (int i = 0; i < p.head_dim; i++)
          out[query + i] += weights[t] / total * values[((size_t)t * p.kv_heads + kv_head) * p.head_dim + i];
    }
  return out;
}

// Runs the kernel with the rows' sequences in slots of a cache that keeps `length` positions of each (0: all), and with
// NaN wherever a slot holds nothing.
static std::vector<float> run(const Shape &p, const std::vector<int> &positions, const std::vector<int> &slots,
                              const std::vector<float> &q, const std::vector<float> &keys,
                              const std::vector<float> &values, const std::vector<float> &sinks, bool windowed,
                              int length = 0) {
  if (length == 0) length = p.seq_len;
  const int rows = (int)positions.size(), longest = *std::max_element(positions.begin(), positions.end());
  const size_t kv = (size_t)p.kv_heads * p.head_dim;
  const int slot_count = *std::max_element(slots.begin(), slots.end()) + 1;
  std::vector<float> key_cache(slot_count * length * kv, NAN), value_cache = key_cache;
  std::vector<int> last(slot_count, -1);
  for (int r = 0; r < rows; r++) last[slots[r]] = std::max(last[slots[r]], positions[r]);
  for (int slot = 0; slot < slot_count; slot++)
    for (int t = 0; t <= last[slot]; t++)
      for (size_t i = 0; i < kv; i++) {
        key_cache[((size_t)slot * length + t % length) * kv + i] = keys[t * kv + i];
        value_cache[((size_t)slot * length + t % length) * kv + i] = values[t * kv + i];
      }
  const int window = windowed ? p.window : 0;
  Buffer<float> d_q(q), d_keys(key_cache), d_values(value_cache), d_sinks(sinks), d_out(q.size());
  Buffer<float> d_partial((size_t)rows * p.heads * getp_hip::attention_spans(longest, window) * (p.head_dim + 2));
  Buffer<int> d_positions(positions), d_slots(slots);
  getp_hip::KvCache cache;
  cache.d_keys = d_keys.data();
  cache.d_values = d_values.data();
  cache.length = length;
  cache.window = window;
  getp_hip::attention(d_out.data(), d_partial.data(), d_q.data(), cache, d_sinks.data(),
                      {d_positions.data(), d_slots.data(), rows, longest}, p.heads, p.kv_heads, p.head_dim, nullptr);
  d_partial.fetch();  // its guards
  const std::vector<float> out = d_out.fetch();
  if (windowed) return out;

  // The same from pages, those of each slot in some order among those of the others.
  const int of_slot = (longest + getp_hip::kPagePositions) / getp_hip::kPagePositions,
            page_length = getp_hip::kPagePositions;
  std::vector<int> table(slot_count * of_slot);
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(longest));
  std::vector<float> paged_keys(table.size() * page_length * kv, NAN), paged_values = paged_keys;
  for (int slot = 0; slot < slot_count; slot++)
    for (int t = 0; t <= last[slot]; t++) {
      const size_t row = (size_t)table[slot * of_slot + t / page_length] * page_length + t % page_length;
      std::copy_n(&keys[t * kv], kv, &paged_keys[row * kv]);
      std::copy_n(&values[t * kv], kv, &paged_values[row * kv]);
    }
  Buffer<float> d_paged_keys(paged_keys), d_paged_values(paged_values), d_paged_out(q.size());
  Buffer<int> d_table(table);
  cache.d_keys = d_paged_keys.data();
  cache.d_values = d_paged_values.data();
  cache.length = page_length;
  cache.d_table = d_table.data();
  cache.pages_of_slot = of_slot;
  getp_hip::attention(d_paged_out.data(), d_partial.data(), d_q.data(), cache, d_sinks.data(),
                      {d_positions.data(), d_slots.data(), rows, longest}, p.heads, p.kv_heads, p.head_dim, nullptr);
  EXPECT_EQ(memcmp(d_paged_out.fetch().data(), out.data(), out.size() * sizeof(float)), 0) << "pages";
  return out;
}

// length: see run().
static void check(const Shape &p, const std::vector<int> &positions, const std::vector<float> &q,
                  const std::vector<float> &keys, const std::vector<float> &values, const std::vector<float> &sinks,
                  bool windowed, int length = 0, double bound = 5e-6) {
  const std::vector<double> expected = reference(p, positions, q, keys, values, sinks, windowed);
  std::vector<int> slots;
  for (size_t r = 0; r < positions.size(); r++) slots.push_back((int)r);
  EXPECT_TRUE(all_near(run(p, positions, slots, q, keys, values, sinks, windowed, length), expected, bound))
      << p.heads << " heads on " << p.kv_heads << " of " << p.head_dim << ", position " << positions[0] << ", "
      << (windowed ? "window" : "no window") << ", length " << length;
}

TEST_P(AttentionTest, EveryEdgeOfTheWindow) {
  for (const Shape &p : {Shape{6, 2, 32, 160, 24}, Shape{8, 1, 64, 300, 128}, Shape{4, 4, 20, 70, 16},
                         Shape{10, 1, 200, 90, 40}, Shape{2, 1, 32, 1300, 600}})
    for (bool windowed : {false, true})
      for (int position : {0, 1, p.window - 1, p.window, p.window + 1, 2 * p.window, p.seq_len - 1}) {
        const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
        check(p, {position}, normal((size_t)p.heads * p.head_dim, 2), normal(cache), normal(cache), normal(p.heads),
              windowed);
      }
}

// Lengths from 1 to 70, which end anywhere in a step of a group of lanes; heads that fill blocks and that do not;
// dimensions that fill lanes and that do not.
TEST_P(AttentionTest, EveryLengthOfEveryShape) {
  for (const Shape &p :
       {Shape{2, 2, 64, 70, 0}, Shape{8, 1, 64, 70, 0}, Shape{3, 1, 20, 70, 0}, Shape{12, 1, 80, 70, 0},
        Shape{3, 1, 128, 70, 0}, Shape{12, 1, 256, 70, 0}, Shape{3, 1, 30, 70, 0}, Shape{1, 1, 2, 70, 0}}) {
    std::vector<int> positions;  // all in the common shape; a third elsewhere, since a simulated device takes its time
    for (int i = 0; i < 70; i += p.heads == 8 ? 1 : 3) positions.push_back(i);
    const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
    check(p, positions, normal(positions.size() * p.heads * p.head_dim), normal(cache), normal(cache), normal(p.heads),
          false);
  }
}

// Alone or among 65, of one span or of three.
TEST_P(AttentionTest, RowsAreIndependentOfTheirNumber) {
  const Shape p = {8, 1, 64, 600, 400};
  const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim, row = (size_t)p.heads * p.head_dim;
  const int rows = 65;
  const std::vector<float> q = normal(rows * row, 2), keys = normal(cache), values = normal(cache),
                           sinks = normal(p.heads);
  std::vector<int> positions(rows, 3), slots(rows, 0);
  positions[0] = 599, positions[7] = 300, positions[rows - 1] = 256;
  for (bool windowed : {false, true}) {
    const std::vector<float> all = run(p, positions, slots, q, keys, values, sinks, windowed);
    for (int r : {0, 7, 8, rows - 1})
      EXPECT_EQ(run(p, {positions[r]}, {0}, std::vector<float>(q.begin() + r * row, q.begin() + (r + 1) * row), keys,
                    values, sinks, windowed),
                std::vector<float>(all.begin() + r * row, all.begin() + (r + 1) * row))
          << "row " << r << (windowed ? ", window" : "");
  }
}

// Lengths about one and two spans, whole and from rings that wrap within a span.
TEST_P(AttentionTest, SpansEndWhereTheyShould) {
  for (const Shape &p : {Shape{8, 1, 64, 1101, 600}, Shape{2, 1, 128, 1101, 512}, Shape{1, 1, 256, 1101, 513},
                         Shape{3, 1, 30, 1101, 513}}) {
    const std::vector<int> positions = {254, 255, 256, 511, 512, 1100};
    const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
    const std::vector<float> q = normal(positions.size() * p.heads * p.head_dim, 2), keys = normal(cache),
                             values = normal(cache), sinks = normal(p.heads);
    check(p, positions, q, keys, values, sinks, false);
    for (int length : {p.window + 31, p.seq_len}) check(p, positions, q, keys, values, sinks, true, length);
  }
}

// Scores of 200, whose exponentials no float holds. They come from sums of 1600, hence are right to 1e-5 only.
TEST_P(AttentionTest, OnlyDifferencesOfScoresMatter) {
  const Shape p = {2, 1, 64, 600, 40};
  const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim, width = (size_t)p.heads * p.head_dim;
  std::vector<float> q = normal(2 * width), keys = normal(cache);
  for (size_t i = 0; i < q.size(); i += p.head_dim) q[i] = 400;  // with the first dimension of the keys 4: 200 for all
  for (size_t i = 0; i < keys.size(); i += p.head_dim) keys[i] = 4;
  check(p, {599, 30}, q, keys, normal(cache), {200, 199}, false, 0, 5e-5);
}

TEST_P(AttentionTest, RowsOfDifferentPositionsTogether) {
  const Shape p = {6, 2, 32, 160, 24};
  const std::vector<int> positions = {159, 0, 24, 80};
  const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
  for (bool windowed : {false, true})
    check(p, positions, normal(positions.size() * p.heads * p.head_dim), normal(cache), normal(cache), normal(p.heads),
          windowed);
}

// A sink far above all scores takes nearly all the weight, one far below takes none. In one span and in several.
TEST_P(AttentionTest, TheSinkTakesItsShare) {
  const Shape p = {4, 1, 32, 600, 8};
  const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
  check(p, {20, 599}, normal((size_t)2 * p.heads * p.head_dim), normal(cache), normal(cache),
        {20.0f, -20.0f, 1e30f, -INFINITY}, false);
}

// The same rows in one batch, in another order, in other slots, one by one, and from rings: the same bits.
TEST_P(AttentionTest, ARowDependsOnItsOwnSequenceAlone) {
  for (const Shape &p : {Shape{6, 2, 32, 700, 24}, Shape{8, 1, 64, 1100, 600}, Shape{2, 1, 128, 520, 40}}) {
    const size_t kv = (size_t)p.kv_heads * p.head_dim, width = (size_t)p.heads * p.head_dim;
    const std::vector<float> keys = normal(p.seq_len * kv), values = normal(p.seq_len * kv), sinks = normal(p.heads);
    const std::vector<int> positions = {p.seq_len - 1, 0, 24, 80, 512};
    const std::vector<float> q = normal(positions.size() * width);
    for (bool windowed : {false, true}) {
      const std::vector<float> together = run(p, positions, {0, 1, 2, 3, 4}, q, keys, values, sinks, windowed);
      std::vector<float> reversed_q;
      for (size_t r = positions.size(); r-- > 0;)
        reversed_q.insert(reversed_q.end(), q.begin() + r * width, q.begin() + (r + 1) * width);
      const std::vector<float> reversed =
          run(p, {512, 80, 24, 0, positions[0]}, {2, 0, 4, 1, 3}, reversed_q, keys, values, sinks, windowed);
      for (size_t r = 0; r < positions.size(); r++) {
        const std::vector<float> row(together.begin() + r * width, together.begin() + (r + 1) * width);
        const std::vector<float> own(q.begin() + r * width, q.begin() + (r + 1) * width);
        const size_t back = (positions.size() - 1 - r) * width;
        EXPECT_EQ(row, std::vector<float>(reversed.begin() + back, reversed.begin() + back + width)) << "row " << r;
        EXPECT_EQ(row, run(p, {positions[r]}, {0}, own, keys, values, sinks, windowed)) << "row " << r;
        if (!windowed) continue;
        for (int length : {p.window, p.window + 7})
          EXPECT_EQ(row, run(p, {positions[r]}, {1}, own, keys, values, sinks, true, length))
              << "ring of " << length << ", row " << r;
      }
    }
  }
}

// group_sums: what group_reduce gives for each value, the same bits.
template <int N>
__global__ void group_sums_kernel(float *sums, float *reductions, const float *values) {
  GETP_AFTER_PREVIOUS();
  float own[N];
  for (int i = 0; i < N; i++) own[i] = values[threadIdx.x * N + i];
  for (int i = 0; i < N; i++) {
    const float sum = group_reduce<N>(own[i], getp_hip::Sum{});
    if ((int)threadIdx.x % N == i) reductions[threadIdx.x] = sum;
  }
  sums[threadIdx.x] = group_sums<N>(own);
}

TEST_P(AttentionTest, GroupSumsAreReductionsOfGroups) {
  const auto compare = [&](auto lanes) {
    Buffer<float> d_values(normal(128 * lanes.value)), d_sums(128), d_reductions(128);
    HIP_LAUNCH((group_sums_kernel<lanes.value>), dim3(1), dim3(128), nullptr, d_sums.data(), d_reductions.data(),
               d_values.data());
    const std::vector<float> sums = d_sums.fetch();
    for (float sum : sums) EXPECT_TRUE(std::isfinite(sum));
    EXPECT_EQ(sums, d_reductions.fetch()) << "groups of " << lanes.value;
  };
  compare(std::integral_constant<int, 1>{});
  compare(std::integral_constant<int, 2>{});
  compare(std::integral_constant<int, 8>{});
  compare(std::integral_constant<int, 16>{});
  compare(std::integral_constant<int, 32>{});
}
