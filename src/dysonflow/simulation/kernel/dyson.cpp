// The time loop of the levels of Dyson Brownian motion (group.hpp says how it is compiled).
//
// The implicit step is that of implicit_levels.py, in float64 alone: levels that nearly meet need its digits.
#include "group.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

typedef Float64 V;

// As in implicit_levels.py.
constexpr double kLargestApproach = 0.5;
constexpr double kConverged = 1e-7;
constexpr double kRounding = 16 * 2.220446049250313e-16;
constexpr int kMostIterations = 10000;

// Rows of `job.target`: coefficients of the step, one column for each level.
enum Row { stiffness, memory, pull, kick, rows };

struct DysonSizes {
    int n, ld;

    DysonSizes(const Job& job) : n(job.visible), ld(padded(n)) {}
    int total() const { return n * ld + 4 * n + n + kDrawSlack; }
};

// a where c > d, else b; b where one of these is NaN.
DYSONFLOW_INLINE V where_above(const V& c, const V& d, const V& a, const V& b) {
#if defined(DYSONFLOW_PLAIN)
    V r = b;
    for (int i = 0; i < kLanes64; ++i)
        if (c[i] > d[i]) r[i] = a[i];
    return r;
#else
    return c > d ? a : b;
#endif
}

// Levels x_1 < .. < x_n: the next ones solve, for ordered y,
//     stiffness_i y_i - sum_{j != i} 1 / (y_i - y_j) = memory_i x_i + pull_i + kick_i normal.
struct Dyson {
    const Job& job;
    Group<double> group;
    const DysonSizes sizes;
    Elements<V> hessian, x, force, step, slope, z;

    Dyson(const Job& job_, std::int64_t first, Elements<V> scratch)
        : job(job_), group(job_, first), sizes(job_) {
        Elements<V> at = scratch;
        const auto take = [&](int count) { const Elements<V> from = at; at += count; return from; };
        hessian = take(sizes.n * sizes.ld);
        x = take(sizes.n);
        force = take(sizes.n);
        step = take(sizes.n);
        slope = take(sizes.n);
        z = take(sizes.n + kDrawSlack);
    }

    DYSONFLOW_INLINE V coefficient(Row row, int i) const {
        return broadcast<V>(((const double*)job.target)[row * sizes.n + i]);
    }

    DYSONFLOW_INLINE void advance(std::int64_t at) {
        const int n = sizes.n;
        group.normals(z, n, at, 0);
        double steepest = 0.0;
        for (int i = 0; i < n; ++i) {
            const V drawn = mad(coefficient(kick, i), z[i], coefficient(pull, i));
            force[i] = mad(coefficient(memory, i), x[i], drawn);
            const double here = ((const double*)job.target)[stiffness * n + i];
            if (here > steepest) steepest = here;
        }
        set_apart(1.0 / root(steepest));
        solve();
    }

    // Levels that are equal get a first guess that is ordered.
    DYSONFLOW_INLINE void set_apart(double distance) const {
        const int n = sizes.n;
        V ordered = broadcast<V>(1.0);
        for (int i = 1; i < n; ++i) ordered = where_above(x[i], x[i - 1], ordered, V{});
        if (all_above(ordered, V{})) return;
        for (int i = 1; i < n; ++i)
            x[i] = where_above(ordered, V{}, x[i], x[i] + broadcast<V>(i * distance));
    }

    // Newton's method from x to the solution; a lane that has converged stands still.
    DYSONFLOW_INLINE void solve() const {
        const int n = sizes.n;
        V active = broadcast<V>(1.0);
        for (int iteration = 0; iteration < kMostIterations; ++iteration) {
            linearise();
            eliminate();
            V squared_decrement = V{};
            for (int i = 0; i < n; ++i)
                squared_decrement = mad(slope[i], step[i], squared_decrement);
            V moved = V{}, largest = V{};
            for (int i = 0; i < n; ++i) {
                const V here = absolute(x[i]), by = absolute(step[i]);
                largest = where_above(here, largest, here, largest);
                moved = where_above(by, moved, by, moved);
            }
            V fastest = broadcast<V>(kLargestApproach);
            for (int i = 1; i < n; ++i) {
                const V closing = (step[i - 1] - step[i]) / (x[i] - x[i - 1]);
                fastest = where_above(closing, fastest, closing, fastest);
            }
            const V scale = active * (broadcast<V>(kLargestApproach) / fastest);
            for (int i = 0; i < n; ++i) x[i] = mad(scale, step[i], x[i]);
            active = where_above(squared_decrement, broadcast<V>(kConverged * kConverged), active,
                                 V{});
            active = where_above(moved, largest * broadcast<V>(kRounding), active, V{});
            if (all_above(broadcast<V>(0.5), active)) return;
        }
    }

    // Minus the gradient, twice over, and the lower triangle of the Hessian at x.
    DYSONFLOW_INLINE void linearise() const {
        const int n = sizes.n;
        const Matrix<V> h{hessian, sizes.ld, 1};
        for (int i = 0; i < n; ++i) {
            h(i, i) = coefficient(stiffness, i);
            slope[i] = negative_mad(h(i, i), x[i], force[i]);
        }
        for (int i = 1; i < n; ++i)
            for (int j = 0; j < i; ++j) {
                const V inverse = broadcast<V>(1.0) / (x[i] - x[j]);
                const V square = inverse * inverse;
                slope[i] = slope[i] + inverse;
                slope[j] = slope[j] - inverse;
                h(i, j) = V{} - square;
                h(i, i) = h(i, i) + square;
                h(j, j) = h(j, j) + square;
            }
        for (int i = 0; i < n; ++i) step[i] = slope[i];
    }

    // step <- Hessian^-1 step. It is positive definite: no pivots are needed.
    DYSONFLOW_INLINE void eliminate() const {
        const int n = sizes.n;
        const Matrix<V> h{hessian, sizes.ld, 1};
        for (int k = 0; k < n; ++k) {
            const V inverse = broadcast<V>(1.0) / h(k, k);
            for (int i = k + 1; i < n; ++i) {
                const V factor = h(i, k) * inverse;
                step[i] = negative_mad(factor, step[k], step[i]);
                for (int j = k + 1; j <= i; ++j) h(i, j) = negative_mad(factor, h(j, k), h(i, j));
            }
            h(k, k) = inverse;
        }
        for (int k = n - 1; k >= 0; --k) {
            V sum = step[k];
            for (int i = k + 1; i < n; ++i) sum = negative_mad(h(i, k), step[i], sum);
            step[k] = sum * h(k, k);
        }
    }

    // 1 where all levels are finite, else NaN.
    DYSONFLOW_INLINE V finite() const {
        V sum = broadcast<V>(1.0);
        for (int i = 0; i < sizes.n; ++i) sum = mad(x[i], V{}, sum);
        return sum;
    }

    Outcome run(const std::int64_t* stop) {
        const Matrix<V> levels{x, sizes.n, 1};
        group.load_streams();
        group.load(job.weights, 1, sizes.n, levels);
        for (std::int64_t at = 0;; ++at) {
            if (stop_check(stop, job.first_step + at)) return Outcome();
            const Outcome outcome = group.judge(finite(), at, Failure::not_finite);
            if (outcome.failure != Failure::none) return outcome;
            if (at == job.steps) break;
            advance(at);
        }
        group.store_streams();
        group.store(job.weights, 1, sizes.n, levels);
        return Outcome();
    }
};

#if defined(DYSONFLOW_GPU)
typedef DysonSizes ThreadSizes;
typedef Dyson ThreadLoop;

DYSONFLOW_INLINE Outcome run_thread(ThreadLoop& loop, const std::int64_t* stop) { return loop.run(stop); }
#else
std::size_t scratch_bytes(const Job& job) {
    return (std::size_t)DysonSizes(job).total() * kVectorBytes;
}

Outcome advance(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    return Dyson(job, first, (V*)scratch).run(stop);
}

#endif

}  // namespace

#if !defined(DYSONFLOW_GPU)
Loops dyson() { return {lanes, scratch_bytes, advance}; }
#endif

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow

#if defined(DYSONFLOW_GPU)
#include "gpu.hpp"
#endif
