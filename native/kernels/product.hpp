// Matrix products: register tiles of up to 6 rows by TT_PANEL_VECTORS vectors over packed panels, and the packing.
//
// A tile of 6 x 4 vectors on 32 registers (24 accumulators, 4 for B, the rest for broadcasts) does 24 multiply-adds for
// 10 loads; with 16 registers it is 6 x 2. Panels are the outer loop and rows the inner one, so that a panel is read from
// far away once and then comes from L1 or L2. See Goto & van de Geijn 2008, and Van Zee & van de Geijn 2015 (BLIS).
#pragma once
#include "kernels/simd.hpp"

namespace throughtime::TT_ISA {

constexpr int tile_rows = 6;
constexpr int panel_vectors = TT_PANEL_VECTORS;
template <class T> constexpr Index panel_width = panel_vectors * lanes<T>;

// One tile. `valid` columns are stored, all are computed.
template <class T, int R, int NV>
TT_INLINE void tile(const Product<T>& p, const T* const* a, const T* b, T* const* c, const T* bias, Index valid) {
  constexpr int L = lanes<T>;
  Vector<T> acc[R][NV];
#pragma GCC unroll 6
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = p.start == Start::bias ? load(bias + j * L) : Vector<T>{};
  if (p.c_is_far)
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) __builtin_prefetch(c[i] + j * L, 1);
  const Index step = p.a_step;
  for (Index g = 0; g < p.segments; ++g) {
    const T* row[R];
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i) row[i] = a[i] + g * p.a_segment;
    for (Index k = 0, at = 0; k < p.depth; ++k, at += step, b += NV * L) {
      Vector<T> column[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) column[j] = load(b + j * L);
#pragma GCC unroll 6
      for (int i = 0; i < R; ++i) {
        const Vector<T> value = splat(row[i][at]);
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[i][j] += value * column[j];
      }
    }
  }
  const bool adds = p.start == Start::accumulate;
  if (valid == NV * L) {
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) store(c[i] + j * L, adds ? load(c[i] + j * L) + acc[i][j] : acc[i][j]);
  } else {
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        if (j * L >= valid) break;
        const Index left = smaller(L, valid - j * L);
        store_first(c[i] + j * L, adds ? load_first(c[i] + j * L, left) + acc[i][j] : acc[i][j], left);
      }
  }
}

// Vectors out of two: element j is the from(j)-th of a and b laid end to end.
template <class T, class From> TT_INLINE Vector<T> pick(Vector<T> a, Vector<T> b, From from) {
  constexpr int L = lanes<T>;
#if defined(__clang__)
  Vector<T> result;
  for (int j = 0; j < L; ++j) result[j] = from(j) < L ? a[from(j)] : b[from(j) - L];
  return result;
#else
  Bits<T> place;
#pragma GCC unroll 16
  for (int j = 0; j < L; ++j) place[j] = from(j);
  return __builtin_shuffle(a, b, place);
#endif
}

// The sum of every APART-th of the chains, pairwise. (With loops that halve the chains GCC keeps them in memory.)
template <int CHAINS, int APART, class Chain> TT_INLINE auto sum_of_chains(const Chain& chain, int first) {
  if constexpr (APART == CHAINS) return chain(first);
  else return sum_of_chains<CHAINS, 2 * APART>(chain, first) + sum_of_chains<CHAINS, 2 * APART>(chain, first + APART);
}

// One row, every chain of additions split in CHAINS. Loads are what binds it, so a vector of A is loaded at once, and its elements
// are spread from the register: first 128 bits, then one element of them.
template <class T, int NV, int CHAINS>
TT_INLINE void single(const Product<T>& p, const T* b, T* c, Index valid) {
  constexpr int L = lanes<T>, width = NV * L, Q = 16 / int(sizeof(T)), block = CHAINS > L ? CHAINS : L;
  Vector<T> acc[CHAINS][NV];
#pragma GCC unroll 8
  for (int s = 0; s < CHAINS; ++s)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[s][j] = Vector<T>{};
  const Index whole = p.depth / block * block;
  for (Index i = 0; i < p.segments; ++i) {
    const Index g = p.backwards ? p.segments - 1 - i : i;
    const T* a = p.a[0] + g * p.a_segment;
    const T* rows = b + g * p.depth * width;
    const auto add = [&](Vector<T> value, const T* row, int chain) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[chain][j] += value * load(row + j * L);
    };
    for (Index done = 0; done < whole; done += block) {
      const Index first = p.backwards ? whole - block - done : done;
#pragma GCC unroll 4
      for (int k = 0; k < block; k += L) {
        const Vector<T> values = load(a + first + k);
#pragma GCC unroll 4
        for (int q = 0; q < L; q += Q) {
          const Vector<T> some = pick<T>(values, values, [&](int j) { return q + j % Q; });
#pragma GCC unroll 4
          for (int s = 0; s < Q; ++s)
            add(pick<T>(some, some, [&](int j) { return j / Q * Q + s; }), rows + (first + k + q + s) * width,
                (k + q + s) % CHAINS);
        }
      }
    }
    for (Index k = whole; k < p.depth; ++k) add(splat(a[k]), rows + k * width, 0);
  }
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) {
    const Vector<T> result = sum_of_chains<CHAINS, 1>([&](int s) { return acc[s][j]; }, 0);
    const Index left = valid - j * L;
    if (left >= L) store(c + j * L, p.start == Start::accumulate ? result + load(c + j * L) : result);
    else if (left > 0) store_first(c + j * L, p.start == Start::accumulate ? result + load_first(c + j * L, left) : result, left);
  }
}

template <class T, int NV>
void panel_of_rows(const Product<T>& p, const T* b, Index column, Index valid, const T* bias) {
  const Index tiles = (p.rows + tile_rows - 1) / tile_rows;
  T* c[tile_rows];
  for (Index t = 0, row = 0; t < tiles; ++t) {
    // Even tiles (6, 5, 5 rather than 6, 6, 4): no thin remainder.
    const int rows = int((p.rows - row) / (tiles - t) + ((p.rows - row) % (tiles - t) != 0));
    for (int i = 0; i < rows; ++i) c[i] = p.c[row + i] + column;
    const T* const* a = p.a + row;
    switch (rows) {
      case 1: tile<T, 1, NV>(p, a, b, c, bias, valid); break;
      case 2: tile<T, 2, NV>(p, a, b, c, bias, valid); break;
      case 3: tile<T, 3, NV>(p, a, b, c, bias, valid); break;
      case 4: tile<T, 4, NV>(p, a, b, c, bias, valid); break;
      case 5: tile<T, 5, NV>(p, a, b, c, bias, valid); break;
      default: tile<T, 6, NV>(p, a, b, c, bias, valid); break;
    }
    row += rows;
  }
}

template <class T> void product(const Product<T>& p) {
  const Index K = p.segments * p.depth;
  for (Index column = p.first; column < p.columns; column += panel_width<T>) {
    const Index valid = smaller(p.columns - column, panel_width<T>);
    const T* b = p.b + column * K;
    const T* bias = p.bias + (p.start == Start::bias ? column : 0);
    switch ((valid + lanes<T> - 1) / lanes<T>) {
      case 1: panel_of_rows<T, 1>(p, b, column, valid, bias); break;
      case 2: panel_of_rows<T, 2>(p, b, column, valid, bias); break;
#if TT_PANEL_VECTORS > 2
      case 3: panel_of_rows<T, 3>(p, b, column, valid, bias); break;
      case 4: panel_of_rows<T, 4>(p, b, column, valid, bias); break;
#endif
      default: __builtin_unreachable();
    }
  }
}

template <class T> void product_single(const Product<T>& p) {
  const Index K = p.segments * p.depth;
  const Index panels = (p.columns - p.first + panel_width<T> - 1) / panel_width<T>;
  for (Index i = 0; i < panels; ++i) {
    const Index column = p.first + (p.backwards ? panels - 1 - i : i) * panel_width<T>;
    const Index valid = smaller(p.columns - column, panel_width<T>);
    const T* b = p.b + column * K;
    T* c = p.c[0] + column;
    switch ((valid + lanes<T> - 1) / lanes<T>) {
      case 1: single<T, 1, 8>(p, b, c, valid); break;
      case 2: single<T, 2, 4>(p, b, c, valid); break;
#if TT_PANEL_VECTORS > 2
      case 3: single<T, 3, 2>(p, b, c, valid); break;
      case 4: single<T, 4, 2>(p, b, c, valid); break;
#endif
      default: __builtin_unreachable();
    }
  }
}

// Row-major weights as they are: dot products along k, four weight rows by R rows of A at a time.
template <class T, int R>
void dots(Index H, Index depth, const T* w, const T* const* a, T* const* c, Index c_offset) {
  constexpr int L = lanes<T>;
  const Index whole = depth / L * L;
  for (Index n = 0; n < H; n += 4) {
    const int count = int(smaller(4, H - n));
    const T* row[4];
    for (int j = 0; j < 4; ++j) row[j] = w + smaller(n + j, H - 1) * depth;
    Vector<T> acc[R][4];
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) acc[i][j] = Vector<T>{};
    for (Index k = 0; k < whole; k += L) {
      Vector<T> weight[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) weight[j] = load(row[j] + k);
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i) {
        const Vector<T> value = load(a[i] + k);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) acc[i][j] += value * weight[j];
      }
    }
    if (whole < depth)
      for (int i = 0; i < R; ++i) {
        const Vector<T> value = load_first(a[i] + whole, depth - whole);
        for (int j = 0; j < 4; ++j) acc[i][j] += value * load_first(row[j] + whole, depth - whole);
      }
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < count; ++j) c[i][c_offset + n + j] += sum<T>(acc[i][j]);
  }
}

template <class T>
void matvec(Index rows, Index H, Index depth, const T* w, const T* const* a, T* const* c, Index c_offset) {
  for (Index row = 0; row < rows; row += 4) switch (smaller(4, rows - row)) {
      case 1: dots<T, 1>(H, depth, w, a + row, c + row, c_offset); break;
      case 2: dots<T, 2>(H, depth, w, a + row, c + row, c_offset); break;
      case 3: dots<T, 3>(H, depth, w, a + row, c + row, c_offset); break;
      default: dots<T, 4>(H, depth, w, a + row, c + row, c_offset); break;
    }
}

// From the lower, or the upper, half of every 128 bits: runs of so many elements of a and b in turn, which processors have an
// instruction for.
template <class T, int RUN, bool UPPER> TT_INLINE Vector<T> interleave(Vector<T> a, Vector<T> b) {
  constexpr int lane = 16 / int(sizeof(T));
  return pick<T>(a, b, [](int j) {
    const int within = j % lane;
    return j - within + within / (2 * RUN) * RUN + within % RUN + (UPPER ? lane / 2 : 0) + within / RUN % 2 * lanes<T>;
  });
}

// Transposes a square of vectors in registers: by interleaving within 128 bits; beyond them pairs of rows swap their off-diagonal
// blocks (Eklundh 1972).
template <class T> TT_INLINE void transpose(Vector<T> (&rows)[lanes<T>]) {
  constexpr int L = lanes<T>, lane = 16 / int(sizeof(T));
#pragma GCC unroll 16
  for (int i = 0; i < L; i += lane) {
    Vector<T>* const r = rows + i;
    const Vector<T> a = interleave<T, 1, false>(r[0], r[1]), b = interleave<T, 1, true>(r[0], r[1]);
    if constexpr (lane == 2) {
      r[0] = a;
      r[1] = b;
    } else {
      const Vector<T> c = interleave<T, 1, false>(r[2], r[3]), d = interleave<T, 1, true>(r[2], r[3]);
      r[0] = interleave<T, 2, false>(a, c);
      r[1] = interleave<T, 2, true>(a, c);
      r[2] = interleave<T, 2, false>(b, d);
      r[3] = interleave<T, 2, true>(b, d);
    }
  }
#pragma GCC unroll 4
  for (int width = lane; width < L; width *= 2)
#pragma GCC unroll 8
    for (int k = 0; k < L / 2; ++k) {
      const int i = k / width * 2 * width + k % width;
      const Vector<T> a = rows[i], b = rows[i + width];
      rows[i] = pick<T>(a, b, [=](int j) { return j & width ? L + j - width : j; });
      rows[i + width] = pick<T>(a, b, [=](int j) { return j & width ? L + j : j + width; });
    }
}

template <class T>
void pack_transposed(T* panels, const T* w, const int* order, int segments, Index H, Index K, Index first, Index last) {
  constexpr int L = lanes<T>;
  const Index HP = padded<T>(H), columns = segments * HP;
  for (Index column = first; column < last; column += panel_width<T>) {
    const Index width = smaller(columns - column, panel_width<T>);
    // A vector's worth of columns at a time lies in one segment, since HP is a multiple of every vector.
    for (Index v = 0; v < width; v += L) {
      const Index segment = (column + v) / HP, unit = (column + v) % HP;
      const Index live = unit >= H ? 0 : smaller(L, H - unit);
      const T* from = w + (order[segment] * H + unit) * K;
      T* to = panels + column * K + v;
      Index k = 0;
      for (; live == L && k + L <= K; k += L) {
        Vector<T> block[L];
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j) block[j] = load(from + j * K + k);
        transpose<T>(block);
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j) store(to + (k + j) * width, block[j]);
      }
      for (; k < K; ++k)
        for (Index j = 0; j < L; ++j) to[k * width + j] = j < live ? from[j * K + k] : T(0);
    }
  }
}

template <class T>
void pack_rows(T* panels, const T* const* rows, Index depth, Index n_first, Index n_last) {
  constexpr Index ahead = 16, line = 64 / Index(sizeof(T));  // rows fetched ahead: they may come from far, and from anywhere
  for (Index column = n_first; column < n_last; column += panel_width<T>) {
    const Index valid = smaller(n_last - column, panel_width<T>);
    const Index width = (valid + lanes<T> - 1) / lanes<T> * lanes<T>;
    for (Index k = 0; k < depth; ++k, panels += width) {
      if (k + ahead < depth)
        for (Index n = 0; n < valid; n += line) __builtin_prefetch(rows[k + ahead] + column + n);
      const T* from = rows[k] + column;
      Index n = 0;
      for (; n + lanes<T> <= valid; n += lanes<T>) store(panels + n, load(from + n));
      if (n < valid) store(panels + n, load_first(from + n, valid - n));
    }
  }
}

}  // namespace throughtime::TT_ISA
