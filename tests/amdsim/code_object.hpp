// From a program's fat binary to kernels in the simulated device's memory: clang offload bundle, ELF code object,
// NT_AMDGPU_METADATA, kernel descriptors. Formats: LLVM's "User Guide for AMDGPU Backend" (code object V3 to V5).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace amdsim {

struct Architecture;  // machine.hpp
struct DecodedText;   // decoder.hpp

struct KernelArgument {
  uint32_t offset, size;
  std::string kind;  // the metadata's .value_kind: by_value, global_buffer, hidden_block_count_x, …
};

// The 64 bytes of amdhsa_kernel_descriptor_t.
struct KernelDescriptor {
  uint32_t group_segment_fixed_size, private_segment_fixed_size, kernarg_size;
  uint8_t reserved0[4];
  int64_t kernel_code_entry_byte_offset;
  uint8_t reserved1[20];
  uint32_t compute_pgm_rsrc3, compute_pgm_rsrc1, compute_pgm_rsrc2;
  uint16_t kernel_code_properties;
  uint16_t kernarg_preload;
  uint8_t reserved3[4];
};
static_assert(sizeof(KernelDescriptor) == 64);

struct CodeObject;

struct Kernel {
  std::string name;    // mangled, as registered by the host
  std::string pretty;  // demangled without arguments, for messages and reports
  const CodeObject *object;
  KernelDescriptor descriptor;
  uint64_t entry;  // address of the first instruction in simulated memory
  std::vector<KernelArgument> arguments;
  uint32_t kernarg_size, kernarg_align;
  uint32_t vgprs, agprs, sgprs;  // metadata: .vgpr_count (on gfx90a, gfx942: with the AGPRs), .agpr_count, .sgpr_count
  uint32_t max_workgroup_size;   // .max_flat_workgroup_size
  uint32_t wave_size;            // .wavefront_size
  bool dynamic_stack;            // .uses_dynamic_stack
};

struct CodeObject {
  std::string architecture;  // "gfx90a"
  uint64_t base;             // where virtual address 0 of the ELF file lies in simulated memory
  uint64_t text_address;     // of .text in simulated memory
  uint64_t text_bytes;
  std::map<std::string, Kernel> kernels;                           // by mangled name
  std::map<std::string, std::pair<uint64_t, uint64_t>> variables;  // symbol -> address in simulated memory, bytes
  std::shared_ptr<DecodedText> text;                               // filled by the decoder on the first launch
};

// Whether a fat binary holds code for `architecture`.
bool has_code_object(const void *fat_binary, const std::string &architecture);

// Takes the code object of `architecture` out of a fat binary (the contents that __CudaFatBinaryWrapper points to),
// loads its segments into memory of `device`, applies its relocations, reads kernels and variables. Calls fault() with
// the architectures that are there when this one is not, and for anything that is not as the format says.
std::unique_ptr<CodeObject> load_code_object(const void *fat_binary, const std::string &architecture, int device);

}  // namespace amdsim
