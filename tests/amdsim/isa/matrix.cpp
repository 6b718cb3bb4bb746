// Matrix instructions, MFMA and WMMA, from a table of layouts that is generated from AMD's calculator. What AMD does
// not document (order of accumulation, rounding inside, flushing) follows the assumptions declared in docs/AMDSIM.md.
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

// Where an element lies: word of the operand, lane, bit within the word.
struct Place {
  uint8_t word, lane, shift;
};

// A row of the table, expanded: element (block, row, column) of each matrix to its places (two where lanes repeat it).
struct Matrix {
  const Row *row;
  Type type[4];
  int bits[4];
  bool half_field[4];  // 16-bit items, one a register, in the half that op_sel[2] picks
  std::vector<Place> place[4];
  std::vector<Place> repeated[4];  // the same element in another lane (WMMA's A and B)
  int wave;
};

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

Matrix expand(const Row &row) {
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
    matrix.place[which].assign(size_t(row.blocks) * rows * columns, Place{255, 0, 0});
    matrix.repeated[which].assign(matrix.place[which].size(), Place{255, 0, 0});
    for (int lane = 0; lane < matrix.wave; lane++)
      for (int item = 0; item < items; item++) {
        const int r = coordinate(layout, which == 1 ? 'k' : 'i', lane, item),
                  c = coordinate(layout, which == 0 ? 'k' : 'j', lane, item);
        const int b = coordinate(layout, 'b', lane, item);
        const size_t index = (size_t(b) * rows + r) * columns + c;
        if (r >= rows || c >= columns || b >= row.blocks)
          fault("the matrix layout of %s leaves its shape", row.mnemonic);
        const int bit = matrix.half_field[which] ? item * 32 : item * bits;
        const Place place{uint8_t(bit / 32), uint8_t(lane), uint8_t(bit % 32)};
        (matrix.place[which][index].word == 255 ? matrix.place : matrix.repeated)[which][index] = place;
      }
    for (const Place &place : matrix.place[which])
      if (place.word == 255) fault("the matrix layout of %s leaves an element out", row.mnemonic);
  }
  return matrix;
}

double fp8_value(uint32_t bits, int mantissa_bits, int bias) {  // the "fnuz" kinds: no infinity, no -0, 0x80 is NaN
  if (bits == 0x80) return std::nan("");
  const int sign = bits >> 7, mantissa = int(bits & ((1u << mantissa_bits) - 1)),
            exponent = int(bits >> mantissa_bits & ((1u << (7 - mantissa_bits)) - 1));
  const double magnitude = exponent ? std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)
                                    : std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign ? -magnitude : magnitude;
}

const std::vector<float> halves = [] {
  std::vector<float> table(65536);
  for (uint32_t i = 0; i < 65536; i++) table[i] = float(Half{uint16_t(i)}.value());
  return table;
}();

// The value of a 16-bit or smaller float, without arithmetic: halves are looked up.
inline float small_value(Type type, uint32_t bits) {
  switch (type) {
    case Type::fp16:
      return halves[bits];
    case Type::bf16:
      return std::bit_cast<float>(bits << 16);
    case Type::fp8:
      return float(fp8_value(bits, 3, 8));
    case Type::bf8:
      return float(fp8_value(bits, 2, 16));
    default:
      return 0;
  }
}

uint32_t word_of(const Wave &w, const Operand &operand, int word, int lane) { return w.v[operand.index + word][lane]; }

bool denormal_input(Type type, uint32_t bits) {
  return type == Type::fp16 ? (bits & 0x7c00) == 0 : type == Type::bf16 && (bits & 0x7f80) == 0;
}

// Reads A or B as floats, in [block][row][column].
void read_small(const Wave &w, const Op &op, const Matrix &matrix, int which, bool flush, float *out) {
  const Operand &operand = op.operand[1 + which];
  const Type type = matrix.type[which];
  const uint32_t mask = matrix.bits[which] == 32 ? ~0u : (1u << matrix.bits[which]) - 1;
  const Row &row = *matrix.row;
  for (size_t i = 0; i < matrix.place[which].size(); i++) {
    Place place = matrix.place[which][i];
    if (which == 1 && op.blgp) {  // B's lanes exchanged in groups of 32 or 16 (CDNA3 ISA, table 29)
      const int l = place.lane;
      place.lane = uint8_t(op.blgp == 1   ? l % 32
                           : op.blgp == 2 ? l % 32 + 32
                           : op.blgp == 3 ? (l + 16) % 64
                                          : l % 16 + 16 * (op.blgp - 4));
    }
    const uint32_t word = word_of(w, operand, place.word, place.lane);
    uint32_t bits = word >> place.shift & mask;
    if (const Place &again = matrix.repeated[which][i]; again.word != 255)
      if ((word_of(w, operand, again.word, again.lane) >> again.shift & mask) != bits)
        fault_at(w, op, again.lane, "matrix %c must be the same in lanes %d and %d, and is not", "AB"[which],
                 place.lane, again.lane);
    if (type == Type::fp16 || type == Type::bf16) {
      if ((place.shift ? op.neg_hi : op.neg_lo) >> which & 1) bits ^= 0x8000;
      if (flush && denormal_input(type, bits)) bits = 0;
      out[i] = small_value(type, bits);
    } else if (type == Type::fp32) {
      out[i] = std::bit_cast<float>(bits);
    } else if (type == Type::xf32) {
      out[i] = std::bit_cast<float>(bits & ~0x1fffu);
    } else if (type == Type::int8 || type == Type::int4) {
      // iu8, iu4: neg says that the operand is signed; plain i8 always is.
      const bool is_signed = matrix.wave == 64 || (op.neg_lo >> which & 1);
      const int width = matrix.bits[which];
      out[i] = is_signed ? float(int32_t(bits << (32 - width)) >> (32 - width)) : float(bits);
    } else {
      out[i] = small_value(type, bits);
    }
  }
  if (which == 0 && op.cbsz) {  // one block of A is given to all
    const size_t size = size_t(row.m) * row.k;
    if (1 << op.cbsz != row.blocks || op.abid >= row.blocks)
      fault_at(w, op, -1, "CBSZ for fewer than all blocks is documented in two ways; not implemented");
    std::vector<float> one(out + op.abid * size, out + (op.abid + 1) * size);
    for (int b = 0; b < row.blocks; b++) std::copy(one.begin(), one.end(), out + b * size);
  }
}

uint32_t read_c(const Wave &w, const Op &op, const Matrix &matrix, size_t i) {
  const Operand &operand = op.operand[3];
  if (operand.kind == Operand::constant) return uint32_t(operand.bits);
  const Place &place = matrix.place[2][i];
  const int shift = matrix.half_field[2] ? (op.op_sel >> 2 & 1) * 16 : place.shift;
  const uint32_t word =
      operand.kind == Operand::vector ? word_of(w, operand, place.word, place.lane) : w.read_scalar(operand.index);
  return word >> shift & (matrix.bits[2] == 32 ? ~0u : 0xffffu);
}

float c_value(const Wave &w, const Op &op, const Matrix &matrix, size_t i) {
  const uint32_t bits = read_c(w, op, matrix, i);
  float c = matrix.bits[2] == 16 && op.operand[3].kind != Operand::constant ? small_value(matrix.type[2], bits)
                                                                            : std::bit_cast<float>(bits);
  if (op.neg_hi >> 2 & 1) c = std::fabs(c);
  if (op.neg_lo >> 2 & 1) c = -c;
  return c;
}

void write_d(Wave &w, const Op &op, const Matrix &matrix, size_t i, uint32_t bits) {
  const Place &place = matrix.place[3][i];
  uint32_t &word = w.v[op.operand[0].index + place.word][place.lane];
  if (matrix.bits[3] == 32) {
    word = bits;
  } else {
    const int shift = matrix.half_field[3] ? (op.op_sel >> 2 & 1) * 16 : place.shift;
    word = (word & ~(0xffffu << shift)) | (bits & 0xffff) << shift;
  }
}

enum class Order {
  sequential,    // one fused multiply-add a k, from C on (f32)
  groups_of_4,   // gfx90a, 16 bits: (p0 + p1) + (p2 + p3), rounded at each step and flushed, then onto the sum
  groups_exact,  // gfx942, 16 bits and less: groups of 8 exact products and the sum, rounded once
  pairs          // gfx1100: two exact products and the sum, rounded once
};

template <Order O>
void run_float(Wave &w, const Op &op) {
  const Matrix &matrix = *static_cast<const Matrix *>(op.extra);
  const Row &row = *matrix.row;
  const int M = row.m, N = row.n, K = row.k;
  static thread_local std::vector<float> a, b;
  a.resize(matrix.place[0].size());
  b.resize(matrix.place[1].size());
  constexpr bool flush = O == Order::groups_of_4;
  read_small(w, op, matrix, 0, flush, a.data());
  read_small(w, op, matrix, 1, flush, b.data());
  std::vector<uint32_t> result(matrix.place[3].size());
  alignas(64) float sum[32];
  for (int block = 0; block < row.blocks; block++)
    for (int i = 0; i < M; i++) {
      const size_t first = (size_t(block) * M + i) * N;
      for (int j = 0; j < N; j++) sum[j] = c_value(w, op, matrix, first + j);
      if (flush)
        for (int j = 0; j < N; j++) sum[j] = flushed(sum[j]);
      const float *x = &a[(size_t(block) * M + i) * K];
      const float *y = &b[size_t(block) * K * N];
      if constexpr (O == Order::sequential) {
        for (int k = 0; k < K; k++)
          for (int j = 0; j < N; j++) sum[j] = __builtin_fmaf(x[k], y[k * N + j], sum[j]);
      } else if constexpr (O == Order::groups_of_4) {
        static constexpr float none[32] = {};  // where K is less than 4
        for (int k = 0; k < K; k += 4) {
          const auto product = [&](int g, int j) {
            return flushed((k + g < K ? x[k + g] : 0.0f) * (k + g < K ? y + (k + g) * N : none)[j]);
          };
          for (int j = 0; j < N; j++)
            sum[j] = flushed(sum[j] +
                             flushed(flushed(product(0, j) + product(1, j)) + flushed(product(2, j) + product(3, j))));
        }
      } else {
        const int group = O == Order::pairs ? 2 : std::min(K, matrix.type[0] == Type::xf32 ? 4 : 8);
        for (int k = 0; k < K; k += group)
          for (int j = 0; j < N; j++) {
            double exact = sum[j];
            for (int g = 0; g < group; g++) exact += double(x[k + g]) * double(y[(k + g) * N + j]);
            sum[j] = float(exact);
          }
      }
      for (int j = 0; j < N; j++)
        result[first + j] = matrix.type[3] == Type::fp16   ? Half::from(double(sum[j])).bits
                            : matrix.type[3] == Type::bf16 ? bf16_bits(sum[j])
                                                           : std::bit_cast<uint32_t>(sum[j]);
    }
  for (size_t i = 0; i < result.size(); i++) write_d(w, op, matrix, i, result[i]);
  w.counts->matrix_cycles += uint64_t(row.cycles);
  w.counts->matrix_flops += 2ull * M * N * K * row.blocks;
}

void run_integer(Wave &w, const Op &op) {
  const Matrix &matrix = *static_cast<const Matrix *>(op.extra);
  const Row &row = *matrix.row;
  std::vector<float> a(matrix.place[0].size()), b(matrix.place[1].size());
  read_small(w, op, matrix, 0, false, a.data());
  read_small(w, op, matrix, 1, false, b.data());
  std::vector<uint32_t> result(matrix.place[3].size());
  for (int block = 0; block < row.blocks; block++)
    for (int i = 0; i < row.m; i++)
      for (int j = 0; j < row.n; j++) {
        const size_t at = (size_t(block) * row.m + i) * row.n + j;
        int64_t sum = int32_t(read_c(w, op, matrix, at));
        for (int k = 0; k < row.k; k++)
          sum +=
              int64_t(a[(size_t(block) * row.m + i) * row.k + k]) * int64_t(b[(size_t(block) * row.k + k) * row.n + j]);
        if (op.clamp) sum = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
        result[at] = uint32_t(sum);
      }
  for (size_t i = 0; i < result.size(); i++) write_d(w, op, matrix, i, result[i]);
  w.counts->matrix_cycles += uint64_t(row.cycles);
  w.counts->matrix_flops += 2ull * row.m * row.n * row.k * row.blocks;
}

void run_double(Wave &w, const Op &op) {
  const Matrix &matrix = *static_cast<const Matrix *>(op.extra);
  const Row &row = *matrix.row;
  const auto read = [&](int which, size_t i) {
    const Operand &operand = op.operand[1 + which];
    uint64_t bits;
    if (operand.kind == Operand::constant) {
      bits = operand.bits;
    } else {
      const Place &place = matrix.place[which][i];
      bits =
          uint64_t(word_of(w, operand, place.word + 1, place.lane)) << 32 | word_of(w, operand, place.word, place.lane);
    }
    const double value = std::bit_cast<double>(bits);
    return op.blgp >> which & 1 ? -value : value;  // gfx942: the field negates A, B, C
  };
  std::vector<double> result(matrix.place[3].size());
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
    const Place &place = matrix.place[3][i];
    const uint64_t bits = std::bit_cast<uint64_t>(result[i]);
    w.v[op.operand[0].index + place.word][place.lane] = uint32_t(bits);
    w.v[op.operand[0].index + place.word + 1][place.lane] = uint32_t(bits >> 32);
  }
  w.counts->matrix_cycles += uint64_t(row.cycles);
  w.counts->matrix_flops += 2ull * row.m * row.n * row.k * row.blocks;
}

void refuse_blgp(Wave &w, const Op &op) { fault_at(w, op, -1, "BLGP is not allowed here"); }

}  // namespace

void define_matrix() {
  for (const Row &row : kTable) {
    auto matrix = std::make_shared<Matrix>(expand(row));
    const Type type = matrix->type[0];
    const std::string architecture = row.architecture;
    Handler run;
    if (type == Type::fp64)
      run = run_double;
    else if (type == Type::int8 || type == Type::int4)
      run = run_integer;
    else if (type == Type::fp32)
      run = run_float<Order::sequential>;
    else if (architecture == "gfx90a")
      run = run_float<Order::groups_of_4>;
    else if (architecture == "gfx942")
      run = run_float<Order::groups_exact>;
    else
      run = run_float<Order::pairs>;
    Definition &d = define(architecture + " " + row.mnemonic, Class::matrix, run, run);
    d.handles_modifiers = true;
    d.prepare = [matrix, architecture](Op &op) {
      op.extra = matrix.get();
      if (op.op_sel_hi == 0xff) op.op_sel_hi = 0;
      if (matrix->type[0] == Type::fp64)
        type_constant<double>(op, 3);
      else if (matrix->type[0] == Type::int8 || matrix->type[0] == Type::int4)
        type_constant<uint32_t>(op, 3);
      else
        type_constant<float>(op, 3);  // inline constants of C are single precision in every form
      if (matrix->type[0] == Type::fp64 && architecture == "gfx90a" && op.blgp) op.run = refuse_blgp;
    };
  }
}

}  // namespace amdsim
