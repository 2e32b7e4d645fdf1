// exp, expm1, sigmoid and tanh for vectors, to about 2 ulp (tests/test_native.py measures it), NaN kept.
//
// exp(x) = 2^n e^r with n = round(x / ln 2) and |r| <= ln(2) / 2; n * ln 2 is taken off in two pieces (Cody and Waite 1980)
// and e^r - 1 is a Taylor polynomial, long enough for half an ulp on that interval. tanh goes through expm1, not exp:
// tanh x = e / (e + 2) with e = expm1(2|x|), which keeps full relative accuracy near zero, where n = 0 and e is the bare polynomial.
#pragma once
#include "kernels/simd.hpp"

namespace throughtime::TT_ISA {

template <class T> struct ExpConstants;
template <> struct ExpConstants<float> {
  static constexpr float rounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693145751953125f;
  static constexpr float ln2_low = 1.42860682030941723212e-6f;
  static constexpr float lowest = -87.3365447505f;  // from about here down exp is 0, where it would be near subnormal
  static constexpr float highest = 88.72283935546875f;
  static constexpr int mantissa = 23;
  static constexpr int terms = 7;
  // 1/k!, k = 2 .. terms
  static constexpr float factor[6] = {0.5f, 1.f / 6, 1.f / 24, 1.f / 120, 1.f / 720, 1.f / 5040};
};
template <> struct ExpConstants<double> {
  static constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double log2e = 1.44269504088896340736;
  static constexpr double ln2_high = 6.93147180369123816490e-1;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double lowest = -708.396418532264;
  static constexpr double highest = 709.782712893384;
  static constexpr int mantissa = 52;
  static constexpr int terms = 13;
  static constexpr double factor[12] = {1. / 2,      1. / 6,       1. / 24,       1. / 120,       1. / 720,       1. / 5040,
                                        1. / 40320,  1. / 362880,  1. / 3628800,  1. / 39916800,  1. / 479001600, 1. / 6227020800.};
};

// x in [lowest, highest] or NaN -> e^r - 1 and 2^(n-1): half the scale, since 2^128 is no float.
template <class T> TT_INLINE void exp_parts(Vector<T> x, Vector<T>& reduced, Vector<T>& half_scale) {
  using C = ExpConstants<T>;
  const Vector<T> shifted = x * C::log2e + C::rounder;
  const Vector<T> n = shifted - C::rounder;
  const Vector<T> r = (x - n * C::ln2_high) - n * C::ln2_low;
  Vector<T> p = splat(C::factor[C::terms - 2]);
#pragma GCC unroll 16
  for (int k = C::terms - 3; k >= 0; --k) p = p * r + C::factor[k];
  reduced = r * r * p + r;
  const Bits<T> bias = Bits<T>{} + ((1 << (sizeof(T) == 4 ? 7 : 10)) - 2);
  half_scale = from_bits<T>((as_bits<T>(shifted) - as_bits<T>(splat(C::rounder)) + bias) << C::mantissa);
}

template <class T> TT_INLINE Vector<T> exp(Vector<T> x) {
  using C = ExpConstants<T>;
  x = x < C::lowest ? splat(C::lowest) : x;  // a comparison with NaN is false: NaN stays
  x = x > C::highest ? splat(C::highest) : x;
  Vector<T> reduced, half_scale;
  exp_parts<T>(x, reduced, half_scale);
  return (half_scale + half_scale * reduced) * T(2);
}

template <class T> TT_INLINE Vector<T> sigmoid(Vector<T> x) { return T(1) / (T(1) + exp<T>(-x)); }

template <class T> TT_INLINE Vector<T> tanh(Vector<T> x) {
  const Bits<T> sign = as_bits<T>(x) & as_bits<T>(splat(T(-0.0)));
  Vector<T> doubled = from_bits<T>(as_bits<T>(x) ^ sign) * T(2);
  const T flat = sizeof(T) == 4 ? T(20) : T(44);  // tanh(10) and tanh(22) round to 1
  doubled = doubled > flat ? splat(flat) : doubled;
  Vector<T> reduced, half_scale;
  exp_parts<T>(doubled, reduced, half_scale);
  const Vector<T> scale = half_scale * T(2);
  const Vector<T> e = scale * reduced + (scale - T(1));
  return from_bits<T>(as_bits<T>(e / (e + T(2))) ^ sign);
}

}  // namespace throughtime::TT_ISA
