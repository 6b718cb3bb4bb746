// Elementwise kernels and reductions over rows, each against a reference in double.
#include "kernel_testing.hpp"

#include "../hip/kernels/argmax.hip"
#include "../hip/kernels/bias.hip"
#include "../hip/kernels/embedding.hip"
#include "../hip/kernels/gather_rows.hip"
#include "../hip/kernels/residual.hip"
#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/rope.hip"
#include "../hip/kernels/softmax.hip"
#include "../hip/kernels/split_qkv.hip"

using ElementwiseTest = KernelTest;
INSTANTIATE_KERNEL_TEST(ElementwiseTest);

TEST_P(ElementwiseTest, EmbeddingGathersRows) {
  for (int hidden : {1, 96, 257, 2880}) {
    const std::vector<float> table = normal((size_t)50 * hidden);
    const std::vector<int> tokens = {49, 0, 7, 7, 31};
    Buffer<float> d_table(table), d_out(tokens.size() * hidden);
    Buffer<int> d_tokens(tokens);
    getp_hip::embedding(d_out.data(), d_table.data(), d_tokens.data(), (int)tokens.size(), hidden, nullptr);
    const std::vector<float> out = d_out.fetch();
    for (size_t r = 0; r < tokens.size(); r++)
      for (int i = 0; i < hidden; i++) ASSERT_EQ(out[r * hidden + i], table[(size_t)tokens[r] * hidden + i]);
  }
}

TEST_P(ElementwiseTest, RmsnormWithin5e6) {
  for (int hidden : {1, 3, 32, 96, 255, 256, 257, 2880}) {
    const int rows = 3;
    const std::vector<float> x = normal((size_t)rows * hidden, 3), w = normal(hidden);
    std::vector<double> reference(x.size());
    for (int r = 0; r < rows; r++) {
      double squares = 0;
      for (int i = 0; i < hidden; i++) squares += (double)x[r * hidden + i] * x[r * hidden + i];
      for (int i = 0; i < hidden; i++)
        reference[r * hidden + i] = w[i] * (double)x[r * hidden + i] / std::sqrt(squares / hidden + 1e-5);
    }
    Buffer<float> d_x(x), d_w(w), d_out(x.size());
    getp_hip::rmsnorm(d_out.data(), d_x.data(), d_w.data(), rows, hidden, nullptr);
    EXPECT_TRUE(all_near(d_out.fetch(), reference, 5e-6)) << "hidden " << hidden;
    getp_hip::rmsnorm(d_x.data(), d_x.data(), d_w.data(), rows, hidden, nullptr);
    EXPECT_TRUE(all_near(d_x.fetch(), reference, 5e-6)) << "in place, hidden " << hidden;
  }
}

TEST_P(ElementwiseTest, RmsnormOfTinyValuesKeepsEpsilon) {
  const std::vector<float> x = {1e-4f, -2e-4f, 0, 3e-4f}, w = {1, 2, 3, 4};
  std::vector<double> reference;
  for (int i = 0; i < 4; i++) reference.push_back(w[i] * (double)x[i] / std::sqrt(14e-8 / 4 + 1e-5));
  Buffer<float> d_x(x), d_w(w), d_out(4);
  getp_hip::rmsnorm(d_out.data(), d_x.data(), d_w.data(), 1, 4, nullptr);
  EXPECT_TRUE(all_near(d_out.fetch(), reference, 1e-8));
}

static void softmax_reference(double *x, int length) {
  double largest = x[0], sum = 0;
  for (int i = 1; i < length; i++) largest = std::max(largest, x[i]);
  for (int i = 0; i < length; i++) sum += x[i] = std::exp(x[i] - largest);
  for (int i = 0; i < length; i++) x[i] /= sum;
}

TEST_P(ElementwiseTest, SoftmaxWithin5e6) {
  for (int length : {1, 2, 4, 31, 255, 256, 257, 2049}) {
    const int rows = 3, stride = length + 5;
    std::vector<float> x = normal((size_t)rows * stride, 10);
    for (int i = 0; i + 1 < length; i += 3) x[i] = -INFINITY;  // masked scores of the first row
    std::vector<double> reference(x.begin(), x.end());
    for (int r = 0; r < rows; r++) softmax_reference(reference.data() + (size_t)r * stride, length);
    Buffer<float> d_x(x);
    getp_hip::softmax(d_x.data(), rows, length, stride, nullptr);
    EXPECT_TRUE(all_near(d_x.fetch(), reference, 5e-6)) << "length " << length;
  }
}

TEST_P(ElementwiseTest, RopeWithin5e6) {
  for (int head_dim : {2, 32, 64})
    for (int heads : {1, 5, 64}) {
      const std::vector<int> positions = {0, 3, 19};
      const int half = head_dim / 2, seq_len = 20;
      const std::vector<float> x = normal(positions.size() * heads * head_dim);
      std::vector<float> cosines, sines;
      for (int i = 0; i < seq_len * half; i++) {
        cosines.push_back((float)std::cos(0.37 * i));
        sines.push_back((float)std::sin(0.37 * i));
      }
      std::vector<double> reference(x.size());
      for (size_t r = 0; r < positions.size(); r++)
        for (int h = 0; h < heads; h++)
          for (int i = 0; i < half; i++) {
            const size_t a = (r * heads + h) * head_dim + i, b = a + half, angle = (size_t)positions[r] * half + i;
            reference[a] = (double)x[a] * cosines[angle] - (double)x[b] * sines[angle];
            reference[b] = (double)x[b] * cosines[angle] + (double)x[a] * sines[angle];
          }
      Buffer<float> d_x(x), d_cos(cosines), d_sin(sines);
      Buffer<int> d_positions(positions);
      getp_hip::rope(d_x.data(), d_cos.data(), d_sin.data(), d_positions.data(), (int)positions.size(), heads, head_dim,
                     nullptr);
      EXPECT_TRUE(all_near(d_x.fetch(), reference, 5e-6)) << "head_dim " << head_dim << ", heads " << heads;
    }
}

TEST_P(ElementwiseTest, ResidualAdd) {
  for (size_t count : {1, 255, 256, 2880, 70001}) {
    const std::vector<float> x = normal(count), y = normal(count);
    Buffer<float> d_x(x), d_y(y);
    getp_hip::residual_add(d_x.data(), d_y.data(), count, nullptr);
    const std::vector<float> out = d_x.fetch();
    for (size_t i = 0; i < count; i++) ASSERT_EQ(out[i], x[i] + y[i]) << i;
  }
}

TEST_P(ElementwiseTest, BiasIsAddedToEachRowAndByExpert) {
  const int rows = 4, n = 515, experts = 6;
  const std::vector<float> x = normal((size_t)rows * n), b = normal((size_t)experts * n);
  const std::vector<int> chosen = {5, 0, 3, 3};
  Buffer<float> d_x(x), d_y(x), d_b(b);
  Buffer<int> d_chosen(chosen);
  getp_hip::add_bias(d_x.data(), d_b.data(), rows, n, nullptr);
  getp_hip::add_expert_bias(d_y.data(), d_b.data(), d_chosen.data(), rows, n, nullptr);
  const std::vector<float> plain = d_x.fetch(), by_expert = d_y.fetch();
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < n; i++) {
      ASSERT_EQ(plain[r * n + i], x[r * n + i] + b[i]);
      ASSERT_EQ(by_expert[r * n + i], x[r * n + i] + b[chosen[r] * n + i]);
    }
}

TEST_P(ElementwiseTest, SplitQkv) {
  const int rows = 3, q_dim = 192, kv_dim = 65, width = q_dim + 2 * kv_dim;
  const std::vector<float> qkv = normal((size_t)rows * width);
  Buffer<float> d_qkv(qkv), d_q((size_t)rows * q_dim), d_k((size_t)rows * kv_dim), d_v((size_t)rows * kv_dim);
  getp_hip::split_qkv(d_q.data(), d_k.data(), d_v.data(), d_qkv.data(), rows, q_dim, kv_dim, nullptr);
  const std::vector<float> q = d_q.fetch(), k = d_k.fetch(), v = d_v.fetch();
  for (int r = 0; r < rows; r++) {
    for (int i = 0; i < q_dim; i++) ASSERT_EQ(q[r * q_dim + i], qkv[r * width + i]);
    for (int i = 0; i < kv_dim; i++) {
      ASSERT_EQ(k[r * kv_dim + i], qkv[r * width + q_dim + i]);
      ASSERT_EQ(v[r * kv_dim + i], qkv[r * width + q_dim + kv_dim + i]);
    }
  }
}

TEST_P(ElementwiseTest, GatherRows) {
  const int n = 300;
  const std::vector<float> x = normal((size_t)5 * n);
  const std::vector<int> index = {4, 0, 4};
  Buffer<float> d_x(x), d_out(index.size() * n);
  Buffer<int> d_index(index);
  getp_hip::gather_rows(d_out.data(), d_x.data(), d_index.data(), (int)index.size(), n, nullptr);
  const std::vector<float> out = d_out.fetch();
  for (size_t r = 0; r < index.size(); r++)
    for (int i = 0; i < n; i++) ASSERT_EQ(out[r * n + i], x[(size_t)index[r] * n + i]);
}

// Against std::max_element, which takes the first of equal elements as sample_argmax does.
TEST_P(ElementwiseTest, ArgmaxTakesTheLowestOfEqualIndices) {
  const int rows = 6;
  for (int n : {1, 2, 255, 256, 257, 5000}) {
    std::vector<float> x = normal((size_t)rows * n);
    for (int i = 0; i < n; i++) x[n + i] = 1.5f;                      // all equal
    for (int i = 0; i < n; i++) x[2 * n + i] = i % 2 ? 0.0f : -0.0f;  // zeros of both signs are equal
    x[3 * n + n - 1] = x[3 * n + n / 2] = 1000;                       // a tie far apart
    for (int i = 0; i < n; i++) x[4 * n + i] = -INFINITY;
    x[5 * n + n - 1] = INFINITY;
    Buffer<float> d_x(x);
    Buffer<int> d_tokens(rows);
    getp_hip::argmax(d_tokens.data(), d_x.data(), rows, n, nullptr);
    const std::vector<int> tokens = d_tokens.fetch();
    for (int r = 0; r < rows; r++) {
      const auto row = x.begin() + (size_t)r * n;
      EXPECT_EQ(tokens[r], std::max_element(row, row + n) - row) << "row " << r << " of " << n;
    }
  }
}
