// Kernels of the mixture of experts: top-k, SwiGLU, combination of the experts' outputs.
#include "kernel_testing.hpp"

#include <algorithm>
#include <numeric>

#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/swiglu.hip"
#include "../hip/kernels/topk.hip"

// Rows of a length that is not split.
static const getp_hip::SplitRows kNoSplit = {};

using MoeTest = KernelTest;
INSTANTIATE_KERNEL_TEST(MoeTest);

TEST_P(MoeTest, TopkDescendsAndTiesGoByIndex) {
  for (int n : {1, 4, 8, 32, 33, 128, 200})
    for (int k : {1, 2, 4, 8}) {
      if (k > n) continue;
      const int rows = 4;
      std::vector<float> scores = integers((size_t)rows * n, 3);  // few values: many ties
      const std::vector<float> distinct = normal(n);
      std::copy(distinct.begin(), distinct.end(), scores.begin());
      for (int i = 0; i < n; i++) scores[n + i] = i % 2 ? 0.0f : -0.0f;  // equal, whatever the sign of zero
      Buffer<float> d_scores(scores), d_values((size_t)rows * k);
      Buffer<int> d_indices((size_t)rows * k);
      getp_hip::topk(d_values.data(), d_indices.data(), d_scores.data(), rows, n, k, nullptr);
      const std::vector<float> values = d_values.fetch();
      const std::vector<int> indices = d_indices.fetch();
      for (int r = 0; r < rows; r++) {
        std::vector<int> order(n);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int a, int b) { return scores[r * n + a] > scores[r * n + b]; });
        for (int j = 0; j < k; j++) {
          ASSERT_EQ(indices[r * k + j], order[j]) << "n " << n << ", k " << k << ", row " << r << ", rank " << j;
          double sum = 0;
          for (int other = 0; other < k; other++)
            sum += std::exp((double)scores[r * n + order[other]] - scores[r * n + order[0]]);
          const double weight = std::exp((double)scores[r * n + order[j]] - scores[r * n + order[0]]) / sum;
          ASSERT_NEAR(values[r * k + j], weight, 1e-6);
        }
      }
    }
}

TEST_P(MoeTest, TopkOfNanAndInfinityStaysInRange) {
  const std::vector<float> scores = {NAN, -INFINITY, NAN, 1, INFINITY, NAN};
  Buffer<float> d_scores(scores), d_values(6);
  Buffer<int> d_indices(6);
  getp_hip::topk(d_values.data(), d_indices.data(), d_scores.data(), 1, 6, 6, nullptr);
  EXPECT_EQ(d_indices.fetch(), (std::vector<int>{4, 3, 1, 0, 2, 5}));
}

TEST_P(MoeTest, SwigluClampsAndGates) {
  const int rows = 4, inter = 301;
  const float limit = 7;
  std::vector<float> in = normal((size_t)rows * 2 * inter, 5);
  in[0] = 100, in[1] = -100, in[2] = -100, in[3] = 100, in[4] = -60, in[5] = 7;  // both sides of both limits
  std::vector<double> out;
  for (size_t i = 0; i < in.size(); i += 2) {
    const double gate = std::min((double)in[i], (double)limit);
    const double up = std::max(std::min((double)in[i + 1], (double)limit), -(double)limit);
    out.push_back(gate / (1 + std::exp(-1.702 * gate)) * (up + 1));
  }
  Buffer<float> d_in(in), d_out(out.size());
  getp_hip::swiglu(d_out.data(), kNoSplit, d_in.data(), rows, inter, limit, nullptr);
  EXPECT_TRUE(all_near(d_out.fetch(), out, 2e-5));  // values up to 56
}

// A thread keeps what it has of a short row; of a long one it computes the values again.
TEST_P(MoeTest, SwigluSplitsWhatItGives) {
  const int rows = 2;
  for (int inter : {304, 4104}) {
    const std::vector<float> in = normal((size_t)rows * 2 * inter, 5);
    const size_t pitch = getp_hip::split_pitch(inter);
    Buffer<float> d_in(in), d_out((size_t)rows * inter), d_scales(rows), d_expected_scales(rows);
    Buffer<getp_hip::fp16> hi(rows * pitch), lo(rows * pitch), expected_hi(rows * pitch), expected_lo(rows * pitch);
    getp_hip::swiglu(d_out.data(), {hi.data(), lo.data(), d_scales.data(), 2}, d_in.data(), rows, inter, 7, nullptr);
    getp_hip::split_terms({expected_hi.data(), expected_lo.data(), d_expected_scales.data(), 2}, d_out.data(), rows,
                          inter, nullptr);
    EXPECT_EQ(d_scales.fetch(), d_expected_scales.fetch());
    const auto bits = [](Buffer<getp_hip::fp16> &values) {
      std::vector<int> of;
      for (getp_hip::fp16 value : values.fetch()) of.push_back(value.bits);
      return of;
    };
    EXPECT_EQ(bits(hi), bits(expected_hi)) << "intermediate " << inter;
    EXPECT_EQ(bits(lo), bits(expected_lo)) << "intermediate " << inter;
  }
}

TEST_P(MoeTest, SwigluKeepsNan) {
  Buffer<float> d_in(std::vector<float>{NAN, 1, 1, NAN}), d_out(2);
  getp_hip::swiglu(d_out.data(), kNoSplit, d_in.data(), 1, 2, 7, nullptr);
  for (float value : d_out.fetch()) EXPECT_TRUE(std::isnan(value)) << value;
}

TEST_P(MoeTest, ExpertsAreAddedInAscendingIndex) {
  const int rows = 3, k = 4, hidden = 300;
  const std::vector<int> experts = {3, 0, 7, 1, 7, 6, 5, 4, 0, 1, 2, 3};
  const std::vector<float> y = normal((size_t)rows * k * hidden), weights = normal((size_t)rows * k);
  const std::vector<float> x = normal((size_t)rows * hidden);
  Buffer<float> d_w(std::vector<float>(hidden, 1));
  const auto sums = [&](const std::vector<float> &x_values, const std::vector<float> &outputs,
                        const std::vector<float> &by, const std::vector<int> &of, int chosen, int n) {
    Buffer<float> d_sums(x_values), d_outputs(outputs), d_by(by), d_norm(x_values.size());
    Buffer<int> d_of(of);
    getp_hip::rmsnorm(d_norm.data(), kNoSplit, d_sums.data(), {d_outputs.data(), d_by.data(), d_of.data(), chosen},
                      d_w.data(), nullptr, (int)x_values.size() / n, n, nullptr);
    return d_sums.fetch();
  };
  std::vector<double> expected(x.begin(), x.end());
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < k; j++)
      for (int i = 0; i < hidden; i++)
        expected[r * hidden + i] += (double)weights[r * k + j] * y[((size_t)r * k + j) * hidden + i];
  EXPECT_TRUE(all_near(sums(x, y, weights, experts, k, hidden), expected, 5e-6));

  // The order shows where sums round: 1e8 + 1 - 1e8 is 0 in FP32, 1e8 - 1e8 + 1 is 1.
  const std::vector<float> big = {-1e8f, 1, 1e8f}, ones = {1, 1, 1};
  EXPECT_EQ(sums({0}, big, ones, {1, 9, 0}, 3, 1)[0], 1);
  EXPECT_EQ(sums({0}, big, ones, {9, 1, 0}, 3, 1)[0], 0);
}
