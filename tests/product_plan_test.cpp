// Which kernel makes a product, asked for cards that are not here: what plan_product and plan_tile_rows decide.
#include <gtest/gtest.h>

#include "../hip/kernels/product_rows.hpp"

using namespace getp_hip;

namespace {

// The products of gpt-oss-20b: 32 experts, of which a token chooses four.
struct Named {
  const char *name;
  int n, d;
  bool of_experts;
};
const Named kProducts[] = {{"qkv", 2880, 5120, false}, {"w_o", 4096, 2880, false}, {"router", 2880, 32, false},
                           {"mlp1", 2880, 5760, true}, {"mlp2", 2880, 2880, true}, {"head", 2880, 201088, false}};
constexpr int kExperts = 32, kChosen = 4;

struct CardCase {
  const char *name;
  Card card;
};
const CardCase kCards[] = {
    {"MI250, MI300X", kGfx9Card}, {"RX 7900", kGfx11Card}, {"RTX 4090", kSm80Card}, {"H200", kSm90aCard}};

// As forward plans it for `rows` tokens. Nothing is read from the pointers.
ProductPlan plan(const Card &card, const Named &p, int rows, int terms, MatrixForm form = MatrixForm::kFp16) {
  static int experts;
  DeviceMatrix w, first, second;
  w.shaped(p.of_experts ? kExperts : 1, p.d, p.n).form = form;
  first.shaped(kExperts, 5760, 2880).form = second.shaped(kExperts, 2880, 2880).form = form;
  ProductRows of;
  of.rows = p.of_experts ? rows * kChosen : rows;
  if (p.of_experts) of.d_experts = &experts;
  if (p.of_experts && rows > 1) {
    of.groups.tile_rows = plan_expert_tile_rows(card, first, second, of.rows, kExperts);
    of.groups.count = expert_tile_count(of.rows, kExperts, of.groups.tile_rows);
  }
  return plan_product(card, product_of(card, w, terms, of));
}

using K = ProductKernel;

TEST(ProductPlan, KernelsOf20b) {
  struct Expected {
    int rows;
    K kernel;
    int tile_rows;
  };
  // qkv of these rows; few rows are bound by the weights, many by the matrix cores.
  for (const auto &[name, card] : kCards) {
    const K many = card.warpgroups ? K::kWarpgroup : K::kTile;
    const K some = card.async_copies ? K::kRing : K::kStream;
    const int few = card.half_tiles ? 8 : 16;
    for (const Expected &e : {Expected{1, K::kStream, few},
                              {8, K::kStream, few},
                              {9, some, 16},
                              {17, some, 32},
                              {32, some, 32},
                              {33, many, 64},
                              {96, many, 64},
                              {97, many, 128},
                              {1870, many, 128}}) {
      const ProductPlan p = plan(card, kProducts[0], e.rows, 2);
      EXPECT_EQ(p.kernel, e.kernel) << name << ", " << e.rows << " rows";
      EXPECT_EQ(p.tile_rows, e.tile_rows) << name << ", " << e.rows << " rows";
    }
    // Few outputs: many blocks rather than full ones, whatever the rows.
    EXPECT_EQ(plan(card, kProducts[2], 1870, 2).kernel, K::kStream) << name;
    EXPECT_EQ(plan(card, kProducts[2], 1870, 2).tile_rows, few) << name;
    // 512 tokens give an expert 64 rows, 1,870 give it 234; a token alone reads four experts, a row each.
    EXPECT_EQ(plan(card, kProducts[3], 512, 2).tile_rows, 64) << name;
    EXPECT_EQ(plan(card, kProducts[3], 1870, 2).tile_rows, 128) << name;
    EXPECT_EQ(plan(card, kProducts[4], 1870, 2).kernel, many) << name;
    EXPECT_EQ(plan(card, kProducts[3], 1, 2).tile_rows, few) << name;
  }
}

// By bulk copies where rows share weights and outputs are many: from 8 blocks a processor on.
TEST(ProductPlan, StagedWhereThereAreManyOutputs) {
  const MatrixForm packed = MatrixForm::kMxfp4;
  for (int rows : {1, 2, 8, 16}) EXPECT_EQ(plan(kSm90aCard, kProducts[4], rows, 2, packed).kernel, K::kStream) << rows;
  for (int rows : {32, 64, 128}) EXPECT_EQ(plan(kSm90aCard, kProducts[4], rows, 2, packed).kernel, K::kStaged) << rows;
  EXPECT_EQ(plan(kSm90aCard, kProducts[4], 32, 2, packed).tile_rows, 8);
  EXPECT_EQ(plan(kSm90aCard, kProducts[4], 128, 2, packed).tile_rows, 16);
  EXPECT_EQ(plan(kSm90aCard, kProducts[4], 512, 2, packed).kernel, K::kWarpgroup);
  EXPECT_EQ(plan(kSm90aCard, kProducts[5], 1, 2).kernel, K::kStream);
  for (int rows : {2, 32}) EXPECT_EQ(plan(kSm90aCard, kProducts[5], rows, 2).kernel, K::kStaged) << rows;
  for (const Card &card : {kGfx9Card, kGfx11Card, kSm80Card})
    EXPECT_NE(plan(card, kProducts[5], 32, 2).kernel, K::kStaged);
}

// 132 processors: blocks of 48, 32 and 16 outputs of qkv, w_o and a matrix of 2,112 outputs.
TEST(ProductPlan, RingsMakeAsManyOutputsAsGiveEachProcessorABlock) {
  EXPECT_EQ(plan(kSm90aCard, kProducts[0], 32, 2).tile_outputs, 48);
  EXPECT_EQ(plan(kSm90aCard, kProducts[1], 32, 2).tile_outputs, 32);
  EXPECT_EQ(plan_product(kSm90aCard, {MatrixForm::kFp16, 2, 2880, 2112, 32, 1}).tile_outputs, 16);
  EXPECT_EQ(plan_product(kSm90aCard, {MatrixForm::kFp16, 1, 768, 2112, 32, 1}).threads, 3 * 32);  // a chunk each
}

TEST(ProductPlan, BlocksOfFewRowsHaveMoreWavesTheFewerTheyAre) {
  // A token alone, 2,880 values in 12 chunks. Outputs of a block: 16. Blocks: 2, 180, 12,568.
  EXPECT_EQ(plan(kSm90aCard, kProducts[2], 1, 2).threads, 12 * 32);
  EXPECT_EQ(plan(kSm90aCard, kProducts[1], 1, 2).threads, 8 * 32);
  EXPECT_EQ(plan(kSm90aCard, kProducts[5], 1, 2).threads, 4 * 32);
  // AMD's cards load by 64 threads, gfx11 by two waves of 32: a block holds six times as many.
  for (const Card &card : {kGfx9Card, kGfx11Card}) {
    EXPECT_EQ(plan(card, kProducts[2], 1, 2).threads, 6 * 64);
    EXPECT_EQ(plan(card, kProducts[5], 1, 2).threads, 4 * 64);
  }
  // No more waves than chunks.
  EXPECT_EQ(plan_product(kSm90aCard, {MatrixForm::kFp16, 2, 512, 32, 8, 1}).threads, 2 * 32);
}

TEST(ProductPlan, Fp32IsMadeByMatvecOnEveryCard) {
  for (const auto &[name, card] : kCards)
    for (int rows : {1, 2, 500}) {
      const ProductPlan p = plan(card, kProducts[0], rows, 2, MatrixForm::kFp32);
      EXPECT_EQ(p.kernel, K::kMatvec) << name;
      EXPECT_EQ(p.tile_rows, rows == 1 ? 1 : 4) << name;
      EXPECT_EQ(p.output_lanes, 32) << name;
    }
  EXPECT_EQ(plan_product(kGfx9Card, {MatrixForm::kFp32, 1, 128, 40, 1, 1}).output_lanes, 1);
  EXPECT_EQ(plan_product(kGfx9Card, {MatrixForm::kFp32, 1, 256, 40, 1, 1}).output_lanes, 8);
  // A pair of matrices of which one is FP32 shares the smaller tiles.
  DeviceMatrix fp16_matrix, fp32_matrix;
  fp16_matrix.shaped(32, 5760, 2880).form = MatrixForm::kFp16;
  fp32_matrix.shaped(32, 2880, 2880);
  EXPECT_EQ(plan_expert_tile_rows(kGfx9Card, fp16_matrix, fp32_matrix, 7480, 32), kMatvecTile);
}

// Whatever is asked for: the tile holds the rows that come in it, the stages fit, blocks are whole waves.
TEST(ProductPlan, EveryPlanFitsItsCard) {
  for (const auto &[name, card] : kCards)
    for (const Named &p : kProducts)
      for (int terms : {1, 2})
        for (int rows = 1; rows <= 4096; rows += rows < 140 ? 1 : 61) {
          const ProductPlan made = plan(card, p, rows, terms);
          ASSERT_LE(made.shared_bytes, (size_t)card.shared_limit) << name << ", " << p.name << ", " << rows;
          ASSERT_EQ(made.threads % card.wave, 0) << name << ", " << p.name << ", " << rows;
          ASSERT_LE(made.threads, 384) << name << ", " << p.name << ", " << rows;
          ASSERT_GT(made.threads, 0) << name << ", " << p.name << ", " << rows;
          if (!p.of_experts) {
            ASSERT_GE(made.tile_rows, plan_tile_rows(card, MatrixForm::kFp16, rows, p.d))
                << name << ", " << p.name << ", " << rows;
          }
        }
}

}  // namespace
