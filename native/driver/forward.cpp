// Forward through time. Every task takes its ranks from the first step to the last without waiting for another: the
// input product runs for a chunk of steps at once, straight into the rows of gates, where the recurrent product of each step
// is then added and the pointwise stage leaves the activations.
#include <algorithm>
#include <vector>

#include "driver/sequences.hpp"
#include "driver/weights.hpp"
#include "throughtime/parallel.hpp"

namespace throughtime {
namespace {

// Below this many steps the weights are used as they lie: packing them would cost more than it gains.
constexpr Index steps_worth_packing = 12;
// A chunk of gates should stay in the L2 cache until its steps are done.
constexpr Index chunk_bytes = 256 * 1024;
// Multiply-adds a thread should have to do for waking it to pay.
constexpr double work_per_thread = 5e5;

template <class T> class Forward {
 public:
  explicit Forward(const ForwardArgs<T>& args)
      : args_(args),
        p_(args.problem),
        kernels_(kernels<T>()),
        sizes_(p_),
        sequences_(p_),
        deal_{task_count()},
        pack_(sequences_.total() >= steps_worth_packing),
        w_ih_(kernels_, args.weights.w_ih, sizes_.cell.x_order, sizes_.cell.gates, p_.H, p_.I, matrices(), pack_, p_.threads),
        w_hh_(kernels_, args.weights.w_hh, sizes_.cell.h_order, sizes_.cell.gates, p_.H, p_.P, p_.untied ? p_.T - 1 : 1, pack_,
              p_.threads),
        w_hr_(kernels_, args.weights.w_hr, identity_order, 1, p_.P, p_.H, 1, args.weights.w_hr && pack_, p_.threads),
        bias_(bias_rows(kernels_, p_, sizes_, args.weights)),
        h_(2 * p_.B * sizes_.PP, true),
        c_(sizes_.cell.has_cell ? p_.B * sizes_.HP : 0, true),
        unprojected_(args.weights.w_hr ? p_.B * sizes_.HP : 0) {}

  void run() {
    load_states();
    parallel_for(int(deal_.tasks), p_.threads, [this](int task) { run_task(task); });
    args_.problem.lengths ? sequences_.clear_padding(args_.output, p_.P) : void();
  }

 private:
  static constexpr int identity_order[1] = {0};

  Index matrices() const { return p_.untied ? p_.T : 1; }

  Index task_count() const {
    const double work = double(sequences_.total()) * double(sizes_.product_width) * double(p_.I + p_.P);
    return std::max<Index>(1, std::min<Index>({Index(p_.threads), p_.B, Index(work / work_per_thread)}));
  }

  T* h_row(Index s, Index r) const { return h_.get() + ((s & 1) * p_.B + r) * sizes_.PP; }  // the state before step s

  void load_states() {
    for (Index r = 0; r < p_.B; ++r) {
      const Index b = sequences_.sequence(r);
      if (args_.h0) std::copy_n(args_.h0 + b * p_.P, p_.P, h_row(0, r));
      if (args_.c0) std::copy_n(args_.c0 + b * p_.H, p_.H, c_.get() + r * sizes_.HP);
      if (sequences_.length(r) == 0) finish(r, h_row(0, r), sizes_.cell.has_cell ? c_.get() + r * sizes_.HP : nullptr);
    }
  }

  void finish(Index r, const T* h, const T* c) {
    const Index b = sequences_.sequence(r);
    std::copy_n(h, p_.P, args_.h_n + b * p_.P);
    if (c) std::copy_n(c, p_.H, args_.c_n + b * p_.H);
  }

  void run_task(Index task) {
    const Index mine = deal_.count(task, p_.B);
    const Index row_bytes = sizes_.gate_width * Index(sizeof(T));
    const Index chunk = p_.untied ? 1 : std::clamp<Index>(chunk_bytes / (row_bytes * mine), 1, std::max<Index>(1, sequences_.steps()));
    const Scratch<T> gates(args_.saved && sizes_.saved_width ? 0 : chunk * mine * sizes_.gate_width);
    std::vector<const T*> from(chunk * mine);
    std::vector<T*> to(chunk * mine);
    std::vector<T*> recurrent(mine);
    std::vector<ForwardRow<T>> rows(mine);

    for (Index first = 0; first < sequences_.steps(); first += chunk) {
      const Index last = std::min(first + chunk, sequences_.steps());
      Index n = 0;
      for (Index s = first; s < last; ++s)
        for (Index i = 0, count = deal_.count(task, sequences_.active(s)); i < count; ++i, ++n) {
          const Index r = deal_.rank(task, i);
          from[n] = sequences_.row(args_.x, s, r);
          to[n] = gates.get() ? gates.get() + n * sizes_.gate_width
                              : args_.saved + (sequences_.offset(s) + r) * sizes_.saved_width;
        }
      const Index matrix = p_.untied ? first : 0;
      const T* bias = bias_.get() + matrix * sizes_.gate_width;
      w_ih_.multiply(matrix, n, from.data(), to.data(), bias);
      if (sizes_.h_offset)  // what the recurrent product is added to, where the input product does not reach
        for (Index k = 0; k < n; ++k)
          std::copy_n(bias + sizes_.product_width, sizes_.gate_width - sizes_.product_width, to[k] + sizes_.product_width);

      T* const* gate_rows = to.data();
      for (Index s = first; s < last; ++s) {
        const Index count = deal_.count(task, sequences_.active(s));
        step(task, s, count, gate_rows, from.data(), recurrent.data(), rows.data());
        gate_rows += count;
      }
    }
  }

  void step(Index task, Index s, Index count, T* const* gates, const T** from, T** to, ForwardRow<T>* rows) {
    const bool projected = args_.weights.w_hr;
    for (Index i = 0; i < count; ++i) {
      const Index r = deal_.rank(task, i);
      from[i] = h_row(s, r);
      to[i] = gates[i] + sizes_.h_offset;
      ForwardRow<T>& row = rows[i];
      row.gates = gates[i];
      row.h_prev = from[i];
      row.h = projected ? unprojected_.get() + r * sizes_.HP : h_row(s + 1, r);
      if (sizes_.cell.has_cell) {
        row.c = args_.saved ? gates[i] + sizes_.cell_offset : c_.get() + r * sizes_.HP;
        row.c_prev = args_.saved && s > 0 ? saved_cell(s - 1, r) : c_.get() + r * sizes_.HP;
      }
    }
    const Index matrix = p_.untied ? s - 1 : 0;
    if (p_.B == 1 && matrix >= 0) w_hh_.multiply_single(matrix, s, from, to);  // of the whole batch, so that bits do not depend
    else if (matrix >= 0) w_hh_.multiply(matrix, count, from, to, nullptr);    // on the number of tasks
    kernels_.forward_rows[int(p_.cell)](count, sizes_.HP, rows);
    if (projected) {
      for (Index i = 0; i < count; ++i) {
        from[i] = rows[i].h;
        to[i] = h_row(s + 1, deal_.rank(task, i));
        std::fill_n(to[i], sizes_.PP, T(0));
      }
      w_hr_.multiply(0, count, from, to, nullptr);
    }
    for (Index i = 0; i < count; ++i) {
      const Index r = deal_.rank(task, i);
      std::copy_n(h_row(s + 1, r), p_.P, sequences_.row(args_.output, s, r));
      if (s + 1 == sequences_.length(r)) finish(r, h_row(s + 1, r), sizes_.cell.has_cell ? rows[i].c : nullptr);
    }
  }

  T* saved_cell(Index s, Index r) const {
    return args_.saved + (sequences_.offset(s) + r) * sizes_.saved_width + sizes_.cell_offset;
  }

  const ForwardArgs<T>& args_;
  const Problem& p_;
  const Kernels<T>& kernels_;
  const Sizes<T> sizes_;
  const Sequences sequences_;
  const Deal deal_;
  const bool pack_;
  const ForwardWeight<T> w_ih_, w_hh_, w_hr_;
  const Scratch<T> bias_;
  const Scratch<T> h_, c_, unprojected_;
};

}  // namespace

template <class T> void forward(const ForwardArgs<T>& args) { Forward<T>(args).run(); }
template void forward(const ForwardArgs<float>&);
template void forward(const ForwardArgs<double>&);

}  // namespace throughtime
