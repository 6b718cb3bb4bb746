// Debug parity: the device's values of every stage of forward_hip against the CPU's.
//
// GETP_PARITY=<tolerance> (say 1e-3) compares at every step, prints layer, stage and max abs difference, and stops at
// the first that exceeds the tolerance. The CPU side uses the experts' weights as rounded to BF16, so what it finds is
// the kernels' doing. Costs a CPU forward a step; positions must come in order from 0.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "../engine/stages.hpp"
#include "../environment.hpp"
#include "../hip_utils.h"
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

class Parity : public StageObserver {
 public:
  // Reads GETP_PARITY.
  void read_environment() {
    const double tolerance = environment_positive("GETP_PARITY", "the largest allowed difference, for example 1e-3");
    if (tolerance == 0) return;
    tolerance_ = tolerance;
    mode_ = Mode::kStop;
  }

  // Collects the largest differences instead of printing and stopping.
  void collect() { mode_ = Mode::kCollect; }
  bool on() const { return mode_ != Mode::kOff; }

  // The model that the device computes with.
  void use_model(const Config &p, const HostWeights &h) { reference_ = std::make_unique<Reference>(p, h, true); }
  void reset() { reference_.reset(); }

  // Differences since the last call of this function, a value for each stage over all layers.
  std::vector<Difference> take_differences() { return std::exchange(worst_, std::vector<Difference>(kStages)); }

  // Runs the CPU side of a step, to have something to compare with.
  void begin_step(int token, int position) override {
    expected_.clear();
    position_ = position;
    reference_->step(token, position, [&](Stage stage, int layer, const std::vector<float> &values) {
      expected_[{stage, layer}] = values;
    });
  }
  void see(Stage stage, int layer, const float *d_values, hipStream_t stream) override {
    check(stage, layer, d_values, stream);
  }
  void see(Stage stage, int layer, const int *d_values, hipStream_t stream) override {
    check(stage, layer, d_values, stream);
  }

 private:
  enum class Mode { kOff, kStop, kCollect };
  static constexpr size_t kStages = (size_t)Stage::kCount;
  using Reference = ReferenceForward<float, DoubleSum>;

  // Compares a stage's values on the device with the CPU's.
  template <class T>
  void check(Stage stage, int layer, const T *d_values, hipStream_t stream) {
    const std::vector<float> &expected = expected_.at({stage, layer});
    std::vector<T> values(expected.size());
    copy_to_host(values.data(), d_values, values.size(), stream);
    HIP_CHECK(hipStreamSynchronize(stream));
    Difference d;
    for (size_t i = 0; i < values.size(); i++) d.add(values[i], expected[i]);
    if (mode_ == Mode::kCollect) return worst_[(size_t)stage].add(d);
    fprintf(stderr, "parity: position %d, layer %d, %s: max abs difference %.3g\n", position_, layer, stage_name(stage),
            d.abs);
    if (d.abs <= tolerance_) return;
    fail_program("position %d, layer %d, %s exceeds GETP_PARITY=%g", position_, layer, stage_name(stage), tolerance_);
  }

  Mode mode_ = Mode::kOff;
  double tolerance_ = 0;
  int position_ = 0;
  std::unique_ptr<Reference> reference_;
  std::map<std::pair<Stage, int>, std::vector<float>> expected_;  // of the stages of each layer
  std::vector<Difference> worst_ = std::vector<Difference>(kStages);
};

}  // namespace getp_hip
