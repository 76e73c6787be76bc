"""The Coulomb gas: sampler, likelihood and bounds against Mehta's integral."""

import numpy as np
import pytest
from gases import FALSE_ALARM, blocks
from scipy import integrate, stats

from dysonflow.statistics.coulomb_gas import (
    cramer_rao_errors,
    log_likelihood,
    log_partition,
    sample,
)

GASES = [(n, beta) for n in (1, 2, 3, 8, 20) for beta in (0.5, 1.0, 2.0, 4.0)]


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


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match="levels"):
        sample(0, 1.0, 5, np.random.default_rng(1))
    with pytest.raises(ValueError, match="sigma"):
        log_partition(2, 1.0, 0.0)
