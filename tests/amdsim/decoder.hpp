// Machine code to a flat list of operations. LLVM's disassembler gives each instruction's text in AMD's assembly
// language; the text names the operation, and its operands and modifiers are parsed from it: one syntax for all
// architectures.
#pragma once
#include <vector>

#include "machine.hpp"

namespace amdsim {

struct DecodedText {
  std::vector<Op> ops;      // in address order; the last one faults: no program runs past its text
  std::vector<int32_t> at;  // word of the text -> index of the operation that starts there, or -1
  uint64_t address = 0, bytes = 0;
  int index_of(uint64_t target) const;  // -1 when no instruction starts there
};

// Decodes the whole .text of a code object. What cannot be decoded (data, padding) faults only when it is executed.
std::shared_ptr<DecodedText> decode(const CodeObject &object, int wave_size);

// Parses one line of assembly text, "v_add_f32_e32 v0, 1.0, v1", without binding it to its semantics.
Op parse(const std::string &text);

}  // namespace amdsim
