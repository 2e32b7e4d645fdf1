// Weights made ready for the product kernels. Packing is done anew at every call: neither a pointer nor a version
// counter tells a changed weight (edits through .data bump no counter), and it is cheap beside a sequence.
#pragma once
#include <algorithm>

#include "driver/scratch.hpp"
#include "throughtime/kernels.hpp"

namespace throughtime {

// The sizes that follow from a problem, under one name each.
template <class T> struct Sizes {
  explicit Sizes(const Problem& p);
  const CellShape& cell;
  Index HP, PP;          // padded
  Index gate_width;      // segments * HP
  Index product_width;   // gates * HP: columns of either product
  Index h_offset;        // where the recurrent product begins in a row of gates
  bool keeps_gates;      // in the saved rows, for the way back
  Index saved_width;     // gate_width if gates are kept, and HP more for a cell state; 0 if nothing is
  Index cell_offset;     // where the cell state lies in a saved row
};

// A range of hidden units, the same in every gate: what one worker of a team owns.
struct Units {
  Index first, last;
};

// Who multiplies with a weight, and so who packs it: what is packed lies in the cache of the core that did it, and from core to
// core it would take up to three times as long as packing. Each of a team packs its own units; a single user packs all, if that
// fits into its cache; many users share evenly.
struct Users {
  int count, threads;  // those who multiply, and the threads there are
  bool team;
};

// Of a matrix that has one gate, as a projection has.
constexpr int identity_order[1] = {0};

// The operand of x W^T or h W^T: W [gates * H, K], for all steps of an untied network one after another.
template <class T> class ForwardWeight {
 public:
  // order: torch's gate at each segment. `matrices`: 1, or one per step. `pack` false: the weight is used as it lies.
  ForwardWeight(const Kernels<T>& kernels, const T* w, const int* order, int gates, Index H, Index K, Index matrices,
                bool pack, Users users);
  // rows of C += (or = bias +) rows of A times W^T, columns from c's pointers on.
  void multiply(Index matrix, Index rows, const T* const* a, T* const* c, const T* bias, Units units, bool c_is_far = false) const;
  // The same for the only sequence of a batch, at step s.
  void multiply_single(Index matrix, Index s, const T* const* a, T* const* c, Units units) const;
  Units all() const { return {0, HP_}; }

 private:
  void run(void (*kernel)(const Product<T>&), Product<T>& product, Index matrix, Units units) const;

  const Kernels<T>& kernels_;
  const T* w_;
  const int* order_;
  int gates_;
  Index H_, HP_, K_;
  bool packed_;
  Scratch<T> panels_;
};

// The operand of g W: gradients of gates (segments of HP, those of `order`) to what W [gates * H, K] was applied to.
template <class T> class BackwardWeight {
 public:
  BackwardWeight(const Kernels<T>& kernels, const T* w, const int* order, int gates, Index H, Index K, Index matrices,
                 Users users);
  void multiply(Index matrix, Index rows, const T* const* a, T* const* c, bool c_is_far = false) const;
  void multiply_single(Index matrix, Index s, const T* const* a, T* const* c, Units units) const;

 private:
  Product<T> product(Index matrix, Index rows, const T* const* a, T* const* c) const;

  const Kernels<T>& kernels_;
  int gates_;
  Index H_, HP_, K_, KP_;
  Scratch<T> panels_;
};

// How many tasks so many rows of steps are worth: each should have enough to do to pay for waking a thread.
template <class T> Index tasks_worth(const Problem& p, const Sizes<T>& sizes, Index rows, Index most);

// Whether a team should share the units of the only sequence of a batch, waiting for one another at every step: when reading
// the recurrent weights takes longer than that. 1 if not.
template <class T> int team_size(const Kernels<T>& kernels, const Problem& p, const Sizes<T>& sizes);
// The units of one worker of a team.
template <class T> Units share_of_units(const Kernels<T>& kernels, const Sizes<T>& sizes, int worker, int workers);

// Biases in a row of gates: b_ih (+ b_hh where the two are added anyway) over the columns of the input product, and,
// for a cell that keeps its recurrent part apart, b_hh of that gate in the last segment. [steps][gate_width]
template <class T> Scratch<T> bias_rows(const Kernels<T>& kernels, const Problem& p, const Sizes<T>& sizes,
                                         const Weights<T>& weights);

// Where the recurrent part of a gate is kept apart, rows of gates begin with its bias there, since the input product does not
// reach it.
template <class T>
void start_recurrent_part(const Sizes<T>& sizes, const T* bias, T* const* gates, Index rows, Units units) {
  if (!sizes.h_offset) return;
  for (Index k = 0; k < rows; ++k)
    std::copy(bias + sizes.product_width + units.first, bias + sizes.product_width + units.last,
              gates[k] + sizes.product_width + units.first);
}

}  // namespace throughtime
