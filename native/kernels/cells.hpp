// The pointwise stage of each cell, forward and backward: all that is special about a cell.
// Equations as in torch.nn (Elman 1990; Cho et al. 2014, reset-after form; Hochreiter & Schmidhuber 1997 with the forget gate
// of Gers et al. 2000); derivatives by hand, held against reference/ in float64.
//
// Slopes are written in terms of the activations that were kept: tanh' = 1 - y^2, sigmoid' = y (1 - y), relu' = [y > 0].
#pragma once
#include "kernels/vector_math.hpp"

namespace throughtime::TT_ISA {

struct Tanh {
  template <class T> static TT_INLINE Vector<T> value(Vector<T> x) { return tanh<T>(x); }
  template <class T> static TT_INLINE Vector<T> back(Vector<T> delta, Vector<T> y) { return delta * (T(1) - y * y); }
};
struct Relu {
  template <class T> static TT_INLINE Vector<T> value(Vector<T> x) { return x < T(0) ? Vector<T>{} : x; }  // NaN stays
  // Chosen, not multiplied: a closed unit lets not even infinity through. The slope at NaN is 1, as torch has it.
  template <class T> static TT_INLINE Vector<T> back(Vector<T> delta, Vector<T> y) { return y <= T(0) ? Vector<T>{} : delta; }
};
struct Sigmoid {
  template <class T> static TT_INLINE Vector<T> value(Vector<T> x) { return sigmoid<T>(x); }
  template <class T> static TT_INLINE Vector<T> back(Vector<T> delta, Vector<T> y) { return delta * (y * (T(1) - y)); }
};
struct Identity {
  template <class T> static TT_INLINE Vector<T> value(Vector<T> x) { return x; }
  template <class T> static TT_INLINE Vector<T> back(Vector<T> delta, Vector<T>) { return delta; }
};

// h = f(pre)
template <class T, class F> void rnn_forward(Index rows, Index, Index first, Index last, const ForwardRow<T>* row) {
  for (Index i = 0; i < rows; ++i)
    for (Index j = first; j < last; j += lanes<T>) store(row[i].h + j, F::template value<T>(load(row[i].gates + j)));
}
template <class T> TT_INLINE Vector<T> whole_delta(const BackwardRow<T>& row, Index j) {
  Vector<T> delta = load(row.delta + j);
  if (row.loss) store(row.delta + j, delta += load(row.loss + j));
  return delta;
}
template <class T, class F> void rnn_backward(Index rows, Index, Index first, Index last, const BackwardRow<T>* row) {
  for (Index i = 0; i < rows; ++i)
    for (Index j = first; j < last; j += lanes<T>)
      store(row[i].a + j, F::template back<T>(whole_delta(row[i], j), load(row[i].h + j)));
}

// r, z = sigmoid(pre); n = tanh(pre_n + r * m), m the recurrent part of n, bias included; h = n + z (h_prev - n)
// Segments: n, r, z, m.
template <class T> void gru_forward(Index rows, Index HP, Index first, Index last, const ForwardRow<T>* row) {
  for (Index i = 0; i < rows; ++i) {
    T* g = row[i].gates;
    for (Index j = first; j < last; j += lanes<T>) {
      const Vector<T> r = sigmoid<T>(load(g + HP + j));
      const Vector<T> z = sigmoid<T>(load(g + 2 * HP + j));
      const Vector<T> n = tanh<T>(load(g + j) + r * load(g + 3 * HP + j));
      store(g + j, n);
      store(g + HP + j, r);
      store(g + 2 * HP + j, z);
      store(row[i].h + j, n + z * (load(row[i].h_prev + j) - n));
    }
  }
}
template <class T> void gru_backward(Index rows, Index HP, Index first, Index last, const BackwardRow<T>* row) {
  for (Index i = 0; i < rows; ++i) {
    const T* g = row[i].gates;
    T* a = row[i].a;
    for (Index j = first; j < last; j += lanes<T>) {
      const Vector<T> n = load(g + j), r = load(g + HP + j), z = load(g + 2 * HP + j), m = load(g + 3 * HP + j);
      const Vector<T> delta = whole_delta(row[i], j);
      const Vector<T> a_n = delta * (T(1) - z) * (T(1) - n * n);
      store(a + j, a_n);
      store(a + HP + j, a_n * m * r * (T(1) - r));
      store(a + 2 * HP + j, delta * (load(row[i].h_prev + j) - n) * z * (T(1) - z));
      store(a + 3 * HP + j, a_n * r);
      store(row[i].carry + j, delta * z);
    }
  }
}

// i, f, o = sigmoid(pre); g = tanh(pre_g); c = f c_prev + i g; h = o tanh(c). Segments: i, f, g, o.
template <class T> void lstm_forward(Index rows, Index HP, Index first, Index last, const ForwardRow<T>* row) {
  for (Index k = 0; k < rows; ++k) {
    T* gates = row[k].gates;
    for (Index j = first; j < last; j += lanes<T>) {
      const Vector<T> i = sigmoid<T>(load(gates + j));
      const Vector<T> f = sigmoid<T>(load(gates + HP + j));
      const Vector<T> g = tanh<T>(load(gates + 2 * HP + j));
      const Vector<T> o = sigmoid<T>(load(gates + 3 * HP + j));
      const Vector<T> c = f * load(row[k].c_prev + j) + i * g;
      store(gates + j, i);
      store(gates + HP + j, f);
      store(gates + 2 * HP + j, g);
      store(gates + 3 * HP + j, o);
      store(row[k].c + j, c);
      store(row[k].h + j, o * tanh<T>(c));
    }
  }
}
template <class T> void lstm_backward(Index rows, Index HP, Index first, Index last, const BackwardRow<T>* row) {
  for (Index k = 0; k < rows; ++k) {
    const T* gates = row[k].gates;
    T* a = row[k].a;
    for (Index j = first; j < last; j += lanes<T>) {
      const Vector<T> i = load(gates + j), f = load(gates + HP + j), g = load(gates + 2 * HP + j), o = load(gates + 3 * HP + j);
      const Vector<T> delta = whole_delta(row[k], j);
      const Vector<T> y = tanh<T>(load(row[k].c + j));
      const Vector<T> cell = load(row[k].carry + j) + delta * o * (T(1) - y * y);
      store(row[k].cell + j, cell);
      store(a + j, cell * g * i * (T(1) - i));
      store(a + HP + j, cell * load(row[k].c_prev + j) * f * (T(1) - f));
      store(a + 2 * HP + j, cell * i * (T(1) - g * g));
      store(a + 3 * HP + j, delta * y * o * (T(1) - o));
      store(row[k].carry + j, cell * f);
    }
  }
}
template <class T> void lstm_output(T* h, const T* gates, const T* c, Index HP) {
  for (Index j = 0; j < HP; j += lanes<T>) store(h + j, load(gates + 3 * HP + j) * tanh<T>(load(c + j)));
}

}  // namespace throughtime::TT_ISA
