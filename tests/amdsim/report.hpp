// Counts of every launch, summed by kernel, and the bounds that they imply: AMDSIM_REPORT=file.json writes them and
// prints a table when the program ends. A bound is what the counts cannot be beaten at; it is never a measurement.
#pragma once
#include "machine.hpp"

namespace amdsim {

// AMDSIM_REPORT is set: instructions, memory segments of each access and LDS cycles are counted.
extern const bool counting;

// Adds one launch that took the simulator `seconds`. Thread-safe.
void report_launch(const Kernel &kernel, uint64_t groups, uint64_t waves_per_group, const Counts &counts,
                   double seconds);

// Whether this is the first access of launch number `launch` to the 64-byte line of `address`. Thread-safe.
bool first_touch(uint64_t address, uint32_t launch);

}  // namespace amdsim
