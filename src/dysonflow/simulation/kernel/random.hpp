// Random numbers, one independent stream per replica.
//
// Generator: xoshiro128+ 1.0 (Blackman and Vigna, ACM Trans. Math. Softw. 47, 36 (2021)), 32-bit words, made
// for floating-point numbers: only its lowest bits are weak, and they carry the least weight here too.
// The words fill the lanes of a float32 vector, so a float64 replica, whose lane is twice as wide, owns two
// generators; their outputs are interleaved.
//
// Normals: Box and Muller's transform in float32. The radius is made of 30 random bits (it reaches 6.55
// standard deviations), rounded to 24, and the angle of 24. Angles are equispaced, so that they integrate
// every polynomial of degree below 2^24 exactly, and rounding has no bias: float64 noise would give the same
// moments, up to the fourth to a relative 1e-7, for about twice the time.
#pragma once

#include "lanes.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

template <int by>
DYSONFLOW_INLINE Word32 rotate(const Word32& a) { return (a << by) | (a >> (32 - by)); }

struct Generator {
    Word32 s0, s1, s2, s3;

    DYSONFLOW_INLINE Word32 next() {
        const Word32 result = s0 + s3;
        const Word32 t = s1 << 9;
        const Word32 u = s3 ^ s1;
        s1 = xor_three(s1, s2, s0);
        s2 = xor_three(s2, s0, t);
        s0 = s0 ^ u;
        s3 = rotate<11>(u);
        return result;
    }

    // 2^kUniformBits times a number in (0, 1]; never 0.
    DYSONFLOW_INLINE Float32 uniform() {
        return to_float(bits_as<Int32>((next() >> 1) | word(1)));
    }
};

constexpr int kUniformBits = 31;

// One statement for each of `count` independent vectors: interleaved like this, long chains of dependent
// operations hide one another's latency.
#define DYSONFLOW_EACH_OF(i, count) DYSONFLOW_UNROLL for (int i = 0; i < (count); ++i)
#define DYSONFLOW_EACH(count) DYSONFLOW_EACH_OF(i, count)

// -2 log(u 2^-scale) for u in (0, 2^scale], relative error 3e-7. Coefficients: weighted minimax fit of
// -2 log(1 + x) / x on [sqrt(1/2) - 1, sqrt(2) - 1], its first one exact.
template <int count>
DYSONFLOW_INLINE void minus_two_log(const Float32 (&u)[count], int scale, Float32 (&result)[count]) {
    const std::uint32_t root_half = 0x3f3504f3;
    const std::uint32_t mantissa = 0x007fffff;
    const float coefficients[7] = {-3.236100835e-01f, 3.448644936e-01f,  -3.981376570e-01f,
                                   4.994245698e-01f,  -6.666942983e-01f, 1.000006469e+00f,
                                   -2.0f};
    Word32 bits[count];
    Float32 x[count], p[count], whole[count];
    const Word32 one = word(root_half + ((std::uint32_t)scale << 23));
    DYSONFLOW_EACH(count) bits[i] = bits_as<Word32>(u[i]) - one;
    DYSONFLOW_EACH(count) {
        x[i] = bits_as<Float32>((bits[i] & word(mantissa)) + word(root_half)) +
               broadcast<Float32>(-1.0f);
        // 2^23 times the exponent, times -2 log 2
        whole[i] = to_float(bits_as<Int32>(bits[i] & word(~mantissa))) *
                   broadcast<Float32>(-1.38629436f / 8388608.0f);
    }
    DYSONFLOW_EACH(count) p[i] = broadcast<Float32>(2.016476513e-01f);
    DYSONFLOW_UNROLL
    for (int term = 0; term < 7; ++term)
        DYSONFLOW_EACH(count) p[i] = mad(p[i], x[i], broadcast<Float32>(coefficients[term]));
    DYSONFLOW_EACH(count) result[i] = mad(p[i], x[i], whole[i]);
}

// 2 count vectors of independent standard normals, of 2 count numbers.
template <int count>
DYSONFLOW_INLINE void box_muller(Generator& g, Float32 (&first)[count], Float32 (&second)[count]) {
    Word32 angle[count];
    Float32 u[count], radius[count], x[count], z[count], s[count], c[count];
    DYSONFLOW_EACH(count) {
        u[i] = g.uniform();
        angle[i] = g.next();
    }
    minus_two_log(u, kUniformBits, radius);
    DYSONFLOW_EACH(count) radius[i] = xor_top_bit(square_root(radius[i]), angle[i]);

    // The lower bits of the angle choose a place on half a turn, [-1, 1) times pi/2; the top bit, the half.
    DYSONFLOW_EACH(count) {
        x[i] = bits_as<Float32>(place_bits(angle[i], word(0x007fffffu), word(0x40000000u))) +
               broadcast<Float32>(-3.0f);
    }
    DYSONFLOW_EACH(count) z[i] = x[i] * x[i];
    DYSONFLOW_EACH(count) {
        s[i] = mad(z[i], broadcast<Float32>(1.516785498e-04f), broadcast<Float32>(-4.674157538e-03f));
        c[i] = mad(z[i], broadcast<Float32>(8.581907435e-04f), broadcast<Float32>(-2.081062781e-02f));
    }
    DYSONFLOW_EACH(count) {
        s[i] = mad(s[i], z[i], broadcast<Float32>(7.968992690e-02f));
        c[i] = mad(c[i], z[i], broadcast<Float32>(2.536507449e-01f));
    }
    DYSONFLOW_EACH(count) {
        s[i] = mad(s[i], z[i], broadcast<Float32>(-6.459637613e-01f));
        c[i] = mad(c[i], z[i], broadcast<Float32>(-1.233698215e+00f));
    }
    DYSONFLOW_EACH(count) {
        s[i] = mad(s[i], z[i], broadcast<Float32>(1.570796320e+00f));
        c[i] = mad(c[i], z[i], broadcast<Float32>(9.999999535e-01f));
    }
    DYSONFLOW_EACH(count) {
        first[i] = c[i] * radius[i];
        second[i] = s[i] * x[i] * radius[i];
    }
}

// The generators of one group of lanes, and what is drawn from them: `kPerCall` normals at once, from
// `kNumbersPerCall` numbers of each generator.
template <class Real> struct Streams;
constexpr int kNumbersPerCall = 4;

// -2 log of a product of n uniforms is chi^2 with 2 n degrees of freedom. Four factors `draw(i)`, in units of
// 2^-31, do not overflow in float32, so the logarithm is taken of four at a time.
template <class Draw>
DYSONFLOW_INLINE Float32 chi_square_of(int n, const Draw& draw) {
    Float32 sum = broadcast<Float32>(0.0f);
    for (int done = 0; done < n;) {
        Float32 product[1] = {draw(done++)}, part[1];
        int factors = 1;
        for (; factors < 4 && done < n; ++factors) product[0] = product[0] * draw(done++);
        minus_two_log(product, factors * kUniformBits, part);
        sum = sum + part[0];
    }
    return sum;
}

template <>
struct Streams<double> {
    static constexpr int kWords = 8;
    static constexpr int kPerCall = 8;
    Generator g;

    DYSONFLOW_INLINE void normals(Float64* out) {
        Float32 a[2], b[2];
        box_muller(g, a, b);
        DYSONFLOW_EACH(2) {
            widen(a[i], out[4 * i], out[4 * i + 1]);
            widen(b[i], out[4 * i + 2], out[4 * i + 3]);
        }
    }

    // As many float32 lanes as Float32 has, in the order of `normals`.
    DYSONFLOW_INLINE void narrow_normals(float* out) {
        Float32 a[2], b[2];
        box_muller(g, a, b);
        DYSONFLOW_EACH(2) {
            store(a[i], out + 2 * i * kLanes32);
            store(b[i], out + (2 * i + 1) * kLanes32);
        }
    }

    // Both streams of a replica contribute uniforms; of an odd number, the first one more.
    DYSONFLOW_INLINE Float64 chi_square_even(int n) {
        const int words = (n + 1) / 2;
        const Float32 sum = chi_square_of(words, [&](int i) {
            Float32 u = g.uniform();
            if (n % 2 && i + 1 == words)
                for (int l = kLanes64; l < kLanes32; ++l) u[l] = 2147483648.0f;
            return u;
        });
        Float64 first, second;
        widen(sum, first, second);
        return first + second;
    }
};

template <>
struct Streams<float> {
    static constexpr int kWords = 4;
    static constexpr int kPerCall = 4;
    Generator g;

    DYSONFLOW_INLINE void normals(Float32* out) {
        Float32 a[2], b[2];
        box_muller(g, a, b);
        DYSONFLOW_EACH(2) {
            out[2 * i] = a[i];
            out[2 * i + 1] = b[i];
        }
    }

    DYSONFLOW_INLINE void narrow_normals(float* out) {
        Float32 z[4];
        normals(z);
        DYSONFLOW_EACH(4) store(z[i], out + i * kLanes32);
    }

    DYSONFLOW_INLINE Float32 chi_square_even(int n) {
        return chi_square_of(n, [&](int) { return g.uniform(); });
    }
};

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
