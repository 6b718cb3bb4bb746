// The state of a simulated compute unit as one workgroup sees it: waves with their registers, LDS, scratch; and the
// decoded instructions that change it. Registers lie row by row, one 32-bit value a lane, so that a loop over the lanes
// of an instruction is a loop over consecutive words, which the compiler turns into vector code.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine.hpp"
#include "memory.hpp"

namespace amdsim {

constexpr int kLanes = 64;  // words of a row; a wave of 32 uses the first half

// Rows of the vector register file. The last ones belong to no program: DPP and SDWA forms keep a changed source there.
constexpr int kAccumulator = 256;  // a0
constexpr int kTemporary = 512;
constexpr int kRows = kTemporary + 8;

// Places in the scalar register file: s0 to s105, then those with names. (Our numbering; the decoder goes by name.)
enum ScalarRegister : uint16_t {
  kVcc = 106,
  kTrapTemporary = 108,
  kM0 = 124,
  kNull = 125,  // reads zero, writes vanish
  kExec = 126,
  kFlatScratch = 128,
  kXnackMask = 130,
  kSharedBase = 132,  // constants of the wave, two words each
  kPrivateBase = 134,
  kNullHigh = 136,
  kScc = 138,  // src_scc, src_vccz, src_execz: filled when read
  kVccz = 139,
  kExecz = 140,
  kScalars = 144
};

// Upper halves of the flat addresses that mean LDS and scratch; the low 16 bits are zero, as SH_MEM_BASES demands.
constexpr uint32_t kPrivateAperture = 0x00010000u, kSharedAperture = 0x00020000u;

// Upper half of the address that stands for the buffer of calls to the host: nothing is there.
constexpr uint32_t kHostcallAperture = 0x00030000u;

enum class Class : uint8_t {
  valu,
  packed,
  transcendental,
  matrix,
  salu,
  branch,
  scalar_memory,
  lds,
  vector_memory,
  other,
  count
};
constexpr int kClasses = int(Class::count);
extern const char *const kClassNames[kClasses];

struct Wave;
struct Op;
using Handler = void (*)(Wave &, const Op &);

struct Operand {
  enum Kind : uint8_t { none, vector, scalar, constant, off } kind = none;
  uint8_t words = 1;  // registers that the operand spans
  bool negate = false, absolute = false, sign_extend = false;
  bool high_half = false;  // v1.h, or op_sel of this operand
  bool written_as_float = false, written_as_hex = false;
  uint16_t index = 0;  // row, or scalar register
  double real = 0;     // a constant as the disassembler wrote it
  uint64_t bits = 0;   // …and as this instruction reads it, once bound
};

// DPP and SDWA controls, kept apart because few instructions have them.
struct LaneControl {
  enum Pattern : uint8_t {
    none,
    quad_perm,
    row_shl,
    row_shr,
    row_ror,
    wave_shl,
    wave_shr,
    wave_rol,
    wave_ror,
    row_mirror,
    row_half_mirror,
    row_bcast15,
    row_bcast31,
    row_share,
    row_xmask,
    dpp8
  } pattern = none;
  uint8_t amount = 0;
  uint8_t select[8] = {};
  uint8_t row_mask = 15, bank_mask = 15;
  bool bound_control = false, fetch_inactive = false;
  bool sdwa = false;
  uint8_t destination_select = 6, source_select[2] = {6, 6};  // 0-3 byte, 4-5 word, 6 dword
  uint8_t destination_unused = 0;                             // 0 zeros, 1 sign, 2 preserve
};

struct alignas(64) Op {  // what most instructions need lies in the first two cache lines
  Handler run = nullptr;
  Class kind = Class::other;
  uint8_t operands = 0;
  bool clamp = false, returns = false /* glc, sc0 */, offset_in_register = false, index_in_register = false;
  uint8_t op_sel = 0, op_sel_hi = 0xff, neg_lo = 0, neg_hi = 0;
  uint8_t cbsz = 0, abid = 0, blgp = 0;
  uint8_t bytes = 0;  // length of the encoding
  Operand operand[7];
  int32_t offset = 0, offset0 = 0, offset1 = 0;
  int32_t target = -1;                 // branches: index of the instruction
  uint32_t immediate = 0;              // s_waitcnt, hwreg, swizzle…
  const void *extra = nullptr;         // the matrix layout
  std::shared_ptr<LaneControl> lanes;  // DPP, SDWA
  std::shared_ptr<Op> inner, second;   // the plain form under DPP and SDWA; the other half of a dual instruction
  uint64_t address = 0;                // in simulated memory
  std::string mnemonic, text;
};

struct Counts {
  uint64_t instructions[kClasses] = {};
  uint64_t lanes[kClasses] = {};  // active lanes, summed
  uint64_t matrix_cycles = 0, matrix_flops = 0;
  uint64_t global_bytes_read = 0, global_bytes_written = 0;
  uint64_t segments64 = 0, segments128 = 0;  // distinct in each access
  uint64_t lds_cycles = 0, lds_conflict_cycles = 0;
  uint64_t footprint = 0;  // bytes of distinct 64-byte lines, each counted once a launch
  uint64_t barriers = 0;
  void add(const Counts &other);
};

struct Workgroup;

enum class Status : uint8_t { ready, at_barrier, ended };

// Bit l of a mask as the word of lane l, 0 or 1. In halves: shifts of 32 bits are quicker.
inline void spread_bits(uint64_t bits, uint32_t *words) {
  const uint32_t low = uint32_t(bits), high = uint32_t(bits >> 32);
  for (uint32_t l = 0; l < 32; l++) words[l] = low >> l & 1;
  for (uint32_t l = 0; l < 32; l++) words[32 + l] = high >> l & 1;
}

struct Wave {
  uint32_t (*v)[kLanes] = nullptr;         // kRows rows
  alignas(64) uint32_t mask[kLanes] = {};  // exec, a word a lane: 0 or ~0
  uint32_t s[kScalars] = {};
  bool scc = false;
  uint64_t all_lanes = 0;  // as many ones as the wave has lanes
  int active = 0;          // lanes that exec enables
  const Op *pc = nullptr, *next = nullptr;
  bool stop = false;  // leave the interpreter's loop
  Status status = Status::ready;
  uint32_t mode = 0;     // MODE: round (3:0), denormals (7:4), dx10_clamp (8), ieee (9)
  bool flush32 = false;  // MODE says that single denormals are flushed
  int number = 0;        // of the wave in its group
  int size = 64;
  Workgroup *group = nullptr;
  uint64_t scratch = 0;      // address of this wave's scratch
  uint64_t scratch_end = 0;  // past the last byte of it that was written
  Counts *counts = nullptr;

  uint64_t exec() const { return uint64_t(s[kExec + 1]) << 32 | s[kExec]; }
  uint64_t vcc() const { return size == 32 ? s[kVcc] : uint64_t(s[kVcc + 1]) << 32 | s[kVcc]; }
  void set_exec(uint64_t value) {
    value &= all_lanes;
    s[kExec] = uint32_t(value);
    s[kExec + 1] = uint32_t(value >> 32);
    active = __builtin_popcountll(value);
    spread_bits(value, mask);
    for (uint32_t &word : mask) word = 0u - word;
  }
  uint32_t read_scalar(int index) const {
    if (index < kScc) [[likely]]
      return s[index];
    if (index == kScc) return scc;
    if (index == kVccz) return vcc() == 0;
    return exec() == 0;
  }
  void write_scalar(int index, uint32_t value) {
    if (index == kNull) return;
    s[index] = value;
    if (index == kExec || index == kExec + 1) [[unlikely]]
      set_exec(exec());
  }
};

// Who touched each byte of LDS since the last barrier: 0 nobody, else wave + 1, or several waves.
struct LdsShadow {
  static constexpr uint8_t kSeveral = 255;
  std::vector<uint8_t> writer, reader, atomic;
  uint32_t low = ~0u, high = 0;  // only bytes from `low` to before `high` were touched
  void touch(uint32_t from, uint32_t end) {
    low = std::min(low, from);
    high = std::max(high, end);
  }
  void clear() {
    for (std::vector<uint8_t> *who : {&writer, &reader, &atomic})
      if (low < high) std::fill(who->begin() + low, who->begin() + high, 0);
    low = ~0u;
    high = 0;
  }
  void resize(size_t bytes) {
    for (std::vector<uint8_t> *who : {&writer, &reader, &atomic}) who->resize(bytes);
  }
};

struct Workgroup {
  const Kernel *kernel = nullptr;
  const DecodedText *text = nullptr;
  Dim3 id;
  bool gfx11 = false;
  uint32_t launch = 0;  // number of the launch
  std::vector<uint8_t> lds;
  LdsShadow lds_shadow;
  uint32_t scratch_bytes = 0;  // a lane
  std::vector<Wave> waves;
};

// Ends the program with the message and where it happened: kernel, group, wave, lane (-1: the wave), instruction.
[[noreturn, gnu::format(printf, 4, 5)]] void fault_at(const Wave &wave, const Op &op, int lane, const char *format,
                                                      ...);

}  // namespace amdsim
