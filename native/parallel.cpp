// See throughtime/parallel.hpp.
#include "throughtime/parallel.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace throughtime {
namespace {

// Decaying states and gradients become subnormal and then cost tens of times more: results and operands are flushed
// to zero inside the kernels, and only there.
class FlushToZero {
 public:
#if defined(__x86_64__)
  FlushToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // FTZ | DAZ
  ~FlushToZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushToZero() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
  }
  ~FlushToZero() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  unsigned long long before_;
#endif
};

struct Job {
  int tasks;
  void (*body)(void*, int);
  void* context;
  bool together;  // every task on a thread of its own at the same time, or none at all
  std::mutex failing{};
  std::exception_ptr failure{};  // the first one; out of memory is the only one there can be

  // Runs what falls to this worker, of so many.
  void run_share(int worker, int workers) {
    FlushToZero scope;
    if (together) return workers == tasks ? body(context, worker) : void();
    try {
      for (int task = worker; task < tasks; task += workers) body(context, task);
    } catch (...) {
      std::lock_guard<std::mutex> lock(failing);
      if (!failure) failure = std::current_exception();
    }
  }
};

// After fork() the workers of the parent's teams do not exist in the child, and libgomp would wait for them forever.
std::atomic<bool> forked{false};
struct ForkGuard {
  ForkGuard() { pthread_atfork(nullptr, nullptr, [] { forked.store(true); }); }
} fork_guard;

// ---- torch's team -------------------------------------------------------------------------------------------------

struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*thread_num)() = nullptr;
  int (*num_threads)() = nullptr;

  bool find_in(void* library) {
    parallel = reinterpret_cast<decltype(parallel)>(dlsym(library, "GOMP_parallel"));
    thread_num = reinterpret_cast<decltype(thread_num)>(dlsym(library, "omp_get_thread_num"));
    num_threads = reinterpret_cast<decltype(num_threads)>(dlsym(library, "omp_get_num_threads"));
    return parallel && thread_num && num_threads;
  }
};

// Only a runtime that is already in the process is used; torch may be imported after us, so a failure is not final.
const OpenMP* openmp() {
  static std::atomic<const OpenMP*> found{nullptr};
  const OpenMP* known = found.load(std::memory_order_acquire);
  if (known) return known;
  static std::mutex searching;
  std::lock_guard<std::mutex> lock(searching);
  if ((known = found.load())) return known;
  static OpenMP team;
  bool ok = team.find_in(RTLD_DEFAULT);
  if (!ok)
    if (void* library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD)) ok = team.find_in(library);
  if (ok) found.store(&team, std::memory_order_release);
  return ok ? &team : nullptr;
}

void run_on_openmp(const OpenMP& team, Job& job, int threads) {
  struct Region {
    const OpenMP* team;
    Job* job;
  } region{&team, &job};
  team.parallel(
      [](void* data) {
        const Region& r = *static_cast<Region*>(data);
        // The team can be smaller than asked for (nested regions, limits): share by what it really is.
        r.job->run_share(r.team->thread_num(), r.team->num_threads());
      },
      &region, unsigned(threads), 0);
}

// ---- our own pool, where there is no torch ------------------------------------------------------------------------

// Never destroyed: at exit its threads sleep in a wait, hold nothing, and end with the process.
class Pool {
 public:
  static Pool& instance() {
    static Pool* pool = new Pool;
    return *pool;
  }

  bool try_run(Job& job, int threads) {
    std::unique_lock<std::mutex> busy(in_use_, std::try_to_lock);
    if (!busy.owns_lock()) return false;  // another caller has the pool: work alone
    const int helpers = grow(threads - 1);
    if (job.together && helpers + 1 < threads) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      workers_ = helpers + 1;
      pending_ = helpers;
      ++generation_;
    }
    wake_.notify_all();
    job.run_share(0, helpers + 1);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return pending_ == 0; });
    return true;
  }

 private:
  int grow(int wanted) {
    while (size_ < wanted) {
      try {
        std::thread(&Pool::work, this, size_ + 1, generation_).detach();
      } catch (const std::exception&) {  // no more threads to be had: share among those there are
        break;
      }
      ++size_;
    }
    return size_ < wanted ? size_ : wanted;
  }

  void work(int worker, unsigned long seen) {
    for (;;) {
      Job* job;
      int workers;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (worker >= workers_) continue;
        job = job_;
        workers = workers_;
      }
      job->run_share(worker, workers);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex in_use_, mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int size_ = 0, workers_ = 0, pending_ = 0;
  unsigned long generation_ = 0;
};

}  // namespace

void run_tasks(int tasks, int threads, void (*body)(void*, int), void* context) {
  Job job{tasks, body, context, false};
  if (threads > tasks) threads = tasks;
  const bool alone = threads <= 1 || forked.load(std::memory_order_relaxed);
  const OpenMP* team = alone ? nullptr : openmp();
  if (team) run_on_openmp(*team, job, threads);
  else if (alone || !Pool::instance().try_run(job, threads)) job.run_share(0, 1);
  if (job.failure) std::rethrow_exception(job.failure);
}

bool run_team(int workers, void (*body)(void*, const Member&), void* context) {
  if (workers <= 1 || forked.load(std::memory_order_relaxed)) return false;
  struct Team {
    void (*body)(void*, const Member&);
    void* context;
    Barrier barrier;
    std::atomic<bool> ran{false};
  } team{body, context, Barrier(workers)};
  Job job{workers,
          [](void* data, int worker) {
            Team& t = *static_cast<Team*>(data);
            t.ran.store(true, std::memory_order_relaxed);
            t.body(t.context, Member{worker, t.barrier});
          },
          &team, true};
  if (const OpenMP* shared = openmp()) run_on_openmp(*shared, job, workers);
  else Pool::instance().try_run(job, workers);
  return team.ran.load();
}

void Barrier::wait(int worker) {
  const unsigned phase = places_[worker].phase.load(std::memory_order_relaxed) + 1;
  places_[worker].phase.store(phase, std::memory_order_release);
  for (const Place& other : places_)
    for (int spins = 0; int(other.phase.load(std::memory_order_acquire) - phase) < 0; ++spins) {  // it may be one ahead
      if (spins < 4000) {
#if defined(__x86_64__)
        _mm_pause();
#endif
      } else {
        sched_yield();  // fewer processors than workers: let the late one in
      }
    }
}

const char* team_name() { return openmp() ? "openmp" : "own"; }

int default_thread_count() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const int n = std::atoi(text);
    if (n > 0) return n;
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? int(n) : 1;
}

}  // namespace throughtime
