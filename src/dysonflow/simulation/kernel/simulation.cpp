// The time loops of all systems, for one instruction set: DYSONFLOW_ISA names it, the compiler's flags
// choose it. One call advances one group of replicas, one per lane, through all steps, so that the working
// set of small systems stays in the first-level cache.
//
// Formulas: physics of the Gaussian restricted Boltzmann machine after arXiv:2309.15002 and of both systems
// after arXiv:2407.16427; the same steps, one replica at a time, stand in reference.py.
#if !defined(DYSONFLOW_ISA)
#define DYSONFLOW_ISA baseline
#endif

#include "job.hpp"
#include "lanes.hpp"
#include "matrices.hpp"
#include "random.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

// Chains of one tile go through all sweeps before the next tile starts.
constexpr int kTileChains = 16;

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
        for (int l = 0; l < lanes; ++l) {
            const bool real = first + l < job.replicas;
            replica[l] = real ? first + l : job.replicas - 1;
            used += real;
        }
    }

    void load(const void* array, int rows, int columns, const Matrix<V>& to) const {
        const std::int64_t size = (std::int64_t)rows * columns;
        for (int l = 0; l < lanes; ++l) {
            const Real* from = (const Real*)array + replica[l] * size;
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < columns; ++j) to(i, j)[l] = from[i * columns + j];
        }
    }

    void store(void* array, int rows, int columns, const Matrix<V>& from) const {
        const std::int64_t size = (std::int64_t)rows * columns;
        for (int l = 0; l < used; ++l) {
            Real* to = (Real*)array + replica[l] * size;
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < columns; ++j) to[i * columns + j] = from(i, j)[l];
        }
    }

    // Word w of generator q of lane l: streams(replica, 4 q + w); generators fill a word vector in turn.
    void load_streams() {
        Word32* state[4] = {&streams.g.s0, &streams.g.s1, &streams.g.s2, &streams.g.s3};
        for (int i = 0; i < kLanes32; ++i)
            for (int w = 0; w < 4; ++w)
                (*state[w])[i] =
                    job.streams[replica[i % lanes] * Streams<Real>::kWords + i / lanes * 4 + w];
    }

    void store_streams() const {
        const Word32* state[4] = {&streams.g.s0, &streams.g.s1, &streams.g.s2, &streams.g.s3};
        for (int i = 0; i < kLanes32; ++i)
            for (int w = 0; w < 4; ++w)
                if (i % lanes < used)
                    job.streams[replica[i % lanes] * Streams<Real>::kWords + i / lanes * 4 + w] =
                        (*state[w])[i];
    }

    // `count` standard normals; in `job.noise` they stand from `offset` on.
    DYSONFLOW_INLINE void normals(V* out, int count, std::int64_t step, int offset) {
        if (job.noise)
            copy_noise(out, count, step, offset);
        else
            for (int i = 0; i < count; i += Streams<Real>::kPerCall) streams.normals(out + i);
    }

    void copy_noise(V* out, int count, std::int64_t step, int offset) const {
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
        for (int l = used - 1; l >= 0; --l)
            if (!(positive[l] > 0)) outcome.replica = replica[l];
        return outcome;
    }
};

// `count` normals as `Group::normals` puts them into `memory`. Drawn ones stay in float32 until they are used;
// given ones have all their bits.
template <class Real>
struct DrawnNoise {
    typedef typename LanesOf<Real>::type V;
    float* at;

    DYSONFLOW_INLINE DrawnNoise(Group<Real>& group, V* memory, int count, std::int64_t, int)
        : at((float*)memory) {
        for (int i = 0; i < count; i += Streams<Real>::kPerCall)
            group.streams.narrow_normals(at + i * LanesOf<Real>::count);
    }
    DYSONFLOW_INLINE V operator()(int i) const {
        return widened<V>(at + i * LanesOf<Real>::count);
    }
};
template <class Real>
struct GivenNoise {
    typedef typename LanesOf<Real>::type V;
    V* at;

    DYSONFLOW_INLINE GivenNoise(Group<Real>& group, V* memory, int count, std::int64_t step, int offset)
        : at(memory) {
        group.copy_noise(at, count, step, offset);
    }
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
DYSONFLOW_INLINE void complete_factor(Group<Real>& group, int n, V* t) {
    const int batch = group.job.batch;
    if (batch < n || group.job.noise) return;
    for (int i = 0; i < n; ++i) {
        V& place = t[i * (i + 3) / 2];
        const int degrees = batch - i;
        const V square = group.streams.chi_square_even(degrees / 2);
        place = square_root(degrees % 2 ? mad(place, place, square) : square);
    }
}

// y <- the factor; where it is a triangle, zeros stand above the diagonal of y already.
template <class V>
DYSONFLOW_INLINE void unpack_factor(int n, int batch, const V* t, const Matrix<V>& y) {
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < (batch < n ? batch : i + 1); ++j) y(i, j) = *t++;
}

// y y^T, lower triangle, for y lower triangular (batch >= n) or (n x batch).
template <class V, class End>
DYSONFLOW_INLINE void wishart_product(int n, int batch, const Matrix<V>& y, const End& end) {
    const auto zero = [](int, int) { return V{}; };
    if (batch < n)
        symmetric_product(n, batch, y, y.transposed(), zero, end);
    else
        product(n, y, y.transposed(), [=](int i) { return i < n ? i : n; },
                [](int, int, int, int j_end) { return Range{0, j_end}; }, zero, end);
}

struct RbmSizes {
    int n, m, ld;
    int matrix, weights, chains, noise_tile, hidden_tile, normals, target;

    RbmSizes(const Job& job)
        : n(job.visible), m(job.hidden), ld(padded(n)), matrix(n * ld), weights(m * ld),
          chains(job.system == System::wishart ? 0 : job.batch * n),
          noise_tile(kTileChains * (m > n ? m : n) + kDrawSlack), hidden_tile(kTileChains * (m > n ? m : n)),
          normals(job.system == System::wishart ? wishart_numbers(n, job.batch) + kDrawSlack : 0),
          target(n * n / (kVectorBytes / (job.single_precision ? 4 : 8)) + 1) {}
    int total() const {
        return 6 * matrix + 2 * weights + 3 * n + chains + noise_tile + hidden_tile + normals + target;
    }
};

// Everything is kept in units in which all noise has variance 1: visible units u = mu v, hidden units
// g = h / sigma_h. With U = (sigma_h / mu) W the conditionals are g | u ~ N(U u, 1), u | g ~ N(U^T g, 1), and
// u has covariance (1 - A)^{-1}, A = U^T U = 1 - K / mu^2.
template <class Real, int fixed>
struct Rbm {
    typedef typename LanesOf<Real>::type V;

    const Job& job;
    Group<Real> group;
    const RbmSizes sizes;
    const Real rate;  // a sigma_h^2
    V *weights, *next_weights, *a, *k, *c, *p, *s, *t, *inverse_pivots, *row_sums, *scales;
    V *chains, *noise_tile, *hidden_tile, *z;
    Real* drift;  // a sigma_h^2 times the target covariance

    Rbm(const Job& job_, std::int64_t first, V* scratch)
        : job(job_), group(job_, first), sizes(job_),
          rate((Real)(job_.learning_rate * job_.sigma_h * job_.sigma_h)) {
        V* at = scratch;
        const auto take = [&](int count) { V* from = at; at += count; return from; };
        weights = take(sizes.weights);
        next_weights = take(sizes.weights);
        a = take(sizes.matrix);
        k = take(sizes.matrix);
        c = take(sizes.matrix);
        p = take(sizes.matrix);
        s = take(sizes.matrix);
        t = take(sizes.matrix);
        inverse_pivots = take(sizes.n);
        row_sums = take(sizes.n);
        scales = take(sizes.n);
        chains = take(sizes.chains);
        noise_tile = take(sizes.noise_tile);
        hidden_tile = take(sizes.hidden_tile);
        z = take(sizes.normals);
        drift = (Real*)take(sizes.target);
        const Real* target = (const Real*)job.target;
        for (int i = 0; i < n() * n(); ++i) drift[i] = rate * target[i];
    }

    DYSONFLOW_INLINE int n() const { return fixed ? fixed : sizes.n; }
    DYSONFLOW_INLINE int m() const { return fixed ? fixed : sizes.m; }
    DYSONFLOW_INLINE Matrix<V> square(V* data) const { return {data, padded(n()), 1}; }

    // end(i, j, scale, sum) for the lower triangle of A = scale sum, sum = W^T W.
    template <class End>
    DYSONFLOW_INLINE void interaction(const End& end) const {
        const Matrix<V> w = square(weights);
        const V scale = broadcast<V>((Real)(job.sigma_h * job.sigma_h / job.mu_squared));
        symmetric_product(n(), m(), w.transposed(), w, [](int, int) { return V{}; },
                          [=](int i, int j, const V& sum) { end(i, j, scale, sum); });
    }

    // a = A, lower triangle. Positive where K is positive definite. By Gershgorin's theorem it is where all row
    // sums of |A| are below 1; only where that leaves a doubt is K factored.
    DYSONFLOW_INLINE V check_precision() const {
        const int size = n();
        const Matrix<V> am = square(a);
        interaction([=](int i, int j, const V& scale, const V& sum) { am(i, j) = scale * sum; });
        for (int i = 0; i < size; ++i) row_sums[i] = V{};
        for (int i = 0; i < size; ++i) {
            V sum = row_sums[i];
            for (int j = 0; j < i; ++j) {
                const V value = absolute(am(i, j));
                sum = sum + value;
                row_sums[j] = row_sums[j] + value;
            }
            row_sums[i] = sum + absolute(am(i, i));
        }
        // The smallest of 1 - sum; a NaN in W is in all of them, as it is in all rows of W^T W.
        V margin = broadcast<V>(1);
        for (int i = 0; i < size; ++i) margin = smaller(margin, broadcast<V>(1) - row_sums[i]);
        if (all_above(margin, broadcast<V>((Real)0.01))) return margin;
        return factor_precision();
    }

    // 1 - A = M^T D M, M lower triangular with ones on its diagonal: factored from the last corner. Leaves M in
    // k, below the diagonal. Positive where K is positive definite.
    DYSONFLOW_INLINE V factor_precision() const {
        const int last = n() - 1, ld = padded(n());
        const Matrix<V> km = square(k);
        const V one = broadcast<V>(1);
        interaction([=](int i, int j, const V& scale, const V& sum) {
            km(i, j) = negative_mad(scale, sum, i == j ? one : V{});
        });
        return factor(n(), Matrix<V>{k + last * (ld + 1), -1, -ld}, inverse_pivots);
    }

    // k sweeps of block Gibbs sampling, g given u and u given g, on persistent chains.
    template <class Noise>
    DYSONFLOW_INLINE void gibbs(std::int64_t step) {
        const int batch = job.batch, rows_m = m(), size = n();
        const Matrix<V> w = square(weights), scaled = square(next_weights);
        const V scale = broadcast<V>((Real)(job.sigma_h / __builtin_sqrt(job.mu_squared)));
        for (int i = 0; i < rows_m; ++i)
            for (int j = 0; j < size; ++j) scaled(i, j) = w(i, j) * scale;
        for (int b = 0; b < batch; b += kTileChains) {
            const int rows = batch - b < kTileChains ? batch - b : kTileChains;
            const Matrix<V> u{chains + b * size, size, 1}, g{hidden_tile, rows_m, 1};
            for (int sweep = 0; sweep < job.sweeps; ++sweep) {
                const int offset = sweep * batch * (rows_m + size);
                const Noise xi(group, noise_tile, rows * rows_m, step, offset + b * rows_m);
                full_product(rows, rows_m, size, u, scaled.transposed(),
                             [=](int i, int j) { return xi(i * rows_m + j); },
                             [=](int i, int j, const V& sum) { g(i, j) = sum; });
                const Noise eta(group, noise_tile, rows * size, step,
                                offset + batch * rows_m + b * size);
                full_product(rows, size, rows_m, g, scaled,
                             [=](int i, int j) { return eta(i * size + j); },
                             [=](int i, int j, const V& sum) { u(i, j) = sum; });
            }
            add_outer(b == 0, rows, u);
        }
        gradient_from_covariance();
    }

    // The hidden layer integrated out: u is an autoregressive chain with matrix A, and k sweeps are one draw
    // u' = A^k u + L D^{1/2} xi, L D L^T = 1 + A + .. + A^{2k-1}.
    DYSONFLOW_INLINE void ar1(std::int64_t step) {
        const int batch = job.batch, size = n();
        const Powers found = powers();
        const Matrix<V> pm = square(found.power), sm = square(found.sum);
        factor(size, sm, inverse_pivots);
        for (int j = 0; j < size; ++j) {
            const V root = square_root(sm(j, j));
            for (int i = 0; i < j; ++i) sm(i, j) = V{};
            sm(j, j) = root;
            for (int i = j + 1; i < size; ++i) sm(i, j) = sm(i, j) * root;
        }
        for (int b = 0; b < batch; b += kTileChains) {
            const int rows = batch - b < kTileChains ? batch - b : kTileChains;
            const Matrix<V> u{chains + b * size, size, 1}, xi{noise_tile, size, 1};
            const Matrix<V> mean{hidden_tile, size, 1};
            group.normals(noise_tile, rows * size, step, b * size);
            full_product(rows, size, size, u, pm, [](int, int) { return V{}; },
                         [=](int i, int j, const V& sum) { mean(i, j) = sum; });
            product(rows, xi, sm.transposed(), [=](int) { return size; },
                    [](int, int, int, int j_end) { return Range{0, j_end}; },
                    [=](int i, int j) { return mean(i, j); },
                    [=](int i, int j, const V& sum) { u(i, j) = sum; });
            add_outer(b == 0, rows, u);
        }
        gradient_from_covariance();
    }

    struct Powers {
        V* power;  // A^k
        V* sum;    // 1 + A + .. + A^{2k-1}, its lower triangle
    };

    // By binary powers: with S_j = 1 + .. + A^{j-1}, S_{2j} = S_j + S_j A^j and S_{j+1} = S_j + A^j. All
    // factors commute and are symmetric.
    DYSONFLOW_INLINE Powers powers() const {
        const int size = n();
        const Matrix<V> am = square(a);
        mirror_lower(size, am);
        V *power = a, *next_power = p, *sum = s, *next_sum = t;
        const auto multiply_power = [&](V* by) {
            const Matrix<V> x = square(power), y = square(by), out = square(next_power);
            symmetric_product(size, size, x, y, [](int, int) { return V{}; },
                              [=](int i, int j, const V& value) { out(i, j) = value; });
            mirror_lower(size, out);
            V* other = power == a ? k : power;
            power = next_power;
            next_power = other;
        };
        bool one = true;  // S_1 = 1
        const auto double_sum = [&] {
            const Matrix<V> x = square(sum), y = square(power), out = square(next_sum);
            if (one) {
                for (int i = 0; i < size; ++i) {
                    for (int j = 0; j < size; ++j) x(i, j) = y(i, j);
                    x(i, i) = x(i, i) + broadcast<V>(1);
                }
                one = false;
                return;
            }
            symmetric_product(size, size, x, y, [=](int i, int j) { return x(i, j); },
                              [=](int i, int j, const V& value) { out(i, j) = value; });
            V* other = sum;
            sum = next_sum;
            next_sum = other;
        };
        int bit = 1;
        while (2 * bit <= job.sweeps) bit *= 2;
        for (bit /= 2; bit; bit /= 2) {
            double_sum();
            mirror_lower(size, square(sum));
            multiply_power(power);
            if (job.sweeps & bit) {
                const Matrix<V> to = square(sum), from = square(power);
                for (int i = 0; i < size; ++i)
                    for (int j = 0; j < size; ++j) to(i, j) = to(i, j) + from(i, j);
                multiply_power(a);
            }
        }
        double_sum();
        return {power, sum};
    }

    // Independent samples: with 1 - A = M^T D M the covariance of B of them is Y Y^T / B, D^{1/2} M Y = T and
    // T T^T a Wishart matrix of the identity. Everything stays triangular.
    DYSONFLOW_INLINE void wishart(std::int64_t step) {
        const int batch = job.batch, size = n();
        const Matrix<V> y = samples();
        group.normals(z, wishart_numbers(size, batch), step, 0);
        complete_factor(group, size, z);
        // D^{-1/2}; the factorization from the last corner stored the pivots of the last row first.
        for (int i = 0; i < size; ++i) scales[i] = square_root(inverse_pivots[size - 1 - i]);
        const bool in_registers = fixed != 0 && batch >= size;
        if constexpr (fixed != 0)
            if (in_registers) substitute_packed<fixed, 0>(square(k), scales, z, y);
        if (!in_registers) {
            unpack_factor(size, batch, z, y);
            substitute(size, batch, batch >= size, square(k), scales, y);
        }
        const Matrix<V> g = square(c);
        const Real* d = drift;
        const V scale = covariance_scale();
        wishart_product(size, batch, y, [=](int i, int j, const V& sum) {
            g(i, j) = negative_mad(scale, sum, broadcast<V>(d[i * size + j]));
        });
        mirror_lower(size, g);
    }

    // Turns a sum of u u^T into a sigma_h^2 / B times the sum of v v^T.
    DYSONFLOW_INLINE V covariance_scale() const {
        return broadcast<V>((Real)(rate / (job.mu_squared * job.batch)));
    }

    DYSONFLOW_INLINE Matrix<V> samples() const {
        return job.batch < n() ? Matrix<V>{t, job.batch, 1} : square(t);
    }

    // c <- c + v^T v, or v^T v for the first v.
    DYSONFLOW_INLINE void add_outer(bool first, int rows, const Matrix<V>& v) const {
        const Matrix<V> cov = square(c);
        const auto end = [=](int i, int j, const V& sum) { cov(i, j) = sum; };
        if (first)
            symmetric_product(n(), rows, v.transposed(), v, [](int, int) { return V{}; }, end);
        else
            symmetric_product(n(), rows, v.transposed(), v,
                              [=](int i, int j) { return cov(i, j); }, end);
    }

    // c <- a sigma_h^2 (target - C), C = c / (mu^2 B)
    DYSONFLOW_INLINE void gradient_from_covariance() const {
        const int size = n();
        const Matrix<V> g = square(c);
        const V scale = covariance_scale();
        for (int i = 0; i < size; ++i)
            for (int j = 0; j <= i; ++j)
                g(i, j) = g(j, i) =
                    negative_mad(scale, g(i, j), broadcast<V>(drift[i * size + j]));
    }

    DYSONFLOW_INLINE void update() {
        const Matrix<V> w = square(weights), next = square(next_weights);
        full_product(m(), n(), n(), w, square(c), [=](int i, int j) { return w(i, j); },
                     [=](int i, int j, const V& sum) { next(i, j) = sum; });
        V* other = weights;
        weights = next_weights;
        next_weights = other;
    }

    // A function of its own for every system: compilers do better on each than on all of them in one.
    template <System system>
    DYSONFLOW_NOINLINE Outcome run(const std::int64_t* stop) {
        group.load_streams();
        group.load(job.weights, m(), n(), square(weights));
        if (sizes.chains) group.load(job.chains, job.batch, n(), {chains, n(), 1});
        if (system == System::wishart && job.batch >= n()) clear(square(t));
        for (std::int64_t step = 0;; ++step) {
            if (stop_check(stop, job.first_step + step)) return Outcome();
            const V positive =
                system == System::wishart ? factor_precision() : check_precision();
            const Outcome outcome = group.judge(positive, step, Failure::not_positive_definite);
            if (outcome.failure != Failure::none) return explain(outcome);
            if (step == job.steps) break;
            if constexpr (system == System::gibbs) {
                if (job.noise) gibbs<GivenNoise<Real>>(step);
                else gibbs<DrawnNoise<Real>>(step);
            } else if constexpr (system == System::ar1) {
                ar1(step);
            } else {
                wishart(step);
            }
            update();
        }
        group.store_streams();
        group.store(job.weights, m(), n(), square(weights));
        if (sizes.chains) group.store(job.chains, job.batch, n(), {chains, n(), 1});
        return Outcome();
    }

    Outcome run(const std::int64_t* stop) {
        if (job.system == System::gibbs) return run<System::gibbs>(stop);
        if (job.system == System::ar1) return run<System::ar1>(stop);
        return run<System::wishart>(stop);
    }

    Outcome explain(Outcome outcome) const {
        const Matrix<V> w = square(weights);
        for (int l = 0; l < Group<Real>::lanes; ++l)
            if (group.replica[l] == outcome.replica)
                for (int i = 0; i < m(); ++i)
                    for (int j = 0; j < n(); ++j)
                        if (!(w(i, j)[l] - w(i, j)[l] == 0)) outcome.failure = Failure::not_finite;
        return outcome;
    }

    DYSONFLOW_INLINE void clear(const Matrix<V>& a) const {
        for (int i = 0; i < n(); ++i)
            for (int j = 0; j < n(); ++j) a(i, j) = V{};
    }
};

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
    V *weights, *next_weights, *c, *t, *d, *z, *inputs;

    TeacherStudent(const Job& job_, std::int64_t first, V* scratch)
        : job(job_), group(job_, first), sizes(job_) {
        V* at = scratch;
        const auto take = [&](int count) { V* from = at; at += count; return from; };
        weights = take(sizes.matrix);
        next_weights = take(sizes.matrix);
        c = take(sizes.matrix);
        t = take(sizes.matrix);
        d = take(sizes.matrix);
        z = take(sizes.normals);
        inputs = take(sizes.inputs);
    }

    DYSONFLOW_INLINE int n() const { return fixed ? fixed : sizes.n; }
    DYSONFLOW_INLINE Matrix<V> square(V* data) const { return {data, padded(n()), 1}; }

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
            const Matrix<V> y = batch < size ? Matrix<V>{t, batch, 1} : square(t);
            complete_factor(group, size, z);
            unpack_factor(size, batch, z, y);
            wishart_product(size, batch, y, scaled);
        }
        mirror_lower(size, cm);

        const Real* teacher = (const Real*)job.target;
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j) dm(i, j) = broadcast<V>(teacher[i * size + j]) - w(i, j);

        const double eps = job.learning_rate * job.noise_scale / __builtin_sqrt((double)batch);
        const V off_diagonal = broadcast<V>((Real)eps);
        const V diagonal = broadcast<V>((Real)(eps * __builtin_sqrt(2.0)));
        const V* noise = z + drawn;
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
        V* other = weights;
        weights = next_weights;
        next_weights = other;
    }

    void load_inputs(std::int64_t step) const {
        const std::int64_t size = (std::int64_t)job.batch * n();
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

// The sizes of the papers get loops of constant length; all others share one code.
template <class Real>
Outcome run(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    typedef typename LanesOf<Real>::type V;
    V* memory = (V*)scratch;
    if (job.system == System::teacher_student)
        return job.visible == 2 ? TeacherStudent<Real, 2>(job, first, memory).run(stop)
                                : TeacherStudent<Real, 0>(job, first, memory).run(stop);
#if !defined(DYSONFLOW_NO_FIXED)
    if (job.visible == 10 && job.hidden == 10) return Rbm<Real, 10>(job, first, memory).run(stop);
#endif
    return Rbm<Real, 0>(job, first, memory).run(stop);
}

double multiply_adds(std::int64_t rounds, std::int64_t* operations) {
    constexpr int kChains = 10;  // hides the latency of two units a core, and fits into 16 registers
    const Float64 x = broadcast<Float64>(0.999), y = broadcast<Float64>(0.001);
    Float64 value[kChains];
    for (int i = 0; i < kChains; ++i) value[i] = broadcast<Float64>(i);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < kChains; ++i) value[i] = mad(value[i], x, y);
    for (int i = 1; i < kChains; ++i) value[0] = value[0] + value[i];
    *operations = rounds * kChains * kLanes64 * 2;
    return value[0][0];
}

int lanes(const Job& job) { return job.single_precision ? kLanes32 : kLanes64; }

std::size_t scratch_bytes(const Job& job) {
    const int count = job.system == System::teacher_student ? TeacherSizes(job).total()
                                                            : RbmSizes(job).total();
    return (std::size_t)count * kVectorBytes;
}

Outcome advance(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    return job.single_precision ? run<float>(job, first, scratch, stop)
                                : run<double>(job, first, scratch, stop);
}

}  // namespace

Variant variant() {
#define DYSONFLOW_TEXT_(name) #name
#define DYSONFLOW_TEXT(name) DYSONFLOW_TEXT_(name)
    return {DYSONFLOW_TEXT(DYSONFLOW_ISA), lanes, scratch_bytes, advance, multiply_adds};
}

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
