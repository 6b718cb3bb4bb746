// splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014): neighbouring states give
// unrelated numbers.
#pragma once

#include <cstdint>

namespace getp_hip {

constexpr uint64_t kSplitMixStep = 0x9e3779b97f4a7c15u;  // from one state to the next

// The number that belongs to a state; 0 to 0.
inline uint64_t splitmix64(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
  return state ^ (state >> 31);
}

}  // namespace getp_hip
