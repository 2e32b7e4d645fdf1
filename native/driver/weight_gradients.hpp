// Gradients of weights and biases: products over the rows of a chunk of steps, which have no order in time.
//
// The sequences of a batch are summed up in two groups, and the two sums are added up at the end. Two threads that have carried
// their sequences' gradients back then read what they wrote themselves; otherwise half of it would travel from core to core, and
// its cache lines back again before the next chunk can be written. There are two groups for any number of threads, so that bits do
// not depend on it.
#pragma once
#include <algorithm>
#include <vector>

#include "driver/sequences.hpp"
#include "driver/weights.hpp"
#include "throughtime/parallel.hpp"

namespace throughtime {

template <class T> class WeightGradients {
 public:
  // The rows of a group in a chunk: what the weights were applied to, and the gradients of what came out.
  struct Rows {
    Index count;
    const T* const* x;
    const T* const* h;
    const T* a;  // of the pre-activations, a_stride apart
    Index a_stride;
    const T* const* unprojected;  // with a projection: the cell's outputs, and the gradients of those projected
    const T* projected;
  };

  // steps: of all sequences together.
  WeightGradients(const Kernels<T>& kernels, const BackwardArgs<T>& args, const Sizes<T>& sizes, Index steps)
      : kernels_(kernels),
        p_(args.problem),
        sizes_(sizes),
        steps_(steps),
        sums_{{args.grad_w_ih, args.grad_w_hh, args.grad_b_ih, args.grad_b_hh, args.grad_w_hr}, {}} {
    if (groups() == 1) return;
    Index count = 0;
    const auto summed = [&](int kind) { return sums_[0][kind] && !(kind == b_hh && one_bias()); };
    for (int i = 0; i < kinds; ++i) count += summed(i) ? size(i) : 0;
    second_ = Scratch<T>(count);
    T* next = second_.get();
    for (int i = 0; i < kinds; ++i)
      if (summed(i)) sums_[1][i] = next, next += size(i);
  }

  bool wanted() const {
    return std::any_of(sums_[0], sums_[0] + kinds, [](const T* sum) { return sum; });
  }

  // How many groups of sequences are summed up apart.
  Index groups() const {
    // Every chunk, and the end, read and write all sums of a group once more: with large ones, or few steps, that costs more than
    // it saves.
    constexpr Index most_bytes = 2 * 1024 * 1024, fewest_steps = 512;
    const bool worth = steps_ >= fewest_steps && (size(w_ih) + size(w_hh)) * Index(sizeof(T)) <= most_bytes;
    return p_.B > 1 && !p_.untied && worth ? 2 : 1;
  }

  // Adds (or, fresh, begins) the sums of a group with its rows in a chunk; a share of them. `step` counts where every step has
  // weights of its own.
  void add(Index group, Index share, Index shares, bool fresh, Index step, const Rows& rows) const {
    if (!fresh && !rows.count) return;
    const CellShape& cell = sizes_.cell;
    const T* const recurrent = rows.a + sizes_.h_offset;
    T* const* const sums = sums_[group];
    const Index gate_rows = cell.gates * p_.H, matrix = p_.untied ? step : 0, recurrent_matrix = p_.untied ? step - 1 : 0;
    const Part part{share, shares, fresh, rows.count};
    if (sums[w_ih])
      weight(part, rows.x, p_.I, rows.a, rows.a_stride, cell.x_order, cell.gates, p_.H, sums[w_ih] + matrix * gate_rows * p_.I);
    if (sums[w_hh] && recurrent_matrix >= 0)
      weight(part, rows.h, p_.P, recurrent, rows.a_stride, cell.h_order, cell.gates, p_.H,
             sums[w_hh] + recurrent_matrix * gate_rows * p_.P);
    if (sums[w_hr])
      weight(part, rows.unprojected, p_.H, rows.projected, sizes_.PP, identity_order, 1, p_.P, sums[w_hr]);
    if (sums[b_ih]) bias(part, rows.a, rows.a_stride, cell.x_order, sums[b_ih] + matrix * gate_rows);
    if (sums[b_hh] && !one_bias()) bias(part, recurrent, rows.a_stride, cell.h_order, sums[b_hh] + matrix * gate_rows);
  }

  // Puts the sums of the groups together; zeros, if there was no step at all.
  void finish(bool nothing_done) const {
    for (int i = 0; i < kinds; ++i) {
      if (!sums_[0][i]) continue;
      if (nothing_done) std::fill_n(sums_[0][i], size(i), T(0));
      else if (sums_[1][i]) {
        constexpr Index block = 16 * 1024;
        parallel_for(int((size(i) + block - 1) / block), size(i) < 4 * block ? 1 : p_.threads, [&](int task) {
          kernels_.add(sums_[0][i] + task * block, sums_[1][i] + task * block, std::min(block, size(i) - task * block));
        });
      }
    }
    if (one_bias()) std::copy_n(sums_[0][b_ih], size(b_ih), sums_[0][b_hh]);
  }

 private:
  enum { w_ih, w_hh, b_ih, b_hh, w_hr, kinds };

  // Where both biases are added to the same pre-activations, their gradients are the same.
  bool one_bias() const { return sizes_.h_offset == 0 && sums_[0][b_ih] && sums_[0][b_hh]; }

  // A share of the sums over so many rows, which they begin with or not.
  struct Part {
    Index share, shares;
    bool fresh;
    Index rows;
  };

  Index size(int kind) const {
    const Index gate_rows = sizes_.cell.gates * p_.H, matrices = p_.untied ? p_.T : 1;
    switch (kind) {
      case w_ih: return matrices * gate_rows * p_.I;
      case w_hh: return (p_.untied ? p_.T - 1 : 1) * gate_rows * p_.P;
      case w_hr: return p_.P * p_.H;
      default: return matrices * gate_rows;
    }
  }

  // gradient[order[g] * rows + m][:] += sum over k of a[k][g * padded(rows) + m] * inputs[k][:]; this share's part of (g, m).
  void weight(Part part, const T* const* inputs, Index columns, const T* a, Index a_stride, const int* order, Index gates, Index rows,
              T* gradient) const {
    const Index from = gates * rows * part.share / part.shares, to = gates * rows * (part.share + 1) / part.shares;
    if (from == to) return;
    const Index width = kernels_.panel_width;
    std::vector<const T*> a_columns(to - from);
    std::vector<T*> c(to - from);
    const Scratch<T> panel(part.rows * width);
    Product<T> p{};
    p.rows = to - from;
    p.depth = part.rows;
    p.segments = 1;
    p.a_step = a_stride;
    p.a = a_columns.data();
    p.b = panel.get();
    p.c = c.data();
    p.start = part.fresh ? Start::zero : Start::accumulate;
    p.c_is_far = true;
    for (Index column = 0; column < columns; column += width) {
      p.columns = std::min(width, columns - column);
      for (Index m = from; m < to; ++m) {
        const Index gate = m / rows, unit = m % rows;
        a_columns[m - from] = a + gate * padded<T>(rows) + unit;
        c[m - from] = gradient + (order[gate] * rows + unit) * columns + column;
      }
      kernels_.pack_rows(panel.get(), inputs, part.rows, column, column + p.columns);
      kernels_.product(p);
    }
  }

  void bias(Part part, const T* a, Index a_stride, const int* order, T* gradient) const {
    for (Index gate = 0; gate < sizes_.cell.gates; ++gate) {
      const Index from = p_.H * part.share / part.shares, count = p_.H * (part.share + 1) / part.shares - from;
      const Scratch<T> sums(count, true);  // of this chunk alone, as in the products
      for (Index k = 0; k < part.rows; ++k) kernels_.add(sums.get(), a + k * a_stride + gate * sizes_.HP + from, count);
      T* const total = gradient + order[gate] * p_.H + from;
      part.fresh ? void(std::copy_n(sums.get(), count, total)) : kernels_.add(total, sums.get(), count);
    }
  }

  const Kernels<T>& kernels_;
  const Problem& p_;
  const Sizes<T>& sizes_;
  const Index steps_;
  T* sums_[2][kinds];  // of each group, or null where not wanted; the first in the caller's memory
  Scratch<T> second_;
};

}  // namespace throughtime
