// NEON: 32 registers of 16 bytes, part of every aarch64 processor.
#define TT_ISA neon
#define TT_VECTOR_BYTES 16
#define TT_PANEL_VECTORS 4
#include "kernels/table.hpp"

namespace throughtime {
extern const Kernels<float>* const neon_f32;
extern const Kernels<double>* const neon_f64;
const Kernels<float>* const neon_f32 = &neon::table<float>;
const Kernels<double>* const neon_f64 = &neon::table<double>;
}  // namespace throughtime
