// The host back end's checks: each has a kernel that commits the fault, and is seen to report it.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <set>

#include "../hip/kernels/reduce.hpp"

using getp_hip::block_reduce;
using getp_hip::Max;
using getp_hip::Sum;

namespace {

class HostBackendTest : public testing::Test {
 protected:
  void SetUp() override {
    testing::FLAGS_gtest_death_test_style = "threadsafe";  // the CPU threads of earlier launches do not survive a fork
    saved_ = getp_host::options();
    getp_host::last_fault.clear();
  }
  void TearDown() override {
    getp_host::options() = saved_;
    hipGetLastError();
  }
  // Runs a launch that must fail, returns what was reported.
  template <class Launch>
  std::string fault_of(Launch launch) {
    testing::internal::CaptureStderr();
    launch();
    const std::string printed = testing::internal::GetCapturedStderr();
    EXPECT_NE(hipGetLastError(), hipSuccess);
    EXPECT_NE(printed.find(getp_host::last_fault), std::string::npos);
    return getp_host::last_fault;
  }
  template <class T>
  static T *device_memory(size_t count) {
    void *pointer = nullptr;
    EXPECT_EQ(hipMalloc(&pointer, count * sizeof(T)), hipSuccess);
    return (T *)pointer;
  }

 private:
  getp_host::Options saved_;
};

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << "in: " << (text)

__global__ void write_thread_numbers(int *out) { out[blockIdx.x * blockDim.x + threadIdx.x] = (int)threadIdx.x; }

TEST_F(HostBackendTest, EveryThreadOfEveryBlockRunsOnce) {
  int *out = device_memory<int>(1000 * 96);
  hipLaunchKernelGGL(write_thread_numbers, dim3(1000), dim3(96), 0, nullptr, out);
  ASSERT_EQ(hipGetLastError(), hipSuccess);
  for (int i = 0; i < 1000 * 96; i++) ASSERT_EQ(out[i], i % 96);
  EXPECT_EQ(hipFree(out), hipSuccess);
}

__global__ void three_dimensions(int *out) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[block * 24 + thread] = (int)(block * 24 + thread);
}

TEST_F(HostBackendTest, GridsAndBlocksHaveThreeDimensions) {
  int *out = device_memory<int>(30 * 24);
  hipLaunchKernelGGL(three_dimensions, dim3(2, 3, 5), dim3(4, 3, 2), 0, nullptr, out);
  ASSERT_EQ(hipGetLastError(), hipSuccess);
  for (int i = 0; i < 30 * 24; i++) ASSERT_EQ(out[i], i);
  EXPECT_EQ(hipFree(out), hipSuccess);
}

__global__ void sums(float *group_sums, float *block_sums, float *block_maxima) {
  const float value = (float)(threadIdx.x * threadIdx.x % 101);
  group_sums[threadIdx.x] = group_reduce<8>(value, Sum{});
  block_sums[threadIdx.x] = block_reduce<256>(value, Sum{});
  block_maxima[threadIdx.x] = block_reduce<256>(value, Max{});
}

TEST_F(HostBackendTest, ReductionsGiveEveryLaneTheResult) {
  for (int wave : {32, 64})
    for (uint64_t seed : {0, 1, 2}) {
      getp_set_lanes(wave, seed, false);
      float *out = device_memory<float>(3 * 256);
      hipLaunchKernelGGL(sums, dim3(1), dim3(256), 0, nullptr, out, out + 256, out + 512);
      ASSERT_EQ(hipGetLastError(), hipSuccess);
      float total = 0;
      for (int i = 0; i < 256; i++) total += (float)(i * i % 101);
      for (int i = 0; i < 256; i++) {
        float group = 0;
        for (int j = i / 8 * 8; j < i / 8 * 8 + 8; j++) group += (float)(j * j % 101);
        ASSERT_EQ(out[i], group);
        ASSERT_EQ(out[256 + i], total);
        ASSERT_EQ(out[512 + i], 100);
      }
      EXPECT_EQ(hipFree(out), hipSuccess);
    }
}

std::vector<int> *order;
__global__ void note_order(int *) {
  order->push_back((int)threadIdx.x);
  __syncthreads();
  order->push_back((int)threadIdx.x);
}

TEST_F(HostBackendTest, SeedsShuffleTheLanesAnewAfterEachBarrier) {
  int *nothing = device_memory<int>(1);
  std::set<std::vector<int>> orders;
  for (uint64_t seed : {0, 1, 1, 2}) {
    std::vector<int> seen;
    order = &seen;
    getp_set_lanes(64, seed, false);
    hipLaunchKernelGGL(note_order, dim3(1), dim3(64), 0, nullptr, nothing);
    ASSERT_EQ(hipGetLastError(), hipSuccess);
    ASSERT_EQ(seen.size(), 128u);
    const std::vector<int> before(seen.begin(), seen.begin() + 64), after(seen.begin() + 64, seen.end());
    EXPECT_EQ(std::set<int>(before.begin(), before.end()).size(), 64u);
    EXPECT_EQ(std::set<int>(after.begin(), after.end()).size(), 64u);
    if (seed) {
      EXPECT_NE(before, after);
    } else {
      EXPECT_TRUE(std::is_sorted(before.begin(), before.end()));
    }
    orders.insert(seen);
  }
  EXPECT_EQ(orders.size(), 3u) << "seed 0, 1 and 2 differ, 1 repeats itself";
  EXPECT_EQ(hipFree(nothing), hipSuccess);
}

// A neighbour's value is read without a barrier: some lane orders give another result.
__global__ void missing_barrier(float *out) {
  GETP_SHARED(float, value, 64);
  value[threadIdx.x] = (float)threadIdx.x;
  out[threadIdx.x] = value[(threadIdx.x + 1) % 64];
}

TEST_F(HostBackendTest, AMissingBarrierShowsAsPoison) {
  float *out = device_memory<float>(64);
  hipLaunchKernelGGL(missing_barrier, dim3(1), dim3(64), 0, nullptr, out);
  int poisoned = 0;
  for (int i = 0; i < 64; i++) poisoned += std::isnan(out[i]);
  EXPECT_GT(poisoned, 0);
  EXPECT_EQ(hipFree(out), hipSuccess);
}

__global__ void shared_from_block_before(float *out) {
  GETP_SHARED(float, value, 4);
  out[blockIdx.x] = value[0];
  value[0] = 1;
}

TEST_F(HostBackendTest, SharedMemoryStartsAsNanInEveryBlock) {
  float *out = device_memory<float>(8);
  hipLaunchKernelGGL(shared_from_block_before, dim3(8), dim3(1), 0, nullptr, out);
  for (int i = 0; i < 8; i++) EXPECT_TRUE(std::isnan(out[i])) << i;
  EXPECT_EQ(hipFree(out), hipSuccess);
}

TEST_F(HostBackendTest, DeviceMemoryStartsAsNan) {
  float *out = device_memory<float>(8);
  for (int i = 0; i < 8; i++) EXPECT_TRUE(std::isnan(out[i])) << i;
  EXPECT_EQ(hipFree(out), hipSuccess);
}

__global__ void skipped_barrier(int) {
  if (threadIdx.x != 17) __syncthreads();
}

TEST_F(HostBackendTest, ASkippedBarrierNamesTheKernel) {
  const std::string what = fault_of([] { hipLaunchKernelGGL(skipped_barrier, dim3(3), dim3(256), 0, nullptr, 0); });
  EXPECT_CONTAINS(what, "skipped_barrier");
  EXPECT_CONTAINS(what, "__syncthreads() was reached by 255 of 256 threads");
}

__global__ void different_barriers(int) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

TEST_F(HostBackendTest, DifferentBarriersDoNotMeet) {
  const std::string what = fault_of([] { hipLaunchKernelGGL(different_barriers, dim3(1), dim3(64), 0, nullptr, 0); });
  EXPECT_CONTAINS(what, "different_barriers");
  EXPECT_CONTAINS(what, "threads meet at different barriers");
}

__global__ void skipped_wave_operation(float *out) {
  if (threadIdx.x % 64 < 40) out[threadIdx.x] = group_reduce<8>(1.0f, Sum{});
}

TEST_F(HostBackendTest, ASkippedWaveOperationNamesTheKernel) {
  float *out = device_memory<float>(128);
  const std::string what =
      fault_of([&] { hipLaunchKernelGGL(skipped_wave_operation, dim3(1), dim3(128), 0, nullptr, out); });
  EXPECT_CONTAINS(what, "skipped_wave_operation");
  EXPECT_CONTAINS(what, "reached by 40 of 64 lanes");
  EXPECT_EQ(hipFree(out), hipSuccess);
}

// Whole groups of 32 lanes skip it: legal on a card with waves of 32, not on one with waves of 64.
__global__ void half_of_a_wide_wave(float *out) {
  if (threadIdx.x < 32) out[threadIdx.x] = group_reduce<8>(1.0f, Sum{});
}

TEST_F(HostBackendTest, TheWaveSizeDecidesWhoMustMeet) {
  float *out = device_memory<float>(32);
  getp_set_lanes(32, 0, false);
  hipLaunchKernelGGL(half_of_a_wide_wave, dim3(1), dim3(64), 0, nullptr, out);
  EXPECT_EQ(hipGetLastError(), hipSuccess);
  getp_set_lanes(64, 0, false);
  const std::string what =
      fault_of([&] { hipLaunchKernelGGL(half_of_a_wide_wave, dim3(1), dim3(64), 0, nullptr, out); });
  EXPECT_CONTAINS(what, "reached by 32 of 64 lanes");
  EXPECT_EQ(hipFree(out), hipSuccess);
}

__global__ void different_wave_operations(float *out) {
  out[threadIdx.x] = threadIdx.x % 2 ? group_reduce<8>(1.0f, Sum{}) : group_reduce<8>(1.0f, Max{});
}

TEST_F(HostBackendTest, DifferentWaveOperationsDoNotMeet) {
  float *out = device_memory<float>(64);
  const std::string what =
      fault_of([&] { hipLaunchKernelGGL(different_wave_operations, dim3(1), dim3(64), 0, nullptr, out); });
  EXPECT_CONTAINS(what, "different wave operations");
  EXPECT_EQ(hipFree(out), hipSuccess);
}

// Multiplies `times` tiles of ones; lane `idle` leaves out the last one.
template <class Tile>
__global__ void multiply_ones(float *out, int times, int idle) {
  typename Tile::Operand ones;
  for (uint4 &unit : ones.units) unit = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};
  typename Tile::Sums sums = {}, more = {};
  for (int i = 0; i < times; i++)
    if (i + 1 < times || (int)threadIdx.x != idle) Tile::multiply_add(sums, ones, ones);
  if (threadIdx.x % 3 == 0) out[threadIdx.x] = sums.values[0];
  Tile::multiply_add(more, ones, ones);
  __syncthreads();
  more = sums;
  Tile::multiply_add(more, ones, ones);
  if (threadIdx.x % 3 != 0) out[threadIdx.x] = more.values[0];
}

TEST_F(HostBackendTest, MultiplicationsAreDoneWhenSomebodyLooks) {
  for (auto [wave, wmma] : {std::pair(64, false), {32, false}, {32, true}})
    for (uint64_t seed : {0, 1})
      for (int times : {1, 3, 100}) {
        getp_set_lanes(wave, seed, wmma);
        float *out = device_memory<float>(128);
        with_matrix_tile([&](auto tile) {
          hipLaunchKernelGGL(multiply_ones<decltype(tile)>, dim3(1), dim3(128), 0, nullptr, out, times, -1);
        });
        ASSERT_EQ(hipGetLastError(), hipSuccess);
        for (int i = 0; i < 128; i++) ASSERT_EQ(out[i], 32 * (times + (i % 3 != 0))) << i;
        EXPECT_EQ(hipFree(out), hipSuccess);
      }
}

TEST_F(HostBackendTest, ASkippedMultiplicationNamesTheKernel) {
  for (auto [wave, wmma] : {std::pair(64, false), {32, false}, {32, true}})
    for (int times : {1, 3}) {
      getp_set_lanes(wave, 0, wmma);
      float *out = device_memory<float>(128);
      const std::string what = fault_of([&, times = times] {
        with_matrix_tile([&](auto tile) {
          hipLaunchKernelGGL(multiply_ones<decltype(tile)>, dim3(1), dim3(128), 0, nullptr, out, times, 70);
        });
      });
      EXPECT_CONTAINS(what, "multiply_ones");
      EXPECT_CONTAINS(what, "reached by ");
      EXPECT_EQ(hipFree(out), hipSuccess);
    }
}

__global__ void write_at(float *out, int index) { out[index] = 1; }

TEST_F(HostBackendTest, WritesOutsideAnAllocationNameTheKernel) {
#ifdef GETP_ASAN
  GTEST_SKIP() << "AddressSanitizer ends the program at such a write";
#endif
  float *out = device_memory<float>(10);
  std::string what = fault_of([&] { hipLaunchKernelGGL(write_at, dim3(1), dim3(1), 0, nullptr, out, 10); });
  EXPECT_CONTAINS(what, "write_at");
  EXPECT_CONTAINS(what, "past the end of an allocation of 40 bytes");
  what = fault_of([&] { hipLaunchKernelGGL(write_at, dim3(1), dim3(1), 0, nullptr, out, -1); });
  EXPECT_CONTAINS(what, "wrote 4 bytes before an allocation of 40 bytes");
  EXPECT_EQ(hipFree(out), hipSuccess);
}

#ifdef GETP_ASAN
__global__ void read_at(float *out, int index) { out[0] = out[index]; }

TEST_F(HostBackendTest, ReadsOutsideAnAllocationEndTheProgramUnderAsan) {
  float *out = device_memory<float>(10);
  EXPECT_DEATH(hipLaunchKernelGGL(read_at, dim3(1), dim3(1), 0, nullptr, out, 12), "use-after-poison");
  EXPECT_EQ(hipFree(out), hipSuccess);
}
#endif

__global__ void shared_overflow(int index) {
  GETP_SHARED(float, row, 8);
  row[index] = 1;
}

TEST_F(HostBackendTest, AWritePastSharedMemoryNamesIt) {
  const std::string what = fault_of([] { hipLaunchKernelGGL(shared_overflow, dim3(1), dim3(1), 0, nullptr, 8); });
  EXPECT_CONTAINS(what, "shared memory 'row' of 32 bytes was written past its end");
}

__global__ void too_much_shared(int) {
  GETP_SHARED(float, huge, 1 << 20);
  huge[0] = 1;
}

TEST_F(HostBackendTest, SharedMemoryIsLimited) {
  EXPECT_CONTAINS(fault_of([] { hipLaunchKernelGGL(too_much_shared, dim3(1), dim3(1), 0, nullptr, 0); }),
                  "shared memory 'huge' does not fit");
}

TEST_F(HostBackendTest, AfterAFaultTheNextLaunchIsWhole) {
  fault_of([] { hipLaunchKernelGGL(skipped_barrier, dim3(1), dim3(256), 0, nullptr, 0); });
  float *out = device_memory<float>(3 * 256);
  hipLaunchKernelGGL(sums, dim3(1), dim3(256), 0, nullptr, out, out + 256, out + 512);
  EXPECT_EQ(hipGetLastError(), hipSuccess);
  EXPECT_EQ(out[512], 100);
  EXPECT_EQ(hipFree(out), hipSuccess);
}

TEST_F(HostBackendTest, LeaksAreListedWithTheirSize) {
  float *out = device_memory<float>(10);
  testing::internal::CaptureStderr();
  EXPECT_EQ(getp_report_leaks(), 40u);
  EXPECT_CONTAINS(testing::internal::GetCapturedStderr(), "leak of 40 bytes on device 0");
  EXPECT_EQ(hipFree(out), hipSuccess);
  EXPECT_EQ(getp_report_leaks(), 0u);
}

TEST_F(HostBackendTest, FreeOfNoAllocationIsAnError) {
  float *out = device_memory<float>(10);
  EXPECT_CONTAINS(fault_of([&] { hipFree(out + 1); }), "hipFree of what is no live allocation");
  EXPECT_EQ(hipFree(out), hipSuccess);
  EXPECT_CONTAINS(fault_of([&] { hipFree(out); }), "hipFree of what is no live allocation");
}

TEST_F(HostBackendTest, FreeFindsWhatTheHostWroteOutside) {
#ifdef GETP_ASAN
  GTEST_SKIP() << "AddressSanitizer ends the program at such a write";
#endif
  float *out = device_memory<float>(10);
  volatile float *past = out;
  past[10] = 1;
  EXPECT_CONTAINS(fault_of([&] { hipFree(out); }), "before hipFree: something wrote");
  EXPECT_EQ(hipFree(out), hipSuccess);
}

TEST_F(HostBackendTest, CopiesMustFitTheAllocation) {
  float *out = device_memory<float>(10), host[11] = {};
  EXPECT_EQ(hipMemcpy(out, host, 40, hipMemcpyHostToDevice), hipSuccess);
  EXPECT_CONTAINS(fault_of([&] { hipMemcpy(out, host, 44, hipMemcpyHostToDevice); }), "no device memory of that size");
  EXPECT_CONTAINS(fault_of([&] { hipMemcpy(host, host, 4, hipMemcpyDeviceToHost); }), "no device memory of that size");
  EXPECT_CONTAINS(fault_of([&] { hipMemset(out, 0, 41); }), "no device memory of that size");
  EXPECT_EQ(hipFree(out), hipSuccess);
}

TEST_F(HostBackendTest, DevicesHaveMemoryOfTheirOwn) {
  getp_host::options().devices = 2;
  getp_host::options().memory = {1000};
  int count = 0;
  ASSERT_EQ(hipGetDeviceCount(&count), hipSuccess);
  EXPECT_EQ(count, 2);
  void *first = nullptr, *second = nullptr, *none = nullptr;
  ASSERT_EQ(hipMalloc(&first, 700), hipSuccess);
  EXPECT_EQ(hipMalloc(&none, 700), hipErrorOutOfMemory);
  ASSERT_EQ(hipSetDevice(1), hipSuccess);
  ASSERT_EQ(hipMalloc(&second, 700), hipSuccess);
  size_t free_bytes = 0, total = 0;
  ASSERT_EQ(hipMemGetInfo(&free_bytes, &total), hipSuccess);
  EXPECT_EQ(free_bytes, 300u);
  EXPECT_EQ(hipSetDevice(2), hipErrorInvalidDevice);
  EXPECT_EQ(hipFree(first), hipSuccess);
  EXPECT_EQ(hipFree(second), hipSuccess);
  EXPECT_EQ(hipSetDevice(0), hipSuccess);
}

TEST_F(HostBackendTest, InvalidLaunchesAreRefused) {
  for (auto [grid, block] : {std::pair(dim3(0), dim3(1)), std::pair(dim3(1), dim3(0)), std::pair(dim3(1), dim3(1025)),
                             std::pair(dim3(1, 65536), dim3(1))})
    EXPECT_CONTAINS(fault_of([g = grid, b = block] { hipLaunchKernelGGL(skipped_barrier, g, b, 0, nullptr, 0); }),
                    "invalid grid");
}

TEST_F(HostBackendTest, HipCheckSaysWhatWhereAndOnWhichDevice) {
  EXPECT_EXIT(HIP_CHECK(hipSetDevice(99)), testing::ExitedWithCode(1),
              "hipSetDevice\\(99\\) at .*host_backend_test.cpp:[0-9]+ failed: hipErrorInvalidDevice \\(101\\), invalid "
              "device ordinal, on device 0 \\(host CPU");
  EXPECT_EXIT(HIP_LAUNCH(skipped_barrier, dim3(1), dim3(256), nullptr, 0), testing::ExitedWithCode(1),
              "launch of skipped_barrier");
}

TEST_F(HostBackendTest, DevicePickValidatesItsVariable) {
  getp_host::options().devices = 3;
  setenv("HIP_DEVICE_ID", "2", 1);
  EXPECT_EQ(getp_hip::pick_devices(), std::vector<int>({2}));
  for (const char *bad : {"3", "-1", "one", "1x", "99999999999999999999"}) {
    setenv("HIP_DEVICE_ID", bad, 1);
    EXPECT_EXIT(getp_hip::pick_devices(), testing::ExitedWithCode(1),
                "names no device; set it to one of: 0 .*, 1 .*, 2");
  }
  for (auto [list, ids] : {std::pair("2,0", std::vector<int>({2, 0})), {" 1 ,\t2 ", {1, 2}}, {"0,1,2", {0, 1, 2}}}) {
    setenv("HIP_DEVICE_ID", list, 1);
    EXPECT_EQ(getp_hip::pick_devices(), ids) << list;
  }
  for (const char *bad : {"0,3", "0,", ",0", ",", " ", "0 1", "0;1"}) {
    setenv("HIP_DEVICE_ID", bad, 1);
    EXPECT_EXIT(getp_hip::pick_devices(), testing::ExitedWithCode(1), "names no device; set it to one of: 0 ") << bad;
  }
  setenv("HIP_DEVICE_ID", "0,1,0", 1);
  EXPECT_EXIT(getp_hip::pick_devices(), testing::ExitedWithCode(1), "HIP_DEVICE_ID=0,1,0 names 0 twice");
  unsetenv("HIP_DEVICE_ID");
  EXPECT_EQ(getp_hip::pick_devices(), std::vector<int>({0, 1, 2}));
}

TEST_F(HostBackendTest, ADeviceThatFailsIsLeftOut) {
  getp_host::options().devices = 4;
  const auto used = [](size_t most, const std::vector<int> &failing) {
    std::vector<int> ids;
    getp_hip::use_devices(most, [&](int id) {
      EXPECT_EQ(getp_host::current_device, id);
      void *none = nullptr;
      if (std::count(failing.begin(), failing.end(), id)) HIP_CHECK(hipMalloc(&none, SIZE_MAX));
      ids.push_back(id);
    });
    EXPECT_EQ(hipGetLastError(), hipSuccess) << "the next launch would be said to have failed";
    EXPECT_FALSE(getp_hip::throw_device_errors);
    return ids;
  };
  testing::internal::CaptureStderr();
  EXPECT_EQ(used(9, {1, 3}), std::vector<int>({0, 2}));
  EXPECT_EQ(used(1, {0}), std::vector<int>({1})) << "those behind it are not touched";
  EXPECT_EQ(used(9, {0, 1, 2}), std::vector<int>({3}));
  const std::string said = testing::internal::GetCapturedStderr();
  for (const char *line : {"warning: device 1 is left out: hipMalloc", "warning: device 3 is left out: hipMalloc"})
    EXPECT_CONTAINS(said, line);
  EXPECT_EXIT(used(9, {0, 1, 2, 3}), testing::ExitedWithCode(1),
              "device 2 is left out: .*\nerror: hipMalloc.*device 3");
}

TEST_F(HostBackendTest, MemoryMayBeSaid) {
  getp_host::options().memory = {1000, 5000};
  getp_host::options().devices = 3;
  setenv("GETP_MEMORY", "2K", 1);
  for (auto [device, total] : {std::pair(0, 2048u), {1, 5000u}, {2, 5000u}}) {
    ASSERT_EQ(hipSetDevice(device), hipSuccess);
    EXPECT_EQ(getp_hip::device_memory().free_bytes, 2048u);
    EXPECT_EQ(getp_hip::device_memory().total, total);
  }
  unsetenv("GETP_MEMORY");
  EXPECT_EQ(getp_hip::device_memory().free_bytes, 5000u);
  EXPECT_EQ(hipSetDevice(0), hipSuccess);
  EXPECT_EQ(getp_hip::device_memory().free_bytes, 1000u);
}

TEST_F(HostBackendTest, AllocationsAreCounted) {
  float *a = getp_hip::device_alloc<float>(100);
  int *b = getp_hip::pinned_alloc<int>(10);
  EXPECT_EQ(getp_hip::bytes_in_use(), 440u);
  getp_hip::device_free(a, 100);
  getp_hip::pinned_free(b, 10);
  EXPECT_EQ(getp_hip::bytes_in_use(), 0u);
  EXPECT_EQ(a, nullptr);
  EXPECT_EXIT(getp_hip::device_alloc<float>(SIZE_MAX / 2), testing::ExitedWithCode(1), "requires count <= ");
}

TEST(HostEnvironment, NumbersAreChecked) {
  setenv("GETP_HOST_TEST", "64", 1);
  EXPECT_EQ(getp_hip::environment_number("GETP_HOST_TEST", 1, 1, SIZE_MAX), 64u);
  for (const char *bad : {"x", "-3", "5Q", "0", "K", "1K", " 5", "+5", "101", "99999999999999999999"}) {
    setenv("GETP_HOST_TEST", bad, 1);
    EXPECT_EXIT(getp_hip::environment_number("GETP_HOST_TEST", 1, 1, 100), testing::ExitedWithCode(1),
                "GETP_HOST_TEST=.*expected a number");
  }
  unsetenv("GETP_HOST_TEST");
  EXPECT_EQ(getp_hip::environment_number("GETP_HOST_TEST", 7, 1, 100), 7u);
}

TEST(HostEnvironment, BytesMayHaveAUnit) {
  for (auto [text, bytes] : {std::pair("5", 5ull), {"64K", 64ull << 10}, {"3M", 3ull << 20}, {"64G", 64ull << 30}}) {
    setenv("GETP_HOST_TEST", text, 1);
    EXPECT_EQ(getp_hip::environment_bytes("GETP_HOST_TEST", 1), bytes);
  }
  for (const char *bad : {"x", "-3", "5Q", "0", "G", "5KK", "17179869185G", "99999999999999999999"}) {
    setenv("GETP_HOST_TEST", bad, 1);
    EXPECT_EXIT(getp_hip::environment_bytes("GETP_HOST_TEST", 1), testing::ExitedWithCode(1),
                "GETP_HOST_TEST=.*expected a number of bytes");
  }
  setenv("GETP_HOST_TEST", "1K, 2M,3", 1);
  EXPECT_EQ(getp_hip::environment_bytes_list("GETP_HOST_TEST", 1), std::vector<uint64_t>({1024, 2u << 20, 3}));
  for (const char *bad : {"1K,", ",", "1K,x", "1K 2K"}) {
    setenv("GETP_HOST_TEST", bad, 1);
    EXPECT_EXIT(getp_hip::environment_bytes_list("GETP_HOST_TEST", 1), testing::ExitedWithCode(1), "a number of bytes");
  }
  unsetenv("GETP_HOST_TEST");
  EXPECT_EQ(getp_hip::environment_bytes("GETP_HOST_TEST", 7), 7u);
}

TEST(HostEnvironment, AFlagIsZeroOrOne) {
  for (auto [text, set] : {std::pair("", false), {"0", false}, {"1", true}}) {
    setenv("GETP_HOST_TEST", text, 1);
    EXPECT_EQ(getp_hip::environment_flag("GETP_HOST_TEST", "1 or 0"), set) << text;
  }
  for (const char *bad : {"01", "0M", "2", "on"}) {
    setenv("GETP_HOST_TEST", bad, 1);
    EXPECT_EXIT(getp_hip::environment_flag("GETP_HOST_TEST", "1 or 0"), testing::ExitedWithCode(1), "expected 1 or 0");
  }
  unsetenv("GETP_HOST_TEST");
}

}  // namespace
