"""Theory of linear networks against a plain simulation: stationary law, flat directions, gas."""

import math
from dataclasses import replace

import numpy as np
import pytest

import dysonflow
from dysonflow import theory
from dysonflow.analysis.gas_or_matrix import MeasuredSpectrum
from dysonflow.errors import ConfigError
from dysonflow.models import hyperparameters_of
from dysonflow.models.mlp import teacher_map, teacher_weights
from dysonflow.planning.studies import load_studies
from dysonflow.simulation.linear_students import LinearStudents, imbalance, product
from dysonflow.statistics.goodness import surmise_p_value
from dysonflow.theory.mlp import draws, flat, predictions, skewness
from dysonflow.theory.mlp.linear import LinearNetwork, contraction

FIVE_SIGMA = 5.0
FALSE_ALARM = 5.7e-7
"""Probability of five sigma."""
MLP = hyperparameters_of("mlp")
NETWORKS = {
    "one layer": LinearNetwork((1.0, 1.0, 2.0), 4, 3, 1, 0.1, 4, 0.5),
    "two layers": LinearNetwork((0.7, 0.7, 1.5), 3, 3, 2, 0.02, 4, 0.4),
    "two layers, wide outputs": LinearNetwork((1.0, 1.0), 2, 4, 2, 0.02, 4, 0.4),
    "three layers": LinearNetwork((1.0, 1.0, 2.0), 3, 3, 3, 0.01, 4, 0.4),
    "three layers, by the flow": LinearNetwork(
        (1.0, 2.0), 2, 3, 3, 0.01, 4, 0.4, balanced_by="flow"
    ),
}


def run_of(**values):
    return MLP.from_config(
        {
            "widths": [3, 3, 3],
            "activation": "linear",
            "bias": False,
            "loss": "squared_error",
            "data": "teacher",
            "teacher_singular_values": [0.7, 0.7, 1.5],
            "label_noise": 0.4,
            "learning_rate": 0.02,
            "batch_size": 4,
            "initialisation": "normal",
            "initial_width": 0.1,
            "replicas": 64,
            "snapshots": 16,
            "burn_in": 60_000,
            "steps": 120_000,
        }
        | values
    )


def students_of(network):
    """Students of the network's teacher, diagonal."""
    teacher = np.zeros((network.outputs, network.inputs))
    np.fill_diagonal(teacher, network.singular_values)
    return LinearStudents(teacher, network.rate, network.batch, network.noise)


def stationary_products(network, seed, replicas=1000, snapshots=16):
    """Products from the point of rest, for times in which the flat directions hardly move."""
    modes = len(network.singular_values)
    slowest = network.rate * network.curvature[:modes, :modes].min()
    layers, rng = network.layers_at_rest(replicas), np.random.default_rng(seed)
    times = {"burn_in": math.ceil(4.0 / slowest), "every": math.ceil(1.5 / slowest)}
    return students_of(network).simulate(layers, rng, snapshots=snapshots, **times)[0]


class TestStationaryLaw:
    """Mean, variances and skewness of the product."""

    @pytest.mark.parametrize("name", NETWORKS)
    def test_means_and_variances_of_all_entries(self, name):
        network = NETWORKS[name]
        found = stationary_products(network, 1) - students_of(network).teacher
        expected = np.zeros(found.shape[2:])
        np.fill_diagonal(expected, network.shift)
        modes = len(network.singular_values)
        # What the theory leaves out of the mean is of relative order a h, a few percent of it.
        for power, theory_of in ((1, expected), (2, network.variance)):
            values = ((found - (power - 1) * found.mean(axis=(0, 1))) ** power).mean(axis=0)
            error = values.std(axis=0, ddof=1) / math.sqrt(values.shape[0])
            pull = (values.mean(axis=0) - theory_of)[error > 0] / error[error > 0]
            assert np.abs(pull).max() < FIVE_SIGMA
            assert (pull**2).mean() < 1.0 + FIVE_SIGMA * math.sqrt(2.0 / pull.size)
        assert (network.variance[:modes, :modes] > 0).all()

    def test_one_layer_is_known_exactly(self):
        rate, batch, n, noise = 0.3, 2, 3, 0.5
        network = LinearNetwork((1.0, 1.0, 2.0), n, n, 1, rate, batch, noise)
        exact = rate * noise**2 / (batch * (2.0 - rate) - rate * (n + 1))
        assert network.variance == pytest.approx(np.full((n, n), exact))
        assert not network.shift.any()

    def test_the_noise_of_the_nuclear_norm(self):
        # Half of t times the derivative of the least trace of the Hessian, L k(S), by S.
        for network in NETWORKS.values():
            if network.layers == 1 or network.balanced_by == "flow":
                continue
            network = replace(network, rate=1e-7)
            n = network.inputs * network.outputs
            power = 2.0 * (network.layers - 1) / network.layers
            slope = n ** (1 / network.layers) * power * network.values.sum() ** (power - 1)
            slope *= network.layers
            assert network.shift == pytest.approx(-0.5 * network.temperature * slope, rel=1e-5)

    def test_one_mode_has_a_gamma_law(self):
        network = LinearNetwork((1.3,), 1, 1, 2, 1e-7, 4, 0.4)
        t, s = network.temperature, 1.3
        assert skewness.third_cumulants(network).item() == pytest.approx(8.0 * t**2 * s)
        assert network.shift.item() == pytest.approx(-t, rel=1e-5)
        assert t * network.curvature.item() == pytest.approx(2.0 * t * s)

    @pytest.mark.parametrize("name", ["two layers", "three layers, by the flow"])
    def test_skewness(self, name):
        # Strong noise, so that it is seen, and a small step.
        network = replace(NETWORKS[name], noise=1.0)
        found = stationary_products(network, 2).reshape(16, 1000, -1)
        found = found - found.mean(axis=(0, 1))
        expected = skewness.third_cumulants(network)
        # The whole tensor by its projection on the expected one.
        each = np.einsum("tra,trb,trc,abc->r", found, found, found, expected, optimize=True) / 16
        scale = (expected**2).sum()
        slope, error = each.mean() / scale, each.std(ddof=1) / math.sqrt(len(each)) / scale
        assert error < 0.2
        # Relative corrections are of order a h.
        assert abs(slope - 1.0) < FIVE_SIGMA * error

    def test_draws_have_the_moments_of_the_law(self):
        network = replace(NETWORKS["two layers"], noise=1.0)
        drawn, _ = draws._products(network, 20_000, np.random.default_rng(3))
        pairs = drawn.mean(axis=0).reshape(len(drawn[0]), -1)
        mean = (students_of(network).teacher + np.diag(network.shift)).ravel()
        error = np.maximum(pairs.std(axis=0) / math.sqrt(len(pairs)), 1e-15)
        assert np.abs((pairs.mean(axis=0) - mean) / error).max() < FIVE_SIGMA
        flat_draws = drawn.reshape(-1, 9) - mean
        assert (flat_draws**2).mean(axis=0) == pytest.approx(network.variance.ravel(), rel=0.05)
        third = (flat_draws**3).mean(axis=0)
        # The map is right to leading order in t / s.
        expected = np.einsum("iii->i", skewness.third_cumulants(network))
        assert third[[0, 4, 8]] == pytest.approx(expected[[0, 4, 8]], rel=0.25)

    @pytest.mark.parametrize("momentum", [0.0, 0.8])
    def test_momentum_to_leading_order(self, momentum):
        network = replace(NETWORKS["two layers"], momentum=momentum, rate=1e-6)
        t = 1e-6 * 0.4**2 / (2 * 4 * (1 - momentum))
        assert network.variance == pytest.approx(t * network.curvature, rel=1e-4)
        rate = network.relaxation_rate(2.0)
        assert rate == pytest.approx(1e-6 * 2.0 / (1 - momentum), rel=1e-4)

    def test_too_large_a_step_is_refused(self):
        with pytest.raises(ValueError, match="not < 2"):
            replace(NETWORKS["two layers"], rate=1.0).variance  # noqa: B018
        assert contraction(0.5, 0.0) == pytest.approx(0.5)

    def test_learning_time(self):
        network = NETWORKS["two layers"]
        u, steps = 1e-3, 0
        while u < 0.99 * 0.7:
            u, steps = u + network.rate * 2.0 * u * (0.7 - u), steps + 1
        left = 10.0 / network.relaxation_rate(1.4)
        assert network.learning_time(1e-3) == pytest.approx(steps + left, rel=0.05)


class TestFlatDirections:
    """Imbalance and hidden basis of two layers."""

    def test_a_step_changes_the_imbalance_to_second_order_only(self):
        network = NETWORKS["two layers"]
        rng = np.random.default_rng(4)
        layers = [rng.standard_normal((5, 3, 3)) for _ in range(2)]
        students = students_of(network)
        x, noise = students.samples(5, rng)
        after = students.step(layers, x, noise)
        residual = (product(layers) - students.teacher) @ x - noise
        gradient = residual @ x.swapaxes(1, 2) / network.batch
        first, second = layers
        squares = gradient @ gradient.swapaxes(1, 2), gradient.swapaxes(1, 2) @ gradient
        expected = second.swapaxes(1, 2) @ squares[0] @ second
        expected -= first @ squares[1] @ first.swapaxes(1, 2)
        change = imbalance(after) - imbalance(layers)
        assert change == pytest.approx(network.rate**2 * expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("network", "factor"),
        [
            (LinearNetwork((0.5, 0.5, 1.0), 3, 3, 2, 0.1, 4, 0.5), 1.4),
            (LinearNetwork((1.0, 2.0), 2, 5, 2, 0.1, 4, 0.35), 1.0),
        ],
    )
    def test_the_mean_imbalance_relaxes(self, network, factor):
        replicas, rate = 400, flat.imbalance_rate(network)
        layers = replace(network, balanced_by="flow").layers_at_rest(replicas)
        layers = [layers[0] * factor, layers[1] / factor]
        every = round(0.5 / rate)
        rng = np.random.default_rng(5)
        found, _ = students_of(network).simulate(
            layers, rng, burn_in=every, every=every, snapshots=4, measure=imbalance
        )
        values = np.einsum("trii->tri", found)
        error = values.std(axis=1, ddof=1) / math.sqrt(replicas)
        start = (factor**2 - factor**-2) * network.values
        expected = flat.mean_imbalance(network, start, every * np.arange(1, 5))
        pull = (values.mean(axis=1) - expected) / error
        assert np.abs(pull).max() < FIVE_SIGMA
        # To leading order alone it would be far off.
        if factor > 1:
            leading = start * np.exp(-rate * every * np.arange(1, 5))[:, None]
            assert np.abs((values.mean(axis=1) - leading) / error).max() > 2 * FIVE_SIGMA

    def test_where_the_noise_balances_them(self):
        network = LinearNetwork((0.5, 1.0), 2, 5, 2, 1e-4, 100, 0.5)
        first, second = flat.split(network, flat.imbalance(network))
        assert 5 * first == pytest.approx(2 * second, rel=1e-3)
        assert network.layer_values**2 == pytest.approx(np.stack([first, second]), rel=1e-3)

    @pytest.mark.parametrize("sizes", [(2, 2), (2, 3)])
    def test_fluctuations_of_imbalance_and_layers(self, sizes):
        network = LinearNetwork((0.3, 0.3), *sizes, 2, 0.1, 2, 0.45)
        rate, replicas = flat.imbalance_rate(network), 500

        def measure(layers):
            values = [np.linalg.svd(w, compute_uv=False)[:, ::-1] for w in layers]
            return np.concatenate([imbalance(layers).reshape(replicas, -1), *values], axis=1)

        found, _ = students_of(network).simulate(
            network.layers_at_rest(replicas),
            np.random.default_rng(6),
            burn_in=round(2.0 / rate),
            every=round(0.5 / rate),
            snapshots=3,
            measure=measure,
        )
        of_q = found[..., :4] - found[..., :4].mean(axis=1, keepdims=True)
        total = (of_q**2).mean(axis=0).sum(axis=1)
        # From a start without any; the basis turns, which mixes the entries of a degenerate pair.
        built_up = 1.0 - math.exp(-2.0 * (2.0 + 0.5))
        expected = flat.imbalance_variance(network).sum() * built_up
        error = total.std(ddof=1) / math.sqrt(len(total))
        assert error < 0.05 * expected
        # Relative corrections are of order a h = 0.06.
        assert abs(total.mean() / expected - 1.0) < FIVE_SIGMA * error / expected + 0.06
        # Levels of each layer: their mean, and mean square distance of both from it.
        for layer in (1, 2):
            levels = found[..., 2 + 2 * layer : 4 + 2 * layer]
            drawn, _ = draws.draw_layer(network, layer, 20_000, np.random.default_rng(layer))
            for power in (1, 2):
                origin = (power - 1) * levels.mean()
                each = ((levels - origin) ** power).mean(axis=(0, 2))
                origin = (power - 1) * drawn.mean()
                theory_of = ((drawn - origin) ** power).mean()
                error = each.std(ddof=1) / math.sqrt(replicas)
                # The variances have corrections of order t / s = 0.017 and a h.
                rest = 0.05 * theory_of if power == 2 else 0.0
                assert abs(each.mean() - theory_of) < FIVE_SIGMA * error + rest

    def test_the_hidden_basis_turns(self):
        network = LinearNetwork((0.5, 0.5, 1.0), 3, 3, 2, 0.02, 4, 0.7)
        replicas, steps, rng = 2000, 600, np.random.default_rng(7)
        rest = network.layers_at_rest(1)
        sums = network.values[:, None] + network.values[None, :]

        def angles(layers):
            # Rotation that fits both layers best, to first order.
            both = layers[0] @ rest[0].swapaxes(1, 2) + layers[1].swapaxes(1, 2) @ rest[1]
            return (both - both.swapaxes(1, 2)) / (sum(network.split) * sums)

        _, layers = students_of(network).simulate(
            network.layers_at_rest(replicas), rng, burn_in=300
        )
        found, _ = students_of(network).simulate(layers, rng, burn_in=steps, measure=angles)
        squares = (found[0] - angles(layers)) ** 2
        expected = flat.turning_rate(network) * steps
        error = squares.std(axis=0, ddof=1) / math.sqrt(replicas)
        upper = np.triu_indices(3, 1)
        # The angle at an instant has a noise of order t / s of its own; corrections are a h.
        assert np.abs(squares.mean(axis=0) - expected)[upper] == pytest.approx(
            0.0, abs=FIVE_SIGMA * error[upper].max() + 0.05 * expected[upper].max()
        )
        assert expected[0, 0] == 0.0

    def test_one_layer_has_none_and_deep_ones_relax_more_slowly_at_large_modes(self):
        assert flat.imbalance_rate(NETWORKS["one layer"]) == math.inf
        two = NETWORKS["two layers"]
        noise = (two.rate * two.noise) ** 2 / two.batch
        assert flat.imbalance_rate(two) == pytest.approx(3 * noise)
        # The general formula, which is for any number of layers.
        assert flat._least_curvature(two) * noise / 2 == pytest.approx(3 * noise, rel=1e-4)
        assert flat.imbalance_rate(NETWORKS["three layers"]) > 0

    def test_the_gap_of_an_unbalanced_pair_follows_the_surmise(self):
        # W_1 and W_2 with tr(M + K) unequal in both directions of the pair, M and K not commuting.
        network = LinearNetwork((1.0, 1.0), 2, 2, 2, 0.01, 4, 0.3)
        tilt = np.array([[1.6, 0.5], [0.0, 0.7]])
        layers = [np.tile(m, (2000, 1, 1)) for m in (tilt, np.linalg.inv(tilt))]
        squares = np.trace(tilt.T @ tilt) + np.trace(np.linalg.inv(tilt @ tilt.T))
        found, _ = students_of(network).simulate(
            layers, np.random.default_rng(8), burn_in=200, every=150, snapshots=4
        )
        levels = np.linalg.svd(found, compute_uv=False)[..., ::-1].swapaxes(0, 1)
        gaps = levels[..., 1] - levels[..., 0]
        sigma_squared = network.temperature * squares / 2.0
        each = (gaps**2).mean(axis=1) / (4.0 * sigma_squared)
        error = each.std(ddof=1) / math.sqrt(len(each))
        # Finite step: about a h / 2 = 1.5 %.
        assert abs(each.mean() - 1.0) < FIVE_SIGMA * error + 0.03
        assert surmise_p_value(levels, np.random.default_rng(1)) > FALSE_ALARM


class TestBlocks:
    """What fits compare a trained network with."""

    @pytest.mark.parametrize(
        "optimiser",
        [
            {"learning_rate": 0.04},
            {"optimiser": "momentum", "momentum": 0.5, "learning_rate": 0.02},
        ],
    )
    def test_product_and_layers_of_a_trained_network(self, optimiser):
        h = run_of(
            widths=[2, 2, 2],
            teacher_singular_values=[0.8, 0.8],
            burn_in=1500,
            steps=3000,
            **optimiser,
        )
        run = dysonflow.train("mlp", h.canonical())
        found = dysonflow.fit(run)
        product_row = found[found["layer"] == "product"].iloc[0]
        assert product_row["multiplicity"] == 2 and product_row["flag"] == ""
        for name in ("centre", "sigma", "gap", "dyson_index", "gap_ratio"):
            assert abs(product_row[f"pull_{name}"]) < FIVE_SIGMA
        assert product_row["sigma_error"] < 0.06 * product_row["sigma"]
        layer_row = found[found["layer"] == "W1"].iloc[0]
        assert layer_row["centre_block_formula"] == pytest.approx(math.sqrt(0.8))

    def test_other_networks_are_not_fitted(self):
        for values in (
            {"activation": "tanh", "teacher_singular_values": []},
            {"bias": True},
            {"label_noise": 0.0},
            {"optimiser": "adam"},
            {"optimiser": "nesterov"},
            {"training_samples": 100},
            {"schedule": "cosine"},
            {"weight_decay": 0.1},
        ):
            h = run_of(**values)
            assert not h.fitted
            physics = theory.load("mlp")
            assert physics.blocks(h, "W1") == [] and physics.spectrum_laws(h, "W1") is None
            assert physics.level_name(h, "W1") == "eigenvalue of W^T W"

    def test_zeros_and_unstable_steps_are_flagged(self):
        small = run_of(widths=[5, 4, 3])
        zeros, *modes = predictions.blocks(small, "product")
        ratio = small.learning_rate / small.batch_size
        assert all(block.stochasticity == pytest.approx(ratio) for block in modes)
        assert (zeros.first, zeros.multiplicity) == (0, 2) and "no such mode" in zeros.flag
        assert [block.first for block in modes] == [2, 4]
        (block,) = predictions.blocks(run_of(learning_rate=0.9), "product")
        assert "lower learning_rate" in block.flag
        assert "more hidden units" in predictions.blocks(run_of(widths=[3, 4, 4, 3]), "W2")[1].flag

    @pytest.mark.parametrize(
        ("values", "layer", "why"),
        [
            ({}, "product", ""),
            ({}, "W1", ""),
            ({"learning_rate": 0.2}, "product", "learning rate times curvature"),
            ({"label_noise": 3.0}, "product", "the noise moves the weights"),
            ({"burn_in": 100}, "product", "until all is learnt"),
            ({"initial_width": 0}, "product", "learns nothing"),
            ({"initial_width": 0, "widths": [3, 3]}, "product", ""),
            ({"burn_in": 2000, "initialisation": "xavier_normal"}, "W2", "not balanced"),
            ({"widths": [3, 3, 3, 3], "burn_in": 100_000}, "product", "not balanced"),
        ],
    )
    def test_where_the_theory_is_not_taken_at_its_word(self, values, layer, why):
        beyond = predictions.blocks(run_of(**values), layer)[0].beyond
        assert (why in beyond) if why else beyond == ""

    def test_layers_rest_where_flow_or_noise_leads(self):
        early = run_of(widths=[3, 3, 5], burn_in=4000, steps=5000, label_noise=0.05)
        assert predictions.network(early).balanced_by == "flow"
        late = run_of(widths=[3, 3, 5])
        assert predictions.network(late).balanced_by == "noise"
        assert predictions.blocks(late, "product")[0].beyond == ""
        assert predictions.blocks(early, "product")[0].beyond == ""

    @pytest.mark.parametrize("balanced_by", ["flow", "noise"])
    def test_widths_of_the_layers_of_three(self, balanced_by):
        network = replace(NETWORKS["three layers"], balanced_by=balanced_by)
        slowest = network.rate * network.curvature[:3, :3].min()

        def measure(layers):
            return np.stack([np.linalg.svd(w, compute_uv=False)[:, ::-1] for w in layers], axis=1)

        found, _ = students_of(network).simulate(
            network.layers_at_rest(1000),
            np.random.default_rng(12),
            burn_in=math.ceil(4.0 / slowest),
            every=math.ceil(1.5 / slowest),
            snapshots=4,
            measure=measure,
        )
        for layer in (1, 2, 3):
            levels = found[:, :, layer - 1]
            drawn, _ = draws.draw_deep_layer(network, layer, 20_000, np.random.default_rng(layer))
            # About the means, which move by order t.
            each = ((levels - levels.mean(axis=(0, 1))) ** 2).mean(axis=(0, 2))
            expected = ((drawn - drawn.mean(axis=(0, 1))) ** 2).mean()
            error = each.std(ddof=1) / math.sqrt(len(each))
            # Variances have corrections of relative order t / s = 0.005 and a h.
            assert abs(each.mean() - expected) < FIVE_SIGMA * error + 0.02 * expected

    def test_layers_of_three_in_the_table(self):
        h = run_of(widths=[3, 3, 3, 3], teacher_singular_values=[1.0, 1.0, 2.0])
        (middle,) = predictions.blocks(h, "W2")
        rest = predictions.network(h).layer_values
        assert middle.multiplicity == 3 and middle.centre_block == pytest.approx(rest[1, 0])
        assert middle.sigma == pytest.approx(middle.sigma_block, rel=0.1)
        assert "leading order" in middle.beyond
        outer = predictions.blocks(h, "W1")
        assert [block.multiplicity for block in outer] == [2, 1]
        assert theory.load("mlp").spectrum_laws(h, "W1") is None

    def test_the_block_formulas_are_the_theory_at_weak_noise(self):
        h = run_of(learning_rate=1e-4, batch_size=1000, burn_in=10**9, steps=2 * 10**9)
        for layer in ("product", "W1", "W2"):
            for block in predictions.blocks(h, layer):
                assert block.sigma == pytest.approx(block.sigma_block, rel=0.02)
                error = FIVE_SIGMA * block.centre_uncertainty + 1e-5
                assert block.centre == pytest.approx(block.centre_block, abs=error)
        edges = np.array([0.5, 0.8, 1.2, 2.0])
        found = theory.load("mlp").expected_levels(h, "product", edges)
        assert found == pytest.approx([2.0, 0.0, 1.0])


class TestGasOfSpecies:
    """Levels of different modes: gas or matrix."""

    def test_the_matrix_holds_and_the_gas_does_not(self):
        h = run_of(
            widths=[3, 3, 3],
            teacher_singular_values=[1.0, 1.0, 1.5],
            label_noise=0.7,
            replicas=1000,
            snapshots=24,
        )
        network = predictions.network(h)
        found = stationary_products(network, 9, h.replicas, h.snapshots).swapaxes(0, 1)
        eigenvalues = np.linalg.eigvalsh(found.swapaxes(-1, -2) @ found)
        spectrum = MeasuredSpectrum(h, "product", eigenvalues)
        distances = spectrum.compare(("gas", "matrix")).distances
        assert distances["matrix"].p_value > 1e-4
        assert distances["gas"].p_value < FALSE_ALARM

    def test_distant_modes_feel_half_of_the_gas(self):
        h = run_of(label_noise=0.1)
        laws = theory.load("mlp").spectrum_laws(h, "product")
        gas, network = laws.gases["gas"], predictions.network(h)
        law = draws.product_law(network)
        low, high = gas.centres
        # Second-order perturbation theory against the force of the gas, of both together.
        of_matrix = law.squares[0, 2] * 2.0 / (high - low)
        of_gas = (gas.sigmas[0] ** 2 + gas.sigmas[1] ** 2) / (high - low)
        assert of_matrix == pytest.approx(of_gas / 2.0, rel=0.05)
        drawn = laws.matrices["matrix"](20_000, np.random.default_rng(10)).reshape(-1, 3)
        shift = drawn[:, 2].mean() - law.mean[2]
        error = drawn[:, 2].std() / math.sqrt(len(drawn) / 2)
        assert abs(shift - 2 * law.squares[0, 2] / (high - low)) < FIVE_SIGMA * error


class TestStudents:
    """The plain simulation is that of the model."""

    def test_a_step_is_that_of_the_model(self):
        import torch

        from dysonflow.simulation.perceptrons import Perceptrons

        h = run_of(widths=[3, 4, 3], learning_rate=0.1)
        rng, students = np.random.default_rng(11), LinearStudents(teacher_map(h), 0.1, 4, 0.4)
        layers = [rng.standard_normal((2, rows, columns)) for rows, columns in h.matrices()]
        inputs, noise = students.samples(2, rng)
        model = Perceptrons(
            h.widths, 2, "linear", False, "squared_error", torch.float64, torch.device("cpu")
        )
        for weights, start in zip(model.weights, layers, strict=True):
            weights.copy_(torch.from_numpy(start))
        targets = students.teacher @ inputs + noise
        model.differentiate(*(torch.from_numpy(x.swapaxes(1, 2)) for x in (inputs, targets)))
        model.parameters -= 0.1 * model.gradient
        for weights, expected in zip(
            model.weights, students.step(layers, inputs, noise), strict=True
        ):
            assert weights.numpy() == pytest.approx(expected, abs=1e-12)


class TestTeacher:
    """Teachers of given singular values."""

    def test_singular_values_are_those_given(self):
        h = run_of(widths=[5, 4, 3, 6], teacher_singular_values=[3, 1, 1])
        found = np.linalg.svd(teacher_map(h), compute_uv=False)
        assert found == pytest.approx([3, 1, 1, 0, 0], abs=1e-12)
        # Equal shares for all layers.
        values = [np.linalg.svd(layer, compute_uv=False)[:3] for layer in teacher_weights(h)]
        assert np.array(values) == pytest.approx(np.tile(np.array([3, 1, 1]) ** (1 / 3), (3, 1)))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"teacher_singular_values": [1, 2, 3, 4]}, "do not pass through the 3 units"),
            ({"teacher_singular_values": [1, 0]}, "each must be > 0"),
            ({"activation": "tanh"}, "take activation: linear"),
        ],
    )
    def test_bad_values(self, values, message):
        with pytest.raises(ConfigError, match=message):
            run_of(**values)

    def test_figures_of_fits_say_what_the_theory_needs(self):
        study = {"model": "mlp", "hyperparameters": {"burn_in": 10, "steps": 20}}
        with pytest.raises(ConfigError, match="without a linear student of a noisy linear teacher"):
            load_studies({"studies": {"one": study | {"figures": ["sigma"]}}})
        with pytest.raises(ConfigError, match="needs a law of all levels together"):
            load_studies({"studies": {"one": study | {"figures": ["gas_against_matrix"]}}})
