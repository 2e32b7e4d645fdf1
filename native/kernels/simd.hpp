// Vectors as the compilers' own vector extensions: one text for SSE2, AVX2, AVX-512 and NEON. The file that includes
// this defines TT_ISA (a namespace of its own: nothing compiled for a newer instruction set may be linked into common code),
// TT_VECTOR_BYTES and TT_PANEL_VECTORS. No template of the standard library appears in kernels/, for the same reason.
#pragma once
#include "throughtime/kernels.hpp"

#define TT_INLINE inline __attribute__((always_inline))

namespace throughtime::TT_ISA {

template <class T> struct VectorOf {
  typedef T type __attribute__((vector_size(TT_VECTOR_BYTES)));
};
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> constexpr int lanes = TT_VECTOR_BYTES / int(sizeof(T));

template <class T> struct BitsOf;
template <> struct BitsOf<float> { using type = std::int32_t; };
template <> struct BitsOf<double> { using type = std::int64_t; };
template <class T> using Bits = typename VectorOf<typename BitsOf<T>::type>::type;

template <class T> TT_INLINE Vector<T> load(const T* p) {
  Vector<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T> TT_INLINE void store(T* p, Vector<T> v) { __builtin_memcpy(p, &v, sizeof v); }

template <class T> TT_INLINE Vector<T> load_first(const T* p, Index n) {  // the rest is zero
  Vector<T> v = {};
  for (Index i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T> TT_INLINE void store_first(T* p, Vector<T> v, Index n) {
  for (Index i = 0; i < n; ++i) p[i] = v[i];
}

// x - 0 is x for every x, -0 and NaN too, so that the compiler leaves just the broadcast.
template <class T> TT_INLINE Vector<T> splat(T value) { return value - Vector<T>{}; }

// For every distance 1, 2, 4, ... the lane so far away from each. A table, since GCC puts such vectors together element by element
// at run time otherwise.
template <class T> struct Partners {
  typename BitsOf<T>::type lane[4][lanes<T>];
  constexpr Partners() : lane() {
    for (int level = 0; level < 4; ++level)
      for (int i = 0; i < lanes<T>; ++i) lane[level][i] = (i ^ 1 << level) % lanes<T>;
  }
};
template <class T> constexpr Partners<T> partners;

template <class T> TT_INLINE T sum(Vector<T> v) {  // pairwise
#if defined(__clang__)
  T lane[lanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
  for (int width = lanes<T> / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
#else
#pragma GCC unroll 4
  for (int level = 3; level >= 0; --level) {
    if (1 << level >= lanes<T>) continue;
    Bits<T> partner;
    __builtin_memcpy(&partner, partners<T>.lane[level], sizeof partner);
    v += __builtin_shuffle(v, partner);
  }
  return v[0];
#endif
}

template <class T> TT_INLINE Bits<T> as_bits(Vector<T> v) { return (Bits<T>)v; }
template <class T> TT_INLINE Vector<T> from_bits(Bits<T> b) { return (Vector<T>)b; }

TT_INLINE Index smaller(Index a, Index b) { return a < b ? a : b; }

}  // namespace throughtime::TT_ISA
