// The time loops of the Gaussian restricted Boltzmann machine where a thread of a GPU has room on the chip: for
// one (N x N) matrix in shared memory, and for the lower triangle of another one in registers.
//
// The caches of a card hold some hundred bytes for each thread, so what waits in working memory comes from the
// memory of the card, and that would set the pace. Here little waits there. The numbers are those of Rbm, by
// the same operations in the same order.
#pragma once

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

template <class Real, int kN>
struct RbmOnChip : Rbm<Real, kN> {
    typedef Rbm<Real, kN> Plain;
    typedef typename LanesOf<Real>::type V;

    using Plain::a;
    using Plain::chains;
    using Plain::drift;
    using Plain::group;
    using Plain::job;
    using Plain::noise_tile;
    using Plain::p;
    using Plain::s;
    using Plain::sizes;
    using Plain::square;
    using Plain::weights;
    using Plain::z;

    RbmOnChip(const Job& job_, std::int64_t first, Elements<V> scratch) : Plain(job_, first, scratch) {}

    template <System system>
    DYSONFLOW_INLINE V checked() const {
        if constexpr (system == System::wishart)
            return job.batch < kN ? Plain::template checked<system>() : factor_precision();
        else
            return check_precision<system>();
    }

    template <System system>
    DYSONFLOW_INLINE void advance(std::int64_t step) {
        if constexpr (system == System::wishart) {
            if (job.batch < kN) Plain::template advance<system>(step);
            else wishart(step);
        } else if constexpr (noise_is_given()) {
            sample<system, GivenNoise<Real>>(step);
        } else {
            sample<system, DrawnNoise<Real>>(step);
        }
    }

    template <System system, class Noise>
    DYSONFLOW_INLINE void sample(std::int64_t step) {
        if constexpr (system == System::gibbs) gibbs<Noise>(step);
        else ar1<Noise>(step);
        Triangle sum;
        clear(sum);
        for (int b = 0; b < job.batch; ++b) {
            V u[kN];
            DYSONFLOW_UNROLL
            for (int i = 0; i < kN; ++i) u[i] = chains[b * kN + i];
            add_square(u, sum);
        }
        update(sum);
    }

    // --- matrices ---------------------------------------------------------------------------------

    // One matrix in shared memory.
    DYSONFLOW_INLINE static Matrix<V> held() {
        __shared__ V elements[kN * kN * kThreadsAbreast];
        return {Elements<V>{elements + this_thread() % kThreadsAbreast}, kN, 1};
    }

    // The lower triangle of a matrix in registers, row by row. All its loops are unrolled.
    typedef V Triangle[kN * (kN + 1) / 2];

    DYSONFLOW_INLINE static int place(int i, int j) { return i * (i + 1) / 2 + j; }

    DYSONFLOW_INLINE static void clear(Triangle& to) {
        DYSONFLOW_UNROLL
        for (int i = 0; i < kN * (kN + 1) / 2; ++i) to[i] = V{};
    }

    // each(i, j) for j <= i
    template <class Each>
    DYSONFLOW_INLINE static void for_triangle(const Each& each) {
        DYSONFLOW_UNROLL
        for (int i = 0; i < kN; ++i)
            DYSONFLOW_UNROLL
            for (int j = 0; j <= i; ++j) each(i, j);
    }

    DYSONFLOW_INLINE static void add_product(const V (&x)[kN], const V (&y)[kN], Triangle& sum) {
        for_triangle([&](int i, int j) { sum[place(i, j)] = mad(x[i], y[j], sum[place(i, j)]); });
    }
    DYSONFLOW_INLINE static void add_square(const V (&x)[kN], Triangle& sum) { add_product(x, x, sum); }

    DYSONFLOW_INLINE static void store_symmetric(const Triangle& from, const Matrix<V>& to) {
        for_triangle([&](int i, int j) { to(i, j) = to(j, i) = from[place(i, j)]; });
    }

    // out = x y, or x + x y
    template <bool add>
    DYSONFLOW_INLINE static void multiply(const Matrix<V>& x, const Matrix<V>& y, Triangle& out) {
        for_triangle([&](int i, int j) { out[place(i, j)] = add ? x(i, j) : V{}; });
        for (int k = 0; k < kN; ++k) {
            V left[kN], right[kN];
            DYSONFLOW_UNROLL
            for (int i = 0; i < kN; ++i) {
                left[i] = x(i, k);
                right[i] = y(k, i);
            }
            add_product(left, right, out);
        }
    }

    // W^T W; `row_read` is told of every row of W.
    template <class RowRead>
    DYSONFLOW_INLINE void square_weights(Triangle& sum, const RowRead& row_read) const {
        const Matrix<V> w = square(weights);
        clear(sum);
        for (int k = 0; k < kN; ++k) {
            V row[kN];
            DYSONFLOW_UNROLL
            for (int i = 0; i < kN; ++i) row[i] = w(k, i);
            row_read(k, row);
            add_square(row, sum);
        }
    }

    // As `factor` of a matrix whose element (i, j) is l[at(i, j)], but that the pivots are in `pivots`, their
    // inverse in `inverse`, and below the diagonal of l stands L D.
    template <class At>
    DYSONFLOW_INLINE static V factor(Triangle& l, const At& at, V (&inverse)[kN]) {
        V smallest = l[at(0, 0)];
        DYSONFLOW_UNROLL
        for (int j = 0; j < kN; ++j) {
            DYSONFLOW_UNROLL
            for (int k = 0; k < j; ++k)
                l[at(j, j)] = negative_mad(l[at(j, k)] * inverse[k], l[at(j, k)], l[at(j, j)]);
            inverse[j] = broadcast<V>(1) / l[at(j, j)];
            smallest = smaller(smallest, l[at(j, j)]);
            DYSONFLOW_UNROLL
            for (int i = j + 1; i < kN; ++i)
                DYSONFLOW_UNROLL
                for (int k = 0; k < j; ++k)
                    l[at(i, j)] = negative_mad(l[at(i, k)] * inverse[k], l[at(j, k)], l[at(i, j)]);
        }
        return smallest;
    }

    // --- the step ---------------------------------------------------------------------------------

    DYSONFLOW_INLINE V interaction_scale() const {
        return broadcast<V>((Real)(job.sigma_h * job.sigma_h / job.mu_squared));
    }

    // As of Rbm. Leaves U in shared memory for `gibbs`, A in a for `ar1`.
    template <System system>
    DYSONFLOW_INLINE V check_precision() const {
        const Matrix<V> u = held();
        const V to_u = broadcast<V>((Real)(job.sigma_h / root(job.mu_squared)));
        Triangle am;
        square_weights(am, [&](int k, const V (&row)[kN]) {
            if constexpr (system == System::gibbs)
                DYSONFLOW_UNROLL
                for (int i = 0; i < kN; ++i) u(k, i) = row[i] * to_u;
        });
        const V scale = interaction_scale();
        V sums[kN], margin = broadcast<V>(1);
        for_triangle([&](int i, int j) {
            am[place(i, j)] = mad(scale, am[place(i, j)], V{});
            const V value = absolute(am[place(i, j)]);
            sums[i] = (j ? sums[i] : V{}) + value;
            if (j < i) sums[j] = sums[j] + value;
        });
        if constexpr (system == System::ar1) store_symmetric(am, square(a));
        DYSONFLOW_UNROLL
        for (int i = 0; i < kN; ++i) margin = smaller(margin, broadcast<V>(1) - sums[i]);
        if (all_above(margin, broadcast<V>((Real)0.01))) return margin;
        return Plain::factor_precision();
    }

    // As of Rbm. Leaves M in shared memory, below the diagonal, and D^{-1/2} on it.
    DYSONFLOW_INLINE V factor_precision() const {
        constexpr int last = kN - 1;
        Triangle l;
        square_weights(l, [](int, const V (&)[kN]) {});
        const V scale = V{} - interaction_scale();
        for_triangle([&](int i, int j) {
            l[place(i, j)] = mad(scale, l[place(i, j)], i == j ? broadcast<V>(1) : V{});
        });
        V inverse[kN];
        const V smallest =
            factor(l, [](int i, int j) { return place(last - j, last - i); }, inverse);
        const Matrix<V> m = held();
        for_triangle([&](int i, int j) {
            const V own = inverse[last - i];
            m(i, j) = i == j ? square_root(own) : l[place(i, j)] * own;
        });
        return smallest;
    }

    // As of Rbm, for a batch of N or more: two columns of Y at a time, which stay in registers, and of which
    // the product is the sum.
    DYSONFLOW_INLINE void wishart(std::int64_t step) {
        const Matrix<V> m = held();
        group.normals(z, wishart_numbers(kN, job.batch), step, 0);
        complete_factor(group, kN, z);
        Triangle sum;
        clear(sum);
        DYSONFLOW_UNROLL
        for (int j = 0; j < kN; j += 2) {
            V y[2][kN];
            DYSONFLOW_UNROLL
            for (int c = 0; c < 2; ++c)
                DYSONFLOW_UNROLL
                for (int i = j; i < kN; ++i)
                    y[c][i] = i < j + c ? V{} : z[place(i, j + c)] * m(i, i);
            DYSONFLOW_UNROLL
            for (int k = j; k < kN; ++k)
                DYSONFLOW_UNROLL
                for (int i = k + 1; i < kN; ++i) {
                    const V x = m(i, k);
                    DYSONFLOW_EACH_OF(c, 2) y[c][i] = negative_mad(x, y[c][k], y[c][i]);
                }
            DYSONFLOW_UNROLL
            for (int c = 0; c < 2; ++c)
                for_triangle([&](int i, int k) {
                    if (k >= j + c) sum[place(i, k)] = mad(y[c][i], y[c][k], sum[place(i, k)]);
                });
        }
        update(sum);
    }

    // The end of a step, with the sum of u u^T: its gradient, and W in place, since a row of the new one needs
    // that row of the old one alone.
    DYSONFLOW_INLINE void update(Triangle& g) const {
        const V scale = Plain::covariance_scale();
        for_triangle([&](int i, int j) {
            g[place(i, j)] =
                negative_mad(scale, g[place(i, j)], broadcast<V>(drift[i * kN + j]));
        });
        const Matrix<V> w = square(weights);
        for (int i = 0; i < kN; ++i) {
            V row[kN], next[kN];
            DYSONFLOW_UNROLL
            for (int j = 0; j < kN; ++j) next[j] = row[j] = w(i, j);
            DYSONFLOW_UNROLL
            for (int k = 0; k < kN; ++k)
                DYSONFLOW_UNROLL
                for (int j = 0; j < kN; ++j)
                    next[j] = mad(row[k], g[j < k ? place(k, j) : place(j, k)], next[j]);
            DYSONFLOW_UNROLL
            for (int j = 0; j < kN; ++j) w(i, j) = next[j];
        }
    }

    // --- chains -----------------------------------------------------------------------------------

    // Chains that are in registers together, so that a matrix is read once for all of them.
    static constexpr int kStrip = 4;
    typedef V Strip[kStrip][kN];

    // The strip that begins at chain `first` of those before `last`. Beyond them the last one is computed once
    // more, and not stored.
    template <class From>
    DYSONFLOW_INLINE static void load(const From& from, int first, int last, Strip& to) {
        DYSONFLOW_EACH_OF(c, kStrip) {
            const int start = (first + c < last ? first + c : last - 1) * kN;
            DYSONFLOW_UNROLL
            for (int i = 0; i < kN; ++i) to[c][i] = from(start + i);
        }
    }
    DYSONFLOW_INLINE static void load(Elements<V> from, int first, int last, Strip& to) {
        load([=](int i) { return from[i]; }, first, last, to);
    }
    DYSONFLOW_INLINE static void store(const Strip& from, int first, int last, Elements<V> to) {
        DYSONFLOW_EACH_OF(c, kStrip) {
            if (first + c >= last) break;
            DYSONFLOW_UNROLL
            for (int i = 0; i < kN; ++i) to[(first + c) * kN + i] = from[c][i];
        }
    }

    // out(c, i) += sum_k w(i, k) given(c, k), in order of k; `lower`: over k <= i
    template <bool lower = false>
    DYSONFLOW_INLINE static void add_layer(const Strip& given, const Matrix<V>& w, Strip& out) {
        DYSONFLOW_UNROLL
        for (int k = 0; k < kN; ++k)
            DYSONFLOW_UNROLL
            for (int i = lower ? k : 0; i < kN; ++i) {
                const V weight = read_again(w(i, k));
                DYSONFLOW_EACH_OF(c, kStrip) out[c][i] = mad(given[c][k], weight, out[c][i]);
            }
    }

    // The noise of the layers of a tile of chains, strip after strip. A strip needs some of each layer, and the
    // layers follow one another in the stream of a replica. Noise that comes with the job waits in memory; of
    // noise that is drawn only the generator waits there, at its place in each layer: to pass over a number
    // costs less than to write it down and to read it.
    template <class Noise>
    struct Layers {
        static constexpr int kOfStrip = kStrip * kN, kAtOnce = Streams<Real>::kPerCall;
        // Where no strip begins amidst the numbers that are drawn together.
        static constexpr bool kRedrawn = Noise::kDrawn && kOfStrip % kAtOnce == 0;

        RbmOnChip& rbm;
        Elements<Word32> places;

        DYSONFLOW_INLINE explicit Layers(RbmOnChip& rbm_)
            : rbm(rbm_), places(elements_of<Word32>(rbm.noise_tile)) {}
        // The generator at its place in a layer. Its words lie apart, so that one access serves a warp.
        DYSONFLOW_INLINE void keep(int layer, const Generator& g) const {
            const Elements<Word32> to = places + 4 * layer;
            to[0] = g.s0, to[1] = g.s1, to[2] = g.s2, to[3] = g.s3;
        }
        DYSONFLOW_INLINE Generator kept(int layer) const {
            const Elements<Word32> from = places + 4 * layer;
            return {from[0], from[1], from[2], from[3]};
        }
        DYSONFLOW_INLINE Elements<V> tile(int layer) const {
            return rbm.noise_tile + layer * rbm.sizes.noise_tile;
        }
        // The next `count` numbers are those of a layer; given ones stand from `offset` on.
        DYSONFLOW_INLINE void prepare(int layer, int count, std::int64_t step, int offset) const {
            if constexpr (kRedrawn) {
                keep(layer, rbm.group.streams.g);
                rbm.group.skip(count);
            } else {
                Noise(rbm.group, tile(layer), count, step, offset);
            }
        }
        // Those of the next strip.
        DYSONFLOW_INLINE void take(int layer, int first, int last, Strip& to) const {
            if constexpr (kRedrawn) {
                Streams<Real> streams;
                streams.g = kept(layer);
                DYSONFLOW_UNROLL
                for (int from = 0; from < kOfStrip; from += kAtOnce) {
                    V drawn[kAtOnce];
                    streams.normals(drawn);
                    DYSONFLOW_EACH(kAtOnce) to[(from + i) / kN][(from + i) % kN] = drawn[i];
                }
                keep(layer, streams.g);
            } else {
                load(Noise(tile(layer)), first, last, to);
            }
        }
    };

    // As of Rbm, a strip of chains after the other, each through the sweeps.
    template <class Noise>
    DYSONFLOW_INLINE void gibbs(std::int64_t step) {
        const Matrix<V> u = held();
        const Layers<Noise> noise(*this);
        const int batch = job.batch;
        for (int b = 0; b < batch; b += kTileChains) {
            const int rows = batch - b < kTileChains ? batch - b : kTileChains;
            const Elements<V> tile = chains + b * kN;
            for (int sweep = 0; sweep < job.sweeps; sweep += kSweepsAtOnce) {
                const int sweeps =
                    job.sweeps - sweep < kSweepsAtOnce ? job.sweeps - sweep : kSweepsAtOnce;
                for (int layer = 0; layer < 2 * sweeps; ++layer)
                    noise.prepare(layer, rows * kN, step, ((2 * sweep + layer) * batch + b) * kN);
                for (int first = 0; first < rows; first += kStrip) {
                    Strip visible, hidden;
                    load(tile, first, rows, visible);
                    for (int layer = 0; layer < 2 * sweeps; layer += 2) {
                        noise.take(layer, first, rows, hidden);
                        add_layer(visible, u, hidden);
                        noise.take(layer + 1, first, rows, visible);
                        add_layer(hidden, u.transposed(), visible);
                    }
                    store(visible, first, rows, tile);
                }
            }
        }
    }

    // As of Rbm. The mean A^k u of all chains comes first, with A^k in shared memory, where L D^{1/2} follows.
    template <class Noise>
    DYSONFLOW_INLINE void ar1(std::int64_t step) {
        const Matrix<V> am = square(a), sum = square(s), next = square(p), factor_ = held();
        const int batch = job.batch;
        Matrix<V> power = am;
        Triangle x;
        bool one = true;  // S_1 = 1
        const auto double_sum = [&] {
            if (one) {
                for_triangle([&](int i, int j) {
                    x[place(i, j)] = power(i, j);
                    if (i == j) x[place(i, j)] = x[place(i, j)] + broadcast<V>(1);
                });
                one = false;
            } else {
                multiply<true>(sum, power, x);
            }
        };
        const auto multiply_power = [&](const Matrix<V>& by) {
            multiply<false>(power, by, x);
            power = next;
            store_symmetric(x, power);
        };
        int bit = 1;
        while (2 * bit <= job.sweeps) bit *= 2;
        for (bit /= 2; bit; bit /= 2) {
            double_sum();
            store_symmetric(x, sum);
            multiply_power(power);
            if (job.sweeps & bit) {
                for (int i = 0; i < kN; ++i)
                    for (int j = 0; j < kN; ++j) sum(i, j) = sum(i, j) + power(i, j);
                multiply_power(am);
            }
        }
        for (int i = 0; i < kN; ++i)
            for (int j = 0; j < kN; ++j) factor_(i, j) = power(i, j);
        for (int first = 0; first < batch; first += kStrip) {
            Strip given, mean = {};
            load(chains, first, batch, given);
            add_layer(given, factor_.transposed(), mean);
            store(mean, first, batch, chains);
        }
        double_sum();
        V inverse[kN];
        factor(x, [](int i, int j) { return place(i, j); }, inverse);
        DYSONFLOW_UNROLL
        for (int j = 0; j < kN; ++j) {
            const V root = square_root(x[place(j, j)]);
            factor_(j, j) = root;
            DYSONFLOW_UNROLL
            for (int i = j + 1; i < kN; ++i) factor_(i, j) = x[place(i, j)] * inverse[j] * root;
        }
        const Layers<Noise> noise(*this);
        for (int b = 0; b < batch; b += kTileChains) {
            const int rows = batch - b < kTileChains ? batch - b : kTileChains;
            const Elements<V> tile = chains + b * kN;
            noise.prepare(0, rows * kN, step, b * kN);
            for (int first = 0; first < rows; first += kStrip) {
                Strip xi, u;
                noise.take(0, first, rows, xi);
                load(tile, first, rows, u);
                add_layer<true>(xi, factor_, u);
                store(u, first, rows, tile);
            }
        }
    }
};

template <bool on_chip> struct LoopOf { typedef Rbm<ThreadReal, DYSONFLOW_FIXED> type; };
template <> struct LoopOf<true> { typedef RbmOnChip<ThreadReal, DYSONFLOW_FIXED> type; };

typedef RbmSizes ThreadSizes;
typedef LoopOf<DYSONFLOW_FIXED != 0 && fits_chip(DYSONFLOW_FIXED, DYSONFLOW_FIXED)>::type ThreadLoop;

DYSONFLOW_INLINE Outcome run_thread(ThreadLoop& loop, const std::int64_t* stop) {
    return loop.template run<System::DYSONFLOW_SYSTEM, ThreadLoop>(stop);
}

}  // namespace

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
