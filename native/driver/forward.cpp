// Forward through time. Every task takes its ranks from the first step to the last without waiting for another: the
// input product runs for a chunk of steps at once, straight into the rows of gates, where the recurrent product of each step
// is then added and the pointwise stage leaves the activations. A single sequence with weights that take long to read
// goes another way: a team shares its hidden units and waits for one another at every step.
#include <algorithm>
#include <memory>
#include <vector>

#include "driver/sequences.hpp"
#include "driver/stopwatch.hpp"
#include "driver/weights.hpp"
#include "throughtime/parallel.hpp"

namespace throughtime {
namespace {

// Below this many steps the weights are used as they lie: packing them would cost more than it gains.
constexpr Index steps_worth_packing = 12;
// A chunk of gates should stay in the L2 cache until its steps are done.
constexpr Index chunk_bytes = 256 * 1024;

template <class T> class Forward {
 public:
  explicit Forward(const ForwardArgs<T>& args)
      : args_(args),
        p_(args.problem),
        watch_(p_.profile),
        kernels_(kernels<T>()),
        sizes_(p_),
        sequences_(p_),
        deal_(tasks_worth(p_, sizes_, sequences_.total(), p_.B), p_.B, sequences_.full()),
        pack_(sequences_.total() >= steps_worth_packing),
        team_(pack_ ? team_size(kernels_, p_, sizes_) : 1),
        users_{int(std::max<Index>(team_, deal_.tasks)), p_.threads, team_ > 1},
        w_ih_(kernels_, args.weights.w_ih, sizes_.cell.x_order, sizes_.cell.gates, p_.H, p_.I, matrices(), pack_, users_),
        w_hh_(kernels_, args.weights.w_hh, sizes_.cell.h_order, sizes_.cell.gates, p_.H, p_.P, p_.untied ? p_.T - 1 : 1, pack_,
              users_),
        w_hr_(kernels_, args.weights.w_hr, identity_order, 1, p_.P, p_.H, 1, args.weights.w_hr && pack_, users_),
        bias_(bias_rows(kernels_, p_, sizes_, args.weights)),
        h_(2 * p_.B * sizes_.PP, true),
        c_(sizes_.cell.has_cell ? p_.B * sizes_.HP : 0, true),
        unprojected_(args.weights.w_hr ? p_.B * sizes_.HP : 0),
        direct_(args.output.data && !args.weights.w_hr && p_.P == sizes_.PP) {}

  void run() {
    load_states();
    watch_.lap(Stage::preparing);
    std::vector<std::unique_ptr<Workspace>> workspaces;  // before the threads are: a worker of a team must not fail
    for (Index i = 0; i < std::max<Index>(team_, deal_.tasks); ++i)
      workspaces.push_back(std::make_unique<Workspace>(*this, team_ > 1 ? 0 : i));
    const bool shared = parallel_team(team_, [&](const Member& member) {
      run_task(*workspaces[member.worker], 0, share_of_units(kernels_, sizes_, member.worker, team_), &member,
               member.worker == 0 ? watch_ : not_watched_);
    });
    if (!shared)
      parallel_for(int(deal_.tasks), p_.threads,
                   [&](int task) {
                     run_task(*workspaces[task], task, {0, sizes_.HP}, nullptr, task == 0 ? watch_ : not_watched_);
                   });
    watch_.lap(Stage::waiting);
    sequences_.clear_padding(args_.output, p_.P, p_.threads);
  }

 private:
  Index matrices() const { return p_.untied ? p_.T : 1; }

  T* h_row(Index s, Index r) const { return h_.get() + ((s & 1) * p_.B + r) * sizes_.PP; }  // the state before step s

  void load_states() {
    for (Index r = 0; r < p_.B; ++r) {
      const Index b = sequences_.sequence(r);
      if (args_.h0) std::copy_n(args_.h0 + b * p_.P, p_.P, h_row(0, r));
      if (args_.c0) std::copy_n(args_.c0 + b * p_.H, p_.H, c_.get() + r * sizes_.HP);
      if (sequences_.length(r) == 0) finish(r, h_row(0, r), sizes_.cell.has_cell ? c_.get() + r * sizes_.HP : nullptr, {0, sizes_.PP});
    }
  }

  // The state after a sequence's last step; units are those of h (with a projection, all of them).
  void finish(Index r, const T* h, const T* c, Units units) {
    const Index b = sequences_.sequence(r);
    std::copy_n(h + units.first, std::min(units.last, p_.P) - units.first, args_.h_n + b * p_.P + units.first);
    const Index end = args_.weights.w_hr ? p_.H : std::min(units.last, p_.H);
    if (c) std::copy_n(c + units.first, end - units.first, args_.c_n + b * p_.H + units.first);
  }

  // What a task needs for itself.
  struct Workspace {
    Workspace(const Forward& f, Index task)
        : mine(f.deal_.count(task, f.p_.B)),
          chunk(f.p_.untied ? 1
                            : std::clamp<Index>(chunk_bytes / std::max<Index>(1, f.sizes_.gate_width * Index(sizeof(T)) * mine), 1,
                                                std::max<Index>(1, f.sequences_.steps()))),
          gates(f.args_.saved && f.sizes_.keeps_gates ? 0 : chunk * mine * f.sizes_.gate_width),
          from(chunk * mine),
          to(chunk * mine),
          recurrent(mine),
          rows(mine) {}
    const Index mine, chunk;  // ranks, and steps in a chunk
    const Scratch<T> gates;   // where they are not kept
    std::vector<const T*> from;
    std::vector<T*> to, recurrent;
    std::vector<ForwardRow<T>> rows;
  };

  // All steps of a task's ranks, for all units or, in a team, for a worker's.
  void run_task(Workspace& work, Index task, Units units, const Member* member, Stopwatch& watch) {
    for (Index first = 0; first < sequences_.steps(); first += work.chunk) {
      const Index last = std::min(first + work.chunk, sequences_.steps());
      Index n = 0;
      for (Index s = first; s < last; ++s)
        for (Index i = 0, count = deal_.count(task, sequences_.active(s)); i < count; ++i, ++n) {
          const Index r = deal_.rank(task, i);
          work.from[n] = sequences_.row(args_.x, s, r);
          work.to[n] = work.gates.get() ? work.gates.get() + n * sizes_.gate_width
                                        : args_.saved + (sequences_.offset(s) + r) * sizes_.saved_width;
        }
      const Index matrix = p_.untied ? first : 0;
      const T* bias = bias_.get() + matrix * sizes_.gate_width;
      w_ih_.multiply(matrix, n, work.from.data(), work.to.data(), bias, units, !work.gates.get());
      start_recurrent_part(sizes_, bias, work.to.data(), n, units);
      watch.lap(Stage::input);

      T* const* gate_rows = work.to.data();
      for (Index s = first; s < last; ++s) {
        const Index count = deal_.count(task, sequences_.active(s));
        step(work, task, s, count, gate_rows, units, watch);
        gate_rows += count;
        if (member) {
          member->wait();
          watch.lap(Stage::waiting);
        }
      }
    }
  }

  void step(Workspace& work, Index task, Index s, Index count, T* const* gates, Units units, Stopwatch& watch) {
    const bool projected = args_.weights.w_hr;
    const T** from = work.from.data();
    T** to = work.recurrent.data();
    for (Index i = 0; i < count; ++i) {
      const Index r = deal_.rank(task, i);
      ForwardRow<T>& row = work.rows[i];
      from[i] = s == 0 || projected ? h_row(s, r) : row.h;  // where the step before has left it
      to[i] = gates[i] + sizes_.h_offset;
      row.gates = gates[i];
      row.h_prev = from[i];
      row.h = projected ? unprojected_.get() + r * sizes_.HP : direct_ ? sequences_.row(args_.output, s, r) : h_row(s + 1, r);
      if (sizes_.cell.has_cell) {
        row.c = args_.saved ? saved_cell(s, r) : c_.get() + r * sizes_.HP;
        row.c_prev = args_.saved && s > 0 ? saved_cell(s - 1, r) : c_.get() + r * sizes_.HP;
      }
    }
    const Index matrix = p_.untied ? s - 1 : 0;
    if (p_.B == 1 && matrix >= 0) w_hh_.multiply_single(matrix, s, from, to, units);  // by the whole batch, so that bits do
    else if (matrix >= 0) w_hh_.multiply(matrix, count, from, to, nullptr, units);    // not depend on the number of tasks
    watch.lap(Stage::recurrent);
    kernels_.forward_rows[int(p_.cell)](count, sizes_.HP, units.first, units.last, work.rows.data());
    watch.lap(Stage::pointwise);
    if (projected) {
      for (Index i = 0; i < count; ++i) {
        from[i] = work.rows[i].h;
        to[i] = h_row(s + 1, deal_.rank(task, i));
        std::fill_n(to[i], sizes_.PP, T(0));
      }
      w_hr_.multiply(0, count, from, to, nullptr, w_hr_.all());
      units = {0, sizes_.PP};
    }
    const Index own = std::min(units.last, p_.P) - units.first;
    for (Index i = 0; i < count; ++i) {
      const Index r = deal_.rank(task, i);
      const T* h = projected ? h_row(s + 1, r) : work.rows[i].h;
      if (args_.output.data && !direct_) std::copy_n(h + units.first, own, sequences_.row(args_.output, s, r) + units.first);
      if (s + 1 == sequences_.length(r)) finish(r, h, sizes_.cell.has_cell ? work.rows[i].c : nullptr, units);
    }
    watch.lap(Stage::moving);
  }

  T* saved_cell(Index s, Index r) const {
    return args_.saved + (sequences_.offset(s) + r) * sizes_.saved_width + sizes_.cell_offset;
  }

  const ForwardArgs<T>& args_;
  const Problem& p_;
  Stopwatch watch_, not_watched_;
  const Kernels<T>& kernels_;
  const Sizes<T> sizes_;
  const Sequences sequences_;
  const Deal deal_;
  const bool pack_;
  const int team_;
  const Users users_;
  const ForwardWeight<T> w_ih_, w_hh_, w_hr_;
  const Scratch<T> bias_;
  const Scratch<T> h_, c_, unprojected_;
  const bool direct_;  // states are left in the output, and read from there: whole vectors fit into its rows
};

}  // namespace

template <class T> void forward(const ForwardArgs<T>& args) { Forward<T>(args).run(); }
template void forward(const ForwardArgs<float>&);
template void forward(const ForwardArgs<double>&);

}  // namespace throughtime
