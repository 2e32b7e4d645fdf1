// Small loops over one row.
#pragma once
#include "kernels/simd.hpp"

namespace throughtime::TT_ISA {

template <class T> void add(T* into, const T* from, Index n) {
  Index i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) store(into + i, load(into + i) + load(from + i));
  for (; i < n; ++i) into[i] += from[i];
}

template <class T> void scale(T* values, T factor, Index n) {
  Index i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) store(values + i, load(values + i) * factor);
  for (; i < n; ++i) values[i] *= factor;
}

template <class T> double sum_squares_in_f64(const T* values, Index n) {
  constexpr int L = lanes<double>;
  typedef T Half __attribute__((vector_size(L * sizeof(T))));
  Vector<double> acc[2] = {};
  Index i = 0;
  for (; i + 2 * L <= n; i += 2 * L)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      Half narrow;
      __builtin_memcpy(&narrow, values + i + j * L, sizeof narrow);
      const Vector<double> wide = __builtin_convertvector(narrow, Vector<double>);
      acc[j] += wide * wide;
    }
  double total = sum<double>(acc[0] + acc[1]);
  for (; i < n; ++i) total += double(values[i]) * double(values[i]);
  return total;
}

// A norm of 1e-20 squared underflows float32, exactly where vanishing is to be seen. So float32 is added up in float32, which is
// a quarter of the work, only where it holds the sum and all that matters to it.
template <class T> double sum_squares(const T* values, Index n) {
  if constexpr (sizeof(T) == sizeof(float)) {
    constexpr int L = lanes<T>;
    Vector<T> acc[2] = {};
    Index i = 0;
    for (; i + 2 * L <= n; i += 2 * L)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const Vector<T> v = load(values + i + j * L);
        acc[j] += v * v;
      }
    T total = sum<T>(acc[0] + acc[1]);
    for (; i < n; ++i) total += values[i] * values[i];
    if (total > T(1e-20) && total < T(1e30)) return double(total);
  }
  return sum_squares_in_f64(values, n);
}

}  // namespace throughtime::TT_ISA
