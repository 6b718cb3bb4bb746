// The harness without its patch set: run.cpp and getp_eval.cpp with the CPU's forward. Who includes it defines inference and forward_hip.
#pragma once

#define TESTING   // no main of run.cpp
#define GETP_RUN  // no getp-csrc/getp_run.cpp
#include "../run.cpp"

void warm_up(Transformer *, Tokenizer *) {}
void finish(Transformer *, Tokenizer *) {}
void warm_up_forward(Transformer *) {}
