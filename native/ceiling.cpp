// The ceiling that every figure of a benchmark is held against, measured in the same process.
#include <chrono>
#include <vector>

#include "throughtime/kernels.hpp"
#include "throughtime/parallel.hpp"

namespace throughtime {

template <class T> double ceiling(int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr Index rounds = 20000;  // well below a millisecond: the clock is read often enough
  const Kernels<T>& table = kernels<T>();
  std::vector<double> rates(threads);
  parallel_for(threads, threads, [&](int task) {
    T sink[3] = {T(0.999), T(0.001), T(0)};
    double done = 0, elapsed = 0;
    for (const auto start = Clock::now(); elapsed < seconds; elapsed = std::chrono::duration<double>(Clock::now() - start).count())
      done += table.multiply_adds(rounds, sink);
    rates[task] = 2 * done / elapsed;
  });
  double total = 0;
  for (double rate : rates) total += rate;
  return total;
}

template double ceiling<float>(int, double);
template double ceiling<double>(int, double);

}  // namespace throughtime
