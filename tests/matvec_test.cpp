// Matrix-vector products in FP32, plain and by expert, against sums in double.
#include "kernel_testing.hpp"

#include "../hip/kernels/matvec.hip"

using MatvecTest = KernelTest;
INSTANTIATE_KERNEL_TEST(MatvecTest);

static std::vector<double> reference(const std::vector<float> &w, const std::vector<float> &x, int rows, int n, int d,
                                     const std::vector<int> &experts, int share) {
  std::vector<double> out((size_t)rows * d);
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < d; o++) {
      const size_t row = ((experts.empty() ? 0 : (size_t)experts[r]) * d + o) * n, at = (size_t)(r / share) * n;
      double sum = 0;
      for (int i = 0; i < n; i++) sum += (double)w[row + i] * x[at + i];
      out[(size_t)r * d + o] = sum;
    }
  return out;
}

static std::vector<float> run(const std::vector<float> &w, const std::vector<float> &x, int rows, int n, int d,
                              const std::vector<int> &experts, int share, bool grouped = false) {
  Buffer<float> d_w(w), d_x(x), d_out((size_t)rows * d);
  getp_hip::DeviceMatrix matrix;
  matrix.shaped(w.size() / ((size_t)d * n), d, n).d_exact = d_w.data();
  getp_hip::ProductRows of;
  of.rows = rows;
  if (experts.empty()) {
    getp_hip::matvec(card_of_test, d_out.data(), matrix, d_x.data(), of, nullptr);
    return d_out.fetch();
  }
  const int n_experts = (int)matrix.count;
  Buffer<int> d_experts(experts), d_rows((size_t)rows), d_counts(n_experts);
  Buffer<getp_hip::ExpertTile> d_tiles(getp_hip::expert_tile_count(rows, n_experts, getp_hip::kMatvecTile));
  of.share = share;
  of.d_experts = d_experts.data();
  if (grouped)
    of.groups = getp_hip::expert_tiles({d_tiles.data(), d_rows.data(), d_counts.data()}, d_experts.data(), rows,
                                       n_experts, getp_hip::kMatvecTile, nullptr);
  getp_hip::matvec(card_of_test, d_out.data(), matrix, d_x.data(), of, nullptr);
  return d_out.fetch();
}

// Odd sizes, sizes around the powers of two, and all that the models use.
static const int kSizes[] = {1,   2,   3,   5,   8,   31,  32,  33,   63,   64,   65,   96,   127,  128,  192,
                             255, 256, 257, 260, 264, 511, 512, 1000, 1023, 2048, 2879, 2880, 2881, 4095, 4096};

TEST_P(MatvecTest, EverySizeWithin5e5) {
  for (int n : kSizes) {
    const int rows = 2, d = 37;
    const std::vector<float> w = normal((size_t)d * n, 1 / std::sqrt(n)), x = normal((size_t)rows * n);
    EXPECT_TRUE(all_near(run(w, x, rows, n, d, {}, 1), reference(w, x, rows, n, d, {}, 1), 5e-5)) << "K " << n;
  }
}

TEST_P(MatvecTest, IntegersAreBitEqual) {
  for (int n : kSizes)
    for (int d : {1, 7, 8, 9, 33}) {
      const int rows = 3;
      const std::vector<float> w = integers((size_t)d * n, 8), x = integers((size_t)rows * n, 8);
      EXPECT_TRUE(all_near(run(w, x, rows, n, d, {}, 1), reference(w, x, rows, n, d, {}, 1), 0)) << n << " x " << d;
    }
}

TEST_P(MatvecTest, ExpertsReadTheirOwnMatrix) {
  const std::vector<int> experts = {4, 0, 2, 1, 0, 3};
  for (int n : {64, 96, 2880})
    for (int share : {1, 3}) {
      const int rows = (int)experts.size(), d = 21;
      const std::vector<float> w = integers((size_t)5 * d * n, 8), x = integers((size_t)rows / share * n, 8);
      EXPECT_TRUE(all_near(run(w, x, rows, n, d, experts, share), reference(w, x, rows, n, d, experts, share), 0))
          << "K " << n << ", share " << share;
    }
}

TEST_P(MatvecTest, UnalignedPointersTakeTheScalarPath) {
  const int n = 64, d = 9;
  const std::vector<float> w = integers((size_t)d * n + 1, 8), x = integers(n, 8);
  Buffer<float> d_w(w), d_x(x), d_out(d);
  getp_hip::DeviceMatrix matrix;
  matrix.shaped(1, d, n).d_exact = d_w.data() + 1;
  getp_hip::ProductRows of;
  of.rows = 1;
  getp_hip::matvec(card_of_test, d_out.data(), matrix, d_x.data(), of, nullptr);
  const std::vector<float> shifted(w.begin() + 1, w.end());
  EXPECT_TRUE(all_near(d_out.fetch(), reference(shifted, x, 1, n, d, {}, 1), 0));
}

// A row's result may not depend on what rows stand beside it.
TEST_P(MatvecTest, RowsAreIndependentOfTheBatch) {
  for (int n : {96, 200, 263, 2880}) {
    const int rows = 19, d = 19;
    const std::vector<float> w = normal((size_t)d * n), x = normal((size_t)rows * n);
    const std::vector<float> together = run(w, x, rows, n, d, {}, 1);
    for (int r = 0; r < rows; r++) {
      const std::vector<float> own(x.begin() + r * n, x.begin() + (r + 1) * n);
      const auto row = [&](const std::vector<float> &all) {
        return std::vector<float>(all.begin() + r * d, all.begin() + (r + 1) * d);
      };
      EXPECT_EQ(run(w, own, 1, n, d, {}, 1), row(together)) << "K " << n << ", row " << r;
    }
  }
}

// Rows grouped by expert give the bits of rows on their own: experts without rows, with one, with more than a tile.
TEST_P(MatvecTest, GroupingByExpertChangesNothing) {
  std::vector<int> experts = {4, 0, 2, 2, 2, 7};
  for (int i = 0; i < 30; i++) experts.push_back(i % 3 ? 5 : 1);
  for (int n : {96, 2880})
    for (int share : {1, 4}) {
      const int rows = (int)experts.size(), d = 13;
      const std::vector<float> w = normal((size_t)9 * d * n);
      const std::vector<float> x = normal((size_t)rows / share * n);
      EXPECT_EQ(run(w, x, rows, n, d, experts, share, true), run(w, x, rows, n, d, experts, share, false))
          << "K " << n << ", share " << share;
    }
}
