// The ceiling: multiply-adds from registers alone, in as many independent chains as the product's tile has accumulators.
#pragma once
#include "kernels/simd.hpp"

namespace throughtime::TT_ISA {

// Does `rounds` rounds; the number of multiply-adds done. `sink` takes a value that depends on all of them.
template <class T> double multiply_adds(Index rounds, T* sink) {
  constexpr int chains = TT_PANEL_VECTORS > 2 ? 24 : 12;
  Vector<T> acc[chains];
  for (int i = 0; i < chains; ++i) acc[i] = splat(T(i));
  const Vector<T> factor = splat(sink[0]), term = splat(sink[1]);  // from memory: nothing can be computed beforehand
  for (Index round = 0; round < rounds; ++round)
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) acc[i] = acc[i] * factor + term;
  for (int i = 1; i < chains; ++i) acc[0] += acc[i];
  sink[2] = sum<T>(acc[0]);
  return double(rounds) * chains * lanes<T>;
}

}  // namespace throughtime::TT_ISA
