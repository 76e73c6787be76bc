"""A small transformer: equal to plain torch, resumable; sources of characters."""

import io
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
import yaml

from dysonflow import models
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.models import char_gpt
from dysonflow.planning.graph import Plan
from dysonflow.planning.reference import json_schema
from dysonflow.simulation.base import Block
from dysonflow.simulation.characters import MarkovSource, Text
from dysonflow.simulation.ensemble import train_in_memory
from dysonflow.simulation.noise import NoiseStream

SYSTEM = models.load("char_gpt")
TINY = {
    **{"width": 8, "heads": 2, "blocks": 2, "context": 6, "alphabet": 5, "batch_size": 3},
    **{"steps": 8, "snapshots": 3, "replicas": 3, "dtype": "float64"},
}


def run_of(**values):
    return SYSTEM.hyperparameters.from_config(TINY | values)


def start(h):
    return SYSTEM.simulation.start(h, Block(0, h.replicas))


class PlainBlock(torch.nn.Module):
    def __init__(self, h):
        super().__init__()
        linear = {"bias": False, "dtype": torch.float64}
        self.norm1, self.norm2 = (
            torch.nn.LayerNorm(h.width, bias=False, dtype=torch.float64) for _ in range(2)
        )
        self.attention = torch.nn.MultiheadAttention(h.width, h.heads, batch_first=True, **linear)
        self.up = torch.nn.Linear(h.width, h.expansion * h.width, **linear)
        self.down = torch.nn.Linear(h.expansion * h.width, h.width, **linear)

    def forward(self, x, future):
        n = self.norm1(x)
        x = x + self.attention(n, n, n, attn_mask=future, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class Plain(torch.nn.Module):
    """The same network of torch's own layers, for one replica."""

    def __init__(self, h, simulation, replica):
        super().__init__()
        own = {name: view.detach()[replica] for name, view in simulation.parameters.items()}
        self.embedding = torch.nn.Parameter(own["embedding"].clone())
        self.position = torch.nn.Parameter(own["position"].clone())
        self.out = None if h.tied else torch.nn.Parameter(own["unembedding"].clone())
        self.blocks = torch.nn.ModuleList([PlainBlock(h) for _ in range(h.blocks)])
        self.norm = torch.nn.LayerNorm(h.width, bias=False, dtype=torch.float64)
        with torch.no_grad():
            for number, block in enumerate(self.blocks):
                part = f"block{number}."
                inner = [own[part + name] for name in ("query", "key", "value")]
                block.attention.in_proj_weight.copy_(torch.cat(inner))
                block.attention.out_proj.weight.copy_(own[part + "output"])
                block.up.weight.copy_(own[part + "up"])
                block.down.weight.copy_(own[part + "down"])

    def forward(self, characters):
        seen, following = characters[:, :-1], characters[:, 1:]
        places = seen.shape[1]
        x = self.embedding[seen] + self.position[:places]
        future = torch.ones(places, places, dtype=torch.bool).triu(1)
        for block in self.blocks:
            x = block(x, future)
        logits = self.norm(x) @ (self.embedding if self.out is None else self.out).T
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())


OPTIMISERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize(("optimiser", "tied"), [("adamw", True), ("momentum", False)])
def test_replicas_are_those_of_a_plain_loop_of_torch(optimiser, tied):
    h = run_of(optimiser=optimiser, tied=tied, learning_rate=0.01)
    simulation = start(h)
    seen = []
    draw = simulation.source.sample

    class Watched:
        symbols = simulation.source.symbols

        def sample(self, noise, *shape):
            seen.append(draw(noise, *shape))
            return seen[-1]

    simulation.source = Watched()
    plain = [Plain(h, simulation, replica) for replica in range(h.replicas)]
    simulation.advance(5)
    assert len(seen) == 5 and not torch.equal(seen[0][0], seen[0][1])
    for replica, net in enumerate(plain):
        update = OPTIMISERS[optimiser](net.parameters())
        for windows in seen:
            update.zero_grad()
            net(windows[replica]).backward()
            update.step()
        found = {name: view.detach()[replica] for name, view in simulation.parameters.items()}
        for name in ("embedding", "position"):
            torch.testing.assert_close(found[name], getattr(net, name).detach())
        torch.testing.assert_close(found["norm"], net.norm.weight.detach())
        for number, block in enumerate(net.blocks):
            query = block.attention.in_proj_weight.detach()[: h.width]
            torch.testing.assert_close(found[f"block{number}.query"], query)
            torch.testing.assert_close(found[f"block{number}.down"], block.down.weight.detach())


@pytest.mark.parametrize("values", [{}, {"dropout": 0.2, "schedule": "cosine"}, {"data": "topics"}])
def test_an_interrupted_training_goes_on_to_the_same_bytes(values):
    h = run_of(**values)
    whole, first, again = start(h), start(h), start(h)
    whole.advance(7)
    first.advance(3)
    again.load({name: array.copy() for name, array in first.state().items()})
    again.advance(4)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(again.state()[name], array)
    np.testing.assert_array_equal(whole.loss(), again.loss())


def test_dropout_is_that_of_each_replica_and_not_of_the_loss():
    simulation = start(run_of(dropout=0.5, learning_rate=0.01))
    with torch.no_grad():
        for view in simulation.parameters.values():
            view.copy_(view[:1].clone().expand_as(view))
    windows = simulation.evaluated[:3].expand(3, 3, -1)
    with torch.no_grad():
        trained = simulation.losses(windows, is_training=True)
        tested = simulation.losses(windows, is_training=False)
    assert len(set(trained.tolist())) == 3
    assert np.ptp(tested.numpy()) < 1e-12


def test_matrices_start_with_the_width_that_is_said():
    h = run_of(width=64, replicas=4, initial_width=0.8)
    weights = start(h).layers()
    assert list(weights) == [f"block{b}.{m}" for b in (0, 1) for m in char_gpt.MATRICES]
    for name, array in weights.items():
        narrow = 2.0 if name.endswith(("output", "down")) else 1.0
        expected = 0.8 / math.sqrt(array.shape[2]) / narrow
        # Five standard errors of the standard deviation of so many normal numbers.
        assert abs(array.std() / expected - 1) < 5 / math.sqrt(2 * array.size)


def test_heads_are_rows_of_what_asks_and_columns_of_what_reads():
    whole, cut = start(run_of()), start(run_of(split="heads", seed=run_of().seed))
    shapes = run_of(split="heads").layers()
    assert shapes["block1.query.head1"] == (4, 8) and shapes["block1.output.head0"] == (8, 4)
    assert shapes["block0.up"] == (32, 8) and len(shapes) == 2 * (4 * 2 + 2)
    cut.load(whole.state())
    matrices, heads = whole.layers(), cut.layers()
    both = [heads[f"block0.key.head{head}"] for head in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(both, axis=1), matrices["block0.key"])
    both = [heads[f"block0.output.head{head}"] for head in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(both, axis=2), matrices["block0.output"])


def test_a_character_sees_none_that_follow():
    simulation = start(run_of())
    windows = torch.randint(0, 5, (3, 2, 6), generator=torch.Generator().manual_seed(1))
    other = windows.clone()
    other[..., 4:] = (other[..., 4:] + 1) % 5
    with torch.no_grad():
        one, two = (simulation.logits(x, is_training=False) for x in (windows, other))
    torch.testing.assert_close(one[:, :, :4], two[:, :, :4])
    assert not torch.allclose(one[:, :, 4], two[:, :, 4])


def noise():
    return NoiseStream(3, "ab", 0, torch.device("cpu"), torch.float64)


def test_entropies_of_the_source_are_those_of_its_characters():
    source = MarkovSource(alphabet := 3, 2, 0.5, 1)
    sample = source.sample(noise(), 400, 2500).numpy()
    for memory in (0, 1, 2):
        # Blocks of one more character than the memory; the entropy of the last given the others.
        count = sample.shape[1] - memory
        code = sum(sample[:, k : k + count] * alphabet ** (memory - k) for k in range(memory + 1))
        joint = np.bincount(code.ravel(), minlength=alphabet ** (memory + 1)) / code.size
        joint = joint.reshape(-1, alphabet)
        law = joint / joint.sum(axis=1, keepdims=True)
        found = -np.sum(joint * np.log(law, where=joint > 0, out=np.zeros_like(law)))
        # Spread over sequences, which are independent; the bias of the estimate is below 1e-4.
        each = -np.log(law.ravel()[code]).mean(axis=1)
        error = each.std(ddof=1) / math.sqrt(len(each))
        assert abs(found - source.conditional_entropy(memory)) < 5 * error + 1e-4
    assert source.conditional_entropy(3) == source.entropy
    one, two, rate = (source.conditional_entropy(memory) for memory in (1, 2, 2))
    assert source.attainable_loss(4) == pytest.approx((one + two + 2 * rate) / 4)
    # The first characters are stationary too.
    first = np.bincount(sample[:, 0], minlength=3) / 400
    law = source.contexts.reshape(-1, 3).sum(axis=0)
    assert (np.abs(first - law) < 5 * np.sqrt(law * (1 - law) / 400)).all()


def test_a_uniform_source_has_the_logarithm_of_its_characters():
    source = MarkovSource(4, 1, 1e9, 0)
    assert source.entropy == pytest.approx(math.log(4), abs=1e-6)


def test_windows_of_a_text_come_from_its_own_part():
    text = Text("ab" * 450 + "cd" * 50)
    assert text.vocabulary == "abcd" and text.symbols == 4 and text.attainable_loss(9) is None
    assert set(text.sample(noise(), 50, 20).unique().tolist()) == {0, 1}
    assert set(text.sample(noise(), 50, 20, held_out=True).unique().tolist()) == {2, 3}
    law = np.array([0.45, 0.45, 0.05, 0.05])
    assert text.unigram_entropy == pytest.approx(-(law * np.log(law)).sum())


def test_the_loss_falls_below_the_entropy_of_single_characters():
    h = run_of(steps=60, width=16, learning_rate=0.01, alphabet=4, order=1, concentration=0.2)
    found = train_in_memory(SYSTEM.simulation, h, log=io.StringIO())
    single, attainable = h.reference_losses().values()
    assert (found.loss[:, 0] > single).all() and (found.loss[:, -1] < single).all()
    # Nobody is better than the source, but for the error of the windows that are looked at.
    assert (found.loss[:, -1] > attainable - 0.1).all()


CHANGES = {
    **{"replicas": 4, "snapshots": 4, "burn_in": 1, "steps": 9, "seed": 1, "dtype": "float32"},
    **{"learning_rate": 0.1, "batch_size": 4, "optimiser": "sgd", "weight_decay": 0.1},
    **{"betas": [0.8, 0.9], "eps": 1e-6, "schedule": "cosine", "warmup_steps": 1, "width": 16},
    **{"heads": 4, "blocks": 1, "expansion": 2, "context": 5, "dropout": 0.1, "tied": False},
    **{"initial_width": 1.0, "split": "heads", "data": "topics", "alphabet": 6, "order": 3},
    **{"concentration": 0.5, "source_seed": 1},
}


def test_every_hyperparameter_changes_the_key():
    assert len(
        {run_of().key, *(run_of(**{name: CHANGES[name]}).key for name in CHANGES)}
    ) == 1 + len(CHANGES)
    idle = {"momentum", "decay_steps", "decay_factor"}
    assert set(run_of().canonical()) - set(CHANGES) - idle == {"lags", "file_digest"}
    assert all(
        run_of(**{name: 0.5 if name != "decay_steps" else 7}).key == run_of().key for name in idle
    )


def test_the_digest_of_a_text_is_part_of_the_key(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("To be or not to be. " * 100, encoding="utf-8")
    values = {"data": str(path)}
    keys = [run_of(**values).key]
    h = run_of(**values)
    path.write_text("To be or not to bé. " * 100, encoding="utf-8")
    keys.append(run_of(**values).key)
    assert keys[0] != keys[1]
    with pytest.raises(ConfigError, match="text.txt: changed since the run was planned"):
        h.check_sources()
    assert run_of(**values).sources == [path] and run_of(data="topics").sources == []
    # What belongs to the Markov source alone is nothing to a text.
    assert run_of(**values, order=3).key == keys[1]


WRONG = {
    "heads": ({"heads": 3}, "heads = 3: does not divide the width of 8; give a divisor"),
    "contexts": ({"order": 8, "alphabet": 99}, "order = 8: 99 characters have 9227446944279201 co"),
    "missing": ({"data": "no.txt"}, "no.txt: cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_line(case):
    values, said = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        run_of(**values)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


TEXTS = {
    "short": (b"short", "text.txt: 5 characters, 5 different ones; give a text of 1000 or more"),
    "foreign": (b"a" * 2000 + b"\xff", "text.txt: byte 2000 is no UTF-8; convert the file"),
    "narrow": (b"ab" * 600, "context = 500: .* has only 1200 characters, a tenth of which"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_that_cannot_be_used_is_one_line(tmp_path, case):
    content, said = TEXTS[case]
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    h = run_of(data=str(path), context=500)
    with pytest.raises(ConfigError, match=said):
        h.check_sources()


def test_a_replica_that_diverges_is_named_with_layer_and_step():
    h = run_of(optimiser="sgd", learning_rate=1e30, dtype="float32")
    with pytest.raises(DivergedError, match=r"replica \d diverged at SGD step \d+: a weight of la"):
        train_in_memory(SYSTEM.simulation, h, log=io.StringIO())


@pytest.mark.parametrize("name", ["transformer", "transformer_motion"])
def test_the_configurations_of_the_transformer_are_valid(name):
    path = Path(__file__).resolve().parents[2] / "config" / f"{name}.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(config, json_schema())
    plan = Plan.from_config(config)
    assert {run.optimiser for run in plan.runs.values()} > {"adamw"}
    for run in plan.runs.values():
        if name == "transformer_motion" and run.burn_in:
            # The start is forgotten: weights decay within 1 / (learning_rate weight_decay) steps.
            assert run.burn_in * run.learning_rate * run.weight_decay > 4
