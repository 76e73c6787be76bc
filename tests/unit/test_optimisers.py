"""Optimisers on stacked replicas against torch.optim on one after the other."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dysonflow.errors import ConfigError
from dysonflow.simulation.descent import DescentHyperparameters

REPLICAS, STEPS = 3, 12


class Plain(DescentHyperparameters):
    """Nothing but an optimiser."""

    MODEL = "plain"
    burn_in: int = 0
    steps: int = STEPS

    def weight_shapes(self):
        return [("W", 2, 3)]


OPTIMISERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}


def schedulers(optimiser, h):
    """The schedules of torch that those of a run stand for."""
    lr = torch.optim.lr_scheduler
    start, length = h.warmup_steps, h.decay_steps or h.steps - h.warmup_steps
    after = {
        "constant": lambda: lr.LambdaLR(optimiser, lambda step: 1.0),
        "cosine": lambda: lr.CosineAnnealingLR(optimiser, length),
        "step": lambda: lr.StepLR(optimiser, length, h.decay_factor),
    }[h.schedule]
    if not start:
        return after()
    warm = lr.LinearLR(optimiser, 1 / start, 1.0, start - 1)
    return lr.SequentialLR(optimiser, [warm, after()], [start])


CASES = [
    *({"optimiser": name} for name in OPTIMISERS),
    *({"optimiser": name, "weight_decay": 0.1} for name in OPTIMISERS),
    {"optimiser": "adam", "betas": [0.5, 0.9], "eps": 0.1},
    {"optimiser": "momentum", "momentum": 0.5, "schedule": "cosine", "warmup_steps": 4},
    {"optimiser": "adamw", "schedule": "cosine"},
    {"schedule": "step", "decay_steps": 3, "decay_factor": 0.5},
    {"optimiser": "nesterov", "schedule": "step", "decay_steps": 2, "warmup_steps": 5},
    {"warmup_steps": 6},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_stacked_replicas_follow_torch(case):
    h = Plain.from_config(case)
    generator = torch.Generator().manual_seed(0)
    starts = {
        name: torch.randn(REPLICAS, *shape, generator=generator, dtype=torch.float64)
        for name, shape in {"W": (2, 3), "b": (2,)}.items()
    }
    kicks = [
        {
            name: torch.randn(start.shape, generator=generator, dtype=torch.float64)
            for name, start in starts.items()
        }
        for _ in range(STEPS)
    ]
    stacked = {name: start.clone() for name, start in starts.items()}
    optimiser, rates = h.start_optimiser(stacked), h.learning_rates()
    for step in range(1, STEPS + 1):
        # The gradient depends on where one is, so that an error at any step shows.
        gradients = {name: stacked[name] ** 3 + kicks[step - 1][name] for name in stacked}
        optimiser.update(stacked, gradients, rates.rate(step), step)
    cls, options = OPTIMISERS[h.optimiser]
    options = options | {"weight_decay": h.weight_decay}
    if "momentum" in options:
        options["momentum"] = h.momentum
    if h.optimiser.startswith("adam"):
        options |= {"betas": tuple(h.betas), "eps": h.eps}
    for replica in range(REPLICAS):
        alone = {name: start[replica].clone().requires_grad_() for name, start in starts.items()}
        reference = cls(list(alone.values()), lr=h.learning_rate, **options)
        schedule = schedulers(reference, h)
        for kick in kicks:
            for name, parameter in alone.items():
                parameter.grad = parameter.detach() ** 3 + kick[name][replica]
            reference.step()
            schedule.step()
        for name, parameter in alone.items():
            torch.testing.assert_close(
                stacked[name][replica], parameter.detach(), rtol=1e-12, atol=1e-13
            )


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_memory_that_is_loaded_goes_on_to_the_same_bytes(name):
    h = Plain.from_config({"optimiser": name})
    generator = torch.Generator().manual_seed(1)
    weights = {"W": torch.randn(4, 5, generator=generator)}
    kicks = [{"W": torch.randn(4, 5, generator=generator)} for _ in range(6)]
    first = h.start_optimiser(weights)
    for step, kick in enumerate(kicks[:3], 1):
        first.update(weights, kick, 0.1, step)
    again = {"W": weights["W"].clone()}
    second = h.start_optimiser(again)
    second.load({key: tensor.numpy().copy() for key, tensor in first.state().items()})
    for step, kick in enumerate(kicks[3:], 4):
        first.update(weights, kick, 0.1, step)
        second.update(again, kick, 0.1, step)
    assert torch.equal(weights["W"], again["W"])


def test_what_does_not_apply_makes_no_other_run():
    key = Plain.from_config({}).key
    assert Plain.from_config({"momentum": 0.5, "betas": [0.1, 0.2], "decay_factor": 0.3}).key == key
    assert Plain.from_config({"weight_decay": 0}).key == key
    adamw = Plain.from_config({"optimiser": "adamw"})
    assert adamw.weight_decay == 0.01
    assert Plain.from_config({"optimiser": "adamw", "momentum": 0.5}) == adamw
    assert Plain.from_config({"optimiser": "adamw", "eps": 1e-6}).key != adamw.key
    assert Plain.from_config({"optimiser": "momentum", "momentum": 0.5}).effective_rate == 0.2


def test_the_learning_rate_warms_up_and_decays():
    h = Plain.from_config({"schedule": "cosine", "warmup_steps": 4, "learning_rate": 1})
    rates = np.array([h.learning_rates().rate(step) for step in range(1, STEPS + 3)])
    assert list(rates[:5]) == [0.25, 0.5, 0.75, 1, 1]
    assert all(later < earlier for earlier, later in pairwise(rates[4:STEPS]))
    assert list(rates[STEPS:]) == [0, 0]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"optimiser": "adam", "betas": [0.9, 1]}, "betas = .*: give two numbers >= 0 and < 1"),
        ({"schedule": "step"}, "decay_steps = 0: the schedule `step` needs a number >= 1"),
        ({"optimiser": "adma"}, "optimiser = 'adma'"),
        ({"optimiser": "momentum", "momentum": 1}, "momentum = 1"),
    ],
)
def test_a_bad_value_is_one_line(values, line):
    with pytest.raises(ConfigError, match=line) as error:
        Plain.from_config(values)
    assert "\n" not in str(error.value)
