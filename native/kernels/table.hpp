// The table of one instruction set, filled in. The last thing that a file of isa/ includes.
#pragma once
#include "kernels/ceiling.hpp"
#include "kernels/cells.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/product.hpp"

namespace throughtime::TT_ISA {

template <class T> constexpr Kernels<T> table = {
    lanes<T>,
    panel_width<T>,
    product<T>,
    product_single<T>,
    matvec<T>,
    pack_transposed<T>,
    pack_rows<T>,
    add<T>,
    scale<T>,
    sum_squares<T>,
    {rnn_forward<T, Tanh>, rnn_forward<T, Relu>, rnn_forward<T, Sigmoid>, rnn_forward<T, Identity>, gru_forward<T>, lstm_forward<T>},
    {rnn_backward<T, Tanh>, rnn_backward<T, Relu>, rnn_backward<T, Sigmoid>, rnn_backward<T, Identity>, gru_backward<T>,
     lstm_backward<T>},
    lstm_output<T>,
    multiply_adds<T>,
};

}  // namespace throughtime::TT_ISA
