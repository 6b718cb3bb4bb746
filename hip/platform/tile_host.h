// MatrixTile on the host back end: the register layouts of mma.sync, MFMA and WMMA, computed by the last lane to come.
// So what kernels do with tiles is tested in the layout of each card.
#pragma once

#include <type_traits>

#include "../fp16.hpp"

namespace getp_host {

template <class Layout>
struct HostTile : Layout {
  struct Operand {
    uint4 units[Layout::kUnits];
  };
  struct Sums {
    float values[Layout::kValues];
  };

  static void multiply_add(Sums &sums, const Operand &weights, const Operand &rows) {
    const Lane lane{&sums, &weights, &rows};
    current_block->rendezvous(&lane, [](const void *values, void *, int lanes) {
      if (lanes == Layout::kWave) multiply((const Lane *const *)values);
    });
  }

 private:
  struct Lane {
    Sums *sums;
    const Operand *weights, *rows;
  };

  static void multiply(const Lane *const *lanes) {
    float a[32][16], b[16][32], d[16][16];
    uint4 weights[64];
    for (int lane = 0; lane < Layout::kWave; lane++)
      for (int u = 0; u < Layout::kUnits; u++) {
        const int row = Layout::unit_row(lane, u), first = 8 * Layout::unit_octet(lane, u);
        getp_hip::fp16 halves[8];
        weights[Layout::weight_unit(lane, u)] = lanes[lane]->weights->units[u];
        memcpy(halves, &lanes[lane]->rows->units[u], sizeof halves);
        for (int k = 0; k < 8; k++) b[row][first + k] = getp_hip::to_float(halves[k]);
      }
    for (int output = 0; output < 16; output++)
      for (int pair = 0; pair < 16; pair++) {
        getp_hip::fp16 halves[2];
        memcpy(halves, (const unsigned *)weights + Layout::weight_word(output, pair), sizeof halves);
        for (int k = 0; k < 2; k++) a[2 * pair + k][output] = getp_hip::to_float(halves[k]);
      }
    for (int lane = 0; lane < Layout::kWave; lane++)
      for (int i = 0; i < Layout::kValues; i++)
        d[Layout::row(lane, i)][Layout::output(lane, i)] = lanes[lane]->sums->values[i];
    float before[16];
    for (int row = 0; row < 16; row++) {
      // Tiles that are not full repeat a row.
      const bool repeated =
          row > 0 && memcmp(b[row], b[row - 1], sizeof b[row]) == 0 && memcmp(d[row], before, sizeof before) == 0;
      memcpy(before, d[row], sizeof before);
      if (repeated) memcpy(d[row], d[row - 1], sizeof d[row]);
      for (int step = 0; step < 32 && !repeated; step += 16) {  // an instruction's sum joins the one before
        float sums[16] = {};
        for (int k = step; k < step + 16; k++)
          for (int output = 0; output < 16; output++) sums[output] += a[k][output] * b[row][k];
        for (int output = 0; output < 16; output++) d[row][output] += sums[output];
      }
    }
    for (int lane = 0; lane < Layout::kWave; lane++)
      for (int i = 0; i < Layout::kValues; i++)
        lanes[lane]->sums->values[i] = d[Layout::row(lane, i)][Layout::output(lane, i)];
  }
};

// Of both of AMD's layouts.
struct AmdWeights {
  static int weight_word(int output, int pair) { return (pair / 4 * 16 + output) * 4 + pair % 4; }
};

struct MmaSyncLayout {
  static constexpr int kWave = 32, kUnits = 2, kValues = 8;
  static int weight_word(int output, int pair) {
    const int octet = pair / 4, instruction = pair / 2 % 2;
    return (instruction * 32 + output % 8 * 4 + octet) * 4 + pair % 2 * 2 + output / 8;
  }
  static int weight_unit(int lane, int unit) { return unit * 32 + lane; }
  static int unit_row(int lane, int unit) { return lane / 4 + 8 * unit; }
  static int unit_octet(int lane, int) { return lane % 4; }
  static int output(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
  static int row(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }
};

struct WmmaLayout : AmdWeights {
  static constexpr int kWave = 32, kUnits = 4, kValues = 8;
  static int weight_unit(int lane, int unit) { return unit * 16 + lane % 16; }
  static int unit_row(int lane, int) { return lane % 16; }
  static int unit_octet(int, int unit) { return unit; }
  static int output(int lane, int i) { return 2 * i + lane / 16; }
  static int row(int lane, int) { return lane % 16; }
};

struct MfmaLayout : AmdWeights {
  static constexpr int kWave = 64, kUnits = 1, kValues = 4;
  static int weight_unit(int lane, int) { return lane; }
  static int unit_row(int lane, int) { return lane % 16; }
  static int unit_octet(int lane, int) { return lane / 16; }
  static int output(int lane, int i) { return lane / 16 * 4 + i; }
  static int row(int lane, int) { return lane % 16; }
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
