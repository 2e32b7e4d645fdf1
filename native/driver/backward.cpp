// Back through time. Chunks of steps, the last first. Within a chunk every task carries its ranks from the last step to the
// first without waiting for another, leaving the gradients of the pre-activations in scratch; then the products that have no
// order in time (weights, biases, input) are done for the whole chunk, in a fixed order of rows.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "driver/norms.hpp"
#include "driver/sequences.hpp"
#include "driver/stopwatch.hpp"
#include "driver/weight_gradients.hpp"
#include "driver/weights.hpp"
#include "throughtime/parallel.hpp"

namespace throughtime {
namespace {

// Rows (steps times sequences) of the larger group in a chunk: enough to pay for going through the weight gradients once, few
// enough for the cache.
constexpr Index chunk_bytes = 1024 * 1024;
constexpr Index fewest_rows = 256, most_rows = 512;

enum Tap { tap_delta, tap_a };  // the first two are the same for every cell
enum RnnTap { rnn_u = 2 };
enum GruTap { gru_hidden = 2, gru_bypass, gru_u };
enum LstmTap { lstm_u = 2, lstm_cell_in, lstm_cell, lstm_cell_out };

template <class T> class Backward {
 public:
  explicit Backward(const BackwardArgs<T>& args)
      : args_(args),
        p_(args.problem),
        watch_(p_.profile),
        kernels_(kernels<T>()),
        sizes_(p_),
        sequences_(p_),
        deal_(tasks_worth(p_, sizes_, sequences_.total(), p_.B), p_.B, sequences_.full()),
        // A probe needs the norm of all units at every step, so nobody shares them.
        team_(args.rescale ? 1 : team_size(kernels_, p_, sizes_)),
        users_{int(std::max<Index>(team_, deal_.tasks)), p_.threads, team_ > 1},
        w_hh_(kernels_, args.weights.w_hh, sizes_.cell.h_order, sizes_.cell.gates, p_.H, p_.P, p_.untied ? p_.T - 1 : 1, users_),
        w_ih_(kernels_, args.weights.w_ih, sizes_.cell.x_order, args.grad_x.data ? sizes_.cell.gates : 0, p_.H, p_.I,
              p_.untied ? p_.T : 1, everybody()),
        w_hr_(kernels_, args.weights.w_hr, identity_order, args.weights.w_hr ? 1 : 0, p_.P, p_.H, 1, users_),
        again_(recomputes() ? std::make_unique<Again>(*this) : nullptr),
        delta_(p_.B * sizes_.PP, true),
        carry_(sizes_.cell.has_cell || sizes_.cell.has_bypass ? p_.B * sizes_.HP : 0, true),
        cell_(sizes_.cell.has_cell ? p_.B * sizes_.HP : 0),
        c0_(sizes_.cell.has_cell ? p_.B * sizes_.HP : 0, true),
        h_(p_.B * sizes_.PP, true),
        h_prev_(sizes_.cell.has_bypass ? p_.B * sizes_.PP : 0, true),
        zeros_(sizes_.PP, true),
        unprojected_delta_(args.weights.w_hr ? p_.B * sizes_.HP : 0, true),
        adds_late_(p_.P == sizes_.PP && !args.weights.w_hr),
        weight_gradients_(kernels_, args, sizes_, sequences_.total()),
        groups_(weight_gradients_.groups(), p_.B, sequences_.full()),
        chunk_(sequences_, groups_),
        norms_(kernels_, p_, sequences_, deal_, args.taps),
        a_stride_(sizes_.gate_width + 64 / Index(sizeof(T))) {}  // off the powers of two, which would fight for cache sets

  void run() {
    start();
    std::vector<Workspace> workspaces;  // before the threads are: a worker of a team must not fail
    for (Index i = 0; i < std::max<Index>(team_, deal_.tasks); ++i) workspaces.emplace_back(deal_.count(team_ > 1 ? 0 : i, p_.B));
    Index last = sequences_.steps(), rows_wanted = chunk_rows();
    watch_.lap(Stage::preparing);
    bool first_chunk = true;
    while (last > 0) {
      const auto larger_group = [&](Index s) { return groups_.count(0, sequences_.active(s)); };
      Index first = last - 1, in_group = larger_group(first);
      while (!p_.untied && first > 0 && in_group + larger_group(first - 1) <= rows_wanted) in_group += larger_group(--first);
      chunk_.take(first, last);
      const Index rows = chunk_.rows();
      if (a_capacity_ < rows) {
        a_capacity_ = rows;
        a_ = Scratch<T>(rows * a_stride_);
        if (again_) gates_ = Scratch<T>(rows * sizes_.gate_width);
        if (args_.weights.w_hr) {
          deltas_ = Scratch<T>(rows * sizes_.PP, true);
          unprojected_ = Scratch<T>(rows * sizes_.HP);
        }
      }
      watch_.lap(Stage::preparing);
      if (again_) {
        recompute();
        watch_.lap(Stage::recomputed);
      }
      if (team_ > 1) norms_.expect_team(first, last);
      const bool shared = parallel_team(team_, [&](const Member& member) {
        carry_back(workspaces[member.worker], 0, share_of_units(kernels_, sizes_, member.worker, team_), &member,
                   member.worker == 0 ? watch_ : not_watched_);
      });
      if (shared) norms_.settle(first, last);
      else
        parallel_for(int(deal_.tasks), p_.threads,
                     [&](int task) {
                       carry_back(workspaces[task], task, {0, sizes_.HP}, nullptr,
                                  task == 0 ? watch_ : not_watched_);
                     });
      watch_.lap(Stage::waiting);
      collect(first_chunk);
      last = first;
      first_chunk = false;
    }
    finish(first_chunk);
  }

 private:
  Index chunk_rows() const { return std::clamp<Index>(chunk_bytes / (a_stride_ * Index(sizeof(T))), fewest_rows, most_rows); }

  // Of products over all rows of a chunk.
  Users everybody() const { return {p_.threads, p_.threads, false}; }

  void start() {
    for (Index r = 0; r < p_.B; ++r) {
      const Index b = sequences_.sequence(r);
      if (args_.grad_h_n) std::copy_n(args_.grad_h_n + b * p_.P, p_.P, delta_.get() + r * sizes_.PP);
      if (sizes_.cell.has_cell) {
        if (args_.grad_c_n) std::copy_n(args_.grad_c_n + b * p_.H, p_.H, carry_.get() + r * sizes_.HP);
        if (args_.c0) std::copy_n(args_.c0 + b * p_.H, p_.H, c0_.get() + r * sizes_.HP);
      }
    }
  }

  // What is left in delta and carry has arrived at the state before the first step (or never left it: length 0).
  void finish(bool nothing_done) {
    for (Index r = 0; r < p_.B; ++r) {
      const Index b = sequences_.sequence(r);
      if (args_.grad_h0) std::copy_n(delta_.get() + r * sizes_.PP, p_.P, args_.grad_h0 + b * p_.P);
      if (args_.grad_c0) std::copy_n(carry_.get() + r * sizes_.HP, p_.H, args_.grad_c0 + b * p_.H);
    }
    sequences_.clear_padding(args_.grad_x, p_.I, p_.threads);
    sequences_.clear_padding(args_.delta, p_.P, p_.threads);
    weight_gradients_.finish(nothing_done);
  }

  // ---- gates that were not kept -------------------------------------------------------------------------------------

  bool recomputes() const { return sizes_.cell.keeps_gates && !sizes_.keeps_gates; }

  // What the forward pass had to multiply with.
  struct Again {
    explicit Again(const Backward& b)
        : w_ih(b.kernels_, b.args_.weights.w_ih, b.sizes_.cell.x_order, b.sizes_.cell.gates, b.p_.H, b.p_.I, 1, true,
               b.everybody()),
          w_hh(b.kernels_, b.args_.weights.w_hh, b.sizes_.cell.h_order, b.sizes_.cell.gates, b.p_.H, b.p_.P, 1, true,
               b.everybody()),
          bias(bias_rows(b.kernels_, b.p_, b.sizes_, b.args_.weights)) {}
    const ForwardWeight<T> w_ih, w_hh;
    const Scratch<T> bias;
  };

  // All states are known, so there is no order in time: both products run over all rows of the chunk at once.
  void recompute() {
    const Index n = chunk_.rows();
    std::vector<const T*> x(n), h(n);
    std::vector<T*> gates(n), recurrent(n);
    chunk_.visit([&](Index k, Index s, Index r) {
      x[k] = sequences_.row(args_.x, s, r);
      h[k] = previous_output(s, r);
      gates[k] = gates_.get() + k * sizes_.gate_width;
      recurrent[k] = gates[k] + sizes_.h_offset;
    });
    const int shares = int(tasks_worth(p_, sizes_, n, n));
    parallel_for(shares, p_.threads, [&](int share) {
      const Index from = n * share / shares, count = n * (share + 1) / shares - from;
      const T* bias = again_->bias.get();
      again_->w_ih.multiply(0, count, x.data() + from, gates.data() + from, bias, again_->w_ih.all());
      start_recurrent_part(sizes_, bias, gates.data() + from, count, again_->w_ih.all());
      again_->w_hh.multiply(0, count, h.data() + from, recurrent.data() + from, nullptr, again_->w_hh.all());
      // The states that come out beside the gates are known already, and better: they are thrown away.
      const Scratch<T> state(2 * sizes_.HP), before(sizes_.HP, true);
      for (Index i = from; i < from + count; ++i) {
        const ForwardRow<T> row{gates[i], before.get(), before.get(), state.get() + sizes_.HP, state.get()};
        kernels_.forward_rows[int(p_.cell)](1, sizes_.HP, 0, sizes_.HP, &row);
      }
    });
  }

  // ---- in the order of time -----------------------------------------------------------------------------------------

  const T* saved_row(Index s, Index r) const { return args_.saved + (sequences_.offset(s) + r) * sizes_.saved_width; }
  const T* saved_cell(Index s, Index r) const { return saved_row(s, r) + sizes_.cell_offset; }
  const T* gates_row(Index s, Index r) const {
    return again_ ? gates_.get() + chunk_.row(s, r) * sizes_.gate_width : saved_row(s, r);
  }

  // The state before step s, P values; in the user's memory, so not padded.
  const T* previous_output(Index s, Index r) const {
    if (s > 0) return sequences_.row(args_.output, s - 1, r);
    return args_.h0 ? args_.h0 + sequences_.sequence(r) * p_.P : zeros_.get();
  }

  const T* with_padding(const T* row, T* scratch) const {
    return p_.P == sizes_.PP ? row : std::copy_n(row, p_.P, scratch) - p_.P;
  }

  T* delta_row(Index r) const { return delta_.get() + r * sizes_.PP; }

  // What a task needs for itself.
  struct Workspace {
    explicit Workspace(Index mine) : rows(mine), from(mine), to(mine), norms(mine), carried(mine) {}
    std::vector<BackwardRow<T>> rows;
    std::vector<const T*> from;
    std::vector<T*> to;
    std::vector<double> norms, carried;  // squared, of what was measured last, and of what goes back through the cell state
  };

  // The steps of a chunk for a task's ranks, for all units or, in a team, for a worker's.
  void carry_back(Workspace& work, Index task, Units units, const Member* member, Stopwatch& watch) {
    std::vector<BackwardRow<T>>& rows = work.rows;
    const T** from = work.from.data();
    T** to = work.to.data();
    const auto carry = [&](Index i) { return rows[i].carry; };
    const auto delta = [&](Index i) { return delta_row(deal_.rank(task, i)); };
    for (Index s = chunk_.last - 1; s >= chunk_.first; --s) {
      const Index count = deal_.count(task, sequences_.active(s));
      const auto measure = [&](int which, Index n, const auto& at, Index runs = 1, Index apart = 0) {
        if (norms_.wanted()) norms_.measure(work.norms.data(), which, s, task, count, units, member, n, at, runs, apart);
      };
      for (Index i = 0; i < count; ++i) rows[i] = enter(s, deal_.rank(task, i), units);
      if (args_.weights.w_hr) {
        for (Index i = 0; i < count; ++i) {
          const Index r = deal_.rank(task, i);
          from[i] = rows[i].delta;
          std::copy_n(from[i], p_.P, deltas_.get() + chunk_.row(s, r) * sizes_.PP);
          to[i] = unprojected_delta_.get() + r * sizes_.HP;
          rows[i].delta = to[i];
        }
        w_hr_.multiply(0, count, from, to);
      }
      if (sizes_.cell.has_cell) measure(lstm_cell_in, p_.H, carry);
      watch.lap(Stage::moving);
      kernels_.backward_rows[int(p_.cell)](count, sizes_.HP, units.first, units.last, rows.data());
      watch.lap(Stage::pointwise);
      measure(tap_delta, p_.P, delta);
      // Gate by gate: the padding between them can hold infinity times zero.
      measure(tap_a, p_.H, [&](Index i) { return rows[i].a + sizes_.h_offset; }, sizes_.cell.gates, sizes_.HP);
      if (sizes_.cell.has_bypass) measure(gru_bypass, p_.H, carry);
      if (sizes_.cell.has_cell) {
        measure(lstm_cell, p_.H, [&](Index i) { return rows[i].cell; });
        measure(lstm_cell_out, p_.H, carry);
        if (args_.rescale) work.carried = work.norms;
      }
      for (Index i = 0; args_.delta.data && i < count; ++i)
        std::copy_n(delta(i) + units.first, width(units), sequences_.row(args_.delta, s, deal_.rank(task, i)) + units.first);
      watch.lap(Stage::moving);
      if (member) {
        member->wait();
        watch.lap(Stage::waiting);
      }
      if (s == 0 && (p_.untied || !(args_.grad_h0 || args_.taps))) continue;
      for (Index i = 0; i < count; ++i) {
        from[i] = rows[i].a + sizes_.h_offset;
        to[i] = delta(i);
      }
      const Index matrix = p_.untied ? s - 1 : 0;
      if (p_.B == 1) w_hh_.multiply_single(matrix, s, from, to, units);
      else w_hh_.multiply(matrix, count, from, to);
      watch.lap(Stage::transported);
      // What was transported lies in delta. The loss's own gradient of the step before is added later, once this has been measured.
      measure(sizes_.cell.has_bypass ? int(gru_hidden) : sizes_.cell.has_cell ? int(lstm_u) : int(rnn_u), p_.P, delta);
      if (sizes_.cell.has_bypass) {
        for (Index i = 0; i < count; ++i) kernels_.add(delta(i) + units.first, rows[i].carry + units.first, width(units));
        measure(gru_u, p_.P, delta);
      }
      for (Index i = 0; args_.rescale && i < count; ++i)
        rescale(delta(i), rows[i].carry, work.norms[i] + (sizes_.cell.has_cell ? work.carried[i] : 0));
      watch.lap(Stage::moving);
    }
  }

  BackwardRow<T> enter(Index s, Index r, Units units) {
    T* delta = delta_row(r);
    const T* loss = args_.grad_output.data ? sequences_.row(args_.grad_output, s, r) : nullptr;
    if (loss && !adds_late_) kernels_.add(delta + units.first, loss + units.first, width(units));
    BackwardRow<T> row{};
    row.delta = delta;
    row.loss = adds_late_ ? loss : nullptr;
    row.a = a_.get() + chunk_.row(s, r) * a_stride_;
    if (!sizes_.cell.keeps_gates) {
      row.h = with_padding(sequences_.row(args_.output, s, r), h_.get() + r * sizes_.PP);
      return row;
    }
    row.gates = gates_row(s, r);
    row.carry = carry_.get() + r * sizes_.HP;
    if (sizes_.cell.has_bypass) row.h_prev = with_padding(previous_output(s, r), h_prev_.get() + r * sizes_.PP);
    if (sizes_.cell.has_cell) {
      row.c = saved_cell(s, r);
      row.c_prev = s > 0 ? saved_cell(s - 1, r) : c0_.get() + r * sizes_.HP;
      row.cell = cell_.get() + r * sizes_.HP;
    }
    return row;
  }

  // Of those units the ones that P values have; with a projection, units are H's and the values are all P.
  Index width(Units units) const { return args_.weights.w_hr ? p_.P : std::min(units.last, p_.P) - units.first; }

  // The probe: what goes on to the step before has the norm 1.
  void rescale(T* delta, T* carry, double squares) const {
    if (!(squares > 0) || !std::isfinite(squares)) return;
    const T factor = T(1 / std::sqrt(squares));
    kernels_.scale(delta, factor, p_.P);
    if (sizes_.cell.has_cell) kernels_.scale(carry, factor, p_.H);
  }

  // ---- without order in time ----------------------------------------------------------------------------------------

  void collect(bool first_chunk) {
    if (!weight_gradients_.wanted() && !args_.grad_x.data) return;
    const Index n = chunk_.rows();
    std::vector<const T*> x(n), h(n), a(n), unprojected(args_.grad_w_hr ? n : 0);
    std::vector<T*> grad_x(args_.grad_x.data ? n : 0);
    chunk_.visit([&](Index k, Index s, Index r) {
      x[k] = sequences_.row(args_.x, s, r);
      h[k] = previous_output(s, r);
      a[k] = a_.get() + k * a_stride_;
      if (args_.grad_x.data) grad_x[k] = sequences_.row(args_.grad_x, s, r);
      if (args_.grad_w_hr) {
        T* output = unprojected_.get() + k * sizes_.HP;
        kernels_.lstm_output(output, gates_row(s, r), saved_cell(s, r), sizes_.HP);
        unprojected[k] = output;
      }
    });
    const bool fresh = first_chunk || p_.untied;
    const Index step = chunk_.first, groups = groups_.tasks;
    const Index shares = tasks_worth(p_, sizes_, n, std::numeric_limits<Index>::max());
    // A thread takes part in the group whose sequences it has carried back; in every group, where that would leave some with
    // more to do.
    const bool apart = shares % groups == 0 && 8 * chunk_.begin(1) <= 5 * n, neighbours = groups_.block;
    const Index parts = apart ? shares / groups : shares;  // of a group
    watch_.lap(Stage::moving);
    parallel_for(int(shares), p_.threads, [&](int share) {
      Stopwatch& watch = share == 0 ? watch_ : not_watched_;
      for (Index group = 0; group < groups; ++group) {
        if (apart && group != (neighbours ? share / parts : share % groups)) continue;
        const Index part = !apart ? share : neighbours ? share % parts : share / groups;
        const Index begin = chunk_.begin(group), count = chunk_.begin(group + 1) - begin;
        weight_gradients_.add(group, part, parts, fresh, step,
                              {count, x.data() + begin, h.data() + begin, a_.get() + begin * a_stride_, a_stride_,
                               args_.grad_w_hr ? unprojected.data() + begin : nullptr,
                               args_.grad_w_hr ? deltas_.get() + begin * sizes_.PP : nullptr});
        watch.lap(Stage::weights);
        if (args_.grad_x.data) {
          const Index from = begin + count * part / parts, to = begin + count * (part + 1) / parts;
          if (to > from) w_ih_.multiply(p_.untied ? step : 0, to - from, a.data() + from, grad_x.data() + from, true);
        }
        watch.lap(Stage::input_gradient);
      }
    });
    watch_.lap(Stage::waiting);
  }

  const BackwardArgs<T>& args_;
  const Problem& p_;
  Stopwatch watch_, not_watched_;
  const Kernels<T>& kernels_;
  const Sizes<T> sizes_;
  const Sequences sequences_;
  const Deal deal_;
  const int team_;
  const Users users_;
  const BackwardWeight<T> w_hh_, w_ih_, w_hr_;
  const std::unique_ptr<Again> again_;
  const Scratch<T> delta_, carry_, cell_, c0_, h_, h_prev_, zeros_, unprojected_delta_;
  const bool adds_late_;  // the loss's own gradient is added in the pointwise stage: whole vectors of it can be read
  const WeightGradients<T> weight_gradients_;
  const Deal groups_;  // of sequences whose gradients of weights are summed up apart
  Chunk chunk_;
  Norms<T> norms_;
  const Index a_stride_;
  Scratch<T> a_, gates_, deltas_, unprojected_;
  Index a_capacity_ = 0;
};

}  // namespace

template <class T> void backward(const BackwardArgs<T>& args) { Backward<T>(args).run(); }
template void backward(const BackwardArgs<float>&);
template void backward(const BackwardArgs<double>&);

}  // namespace throughtime
