// Threads: fork, run, join. Torch's OpenMP team is shared when torch has brought one (its workers go on spinning after
// every parallel operator; a pool of our own beside it doubled the time of what follows one). Without torch a small
// pool of our own serves. A child made by fork() works alone. Concurrent callers are safe: each has a team, or works alone.
#pragma once
#include <atomic>
#include <type_traits>
#include <vector>

namespace throughtime {

// Runs body(task) for every task in 0..tasks-1, on at most `threads` threads; flush-to-zero is on inside, the floating
// point state of every thread is restored after. What a body throws is thrown here, once all have ended.
void run_tasks(int tasks, int threads, void (*body)(void* context, int task), void* context);

template <class Body> void parallel_for(int tasks, int threads, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_tasks(tasks, threads, [](void* context, int task) { (*static_cast<Plain*>(context))(task); },
            const_cast<void*>(static_cast<const void*>(&body)));
}

// Where all workers of a team wait for one another: spinning for a while, then giving the processor away. Each says in a cache
// line of its own how far it is and reads those of the others: a line that all write would travel twice as often.
class Barrier {
 public:
  explicit Barrier(int workers) : places_(workers) {}
  void wait(int worker);

 private:
  struct alignas(128) Place {
    std::atomic<unsigned> phase{0};
  };
  std::vector<Place> places_;
};

// One of a team.
struct Member {
  const int worker;
  Barrier& barrier;
  void wait() const { barrier.wait(worker); }  // for all the others
};

// Runs body(member) once on each of `workers` threads at the same time, and only if so many are to be had at once:
// otherwise nothing runs and the answer is false. body must not throw: the others would wait for ever.
bool run_team(int workers, void (*body)(void* context, const Member& member), void* context);

template <class Body> bool parallel_team(int workers, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  return run_team(workers, [](void* context, const Member& member) { (*static_cast<Plain*>(context))(member); },
                  const_cast<void*>(static_cast<const void*>(&body)));
}

const char* team_name();      // "openmp" (shared with torch) or "own"
int default_thread_count();   // processors this process may run on, or OMP_NUM_THREADS

}  // namespace throughtime
