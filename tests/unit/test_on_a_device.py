"""What a GPU would stumble over, found without one.

The steps of every simulation are run on torch's device `meta`, whose tensors have a shape and no
numbers. It stands for a device that is not the CPU: an operation on tensors of both is a mistake,
and so is a step that asks for a number, because it would wait for the GPU.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dysonflow import models
from dysonflow.errors import DivergedError
from dysonflow.simulation.base import BLOCK_SIZE, Block
from dysonflow.simulation.finite import FiniteWatch
from dysonflow.simulation.noise import CarriedNoise, NoiseStream

CPU, META = torch.device("cpu"), torch.device("meta")
CARRYING = {"copy_", "_to_copy"}
"""Operations that take a tensor from one device to another on purpose."""


class Elsewhere(TorchDispatchMode):
    """Refuses operations that mix devices, and counts the numbers that are asked for."""

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.answers: dict[int, bool] = {}
        # So that no other tensor gets the identity of one of these.
        self.kept: list[torch.Tensor] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        name = function._schema.name.removeprefix("aten::")
        # A tensor without axes on the CPU counts as a number.
        devices = {tensor.device.type for tensor in tensors if tensor.dim() or tensor.is_meta}
        if len(devices) > 1 and name not in CARRYING:
            raise AssertionError(f"{name} mixes {sorted(devices)}")
        if name == "_local_scalar_dense" and tensors[0].is_meta:
            self.asked += 1
            # Nothing is broken: all are finite, none is not, and no step was the first.
            return self.answers.get(id(tensors[0]), -1)
        found = function(*args, **(kwargs or {}))
        if name in ("all", "any"):
            self.answers[id(found)] = name == "all"
            self.kept.append(found)
        return found


class NoiseElsewhere(CarriedNoise):
    """All random numbers come from the CPU, also those that a GPU would draw itself."""

    @property
    def local(self):
        return self

    @property
    def generator(self):
        return self.streams[0].generator


def noise_elsewhere(run):
    return NoiseElsewhere(run.seed, run.key, 0, run.replicas, META, getattr(torch, run.dtype))


NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, statistics):
        super().__init__()
        norm = torch.nn.BatchNorm1d(5) if statistics else torch.nn.LayerNorm(5)
        first, last = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
        parts = (first, norm, torch.nn.Tanh(), torch.nn.Dropout(0.1), last)
        self.layers = torch.nn.Sequential(*parts)
        self.register_buffer("scale", torch.tensor([1.0, 2.0]))

    def forward(self, x):
        return self.layers(x) * self.scale

def data(generator, batch_size):
    x = torch.randn(batch_size, 3, generator=generator)
    return x, x[:, :2]
"""
SHORT = {"replicas": 3, "burn_in": 0, "steps": 40, "snapshots": 2}
GPT = {"width": 8, "heads": 2, "blocks": 1, "context": 4, "batch_size": 2}
TEACHER = {"data": "teacher", "widths": [4, 3, 2]}
CASES = [
    *[("gaussian_rbm", {"sampler": sampler}) for sampler in ("gibbs", "ar1", "wishart")],
    ("gaussian_rbm", {"sampler": "wishart", "batch_size": 4}),
    *[("teacher_student", {"data": data}) for data in ("fresh", "shared")],
    *[("two_layer_student", {"data": data}) for data in ("fresh", "shared")],
    *[("mlp", {"optimiser": name}) for name in ("sgd", "momentum", "nesterov", "adam", "adamw")],
    ("mlp", {"sampling": "independent", "activation": "gelu", "weight_decay": 0.1}),
    ("mlp", TEACHER),
    ("mlp", TEACHER | {"loss": "squared_error", "label_noise": 0.1, "activation": "linear"}),
    ("char_gpt", GPT),
    ("char_gpt", GPT | {"data": "topics", "dropout": 0.1, "tied": False}),
    ("torch_module", {"arguments": {"statistics": False}}),
    ("torch_module", {"arguments": {"statistics": True}}),
]


@pytest.fixture
def run_of(tmp_path):
    """Hyperparameters of a short run; the user's own network lies in a file."""
    (tmp_path / "own.py").write_text(NETWORK, encoding="utf-8")
    own = {"module": f"{tmp_path}/own.py:Net", "data": f"{tmp_path}/own.py:data"}
    own |= {"loss": "squared_error"}

    def make(model, values):
        more = own if model == "torch_module" else {}
        return models.hyperparameters_of(model).from_config({**SHORT, **more, **values})

    return make


@pytest.mark.parametrize(("model", "values"), CASES, ids=lambda value: str(value)[:60])
def test_no_step_mixes_devices_or_waits(model, values, run_of, monkeypatch):
    run = run_of(model, values)
    simulation = models.load(model).simulation
    if model == "torch_module":
        # To be tried, replicas are compared in numbers, which there are none of.
        why = "statistics" if values["arguments"]["statistics"] else ""
        modules = "dysonflow.simulation.modules.Modules._why_one_by_one"
        monkeypatch.setattr(modules, lambda self, trial: why)
    with Elsewhere() as mode:
        trained = simulation(run, run.replicas, noise_elsewhere(run))
        for layer in trained.LAYERS.values():
            assert getattr(trained, layer, trained.noise).device == META
        asked = []
        for steps in (1, 1, 6):
            before = mode.asked
            trained.advance(steps)
            asked.append(mode.asked - before)
    # Once for each call, and never within it.
    assert asked[0] == asked[1] == asked[2] <= 1


def test_mixing_and_waiting_are_found():
    here, there = torch.ones(2), torch.ones(2, device="meta")
    for mix in (
        lambda: there + here,
        lambda: torch.bmm(there[None, None], here[None, :, None]),
        lambda: there[torch.tensor([0, 1])],
        lambda: there.sub_(here),
    ):
        with pytest.raises(AssertionError, match="mixes"), Elsewhere():
            mix()
    with Elsewhere() as mode:
        assert bool((there * torch.tensor(2.0) > 1).all())
        there.copy_(here)
        assert mode.asked == 1


CARRIED = [
    *[("mlp", {"optimiser": name}) for name in ("sgd", "momentum", "nesterov", "adam", "adamw")],
    ("mlp", {"sampling": "independent", "initialisation": "xavier_uniform"}),
    ("char_gpt", GPT),
    ("char_gpt", GPT | {"data": "topics"}),
]


@pytest.mark.parametrize(("model", "values"), CARRIED, ids=lambda value: str(value)[:60])
def test_what_a_gpu_is_given_is_what_the_blocks_of_a_cpu_draw(model, values, run_of):
    count = BLOCK_SIZE + 3
    run = run_of(model, {**values, "replicas": count, "dtype": "float64"})
    simulation = models.load(model).simulation
    noise = CarriedNoise(run.seed, run.key, 0, count, CPU, torch.float64)
    all_of_them = simulation(run, count, noise)
    blocks = [simulation.start(run, Block(0, BLOCK_SIZE)), simulation.start(run, Block(1, 3))]
    for one in (all_of_them, *blocks):
        one.advance(5)
    for layer, weights in all_of_them.layers().items():
        alone = np.vstack([block.layers()[layer] for block in blocks])
        # Rounding, which Adam's first steps enlarge where a gradient is about zero.
        assert np.allclose(weights, alone, rtol=1e-9, atol=1e-9), layer
    assert np.allclose(all_of_them.loss(), np.hstack([b.loss() for b in blocks]), rtol=1e-9)


def test_carried_numbers_go_on_where_their_state_was_taken():
    noise = CarriedNoise(1, "ab", 0, BLOCK_SIZE + 3, CPU, torch.float32)
    alone = [NoiseStream(1, "ab", block, CPU, torch.float32) for block in (0, 1)]
    drawn = noise.uniform(2, BLOCK_SIZE + 3, replica_axis=1)
    expected = torch.cat([alone[0].uniform(2, BLOCK_SIZE), alone[1].uniform(2, 3)], dim=1)
    assert torch.equal(drawn, expected)
    noise.local.normal(3)
    state = noise.state()
    later = [noise.normal(BLOCK_SIZE + 3), noise.local.normal(4)]
    other = CarriedNoise(1, "ab", 0, BLOCK_SIZE + 3, CPU, torch.float32)
    other.load(state)
    assert torch.equal(other.normal(BLOCK_SIZE + 3), later[0])
    assert torch.equal(other.local.normal(4), later[1])
    with pytest.raises(ValueError, match="5 rows are drawn for 67 replicas"):
        noise.normal(5, 2)


def test_a_device_that_is_asked_once_still_names_the_step():
    for asks_always in (True, False):
        watch = FiniteWatch(CPU, asks_always)
        found = []
        for step in range(1, 11):
            value = torch.tensor([1.0, float("nan") if step >= 4 else 2.0])
            found.append(watch.broken_at(value, step, step == 10))
        if asks_always:
            assert found[2:5] == [None, 4, 5]
        else:
            assert found == [None] * 9 + [4]


@pytest.mark.parametrize("model", ["char_gpt", "torch_module"])
def test_replica_and_step_of_a_divergence_are_the_same_when_asked_late(model, run_of):
    more = {"char_gpt": GPT, "torch_module": {"arguments": {"statistics": False}}}[model]
    run = run_of(model, more | {"optimiser": "sgd", "learning_rate": 1e30})
    simulation = models.load(model).simulation
    said = []
    for asks_always in (True, False):
        trained = simulation.start(run, Block(0, 3))
        trained.watch = FiniteWatch(CPU, asks_always)
        with pytest.raises(DivergedError) as caught:
            for _ in range(2):
                trained.advance(10)
        said.append((caught.value.replica, caught.value.step))
    assert said[0] == said[1]


def test_shards_of_a_run_share_no_stream():
    first, second = (CarriedNoise(0, "ab", block, 64, CPU, torch.float64) for block in (0, 1))
    assert not torch.equal(first.normal(64), second.normal(64))
