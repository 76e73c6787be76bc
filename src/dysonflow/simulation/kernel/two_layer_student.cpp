// The time loops of the student of two layers (group.hpp says how they are compiled).
//
// Formulas: models/two_layer_student.py, after arXiv:2509.01349; the same step, one replica at a time, stands in
// reference.py.
#include "activations.hpp"
#include "group.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

// Columns of a tile: samples of a batch that are worked on side by side.
constexpr int kTileSamples = 4;

// Matrices without padding but for the weights: all walks but those over weights are short, or row by row.
struct Sizes {
    int features, hidden, inputs, outputs, batch, ld;

    Sizes(const Job& job)
        : features(job.visible), hidden(job.hidden), inputs(job.input_size),
          outputs(job.output_size), batch(job.batch), ld(padded(features)) {}
    // Of delta, and of outputs in its place.
    int wider() const { return hidden > outputs ? hidden : outputs; }
    int per_sample() const { return features + 2 * hidden + wider() + outputs + inputs; }
    int total() const { return hidden * ld + batch * per_sample() + kDrawSlack; }
};

// A matrix that all lanes share.
template <class Real>
struct Common {
    typedef typename LanesOf<Real>::type V;
    const Real* data;
    int row_stride, column_stride;

    DYSONFLOW_INLINE V operator()(int i, int j) const {
        return broadcast<V>(data[i * row_stride + j * column_stride]);
    }
};

// out(i, j) = sum_k a(i, k) b(k, j) for one tile, terms in order of k.
template <int rows, int columns, class V, class A>
DYSONFLOW_INLINE void product_tile(int i0, int j0, int depth, const A& a, const Matrix<V>& b,
                                   const Matrix<V>& out) {
    V sum[rows][columns];
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int j = 0; j < columns; ++j) sum[i][j] = V{};
    for (int k = 0; k < depth; ++k) {
        V y[columns];
        DYSONFLOW_UNROLL
        for (int j = 0; j < columns; ++j) y[j] = b(k, j0 + j);
        DYSONFLOW_UNROLL
        for (int i = 0; i < rows; ++i) {
            const V x = a(i0 + i, k);
            DYSONFLOW_UNROLL
            for (int j = 0; j < columns; ++j) sum[i][j] = mad(x, y[j], sum[i][j]);
        }
    }
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int j = 0; j < columns; ++j) out(i0 + i, j0 + j) = sum[i][j];
}

// out = a b, (m x n), inner dimension `depth`.
template <class V, class A>
DYSONFLOW_NOINLINE void multiply(int m, int n, int depth, const A& a, const Matrix<V>& b,
                                 const Matrix<V>& out) {
    int i = 0;
    for (; i < m; ) {
        const bool whole = i + kTileRows <= m;
        int j = 0;
        for (; j + kTileSamples <= n; j += kTileSamples)
            if (whole)
                product_tile<kTileRows, kTileSamples>(i, j, depth, a, b, out);
            else
                product_tile<1, kTileSamples>(i, j, depth, a, b, out);
        for (; j < n; ++j)
            if (whole)
                product_tile<kTileRows, 1>(i, j, depth, a, b, out);
            else
                product_tile<1, 1>(i, j, depth, a, b, out);
        i += whole ? kTileRows : 1;
    }
}

// w(i, l) += sum_b a(i, b) b(l, b) for `samples` samples from b0 on and all l.
template <int rows, int samples, class V>
DYSONFLOW_INLINE void update_rows(int i0, int b0, int n, const Matrix<V>& a, const Matrix<V>& b,
                                  const Matrix<V>& w) {
    V x[rows][samples];
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int j = 0; j < samples; ++j) x[i][j] = a(i0 + i, b0 + j);
    for (int l = 0; l < n; ++l) {
        V y[samples], sum[rows];
        DYSONFLOW_UNROLL
        for (int j = 0; j < samples; ++j) y[j] = b(l, b0 + j);
        DYSONFLOW_UNROLL
        for (int i = 0; i < rows; ++i) sum[i] = w(i0 + i, l);
        DYSONFLOW_UNROLL
        for (int j = 0; j < samples; ++j)
            DYSONFLOW_UNROLL
            for (int i = 0; i < rows; ++i) sum[i] = mad(x[i][j], y[j], sum[i]);
        DYSONFLOW_UNROLL
        for (int i = 0; i < rows; ++i) w(i0 + i, l) = sum[i];
    }
}

// w += a b^T, w (m x n), a (m x batch), b (n x batch).
template <class V>
DYSONFLOW_NOINLINE void update(int m, int n, int batch, const Matrix<V>& a, const Matrix<V>& b,
                               const Matrix<V>& w) {
    int j = 0;
    for (; j < batch; ) {
        const bool whole = j + kTileSamples <= batch;
        int i = 0;
        for (; i + kTileRows <= m; i += kTileRows)
            if (whole)
                update_rows<kTileRows, kTileSamples>(i, j, n, a, b, w);
            else
                update_rows<kTileRows, 1>(i, j, n, a, b, w);
        for (; i < m; ++i)
            if (whole)
                update_rows<1, kTileSamples>(i, j, n, a, b, w);
            else
                update_rows<1, 1>(i, j, n, a, b, w);
        j += whole ? kTileSamples : 1;
    }
}

template <class Real>
struct TwoLayerStudent {
    typedef typename LanesOf<Real>::type V;
    static constexpr int lanes = LanesOf<Real>::count;

    const Job& job;
    Group<Real> group;
    const Sizes sizes;
    Elements<V> weights, features, hidden, teacher_hidden, delta, errors, inputs;
    const Common<Real> first, teacher, readout, readout_transposed;
    bool stands[lanes];
    int standing;

    TwoLayerStudent(const Job& job_, std::int64_t first_replica, Elements<V> scratch)
        : job(job_), group(job_, first_replica), sizes(job_),
          first{(const Real*)job_.target, sizes.inputs, 1},
          teacher{first.data + sizes.features * sizes.inputs, sizes.features, 1},
          readout{teacher.data + sizes.hidden * sizes.features, sizes.hidden, 1},
          readout_transposed{readout.data, 1, sizes.hidden} {
        Elements<V> at = scratch;
        const auto take = [&](int count) { const Elements<V> from = at; at += count; return from; };
        weights = take(sizes.hidden * sizes.ld);
        features = take(sizes.features * sizes.batch);
        hidden = take(sizes.hidden * sizes.batch);
        teacher_hidden = take(sizes.hidden * sizes.batch);
        delta = take(sizes.wider() * sizes.batch);
        errors = take(sizes.outputs * sizes.batch);
        inputs = take(sizes.inputs * sizes.batch + kDrawSlack);
    }

    DYSONFLOW_INLINE Matrix<V> by_sample(Elements<V> data) const { return {data, sizes.batch, 1}; }
    DYSONFLOW_INLINE Matrix<V> student() const { return {weights, sizes.ld, 1}; }

    // f in place.
    DYSONFLOW_INLINE void activate(Elements<V> x, int count) const {
        if (job.activation == Activation::tanh)
            tanh_all<Real>(x, count);
        else if (job.activation == Activation::relu)
            for (int i = 0; i < count; ++i) x[i] = V{} - smaller(V{} - x[i], V{});
    }

    // 1 where relu passes, 0 elsewhere, of an output y = max(x, 0).
    DYSONFLOW_INLINE V passes(const V& y) const {
#if defined(DYSONFLOW_PLAIN)
        V r = V{};
        for (int l = 0; l < lanes; ++l) r[l] = y[l] > 0 ? (Real)1 : (Real)0;
        return r;
#else
        return y > V{} ? broadcast<V>(1) : V{};
#endif
    }

    DYSONFLOW_INLINE void load_batch(std::int64_t step) {
        const int batch = sizes.batch, row = sizes.features + sizes.outputs;
        const Real* from = (const Real*)job.inputs + step * batch * row;
        for (int b = 0; b < batch; ++b, from += row) {
            for (int l = 0; l < sizes.features; ++l)
                features[l * batch + b] = broadcast<V>(from[l]);
            for (int o = 0; o < sizes.outputs; ++o)
                errors[o * batch + b] = broadcast<V>(from[sizes.features + o]);
        }
    }

    // Up to and without the update; writes -a/B delta.
    DYSONFLOW_INLINE void find_delta(std::int64_t step) {
        const int batch = sizes.batch, units = sizes.hidden * batch;
        const bool drawn = !job.inputs;
        if (drawn) {
            group.normals(inputs, batch * sizes.inputs, step, 0);
            multiply(sizes.features, batch, sizes.inputs, first, Matrix<V>{inputs, 1, sizes.inputs},
                     by_sample(features));
            activate(features, sizes.features * batch);
            multiply(sizes.hidden, batch, sizes.features, teacher, by_sample(features),
                     by_sample(teacher_hidden));
        } else {
            load_batch(step);
        }
        multiply(sizes.hidden, batch, sizes.features, student(), by_sample(features),
                 by_sample(hidden));
        // Side by side in memory.
        activate(hidden, drawn ? 2 * units : units);
        if (drawn) {
            for (int i = 0; i < units; ++i) delta[i] = hidden[i] - teacher_hidden[i];
            multiply(sizes.outputs, batch, sizes.hidden, readout, by_sample(delta),
                     by_sample(errors));
        } else {
            // The teacher's outputs stand there already.
            multiply(sizes.outputs, batch, sizes.hidden, readout, by_sample(hidden),
                     by_sample(delta));
            for (int i = 0; i < sizes.outputs * batch; ++i) errors[i] = delta[i] - errors[i];
        }
        multiply(sizes.hidden, batch, sizes.outputs, readout_transposed, by_sample(errors),
                 by_sample(delta));
        if (job.activation == Activation::tanh)
            for (int i = 0; i < units; ++i)
                delta[i] = delta[i] * negative_mad(hidden[i], hidden[i], broadcast<V>(1));
        else if (job.activation == Activation::relu)
            for (int i = 0; i < units; ++i) delta[i] = delta[i] * passes(hidden[i]);
    }

    // Lanes whose delta is too large stand still from now on.
    DYSONFLOW_INLINE void stop_diverged(std::int64_t step) {
        const int units = sizes.hidden * sizes.batch;
        const V limit = broadcast<V>((Real)job.limit);
        // The smallest of what is left to the limit; the sum is NaN where a delta is no finite number.
        V margin = limit, finite = V{};
        for (int i = 0; i < units; ++i) {
            margin = smaller(margin, limit - absolute(delta[i]));
            finite = mad(delta[i], V{}, finite);
        }
        margin = margin + finite;
        if (!all_above(margin, broadcast<V>((Real)-1e-300))) note_diverged(margin, step);
        if (!standing) return;
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l)
            if (stands[l])
                for (int i = 0; i < units; ++i) delta[i][l] = 0;
    }

    DYSONFLOW_NOINLINE void note_diverged(const V& margin, std::int64_t step) {
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l) {
            if (stands[l] || margin[l] >= 0) continue;
            stands[l] = true;
            ++standing;
            job.diverged[group.replica[l]] = job.first_step + step;
        }
    }

    Outcome run() {
        group.load_streams();
        group.load(job.weights, sizes.hidden, sizes.features, student());
        standing = 0;
        DYSONFLOW_FEW
        for (int l = 0; l < lanes; ++l) {
            stands[l] = job.diverged[group.replica[l]] >= 0;
            standing += stands[l];
        }
        const int units = sizes.hidden * sizes.batch;
        const V rate = broadcast<V>((Real)(-job.learning_rate / job.batch));
        for (std::int64_t step = 0; step < job.steps && standing < lanes; ++step) {
            find_delta(step);
            stop_diverged(step);
            for (int i = 0; i < units; ++i) delta[i] = delta[i] * rate;
            update(sizes.hidden, sizes.features, sizes.batch, by_sample(delta), by_sample(features),
                   student());
        }
        group.store_streams();
        group.store(job.weights, sizes.hidden, sizes.features, student());
        return Outcome();
    }
};

#if defined(DYSONFLOW_GPU)
typedef Sizes ThreadSizes;
typedef TwoLayerStudent<ThreadReal> ThreadLoop;

DYSONFLOW_INLINE Outcome run_thread(ThreadLoop& loop, const std::int64_t*) { return loop.run(); }
#else
std::size_t scratch_bytes(const Job& job) {
    return (std::size_t)Sizes(job).total() * kVectorBytes;
}

Outcome advance(const Job& job, std::int64_t first, void* scratch, const std::int64_t*) {
    if (job.single_precision)
        return TwoLayerStudent<float>(job, first, (Float32*)scratch).run();
    return TwoLayerStudent<double>(job, first, (Float64*)scratch).run();
}

template <class Real>
void tanh_of(const Real* from, Real* to, std::int64_t count) {
    typedef typename LanesOf<Real>::type V;
    constexpr int lanes = LanesOf<Real>::count;
    for (std::int64_t done = 0; done < count; done += lanes) {
        V x[1] = {V{}};
        for (int l = 0; l < lanes && done + l < count; ++l) x[0][l] = from[done + l];
        tanh_each<Real>(x);
        for (int l = 0; l < lanes && done + l < count; ++l) to[done + l] = x[0][l];
    }
}

#endif

}  // namespace

#if !defined(DYSONFLOW_GPU)
Loops two_layer_student() { return {lanes, scratch_bytes, advance}; }

void hyperbolic_tangent(bool single_precision, const void* from, void* to, std::int64_t count) {
    if (single_precision)
        tanh_of((const float*)from, (float*)to, count);
    else
        tanh_of((const double*)from, (double*)to, count);
}
#endif

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow

#if defined(DYSONFLOW_GPU)
#include "gpu.hpp"
#endif
