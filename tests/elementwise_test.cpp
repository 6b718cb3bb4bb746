// Elementwise kernels and reductions over rows, each against a reference in double.
#include "kernel_testing.hpp"

#include <cfloat>

#include "../hip/kernels/argmax.hip"
#include "../hip/kernels/bias.hip"
#include "../hip/kernels/embedding.hip"
#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/page_table.hip"
#include "../hip/kernels/rope.hip"

namespace {

// Room for the split form of a kernel's result.
class Split {
 public:
  Split(int rows, int n)
      : hi_((size_t)rows * getp_hip::split_pitch(n)), lo_((size_t)rows * getp_hip::split_pitch(n)), scales_(rows) {}
  getp_hip::SplitRows rows() { return {hi_.data(), lo_.data(), scales_.data(), 2}; }
  // That it holds `values`, and zeros behind each row.
  void check(const std::vector<float> &values, int n) {
    if (n % 8 != 0) return;
    const std::vector<getp_hip::fp16> hi = hi_.fetch(), lo = lo_.fetch();
    const std::vector<float> scales = scales_.fetch();
    const size_t pitch = getp_hip::split_pitch(n);
    for (size_t at = 0; at < hi.size(); at++) {
      const size_t r = at / pitch, i = at % pitch;
      const auto row = values.begin() + r * n;
      const double largest =
          std::fabs(*std::max_element(row, row + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
      const double sum = ((double)to_float(hi[at]) + to_float(lo[at])) * scales[r],
                   value = i < (size_t)n ? values[r * n + i] : 0;
      // split_terms.hip's contract; what is past the row must be 0
      const double bound = i < (size_t)n ? std::max(std::fabs(value) * 0x1p-20, largest * 0x1p-39) : 0;
      ASSERT_LE(std::fabs(sum - value), bound) << "row " << r << ", place " << i;
    }
  }

 private:
  Buffer<getp_hip::fp16> hi_, lo_;
  Buffer<float> scales_;
};

}  // namespace

using ElementwiseTest = KernelTest;
INSTANTIATE_KERNEL_TEST(ElementwiseTest);

TEST_P(ElementwiseTest, EmbeddingGathersRows) {
  for (int hidden : {1, 96, 257, 2880}) {
    using namespace getp_hip;
    std::vector<float> table = normal((size_t)50 * hidden);
    const std::vector<int> tokens = {49, 0, 7, 7, 31};
    Buffer<int> d_tokens(tokens);
    for (MatrixForm form : {MatrixForm::kFp32, MatrixForm::kBf16}) {
      std::vector<bf16> in_bf16;
      for (float &value : table) {
        in_bf16.push_back(to_bf16(value));
        if (form == MatrixForm::kBf16) value = to_float(in_bf16.back());
      }
      Buffer<float> d_table(table), d_out(tokens.size() * hidden);
      Buffer<bf16> d_bf16(in_bf16);
      DeviceMatrix w;
      w.shaped_table(50, hidden).form = form;
      if (form == MatrixForm::kBf16)
        w.d_bf16 = d_bf16.data();
      else
        w.d_exact = d_table.data();
      embedding(d_out.data(), w, d_tokens.data(), (int)tokens.size(), nullptr);
      const std::vector<float> out = d_out.fetch();
      for (size_t r = 0; r < tokens.size(); r++)
        for (int i = 0; i < hidden; i++) ASSERT_EQ(out[r * hidden + i], table[(size_t)tokens[r] * hidden + i]);
    }
  }
}

TEST_P(ElementwiseTest, RmsnormWithin5e6) {
  for (int hidden : {1, 3, 32, 96, 255, 256, 257, 2880, 3080, 3081}) {
    const int rows = 3;
    const std::vector<float> x = normal((size_t)rows * hidden, 3), w = normal(hidden);
    std::vector<double> reference(x.size());
    for (int r = 0; r < rows; r++) {
      double squares = 0;
      for (int i = 0; i < hidden; i++) squares += (double)x[r * hidden + i] * x[r * hidden + i];
      for (int i = 0; i < hidden; i++)
        reference[r * hidden + i] = w[i] * (double)x[r * hidden + i] / std::sqrt(squares / hidden + 1e-5);
    }
    // The same rows as a sum, which joins x on the way.
    const std::vector<float> half = [&] {
      std::vector<float> values = x;
      for (float &value : values) value *= 0.5f;
      return values;
    }();
    Buffer<float> d_x(x), d_half(half), d_other_half(half), d_w(w), d_out(x.size()), d_sum_out(x.size());
    Split split(rows, hidden);
    getp_hip::rmsnorm(d_out.data(), split.rows(), d_x.data(), {}, d_w.data(), nullptr, rows, hidden, nullptr);
    EXPECT_TRUE(all_near(d_out.fetch(), reference, 5e-6)) << "hidden " << hidden;
    EXPECT_EQ(d_x.fetch(), x);
    split.check(d_out.fetch(), hidden);
    getp_hip::rmsnorm(d_sum_out.data(), split.rows(), d_half.data(), {d_other_half.data()}, d_w.data(), nullptr, rows,
                      hidden, nullptr);
    EXPECT_EQ(d_sum_out.fetch(), d_out.fetch()) << "hidden " << hidden;
    EXPECT_EQ(d_half.fetch(), x) << "hidden " << hidden;
  }
}

TEST_P(ElementwiseTest, RmsnormOfTinyValuesKeepsEpsilon) {
  const std::vector<float> x = {1e-4f, -2e-4f, 0, 3e-4f}, w = {1, 2, 3, 4};
  std::vector<double> reference;
  for (int i = 0; i < 4; i++) reference.push_back(w[i] * (double)x[i] / std::sqrt(14e-8 / 4 + 1e-5));
  Buffer<float> d_x(x), d_w(w), d_out(4);
  getp_hip::rmsnorm(d_out.data(), Split(1, 4).rows(), d_x.data(), {}, d_w.data(), nullptr, 1, 4, nullptr);
  EXPECT_TRUE(all_near(d_out.fetch(), reference, 1e-8));
}

TEST_P(ElementwiseTest, RopeRotatesAndFillsTheCache) {
  for (int head_dim : {2, 32, 64})
    for (int heads : {1, 5, 64}) {
      const std::vector<int> positions = {0, 3, 19}, slots = {1, 2, 0};
      const int half = head_dim / 2, seq_len = 20, kv_heads = heads == 64 ? 8 : 1, length = 7, rows = 3;
      const int all_heads = heads + 2 * kv_heads;
      const std::vector<float> qkv = normal((size_t)rows * all_heads * head_dim);
      std::vector<float> cosines, sines;
      for (int i = 0; i < seq_len * half; i++) {
        cosines.push_back((float)std::cos(0.37 * i));
        sines.push_back((float)std::sin(0.37 * i));
      }
      std::vector<double> q((size_t)rows * heads * head_dim);
      std::vector<double> keys((size_t)3 * length * kv_heads * head_dim, 0), values = keys;
      for (int r = 0; r < rows; r++)
        for (int h = 0; h < all_heads; h++)
          for (int i = 0; i < half; i++) {
            const size_t from = ((size_t)r * all_heads + h) * head_dim + i, angle = (size_t)positions[r] * half + i;
            const size_t place = ((size_t)slots[r] * length + positions[r] % length) * kv_heads;
            double a = qkv[from], b = qkv[from + half];
            if (h < heads + kv_heads) {
              const double first = a;
              a = first * cosines[angle] - b * sines[angle];
              b = b * cosines[angle] + first * sines[angle];
            }
            double *to = h < heads              ? &q[((size_t)r * heads + h) * head_dim]
                         : h < heads + kv_heads ? &keys[(place + h - heads) * head_dim]
                                                : &values[(place + h - heads - kv_heads) * head_dim];
            to[i] = a;
            to[i + half] = b;
          }
      const std::vector<float> empty(keys.size(), 0);
      Buffer<float> d_qkv(qkv), d_cos(cosines), d_sin(sines), d_q(q.size()), d_keys(empty), d_values(empty);
      Buffer<int> d_positions(positions), d_slots(slots);
      getp_hip::KvCache cache;
      cache.d_keys = d_keys.data();
      cache.d_values = d_values.data();
      cache.length = length;
      getp_hip::rope(d_q.data(), cache, d_qkv.data(), d_cos.data(), d_sin.data(),
                     {d_positions.data(), d_slots.data(), rows, seq_len - 1}, heads, kv_heads, head_dim, nullptr);
      EXPECT_TRUE(all_near(d_q.fetch(), q, 5e-6)) << "head_dim " << head_dim << ", heads " << heads;
      EXPECT_TRUE(all_near(d_keys.fetch(), keys, 5e-6)) << "head_dim " << head_dim << ", heads " << heads;
      EXPECT_TRUE(all_near(d_values.fetch(), values, 0)) << "head_dim " << head_dim << ", heads " << heads;
    }
}

TEST_P(ElementwiseTest, PagesChangeWhereTheyAreSaidTo) {
  std::vector<int> expected(700);
  for (int i = 0; i < (int)expected.size(); i++) expected[i] = -i;
  std::vector<int> places, pages;
  for (int i = 0; i < 300; i++) {  // more than a block
    places.push_back(i * 377 % 700);
    pages.push_back(1000 + i);
  }
  Buffer<int> d_table(expected), d_places(places), d_pages(pages);
  for (int i = 0; i < 300; i++) expected[places[i]] = pages[i];
  getp_hip::change_pages(d_table.data(), d_places.data(), d_pages.data(), 300, nullptr);
  EXPECT_EQ(d_table.fetch(), expected);
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

TEST_P(ElementwiseTest, RmsnormOfChosenRowsLeavesTheOthers) {
  const int hidden = 304, rows = 5;
  const std::vector<float> x = normal((size_t)rows * hidden), add = normal(x.size()), w = normal(hidden);
  const std::vector<int> index = {4, 0, 3};
  Buffer<float> d_all(x), d_some(x), d_add(add), d_w(w), d_out(x.size()), d_some_out(index.size() * hidden);
  Buffer<int> d_index(index);
  Split split(rows, hidden), some_split((int)index.size(), hidden);
  getp_hip::rmsnorm(d_out.data(), split.rows(), d_all.data(), {d_add.data()}, d_w.data(), nullptr, rows, hidden,
                    nullptr);
  getp_hip::rmsnorm(d_some_out.data(), some_split.rows(), d_some.data(), {d_add.data()}, d_w.data(), d_index.data(),
                    (int)index.size(), hidden, nullptr);
  const std::vector<float> out = d_out.fetch(), some_out = d_some_out.fetch(), all = d_all.fetch(),
                           some = d_some.fetch();
  for (int i = 0; i < hidden; i++) {
    for (size_t r = 0; r < index.size(); r++) ASSERT_EQ(some_out[r * hidden + i], out[index[r] * hidden + i]);
    for (int r = 0; r < rows; r++) ASSERT_EQ(some[r * hidden + i], (r == 1 || r == 2 ? x : all)[r * hidden + i]);
  }
  some_split.check(some_out, hidden);
}

std::vector<int> argmax_of(const std::vector<float> &x, int rows) {
  Buffer<float> d_x(x);
  Buffer<int> d_tokens(rows);
  Buffer<getp_hip::TopkKey> d_parts((size_t)rows * getp_hip::kArgmaxParts);
  getp_hip::argmax(d_tokens.data(), d_parts.data(), d_x.data(), rows, (int)x.size() / rows, nullptr);
  return d_tokens.fetch();
}

// Against std::max_element, which takes the first of equal elements as sample_argmax does.
TEST_P(ElementwiseTest, ArgmaxTakesTheLowestOfEqualIndices) {
  const int rows = 6;
  for (int n : {1, 2, 255, 256, 257, 5000}) {
    std::vector<float> x = normal((size_t)rows * n);
    for (int i = 0; i < n; i++) x[n + i] = 1.5f;                      // all equal
    for (int i = 0; i < n; i++) x[2 * n + i] = i % 2 ? 0.0f : -0.0f;  // zeros of both signs are equal
    x[3 * n + n - 1] = x[3 * n + n / 2] = 1000;                       // a tie far apart
    for (int i = 0; i < n - 1; i++) x[4 * n + i] = -INFINITY;
    x[4 * n + n - 1] = -FLT_MAX;
    x[5 * n + n - 1] = FLT_MAX;
    const std::vector<int> tokens = argmax_of(x, rows);
    for (int r = 0; r < rows; r++) {
      const auto row = x.begin() + (size_t)r * n;
      EXPECT_EQ(tokens[r], std::max_element(row, row + n) - row) << "row " << r << " of " << n;
    }
  }
}

// NaN of either sign, in any place; a largest value that is infinite. Rows beside them keep their tokens.
TEST_P(ElementwiseTest, ArgmaxHasNoTokenWhereLogitsAreNotNumbers) {
  const int rows = 7;
  for (int n : {1, 3, 256, 5000}) {
    std::vector<float> x = normal((size_t)rows * n);
    const float nan = NAN;
    x[0] = nan;
    x[n + n - 1] = -nan;
    x[2 * n + n / 2] = nan;
    x[2 * n + n - 1] = n > 1 ? INFINITY : nan;
    x[3 * n + n / 3] = INFINITY;
    for (int i = 0; i < n; i++) x[4 * n + i] = -INFINITY;
    for (int i = 0; i < n; i++) x[5 * n + i] = i % 2 ? nan : -nan;
    const std::vector<int> tokens = argmax_of(x, rows);
    for (int r = 0; r < rows - 1; r++) EXPECT_EQ(tokens[r], getp_hip::kNoToken) << "row " << r << " of " << n;
    const auto last = x.begin() + (size_t)(rows - 1) * n;
    EXPECT_EQ(tokens[rows - 1], std::max_element(last, last + n) - last) << n;
  }
}

// A row whose sum of squares FP32 cannot hold must not become zeros, which would look like numbers.
TEST_P(ElementwiseTest, RmsnormOfValuesBeyondFp32IsNan) {
  for (int hidden : {1, 96, 3081}) {
    std::vector<float> x = normal((size_t)3 * hidden), w(hidden, 1.0f);
    x[0] = 1e20f;
    x[2 * hidden - 1] = -INFINITY;
    Buffer<float> d_x(x), d_w(w), d_out(x.size());
    getp_hip::rmsnorm(d_out.data(), Split(3, hidden).rows(), d_x.data(), {}, d_w.data(), nullptr, 3, hidden, nullptr);
    const std::vector<float> out = d_out.fetch();
    for (int i = 0; i < 3 * hidden; i++) ASSERT_EQ(std::isnan(out[i]), i < 2 * hidden) << i << " of rows of " << hidden;
  }
}
