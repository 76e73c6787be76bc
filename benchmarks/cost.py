"""Cost of training against the size N, batch B and replicas R: measured, and as it is requested.

Trains a few SGD steps of some systems at each point on one thread and prints the time of one step,
replica-steps per second, and the time that `dysonflow.planning.resources` estimates for the same
steps.

    python benchmarks/cost.py --csv cost.csv
    python benchmarks/cost.py --device cuda --models mlp char_gpt
"""

import argparse
import io
from pathlib import Path

import pandas as pd

from dysonflow import models
from dysonflow.planning import resources
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import choose_device

GRID = [
    (
        "gaussian_rbm",
        {"sampler": sampler, "sites": sites, "batch_size": batch, "replicas": replicas},
    )
    for sampler in ("gibbs", "wishart")
    for sites, batch, replicas in (
        *[(10, batch, 64) for batch in (4, 16, 64, 256)],
        *[(10, 16, replicas) for replicas in (128, 512)],
        *[(sites, 16, 64) for sites in (32, 64, 128)],
        (256, 16, 16),
    )
] + [
    ("teacher_student", {"size": size, "batch_size": batch, "replicas": replicas})
    for size, batch, replicas in (
        *[(2, batch, 64) for batch in (4, 16, 64, 256)],
        *[(2, 16, replicas) for replicas in (512, 2048)],
        *[(size, 1024, 64) for size in (16, 64)],
    )
]
GRID += [
    ("mlp", {"widths": [64, width, 10], "batch_size": batch, "replicas": replicas})
    for width, batch, replicas in ((16, 16, 64), (16, 16, 2048), (256, 64, 64), (1024, 64, 16))
]
GRID += [
    ("char_gpt", {"width": width, "batch_size": 16, "replicas": replicas})
    for width, replicas in ((64, 4), (64, 64), (256, 16))
]
SIZES = {"gaussian_rbm": "sites", "teacher_student": "size", "char_gpt": "width"}
"""What N is of each system; of perceptrons the hidden units."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="about how long a point may take"
    )
    parser.add_argument("--models", nargs="+", help="systems to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="the first point of each system only")
    parser.add_argument("--csv", type=Path, help="table to write")
    options = parser.parse_args()

    points = [point for point in GRID if point[0] in (options.models or [point[0]])]
    if options.quick:
        points = list({model: (model, point) for model, point in reversed(points)}.values())
    table = pd.DataFrame([measure(*point, options.device, options.seconds) for point in points])
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    if options.csv:
        table.to_csv(options.csv, index=False)


def measure(model: str, point: dict[str, object], device: str, budget: float) -> dict[str, object]:
    """Train one point for about `budget` seconds; one row of the table."""
    cls = models.hyperparameters_of(model)
    # A narrow start: the time of a step does not depend on it, and large machines do not diverge.
    fixed = {"burn_in": 0, "snapshots": 1, "learning_rate": 0.001, "initial_width": 0.01}
    simulation = models.load(model).simulation
    place = choose_device(device)
    # A first short run pays for what happens once, and says how many steps fit into the budget.
    steps, seconds = 5, 0.0
    for attempt in range(4):
        run = cls.from_config({**point, **fixed, "steps": steps})
        memory = ensemble.Memory(run, run.replicas)
        seconds = ensemble.train(simulation, run, memory, place, io.StringIO())
        if attempt and seconds > 0.5 * budget:
            break
        steps = max(5, int(steps * budget / seconds))
    return {
        "model": model,
        "sampler": point.get("sampler", ""),
        "N": point["widths"][1] if model == "mlp" else point[SIZES[model]],
        "B": point["batch_size"],
        "R": point["replicas"],
        "device": place.name,
        "step_ms": 1e3 * seconds / run.steps,
        "replica_steps_per_s": run.replicas * run.steps / seconds,
        "estimate_over_measured": resources.training_seconds(run, run.replicas, device) / seconds,
    }


if __name__ == "__main__":
    main()
