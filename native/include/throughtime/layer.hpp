// The contract of the two operators of the engine: one recurrent layer in one direction, forward, and back through time.
//
// Legend   T steps   B sequences   I inputs   H hidden units   P what is carried over (P = H, but for an LSTM with projection)
//          G gates   N = sum of the lengths, the number of steps there really are
//
// Nothing here knows of PyTorch or Python. Every pointer is borrowed for the length of the call. Inputs may alias each
// other; no output may alias anything. Memory need not be aligned beyond its element type. The functions throw
// std::invalid_argument for what a caller can get wrong about lengths, std::bad_alloc when scratch cannot be had, and
// nothing else. Sizes and pointers are checked by the caller (tensors.cpp, and runtime/ in Python).
//
// The same bits come out for any number of threads, and with or without taps.
#pragma once
#include <cstdint>

namespace throughtime {

using Index = std::int64_t;

enum class CellKind : int { rnn_tanh, rnn_relu, rnn_sigmoid, rnn_identity, gru, lstm };
constexpr int cell_count = 6;

// What the driver knows of a cell. A row of gates holds `segments` runs of padded(H) values: the input product writes
// x_count of them from segment 0 on, the recurrent product h_count from segment h_first on, and *_order says which of
// torch's gates each of them is. The two ranges differ only for the GRU, which keeps the recurrent part of n apart:
// its segments are [n, r, z, recurrent part of n]. Gradients of the pre-activations lie in the same order.
struct CellShape {
  int gates;        // G, rows of H in torch's weights
  int segments;     // in a row of gates
  int h_first;      // segment where the recurrent product begins
  int x_order[4];   // torch's gate at input-product segment k
  int h_order[4];   // torch's gate at recurrent-product segment k
  bool has_cell;    // a second state c (LSTM)
  bool has_bypass;  // a part of the gradient goes past the weights to h_{t-1} (GRU)
  bool keeps_gates; // backward needs the gates (not the simple RNN: its slope follows from its output)
};
const CellShape& shape_of(CellKind cell);

// The widths of the saved rows are multiples of 64 bytes on every instruction set, so that what a forward pass saved
// on one can be read by a backward pass on another.
template <class T> [[gnu::always_inline]] constexpr Index padded(Index n) {
  constexpr Index unit = 64 / Index(sizeof(T));
  return (n + unit - 1) / unit * unit;
}

// Row (t, b) of a sequence tensor: data + t * step + b * row, in elements; the features of a row are contiguous.
// In packed form (torch's PackedSequence) rows lie one after another, `row` apart, and `step` is unused.
template <class T> struct Rows {
  T* data;
  Index step;
  Index row;
};

// What the time of a call is spent on; see Problem::profile.
enum class Stage : int {
  preparing,       // packing weights, initial states
  input,           // the product of the input
  recurrent,       // the product of the state
  pointwise,       // activations, or their derivatives
  moving,          // outputs and gradients from place to place, norms, a projection
  transported,     // the product that takes the gradient one step back
  recomputed,      // gates that were not kept
  weights,         // gradients of weights and biases
  input_gradient,
  waiting,         // for other threads
};
constexpr int stage_count = 10;

struct Problem {
  CellKind cell;
  Index T, B, I, H, P;
  const Index* lengths;  // [B] in 0..T, any order; null: all T. Packed: descending, none zero
  bool packed;
  bool reverse;          // start at each sequence's true end
  bool untied;           // weights per step: w_ih [T, H, I], w_hh [T-1, H, H], b_ih [T, H]; simple RNN, all lengths T
  int threads;           // at most so many; >= 1
  bool recompute;        // the forward pass keeps states only; the way back computes the gates anew
  double* profile;       // [stage_count] ticks of the calling thread are added here; null: not measured
};

// Contiguous, row-major, torch's gate order. b_ih, b_hh, w_hr may be null (w_hr: no projection).
template <class T> struct Weights {
  const T* w_ih;  // [G*H, I]
  const T* w_hh;  // [G*H, P]
  const T* b_ih;  // [G*H]
  const T* b_hh;  // [G*H]
  const T* w_hr;  // [P, H]
};

// The number of elements in a saved row: gates (activations; not with `recompute`) and, for the LSTM, the cell state.
// 0 for the simple RNN, whose output says it all.
template <class T> Index saved_width(CellKind cell, Index H, bool recompute);

template <class T> struct ForwardArgs {
  Problem problem;
  Weights<T> weights;
  Rows<const T> x;  // [T, B, I]; past a sequence's end it is never read
  const T* h0;      // [B, P], null: zeros
  const T* c0;      // [B, H], null: zeros
  Rows<T> output;   // [T, B, P]; past a sequence's end it is set to zero; data null: not wanted (and nothing goes backward)
  T* h_n;           // [B, P] the state at each true end; h0 for length 0
  T* c_n;           // [B, H], LSTM only
  T* saved;         // [N, saved_width], or null: nothing will go backward
};

// Squared norms per (t, b), accumulated in float64, in this order (see docs/flow.md):
//   rnn  delta, a, u      gru  delta, a, hidden, bypass, u      lstm  delta, a, u, cell_in, cell, cell_out
constexpr int tap_limit = 6;
int tap_count(CellKind cell);

template <class T> struct BackwardArgs {
  Problem problem;
  Weights<T> weights;
  Rows<const T> x;
  const T* h0;
  const T* c0;
  Rows<const T> output;       // of the forward pass
  const T* saved;
  Rows<const T> grad_output;  // data null: none; past a sequence's end it is never read
  const T* grad_h_n;          // [B, P] or null
  const T* grad_c_n;          // [B, H] or null
  // Each may be null where it is not wanted.
  Rows<T> grad_x;             // past a sequence's end it is set to zero
  T* grad_h0;
  T* grad_c0;
  T* grad_w_ih;
  T* grad_w_hh;
  T* grad_b_ih;
  T* grad_b_hh;
  T* grad_w_hr;
  Rows<T> delta;              // [T, B, P] total dL/dh_t; past a sequence's end it is set to zero
  double* taps;               // [tap_count, T, B], NaN where there is no step
  // The probe: what is transported is divided by its norm after every step, so that it neither under- nor overflows;
  // the taps of a step are those before the division. Wanted together with taps, without any gradient.
  bool rescale;
};

// Memory, 64-byte aligned. What has been given back waits for the next call, up to keep_memory() bytes in all (128 MiB unless
// said otherwise): malloc would return larger blocks to the system, and the page faults of the next call were measured to take
// up to a fifth of its time.
void* take_block(std::size_t bytes);  // throws std::bad_alloc
void give_block(void* block) noexcept;
void keep_memory(Index bytes);

template <class T> void forward(const ForwardArgs<T>& args);
template <class T> void backward(const BackwardArgs<T>& args);

}  // namespace throughtime
