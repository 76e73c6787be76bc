// What the time loops of all systems share: a group of replicas, its noise, and sample covariances.
//
// A system's loops are one source file, compiled once per instruction set: DYSONFLOW_ISA names it, the
// compiler's flags choose it. One call advances one group of replicas, one per lane, through all steps, so that
// the working set of small systems stays in the first-level cache.
#pragma once

#include "job.hpp"
#include "lanes.hpp"
#include "matrices.hpp"
#include "random.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

// Normals are drawn a few at a time; buffers end with room for a last, incomplete draw.
constexpr int kDrawSlack = 8;

DYSONFLOW_INLINE int stop_check(const std::int64_t* stop, std::int64_t step) {
#if defined(__GNUC__)
    return __atomic_load_n(stop, __ATOMIC_RELAXED) < step;
#else
    return *(const volatile std::int64_t*)stop < step;
#endif
}

// Row stride for n columns: not a multiple of 8 elements, or column walks would hit few cache sets.
DYSONFLOW_INLINE int padded(int n) { return n % 8 ? n : n + 1; }

inline int lanes(const Job& job) { return job.single_precision ? kLanes32 : kLanes64; }

// Whether the numbers come with the job. Compiled for a GPU the kernel knows; it is half as long then.
#if defined(DYSONFLOW_GPU)
constexpr bool noise_is_given() { return DYSONFLOW_NOISE_GIVEN; }
DYSONFLOW_INLINE bool noise_is_given(const Job&) { return noise_is_given(); }
typedef DYSONFLOW_REAL ThreadReal;
#else
DYSONFLOW_INLINE bool noise_is_given(const Job& job) { return job.noise; }
#endif

// The replicas of one group. Lanes beyond the last replica repeat it.
template <class Real>
struct Group {
    typedef typename LanesOf<Real>::type V;
    static constexpr int lanes = LanesOf<Real>::count;

    const Job& job;
    std::int64_t replica[lanes];
    int used;
    Streams<Real> streams;

    Group(const Job& job_, std::int64_t first) : job(job_), used(0) {
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l) {
            const bool real = first + l < job.replicas;
            replica[l] = real ? first + l : job.replicas - 1;
            used += real;
        }
    }

    void load(const void* array, int rows, int columns, const Matrix<V>& to) const {
        const std::int64_t size = (std::int64_t)rows * columns;
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l) {
            const Real* from = (const Real*)array + replica[l] * size;
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < columns; ++j) to(i, j)[l] = from[i * columns + j];
        }
    }

    void store(void* array, int rows, int columns, const Matrix<V>& from) const {
        const std::int64_t size = (std::int64_t)rows * columns;
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l) {
            if (l >= used) break;
            Real* to = (Real*)array + replica[l] * size;
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < columns; ++j) to[i * columns + j] = from(i, j)[l];
        }
    }

    // Word w of generator q of lane l: streams(replica, 4 q + w); generators fill a word vector in turn.
    void load_streams() {
        Word32* state[4] = {&streams.g.s0, &streams.g.s1, &streams.g.s2, &streams.g.s3};
        DYSONFLOW_FEW
        for (int i = 0; i < kLanes32; ++i)
            DYSONFLOW_FEW
            for (int w = 0; w < 4; ++w)
                (*state[w])[i] =
                    job.streams[replica[i % lanes] * Streams<Real>::kWords + i / lanes * 4 + w];
    }

    void store_streams() const {
        const Word32* state[4] = {&streams.g.s0, &streams.g.s1, &streams.g.s2, &streams.g.s3};
        DYSONFLOW_FEW
        for (int i = 0; i < kLanes32; ++i)
            DYSONFLOW_FEW
            for (int w = 0; w < 4; ++w)
                if (i % lanes < used)
                    job.streams[replica[i % lanes] * Streams<Real>::kWords + i / lanes * 4 + w] =
                        (*state[w])[i];
    }

    // `count` standard normals; in `job.noise` they stand from `offset` on.
    DYSONFLOW_INLINE void normals(Elements<V> out, int count, std::int64_t step, int offset) {
        if (noise_is_given(job))
            copy_noise(out, count, step, offset);
        else
            draw(out, count);
    }

    DYSONFLOW_INLINE void draw(Elements<V> out, int count) {
#if defined(DYSONFLOW_GPU)
        constexpr int at_once = Streams<Real>::kPerCall;
        for (int first = 0; first < count; first += at_once) {
            V drawn[at_once];
            streams.normals(drawn);
            DYSONFLOW_EACH(at_once) out[first + i] = drawn[i];
        }
#else
        for (int i = 0; i < count; i += Streams<Real>::kPerCall) streams.normals(out + i);
#endif
    }

    // The same normals as float32, `lanes` of them for each element.
#if defined(DYSONFLOW_GPU)
    typedef Pack<float, lanes> Narrow;

    DYSONFLOW_INLINE void draw_narrow(Elements<Narrow> out, int count) {
        constexpr int at_once = Streams<Real>::kPerCall;
        for (int first = 0; first < count; first += at_once) {
            float drawn[at_once * lanes];
            streams.narrow_normals(drawn);
            DYSONFLOW_EACH(at_once) {
                Narrow numbers;
                for (int l = 0; l < lanes; ++l) numbers[l] = drawn[i * lanes + l];
                out[first + i] = numbers;
            }
        }
    }

    // Leave out as many normals as `draw` would take for so many.
    DYSONFLOW_INLINE void skip(int count) {
        for (int first = 0; first < count; first += Streams<Real>::kPerCall)
            DYSONFLOW_EACH(kNumbersPerCall) streams.g.next();
    }
#else
    DYSONFLOW_NOINLINE void draw_narrow(float* out, int count) {
        for (int i = 0; i < count; i += Streams<Real>::kPerCall)
            streams.narrow_normals(out + i * lanes);
    }
#endif

    DYSONFLOW_NOINLINE void copy_noise(Elements<V> out, int count, std::int64_t step, int offset) const {
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l) {
            const Real* from = (const Real*)job.noise +
                               (replica[l] * job.steps + step) * job.noise_per_step + offset;
            for (int i = 0; i < count; ++i) out[i][l] = from[i];
        }
    }

    // The first lane where a value that must be positive is not.
    Outcome judge(const V& positive, std::int64_t step, Failure failure) const {
        Outcome outcome;
        if (all_above(positive, V{})) return outcome;
        outcome.failure = failure;
        outcome.step = job.first_step + step;
        DYSONFLOW_FEW
        for (int l = lanes - 1; l >= 0; --l)
            if (l < used && !(positive[l] > 0)) outcome.replica = replica[l];
        return outcome;
    }
};

// `count` normals as `Group::normals` puts them into `memory`. Drawn ones stay in float32 until they are used;
// given ones have all their bits.
template <class Real>
struct DrawnNoise {
    typedef typename LanesOf<Real>::type V;
    static constexpr bool kDrawn = true;
#if defined(DYSONFLOW_GPU)
    Elements<typename Group<Real>::Narrow> at;

    DYSONFLOW_INLINE DrawnNoise(Group<Real>& group, Elements<V> memory, int count, std::int64_t, int)
        : at(elements_of<typename Group<Real>::Narrow>(memory)) {
        group.draw_narrow(at, count);
    }
    // Those that were put there.
    DYSONFLOW_INLINE explicit DrawnNoise(Elements<V> memory)
        : at(elements_of<typename Group<Real>::Narrow>(memory)) {}
    DYSONFLOW_INLINE V operator()(int i) const { return widened<V>(at[i].lane); }
#else
    float* at;

    DYSONFLOW_INLINE DrawnNoise(Group<Real>& group, Elements<V> memory, int count, std::int64_t, int)
        : at((float*)memory) {
        group.draw_narrow(at, count);
    }
    DYSONFLOW_INLINE V operator()(int i) const {
        return widened<V>(at + i * LanesOf<Real>::count);
    }
#endif
};
template <class Real>
struct GivenNoise {
    typedef typename LanesOf<Real>::type V;
    static constexpr bool kDrawn = false;
    Elements<V> at;

    DYSONFLOW_INLINE GivenNoise(Group<Real>& group, Elements<V> memory, int count, std::int64_t step, int offset)
        : at(memory) {
        group.copy_noise(at, count, step, offset);
    }
    DYSONFLOW_INLINE explicit GivenNoise(Elements<V> memory) : at(memory) {}
    DYSONFLOW_INLINE V operator()(int i) const { return at[i]; }
};

// Numbers that make a (batch x n) sample covariance: the lower triangle of Bartlett's factor T, row by row,
// or for batch < n, where there is no such factor, the (n x batch) samples themselves.
DYSONFLOW_INLINE int wishart_numbers(int n, int batch) {
    return batch < n ? n * batch : n * (n + 1) / 2;
}

// Bartlett's decomposition: T T^T ~ Wishart_n(batch, 1) for lower triangular T of independent normals and,
// on its diagonal, chi variables with batch, batch - 1, .. degrees of freedom. Turns the normals on the
// diagonal of t into those; given noise has them there already.
template <class Real, class V>
DYSONFLOW_INLINE void complete_factor(Group<Real>& group, int n, Elements<V> t) {
    const int batch = group.job.batch;
    if (batch < n || noise_is_given(group.job)) return;
    for (int i = 0; i < n; ++i) {
        V& place = t[i * (i + 3) / 2];
        const int degrees = batch - i;
        const V square = group.streams.chi_square_even(degrees / 2);
        place = square_root(degrees % 2 ? mad(place, place, square) : square);
    }
}

// y <- the factor; where it is a triangle, zeros stand above the diagonal of y already.
template <class V>
DYSONFLOW_INLINE void unpack_factor(int n, int batch, Elements<V> t, const Matrix<V>& y) {
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < (batch < n ? batch : i + 1); ++j) y(i, j) = *t++;
}

// y y^T, lower triangle, for y lower triangular (batch >= n) or (n x batch). `small`: n is a constant of few
// units, so that it pays to have all lengths of sums known to the compiler.
template <bool small, class V, class End>
DYSONFLOW_INLINE void wishart_product(int n, int batch, const Matrix<V>& y, const End& end) {
    const auto zero = [](int, int) { return V{}; };
    const auto columns = [=](int i) { return i < n ? i : n; };
    if (small && batch >= n)
        product(n, y, y.transposed(), columns,
                [](int, int, int, int j_end) { return Range{0, j_end}; }, zero, end);
    else
        product(n, y, y.transposed(), columns,
                [=](int, int, int, int j_end) { return Range{0, batch < n ? batch : j_end}; },
                zero, end);
}

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
