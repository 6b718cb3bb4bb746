#include "engine.hpp"

#include <atomic>
#include <chrono>
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <numeric>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "decoder.hpp"
#include "fault.hpp"
#include "machine.hpp"
#include "report.hpp"

namespace amdsim {

const char *const kClassNames[kClasses] = {"valu",          "packed", "transcendental", "matrix", "salu", "branch",
                                           "scalar_memory", "lds",    "vector_memory",  "other"};

void Counts::add(const Counts &other) {
  for (int i = 0; i < kClasses; i++) {
    instructions[i] += other.instructions[i];
    lanes[i] += other.lanes[i];
  }
  matrix_cycles += other.matrix_cycles;
  matrix_flops += other.matrix_flops;
  global_bytes_read += other.global_bytes_read;
  global_bytes_written += other.global_bytes_written;
  segments64 += other.segments64;
  segments128 += other.segments128;
  lds_cycles += other.lds_cycles;
  lds_conflict_cycles += other.lds_conflict_cycles;
  footprint += other.footprint;
  barriers += other.barriers;
}

void fault_at(const Wave &wave, const Op &op, int lane, const char *format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  const Workgroup &group = *wave.group;
  char where[32] = "";
  if (lane >= 0) std::snprintf(where, sizeof where, ", lane %d", lane);
  fault("%s\n  kernel %s, group (%u, %u, %u), wave %d%s\n  at 0x%llx: %s", message, group.kernel->pretty.c_str(),
        group.id.x, group.id.y, group.id.z, wave.number, where,
        (unsigned long long)(op.address - group.kernel->object->base), op.text.c_str());
}

namespace {

const DeviceModel kModels[] = {
    // Peak rates: AMD's data sheets of MI250 (two GCDs, halved here), MI300X and RX 7900 XTX. docs/AMDSIM.md cites
    // them.
    {"gfx90a", "AMD Instinct MI250 (one GCD)", 64, 104, 64ull << 30, 65536, 1.7e9, 1.6384e12, 181.05e12, 22.65e12},
    {"gfx942", "AMD Instinct MI300X", 64, 304, 192ull << 30, 65536, 2.1e9, 5.3e12, 1307.4e12, 163.4e12},
    {"gfx1100", "AMD Radeon RX 7900 XTX", 32, 96, 24ull << 30, 65536, 2.5e9, 0.96e12, 122.8e12, 61.4e12},
};

long environment_number(const char *name, long otherwise) {
  const char *text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char *end;
  const long value = std::strtol(text, &end, 10);
  if (*end || value < 0) fault("%s=%s is not a number", name, text);
  return value;
}

struct Launch {
  const Kernel *kernel;
  const DecodedText *text;
  Dim3 grid, block;
  uint32_t lds_bytes, scratch_bytes;
  uint64_t kernarg, packet, queue;
  int device, wave_size;
  bool gfx11;
  uint64_t groups;
  uint32_t number;
  uint64_t seed;
  std::atomic<uint64_t> next{0}, done{0};
  std::mutex mutex;  // of counts
  Counts counts;
};

// What a CPU thread needs to run a group; kept from one group to the next.
struct Worker {
  Workgroup group;
  struct Registers {  // of one wave; how many rows the last kernel could have changed
    struct alignas(64) Row {
      uint32_t lane[kLanes];
    };
    std::unique_ptr<Row[]> rows = std::make_unique<Row[]>(kRows);
    int vgprs = 256, agprs = 256;
  };
  std::vector<Registers> registers;
  void *scratch = nullptr;
  uint64_t scratch_bytes = 0;
  Counts counts;
  std::mt19937_64 random;

  void run(Launch &launch, uint64_t index);
  void start_wave(Launch &launch, Wave &wave, int number);
  template <bool Counting>
  void run_waves(Launch &launch);
};

void Worker::start_wave(Launch &launch, Wave &wave, int number) {
  const KernelDescriptor &d = launch.kernel->descriptor;
  const uint32_t threads = launch.block.x * launch.block.y * launch.block.z;
  const int size = launch.wave_size;
  wave.number = number;
  wave.size = size;
  wave.all_lanes = size == 64 ? ~0ull : 0xffffffffull;
  wave.group = &group;
  wave.counts = &counts;
  wave.status = Status::ready;
  wave.stop = false;
  wave.scc = false;
  wave.pc = &launch.text->ops[size_t(launch.text->index_of(launch.kernel->entry))];
  wave.scratch = wave.scratch_end =
      launch.scratch_bytes ? uint64_t(scratch) + uint64_t(number) * launch.scratch_bytes * uint64_t(size) : 0;
  wave.v = &registers[size_t(number)].rows[0].lane;

  // Nothing is zero at the start: a register that is read before it is written shows itself. Rows above the kernel's
  // own are poison already, unless a larger kernel used them before.
  Registers &file = registers[size_t(number)];
  const int vgprs = std::min(256, int(launch.kernel->vgprs + 8));
  const int agprs = launch.kernel->agprs ? std::min(256, int(launch.kernel->agprs + 8)) : 0;
  std::fill_n(wave.v[0], std::max(vgprs, file.vgprs) * kLanes, kPoison);
  std::fill_n(wave.v[kAccumulator], std::max(agprs, file.agprs) * kLanes, kPoison);
  file.vgprs = vgprs;
  file.agprs = agprs;
  for (uint32_t &scalar : wave.s) scalar = kPoison;
  wave.s[kNull] = wave.s[kNullHigh] = 0;
  wave.s[kSharedBase] = wave.s[kPrivateBase] = 0;
  wave.s[kSharedBase + 1] = kSharedAperture;
  wave.s[kPrivateBase + 1] = kPrivateAperture;

  // COMPUTE_PGM_RSRC1: FLOAT_ROUND_MODE 15:12, FLOAT_DENORM_MODE 19:16, DX10_CLAMP 21, IEEE 23; the same order in MODE.
  const uint32_t rsrc1 = d.compute_pgm_rsrc1;
  wave.mode = (rsrc1 >> 12 & 0xff) | (rsrc1 >> 21 & 1) << 8 | (rsrc1 >> 23 & 1) << 9;
  if ((wave.mode & 0x300) != 0x300)
    fault("kernel %s runs without DX10_CLAMP or IEEE mode, which is not modelled", launch.kernel->pretty.c_str());
  wave.flush32 = (wave.mode >> 4 & 3) != 3;
  if ((wave.mode >> 6 & 3) != 3)
    fault("kernel %s flushes double and half denormals, which is not modelled", launch.kernel->pretty.c_str());

  // User SGPRs, in the order of the kernel descriptor's bits.
  int next = 0;
  const auto put64 = [&](uint64_t value) {
    wave.s[next] = uint32_t(value);
    wave.s[next + 1] = uint32_t(value >> 32);
    next += 2;
  };
  const uint32_t properties = d.kernel_code_properties;
  const uint64_t scratch_base = uint64_t(scratch);
  if (properties & 1) {  // private segment buffer: swizzled, a dword an element, as many lanes as the wave has
    put64(scratch_base | 1ull << 63);
    wave.s[next++] = 0xfffffffe;
    wave.s[next++] = 1u << 23 | (size == 64 ? 3u : 2u) << 21 | 1u << 19 | 4u << 15;
  }
  if (properties & 2) put64(launch.packet);
  if (properties & 4) put64(launch.queue);
  if (properties & 8) put64(launch.kernarg);
  if (properties & 16) put64(0);
  if (properties & 32) put64(scratch_base);
  if (properties & 64) wave.s[next++] = launch.scratch_bytes;
  // System SGPRs follow the user SGPRs that the descriptor counts (preloaded arguments lie between; the code reloads
  // them).
  next = std::max(next, int(d.compute_pgm_rsrc2 >> 1 & 31));
  if (d.compute_pgm_rsrc2 >> 7 & 1) wave.s[next++] = group.id.x;
  if (d.compute_pgm_rsrc2 >> 8 & 1) wave.s[next++] = group.id.y;
  if (d.compute_pgm_rsrc2 >> 9 & 1) wave.s[next++] = group.id.z;
  if (d.compute_pgm_rsrc2 >> 10 & 1) wave.s[next++] = 0;
  const bool scratch_is_architected = launch.kernel->object->architecture != "gfx90a";
  if ((d.compute_pgm_rsrc2 & 1) && !scratch_is_architected)
    wave.s[next++] = uint32_t(number) * launch.scratch_bytes * uint32_t(size);

  uint64_t exec = 0;
  for (int l = 0; l < size; l++) {
    const uint32_t thread = uint32_t(number * size + l);
    if (thread >= threads) break;
    exec |= 1ull << l;
    const uint32_t x = thread % launch.block.x, y = thread / launch.block.x % launch.block.y,
                   z = thread / launch.block.x / launch.block.y;
    wave.v[0][l] = x | y << 10 | z << 20;  // packed on all three architectures
  }
  wave.set_exec(exec);
}

template <bool Counting>
void Worker::run_waves(Launch &launch) {
  // Long enough that switching costs nothing, short enough that waves which wait for each other get on.
  constexpr int kSlice = 200000;
  std::vector<int> order(group.waves.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = int(i);
  for (;;) {
    if (launch.seed) std::shuffle(order.begin(), order.end(), random);
    size_t ended = 0, waiting = 0;
    for (int number : order) {
      Wave &wave = group.waves[size_t(number)];
      if (wave.status == Status::ready) {
        wave.stop = false;
        const Op *pc = wave.pc;
        // With a seed, waves take turns after few instructions, so that an order that only barriers guarantee breaks.
        for (int left = launch.seed ? 1 + int(random() % 64) : kSlice; left; left--) {
          const Op &op = *pc;
          wave.next = pc + 1;
          if (Counting) {
            counts.instructions[int(op.kind)]++;
            counts.lanes[int(op.kind)] += uint64_t(wave.active);
          }
          op.run(wave, op);
          pc = wave.next;
          if (wave.stop) break;
        }
        wave.pc = pc;
      }
      ended += wave.status == Status::ended;
      waiting += wave.status == Status::at_barrier;
    }
    if (ended == group.waves.size()) return;
    if (ended + waiting < group.waves.size()) continue;
    if (ended) {
      int missing = 0;
      const Wave *waits = nullptr;
      for (const Wave &wave : group.waves) {
        if (wave.status == Status::ended)
          missing = wave.number;
        else
          waits = &wave;
      }
      fault_at(*waits, *(waits->pc - 1), -1, "a barrier that wave %d of the group never reaches: it has ended",
               missing);
    }
    group.lds_shadow.clear();
    for (Wave &wave : group.waves) wave.status = Status::ready;
  }
}

void Worker::run(Launch &launch, uint64_t index) {
  if (launch.seed) {
    random.seed(launch.seed * 1000003 + index);
    // Another order of groups: a step that has no divisor in common with their number visits each once.
    uint64_t step = launch.seed * 2 + 1;
    while (std::gcd(step, launch.groups) != 1) step += 2;
    index = uint64_t((__uint128_t(index) * step + launch.seed) % launch.groups);
  }
  group.kernel = launch.kernel;
  group.text = launch.text;
  group.gfx11 = launch.gfx11;
  group.launch = launch.number;
  group.id = {uint32_t(index % launch.grid.x), uint32_t(index / launch.grid.x % launch.grid.y),
              uint32_t(index / launch.grid.x / launch.grid.y)};
  group.scratch_bytes = launch.scratch_bytes;
  group.lds.resize(launch.lds_bytes);
  std::fill_n(reinterpret_cast<uint32_t *>(group.lds.data()), group.lds.size() / 4, kPoison);
  std::memcpy(group.lds.data() + group.lds.size() / 4 * 4, &kPoison, group.lds.size() % 4);
  group.lds_shadow.clear();
  group.lds_shadow.resize(launch.lds_bytes);

  const uint32_t threads = launch.block.x * launch.block.y * launch.block.z;
  const size_t waves = (threads + uint32_t(launch.wave_size) - 1) / uint32_t(launch.wave_size);
  if (registers.size() < waves) registers.resize(waves);
  const uint64_t needed = uint64_t(launch.scratch_bytes) * waves * uint64_t(launch.wave_size);
  if (needed > scratch_bytes) {
    if (scratch) memory_free(scratch);
    scratch = memory_allocate(needed, MemoryKind::scratch, launch.device);
    if (!scratch) fault("no memory for %llu bytes of scratch", (unsigned long long)needed);
    scratch_bytes = needed;
  }
  group.waves.resize(waves);
  for (size_t i = 0; i < waves; i++) start_wave(launch, group.waves[i], int(i));
  counting ? run_waves<true>(launch) : run_waves<false>(launch);
  // Scratch is poison when it is allocated and between groups. At -O0 it is large, and next to nothing of it is used.
  for (const Wave &wave : group.waves)
    std::fill(reinterpret_cast<uint32_t *>(wave.scratch), reinterpret_cast<uint32_t *>(wave.scratch_end), kPoison);
}

// CPU threads that take groups of the launches in progress.
class Pool {
 public:
  Pool() : threads_(int(environment_number("AMDSIM_THREADS", long(std::thread::hardware_concurrency())))) {
    for (int i = 1; i < threads_; i++) std::thread([this] { serve(); }).detach();
  }

  void run(Launch &launch) {
    const bool shared = threads_ > 1 && launch.groups > 1;
    if (shared) {
      const std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back(&launch);
      wake_.notify_all();
    }
    work(launch);
    if (!shared) return;
    std::unique_lock<std::mutex> lock(mutex_);
    for (auto it = queue_.begin(); it != queue_.end(); ++it)
      if (*it == &launch) {
        queue_.erase(it);
        break;
      }
    finished_.wait(lock, [&] { return launch.done == launch.groups && !helpers_[&launch]; });
    helpers_.erase(&launch);
  }

 private:
  // Out of line, so that the thread's address of it is looked up once a launch and not once an instruction.
  [[gnu::noinline]] static Worker &own_worker() {
    static thread_local Worker worker;
    return worker;
  }

  void work(Launch &launch) {
    Worker &worker = own_worker();
    uint64_t mine = 0;
    for (;;) {
      const uint64_t index = launch.next++;
      if (index >= launch.groups) break;
      worker.run(launch, index);
      mine++;
    }
    if (!mine) return;
    {
      const std::lock_guard<std::mutex> lock(launch.mutex);
      launch.counts.add(worker.counts);
    }
    worker.counts = {};
    launch.done += mine;
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      Launch *launch = nullptr;
      for (Launch *each : queue_)
        if (each->next < each->groups) launch = each;
      if (!launch) {
        wake_.wait(lock);
        continue;
      }
      helpers_[launch]++;
      lock.unlock();
      work(*launch);
      lock.lock();
      helpers_[launch]--;
      finished_.notify_all();
    }
  }

  int threads_;
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::deque<Launch *> queue_;
  std::map<Launch *, int> helpers_;
};

// The hidden arguments (LLVM: "Code Object V5 Kernel Argument Metadata").
void fill_hidden(std::vector<uint8_t> &kernarg, const Launch &launch, uint32_t dynamic_lds) {
  const uint32_t counts[] = {launch.grid.x, launch.grid.y, launch.grid.z},
                 sizes[] = {launch.block.x, launch.block.y, launch.block.z};
  for (const KernelArgument &argument : launch.kernel->arguments) {
    if (argument.kind.compare(0, 7, "hidden_") != 0) continue;
    uint64_t value = 0;  // offsets, remainders, buffers that HIP leaves empty
    const int dimension = argument.kind.back() - 'x';
    if (argument.kind.compare(0, 19, "hidden_block_count_") == 0) value = counts[dimension];
    if (argument.kind.compare(0, 18, "hidden_group_size_") == 0) value = sizes[dimension];
    if (argument.kind == "hidden_grid_dims")
      value = launch.grid.z * launch.block.z > 1 ? 3 : launch.grid.y * launch.block.y > 1 ? 2 : 1;
    if (argument.kind == "hidden_private_base") value = kPrivateAperture;
    if (argument.kind == "hidden_shared_base") value = kSharedAperture;
    if (argument.kind == "hidden_hostcall_buffer") value = uint64_t(kHostcallAperture) << 32;
    if (argument.kind == "hidden_queue_ptr") value = launch.queue;
    if (argument.kind == "hidden_dynamic_lds_size") value = dynamic_lds;
    if (argument.offset + argument.size > kernarg.size()) kernarg.resize(argument.offset + argument.size);
    std::memcpy(&kernarg[argument.offset], &value, std::min<size_t>(argument.size, 8));
  }
}

// The AQL packet (HSA: hsa_kernel_dispatch_packet_t), from which older code reads the block and grid size.
struct DispatchPacket {
  uint16_t header, setup, workgroup_size[3], reserved0;
  uint32_t grid_size[3], private_segment_size, group_segment_size;
  uint64_t kernel_object, kernarg_address, reserved1, completion_signal;
};
static_assert(sizeof(DispatchPacket) == 64);

}  // namespace

const DeviceModel *device_model(const char *architecture) {
  for (const DeviceModel &model : kModels)
    if (!std::strcmp(model.architecture, architecture)) return &model;
  return nullptr;
}

void execute(const Kernel &kernel, Dim3 grid, Dim3 block, uint32_t dynamic_lds, std::vector<uint8_t> user_arguments,
             int device) {
  static std::mutex decoding;
  auto &object = const_cast<CodeObject &>(*kernel.object);
  {
    const std::lock_guard<std::mutex> lock(decoding);
    if (!object.text) object.text = decode(object, int(kernel.wave_size));
  }
  static const uint64_t seed = uint64_t(environment_number("AMDSIM_SEED", 0));
  Launch launch;
  launch.kernel = &kernel;
  launch.text = object.text.get();
  if (launch.text->index_of(kernel.entry) < 0)
    fault("kernel %s starts where no instruction does", kernel.pretty.c_str());
  launch.grid = grid;
  launch.block = block;
  launch.lds_bytes = kernel.descriptor.group_segment_fixed_size + dynamic_lds;
  launch.scratch_bytes = (kernel.descriptor.private_segment_fixed_size + 3) & ~3u;
  if (kernel.dynamic_stack) launch.scratch_bytes += 16384;  // recursion: more than HIP's default stack of a thread
  launch.device = device;
  launch.wave_size = int(kernel.wave_size);
  launch.gfx11 = object.architecture.compare(0, 5, "gfx11") == 0;
  launch.groups = uint64_t(grid.x) * grid.y * grid.z;
  launch.seed = seed;

  void *queue = memory_allocate(256, MemoryKind::kernarg, device);
  void *packet = memory_allocate(sizeof(DispatchPacket), MemoryKind::kernarg, device);
  launch.queue = uint64_t(queue);
  launch.packet = uint64_t(packet);
  fill_hidden(user_arguments, launch, dynamic_lds);
  // The compiler widens a scalar load of the last arguments where alignment (16) says that it may.
  user_arguments.resize((std::max<size_t>(user_arguments.size(), kernel.kernarg_size) + 15) / 16 * 16);
  void *kernarg = memory_allocate(user_arguments.size(), MemoryKind::kernarg, device);
  if (!queue || !packet || !kernarg) fault("no memory for the arguments of kernel %s", kernel.pretty.c_str());
  std::memcpy(kernarg, user_arguments.data(), user_arguments.size());
  launch.kernarg = uint64_t(kernarg);
  DispatchPacket p = {};
  p.setup = 3;
  const uint32_t counts[] = {grid.x, grid.y, grid.z}, sizes[] = {block.x, block.y, block.z};
  for (int i = 0; i < 3; i++) {
    p.workgroup_size[i] = uint16_t(sizes[i]);
    p.grid_size[i] = counts[i] * sizes[i];
  }
  p.private_segment_size = launch.scratch_bytes;
  p.group_segment_size = launch.lds_bytes;
  p.kernarg_address = launch.kernarg;
  std::memcpy(packet, &p, sizeof p);

  static std::atomic<uint32_t> launches{0};
  launch.number = ++launches;
  static Pool *const pool = new Pool;  // never destroyed: its threads outlive static destructors
  const auto start = std::chrono::steady_clock::now();
  pool->run(launch);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const uint32_t threads = block.x * block.y * block.z;
  report_launch(kernel, launch.groups, (threads + kernel.wave_size - 1) / kernel.wave_size, launch.counts, seconds);
  for (void *pointer : {queue, packet, kernarg}) memory_free(pointer);
}

}  // namespace amdsim
