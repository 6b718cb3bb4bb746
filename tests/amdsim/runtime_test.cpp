// The runtime half of the simulator as programs see it: symbols, memory, copies, launches, streams, events, devices.
// Two devices show all of it: AMDSIM=gfx90a:2.
#include <hip/hip_runtime.h>

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#define OK(call) ASSERT_EQ(hipSuccess, call)
// An error stays until the program asks for it.
#define REFUSED(error, call) \
  EXPECT_EQ(error, call);    \
  EXPECT_EQ(error, hipGetLastError())

// Variables of an unnamed namespace are out of the host's reach.
__device__ int table[4] = {10, 20, 30, 40};
__device__ int *third = table + 2;  // a pointer that the loader has to relocate
__device__ int scratchpad[1000];
__constant__ float weights[8];
__device__ double half_of_five = 2.5;

namespace {

constexpr unsigned kPoison = 0xFFFAFFFA;

__device__ int twice(int x) { return 2 * x; }
__device__ int square(int x) { return x * x; }
__device__ int (*functions[])(int) = {twice, square};

struct Arguments {
  int numbers[20];
  char last;
};

__global__ void set(int *to, int value) { *to = value; }
__global__ void add(int *to, int value) { *to += value; }
__global__ void __launch_bounds__(64) set_small(int *to, int value) { *to = value; }
__global__ void nothing() {}
__global__ void read_variables(double *to) {
  to[0] = table[3] + *third + half_of_five;
  to[1] = weights[7];
  to[2] = ++scratchpad[999];
}
__global__ void call_function(int *to, int which, int x) { *to = functions[which](x); }
__global__ void read_arguments(Arguments all, char c, double d, short s, int *to) {
  *to = all.numbers[3] + all.last + c + int(d) + s;
}
__global__ void number_threads(int *to) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  to[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * threadIdx.x + 10000 * threadIdx.y + 100000 * threadIdx.z;
}
__global__ void reverse(int *to) {
  __shared__ int fixed[64];
  extern __shared__ int dynamic[];
  fixed[threadIdx.x] = to[threadIdx.x];
  dynamic[threadIdx.x] = 1;
  __syncthreads();
  to[threadIdx.x] = fixed[63 - threadIdx.x] + dynamic[63 - threadIdx.x];
}

class Runtime : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(hipSuccess, hipSetDevice(0));
    EXPECT_EQ(hipSuccess, hipDeviceSynchronize());
    EXPECT_EQ(hipSuccess, hipGetLastError());
  }
};
using Symbols = Runtime;
using Memory = Runtime;
using Copies = Runtime;
using Launches = Runtime;
using Streams = Runtime;
using Events = Runtime;
using Devices = Runtime;

// Memory and streams that end with the test.
template <class T>
struct Block {
  T *data = nullptr;
  explicit Block(size_t count) { EXPECT_EQ(hipSuccess, hipMalloc(&data, count * sizeof(T))); }
  ~Block() { EXPECT_EQ(hipSuccess, hipFree(data)); }
  operator T *() const { return data; }
};

template <class T>
struct Pinned {
  T *data = nullptr;
  explicit Pinned(size_t count) { EXPECT_EQ(hipSuccess, hipHostMalloc(&data, count * sizeof(T))); }
  ~Pinned() { EXPECT_EQ(hipSuccess, hipHostFree(data)); }
  operator T *() const { return data; }
};

struct Queue {
  hipStream_t stream;
  explicit Queue(unsigned flags = hipStreamDefault) { EXPECT_EQ(hipSuccess, hipStreamCreateWithFlags(&stream, flags)); }
  ~Queue() { EXPECT_EQ(hipSuccess, hipStreamDestroy(stream)); }
  operator hipStream_t() const { return stream; }
};

struct Event {
  hipEvent_t event;
  Event() { EXPECT_EQ(hipSuccess, hipEventCreate(&event)); }
  ~Event() { EXPECT_EQ(hipSuccess, hipEventDestroy(event)); }
  operator hipEvent_t() const { return event; }
};

// ---------------------------------------------------------------------------------------------------------------------

TEST_F(Symbols, AreReadAndWritten) {
  int values[4];
  OK(hipMemcpyFromSymbol(values, HIP_SYMBOL(table), sizeof values));
  EXPECT_EQ(10, values[0]);
  EXPECT_EQ(40, values[3]);
  float eight[8], four[4];
  std::iota(eight, eight + 8, 1.0f);
  OK(hipMemcpyToSymbol(HIP_SYMBOL(weights), eight, sizeof eight));
  OK(hipMemcpyFromSymbol(four, HIP_SYMBOL(weights), sizeof four, 16));
  EXPECT_EQ(5, four[0]);
  REFUSED(hipErrorInvalidValue, hipMemcpyToSymbol(HIP_SYMBOL(weights), eight, sizeof eight, 4));

  Block<double> seen(3);
  double host[3];
  for (int run = 1; run <= 2; run++) {
    read_variables<<<1, 1>>>(seen);
    OK(hipMemcpy(host, seen, sizeof host, hipMemcpyDeviceToHost));
    EXPECT_EQ(40 + 30 + 2.5, host[0]);
    EXPECT_EQ(8, host[1]);
    EXPECT_EQ(run, host[2]);  // zero at first, kept between launches
  }
}

TEST_F(Symbols, HaveAnAddressAndASize) {
  size_t bytes;
  OK(hipGetSymbolSize(&bytes, HIP_SYMBOL(weights)));
  EXPECT_EQ(32u, bytes);
  void *address;
  int value;
  OK(hipGetSymbolAddress(&address, HIP_SYMBOL(table)));
  OK(hipMemcpy(&value, (int *)address + 2, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(30, value);
  REFUSED(hipErrorInvalidSymbol, hipGetSymbolSize(&bytes, &value));
}

TEST_F(Symbols, FunctionPointersLeadToFunctions) {
  Block<int> to(1);
  int value;
  call_function<<<1, 1>>>(to, 0, 7);
  OK(hipMemcpy(&value, to, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(14, value);
  call_function<<<1, 1>>>(to, 1, 7);
  OK(hipMemcpy(&value, to, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(49, value);
}

// ---------------------------------------------------------------------------------------------------------------------

TEST_F(Memory, IsPoisonAtFirst) {
  Block<unsigned> small(250);
  unsigned value = 0;
  OK(hipMemcpy(&value, small + 249, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(kPoison, value);
  Block<char> big(1ull << 32);  // takes no memory of the computer
  OK(hipMemcpy(&value, big + (1ull << 31), 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(kPoison, value);
  OK(hipMemset(big + (1ull << 31), 3, 8192));
  OK(hipMemcpy(&value, big + (1ull << 31) + 8188, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(0x03030303u, value);
  OK(hipMemcpy(&value, big + (1ull << 31) + 8192, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(kPoison, value);
}

TEST_F(Memory, IsCounted) {
  size_t before, after, total;
  OK(hipMemGetInfo(&before, &total));
  {
    Block<char> block(1 << 20);
    OK(hipMemGetInfo(&after, &total));
    EXPECT_EQ(size_t(1) << 20, before - after);
  }
  OK(hipMemGetInfo(&after, &total));
  EXPECT_EQ(before, after);
  void *pointer;
  REFUSED(hipErrorOutOfMemory, hipMalloc(&pointer, total + 1));
  EXPECT_EQ(nullptr, pointer);
}

TEST_F(Memory, IsFreedOnce) {
  int *block, here, *pinned;
  OK(hipMalloc(&block, 16));
  OK(hipHostMalloc(&pinned, 16));
  REFUSED(hipErrorInvalidValue, hipFree(block + 1));
  REFUSED(hipErrorInvalidValue, hipFree(&here));
  REFUSED(hipErrorInvalidValue, hipHostFree(block));
  REFUSED(hipErrorInvalidValue, hipFree(pinned));
  OK(hipFree(block));
  REFUSED(hipErrorInvalidValue, hipFree(block));
  OK(hipHostFree(pinned));
  OK(hipFree(nullptr));
}

TEST_F(Memory, KnowsItsKind) {
  Block<int> block(4);
  Pinned<int> pinned(4);
  int here;
  hipPointerAttribute_t attributes;
  OK(hipPointerGetAttributes(&attributes, block + 1));
  EXPECT_EQ(hipMemoryTypeDevice, attributes.memoryType);
  OK(hipPointerGetAttributes(&attributes, pinned));
  EXPECT_EQ(hipMemoryTypeHost, attributes.memoryType);
  REFUSED(hipErrorInvalidValue, hipPointerGetAttributes(&attributes, &here));
}

TEST_F(Memory, ManagedIsSharedWithTheHost) {
  int *managed;
  OK(hipMallocManaged(&managed, 64));
  managed[0] = 3;
  add<<<1, 1>>>(managed, 4);
  OK(hipDeviceSynchronize());
  EXPECT_EQ(7, managed[0]);
  OK(hipFree(managed));
}

// ---------------------------------------------------------------------------------------------------------------------

TEST_F(Copies, ThereAndBack) {
  Block<int> block(250);
  std::vector<int> values(250), back(250);
  std::iota(values.begin(), values.end(), 0);
  OK(hipMemcpy(block, values.data(), 1000, hipMemcpyHostToDevice));
  OK(hipMemcpy(back.data(), block, 1000, hipMemcpyDefault));
  EXPECT_EQ(values, back);
}

TEST_F(Copies, WrongDirectionsAreRefused) {
  Block<int> block(4);
  int one[4], other[4];
  REFUSED(hipErrorInvalidValue, hipMemcpy(one, other, 4, hipMemcpyHostToDevice));
  REFUSED(hipErrorInvalidValue, hipMemcpy(one, block, 4, hipMemcpyHostToDevice));
  REFUSED(hipErrorInvalidValue, hipMemcpy(block, nullptr, 4, hipMemcpyHostToDevice));
  OK(hipMemcpy(nullptr, nullptr, 0, hipMemcpyHostToDevice));
}

TEST_F(Copies, FillsAndRows) {
  Block<int> block(250);
  std::vector<int> back(250), rows(25);
  std::iota(rows.begin(), rows.end(), 1);
  OK(hipMemset(block, 0, 1000));
  OK(hipMemsetD32(hipDeviceptr_t(block + 2), 77, 3));
  OK(hipMemcpy2D(block + 100, 40, rows.data(), 20, 12, 5,
                 hipMemcpyHostToDevice));  // 3 of every 5 numbers to every 10th
  OK(hipMemcpy(back.data(), block, 1000, hipMemcpyDeviceToHost));
  EXPECT_EQ((std::vector<int>{0, 0, 77, 77, 77, 0}), std::vector<int>(back.begin(), back.begin() + 6));
  EXPECT_EQ((std::vector<int>{1, 2, 3, 0}), std::vector<int>(back.begin() + 100, back.begin() + 104));
  EXPECT_EQ((std::vector<int>{21, 22, 23, 0}), std::vector<int>(back.begin() + 140, back.begin() + 144));
  REFUSED(hipErrorInvalidPitchValue, hipMemcpy2D(block, 8, rows.data(), 20, 12, 5, hipMemcpyHostToDevice));
}

TEST_F(Copies, AsynchronousOnesHappenWhenSomebodyWaits) {
  Queue stream;
  Block<int> block(1);
  Pinned<int> pinned(1);
  int value = 1, back = 0;
  OK(hipMemcpyAsync(block, &value, 4, hipMemcpyHostToDevice, stream));
  value = 2;  // pageable memory was captured by the call
  OK(hipMemcpyAsync(&back, block, 4, hipMemcpyDeviceToHost, stream));
  EXPECT_EQ(0, back);
  OK(hipStreamSynchronize(stream));
  EXPECT_EQ(1, back);
  *pinned = 1;
  OK(hipMemcpyAsync(block, pinned, 4, hipMemcpyHostToDevice, stream));
  *pinned = 2;  // pinned memory is read when the copy is done
  OK(hipMemcpy(&back, block, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(2, back);
}

TEST_F(Copies, LargeOnesFromPageableMemoryAreDoneAtOnce) {
  Queue stream;
  const size_t bytes = 20 << 20;
  Block<char> block(bytes);
  std::vector<char> values(bytes, 7);
  OK(hipMemcpyAsync(block, values.data(), bytes, hipMemcpyHostToDevice, stream));
  values[100] = 3;
  OK(hipMemcpy(values.data(), block, bytes, hipMemcpyDeviceToHost));
  EXPECT_EQ(7, values[100]);
}

// ---------------------------------------------------------------------------------------------------------------------

TEST_F(Launches, NumberBlocksAndThreads) {
  const dim3 grid(3, 2, 2), block(5, 3, 2);
  Block<int> to(12 * 30);
  std::vector<int> values(12 * 30);
  number_threads<<<grid, block>>>(to);
  OK(hipMemcpy(values.data(), to, values.size() * 4, hipMemcpyDeviceToHost));
  for (int i = 0; i < 12 * 30; i++) {
    const int b = i / 30, t = i % 30;
    ASSERT_EQ(b % 3 + b / 3 % 2 * 10 + b / 6 * 100 + t % 5 * 1000 + t / 5 % 3 * 10000 + t / 15 * 100000, values[i])
        << i;
  }
}

TEST_F(Launches, PassArguments) {
  Block<int> to(1);
  Arguments all = {};
  all.numbers[3] = 1000;
  all.last = 1;
  int value;
  read_arguments<<<1, 1>>>(all, 2, 4.5, -8, to);
  all.numbers[3] = 0;  // they were taken by the call
  OK(hipMemcpy(&value, to, 4, hipMemcpyDeviceToHost));
  EXPECT_EQ(1000 + 1 + 2 + 4 - 8, value);
  nothing<<<1, 1>>>();
  OK(hipDeviceSynchronize());
}

TEST_F(Launches, HaveStaticAndDynamicLds) {
  Block<int> to(64);
  std::vector<int> values(64);
  std::iota(values.begin(), values.end(), 0);
  OK(hipMemcpy(to, values.data(), 256, hipMemcpyHostToDevice));
  reverse<<<1, 64, 256>>>(to);
  OK(hipMemcpy(values.data(), to, 256, hipMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) ASSERT_EQ(63 - i + 1, values[i]);
}

TEST_F(Launches, ImpossibleOnesAreRefused) {
  Block<int> to(64);
  const auto error = [] { return hipGetLastError(); };
  set<<<0, 64>>>(to, 1);
  EXPECT_EQ(hipErrorInvalidConfiguration, error());
  set<<<1, 1025>>>(to, 1);
  EXPECT_EQ(hipErrorInvalidConfiguration, error());
  set<<<dim3(1u << 31), 64>>>(to, 1);
  EXPECT_EQ(hipErrorInvalidConfiguration, error());
  set_small<<<1, 65>>>(to, 1);
  EXPECT_EQ(hipErrorLaunchFailure, error());
  set<<<1, 64, 65537>>>(to, 1);
  EXPECT_EQ(hipErrorInvalidConfiguration, error());
  reverse<<<1, 64, 65536>>>(to);  // with its static 256 bytes
  EXPECT_EQ(hipErrorInvalidConfiguration, error());
  REFUSED(hipErrorInvalidDeviceFunction, hipLaunchKernel((const void *)std::abort, 1, 1, nullptr, 0, nullptr));
  REFUSED(hipErrorInvalidValue, hipLaunchKernel((const void *)set, 1, 1, nullptr, 0, nullptr));
}

TEST_F(Launches, KernelsHaveAttributes) {
  hipFuncAttributes attributes;
  OK(hipFuncGetAttributes(&attributes, (const void *)reverse));
  EXPECT_EQ(256u, attributes.sharedSizeBytes);
  EXPECT_EQ(1024, attributes.maxThreadsPerBlock);
  OK(hipFuncGetAttributes(&attributes, (const void *)set_small));
  EXPECT_EQ(64, attributes.maxThreadsPerBlock);
  int blocks = 0, fewer = 0;
  OK(hipOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, (const void *)set, 256, 0));
  OK(hipOccupancyMaxActiveBlocksPerMultiprocessor(&fewer, (const void *)set, 256, 32768));
  EXPECT_GT(blocks, 2);
  EXPECT_EQ(2, fewer);  // of 64 KiB of LDS
}

// ---------------------------------------------------------------------------------------------------------------------

TEST_F(Streams, AreLazyAndInOrder) {
  Queue stream;
  Pinned<int> value(1);
  *value = -1;
  set<<<1, 1, 0, stream>>>(value, 42);
  EXPECT_EQ(-1, *value);
  EXPECT_EQ(hipErrorNotReady, hipStreamQuery(stream));  // executes one operation
  EXPECT_EQ(hipSuccess, hipStreamQuery(stream));
  EXPECT_EQ(42, *value);
  EXPECT_EQ(hipSuccess, hipGetLastError());  // not ready is no error
  add<<<1, 1, 0, stream>>>(value, 1);
  add<<<1, 1, 0, stream>>>(value, 2);
  OK(hipStreamSynchronize(stream));
  EXPECT_EQ(45, *value);
}

TEST_F(Streams, TheNullStreamIsOrderedWithBlockingOnes) {
  Queue blocking, free(hipStreamNonBlocking);
  Pinned<int> value(2);
  value[0] = value[1] = 0;
  set<<<1, 1, 0, blocking>>>(value, 5);
  add<<<1, 1>>>(value, 10);
  add<<<1, 1, 0, blocking>>>(value, 100);
  set<<<1, 1, 0, free>>>(value + 1, 9);
  EXPECT_EQ(0, value[0]);
  OK(hipStreamSynchronize(blocking));
  EXPECT_EQ(115, value[0]);
  EXPECT_EQ(0, value[1]);
  OK(hipStreamSynchronize(free));
  EXPECT_EQ(9, value[1]);
  set<<<1, 1, 0, blocking>>>(value, 6);
  OK(hipStreamSynchronize(nullptr));
  EXPECT_EQ(6, value[0]);
}

TEST_F(Streams, CallTheHost) {
  Queue stream;
  int calls = 0;
  OK(hipStreamAddCallback(
      stream, [](hipStream_t, hipError_t, void *count) { ++*(int *)count; }, &calls, 0));
  EXPECT_EQ(0, calls);
  OK(hipDeviceSynchronize());
  EXPECT_EQ(1, calls);
}

TEST_F(Streams, EndOnceAndFinishTheirWork) {
  hipStream_t stream;
  Pinned<int> value(1);
  *value = 0;
  OK(hipStreamCreate(&stream));
  set<<<1, 1, 0, stream>>>(value, 3);
  OK(hipStreamDestroy(stream));
  EXPECT_EQ(3, *value);
  REFUSED(hipErrorInvalidHandle, hipStreamSynchronize(stream));
  REFUSED(hipErrorInvalidHandle, hipStreamDestroy(stream));
}

TEST_F(Events, OrderStreams) {
  Queue first(hipStreamNonBlocking), second(hipStreamNonBlocking);
  Event done;
  Pinned<int> value(1);
  set<<<1, 1, 0, first>>>(value, 1);
  OK(hipEventRecord(done, first));
  OK(hipStreamWaitEvent(second, done, 0));
  add<<<1, 1, 0, second>>>(value, 20);
  OK(hipStreamSynchronize(second));
  EXPECT_EQ(21, *value);
}

TEST_F(Events, AreQueried) {
  Queue stream;
  Event event;
  Pinned<int> value(1);
  OK(hipEventQuery(event));  // never recorded: nothing to wait for
  OK(hipEventSynchronize(event));
  set<<<1, 1, 0, stream>>>(value, 1);
  add<<<1, 1, 0, stream>>>(value, 1);
  OK(hipEventRecord(event, stream));
  int queries = 0;
  while (hipEventQuery(event) == hipErrorNotReady) queries++;
  EXPECT_EQ(3, queries);  // two kernels and the record
  EXPECT_EQ(2, *value);
}

TEST_F(Events, MeasureTime) {
  Queue stream;
  Event start, stop;
  Pinned<int> value(1);
  float milliseconds = -1;
  REFUSED(hipErrorInvalidHandle, hipEventElapsedTime(&milliseconds, start, stop));
  OK(hipEventRecord(start, stream));
  set<<<1, 1, 0, stream>>>(value, 1);
  OK(hipEventRecord(stop, stream));
  EXPECT_EQ(hipErrorNotReady, hipEventElapsedTime(&milliseconds, start, stop));
  OK(hipEventSynchronize(stop));
  OK(hipEventElapsedTime(&milliseconds, start, stop));
  EXPECT_GT(milliseconds, 0);
}

// ---------------------------------------------------------------------------------------------------------------------

TEST_F(Devices, HaveProperties) {
  int count, wave_size;
  OK(hipGetDeviceCount(&count));
  EXPECT_GE(count, 1);
  hipDeviceProp_t properties;
  OK(hipGetDeviceProperties(&properties, 0));
  OK(hipDeviceGetAttribute(&wave_size, hipDeviceAttributeWarpSize, 0));
  EXPECT_EQ(properties.warpSize, wave_size);
  const std::string name = properties.gcnArchName;
  EXPECT_EQ(name.compare(0, 6, "gfx110") == 0 ? 32 : 64, wave_size) << name;
  EXPECT_EQ(65536u, properties.sharedMemPerBlock);
  REFUSED(hipErrorInvalidDevice, hipGetDeviceProperties(&properties, count));
  REFUSED(hipErrorInvalidDevice, hipSetDevice(count));
}

class SeveralDevices : public Runtime {
 protected:
  void SetUp() override {
    int count;
    OK(hipGetDeviceCount(&count));
    if (count < 2) GTEST_SKIP() << "one device only (AMDSIM=gfx90a:2)";
  }
};

TEST_F(SeveralDevices, RunFromSeveralThreads) {
  const auto work = [](int device) {
    int *value, result = -1;
    hipStream_t stream;
    OK(hipSetDevice(device));
    OK(hipStreamCreate(&stream));
    OK(hipMalloc(&value, 4));
    OK(hipMemsetAsync(value, 0, 4, stream));
    for (int i = 0; i < 50; i++) {
      add<<<1, 1, 0, stream>>>(value, device + 1);
      if (i % 7 == 0) OK(hipStreamSynchronize(stream));
    }
    OK(hipMemcpyAsync(&result, value, 4, hipMemcpyDeviceToHost, stream));
    OK(hipStreamSynchronize(stream));
    EXPECT_EQ(50 * (device + 1), result);
    OK(hipStreamDestroy(stream));
    OK(hipFree(value));
  };
  std::thread first(work, 0), second(work, 1);
  first.join();
  second.join();
}

TEST_F(SeveralDevices, HaveTheirOwnVariables) {
  const float values[2] = {5, 6};
  float back;
  for (int device = 0; device < 2; device++) {
    OK(hipSetDevice(device));
    OK(hipMemcpyToSymbol(HIP_SYMBOL(weights), &values[device], 4));
  }
  for (int device = 0; device < 2; device++) {
    OK(hipSetDevice(device));
    OK(hipMemcpyFromSymbol(&back, HIP_SYMBOL(weights), 4));
    EXPECT_EQ(values[device], back);
  }
}

TEST_F(SeveralDevices, KeepTheirStreamsAndEvents) {
  Block<int> value(1);
  Event here;
  OK(hipSetDevice(1));
  {
    Queue there;
    REFUSED(hipErrorInvalidHandle, hipEventRecord(here, there));
    OK(hipSetDevice(0));
    set<<<1, 1, 0, there>>>(value, 1);
    EXPECT_EQ(hipErrorInvalidHandle, hipGetLastError());
  }
}

TEST_F(SeveralDevices, WaitForEachOtherAndCopy) {
  Block<int> here(1);
  Queue first;
  Event done;
  set<<<1, 1, 0, first>>>(here, 3);
  OK(hipEventRecord(done, first));
  OK(hipSetDevice(1));
  Block<int> there(1);
  Queue second;
  int value = 0;
  OK(hipStreamWaitEvent(second, done, 0));
  OK(hipMemcpyPeerAsync(there, 1, here, 0, 4, second));
  OK(hipMemcpyAsync(&value, there, 4, hipMemcpyDefault, second));
  OK(hipStreamSynchronize(second));
  EXPECT_EQ(3, value);
  OK(hipDeviceEnablePeerAccess(0, 0));
  REFUSED(hipErrorPeerAccessAlreadyEnabled, hipDeviceEnablePeerAccess(0, 0));
}

// Last, because it ends all memory and streams of the device.
TEST(Reset, FreesEverything) {
  size_t before, after, total;
  int *leaked;
  EXPECT_EQ(hipSuccess, hipDeviceReset());
  EXPECT_EQ(hipSuccess, hipMemGetInfo(&before, &total));
  EXPECT_EQ(hipSuccess, hipMalloc(&leaked, 1 << 20));
  EXPECT_EQ(hipSuccess, hipDeviceReset());
  EXPECT_EQ(hipSuccess, hipMemGetInfo(&after, &total));
  EXPECT_EQ(before, after);
}

}  // namespace
