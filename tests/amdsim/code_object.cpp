#include "code_object.hpp"

#include <elf.h>
#include <llvm/Demangle/Demangle.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "fault.hpp"
#include "memory.hpp"

namespace amdsim {
namespace {

// What <elf.h> of the C library does not name.
constexpr int kMachineAmdGpu = 224, kOsAbiAmdHsa = 64, kNoteMetadata = 32;
enum Relocation : uint32_t {
  none,
  abs32_lo,
  abs32_hi,
  abs64,
  rel32,
  rel64,
  abs32,
  rel32_lo = 10,
  rel32_hi,
  relative64 = 13
};

struct Target {
  const char *architecture;
  uint32_t machine;      // EF_AMDGPU_MACH
  const char *features;  // of the card as it ships; a code object may demand some of them
};
constexpr Target kTargets[] = {
    {"gfx90a", 0x3f, ":sramecc+:xnack-"}, {"gfx942", 0x4c, ":sramecc+:xnack-"}, {"gfx1100", 0x41, ""}};

const Target &target_of(const std::string &architecture) {
  for (const Target &target : kTargets)
    if (architecture == target.architecture) return target;
  fault("the loader knows no architecture %s", architecture.c_str());
}

template <class T>
T read_at(std::string_view bytes, uint64_t offset, const char *what) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) fault("code object: %s lies outside the file", what);
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::string_view part(std::string_view bytes, uint64_t offset, uint64_t size, const char *what) {
  if (offset > bytes.size() || bytes.size() - offset < size) fault("code object: %s lies outside the file", what);
  return bytes.substr(offset, size);
}

// "hipv4-amdgcn-amd-amdhsa--gfx90a:xnack-" -> "gfx90a:xnack-"; empty for the entry of the host.
std::string target_id(const std::string &entry) {
  const size_t at = entry.find("-gfx");
  return entry.compare(0, 3, "hip") == 0 && at != std::string::npos ? entry.substr(at + 1) : "";
}

// Whether a card of that target runs code for `id`: same architecture, and every feature that the code demands.
bool runs(const Target &target, const std::string &id) {
  if (id.substr(0, id.find(':')) != target.architecture) return false;
  for (size_t at = id.find(':'); at != std::string::npos;) {
    const size_t next = id.find(':', at + 1);
    const std::string feature = id.substr(at, next == std::string::npos ? next : next - at);
    if (std::string(target.features).find(feature) == std::string::npos) return false;
    at = next;
  }
  return true;
}

// The code object for a card of that target; none where there is none, and then `present` is what there is.
std::string_view find_in_bundle(const char *bundle, const Target &target, std::string &present) {
  static constexpr char kMagic[] = "__CLANG_OFFLOAD_BUNDLE__";
  constexpr uint64_t kMagicBytes = sizeof kMagic - 1;
  if (std::memcmp(bundle, "CCOB", 4) == 0)
    fault("the program's device code is compressed; build it with --no-offload-compress");
  if (std::memcmp(bundle, kMagic, kMagicBytes) != 0) fault("the program's fat binary is no clang offload bundle");
  auto number = [](const char *at) {
    uint64_t value;
    std::memcpy(&value, at, 8);
    return value;
  };
  const char *at = bundle + kMagicBytes + 8;
  for (uint64_t entry = 0, entries = number(bundle + kMagicBytes); entry < entries; entry++) {
    const uint64_t offset = number(at), size = number(at + 8), id_bytes = number(at + 16);
    const std::string id = target_id(std::string(at + 24, id_bytes));
    at += 24 + id_bytes;
    if (runs(target, id)) return {bundle + offset, size};
    if (!id.empty()) present += (present.empty() ? "" : ", ") + id;
  }
  return {};
}

std::string_view unbundle(const char *bundle, const Target &target) {
  std::string present;
  const std::string_view code = find_in_bundle(bundle, target, present);
  if (code.data()) return code;
  fault(
      "the program has no device code for %s%s, only for: %s; build it with --offload-arch=%s, or set AMDSIM to an "
      "architecture that it has",
      target.architecture, target.features, present.empty() ? "none" : present.c_str(), target.architecture);
}

// "void ns::kernel<64, float>(float*)" -> "ns::kernel<64, float>"
std::string pretty_name(const std::string &mangled) {
  std::string name = llvm::demangle(mangled);  // knows _Float16, which older libstdc++ does not
  if (name.back() == ')') {
    size_t at = name.size() - 1;
    for (int depth = 1; depth && at > 0;) {
      at--;
      depth += (name[at] == ')') - (name[at] == '(');
    }
    if (at > 0) name.resize(at);
  }
  return name.compare(0, 5, "void ") == 0 ? name.substr(5) : name;
}

struct Elf {
  std::string_view file;
  Elf64_Ehdr header;
  std::vector<Elf64_Phdr> segments;
  std::vector<Elf64_Shdr> sections;
  std::vector<Elf64_Sym> symbols;  // dynamic ones
  std::string_view symbol_names;

  explicit Elf(std::string_view bytes, const Target &target) : file(bytes) {
    header = read_at<Elf64_Ehdr>(file, 0, "the ELF header");
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_machine != kMachineAmdGpu || header.e_ident[EI_OSABI] != kOsAbiAmdHsa || header.e_type != ET_DYN)
      fault("code object: not a shared ELF object for amdgcn-amd-amdhsa");
    if (const int version = header.e_ident[EI_ABIVERSION]; version < 1 || version > 4)
      fault("code object: ABI version %d is none of 1 to 4 (code object V3 to V6)", version);
    if ((header.e_flags & 0xff) != target.machine)
      fault("code object: its ELF flags 0x%x do not say %s", header.e_flags, target.architecture);
    for (int i = 0; i < header.e_phnum; i++)
      segments.push_back(read_at<Elf64_Phdr>(file, header.e_phoff + i * sizeof(Elf64_Phdr), "a program header"));
    for (int i = 0; i < header.e_shnum; i++)
      sections.push_back(read_at<Elf64_Shdr>(file, header.e_shoff + i * sizeof(Elf64_Shdr), "a section header"));
    for (const Elf64_Shdr &section : sections) {
      if (section.sh_type != SHT_DYNSYM) continue;
      for (uint64_t i = 0; i < section.sh_size / sizeof(Elf64_Sym); i++)
        symbols.push_back(read_at<Elf64_Sym>(file, section.sh_offset + i * sizeof(Elf64_Sym), "a symbol"));
      if (section.sh_link >= sections.size()) fault("code object: its symbols have no names");
      const Elf64_Shdr &strings = sections[section.sh_link];
      symbol_names = part(file, strings.sh_offset, strings.sh_size, "the symbols' names");
    }
  }

  static std::string text_at(std::string_view table, uint64_t offset) {
    if (offset >= table.size()) fault("code object: a name lies outside its table");
    return std::string(table.substr(offset, table.find('\0', offset) - offset));
  }
  std::string name(const Elf64_Sym &symbol) const { return text_at(symbol_names, symbol.st_name); }

  // The section of that name; nullptr when there is none.
  const Elf64_Shdr *section(const char *name) const {
    if (header.e_shstrndx >= sections.size()) fault("code object: its sections have no names");
    const Elf64_Shdr &strings = sections[header.e_shstrndx];
    const std::string_view names = part(file, strings.sh_offset, strings.sh_size, "the sections' names");
    for (const Elf64_Shdr &candidate : sections)
      if (text_at(names, candidate.sh_name) == name) return &candidate;
    return nullptr;
  }

  nlohmann::json metadata() const {
    for (const Elf64_Phdr &segment : segments) {
      if (segment.p_type != PT_NOTE) continue;
      const std::string_view notes = part(file, segment.p_offset, segment.p_filesz, "a note");
      for (uint64_t at = 0; at + sizeof(Elf64_Nhdr) <= notes.size();) {
        const auto note = read_at<Elf64_Nhdr>(notes, at, "a note");
        const uint64_t name = at + sizeof note, description = name + (note.n_namesz + 3) / 4 * 4;
        if (note.n_type == kNoteMetadata &&
            part(notes, name, note.n_namesz, "a note") == std::string_view("AMDGPU", 7)) {
          const std::string_view packed = part(notes, description, note.n_descsz, "the metadata");
          return nlohmann::json::from_msgpack(packed.begin(), packed.end());
        }
        at = description + (note.n_descsz + 3) / 4 * 4;
      }
    }
    fault("code object: no metadata note");
  }
};

// Segments into one block of memory; what lies between them is no memory.
void load_segments(const Elf &elf, int device, CodeObject &object) {
  uint64_t end = 0, alignment = 1, forbidden_from = 0;
  for (const Elf64_Phdr &segment : elf.segments) {
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_vaddr < end) fault("code object: its segments are not in order");
    if (segment.p_memsz > UINT32_MAX || segment.p_vaddr > UINT32_MAX)
      fault("code object: a segment of more than 4 GiB");
    end = segment.p_vaddr + segment.p_memsz;
    alignment = std::max(alignment, segment.p_align);
  }
  if (end == 0) fault("code object: nothing to load");
  const uint64_t block = (uint64_t)memory_allocate(end + alignment, MemoryKind::code, device);
  if (!block) fault("no addresses left for a code object");
  object.base = (block + alignment - 1) / alignment * alignment;
  memory_forbid(block, object.base - block);
  for (const Elf64_Phdr &segment : elf.segments) {
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_filesz > segment.p_memsz) fault("code object: a segment is longer in the file than in memory");
    const std::string_view bytes = part(elf.file, segment.p_offset, segment.p_filesz, "a segment");
    memory_forbid(object.base + forbidden_from, segment.p_vaddr - forbidden_from);
    std::memcpy((void *)(object.base + segment.p_vaddr), bytes.data(), bytes.size());
    std::memset((void *)(object.base + segment.p_vaddr + bytes.size()), 0, segment.p_memsz - bytes.size());
    forbidden_from = segment.p_vaddr + segment.p_memsz;
  }
  memory_forbid(object.base + end, block + alignment - object.base);
}

void relocate(const Elf &elf, const CodeObject &object) {
  for (const Elf64_Shdr &section : elf.sections) {
    if (section.sh_type == SHT_REL) fault("code object: relocations without addends");
    if (section.sh_type != SHT_RELA || !(section.sh_flags & SHF_ALLOC)) continue;
    for (uint64_t i = 0; i < section.sh_size / sizeof(Elf64_Rela); i++) {
      const auto entry = read_at<Elf64_Rela>(elf.file, section.sh_offset + i * sizeof(Elf64_Rela), "a relocation");
      const uint64_t place = object.base + entry.r_offset;
      uint64_t symbol = 0;
      if (const uint64_t index = ELF64_R_SYM(entry.r_info)) {
        if (index >= elf.symbols.size()) fault("code object: a relocation names no symbol");
        const Elf64_Sym &found = elf.symbols[index];
        if (found.st_shndx == SHN_UNDEF) fault("code object: symbol %s is not defined", elf.name(found).c_str());
        symbol = object.base + found.st_value;
      }
      uint64_t value = symbol + entry.r_addend, bytes = 4;
      const uint32_t type = ELF64_R_TYPE(entry.r_info);
      switch (type) {
        case none:
          continue;
        case abs32:
        case abs32_lo:
          break;
        case abs32_hi:
          value >>= 32;
          break;
        case abs64:
          bytes = 8;
          break;
        case rel32:
        case rel32_lo:
          value -= place;
          break;
        case rel32_hi:
          value = (value - place) >> 32;
          break;
        case rel64:
          value -= place;
          bytes = 8;
          break;
        case relative64:
          value = object.base + entry.r_addend;
          bytes = 8;
          break;
        default:
          fault("code object: relocation of type %u is not implemented", type);
      }
      if (!memory_valid(place, bytes)) fault("code object: a relocation lies outside its segments");
      std::memcpy((void *)place, &value, bytes);
    }
  }
}

template <class T>
T field(const nlohmann::json &map, const char *key, T otherwise) {
  const auto found = map.find(key);
  return found == map.end() ? otherwise : found->get<T>();
}

void read_kernels(const Elf &elf, CodeObject &object) {
  std::map<std::string, uint64_t> descriptors;
  for (const Elf64_Sym &symbol : elf.symbols) {
    if (ELF64_ST_TYPE(symbol.st_info) != STT_OBJECT || symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= SHN_LORESERVE)
      continue;
    const std::string name = elf.name(symbol);
    if (name.size() > 3 && name.compare(name.size() - 3, 3, ".kd") == 0)
      descriptors[name] = object.base + symbol.st_value;
    else
      object.variables[name] = {object.base + symbol.st_value, symbol.st_size};
  }
  const nlohmann::json metadata = elf.metadata();
  for (const nlohmann::json &entry : metadata.at("amdhsa.kernels")) {
    Kernel kernel = {};
    kernel.name = entry.at(".name");
    kernel.pretty = pretty_name(kernel.name);
    kernel.object = &object;
    const auto descriptor = descriptors.find(entry.at(".symbol"));
    if (descriptor == descriptors.end() || !memory_valid(descriptor->second, sizeof kernel.descriptor))
      fault("code object: kernel %s has no descriptor", kernel.pretty.c_str());
    std::memcpy(&kernel.descriptor, (const void *)descriptor->second, sizeof kernel.descriptor);
    kernel.entry = descriptor->second + kernel.descriptor.kernel_code_entry_byte_offset;
    if (kernel.entry % 256 || kernel.entry - object.text_address >= object.text_bytes)
      fault("code object: kernel %s starts outside the text", kernel.pretty.c_str());
    kernel.kernarg_size = entry.at(".kernarg_segment_size");
    kernel.kernarg_align = entry.at(".kernarg_segment_align");
    for (const nlohmann::json &argument : field(entry, ".args", nlohmann::json::array())) {
      kernel.arguments.push_back({argument.at(".offset"), argument.at(".size"), argument.at(".value_kind")});
      const KernelArgument &last = kernel.arguments.back();
      if (uint64_t(last.offset) + last.size > kernel.kernarg_size)
        fault("code object: kernel %s has an argument outside its arguments", kernel.pretty.c_str());
    }
    kernel.vgprs = entry.at(".vgpr_count");
    kernel.agprs = field(entry, ".agpr_count", 0u);
    kernel.sgprs = entry.at(".sgpr_count");
    kernel.max_workgroup_size = entry.at(".max_flat_workgroup_size");
    kernel.wave_size = entry.at(".wavefront_size");
    kernel.dynamic_stack = field(entry, ".uses_dynamic_stack", false);
    object.kernels[kernel.name] = std::move(kernel);
  }
}

}  // namespace

bool has_code_object(const void *fat_binary, const std::string &architecture) {
  std::string present;
  return find_in_bundle((const char *)fat_binary, target_of(architecture), present).data();
}

std::unique_ptr<CodeObject> load_code_object(const void *fat_binary, const std::string &architecture, int device) {
  const Target &target = target_of(architecture);
  const Elf elf(unbundle((const char *)fat_binary, target), target);
  auto object = std::make_unique<CodeObject>();
  object->architecture = architecture;
  load_segments(elf, device, *object);
  if (const Elf64_Shdr *text = elf.section(".text")) {
    object->text_address = object->base + text->sh_addr;
    object->text_bytes = text->sh_size;
  }
  relocate(elf, *object);
  try {
    read_kernels(elf, *object);
  } catch (const nlohmann::json::exception &error) {
    fault("code object: metadata: %s", error.what());
  }
  return object;
}

}  // namespace amdsim
