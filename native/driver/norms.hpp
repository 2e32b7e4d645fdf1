// Squared norms of what passes through the steps of a layer, on their way into the taps; docs/flow.md tells what they mean.
#pragma once
#include <algorithm>
#include <limits>
#include <vector>

#include "driver/sequences.hpp"
#include "driver/weights.hpp"

namespace throughtime {

template <class T> class Norms {
 public:
  // taps: null, where nobody wants them.
  Norms(const Kernels<T>& kernels, const Problem& problem, const Sequences& sequences, const Deal& deal, double* taps)
      : kernels_(kernels), p_(problem), sequences_(sequences), deal_(deal), taps_(taps) {
    // Only where some are not measured: a cache line filled here must come over to the core that measures.
    if (taps && (!sequences.full() || problem.untied))
      std::fill_n(taps, tap_count(p_.cell) * p_.T * p_.B, std::numeric_limits<double>::quiet_NaN());
  }

  bool wanted() const { return taps_; }

  // Of the rows that a task has at step s: the squares of n values from at(i) on, and of as many in each of the further runs, so
  // far apart; totals[i] is what it comes to. In a team every worker measures its own units, and settle() puts them together.
  template <class At>
  void measure(double* totals, int which, Index s, Index task, Index count, Units units, bool team, Index n, At&& at,
               Index runs = 1, Index apart = 0) {
    // A team's parts are panels. With a team or without one, they are added up in the same order.
    const Index part = p_.B == 1 && n % kernels_.panel_width == 0 ? kernels_.panel_width : n, last = std::min(units.last, n);
    for (Index i = 0; i < count; ++i) {
      const T* const row = at(i);
      double total = 0;
      for (Index unit = units.first; unit < last; unit += part) {
        double sum = 0;
        for (Index run = 0; run < runs; ++run) sum += kernels_.sum_squares(row + run * apart + unit, part);
        if (team) parts_[place(s, which, unit / part)] = sum;
        total += sum;
      }
      totals[i] = total;
      if (!team) tap(which, s, deal_.rank(task, i), total);
    }
  }

  // Room for the parts of a team, for steps first to last.
  void expect_team(Index first, Index last) {
    if (!wanted()) return;
    first_ = first;
    parts_.assign((last - first) * tap_limit * parts_in(p_.H), std::numeric_limits<double>::quiet_NaN());
  }

  // What a team has measured.
  void settle(Index first, Index last) const {
    if (!wanted()) return;
    for (Index s = first; s < last; ++s)
      for (int which = 0; which < tap_count(p_.cell); ++which) {
        double total = 0;
        for (Index k = 0; k < parts_in(p_.H); ++k) total += parts_[place(s, which, k)];
        tap(which, s, 0, total);
      }
  }

 private:
  Index parts_in(Index n) const { return (n + kernels_.panel_width - 1) / kernels_.panel_width; }
  Index place(Index s, int which, Index part) const { return ((s - first_) * tap_limit + which) * parts_in(p_.H) + part; }

  void tap(int which, Index s, Index r, double value) const {
    taps_[(which * p_.T + sequences_.time(s, r)) * p_.B + sequences_.sequence(r)] = value;
  }

  const Kernels<T>& kernels_;
  const Problem& p_;
  const Sequences& sequences_;
  const Deal& deal_;
  double* const taps_;
  Index first_ = 0;
  std::vector<double> parts_;
};

}  // namespace throughtime
