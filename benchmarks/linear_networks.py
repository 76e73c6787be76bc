"""Numbers of docs/linear_networks.md: linear networks against their theory.

Simulates linear students from the point where theory has them at rest (or from another, where
that is what is looked at), and trains networks of the model `mlp` for the law of all levels
together; about twenty minutes on one core. Prints Markdown.

    python benchmarks/linear_networks.py product balance
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

import dysonflow
from dysonflow.analysis.gas_or_matrix import MeasuredSpectrum
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.simulation.linear_students import Layers, LinearStudents, imbalance
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.goodness import surmise_p_value
from dysonflow.statistics.lines import weighted_mean
from dysonflow.theory.blocks import multiplets
from dysonflow.theory.mlp import draws, flat, skewness
from dysonflow.theory.mlp.linear import LinearNetwork

Rows = Iterator[dict[str, str]]
SQUARE = LinearNetwork((1.0, 1.0, 2.0, 3.0), 4, 4, 2, 0.02, 8, 0.5)
"""The network of most tables: two layers, a pair and two single modes."""


def main() -> None:
    tables: dict[str, tuple[str, Callable[[], Rows]]] = {
        "product": ("Levels of the product over theory", levels_of_product),
        "shapes": ("Entries of the product, other networks", shapes),
        "balance": ("The imbalance relaxes", balance),
        "layers": ("Imbalance at rest, and levels of the layers", layers_at_rest),
        "middle": ("Three layers, from the flow to the noise", middle_layer),
        "turning": ("The hidden basis turns", turning),
        "pair": ("Gaps of an unbalanced pair", unbalanced_pair),
        "gas": ("Gas or matrix", gas_or_matrix),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[*tables, []], help="all by default")
    for name in parser.parse_args().tables or tables:
        title, rows = tables[name]
        print(f"\n{title}\n")
        for number, row in enumerate(rows()):
            if number == 0:
                print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}")
            print(f"| {' | '.join(row.values())} |", flush=True)


def students_of(network: LinearNetwork) -> LinearStudents:
    teacher = np.zeros((network.outputs, network.inputs))
    np.fill_diagonal(teacher, network.singular_values)
    return LinearStudents(teacher, network.rate, network.batch, network.noise)


def value(number: float, error: float) -> str:
    return f"{number:.3f} ± {error:.3f}"


def over(values: np.ndarray, unit: float = 1.0) -> tuple[float, float]:
    """Mean over replicas and its error, in units of what theory says."""
    return values.mean() / unit, values.std(ddof=1) / math.sqrt(len(values)) / unit


def exponent(x: list[float], y: list[tuple[float, float]]) -> str:
    """Power of x in y, by weighted least squares of the logarithms."""
    mean, error = np.array(y).T
    weight = (mean / error) ** 2
    a, b = np.log(x), np.log(mean)
    a = a - (weight * a).sum() / weight.sum()
    return value(
        float((weight * a * b).sum() / (weight * a**2).sum()), (weight * a**2).sum() ** -0.5
    )


def products(network: LinearNetwork, replicas: int, snapshots: int, seed: int) -> np.ndarray:
    """Shape (replica, snapshot, n_out, n_in), within times in which the flat directions rest."""
    modes = len(network.singular_values)
    slowest = network.rate * network.curvature[:modes, :modes].min()
    found, _ = students_of(network).simulate(
        network.layers_at_rest(replicas),
        np.random.default_rng(seed),
        burn_in=math.ceil(5.0 / slowest),
        every=math.ceil(1.5 / slowest),
        snapshots=snapshots,
    )
    return found.swapaxes(0, 1)


def singular_values(matrices: np.ndarray, modes: int) -> np.ndarray:
    return np.linalg.svd(matrices, compute_uv=False)[..., ::-1][..., -modes:]


def levels_of_product() -> Rows:
    """Width, mean and gap of each block, skewness, surmise."""
    for rate in (0.005, 0.01, 0.02, 0.05, 0.1):
        network = replace(SQUARE, rate=rate)
        matrices = products(network, 1000, 16, 1)
        levels = singular_values(matrices, 4)
        drawn, _ = draws.draw_product(network, 100_000, np.random.default_rng(2))
        row = {"a": f"{rate:g}", "a h": f"{rate * network.curvature.max():.2g}"}
        for first, count in multiplets(network.values):
            own = slice(first, first + count)
            fit = fit_block(levels[..., own])
            expected = drawn[..., own]
            centre = expected.mean()
            freedom = count + count * (count - 1) / 2
            sigma = math.sqrt(((expected - centre) ** 2).sum(axis=-1).mean() / freedom)
            name = f"s = {network.values[first]:g}"
            leading = math.sqrt(network.temperature * network.curvature[first, first])
            row[f"sigma, {name}"] = value(fit.sigma / sigma, fit.sigma_error / sigma)
            row[f"theory / leading order, {name}"] = f"{sigma / leading:.3f}"
            shift = (fit.centre - network.values[first]) / network.temperature
            row[f"(mean - s) / t, {name}"] = (
                f"{value(shift, fit.centre_error / network.temperature)}, theory "
                f"{(centre - network.values[first]) / network.temperature:.2f}"
            )
        pair = levels[..., :2]
        gap = (pair[..., 1] - pair[..., 0]).mean(axis=1)
        expected_gap = (drawn[..., 1] - drawn[..., 0]).mean()
        row["gap of the pair"] = value(*over(gap, expected_gap))
        row["p of the surmise"] = f"{surmise_p_value(pair, np.random.default_rng(1)):.2g}"
        third = skewness.third_cumulants(network)
        flat_entries = (matrices - matrices.mean(axis=(0, 1))).reshape(*matrices.shape[:2], -1)
        each = np.einsum("rta,rtb,rtc,abc->r", *[flat_entries] * 3, third, optimize=True)
        row["skewness"] = value(*over(each / flat_entries.shape[1], (third**2).sum()))
        yield row


def shapes() -> Rows:
    """Mean squared pulls of all variances, and the mean shift."""
    noisy = {"rate": 0.01, "batch": 4, "noise": 0.5}
    cases = {
        "one layer, 4-3": LinearNetwork((1.0, 1.0, 2.0), 4, 3, 1, **noisy),
        "two layers, 6-3": LinearNetwork((1.0, 1.0, 2.0), 6, 3, 2, **noisy),
        "three layers": LinearNetwork((1.0, 1.0, 2.0), 3, 3, 3, **noisy),
        "three layers, flow": LinearNetwork((1.0, 1.0, 2.0), 3, 3, 3, **noisy, balanced_by="flow"),
        "four layers": LinearNetwork((1.0, 1.0, 2.0), 3, 3, 4, **noisy),
    }
    for name, network in cases.items():
        found = products(network, 1000, 16, 3) - students_of(network).teacher
        modes = range(len(network.singular_values))
        squares = ((found - found.mean(axis=(0, 1))) ** 2).mean(axis=1)
        alive = network.variance > 0
        error = squares.std(axis=0, ddof=1)[alive] / math.sqrt(len(squares))
        ratio = squares.mean(axis=0)[alive] / network.variance[alive]
        pull = (squares.mean(axis=0)[alive] - network.variance[alive]) / error
        diagonal = found.mean(axis=1)[:, modes, modes] / network.temperature
        row = {"network": name, "entries": str(int(alive.sum()))}
        row["variance / theory, mean"] = value(
            *weighted_mean(ratio, error / network.variance[alive], np.ones(len(ratio)))
        )
        row["chi2/dof"] = f"{(pull**2).mean():.2f}"
        row["mean / t"] = ", ".join(value(*over(diagonal[:, i])) for i in modes)
        row["theory"] = ", ".join(f"{m:.2f}" for m in network.shift / network.temperature)
        yield row


def balance() -> Rows:
    """Decay of the imbalance from a start that is not balanced."""
    rates, measured = [0.01, 0.02, 0.04], []
    for rate in rates:
        network = replace(SQUARE, rate=rate, noise=1.0)
        slow = flat.imbalance_rate(network)
        replicas, end = 200, round(1.0 / slow)
        layers = network.layers_at_rest(replicas)
        layers = [layers[0] * 1.3, layers[1] / 1.3]
        start = imbalance(layers)[0].diagonal()
        found, _ = students_of(network).simulate(
            layers, np.random.default_rng(4), burn_in=end, measure=imbalance
        )
        values = np.einsum("rii->ri", found[0])
        expected = flat.mean_imbalance(network, start, np.array([end]))[0]
        decay = -np.log(values.mean(axis=0) / start) / end
        error = values.std(axis=0, ddof=1) / math.sqrt(replicas) / values.mean(axis=0) / end
        mean = weighted_mean(decay, error, np.ones(len(decay)))
        measured.append(mean)
        pull = (values.mean(axis=0) - expected) * math.sqrt(replicas) / values.std(axis=0, ddof=1)
        yield {
            "network": "4-4-4",
            "a": f"{rate:g}",
            "steps": str(end),
            "rate / leading order": value(mean[0] / slow, mean[1] / slow),
            "theory / leading order": f"{(-np.log(expected / start) / end).mean() / slow:.3f}",
            "pulls of Q": " ".join(f"{p:.1f}" for p in pull),
        }
    print(f"exponent in a: {exponent(rates, measured)}")
    for inputs, outputs in ((6, 3), (2, 5)):
        values = (1.0, 1.0, 2.0)[: min(inputs, outputs)]
        network = LinearNetwork(values, inputs, outputs, 2, 0.02, 8, 1.0)
        replicas, slow = 200, flat.imbalance_rate(network)
        end = round(5.0 / slow)

        def both(layers: Layers) -> np.ndarray:
            first = np.einsum("rij,rij->ri", layers[0], layers[0])
            return first / np.einsum("rji,rji->ri", layers[1], layers[1])

        found, _ = students_of(network).simulate(
            replace(network, balanced_by="flow").layers_at_rest(replicas),
            np.random.default_rng(5),
            burn_in=end,
            measure=both,
        )
        first, second = flat.split(network, flat.imbalance(network))
        print(
            f"{inputs}-{len(values)}-{outputs}, after {end} steps: w_1^2 / w_2^2 = "
            + ", ".join(value(*over(found[0][:, i])) for i in range(len(values)))
            + f"; leading order {inputs / outputs:.3f}, theory "
            + ", ".join(f"{ratio:.3f}" for ratio in first / second)
        )


def layers_at_rest() -> Rows:
    """Fluctuations of Q, and levels of both layers."""
    for rate, batch, noise in ((0.01, 8, 1.5), (0.02, 4, 0.7), (0.05, 4, 0.5)):
        network = replace(SQUARE, rate=rate, batch=batch, noise=noise)
        slow, replicas, snapshots = flat.imbalance_rate(network), 500, 6

        def measure(layers: Layers) -> np.ndarray:
            spectra = [singular_values(weights, 4) for weights in layers]
            return np.concatenate([imbalance(layers).reshape(len(layers[0]), -1), *spectra], axis=1)

        found, _ = students_of(network).simulate(
            network.layers_at_rest(replicas),
            np.random.default_rng(6),
            burn_in=round(5.0 / slow),
            every=round(1.0 / slow),
            snapshots=snapshots,
            measure=measure,
        )
        found = found.swapaxes(0, 1)
        of_q = found[..., :16]
        squares = ((of_q - of_q.mean(axis=(0, 1))) ** 2).mean(axis=1).sum(axis=1)
        row = {"a, B, epsilon": f"{rate:g}, {batch}, {noise:g}"}
        row["a h"] = f"{rate * network.curvature.max():.2g}"
        row["variance of Q"] = value(*over(squares, flat.imbalance_variance(network).sum()))
        for layer in (1, 2):
            levels = found[..., 12 + 4 * layer : 16 + 4 * layer]
            drawn, _ = draws.draw_layer(network, layer, 50_000, np.random.default_rng(layer))
            width = drawn.std(axis=(0, 1))
            deviation = levels.mean(axis=(0, 1)) - drawn.mean(axis=(0, 1))
            error = levels.mean(axis=1).std(axis=0, ddof=1) / math.sqrt(replicas)
            row[f"pulls of means, W{layer}"] = " ".join(f"{p:.1f}" for p in deviation / error)
            spread = ((levels - levels.mean(axis=(0, 1))) ** 2).mean(axis=1)
            row[f"widths, W{layer}"] = ", ".join(
                value(r / 2 + 0.5, e / 2)
                for r, e in (over(spread[:, i], width[i] ** 2) for i in range(4))
            )
        yield row


def middle_layer() -> Rows:
    """Singular values of three layers that the flow has balanced, and the noise later."""
    network = LinearNetwork((1.0, 1.0, 2.0), 3, 3, 3, 0.03, 4, 0.8)
    slow, replicas = flat.imbalance_rate(network), 200

    def measure(layers: Layers) -> np.ndarray:
        return np.stack([np.sqrt(singular_values(w, 3) ** 2) for w in layers], axis=1)

    layers: Layers = replace(network, balanced_by="flow").layers_at_rest(replicas)
    rng, done = np.random.default_rng(7), 0
    for time in (0.02, 0.5, 1.0, 2.0, 5.0):
        end = round(time / slow)
        found, layers = students_of(network).simulate(
            layers, rng, burn_in=end - done, measure=measure
        )
        done = end
        row = {"steps": str(end), "times the rate": f"{time:g}"}
        for layer in range(3):
            row[f"W{layer + 1}"] = ", ".join(value(*over(found[0][:, layer, i])) for i in range(3))
        yield row
    for name in ("flow", "noise"):
        rest = replace(network, balanced_by=name).layer_values
        yield {"steps": name, "times the rate": ""} | {
            f"W{layer + 1}": ", ".join(f"{w:.3f}" for w in rest[layer]) for layer in range(3)
        }


def turning() -> Rows:
    """Mean squared angles over theory."""
    rates, measured = [0.01, 0.02, 0.04], []
    for rate in rates:
        network = LinearNetwork((1.0, 1.0, 2.0), 3, 3, 2, rate, 8, 1.0)
        students, replicas = students_of(network), 2000
        rest = network.layers_at_rest()
        sums = network.values[:, None] + network.values[None, :]

        def angles(layers: Layers, rest: Layers = rest, sums: np.ndarray = sums) -> np.ndarray:
            both = layers[0] @ rest[0].swapaxes(1, 2) + layers[1].swapaxes(1, 2) @ rest[1]
            return (both - both.swapaxes(1, 2)) / (2.0 * sums)

        rng = np.random.default_rng(8)
        steps = round(60.0 / rate)
        _, layers = students.simulate(
            network.layers_at_rest(replicas), rng, burn_in=round(4.0 / rate)
        )
        start = angles(layers)
        found, _ = students.simulate(layers, rng, burn_in=steps, measure=angles)
        squares = (found[0] - start) ** 2
        expected = flat.turning_rate(network) * steps
        upper = np.triu_indices(3, 1)
        row = {"a": f"{rate:g}", "steps": str(steps)}
        row["rms angle of the pair"] = f"{math.sqrt(squares[:, 0, 1].mean()):.3f}"
        for i, j in zip(*upper, strict=True):
            row[f"squared angle {i}{j}"] = value(*over(squares[:, i, j], expected[i, j]))
        total = squares[:, upper[0], upper[1]].sum(axis=1)
        row["all"] = value(*over(total, expected[upper].sum()))
        measured.append(over(total / steps))
        yield row
    print(f"exponent in a: {exponent(rates, measured)}")


def unbalanced_pair() -> Rows:
    """Mean squared gap and surmise of pairs whose layers do not commute."""
    for name, tilt in {
        "balanced": np.eye(2),
        "scaled": 1.5 * np.eye(2),
        "squeezed": np.diag([1.8, 0.6]),
        "sheared": np.array([[1.6, 0.5], [0.0, 0.7]]),
    }.items():
        network = LinearNetwork((1.0, 1.0), 2, 2, 2, 0.01, 8, 0.3)
        back = np.linalg.inv(tilt)
        layers = [np.tile(m, (4000, 1, 1)) for m in (tilt, back)]
        found, _ = students_of(network).simulate(
            layers, np.random.default_rng(9), burn_in=300, every=150, snapshots=8
        )
        levels = singular_values(found.swapaxes(0, 1), 2)
        gaps = levels[..., 1] - levels[..., 0]
        traces = float((tilt**2).sum() + (back**2).sum())
        expected = 2.0 * network.temperature * traces
        yield {
            "W_1": name,
            "tr(M + K) / 4": f"{traces / 4:.3f}",
            "mean squared gap / theory": value(*over((gaps**2).mean(axis=1), expected)),
            "p of the surmise": f"{surmise_p_value(levels, np.random.default_rng(1)):.2g}",
        }


def gas_or_matrix() -> Rows:
    """Trained networks against laws of all levels."""
    for rate, burn_in in ((0.02, 20_000), (0.04, 5_000)):
        run = dysonflow.train(
            "mlp",
            {
                "widths": [4, 4, 4],
                "activation": "linear",
                "bias": False,
                "loss": "squared_error",
                "data": "teacher",
                "teacher_singular_values": [1.0, 1.0, 2.0, 3.0],
                "label_noise": 0.7,
                "initialisation": "normal",
                "initial_width": 0.1,
                "learning_rate": rate,
                "batch_size": 4,
                "replicas": 128,
                "snapshots": 64,
                "burn_in": burn_in,
                "steps": burn_in + 6_000,
            },
        )
        for layer, weights in run.weights.items():
            spectrum = MeasuredSpectrum(run.hyperparameters, layer, eigenvalues(weights))
            comparison = spectrum.compare(("gas", "matrix", "gas_block_formula"))
            index = spectrum.dyson_index()
            row = {"a": f"{rate:g}", "layer": layer}
            for law, distance in comparison.distances.items():
                pull = np.array(comparison.columns[f"{law}_pull"])
                means = pull[np.array(comparison.columns["statistic"]) == "mean"]
                row[law] = f"{distance.chi2:.0f}, p = {distance.p_value:.1g}; " + " ".join(
                    f"{p:.1f}" for p in means
                )
            row["beta"] = value(index.dyson_index, index.error)
            yield row


if __name__ == "__main__":
    main()
