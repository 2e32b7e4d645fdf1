// The two operators on PyTorch's tensors, which are read, checked and made here, through DLPack's table of C functions: nothing
// is linked to PyTorch. (A call of one step takes 3.6 us forward and 6.3 back; it was 10 and 18 when Python asked every tensor
// for its sizes, strides and address.)
#include "tensors.hpp"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "throughtime/layer.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace throughtime {
namespace {

using nb::dlpack::dltensor;

// DLPack 1.3, include/dlpack/dlpack.h of https://github.com/dmlc/dlpack, as far as it is used here.
struct Managed {  // DLManagedTensorVersioned
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(Managed*);
  std::uint64_t flags;
  dltensor tensor;
};
struct Exchange {  // DLPackExchangeAPI
  std::uint32_t major, minor;
  const Exchange* older;
  void* unused_allocator;
  void* unused_export;
  int (*to_object)(Managed*, void** object);
  int (*read)(void* object, dltensor* view);
  void* unused_stream;
};

const Exchange* exchange = nullptr;

// Takes the table of the class torch.Tensor; false if it has none that will do.
bool use_tensors(nb::handle type) {
  constexpr const char* name = "dlpack_exchange_api";
  const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(capsule.ptr(), name)) return false;
  auto table = static_cast<const Exchange*>(PyCapsule_GetPointer(capsule.ptr(), name));
  while (table && table->major != 1) table = table->older;
  exchange = table && table->read && table->to_object ? table : nullptr;
  return exchange != nullptr;
}

// ---- reading ----------------------------------------------------------------------------------------------------------

struct Shape {
  int axes = 0;
  Index sizes[3] = {};

  Shape(std::initializer_list<Index> given) {
    for (const Index size : given) sizes[axes++] = size;
  }
};

bool operator==(const dltensor& view, const Shape& shape) {
  return view.ndim == shape.axes && std::equal(shape.sizes, shape.sizes + shape.axes, view.shape);
}

std::string described(int axes, const Index* sizes) {
  std::string text = "[";
  for (int axis = 0; axis < axes; ++axis) text += (axis ? ", " : "") + std::to_string(sizes[axis]);
  return text + "]";
}
std::string described(const dltensor& view) { return described(view.ndim, view.shape); }
std::string described(const Shape& shape) { return described(shape.axes, shape.sizes); }

Index elements(const dltensor& view) {
  Index count = 1;
  for (int axis = 0; axis < view.ndim; ++axis) count *= view.shape[axis];
  return count;
}

bool is_contiguous(const dltensor& view) {
  Index expected = 1;
  for (int axis = view.ndim - 1; axis >= 0; --axis) {
    if (view.shape[axis] != 1 && view.strides[axis] != expected) return elements(view) == 0;
    expected *= view.shape[axis];
  }
  return true;
}

// Rows may lie anywhere, but the features of one side by side.
bool has_contiguous_rows(const dltensor& view) {
  const int last = view.ndim - 1;
  return last < 0 || view.strides[last] == 1 || view.shape[last] == 1;
}

nb::object ask(nb::handle tensor, PyObject* method) {
  PyObject* const result = PyObject_CallMethodObjArgs(tensor.ptr(), method, nullptr);
  if (!result) throw nb::python_error();
  return nb::steal(result);
}

// A tensor and what DLPack says of it; neither if there is none.
struct Given {
  nb::object owner;
  dltensor view;

  explicit operator bool() const { return owner.is_valid(); }
  Index size(int axis) const { return view.shape[axis < 0 ? view.ndim + axis : axis]; }
  template <class T> T* data() const {
    return *this ? reinterpret_cast<T*>(static_cast<char*>(view.data) + view.byte_offset) : nullptr;
  }
  template <class T> Rows<T> rows() const {
    if (!*this) return {nullptr, 0, 0};
    return {data<T>(), view.ndim == 3 ? view.strides[0] : 0, view.strides[view.ndim - 2]};
  }
  std::string dtype() const {
    const nb::object dtype = owner.attr("dtype");
    return nb::str(nb::handle(dtype)).c_str();
  }
};

Given read(nb::handle tensor) {
  Given given;
  if (tensor.is_none()) return given;
  if (exchange->read(tensor.ptr(), &given.view)) throw nb::python_error();
  given.owner = nb::borrow(tensor);
  if (given.view.device.device_type != nb::device::cpu::value)
    throw std::runtime_error("a tensor of shape " + described(given.view) + " is not on the CPU");
  if (!given.view.data && elements(given.view))
    throw std::runtime_error("a tensor of shape " + described(given.view) + " has no memory: its storage was given back");
  return given;
}

// The same, or a copy that lies as the kernels need it.
Given laid_out(nb::handle tensor, bool (*as_needed)(const dltensor&)) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  static PyObject* const resolve_neg = PyUnicode_InternFromString("resolve_neg");
  static PyObject* const contiguous = PyUnicode_InternFromString("contiguous");
  Given given = read(tensor);
  if (!given || (as_needed(given.view) && ask(tensor, is_neg).ptr() != Py_True)) return given;
  return read(ask(ask(tensor, resolve_neg), contiguous));
}

// One that is written into, and so must lie as it is needed itself.
Given written(const char* name, nb::handle tensor, bool (*as_needed)(const dltensor&)) {
  Given given = read(tensor);
  if (given && !as_needed(given.view)) throw std::runtime_error(std::string(name) + " does not lie row by row in memory");
  return given;
}

// ---- making -----------------------------------------------------------------------------------------------------------

struct Made {
  nb::object tensor = nb::none();
  void* data = nullptr;

  template <class T> T* as() const { return static_cast<T*>(data); }
};

// Memory that stays with the kernels when the tensor goes: the next training step finds it without a page fault.
Made make(const Shape& shape, const nb::dlpack::dtype& type) {
  struct Block : Managed {
    Shape shape{};
    Index strides[3];
  };
  Made made;
  Index count = 1;
  auto block = std::make_unique<Block>();
  block->shape = shape;
  for (int axis = shape.axes - 1; axis >= 0; --axis) {
    block->strides[axis] = count;
    count *= shape.sizes[axis];
  }
  made.data = take_block(std::size_t(count) * type.bits / 8);
  static_cast<Managed&>(*block) = {1, 0, nullptr,
                                   [](Managed* self) {
                                     give_block(self->tensor.data);
                                     delete static_cast<Block*>(self);
                                   },
                                   0,
                                   {made.data, {nb::device::cpu::value, 0}, shape.axes, type, block->shape.sizes,
                                    block->strides, 0}};
  void* object = nullptr;
  if (exchange->to_object(block.release(), &object)) throw nb::python_error();  // the block is torch's now, come what may
  made.tensor = nb::steal(static_cast<PyObject*>(object));
  return made;
}

// ---- the operators ----------------------------------------------------------------------------------------------------

// As in cells.py.
constexpr const char* names[cell_count] = {"rnn_tanh", "rnn_relu", "rnn_sigmoid", "rnn_identity", "gru", "lstm"};

// The arguments that forward and backward share, checked; keeps alive the contiguous copies made for the kernels.
struct Call {
  CellKind cell;
  const char* keep;
  bool keeps;  // anything at all
  Given x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, lengths, profile;
  Problem problem;

  Call(int cell_, nb::handle x_, nb::handle h0_, nb::handle c0_, nb::handle w_ih_, nb::handle w_hh_, nb::handle b_ih_,
       nb::handle b_hh_, nb::handle w_hr_, nb::handle lengths_, bool packed, bool reverse, const char* keep_, int threads,
       nb::handle profile_)
    : cell(CellKind(cell_)),
      keep(keep_),
      keeps(std::strcmp(keep, "nothing") != 0),
      x(laid_out(x_, has_contiguous_rows)),
      h0(laid_out(h0_, is_contiguous)),
      c0(laid_out(c0_, is_contiguous)),
      w_ih(laid_out(w_ih_, is_contiguous)),
      w_hh(laid_out(w_hh_, is_contiguous)),
      b_ih(laid_out(b_ih_, is_contiguous)),
      b_hh(laid_out(b_hh_, is_contiguous)),
      w_hr(laid_out(w_hr_, is_contiguous)),
      lengths(laid_out(lengths_, is_contiguous)),
      profile(read(profile_)) {
    if (x.view.dtype != nb::dtype<float>() && x.view.dtype != nb::dtype<double>())
      throw std::runtime_error("x is " + x.dtype() + ", expected torch.float32 or torch.float64");
    Problem& p = problem;
    p = {cell, 0, 0, 0, 0, 0, lengths.data<const Index>(), packed, reverse, w_ih.view.ndim == 3,
         threads, std::strcmp(keep, "states") == 0, profile.data<double>()};
    set_steps_and_batch();
    p.I = x.size(-1);
    const CellShape& shape = shape_of(cell);
    const bool simple = shape.gates == 1;
    if (w_ih.view.ndim != (p.untied && simple ? 3 : 2) || w_ih.size(-2) % shape.gates)
      fail("w_ih has shape " + described(w_ih.view) + ", expected [" + std::to_string(shape.gates) + " * H, " +
           std::to_string(p.I) + "]");
    if (w_hr && (!shape.has_cell || w_hr.view.ndim != 2))
      fail("w_hr has shape " + described(w_hr.view) + ", expected [P, H] of an LSTM, or none");
    if (p.untied && b_hh)
      fail("b_hh has shape " + described(b_hh.view) + ", expected none beside weights that differ by step");
    const Index rows = w_ih.size(-2);
    p.H = rows / shape.gates;
    p.P = w_hr ? w_hr.size(0) : p.H;
    expect("w_ih", w_ih, p.untied ? Shape{p.T, rows, p.I} : Shape{rows, p.I});
    expect("w_hh", w_hh, p.untied ? Shape{p.T - 1, rows, p.P} : Shape{rows, p.P});
    expect("b_ih", b_ih, p.untied ? Shape{p.T, rows} : Shape{rows});
    expect("b_hh", b_hh, {rows});
    expect("w_hr", w_hr, {p.P, p.H});
    expect("h0", h0, state());
    expect("c0", c0, cell_state());
  }

  bool f64() const { return x.view.dtype == nb::dtype<double>(); }
  Shape like_x(Index features) const {
    return problem.packed ? Shape{x.size(0), features} : Shape{problem.T, problem.B, features};
  }
  Index rows() const { return problem.packed ? x.size(0) : problem.T * problem.B; }
  // Elements that a row keeps for the way back, beside its output.
  template <class T> Index width() const { return saved_width<T>(cell, problem.H, problem.recompute); }
  template <class T> Weights<T> weights() const {
    return {w_ih.data<const T>(), w_hh.data<const T>(), b_ih.data<const T>(), b_hh.data<const T>(), w_hr.data<const T>()};
  }
  Shape state() const { return {problem.B, problem.P}; }
  Shape cell_state() const { return {problem.B, problem.H}; }

  [[noreturn]] void fail(const std::string& why) const { throw std::runtime_error(std::string(names[int(cell)]) + ": " + why); }

  void expect(const char* name, const Given& given, const Shape& shape) const {
    if (!given || (given.view == shape && given.view.dtype == x.view.dtype)) return;
    fail(std::string(name) + " has shape " + described(given.view) + " and is " + given.dtype() + ", expected " +
         described(shape) + " and " + x.dtype() + " beside x of shape " + described(x.view) + " and w_ih of shape " +
         described(w_ih.view));
  }

 private:
  // T and B, with the axes of x and the lengths checked (but for the values of padded ones, which the kernels check).
  void set_steps_and_batch() {
    if (lengths && lengths.view.dtype != nb::dtype<Index>())
      throw std::runtime_error("lengths are " + lengths.dtype() + ", expected torch.int64");
    if (!problem.packed) {
      if (x.view.ndim != 3) throw std::runtime_error("x has shape " + described(x.view) + ", expected 3 axes [T, B, I]");
      problem.T = x.size(0);
      problem.B = x.size(1);
      if (lengths && !(lengths.view == Shape{problem.B}))
        throw std::runtime_error("lengths has shape " + described(lengths.view) + ", expected " + described(Shape{problem.B}));
      return;
    }
    if (x.view.ndim != 2 || !lengths || lengths.view.ndim != 1 || lengths.size(0) == 0)
      throw std::runtime_error("packed x has shape " + described(x.view) +
                               ", expected 2 axes [N, I], and lengths of at least one sequence");
    const Index rows = x.size(0);
    Index sum = 0;  // which cannot overflow: what is no length counts as if it were just too short or too long
    for (Index b = 0; b < lengths.size(0); ++b) sum += std::clamp<Index>(problem.lengths[b], -1, rows + 1);
    if (sum != rows)
      throw std::runtime_error("packed x has " + std::to_string(rows) + " rows, and its lengths add up to " +
                               (sum > rows ? "more" : std::to_string(sum)));
    problem.T = problem.lengths[0];
    problem.B = lengths.size(0);
  }
};

template <class T> nb::tuple forward_of(const Call& call, nb::handle output, bool stacked) {
  const nb::dlpack::dtype type = nb::dtype<T>();
  const Shape like_output = call.like_x(call.problem.P);
  Made made, c_n, saved;
  Rows<T> into{nullptr, 0, 0};
  if (output.ptr() == Py_True) {
    made = make(like_output, type);
    into = {made.as<T>(), call.problem.B * call.problem.P, call.problem.P};
  } else if (output.ptr() != Py_False) {
    const Given given = written("output", output, has_contiguous_rows);
    call.expect("output", given, like_output);
    into = given.rows<T>();
    made.tensor = given.owner;
  }
  const auto state = [&](Shape shape) {
    return make(stacked ? Shape{1, shape.sizes[0], shape.sizes[1]} : shape, type);
  };
  const Made h_n = state(call.state());
  if (shape_of(call.cell).has_cell) c_n = state(call.cell_state());
  const Index width = call.keeps ? call.width<T>() : 0;
  if (width) saved = make({call.rows(), width}, type);
  const ForwardArgs<T> args{call.problem, call.weights<T>(), call.x.rows<const T>(), call.h0.data<const T>(),
                            call.c0.data<const T>(), into, h_n.as<T>(), c_n.as<T>(), saved.as<T>()};
  {
    const nb::gil_scoped_release unlocked;
    forward<T>(args);
  }
  return nb::make_tuple(made.tensor, h_n.tensor, c_n.tensor, saved.tensor);
}

template <class T>
nb::tuple backward_of(const Call& call, nb::handle output_, nb::handle saved_, nb::handle grad_output_, nb::handle grad_h_n_,
                      nb::handle grad_c_n_, const nb::tuple& wanted, nb::handle taps_, nb::handle delta_, bool rescale) {
  const nb::dlpack::dtype type = nb::dtype<T>();
  const Problem& p = call.problem;
  // Hooks on saved tensors may have laid them out anew.
  const Given output = laid_out(output_, has_contiguous_rows), saved = laid_out(saved_, is_contiguous);
  const Index width = call.width<T>();
  if (width && (!saved || !(saved.view == Shape{call.rows(), width})))
    throw std::runtime_error(
      std::string("there is nothing kept to go back with: the forward pass ran with another keep than '") + call.keep + "'");
  for (const auto& [name, given] : {std::pair("output", &output), std::pair("saved", &saved)})
    if (*given && given->view.dtype != type)
      throw std::runtime_error(std::string(name) + " has come back as " + given->dtype() + ", and was saved as " + call.x.dtype());
  const Given grad_output = laid_out(grad_output_, has_contiguous_rows);
  const Given grad_h_n = laid_out(grad_h_n_, is_contiguous), grad_c_n = laid_out(grad_c_n_, is_contiguous);
  const Given delta = written("delta", delta_, has_contiguous_rows), taps = written("taps", taps_, is_contiguous);
  call.expect("output", output, call.like_x(p.P));
  call.expect("grad_output", grad_output, call.like_x(p.P));
  call.expect("grad_h_n", grad_h_n, call.state());
  call.expect("grad_c_n", grad_c_n, call.cell_state());
  call.expect("delta", delta, call.like_x(p.P));
  if (taps && (!(taps.view == Shape{tap_count(call.cell), p.T, p.B}) || taps.view.dtype != nb::dtype<double>()))
    call.fail("taps have shape " + described(taps.view) + " and are " + taps.dtype() + ", expected " +
              described(Shape{tap_count(call.cell), p.T, p.B}) + " and torch.float64");

  Made grads[8];
  const auto want = [&](int index, const Shape& shape) {
    if (nb::cast<bool>(wanted[index])) grads[index] = make(shape, type);
  };
  const auto want_like = [&](int index, const Given& given) {
    if (given) want(index, given.view.ndim == 3 ? Shape{given.size(0), given.size(1), given.size(2)}
                         : given.view.ndim == 2 ? Shape{given.size(0), given.size(1)} : Shape{given.size(0)});
  };
  want_like(0, call.x);
  want(1, call.state());
  want(2, call.cell_state());
  const Given* const weights[] = {&call.w_ih, &call.w_hh, &call.b_ih, &call.b_hh, &call.w_hr};
  for (int k = 0; k < 5; ++k) want_like(3 + k, *weights[k]);
  const BackwardArgs<T> args{
    p, call.weights<T>(), call.x.rows<const T>(), call.h0.data<const T>(), call.c0.data<const T>(), output.rows<const T>(),
    saved.data<const T>(), grad_output.rows<const T>(), grad_h_n.data<const T>(), grad_c_n.data<const T>(),
    {grads[0].as<T>(), p.B * p.I, p.I}, grads[1].as<T>(), grads[2].as<T>(), grads[3].as<T>(), grads[4].as<T>(),
    grads[5].as<T>(), grads[6].as<T>(), grads[7].as<T>(), delta.rows<T>(), taps.data<double>(), rescale};
  {
    const nb::gil_scoped_release unlocked;
    backward<T>(args);
  }
  return nb::make_tuple(grads[0].tensor, grads[1].tensor, grads[2].tensor, grads[3].tensor, grads[4].tensor, grads[5].tensor,
                        grads[6].tensor, grads[7].tensor);
}

}  // namespace

void bind_tensors(nb::module_& m) {
  using Tensor = nb::handle;
  m.def("use_tensors", &use_tensors);
  m.def("empty_taps", [](int cell, Index T, Index B) {
    return make({tap_count(CellKind(cell)), T, B}, nb::dtype<double>()).tensor;
  });
  m.def(
    "forward",
    [](int cell, Tensor x, Tensor h0, Tensor c0, Tensor w_ih, Tensor w_hh, Tensor b_ih, Tensor b_hh, Tensor w_hr, Tensor lengths,
       bool packed, bool reverse, const char* keep, int threads, Tensor profile, Tensor output, bool stacked) {
      const Call call(cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, lengths, packed, reverse, keep, threads, profile);
      return (call.f64() ? forward_of<double> : forward_of<float>)(call, output, stacked);
    },
    "cell"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "w_ih"_a, "w_hh"_a, "b_ih"_a.none(), "b_hh"_a.none(), "w_hr"_a.none(),
    "lengths"_a.none(), "packed"_a, "reverse"_a, "keep"_a, "threads"_a, "profile"_a.none(), "output"_a, "stacked"_a);
  m.def(
    "backward",
    [](int cell, Tensor x, Tensor h0, Tensor c0, Tensor w_ih, Tensor w_hh, Tensor b_ih, Tensor b_hh, Tensor w_hr, Tensor lengths,
       bool packed, bool reverse, const char* keep, int threads, Tensor profile, Tensor output, Tensor saved,
       Tensor grad_output, Tensor grad_h_n, Tensor grad_c_n, const nb::tuple& wanted, Tensor taps, Tensor delta, bool rescale) {
      const Call call(cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, lengths, packed, reverse, keep, threads, profile);
      return (call.f64() ? backward_of<double> : backward_of<float>)(call, output, saved, grad_output, grad_h_n, grad_c_n,
                                                                     wanted, taps, delta, rescale);
    },
    "cell"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "w_ih"_a, "w_hh"_a, "b_ih"_a.none(), "b_hh"_a.none(), "w_hr"_a.none(),
    "lengths"_a.none(), "packed"_a, "reverse"_a, "keep"_a, "threads"_a, "profile"_a.none(), "output"_a, "saved"_a.none(),
    "grad_output"_a.none(), "grad_h_n"_a.none(), "grad_c_n"_a.none(), "wanted"_a, "taps"_a.none(), "delta"_a.none(), "rescale"_a);
}

}  // namespace throughtime
