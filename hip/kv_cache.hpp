// Keys and values of one layer, and where the rows of a step stand in them.
#pragma once

#include <cstddef>

#include "platform/platform.h"

namespace getp_hip {

enum class CacheForm { kFp32 };

constexpr int kPagePositions = 256;  // of a page, which is what a block of attention reads

// Keys and values of kv_heads * head_dim each. A layer with a window keeps a ring for each slot, (slots, length), position t
// at t % length. A layer that sees everything keeps pages, (pages, length), which belong to slots as these need them:
// position t of a slot at t % kPagePositions of the page that the table has for t / kPagePositions.
struct KvCache {
  CacheForm form = CacheForm::kFp32;
  float *d_keys = nullptr, *d_values = nullptr;
  int length = 0;                // positions of a ring, or of a page
  int window = 0;                // positions that a row sees, its own included; 0: all
  const int *d_table = nullptr;  // (slots, pages_of_slot) pages; none: rings
  int pages_of_slot = 0;

  // The row of keys and values where a slot's ring begins, or its page for position `position`.
  __device__ size_t first_row(int slot, int position) const {
    const size_t place = d_table ? d_table[(size_t)slot * pages_of_slot + position / kPagePositions] : slot;
    return place * length;
  }
  // The position's place behind that row.
  __device__ int place(int position) const { return position % (d_table ? kPagePositions : length); }
};

// The rows of a step: token r is at d_positions[r] of the sequence of d_slots[r].
struct RowPlaces {
  const int *d_positions, *d_slots;
  int rows;
  int longest;  // the largest of the positions
};

}  // namespace getp_hip
