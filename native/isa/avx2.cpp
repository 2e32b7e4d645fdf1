// AVX2 with FMA: 16 registers of 32 bytes (Haswell, Zen and later).
#define TT_ISA avx2
#define TT_VECTOR_BYTES 32
#define TT_PANEL_VECTORS 2
#include "kernels/table.hpp"

namespace throughtime {
extern const Kernels<float>* const avx2_f32;
extern const Kernels<double>* const avx2_f64;
const Kernels<float>* const avx2_f32 = &avx2::table<float>;
const Kernels<double>* const avx2_f64 = &avx2::table<double>;
}  // namespace throughtime
