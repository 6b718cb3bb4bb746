// Runs one kernel launch to its end: workgroups over CPU threads, the waves of a group in a seeded order.
#pragma once
#include <cstdint>
#include <vector>

#include "code_object.hpp"

namespace amdsim {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

// A device as AMDSIM=gfx90a:4 describes it.
struct DeviceModel {
  const char *architecture;  // "gfx90a"
  const char *card;          // "AMD Instinct MI250 (one GCD)"
  int wave_size;
  int compute_units;
  uint64_t memory_bytes;  // what HIP lists for one device
  uint32_t lds_bytes;     // of a workgroup
  double clock_hz;
  double bandwidth;          // bytes a second
  double matrix_flops_fp16;  // a second, dense
  double vector_flops_fp32;  // a second
};

// The model of an architecture; nullptr when there is none.
const DeviceModel *device_model(const char *architecture);

// Launches `kernel`. `user_arguments`: the kernarg segment with the explicit arguments already at their offsets (size
// at least kernel.kernarg_size); the engine fills the hidden ones and copies it into simulated memory. Returns when
// every wave has ended; a fault ends the program. May be called from several threads at once.
void execute(const Kernel &kernel, Dim3 grid, Dim3 block, uint32_t dynamic_lds, std::vector<uint8_t> user_arguments,
             int device);

// Writes AMDSIM_REPORT and the table, if asked for; called when the program ends.
void write_report();

}  // namespace amdsim
