// Products on matrix cores: the split of activations, plain and expert matrices, every tile, one term and two, against
// sums in double.
#include "kernel_testing.hpp"

#include "../hip/kernels/matmul.hip"

using namespace getp_hip;
class MatmulTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    prepare_matmul(card_of_test);
  }
};
INSTANTIATE_KERNEL_TEST(MatmulTest);

namespace {

// A matrix stack on the device, in MXFP4 or FP16, and, as FP32, on the host.
struct Matrices {
  Matrices(const std::vector<float> &values, int count, int d, int n, MatrixForm form = MatrixForm::kFp16)
      : h(values), matrix(shaped(count, d, n, form)), units_of(matrix.unit_count()), scales_of((size_t)count * d) {
    std::vector<uint4> units(matrix.unit_count(), uint4{});
    std::vector<float> scales((size_t)count * d);
    const size_t padded_n = matrix.padded_n();
    std::vector<fp16> rows(16 * padded_n, fp16{0});
    Mxfp4Packer packer(n);
    bool exact = true;
    for (int i = 0; i < count; i++)
      for (int row = 0; row < d; row++) {
        const size_t at = (size_t)i * d + row;
        fp16 *to = rows.data() + row % 16 * padded_n;
        scales[at] = row_to_fp16(to, h.data() + at * n, n, true, exact);
        if (form == MatrixForm::kMxfp4) {
          float scale = 0;
          EXPECT_TRUE(packer.take(row % 16, h.data() + at * n, true, scale)) << "row " << row;
          EXPECT_EQ(scale, scales[at]) << "row " << row;
        }
        for (int k = 0; k < n; k++) h[at * n + k] = to_float(to[k]) * scales[at];
        if (row % 16 != 15 && row + 1 != d) continue;
        uint4 *strip = units.data() + (i * matrix.strips() + row / 16) * matrix.strip_units();
        if (form == MatrixForm::kMxfp4)
          packer.write(strip, row % 16 + 1);
        else
          lay_out_strip((fp16 *)strip, rows.data(), row % 16 + 1, padded_n, weight_words().data());
      }
    EXPECT_TRUE(exact);
    copy_to_device(units_of.data(), units.data(), units.size(), nullptr);
    copy_to_device(scales_of.data(), scales.data(), scales.size(), nullptr);
    HIP_CHECK(hipDeviceSynchronize());
    matrix.d_units = units_of.data();
    matrix.d_scales = scales_of.data();
  }
  static DeviceMatrix shaped(int count, int d, int n, MatrixForm form) {
    DeviceMatrix matrix;
    matrix.shaped(count, d, n).form = form;
    return matrix;
  }
  std::vector<float> h;
  DeviceMatrix matrix;
  Buffer<uint4> units_of;
  Buffer<float> scales_of;
};

// Values that MXFP4 holds: groups of all sizes, some of few magnitudes, some of zeros, some so small beside their row that
// FP16 keeps a part of them.
std::vector<float> mxfp4_values(size_t count, std::mt19937 &random) {
  const float magnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<float> values(count);
  for (size_t group = 0; group < count; group += kMxfp4Group) {
    const unsigned kind = random() % 8;
    const int exponent = kind == 0 ? -(int)(random() % 40) : -(int)(random() % 6);
    for (size_t i = group; i < group + kMxfp4Group; i++) {
      const unsigned code = kind == 1 ? 0 : kind == 2 ? random() % 2 : random() % 8;
      values[i] = std::ldexp(random() % 2 ? -magnitudes[code] : magnitudes[code], exponent);
    }
  }
  return values;
}

struct Split {
  Split(const std::vector<float> &x, int rows, int n, int terms)
      : hi((size_t)rows * split_pitch(n)),
        lo((size_t)rows * split_pitch(n)),
        scales(rows),
        split{hi.data(), lo.data(), scales.data(), terms} {
    Buffer<float> d_x(x);
    split_terms(split, d_x.data(), rows, n, nullptr);
    HIP_CHECK(hipDeviceSynchronize());
  }
  Buffer<fp16> hi, lo;
  Buffer<float> scales;
  SplitRows split;
};

// Experts of each row, or one matrix for all; `tile_rows` 0: rows on their own, or the launcher's choice.
struct Case {
  int rows, n, d;
  std::vector<int> experts = {};
  int share = 1, tile_rows = 0;
  bool bias = false;
  const Card *card = nullptr;  // to plan for, instead of the one that is there
};

std::vector<float> run(const Matrices &w, const Split &x, const std::vector<float> &bias, const Case &c) {
  Buffer<float> out((size_t)c.rows * c.d), d_bias(bias);
  const float *own_bias = c.bias ? d_bias.data() : nullptr;
  ProductRows of;
  of.rows = c.rows;
  if (c.experts.empty()) {
    Product product = product_of(c.card ? *c.card : card_of_test, w.matrix, x.split.terms, of);
    if (c.tile_rows) {
      product.tile_rows = c.tile_rows;
      product.row_tiles = (c.rows + c.tile_rows - 1) / c.tile_rows;
    }
    launch_matmul(matmul_arguments(out.data(), w.matrix, own_bias, x.split, of, product.row_tiles), w.matrix.form,
                  plan_product(c.card ? *c.card : card_of_test, product), x.split.terms, nullptr);
    return out.fetch();
  }
  const int n_experts = (int)w.matrix.count;
  Buffer<int> d_experts(c.experts), d_rows(c.rows), d_counts(n_experts);
  Buffer<ExpertTile> d_tiles(expert_tile_count(c.rows, n_experts, kMatvecTile));
  of.share = c.share;
  of.d_experts = d_experts.data();
  if (c.tile_rows)
    of.groups = expert_tiles({d_tiles.data(), d_rows.data(), d_counts.data()}, d_experts.data(), c.rows, n_experts,
                             c.tile_rows, nullptr);
  matmul(card_of_test, out.data(), w.matrix, own_bias, x.split, of, nullptr);
  return out.fetch();
}

std::vector<double> reference(const Matrices &w, const std::vector<float> &x, const std::vector<float> &bias,
                              const Case &c) {
  std::vector<double> out;
  for (int r = 0; r < c.rows; r++)
    for (int o = 0; o < c.d; o++) {
      const size_t row = (c.experts.empty() ? 0 : (size_t)c.experts[r]) * c.d + o;
      double sum = c.bias ? bias[row] : 0;
      for (int i = 0; i < c.n; i++) sum += (double)w.h[row * c.n + i] * x[(size_t)(r / c.share) * c.n + i];
      out.push_back(sum);
    }
  return out;
}

// More than 128 of either kind, tiles and chunks of k that are full, begun and one over.
const Case kShapes[] = {{1, 2880, 70},  {3, 8, 1},      {16, 256, 16},  {17, 264, 33},  {32, 512, 40},
                        {33, 520, 129}, {64, 40, 128},  {65, 64, 130},  {97, 248, 128}, {128, 32, 20},
                        {129, 96, 257}, {200, 768, 48}, {210, 264, 130}};

// Row numbers of experts: without rows, with one, with more than a tile.
std::vector<int> mixed_experts(int rows) {
  std::vector<int> experts = {4, 0, 2, 2, 7};
  while ((int)experts.size() < rows) experts.push_back(experts.size() % 3 ? 5 : 1);
  return experts;
}

}  // namespace

TEST_P(MatmulTest, SplitIsExactTo22Bits) {
  const int rows = 6;
  for (int n : {1032, 4104}) {
    std::vector<float> x = normal((size_t)rows * n);
    for (int i = 0; i < n; i++) {
      x[n + i] *= 1e-38f;                           // at the end of FP32's range
      x[2 * n + i] *= 1e37f;                        // and at the other
      x[3 * n + i] = 0;                             // nothing
      x[4 * n + i] *= std::exp2(-(float)(i % 40));  // values of all sizes
    }
    x[5 * n] = 3e4f;  // an outlier
    Split split(x, rows, n, 2);
    const std::vector<fp16> hi = split.hi.fetch(), lo = split.lo.fetch();
    const std::vector<float> scales = split.scales.fetch();
    for (int r = 0; r < rows; r++) {
      float largest = 0;
      for (int i = 0; i < n; i++) largest = std::max(largest, std::fabs(x[r * n + i]));
      for (int i = 0; i < n; i++) {
        const size_t at = (size_t)r * split_pitch(n) + i;
        const double value = x[r * n + i], sum = ((double)to_float(hi[at]) + to_float(lo[at])) * scales[r];
        ASSERT_LE(std::fabs(sum - value), std::max(std::fabs(value) * 0x1p-22, largest * 0x1p-39))
            << "row " << r << ", value " << i;
      }
    }
  }
}

TEST_P(MatmulTest, EveryShapeWithin5e6) {
  for (const Case &shape : kShapes)
    for (bool bias : {false, true}) {
      Case c = shape;
      c.bias = bias;
      Matrices w(normal((size_t)c.d * c.n, 1 / std::sqrt(c.n)), 1, c.d, c.n);
      const std::vector<float> x = normal((size_t)c.rows * c.n), b = normal(c.d);
      EXPECT_TRUE(all_near(run(w, Split(x, c.rows, c.n, 2), b, c), reference(w, x, b, c), 5e-6))
          << c.rows << " rows, K " << c.n << ", " << c.d << " outputs";
      EXPECT_TRUE(all_near(run(w, Split(x, c.rows, c.n, 1), b, c), reference(w, x, b, c), 4e-3))
          << "one term, " << c.rows << " rows, K " << c.n << ", " << c.d << " outputs";
    }
}

TEST_P(MatmulTest, IntegersAreBitEqual) {
  for (const Case &c : kShapes)
    for (int terms : {1, 2}) {
      Matrices w(integers((size_t)c.d * c.n, 8), 1, c.d, c.n);
      const std::vector<float> x = integers((size_t)c.rows * c.n, 8);
      EXPECT_TRUE(all_near(run(w, Split(x, c.rows, c.n, terms), {}, c), reference(w, x, {}, c), 0))
          << terms << " terms, " << c.rows << " rows, K " << c.n << ", " << c.d << " outputs";
    }
}

TEST_P(MatmulTest, BothTermsTakePart) {
  // Integers of 20 bits need the second term.
  const Case c = {20, 64, 16};
  Matrices w(integers((size_t)c.d * c.n, 1), 1, c.d, c.n);
  std::vector<float> x = integers((size_t)c.rows * c.n, 1 << 19);
  for (int r = 0; r < c.rows; r++)
    for (int i = 0; i < c.n; i++)
      if (i % 8 != r % 8) x[r * c.n + i] = 0;  // sums stay under 2^24
  EXPECT_TRUE(all_near(run(w, Split(x, c.rows, c.n, 2), {}, c), reference(w, x, {}, c), 0));
  EXPECT_FALSE(all_near(run(w, Split(x, c.rows, c.n, 1), {}, c), reference(w, x, {}, c), 0));
}

TEST_P(MatmulTest, RowsAndOutputsOfAnySizeKeepTheirPrecision) {
  Case c = {18, 96, 20};
  std::vector<float> w_values = normal((size_t)c.d * c.n), x = normal((size_t)c.rows * c.n);
  for (int o = 0; o < c.d; o++)
    for (int i = 0; i < c.n; i++) w_values[o * c.n + i] *= std::exp2((float)(o * 3 - 30));
  for (int r = 0; r < c.rows; r++)
    for (int i = 0; i < c.n; i++) x[r * c.n + i] *= std::exp2((float)(r * 4 - 36));
  Matrices w(w_values, 1, c.d, c.n);
  std::vector<float> out = run(w, Split(x, c.rows, c.n, 2), {}, c);
  std::vector<double> expected = reference(w, x, {}, c);
  for (int r = 0; r < c.rows; r++)
    for (int o = 0; o < c.d; o++) {
      const float size = std::exp2((float)(36 - r * 4 + 30 - o * 3));
      out[r * c.d + o] *= size;
      expected[r * c.d + o] *= size;
    }
  EXPECT_TRUE(all_near(out, expected, 5e-5));  // sums of 96 terms of size 1
}

// The bits of a row: alone, in every tile of every kernel.
TEST_P(MatmulTest, RowsAreIndependentOfTheBatch) {
  for (int n : {96, 264, 2880}) {
    Case c = {210, n, 19};
    Matrices w(normal((size_t)c.d * n), 1, c.d, n);
    const std::vector<float> x = normal((size_t)c.rows * n);
    for (int terms : {1, 2}) {
      const Split split(x, c.rows, n, terms);
      c.tile_rows = 16;
      const std::vector<float> expected = run(w, split, {}, c);
      for (int tile_rows : {8, 32, 64, 128}) {
        c.tile_rows = tile_rows;
        EXPECT_EQ(run(w, split, {}, c), expected) << terms << " terms, K " << n << ", tiles of " << tile_rows;
      }
      for (int r : {0, 7, 129, 209}) {
        const Split own(std::vector<float>(x.begin() + r * n, x.begin() + (r + 1) * n), 1, n, terms);
        EXPECT_EQ(run(w, own, {}, {1, n, c.d}),
                  std::vector<float>(expected.begin() + r * c.d, expected.begin() + (r + 1) * c.d))
            << terms << " terms, K " << n << ", row " << r;
      }
    }
  }
}

// Both forms, in every tile of every kernel.
TEST_P(MatmulTest, Mxfp4GivesTheBitsOfFp16) {
  for (int n : {32, 64, 96, 224, 288, 768, 2880, 4096}) {
    Case c = {150, n, 35};
    const std::vector<float> values = mxfp4_values((size_t)c.d * n, random);
    Matrices fp16_matrix(values, 1, c.d, n), packed(values, 1, c.d, n, MatrixForm::kMxfp4);
    const std::vector<float> x = normal((size_t)c.rows * n);
    for (int terms : {1, 2}) {
      const Split split(x, c.rows, n, terms);
      c.tile_rows = 16;
      const std::vector<float> expected = run(fp16_matrix, split, {}, c);
      for (int tile_rows : {8, 16, 32, 64, 128}) {
        c.tile_rows = tile_rows;
        EXPECT_EQ(run(packed, split, {}, c), expected) << terms << " terms, K " << n << ", tiles of " << tile_rows;
      }
    }
  }
}

TEST_P(MatmulTest, ExpertsInMxfp4GiveTheBitsOfFp16) {
  for (int tile_rows : {0, 16, 32, 64, 128})
    for (int n : {96, 288}) {
      Case c = {164, n, 37, mixed_experts(164), 4, tile_rows, true};
      const std::vector<float> values = mxfp4_values((size_t)9 * c.d * n, random), bias = normal((size_t)9 * c.d);
      Matrices fp16_matrix(values, 9, c.d, n), packed(values, 9, c.d, n, MatrixForm::kMxfp4);
      const Split split(normal((size_t)c.rows / 4 * n), c.rows / 4, n, 2);
      EXPECT_EQ(run(packed, split, bias, c), run(fp16_matrix, split, bias, c))
          << "tiles of " << tile_rows << ", K " << n;
    }
}

namespace {
template <class Tile>
__global__ void unpack_kernel(uint4 *out, const uint4 *strip, int groups) {
  GETP_AFTER_PREVIOUS();
  const int lane = (int)threadIdx.x;
  const typename Mxfp4Weights<Tile>::From from(strip, lane);
  for (int group = 0; group < groups; group++) {
    Mxfp4Weights<Tile> weights;
    weights.load(from, group, lane);
    for (int step = 0; step < Tile::kPackedSteps; step++) {
      const typename Tile::Operand operand = weights.operand(step);
      for (int u = 0; u < Tile::kUnits; u++)
        out[(group * Tile::kPackedSteps + step) * 64 + Tile::weight_unit(lane, u)] = operand.units[u];
    }
  }
}
}  // namespace

// Every code under every scale that a row can have, in each place of a strip, as the FP16 form has it.
TEST_P(MatmulTest, UnpackingGivesTheFp16Form) {
  const float magnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const int groups = 40, n = groups * kMxfp4Group;
  std::vector<float> values((size_t)16 * n);
  for (int row = 0; row < 16; row++)
    for (int group = 0; group < groups; group++)
      for (int i = 0; i < kMxfp4Group; i++) {
        const int code = (i + row) % 16;
        values[row * n + group * kMxfp4Group + i] =
            std::ldexp(code < 8 ? magnitudes[code] : -magnitudes[code - 8], row - (group + row) % groups);
      }
  const Matrices fp16_matrix(values, 1, 16, n), packed(values, 1, 16, n, MatrixForm::kMxfp4);
  with_matrix_tile([&](auto tile) {
    using Tile = decltype(tile);
    const int packed_groups = (groups + Tile::kPackedSteps - 1) / Tile::kPackedSteps;
    Buffer<uint4> out((size_t)packed_groups * Tile::kPackedSteps * 64);
    HIP_LAUNCH(unpack_kernel<Tile>, dim3(1), dim3(Tile::kWave), nullptr, out.data(), packed.matrix.d_units,
               packed_groups);
    const std::vector<uint4> unpacked = out.fetch();
    std::vector<uint4> expected(fp16_matrix.matrix.unit_count());
    HIP_CHECK(
        hipMemcpy(expected.data(), fp16_matrix.matrix.d_units, expected.size() * sizeof(uint4), hipMemcpyDeviceToHost));
    ASSERT_GE(unpacked.size(), expected.size());
    EXPECT_EQ(memcmp(unpacked.data(), expected.data(), expected.size() * sizeof(uint4)), 0);
    for (size_t i = expected.size(); i < unpacked.size(); i++)
      EXPECT_TRUE(!unpacked[i].x && !unpacked[i].y && !unpacked[i].z && !unpacked[i].w) << "past the end, unit " << i;
  });
}

// Where a card has warpgroups: by them and by waves.
TEST_P(MatmulTest, WarpgroupsGiveTheBitsOfWaves) {
  if (!card_of_test.warpgroups) GTEST_SKIP() << "no card with warpgroups";
  Card waves = card_of_test;
  waves.warpgroups = false;
  for (int n : {96, 264, 2880})
    for (int rows : {40, 64, 97, 210})
      for (int terms : {1, 2}) {
        Case c = {rows, n, 200};
        Matrices w(normal((size_t)c.d * n), 1, c.d, n);
        const Split split(normal((size_t)rows * n), rows, n, terms);
        const std::vector<float> by_warpgroups = run(w, split, {}, c);
        c.card = &waves;
        EXPECT_EQ(run(w, split, {}, c), by_warpgroups) << terms << " terms, " << rows << " rows, K " << n;
      }
}

TEST_P(MatmulTest, ExpertsReadTheirOwnMatrixAndBias) {
  for (int share : {1, 4})
    for (int tile_rows : {0, 4, 16, 32, 64, 128}) {
      Case c = {164, 72, 37, mixed_experts(164), share, tile_rows, true};
      Matrices w(integers((size_t)9 * c.d * c.n, 8), 9, c.d, c.n);
      const std::vector<float> x = integers((size_t)c.rows / share * c.n, 8), b = integers((size_t)9 * c.d, 100);
      EXPECT_TRUE(all_near(run(w, Split(x, c.rows / share, c.n, 2), b, c), reference(w, x, b, c), 0))
          << "tiles of " << tile_rows << ", share " << share;
    }
}

TEST_P(MatmulTest, GroupingByExpertChangesNothing) {
  Case c = {164, 328, 13, mixed_experts(164)};
  Matrices w(normal((size_t)9 * c.d * c.n), 9, c.d, c.n);
  const std::vector<float> x = normal((size_t)c.rows * c.n);
  const Split split(x, c.rows, c.n, 2);
  const std::vector<float> expected = run(w, split, {}, c);
  for (int tile_rows : {4, 16, 32, 64, 128}) {
    c.tile_rows = tile_rows;
    EXPECT_EQ(run(w, split, {}, c), expected) << "tiles of " << tile_rows;
  }
}

TEST_P(MatmulTest, ExpertTilesCoverEveryRowOnce) {
  for (int rows : {1, 5, 300, 1000})
    for (int tile_rows : {4, 16, 128}) {
      const int n_experts = 9;
      const std::vector<int> experts = [&] {
        std::vector<int> all = mixed_experts(rows);
        all.resize(rows);
        return all;
      }();
      Buffer<int> d_experts(experts), d_rows(rows), d_counts(n_experts);
      const int count = expert_tile_count(rows, n_experts, tile_rows);
      Buffer<ExpertTile> d_tiles(count);
      const ExpertTiles made = expert_tiles({d_tiles.data(), d_rows.data(), d_counts.data()}, d_experts.data(), rows,
                                            n_experts, tile_rows, nullptr);
      ASSERT_EQ(made.count, count);
      const std::vector<int> grouped = d_rows.fetch();
      std::vector<int> next_rows;
      int previous = -1;
      for (const ExpertTile &tile : d_tiles.fetch()) {
        ASSERT_LE(tile.count, tile_rows);
        if (tile.count == 0) continue;
        ASSERT_GE(tile.expert, previous);
        previous = tile.expert;
        ASSERT_EQ(tile.first, (int)next_rows.size());
        for (int i = 0; i < tile.count; i++) {
          const int row = grouped[tile.first + i];
          ASSERT_EQ(experts.at(row), tile.expert);
          next_rows.push_back(row);
        }
      }
      std::sort(next_rows.begin(), next_rows.end());
      for (int r = 0; r < rows; r++) ASSERT_EQ(next_rows.at(r), r);
    }
}

// What FP16 cannot hold is noticed, what BF16 holds is not refused.
TEST(RowToFp16Test, IsExactOrSaysSo) {
  const auto exact = [](std::vector<float> row, bool rounded = false) {
    std::vector<fp16> halves(row.size());
    bool all = true;
    const float scale = row_to_fp16(halves.data(), row.data(), (int)row.size(), rounded, all);
    for (size_t i = 0; i < row.size() && all && !rounded; i++)
      if (std::fabs(row[i]) > 1e-8f * std::fabs(row[0])) {
        EXPECT_EQ(to_float(halves[i]) * scale, row[i]);
      }
    return all;
  };
  EXPECT_TRUE(exact({1.5f, -0.0078125f, 0, 3e-5f * 0}));
  EXPECT_TRUE(exact({1.9921875f * 0x1p120f, 1.0078125f * 0x1p92f}));  // BF16's mantissa, 28 powers of two apart
  EXPECT_TRUE(exact({1, 0x1p-40f}));                                  // under 2^-29 of the largest: zero
  EXPECT_TRUE(exact({0x1p-126f, 0x1p-120f}));
  EXPECT_TRUE(exact({0, 0}));
  EXPECT_FALSE(exact({1.0001f}));
  EXPECT_TRUE(exact({1.0001f}, true));
  EXPECT_FALSE(exact({1, NAN}));
}

// What is not MXFP4 is noticed, what is keeps its value.
TEST(RowToMxfp4Test, IsExactOrSaysSo) {
  const auto exact = [](std::vector<float> row, bool rounded = false) {
    row.resize(64);
    std::vector<uint8_t> codes(64), scales(2);
    float row_scale = 0;
    if (!row_to_mxfp4(codes.data(), scales.data(), row_scale, row.data(), 64, rounded)) return false;
    const float magnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (int i = 0; i < 64; i++) {
      const float size = magnitudes[codes[i] & 7] * to_float(fp16{(uint16_t)(scales[i / 32] << 8)}) * row_scale;
      if (!rounded) {
        EXPECT_EQ(codes[i] & 8 ? -size : size, row[i]) << "value " << i;
      }
    }
    return true;
  };
  EXPECT_TRUE(exact({0, 0.5f, -1, 1.5f, -2, 3, -4, 6}));
  EXPECT_TRUE(exact({}));
  EXPECT_TRUE(exact({-0.0f, 3}));
  EXPECT_TRUE(exact({0x1p-100f, 0x1.8p-98f}));
  EXPECT_TRUE(exact({0x1p120f, 0x1.8p122f}));
  EXPECT_TRUE(exact({0.5f, 1.5f}));   // of which 0.5 is not half of a step
  EXPECT_TRUE(exact({1, 0.125f}));    // 4 and 0.5
  EXPECT_FALSE(exact({1, 0.0625f}));  // one step more
  EXPECT_FALSE(exact({1, 0.1875f}));  // 4 and 0.75
  EXPECT_FALSE(exact({6, 5}));
  EXPECT_FALSE(exact({6, 2.5f}));
  EXPECT_FALSE(exact({1.0001f}));
  EXPECT_TRUE(exact({1.0001f}, true));
  EXPECT_FALSE(exact({1, NAN}));
  EXPECT_FALSE(exact({INFINITY}));
  EXPECT_FALSE(exact({3.4e38f}, true));  // infinite once rounded
  EXPECT_FALSE(exact({0x1p-126f}));      // whose half is subnormal
  std::vector<float> late(64);
  late[63] = 1.25f;  // in the last group alone
  EXPECT_FALSE(exact(late));
}

// The codes of a row stand for what its FP16 form holds, whatever the sizes of its values and groups.
TEST(RowToMxfp4Test, HoldsTheBitsOfFp16) {
  constexpr int kGroups = 64, n = kGroups * kMxfp4Group;
  const uint16_t magnitudes[8] = {0, 0x3800, 0x3c00, 0x3e00, 0x4000, 0x4200, 0x4400, 0x4600};
  std::mt19937 random(5);
  for (int row = 0; row < 300; row++) {
    // Of rows near both ends of FP32's range, groups across what FP16 flushes.
    const int top = row % 3 == 0 ? -120 + row / 3 : row % 3 == 1 ? 124 - row % 7 : (int)(random() % 100) - 50;
    std::vector<float> values(n);
    for (int i = 0; i < n; i++) {
      const int exponent = std::max(top - i / kMxfp4Group % 34, -124);
      const unsigned code = random() % 8;
      const float size = code < 2 ? code * 0.5f : (2 + code % 2) * (float)(1 << code / 2) / 4;
      values[i] = std::ldexp(random() % 2 ? -size : size, exponent);
    }
    std::vector<uint8_t> codes(n), scales(kGroups);
    std::vector<fp16> halves(n);
    float packed_scale = 0;
    bool exact = true;
    const float scale = row_to_fp16(halves.data(), values.data(), n, false, exact);
    ASSERT_TRUE(exact);
    ASSERT_TRUE(row_to_mxfp4(codes.data(), scales.data(), packed_scale, values.data(), n, false)) << "top " << top;
    ASSERT_EQ(packed_scale, scale);
    for (int i = 0; i < n; i++) {
      const int exponent = scales[i / kMxfp4Group] / 4 - 15;
      const unsigned code = codes[i], half = magnitudes[code & 7] + exponent * 1024 + (code & 8 ? 0x8000 : 0);
      ASSERT_EQ(code & 7 ? half : 0, halves[i].bits) << "top " << top << ", value " << i << ", " << values[i];
    }
  }
}

// No number is none of them, whatever its bits.
TEST(RowToMxfp4Test, NanIsNot) {
  for (uint32_t bits : {0x7fffffffu, 0xffffffffu, 0x7fff8000u, 0xffff8000u, 0x7fc00000u, 0x7f800001u, 0xff800000u})
    for (bool rounded : {false, true})
      for (bool alone : {false, true}) {
        std::vector<float> row(32, alone ? 0.0f : 1.0f);
        memcpy(&row[7], &bits, sizeof bits);
        if (!alone || bits == 0xffffffffu) std::fill(row.begin(), row.end(), row[7]);
        std::vector<uint8_t> codes(32), scales(1);
        float scale = 0;
        EXPECT_FALSE(row_to_mxfp4(codes.data(), scales.data(), scale, row.data(), 32, rounded)) << std::hex << bits;
      }
}
