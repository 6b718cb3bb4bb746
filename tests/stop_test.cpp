// What Ctrl-C, SIGTERM and a failed device do to the program's exit.
#include "../hip/engine/stop.hpp"

#include <gtest/gtest.h>

using getp_hip::report_stop;
using getp_hip::stop_code;
using getp_hip::stop_for_error;
using getp_hip::StopOnSignals;
using testing::ExitedWithCode;

namespace {

class Stop : public testing::Test {
 protected:
  // Whoever started this program may have it ignore signals: a shell does so for what it starts in the background.
  void SetUp() override {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
  }
};

// A run of seven requests that `event` stops after the third; then the harness's part, which ends in success.
template <class Event>
void run(Event event) {
  {
    const StopOnSignals signals;
    event();
    report_stop(3, 7);
  }
  exit(EXIT_SUCCESS);
}

TEST_F(Stop, TheExitCodeAndALineTellTheReason) {
  EXPECT_EXIT(run([] { raise(SIGINT); }), ExitedWithCode(130), "stopped by SIGINT: 3 of 7 requests are finished");
  EXPECT_EXIT(run([] { raise(SIGTERM); }), ExitedWithCode(143), "stopped by SIGTERM: 3 of 7 requests are finished");
  EXPECT_EXIT(run([] { stop_for_error("it broke"); }), ExitedWithCode(1),
              "^error: it broke\nstopped by an error: 3 of 7");
  EXPECT_EXIT(run([] {}), ExitedWithCode(0), "^$");
}

TEST_F(Stop, OfSeveralErrorsTheFirstIsSaid) {
  const auto twice = [] {
    stop_for_error("the first");
    stop_for_error("the second");
  };
  EXPECT_EXIT(run(twice), ExitedWithCode(1), "^error: the first\nstopped by an error: [^\n]*\n$");
}

TEST_F(Stop, WhatTheHarnessPrintsAtTheEndIsNotLost) {
  const auto print_later = [] {
    raise(SIGINT);
    setvbuf(stderr, nullptr, _IOFBF, 4096);
    fprintf(stderr, "the end");
  };
  EXPECT_EXIT(run(print_later), ExitedWithCode(130), "the end");
}

TEST_F(Stop, ASecondSignalEndsTheProgramAtOnce) {
  const auto twice = [] {
    raise(SIGINT);
    raise(SIGTERM);
    fprintf(stderr, "still here");
  };
  EXPECT_EXIT(run(twice), ExitedWithCode(143), "^$");
}

TEST_F(Stop, SignalsActAsBeforeOnceTheRunIsOver) {
  EXPECT_EXIT(
      {
        { const StopOnSignals signals; }
        raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST_F(Stop, AnIgnoredSignalStaysIgnored) {
  const auto ignored = [] {
    raise(SIGINT);
    exit(stop_code);
  };
  signal(SIGINT, SIG_IGN);
  EXPECT_EXIT(run(ignored), ExitedWithCode(0), "");
  signal(SIGINT, SIG_DFL);
}

}  // namespace
