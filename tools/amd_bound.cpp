// What one step of gpt-oss-20b's shape launches, a few blocks of each kind, for the simulated card to count (amd_bound.py
// runs it, docs/AMDSIM.md): amd_bound WHAT ROWS. Prints launches a step, blocks of a launch, and the bytes that a launch
// must move at least; 0 where the counts of the run tell.
#include <cstring>
#include <string>

#include "../fatal.hpp"
#include "../hip/kernels/append_kv.hip"
#include "../hip/kernels/argmax.hip"
#include "../hip/kernels/attention.hip"
#include "../hip/kernels/expert_combine.hip"
#include "../hip/kernels/linear.hip"
#include "../hip/kernels/residual.hip"
#include "../hip/kernels/rmsnorm.hip"
#include "../hip/kernels/rope.hip"
#include "../hip/kernels/softmax.hip"
#include "../hip/kernels/split_qkv.hip"
#include "../hip/kernels/swiglu.hip"
#include "../hip/kernels/topk.hip"

using namespace getp_hip;

namespace {

constexpr int kLayers = 24, kHidden = 2880, kHeads = 64, kKvHeads = 8, kHeadDim = 64, kExperts = 32, kChosen = 4;
constexpr int kQ = kHeads * kHeadDim, kKv = kKvHeads * kHeadDim, kVocab = 201088, kTerms = 2;
constexpr int kWindow = 128, kSeen = 512;  // positions: half of requests of 1,024 steps

template <class T>
T *device(const std::vector<T> &values) {
  T *copy = device_alloc<T>(values.size());
  HIP_CHECK(hipMemcpy(copy, values.data(), values.size() * sizeof(T), hipMemcpyHostToDevice));
  return copy;
}

// 0, 1, ... n - 1, `times` times.
int *numbers(int n, int times = 1) {
  std::vector<int> values;
  for (int i = 0; i < n * times; i++) values.push_back(i % n);
  return device(values);
}

template <class T>
T *zeros(size_t count) {
  T *values = device_alloc<T>(count);
  HIP_CHECK(hipMemset(values, 0, count * sizeof(T)));
  return values;
}

void print(int launches, size_t blocks, size_t bytes) { printf("%d %zu %zu\n", launches, blocks, bytes); }

// A product of `rows` rows with each of `matrices` matrices of d x n: one matrix, at most 256 outputs and 256 rows run.
void product(int launches, int matrices, int rows, int d, int n) {
  const int tile_rows = matmul_tile_rows(rows, d), own_d = std::min(d, 256), own_rows = std::min(rows, 256);
  const int outputs = tile_rows <= 32 ? tile_rows : kMatmulOutputs;
  DeviceMatrix w;
  w.shaped(1, own_d, n);
  launch_matmul({zeros<float>((size_t)own_rows * own_d), zeros<fp16>(w.padded_count()), zeros<float>(own_d), nullptr,
                 zeros<fp16>((size_t)own_rows * n), zeros<fp16>((size_t)own_rows * n), zeros<float>(own_rows), nullptr,
                 nullptr, nullptr, 1, own_rows, n, own_d, (own_rows + tile_rows - 1) / tile_rows},
                tile_rows, kTerms, nullptr);
  print(launches, (size_t)matrices * ((rows + tile_rows - 1) / tile_rows) * ((d + outputs - 1) / outputs),
        (size_t)matrices * (sizeof(fp16) * n * ((size_t)d + kTerms * rows) + sizeof(float) * rows * d));
}

void run(const std::string &what, int rows) {
  const int few = std::min(rows, 16), chosen = rows * kChosen;
  // Experts are chosen evenly.
  const int experts = std::min(kExperts, chosen), expert_rows = (chosen + experts - 1) / experts;
  const auto floats = [few](size_t of_row) { return zeros<float>(few * of_row); };
  const SplitRows split = {zeros<fp16>((size_t)few * kChosen * kQ), zeros<fp16>((size_t)few * kChosen * kQ),
                           zeros<float>(few * kChosen), kTerms};
  const auto of_rows = [&](int launches, size_t blocks_of_row) { print(launches, rows * blocks_of_row, 0); };
  if (what == "w_qkv") return product(kLayers, 1, rows, kQ + 2 * kKv, kHidden);
  if (what == "w_o") return product(kLayers, 1, rows, kHidden, kQ);
  if (what == "router") return product(kLayers, 1, rows, kExperts, kHidden);
  if (what == "w_mlp1") return product(kLayers, experts, expert_rows, 2 * kHidden, kHidden);
  if (what == "w_mlp2") return product(kLayers, experts, expert_rows, kHidden, kHidden);
  if (what == "w_out") return product(1, 1, rows, kVocab, kHidden);
  if (what == "attention, window" || what == "attention, all") {
    const int window = what == "attention, all" ? 0 : kWindow, length = window ? window : kSeen, own = few > 2 ? 2 : few;
    attention(floats(kQ), floats(kQ), floats(kQ), zeros<float>((size_t)own * length * kKv),
              zeros<float>((size_t)own * length * kKv), zeros<float>(kHeads), device(std::vector<int>(own, kSeen - 1)), numbers(own), kSeen - 1, own, kHeads,
              kKvHeads, kHeadDim, length, window, nullptr);
    return of_rows(kLayers / 2, kKvHeads);
  }
  const auto blocks = [](size_t items) { return block_count(items, 256); };
  if (what == "rmsnorm") return rmsnorm(floats(kHidden), floats(kHidden), zeros<float>(kHidden), few, kHidden, nullptr),
                                of_rows(2 * kLayers + 1, 1);
  if (what == "split_terms, hidden") return split_terms(split, floats(kHidden), few, kHidden, nullptr),
                                            of_rows(2 * kLayers + 1, 1);
  if (what == "split_terms, attention") return split_terms(split, floats(kQ), few, kQ, nullptr), of_rows(kLayers, 1);
  if (what == "split_terms, experts")
    return split_terms(split, floats(kChosen * kHidden), few * kChosen, kHidden, nullptr), of_rows(kLayers, kChosen);
  if (what == "split_qkv")
    return split_qkv(floats(kQ), floats(kKv), floats(kKv), floats(kQ + 2 * kKv), few, kQ, kKv, nullptr),
           of_rows(kLayers, blocks(kQ + 2 * kKv));
  if (what == "rope, queries")
    return rope(floats(kQ), zeros<float>(kHeadDim), zeros<float>(kHeadDim), zeros<int>(few), few, kHeads, kHeadDim,
                nullptr),
           of_rows(kLayers, blocks(kQ / 2));
  if (what == "append_kv") {
    return append_kv(floats(kKv), floats(kKv), floats(kKv), floats(kKv), zeros<int>(few), numbers(few), 1, few, kKv, nullptr),
           of_rows(kLayers, blocks(kKv));
  }
  if (what == "residual")
    return residual_add(floats(kHidden), floats(kHidden), (size_t)few * kHidden, nullptr),
           print(2 * kLayers, blocks((size_t)rows * kHidden), 0);
  if (what == "swiglu")
    return swiglu(floats(kChosen * kHidden), floats(kChosen * 2 * kHidden), few * kChosen, kHidden, 7, nullptr),
           of_rows(kLayers, kChosen * blocks(kHidden));
  if (what == "expert_combine")
    return expert_combine(floats(kHidden), floats(kChosen * kHidden), floats(kChosen), numbers(kChosen, few), few,
                          kChosen, kHidden, nullptr),
           of_rows(kLayers, blocks(kHidden));
  if (what == "topk") return topk(floats(kChosen), zeros<int>(few * kChosen), floats(kExperts), few, kExperts, kChosen,
                                  nullptr),
                             of_rows(kLayers, 1);
  if (what == "argmax") return argmax(zeros<int>(few), floats(kVocab), few, kVocab, nullptr), of_rows(1, 1);
  fatal("amd_bound: no kernel '%s'", what.c_str());
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3 || std::atoi(argv[2]) < 1) fatal("usage: amd_bound WHAT ROWS");
  run(argv[1], std::atoi(argv[2]));
  HIP_CHECK(hipDeviceSynchronize());
}
