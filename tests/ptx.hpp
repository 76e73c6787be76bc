// What instructions of PTX do that no operator of C++ does (ptx.py).
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

template <class To, class From> To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
template <class T> T load(uint64_t from) {
    T to;
    memcpy(&to, (const void*)from, sizeof to);
    return to;
}
template <class T> void store(uint64_t to, T what) { memcpy((void*)to, &what, sizeof what); }
double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
double root(double a) { return __builtin_sqrt(a); }
float root(float a) { return __builtin_sqrtf(a); }
double magnitude(double a) { return __builtin_fabs(a); }
float magnitude(float a) { return __builtin_fabsf(a); }
// Of floats: what is no NaN; -0 is less than +0.
template <class T> T least_float(T a, T b) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
    return a < b || (a == b && std::signbit(a)) ? a : b;
}
double least(double a, double b) { return least_float(a, b); }
float least(float a, float b) { return least_float(a, b); }
template <class T> T least(T a, T b) { return b < a ? b : a; }
// Only of integers: ptx.py refuses it of floats.
template <class T> T largest(T a, T b) { return a < b ? b : a; }
// A shift by the width or more leaves nothing, or the sign.
template <class T> T left(T a, uint32_t by) { return by < 8 * sizeof a ? a << by : 0; }
template <class T> T right(T a, uint32_t by) {
    return a >> (by < 8 * sizeof a ? by : 8 * sizeof a - 1);
}
template <class T> T right_unsigned(T a, uint32_t by) { return by < 8 * sizeof a ? a >> by : 0; }
uint32_t funnel(uint32_t low, uint32_t high, uint32_t by) {
    by &= 31;
    return by ? high << by | low >> (32 - by) : high;
}
template <class T> T insert(T from, T into, uint32_t at, uint32_t length) {
    const T mask = length < 8 * sizeof(T) ? ((T)1 << length) - 1 : ~(T)0;
    return (into & ~left<T>(mask, at)) | left<T>(from & mask, at);
}

}  // namespace
