#include "decoder.hpp"

#include <llvm-c/Disassembler.h>
#include <llvm-c/Target.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "fault.hpp"
#include "isa/isa.hpp"

namespace amdsim {
namespace {

struct NamedScalar {
  const char *name;
  uint16_t index;
  uint8_t words;
};

constexpr NamedScalar kNamed[] = {
    {"vcc", kVcc, 2},
    {"vcc_lo", kVcc, 1},
    {"vcc_hi", kVcc + 1, 1},
    {"exec", kExec, 2},
    {"exec_lo", kExec, 1},
    {"exec_hi", kExec + 1, 1},
    {"m0", kM0, 1},
    {"null", kNull, 1},
    {"flat_scratch", kFlatScratch, 2},
    {"flat_scratch_lo", kFlatScratch, 1},
    {"flat_scratch_hi", kFlatScratch + 1, 1},
    {"xnack_mask", kXnackMask, 2},
    {"xnack_mask_lo", kXnackMask, 1},
    {"xnack_mask_hi", kXnackMask + 1, 1},
    {"src_shared_base", kSharedBase, 2},
    {"src_private_base", kPrivateBase, 2},
    {"scc", kScc, 1},
    {"src_scc", kScc, 1},
    {"src_vccz", kVccz, 1},
    {"vccz", kVccz, 1},
    {"src_execz", kExecz, 1},
    {"execz", kExecz, 1},
};

bool starts(const std::string &text, const char *with) { return text.compare(0, std::strlen(with), with) == 0; }

std::string trimmed(const std::string &text) {
  const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// "v5", "v[2:3]", "s7", "a[0:15]", "ttmp3", "v5.h": sets kind, index, words. False when it is none of these.
bool parse_register(std::string text, Operand &operand) {
  for (const NamedScalar &named : kNamed)
    if (text == named.name) {
      operand.kind = Operand::scalar;
      operand.index = named.index;
      operand.words = named.words;
      return true;
    }
  if (text.size() > 2 && text[text.size() - 2] == '.' && (text.back() == 'l' || text.back() == 'h')) {
    operand.high_half = text.back() == 'h';
    text.resize(text.size() - 2);
  }
  size_t digits = 1;
  int base = 0;
  if (starts(text, "ttmp")) {
    digits = 4;
    base = kTrapTemporary;
    operand.kind = Operand::scalar;
  } else if (text[0] == 'v') {
    operand.kind = Operand::vector;
  } else if (text[0] == 'a') {
    operand.kind = Operand::vector;
    base = kAccumulator;
  } else if (text[0] == 's') {
    operand.kind = Operand::scalar;
  } else {
    return false;
  }
  unsigned first, last;
  int used = 0;
  const char *number = text.c_str() + digits;
  if (std::sscanf(number, "[%u:%u]%n", &first, &last, &used) == 2 && !number[used]) {
  } else if (used = 0, std::sscanf(number, "[%u]%n", &first, &used) == 1 && used && !number[used]) {
    last = first;
  } else if (used = 0, std::sscanf(number, "%u%n", &first, &used) == 1 && used && !number[used]) {
    last = first;
  } else {
    operand.kind = Operand::none;
    return false;
  }
  operand.index = uint16_t(base + first);
  operand.words = uint8_t(last - first + 1);
  return true;
}

bool parse_constant(const std::string &text, Operand &operand) {
  char *end;
  const bool hex = starts(text, "0x") || starts(text, "-0x");
  if (!hex && text.find('.') != std::string::npos) {
    operand.real = std::strtod(text.c_str(), &end);
    operand.written_as_float = true;
  } else {
    operand.bits = uint64_t(hex && text[0] != '-' ? int64_t(std::strtoull(text.c_str(), &end, 16))
                                                  : std::strtoll(text.c_str(), &end, 0));
    operand.written_as_hex = hex;
  }
  if (*end || text.empty()) return false;
  operand.kind = Operand::constant;
  return true;
}

bool parse_operand(std::string text, Operand &operand) {
  if (text == "off") {
    operand.kind = Operand::off;
    return true;
  }
  Operand plain;
  if (parse_constant(text, plain)) {
    operand = plain;
    return true;
  }
  if (starts(text, "neg(") && text.back() == ')') {
    operand.negate = true;
    text = text.substr(4, text.size() - 5);
  } else if (text[0] == '-') {
    operand.negate = true;
    text = text.substr(1);
  }
  if (starts(text, "sext(") && text.back() == ')') {
    operand.sign_extend = true;
    text = text.substr(5, text.size() - 6);
  }
  if (text.size() > 2 && text[0] == '|' && text.back() == '|') {
    operand.absolute = true;
    text = text.substr(1, text.size() - 2);
  } else if (starts(text, "abs(") && text.back() == ')') {
    operand.absolute = true;
    text = text.substr(4, text.size() - 5);
  }
  return parse_register(text, operand) || parse_constant(text, operand);
}

// "[0,1,1]" to bits, first element lowest.
uint8_t bit_list(const std::string &text) {
  uint8_t bits = 0;
  int place = 0;
  for (char c : text)
    if (c == '0' || c == '1') bits |= uint8_t((c - '0') << place++);
  return bits;
}

int select_code(const std::string &text) {
  static const char *const names[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD"};
  for (int i = 0; i < 7; i++)
    if (text == names[i]) return i;
  return -1;
}

LaneControl &lane_control(Op &op) {
  if (!op.lanes) op.lanes = std::make_shared<LaneControl>();
  return *op.lanes;
}

struct PatternName {
  const char *name;
  LaneControl::Pattern pattern;
};

constexpr PatternName kPatterns[] = {
    {"row_shl", LaneControl::row_shl},        {"row_shr", LaneControl::row_shr},
    {"row_ror", LaneControl::row_ror},        {"wave_shl", LaneControl::wave_shl},
    {"wave_shr", LaneControl::wave_shr},      {"wave_rol", LaneControl::wave_rol},
    {"wave_ror", LaneControl::wave_ror},      {"row_share", LaneControl::row_share},
    {"row_newbcast", LaneControl::row_share}, {"row_xmask", LaneControl::row_xmask},
    {"row_mirror", LaneControl::row_mirror},  {"row_half_mirror", LaneControl::row_half_mirror},
};

// One modifier: "offset:16", "row_shr:1", "clamp", "glc". False when it is not known: then the instruction is refused.
bool parse_modifier(const std::string &word, Op &op) {
  const size_t colon = word.find(':');
  const std::string name = word.substr(0, colon), value = colon == std::string::npos ? "" : word.substr(colon + 1);
  const long number = std::strtol(value.c_str(), nullptr, 0);
  for (const PatternName &known : kPatterns)
    if (name == known.name) {
      lane_control(op).pattern = known.pattern;
      lane_control(op).amount = uint8_t(number);
      return true;
    }
  if (name == "row_bcast") {
    lane_control(op).pattern = number == 15 ? LaneControl::row_bcast15 : LaneControl::row_bcast31;
  } else if (name == "quad_perm" || name == "dpp8") {
    lane_control(op).pattern = name == "dpp8" ? LaneControl::dpp8 : LaneControl::quad_perm;
    int place = 0;
    for (char c : value)
      if (c >= '0' && c <= '7' && place < 8) lane_control(op).select[place++] = uint8_t(c - '0');
  } else if (name == "row_mask") {
    lane_control(op).row_mask = uint8_t(number);
  } else if (name == "bank_mask") {
    lane_control(op).bank_mask = uint8_t(number);
  } else if (name == "bound_ctrl") {
    lane_control(op).bound_control = true;
  } else if (name == "fi") {
    lane_control(op).fetch_inactive = number != 0;
  } else if (name == "dst_sel") {
    lane_control(op).sdwa = true;
    lane_control(op).destination_select = uint8_t(select_code(value));
  } else if (name == "src0_sel" || name == "src1_sel") {
    lane_control(op).sdwa = true;
    lane_control(op).source_select[name[3] - '0'] = uint8_t(select_code(value));
  } else if (name == "dst_unused") {
    lane_control(op).destination_unused = value == "UNUSED_PAD" ? 0 : value == "UNUSED_SEXT" ? 1 : 2;
  } else if (name == "offset") {
    op.offset = int32_t(number);
  } else if (name == "offset0") {
    op.offset0 = int32_t(number);
  } else if (name == "offset1") {
    op.offset1 = int32_t(number);
  } else if (name == "op_sel") {
    op.op_sel = bit_list(value);
  } else if (name == "op_sel_hi") {
    op.op_sel_hi = bit_list(value);
  } else if (name == "neg_lo") {
    op.neg_lo = bit_list(value);
  } else if (name == "neg_hi") {
    op.neg_hi = bit_list(value);
  } else if (name == "cbsz") {
    op.cbsz = uint8_t(number);
  } else if (name == "abid") {
    op.abid = uint8_t(number);
  } else if (name == "blgp") {
    op.blgp = uint8_t(number);
  } else if (name == "neg" && !value.empty()) {  // f64 matrix instructions of gfx942 print blgp so
    op.blgp = bit_list(value);
  } else if (word == "clamp") {
    op.clamp = true;
  } else if (word == "glc" || word == "sc0") {
    op.returns = true;
  } else if (word == "offen") {
    op.offset_in_register = true;
  } else if (word == "idxen") {
    op.index_in_register = true;
  } else if (word != "slc" && word != "dlc" && word != "sc1" && word != "nt" && word != "scc" && name != "mul" &&
             name != "div") {
    return false;
  }
  return true;
}

// Swizzles are printed symbolically; back to the 16 bits of the offset field.
uint32_t swizzle_bits(const std::string &text) {
  const size_t open = text.find('(');
  std::vector<std::string> words;
  std::string word;
  for (char c : text.substr(open + 1)) {
    if (c == ',' || c == ')') {
      words.push_back(trimmed(word));
      word.clear();
    } else {
      word += c;
    }
  }
  const auto number = [&](size_t i) { return uint32_t(std::strtoul(words.at(i).c_str(), nullptr, 0)); };
  if (words[0] == "QUAD_PERM") return 0x8000 | number(1) | number(2) << 2 | number(3) << 4 | number(4) << 6;
  uint32_t and_mask = 0x1f, or_mask = 0, xor_mask = 0;
  if (words[0] == "BITMASK_PERM") {
    and_mask = 0;
    const std::string pattern = words[1].substr(1, 5);  // most significant lane bit first
    for (int bit = 0; bit < 5; bit++) {
      const char c = pattern[4 - bit];
      if (c == 'p' || c == 'i') and_mask |= 1u << bit;
      if (c == '1') or_mask |= 1u << bit;
      if (c == 'i') xor_mask |= 1u << bit;
    }
  } else if (words[0] == "BROADCAST") {
    and_mask = 0x1f & ~(number(1) - 1);
    or_mask = number(2);
  } else if (words[0] == "REVERSE") {
    xor_mask = number(1) - 1;
  } else if (words[0] == "SWAP") {
    xor_mask = number(1);
  } else {
    fault("cannot read the swizzle '%s'", text.c_str());
  }
  return and_mask | or_mask << 5 | xor_mask << 10;
}

// hwreg(HW_REG_MODE, 4, 2) to the 16-bit field: id (6 bits), offset, size - 1.
uint32_t hwreg_bits(const std::string &text) {
  static const std::pair<const char *, int> names[] = {
      {"HW_REG_MODE", 1},         {"HW_REG_STATUS", 2},       {"HW_REG_TRAPSTS", 3}, {"HW_REG_HW_ID", 4},
      {"HW_REG_GPR_ALLOC", 5},    {"HW_REG_LDS_ALLOC", 6},    {"HW_REG_IB_STS", 7},  {"HW_REG_SH_MEM_BASES", 15},
      {"HW_REG_FLAT_SCR_LO", 20}, {"HW_REG_FLAT_SCR_HI", 21}, {"HW_REG_HW_ID1", 23}, {"HW_REG_SHADER_CYCLES", 29}};
  const size_t open = text.find('(');
  const std::string inside = text.substr(open + 1, text.find(')') - open - 1);
  const std::string name = trimmed(inside.substr(0, inside.find(',')));
  int id = -1, offset = 0, size = 32;
  for (const auto &[known, number] : names)
    if (name == known) id = number;
  const size_t comma = inside.find(',');
  if (comma != std::string::npos) std::sscanf(inside.c_str() + comma, ", %d, %d", &offset, &size);
  return id < 0 ? 0xffffffffu : uint32_t(id | offset << 6 | (size - 1) << 11);
}

}  // namespace

Op parse(const std::string &line) {
  Op op;
  op.text = trimmed(line);
  const size_t dual = op.text.find("::");
  std::string text = trimmed(op.text.substr(0, dual));
  const size_t space = text.find_first_of(" \t");
  op.mnemonic = text.substr(0, space);
  std::string rest = space == std::string::npos ? "" : trimmed(text.substr(space));
  // Instructions whose operands are not registers and numbers.
  if (starts(op.mnemonic, "s_waitcnt") || op.mnemonic == "s_delay_alu" || starts(op.mnemonic, "s_sendmsg") ||
      op.mnemonic == "s_clause" || op.mnemonic == "s_code_end") {
    return op;
  }
  if (const size_t place = rest.find("hwreg("); place != std::string::npos) {
    op.immediate = hwreg_bits(rest.substr(place));
    const size_t end = rest.find(')', place);
    rest = trimmed(rest.substr(0, place)) + " " + trimmed(rest.substr(end + 1));
    std::replace(rest.begin(), rest.end(), ',', ' ');
    rest = trimmed(rest);
  }
  if (const size_t place = rest.find("gpr_idx("); place != std::string::npos) {
    static const char *const names[] = {"SRC0", "SRC1", "SRC2", "DST"};
    for (int bit = 0; bit < 4; bit++)
      if (rest.find(names[bit], place) != std::string::npos) op.immediate |= 1u << bit;
    rest = trimmed(rest.substr(0, place));
  }
  if (const size_t place = rest.find("swizzle("); place != std::string::npos) {
    const size_t end = rest.find(')', place);
    op.immediate = swizzle_bits(rest.substr(place, end - place + 1));
    rest = trimmed(rest.substr(0, rest.rfind("offset:", place)));
  } else if (starts(op.mnemonic, "ds_swizzle")) {
    const size_t offset = rest.find("offset:");
    op.immediate = offset == std::string::npos ? 0 : uint32_t(std::strtoul(rest.c_str() + offset + 7, nullptr, 0));
  }
  // Words: operands are parted by commas, modifiers by spaces; brackets hold both together.
  std::vector<std::string> words;
  std::string word;
  int depth = 0;
  for (char c : rest + " ") {
    if (c == '[' || c == '(') depth++;
    if (c == ']' || c == ')') depth--;
    if (depth == 0 && (c == ',' || c == ' ' || c == '\t')) {
      if (!word.empty()) words.push_back(word);
      word.clear();
    } else {
      word += c;
    }
  }
  for (const std::string &each : words) {
    Operand operand;
    const bool named = each.find(':') != std::string::npos && each.find('[') > each.find(':');
    if (!named && parse_operand(each, operand)) {
      if (op.operands == 7) fault("too many operands in '%s'", op.text.c_str());
      op.operand[op.operands++] = operand;
    } else if (!parse_modifier(each, op)) {
      op.mnemonic = "unknown modifier " + each + " of " + op.mnemonic;
    }
  }
  if (dual != std::string::npos) op.second = std::make_shared<Op>(parse(op.text.substr(dual + 2)));
  return op;
}

int DecodedText::index_of(uint64_t target) const {
  if (target < address || target >= address + bytes || target % 4) return -1;
  return at[(target - address) / 4];
}

std::shared_ptr<DecodedText> decode(const CodeObject &object, int wave_size) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeAMDGPUTargetInfo();
    LLVMInitializeAMDGPUTargetMC();
    LLVMInitializeAMDGPUDisassembler();
  });
  const LLVMDisasmContextRef context =
      LLVMCreateDisasmCPUFeatures("amdgcn-amd-amdhsa", object.architecture.c_str(),
                                  wave_size == 32 ? "+wavefrontsize32" : "", nullptr, 0, nullptr, nullptr);
  if (!context) fault("LLVM has no disassembler for %s", object.architecture.c_str());

  auto text = std::make_shared<DecodedText>();
  text->address = object.text_address;
  text->bytes = object.text_bytes;
  text->at.assign(object.text_bytes / 4 + 1, -1);
  auto *bytes = reinterpret_cast<uint8_t *>(object.text_address);
  for (uint64_t place = 0; place + 4 <= object.text_bytes;) {
    char line[512];
    const size_t length = LLVMDisasmInstruction(context, bytes + place, object.text_bytes - place,
                                                object.text_address + place, line, sizeof line);
    Op op;
    if (length) {
      op = parse(line);
    } else {
      uint32_t word;
      std::memcpy(&word, bytes + place, 4);
      std::snprintf(line, sizeof line, ".long 0x%08x", word);
      op.mnemonic = op.text = line;
    }
    op.bytes = uint8_t(length ? length : 4);
    op.address = object.text_address + place;
    text->at[place / 4] = int32_t(text->ops.size());
    text->ops.push_back(std::move(op));
    place += length ? length : 4;
  }
  LLVMDisasmDispose(context);
  Op end;
  end.mnemonic = end.text = "(end of .text)";
  end.address = object.text_address + object.text_bytes;
  text->ops.push_back(std::move(end));
  for (Op &op : text->ops) bind_operation(op, *text, object.architecture, wave_size);
  return text;
}

}  // namespace amdsim
