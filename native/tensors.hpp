// The two operators on PyTorch's tensors, for ops/native.py: see tensors.cpp.
#pragma once
#include <nanobind/nanobind.h>

namespace throughtime {

void bind_tensors(nanobind::module_& m);

}  // namespace throughtime
