"""What the figures of a phase diagram share: outcomes over the plane of its two axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dysonflow.analysis.regimes import Outcome, outcome
from dysonflow.artifacts.weights import open_weights
from dysonflow.errors import ConfigError
from dysonflow.models.two_layer_student import TwoLayerStudentHyperparameters
from dysonflow.report.figures._study import StudyData

WIDTH, STOCHASTICITY = "initial width $s$", r"$\alpha / B$"
"""Labels of the axes."""


@dataclass(frozen=True)
class Plane:
    """Runs of a study by initial width (columns) and a/B (rows).

    Attributes
    ----------
    widths, rates : np.ndarray
        Ascending initial widths, and values of a/B.
    runs : dict
        (row, column) to the run there.
    outcomes : dict
        (row, column) to what became of its replicas.
    """

    widths: np.ndarray
    rates: np.ndarray
    runs: dict[tuple[int, int], TwoLayerStudentHyperparameters]
    outcomes: dict[tuple[int, int], Outcome]

    def map(self, values: Mapping[tuple[int, int], float]) -> np.ndarray:
        """A number of every point, shape (rates, widths); NaN where there is no run."""
        found = np.full((len(self.rates), len(self.widths)), np.nan)
        for place, value in values.items():
            found[place] = value
        return found

    def medians(self, name: str) -> np.ndarray:
        """Median over replicas of an attribute of the outcomes, shape (rates, widths)."""
        values = {place: getattr(one, name) for place, one in self.outcomes.items()}
        return self.map({place: float(np.median(one)) for place, one in values.items()})


def plane(data: StudyData) -> Plane:
    """Outcomes of all runs of a study.

    Raises
    ------
    ConfigError
        If two runs share a point of the plane, or a run does not begin at its start.
    """
    students = [run for run in data.runs if isinstance(run, TwoLayerStudentHyperparameters)]
    keys = [(run.learning_rate / run.batch_size, run.initial_width) for run in students]
    for run, key in zip(students, keys, strict=True):
        if keys.count(key) > 1:
            raise ConfigError(
                f"study {data.name}: two runs have the initial width {key[1]:g} and a/B = "
                f"{key[0]:g}; a phase diagram shows one, so put the others into another study"
            )
        if run.snapshot_steps[0] != 0:
            raise ConfigError(
                f"study {data.name}: burn_in = {run.burn_in}: a phase diagram compares the end "
                "with the start; leave burn_in out"
            )
    rates, widths = (np.array(sorted(set(axis))) for axis in zip(*keys, strict=True))
    runs, outcomes = {}, {}
    for run, (rate, width) in zip(students, keys, strict=True):
        place = (int(np.searchsorted(rates, rate)), int(np.searchsorted(widths, width)))
        runs[place] = run
        with open_weights(data.file("weights", run)) as file:
            outcomes[place] = outcome(run, file)
    return Plane(widths, rates, runs, outcomes)


def edges(values: np.ndarray) -> np.ndarray:
    """Edges of cells about the logarithms to base 2 of ascending values, in these logarithms."""
    logs = np.log2(np.maximum(values, 1e-300))
    if len(logs) == 1:
        return np.array([logs[0] - 0.5, logs[0] + 0.5])
    middle = 0.5 * (logs[1:] + logs[:-1])
    return np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]])


def prepare(panel: Axes, found: Plane) -> None:
    """Label the axes of a map with powers of two."""
    axes = ((panel.xaxis, found.widths), (panel.yaxis, found.rates))
    for axis, values in axes:
        logs = np.log2(np.maximum(values, 1e-300))
        step = max(1, -(-len(logs) // 6))
        axis.set_major_locator(FixedLocator(list(logs[::step])))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"$2^{{{x:g}}}$"))
    panel.set_xlabel(WIDTH)
    panel.set_ylabel(STOCHASTICITY)


def median_error(values: np.ndarray, seed: int = 0, samples: int = 400) -> float:
    """Standard error of the median over replicas, from a bootstrap with a fixed seed."""
    if len(values) < 2:
        return float("nan")
    chosen = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
    return float(np.median(values[chosen], axis=1).std(ddof=1))


def flat(found: Plane) -> Sequence[tuple[float, float, Outcome]]:
    """Initial width, a/B and outcome of every point, row by row."""
    return [
        (float(found.widths[column]), float(found.rates[row]), found.outcomes[row, column])
        for row, column in sorted(found.outcomes)
    ]
