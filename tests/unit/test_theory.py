"""Predictions without a free parameter: limits, independent calculations, simulation."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dysonflow import models, theory
from dysonflow.analysis import fits, scaling
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.models import hyperparameters_of, load
from dysonflow.models.gaussian_rbm import precision_matrix
from dysonflow.models.teacher_student import shared_covariances, teacher
from dysonflow.simulation import ensemble
from dysonflow.statistics import coulomb_gas, goodness
from dysonflow.statistics.estimators import fit_block
from dysonflow.theory import tails
from dysonflow.theory.base import Theory
from dysonflow.theory.blocks import integrate
from dysonflow.theory.gaussian_rbm import matrix
from dysonflow.theory.gaussian_rbm import predictions as gaussian_rbm
from dysonflow.theory.gaussian_rbm.matrix import Machine, linear_noise, moments
from dysonflow.theory.teacher_student import moments as student_moments
from dysonflow.theory.teacher_student import predictions as teacher_student
from dysonflow.theory.teacher_student.tails import fourth_moment_ratio

FIVE_SIGMA = 5.0
RBM = hyperparameters_of("gaussian_rbm")
STUDENT = hyperparameters_of("teacher_student")


def trained(run):
    return ensemble.train_in_memory(load(run.MODEL).simulation, run, log=io.StringIO()).weights


def levels_of(run):
    """Levels of a run that is trained here."""
    return theory.load(run.MODEL).levels(run, "W", eigenvalues(trained(run)))


def over_replicas(samples):
    """Mean and standard error of samples of shape (replica, snapshot, ..)."""
    means = samples.mean(axis=1)
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(len(means))


def pulls(run, levels):
    """Pulls from all that the full theory says, and from the block formula."""
    full, block_formula = [], []
    for block in theory.load(run.MODEL).blocks(run, "W"):
        if block.flag:
            continue
        fit = fit_block(levels[..., block.positions])
        for name in ("centre", "sigma", "mean_gap"):
            if block.multiplicity == 1 and name == "mean_gap":
                continue
            error = np.hypot(getattr(fit, f"{name}_error"), getattr(block, f"{name}_uncertainty"))
            full.append((getattr(fit, name) - getattr(block, name)) / error)
            block_formula.append((getattr(fit, name) - getattr(block, f"{name}_block")) / error)
        if block.multiplicity > 1:
            free = fit_block(levels[..., block.positions], dyson_index=None)
            error = np.hypot(free.dyson_index_error, block.dyson_index_uncertainty)
            full.append((free.dyson_index - block.dyson_index) / error)
        if block.multiplicity == 2:
            ratio, error = fits.gap_ratio(levels[..., block.positions])
            full.append((ratio - block.gap_ratio) / np.hypot(error, block.gap_ratio_uncertainty))
    return np.array(full), np.array(block_formula)


class TestMachine:
    """Matrix of the Gaussian machine."""

    @pytest.mark.parametrize("values", [{}, {"hidden_width": 1.5}, {"sites": 6}])
    def test_weak_noise_is_the_block_formula(self, values):
        run = RBM.from_config(
            values | {"learning_rate": 1e-4, "batch_size": 1000, "sampler": "wishart"}
        )
        for block in gaussian_rbm.blocks(run):
            assert block.centre == pytest.approx(block.centre_block, abs=1e-4)
            assert block.sigma == pytest.approx(block.sigma_block, rel=1e-3)
            if block.multiplicity == 2:
                assert block.mean_gap == pytest.approx(block.mean_gap_block, rel=1e-3)

    def test_equal_modes_are_rotation_invariant(self):
        run = RBM.from_config({"gibbs_sweeps": 2})
        found = moments(gaussian_rbm.machine(run))
        i, j = 1, 2
        # Var((y_ii - y_jj) / 2) = Var(y_ij), and the third cumulants only know kappa.
        c, d, t = found.variance, found.cross, found.third
        assert (c[i, i] + c[j, j] + (d[i, i] + d[j, j]) / 2 - d[i, j]) / 2 == pytest.approx(c[i, j])
        assert t[i, i, i] == pytest.approx(t[i, j, j])
        assert t[i, i, 0] == pytest.approx(t[i, j, 0])

    @pytest.mark.parametrize("sweeps", [0, 1, 3])
    def test_two_derivations_of_the_first_order_agree(self, sweeps):
        # Cumulants through every sweep, against the closed recursion of each matrix element.
        base = gaussian_rbm.machine(RBM.from_config({}))
        weak = 1e9
        machine = Machine(base.kappa, base.fixed, base.mass, 0.3, int(weak), sweeps)
        first, both = linear_noise(machine), moments(machine)
        np.testing.assert_allclose(both.variance, first.variance, rtol=1e-6)
        np.testing.assert_allclose(both.mean, first.mean, rtol=1e-6)

    def test_one_mode_against_its_exact_stationary_law(self):
        # x' = x (1 + a / kappa - a c)^2, c a chi-squared variable of B degrees over B lambda: the
        # law of log x by iterating the transition density on a grid.
        kappa, mass, rate = 8.0, 9.0, 0.2
        grid = np.linspace(np.log(0.2), np.log(3.5), 900)
        x = np.exp(grid)
        misses = []
        for batch in (40, 20):
            growth = np.exp((grid[None, :] - grid[:, None]) / 2)
            draw = (1 + rate / kappa - growth) / rate
            law = stats.gamma(batch / 2, scale=2 / (batch * (mass - x))[:, None])
            step = law.pdf(draw) * growth / (2 * rate) * (grid[1] - grid[0])
            step /= step.sum(axis=1, keepdims=True)
            for _ in range(13):
                step = step @ step
            weight = step[450] / step[450].sum()
            y = x - (mass - kappa)
            mean = weight @ y
            variance, third = weight @ (y - mean) ** 2, weight @ (y - mean) ** 3
            machine = Machine(np.array([kappa]), np.array([1.0]), mass, rate, batch, 0)
            first, found = linear_noise(machine), moments(machine)
            known = 2 * found.variance[0, 0] + found.cross[0, 0]
            misses.append([mean - found.mean[0], variance - known])
            assert third == pytest.approx(8 * found.third[0, 0, 0], rel=0.02)
            assert abs(misses[-1][1]) < 0.05 * abs(variance - 2 * first.variance[0, 0])
            assert abs(misses[-1][0]) < 0.2 * abs(mean - first.mean[0])
        # What is left is of order 1/B^3.
        order = np.log2(np.array(misses[1]) / np.array(misses[0]))
        np.testing.assert_allclose(order, 3.0, atol=0.3)

    @pytest.mark.parametrize("sampler", ["wishart", "gibbs"])
    def test_moments_of_the_matrix_against_simulation(self, sampler):
        # Strong noise and a single sweep, so that the second order is many errors large.
        run = RBM.from_config(
            {"sites": 3, "learning_rate": 0.1, "batch_size": 5, "gibbs_sweeps": 1}
            | {"sampler": sampler, "replicas": 192, "snapshots": 30}
        )
        _, basis = np.linalg.eigh(precision_matrix(run))
        weights = trained(run)
        matrix = basis.T @ (weights.swapaxes(-1, -2) @ weights) @ basis
        machine = gaussian_rbm.machine(run)
        first, found = linear_noise(machine), moments(machine)
        y = matrix - np.diag(machine.fixed)
        diagonal = np.eye(3, dtype=bool)
        mean, error = over_replicas(y)
        assert (np.abs(mean - np.diag(found.mean)) < FIVE_SIGMA * error).all()
        h = y - mean
        measured, error = over_replicas(h**2)
        variance = np.where(diagonal, 2 * found.variance + found.cross, found.variance)
        assert (np.abs(measured - variance) < FIVE_SIGMA * error).all()
        # All entries together, each in units of its first-order value.
        unit = np.where(diagonal, 2 * first.variance, first.variance)
        ratio, error = over_replicas((h**2 / unit).mean(axis=(2, 3)))
        assert abs(ratio - (variance / unit).mean()) < FIVE_SIGMA * error
        third, error = over_replicas(h[..., 0, 1] * h[..., 1, 2] * h[..., 2, 0])
        assert abs(third - found.third[0, 1, 2]) < FIVE_SIGMA * error
        assert third > FIVE_SIGMA * error
        if sampler == "wishart":
            assert abs(ratio - 1) > FIVE_SIGMA * error

    def test_levels_against_simulation(self):
        # The noise of a = 0.1, B = 16 at half the number of steps.
        run = RBM.from_config(
            {"learning_rate": 0.2, "batch_size": 32, "sampler": "wishart"}
            | {"replicas": 64, "snapshots": 12}
        )
        full, block_formula = pulls(run, levels_of(run))
        assert (np.abs(full) < FIVE_SIGMA).all()
        assert (full**2).mean() < 2.5
        assert (np.abs(block_formula) > FIVE_SIGMA).sum() > 5

    @pytest.mark.parametrize("values", [{"rbm_mass_squared": 7.0}, {"hidden_units": 2}])
    def test_levels_of_partly_learnt_fields_against_simulation(self, values):
        # kappa = 4 6 6 8: the second machine has one hidden unit for the pair, which turns freely.
        run = RBM.from_config(
            {"learning_rate": 0.2, "batch_size": 32, "sampler": "wishart", "sites": 4}
            | {"replicas": 192, "snapshots": 6}
            | values
        )
        full, block_formula = pulls(run, levels_of(run))
        assert (np.abs(full) < FIVE_SIGMA).all()
        assert (np.abs(block_formula) > FIVE_SIGMA).any()

    def test_drawn_matrices_have_the_moments(self):
        machine = gaussian_rbm.machine(RBM.from_config({"sites": 3, "batch_size": 8}))
        found = moments(machine)
        drawn, _, _ = matrix.draw(machine, found, 200_000, np.random.default_rng(1))
        y = drawn.reshape(-1, 3, 3) - np.diag(machine.fixed)
        h = y - np.diag(found.mean)
        count = np.sqrt(len(y) / 2)
        assert (np.abs(h.mean(axis=0)) < FIVE_SIGMA * h.std(axis=0) / count).all()
        expected = np.where(np.eye(3, dtype=bool), 2 * found.variance + found.cross, found.variance)
        np.testing.assert_allclose((h**2).mean(axis=0), expected, rtol=0.015)
        third = (h[:, 0, 1] * h[:, 1, 2] * h[:, 2, 0]).mean()
        assert third == pytest.approx(found.third[0, 1, 2], rel=0.05)
        assert (h[:, 2, 2] ** 3).mean() == pytest.approx(8 * found.third[2, 2, 2], rel=0.05)

    def test_sampled_levels_have_the_predicted_centres(self):
        run = RBM.from_config({"sites": 4})
        levels = gaussian_rbm.sample_levels(run, 20_000, np.random.default_rng(2))
        assert (np.diff(levels, axis=1) >= 0).all()
        for block in gaussian_rbm.blocks(run):
            drawn = levels[:, block.positions].mean(axis=1)
            assert abs(drawn.mean() - block.centre) < FIVE_SIGMA * drawn.std() / np.sqrt(20_000)

    def test_predictions_are_reproducible_and_not_of_the_seed(self):
        first = gaussian_rbm.blocks(RBM.from_config({"sites": 4, "seed": 1}))
        gaussian_rbm._predictions.cache_clear()
        again = gaussian_rbm.blocks(RBM.from_config({"sites": 4, "seed": 2}))
        assert [block.sigma for block in again] == [block.sigma for block in first]
        assert [block.centre for block in again] == [block.centre for block in first]


class TestStudent:
    """Linear teacher-student model."""

    def test_small_step_is_the_block_formula(self):
        for data in ("fresh", "shared"):
            run = STUDENT.from_config(
                {"learning_rate": 1e-3, "batch_size": 4096, "data": data, "snapshots": 2}
            )
            (block,) = teacher_student.blocks(run)
            assert block.sigma == pytest.approx(block.sigma_block, rel=3e-3)
            assert block.mean_gap == pytest.approx(block.mean_gap_block, rel=3e-3)

    @pytest.mark.parametrize(
        "values",
        [
            {"learning_rate": 0.5, "batch_size": 4, "replicas": 6000},
            {"learning_rate": 0.5, "batch_size": 4, "data": "shared", "replicas": 6000},
            {"batch_size": 4, "data": "shared", "training_batches": 7, "replicas": 3000},
            {"size": 4, "teacher_spectrum": [1, 1, 1.5, 1.5], "data": "shared"}
            | {"learning_rate": 0.3, "batch_size": 8, "replicas": 3000},
        ],
    )
    def test_levels_against_simulation(self, values):
        run = STUDENT.from_config({"snapshots": 6, "teacher_spectrum": 2.0} | values)
        full, formula = pulls(run, levels_of(run))
        assert (np.abs(full) < FIVE_SIGMA).all()
        assert (np.abs(formula) > FIVE_SIGMA).any()

    def test_shared_moments_are_the_sum_over_the_past(self):
        run = STUDENT.from_config(
            {"size": 3, "data": "shared", "batch_size": 2, "training_batches": 5}
            | {"learning_rate": 0.3, "burn_in": 150, "steps": 153, "snapshots": 2}
        )
        u, v = student_moments.conditional_moments(run)
        kick = (run.learning_rate * run.noise_scale) ** 2 / run.batch_size
        factors = np.eye(3) - run.learning_rate * shared_covariances(run)
        for k, time in enumerate(run.snapshot_steps):
            ahead, by_u, by_v = np.eye(3), np.zeros((3, 3)), np.zeros((3,) * 4)
            for step in range(time - 1, -1, -1):
                by_u += kick * ahead.T @ ahead
                by_v += kick * np.einsum("ja,ib->jaib", ahead, ahead)
                ahead = factors[step % run.training_batches] @ ahead
            np.testing.assert_allclose(u[k], by_u, rtol=1e-6)
            np.testing.assert_allclose(v[k], by_v, rtol=1e-5, atol=1e-12)

    def test_tails_grow_with_the_step(self):
        # Gaussian for a small step, heavier tails for a large one.
        ratios = [
            fourth_moment_ratio(STUDENT.from_config({"learning_rate": rate, "batch_size": 4}))
            for rate in (0.001, 0.2, 0.5)
        ]
        assert ratios[0] == pytest.approx(1, abs=1e-3)
        assert 1 < ratios[1] < ratios[2]

    def test_fourth_moment_against_simulation(self):
        run = STUDENT.from_config(
            {"learning_rate": 0.5, "batch_size": 4, "replicas": 20_000, "snapshots": 8}
        )
        levels = np.sqrt(eigenvalues(trained(run)))
        gap = levels[..., 1] - levels[..., 0]
        second, fourth = (gap**2).mean(axis=1), (gap**4).mean(axis=1)
        ratio = fourth.mean() / (2 * second.mean() ** 2)
        linear = fourth / fourth.mean() - 2 * second / second.mean()
        error = ratio * linear.std() / np.sqrt(len(gap))
        predicted = fourth_moment_ratio(run)
        assert abs(ratio - predicted) < FIVE_SIGMA * error
        assert predicted - 1 > FIVE_SIGMA * error
        # The same tails and the common shift show in the Dyson index and in <S> / sigma.
        (block,) = teacher_student.blocks(run)
        fit, (ratio, error) = fit_block(levels, dyson_index=None), fits.gap_ratio(levels)
        assert block.dyson_index < 1 - FIVE_SIGMA * fit.dyson_index_error
        assert abs(fit.dyson_index - block.dyson_index) < FIVE_SIGMA * fit.dyson_index_error
        assert block.gap_ratio < 1 - FIVE_SIGMA * error
        assert abs(ratio - block.gap_ratio) < FIVE_SIGMA * error
        # To first order, from p, q, r and K alone.
        p, q, r = student_moments.stationary_moments(run)
        common = r / (3 * (p + q))
        slope = ((predicted - 1) / 4 + common) / (np.pi**2 / 24 - 1 / 6)
        assert block.dyson_index == pytest.approx(1 - slope, abs=slope**2)
        assert block.gap_ratio == pytest.approx(
            (1 - (predicted - 1) / 8) / np.sqrt(1 + 2 * common), abs=1e-12
        )

    def test_tails_of_larger_blocks_against_simulation(self):
        # Five equal levels, and three of them in a larger matrix.
        for values, beta in (({"teacher_spectrum": 2.0}, 0.934), ({}, None)):
            run = STUDENT.from_config(
                {"size": 5, "teacher_spectrum": [1, 1, 1, 2, 2]}
                | {"learning_rate": 0.3, "batch_size": 8, "replicas": 4000, "snapshots": 4}
                | values
            )
            levels = np.sqrt(eigenvalues(trained(run)))
            for block in teacher_student.blocks(run):
                fit = fit_block(levels[..., block.positions], dyson_index=None)
                pull = (fit.dyson_index - block.dyson_index) / fit.dyson_index_error
                assert abs(pull) < FIVE_SIGMA
                pull = (fit.mean_gap - block.mean_gap) / fit.mean_gap_error
                assert abs(pull) < FIVE_SIGMA
                if beta:
                    assert block.dyson_index == pytest.approx(beta, abs=1e-3)
                    assert block.dyson_index < 1 - FIVE_SIGMA * fit.dyson_index_error

    def test_shift_of_singular_values_is_that_of_second_order(self):
        # Against singular values of the teacher with a small matrix added.
        spectrum = np.array([1.0, 1.0, 1.3])
        rng = np.random.default_rng(1)
        scale = 0.01
        drawn = scale * rng.normal(size=(200_000, 3, 3))
        drawn = np.concatenate([drawn, -drawn])
        levels = np.linalg.svd(np.diag(spectrum) + drawn, compute_uv=False)[:, ::-1]
        half = np.full((3, 3), scale**2 / 2)
        shift = teacher_student._mean_shift(spectrum, half, half)
        for block in (slice(0, 2), slice(2, 3)):
            mean = levels[:, block].mean(axis=1).reshape(2, -1).mean(axis=0)
            error = mean.std() / np.sqrt(len(mean))
            expected = spectrum[block].mean() + shift[block].mean()
            # The next order is (0.01 / 0.3)^2 of the shift.
            assert abs(mean.mean() - expected) < FIVE_SIGMA * error + 0.02 * np.abs(shift).max()

    def test_squares_of_the_parts_of_a_matrix(self):
        drawn = np.random.default_rng(5).normal(size=(50, 3, 3)) * [[1, 2, 3], [4, 5, 6], [1, 1, 2]]
        moments = np.einsum("kia,kjb->iajb", drawn, drawn) / len(drawn)
        found = teacher_student._squares_of_parts(moments)
        for sign, square in zip((1, -1), found, strict=True):
            part = (drawn + sign * drawn.transpose(0, 2, 1)) / 2
            np.testing.assert_allclose(square, (part**2).mean(axis=0), atol=1e-12)

    def test_the_teacher_has_its_spectrum(self):
        run = STUDENT.from_config({"size": 3, "teacher_spectrum": [1, 2, 3]})
        np.testing.assert_allclose(np.linalg.eigvalsh(teacher(run)), [1, 2, 3])


class TestTails:
    """First order in the fourth cumulants of a block."""

    @pytest.mark.parametrize("levels", [2, 3, 5])
    def test_means_of_the_ensemble_are_those_of_simulated_blocks(self, levels):
        x = coulomb_gas.sample(levels, 1.0, 100_000, np.random.default_rng(levels))
        y = x - x.mean(axis=1, keepdims=True)
        square, quartic = (y**2).sum(axis=1), (y**4).sum(axis=1)
        freedom, mean = levels * (levels + 1) / 2 - 1, tails.traceless_quartic(levels)
        first = square**2 - freedom * (freedom + 2) - 2 * (freedom + 2) * (square - freedom)
        second = quartic - mean - 2 * mean / freedom * (square - freedom)
        repulsion = coulomb_gas.log_vandermonde(x)
        repulsion = repulsion - repulsion.mean()
        gram = tails._gram(levels)
        expected = -levels * (levels - 1) * np.array([1.0, 0.5])
        for samples, value in (
            (quartic, mean),
            (first * first, gram[0, 0]),
            (first * second, gram[0, 1]),
            (second * second, gram[1, 1]),
            (repulsion * first, expected[0]),
            (repulsion * second, expected[1]),
            ((x[:, -1] - x[:, 0]) * first, -(x[:, -1] - x[:, 0]).mean()),
        ):
            error = samples.std() / np.sqrt(len(x))
            assert abs(samples.mean() - value) < FIVE_SIGMA * error
        # What the mean of log V shifts by is exact for a mixture of widths, to first order.
        shift = tails.repulsion_shift(levels, (1e-3 * freedom * (freedom + 2), 1e-3 * mean))
        assert shift == pytest.approx(-1e-3 * levels * (levels - 1) / 8, rel=1e-9)

    def test_the_law_of_a_gap_with_an_excess(self):
        s = np.linspace(0, 12, 120_001)
        for excess in (0.0, 0.03, -0.02):
            density = np.gradient(goodness.surmise_with_excess(s, excess), s)
            moments = [np.trapezoid(density * s**k, s) for k in range(5)]
            assert moments[0] == pytest.approx(1, abs=1e-6)
            assert moments[1] == pytest.approx(1, abs=excess**2 + 1e-6)
            assert moments[4] / (2 * moments[2] ** 2) - 1 == pytest.approx(excess, abs=1e-4)


class TestRange:
    """A theory says where it ends."""

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({}, ""),
            ({"learning_rate": 0.5, "batch_size": 4}, ""),
            ({"learning_rate": 0.5, "batch_size": 2}, "fourth moments are 1.59 times"),
            ({"learning_rate": 0.75, "batch_size": 2}, "fourth moments are inf times"),
            ({"learning_rate": 0.9, "batch_size": 4}, "fourth moments"),
            ({"teacher_spectrum": [1, 1.002]}, "other levels are too near"),
            ({"teacher_spectrum": [1, 1.1]}, ""),
            ({"teacher_spectrum": [0.01, 0.01]}, "too near zero"),
            ({"size": 13, "data": "shared"}, "theory for fresh inputs stands in"),
        ],
    )
    def test_of_the_student(self, values, words):
        for block in teacher_student.blocks(STUDENT.from_config(values)):
            assert (words in block.beyond) if words else not block.beyond

    @pytest.mark.parametrize(
        ("values", "inside"),
        [
            ({"batch_size": 8}, True),
            ({"batch_size": 4}, False),
            # The noise is that of a sigma_h^2 / B.
            ({"batch_size": 8, "hidden_width": 1.3}, False),
            ({"batch_size": 14, "hidden_width": 1.3}, True),
            # More modes repel each mode more, and a mode near x = 0 fluctuates more.
            ({"sites": 32}, False),
            ({"rbm_mass_squared": 8.1}, False),
            ({"hidden_units": 4, "batch_size": 4}, False),
            ({"hidden_units": 4, "batch_size": 256}, True),
            ({"sites": 65}, False),
        ],
    )
    def test_of_the_machine(self, values, inside):
        run = RBM.from_config({"sampler": "wishart"} | values)
        for block in gaussian_rbm.blocks(run):
            assert block.flag or (block.beyond == "") == inside

    def test_beyond_it_there_are_no_pulls_and_no_laws(self):
        tables = []
        for batch_size in (2, 16):
            run = STUDENT.from_config({"learning_rate": 0.5, "batch_size": batch_size})
            (block,) = teacher_student.blocks(run)
            drawn = coulomb_gas.sample(2, 1.0, 64 * 8, np.random.default_rng(3), 2.0, block.sigma)
            columns = fits.fit_run(run, "W", drawn.reshape(64, 8, 2) ** 2)
            tables.append(pd.DataFrame({k: v.to_pylist() for k, v in columns.items()}))
            row = tables[-1].iloc[0]
            assert row["sigma"] == pytest.approx(row["sigma_theory"], rel=0.2)
            pulls = row[[f"pull_{name}" for name in fits.QUANTITIES]]
            if batch_size == 2:
                assert row["flag"] == f"beyond the theory: {row['beyond_theory']}"
                assert pulls.isna().all()
            else:
                assert row["flag"] == row["beyond_theory"] == ""
                assert pulls.notna().all()
        rows = scaling.scaling_laws("s", pd.concat(tables), 1.0, list(STUDENT.model_fields))
        assert rows[0]["points"] == 1


def test_errors_of_a_monte_carlo_integral_cover_also_with_many_controls():
    rng = np.random.default_rng(4)
    pulls = []
    for _ in range(400):
        controls = rng.standard_normal((80, 20))
        # The scatter grows with a control.
        scatter = np.exp(0.5 * controls[:, :1]) * rng.standard_normal((80, 1))
        mean, covariance = integrate(1.0 + controls[:, :3].sum(axis=1)[:, None] + scatter, controls)
        pulls.append((mean[0] - 1.0) / np.sqrt(covariance[0, 0]))
    # 400 pulls: their mean is known to 1/20, five errors of the variance are 0.35.
    assert abs(np.mean(pulls)) < FIVE_SIGMA / 20
    assert 0.65 - 0.2 < np.var(pulls) < 1.35


def test_fits_carry_both_theories_and_pulls():
    run = STUDENT.from_config({"learning_rate": 0.5, "replicas": 64})
    (block,) = teacher_student.blocks(run)
    drawn = coulomb_gas.sample(2, 1.0, 64 * 8, np.random.default_rng(3), block.centre, block.sigma)
    columns = fits.fit_run(run, "W", drawn.reshape(64, 8, 2) ** 2)
    row = {name: column.to_pylist()[0] for name, column in columns.items()}
    for short, name in fits.QUANTITIES.items():
        assert row[f"{name}_theory"] == getattr(block, name)
        if name in ("centre", "sigma", "mean_gap"):
            assert row[f"{name}_block_formula"] == getattr(block, f"{name}_block")
        assert row[f"{name}_theory_error"] == getattr(block, f"{name}_uncertainty")
        error = np.hypot(row[f"{name}_error"], row[f"{name}_theory_error"])
        expected = (row[name] - getattr(block, name)) / error
        # As a normal number: 64 replicas, and the logarithm of what is a scale.
        assert row[f"pull_{short}"] == pytest.approx(expected, rel=0.1, abs=0.01)


def test_blocks_without_estimates_have_no_pulls():
    run = STUDENT.from_config({"replicas": 4})
    drawn = np.random.default_rng(4).normal(2, 0.1, (4, 8, 2))
    columns = fits.fit_run(run, "W", np.sort(drawn, axis=-1) ** 2)
    assert columns["pull_sigma"].to_pylist() == [None]
    assert columns["sigma_block_formula"].to_pylist() != [None]


def test_every_theory_is_one_of_a_model():
    for name in theory.names():
        assert name in models.names()
        assert isinstance(theory.load(name), Theory)
    known = {"checkpoints", "dyson", "gaussian_rbm", "mlp", "teacher_student"}
    assert set(theory.names()) == known


def test_what_a_theory_need_not_say():
    physics = theory.load("checkpoints")
    assert physics.pair_plane(None, "W", 0) is None
    assert physics.noise_free(None, "W", None, None) is None
    assert physics.centre_symbol == r"\kappa"
