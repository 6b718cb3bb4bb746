// What the kernel tests share: device buffers between guards, random inputs, comparison with a reference in double.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../hip/hip_utils.h"

// Wave size, lane order and tile layout (with waves of 32: WMMA's or mma.sync's) to run a test with. On the host back
// end: all of them, ascending and seeded orders; on hardware there is nothing to choose.
struct Lanes {
  int wave;
  unsigned long long seed;
  bool wmma = false;
};

inline std::vector<Lanes> lane_setups() {
  if (!getp_set_lanes(64, 0, false)) return {{0, 0}};
  return {{64, 0}, {32, 0}, {32, 0, true}, {64, 1}, {32, 2}, {32, 3, true}};
}

// The largest error that all_near has seen in the running test.
struct WorstError {
  double error = 0, bound = 0;
  size_t place = 0, count = 0;
};
inline WorstError worst_of_test;

// Of the device and the lanes that the running test uses.
inline Card card_of_test;

class KernelTest : public testing::TestWithParam<Lanes> {
 protected:
  void SetUp() override {
    getp_set_lanes(GetParam().wave, GetParam().seed, GetParam().wmma);
    card_of_test = getp_hip::current_card();
    random.seed(20260101);
    worst_of_test = {};
    before_ = getp_hip::bytes_in_use();
  }
  void TearDown() override {
    HIP_CHECK(hipDeviceSynchronize());
    EXPECT_EQ(getp_hip::bytes_in_use(), before_) << "the test leaked device memory";
    const WorstError &w = worst_of_test;
    if (w.bound > 0) printf("worst error %.2g of %.2g, at %zu of %zu\n", w.error, w.bound, w.place, w.count);
  }
  // n values, normal with mean 0 and the given standard deviation.
  std::vector<float> normal(size_t n, double deviation = 1) {
    std::normal_distribution<float> distribution(0, (float)deviation);
    std::vector<float> values(n);
    for (float &value : values) value = distribution(random);
    return values;
  }
  // n integers of -limit..limit, so that products and sums are exact in any order.
  std::vector<float> integers(size_t n, int limit) {
    std::uniform_int_distribution<int> distribution(-limit, limit);
    std::vector<float> values(n);
    for (float &value : values) value = (float)distribution(random);
    return values;
  }
  std::mt19937 random;

 private:
  size_t before_ = 0;
};

#define INSTANTIATE_KERNEL_TEST(suite)                                                           \
  INSTANTIATE_TEST_SUITE_P(Lanes, suite, testing::ValuesIn(lane_setups()), [](auto &info) {      \
    return "wave" + std::to_string(info.param.wave) + "seed" + std::to_string(info.param.seed) + \
           (info.param.wmma ? "wmma" : "");                                                      \
  })

// Device memory of `size` elements with a guard at both ends, poisoned (all bits set) before anything is written.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t size) : size_(size), memory_(getp_hip::device_alloc<T>(size + 2 * kGuard)) {
    HIP_CHECK(hipMemset(memory_, 0xff, (size + 2 * kGuard) * sizeof(T)));
  }
  explicit Buffer(const std::vector<T> &values) : Buffer(values.size()) {
    HIP_CHECK(hipMemcpy(data(), values.data(), size_ * sizeof(T), hipMemcpyHostToDevice));
  }
  Buffer(const Buffer &) = delete;
  ~Buffer() { getp_hip::device_free(memory_, size_ + 2 * kGuard); }

  T *data() { return memory_ + kGuard; }
  // The values; fails the test if a guard was written.
  std::vector<T> fetch() {
    HIP_CHECK(hipDeviceSynchronize());
    std::vector<T> all(size_ + 2 * kGuard);
    HIP_CHECK(hipMemcpy(all.data(), memory_, all.size() * sizeof(T), hipMemcpyDeviceToHost));
    std::vector<unsigned char> poison(kGuard * sizeof(T), 0xff);
    EXPECT_EQ(memcmp(all.data(), poison.data(), poison.size()), 0) << "the guard before the buffer was written";
    EXPECT_EQ(memcmp(all.data() + kGuard + size_, poison.data(), poison.size()), 0)
        << "the guard after the buffer was written";
    return std::vector<T>(all.begin() + kGuard, all.begin() + kGuard + size_);
  }

 private:
  static constexpr size_t kGuard = 64;  // elements; keeps data() aligned to 16 bytes
  size_t size_;
  T *memory_;
};

// Every value finite and within `bound` of the reference; otherwise names the worst place. The worst of a test is
// printed at its end.
inline testing::AssertionResult all_near(const std::vector<float> &values, const std::vector<double> &reference,
                                         double bound) {
  if (values.size() != reference.size())
    return testing::AssertionFailure() << values.size() << " values, expected " << reference.size();
  double worst = 0;
  size_t place = 0;
  for (size_t i = 0; i < values.size(); i++) {
    const double difference = std::isfinite(values[i]) ? std::fabs(values[i] - reference[i]) : INFINITY;
    if (difference > worst) worst = difference, place = i;
  }
  if (bound > 0 && worst >= worst_of_test.error) worst_of_test = {worst, bound, place, values.size()};
  if (worst <= bound) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "max abs error " << worst << " > " << bound << " at " << place << ": "
                                     << values[place] << ", expected " << reference[place];
}
