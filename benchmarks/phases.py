"""What the phase diagram of the student of two layers depends on, at a point of each regime.

Prints the table of docs/phase_diagram.md: equal a/B at other batch sizes, other numbers of
outputs, a teacher as wide as the student's start, a training set instead of fresh inputs, single
precision.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np

import dysonflow
from dysonflow.analysis.regimes import REGIMES, Outcome, measure
from dysonflow.models.two_layer_student import TwoLayerStudentHyperparameters, test_set
from dysonflow.report.figures._phases import median_error
from dysonflow.report.quoting import quote

POINTS = {"learnt": (0.5, 0.25), "frozen": (128, 0.25), "kept": (32, 1.0), "diverged": (0.5, 8.0)}
"""Initial width and learning rate at B = 4, by what is expected there."""
STEPS = 100_000
"""SGD steps at B = 4; others have as many learning rates' worth of steps."""


def trained(width: float, rate: float, **changes: Any) -> tuple[Outcome, float]:
    """Train the replicas of a point; what became of them, and the loss of the mean output."""
    values = {"initial_width": width, "learning_rate": rate, "replicas": 32, "snapshots": 2}
    with open(os.devnull, "w", encoding="utf-8") as quiet:
        values |= {"steps": STEPS} | changes
        run = dysonflow.train("two_layer_student", values, progress=quiet)
    h, weights, diverged = run.hyperparameters, run.weights["W"], run.diverged
    assert isinstance(h, TwoLayerStudentHyperparameters)
    assert diverged is not None
    return measure(h, weights[:, 0], weights[:, 1], diverged), test_set(h).untaught_loss


def quoted(values: np.ndarray) -> str:
    """Median over replicas with its error."""
    return quote(float(np.median(values)), median_error(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    variants: dict[str, Any] = {
        "as it is": {},
        "B = 1": {"batch_size": 1},
        "B = 16": {"batch_size": 16},
        "1 output": {"output_size": 1},
        "16 outputs": {"output_size": 16},
        "teacher as wide": {"teacher_width": None},
        "training set": {"data": "shared"},
        "float32": {"dtype": "float32"},
    }
    columns = ["point", "variant", "regime", "loss / loss of the mean", "overlap", "hidden units"]
    columns += ["largest singular value", "moved"]
    print("|", " | ".join(columns), "|")
    print("|", " | ".join(["---"] * len(columns)), "|")
    for name, (width, rate) in POINTS.items():
        for variant, changes in variants.items():
            values = dict(changes)
            if "teacher_width" in values:
                values["teacher_width"] = width
            batch = values.get("batch_size", 4)
            # Equal a/B, and equal a times the number of steps.
            values |= {"steps": STEPS * 4 // batch}
            one, untaught = trained(width, rate * batch / 4, **values)
            cells = [
                f"{name}: s = {width:g}, a/B = {rate / 4:g}",
                variant,
                REGIMES[one.common_regime],
                quoted(one.loss / untaught),
                quoted(one.overlap),
                quoted(one.hidden_overlap),
                quoted(one.largest),
                quoted(one.displacement),
            ]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
