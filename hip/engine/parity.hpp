// Debug parity: the device's values of every stage of forward_hip against the CPU's.
//
// GETP_PARITY=<tolerance> (say 1e-3) compares at every step, prints layer, stage and max abs difference, and stops at
// the first that exceeds the tolerance. The CPU side uses the experts' weights as rounded to BF16, so what it finds is
// the kernels' doing. Costs a CPU forward a step; positions must come in order from 0.
#pragma once

#include <memory>
#include <utility>

#include "device.hpp"
#include "reference.hpp"

namespace getp_hip {

// Largest |value - expected|, and largest |value - expected| / |expected| where |expected| > 1e-3. Once a difference is
// not a number, neither is the largest.
struct Difference {
  double abs = 0, rel = 0;

  void add(double value, double expected) {
    const double difference = std::fabs(value - expected), size = std::fabs(expected);
    add({difference, size > 1e-3 ? difference / size : 0});
  }
  void add(const Difference &other) {
    if (!std::isnan(abs) && !(other.abs <= abs)) abs = other.abs;
    if (!std::isnan(rel) && !(other.rel <= rel)) rel = other.rel;
  }
};

class Parity {
 public:
  enum class Mode { kOff, kStop, kCollect };

  // What GETP_PARITY asks for; ends the program if that is no positive number.
  void read_environment() {
    const char *text = getenv("GETP_PARITY");
    if (!text || !*text) return;
    char *end = nullptr;
    tolerance_ = strtod(text, &end);
    if (*end || !(tolerance_ > 0)) {
      fprintf(stderr, "error: GETP_PARITY=%s: expected the largest allowed difference, for example 1e-3\n", text);
      exit(EXIT_FAILURE);
    }
    mode_ = Mode::kStop;
  }

  // Collects the largest differences instead of printing and stopping.
  void collect() { mode_ = Mode::kCollect; }
  bool on() const { return mode_ != Mode::kOff; }

  // Differences since the last call of this function, a value for each stage over all layers.
  std::vector<Difference> take_differences() { return std::exchange(worst_, std::vector<Difference>(kStages)); }

  // Runs the CPU side of a step, to have something to compare with.
  void begin_step(const Config &p, const TransformerWeights &h, int token, int pos) {
    if (!on()) return;
    if (!reference_) reference_ = std::make_unique<Reference>(p, h, true);
    expected_.assign((size_t)p.n_layers * kStages, {});
    pos_ = pos;
    reference_->step(token, pos, [&](Stage stage, int layer, const std::vector<float> &values) {
      expected_[(size_t)layer * kStages + (size_t)stage] = values;
    });
  }

  // Compares a stage's values on the device, T float or int, with the CPU's.
  template <class T>
  void check(Stage stage, int layer, const T *d_values, hipStream_t stream) {
    if (!on()) return;
    const std::vector<float> &expected = expected_[(size_t)layer * kStages + (size_t)stage];
    std::vector<T> values(expected.size());
    copy_to_host(values.data(), d_values, values.size(), stream);
    HIP_CHECK(hipStreamSynchronize(stream));
    Difference d;
    for (size_t i = 0; i < values.size(); i++) d.add(values[i], expected[i]);
    if (mode_ == Mode::kCollect) return worst_[(size_t)stage].add(d);
    fprintf(stderr, "parity: position %d, layer %d, %s: max abs difference %.3g\n", pos_, layer, stage_name(stage),
            d.abs);
    if (d.abs <= tolerance_) return;
    fprintf(stderr, "error: position %d, layer %d, %s exceeds GETP_PARITY=%g\n", pos_, layer, stage_name(stage),
            tolerance_);
    exit(EXIT_FAILURE);
  }

  void reset() { reference_.reset(); }

 private:
  static constexpr size_t kStages = (size_t)Stage::kCount;
  using Reference = ReferenceForward<float, DoubleSum>;

  Mode mode_ = Mode::kOff;
  double tolerance_ = 0;
  int pos_ = 0;
  std::unique_ptr<Reference> reference_;
  std::vector<std::vector<float>> expected_;
  std::vector<Difference> worst_ = std::vector<Difference>(kStages);
};

}  // namespace getp_hip
