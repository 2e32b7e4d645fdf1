// See weights.hpp.
#include "driver/weights.hpp"

#include <algorithm>

#include "throughtime/parallel.hpp"

namespace throughtime {

const CellShape& shape_of(CellKind cell) {
  static const CellShape rnn{1, 1, 0, {0, 0, 0, 0}, {0, 0, 0, 0}, false, false, false};
  static const CellShape gru{3, 4, 1, {2, 0, 1, 0}, {0, 1, 2, 0}, false, true, true};
  static const CellShape lstm{4, 4, 0, {0, 1, 2, 3}, {0, 1, 2, 3}, true, false, true};
  return cell == CellKind::lstm ? lstm : cell == CellKind::gru ? gru : rnn;
}

int tap_count(CellKind cell) { return cell == CellKind::lstm ? 6 : cell == CellKind::gru ? 5 : 3; }

namespace {

// Packs matrices of so many columns, those of each gate one after another: pack(matrix, first column, last column).
template <class Pack> void share_packing(Index matrices, Index gates, Index gate, Index panel, Index bytes, Users users, Pack&& pack) {
  if (users.team) {  // one matrix, its gates made of whole panels
    const Index panels = gate / panel;
    return parallel_for(users.count, users.count, [&](int worker) {
      for (Index first = 0; first < gates * gate; first += gate)
        pack(0, first + panels * worker / users.count * panel, first + panels * (worker + 1) / users.count * panel);
    });
  }
  constexpr Index worth_waking = 256 * 1024, beyond_cache = 2 * 1024 * 1024;
  const Index columns = gates * gate, panels = (columns + panel - 1) / panel;
  const int threads = bytes < worth_waking ? 1 : users.count == 1 && bytes > beyond_cache ? users.threads : users.count;
  parallel_for(int(matrices * panels), threads, [&](int task) {
    const Index first = task % panels * panel;
    pack(task / panels, first, std::min(columns, first + panel));
  });
}

}  // namespace

template <class T>
Sizes<T>::Sizes(const Problem& p)
    : cell(shape_of(p.cell)),
      HP(padded<T>(p.H)),
      PP(padded<T>(p.P)),
      gate_width(cell.segments * HP),
      product_width(cell.gates * HP),
      h_offset(cell.h_first * HP),
      keeps_gates(cell.keeps_gates && !p.recompute),
      saved_width((keeps_gates ? gate_width : 0) + (cell.has_cell ? HP : 0)),
      cell_offset(keeps_gates ? gate_width : 0) {}

template <class T> Index saved_width(CellKind cell, Index H, bool recompute) {
  Problem p{};
  p.cell = cell;
  p.H = p.P = H;
  p.recompute = recompute;
  return Sizes<T>(p).saved_width;
}

template <class T>
ForwardWeight<T>::ForwardWeight(const Kernels<T>& kernels, const T* w, const int* order, int gates, Index H, Index K,
                                Index matrices, bool pack, Users users)
    : kernels_(kernels), w_(w), order_(order), gates_(gates), H_(H), HP_(padded<T>(H)), K_(K), packed_(pack) {
  if (!pack) return;
  panels_ = Scratch<T>(matrices * gates * HP_ * K);
  const Index columns = gates * HP_, bytes = matrices * columns * K * Index(sizeof(T));
  share_packing(matrices, gates, HP_, kernels_.panel_width, bytes, users, [&](Index matrix, Index first, Index last) {
    kernels_.pack_transposed(panels_.get() + matrix * columns * K_, w_ + matrix * gates_ * H_ * K_, order_, gates_, H_, K_, first,
                             last);
  });
}

template <class T>
void ForwardWeight<T>::run(void (*kernel)(const Product<T>&), Product<T>& p, Index matrix, Units units) const {
  p.depth = K_;
  p.segments = 1;
  p.a_step = 1;
  p.b = panels_.get() + matrix * gates_ * HP_ * K_;
  if (units.first == 0 && units.last == HP_) {
    p.columns = gates_ * HP_;
    return kernel(p);
  }
  for (int g = 0; g < gates_; ++g) {
    p.first = g * HP_ + units.first;
    p.columns = g * HP_ + units.last;
    kernel(p);
  }
}

template <class T>
void ForwardWeight<T>::multiply(Index matrix, Index rows, const T* const* a, T* const* c, const T* bias, Units units,
                                bool c_is_far) const {
  if (packed_) {
    Product<T> p{};
    p.c_is_far = c_is_far;
    p.rows = rows;
    p.a = a;
    p.c = c;
    p.start = bias ? Start::bias : Start::accumulate;
    p.bias = bias;
    return run(kernels_.product, p, matrix, units);
  }
  if (bias)
    for (Index i = 0; i < rows; ++i) std::copy(bias, bias + gates_ * HP_, c[i]);
  for (int g = 0; g < gates_; ++g)
    kernels_.matvec(rows, H_, K_, w_ + (matrix * gates_ + order_[g]) * H_ * K_, a, c, g * HP_);
}

template <class T>
void ForwardWeight<T>::multiply_single(Index matrix, Index s, const T* const* a, T* const* c, Units units) const {
  if (!packed_) return multiply(matrix, 1, a, c, nullptr, units);
  Product<T> p{};
  p.rows = 1;
  p.a = a;
  p.c = c;
  p.start = Start::accumulate;
  p.backwards = s & 1;
  run(kernels_.product_single, p, matrix, units);
}

template <class T>
BackwardWeight<T>::BackwardWeight(const Kernels<T>& kernels, const T* w, const int* order, int gates, Index H, Index K,
                                  Index matrices, Users users)
    : kernels_(kernels), gates_(gates), H_(H), HP_(padded<T>(H)), K_(K), KP_(padded<T>(K)), panels_(matrices * gates * H * KP_) {
  const Index bytes = matrices * gates * H * K * Index(sizeof(T));
  share_packing(matrices, 1, K, kernels_.panel_width, bytes, users, [&](Index matrix, Index first, Index last) {
    std::unique_ptr<const T*[]> rows(new const T*[gates_ * H_]);
    for (Index n = 0; n < gates_ * H_; ++n) rows[n] = w + ((matrix * gates_ + order[n / H_]) * H_ + n % H_) * K_;
    kernels_.pack_rows(panels_.get() + (matrix * KP_ + first) * gates_ * H_, rows.get(), gates_ * H_, first, last);
  });
}

template <class T>
Product<T> BackwardWeight<T>::product(Index matrix, Index rows, const T* const* a, T* const* c) const {
  Product<T> p{};
  p.rows = rows;
  p.columns = K_;
  p.depth = H_;
  p.segments = gates_;
  p.a_segment = HP_;
  p.a_step = 1;
  p.a = a;
  p.b = panels_.get() + matrix * gates_ * H_ * KP_;
  p.c = c;
  p.start = Start::zero;
  return p;
}

template <class T>
void BackwardWeight<T>::multiply(Index matrix, Index rows, const T* const* a, T* const* c, bool c_is_far) const {
  Product<T> p = product(matrix, rows, a, c);
  p.c_is_far = c_is_far;
  kernels_.product(p);
}

template <class T>
void BackwardWeight<T>::multiply_single(Index matrix, Index s, const T* const* a, T* const* c, Units units) const {
  Product<T> p = product(matrix, 1, a, c);
  p.first = units.first;
  p.columns = std::min(units.last, K_);
  p.backwards = s & 1;
  kernels_.product_single(p);
}

template <class T> Index tasks_worth(const Problem& p, const Sizes<T>& sizes, Index rows, Index most) {
  constexpr double multiply_adds_per_task = 5e5;
  const double work = double(rows) * double(sizes.product_width) * double(p.I + p.P);
  return std::max<Index>(1, std::min<Index>({Index(p.threads), most, Index(work / multiply_adds_per_task)}));
}

template <class T> int team_size(const Kernels<T>& kernels, const Problem& p, const Sizes<T>& sizes) {
  // Bytes read at every step. A wait for one another costs as long as reading some 20 KiB where cores are near, some 60 where they
  // are far apart.
  constexpr Index worth_waiting = 190 * 1024;
  const Index panels = sizes.HP / kernels.panel_width;
  const bool divides = p.H == p.P && p.H == panels * kernels.panel_width;  // whole panels, no padding, no projection
  if (p.B != 1 || p.untied || !divides || sizes.product_width * p.H * Index(sizeof(T)) < worth_waiting) return 1;
  return int(std::min<Index>(p.threads, panels));
}

template <class T> Units share_of_units(const Kernels<T>& kernels, const Sizes<T>& sizes, int worker, int workers) {
  const Index panels = sizes.HP / kernels.panel_width;
  return {panels * worker / workers * kernels.panel_width, panels * (worker + 1) / workers * kernels.panel_width};
}

template <class T> Scratch<T> bias_rows(const Kernels<T>& kernels, const Problem& p, const Sizes<T>& sizes, const Weights<T>& weights) {
  const CellShape& cell = sizes.cell;
  const Index matrices = p.untied ? p.T : 1;
  Scratch<T> rows(matrices * sizes.gate_width, true);
  for (Index m = 0; m < matrices; ++m) {
    T* row = rows.get() + m * sizes.gate_width;
    const T* b_ih = weights.b_ih ? weights.b_ih + m * cell.gates * p.H : nullptr;
    const T* b_hh = weights.b_hh ? weights.b_hh + m * cell.gates * p.H : nullptr;
    for (int k = 0; k < cell.gates; ++k)
      if (b_ih) kernels.add(row + k * sizes.HP, b_ih + cell.x_order[k] * p.H, p.H);
    for (int k = 0; k < cell.gates; ++k)
      if (b_hh) kernels.add(row + (cell.h_first + k) * sizes.HP, b_hh + cell.h_order[k] * p.H, p.H);
  }
  return rows;
}

#define TT_INSTANTIATE(T)                                                                    \
  template struct Sizes<T>;                                                                  \
  template Index saved_width<T>(CellKind, Index, bool);                                      \
  template class ForwardWeight<T>;                                                           \
  template class BackwardWeight<T>;                                                          \
  template Index tasks_worth(const Problem&, const Sizes<T>&, Index, Index);                 \
  template int team_size(const Kernels<T>&, const Problem&, const Sizes<T>&);                \
  template Units share_of_units(const Kernels<T>&, const Sizes<T>&, int, int);               \
  template Scratch<T> bias_rows(const Kernels<T>&, const Problem&, const Sizes<T>&, const Weights<T>&);
TT_INSTANTIATE(float)
TT_INSTANTIATE(double)
#undef TT_INSTANTIATE

}  // namespace throughtime
