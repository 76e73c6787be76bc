"""The Coulomb gas: sampler against Mehta's integral, estimators against bounds, tests under null.

Statistical tests have fixed seeds and allow five standard errors, or the p-value of that.
"""

import numpy as np
import pytest
from scipy import integrate, stats

from dysonflow.statistics.coulomb_gas import (
    OUTLIER_FALSE_ALARM,
    BlockFit,
    InsufficientData,
    angle_p_value,
    autocorrelation_time,
    benjamini_hochberg,
    cramer_rao_errors,
    density_p_value,
    fit_block,
    independent_blocks,
    log_likelihood,
    log_partition,
    sample,
    surmise_p_value,
)

FALSE_ALARM = 5.7e-7
GASES = [(n, beta) for n in (1, 2, 3, 8, 20) for beta in (0.5, 1.0, 2.0, 4.0)]


def blocks(n, beta, size, seed, centre=3.0, sigma=0.2):
    return sample(n, beta, size, np.random.default_rng(seed), centre, sigma)[:, None, :]


def remembering(replicas, snapshots, memory, seed):
    """2 x 2 GOE blocks, sigma = 1, whose mean forgets by `memory` a snapshot."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((snapshots, 3, replicas))
    state = noise.copy()
    for t in range(1, snapshots):
        state[t] = memory * state[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    mean, a, b = state.transpose(1, 2, 0)
    gap = np.sqrt(2) * np.hypot(a, b)
    mean = 5 + mean / np.sqrt(2)
    return np.stack([mean - gap / 2, mean + gap / 2], axis=-1), 0.5 * np.arctan2(b, a)


# --- sampler and likelihood ---------------------------------------------------------------------


@pytest.mark.parametrize(("n", "beta"), GASES)
def test_sampler_has_the_moments_of_mehta(n, beta):
    size, sigma = 20_000, 0.2
    x = sample(n, beta, size, np.random.default_rng(10), 3.0, sigma)
    assert x.shape == (size, n)
    assert np.all(np.diff(x, axis=1) > 0)
    freedom = n + beta * n * (n - 1) / 2
    # sum (x - c)^2 / sigma^2 is chi-squared, and the mean of the levels normal.
    square = np.sum((x - 3.0) ** 2, axis=1) / sigma**2
    assert stats.kstest(square, stats.chi2(freedom).cdf).pvalue > FALSE_ALARM
    mean = (x.mean(axis=1) - 3.0) / (sigma / np.sqrt(n))
    assert stats.kstest(mean, "norm").pvalue > FALSE_ALARM
    if n > 1:
        # The mean of log |x_i - x_j| is the derivative of log Z.
        repulsion = sum(np.log(x[:, j] - x[:, i]) for i in range(n) for j in range(i + 1, n))
        step = 1e-4
        slope = log_partition(n, beta + step, sigma) - log_partition(n, beta - step, sigma)
        error = repulsion.std() / np.sqrt(size)
        assert abs(repulsion.mean() - slope / (2 * step)) < 5 * error


def test_sampler_agrees_with_random_matrices():
    rng = np.random.default_rng(11)
    matrix = rng.standard_normal((20_000, 4, 4))
    matrix = (matrix + matrix.transpose(0, 2, 1)) / 2
    # Diagonal entries of variance 1 and others of 1/2: sigma = 1, beta = 1.
    direct = np.linalg.eigvalsh(matrix)
    drawn = sample(4, 1.0, 20_000, rng)
    for level in range(4):
        assert stats.ks_2samp(direct[:, level], drawn[:, level]).pvalue > FALSE_ALARM


def test_partition_function_normalises():
    sigma, beta = 0.7, 1.5

    def joint(y, x):
        return abs(x - y) ** beta * np.exp(-(x**2 + y**2) / (2 * sigma**2))

    total, _ = integrate.dblquad(joint, -7, 7, lambda x: x, lambda x: 7.0)
    assert log_partition(2, beta, sigma) == pytest.approx(np.log(2 * total), rel=1e-7)


def test_likelihood_is_normalised_and_highest_at_the_truth():
    x = np.linspace(-8, 8, 401)
    pairs = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
    density = np.exp(log_likelihood(pairs, centre=0.3, sigma=1.1, dyson_index=2.0))
    assert integrate.trapezoid(integrate.trapezoid(density, x), x) == pytest.approx(1.0, abs=1e-6)
    assert log_likelihood([1.0], centre=0.0, sigma=2.0) == pytest.approx(
        stats.norm(0, 2).logpdf(1.0)
    )
    data = blocks(3, 2.0, 20_000, 12)
    truth = log_likelihood(data, centre=3.0, sigma=0.2, dyson_index=2.0).sum()
    assert truth > log_likelihood(data, centre=3.0, sigma=0.22, dyson_index=2.0).sum()
    assert truth > log_likelihood(data, centre=3.0, sigma=0.2, dyson_index=1.8).sum()


def test_bounds_are_the_second_derivatives_of_log_z():
    n, beta, sigma, h = 4, 1.7, 0.6, 1e-4

    def log_z(b, s):
        return log_partition(n, b, s)

    # In the natural parameters (beta, -1/(2 sigma^2)) the information is the Hessian of log Z;
    # a change of parameters multiplies it by the Jacobian.
    def natural(b, t):
        return log_z(b, np.sqrt(-0.5 / t))

    t, k = -0.5 / sigma**2, 1e-4
    bb = (natural(beta + h, t) - 2 * natural(beta, t) + natural(beta - h, t)) / h**2
    tt = (natural(beta, t + k) - 2 * natural(beta, t) + natural(beta, t - k)) / k**2
    bt = (
        natural(beta + h, t + k)
        - natural(beta + h, t - k)
        - natural(beta - h, t + k)
        + natural(beta - h, t - k)
    ) / (4 * h * k)
    jacobian = np.array([[1.0, 0.0], [0.0, sigma**-3]])
    information = jacobian @ np.array([[bb, bt], [bt, tt]]) @ jacobian
    expected = np.sqrt(np.diag(np.linalg.inv(100 * information)))
    bound = cramer_rao_errors(n, beta, sigma, 100, index_known=False)
    assert [bound["dyson_index"], bound["sigma"]] == pytest.approx(expected, rel=1e-4)
    known = cramer_rao_errors(n, beta, sigma, 100, index_known=True)
    assert known["sigma"] == pytest.approx(1 / np.sqrt(100 * information[1, 1]), rel=1e-4)


# --- estimators ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4, 8])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 4.0])
def test_fit_recovers_the_gas(n, beta):
    data = blocks(n, beta, 20_000, 20).reshape(2000, 10, n)
    fit = fit_block(data, dyson_index=None)
    assert (fit.levels, fit.replicas, fit.samples) == (n, 2000, 20_000)
    assert abs(fit.centre - 3.0) < 5 * fit.centre_error
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error
    assert fit.sigma_error == pytest.approx(fit.cramer_rao["sigma"], rel=0.1)
    assert fit.centre_error == pytest.approx(fit.cramer_rao["centre"], rel=0.1)
    assert fit.flag == ""
    if n == 1:
        assert np.isnan([fit.dyson_index, fit.dyson_index_error, fit.mean_gap]).all()
    else:
        assert abs(fit.dyson_index - beta) < 5 * fit.dyson_index_error
        assert fit.dyson_index_error == pytest.approx(fit.cramer_rao["dyson_index"], rel=0.1)
        assert fit.mean_gap == pytest.approx(np.mean(np.diff(data, axis=-1)))
    if n == 2:
        # With beta free the mean gap of two levels is nearly a sufficient statistic itself.
        assert fit.mean_gap_error == pytest.approx(fit.cramer_rao["mean_gap"], rel=0.15)


@pytest.mark.parametrize(("n", "beta"), [(1, 1.0), (2, 1.0), (4, 2.0)])
@pytest.mark.parametrize("fitted", [False, True])
def test_efficiency_and_coverage(n, beta, fitted):
    datasets, size = 400, 60
    data = blocks(n, beta, datasets * size, 21).reshape(datasets, size, 1, n)
    fits = [fit_block(x, dyson_index=None if fitted else beta) for x in data]
    bound = cramer_rao_errors(n, beta, 0.2, size, index_known=not fitted)
    for name, truth in (("centre", 3.0), ("sigma", 0.2), ("dyson_index", beta)):
        estimate = np.array([getattr(fit, name) for fit in fits])
        error = np.array([getattr(fit, f"{name}_error") for fit in fits])
        if np.isnan(error).all():
            continue
        # At 60 blocks the estimates of beta still lie some percent above their bound.
        assert estimate.std() / bound[name] < 1.05 + 5 / np.sqrt(2 * datasets)
        assert abs(estimate.mean() - truth) < (0.1 + 5 / np.sqrt(datasets)) * bound[name]
        covered = np.mean(np.abs(estimate - truth) < error)
        assert abs(covered - 0.683) < 0.03 + 5 * np.sqrt(0.683 * 0.317 / datasets)


def test_histogram_fit_agrees_and_scatters_more():
    datasets, size = 100, 200
    data = blocks(2, 1.0, datasets * size, 22).reshape(datasets, size, 1, 2)
    histogram = [fit_block(x, method="histogram") for x in data]
    likelihood = [fit_block(x) for x in data]
    for name, truth in (("centre", 3.0), ("sigma", 0.2)):
        estimate = np.array([getattr(fit, name) for fit in histogram])
        best = np.array([getattr(fit, name) for fit in likelihood])
        error = np.array([getattr(fit, f"{name}_error") for fit in histogram])
        assert abs(estimate.mean() - truth) < 5 * estimate.std() / np.sqrt(datasets)
        assert estimate.std() > best.std()
        assert np.sqrt(np.mean(error**2)) == pytest.approx(estimate.std(), rel=0.4)


def test_histogram_fit_for_eight_levels():
    fit = fit_block(blocks(8, 2.0, 3000, 23), dyson_index=2.0, method="histogram")
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error
    assert abs(fit.centre - 3.0) < 5 * fit.centre_error


def test_jackknife_is_that_of_refitting():
    data = blocks(3, 1.0, 40, 24)
    fit = fit_block(data, dyson_index=None)
    values = []
    for left in range(40):
        rest = np.delete(data, left, axis=0)
        once = fit_block(rest, dyson_index=None)
        values.append(once.sigma)
    spread = np.sqrt(39 / 40 * np.sum((values - np.mean(values)) ** 2))
    # Those fits are corrected for bias themselves, which changes the second digit at most.
    assert fit.sigma_error == pytest.approx(spread, rel=0.05)


def test_unbiased_width_of_a_single_level():
    data = blocks(1, 1.0, 50, 25)
    fit = fit_block(data)
    # The sample deviation itself is unbiased only once divided by c4, about 1 - 1/(4 n).
    assert fit.sigma == pytest.approx(np.std(data, ddof=1) * (1 + 1 / 200), rel=3e-3)


def test_given_centre_is_kept():
    fit = fit_block(blocks(2, 1.0, 500, 26), centre=3.0)
    assert fit.centre == 3.0 and np.isnan(fit.centre_error)
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error
    histogram = fit_block(blocks(2, 1.0, 500, 26), centre=3.0, method="histogram")
    assert histogram.centre == 3.0 and np.isnan(histogram.centre_error)
    assert abs(histogram.sigma - 0.2) < 5 * histogram.sigma_error


def test_fit_follows_shift_and_scale():
    data = blocks(3, 1.0, 100, 27)
    one = fit_block(data, dyson_index=None)
    two = fit_block(1000 * data - 500, dyson_index=None)
    assert two.sigma == pytest.approx(1000 * one.sigma, rel=1e-9)
    assert two.centre == pytest.approx(1000 * one.centre - 500, rel=1e-9)
    assert two.dyson_index == pytest.approx(one.dyson_index, rel=1e-8)


def test_uncorrelated_levels_have_dyson_index_zero():
    levels = np.sort(np.random.default_rng(28).normal(3.0, 0.2, (5000, 1, 2)), axis=-1)
    fit = fit_block(levels, dyson_index=None)
    assert abs(fit.dyson_index) < 5 * fit.dyson_index_error < 0.2


def test_correlated_snapshots_widen_the_errors():
    datasets = 150
    fits = [fit_block(remembering(60, 20, 0.9, 1000 + k)[0]) for k in range(datasets)]
    centre = np.array([fit.centre for fit in fits])
    error = np.array([fit.centre_error for fit in fits])
    assert np.sqrt(np.mean(error**2)) == pytest.approx(centre.std(), rel=0.3)
    # Twenty snapshots of memory 0.9 hold about two independent ones.
    assert np.mean(error) > 2 * fits[0].cramer_rao["centre"]


def test_fit_is_frozen():
    fit = fit_block(blocks(1, 1.0, 40, 29))
    assert isinstance(fit, BlockFit)
    with pytest.raises(AttributeError):
        fit.sigma = 1.0


# --- goodness of fit ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1, 2, 4])
@pytest.mark.parametrize("given", [False, True])
def test_surmise_p_values_are_uniform(beta, given):
    rng = np.random.default_rng(30)
    data = blocks(2, beta, 300 * 50, 31).reshape(300, 50, 1, 2)
    mean_gap = np.sqrt(2) * 0.2 * stats.chi.mean(beta + 1) if given else None
    p = [surmise_p_value(x, rng, dyson_index=beta, mean_gap=mean_gap) for x in data]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM
    assert np.all((np.array(p) > 0) & (np.array(p) < 1))


@pytest.mark.parametrize(("n", "beta"), [(1, 1.0), (2, 1.0), (3, 2.5), (8, 2.0)])
def test_density_p_values_are_uniform(n, beta):
    rng = np.random.default_rng(32)
    data = blocks(n, beta, 300 * 30, 33).reshape(300, 30, 1, n)
    p = [density_p_value(x, rng, dyson_index=beta) for x in data]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM


def test_p_values_are_uniform_with_given_parameters_and_many_blocks():
    rng = np.random.default_rng(34)
    data = blocks(2, 1.0, 300 * 1000, 35).reshape(300, 1000, 1, 2)
    p = [density_p_value(x, rng, centre=3.0, sigma=0.2) for x in data]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM


def test_p_values_are_uniform_with_correlated_snapshots():
    rng = np.random.default_rng(36)
    surmise, density, angle = [], [], []
    for k in range(200):
        levels, angles = remembering(60, 8, 0.8, 2000 + k)
        surmise.append(surmise_p_value(levels, rng))
        density.append(density_p_value(levels, rng))
        angle.append(angle_p_value(angles))
    for p in (surmise, density, angle):
        assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM


def test_angle_p_values_are_uniform():
    rng = np.random.default_rng(37)
    p = [angle_p_value(rng.uniform(0, np.pi, 20)) for _ in range(1000)]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM
    # The axis that angles are counted from does not matter, nor do whole turns.
    angles = rng.uniform(0, np.pi, 50)
    assert angle_p_value(angles + 1.0) == pytest.approx(angle_p_value(angles), abs=1e-12)


def test_tests_have_power():
    rng = np.random.default_rng(38)
    poisson = np.sort(rng.normal(3.0, 0.2, (300, 1, 2)), axis=-1)
    unitary = blocks(2, 2.0, 300, 39)
    assert surmise_p_value(poisson, rng) < 1e-6
    assert surmise_p_value(unitary, rng) < 1e-3
    assert density_p_value(blocks(2, 4.0, 1000, 40), rng) < 1e-4
    assert density_p_value(blocks(2, 1.0, 1000, 41), rng, centre=3.0, sigma=0.23) < 1e-4
    assert angle_p_value(rng.normal(0.0, 0.5, 300)) < 1e-6


def test_same_data_same_p_value():
    data = blocks(2, 1.0, 100, 42)
    one = surmise_p_value(data, np.random.default_rng(1))
    assert one == surmise_p_value(data, np.random.default_rng(2))


def test_surmise_is_for_two_levels():
    with pytest.raises(ValueError, match="two levels"):
        surmise_p_value(blocks(3, 1.0, 50, 43), np.random.default_rng(1))


def test_benjamini_hochberg():
    # The worked example of the 1995 paper: four of fifteen rejected at 5 %.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    rejected, adjusted = benjamini_hochberg([*p, np.nan], 0.05)
    assert rejected.tolist() == [True] * 4 + [False] * 12
    assert np.isnan(adjusted[-1]) and adjusted[3] == pytest.approx(0.0095 * 15 / 4)
    assert benjamini_hochberg([np.nan, np.nan])[0].tolist() == [False, False]
    with pytest.raises(ValueError, match="false_discovery_rate"):
        benjamini_hochberg(p, 1.5)


# --- correlation in time ------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_autocorrelation_time(memory):
    levels, _ = remembering(300, 200, memory, 50)
    time, error = autocorrelation_time(levels)
    expected = 0.5 * (1 + memory) / (1 - memory)
    assert 0 < error < 0.1 * expected
    # Ending the sum at five times itself leaves out one percent.
    assert abs(time - expected) < 5 * error + 0.02 * expected


def test_frozen_replicas_count_as_correlated():
    rng = np.random.default_rng(51)
    levels = rng.normal(5, 1, (50, 1, 1)) + 0.1 * rng.normal(size=(50, 20, 1))
    time, _ = autocorrelation_time(levels)
    assert time > 5
    assert independent_blocks(levels, rng).shape == (50, 1)


def test_single_snapshot_has_no_autocorrelation():
    data = blocks(2, 1.0, 50, 52)
    assert np.isnan(autocorrelation_time(data)).all()
    assert np.array_equal(independent_blocks(data, np.random.default_rng(1)), data[:, 0])


def test_thinning_keeps_replicas_apart():
    levels, _ = remembering(200, 40, 0.5, 53)
    thin = independent_blocks(levels, np.random.default_rng(1))
    index = {tuple(row): (r, t) for r in range(200) for t, row in enumerate(levels[r])}
    replica, snapshot = np.array([index[tuple(row)] for row in thin]).T
    kept = np.bincount(replica)
    assert np.all(kept == kept[0])
    strides = np.diff(snapshot.reshape(200, -1), axis=1)
    assert np.all(strides == strides[0, 0])
    # 0.5^6 is the first power below 2 %; the measured time scatters by some percent.
    assert strides[0, 0] in (5, 6, 7)
    assert kept[0] == 40 // strides[0, 0]
    assert len(set(snapshot[:: kept[0]])) > 1


# --- bad data -----------------------------------------------------------------------------------


def spoil(data, value):
    data = data.copy()
    data[7, 0, 0] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (blocks(2, 1.0, 29, 60), "29 replicas are too few"),
        (spoil(blocks(2, 1.0, 50, 60), np.nan), "replica 7, snapshot 0 is not finite"),
        (spoil(blocks(2, 1.0, 50, 60), np.inf), "not finite"),
        (spoil(blocks(2, 1.0, 50, 60), -1e200), "not finite"),
        (spoil(blocks(2, 1.0, 50, 60), 0.0), "exactly zero"),
        (np.full((50, 2, 1), 4.0), "all levels are equal"),
        (np.full((50, 2, 2), 4.0), "all levels are equal"),
        (np.repeat(blocks(1, 1.0, 50, 60), 2, axis=-1), "tied"),
        (np.tile([1.0, 2.0], (50, 3, 1)), "does not fluctuate"),
    ],
)
def test_unusable_data_is_refused(data, message):
    with pytest.raises(InsufficientData, match=message):
        fit_block(data)
    with pytest.raises(InsufficientData, match=message):
        fit_block(data, dyson_index=None)


def test_wrong_arguments_are_refused():
    data = blocks(2, 1.0, 50, 61)
    with pytest.raises(ValueError, match="shape"):
        fit_block(data[:, 0])
    with pytest.raises(ValueError, match="ascending"):
        fit_block(data[..., ::-1])
    with pytest.raises(ValueError, match="method"):
        fit_block(data, method="moments")
    with pytest.raises(ValueError, match="needs a dyson_index"):
        fit_block(data, dyson_index=None, method="histogram")
    with pytest.raises(ValueError, match="dyson_index"):
        fit_block(data, dyson_index=-1.0)
    with pytest.raises(ValueError, match="levels"):
        sample(0, 1.0, 5, np.random.default_rng(1))
    with pytest.raises(ValueError, match="sigma"):
        log_partition(2, 1.0, 0.0)
    with pytest.raises(InsufficientData, match="angles"):
        angle_p_value(np.arange(5.0))
    assert fit_block(data[:20], minimum_replicas=20).replicas == 20


def test_histogram_refuses_what_it_cannot_show():
    with pytest.raises(InsufficientData, match="bins"):
        fit_block(spoil(blocks(2, 1.0, 50, 66), -1e9), method="histogram")


def test_constant_angles_are_refuted():
    assert angle_p_value(np.full((30, 4), 0.3)) < 1e-6


def test_rigid_levels_are_refused():
    rng = np.random.default_rng(62)
    rigid = 3 + np.array([-1.0, 1.0]) + 1e-6 * rng.standard_normal((50, 1, 2))
    with pytest.raises(InsufficientData, match="hardly fluctuate"):
        fit_block(rigid, dyson_index=None)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_one_replica_far_off_is_flagged(n):
    data = blocks(n, 1.0, 100, 63)
    assert fit_block(data).flag == ""
    data[42] += 3.0
    assert fit_block(data).flag.startswith("replica 42 is far off")
    assert fit_block(data, method="histogram").flag.startswith("replica 42 is far off")


def test_one_wide_replica_is_flagged():
    data = blocks(4, 1.0, 100, 64)
    data[13] = 3.0 + 5 * (data[13] - 3.0)
    assert fit_block(data).flag.startswith("replica 13 is far off")


def test_outliers_are_seldom_seen_where_none_are():
    datasets = 1500
    data = blocks(2, 1.0, datasets * 40, 65).reshape(datasets, 40, 1, 2)
    alarms = sum(fit_block(x).flag != "" for x in data)
    assert alarms <= stats.poisson.ppf(1 - FALSE_ALARM, OUTLIER_FALSE_ALARM * datasets)
