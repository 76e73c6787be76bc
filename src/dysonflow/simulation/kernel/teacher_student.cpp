// The time loops of the linear student (group.hpp says how they are compiled).
//
// Formulas: physics after arXiv:2407.16427; the same steps, one replica at a time, stand in reference.py.
#include "group.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

struct TeacherSizes {
    int n, ld, matrix, normals, inputs;

    TeacherSizes(const Job& job)
        : n(job.visible), ld(padded(n)), matrix(n * ld),
          normals(wishart_numbers(n, job.batch) + n * (n + 1) / 2 + kDrawSlack),
          inputs(job.inputs ? job.batch * n : 0) {}
    int total() const { return 5 * matrix + normals + inputs; }
};

// Linear student W and teacher W_t: W <- W + a [(W_t - W) C + A], C the covariance of B inputs, A symmetric
// with normal entries of standard deviation eps / sqrt(B), sqrt(2) times that on the diagonal.
template <class Real, int fixed>
struct TeacherStudent {
    typedef typename LanesOf<Real>::type V;

    const Job& job;
    Group<Real> group;
    const TeacherSizes sizes;
    Elements<V> weights, next_weights, c, t, d, z, inputs;

    TeacherStudent(const Job& job_, std::int64_t first, Elements<V> scratch)
        : job(job_), group(job_, first), sizes(job_) {
        Elements<V> at = scratch;
        const auto take = [&](int count) { const Elements<V> from = at; at += count; return from; };
        weights = take(sizes.matrix);
        next_weights = take(sizes.matrix);
        c = take(sizes.matrix);
        t = take(sizes.matrix);
        d = take(sizes.matrix);
        z = take(sizes.normals);
        inputs = take(sizes.inputs);
    }

    DYSONFLOW_INLINE int n() const { return fixed ? fixed : sizes.n; }
    DYSONFLOW_INLINE Matrix<V> square(Elements<V> data) const { return {data, padded(n()), 1}; }

    DYSONFLOW_INLINE void advance(std::int64_t step) {
        const int size = n(), batch = job.batch;
        const Matrix<V> w = square(weights), next = square(next_weights), cm = square(c),
                        dm = square(d);
        const Real rate = (Real)job.learning_rate;
        const V scale = broadcast<V>(rate / batch);
        const auto scaled = [=](int i, int j, const V& sum) { cm(i, j) = sum * scale; };

        const int drawn = job.inputs ? 0 : wishart_numbers(size, batch);
        group.normals(z, drawn + size * (size + 1) / 2, step, 0);
        if (job.inputs) {
            load_inputs(step);
            const Matrix<V> x{inputs, size, 1};
            symmetric_product(size, batch, x.transposed(), x, [](int, int) { return V{}; }, scaled);
        } else {
            const Matrix<V> y = square(t);
            complete_factor(group, size, z);
            unpack_factor(size, batch, z, y);
            wishart_product<fixed != 0>(size, batch, y, scaled);
        }
        mirror_lower(size, cm);

        const Real* teacher = (const Real*)job.target;
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j) dm(i, j) = broadcast<V>(teacher[i * size + j]) - w(i, j);

        const double eps = job.learning_rate * job.noise_scale / root((double)batch);
        const V off_diagonal = broadcast<V>((Real)eps);
        const V diagonal = broadcast<V>((Real)(eps * root(2.0)));
        Elements<V> noise = z + drawn;
        for (int i = 0; i < size; ++i)
            for (int j = 0; j <= i; ++j) {
                const V value = *noise++;
                if (i == j) {
                    w(i, i) = mad(value, diagonal, w(i, i));
                } else {
                    w(i, j) = mad(value, off_diagonal, w(i, j));
                    w(j, i) = mad(value, off_diagonal, w(j, i));
                }
            }
        full_product(size, size, size, dm, cm, [=](int i, int j) { return w(i, j); },
                     [=](int i, int j, const V& sum) { next(i, j) = sum; });
        const Elements<V> other = weights;
        weights = next_weights;
        next_weights = other;
    }

    void load_inputs(std::int64_t step) const {
        const std::int64_t size = (std::int64_t)job.batch * n();
        DYSONFLOW_FEW
        for (int l = 0; l < Group<Real>::lanes; ++l) {
            const Real* from = (const Real*)job.inputs + group.replica[l] * job.inputs_per_replica +
                               step * size;
            for (std::int64_t i = 0; i < size; ++i) inputs[i][l] = from[i];
        }
    }

    // 1 where all weights are finite, else NaN.
    DYSONFLOW_INLINE V finite() const {
        const Matrix<V> w = square(weights);
        V sum = broadcast<V>(1);
        for (int i = 0; i < n(); ++i)
            for (int j = 0; j < n(); ++j) sum = mad(w(i, j), V{}, sum);
        return sum;
    }

    Outcome run(const std::int64_t* stop) {
        group.load_streams();
        group.load(job.weights, n(), n(), square(weights));
        for (int i = 0; i < n(); ++i)
            for (int j = 0; j < n(); ++j) square(t)(i, j) = V{};
        for (std::int64_t step = 0;; ++step) {
            if (stop_check(stop, job.first_step + step)) return Outcome();
            const Outcome outcome = group.judge(finite(), step, Failure::not_finite);
            if (outcome.failure != Failure::none) return outcome;
            if (step == job.steps) break;
            advance(step);
        }
        group.store_streams();
        group.store(job.weights, n(), n(), square(weights));
        return Outcome();
    }
};

#if defined(DYSONFLOW_GPU)
typedef TeacherSizes ThreadSizes;
typedef TeacherStudent<ThreadReal, DYSONFLOW_FIXED> ThreadLoop;

DYSONFLOW_INLINE Outcome run_thread(ThreadLoop& loop, const std::int64_t* stop) { return loop.run(stop); }
#else
// The size of the paper gets loops of constant length; all others share one code.
template <class Real>
Outcome run(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    auto* memory = (typename LanesOf<Real>::type*)scratch;
    return job.visible == 2 ? TeacherStudent<Real, 2>(job, first, memory).run(stop)
                            : TeacherStudent<Real, 0>(job, first, memory).run(stop);
}

std::size_t scratch_bytes(const Job& job) {
    return (std::size_t)TeacherSizes(job).total() * kVectorBytes;
}

Outcome advance(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    return job.single_precision ? run<float>(job, first, scratch, stop)
                                : run<double>(job, first, scratch, stop);
}

#endif

}  // namespace

#if !defined(DYSONFLOW_GPU)
Loops teacher_student() { return {lanes, scratch_bytes, advance}; }
#endif

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow

#if defined(DYSONFLOW_GPU)
#include "gpu.hpp"
#endif
