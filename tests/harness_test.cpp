// Tests of run.cpp and getp_eval.cpp from the inside: forward against the golden logits, the building blocks against
// independent formulas, the samplers against their distributions, offsets beyond 32 bits, the conversation that chat
// feeds to the model.
//
// Golden data: the directory GETP_GOLDEN, by default ../shared/golden as seen from the working directory (a.bin, a.ids,
// a.logits, a.logits64).
#include "harness_alone.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <sstream>

long long inference(Transformer *, Tokenizer *, Sampler *, Requests *) { return 0; }

namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Golden logits

template <class T>
std::vector<T> read_values(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<T> values(bytes.size() / sizeof(T));
  memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

TEST(Forward, GoldenLogits) {
  const char *directory = getenv("GETP_GOLDEN");
  const std::string base = std::string(directory ? directory : "../shared/golden") + "/a.";
  if (access((base + "bin").c_str(), R_OK) != 0)
    GTEST_SKIP() << base << "bin is not there; name the golden directory in GETP_GOLDEN";
  Transformer transformer;
  std::string model = base + "bin";
  build_transformer(&transformer, model.data());
  const auto ids = read_values<int32_t>(base + "ids");
  const auto logits32 = read_values<float>(base + "logits");
  const auto logits64 = read_values<double>(base + "logits64");
  const size_t V = transformer.config.vocab_size;
  ASSERT_EQ(ids.size(), 160u);
  ASSERT_EQ(logits32.size(), ids.size() * V);
  ASSERT_EQ(logits64.size(), ids.size() * V);

  int argmaxes32 = 0, argmaxes64 = 0;
  double worst = 0.0;
  for (size_t pos = 0; pos < ids.size(); pos++) {
    const float *logits = forward(&transformer, ids[pos], (int)pos);
    const float *row32 = &logits32[pos * V];
    const double *row64 = &logits64[pos * V];
    const auto best = std::max_element(logits, logits + V) - logits;
    argmaxes32 += best == std::max_element(row32, row32 + V) - row32;
    argmaxes64 += best == std::max_element(row64, row64 + V) - row64;
    for (size_t i = 0; i < V; i++) {
      ASSERT_TRUE(std::isfinite(logits[i])) << "position " << pos << ", token " << i;
      worst = std::max(worst, std::fabs(logits[i] - row64[i]));
    }
  }
  printf("max abs difference from a.logits64: %.3g\n", worst);
  EXPECT_EQ(argmaxes32, 160);
  EXPECT_EQ(argmaxes64, 160);
  EXPECT_LE(worst, 1e-4);
  free_transformer(&transformer);
}

// ---------------------------------------------------------------------------------------------------------------------
// Models made in memory

constexpr Config kTwentyB = {201088, 2880, 32, 4, 2880, 24, 64, 64, 8, 2048, 4096, 150000, 32, 128, 7};

struct MemoryModel {
  explicit MemoryModel(const Config &config) {
    transformer.config = config;
    weights.resize((model_file_size(&config) - sizeof(Config)) / sizeof(float));
    memory_map_weights(&transformer.weights, &transformer.config, weights.data());
    malloc_run_state(&transformer.state, &transformer.config);
  }
  ~MemoryModel() { free_run_state(&transformer.state); }
  MemoryModel(const MemoryModel &) = delete;

  std::vector<float> weights;
  Transformer transformer;
};

void fill_random(std::vector<float> *values, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (float &value : *values) value = 0.3f * normal(random);
}

// The last position fills the rows of att exactly: no float past the end of a row, none past the buffer.
TEST(Forward, ScoresOfTheLastPositionFitTheirRows) {
  MemoryModel model({40, 16, 3, 2, 8, 2, 6, 4, 2, 24, 4096, 150000, 32, 5, 7});
  fill_random(&model.weights, 1);
  const Config &p = model.transformer.config;
  RunState &s = model.transformer.state;
  const int row = p.seq_len + 1, guard = 64;
  free(s.att);
  s.att = allocate<float>(p.n_attn_heads * row + guard);
  std::fill(s.att, s.att + p.n_attn_heads * row + guard, -7.0f);
  for (int pos = 0; pos < p.seq_len; pos++) forward(&model.transformer, pos % p.vocab_size, pos);
  for (int h = 0; h < p.n_attn_heads; h++) {
    double sum = 0.0;
    for (int t = 0; t < row; t++) sum += s.att[h * row + t];
    EXPECT_NEAR(sum, 1.0, 1e-6) << "head " << h << ": probabilities and sink share";
  }
  for (int i = 0; i < guard; i++) ASSERT_EQ(s.att[p.n_attn_heads * row + i], -7.0f) << i << " floats past the end";
}

// A window of 5 keys: position 4 sees position 0, position 5 does not in an even layer and does in an odd one.
TEST(Forward, WindowHidesOldKeysFromEvenLayersAlone) {
  const auto logits_at = [](int layers, int first_token, int last) {
    MemoryModel model({40, 16, 3, 2, 8, layers, 6, 4, 2, 12, 4096, 150000, 32, 5, 7});
    fill_random(&model.weights, 2);
    float *logits = nullptr;
    for (int pos = 0; pos <= last; pos++) logits = forward(&model.transformer, pos ? 3 : first_token, pos);
    return std::vector<float>(logits, logits + 40);
  };
  EXPECT_NE(logits_at(1, 1, 4), logits_at(1, 2, 4));
  EXPECT_EQ(logits_at(1, 1, 5), logits_at(1, 2, 5));
  EXPECT_NE(logits_at(2, 1, 5), logits_at(2, 2, 5));
}

TEST(Forward, OffsetsAre64Bit) {
  Config p = kTwentyB;
  p.n_layers = 36;
  p.seq_len = 131072;
  EXPECT_EQ(kv_offset(&p, 35, 131071), (35ll * 131072 + 131071) * 512);
  EXPECT_GT(kv_offset(&p, 35, 131071), 1ll << 31);
  p.seq_len = 1 << 24;
  p.n_attn_heads = 4096;
  EXPECT_EQ(att_offset(&p, 4095), 4095ll * ((1ll << 24) + 1));
}

// ---------------------------------------------------------------------------------------------------------------------
// The header

TEST(Header, SizeOfTheReleasedModels) {
  EXPECT_EQ(model_file_size(&kTwentyB), 83659028796);
  Config p = kTwentyB;
  p.n_layers = 36;
  p.n_experts = 128;
  EXPECT_NEAR((double)model_file_size(&p), 467.3e9, 0.05e9);
}

TEST(Header, TensorsFillTheFile) {
  Config p = {7, 5, 3, 2, 11, 4, 6, 4, 2, 9, 4096, 150000, 32, 5, 7};
  std::vector<float> values(model_file_size(&p) / sizeof(float));
  TransformerWeights w;
  float *const start = values.data();
  EXPECT_EQ(memory_map_weights(&w, &p, start), start + (model_file_size(&p) - 60) / 4);
  EXPECT_EQ(w.out - w.token_embedding_table, 7 * 5);
  EXPECT_EQ(w.rms_out_w - w.rms_attn_w, 2 * 4 * 5);
  EXPECT_EQ(w.b_qkv - w.w_qkv, 4 * (4 + 2 * 2) * 6 * 5);
  EXPECT_EQ(w.b_mlp1 - w.w_mlp1, 4 * 3 * 2 * 11 * 5);
}

TEST(Header, EveryFieldIsChecked) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  check_config(&kTwentyB, "model");
  const std::vector<std::pair<const char *, std::function<void(Config *)>>> faults = {
      {"vocab_size = 0", [](Config *p) { p->vocab_size = 0; }},
      {"hidden_dim = -1", [](Config *p) { p->hidden_dim = -1; }},
      {"n_experts = 1000000", [](Config *p) { p->n_experts = 1000000; }},
      {"experts_per_token = 33", [](Config *p) { p->experts_per_token = 33; }},
      {"intermediate_dim = 0", [](Config *p) { p->intermediate_dim = 0; }},
      {"n_layers = 0", [](Config *p) { p->n_layers = 0; }},
      {"head_dim = 63", [](Config *p) { p->head_dim = 63; }},
      {"n_attn_heads = 0", [](Config *p) { p->n_attn_heads = 0; }},
      {"64 query heads .* 7 key/value heads", [](Config *p) { p->n_kv_heads = 7; }},
      {"n_kv_heads = 0", [](Config *p) { p->n_kv_heads = 0; }},
      {"seq_len = 0", [](Config *p) { p->seq_len = 0; }},
      {"initial_context_length = -4", [](Config *p) { p->initial_context_length = -4; }},
      {"rope_theta = 1,", [](Config *p) { p->rope_theta = 1.0f; }},
      {"rope_scaling_factor = -?nan", [nan](Config *p) { p->rope_scaling_factor = nan; }},
      {"sliding_window = -1", [](Config *p) { p->sliding_window = -1; }},
      {"swiglu_limit = 0", [](Config *p) { p->swiglu_limit = 0.0f; }},
  };
  for (const auto &[message, plant] : faults) {
    Config p = kTwentyB;
    plant(&p);
    EXPECT_EXIT(check_config(&p, "model"), testing::ExitedWithCode(1), message);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Building blocks

std::vector<float> random_values(int count, unsigned seed) {
  std::vector<float> values(count);
  fill_random(&values, seed);
  return values;
}

TEST(Blocks, MatmulIsTheRoundedExactSum) {
  for (int n : {1, 7, 8, 9, 64, 2880}) {
    const int d = 5;
    std::vector<float> x = random_values(n, 3), w = random_values(n * d, 4), out(d);
    matmul(out.data(), x.data(), w.data(), n, d);
    for (int i = 0; i < d; i++) {
      long double sum = 0;
      for (int j = 0; j < n; j++) sum += (long double)w[i * n + j] * x[j];
      EXPECT_FLOAT_EQ(out[i], (float)sum) << "n " << n << ", row " << i;
    }
  }
}

TEST(Blocks, RmsnormInPlace) {
  std::vector<float> x = random_values(97, 5), weight = random_values(97, 6), out(97);
  long double squares = 0;
  for (float value : x) squares += (long double)value * value;
  rmsnorm(out.data(), x.data(), weight.data(), 97);
  for (int i = 0; i < 97; i++)
    EXPECT_FLOAT_EQ(out[i], (float)(weight[i] * x[i] / sqrtl(squares / 97 + 1e-5L))) << "value " << i;
  rmsnorm(x.data(), x.data(), weight.data(), 97);
  EXPECT_EQ(x, out);
}

TEST(Blocks, SoftmaxOfLargeAndMaskedScores) {
  std::vector<float> x = {1000.0f, 999.0f, -INFINITY, 998.0f};
  softmax(x.data(), 4);
  const double sum = 1 + exp(-1.0) + exp(-2.0);
  EXPECT_FLOAT_EQ(x[0], (float)(1 / sum));
  EXPECT_FLOAT_EQ(x[1], (float)(exp(-1.0) / sum));
  EXPECT_EQ(x[2], 0.0f);
  EXPECT_FLOAT_EQ(x[3], (float)(exp(-2.0) / sum));
}

TEST(Blocks, TopkOrdersEqualScoresByIndex) {
  std::vector<float> scores = {1, 3, 2, 3, -5, 2, 3, 2}, values(6);
  std::vector<int> indices(6);
  topk(values.data(), indices.data(), scores.data(), 8, 6);
  EXPECT_EQ(indices, (std::vector<int>{1, 3, 6, 2, 5, 7}));
  EXPECT_EQ(values, (std::vector<float>{3, 3, 3, 2, 2, 2}));
}

TEST(Blocks, TopkOfScoresThatAreNoNumbersIsValid) {
  std::vector<float> scores = {NAN, 3, NAN, 5, -INFINITY, NAN}, values(6);
  std::vector<int> indices(6);
  topk(values.data(), indices.data(), scores.data(), 6, 6);
  EXPECT_EQ(indices, (std::vector<int>{3, 1, 0, 2, 4, 5}));
}

// YaRN in the form of its paper's code: the share of interpolation per pair, from the pair numbers where the ramp
// starts and ends.
TEST(Blocks, CosSinOfYarn) {
  const long double pi = acosl(-1.0L);
  double worst = 0.0;
  for (int head_dim : {2, 32, 64, 80})
    for (int context : {64, 4096})  // 64: the ramp starts below pair 0
      for (long double factor : {1.0L, 32.0L})
        for (int pos : {0, 1, 159, 2047, 131071}) {
          std::vector<float> cos(head_dim / 2), sin(head_dim / 2);
          compute_cos_sin(pos, 150000, head_dim, (float)factor, (float)context, 32, 1, cos.data(), sin.data());
          const auto correction_dim = [&](long double rotations) {
            return head_dim * logl(context / (rotations * 2 * pi)) / (2 * logl(150000.0L));
          };
          const long double low = correction_dim(32), high = correction_dim(1);
          for (int i = 0; i < head_dim / 2; i++) {
            const long double extrapolation = 1 / powl(150000.0L, (long double)(2 * i) / head_dim);
            const long double interpolation = extrapolation / factor;
            const long double kept = 1 - std::min(std::max((i - low) / (high - low), 0.0L), 1.0L);
            const long double angle = pos * (interpolation * (1 - kept) + extrapolation * kept);
            const long double concentration = factor > 1 ? 0.1L * logl(factor) + 1 : 1;
            worst = std::max({worst, (double)fabsl(cos[i] - cosl(angle) * concentration),
                              (double)fabsl(sin[i] - sinl(angle) * concentration)});
          }
        }
  printf("max abs difference of cos and sin: %.3g\n", worst);
  EXPECT_LE(worst, 6.1e-8);  // half a unit in the last place of values up to 1.35
}

TEST(Blocks, RotaryTurnsHalfSplitPairs) {
  std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8}, cos = {0.6f, 0.0f}, sin = {0.8f, 1.0f};
  apply_rotary_emb(x.data(), cos.data(), sin.data(), 2, 4);
  const std::vector<double> expected = {1 * 0.6 - 3 * 0.8, -4, 3 * 0.6 + 1 * 0.8, 2,
                                        5 * 0.6 - 7 * 0.8, -8, 7 * 0.6 + 5 * 0.8, 6};
  for (int i = 0; i < 8; i++) EXPECT_NEAR(x[i], expected[i], 1e-6) << "value " << i;
}

// ---------------------------------------------------------------------------------------------------------------------
// Samplers

struct ScopedSampler : Sampler {
  ScopedSampler(int vocab_size, float temperature, float topp, unsigned long long seed) {
    build_sampler(this, vocab_size, temperature, topp, seed);
  }
  ~ScopedSampler() { free_sampler(this); }
  ScopedSampler(const ScopedSampler &) = delete;
};

const std::vector<float> kLogits = {0.3f, -1.0f, 2.0f, 0.9f, 1.9f, -0.2f, 0.0f, 1.1f, -2.0f, 0.5f};

std::vector<int> draw(Sampler *sampler, const std::vector<float> &logits, int count) {
  std::vector<int> tokens(count);
  for (int &token : tokens) {
    std::vector<float> copy = logits;
    token = sample(sampler, copy.data());
  }
  return tokens;
}

std::vector<double> softmax_of(const std::vector<float> &logits, double temperature) {
  std::vector<double> shares;
  double sum = 0.0;
  for (float logit : logits) sum += exp(logit / temperature);
  for (float logit : logits) shares.push_back(exp(logit / temperature) / sum);
  return shares;
}

// Pearson's chi-square against the 1 - 3e-5 quantile (z = 4; Wilson and Hilferty, 1931). A token without a share must
// never be drawn.
void expect_distribution(const std::vector<int> &tokens, const std::vector<double> &shares) {
  std::vector<int> counts(shares.size());
  for (int token : tokens) counts[token]++;
  double chi_square = 0.0;
  int degrees = -1;
  for (size_t i = 0; i < shares.size(); i++) {
    const double expected = shares[i] * (double)tokens.size();
    if (expected == 0.0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
      continue;
    }
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    degrees++;
  }
  const double k = degrees, bound = k * pow(1 - 2 / (9 * k) + 4 * sqrt(2 / (9 * k)), 3);
  printf("chi-square %.2f, bound %.2f\n", chi_square, bound);
  EXPECT_LT(chi_square, bound);
}

TEST(Samplers, ArgmaxTakesTheLowestOfEquals) {
  std::vector<float> logits = {-3, 1, 4, 4, 0, 4};
  EXPECT_EQ(sample_argmax(logits.data(), 6), 2);
  ScopedSampler greedy(6, 0.0f, 0.9f, 1);
  EXPECT_EQ(sample(&greedy, logits.data()), 2);
}

TEST(Samplers, TemperatureFollowsTheSoftmax) {
  for (float temperature : {0.5f, 1.0f, 3.0f}) {
    ScopedSampler sampler(10, temperature, 1.0f, 42);
    expect_distribution(draw(&sampler, kLogits, 200000), softmax_of(kLogits, temperature));
  }
}

TEST(Samplers, TopPKeepsTheFewestTokensAboveP) {
  for (float topp : {0.5f, 0.9f}) {
    std::vector<double> shares = softmax_of(kLogits, 0.8);
    std::vector<int> order = {2, 4, 7, 3, 9, 0, 6, 5, 1, 8};  // by falling logit
    double nucleus = 0.0;
    for (int token : order) {
      const double share = shares[token];
      if (nucleus > topp) shares[token] = 0.0;
      if (nucleus <= topp) nucleus += share;
    }
    for (double &share : shares) share /= nucleus;
    ScopedSampler sampler(10, 0.8f, topp, 43);
    expect_distribution(draw(&sampler, kLogits, 200000), shares);
  }
}

TEST(Samplers, SmallTopPIsGreedyEvenAmongEquals) {
  ScopedSampler sampler(10, 1.0f, 1e-6f, 44);
  EXPECT_EQ(draw(&sampler, kLogits, 100), std::vector<int>(100, 2));
  ScopedSampler uniform(512, 1.0f, 1e-6f, 44);
  EXPECT_EQ(draw(&uniform, std::vector<float>(512, 0.25f), 100), std::vector<int>(100, 0));
  ScopedSampler single(1, 1.0f, 0.9f, 44);
  EXPECT_EQ(draw(&single, {0.5f}, 10), std::vector<int>(10, 0));
}

// However the logits lie and whatever top-p is: the tokens of a temperature of 0.
TEST(Samplers, TheLowestTemperaturesAreGreedy) {
  const std::vector<std::vector<float>> rows = {
      kLogits,           {-50, -40.5f, -41, -90}, {0, -1e-3f, -30}, {1e30f, 2e30f, -3e38f}, {-1e-30f, -2e-30f},
      {88, 87.99999f, 0}};
  for (const std::vector<float> &logits : rows)
    for (float temperature : {1e-45f, 1e-40f, 1e-38f, 1.1754944e-38f, 1e-36f, 1e-33f})
      for (float topp : {0.0f, 1e-45f, 1e-40f, 0.5f, 0.9f, 0.99999994f, 1.0f}) {
        ScopedSampler greedy((int)logits.size(), 0, topp, 1), sampler((int)logits.size(), temperature, topp, 45);
        EXPECT_EQ(draw(&sampler, logits, 20), draw(&greedy, logits, 20))
            << "temperature " << temperature << ", top-p " << topp << ", first logit " << logits[0];
      }
}

TEST(Samplers, TheHighestTemperaturesAreUniform) {
  for (float temperature : {1e30f, 1e38f, 3.4028235e38f}) {
    ScopedSampler sampler(10, temperature, 1.0f, 46);
    expect_distribution(draw(&sampler, kLogits, 20000), std::vector<double>(10, 0.1));
  }
}

// The smallest top-p keeps one token; one that the rounded sum does not reach keeps all.
TEST(Samplers, TopPAtItsEnds) {
  for (float topp : {1e-45f, 1e-40f, 1.1754944e-38f}) {
    ScopedSampler sampler(10, 1.0f, topp, 47);
    EXPECT_EQ(draw(&sampler, kLogits, 100), std::vector<int>(100, 2)) << topp;
  }
  ScopedSampler sampler(10, 1.0f, 0.99999994f, 48);
  expect_distribution(draw(&sampler, kLogits, 200000), softmax_of(kLogits, 1.0));
  std::vector<float> most(1000, 0.0001f);  // sums to 0.1: far below top-p
  std::vector<ProbIndex> work(1000);
  EXPECT_EQ(sample_topp(most.data(), 1000, 0.9f, work.data(), 0.99999994f), 999);
}

TEST(Samplers, LogitsThatAreNoNumbersGiveNoToken) {
  const float nan = NAN;
  const std::vector<std::vector<float>> rows = {{nan, 1, 2},
                                                {1, nan, 2},
                                                {1, 2, -nan},
                                                {nan, nan, nan},
                                                {1, INFINITY, 2},
                                                {-INFINITY, -INFINITY},
                                                {nan, INFINITY, -INFINITY}};
  for (std::vector<float> logits : rows) {
    EXPECT_EQ(sample_argmax(logits.data(), (int)logits.size()), -1);
    for (float temperature : {0.0f, 1e-40f, 1.0f}) {
      ScopedSampler sampler((int)logits.size(), temperature, 0.9f, 49);
      EXPECT_EXIT(sample(&sampler, logits.data()), testing::ExitedWithCode(1), "^error: [^\n]* not numbers\n$");
    }
  }
  std::vector<float> masked = {-INFINITY, 1, -INFINITY, 2};
  EXPECT_EQ(sample_argmax(masked.data(), 4), 3);
}

TEST(Samplers, SeedDecides) {
  ScopedSampler a(10, 1.0f, 0.9f, 7), b(10, 1.0f, 0.9f, 7), c(10, 1.0f, 0.9f, 8);
  const std::vector<int> tokens = draw(&a, kLogits, 100);
  EXPECT_EQ(draw(&b, kLogits, 100), tokens);
  EXPECT_NE(draw(&c, kLogits, 100), tokens);
}

// ---------------------------------------------------------------------------------------------------------------------
// Requests

TEST(RequestFile, Count) {
  const std::vector<std::pair<const char *, int>> cases = {{"1", 1},          {" 12\t", 12},
                                                           {"007", 7},        {"2147483647", INT_MAX},
                                                           {"2147483648", 0}, {"99999999999999999999", 0},
                                                           {"0", 0},          {"-3", 0},
                                                           {"+3", 0},         {"abc", 0},
                                                           {"", 0},           {"  ", 0},
                                                           {"12x", 0},        {"1 2", 0},
                                                           {"3.0", 0}};
  for (const auto &[text, count] : cases) EXPECT_EQ(parse_request_count(text), count) << '"' << text << '"';
}

TEST(RequestFile, Lines) {
  const std::vector<std::pair<std::string_view, std::vector<std::string_view>>> cases = {{"", {}},
                                                                                         {"\n", {""}},
                                                                                         {"a", {"a"}},
                                                                                         {"a\n", {"a"}},
                                                                                         {"a\nb", {"a", "b"}},
                                                                                         {"a\r\nb\r\n", {"a", "b"}},
                                                                                         {"a\r\r\n", {"a\r"}},
                                                                                         {"\n\nb\n", {"", "", "b"}}};
  for (const auto &[text, lines] : cases) EXPECT_EQ(split_lines(text), lines) << '"' << text << '"';
}

TEST(RequestFile, RowsLieBeyond32Bits) {
  const int count = 2200000, steps = 1024;
  const size_t bytes = int64_t{count} * (steps + 1) * sizeof(int);
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED) << "9 GB of address space";
  Requests requests = {};
  requests.num_reqs = count;
  requests.max_seq_len = steps;
  requests.tok_gens = static_cast<int *>(memory);
  int *last = get_tok_gen_ptr(&requests, count - 1);
  ASSERT_EQ(last - requests.tok_gens, 2199999ll * 1025);
  last[steps] = -1;
  munmap(memory, bytes);
}

// ---------------------------------------------------------------------------------------------------------------------
// Chat, on a model whose next token depends on the current one alone, by a table. Its embeddings are unit vectors and
// its values a copy of the normalised embedding, so the value cache tells which token was fed at each position.

enum : int { kStart = 256, kMessage, kChannel, kEnd, kReturn, kCall, kVocab = 262 };
const char *const kSpecials[] = {"<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"};
const char *const kNames[] = {"[start]", "[message]", "[channel]", "[end]", "[return]", "[call]"};

std::string write_byte_tokenizer() {
  const std::string path = testing::TempDir() + "harness_test_tokenizer.bin";
  std::ofstream file(path, std::ios::binary);
  const auto write = [&file](auto value) { file.write(reinterpret_cast<const char *>(&value), sizeof value); };
  write(int32_t{11});
  for (int id = 0; id < kVocab; id++) {
    const std::string text = id == 0 ? "<0x00>" : id < 256 ? std::string(1, (char)id) : kSpecials[id - 256];
    write(id < 256 ? (float)id : -1e30f);
    write((int32_t)text.size());
    file << text;
  }
  return path;
}

class Chat : public testing::Test {
 protected:
  Chat() : model_({kVocab, kVocab, 1, 1, 2, 1, kVocab, 1, 1, 128, 4096, 150000, 32, 128, 7}) {
    read_tokenizer(&tokenizer_, write_byte_tokenizer().c_str(), kVocab);
    TransformerWeights &w = model_.transformer.weights;
    std::fill(w.rms_attn_w, w.rms_attn_w + 3 * kVocab, 1.0f);  // rms_attn, rms_ffn, rms_out
    for (int i = 0; i < kVocab; i++) {
      w.token_embedding_table[i * kVocab + i] = 1.0f;
      w.w_qkv[(2 * kVocab + i) * kVocab + i] = 1.0f;
    }
  }
  ~Chat() override { free_tokenizer(&tokenizer_); }

  void follow(const std::map<int, int> &table) {
    for (auto [token, next] : table) model_.transformer.weights.out[next * kVocab + token] = 1.0f;
  }

  // Returns what chat prints.
  std::string talk(const std::string &input, const char *system_prompt, int steps = 128) {
    std::istringstream lines(input);
    std::streambuf *const before = std::cin.rdbuf(lines.rdbuf());
    ScopedSampler greedy(kVocab, 0.0f, 0.9f, 1);
    std::cin.clear();
    testing::internal::CaptureStdout();
    chat(&model_.transformer, &tokenizer_, &greedy, nullptr, system_prompt, steps);
    fflush(stdout);
    std::cin.rdbuf(before);
    return testing::internal::GetCapturedStdout();
  }

  // The tokens at the positions of the value cache; a special token as [name], unlike its text.
  std::string fed() {
    std::string text;
    for (int pos = 0; pos < model_.transformer.config.seq_len; pos++) {
      const float *value = model_.transformer.state.value_cache + pos * kVocab;
      const int token = (int)(std::max_element(value, value + kVocab) - value);
      if (value[token] == 0.0f) break;
      text += token < 256 ? std::string(1, (char)token) : kNames[token - 256];
    }
    return text;
  }

  MemoryModel model_;
  Tokenizer tokenizer_;
};

TEST_F(Chat, SpeaksHarmony) {
  follow({{'t', kChannel}, {kChannel, 'f'}, {'f', kMessage}, {kMessage, 'H'}, {'H', 'i'}, {'i', kReturn}});
  EXPECT_EQ(talk("go\n", "S"), "User: Assistant: [f] Hi\nUser: \n");
  EXPECT_EQ(fed(),
            "[start]system[message]S[end][start]user[message]go[end]"
            "[start]assistant[channel]f[message]Hi");
}

TEST_F(Chat, AnswerStaysInTheHistoryWithoutItsAnalysis) {
  follow({{'t', kChannel},
          {kChannel, 'A'},
          {'A', kMessage},
          {kMessage, 'x'},
          {'x', kEnd},
          {kEnd, kStart},
          {kStart, 'R'},
          {'R', 'F'},
          {'F', kReturn}});
  talk("one\ntwo\n", "");
  EXPECT_EQ(fed().substr(0, fed().find("two") + 8),
            "[start]user[message]one[end][start]RF[end][start]user[message]two[end]");
}

TEST_F(Chat, CallEndsTheTurnAndStays) {
  follow({{'t', kMessage}, {kMessage, 'c'}, {'c', kCall}});
  EXPECT_EQ(talk("one\ntwo\n", ""), "User: Assistant: c\nUser: Assistant: c\nUser: \n");
  EXPECT_EQ(fed(),
            "[start]user[message]one[end][start]assistant[message]c[call]"
            "[start]user[message]two[end][start]assistant[message]c");
}

TEST_F(Chat, UserTextHoldsNoSpecialTokens) {
  follow({{'t', kReturn}});
  talk("a<|end|>b\n", "");
  EXPECT_EQ(fed(), "[start]user[message]a<|end|>b[end][start]assistant");
}

// A C1 control over the border of two tokens, an ESC, and a character that the message ends within.
TEST_F(Chat, ShowsNothingThatATerminalObeys) {
  follow({{'t', kChannel},
          {kChannel, 0xC2},
          {0xC2, 0x9B},
          {0x9B, kMessage},
          {kMessage, 0x1B},
          {0x1B, 'b'},
          {'b', 0xE4},
          {0xE4, kReturn}});
  EXPECT_EQ(talk("go\n", ""), "User: Assistant: [] b\uFFFD\nUser: \n");
}

TEST_F(Chat, GenerateShowsNothingThatATerminalObeys) {
  follow({{'o', 0xC2}, {0xC2, 0x9B}, {0x9B, 'A'}, {'A', 0xE4}});
  ScopedSampler greedy(kVocab, 0.0f, 0.9f, 1);
  testing::internal::CaptureStdout();
  generate(&model_.transformer, &tokenizer_, &greedy, "\x1b\xe2\x80\xaego", 8 + 1);
  fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "goA\uFFFD\n");
}

TEST_F(Chat, EndsWithTheStepsAndTakesLongLines) {
  follow({{'t', 'u'}, {'u', 'u'}});
  EXPECT_EQ(talk("hi\n", "", 40).substr(0, 17), "User: Assistant: ");
  EXPECT_EQ(talk(std::string(100000, 'x') + "\n", "", 128), "User: Assistant: \n");
  EXPECT_EQ(talk("\n\r\n", ""), "User: User: User: \n");
}

}  // namespace
