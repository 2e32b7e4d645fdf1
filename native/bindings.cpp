// The Python module _native: the two operators on plain addresses and (see tensors.cpp) on PyTorch's tensors, and the switches.
// It is private. With addresses it checks nothing that the caller has not checked before: every size, dtype, contiguity and
// alias is the caller's. The GIL is released.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "tensors.hpp"
#include "throughtime/kernels.hpp"
#include "throughtime/parallel.hpp"

namespace nb = nanobind;
using namespace throughtime;

namespace {

using Address = std::uintptr_t;

template <class T> T* at(Address address) { return reinterpret_cast<T*>(address); }

Problem problem(int cell, Index T, Index B, Index I, Index H, Index P, Address lengths, bool packed, bool reverse, bool untied,
                int threads, bool recompute, Address profile) {
  return {CellKind(cell), T,      B,       I,      H,       P,         at<const Index>(lengths),
          packed,         reverse, untied, threads, recompute, at<double>(profile)};
}

template <class T> Weights<T> weights(Address w_ih, Address w_hh, Address b_ih, Address b_hh, Address w_hr) {
  return {at<const T>(w_ih), at<const T>(w_hh), at<const T>(b_ih), at<const T>(b_hh), at<const T>(w_hr)};
}

template <class T>
void forward_of(int cell, Index T_, Index B, Index I, Index H, Index P, Address lengths, bool packed, bool reverse, bool untied,
                int threads, bool recompute, Address profile, Address w_ih, Address w_hh, Address b_ih, Address b_hh,
                Address w_hr, Address x, Index x_step, Index x_row, Address h0, Address c0, Address output, Index output_step, Index output_row, Address h_n, Address c_n,
                Address saved) {
  forward<T>({problem(cell, T_, B, I, H, P, lengths, packed, reverse, untied, threads, recompute, profile),
              weights<T>(w_ih, w_hh, b_ih, b_hh, w_hr),
              {at<const T>(x), x_step, x_row},
              at<const T>(h0),
              at<const T>(c0),
              {at<T>(output), output_step, output_row},
              at<T>(h_n),
              at<T>(c_n),
              at<T>(saved)});
}

template <class T>
void backward_of(int cell, Index T_, Index B, Index I, Index H, Index P, Address lengths, bool packed, bool reverse, bool untied,
                 int threads, bool recompute, Address profile, Address w_ih, Address w_hh, Address b_ih, Address b_hh,
                 Address w_hr, Address x, Index x_step, Index x_row, Address h0, Address c0, Address output, Index output_step, Index output_row, Address saved,
                 Address grad_output, Index grad_output_step, Index grad_output_row, Address grad_h_n, Address grad_c_n,
                 Address grad_x, Index grad_x_step, Index grad_x_row, Address grad_h0, Address grad_c0, Address grad_w_ih,
                 Address grad_w_hh, Address grad_b_ih, Address grad_b_hh, Address grad_w_hr, Address delta, Index delta_step,
                 Index delta_row, Address taps, bool rescale) {
  backward<T>({problem(cell, T_, B, I, H, P, lengths, packed, reverse, untied, threads, recompute, profile),
               weights<T>(w_ih, w_hh, b_ih, b_hh, w_hr),
               {at<const T>(x), x_step, x_row},
               at<const T>(h0),
               at<const T>(c0),
               {at<const T>(output), output_step, output_row},
               at<const T>(saved),
               {at<const T>(grad_output), grad_output_step, grad_output_row},
               at<const T>(grad_h_n),
               at<const T>(grad_c_n),
               {at<T>(grad_x), grad_x_step, grad_x_row},
               at<T>(grad_h0),
               at<T>(grad_c0),
               at<T>(grad_w_ih),
               at<T>(grad_w_hh),
               at<T>(grad_b_ih),
               at<T>(grad_b_hh),
               at<T>(grad_w_hr),
               {at<T>(delta), delta_step, delta_row},
               at<double>(taps),
               rescale});
}

}  // namespace

NB_MODULE(_native, m) {
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  m.def("forward_f32", &forward_of<float>, unlocked);
  m.def("forward_f64", &forward_of<double>, unlocked);
  m.def("backward_f32", &backward_of<float>, unlocked);
  m.def("backward_f64", &backward_of<double>, unlocked);
  m.def("saved_width_f32", [](int cell, Index H, bool recompute) { return saved_width<float>(CellKind(cell), H, recompute); });
  m.def("saved_width_f64", [](int cell, Index H, bool recompute) { return saved_width<double>(CellKind(cell), H, recompute); });
  bind_tensors(m);
  m.def("ceiling_f32", &ceiling<float>, unlocked);
  m.def("ceiling_f64", &ceiling<double>, unlocked);
  m.def("keep_memory", &keep_memory);
  m.def("isa", [] { return std::string(current_isa().name); });
  m.def("set_isa", [](const std::string& name) { return set_isa(name.c_str()); });
  m.def("isas", [] {
    nb::list names;
    for (const InstructionSet& set : instruction_sets()) names.append(set.name);
    return names;
  });
  m.def("team", [] { return std::string(team_name()); });
  m.def("default_thread_count", &default_thread_count);
}
