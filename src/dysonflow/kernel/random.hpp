// Random numbers, one independent stream per replica.
//
// Generator: xoshiro128++ 1.0 (Blackman and Vigna, ACM Trans. Math. Softw. 47, 36 (2021)), 32-bit words.
// The words fill the lanes of a float32 vector, so a float64 replica, whose lane is twice as wide, owns two
// generators; their outputs are interleaved.
//
// Normals: Box and Muller's transform in float32. The radius is made of 40 random bits (it reaches 7.5
// standard deviations) and the angle of 23. Angles are equispaced, so that they integrate every polynomial
// of degree below 2^23 exactly, and a normal is rounded to 24 bits, without bias: float64 noise would give
// the same moments to a relative 1e-8 for about twice the time.
#pragma once

#include "lanes.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

template <int by>
DYSONFLOW_INLINE Word32 rotate(const Word32& a) { return (a << by) | (a >> (32 - by)); }

struct Generator {
    Word32 s0, s1, s2, s3;

    DYSONFLOW_INLINE Word32 next() {
        const Word32 result = rotate<7>(s0 + s3) + s0;
        const Word32 t = s1 << 9;
        const Word32 u = s3 ^ s1;
        s1 = xor_three(s1, s2, s0);
        s2 = xor_three(s2, s0, t);
        s0 = s0 ^ u;
        s3 = rotate<11>(u);
        return result;
    }
};

// One statement for each of `count` independent vectors: interleaved like this, long chains of dependent
// operations hide one another's latency.
#define DYSONFLOW_EACH(count) for (int i = 0; i < (count); ++i)

// -2 log(u 2^-31) for u in (0, 2^31], relative error 1e-7. Coefficients: weighted minimax fit of
// (log(1 + x) - x + x^2/2) / x^3 on [sqrt(1/2) - 1, sqrt(2) - 1].
template <int count>
DYSONFLOW_INLINE void minus_two_log(const Float32 (&u)[count], Float32 (&result)[count]) {
    const std::int32_t root_half = 0x3f3504f3;
    const float scale = 4.656612873e-10f;  // 2^-31
    const float coefficients[7] = {1.276158218e-01f,  -1.316018326e-01f, 1.420175738e-01f,
                                   -1.662335720e-01f, 2.000122690e-01f,  -2.500082104e-01f,
                                   3.333333171e-01f};
    Int32 exponent[count];
    Float32 x[count], p[count];
    DYSONFLOW_EACH(count) {
        exponent[i] = (bits_as<Int32>(u[i]) - integer(root_half + (31 << 23))) >> 23;
    }
    DYSONFLOW_EACH(count) {
        x[i] = mad(bits_as<Float32>(bits_as<Int32>(u[i]) - (exponent[i] << 23)),
                   broadcast<Float32>(scale), broadcast<Float32>(-1.0f));
    }
    DYSONFLOW_EACH(count) p[i] = broadcast<Float32>(-7.634500726e-02f);
    for (float coefficient : coefficients)
        DYSONFLOW_EACH(count) p[i] = mad(p[i], x[i], broadcast<Float32>(coefficient));
    // log(1 + x) = x + x^2 (x p - 1/2); the factor -2 is folded into the last two lines.
    DYSONFLOW_EACH(count) p[i] = mad(x[i], p[i], broadcast<Float32>(-0.5f)) * x[i];
    DYSONFLOW_EACH(count) x[i] = broadcast<Float32>(-2.0f) * x[i];
    DYSONFLOW_EACH(count) x[i] = mad(p[i], x[i], x[i]);
    DYSONFLOW_EACH(count) {
        result[i] = mad(to_float(exponent[i]), broadcast<Float32>(-1.38629436f), x[i]);
    }
}

// 2 count vectors of independent standard normals.
template <int count>
DYSONFLOW_INLINE void box_muller(Generator& g, Float32 (&first)[count], Float32 (&second)[count]) {
    Word32 angle[count];
    Float32 u[count], radius[count], x[count], z[count], s[count], c[count];
    DYSONFLOW_EACH(count) {
        const Word32 word_u = g.next();
        angle[i] = g.next();
        const Float32 low =
            to_float(bits_as<Int32>(angle[i] & word(511))) + broadcast<Float32>(0.5f);
        const Float32 high = to_float(bits_as<Int32>(word_u >> 1));
        u[i] = mad(low, broadcast<Float32>(1.0f / 512), high);
    }
    minus_two_log(u, radius);
    DYSONFLOW_EACH(count) radius[i] = square_root(radius[i]);

    // The top two bits of the angle choose the quadrant, the other 21 the place in it, in (-pi/4, pi/4).
    DYSONFLOW_EACH(count) {
        x[i] = (to_float(bits_as<Int32>(angle[i] << 2) >> 11) + broadcast<Float32>(0.5f)) *
               broadcast<Float32>(7.490140566e-07f);
    }
    DYSONFLOW_EACH(count) z[i] = x[i] * x[i];
    DYSONFLOW_EACH(count) {
        s[i] = mad(z[i], broadcast<Float32>(-1.951729864e-04f), broadcast<Float32>(8.332178144e-03f));
        c[i] = mad(z[i], broadcast<Float32>(2.443845125e-05f), broadcast<Float32>(-1.388736751e-03f));
    }
    DYSONFLOW_EACH(count) {
        s[i] = mad(s[i], z[i], broadcast<Float32>(-1.666665494e-01f));
        c[i] = mad(c[i], z[i], broadcast<Float32>(4.166664687e-02f));
    }
    DYSONFLOW_EACH(count) {
        s[i] = s[i] * z[i];
        c[i] = mad(c[i], z[i], broadcast<Float32>(-0.5f));
    }
    DYSONFLOW_EACH(count) {
        s[i] = mad(s[i], x[i], x[i]);
        c[i] = mad(c[i], z[i], broadcast<Float32>(1.0f));
    }

    // A quarter turn swaps sine and cosine; the sign bits go into the radius.
    DYSONFLOW_EACH(count) {
        const Word32 odd = angle[i] << 1;
        first[i] = select_by_top_bit(odd, s[i], c[i]) *
                   xor_top_bit(radius[i], angle[i] + word(0x40000000u));
        second[i] = select_by_top_bit(odd, c[i], s[i]) * xor_top_bit(radius[i], angle[i]);
    }
}

// The generators of one group of lanes, and what is drawn from them.
template <class Real> struct Streams;

DYSONFLOW_INLINE Float32 minus_two_log_of(const Float32& u) {
    const Float32 scaled[1] = {u * broadcast<Float32>(2147483648.0f)};
    Float32 result[1];
    minus_two_log(scaled, result);
    return result[0];
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

    // -2 log of a product of n uniforms is chi^2 with 2 n degrees of freedom. Three factors above 2^-32 do
    // not underflow in float32, so the logarithm is taken of three at a time.
    DYSONFLOW_INLINE Float64 chi_square_even(int n) {
        Float32 sum = broadcast<Float32>(0.0f);
        for (int words = (n + 1) / 2, done = 0; done < words;) {
            Float32 product = uniform(done + 1 == words && n % 2);
            ++done;
            for (int i = 1; i < 3 && done < words; ++i, ++done)
                product = product * uniform(done + 1 == words && n % 2);
            sum = sum + minus_two_log_of(product);
        }
        Float64 first, second;
        widen(sum, first, second);
        return first + second;
    }

private:
    // In (0, 1]; `half`: the second stream contributes the factor 1.
    DYSONFLOW_INLINE Float32 uniform(bool half) {
        Float32 u = (to_float(bits_as<Int32>(g.next() >> 1)) + broadcast<Float32>(0.5f)) *
                    broadcast<Float32>(4.656612873e-10f);
        if (half)
            for (int i = kLanes64; i < kLanes32; ++i) u[i] = 1.0f;
        return u;
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

    DYSONFLOW_INLINE Float32 chi_square_even(int n) {
        Float32 sum = broadcast<Float32>(0.0f);
        for (int done = 0; done < n;) {
            Float32 product = uniform();
            ++done;
            for (int i = 1; i < 3 && done < n; ++i, ++done) product = product * uniform();
            sum = sum + minus_two_log_of(product);
        }
        return sum;
    }

private:
    DYSONFLOW_INLINE Float32 uniform() {
        return (to_float(bits_as<Int32>(g.next() >> 1)) + broadcast<Float32>(0.5f)) *
               broadcast<Float32>(4.656612873e-10f);
    }
};

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
