"""The user's own network: equal to a plain loop, resumable, and clear about what is wrong."""

import io
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import dysonflow
from dysonflow import models
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.models.torch_module import DATA, START, Batches, _drawn_seed, _seed, build
from dysonflow.readers import user_code
from dysonflow.simulation.base import Block
from dysonflow.simulation.ensemble import train_in_memory
from dysonflow.simulation.noise import NoiseStream

SYSTEM = models.load("torch_module")
CPU_DOUBLE = (torch.device("cpu"), torch.float64)
TIMES = {"steps": 12, "snapshots": 3, "replicas": 3, "batch_size": 8}

PLAIN = """
import torch
from helper import points

def build(width=5):
    return torch.nn.Sequential(
        torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 3)
    )

def data(generator, batch_size):
    return points(generator, batch_size)

def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)
"""
HELPER = """
import torch

def points(generator, count):
    x = torch.randn(count, 2, generator=generator)
    return x, (x[:, 0] > x[:, 1]).long()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(PLAIN, encoding="utf-8")
    (tmp_path / "helper.py").write_text(HELPER, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # No shapes that another test, or the same one once, has found out.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def network(folder, body, **more):
    """A file whose `build` returns the class Net of `body`, with the data of the plain one."""
    text = PLAIN.replace("def build(width=5)", "def plain(width=5)")
    text += textwrap.dedent(body) + "\ndef build(**arguments):\n    return Net(**arguments)\n"
    (folder / "net.py").write_text(text, encoding="utf-8")
    return run_of(**more)


def run_of(**values):
    given = {"module": "net.py:build", "data": "net.py:data", "loss": "cross_entropy", **TIMES}
    return SYSTEM.hyperparameters.from_config(given | values)


def train(h):
    return train_in_memory(SYSTEM.simulation, h, log=io.StringIO())


def start(h):
    return SYSTEM.simulation.start(h, Block(0, h.replicas))


OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.01),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_replicas_are_those_of_a_plain_loop_of_torch(folder, optimiser):
    h = run_of(optimiser=optimiser, arguments={"width": 4}, dtype="float64", loss="net.py:loss")
    assert h.layers() == {"0": (4, 2), "2": (3, 4)}
    found = train(h)
    code = user_code.load(h.reference("module")).__globals__
    for replica in range(h.replicas):
        torch.manual_seed(_seed(h, replica, START))
        net = code["build"](width=4).double()
        generator = torch.Generator().manual_seed(_seed(h, replica, DATA))
        update = OPTIMISERS[optimiser](net.parameters())
        for _ in range(h.steps):
            x, y = code["data"](generator, h.batch_size)
            update.zero_grad()
            code["loss"](net(x.double()), y).backward()
            update.step()
        for layer in ("0", "2"):
            expected = net[int(layer)].weight.detach().numpy()
            np.testing.assert_allclose(found.layers[layer][replica, -1], expected, rtol=1e-9)
    # No two replicas share a number.
    assert len(np.unique(found.layers["0"][:, 0])) == 3 * 4 * 2
    assert found.loss.shape == (3, 3) and np.isfinite(found.loss).all()


DROPOUT = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, x):
        return torch.nn.functional.dropout(self.net(x), 0.5, self.training)
"""
BATCH_NORM = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 3)
    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))
"""
BRANCH = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, x):
        out = self.net(x)
        return 2 * out if float(out.detach().sum()) > 0 else out
"""
CONVOLUTION = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel, self.last = torch.nn.Conv1d(1, 3, 2), torch.nn.Linear(3, 3)
    def forward(self, x):
        return self.last(torch.tanh(self.kernel(x[:, None])).flatten(1))
"""
SAMPLES = """
def data(generator, batch_size):
    x, y = points(torch.Generator().manual_seed(1), 20)
    order = torch.randperm(20, generator=generator)
    for first in range(0, 20 - batch_size + 1, batch_size):
        yield x[order[first : first + batch_size]], y[order[first : first + batch_size]]
"""
WAYS = {
    "at once": ("class Net(torch.nn.Module):\n    def __new__(cls): return plain()\n", ""),
    "dropout": (DROPOUT, ""),
    "epochs": (DROPOUT + SAMPLES, ""),
    "statistics": (BATCH_NORM, "the module keeps statistics from step to step, in norm.running_"),
    "branch": (BRANCH, "vmap"),
    "convolution": (CONVOLUTION, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_training_goes_on_to_the_same_bytes(folder, way):
    body, reason = WAYS[way]
    h = network(folder, body, optimiser="momentum", steps=9)
    whole, first = start(h), start(h)
    why = whole.modules.why_one_by_one
    assert reason in why if reason else why == ""
    whole.advance(9)
    first.advance(4)
    again = start(h)
    again.load({name: array.copy() for name, array in first.state().items()})
    again.advance(5)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(again.state()[name], array)
    np.testing.assert_array_equal(whole.loss(), again.loss())


def test_a_part_of_the_replicas_is_trained_as_within_the_whole(folder):
    h = network(folder, DROPOUT, replicas=66)
    whole = train(h)
    log = io.StringIO()
    part = train_in_memory(SYSTEM.simulation, h, log=log, members=range(64, 66))
    for layer, weights in whole.layers.items():
        np.testing.assert_array_equal(part.layers[layer], weights[64:])


def test_replicas_have_dropout_of_their_own(folder):
    same = """
    def data(generator, batch_size):
        return points(torch.Generator().manual_seed(1), batch_size)
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(2, 3, bias=False)
            torch.nn.init.ones_(self.last.weight)
        def forward(self, x):
            return self.last(torch.nn.functional.dropout(x, 0.5, self.training))
    """
    simulation = start(network(folder, same))
    assert simulation.modules.why_one_by_one == ""
    np.testing.assert_array_equal(np.ptp(simulation.layers()["last"], axis=0), 0)
    simulation.advance(1)
    weights = simulation.layers()["last"]
    assert (weights[0] != weights[1]).any() and (weights[1] != weights[2]).any()
    # Without dropout, as the loss is taken, the data are the same to all.
    assert np.ptp(start(network(folder, same)).loss()) == 0


def test_one_by_one_gives_the_gradients_of_all_at_once(folder):
    simulation = start(run_of(dtype="float64"))
    batches = [batches.next() for batches in simulation.batches]
    at_once, losses = simulation.modules.gradients(batches)
    by_itself, same = simulation.modules._one_by_one(batches, simulation.modules.buffers)
    for name, value in by_itself.items():
        torch.testing.assert_close(at_once[name], value)
    torch.testing.assert_close(losses, same)


def test_the_key_follows_the_files_and_what_they_import(folder):
    keys = [run_of().key]
    (folder / "other.py").write_text("x = 1\n", encoding="utf-8")
    keys.append(run_of().key)
    assert keys[0] == keys[1]
    for file in ("net.py", "helper.py"):
        with open(folder / file, "a", encoding="utf-8") as stream:
            stream.write("# edited\n")
        keys.append(run_of().key)
    keys.append(run_of(arguments={"width": 6}).key)
    assert len(set(keys)) == 4
    assert [path.name for path in run_of().sources] == ["helper.py", "net.py"]
    h = run_of()
    (folder / "helper.py").write_text(HELPER, encoding="utf-8")
    with pytest.raises(ConfigError, match="helper.py, net.py: changed since the run was planned"):
        h.check_sources()


def test_files_of_one_name_in_two_folders_are_told_apart(folder):
    values = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "net.py").write_text(PLAIN, encoding="utf-8")
        text = HELPER.replace("> x[:, 1]", "> 9" if name == "one" else "> -9")
        (folder / name / "helper.py").write_text(text, encoding="utf-8")
        h = run_of(module=f"{name}/net.py:build", data=str(folder / name / "net.py") + ":data")
        targets = [batches.next()[1] for batches in start(h).batches]
        values.append(float(torch.stack(targets).float().mean()))
    assert values == [0.0, 1.0]


def test_words_among_the_arguments_stay_words(folder):
    given = {"width": "1e1", "kind": "nan", "other": "inf", "last": [True, "2"]}
    body = "def Net(width, kind, other, last): return torch.nn.Linear(2, width)"
    arguments = network(folder, body, arguments=given).arguments
    assert arguments == {"width": 10, "kind": "nan", "other": "inf", "last": [True, 2]}
    with pytest.raises(ConfigError, match="learning_rate = 'inf'"):
        run_of(learning_rate="inf")


def test_layers_are_chosen_by_patterns(folder):
    assert run_of(layers="2").layers() == {"2": (3, 5)}
    assert run_of(layers=["0.weight", "2"]).layers() == {"0": (5, 2), "2": (3, 5)}
    assert network(folder, CONVOLUTION).layers() == {"kernel": (3, 2), "last": (3, 3)}
    with pytest.raises(ConfigError, match=r"layers = 'kernl': matches no weight.*mean kernel\?"):
        run_of(layers=["kernl"])


WRONG = {
    "no file": ({"module": "no.py:build"}, "no.py: cannot be read: No such file or directory"),
    "no name": ({"module": "net.py"}, "module = 'net.py': give a file and a function in it, as"),
    "no function": (
        {"module": "net.py:biuld"},
        "net.py:biuld: no such function; did you mean buil",
    ),
    "argument": ({"arguments": {"depth": 2}}, "net.py:build: TypeError: build() got an unexpected"),
    "loss": ({"loss": "entropy"}, "loss = 'entropy': neither built in nor path.py:function; did"),
    "no module": (
        {"module": "net.py:data", "arguments": {"generator": 1, "batch_size": 2}},
        "net.p",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_one_line(folder, case):
    values, said = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        run_of(**values)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


BROKEN = {
    "class Net(torch.nn.Module): pass": "net.py:build: the module has no parameter of two axes",
    "def Net(): return 3": "net.py:build: returns a int, where a torch.nn.Module belongs",
    "def Net(): return torch.nn.LazyLinear(3)": "net.py:build: weight has no shape yet; build no",
    "def Net(): return torch.nn.Linear(2, 3, device='cuda')": "make everything on the CPU: it is",
    "def Net(): raise RuntimeError('all tensors to be on the same device, cuda:0 and cpu')": (
        "be buffers (register_buffer), which move with it to the device"
    ),
    "def Net(:": "net.py, line 15: invalid syntax",
    "1 / 0\ndef Net(): pass": "net.py:build: cannot be executed: ZeroDivisionError: division by",
}


@pytest.mark.parametrize("body", BROKEN)
def test_a_module_that_cannot_be_trained_is_one_line(folder, body):
    with pytest.raises(ConfigError) as caught:
        network(folder, body)
    assert BROKEN[body] in str(caught.value) and "\n" not in str(caught.value)


GROWS = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, x):
        self.more = torch.nn.Parameter(torch.ones(2, 2))
        return self.net(x)
"""
RANDOM = "def Net(): return torch.nn.Linear(2, int(torch.randint(3, 99, ())))"
STARTED = {
    "grows": (GROWS, {}, r"changes its own shapes when it is called \(more\)"),
    "differs": (RANDOM, {}, r"net.py:build: .*(other shapes|not those of the plan)"),
    "no scalar": (
        DROPOUT + "\ndef loss(outputs, targets): return outputs\n",
        {"loss": "net.py:loss"},
        r"loss: gave \(8, 3\), where one number belongs; take the mean",
    ),
    "shapes": (DROPOUT, {"loss": "squared_error"}, r"outputs of shape \(8, 3\) and targets of sh"),
    "classes": (
        DROPOUT + "\ndef data(generator, batch_size): return torch.ones(8, 2), torch.ones(8, 3)\n",
        {},
        r"outputs of shape \(8, 3\) for classes of shape \(8, 3\)",
    ),
    "one thing": (DROPOUT + "\ndef data(generator, batch_size): yield 1\n", {}, "two things, inp"),
    "forward": (
        DROPOUT.replace("self.net(x)", "self.net(x @ x)"),
        {},
        r"net.py:build: Runtime.*line",
    ),
}


@pytest.mark.parametrize("case", STARTED)
def test_what_shows_at_the_start_is_one_line(folder, case):
    body, values, said = STARTED[case]
    with pytest.raises(ConfigError, match=said) as caught:
        start(network(folder, body, **values))
    assert "\n" not in str(caught.value)


def test_a_number_that_is_not_finite_is_found_at_its_step(folder):
    body = """
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain()
            self.register_buffer("calls", torch.zeros(()))
        def forward(self, x):
            if self.training:
                self.calls += 1
            return self.net(x) / (self.calls < 5)
    """
    h = network(folder, body)
    with pytest.raises(DivergedError, match="replica 0 diverged at SGD step 5: a weight of layer"):
        train(h)


TWO_INPUTS = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.unused = plain(), torch.nn.Linear(2, 2)
    def forward(self, x, scale):
        return self.net(x) * scale
def data(generator, batch_size):
    x, y = points(generator, batch_size)
    return (x, torch.rand(batch_size, 1, generator=generator)), y
"""
# Whose number of rows vmap does not know.
MASK = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, x):
        right, found = x[:, 0] > 0, self.net(x)
        return found.masked_scatter(right[:, None], 2 * found[right])
"""
SAMPLED = {
    "at once": (WAYS["at once"][0], ""),
    "two inputs": (TWO_INPUTS, ""),
    "mask": (MASK, "samples are differentiated one by one: "),
}


@pytest.mark.parametrize("way", SAMPLED)
def test_gradients_of_single_samples_are_those_of_a_plain_loop(folder, caplog, way):
    body, said = SAMPLED[way]
    simulation = start(network(folder, body, dtype="float64"))
    before = simulation.state()
    with caplog.at_level("INFO", "dysonflow"):
        # Ten samples of batches of eight.
        found = simulation.sample_gradients(1, 10, NoiseStream(7, "ab", 0, *CPU_DOUBLE))
    logged = [record.getMessage() for record in caplog.records]
    assert [line.startswith(said) for line in logged] == ([True] if said else [])
    for name, array in simulation.state().items():
        np.testing.assert_array_equal(array, before[name])
    source = Batches(
        simulation.h,
        simulation.data,
        _drawn_seed(NoiseStream(7, "ab", 0, *CPU_DOUBLE)),
    )
    drawn = [source.next() for _ in range(2)]
    inputs = [torch.cat(parts) for parts in zip(*(batch[0] for batch in drawn), strict=True)]
    targets = torch.cat([batch[1] for batch in drawn])
    net = build(simulation.h, _seed(simulation.h, 1, START))
    for sample in range(10):
        net.zero_grad()
        outputs = net(*(part[sample : sample + 1] for part in inputs))
        torch.nn.functional.cross_entropy(outputs, targets[sample : sample + 1]).backward()
        for layer, (name, *_) in simulation.kept.items():
            gradient = net.get_parameter(name).grad
            expected = torch.zeros_like(net.get_parameter(name)) if gradient is None else gradient
            torch.testing.assert_close(found[layer][sample], expected)
    assert all(len(value) == 10 for value in found.values())


NOT_OF_SAMPLES = {
    "dropout": (DROPOUT, {}, "gradient of a batch is not the mean of those of its samples"),
    "statistics": (BATCH_NORM, {}, "module: keeps statistics of its batches, in norm.running_"),
    "sum": (
        WAYS["at once"][0] + "\ndef loss(outputs, targets): return outputs.square().sum()\n",
        {"loss": "net.py:loss"},
        "a loss that is no mean over samples",
    ),
    "shape": (
        WAYS["at once"][0]
        + "\ndef data(generator, batch_size): return points(generator, 2 * batch_size)\n",
        {},
        r"a batch holds shape \(16, 2\), where the noise of single samples needs 8",
    ),
    "epochs": (WAYS["at once"][0] + SAMPLES, {}, "data = 'net.py:data': yields its batches"),
    "handed on": (
        WAYS["at once"][0]
        + SAMPLES.replace("def data", "def epoch")
        + "\ndef data(generator, batch_size): return epoch(generator, batch_size)\n",
        {},
        "data = 'net.py:data': yields its batches",
    ),
}


@pytest.mark.parametrize("case", NOT_OF_SAMPLES)
def test_what_has_no_noise_of_single_samples_is_one_line(folder, case):
    body, values, said = NOT_OF_SAMPLES[case]
    h = network(folder, body, **values)
    assert (h.why_no_gradient_noise() != "") == (case == "epochs")
    with pytest.raises(ConfigError, match=said) as caught:
        dysonflow.gradient_noise("torch_module", h.canonical(), steps=[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"learning_rate": 0.05}, {"optimiser": "adamw", "learning_rate": 0.005}]
)
def test_levels_move_as_the_noise_of_single_samples_says(folder, values):
    h = run_of(**values, replicas=48)
    frame = dysonflow.gradient_noise(
        "torch_module", h.canonical(), steps=[60], samples=96, branches=24
    )
    assert set(frame["layer"]) == {"0", "2"}
    for _, rows in frame.groupby("layer"):
        one = rows.iloc[0]
        ratio, error = one["measured_over_predicted"], one["measured_over_predicted_error"]
        assert error < 0.12 and abs(ratio - 1.0) < 5 * error


def test_a_plan_builds_the_module_once_and_executes_nothing_of_it_again(folder, monkeypatch):
    first = run_of(arguments={"width": 6})
    assert len(list(folder.glob("cache/dysonflow/shapes/*.json"))) == 1

    def fails(*arguments):
        raise RuntimeError("executed")

    with monkeypatch.context() as without:
        without.setattr(user_code, "load", fails)
        again = run_of(arguments={"width": 6}, layers="2")
        again.check_sources()
        assert (first.layers(), again.layers()) == ({"0": (6, 2), "2": (3, 6)}, {"2": (3, 6)})
        for other in ({"arguments": {"width": 7}}, {"module": "net.py:data"}):
            with pytest.raises(RuntimeError, match="executed"):
                run_of(**other)
    for path in folder.glob("cache/dysonflow/shapes/*.json"):
        path.write_text("[[3", encoding="utf-8")
    assert run_of(arguments={"width": 6}).key == first.key
    with pytest.raises(ConfigError, match=r"net.py:dat: no such function; did you mean data\?"):
        run_of(data="net.py:dat").check_sources()


def test_shapes_that_depend_on_more_are_found_out_again(folder):
    body = (
        "from pathlib import Path\ndef Net(): return torch.nn.Linear(2, int(Path('w').read_text()))"
    )
    Path("w").write_text("3", encoding="utf-8")
    planned = network(folder, body)
    Path("w").write_text("4", encoding="utf-8")
    assert network(folder, body).matrices == planned.matrices
    with pytest.raises(ConfigError, match=r"not those of the plan.*and run snakemake again"):
        start(planned)
    assert network(folder, body).layers() == {"weight": (4, 2)}
