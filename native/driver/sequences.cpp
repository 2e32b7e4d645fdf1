// See sequences.hpp.
#include "driver/sequences.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "throughtime/parallel.hpp"

namespace throughtime {

Sequences::Sequences(const Problem& p) : reverse_(p.reverse), packed_(p.packed), full_(true), T_(p.T), length_(p.B, p.T) {
  if (p.lengths) {
    for (Index b = 0; b < p.B; ++b) {
      const Index n = p.lengths[b];
      if (n < 0 || n > p.T)
        throw std::invalid_argument("lengths[" + std::to_string(b) + "] is " + std::to_string(n) + ", expected 0 to " +
                                    std::to_string(p.T) + " (the number of steps of the input)");
      full_ = full_ && n == p.T;
    }
    if (packed_) {
      if (p.B && (!std::is_sorted(p.lengths, p.lengths + p.B, std::greater<Index>()) || p.lengths[p.B - 1] == 0))
        throw std::invalid_argument("the lengths of a packed sequence must descend and be at least 1");
      length_.assign(p.lengths, p.lengths + p.B);
    } else if (!full_) {
      sequence_.resize(p.B);
      std::iota(sequence_.begin(), sequence_.end(), Index(0));
      std::stable_sort(sequence_.begin(), sequence_.end(), [&](Index a, Index b) { return p.lengths[a] > p.lengths[b]; });
      for (Index r = 0; r < p.B; ++r) length_[r] = p.lengths[sequence_[r]];
    }
  }
  const Index longest = p.B ? length_[0] : 0;
  active_.resize(longest);
  offset_.resize(longest + 1);
  Index running = p.B;
  offset_[0] = 0;
  for (Index s = 0; s < longest; ++s) {
    while (running > 0 && length_[running - 1] <= s) --running;
    active_[s] = running;
    offset_[s + 1] = offset_[s] + running;
  }
}

template <class T> void Sequences::clear_padding(const Rows<T>& rows, Index width, int threads) const {
  if (packed_ || full_ || !rows.data) return;
  // Time by time, as the rows lie in memory: sequence by sequence, every row would be on another page.
  constexpr Index block = 16, worth_waking = 256 * 1024;
  const Index bytes = (T_ * Index(length_.size()) - total()) * width * Index(sizeof(T));
  parallel_for(int((T_ + block - 1) / block), bytes < worth_waking ? 1 : threads, [&](int task) {
    for (Index t = task * block; t < std::min((task + 1) * block, T_); ++t)
      for (Index r = t < steps() ? active(t) : 0; r < Index(length_.size()); ++r)
        std::fill_n(rows.data + t * rows.step + sequence(r) * rows.row, width, T(0));
  });
}

void Chunk::take(Index first_step, Index last_step) {
  first = first_step;
  last = last_step;
  begin_.clear();
  Index row = 0;
  for (Index group = 0; group < groups_.tasks; ++group)
    for (Index s = first; s < last; ++s) {
      begin_.push_back(row);
      row += groups_.count(group, sequences_.active(s));
    }
  begin_.push_back(row);
}

template void Sequences::clear_padding(const Rows<float>&, Index, int) const;
template void Sequences::clear_padding(const Rows<double>&, Index, int) const;

}  // namespace throughtime
