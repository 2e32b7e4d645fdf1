// Runs every cell forward and back through time on fixed problems, on every instruction set this processor has, and prints a
// number for each that any other processor must print too, to rounding. tools/check_aarch64.py compares two of them.
#include <cmath>
#include <cstdio>
#include <vector>

#include "throughtime/kernels.hpp"

using namespace throughtime;

namespace {

// The same numbers everywhere: no library's random generator, and values that both float types hold exactly.
unsigned long long state;

template <class T> std::vector<T> draw(Index count, double scale) {
  std::vector<T> values(count);
  for (T& value : values) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    value = T((double(state >> 44) / (1 << 19) - 1) * scale);
  }
  return values;
}

template <class T> double run(CellKind cell, Index steps, Index B, Index I, Index H, bool reverse) {
  state = 88172645463325252ull;
  const CellShape& shape = shape_of(cell);
  const Index G = shape.gates;
  const auto w_ih = draw<T>(G * H * I, 0.5), w_hh = draw<T>(G * H * H, 0.125), b_ih = draw<T>(G * H, 0.25),
             b_hh = draw<T>(G * H, 0.25), x = draw<T>(steps * B * I, 1), h0 = draw<T>(B * H, 1), c0 = draw<T>(B * H, 1),
             grad_output = draw<T>(steps * B * H, 1);
  std::vector<Index> lengths(B);
  for (Index b = 0; b < B; ++b) lengths[b] = (b * 7 + 3) % (steps + 1);
  std::vector<T> output(steps * B * H), h_n(B * H), c_n(B * H), saved(steps * B * saved_width<T>(cell, H, false) + 1),
      grad_x(steps * B * I), grad_h0(B * H), grad_c0(B * H), grad_w_ih(G * H * I), grad_w_hh(G * H * H), grad_b_ih(G * H),
      grad_b_hh(G * H);
  const Problem p{cell, steps, B, I, H, H, lengths.data(), false, reverse, false, 2, false, nullptr};
  const Weights<T> w{w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data(), nullptr};
  const T* start = shape.has_cell ? c0.data() : nullptr;
  forward<T>({p, w, {x.data(), B * I, I}, h0.data(), start, {output.data(), B * H, H}, h_n.data(),
              shape.has_cell ? c_n.data() : nullptr, saved.data()});
  backward<T>({p, w, {x.data(), B * I, I}, h0.data(), start, {output.data(), B * H, H}, saved.data(), {grad_output.data(), B * H, H},
               nullptr, nullptr, {grad_x.data(), B * I, I}, grad_h0.data(), shape.has_cell ? grad_c0.data() : nullptr,
               grad_w_ih.data(), grad_w_hh.data(), grad_b_ih.data(), grad_b_hh.data(), nullptr, {nullptr, 0, 0}, nullptr, false});
  double digest = 0;
  for (const auto* result : {&output, &h_n, &grad_x, &grad_h0, &grad_w_ih, &grad_w_hh, &grad_b_ih, &grad_b_hh})
    for (std::size_t i = 0; i < result->size(); ++i) digest += double((*result)[i]) * std::sin(double(i));
  return digest;
}

}  // namespace

int main() {
  const Index sizes[][4] = {{5, 4, 3, 7}, {20, 9, 20, 33}, {30, 1, 5, 19}, {33, 13, 8, 64}, {40, 1, 8, 192}};
  for (int cell = 0; cell < cell_count; ++cell)
    for (const auto& size : sizes)
      for (const bool reverse : {false, true})
        for (const InstructionSet& set : instruction_sets()) {
          set_isa(set.name);
          std::printf("%d %ldx%ldx%ldx%ld %d %s %.12g %.12g\n", cell, long(size[0]), long(size[1]), long(size[2]), long(size[3]),
                      int(reverse), set.name, run<float>(CellKind(cell), size[0], size[1], size[2], size[3], reverse),
                      run<double>(CellKind(cell), size[0], size[1], size[2], size[3], reverse));
        }
}
