// MatrixTile on the host back end: the register layouts of mma.sync, MFMA and WMMA, computed by the last lane to come.
// So what kernels do with tiles is tested in the layout of each card.
#pragma once

#include <type_traits>

#include "../half_bits.h"
#include "../tile_layouts.h"
#include "device.h"

namespace getp_host {

// Constants of a layout's functions: where word (output, pair) of a KB of weights begins, in values.
template <class Layout>
struct WeightPlaces {
  short of[32][16];  // of k, of output
  constexpr WeightPlaces() : of() {
    for (int output = 0; output < 16; output++)
      for (int k = 0; k < 32; k++) of[k][output] = (short)(2 * Layout::weight_word(output, k / 2) + k % 2);
  }
};

template <class Layout>
struct HostTile : TileOperands<Layout> {
  using Operand = typename TileOperands<Layout>::Operand;

  // Sums of a lane. Multiplications wait until a lane looks at a sum, or leaves it: then its wave does all of them.
  class Values {
   public:
    Values() = default;
    Values(const Values &other) { *this = other; }
    Values &operator=(const Values &other) {
      current_block->settle();
      memcpy(values_, other.values_, sizeof values_);
      return *this;
    }
    ~Values() { current_block->settle(); }
    float &operator[](int i) {
      current_block->settle();
      return values_[i];
    }

   private:
    friend HostTile;
    float values_[Layout::kValues];
  };
  struct Sums {
    Values values;
  };

  // The unit whose codes are word `word` of a slot.
  static uint4 unpack(unsigned codes, unsigned scales, int word) {
    constexpr uint16_t kMagnitudes[8] = {0, 0x3800, 0x3c00, 0x3e00, 0x4000, 0x4200, 0x4400, 0x4600};
    uint16_t halves[8];
    for (int i = 0; i < 8; i++) {
      const unsigned magnitude = codes >> Layout::magnitude_bit(i) & 7, sign = codes >> Layout::sign_bit(i) & 1;
      const int exponent = (int)(scales >> 8 * Layout::scale_byte(word, i) & 255) / 4 - 15;
      halves[i] = magnitude ? uint16_t(kMagnitudes[magnitude] + exponent * 1024 + sign * 0x8000) : uint16_t(0);
    }
    uint4 unit;
    memcpy(&unit, halves, sizeof unit);
    return unit;
  }

  static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
    current_block->defer(Part{sums.values.values_, weights, rows}, [](const void *values, void *, int lanes) {
      auto *const *of_lane = (BlockRunner::Deferred *const *)values;
      int count = of_lane[0]->count;
      for (int lane = 1; lane < lanes; lane++) count = std::min(count, of_lane[lane]->count);
      if (lanes == Layout::kWave) multiply_all(of_lane, count);
      for (int lane = 0; lane < lanes; lane++) of_lane[lane]->template drop<Part>(count);
    });
  }

 private:
  // Of a multiplication.
  struct Part {
    float *sums;
    Operand weights, rows;
  };
  using Half = float __attribute__((vector_size(32)));  // of the outputs

  // The first `count` multiplications: those of the same sums together.
  static void multiply_all(BlockRunner::Deferred *const *of_lane, int count) {
    const Part *parts[Layout::kWave];
    for (int lane = 0; lane < Layout::kWave; lane++) parts[lane] = &of_lane[lane]->template part<Part>(0);
    bool done[BlockRunner::Deferred::kMost] = {};
    for (int first = 0; first < count; first++) {
      if (done[first]) continue;
      float d[16][16];
      for (int lane = 0; lane < Layout::kWave; lane++)
        for (int i = 0; i < Layout::kValues; i++)
          d[Layout::row(lane, i)][Layout::output(lane, i)] = parts[lane][first].sums[i];
      Weights weights;
      for (int at = first; at < count; at++) {
        bool same = true;
        for (int lane = 0; lane < Layout::kWave; lane++) same &= parts[lane][at].sums == parts[lane][first].sums;
        if (!same) continue;
        done[at] = true;
        weights.load(parts, at);
        multiply(d, weights, parts, at);
      }
      for (int lane = 0; lane < Layout::kWave; lane++)
        for (int i = 0; i < Layout::kValues; i++)
          parts[lane][first].sums[i] = d[Layout::row(lane, i)][Layout::output(lane, i)];
    }
  }

  struct Weights {
    uint4 units[64];
    Half of[2][32];  // of k
    bool loaded = false;

    // Often the same as before: both terms of an activation are multiplied by them.
    void load(const Part *const *parts, int at) {
      uint4 now[64];
      for (int lane = 0; lane < Layout::kWave; lane++)
        for (int u = 0; u < Layout::kUnits; u++) now[Layout::weight_unit(lane, u)] = parts[lane][at].weights.units[u];
      if (loaded && memcmp(now, units, sizeof now) == 0) return;
      loaded = true;
      memcpy(units, now, sizeof now);
      float values[512];
      to_floats(values, (const uint16_t *)units, 512);
      static constexpr WeightPlaces<Layout> kPlaces;
      for (int k = 0; k < 32; k++)
        for (int output = 0; output < 16; output++)
          ((float *)&of[output / 8][k])[output % 8] = values[kPlaces.of[k][output]];
    }
  };

  static void to_floats(float *to, const uint16_t *from, int count) {
    for (int i = 0; i < count; i++) to[i] = getp_half_value(from[i]);
  }

  static void multiply(float (&d)[16][16], const Weights &weights, const Part *const *parts, int at) {
    constexpr int kTogether = 4;
    uint2 rows[16][8];  // quads
    for (int lane = 0; lane < Layout::kWave; lane++)
      for (int u = 0; u < Layout::kUnits; u++) {
        const uint4 &unit = parts[lane][at].rows.units[u];
        uint2 *row = rows[Layout::unit_row(lane, u)];
        row[Layout::unit_quad(lane, u, 0)] = {unit.x, unit.y};
        row[Layout::unit_quad(lane, u, 1)] = {unit.z, unit.w};
      }
    // Tiles that are not full repeat a row.
    int distinct[16 + kTogether], count = 0, like[16];
    for (int row = 0; row < 16; row++) {
      if (row == 0 || memcmp(rows[row], rows[row - 1], sizeof rows[row]) != 0 ||
          memcmp(d[row], d[row - 1], sizeof d[row]) != 0)
        distinct[count++] = row;
      like[row] = distinct[count - 1];
    }
    for (int i = count; i % kTogether != 0; i++) distinct[i] = distinct[count - 1];
    for (int first = 0; first < count; first += kTogether) {
      float x[kTogether][32];
      for (int i = 0; i < kTogether; i++) to_floats(x[i], (const uint16_t *)rows[distinct[first + i]], 32);
      for (int half = 0; half < 2; half++) {
        Half total[kTogether];
        for (int i = 0; i < kTogether; i++) memcpy(&total[i], d[distinct[first + i]] + 8 * half, sizeof total[i]);
        for (int step = 0; step < 32; step += 16) {  // an instruction's sum joins the one before
          Half sums[kTogether] = {};
          for (int k = step; k < step + 16; k++)
            for (int i = 0; i < kTogether; i++) sums[i] += weights.of[half][k] * x[i][k];
          for (int i = 0; i < kTogether; i++) total[i] += sums[i];
        }
        for (int i = 0; i < kTogether; i++) memcpy(d[distinct[first + i]] + 8 * half, &total[i], sizeof total[i]);
      }
    }
    for (int row = 0; row < 16; row++)
      if (like[row] != row) memcpy(d[row], d[like[row]], sizeof d[row]);
  }
};

}  // namespace getp_host

template <class Launch>
void with_matrix_tile(Launch launch) {
  using namespace getp_host;
  if (options().wave == 64)
    launch(HostTile<MfmaLayout>{});
  else if (options().wmma)
    launch(HostTile<WmmaLayout>{});
  else
    launch(HostTile<MmaSyncLayout>{});
}
