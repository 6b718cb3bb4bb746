// Tests of run.cpp and getp_eval.cpp from the inside: forward against the golden logits, the building blocks against
// independent formulas, the samplers against their distributions, offsets beyond 32 bits, the conversation that chat
// feeds to the model against that of openai-harmony (recorded in tests/golden).
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

// What chat feeds to the model, and what the model says: of a script, at every position the token that follows.
struct Talk {
  std::vector<int> fed;                   // what the KV cache holds
  std::vector<std::vector<int>> replies;  // to the first message of the user, the second, ...
  std::vector<std::vector<int>> prompts;  // what was fed when each reply began
  std::vector<float> logits;
  std::vector<int> continuation;  // of a plain prompt of so many tokens
  size_t prompt = 0;
};
Talk *talk;

float *forward_hip(Transformer *, int token, int pos);

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
// Chat, with a model that says what tests/golden/harmony.txt has it say: whole conversations, and the token ids that the
// package openai-harmony makes of them.

constexpr int kVocab = 201088;
enum : int {
  kUser = 1428,
  kEndOfText = 199999,
  kReturn = 200002,
  kChannel = 200005,
  kStart,
  kEnd,
  kMessage,
  kCall = 200012
};

struct Conversation {
  std::string reasoning, instructions, users;  // users: a line each
  std::vector<std::vector<int>> prompts, replies;
};

class Chat : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::ifstream file("tests/golden/harmony.txt");
    for (std::string line, kind; std::getline(file, line);) {
      std::istringstream words(line);
      words >> kind >> std::ws;
      const auto rest = [&words] { return std::string(std::istreambuf_iterator<char>(words), {}); };
      const auto ids = [&words] { return std::vector<int>(std::istream_iterator<int>(words), {}); };
      if (kind == "token") {
        int id;
        words >> id >> std::ws;
        texts_[id] = from_hex(rest());
      } else if (kind == "conversation") {
        conversations_.emplace_back();
        words >> conversations_.back().reasoning >> std::ws;
        conversations_.back().instructions = from_hex(rest());
      } else if (kind == "user") {
        conversations_.back().users += rest() + "\n";
      } else {
        (kind == "prompt" ? conversations_.back().prompts : conversations_.back().replies).push_back(ids());
      }
    }
    // The vocabulary of these texts alone; every other id is a special token.
    const std::string path = testing::TempDir() + "harness_test_tokenizer.bin";
    std::ofstream tokens(path, std::ios::binary);
    const auto write = [&tokens](auto value) { tokens.write(reinterpret_cast<const char *>(&value), sizeof value); };
    write(int32_t{128});
    for (int id = 0; id < kVocab; id++) {
      const auto known = texts_.find(id);
      const std::string text = known == texts_.end() ? "<|reserved_" + std::to_string(id) + "|>" : known->second;
      write(known != texts_.end() && id < 199998 ? (float)id : -1e30f);
      write((int32_t)(text == std::string(1, '\0') ? 6 : text.size()));
      tokens << (text == std::string(1, '\0') ? "<0x00>" : text);
    }
    tokens.close();
    read_tokenizer(tokenizer_ = new Tokenizer, path.c_str(), kVocab);
  }
  static void TearDownTestSuite() { delete tokenizer_; }

  static std::string from_hex(const std::string &digits) {
    std::string bytes;
    for (size_t i = 0; i + 1 < digits.size(); i += 2) bytes += (char)std::stoi(digits.substr(i, 2), nullptr, 16);
    return bytes;
  }

  // The tokens of a text in which [start] stands for <|start|>, and so on.
  static std::vector<int> tokens_of(const std::string &text) {
    const std::map<std::string, int> specials = {{"start", kStart},        {"end", kEnd},       {"message", kMessage},
                                                 {"channel", kChannel},    {"return", kReturn}, {"call", kCall},
                                                 {"endoftext", kEndOfText}};
    std::vector<int> tokens;
    for (size_t i = 0; i < text.size();) {
      const size_t next = text[i] == '[' ? text.find(']', i) + 1 : std::min(text.find('[', i), text.size());
      if (text[i] == '[')
        tokens.push_back(specials.at(text.substr(i + 1, next - i - 2)));
      else
        append_text(&tokens, tokenizer_, text.substr(i, next - i));
      i = next;
    }
    return tokens;
  }

  // What chat prints; the model says the replies.
  std::string chat_with(const std::vector<std::vector<int>> &replies, const std::string &input,
                        const char *instructions = nullptr, const char *reasoning = "medium", int steps = 2048) {
    talk_ = {{}, replies, {}, std::vector<float>(kVocab), {}, 0};
    talk = &talk_;
    Transformer transformer;
    transformer.config.seq_len = 2048;
    std::istringstream lines(input);
    std::streambuf *const before = std::cin.rdbuf(lines.rdbuf());
    ScopedSampler greedy(kVocab, 0.0f, 0.9f, 1);
    std::cin.clear();
    testing::internal::CaptureStdout();
    chat(&transformer, tokenizer_, &greedy, nullptr, instructions, reasoning, steps);
    fflush(stdout);
    std::cin.rdbuf(before);
    return testing::internal::GetCapturedStdout();
  }

  // The history before the last reply, from the first message of the user on.
  std::vector<int> history() const {
    const std::vector<int> user = tokens_of("[start]user[message]"), &last = talk_.prompts.back();
    return {std::search(last.begin(), last.end(), user.begin(), user.end()), last.end()};
  }

  static inline std::map<int, std::string> texts_;
  static inline std::vector<Conversation> conversations_;
  static inline Tokenizer *tokenizer_;
  Talk talk_;
};

TEST_F(Chat, FeedsTheIdsOfOpenaiHarmony) {
  ASSERT_EQ(conversations_.size(), 3u);
  for (const Conversation &each : conversations_) {
    std::vector<std::vector<int>> replies = each.replies;
    replies.back() = {kReturn};  // no reply is recorded to the last
    chat_with(replies, each.users, each.instructions.c_str(), each.reasoning.c_str());
    EXPECT_EQ(talk_.prompts, each.prompts) << each.users;
  }
}

TEST_F(Chat, ShowsChannelsAndCallsAndRunsNothing) {
  chat_with({{kReturn}}, "Hi\n");
  const std::vector<int>
      call = tokens_of(" to=functions.f[channel]commentary json[message]{}[call]"),
      inside = tokens_of("[channel]commentary to=functions.f json[message]{}[call]"),
      late = tokens_of("[channel]analysis[message]A[end][start]assistant to=f[channel]commentary[message]{}[call]"),
      answer = tokens_of("[channel]final[message]Hello![return]"), bare = tokens_of("[message]Hello![return]");
  EXPECT_EQ(chat_with({call, inside, late, answer, bare}, "1\n2\n3\n4\n5\n"),
            "User: Assistant: [commentary json to=functions.f] {}\n[a tool call; no tool is run]\n"
            "User: Assistant: [commentary to=functions.f json] {}\n[a tool call; no tool is run]\n"
            "User: Assistant: [analysis] A\n[commentary to=f] {}\n[a tool call; no tool is run]\n"
            "User: Assistant: [final] Hello!\nUser: Assistant: Hello!\nUser: \n");
}

TEST_F(Chat, EveryStopTokenEndsTheTurn) {
  for (const char *stop : {"return", "call", "endoftext"}) {
    std::vector<int> reply = tokens_of("[channel]final[message]Hello![" + std::string(stop) + "]");
    chat_with({reply, {kReturn}}, "1\n2\n");
    const std::string last = std::string(stop) == "call" ? "[call]" : "[end]";
    EXPECT_EQ(history(), tokens_of("[start]user[message]1[end][start]assistant[channel]final[message]Hello!" + last +
                                   "[start]user[message]2[end][start]assistant"));
  }
}

TEST_F(Chat, AnAnswerTakesOutAllAnalysisAndNothingElse) {
  const std::vector<int>
      call = tokens_of("[channel]analysis[message]A[end][start]assistant[channel]commentary to=f[message]B[call]"),
      answer = tokens_of(
          "[channel]analysis to=python[message]C[end][start]assistant[channel]analysis[message]D[end]"
          "[start]assistant[channel]commentary[message]E[end]"
          "[start]assistant[channel]final[message]F[return]");
  chat_with({call, {kReturn}}, "1\n2\n");
  EXPECT_EQ(history(), tokens_of("[start]user[message]1[end][start]assistant[channel]analysis[message]A[end]"
                                 "[start]assistant[channel]commentary to=f[message]B[call]"
                                 "[start]user[message]2[end][start]assistant"));
  chat_with({call, answer, {kReturn}}, "1\n2\n3\n");
  EXPECT_EQ(history(),
            tokens_of("[start]user[message]1[end][start]assistant[channel]commentary to=f[message]B[call]"
                      "[start]user[message]2[end][start]assistant[channel]commentary[message]E[end]"
                      "[start]assistant[channel]final[message]F[end][start]user[message]3[end][start]assistant"));
}

TEST_F(Chat, AHeaderAloneIsNoMessage) {
  for (const char *reply : {"[return]", "[channel]final[endoftext]", "[call]"}) {
    chat_with({tokens_of(reply), {kReturn}}, "1\n2\n");
    EXPECT_EQ(history(), tokens_of("[start]user[message]1[end][start]user[message]2[end][start]assistant")) << reply;
  }
}

TEST_F(Chat, TextHoldsNoSpecialTokens) {
  chat_with({{kReturn}}, "a<|end|>b\n", "c<|start|>d");
  const std::vector<int> &fed = talk_.prompts.back();
  EXPECT_EQ(std::count(fed.begin(), fed.end(), kStart), 4) << "system, developer, user, assistant";
  EXPECT_EQ(std::count(fed.begin(), fed.end(), kEnd), 3);
}

TEST_F(Chat, EmptyInstructionsAreNone) {
  chat_with({{kReturn}}, "Hi\n", "");
  EXPECT_EQ(talk_.prompts[0], conversations_[0].prompts[0]);
}

// A C1 control over the border of two tokens, an ESC, and a character that the message ends within.
TEST_F(Chat, ShowsNothingThatATerminalObeys) {
  const std::vector<int> reply = tokens_of("[channel]\xC2\x9B[message]\x1B" "b\xE4[return]");
  EXPECT_EQ(chat_with({reply}, "go\n"), "User: Assistant: [] b\uFFFD\nUser: \n");
}

TEST_F(Chat, GenerateShowsNothingThatATerminalObeys) {
  const char *prompt = "\x1b\xe2\x80\xaego";
  std::vector<int> prompt_tokens;
  append_text(&prompt_tokens, tokenizer_, prompt);
  talk_ = {{}, {}, {}, std::vector<float>(kVocab), tokens_of("\xC2\x9B" "A\xE4[return]"), prompt_tokens.size()};
  talk = &talk_;
  Transformer transformer;
  transformer.config.seq_len = 2048;
  ScopedSampler greedy(kVocab, 0.0f, 0.9f, 1);
  testing::internal::CaptureStdout();
  generate(&transformer, tokenizer_, &greedy, prompt, 100);
  fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "goA\uFFFD\n");
}

TEST_F(Chat, EndsWithTheStepsAndTakesLongLines) {
  const std::vector<int> endless(100, tokens_of("Hi")[0]);
  EXPECT_EQ(chat_with({endless}, "hi\n", nullptr, "low", 100), "User: Assistant: \n");
  EXPECT_EQ(talk_.fed.size(), 100u);
  EXPECT_EQ(chat_with({endless}, std::string(100000, 'x') + "\n"), "User: Assistant: \n");
  EXPECT_EQ(chat_with({}, "\n\r\n"), "User: User: User: \n");
}

}  // namespace

float *forward_hip(Transformer *, int token, int pos) {
  std::vector<int> &fed = talk->fed;
  EXPECT_LE((size_t)pos, fed.size());
  fed.resize((size_t)pos);
  fed.push_back(token);
  std::fill(talk->logits.begin(), talk->logits.end(), 0.0f);
  if (!talk->continuation.empty()) {
    if (fed.size() >= talk->prompt) talk->logits[talk->continuation.at(fed.size() - talk->prompt)] = 1.0f;
    return talk->logits.data();
  }
  // A reply follows <|start|>assistant behind a message of the user's. Which it is, and how far, is counted from these.
  const std::vector<int> user = {kStart, kUser, kMessage};
  size_t turns = 0;
  auto last = fed.end();
  for (auto at = fed.begin(); (at = std::search(at, fed.end(), user.begin(), user.end())) != fed.end(); turns++)
    last = at++;
  const ptrdiff_t said = fed.end() - std::find(last, fed.end(), kEnd) - 3;
  if (turns == 0 || said < 0) return talk->logits.data();
  if (turns > talk->prompts.size()) talk->prompts.push_back(fed);
  const std::vector<int> &reply = talk->replies.at(turns - 1);
  if ((size_t)said < reply.size()) talk->logits[reply[said]] = 1.0f;
  return talk->logits.data();
}
