// AVX-512 F, DQ, VL, BW: 32 registers of 64 bytes (Skylake-SP, Zen 4 and later).
#define TT_ISA avx512
#define TT_VECTOR_BYTES 64
#define TT_PANEL_VECTORS 4
#include "kernels/table.hpp"

namespace throughtime {
extern const Kernels<float>* const avx512_f32;
extern const Kernels<double>* const avx512_f64;
const Kernels<float>* const avx512_f32 = &avx512::table<float>;
const Kernels<double>* const avx512_f64 = &avx512::table<double>;
}  // namespace throughtime
