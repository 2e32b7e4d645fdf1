// Where the time of a call goes, stage by stage, as one thread of it sees it. Only for measuring: without a place to write to,
// a lap costs a branch.
#pragma once
#include <chrono>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "throughtime/layer.hpp"

namespace throughtime {

class Stopwatch {
 public:
  explicit Stopwatch(double* ticks = nullptr) : ticks_(ticks), last_(ticks ? now() : 0) {}

  void lap(Stage stage) {
    if (!ticks_) return;
    const auto time = now();
    ticks_[int(stage)] += double(time - last_);
    last_ = time;
  }

 private:
  static unsigned long long now() {
#if defined(__x86_64__)
    return __rdtsc();  // a system clock would cost as much as a stage of a small problem
#else
    return static_cast<unsigned long long>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
  }

  double* ticks_;
  unsigned long long last_;
};

}  // namespace throughtime
