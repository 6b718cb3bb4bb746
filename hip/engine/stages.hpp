// The stages of forward, for who wants to look at them one by one.
#pragma once

#include "../platform/platform.h"

namespace getp_hip {

// In order. Those before kFinalNorm but kEmbedding occur once a layer.
enum class Stage {
  kEmbedding,
  kAttentionNorm,
  kQkv,
  kQuery,
  kKey,
  kAttentionValues,
  kAttentionProjection,
  kAttentionResidual,
  kMlpNorm,
  kRouter,
  kTopkIndex,
  kTopkWeight,
  kMlp1,
  kSwiglu,
  kMlp2,
  kMlpResidual,
  kFinalNorm,
  kLogits,
  kCount
};

// Sees the values of each stage of the first row, on the device, as they come: hip/debug/parity.hpp does.
class StageObserver {
 public:
  virtual ~StageObserver() = default;
  virtual void begin_step(int token, int position) = 0;
  // layer: 0 outside layers.
  virtual void see(Stage stage, int layer, const float *d_values, hipStream_t stream) = 0;
  virtual void see(Stage stage, int layer, const int *d_values, hipStream_t stream) = 0;
};

}  // namespace getp_hip
