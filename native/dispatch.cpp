// Which instruction set serves, chosen once at run time. The choice is common code: nothing of isa/ runs before it.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "throughtime/kernels.hpp"

namespace throughtime {

extern const Kernels<float>* const baseline_f32;
extern const Kernels<double>* const baseline_f64;
#if defined(__x86_64__)
extern const Kernels<float>* const avx2_f32;
extern const Kernels<double>* const avx2_f64;
extern const Kernels<float>* const avx512_f32;
extern const Kernels<double>* const avx512_f64;
#elif defined(__aarch64__)
extern const Kernels<float>* const neon_f32;
extern const Kernels<double>* const neon_f64;
#endif

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = [] {
    std::vector<InstructionSet> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"))
      found.push_back({"avx512", avx512_f32, avx512_f64});
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back({"avx2", avx2_f32, avx2_f64});
#elif defined(__aarch64__)
    found.push_back({"neon", neon_f32, neon_f64});
#endif
    found.push_back({"baseline", baseline_f32, baseline_f64});
    return found;
  }();
  return sets;
}

namespace {

const InstructionSet* find(const char* name) {
  if (!name || !*name || !std::strcmp(name, "auto")) return &instruction_sets().front();
  for (const InstructionSet& set : instruction_sets())
    if (!std::strcmp(set.name, name)) return &set;
  return nullptr;
}

std::atomic<const InstructionSet*>& chosen() {
  // An unknown name in the environment is reported by the Python side, which can say it better; here it means auto.
  static std::atomic<const InstructionSet*> set{[] {
    const InstructionSet* wanted = find(std::getenv("THROUGHTIME_ISA"));
    return wanted ? wanted : find("auto");
  }()};
  return set;
}

}  // namespace

const InstructionSet& current_isa() { return *chosen().load(std::memory_order_acquire); }

bool set_isa(const char* name) {
  const InstructionSet* wanted = find(name);
  if (wanted) chosen().store(wanted, std::memory_order_release);
  return wanted != nullptr;
}

template <> const Kernels<float>& kernels<float>() { return *current_isa().f32; }
template <> const Kernels<double>& kernels<double>() { return *current_isa().f64; }

}  // namespace throughtime
