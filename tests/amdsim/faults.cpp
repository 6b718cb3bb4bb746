// Planted faults: `faults NAME` commits one, `faults NAME fixed` is the same program without it, `faults` lists the
// names. Exit code: 0 all went well, 3 a wrong result, 4 an unexpected error of HIP; the simulator itself ends a
// program with 1.
#include <hip/hip_runtime.h>

#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <utility>
#include <vector>

namespace {

constexpr int kWrong = 3;

void check(hipError_t error) {
  if (error == hipSuccess) return;
  std::printf("%s\n", hipGetErrorName(error));
  std::exit(4);
}

template <class T>
T *device(size_t count) {
  T *pointer;
  check(hipMalloc(&pointer, count * sizeof(T)));
  return pointer;
}

template <class T>
T *zeros(size_t count) {
  T *pointer = device<T>(count);
  check(hipMemset(pointer, 0, count * sizeof(T)));
  return pointer;
}

template <class T>
T *pinned(size_t count) {
  T *pointer;
  check(hipHostMalloc(&pointer, count * sizeof(T)));
  std::memset(pointer, 0, count * sizeof(T));
  return pointer;
}

int finish() {
  check(hipGetLastError());
  check(hipDeviceSynchronize());
  return 0;
}

template <class T>
std::vector<T> fetch(const T *from, size_t count) {
  finish();
  std::vector<T> values(count);
  check(hipMemcpy(values.data(), from, count * sizeof(T), hipMemcpyDeviceToHost));
  return values;
}

// Each value must equal its place.
template <class T>
int counts_up(const std::vector<T> &values) {
  for (size_t i = 0; i < values.size(); i++) {
    if (values[i] == T(i)) continue;
    std::printf("wrong result: element %zu is %g (0x%08x)\n", i, double(values[i]), *(const unsigned *)&values[i]);
    return kWrong;
  }
  return 0;
}

int expect(int got, int want) {
  if (got != want) std::printf("wrong result: %d, not %d\n", got, want);
  return got == want ? 0 : kWrong;
}

int refused(hipError_t error) {
  if (error != hipSuccess) std::printf("refused: %s\n", hipGetErrorName(error));
  return error == hipSuccess ? 0 : kWrong;
}

// Runs one group of a kernel that must leave each thread's number in `to`.
template <class... Parameters, class... Arguments>
int expect_counting(void (*kernel)(int *, Parameters...), int threads, Arguments... arguments) {
  int *to = device<int>(threads);
  kernel<<<1, threads>>>(to, arguments...);
  return counts_up(fetch(to, threads));
}

// ---- global memory

template <class T>
__global__ void copy_shifted(const T *from, T *to, long read_shift, long write_shift) {
  to[threadIdx.x + write_shift] = from[threadIdx.x + read_shift];
}

// The index is the same for all lanes, so the compiler makes a scalar load.
__global__ void copy_scalar(const int *from, int *to, int shift) {
  const int value = from[blockIdx.x + shift];
  if (threadIdx.x == 0) to[blockIdx.x] = value;
}

__global__ void increment(int *p) { p[blockIdx.x * blockDim.x + threadIdx.x]++; }
__global__ void add_atomically(int *p) { atomicAdd(p + threadIdx.x, 1); }

template <class T>
int read_shifted(long shift) {
  T *from = zeros<T>(64), *to = device<T>(64);
  copy_shifted<<<1, 64>>>(from, to, shift, 0);
  return finish();
}

template <class T>
int write_shifted(long shift) {
  T *from = zeros<T>(64), *to = device<T>(64);
  copy_shifted<<<1, 64>>>(from, to, 0, shift);
  return finish();
}

int read_from(const int *from) {
  copy_shifted<<<1, 64>>>(from, device<int>(64), 0, 0);
  return finish();
}

int misaligned(bool planted, bool write) {
  char *bytes = zeros<char>(64 * 4 + 4);
  int *at = (int *)(bytes + (planted ? 1 : 4)), *other = zeros<int>(64);
  if (write)
    copy_shifted<<<1, 64>>>(other, at, 0, 0);
  else
    copy_shifted<<<1, 64>>>(at, other, 0, 0);
  return finish();
}

// ---- what nobody wrote

__global__ void copy_lds(float *to, bool write) {
  __shared__ float tile[64];
  if (write) tile[threadIdx.x] = threadIdx.x;
  __syncthreads();
  to[threadIdx.x] = tile[63 - (63 - threadIdx.x)];
}

__global__ void copy_scratch(int *to, bool write) {
  volatile int local[8];
  for (int i = 0; i < 8; i++)
    if (write) local[i] = 8 * int(threadIdx.x / 8) + i;
  to[threadIdx.x] = local[threadIdx.x % 8];
}

__global__ void copy_register(int *to, bool write) {
  int value;
  if (write) asm volatile("v_mov_b32 v40, %0" ::"v"(int(threadIdx.x)) : "v40");
  asm volatile("v_mov_b32 %0, v40" : "=v"(value)::"v40");
  to[threadIdx.x] = value;
}

__global__ void copy_scalar_register(int *to, bool write) {
  int value;
  if (write) asm volatile("s_mov_b32 s70, 0" ::: "s70");
  asm volatile("v_mov_b32 %0, s70" : "=v"(value)::"s70");
  to[threadIdx.x] = value + threadIdx.x;
}

__global__ void copy_accumulator(int *to, [[maybe_unused]] bool write) {
  int value = 0;
#if defined(__gfx90a__) || defined(__gfx942__)
  if (write) asm volatile("v_accvgpr_write_b32 a5, %0" ::"v"(int(threadIdx.x)) : "a5");
  asm volatile("v_accvgpr_read_b32 %0, a5" : "=v"(value)::"a5");
#endif
  to[threadIdx.x] = value;
}

__global__ void __launch_bounds__(64) leave_in_high_register() { asm volatile("v_mov_b32 v200, 7" ::: "v200"); }

// The compiler does not learn of v200 unless it is named after the last colon, so the kernel has no such register.
__global__ void read_high_register(int *to, bool own) {
  int value = threadIdx.x;
  if (!own) asm volatile("v_mov_b32 %0, v200" : "=v"(value));
  to[threadIdx.x] = value;
}

// What the first wave leaves behind, the second must not find.
int after_a_clean_run(void (*kernel)(int *, bool), bool planted) {
  const int clean = expect_counting(kernel, 64, true);
  return clean ? 5 : expect_counting(kernel, 64, !planted);
}

// ---- LDS and scratch bounds

__global__ void dynamic_lds(int *to) {
  extern __shared__ int dynamic[];
  dynamic[threadIdx.x] = threadIdx.x;
  __syncthreads();
  to[threadIdx.x] = dynamic[threadIdx.x];
}

__global__ void read_lds(int *to, int shift) {
  __shared__ int tile[64];
  tile[threadIdx.x] = threadIdx.x;
  __syncthreads();
  to[threadIdx.x] = tile[(int)threadIdx.x + shift];
}

__global__ void index_scratch(int *to, int index) {
  volatile int local[16];
  for (int i = 0; i < 16; i++) local[i] = i;
  to[threadIdx.x] = local[index];
}

// Because the array's address gets out, it stays in scratch; its elements are reached by scratch or buffer
// instructions.
__global__ void index_stack(int *to, int index) {
  int local[16];
  for (int i = 0; i < 16; i++) local[i] = i;
  asm volatile("" ::"v"(&local) : "memory");
  to[threadIdx.x] = local[index];
}

__global__ void lds_bytes(int *to, int shift, bool atomic) {
  __shared__ int words[66];
  words[threadIdx.x] = 0;
  if (threadIdx.x < 2) words[64 + threadIdx.x] = 0;
  __syncthreads();
  int *at = (int *)((char *)&words[threadIdx.x] + shift);
  if (atomic)
    atomicAdd(at, int(threadIdx.x));
  else
    *(volatile int *)at = threadIdx.x;
  __syncthreads();
  to[threadIdx.x] = words[threadIdx.x];
}

// ---- races in LDS: 128 threads are 2 waves of 64 or 4 of 32

__global__ void write_then_read(int *to, bool barrier) {
  __shared__ int tile[128];
  tile[threadIdx.x] = 127 - threadIdx.x;
  if (barrier) __syncthreads();
  to[threadIdx.x] = tile[127 - threadIdx.x];
}

__global__ void write_then_write(int *to, bool barrier) {
  __shared__ int tile[128];
  tile[threadIdx.x] = -1;
  if (barrier) __syncthreads();
  tile[127 - threadIdx.x] = 127 - threadIdx.x;
  __syncthreads();
  to[threadIdx.x] = tile[threadIdx.x];
}

__global__ void read_then_write(int *to, bool barrier) {
  __shared__ int tile[128];
  tile[threadIdx.x] = 127 - threadIdx.x;
  __syncthreads();
  const int value = tile[127 - threadIdx.x];
  if (barrier) __syncthreads();
  tile[threadIdx.x] = value;
  to[threadIdx.x] = value;
}

// Waves write bytes of the same words: their own ones, or the neighbour's.
__global__ void write_bytes(int *to, bool own) {
  __shared__ unsigned char bytes[132];
  const int place = threadIdx.x % 32 * 4 + threadIdx.x / 32;
  bytes[own ? place : place / 4 * 4] = threadIdx.x;
  __syncthreads();
  to[threadIdx.x] = bytes[place];
}

// 64 threads: one wave or two.
__global__ void reverse_64(int *to, bool barrier) {
  __shared__ volatile int tile[64];
  tile[threadIdx.x] = 63 - threadIdx.x;
  if (barrier) __syncthreads();
  to[threadIdx.x] = tile[63 - threadIdx.x];
}

// Neighbours in one wave need no barrier.
__global__ void swap_pairs(int *to, int distance) {
  __shared__ volatile int tile[128];
  tile[threadIdx.x] = threadIdx.x ^ distance;
  to[threadIdx.x] = tile[threadIdx.x ^ distance];
}

__global__ void count_atomically(int *to, bool reset) {
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  atomicAdd(&total, 1);
  if (reset && threadIdx.x == 127) *(volatile int *)&total = 0;
  __syncthreads();
  to[threadIdx.x] = total - 128 + threadIdx.x;
}

__global__ void total_too_early(int *to, bool barrier) {
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  atomicAdd(&total, 1);
  if (barrier) __syncthreads();
  to[threadIdx.x] = *(volatile int *)&total - 128 + threadIdx.x;
}

// ---- barriers

__global__ void barrier_after_return(int *to, int threads) {
  if (int(threadIdx.x) >= threads) return;
  to[threadIdx.x] = 0;
  __syncthreads();
  to[threadIdx.x] = threadIdx.x;
}

// The branch is scalar: a wave goes round the barrier as a whole.
__global__ void barrier_in_branch(int *to, int without) {
  to[threadIdx.x] = threadIdx.x;
  if (__builtin_amdgcn_readfirstlane(threadIdx.x / 64) != without) __syncthreads();
  to[threadIdx.x] += 0;
}

__global__ void barriers_in_loop(int *to, bool more) {
  const int wave = __builtin_amdgcn_readfirstlane(threadIdx.x / 64);
  for (int i = 0; i < 3 + (more && wave); i++) __syncthreads();
  to[threadIdx.x] = threadIdx.x;
}

// ---- instructions

__global__ void trap_in_lane(int *to, int lane) {
  if (int(threadIdx.x) == lane) __builtin_trap();
  to[threadIdx.x] = threadIdx.x;
}

__global__ void abort_in_lane(int *to, int lane) {
  if (int(threadIdx.x) == lane) abort();
  to[threadIdx.x] = threadIdx.x;
}

__global__ void assert_in_lane(int *to, int lane) {
  assert(int(threadIdx.x) != lane);
  to[threadIdx.x] = threadIdx.x;
}

__global__ void obscure(int *to, bool run) {
  if (run) asm volatile("s_decperflevel 3");
  to[threadIdx.x] = threadIdx.x;
}

__global__ void jump_away(int *to, bool jump) {
  if (jump) asm volatile("s_mov_b64 s[40:41], 64\n s_setpc_b64 s[40:41]" ::: "s40", "s41");
  to[threadIdx.x] = threadIdx.x;
}

// ---- matrix instructions: D = A B, all 16 x 16, row by row

using half4 = _Float16 __attribute__((ext_vector_type(4)));
using half16 = _Float16 __attribute__((ext_vector_type(16)));
using float4v = float __attribute__((ext_vector_type(4)));
using float8v = float __attribute__((ext_vector_type(8)));

enum Matrix { kRight, kWrongA, kWrongB, kWrongD, kNotRepeated };

__global__ void multiply(const _Float16 *a, const _Float16 *b, float *d, Matrix layout) {
  [[maybe_unused]] const int low = threadIdx.x % 16, high = threadIdx.x / 16;
#if defined(__gfx90a__) || defined(__gfx942__)
  half4 x, y;
  for (int v = 0; v < 4; v++) {
    const int k = 4 * high + v, wrong_k = 4 * v + high;
    x[v] = a[low * 16 + (layout == kWrongA ? wrong_k : k)];
    y[v] = b[(layout == kWrongB ? wrong_k : k) * 16 + low];
  }
  const float4v sum = __builtin_amdgcn_mfma_f32_16x16x16f16(x, y, float4v{}, 0, 0, 0);
  for (int v = 0; v < 4; v++) d[layout == kWrongD ? low * 16 + 4 * high + v : (4 * high + v) * 16 + low] = sum[v];
#elif defined(__gfx1100__)
  half16 x, y;
  for (int v = 0; v < 16; v++) {
    x[v] = layout == kWrongA ? a[v * 16 + low] : a[low * 16 + v];
    y[v] = layout == kWrongB ? b[low * 16 + v] : b[v * 16 + low];
    if (layout == kNotRepeated && high) x[v] = 0;
  }
  const float8v sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(x, y, float8v{});
  for (int v = 0; v < 8; v++) d[(layout == kWrongD ? 8 * high + v : 2 * v + high) * 16 + low] = sum[v];
#else
  (void)a, (void)b, (void)d, (void)layout;
#endif
}

int multiply_matrices(Matrix layout) {
  std::vector<_Float16> a(256), b(256);
  for (int i = 0; i < 256; i++) {
    a[i] = _Float16((i * 7 + i / 16) % 23 - 11);
    b[i] = _Float16((i * 5 + i / 16 * 3) % 19 - 9);
  }
  _Float16 *device_a = device<_Float16>(256), *device_b = device<_Float16>(256);
  float *device_d = device<float>(256);
  check(hipMemcpy(device_a, a.data(), 512, hipMemcpyHostToDevice));
  check(hipMemcpy(device_b, b.data(), 512, hipMemcpyHostToDevice));
  hipDeviceProp_t properties;
  check(hipGetDeviceProperties(&properties, 0));
  multiply<<<1, properties.warpSize>>>(device_a, device_b, device_d, layout);
  const std::vector<float> d = fetch(device_d, 256);
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += float(a[i * 16 + k]) * float(b[k * 16 + j]);
      if (d[i * 16 + j] == sum) continue;
      std::printf("wrong result: row %d, column %d is %g, not %g\n", i, j, d[i * 16 + j], sum);
      return kWrong;
    }
  return 0;
}

// ---- waves, groups and their order

__global__ void reduce_wave(int *total, int lanes) {
  int sum = threadIdx.x;
  for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor(sum, distance);
  if (threadIdx.x % warpSize == 0) atomicAdd(total, sum);
}

__global__ void last_group_wins(int *to, bool atomic) {
  if (threadIdx.x) return;
  if (atomic)
    atomicMax(to, int(blockIdx.x));
  else
    *to = blockIdx.x;
}

__global__ void last_wave_wins(int *to, bool atomic) {
  if (threadIdx.x % 64) return;
  if (atomic)
    atomicMax(to, int(threadIdx.x / 64));
  else
    *to = threadIdx.x / 64;
}

__global__ void count_waves(int *to, bool atomic) {
  if (threadIdx.x % 64) return;
  if (atomic)
    atomicAdd(to, 1);
  else
    *(volatile int *)to = *(volatile int *)to + 1;
}

// ---- the host's side

__global__ void set(int *to, int value) { *to = value; }
__global__ void add(int *to, const int *value) { *to += *value; }
__global__ void __launch_bounds__(64) set_small(int *to, int value) { *to = value; }

template <class Launch>
int launch_case(Launch launch) {
  int *to = pinned<int>(1);
  launch(to);
  if (const hipError_t error = hipGetLastError()) return refused(error);
  check(hipDeviceSynchronize());
  return expect(*to, 1);
}

using Call = int (*)(bool planted);
const std::pair<const char *, Call> kCases[] = {
    {"read-past-end", [](bool planted) { return read_shifted<int>(planted); }},
    {"write-past-end", [](bool planted) { return write_shifted<int>(planted); }},
    {"read-before-start", [](bool planted) { return read_shifted<int>(-planted); }},
    {"write-before-start", [](bool planted) { return write_shifted<int>(-planted); }},
    {"read-byte-past-end", [](bool planted) { return read_shifted<unsigned char>(planted); }},
    {"write-byte-past-end", [](bool planted) { return write_shifted<unsigned char>(planted); }},
    {"read-odd-end",  // the block does not end at a multiple of 4
     [](bool planted) {
       unsigned char *from = zeros<unsigned char>(61), *to = device<unsigned char>(62);
       copy_shifted<<<1, 61 + planted>>>(from, to, 0, 0);
       return finish();
     }},
    {"read-pinned-past-end",
     [](bool planted) {
       copy_shifted<<<1, 64>>>(pinned<int>(64), device<int>(64), planted, 0);
       return finish();
     }},
    {"read-row-past-end", [](bool planted) { return read_shifted<int>(planted ? 64 : 0); }},
    {"read-far-past-end", [](bool planted) { return read_shifted<int>(planted ? 64 + 64 : 0); }},
    {"write-far-past-end", [](bool planted) { return write_shifted<int>(planted ? 64 + 64 : 0); }},
    {"read-straddling-end",
     [](bool planted) {
       float4 *from = (float4 *)zeros<char>(64 * 16 - (planted ? 8 : 0));
       copy_shifted<<<1, 64>>>(from, device<float4>(64), 0, 0);
       return finish();
     }},
    {"write-straddling-end",
     [](bool planted) {
       float4 *to = (float4 *)zeros<char>(64 * 16 - (planted ? 8 : 0));
       copy_shifted<<<1, 64>>>(zeros<float4>(64), to, 0, 0);
       return finish();
     }},
    {"one-group-too-many",
     [](bool planted) {
       increment<<<4 + planted, 64>>>(zeros<int>(4 * 64));
       return finish();
     }},
    {"scalar-read-past-end",
     [](bool planted) {
       copy_scalar<<<4, 64>>>(zeros<int>(4), device<int>(4), planted);
       return finish();
     }},
    {"atomic-past-end",
     [](bool planted) {
       add_atomically<<<1, 64 + planted>>>(zeros<int>(64));
       return finish();
     }},
    {"use-after-free",
     [](bool planted) {
       int *from = zeros<int>(64);
       if (planted) check(hipFree(from));
       return read_from(from);
     }},
    {"never-allocated", [](bool planted) { return read_from(zeros<int>(64) + (planted ? 1l << 34 : 0)); }},
    {"null-pointer", [](bool planted) { return read_from(planted ? nullptr : zeros<int>(64)); }},
    {"host-pointer", [](bool planted) { return read_from(planted ? (int *)calloc(64, 4) : pinned<int>(64)); }},
    {"misaligned-read", [](bool planted) { return misaligned(planted, false); }},
    {"misaligned-write", [](bool planted) { return misaligned(planted, true); }},
    {"misaligned-short",
     [](bool planted) {
       short *from = (short *)(zeros<char>(65 * 2) + (planted ? 1 : 2));
       copy_shifted<<<1, 64>>>(from, device<short>(64), 0, 0);
       return finish();
     }},
    {"misaligned-atomic",
     [](bool planted) {
       add_atomically<<<1, 64>>>((int *)(zeros<char>(65 * 4) + (planted ? 2 : 0)));
       return finish();
     }},
    {"misaligned-lds", [](bool planted) { return expect_counting(lds_bytes, 64, planted ? 1 : 0, false); }},
    {"misaligned-lds-atomic", [](bool planted) { return expect_counting(lds_bytes, 64, planted ? 2 : 0, true); }},

    {"uninitialised-global",
     [](bool planted) {
       float *from = planted ? device<float>(1) : zeros<float>(1), *to = device<float>(1);
       copy_shifted<<<1, 1>>>(from, to, 0, 0);
       return counts_up(fetch(to, 1));
     }},
    {"uninitialised-lds",
     [](bool planted) {
       float *to = device<float>(64);
       copy_lds<<<1, 64>>>(to, true);  // what this group leaves there, the next must not find
       copy_lds<<<1, 64>>>(to, !planted);
       return counts_up(fetch(to, 64));
     }},
    {"uninitialised-scratch",
     [](bool planted) { return after_a_clean_run(copy_scratch, planted); }},
    {"uninitialised-register", [](bool planted) { return after_a_clean_run(copy_register, planted); }},
    {"uninitialised-scalar-register", [](bool planted) { return after_a_clean_run(copy_scalar_register, planted); }},
    {"uninitialised-accumulator", [](bool planted) { return after_a_clean_run(copy_accumulator, planted); }},
    {"register-of-another-kernel",
     [](bool planted) {
       leave_in_high_register<<<1, 64>>>();
       return expect_counting(read_high_register, 64, !planted);
     }},

    {"lds-too-small",
     [](bool planted) {
       int *to = device<int>(64);
       dynamic_lds<<<1, 64, planted ? 252 : 256>>>(to);
       return counts_up(fetch(to, 64));
     }},
    {"lds-past-end", [](bool planted) { return expect_counting(read_lds, 64, planted ? 1 : 0); }},
    {"lds-before-start", [](bool planted) { return expect_counting(read_lds, 64, planted ? -1 : 0); }},
    {"scratch-past-end",
     [](bool planted) {
       index_scratch<<<1, 64>>>(device<int>(64), planted ? 20 : 15);
       return finish();
     }},
    {"scratch-far-past-end",
     [](bool planted) {
       index_scratch<<<1, 64>>>(device<int>(64), planted ? 100000 : 15);
       return finish();
     }},
    {"scratch-before-start",
     [](bool planted) {
       index_scratch<<<1, 64>>>(device<int>(64), planted ? -16 : 0);
       return finish();
     }},

    {"stack-past-end",
     [](bool planted) {
       index_stack<<<1, 128>>>(device<int>(128), planted ? 20 : 15);
       return finish();
     }},

    {"race-write-read", [](bool planted) { return expect_counting(write_then_read, 128, !planted); }},
    {"race-write-write", [](bool planted) { return expect_counting(write_then_write, 128, !planted); }},
    {"race-read-write", [](bool planted) { return expect_counting(read_then_write, 128, !planted); }},
    {"race-in-bytes", [](bool planted) { return expect_counting(write_bytes, 128, !planted); }},
    {"race-of-neighbours", [](bool planted) { return expect_counting(swap_pairs, 128, planted ? 64 : 1); }},
    {"race-with-atomic", [](bool planted) { return expect_counting(count_atomically, 128, planted); }},
    {"total-read-too-early", [](bool planted) { return expect_counting(total_too_early, 128, !planted); }},
    {"wave-of-64-assumed", [](bool planted) { return expect_counting(reverse_64, 64, !planted); }},

    {"barrier-after-return", [](bool planted) {
       int *to = zeros<int>(128);
       barrier_after_return<<<1, 128>>>(to, planted ? 64 : 128);
       return counts_up(fetch(to, 128));
     }},
    {"barrier-in-branch", [](bool planted) { return expect_counting(barrier_in_branch, 128, planted ? 0 : -1); }},
    {"one-barrier-more", [](bool planted) { return expect_counting(barriers_in_loop, 128, planted); }},

    {"trap", [](bool planted) { return expect_counting(trap_in_lane, 64, planted ? 5 : -1); }},
    {"abort", [](bool planted) { return expect_counting(abort_in_lane, 64, planted ? 5 : -1); }},
    {"assert", [](bool planted) { return expect_counting(assert_in_lane, 64, planted ? 5 : -1); }},
    {"not-implemented", [](bool planted) { return expect_counting(obscure, 64, planted); }},
    {"jump-away", [](bool planted) { return expect_counting(jump_away, 64, planted); }},

    {"matrix-a", [](bool planted) { return multiply_matrices(planted ? kWrongA : kRight); }},
    {"matrix-b", [](bool planted) { return multiply_matrices(planted ? kWrongB : kRight); }},
    {"matrix-d", [](bool planted) { return multiply_matrices(planted ? kWrongD : kRight); }},
    {"matrix-not-repeated", [](bool planted) { return multiply_matrices(planted ? kNotRepeated : kRight); }},

    {"wave-size",
     [](bool planted) {
       hipDeviceProp_t properties;
       check(hipGetDeviceProperties(&properties, 0));
       int *total = zeros<int>(1);
       reduce_wave<<<1, 128>>>(total, planted ? 96 - properties.warpSize : properties.warpSize);
       return expect(fetch(total, 1)[0], 127 * 64);
     }},
    {"last-group-wins",
     [](bool planted) {
       int *to = zeros<int>(1);
       last_group_wins<<<16, 64>>>(to, !planted);
       std::printf("result %d\n", fetch(to, 1)[0]);
       return 0;
     }},
    {"last-wave-wins",
     [](bool planted) {
       int *to = zeros<int>(1);
       last_wave_wins<<<1, 1024>>>(to, !planted);
       std::printf("result %d\n", fetch(to, 1)[0]);
       return 0;
     }},
    {"lost-update",
     [](bool planted) {
       int *to = zeros<int>(1);
       count_waves<<<1, 1024>>>(to, !planted);
       return expect(fetch(to, 1)[0], 16);
     }},

    {"copy-past-end",
     [](bool planted) {
       const std::vector<int> values(65);
       check(hipMemcpy(device<int>(64), values.data(), 256 + 4 * planted, hipMemcpyHostToDevice));
       return 0;
     }},
    {"copy-from-past-end",
     [](bool planted) {
       std::vector<int> values(64);
       check(hipMemcpy(values.data(), device<int>(64) + 64 * planted, 4, hipMemcpyDeviceToHost));
       return 0;
     }},
    {"copy-from-before-start",
     [](bool planted) {
       std::vector<int> values(64);
       check(hipMemcpy(values.data(), device<int>(64) - planted, 8, hipMemcpyDeviceToHost));
       return 0;
     }},
    {"copy-to-freed",
     [](bool planted) {
       int *to = device<int>(64), value = 0;
       if (planted) check(hipFree(to));
       check(hipMemcpy(to, &value, 4, hipMemcpyHostToDevice));
       return 0;
     }},
    {"fill-past-end",
     [](bool planted) {
       check(hipMemset(device<char>(100), 0, 100 + planted));
       return 0;
     }},

    {"fill-rows-past-end",
     [](bool planted) {
       check(hipMemset2D(device<char>(1000), 300, 0, planted ? 200 : 100, 4));
       return 0;
     }},

    {"not-waited-for",
     [](bool planted) {
       int *to = pinned<int>(1);
       hipStream_t stream;
       check(hipStreamCreate(&stream));
       set<<<1, 1, 0, stream>>>(to, 1);
       if (!planted) check(hipStreamSynchronize(stream));
       return expect(*to, 1);
     }},
    {"copy-not-waited-for",
     [](bool planted) {
       int *from = device<int>(1), *to = pinned<int>(1);
       hipStream_t stream;
       check(hipStreamCreate(&stream));
       set<<<1, 1, 0, stream>>>(from, 1);
       check(hipMemcpyAsync(to, from, 4, hipMemcpyDeviceToHost, stream));
       if (!planted) check(hipStreamSynchronize(stream));
       return expect(*to, 1);
     }},
    {"source-changed-too-early",
     [](bool planted) {
       int *from = pinned<int>(1), *to = device<int>(1);
       hipStream_t stream;
       check(hipStreamCreate(&stream));
       *from = 1;
       check(hipMemcpyAsync(to, from, 4, hipMemcpyHostToDevice, stream));
       if (!planted) check(hipStreamSynchronize(stream));
       *from = 2;
       return expect(fetch(to, 1)[0], 1);
     }},
    {"no-event-between-streams",
     [](bool planted) {
       int *value = zeros<int>(1), *to = zeros<int>(1);
       hipStream_t first, second;
       hipEvent_t ready;
       check(hipStreamCreate(&first));
       check(hipStreamCreate(&second));
       check(hipEventCreate(&ready));
       check(hipDeviceSynchronize());
       set<<<1, 1, 0, first>>>(value, 1);
       check(hipEventRecord(ready, first));
       if (!planted) check(hipStreamWaitEvent(second, ready, 0));
       add<<<1, 1, 0, second>>>(to, value);
       return expect(fetch(to, 1)[0], 1);
     }},
    {"fault-nobody-waits-for",
     [](bool planted) {
       int *from = zeros<int>(64), *to = device<int>(64);
       copy_shifted<<<1, 64>>>(from, to, planted, 0);
       std::printf("main ends\n");
       return 0;
     }},

    {"callback-waits-for-itself",
     [](bool planted) {
       static bool waits = planted;
       const auto callback = [](hipStream_t, hipError_t, void *stream) {
         if (waits) check(hipStreamSynchronize(hipStream_t(stream)));
       };
       hipStream_t stream;
       check(hipStreamCreate(&stream));
       check(hipStreamAddCallback(stream, callback, stream, 0));
       return finish();
     }},
    {"missing-entry-point",
     [](bool planted) {
       hipIpcMemHandle_t handle;
       if (planted) check(hipIpcGetMemHandle(&handle, device<int>(1)));
       return finish();
     }},

    {"zero-grid", [](bool planted) { return launch_case([=](int *to) { set<<<!planted, 64>>>(to, 1); }); }},
    {"block-too-big",
     [](bool planted) { return launch_case([=](int *to) { set<<<1, 1024 + planted>>>(to, 1); }); }},
    {"beyond-launch-bounds",
     [](bool planted) { return launch_case([=](int *to) { set_small<<<1, 64 + planted>>>(to, 1); }); }},
    {"lds-too-big",
     [](bool planted) { return launch_case([=](int *to) { set<<<1, 64, 65536 + planted>>>(to, 1); }); }},
    {"out-of-memory",  // with AMDSIM_MEMORY=67108864
     [](bool planted) {
       void *pointer;
       return refused(hipMalloc(&pointer, planted ? 65 << 20 : 32 << 20));
     }},
    {"freed-twice",
     [](bool planted) {
       int *pointer = device<int>(1);
       if (planted) check(hipFree(pointer));
       return refused(hipFree(pointer));
     }},
};

}  // namespace

int main(int arguments, char **argument) {
  for (const auto &[name, run] : kCases) {
    if (arguments == 1)
      std::printf("%s\n", name);
    else if (!std::strcmp(argument[1], name))
      return run(arguments == 2);
  }
  if (arguments > 1) std::printf("no case '%s'\n", argument[1]);
  return arguments > 1 ? 2 : 0;
}
