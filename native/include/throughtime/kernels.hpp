// The table of kernels: what differs between instruction sets, and nothing else. dispatch.cpp chooses one at run time.
//
// A matrix product never needs its operands in one piece: the rows of A and C are given by pointers (so padding,
// batch-first tensors, reversed sequences and packed sequences all cost nothing extra), and B is packed into panels.
#pragma once
#include "throughtime/layer.hpp"

#include <vector>

namespace throughtime {

enum class Start : int { zero, bias, accumulate };

// C[m][n] = start + sum over g, k of A[m][g * a_segment + k * a_step] * B[g * depth + k][n],  m < rows,
// first <= n < columns, g < segments, k < depth. Each element is one chain of additions in the order of (g, k), whatever the rows
// beside it: that is why results do not depend on how rows are shared among threads. Start::accumulate adds the chain to what is
// there once it is done: gradients summed up chunk by chunk would otherwise be chains as long as the sequence, whose float32
// rounding was measured at five times that of torch's.
template <class T> struct Product {
  Index rows;
  Index first;    // a multiple of panel_width
  Index columns;
  Index depth;
  Index segments;
  Index a_segment;
  Index a_step;
  const T* const* a;
  const T* b;     // panels: panel_width columns each, [segments * depth][width], the last one rounded up to a vector
  T* const* c;    // columns that are no multiple of a vector are handled
  Start start;
  const T* bias;  // [columns rounded up to a vector], for Start::bias
  bool c_is_far;  // not in a near cache: it is fetched while the chains are added up
  // product_single: B is read from its end to its beginning. Turned round at every step, what a cache that is too small for all of B
  // still holds from the last step is read first (with one order for all steps it would just have been thrown out). So sums are
  // taken in another order, and the last bits differ, at every other step.
  bool backwards;
};

// One row of one step in the pointwise stage. All pointers to padded(H) values (gates, a: times segments).
template <class T> struct ForwardRow {
  T* gates;         // in: pre-activations; out: activations
  const T* h_prev;
  const T* c_prev;
  T* c;             // may be c_prev
  T* h;
};
template <class T> struct BackwardRow {
  const T* gates;
  const T* h;       // the output of this step (simple RNN)
  const T* h_prev;  // (GRU)
  const T* c;
  const T* c_prev;
  T* delta;         // gradient at the output of the cell (before projection); out: with loss
  const T* loss;    // what is to be added to it, or null
  T* carry;         // LSTM: in: what arrives at c_t, out: what goes on to c_{t-1}; GRU: out: the bypass z * delta
  T* cell;          // LSTM, out: the total gradient at c_t
  T* a;             // out: gradients of the pre-activations
};

template <class T> struct Kernels {
  Index vector;       // elements in a vector
  Index panel_width;  // columns in a panel of B
  void (*product)(const Product<T>&);
  // The same for a single row with a_step 1, without a bias, and the chain of additions split in several (one chain is bound by
  // latency).
  void (*product_single)(const Product<T>&);
  // c[n] += sum_k w[n][k] * a[k], n < H: straight from row-major weights, for when packing would not pay.
  void (*matvec)(Index rows, Index H, Index depth, const T* w, const T* const* a, T* const* c, Index c_offset);
  // Packs W [n_segments * H][K], row n of segment s taken from w + (order[s] * H + n) * K, into panels of B = W^T with
  // columns padded to padded(H) a segment (zeros). Only the panels from column `first` to `last`.
  void (*pack_transposed)(T* panels, const T* w, const int* order, int segments, Index H, Index K, Index first, Index last);
  // Packs rows into panels as they are: B[k][n] = rows[k][n], columns zero-padded to a vector; n_first..n_last of them.
  void (*pack_rows)(T* panels, const T* const* rows, Index depth, Index n_first, Index n_last);
  void (*add)(T* into, const T* from, Index n);
  void (*scale)(T* values, T factor, Index n);
  double (*sum_squares)(const T* values, Index n);  // right for every norm that T can hold
  // The pointwise stages, for units `first` to `last` of padded_H; both are multiples of a vector.
  void (*forward_rows[cell_count])(Index rows, Index padded_H, Index first, Index last, const ForwardRow<T>*);
  void (*backward_rows[cell_count])(Index rows, Index padded_H, Index first, Index last, const BackwardRow<T>*);
  // LSTM with projection: the cell's output before it, o * tanh(c).
  void (*lstm_output)(T* h, const T* gates, const T* c, Index padded_H);
  // For measuring: so many rounds of multiply-adds on registers; sink[0], sink[1] in, sink[2] out. How many they were.
  double (*multiply_adds)(Index rounds, T* sink);
};

struct InstructionSet {
  const char* name;
  const Kernels<float>* f32;
  const Kernels<double>* f64;
};

// Those this processor can run, best first. Which one is in use: the environment variable THROUGHTIME_ISA at the first
// call, then set_isa.
const std::vector<InstructionSet>& instruction_sets();
const InstructionSet& current_isa();
bool set_isa(const char* name);  // false: unknown or not supported here; "auto" is the best one
template <class T> const Kernels<T>& kernels();

// What the processor can do at best, by the instruction set in use: multiply-adds (two operations each) from registers,
// on so many threads at once for so many seconds; operations a second of all threads together.
template <class T> double ceiling(int threads, double seconds);

}  // namespace throughtime
