// The attention block: scores with sink and window, softmax, weighted sum of values, against double.
#include "kernel_testing.hpp"

#include "../hip/kernels/attention_scores.hip"
#include "../hip/kernels/attention_values.hip"
#include "../hip/kernels/softmax.hip"

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

static void check(KernelTest &, const Shape &p, const std::vector<int> &positions, const std::vector<float> &q,
                  std::vector<float> keys, std::vector<float> values, const std::vector<float> &sinks, bool windowed) {
  const std::vector<double> expected = reference(p, positions, q, keys, values, sinks, windowed);
  const int rows = (int)positions.size(), longest = *std::max_element(positions.begin(), positions.end());
  // What lies past the last position was never written: reading it must show.
  const size_t used = (size_t)(longest + 1) * p.kv_heads * p.head_dim;
  std::fill(keys.begin() + used, keys.end(), NAN);
  std::fill(values.begin() + used, values.end(), NAN);
  const size_t stride = (size_t)p.seq_len + 1;
  Buffer<float> d_q(q), d_keys(keys), d_values(values), d_sinks(sinks);
  Buffer<float> d_att((size_t)rows * p.heads * stride), d_out(q.size());
  Buffer<int> d_positions(positions);
  const int window = windowed ? p.window : 0;
  getp_hip::attention_scores(d_att.data(), d_q.data(), d_keys.data(), d_sinks.data(), d_positions.data(), longest, rows,
                             p.heads, p.kv_heads, p.head_dim, stride, window, nullptr);
  getp_hip::attention_softmax(d_att.data(), d_positions.data(), rows, p.heads, stride, nullptr);
  getp_hip::attention_values(d_out.data(), d_att.data(), d_values.data(), d_positions.data(), rows, p.heads, p.kv_heads,
                             p.head_dim, stride, window, nullptr);
  EXPECT_TRUE(all_near(d_out.fetch(), expected, 5e-4)) << "position " << longest << ", window " << window;
  d_att.fetch();  // its guards: at the last position the sink is the row's last element
}

TEST_P(AttentionTest, EveryEdgeOfTheWindow) {
  for (const Shape &p : {Shape{6, 2, 32, 160, 24}, Shape{8, 1, 64, 300, 128}, Shape{4, 4, 20, 70, 16}})
    for (bool windowed : {false, true})
      for (int position : {0, 1, p.window - 1, p.window, p.window + 1, 2 * p.window, p.seq_len - 1}) {
        const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
        check(*this, p, {position}, normal((size_t)p.heads * p.head_dim, 2), normal(cache), normal(cache),
              normal(p.heads), windowed);
      }
}

TEST_P(AttentionTest, RowsOfDifferentPositionsTogether) {
  const Shape p = {6, 2, 32, 160, 24};
  const std::vector<int> positions = {159, 0, 24, 80};
  const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
  for (bool windowed : {false, true})
    check(*this, p, positions, normal(positions.size() * p.heads * p.head_dim), normal(cache), normal(cache),
          normal(p.heads), windowed);
}

// A sink far above all scores takes nearly all the weight, one far below takes none.
TEST_P(AttentionTest, TheSinkTakesItsShare) {
  const Shape p = {2, 1, 32, 40, 8};
  const size_t cache = (size_t)p.seq_len * p.kv_heads * p.head_dim;
  check(*this, p, {20}, normal((size_t)p.heads * p.head_dim), normal(cache), normal(cache), {20.0f, -20.0f}, false);
}
