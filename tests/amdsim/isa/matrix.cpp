// Matrix instructions, MFMA and WMMA, from a table of layouts that is generated from AMD's calculator. What AMD does
// not document (order of accumulation, rounding inside, flushing) follows the assumptions declared in docs/AMDSIM.md.
#include <map>

#include "isa.hpp"

namespace amdsim {
namespace {

struct Row {
  const char *architecture, *mnemonic;
  int m, n, k, blocks;
  const char *type_a, *type_b, *type_c, *type_d;
  int registers[4];
  int passes, cycles;
  const char *layout[4];
};

const Row kTable[] = {
#define MATRIX(arch, name, m, n, k, b, ta, tb, tc, td, ra, rb, rc, rd, passes, cycles, la, lb, lc, ld) \
  {arch, name, m, n, k, b, ta, tb, tc, td, {ra, rb, rc, rd}, passes, cycles, {la, lb, lc, ld}},
#include "../matrix_layouts.inc"
#undef MATRIX
};

enum class Type { fp64, fp32, xf32, fp16, bf16, fp8, bf8, int8, int4, int32 };

// Where the elements of a matrix lie, in [block][row][column]: words from the operand's first register on, counted
// through its rows of kLanes, and bits from `shift` on. Flat lists, so that reading a matrix is one loop of vector
// code.
struct Layout {
  std::vector<uint32_t> word, shift;
};

// A row of the table, expanded.
struct Matrix {
  const Row *row;
  Type type[4];
  int bits[4];
  bool half_field[4];  // 16-bit items, one a register, in the half that op_sel[2] picks
  Layout layout[4];
  Layout repeated[2];  // the same elements of A and B in other lanes (WMMA); else empty
  int wave;
  size_t elements(int which) const { return layout[which].word.size(); }
};

// The most elements of an A or B, and of a C or D: 64 lanes with two words of 4 bytes, and with 32 words.
constexpr size_t kMostInputs = 512, kMostResults = 2048;

Type type_of(const Row &row, const std::string &name) {
  if (name == "fp64") return Type::fp64;
  if (name == "fp32") return std::strstr(row.mnemonic, "xf32") ? Type::xf32 : Type::fp32;
  if (name == "fp16") return Type::fp16;
  if (name == "bf16") return Type::bf16;
  if (name == "fp8") return Type::fp8;
  if (name == "bf8") return Type::bf8;
  if (name == "int8" || name == "iu8") return Type::int8;
  if (name == "int4" || name == "iu4") return Type::int4;
  if (name == "int32") return Type::int32;
  fault("the matrix table names the type '%s'", name.c_str());
}

int bits_of(Type type) {
  switch (type) {
    case Type::fp64:
      return 64;
    case Type::fp32:
    case Type::xf32:
    case Type::int32:
      return 32;
    case Type::fp16:
    case Type::bf16:
      return 16;
    case Type::fp8:
    case Type::bf8:
    case Type::int8:
      return 8;
    case Type::int4:
      return 4;
  }
  return 0;
}

// "A i:l0l1l2l3 k:v0v1l4l5 b:": the value of one coordinate for a lane and an item.
int coordinate(const std::string &layout, char name, int lane, int item) {
  const size_t start = layout.find(std::string(" ") + name + ":");
  if (start == std::string::npos) fault("the matrix layout '%s' has no coordinate %c", layout.c_str(), name);
  int value = 0, bit = 0;
  for (size_t i = start + 3; i + 1 < layout.size() + 1 && i < layout.size() && layout[i] != ' '; i += 2)
    value |= ((layout[i] == 'l' ? lane : item) >> (layout[i + 1] - '0') & 1) << bit++;
  return value;
}

// B's lanes exchanged in groups of 32 or 16 (CDNA3 ISA, table 29).
int exchanged_lane(int lane, int blgp) {
  switch (blgp) {
    case 0:
      return lane;
    case 1:
      return lane % 32;
    case 2:
      return lane % 32 + 32;
    case 3:
      return (lane + 16) % 64;
    default:
      return lane % 16 + 16 * (blgp - 4);
  }
}

Matrix expand(const Row &row, int blgp) {
  Matrix matrix;
  matrix.row = &row;
  matrix.wave = std::strncmp(row.architecture, "gfx11", 5) == 0 ? 32 : 64;
  const char *types[] = {row.type_a, row.type_b, row.type_c, row.type_d};
  for (int which = 0; which < 4; which++) {
    matrix.type[which] = type_of(row, types[which]);
    if (which >= 2 && matrix.type[which] == Type::xf32) matrix.type[which] = Type::fp32;
    const int bits = matrix.bits[which] = bits_of(matrix.type[which]);
    const std::string layout = row.layout[which];
    matrix.half_field[which] = layout.find("/half") != std::string::npos;
    const int rows = which == 1 ? row.k : row.m, columns = which == 0 ? row.k : row.n;
    const int items = matrix.half_field[which] ? row.registers[which] : row.registers[which] * 32 / bits;
    const size_t elements = size_t(row.blocks) * rows * columns;
    if (elements > (which < 2 ? kMostInputs : kMostResults)) fault("%s has a larger matrix than any", row.mnemonic);
    constexpr uint32_t kNowhere = ~0u;
    Layout first{std::vector(elements, kNowhere), std::vector(elements, 0u)}, again = first;
    bool repeats = false;
    for (int lane = 0; lane < matrix.wave; lane++)
      for (int item = 0; item < items; item++) {
        const int r = coordinate(layout, which == 1 ? 'k' : 'i', lane, item),
                  c = coordinate(layout, which == 0 ? 'k' : 'j', lane, item);
        const int b = coordinate(layout, 'b', lane, item);
        const size_t index = (size_t(b) * rows + r) * columns + c;
        if (r >= rows || c >= columns || b >= row.blocks)
          fault("the matrix layout of %s leaves its shape", row.mnemonic);
        const int bit = matrix.half_field[which] ? item * 32 : item * bits;
        Layout &place = first.word[index] == kNowhere ? first : again;
        repeats |= &place == &again;
        place.word[index] = uint32_t(bit / 32 * kLanes + (which == 1 ? exchanged_lane(lane, blgp) : lane));
        place.shift[index] = uint32_t(bit % 32);
      }
    for (const uint32_t word : first.word)
      if (word == kNowhere) fault("the matrix layout of %s leaves an element out", row.mnemonic);
    matrix.layout[which] = first;
    if (!repeats) continue;
    if (which >= 2 || std::count(again.word.begin(), again.word.end(), kNowhere))
      fault("the matrix layout of %s repeats some elements only, or results", row.mnemonic);
    matrix.repeated[which] = again;
  }
  return matrix;
}

// Expanded when a program has the instruction, then kept. The decoder, one thread at a time, asks.
const Matrix *matrix_of(const Row &row, int blgp) {
  static std::map<std::pair<const Row *, int>, Matrix> matrices;
  const auto found = matrices.find({&row, blgp});
  return found != matrices.end() ? &found->second
                                 : &matrices.emplace(std::pair(&row, blgp), expand(row, blgp)).first->second;
}

double fp8_value(uint32_t bits, int mantissa_bits, int bias) {  // the "fnuz" kinds: no infinity, no -0, 0x80 is NaN
  if (bits == 0x80) return std::nan("");
  const int sign = bits >> 7, mantissa = int(bits & ((1u << mantissa_bits) - 1)),
            exponent = int(bits >> mantissa_bits & ((1u << (7 - mantissa_bits)) - 1));
  const double magnitude = exponent ? std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)
                                    : std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign ? -magnitude : magnitude;
}

// The values of fp8 or bf8.
const std::vector<float> &fp8_values(Type type) {
  static const auto table = [](int mantissa_bits, int bias) {
    std::vector<float> values(256);
    for (uint32_t i = 0; i < 256; i++) values[i] = float(fp8_value(i, mantissa_bits, bias));
    return values;
  };
  static const std::vector<float> fp8 = table(3, 8), bf8 = table(2, 16);
  return type == Type::fp8 ? fp8 : bf8;
}

// Every element of an operand's registers, shifted to the lowest bits.
void gather(const uint32_t *registers, const Layout &layout, uint32_t mask, uint32_t *out) {
  const size_t n = layout.word.size();
  const uint32_t *word = layout.word.data(), *shift = layout.shift.data();
  for (size_t i = 0; i < n; i++) out[i] = registers[word[i]] >> shift[i] & mask;
}

uint32_t mask_of(int bits) { return bits == 32 ? ~0u : (1u << bits) - 1; }

// The values of 16-bit or smaller floats.
void small_values(Type type, const uint32_t *bits, size_t n, float *out) {
  switch (type) {
    case Type::fp16:
      for (size_t i = 0; i < n; i++) out[i] = half_value(bits[i]);
      break;
    case Type::bf16:
      for (size_t i = 0; i < n; i++) out[i] = std::bit_cast<float>(bits[i] << 16);
      break;
    default: {
      const std::vector<float> &values = fp8_values(type);
      for (size_t i = 0; i < n; i++) out[i] = values[bits[i]];
    }
  }
}

// Reads A or B as floats, in [block][row][column].
void read_small(const Wave &w, const Op &op, const Matrix &matrix, int which, bool flush, float *out) {
  const uint32_t *registers = w.v[op.operand[1 + which].index];
  const Layout &layout = matrix.layout[which], &repeated = matrix.repeated[which];
  const size_t n = matrix.elements(which);
  const Type type = matrix.type[which];
  const uint32_t mask = mask_of(matrix.bits[which]);
  alignas(64) uint32_t bits[kMostInputs];
  gather(registers, layout, mask, bits);
  if (!repeated.word.empty()) {
    alignas(64) uint32_t again[kMostInputs];
    gather(registers, repeated, mask, again);
    uint32_t differences = 0;
    for (size_t i = 0; i < n; i++) differences |= bits[i] ^ again[i];
    for (size_t i = 0; differences; i++)
      if (bits[i] != again[i])
        fault_at(w, op, int(repeated.word[i] % kLanes), "matrix %c must be the same in lanes %d and %d, and is not",
                 "AB"[which], int(layout.word[i] % kLanes), int(repeated.word[i] % kLanes));
  }
  if (type == Type::fp16 || type == Type::bf16) {
    const uint32_t low = op.neg_lo >> which & 1 ? 0x8000 : 0, high = op.neg_hi >> which & 1 ? 0x8000 : 0;
    if (low | high)
      for (size_t i = 0; i < n; i++) bits[i] ^= layout.shift[i] ? high : low;
    const uint32_t exponent = type == Type::fp16 ? 0x7c00 : 0x7f80;
    if (flush)
      for (size_t i = 0; i < n; i++) bits[i] = bits[i] & exponent ? bits[i] : 0;
    small_values(type, bits, n, out);
  } else if (type == Type::fp32 || type == Type::xf32) {
    const uint32_t kept = type == Type::xf32 ? ~0x1fffu : ~0u;
    for (size_t i = 0; i < n; i++) out[i] = std::bit_cast<float>(bits[i] & kept);
  } else if (type == Type::int8 || type == Type::int4) {
    // iu8, iu4: neg says that the operand is signed; plain i8 always is.
    const bool is_signed = matrix.wave == 64 || (op.neg_lo >> which & 1);
    const int unused = 32 - matrix.bits[which];
    for (size_t i = 0; i < n; i++) out[i] = float(is_signed ? int32_t(bits[i] << unused) >> unused : int32_t(bits[i]));
  } else {
    small_values(type, bits, n, out);
  }
  const Row &row = *matrix.row;
  if (which == 0 && op.cbsz) {  // one block of A is given to all
    const size_t size = size_t(row.m) * row.k;
    if (1 << op.cbsz != row.blocks || op.abid >= row.blocks)
      fault_at(w, op, -1, "CBSZ for fewer than all blocks is documented in two ways; not implemented");
    const std::vector<float> one(out + op.abid * size, out + (op.abid + 1) * size);
    for (int b = 0; b < row.blocks; b++) std::copy(one.begin(), one.end(), out + b * size);
  }
}

// The bits of C's elements.
void read_c(const Wave &w, const Op &op, const Matrix &matrix, uint32_t *out) {
  const Operand &operand = op.operand[3];
  const size_t n = matrix.elements(2);
  const uint32_t mask = mask_of(matrix.bits[2]);
  const uint32_t half = matrix.half_field[2] ? (op.op_sel >> 2 & 1) * 16 : 0;
  if (operand.kind == Operand::constant) {
    std::fill_n(out, n, uint32_t(operand.bits));
  } else if (operand.kind == Operand::vector) {
    gather(w.v[operand.index], matrix.layout[2], ~0u, out);
    if (mask != ~0u)
      for (size_t i = 0; i < n; i++) out[i] = out[i] >> half & mask;
  } else {
    std::fill_n(out, n, w.read_scalar(operand.index) >> half & mask);
  }
}

// C's elements as floats.
void read_c(const Wave &w, const Op &op, const Matrix &matrix, float *out) {
  const size_t n = matrix.elements(2);
  alignas(64) uint32_t bits[kMostResults];
  read_c(w, op, matrix, bits);
  if (matrix.bits[2] == 16 && op.operand[3].kind != Operand::constant)
    small_values(matrix.type[2], bits, n, out);
  else
    std::memcpy(out, bits, n * sizeof *out);
  if (op.neg_hi >> 2 & 1)
    for (size_t i = 0; i < n; i++) out[i] = std::fabs(out[i]);
  if (op.neg_lo >> 2 & 1)
    for (size_t i = 0; i < n; i++) out[i] = -out[i];
}

void write_d(Wave &w, const Op &op, const Matrix &matrix, const uint32_t *bits) {
  uint32_t *registers = w.v[op.operand[0].index];
  const std::vector<uint32_t> &word = matrix.layout[3].word;
  if (matrix.bits[3] == 32) {
    for (size_t i = 0; i < word.size(); i++) registers[word[i]] = bits[i];
    return;
  }
  const uint32_t shift = (op.op_sel >> 2 & 1) * 16;  // 16-bit results lie one a register
  for (size_t i = 0; i < word.size(); i++)
    registers[word[i]] = (registers[word[i]] & ~(0xffffu << shift)) | (bits[i] & 0xffff) << shift;
}

void count(Wave &w, const Row &row) {
  w.counts->matrix_cycles += uint64_t(row.cycles);
  w.counts->matrix_flops += 2ull * row.m * row.n * row.k * row.blocks;
}

enum class Order {
  sequential,    // one fused multiply-add a k, from C on (f32)
  groups_of_4,   // gfx90a, 16 bits: (p0 + p1) + (p2 + p3), rounded at each step and flushed, then onto the sum
  groups_exact,  // gfx942, 16 bits and less: groups of 8 exact products and the sum, rounded once
  pairs          // gfx1100: two exact products and the sum, rounded once
};

template <class Floats>
Floats flushed_all(Floats x) {
  typedef decltype(x == x) Bits;
  const Bits bits = reinterpret_cast<Bits>(x);
  return reinterpret_cast<Floats>(bits & (Bits((bits & 0x7f800000) != 0) | INT32_MIN));
}

// C columns of one row of D, in place of C's. A row of B is N long. A and B are floats, or doubles where products are
// exact.
template <Order O, int C, int N, class T>
void multiply_row(const T *a, const T *b, float *d, int K, int group) {
  using Row = Pack<float, C>;
  using Vector = typename Row::Vector;
  Vector sum = Row::load(d);
  if constexpr (O == Order::sequential) {
    for (int k = 0; k < K; k++)
      for (int j = 0; j < C; j++) sum[j] = __builtin_fmaf(a[k], b[k * N + j], sum[j]);
  } else if constexpr (O == Order::groups_of_4) {
    sum = flushed_all(sum);
    for (int k = 0; k < K; k += 4) {
      Vector product[4];
      for (int g = 0; g < 4; g++)  // K may be less than 4
        product[g] = k + g < K ? flushed_all(a[k + g] * Row::load(b + (k + g) * N)) : Vector{};
      const Vector first = flushed_all(product[0] + product[1]), second = flushed_all(product[2] + product[3]);
      sum = flushed_all(sum + flushed_all(first + second));
    }
  } else {
    using Exact = Pack<double, C>;
    for (int k = 0; k < K; k += group) {
      auto exact = __builtin_convertvector(sum, typename Exact::Vector);
      for (int g = k; g < k + group; g++) exact += a[g] * Exact::load(b + g * N);
      sum = __builtin_convertvector(exact, Vector);
    }
  }
  std::memcpy(d, &sum, sizeof sum);
}

template <Order O, int N>
void run_float(Wave &w, const Op &op) {
  const Matrix &matrix = *static_cast<const Matrix *>(op.extra);
  const Row &row = *matrix.row;
  using T = std::conditional_t<O == Order::groups_exact || O == Order::pairs, double, float>;
  alignas(64) float values[kMostInputs];
  alignas(64) T inputs[2][kMostInputs];
  for (int which = 0; which < 2; which++) {
    read_small(w, op, matrix, which, O == Order::groups_of_4, values);
    std::copy_n(values, matrix.elements(which), inputs[which]);
  }
  alignas(64) float d[kMostResults];
  read_c(w, op, matrix, d);
  const int group = O == Order::pairs ? 2 : std::min(row.k, matrix.type[0] == Type::xf32 ? 4 : 8);
  constexpr int kColumns = std::min(N, 16);  // at once
  for (int i = 0; i < row.blocks * row.m; i++)
    for (int j = 0; j < N; j += kColumns)
      multiply_row<O, kColumns, N>(inputs[0] + i * row.k, inputs[1] + i / row.m * row.k * N + j, d + i * N + j, row.k,
                                   group);
  const size_t n = matrix.elements(3);
  alignas(64) uint32_t bits[kMostResults];
  if (matrix.type[3] == Type::fp16)
    for (size_t i = 0; i < n; i++) bits[i] = Half::from(double(d[i])).bits;
  else if (matrix.type[3] == Type::bf16)
    for (size_t i = 0; i < n; i++) bits[i] = bf16_bits(d[i]);
  else
    std::memcpy(bits, d, n * sizeof *bits);
  write_d(w, op, matrix, bits);
  count(w, row);
}

void run_integer(Wave &w, const Op &op) {
  const Matrix &matrix = *static_cast<const Matrix *>(op.extra);
  const Row &row = *matrix.row;
  float a[kMostInputs], b[kMostInputs];
  read_small(w, op, matrix, 0, false, a);
  read_small(w, op, matrix, 1, false, b);
  uint32_t d[kMostResults];
  read_c(w, op, matrix, d);
  for (int block = 0; block < row.blocks; block++)
    for (int i = 0; i < row.m; i++)
      for (int j = 0; j < row.n; j++) {
        uint32_t &result = d[(size_t(block) * row.m + i) * row.n + j];
        int64_t sum = int32_t(result);
        for (int k = 0; k < row.k; k++)
          sum +=
              int64_t(a[(size_t(block) * row.m + i) * row.k + k]) * int64_t(b[(size_t(block) * row.k + k) * row.n + j]);
        if (op.clamp) sum = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
        result = uint32_t(sum);
      }
  write_d(w, op, matrix, d);
  count(w, row);
}

void run_double(Wave &w, const Op &op) {
  const Matrix &matrix = *static_cast<const Matrix *>(op.extra);
  const Row &row = *matrix.row;
  const auto read = [&](int which, size_t i) {
    const Operand &operand = op.operand[1 + which];
    uint64_t bits = operand.bits;
    if (operand.kind != Operand::constant) {
      const uint32_t *low = w.v[operand.index] + matrix.layout[which].word[i];
      bits = uint64_t(low[kLanes]) << 32 | low[0];
    }
    const double value = std::bit_cast<double>(bits);
    return op.blgp >> which & 1 ? -value : value;  // gfx942: the field negates A, B, C
  };
  std::vector<double> result(matrix.elements(3));
  for (int block = 0; block < row.blocks; block++)
    for (int i = 0; i < row.m; i++)
      for (int j = 0; j < row.n; j++) {
        const size_t at = (size_t(block) * row.m + i) * row.n + j;
        double sum = read(2, at);
        for (int k = 0; k < row.k; k++)
          sum = std::fma(read(0, (size_t(block) * row.m + i) * row.k + k),
                         read(1, (size_t(block) * row.k + k) * row.n + j), sum);
        result[at] = sum;
      }
  for (size_t i = 0; i < result.size(); i++) {
    uint32_t *low = w.v[op.operand[0].index] + matrix.layout[3].word[i];
    const uint64_t bits = std::bit_cast<uint64_t>(result[i]);
    low[0] = uint32_t(bits);
    low[kLanes] = uint32_t(bits >> 32);
  }
  count(w, row);
}

void refuse_blgp(Wave &w, const Op &op) { fault_at(w, op, -1, "BLGP is not allowed here"); }

}  // namespace

void define_matrix() {
  for (const Row &row : kTable) {
    const std::string architecture = row.architecture;
    const Type type = type_of(row, row.type_a);
    const auto of_width = [&]<Order O>(std::integral_constant<Order, O>) -> Handler {
      return row.n == 4 ? run_float<O, 4> : row.n == 16 ? run_float<O, 16> : run_float<O, 32>;
    };
    Handler run;
    if (type == Type::fp64)
      run = run_double;
    else if (type == Type::int8 || type == Type::int4)
      run = run_integer;
    else if (type == Type::fp32)
      run = of_width(std::integral_constant<Order, Order::sequential>());
    else if (architecture == "gfx90a")
      run = of_width(std::integral_constant<Order, Order::groups_of_4>());
    else if (architecture == "gfx942")
      run = of_width(std::integral_constant<Order, Order::groups_exact>());
    else
      run = of_width(std::integral_constant<Order, Order::pairs>());
    Definition &d = define(architecture + " " + row.mnemonic, Class::matrix, run, run);
    d.handles_modifiers = true;
    d.prepare = [&row, type, architecture](Op &op) {
      op.extra = matrix_of(row, type == Type::fp64 ? 0 : op.blgp);
      if (op.op_sel_hi == 0xff) op.op_sel_hi = 0;
      if (type == Type::fp64)
        type_constant<double>(op, 3);
      else if (type == Type::int8 || type == Type::int4)
        type_constant<uint32_t>(op, 3);
      else
        type_constant<float>(op, 3);  // inline constants of C are single precision in every form
      if (type == Type::fp64 && architecture == "gfx90a" && op.blgp) op.run = refuse_blgp;
    };
  }
}

}  // namespace amdsim
