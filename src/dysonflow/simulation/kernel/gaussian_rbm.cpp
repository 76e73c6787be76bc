// The time loops of the Gaussian restricted Boltzmann machine (group.hpp says how they are compiled).
//
// Formulas: physics after arXiv:2309.15002 and arXiv:2407.16427; the same steps, one replica at a time, stand in
// reference.py.
#include "group.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

// Chains of one tile go through all sweeps before the next tile starts.
constexpr int kTileChains = 16;

// a sigma_h^2 times the target covariance: stored once for all lanes of a group, or computed where it is needed,
// which costs less than to read it where a lane has few neighbours.
template <class Real>
struct Drift {
#if defined(DYSONFLOW_GPU)
    static constexpr bool kStored = false;
    const Real* target;
    Real rate;

    DYSONFLOW_INLINE Real operator[](int i) const { return rate * target[i]; }
#else
    static constexpr bool kStored = true;
    const Real* stored;

    DYSONFLOW_INLINE Real operator[](int i) const { return stored[i]; }
#endif
};

#if defined(DYSONFLOW_GPU)
// Shared memory of a warp: a block has 48 kB unless more is asked for, and takes 1 kB itself.
constexpr int kSharedBytes = 44 * 1024;
// Whether a thread can keep one (n x n) matrix in shared memory, and the lower triangle of another one in
// registers: gaussian_rbm_on_chip.hpp.
constexpr bool fits_chip(int n, int m) { return n == m && n * n <= kSharedBytes / (kThreadsAbreast * kVectorBytes); }
// Sweeps for which strips of chains stay in registers; memory for their noise is the price of more.
constexpr int kSweepsAtOnce = 4;
#endif

struct RbmSizes {
    int n, m, ld;
    int matrix, weights, chains, noise_tile, noise, hidden_tile, normals, target;

    // `constant`: N and M where the compiler knows them, or 0.
    explicit RbmSizes(const Job& job, int constant = 0)
        : n(constant ? constant : job.visible), m(constant ? constant : job.hidden), ld(padded(n)), matrix(n * ld), weights(m * ld),
          chains(job.system == System::wishart ? 0 : job.batch * n),
          noise_tile(kTileChains * (m > n ? m : n) + kDrawSlack), noise(noise_tile * tiles_of_noise(job, n, m)),
          hidden_tile(noise_tile),
          normals(job.system == System::wishart ? wishart_numbers(n, job.batch) + kDrawSlack : 0),
          target(Drift<double>::kStored ? n * n / (kVectorBytes / (job.single_precision ? 4 : 8)) + 1 : 0) {}
    int total() const {
        return 6 * matrix + 2 * weights + 3 * n + chains + noise + hidden_tile + normals + target;
    }

    static int tiles_of_noise(const Job& job, int n, int m) {
#if defined(DYSONFLOW_GPU)
        // Of both layers.
        if (job.system == System::gibbs && fits_chip(n, m))
            return 2 * (job.sweeps < kSweepsAtOnce ? job.sweeps : kSweepsAtOnce);
#endif
        return 1;
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
    Elements<V> weights, next_weights, a, k, c, p, s, t, inverse_pivots, row_sums, scales;
    Elements<V> chains, noise_tile, hidden_tile, z;
    Drift<Real> drift;

    Rbm(const Job& job_, std::int64_t first, Elements<V> scratch)
        : job(job_), group(job_, first), sizes(job_, fixed),
          rate((Real)(job_.learning_rate * job_.sigma_h * job_.sigma_h)) {
        Elements<V> at = scratch;
        const auto take = [&](int count) { const Elements<V> from = at; at += count; return from; };
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
        noise_tile = take(sizes.noise);
        hidden_tile = take(sizes.hidden_tile);
        z = take(sizes.normals);
        const Real* target = (const Real*)job.target;
#if defined(DYSONFLOW_GPU)
        drift = {target, rate};
#else
        Real* stored = (Real*)take(sizes.target);
        for (int i = 0; i < n() * n(); ++i) stored[i] = rate * target[i];
        drift = {stored};
#endif
    }

    DYSONFLOW_INLINE int n() const { return fixed ? fixed : sizes.n; }
    DYSONFLOW_INLINE int m() const { return fixed ? fixed : sizes.m; }
    DYSONFLOW_INLINE Matrix<V> square(Elements<V> data) const { return {data, padded(n()), 1}; }

    // to <- diagonal 1 + sign A, lower triangle, A = (sigma_h / mu)^2 W^T W.
    DYSONFLOW_NOINLINE void interaction(Real sign, Real diagonal, Elements<V> to) const {
        const Matrix<V> w = square(weights), out = square(to);
        const V scale = broadcast<V>(sign * (Real)(job.sigma_h * job.sigma_h / job.mu_squared));
        const V on_diagonal = broadcast<V>(diagonal);
        symmetric_product(n(), m(), w.transposed(), w, [](int, int) { return V{}; },
                          [=](int i, int j, const V& sum) {
                              out(i, j) = mad(scale, sum, i == j ? on_diagonal : V{});
                          });
    }

    // a = A, lower triangle. Positive where K is positive definite. By Gershgorin's theorem it is where all row
    // sums of |A| are below 1; only where that leaves a doubt is K factored.
    DYSONFLOW_NOINLINE V check_precision() const {
        const int size = n();
        const Matrix<V> am = square(a);
        interaction(1, 0, a);
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
    DYSONFLOW_NOINLINE V factor_precision() const {
        const int last = n() - 1, ld = padded(n());
        interaction(-1, 1, k);
        return factor(n(), Matrix<V>{k + last * (ld + 1), -1, -ld}, inverse_pivots);
    }

    // k sweeps of block Gibbs sampling, g given u and u given g, on persistent chains.
    template <class Noise>
    DYSONFLOW_INLINE void gibbs(std::int64_t step) {
        const int batch = job.batch, rows_m = m(), size = n();
        const Matrix<V> w = square(weights), scaled = square(next_weights);
        const V scale = broadcast<V>((Real)(job.sigma_h / root(job.mu_squared)));
        for (int i = 0; i < rows_m; ++i)
            for (int j = 0; j < size; ++j) scaled(i, j) = w(i, j) * scale;
        clear(square(c));
        for (int b = 0; b < batch; b += kTileChains) {
            const int rows = batch - b < kTileChains ? batch - b : kTileChains;
            const Elements<V> u = chains + b * size, g = hidden_tile;
            for (int sweep = 0; sweep < job.sweeps; ++sweep) {
                const int offset = sweep * batch * (rows_m + size);
                const Noise xi(group, noise_tile, rows * rows_m, step, offset + b * rows_m);
                sample_layer(rows, rows_m, size, u, scaled.transposed(), xi, g);
                const Noise eta(group, noise_tile, rows * size, step,
                                offset + batch * rows_m + b * size);
                sample_layer(rows, size, rows_m, g, scaled, eta, u);
            }
            add_outer(rows, u);
        }
        gradient_from_covariance();
    }

    // out = noise + given w: one layer, `columns` wide, of each of `rows` chains, from the other one.
    template <class Noise>
    DYSONFLOW_NOINLINE void sample_layer(int rows, int columns_, int depth_, Elements<V> given,
                                         const Matrix<V> w, const Noise noise, Elements<V> out) const {
        const int columns = fixed ? fixed : columns_, depth = fixed ? fixed : depth_;
        const Matrix<V> to{out, columns, 1};
        full_product(rows, columns, depth, Matrix<V>{given, depth, 1}, w,
                     [=](int i, int j) { return noise(i * columns + j); },
                     [=](int i, int j, const V& sum) { to(i, j) = sum; });
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
        clear(square(c));
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
            add_outer(rows, u.data);
        }
        gradient_from_covariance();
    }

    struct Powers {
        Elements<V> power;  // A^k
        Elements<V> sum;    // 1 + A + .. + A^{2k-1}, its lower triangle
    };

    // out = x y, or x + x y, lower triangle, for symmetric x and y whose product is symmetric.
    template <bool add>
    DYSONFLOW_NOINLINE void multiply(Elements<V> x_, Elements<V> y_, Elements<V> out_) const {
        const Matrix<V> x = square(x_), y = square(y_), out = square(out_);
        symmetric_product(n(), n(), x, y, [=](int i, int j) { return add ? x(i, j) : V{}; },
                          [=](int i, int j, const V& value) { out(i, j) = value; });
    }

    // By binary powers: with S_j = 1 + .. + A^{j-1}, S_{2j} = S_j + S_j A^j and S_{j+1} = S_j + A^j. All
    // factors commute and are symmetric.
    DYSONFLOW_INLINE Powers powers() const {
        const int size = n();
        const Matrix<V> am = square(a);
        mirror_lower(size, am);
        Elements<V> power = a, next_power = p, sum = s, next_sum = t;
        const auto multiply_power = [&](Elements<V> by) {
            multiply<false>(power, by, next_power);
            mirror_lower(size, square(next_power));
            const Elements<V> other = power == a ? k : power;
            power = next_power;
            next_power = other;
        };
        bool one = true;  // S_1 = 1
        const auto double_sum = [&] {
            if (one) {
                const Matrix<V> x = square(sum), y = square(power);
                for (int i = 0; i < size; ++i) {
                    for (int j = 0; j < size; ++j) x(i, j) = y(i, j);
                    x(i, i) = x(i, i) + broadcast<V>(1);
                }
                one = false;
                return;
            }
            multiply<true>(sum, power, next_sum);
            const Elements<V> other = sum;
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
        const Matrix<V> y = square(t);
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
        const Drift<Real> d = drift;
        const V scale = covariance_scale();
        wishart_product<false>(size, batch, y, [=](int i, int j, const V& sum) {
            g(i, j) = negative_mad(scale, sum, broadcast<V>(d[i * size + j]));
        });
        mirror_lower(size, g);
    }

    // Turns a sum of u u^T into a sigma_h^2 / B times the sum of v v^T.
    DYSONFLOW_INLINE V covariance_scale() const {
        return broadcast<V>((Real)(rate / (job.mu_squared * job.batch)));
    }

    // c <- c + v^T v
    DYSONFLOW_NOINLINE void add_outer(int rows, Elements<V> samples) const {
        const Matrix<V> cov = square(c), v{samples, n(), 1};
        symmetric_product(n(), rows, v.transposed(), v, [=](int i, int j) { return cov(i, j); },
                          [=](int i, int j, const V& sum) { cov(i, j) = sum; });
    }

    // c <- a sigma_h^2 (target - C), C = c / (mu^2 B)
    DYSONFLOW_NOINLINE void gradient_from_covariance() const {
        const int size = n();
        const Matrix<V> g = square(c);
        const V scale = covariance_scale();
        for (int i = 0; i < size; ++i)
            for (int j = 0; j <= i; ++j)
                g(i, j) = g(j, i) =
                    negative_mad(scale, g(i, j), broadcast<V>(drift[i * size + j]));
    }

    DYSONFLOW_NOINLINE void update() {
        const Matrix<V> w = square(weights), next = square(next_weights);
        full_product(m(), n(), n(), w, square(c), [=](int i, int j) { return w(i, j); },
                     [=](int i, int j, const V& sum) { next(i, j) = sum; });
        const Elements<V> other = weights;
        weights = next_weights;
        next_weights = other;
    }

    // Positive where K is positive definite; with what the next step needs of it.
    template <System system>
    DYSONFLOW_INLINE V checked() const {
        return system == System::wishart ? factor_precision() : check_precision();
    }

    template <System system>
    DYSONFLOW_INLINE void advance(std::int64_t step) {
        if constexpr (system == System::gibbs) {
#if defined(DYSONFLOW_GPU)
            if constexpr (noise_is_given()) gibbs<GivenNoise<Real>>(step);
            else gibbs<DrawnNoise<Real>>(step);
#else
            if (noise_is_given(job)) gibbs<GivenNoise<Real>>(step);
            else gibbs<DrawnNoise<Real>>(step);
#endif
        } else if constexpr (system == System::ar1) {
            ar1(step);
        } else {
            wishart(step);
        }
        update();
    }

    // A function of its own for every system: compilers do better on each than on all of them in one. `Loop` is
    // this class, or one made of it that checks and advances in its own way.
    template <System system, class Loop = Rbm>
    DYSONFLOW_NOINLINE Outcome run(const std::int64_t* stop) {
        Loop& loop = static_cast<Loop&>(*this);
        group.load_streams();
        group.load(job.weights, m(), n(), square(weights));
        if (sizes.chains) group.load(job.chains, job.batch, n(), {chains, n(), 1});
        if (system == System::wishart && job.batch >= n()) clear(square(t));
        for (std::int64_t step = 0;; ++step) {
            if (stop_check(stop, job.first_step + step)) return Outcome();
            const Outcome outcome =
                group.judge(loop.template checked<system>(), step, Failure::not_positive_definite);
            if (outcome.failure != Failure::none) return explain(outcome);
            if (step == job.steps) break;
            loop.template advance<system>(step);
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
        DYSONFLOW_FEW
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

#if !defined(DYSONFLOW_GPU)
// The size of the paper gets loops of constant length; all others share one code.
template <class Real>
Outcome run(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    auto* memory = (typename LanesOf<Real>::type*)scratch;
#if !defined(DYSONFLOW_NO_FIXED)
    if (job.visible == 10 && job.hidden == 10) return Rbm<Real, 10>(job, first, memory).run(stop);
#endif
    return Rbm<Real, 0>(job, first, memory).run(stop);
}

std::size_t scratch_bytes(const Job& job) {
    return (std::size_t)RbmSizes(job).total() * kVectorBytes;
}

Outcome advance(const Job& job, std::int64_t first, void* scratch, const std::int64_t* stop) {
    return job.single_precision ? run<float>(job, first, scratch, stop)
                                : run<double>(job, first, scratch, stop);
}

#endif

}  // namespace

#if !defined(DYSONFLOW_GPU)
Loops gaussian_rbm() { return {lanes, scratch_bytes, advance}; }
#endif

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow

#if defined(DYSONFLOW_GPU)
#include "gaussian_rbm_on_chip.hpp"
#include "gpu.hpp"
#endif
