"""Time stacked perceptrons against a loop over replicas of plain torch modules and torch.optim.

Both see batches of the same sizes from the same data, at points of the default networks studies.
CPU time, interleaved, the median of the rounds.

    python benchmarks/mlp.py --rounds 7
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from dysonflow.models import hyperparameters_of, load
from dysonflow.simulation.base import Block

TIMES = {"burn_in": 0, "steps": 100000, "snapshots": 2, "replicas": 64}
TEACHER = {"data": "teacher", "widths": [6, 5, 3], "loss": "squared_error", "bias": False}
TEACHER |= {"label_noise": 0.5}
POINTS: dict[str, dict[str, Any]] = {
    "tanh teacher, fresh samples": TEACHER | {"activation": "tanh"},
    "linear teacher, fresh samples": TEACHER | {"activation": "linear"},
    "tanh teacher, momentum": TEACHER | {"optimiser": "momentum", "learning_rate": 0.01},
    "tanh teacher, Adam": TEACHER | {"optimiser": "adam", "learning_rate": 0.001},
    "digits": {"widths": [64, 16, 10]},
    "digits, float32": {"widths": [64, 16, 10], "dtype": "float32"},
    "digits, Adam": {"widths": [64, 16, 10], "optimiser": "adam", "learning_rate": 0.001},
}
ACTIVATIONS = {"tanh": torch.nn.Tanh, "linear": torch.nn.Identity}


def modules(point: Any) -> torch.nn.Sequential:
    """One replica as plain modules."""
    layers: list[torch.nn.Module] = []
    for number, (rows, columns) in enumerate(point.matrices(), 1):
        dtype = getattr(torch, point.dtype)
        layers.append(torch.nn.Linear(columns, rows, bias=point.bias, dtype=dtype))
        if number < len(point.matrices()) and point.activation != "linear":
            layers.append(ACTIVATIONS[point.activation]())
    return torch.nn.Sequential(*layers)


def plain(point: Any, replicas: int) -> Callable[[int], None]:
    """Steps of replicas one after the other, batches included, as one would write them."""
    dtype = getattr(torch, point.dtype)
    optimisers: dict[str, Callable[..., Any]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=point.learning_rate),
        "momentum": lambda p: torch.optim.SGD(p, lr=point.learning_rate, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=point.learning_rate),
    }
    networks = [modules(point) for _ in range(replicas)]
    rules = [optimisers[point.optimiser](network.parameters()) for network in networks]
    teacher = modules(point)
    data = load("mlp").simulation.start(point, Block(0, 1)) if point.data == "digits" else None
    batch, squared = point.batch_size, torch.nn.MSELoss(reduction="sum")
    entropy = torch.nn.CrossEntropyLoss()
    if data is not None:
        inputs, labels = data.evaluated[0], data.evaluated[1].argmax(dim=1)
        order = torch.randperm(len(inputs))
    place = 0

    def run(steps: int) -> None:
        nonlocal place
        for _ in range(steps):
            for network, rule in zip(networks, rules, strict=True):
                rule.zero_grad()
                if data is not None:
                    chosen = order[place : place + batch]
                    place = (place + batch) % (len(order) - batch)
                    entropy(network(inputs[chosen]), labels[chosen]).backward()
                else:
                    x = torch.randn(batch, point.widths[0], dtype=dtype)
                    with torch.no_grad():
                        y = teacher(x)
                        y += point.label_noise * torch.randn(y.shape, dtype=dtype)
                    (0.5 * squared(network(x), y) / batch).backward()
                rule.step()

    return run


def timed(run: Callable[[int], None], replicas: int, seconds: float) -> float:
    """Microseconds of CPU per replica and step."""
    steps, spent = 0, 0.0
    start = time.process_time()
    while spent < seconds:
        run(5)
        steps += 5
        spent = time.process_time() - start
    return 1e6 * spent / steps / replicas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"batch size {given.batch_size}, 64 replicas stacked; us of CPU per replica-step")
    print(f"{'point':32s} {'plain loop':>12s} {'stacked':>10s} {'ratio':>7s}")
    for name, values in POINTS.items():
        point = hyperparameters_of("mlp").from_config(
            TIMES | values | {"batch_size": given.batch_size}
        )
        loop, replicas = plain(point, 2), point.replicas
        stacked = load("mlp").simulation.start(point, Block(0, replicas)).advance
        loop(3), stacked(3)
        rounds = [
            (timed(loop, 2, given.seconds), timed(stacked, replicas, given.seconds))
            for _ in range(given.rounds)
        ]
        one, many = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"{name:32s} {one:12.1f} {many:10.2f} {ratio:7.1f}", flush=True)


if __name__ == "__main__":
    main()
