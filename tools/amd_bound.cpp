// What a step of gpt-oss-20b's shape launches most of, a few blocks of each, for the simulated card to count:
//   amd_bound PRODUCT|ATTENTION ROWS TERMS [mxfp4|fp16]        (tools/amd_bound.py runs it)
// The experts' weights are in MXFP4, if nothing else is said, all others in FP16.
// Prints launches a step, and of a launch the blocks, the bytes that it must move at least (0: those that the run
// touched, scaled) and the FLOPs that it is asked for (each term of an activation counts).
#include <map>
#include <string>

#include "../hip/kernels/attention.hip"
#include "../hip/kernels/matmul.hip"
#include "arguments.hpp"
#include "shapes.hpp"

using namespace getp_hip;

namespace {

constexpr int kLayers = k20b.n_layers, kHidden = k20b.hidden_dim, kHeads = k20b.n_attn_heads, kHeadDim = k20b.head_dim;
constexpr int kKvHeads = k20b.n_kv_heads, kExperts = k20b.n_experts, kChosen = k20b.experts_per_token;
constexpr int kQ = kHeads * kHeadDim, kKv = kKvHeads * kHeadDim, kVocab = k20b.vocab_size;
constexpr int kWindow = k20b.sliding_window, kSeen = 512;  // positions: requests of 1,024 steps see 512 on average

template <class T>
T *zeros(size_t count) {
  T *values = device_alloc<T>(count);
  HIP_CHECK(hipMemset(values, 0, count * sizeof(T)));
  return values;
}

int *device(const std::vector<int> &values) {
  int *copy = device_alloc<int>(values.size());
  HIP_CHECK(hipMemcpy(copy, values.data(), values.size() * sizeof(int), hipMemcpyHostToDevice));
  return copy;
}

void print(int launches, size_t blocks, size_t bytes, double flops) {
  printf("%d %zu %zu %.0f\n", launches, blocks, bytes, flops);
}

struct StepProduct {
  int launches, d, n;
  bool of_experts;
};
const std::map<std::string, StepProduct> kProducts = {
    {"w_qkv", {kLayers, kQ + 2 * kKv, kHidden, false}}, {"w_o", {kLayers, kHidden, kQ, false}},
    {"router", {kLayers, kExperts, kHidden, false}},    {"w_mlp1", {kLayers, 2 * kHidden, kHidden, true}},
    {"w_mlp2", {kLayers, kHidden, kHidden, true}},      {"w_out", {1, kVocab, kHidden, false}}};

// Runs at most 256 rows and outputs of one matrix: so few-rows products with as many waves a block as few blocks have.
// Experts are chosen evenly.
void run_product(const StepProduct &p, int batch, int terms, MatrixForm form) {
  const int matrices = p.of_experts ? std::min(kExperts, batch * kChosen) : 1;
  const int rows = p.of_experts ? (batch * kChosen + matrices - 1) / matrices : batch;
  const int own_rows = std::min(rows, 256), own_d = std::min(p.d, 256);
  DeviceMatrix w, whole;
  w.shaped(1, own_d, p.n).form = whole.shaped(1, p.d, p.n).form = form;
  w.d_units = zeros<uint4>(w.unit_count());
  w.d_scales = zeros<float>(own_d);
  const SplitRows x = {zeros<fp16>((size_t)own_rows * p.n), zeros<fp16>((size_t)own_rows * p.n), zeros<float>(own_rows),
                       terms};
  ProductRows of;
  of.rows = own_rows;
  // The tiles of all rows, of which some are run.
  Product product = {w.form, terms, p.n, own_d, plan_tile_rows(current_card(), w.form, rows, p.d), 0};
  product.row_tiles = (own_rows + product.tile_rows - 1) / product.tile_rows;
  const ProductPlan plan = plan_product(current_card(), product);
  launch_matmul(matmul_arguments(zeros<float>((size_t)own_rows * own_d), w, nullptr, x, of, product.row_tiles), w.form,
                plan, terms, nullptr);
  const size_t row_tiles = (rows + product.tile_rows - 1) / product.tile_rows;
  print(p.launches, matrices * row_tiles * ((p.d + plan.tile_outputs - 1) / plan.tile_outputs),
        matrices * (whole.bytes() + sizeof(fp16) * terms * rows * p.n + sizeof(float) * rows * p.d),
        2.0 * terms * batch * (p.of_experts ? kChosen : 1) * p.n * p.d);
}

// Of one layer in two, the spans without their merging; runs one or two rows.
void run_attention(int window, int batch) {
  const int rows = std::min(batch, 2), length = window ? window : kSeen;
  float *cache = zeros<float>((size_t)rows * 2 * length * kKv), *out = zeros<float>((size_t)rows * 2 * kQ);
  const int spans = attention_spans(kSeen - 1, window);
  attention(out, zeros<float>((size_t)rows * kHeads * spans * (2 + kHeadDim)), out + rows * kQ,
            {CacheForm::kFp32, cache, cache + (size_t)rows * length * kKv, length, window}, zeros<float>(kHeads),
            {device(std::vector<int>(rows, kSeen - 1)), device({0, rows - 1}), rows, kSeen - 1}, kHeads, kKvHeads,
            kHeadDim, nullptr);
  print(kLayers / 2, (size_t)batch * kKvHeads * spans, 0, 0);
}

}  // namespace

int main(int argc, char **argv) {
  const Arguments arguments("usage: amd_bound PRODUCT|ATTENTION ROWS TERMS [mxfp4|fp16]");
  const std::vector<std::string> operands = arguments.parse(argc, argv, {});
  if (operands.size() < 3 || operands.size() > 4) arguments.refuse("give a product or attention, rows and terms");
  const std::string &what = operands[0];
  const int rows = Argument{arguments, "ROWS", operands[1]}.number(1, 1 << 20);
  const int terms = Argument{arguments, "TERMS", operands[2]}.number(1, 2);
  const std::string form = operands.size() > 3 ? operands[3] : "";
  if (!form.empty() && form != "mxfp4" && form != "fp16") arguments.refuse("no form '" + form + "'");
  if (what == "attention_window" || what == "attention_all")
    run_attention(what == "attention_all" ? 0 : kWindow, rows);
  else if (!kProducts.count(what))
    arguments.refuse("no product '" + what + "'");
  else
    run_product(
        kProducts.at(what), rows, terms,
        form == "mxfp4" || (form.empty() && kProducts.at(what).of_experts) ? MatrixForm::kMxfp4 : MatrixForm::kFp16);
  HIP_CHECK(hipDeviceSynchronize());
}
