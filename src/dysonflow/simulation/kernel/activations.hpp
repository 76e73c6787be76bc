// Activations of vectors of lanes.
//
// tanh |x| = e / (e + 2), e = exp(2 |x|) - 1 = 2^k expm1(r) + (2^k - 1), 2 |x| = k log 2 + r: no digits are lost
// where x is small. Coefficients: minimax fit of (expm1(r) - r) / r^2 on |r| <= log(2) / 2. Error below 2.5 units
// in the last place of float64 and of float32, measured in tests/unit/test_two_layer_student.py.
#pragma once

#include "lanes.hpp"
#include "random.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

using Word64 = typename VectorOf<std::uint64_t, kLanes64>::type;

template <class Real> struct TanhConstants;

template <>
struct TanhConstants<double> {
    typedef Word64 Word;
    typedef std::uint64_t Bits;
    static constexpr int kMantissa = 52, kTerms = 10;
    static constexpr Bits kOne = 0x3ff0000000000000u, kTop = 0x8000000000000000u;
    // Beyond it the result is 1 within rounding.
    static constexpr double kLargest = 20.0;
    // Added to a number below 2^51, leaves its whole part in the lowest bits.
    static constexpr double kRounder = 6755399441055744.0;
    static constexpr double kLog2High = 0.6931471805592082091607153, kLog2Low = 7.3710025651677989018e-13;
    DYSONFLOW_INLINE static double coefficient(int i) {
        const double c[kTerms] = {2.5110149838822772184e-8, 2.7620201730292913484e-7,
                                  2.7557242058864469781e-6, 2.4801521057447295338e-5,
                                  1.9841269886848861847e-4, 1.3888888917367592294e-3,
                                  8.3333333333221197598e-3, 4.1666666666623818218e-2,
                                  1.6666666666666674609e-1, 5.0000000000000010315e-1};
        return c[i];
    }
};

template <>
struct TanhConstants<float> {
    typedef Word32 Word;
    typedef std::uint32_t Bits;
    static constexpr int kMantissa = 23, kTerms = 5;
    static constexpr Bits kOne = 0x3f800000u, kTop = 0x80000000u;
    static constexpr float kLargest = 10.0f;
    static constexpr float kRounder = 12582912.0f;
    static constexpr float kLog2High = 0.693145751953125f, kLog2Low = 1.4286068203094172e-6f;
    DYSONFLOW_INLINE static float coefficient(int i) {
        const float c[kTerms] = {1.39412043673e-3f, 8.36323506866e-3f, 4.16663742732e-2f,
                                 1.66665766473e-1f, 5.00000002707e-1f};
        return c[i];
    }
};

template <class Real, int count>
DYSONFLOW_INLINE void tanh_each(typename LanesOf<Real>::type (&x)[count]) {
    typedef typename LanesOf<Real>::type V;
    typedef TanhConstants<Real> C;
    typedef typename C::Word Word;
#if defined(DYSONFLOW_PLAIN)
    const Word top(C::kTop), one(C::kOne);
#else
    const Word top = C::kTop - Word{}, one = C::kOne - Word{};
#endif
    V u[count], whole[count], r[count], p[count];
    DYSONFLOW_EACH(count) {
        u[i] = smaller(absolute(x[i]), broadcast<V>(C::kLargest));
        u[i] = u[i] + u[i];
        whole[i] = mad(u[i], broadcast<V>((Real)1.4426950408889634), broadcast<V>(C::kRounder));
    }
    DYSONFLOW_EACH(count) {
        const V k = whole[i] - broadcast<V>(C::kRounder);
        r[i] = negative_mad(k, broadcast<V>(C::kLog2High), u[i]);
        r[i] = negative_mad(k, broadcast<V>(C::kLog2Low), r[i]);
        p[i] = broadcast<V>(C::coefficient(0));
    }
    DYSONFLOW_UNROLL
    for (int term = 1; term < C::kTerms; ++term)
        DYSONFLOW_EACH(count) p[i] = mad(p[i], r[i], broadcast<V>(C::coefficient(term)));
    DYSONFLOW_EACH(count) {
        const V expm1 = mad(p[i], r[i] * r[i], r[i]);
        const V power = bits_as<V>((bits_as<Word>(whole[i]) << C::kMantissa) + one);
        const V e = mad(power, expm1, power - broadcast<V>(1));
        const V y = e / (e + broadcast<V>(2));
        x[i] = bits_as<V>(bits_as<Word>(y) | (bits_as<Word>(x[i]) & top));
    }
}

// tanh of `count` vectors, in place.
template <class Real, class V>
DYSONFLOW_NOINLINE void tanh_all(Elements<V> x, int count) {
    constexpr int kAtOnce = 4;
    int j = 0;
    for (; j + kAtOnce <= count; j += kAtOnce) {
        V part[kAtOnce];
        DYSONFLOW_EACH(kAtOnce) part[i] = x[j + i];
        tanh_each<Real>(part);
        DYSONFLOW_EACH(kAtOnce) x[j + i] = part[i];
    }
    for (; j < count; ++j) {
        V part[1] = {x[j]};
        tanh_each<Real>(part);
        x[j] = part[0];
    }
}

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
