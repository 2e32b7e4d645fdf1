// Where the steps of a batch of sequences lie.
//
// Sequences are taken in descending order of length (rank r = 0..B-1), each in its own step order s = 0..length-1 (for the
// reverse direction s = 0 is the true end). So at every step the active ones are ranks 0..active(s)-1, and (s, r) has the
// packed row offset(s) + r among the N rows there are. User memory is addressed through row().
#pragma once
#include <algorithm>
#include <vector>

#include "throughtime/layer.hpp"

namespace throughtime {

class Sequences {
 public:
  // Throws std::invalid_argument for lengths outside 0..T, and, packed, for such that do not descend or hold a zero.
  explicit Sequences(const Problem& problem);

  Index steps() const { return Index(active_.size()); }           // of the longest sequence
  Index total() const { return offset_.back(); }                  // N
  Index active(Index s) const { return active_[s]; }
  Index offset(Index s) const { return offset_[s]; }
  Index length(Index r) const { return length_[r]; }
  Index sequence(Index r) const { return sequence_.empty() ? r : sequence_[r]; }  // the user's b
  bool full() const { return full_; }                             // every sequence has T steps

  Index time(Index s, Index r) const { return reverse_ ? length_[r] - 1 - s : s; }  // the user's t

  template <class T> T* row(const Rows<T>& rows, Index s, Index r) const {
    const Index t = time(s, r);
    return packed_ ? rows.data + (packed_offset(t) + r) * rows.row : rows.data + t * rows.step + sequence(r) * rows.row;
  }

  // Sets to zero what lies past each sequence's end (nothing, where there is no such place).
  template <class T> void clear_padding(const Rows<T>& rows, Index width, int threads) const;

 private:
  Index packed_offset(Index t) const { return offset_[t]; }  // the same for both directions: ranks active at a time t are a prefix

  bool reverse_, packed_, full_;
  Index T_;
  std::vector<Index> active_, offset_, length_, sequence_;
};

// Which ranks each task takes. Of sequences of one length, a block of neighbours: rows that lie side by side then belong to one
// core, whose prefetching would otherwise fetch the lines that another is writing. Of a ragged batch, every so many (rank r
// to task r mod tasks): with descending lengths all get their fair share of the steps, and at each step the active ranks
// of a task are the first ones it was dealt.
struct Deal {
  Deal(Index tasks_, Index batch, bool full) : tasks(tasks_), block(full ? (batch + tasks_ - 1) / tasks_ : 0) {}
  Index count(Index task, Index active) const {
    if (block) return std::clamp<Index>(active - task * block, 0, block);
    return active > task ? (active - task - 1) / tasks + 1 : 0;
  }
  Index rank(Index task, Index i) const { return block ? task * block + i : task + i * tasks; }
  // The other way round: rank(task(r), place(r)) is r.
  Index task(Index rank) const { return block ? rank / block : rank % tasks; }
  Index place(Index rank) const { return block ? rank % block : rank / tasks; }

  const Index tasks, block;
};

// A chunk of steps, whose rows (steps times sequences) lie one after another in scratch: group by group of sequences, then step
// by step.
class Chunk {
 public:
  Chunk(const Sequences& sequences, const Deal& groups) : sequences_(sequences), groups_(groups) {}

  void take(Index first_step, Index last_step);

  Index rows() const { return begin_.back(); }
  Index begin(Index group) const { return begin_[group * (last - first)]; }
  Index row(Index s, Index r) const { return begin_[groups_.task(r) * (last - first) + s - first] + groups_.place(r); }
  // Calls visit(k, s, r) for every row k.
  template <class Visit> void visit(Visit&& visit) const {
    Index k = 0;
    for (Index group = 0; group < groups_.tasks; ++group)
      for (Index s = first; s < last; ++s)
        for (Index i = 0, count = groups_.count(group, sequences_.active(s)); i < count; ++i, ++k)
          visit(k, s, groups_.rank(group, i));
  }

  Index first = 0, last = 0;  // steps

 private:
  const Sequences& sequences_;
  const Deal& groups_;
  std::vector<Index> begin_;  // of each group and step, and the end of all
};

}  // namespace throughtime
