// Keys and values of one layer, and where the rows of a step stand in them.
#pragma once

#include <cstddef>

namespace getp_hip {

enum class CacheForm { kFp32 };

// (slots, length, kv_heads * head_dim) each; position t of a slot's sequence lies at t % length: a ring where length is
// less than the sequence.
struct KvCache {
  CacheForm form = CacheForm::kFp32;
  float *d_keys = nullptr, *d_values = nullptr;
  int length = 0;  // positions that a slot keeps
  int window = 0;  // positions that a row sees, its own included; 0: all
};

// The rows of a step: token r is at d_positions[r] of the sequence of d_slots[r].
struct RowPlaces {
  const int *d_positions, *d_slots;
  int rows;
  int longest;  // the largest of the positions
};

}  // namespace getp_hip
