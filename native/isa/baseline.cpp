// What every processor of the architecture has: SSE2 on x86-64, else whatever the compiler makes of 16-byte vectors.
#define TT_ISA baseline
#define TT_VECTOR_BYTES 16
#define TT_PANEL_VECTORS 2
#include "kernels/table.hpp"

namespace throughtime {
extern const Kernels<float>* const baseline_f32;
extern const Kernels<double>* const baseline_f64;
const Kernels<float>* const baseline_f32 = &baseline::table<float>;
const Kernels<double>* const baseline_f64 = &baseline::table<double>;
}  // namespace throughtime
