"""Laws: each against its own definition, and against the limits they share."""

import numpy as np
import pytest
from scipy import integrate, stats

from dysonflow.statistics.laws import (
    BlockDensity,
    Gaussian,
    MarchenkoPastur,
    Semicircle,
    TracyWidom,
    WignerSurmise,
)

# Two-sided 5 sigma: the chance that one of these tests fails by bad luck.
FALSE_ALARM = 5.7e-7

LAWS = {
    "gaussian": Gaussian(1.5, 0.3),
    "surmise 1": WignerSurmise(1),
    "surmise 2": WignerSurmise(2),
    "surmise 4": WignerSurmise(4),
    "semicircle": Semicircle(-2.0, 1.5),
    "block 1": BlockDensity(1, 1.0, 0.2),
    "block 2": BlockDensity(2, 1.0, 0.2),
    "block 2 beta 0.5": BlockDensity(2, 1.0, 0.2, 0.5),
    "block 2 beta 4": BlockDensity(2, 1.0, 0.2, 4.0),
    "block 3 beta 1": BlockDensity(3, 1.0, 0.2),
    "block 3 beta 2.5": BlockDensity(3, 1.0, 0.2, 2.5),
    "block 7 beta 1": BlockDensity(7, 1.0, 0.2),
    "block 8 beta 1": BlockDensity(8, 1.0, 0.2),
    "block 8 beta 2": BlockDensity(8, 1.0, 0.2, 2.0),
    "block 8 beta 4": BlockDensity(8, 1.0, 0.2, 4.0),
    "block 64": BlockDensity(64, 1.0, 0.2),
    "marchenko-pastur tall": MarchenkoPastur(0.25, 2.0),
    "marchenko-pastur square": MarchenkoPastur(1.0),
    "marchenko-pastur wide": MarchenkoPastur(4.0, 0.5),
    "tracy-widom": TracyWidom(),
    "tracy-widom moved": TracyWidom(10.0, 0.5),
}


@pytest.fixture(params=LAWS.values(), ids=LAWS.keys())
def law(request):
    return request.param


def atom(law):
    return law.atom if isinstance(law, MarchenkoPastur) else 0.0


def test_density_integrates_to_one(law):
    # The points in between are where the density has structure.
    quantiles = law.ppf(np.linspace(atom(law), 1, 33)[1:-1])
    ends = (0.0, law.support[1]) if isinstance(law, MarchenkoPastur) else (-np.inf, np.inf)
    points = [ends[0], *quantiles, ends[1]]
    total = sum(
        integrate.quad(law.pdf, low, high, epsabs=1e-11, limit=200)[0]
        for low, high in zip(points[:-1], points[1:], strict=True)
    )
    assert total + atom(law) == pytest.approx(1.0, abs=1e-8)


def test_cdf_is_integral_of_density(law):
    x = law.ppf(np.linspace(max(atom(law), 0.0), 1, 40)[2:-2])
    step = 1e-4 * (x[-1] - x[0])
    # Five-point rule: error of fourth order.
    points = law.cdf(x[:, None] + step * np.array([-2, -1, 1, 2]))
    slope = points @ np.array([1, -8, 8, -1]) / (12 * step)
    assert slope == pytest.approx(law.pdf(x), rel=1e-5, abs=1e-7 / (x[-1] - x[0]))


def test_ppf_inverts_cdf(law):
    p = np.concatenate([[1e-6, 1e-4], np.linspace(0.01, 0.99, 99), [1 - 1e-4, 1 - 1e-6]])
    expected = np.maximum(p, atom(law))
    assert law.cdf(law.ppf(p)) == pytest.approx(expected, abs=1e-12)
    assert np.all(np.diff(law.ppf(p)) >= 0)
    assert np.isnan(law.ppf([-0.1, 1.1, np.nan])).all()


def test_cdf_is_a_probability(law):
    x = np.linspace(-100, 100, 4001)
    cdf = law.cdf(x)
    assert cdf[0] == 0.0 and cdf[-1] == 1.0
    assert np.all(np.diff(cdf) >= 0)
    assert np.all(law.pdf(x[x != 0.0]) >= 0)


def test_draws_follow_the_law(law):
    x = law.rvs(20_000, np.random.default_rng(1))
    if atom(law):
        share = np.mean(x == 0.0)
        assert abs(share - law.atom) < 5 * np.sqrt(law.atom * (1 - law.atom) / x.size)
        x = x[x > 0.0]
    cdf = lambda value: (law.cdf(value) - atom(law)) / (1 - atom(law))  # noqa: E731
    assert stats.kstest(x, cdf).pvalue > FALSE_ALARM


def test_shapes_and_generator(law):
    rng = np.random.default_rng(2)
    assert law.rvs((3, 4), rng).shape == (3, 4)
    assert np.shape(law.pdf(0.7)) == np.shape(law.cdf(0.7)) == np.shape(law.ppf(0.7)) == ()
    again = law.rvs((3, 4), np.random.default_rng(2))
    assert np.array_equal(law.rvs((3, 4), np.random.default_rng(2)), again)


@pytest.mark.parametrize(
    ("dyson_index", "formula"),
    [
        (1, lambda s: np.pi / 2 * s * np.exp(-np.pi * s**2 / 4)),
        (2, lambda s: 32 / np.pi**2 * s**2 * np.exp(-4 * s**2 / np.pi)),
        (4, lambda s: 2**18 / (3**6 * np.pi**3) * s**4 * np.exp(-64 * s**2 / (9 * np.pi))),
    ],
)
def test_wigner_surmise_closed_forms(dyson_index, formula):
    s = np.linspace(0, 4, 81)
    assert WignerSurmise(dyson_index).pdf(s) == pytest.approx(formula(s), abs=1e-13)
    mean = integrate.quad(lambda t: t * WignerSurmise(dyson_index).pdf(t), 0, np.inf)[0]
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_two_levels_by_integrating_the_other_out():
    u = np.linspace(-5, 5, 21)
    for dyson_index in (0.5, 1.0, 2.0, 3.0, 4.0):

        def joint(y, x, beta=dyson_index):
            return abs(x - y) ** beta * np.exp(-(x**2 + y**2) / 2)

        inner = np.array(
            [
                integrate.quad(joint, -np.inf, x, args=(x,))[0]
                + integrate.quad(joint, x, np.inf, args=(x,))[0]
                for x in u
            ]
        )
        ratio = inner / BlockDensity(2, dyson_index=dyson_index).pdf(u)
        assert ratio == pytest.approx(ratio.mean(), rel=1e-6)


@pytest.mark.parametrize("dyson_index", [1.0, 2.0, 4.0])
def test_three_levels_by_quadrature_and_by_hermite_functions(dyson_index):
    u = np.linspace(-8, 8, 65)
    # Just off the index the general quadrature takes over.
    general = BlockDensity(3, dyson_index=dyson_index + 1e-9).pdf(u)
    assert general == pytest.approx(BlockDensity(3, dyson_index=dyson_index).pdf(u), abs=1e-8)


@pytest.mark.parametrize("dyson_index", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 16, 64])
def test_block_variance_is_that_of_the_gas(levels, dyson_index):
    density = BlockDensity(levels, 0.0, 1.0, dyson_index)
    x = np.linspace(*density.standard_table().support, 20_001)
    variance = integrate.trapezoid(x**2 * density.pdf(x), x)
    assert variance == pytest.approx(1 + dyson_index * (levels - 1) / 2, rel=1e-9)


@pytest.mark.parametrize("dyson_index", [1.0, 2.0, 4.0])
def test_many_levels_fill_the_semicircle(dyson_index):
    distance = {}
    for levels in (16, 64):
        law = Semicircle.of_block(levels, 0.5, 0.2, dyson_index)
        x = np.linspace(0.5 - 1.2 * law.radius, 0.5 + 1.2 * law.radius, 2001)
        block = BlockDensity(levels, 0.5, 0.2, dyson_index)
        distance[levels] = np.max(np.abs(block.cdf(x) - law.cdf(x)))
    # The counting function differs by less than half of a level.
    assert distance[64] < 0.5 / 64
    assert distance[64] < 0.4 * distance[16]


def test_semicircle_radius():
    assert Semicircle.of_block(8, 0.0, 0.5).radius == pytest.approx(0.5 * np.sqrt(16))


@pytest.mark.parametrize("aspect_ratio", [1e-3, 0.3, 1.0, 1.000001, 3.0, 50.0])
def test_marchenko_pastur_moments(aspect_ratio):
    law = MarchenkoPastur(aspect_ratio, 2.0)
    lower, upper = law.support
    theta = np.linspace(0, np.pi, 40_001)[1:-1]
    x = (lower + upper) / 2 + (upper - lower) / 2 * np.cos(theta)
    weight = law.pdf(x) * (upper - lower) / 2 * np.sin(theta)
    moments = [integrate.trapezoid(weight * x**k, theta) for k in range(3)]
    # <x> = v and <x^2> = v^2 (1 + q), whatever the atom.
    assert moments[1:] == pytest.approx([2.0, 4.0 * (1 + aspect_ratio)], rel=1e-6)
    assert moments[0] + law.atom == pytest.approx(1.0, abs=1e-3)
    assert law.cdf([upper, upper + 1]) == pytest.approx([1.0, 1.0])
    # At zero itself the cdf steps by the atom.
    assert law.cdf([-1e-9, 0.0]) == pytest.approx([0.0, law.atom], abs=1e-12)


def test_marchenko_pastur_of_a_matrix():
    rows, columns = 60, 150
    w = 0.3 * np.random.default_rng(3).standard_normal((40, rows, columns))
    x = np.linalg.eigvalsh(w.transpose(0, 2, 1) @ w)
    law = MarchenkoPastur.of_matrix(rows, columns, 0.3)
    assert law.support == pytest.approx(
        (0.09 * (60**0.5 - 150**0.5) ** 2, 0.09 * (60**0.5 + 150**0.5) ** 2)
    )
    assert np.mean(x < 1e-9) == pytest.approx(law.atom)
    grid = np.linspace(0.1, 50, 200)
    empirical = np.searchsorted(np.sort(x.ravel()), grid) / x.size
    assert empirical == pytest.approx(law.cdf(grid), abs=0.01)


def test_tracy_widom_moments():
    x = np.linspace(-9, 16, 100_001)
    pdf = TracyWidom().pdf(x)
    mean = integrate.trapezoid(x * pdf, x)
    variance = integrate.trapezoid((x - mean) ** 2 * pdf, x)
    skewness = integrate.trapezoid((x - mean) ** 3 * pdf, x) / variance**1.5
    assert mean == pytest.approx(-1.2065335745820, abs=1e-11)
    assert variance == pytest.approx(1.607781034581, abs=1e-11)
    assert skewness == pytest.approx(0.29346452408, abs=1e-9)


def test_tracy_widom_of_wishart_matrices():
    rows, columns = 80, 40
    w = 0.5 * np.random.default_rng(4).standard_normal((4000, rows, columns))
    largest = np.linalg.eigvalsh(w.transpose(0, 2, 1) @ w)[:, -1]
    law = TracyWidom.of_largest_eigenvalue(rows, columns, 0.5)
    assert stats.kstest(largest, law.cdf).pvalue > FALSE_ALARM


SCIPY = {
    "gaussian": (Gaussian(1.5, 0.3), stats.norm(1.5, 0.3)),
    **{
        f"surmise {beta}": (
            WignerSurmise(beta),
            stats.chi(beta + 1, scale=1 / stats.chi.mean(beta + 1)),
        )
        for beta in (1, 2, 4)
    },
    "semicircle": (Semicircle(-2.0, 1.5), stats.semicircular(-2.0, 1.5)),
    "block 1": (BlockDensity(1, 1.0, 0.25), stats.norm(1.0, 0.25)),
}


@pytest.mark.parametrize(("law", "expected"), SCIPY.values(), ids=SCIPY.keys())
def test_elementary_laws_are_those_of_scipy_bit_for_bit(law, expected):
    rng = np.random.default_rng(5)
    x = np.concatenate([[0.0, np.nan, 1e-300, 1e100, -1e100], rng.normal(0.0, 3.0, 20_000)])
    x = np.concatenate([x, np.linspace(-12.0, 12.0, 20_001)])
    assert np.array_equal(law.pdf(x), expected.pdf(x), equal_nan=True)
    if isinstance(law, BlockDensity):
        return  # Its other two functions come from a spline.
    x = np.concatenate([x, [np.inf, -np.inf]])
    p = np.concatenate([[-0.1, 0.0, 1e-300, 1.0, 1.1, np.nan], rng.random(20_000)])
    assert np.array_equal(law.cdf(x), expected.cdf(x), equal_nan=True)
    assert np.array_equal(law.ppf(p), expected.ppf(p), equal_nan=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0, 0.0), "sigma"),
        (lambda: Semicircle(0.0, -1.0), "radius"),
        (lambda: WignerSurmise(3), "1, 2 or 4"),
        (lambda: BlockDensity(0), "levels"),
        (lambda: BlockDensity(1000), "levels"),
        (lambda: BlockDensity(4, dyson_index=1.5), "more than three levels"),
        (lambda: BlockDensity(2, sigma=float("nan")), "sigma"),
        (lambda: MarchenkoPastur(0.0), "aspect_ratio"),
        (lambda: TracyWidom(0.0, 0.0), "scale"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
