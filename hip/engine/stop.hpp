// How a run ends early: Ctrl-C, SIGTERM, an error. What is finished by then is kept.
#pragma once

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace getp_hip {

// 0 until something stops the run; then the exit code that the program will have.
inline std::atomic<int> stop_code{0};
static_assert(std::atomic<int>::is_always_lock_free, "signal handlers may touch nothing else");

// Stops the run for an error: one line, of the first such error alone. Any thread.
inline void stop_for_error(const std::string &line) {
  if (stop_code.exchange(EXIT_FAILURE) == EXIT_FAILURE) return;
  fprintf(stderr, "%serror: %s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", line.c_str());
}

// While it lives, Ctrl-C and SIGTERM stop the run; a second one ends the program at once.
class StopOnSignals {
 public:
  StopOnSignals() {
    came_ = false;
    struct sigaction action = {};
    action.sa_flags = SA_RESTART;
    action.sa_handler = [](int signal) {
      int running = 0;
      stop_code.compare_exchange_strong(running, 128 + signal);  // an error that came first stays the reason
      if (came_.exchange(true)) _exit(128 + signal);
    };
    for (int i = 0; i < 2; i++) {
      sigaction(kSignals[i], &action, &before_[i]);
      if (before_[i].sa_handler == SIG_IGN) sigaction(kSignals[i], &before_[i], nullptr);  // a script's background job
    }
  }
  ~StopOnSignals() {
    for (int i = 0; i < 2; i++) sigaction(kSignals[i], &before_[i], nullptr);
  }
  StopOnSignals(const StopOnSignals &) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM};
  static inline std::atomic<bool> came_{false};
  struct sigaction before_[2];
};

// After a run that was stopped: says how much of it is finished, and lets the program exit with stop_code once the
// harness, which knows nothing of it, has written the results and come to its end.
inline void report_stop(int finished, int requests) {
  if (stop_code == 0) return;
  const char *reason = stop_code == 128 + SIGINT ? "SIGINT" : stop_code == 128 + SIGTERM ? "SIGTERM" : "an error";
  fprintf(stderr, "stopped by %s: %d of %d requests are finished; the output lines of the others stay empty\n", reason,
          finished, requests);
  std::atexit([] {
    fflush(nullptr);
    _Exit(stop_code);
  });
}

}  // namespace getp_hip
