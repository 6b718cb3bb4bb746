// The entry points of libamdhip64.so.5 that programs built by hipcc call, with the ABI of the HIP 5.2 headers. An entry
// point that is not here is named by the dynamic linker, which then ends the program.
#define __HIP_PLATFORM_AMD__
#include <hip/hip_runtime_api.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "code_object.hpp"
#include "engine.hpp"
#include "fault.hpp"
#include "memory.hpp"
#include "streams.hpp"

using namespace amdsim;

struct ihipStream_t {
  Stream *queue;
  unsigned flags;
  int priority;
};

struct ihipEvent_t {
  int device;
  unsigned flags;
  OperationPointer recorded;  // by the last hipEventRecord
};

namespace {

// Properties of a card that only hipGetDeviceProperties wants.
struct CardFacts {
  const char *architecture, *target_id;
  int major, minor, l2_bytes, bus_bits;
  int simds, waves_per_simd, registers_per_lane, register_granule;  // of a compute unit, for the occupancy
};
constexpr CardFacts kCards[] = {
    {"gfx90a", "gfx90a:sramecc+:xnack-", 9, 0, 8 << 20, 4096, 4, 8, 512, 8},
    {"gfx942", "gfx942:sramecc+:xnack-", 9, 4, 4 << 20, 8192, 4, 8, 512, 8},
    {"gfx1100", "gfx1100", 11, 0, 6 << 20, 384, 2, 16, 1536, 24},
};
constexpr int kMaxThreads = 1024;  // of a block
// Copies from pageable memory up to this size are captured by the call, larger ones executed by it: a program that
// uploads gigabytes must not hold them twice.
constexpr uint64_t kCaptured = 16 << 20;

struct Module {
  const void *fat_binary;
  std::map<int, std::unique_ptr<CodeObject>> loaded;  // by device
};

struct Symbol {  // a kernel or variable of the device, by the host's address for it
  Module *module;
  std::string name;
};

struct Runtime {
  const DeviceModel *model;
  const CardFacts *card;
  int devices = 1;
  uint64_t memory_bytes;  // of a device
  std::mutex mutex;       // of all that follows; never held while work is executed
  std::map<const void *, Symbol> kernels, variables;
  std::set<hipStream_t> streams;
  std::set<hipEvent_t> events;
  std::set<std::pair<int, int>> peers;  // device, peer that it may access
  Runtime();
};

// Made at the first call and never destroyed.
Runtime &runtime() {
  static Runtime &instance = *new Runtime;
  return instance;
}

thread_local int current_device = 0;
thread_local hipError_t last_error = hipSuccess;

// Ends every entry point: the error stays until the program asks for it.
hipError_t result(hipError_t error) {
  if (error != hipSuccess && error != hipErrorNotReady) last_error = error;
  return error;
}

uint64_t environment_number(const char *name, uint64_t otherwise) {
  const char *text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char *end;
  errno = 0;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (*end || errno || *text == '-') fault("%s=%s is not a number", name, text);
  return value;
}

Runtime::Runtime() {
  const char *text = std::getenv("AMDSIM");
  const std::string choice = text && *text ? text : "gfx90a";
  const size_t colon = choice.find(':');
  const std::string architecture = choice.substr(0, colon);
  card = std::find_if(std::begin(kCards), std::end(kCards), [&](auto &c) { return architecture == c.architecture; });
  if (colon != std::string::npos) {
    char *end;
    const long count = std::strtol(choice.c_str() + colon + 1, &end, 10);
    devices = *end || count < 1 || count > 64 ? 0 : (int)count;
  }
  model = card == std::end(kCards) ? nullptr : device_model(card->architecture);
  if (!model || !devices)
    fault("AMDSIM=%s: set it to gfx90a, gfx942 or gfx1100, or to several devices of one kind: gfx90a:4 (up to 64)",
          choice.c_str());
  memory_bytes = environment_number("AMDSIM_MEMORY", model->memory_bytes);
  memory_init();
  streams_init(devices, environment_number("AMDSIM_SEED", 0));
  // What the program never waited for still has to be shown to work. (In a thread of its own, because by then the
  // thread_local objects of this one are gone.)
  std::atexit([] {
    std::thread(complete_all).join();
    write_report();
  });
}

bool is_device(int device) { return device >= 0 && device < runtime().devices; }

// The code of a module on a device. The runtime's mutex is held.
CodeObject &code_on(Module &module, int device) {
  std::unique_ptr<CodeObject> &object = module.loaded[device];
  if (!object) object = load_code_object(module.fat_binary, runtime().model->architecture, device);
  return *object;
}

// Whether the program holds no code of that kernel for the card: a fault where it is launched.
bool lacks_code(const void *function) {
  std::lock_guard lock(runtime().mutex);
  const auto symbol = runtime().kernels.find(function);
  return symbol != runtime().kernels.end() &&
         !has_code_object(symbol->second.module->fat_binary, runtime().model->architecture);
}

hipError_t find_kernel(const void *function, const Kernel **kernel) {
  std::lock_guard lock(runtime().mutex);
  const auto symbol = runtime().kernels.find(function);
  if (symbol == runtime().kernels.end()) return hipErrorInvalidDeviceFunction;
  const CodeObject &object = code_on(*symbol->second.module, current_device);
  const auto found = object.kernels.find(symbol->second.name);
  if (found == object.kernels.end()) return hipErrorInvalidDeviceFunction;
  *kernel = &found->second;
  return hipSuccess;
}

hipError_t find_variable(const void *host, uint8_t **address, size_t *bytes) {
  std::lock_guard lock(runtime().mutex);
  const auto symbol = runtime().variables.find(host);
  if (symbol == runtime().variables.end()) return hipErrorInvalidSymbol;
  const CodeObject &object = code_on(*symbol->second.module, current_device);
  const auto found = object.variables.find(symbol->second.name);
  if (found == object.variables.end()) return hipErrorInvalidSymbol;
  *address = (uint8_t *)found->second.first;
  *bytes = found->second.second;
  return hipSuccess;
}

// Streams ------------------------------------------------------------------------------------------------------------

hipError_t create_stream(hipStream_t *stream, unsigned flags, int priority) {
  if (!stream || flags & ~hipStreamNonBlocking) return hipErrorInvalidValue;
  Runtime &r = runtime();
  *stream = new ihipStream_t{stream_create(current_device, !(flags & hipStreamNonBlocking)), flags, priority};
  std::lock_guard lock(r.mutex);
  r.streams.insert(*stream);
  return hipSuccess;
}

bool is_stream(hipStream_t stream) {
  std::lock_guard lock(runtime().mutex);
  return runtime().streams.count(stream);
}

// The queue of a handle; nullptr when it is no stream (any more).
Stream *queue_of(hipStream_t stream) {
  if (!stream) return null_stream((runtime(), current_device));
  if (stream == hipStreamPerThread) {
    thread_local std::map<int, hipStream_t> streams;
    hipStream_t &own = streams[current_device];
    if (!is_stream(own)) (void)create_stream(&own, hipStreamDefault, 0);
    return own->queue;
  }
  return is_stream(stream) ? stream->queue : nullptr;
}

// Copies and fills ---------------------------------------------------------------------------------------------------

enum class Place { pageable, pinned, device, managed };

// Where memory lies that a call is to read or write; a range that leaves its block is a fault.
Place place_of(const char *call, const void *pointer, uint64_t bytes) {
  const uint64_t address = (uint64_t)pointer;
  if (address - memory_base >= memory_size) return Place::pageable;
  Block block;
  if (!memory_find(address, &block) || bytes > block.address + block.bytes - address)
    fault("%s: %" PRIu64 " bytes at 0x%" PRIx64 ": %s", call, bytes, address, memory_describe(address, bytes).c_str());
  switch (block.kind) {
    case MemoryKind::host:
      return Place::pinned;
    case MemoryKind::managed:
      return Place::managed;
    default:
      return Place::device;
  }
}

struct Rows {
  uint8_t *start;
  uint64_t pitch;
};

bool fits(hipMemcpyKind kind, Place to, Place from) {
  auto host = [](Place place) { return place != Place::device; };
  auto device = [](Place place) { return place != Place::pageable; };
  switch (kind) {
    case hipMemcpyHostToHost:
      return host(to) && host(from);
    case hipMemcpyHostToDevice:
      return device(to) && host(from);
    case hipMemcpyDeviceToHost:
      return host(to) && device(from);
    case hipMemcpyDeviceToDevice:
      return device(to) && device(from);
    case hipMemcpyDefault:
      return true;
  }
  return false;
}

// Copies `height` rows of `width` bytes. `wait`: the call returns when the copy is done; but a copy inside the device
// never makes the host wait.
hipError_t copy(const char *call, Rows to, Rows from, uint64_t width, uint64_t height, hipMemcpyKind kind,
                hipStream_t stream, bool wait) {
  Stream *queue = queue_of(stream);
  if (!queue) return hipErrorInvalidHandle;
  if (!width || !height) return hipSuccess;
  if (!to.start || !from.start) return hipErrorInvalidValue;
  if (height > 1 && (to.pitch < width || from.pitch < width)) return hipErrorInvalidPitchValue;
  const Place target = place_of(call, to.start, to.pitch * (height - 1) + width);
  const Place source = place_of(call, from.start, from.pitch * (height - 1) + width);
  if (!fits(kind, target, source)) return hipErrorInvalidValue;

  std::shared_ptr<std::vector<uint8_t>> staged;
  if (source == Place::pageable && !wait) {
    if (width * height > kCaptured) {
      wait = true;
    } else {
      staged = std::make_shared<std::vector<uint8_t>>(width * height);
      for (uint64_t row = 0; row < height; row++)
        std::memcpy(staged->data() + row * width, from.start + row * from.pitch, width);
      from = {staged->data(), width};
    }
  }
  const OperationPointer operation = issue(queue, [=] {
    (void)staged;  // kept alive
    for (uint64_t row = 0; row < height; row++)
      std::memmove(to.start + row * to.pitch, from.start + row * from.pitch, width);
  });
  if (wait && !(target == Place::device && source == Place::device)) complete(operation);
  return hipSuccess;
}

hipError_t copy(const char *call, void *to, const void *from, uint64_t bytes, hipMemcpyKind kind, hipStream_t stream,
                bool wait) {
  return copy(call, {(uint8_t *)to, bytes}, {(uint8_t *)from, bytes}, bytes, 1, kind, stream, wait);
}

// Fills `height` rows of `count` values. `wait` as in copy: memory of the device alone never makes the host wait.
template <class T>
hipError_t fill(const char *call, void *to, uint64_t pitch, T value, uint64_t count, uint64_t height,
                hipStream_t stream, bool wait) {
  Stream *queue = queue_of(stream);
  if (!queue) return hipErrorInvalidHandle;
  if (!count || !height) return hipSuccess;
  if (!to || (uint64_t)to % sizeof(T)) return hipErrorInvalidValue;
  if (height > 1 && pitch < count * sizeof(T)) return hipErrorInvalidPitchValue;
  const Place target = place_of(call, to, pitch * (height - 1) + count * sizeof(T));
  if (target == Place::pageable) return hipErrorInvalidValue;
  const OperationPointer operation = issue(queue, [=] {
    for (uint64_t row = 0; row < height; row++) std::fill_n((T *)((uint8_t *)to + row * pitch), count, value);
  });
  if (wait && target != Place::device) complete(operation);
  return hipSuccess;
}

hipError_t copy_symbol(const char *call, const void *symbol, const void *other, size_t bytes, size_t offset,
                       hipMemcpyKind kind, hipStream_t stream, bool wait, bool to_symbol) {
  uint8_t *variable;
  size_t size;
  if (hipError_t error = find_variable(symbol, &variable, &size)) return error;
  if (offset > size || bytes > size - offset) return hipErrorInvalidValue;
  return to_symbol ? copy(call, variable + offset, other, bytes, kind, stream, wait)
                   : copy(call, (void *)other, variable + offset, bytes, kind, stream, wait);
}

// Memory -------------------------------------------------------------------------------------------------------------

uint64_t device_memory_used(int device) {
  return memory_used(MemoryKind::device, device) + memory_used(MemoryKind::managed, device) +
         memory_used(MemoryKind::code, device);
}

hipError_t allocate(void **pointer, size_t bytes, MemoryKind kind) {
  if (!pointer) return hipErrorInvalidValue;
  *pointer = nullptr;
  if (!bytes) return hipSuccess;
  Runtime &r = runtime();
  if (kind != MemoryKind::host) {
    const uint64_t used = device_memory_used(current_device);
    if (used > r.memory_bytes || bytes > r.memory_bytes - used) return hipErrorOutOfMemory;
  }
  *pointer = memory_allocate(bytes, kind, current_device);
  return *pointer ? hipSuccess : hipErrorOutOfMemory;
}

// Frees a block of the kinds that the call is for, once nothing uses it any more.
hipError_t release(void *pointer, bool host) {
  runtime();
  if (!pointer) return hipSuccess;
  Block block;
  if (!memory_find((uint64_t)pointer, &block) || block.address != (uint64_t)pointer) return hipErrorInvalidValue;
  const bool of_host = block.kind == MemoryKind::host;
  if (host != of_host || (!of_host && block.kind != MemoryKind::device && block.kind != MemoryKind::managed))
    return hipErrorInvalidValue;
  of_host ? complete_all() : complete_device(block.device);
  return memory_free(pointer) ? hipSuccess : hipErrorInvalidValue;
}

// Launches -----------------------------------------------------------------------------------------------------------

hipError_t launch(const void *function, dim3 grid, dim3 block, void **arguments, size_t dynamic_lds,
                  hipStream_t stream) {
  Stream *queue = queue_of(stream);
  // AMD's runtime launches on the stream's device, CUDA's refuses: a program for both cannot rely on either.
  if (!queue || queue->device != current_device) return hipErrorInvalidHandle;
  const Kernel *kernel;
  if (hipError_t error = find_kernel(function, &kernel)) return error;

  auto exceeds = [](uint64_t a, uint64_t b, uint64_t limit) { return a == 0 || b == 0 || a * b > limit; };
  if (exceeds(grid.x, block.x, UINT32_MAX) || exceeds(grid.y, block.y, UINT32_MAX) ||
      exceeds(grid.z, block.z, UINT32_MAX))
    return hipErrorInvalidConfiguration;
  if (block.x > kMaxThreads || block.y > kMaxThreads || block.z > kMaxThreads ||
      exceeds(uint64_t(block.x) * block.y, block.z, kMaxThreads))
    return hipErrorInvalidConfiguration;
  if (block.x * block.y * block.z > kernel->max_workgroup_size) return hipErrorLaunchFailure;
  const uint64_t static_lds = kernel->descriptor.group_segment_fixed_size, lds = runtime().model->lds_bytes;
  if (dynamic_lds > lds || static_lds > lds - dynamic_lds) return hipErrorInvalidConfiguration;

  // The segment is 16-byte aligned, so the compiler may load 16 bytes where 12 are left of it.
  std::vector<uint8_t> kernarg((kernel->kernarg_size + 15) / 16 * 16);
  size_t next = 0;
  for (const KernelArgument &argument : kernel->arguments) {
    if (argument.kind.compare(0, 7, "hidden_") == 0) continue;
    if (!arguments || !arguments[next]) return hipErrorInvalidValue;
    std::memcpy(kernarg.data() + argument.offset, arguments[next++], argument.size);
  }
  const int device = current_device;
  issue(queue, [=, kernarg = std::move(kernarg)]() mutable {
    execute(*kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, (uint32_t)dynamic_lds, std::move(kernarg),
            device);
  });
  return hipSuccess;
}

// Blocks of a kernel that a compute unit holds at a time: wave slots, vector registers, LDS.
int resident_blocks(const Kernel &kernel, int block_threads, size_t dynamic_lds) {
  const CardFacts &card = *runtime().card;
  const int granule = card.register_granule;
  const int registers = std::max<int>(granule, (kernel.vgprs + granule - 1) / granule * granule);
  const int waves = card.simds * std::min(card.waves_per_simd, card.registers_per_lane / registers);
  const int waves_per_block = (block_threads + kernel.wave_size - 1) / kernel.wave_size;
  const uint64_t lds = kernel.descriptor.group_segment_fixed_size + dynamic_lds;
  const int by_lds = lds ? int(runtime().model->lds_bytes / lds) : INT32_MAX;
  return std::min(waves / waves_per_block, by_lds);
}

// Properties ---------------------------------------------------------------------------------------------------------

hipDeviceProp_t properties_of(int device) {
  const Runtime &r = runtime();
  const DeviceModel &model = *r.model;
  hipDeviceProp_t p = {};
  std::snprintf(p.name, sizeof p.name, "%s", model.card);
  std::snprintf(p.gcnArchName, sizeof p.gcnArchName, "%s", r.card->target_id);
  p.totalGlobalMem = r.memory_bytes;
  p.totalConstMem = r.memory_bytes;
  p.sharedMemPerBlock = p.maxSharedMemoryPerMultiProcessor = model.lds_bytes;
  p.regsPerBlock = 65536;
  p.warpSize = model.wave_size;
  p.maxThreadsPerBlock = kMaxThreads;
  p.maxThreadsPerMultiProcessor = r.card->simds * r.card->waves_per_simd * model.wave_size;
  for (int axis = 0; axis < 3; axis++) {
    p.maxThreadsDim[axis] = kMaxThreads;
    p.maxGridSize[axis] = INT32_MAX;
  }
  p.clockRate = int(model.clock_hz / 1e3);
  p.clockInstructionRate = 100000;
  p.memoryBusWidth = r.card->bus_bits;
  p.memoryClockRate = int(model.bandwidth / (2.0 * r.card->bus_bits / 8) / 1e3);  // two transfers a cycle
  p.major = r.card->major;
  p.minor = r.card->minor;
  p.multiProcessorCount = model.compute_units;
  p.l2CacheSize = r.card->l2_bytes;
  p.computeMode = hipComputeModeDefault;
  p.arch.hasGlobalInt32Atomics = p.arch.hasGlobalFloatAtomicExch = p.arch.hasSharedInt32Atomics = 1;
  p.arch.hasSharedFloatAtomicExch = p.arch.hasFloatAtomicAdd = p.arch.hasGlobalInt64Atomics = 1;
  p.arch.hasSharedInt64Atomics = p.arch.hasDoubles = p.arch.hasWarpVote = p.arch.hasWarpBallot = 1;
  p.arch.hasWarpShuffle = p.arch.hasThreadFenceSystem = p.arch.has3dGrid = 1;
  p.concurrentKernels = 1;
  p.pciBusID = device + 1;
  p.canMapHostMemory = 1;
  p.memPitch = INT32_MAX;
  p.textureAlignment = p.texturePitchAlignment = 256;
  p.managedMemory = 1;
  p.isLargeBar = 1;
  return p;
}

struct ErrorText {
  hipError_t code;
  const char *name, *text;
};
#define ERROR(code, text) \
  { code, #code, text }
const ErrorText kErrors[] = {
    ERROR(hipSuccess, "no error"),
    ERROR(hipErrorInvalidValue, "invalid argument"),
    ERROR(hipErrorOutOfMemory, "out of memory"),
    ERROR(hipErrorNotInitialized, "initialization error"),
    ERROR(hipErrorDeinitialized, "driver shutting down"),
    ERROR(hipErrorProfilerDisabled, "profiler disabled while using external profiling tool"),
    ERROR(hipErrorProfilerNotInitialized, "profiler is not initialized"),
    ERROR(hipErrorProfilerAlreadyStarted, "profiler already started"),
    ERROR(hipErrorProfilerAlreadyStopped, "profiler already stopped"),
    ERROR(hipErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(hipErrorInvalidPitchValue, "invalid pitch argument"),
    ERROR(hipErrorInvalidSymbol, "invalid device symbol"),
    ERROR(hipErrorInvalidDevicePointer, "invalid device pointer"),
    ERROR(hipErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ERROR(hipErrorInsufficientDriver, "driver version is insufficient for runtime version"),
    ERROR(hipErrorMissingConfiguration, "missing configuration for a kernel launch"),
    ERROR(hipErrorPriorLaunchFailure, "unspecified launch failure in prior launch"),
    ERROR(hipErrorInvalidDeviceFunction, "invalid device function"),
    ERROR(hipErrorNoDevice, "no ROCm-capable device is detected"),
    ERROR(hipErrorInvalidDevice, "invalid device ordinal"),
    ERROR(hipErrorInvalidImage, "device kernel image is invalid"),
    ERROR(hipErrorInvalidContext, "invalid device context"),
    ERROR(hipErrorContextAlreadyCurrent, "context is already current context"),
    ERROR(hipErrorMapFailed, "mapping of buffer object failed"),
    ERROR(hipErrorUnmapFailed, "unmapping of buffer object failed"),
    ERROR(hipErrorArrayIsMapped, "array is mapped"),
    ERROR(hipErrorAlreadyMapped, "resource already mapped"),
    ERROR(hipErrorNoBinaryForGpu, "no kernel image is available for execution on the device"),
    ERROR(hipErrorAlreadyAcquired, "resource already acquired"),
    ERROR(hipErrorNotMapped, "resource not mapped"),
    ERROR(hipErrorNotMappedAsArray, "resource not mapped as array"),
    ERROR(hipErrorNotMappedAsPointer, "resource not mapped as pointer"),
    ERROR(hipErrorECCNotCorrectable, "uncorrectable ECC error encountered"),
    ERROR(hipErrorUnsupportedLimit, "limit is not supported on this architecture"),
    ERROR(hipErrorContextAlreadyInUse, "exclusive-thread device already in use by a different thread"),
    ERROR(hipErrorPeerAccessUnsupported, "peer access is not supported between these two devices"),
    ERROR(hipErrorInvalidKernelFile, "invalid kernel file"),
    ERROR(hipErrorInvalidGraphicsContext, "invalid OpenGL or DirectX context"),
    ERROR(hipErrorInvalidSource, "device kernel image is invalid"),
    ERROR(hipErrorFileNotFound, "file not found"),
    ERROR(hipErrorSharedObjectSymbolNotFound, "shared object symbol not found"),
    ERROR(hipErrorSharedObjectInitFailed, "shared object initialization failed"),
    ERROR(hipErrorOperatingSystem, "OS call failed or operation not supported on this OS"),
    ERROR(hipErrorInvalidHandle, "invalid resource handle"),
    ERROR(hipErrorIllegalState, "the operation cannot be performed in the present state"),
    ERROR(hipErrorNotFound, "named symbol not found"),
    ERROR(hipErrorNotReady, "device not ready"),
    ERROR(hipErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(hipErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR(hipErrorLaunchTimeOut, "the launch timed out and was terminated"),
    ERROR(hipErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    ERROR(hipErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    ERROR(hipErrorSetOnActiveProcess, "cannot set while device is active in this process"),
    ERROR(hipErrorContextIsDestroyed, "context is destroyed"),
    ERROR(hipErrorAssert, "device-side assert triggered"),
    ERROR(hipErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
    ERROR(hipErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    ERROR(hipErrorLaunchFailure, "unspecified launch failure"),
    ERROR(hipErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    ERROR(hipErrorNotSupported, "operation not supported"),
    ERROR(hipErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ERROR(hipErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    ERROR(hipErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    ERROR(hipErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    ERROR(hipErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    ERROR(hipErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    ERROR(hipErrorStreamCaptureImplicit,
          "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(hipErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(hipErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence from another thread"),
    ERROR(hipErrorGraphExecUpdateFailure, "the graph update was not performed because it included invalid changes"),
    ERROR(hipErrorUnknown, "unknown error"),
    ERROR(hipErrorRuntimeMemory, "runtime memory call returned error"),
    ERROR(hipErrorRuntimeOther, "runtime call other than memory returned error"),
    ERROR(hipErrorTbd, "unknown error"),
};
#undef ERROR

const ErrorText &error_text(hipError_t error) {
  for (const ErrorText &entry : kErrors)
    if (entry.code == error) return entry;
  return error_text(hipErrorUnknown);
}

}  // namespace

extern "C" {

// What hipcc's code for the host calls
// ---------------------------------------------------------------------------------

#pragma GCC visibility push(default)

struct FatBinaryWrapper {  // clang's __hip_fatbin_wrapper
  uint32_t magic, version;
  const void *binary;
  const void *unused;
};

Module **__hipRegisterFatBinary(const FatBinaryWrapper *wrapper) {
  runtime();
  if (wrapper->magic != 0x48495046 || wrapper->version != 1) fault("__hipRegisterFatBinary: not a HIP fat binary");
  return new Module *(new Module{wrapper->binary, {}});
}

// Modules stay: what is queued may still use them.
void __hipUnregisterFatBinary(Module **) {}

void __hipRegisterFunction(Module **module, const void *host, char *, const char *name, unsigned, void *, void *,
                           dim3 *, dim3 *, int *) {
  std::lock_guard lock(runtime().mutex);
  runtime().kernels[host] = {*module, name};
}

void __hipRegisterVar(Module **module, void *host, char *, char *name, int, size_t, int, int) {
  std::lock_guard lock(runtime().mutex);
  runtime().variables[host] = {*module, name};
}

void __hipRegisterManagedVar(void *, void **, void *, const char *name, size_t, unsigned) {
  fault("__managed__ variables are not implemented (%s)", name);
}

#pragma GCC visibility pop

namespace {
struct CallConfiguration {
  dim3 grid, block;
  size_t dynamic_lds;
  hipStream_t stream;
};
thread_local std::vector<CallConfiguration> call_configurations;
}  // namespace

hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t dynamic_lds, hipStream_t stream) {
  call_configurations.push_back({grid, block, dynamic_lds, stream});
  return hipSuccess;
}

hipError_t __hipPopCallConfiguration(dim3 *grid, dim3 *block, size_t *dynamic_lds, hipStream_t *stream) {
  if (call_configurations.empty()) return result(hipErrorMissingConfiguration);
  const CallConfiguration &last = call_configurations.back();
  *grid = last.grid;
  *block = last.block;
  *dynamic_lds = last.dynamic_lds;
  *stream = last.stream;
  call_configurations.pop_back();
  return hipSuccess;
}

hipError_t hipLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t dynamic_lds,
                           hipStream_t stream) {
  return result(launch(function, grid, block, arguments, dynamic_lds, stream));
}

// Devices ------------------------------------------------------------------------------------------------------------

hipError_t hipInit(unsigned flags) { return result(flags ? hipErrorInvalidValue : hipSuccess); }

hipError_t hipGetDeviceCount(int *count) {
  if (!count) return result(hipErrorInvalidValue);
  *count = runtime().devices;
  return hipSuccess;
}

hipError_t hipSetDevice(int device) {
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  current_device = device;
  return hipSuccess;
}

hipError_t hipGetDevice(int *device) {
  if (!device) return result(hipErrorInvalidValue);
  *device = current_device;
  return hipSuccess;
}

hipError_t hipDeviceGet(hipDevice_t *device, int ordinal) {
  if (!device) return result(hipErrorInvalidValue);
  if (!is_device(ordinal)) return result(hipErrorInvalidDevice);
  *device = ordinal;
  return hipSuccess;
}

hipError_t hipGetDeviceProperties(hipDeviceProp_t *properties, int device) {
  if (!properties) return result(hipErrorInvalidValue);
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  *properties = properties_of(device);
  return hipSuccess;
}

hipError_t hipDeviceGetAttribute(int *value, hipDeviceAttribute_t attribute, int device) {
  if (!value) return result(hipErrorInvalidValue);
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  const hipDeviceProp_t p = properties_of(device);
  const std::map<int, int64_t> values = {
      {hipDeviceAttributeEccEnabled, p.ECCEnabled},
      {hipDeviceAttributeCanMapHostMemory, p.canMapHostMemory},
      {hipDeviceAttributeClockRate, p.clockRate},
      {hipDeviceAttributeComputeMode, p.computeMode},
      {hipDeviceAttributeConcurrentKernels, p.concurrentKernels},
      {hipDeviceAttributeConcurrentManagedAccess, p.concurrentManagedAccess},
      {hipDeviceAttributeCooperativeLaunch, p.cooperativeLaunch},
      {hipDeviceAttributeCooperativeMultiDeviceLaunch, p.cooperativeMultiDeviceLaunch},
      {hipDeviceAttributeDirectManagedMemAccessFromHost, p.directManagedMemAccessFromHost},
      {hipDeviceAttributeIntegrated, p.integrated},
      {hipDeviceAttributeIsMultiGpuBoard, p.isMultiGpuBoard},
      {hipDeviceAttributeKernelExecTimeout, p.kernelExecTimeoutEnabled},
      {hipDeviceAttributeL2CacheSize, p.l2CacheSize},
      {hipDeviceAttributeComputeCapabilityMajor, p.major},
      {hipDeviceAttributeComputeCapabilityMinor, p.minor},
      {hipDeviceAttributeManagedMemory, p.managedMemory},
      {hipDeviceAttributeMaxBlockDimX, p.maxThreadsDim[0]},
      {hipDeviceAttributeMaxBlockDimY, p.maxThreadsDim[1]},
      {hipDeviceAttributeMaxBlockDimZ, p.maxThreadsDim[2]},
      {hipDeviceAttributeMaxGridDimX, p.maxGridSize[0]},
      {hipDeviceAttributeMaxGridDimY, p.maxGridSize[1]},
      {hipDeviceAttributeMaxGridDimZ, p.maxGridSize[2]},
      {hipDeviceAttributeMaxThreadsPerBlock, p.maxThreadsPerBlock},
      {hipDeviceAttributeMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
      {hipDeviceAttributeMaxPitch, p.memPitch},
      {hipDeviceAttributeMemoryBusWidth, p.memoryBusWidth},
      {hipDeviceAttributeMemoryClockRate, p.memoryClockRate},
      {hipDeviceAttributeMultiprocessorCount, p.multiProcessorCount},
      {hipDeviceAttributePhysicalMultiProcessorCount, p.multiProcessorCount},
      {hipDeviceAttributePageableMemoryAccess, p.pageableMemoryAccess},
      {hipDeviceAttributePageableMemoryAccessUsesHostPageTables, p.pageableMemoryAccessUsesHostPageTables},
      {hipDeviceAttributePciBusId, p.pciBusID},
      {hipDeviceAttributePciDeviceId, p.pciDeviceID},
      {hipDeviceAttributePciDomainID, p.pciDomainID},
      {hipDeviceAttributeMaxRegistersPerBlock, p.regsPerBlock},
      {hipDeviceAttributeMaxSharedMemoryPerBlock, p.sharedMemPerBlock},
      {hipDeviceAttributeMaxSharedMemoryPerMultiprocessor, p.maxSharedMemoryPerMultiProcessor},
      {hipDeviceAttributeTextureAlignment, p.textureAlignment},
      {hipDeviceAttributeTexturePitchAlignment, p.texturePitchAlignment},
      {hipDeviceAttributeTotalConstantMemory, p.totalConstMem},
      {hipDeviceAttributeWarpSize, p.warpSize},
      {hipDeviceAttributeMemoryPoolsSupported, 0},
      {hipDeviceAttributeClockInstructionRate, p.clockInstructionRate},
      {hipDeviceAttributeIsLargeBar, p.isLargeBar},
      {hipDeviceAttributeAsicRevision, p.asicRevision},
  };
  const auto found = values.find(attribute);
  if (found == values.end()) fault("hipDeviceGetAttribute: attribute %d is not implemented", (int)attribute);
  *value = (int)std::min<int64_t>(found->second, INT32_MAX);
  return hipSuccess;
}

hipError_t hipDeviceGetName(char *name, int bytes, hipDevice_t device) {
  if (!name || bytes < 1) return result(hipErrorInvalidValue);
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  std::snprintf(name, bytes, "%s", runtime().model->card);
  return hipSuccess;
}

hipError_t hipDeviceGetPCIBusId(char *id, int bytes, int device) {
  if (!id || bytes < 13) return result(hipErrorInvalidValue);
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  std::snprintf(id, bytes, "0000:%02x:00.0", properties_of(device).pciBusID);
  return hipSuccess;
}

hipError_t hipDeviceTotalMem(size_t *bytes, hipDevice_t device) {
  if (!bytes) return result(hipErrorInvalidValue);
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  *bytes = runtime().memory_bytes;
  return hipSuccess;
}

hipError_t hipDeviceComputeCapability(int *major, int *minor, hipDevice_t device) {
  if (!major || !minor) return result(hipErrorInvalidValue);
  if (!is_device(device)) return result(hipErrorInvalidDevice);
  *major = runtime().card->major;
  *minor = runtime().card->minor;
  return hipSuccess;
}

hipError_t hipDeviceGetStreamPriorityRange(int *least, int *greatest) {
  if (least) *least = 1;
  if (greatest) *greatest = -1;
  return hipSuccess;
}

hipError_t hipSetDeviceFlags(unsigned flags) {
  constexpr unsigned known = hipDeviceScheduleMask | hipDeviceMapHost | hipDeviceLmemResizeToMax;
  return result(flags & ~known ? hipErrorInvalidValue : hipSuccess);
}

hipError_t hipDeviceSynchronize() {
  runtime();
  complete_device(current_device);
  return hipSuccess;
}

hipError_t hipDeviceReset() {
  Runtime &r = runtime();
  complete_device(current_device);
  std::lock_guard lock(r.mutex);
  std::erase_if(r.streams, [](hipStream_t stream) {
    if (stream->queue->device != current_device) return false;
    stream_destroy(stream->queue);
    delete stream;
    return true;
  });
  for (auto *symbols : {&r.kernels, &r.variables})
    for (auto &[host, symbol] : *symbols) symbol.module->loaded.erase(current_device);
  memory_free_all(current_device);
  return hipSuccess;
}

hipError_t hipDeviceCanAccessPeer(int *can, int device, int peer) {
  if (!can) return result(hipErrorInvalidValue);
  if (!is_device(device) || !is_device(peer)) return result(hipErrorInvalidDevice);
  *can = device != peer;
  return hipSuccess;
}

hipError_t hipDeviceEnablePeerAccess(int peer, unsigned flags) {
  if (flags) return result(hipErrorInvalidValue);
  if (!is_device(peer) || peer == current_device) return result(hipErrorInvalidDevice);
  std::lock_guard lock(runtime().mutex);
  const bool added = runtime().peers.insert({current_device, peer}).second;
  return result(added ? hipSuccess : hipErrorPeerAccessAlreadyEnabled);
}

hipError_t hipDeviceDisablePeerAccess(int peer) {
  if (!is_device(peer)) return result(hipErrorInvalidDevice);
  std::lock_guard lock(runtime().mutex);
  return result(runtime().peers.erase({current_device, peer}) ? hipSuccess : hipErrorPeerAccessNotEnabled);
}

hipError_t hipRuntimeGetVersion(int *version) {
  if (!version) return result(hipErrorInvalidValue);
  *version = HIP_VERSION;
  return hipSuccess;
}

hipError_t hipDriverGetVersion(int *version) { return hipRuntimeGetVersion(version); }

// Errors -------------------------------------------------------------------------------------------------------------

hipError_t hipGetLastError() { return std::exchange(last_error, hipSuccess); }
hipError_t hipPeekAtLastError() { return last_error; }
const char *hipGetErrorName(hipError_t error) { return error_text(error).name; }
const char *hipGetErrorString(hipError_t error) { return error_text(error).text; }

// Memory -------------------------------------------------------------------------------------------------------------

hipError_t hipMalloc(void **pointer, size_t bytes) { return result(allocate(pointer, bytes, MemoryKind::device)); }
hipError_t hipFree(void *pointer) { return result(release(pointer, false)); }

hipError_t hipMallocAsync(void **pointer, size_t bytes, hipStream_t stream) {
  return result(queue_of(stream) ? allocate(pointer, bytes, MemoryKind::device) : hipErrorInvalidHandle);
}

hipError_t hipFreeAsync(void *pointer, hipStream_t stream) {
  Stream *queue = queue_of(stream);
  if (!queue) return result(hipErrorInvalidHandle);
  Block block;
  if (!memory_find((uint64_t)pointer, &block) || block.address != (uint64_t)pointer || block.kind != MemoryKind::device)
    return result(hipErrorInvalidValue);
  issue(queue, [=] {
    if (!memory_free(pointer)) fault("hipFreeAsync: 0x%" PRIx64 " was freed twice", (uint64_t)pointer);
  });
  return hipSuccess;
}

hipError_t hipMallocPitch(void **pointer, size_t *pitch, size_t width, size_t height) {
  if (!pitch || width > SIZE_MAX - 255) return result(hipErrorInvalidValue);
  *pitch = (width + 255) / 256 * 256;
  if (height && *pitch > SIZE_MAX / height) return result(hipErrorOutOfMemory);
  return result(allocate(pointer, *pitch * height, MemoryKind::device));
}

hipError_t hipMallocManaged(void **pointer, size_t bytes, unsigned flags) {
  if (flags != hipMemAttachGlobal) return result(hipErrorInvalidValue);
  return result(allocate(pointer, bytes, MemoryKind::managed));
}

hipError_t hipHostMalloc(void **pointer, size_t bytes, unsigned flags) {
  constexpr unsigned known = hipHostMallocPortable | hipHostMallocMapped | hipHostMallocWriteCombined |
                             hipHostMallocNumaUser | hipHostMallocCoherent | hipHostMallocNonCoherent;
  if (flags & ~known) return result(hipErrorInvalidValue);
  return result(allocate(pointer, bytes, MemoryKind::host));
}

hipError_t hipHostAlloc(void **pointer, size_t bytes, unsigned flags) { return hipHostMalloc(pointer, bytes, flags); }
hipError_t hipMallocHost(void **pointer, size_t bytes) { return hipHostMalloc(pointer, bytes, hipHostMallocDefault); }
hipError_t hipMemAllocHost(void **pointer, size_t bytes) { return hipHostMalloc(pointer, bytes, hipHostMallocDefault); }
hipError_t hipHostFree(void *pointer) { return result(release(pointer, true)); }
hipError_t hipFreeHost(void *pointer) { return hipHostFree(pointer); }

hipError_t hipHostGetDevicePointer(void **device_pointer, void *host_pointer, unsigned flags) {
  Block block;
  if (!device_pointer || flags || !memory_find((uint64_t)host_pointer, &block) || block.kind != MemoryKind::host)
    return result(hipErrorInvalidValue);
  *device_pointer = host_pointer;
  return hipSuccess;
}

hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total) {
  if (!free_bytes || !total) return result(hipErrorInvalidValue);
  *total = runtime().memory_bytes;
  *free_bytes = *total - std::min<uint64_t>(*total, device_memory_used(current_device));
  return hipSuccess;
}

hipError_t hipPointerGetAttributes(hipPointerAttribute_t *attributes, const void *pointer) {
  if (!attributes || !pointer) return result(hipErrorInvalidValue);
  Block block;
  if (!memory_find((uint64_t)pointer, &block)) return result(hipErrorInvalidValue);
  const bool host = block.kind == MemoryKind::host, managed = block.kind == MemoryKind::managed;
  *attributes = {};
  attributes->memoryType = host ? hipMemoryTypeHost : hipMemoryTypeDevice;
  attributes->device = block.device;
  attributes->devicePointer = (void *)pointer;
  attributes->hostPointer = host || managed ? (void *)pointer : nullptr;
  attributes->isManaged = managed;
  return hipSuccess;
}

hipError_t hipMemGetAddressRange(hipDeviceptr_t *start, size_t *bytes, hipDeviceptr_t pointer) {
  Block block;
  if (!memory_find((uint64_t)pointer, &block)) return result(hipErrorInvalidDevicePointer);
  if (start) *start = (hipDeviceptr_t)block.address;
  if (bytes) *bytes = block.bytes;
  return hipSuccess;
}

// Copies -------------------------------------------------------------------------------------------------------------

hipError_t hipMemcpy(void *to, const void *from, size_t bytes, hipMemcpyKind kind) {
  return result(copy(__func__, to, from, bytes, kind, nullptr, true));
}

hipError_t hipMemcpyWithStream(void *to, const void *from, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
  return result(copy(__func__, to, from, bytes, kind, stream, true));
}

hipError_t hipMemcpyAsync(void *to, const void *from, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
  return result(copy(__func__, to, from, bytes, kind, stream, false));
}

hipError_t hipMemcpyHtoD(hipDeviceptr_t to, void *from, size_t bytes) {
  return result(copy(__func__, to, from, bytes, hipMemcpyHostToDevice, nullptr, true));
}

hipError_t hipMemcpyDtoH(void *to, hipDeviceptr_t from, size_t bytes) {
  return result(copy(__func__, to, from, bytes, hipMemcpyDeviceToHost, nullptr, true));
}

hipError_t hipMemcpyDtoD(hipDeviceptr_t to, hipDeviceptr_t from, size_t bytes) {
  return result(copy(__func__, to, from, bytes, hipMemcpyDeviceToDevice, nullptr, true));
}

hipError_t hipMemcpyHtoDAsync(hipDeviceptr_t to, void *from, size_t bytes, hipStream_t stream) {
  return result(copy(__func__, to, from, bytes, hipMemcpyHostToDevice, stream, false));
}

hipError_t hipMemcpyDtoHAsync(void *to, hipDeviceptr_t from, size_t bytes, hipStream_t stream) {
  return result(copy(__func__, to, from, bytes, hipMemcpyDeviceToHost, stream, false));
}

hipError_t hipMemcpyDtoDAsync(hipDeviceptr_t to, hipDeviceptr_t from, size_t bytes, hipStream_t stream) {
  return result(copy(__func__, to, from, bytes, hipMemcpyDeviceToDevice, stream, false));
}

hipError_t hipMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t bytes) {
  if (!is_device(to_device) || !is_device(from_device)) return result(hipErrorInvalidDevice);
  return result(copy(__func__, to, from, bytes, hipMemcpyDeviceToDevice, nullptr, true));
}

hipError_t hipMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                              hipStream_t stream) {
  if (!is_device(to_device) || !is_device(from_device)) return result(hipErrorInvalidDevice);
  return result(copy(__func__, to, from, bytes, hipMemcpyDeviceToDevice, stream, false));
}

hipError_t hipMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                       hipMemcpyKind kind) {
  return result(
      copy(__func__, {(uint8_t *)to, to_pitch}, {(uint8_t *)from, from_pitch}, width, height, kind, nullptr, true));
}

hipError_t hipMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                            hipMemcpyKind kind, hipStream_t stream) {
  return result(
      copy(__func__, {(uint8_t *)to, to_pitch}, {(uint8_t *)from, from_pitch}, width, height, kind, stream, false));
}

hipError_t hipMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset, hipMemcpyKind kind) {
  return result(copy_symbol(__func__, symbol, from, bytes, offset, kind, nullptr, true, true));
}

hipError_t hipMemcpyToSymbolAsync(const void *symbol, const void *from, size_t bytes, size_t offset, hipMemcpyKind kind,
                                  hipStream_t stream) {
  return result(copy_symbol(__func__, symbol, from, bytes, offset, kind, stream, false, true));
}

hipError_t hipMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, hipMemcpyKind kind) {
  return result(copy_symbol(__func__, symbol, to, bytes, offset, kind, nullptr, true, false));
}

hipError_t hipMemcpyFromSymbolAsync(void *to, const void *symbol, size_t bytes, size_t offset, hipMemcpyKind kind,
                                    hipStream_t stream) {
  return result(copy_symbol(__func__, symbol, to, bytes, offset, kind, stream, false, false));
}

hipError_t hipGetSymbolAddress(void **pointer, const void *symbol) {
  if (!pointer) return result(hipErrorInvalidValue);
  size_t bytes;
  return result(find_variable(symbol, (uint8_t **)pointer, &bytes));
}

hipError_t hipGetSymbolSize(size_t *bytes, const void *symbol) {
  if (!bytes) return result(hipErrorInvalidValue);
  uint8_t *address;
  return result(find_variable(symbol, &address, bytes));
}

// Fills --------------------------------------------------------------------------------------------------------------

hipError_t hipMemset(void *to, int value, size_t bytes) {
  return result(fill<uint8_t>(__func__, to, 0, value, bytes, 1, nullptr, true));
}

hipError_t hipMemsetAsync(void *to, int value, size_t bytes, hipStream_t stream) {
  return result(fill<uint8_t>(__func__, to, 0, value, bytes, 1, stream, false));
}

hipError_t hipMemset2D(void *to, size_t pitch, int value, size_t width, size_t height) {
  return result(fill<uint8_t>(__func__, to, pitch, value, width, height, nullptr, true));
}

hipError_t hipMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height, hipStream_t stream) {
  return result(fill<uint8_t>(__func__, to, pitch, value, width, height, stream, false));
}

hipError_t hipMemsetD8(hipDeviceptr_t to, unsigned char value, size_t count) {
  return result(fill<uint8_t>(__func__, to, 0, value, count, 1, nullptr, true));
}

hipError_t hipMemsetD8Async(hipDeviceptr_t to, unsigned char value, size_t count, hipStream_t stream) {
  return result(fill<uint8_t>(__func__, to, 0, value, count, 1, stream, false));
}

hipError_t hipMemsetD16(hipDeviceptr_t to, unsigned short value, size_t count) {
  return result(fill<uint16_t>(__func__, to, 0, value, count, 1, nullptr, true));
}

hipError_t hipMemsetD16Async(hipDeviceptr_t to, unsigned short value, size_t count, hipStream_t stream) {
  return result(fill<uint16_t>(__func__, to, 0, value, count, 1, stream, false));
}

hipError_t hipMemsetD32(hipDeviceptr_t to, int value, size_t count) {
  return result(fill<int>(__func__, to, 0, value, count, 1, nullptr, true));
}

hipError_t hipMemsetD32Async(hipDeviceptr_t to, int value, size_t count, hipStream_t stream) {
  return result(fill<int>(__func__, to, 0, value, count, 1, stream, false));
}

// Streams ------------------------------------------------------------------------------------------------------------

hipError_t hipStreamCreate(hipStream_t *stream) { return result(create_stream(stream, hipStreamDefault, 0)); }
hipError_t hipStreamCreateWithFlags(hipStream_t *stream, unsigned flags) {
  return result(create_stream(stream, flags, 0));
}

hipError_t hipStreamCreateWithPriority(hipStream_t *stream, unsigned flags, int priority) {
  return result(create_stream(stream, flags, std::clamp(priority, -1, 1)));
}

hipError_t hipStreamDestroy(hipStream_t stream) {
  if (!is_stream(stream)) return result(hipErrorInvalidHandle);
  stream_destroy(stream->queue);
  std::lock_guard lock(runtime().mutex);
  runtime().streams.erase(stream);
  delete stream;
  return hipSuccess;
}

hipError_t hipStreamSynchronize(hipStream_t stream) {
  Stream *queue = queue_of(stream);
  if (!queue) return result(hipErrorInvalidHandle);
  // The null stream comes after all blocking ones, even when it has no work of its own.
  if (queue->is_null)
    complete(issue(queue, [] {}));
  else
    complete_stream(queue);
  return hipSuccess;
}

hipError_t hipStreamQuery(hipStream_t stream) {
  Stream *queue = queue_of(stream);
  if (!queue) return result(hipErrorInvalidHandle);
  return result(poll_stream(queue) ? hipSuccess : hipErrorNotReady);
}

hipError_t hipStreamGetFlags(hipStream_t stream, unsigned *flags) {
  if (!flags || !stream) return result(hipErrorInvalidValue);
  if (!is_stream(stream)) return result(hipErrorInvalidHandle);
  *flags = stream->flags;
  return hipSuccess;
}

hipError_t hipStreamGetPriority(hipStream_t stream, int *priority) {
  if (!priority) return result(hipErrorInvalidValue);
  if (stream && !is_stream(stream)) return result(hipErrorInvalidHandle);
  *priority = stream ? stream->priority : 0;
  return hipSuccess;
}

hipError_t hipStreamAddCallback(hipStream_t stream, hipStreamCallback_t callback, void *user_data, unsigned flags) {
  Stream *queue = queue_of(stream);
  if (!queue) return result(hipErrorInvalidHandle);
  if (!callback || flags) return result(hipErrorInvalidValue);
  issue(queue, [=] { callback(stream, hipSuccess, user_data); });
  return hipSuccess;
}

hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned flags) {
  Stream *queue = queue_of(stream);
  if (!queue || !event) return result(hipErrorInvalidHandle);
  if (flags) return result(hipErrorInvalidValue);
  OperationPointer recorded;
  {
    std::lock_guard lock(runtime().mutex);
    if (!runtime().events.count(event)) return result(hipErrorInvalidHandle);
    recorded = event->recorded;
  }
  if (recorded)
    issue(
        queue, [] {}, recorded);
  return hipSuccess;
}

// Events -------------------------------------------------------------------------------------------------------------

hipError_t hipEventCreateWithFlags(hipEvent_t *event, unsigned flags) {
  constexpr unsigned known =
      hipEventBlockingSync | hipEventDisableTiming | hipEventReleaseToDevice | hipEventReleaseToSystem;
  if (!event || flags & ~known) return result(hipErrorInvalidValue);
  *event = new ihipEvent_t{current_device, flags, nullptr};
  std::lock_guard lock(runtime().mutex);
  runtime().events.insert(*event);
  return hipSuccess;
}

hipError_t hipEventCreate(hipEvent_t *event) { return hipEventCreateWithFlags(event, hipEventDefault); }

hipError_t hipEventDestroy(hipEvent_t event) {
  std::lock_guard lock(runtime().mutex);
  if (!runtime().events.erase(event)) return result(hipErrorInvalidHandle);
  delete event;
  return hipSuccess;
}

hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
  Stream *queue = queue_of(stream);
  if (!queue) return result(hipErrorInvalidHandle);
  std::lock_guard lock(runtime().mutex);
  if (!runtime().events.count(event) || event->device != queue->device) return result(hipErrorInvalidHandle);
  event->recorded = issue(queue, [] {});
  return hipSuccess;
}

namespace {
// What an event waits for; nullptr when it was never recorded.
hipError_t recorded_by(hipEvent_t event, OperationPointer *recorded) {
  std::lock_guard lock(runtime().mutex);
  if (!runtime().events.count(event)) return hipErrorInvalidHandle;
  *recorded = event->recorded;
  return hipSuccess;
}
}  // namespace

hipError_t hipEventSynchronize(hipEvent_t event) {
  OperationPointer recorded;
  if (hipError_t error = recorded_by(event, &recorded)) return result(error);
  if (recorded) complete(recorded);
  return hipSuccess;
}

hipError_t hipEventQuery(hipEvent_t event) {
  OperationPointer recorded;
  if (hipError_t error = recorded_by(event, &recorded)) return result(error);
  return result(!recorded || poll(recorded) ? hipSuccess : hipErrorNotReady);
}

// The time between the two in this simulation, not on a device.
hipError_t hipEventElapsedTime(float *milliseconds, hipEvent_t start, hipEvent_t stop) {
  if (!milliseconds) return result(hipErrorInvalidValue);
  std::lock_guard lock(runtime().mutex);
  for (hipEvent_t event : {start, stop})
    if (!runtime().events.count(event) || !event->recorded || event->flags & hipEventDisableTiming)
      return result(hipErrorInvalidHandle);
  if (start->device != stop->device) return result(hipErrorInvalidHandle);
  for (hipEvent_t event : {start, stop})
    if (!is_done(event->recorded)) return hipErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(stop->recorded->ended - start->recorded->ended).count();
  return hipSuccess;
}

// Kernels ------------------------------------------------------------------------------------------------------------

hipError_t hipFuncGetAttributes(hipFuncAttributes *attributes, const void *function) {
  if (!attributes) return result(hipErrorInvalidValue);
  if (lacks_code(function)) return result(hipErrorNoBinaryForGpu);
  const Kernel *kernel;
  if (hipError_t error = find_kernel(function, &kernel)) return result(error);
  *attributes = {};
  attributes->binaryVersion = attributes->ptxVersion = runtime().card->major * 10 + runtime().card->minor;
  attributes->localSizeBytes = kernel->descriptor.private_segment_fixed_size;
  attributes->sharedSizeBytes = kernel->descriptor.group_segment_fixed_size;
  attributes->maxDynamicSharedSizeBytes = runtime().model->lds_bytes - kernel->descriptor.group_segment_fixed_size;
  attributes->maxThreadsPerBlock = kernel->max_workgroup_size;
  attributes->numRegs = kernel->vgprs;
  return hipSuccess;
}

hipError_t hipFuncSetAttribute(const void *function, hipFuncAttribute attribute, int value) {
  const Kernel *kernel;
  if (hipError_t error = find_kernel(function, &kernel)) return result(error);
  const int lds_left = runtime().model->lds_bytes - kernel->descriptor.group_segment_fixed_size;
  if (attribute == hipFuncAttributeMaxDynamicSharedMemorySize && (value < 0 || value > lds_left))
    return result(hipErrorInvalidValue);
  return hipSuccess;
}

hipError_t hipFuncSetCacheConfig(const void *function, hipFuncCache_t) {
  const Kernel *kernel;
  return result(find_kernel(function, &kernel));
}

hipError_t hipOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int block_threads,
                                                        size_t dynamic_lds) {
  if (!blocks || block_threads < 1) return result(hipErrorInvalidValue);
  const Kernel *kernel;
  if (hipError_t error = find_kernel(function, &kernel)) return result(error);
  *blocks = block_threads > (int)kernel->max_workgroup_size ? 0 : resident_blocks(*kernel, block_threads, dynamic_lds);
  return hipSuccess;
}

hipError_t hipOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int block_threads,
                                                                 size_t dynamic_lds, unsigned) {
  return hipOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block_threads, dynamic_lds);
}

}  // extern "C"
