// A vector of lanes, one replica in each: all arithmetic of the kernel is element by element, so what
// happens to a replica does not depend on how many lanes the machine has.
//
// No operation here may be contracted or reordered by the compiler (-ffp-contract=off, no -ffast-math):
// `mad` is where a fused multiply-add is wanted. AVX2, AVX-512 and aarch64 fuse it, so the bits
// are the same; the x86-64 baseline has no fused instruction and rounds twice.
//
// Nothing from the C++ standard library is used in code compiled per instruction set: its inline functions
// would be merged by the linker over all variants, and an old machine could run one made for a new one.
#pragma once

#include "standard.hpp"

#if defined(DYSONFLOW_GPU)
#elif defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(DYSONFLOW_GPU)
// All in one function: what a thread holds stays in its registers only where no pointer to it is passed.
#define DYSONFLOW_INLINE __forceinline__
#define DYSONFLOW_NOINLINE __forceinline__
#elif defined(_MSC_VER) && !defined(__clang__)
#define DYSONFLOW_INLINE __forceinline
#define DYSONFLOW_NOINLINE __declspec(noinline)
#else
#define DYSONFLOW_INLINE inline __attribute__((always_inline))
#define DYSONFLOW_NOINLINE __attribute__((noinline, noclone))
#endif

// Before loops of few, constant turns whose arrays are to live in registers: nearly all that the loops need
// beyond -O2, which takes much less of the compiler's time than -O3.
#if defined(__CUDACC_RTC__)
#define DYSONFLOW_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define DYSONFLOW_UNROLL _Pragma("GCC unroll 16")
#else
#define DYSONFLOW_UNROLL
#endif

// Before loops over lanes at the start and the end of a call. Of the few lanes of a thread the arrays that they
// index are to live in registers; on a CPU they would only be long.
#if defined(DYSONFLOW_GPU)
#define DYSONFLOW_FEW DYSONFLOW_UNROLL
#else
#define DYSONFLOW_FEW
#endif

#if !defined(__GNUC__) || defined(DYSONFLOW_GPU)
#define DYSONFLOW_PLAIN 1
#endif

namespace dysonflow {
namespace DYSONFLOW_ISA {

#if defined(DYSONFLOW_PLAIN)
#if defined(DYSONFLOW_GPU)
// A thread of a GPU is one more kind of lanes, few of them.
constexpr int kVectorBytes = DYSONFLOW_VECTOR_BYTES;
#else
// Any C++17 compiler: two float32 lanes, one float64 lane.
constexpr int kVectorBytes = 8;
#endif

template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
    T lane[n];
    Pack() = default;
    Pack(T value) { for (int i = 0; i < n; ++i) lane[i] = value; }
    T& operator[](int i) { return lane[i]; }
    const T& operator[](int i) const { return lane[i]; }
};
#define DYSONFLOW_OPERATOR(op)                                                       \
    template <class T, int n>                                                        \
    DYSONFLOW_INLINE Pack<T, n> operator op(const Pack<T, n>& a, const Pack<T, n>& b) { \
        Pack<T, n> r;                                                                \
        for (int i = 0; i < n; ++i) r[i] = a[i] op b[i];                             \
        return r;                                                                    \
    }
DYSONFLOW_OPERATOR(+)
DYSONFLOW_OPERATOR(-)
DYSONFLOW_OPERATOR(*)
DYSONFLOW_OPERATOR(/)
DYSONFLOW_OPERATOR(&)
DYSONFLOW_OPERATOR(|)
DYSONFLOW_OPERATOR(^)
#undef DYSONFLOW_OPERATOR
template <class T, int n>
DYSONFLOW_INLINE Pack<T, n> operator<<(const Pack<T, n>& a, int by) {
    Pack<T, n> r;
    for (int i = 0; i < n; ++i) r[i] = a[i] << by;
    return r;
}
template <class T, int n>
DYSONFLOW_INLINE Pack<T, n> operator>>(const Pack<T, n>& a, int by) {
    Pack<T, n> r;
    for (int i = 0; i < n; ++i) r[i] = a[i] >> by;
    return r;
}
template <class T, int n> struct VectorOf { typedef Pack<T, n> type; };
#else
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
template <class T, int n> struct VectorOf { typedef T type __attribute__((vector_size(n * sizeof(T)))); };
#endif

// Of 4 bytes, one float32 replica in a thread, float64 lanes are there in name only.
constexpr int kLanes64 = kVectorBytes < 8 ? 1 : kVectorBytes / 8;
constexpr int kLanes32 = kVectorBytes / 4;

using Float64 = typename VectorOf<double, kLanes64>::type;
using Float32 = typename VectorOf<float, kLanes32>::type;
using Int32 = typename VectorOf<std::int32_t, kLanes32>::type;
using Word32 = typename VectorOf<std::uint32_t, kLanes32>::type;

template <class Real> struct LanesOf;
template <> struct LanesOf<double> { typedef Float64 type; static constexpr int count = kLanes64; };
template <> struct LanesOf<float> { typedef Float32 type; static constexpr int count = kLanes32; };

template <class V> struct RealOf;
template <> struct RealOf<Float64> { typedef double type; };
template <> struct RealOf<Float32> { typedef float type; };

// Working memory of a group of replicas. That of one group on a CPU is an array; on a GPU the elements of all
// threads of a warp lie side by side, so that one access serves them all.
#if defined(DYSONFLOW_GPU)
constexpr int kThreadsAbreast = 32;

template <int rest> struct WordOf { typedef std::uint32_t type; };
template <> struct WordOf<0> { typedef std::uint64_t type; };

template <class V>
struct Elements {
    V* at;

    DYSONFLOW_INLINE V& operator[](std::ptrdiff_t i) const { return at[i * kThreadsAbreast]; }
    DYSONFLOW_INLINE V& operator*() const { return *at; }
    DYSONFLOW_INLINE Elements operator+(std::ptrdiff_t by) const { return {at + by * kThreadsAbreast}; }
    DYSONFLOW_INLINE void operator+=(std::ptrdiff_t by) { at += by * kThreadsAbreast; }
    DYSONFLOW_INLINE Elements operator++(int) {
        const Elements here = *this;
        *this += 1;
        return here;
    }
    DYSONFLOW_INLINE bool operator==(const Elements& other) const { return at == other.at; }
};

// What is in memory, read whenever it is asked for: the compiler would else keep a matrix that it reads twice in
// registers, of which there are not enough.
template <class V>
DYSONFLOW_INLINE V read_again(const V& from) {
    typedef typename WordOf<sizeof(V) % 8>::type Word;
    constexpr int words = sizeof(V) / sizeof(Word);
    union { Word word[words]; V value; } read = {};
    DYSONFLOW_UNROLL
    for (int i = 0; i < words; ++i) read.word[i] = ((const volatile Word*)&from)[i];
    return read.value;
}

// The same memory, as elements of a smaller type.
template <class To, class From>
DYSONFLOW_INLINE Elements<To> elements_of(Elements<From> from) {
    const int own = this_thread() % kThreadsAbreast;
    return {(To*)(from.at - own) + own};
}
#else
template <class V> using Elements = V*;
#endif

// The same bits, read as another type.
template <class To, class From>
DYSONFLOW_INLINE To bits_as(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
#if defined(DYSONFLOW_PLAIN)
    union { From from; To to; } u = {from};
    return u.to;
#else
    return (To)from;
#endif
}

DYSONFLOW_INLINE Float32 to_float(const Int32& a) {
#if defined(DYSONFLOW_PLAIN)
    Float32 r;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) r[i] = (float)a[i];
    return r;
#else
    return __builtin_convertvector(a, Float32);
#endif
}

// Single numbers. IEEE 754 says what the root and a b + c with one rounding are.
#if defined(__CUDACC_RTC__)
#define DYSONFLOW_MATHS(function) function
#else
#define DYSONFLOW_MATHS(function) __builtin_##function
#endif
DYSONFLOW_INLINE double root(double a) { return DYSONFLOW_MATHS(sqrt)(a); }
DYSONFLOW_INLINE float root(float a) { return DYSONFLOW_MATHS(sqrtf)(a); }
#if defined(DYSONFLOW_GPU)
DYSONFLOW_INLINE double fused(double a, double b, double c) { return DYSONFLOW_MATHS(fma)(a, b, c); }
DYSONFLOW_INLINE float fused(float a, float b, float c) { return DYSONFLOW_MATHS(fmaf)(a, b, c); }
DYSONFLOW_INLINE double magnitude(double a) { return DYSONFLOW_MATHS(fabs)(a); }
DYSONFLOW_INLINE float magnitude(float a) { return DYSONFLOW_MATHS(fabsf)(a); }
#else
template <class Real> DYSONFLOW_INLINE Real magnitude(Real a) { return a < 0 ? -a : a; }
#endif

template <class V>
DYSONFLOW_INLINE V broadcast(typename RealOf<V>::type value) {
#if defined(DYSONFLOW_PLAIN)
    return V(value);
#else
    return value - V{};
#endif
}
DYSONFLOW_INLINE Word32 word(std::uint32_t value) {
#if defined(DYSONFLOW_PLAIN)
    return Word32(value);
#else
    return value - Word32{};
#endif
}
DYSONFLOW_INLINE Word32 xor_three(const Word32& a, const Word32& b, const Word32& c) {
#if defined(__AVX512F__)
    return (Word32)_mm512_ternarylogic_epi32((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
#else
    return a ^ b ^ c;
#endif
}

// (a & mask) | pattern
DYSONFLOW_INLINE Word32 place_bits(const Word32& a, const Word32& mask, const Word32& pattern) {
#if defined(__AVX512F__)
    return (Word32)_mm512_ternarylogic_epi32((__m512i)a, (__m512i)mask, (__m512i)pattern, 0xea);
#else
    return (a & mask) | pattern;
#endif
}

// Flips the sign where the top bit of `bits` is set.
DYSONFLOW_INLINE Float32 xor_top_bit(const Float32& a, const Word32& bits) {
    const Word32 top = word(0x80000000u);
#if defined(__AVX512F__)
    return (Float32)_mm512_ternarylogic_epi32((__m512i)a, (__m512i)bits, (__m512i)top, 0x78);
#else
    return bits_as<Float32>(bits_as<Word32>(a) ^ (bits & top));
#endif
}

// The first and the second half of the lanes, widened: the two random streams of a float64 replica.
DYSONFLOW_INLINE void widen(const Float32& a, Float64& first, Float64& second) {
#if defined(__AVX512F__)
    first = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    second = _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1)));
#elif defined(__AVX2__)
    first = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    second = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
#else
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes64; ++i) {
        first[i] = (double)a[i];
        second[i] = (double)a[i + kLanes64];
    }
#endif
}

DYSONFLOW_INLINE void store(const Float32& a, float* to) {
#if defined(DYSONFLOW_PLAIN)
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) to[i] = a[i];
#else
    __builtin_memcpy(to, &a, sizeof a);
#endif
}

// As many floats as V has lanes, as a V.
template <class V> DYSONFLOW_INLINE V widened(const float* from);
template <> DYSONFLOW_INLINE Float32 widened<Float32>(const float* from) {
    Float32 r;
#if defined(DYSONFLOW_PLAIN)
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) r[i] = from[i];
#else
    __builtin_memcpy(&r, from, sizeof r);
#endif
    return r;
}
template <> DYSONFLOW_INLINE Float64 widened<Float64>(const float* from) {
#if defined(__AVX512F__)
    return _mm512_cvtps_pd(_mm256_loadu_ps(from));
#elif defined(__AVX2__)
    return _mm256_cvtps_pd(_mm_loadu_ps(from));
#else
    Float64 r;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes64; ++i) r[i] = (double)from[i];
    return r;
#endif
}

// Whether a > b in all lanes; NaN is not.
template <class V>
DYSONFLOW_INLINE bool all_above(const V& a, const V& b) {
    bool all = true;
    DYSONFLOW_UNROLL
    for (int i = 0; i < (int)(sizeof(V) / sizeof(typename RealOf<V>::type)); ++i) all &= a[i] > b[i];
    return all;
}

// The smaller of both; b where one is NaN.
template <class V>
DYSONFLOW_INLINE V smaller(const V& a, const V& b) {
#if defined(DYSONFLOW_PLAIN)
    V r = b;
    DYSONFLOW_UNROLL
    for (int i = 0; i < (int)(sizeof(V) / sizeof(typename RealOf<V>::type)); ++i)
        if (a[i] < b[i]) r[i] = a[i];
    return r;
#else
    return a < b ? a : b;
#endif
}

// a b + c
DYSONFLOW_INLINE Float64 mad(const Float64& a, const Float64& b, const Float64& c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__) && !defined(DYSONFLOW_GPU)
    return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__) && !defined(DYSONFLOW_PLAIN)
    return vfmaq_f64(c, a, b);
#elif defined(DYSONFLOW_GPU)
    Float64 r;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes64; ++i) r[i] = fused(a[i], b[i], c[i]);
    return r;
#else
    return a * b + c;
#endif
}
DYSONFLOW_INLINE Float32 mad(const Float32& a, const Float32& b, const Float32& c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && !defined(DYSONFLOW_GPU)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__) && !defined(DYSONFLOW_PLAIN)
    return vfmaq_f32(c, a, b);
#elif defined(DYSONFLOW_GPU)
    Float32 r;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) r[i] = fused(a[i], b[i], c[i]);
    return r;
#else
    return a * b + c;
#endif
}

// c - a b, the same bits as mad(-a, b, c)
DYSONFLOW_INLINE Float64 negative_mad(const Float64& a, const Float64& b, const Float64& c) {
#if defined(__AVX512F__)
    return _mm512_fnmadd_pd(a, b, c);
#elif defined(__FMA__) && !defined(DYSONFLOW_GPU)
    return _mm256_fnmadd_pd(a, b, c);
#elif defined(DYSONFLOW_GPU)
    Float64 r;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes64; ++i) r[i] = fused(-a[i], b[i], c[i]);
    return r;
#else
    return mad(Float64{} - a, b, c);
#endif
}
DYSONFLOW_INLINE Float32 negative_mad(const Float32& a, const Float32& b, const Float32& c) {
#if defined(__AVX512F__)
    return _mm512_fnmadd_ps(a, b, c);
#elif defined(__FMA__) && !defined(DYSONFLOW_GPU)
    return _mm256_fnmadd_ps(a, b, c);
#elif defined(DYSONFLOW_GPU)
    Float32 r;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) r[i] = fused(-a[i], b[i], c[i]);
    return r;
#else
    return mad(Float32{} - a, b, c);
#endif
}

DYSONFLOW_INLINE Float64 absolute(const Float64& a) {
#if defined(__AVX512F__)
    return _mm512_abs_pd(a);
#elif defined(__AVX2__)
    return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a);
#else
    Float64 r = a;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes64; ++i) r[i] = magnitude(a[i]);
    return r;
#endif
}
DYSONFLOW_INLINE Float32 absolute(const Float32& a) {
#if defined(__AVX512F__)
    return _mm512_abs_ps(a);
#elif defined(__AVX2__)
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
#else
    Float32 r = a;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) r[i] = magnitude(a[i]);
    return r;
#endif
}

// IEEE square root, correctly rounded everywhere.
DYSONFLOW_INLINE Float64 square_root(const Float64& a) {
#if defined(__AVX512F__)
    return _mm512_sqrt_pd(a);
#elif defined(__AVX2__)
    return _mm256_sqrt_pd(a);
#else
    Float64 r = a;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes64; ++i) r[i] = root(a[i]);
    return r;
#endif
}
DYSONFLOW_INLINE Float32 square_root(const Float32& a) {
#if defined(__AVX512F__)
    return _mm512_sqrt_ps(a);
#elif defined(__AVX2__)
    return _mm256_sqrt_ps(a);
#else
    Float32 r = a;
    DYSONFLOW_UNROLL
    for (int i = 0; i < kLanes32; ++i) r[i] = root(a[i]);
    return r;
#endif
}

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
