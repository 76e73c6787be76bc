"""The recorder: what it writes, what it refuses, and that a study reads it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import torch
from limits import HANGING

import dysonflow
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.recording import recorder as module


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = torch.nn.Linear(4, 6), torch.nn.Linear(4, 6)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = Attention(), torch.nn.Linear(4, 8)

    def forward(self, x):
        return self.mlp(x) + self.attn.query(x).mean() + self.attn.key(x).mean()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 4)
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("counts", torch.zeros(3, 3, dtype=torch.int64))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)[..., :4]
        return x


ATTENTION = {f"blocks.{b}.attn.{part}.weight": (6, 4) for b in (0, 1) for part in ("query", "key")}


def content(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def shapes(path):
    return {name: tuple(tensor.shape) for name, tensor in content(path).items()}


def test_two_lines_in_a_loop_and_one_line_of_config(tmp_path):
    torch.manual_seed(0)
    model = Net()
    recorder = dysonflow.Recorder(tmp_path / "weights", layers="blocks.*.attn.*", every=5)
    kept = {}
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(13):
        if step % 5 == 0:
            kept[step] = model.blocks[1].attn.key.weight.detach().clone()
        written = recorder(step, model)
        assert (written is not None) == (step % 5 == 0)
        optimiser.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimiser.step()
    assert recorder(10, model) is None
    assert shapes(tmp_path / "weights" / "step10.safetensors") == ATTENTION
    run = dysonflow.train(
        "checkpoints",
        {
            "path": recorder.path,
            **{"array": "blocks.1.attn.key.weight", "axes": ["row", "column"]},
            **{"learning_rate": 0.1, "batch_size": 2},
        },
    )
    assert run.step.tolist() == [0, 5, 10]
    np.testing.assert_array_equal(run.weights["W"][0], torch.stack(list(kept.values())).numpy())
    assert len(dysonflow.spectra(run)) == 3 * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_numbers_are_those_of_the_model_in_its_type(tmp_path, dtype):
    model = Net().to(dtype)
    model.blocks[0].mlp.to(torch.float32)
    path = dysonflow.Recorder(tmp_path)(0, model)
    found, expected = content(path), dict(model.named_parameters())
    assert set(found) == {name for name, value in expected.items() if value.ndim == 2}
    # The tied weight once, under its first name; no bias, no buffer.
    assert "embedding.weight" in found and "head.weight" not in found
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])


def wrappers():
    net = Net()
    inner = Net()
    inner.blocks[0] = torch.compile(inner.blocks[0])
    yield "data parallel", torch.nn.DataParallel(net)
    yield "compiled", torch.compile(net)
    yield "a part compiled", inner
    yield "both", torch.compile(torch.nn.DataParallel(net))
    yield "state of a wrapped model", torch.nn.DataParallel(net).state_dict()
    yield "state of a compiled model", torch.compile(net).state_dict()


@pytest.mark.parametrize(("name", "model"), [*wrappers()])
def test_wrappers_leave_no_trace_in_the_names(tmp_path, name, model):
    path = dysonflow.Recorder(tmp_path, ["blocks.*.attn.*", "embedding"])(0, model)
    assert shapes(path) == ATTENTION | {"embedding.weight": (5, 4)}


def test_a_part_of_the_model_may_be_called_module(tmp_path):
    model = torch.nn.Module()
    model.module, model.head = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
    path = dysonflow.Recorder(tmp_path)(0, model)
    assert shapes(path) == {"module.weight": (3, 2), "head.weight": (2, 3)}


def test_arrays_without_torch_are_recorded(tmp_path):
    array = np.arange(12.0, dtype=np.float32).reshape(3, 4).T
    found = content(dysonflow.Recorder(tmp_path)(7, {"a": array, "n": np.arange(4), "name": "x"}))
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"].numpy(), array)


DISTRIBUTED = """
import sys, torch, dysonflow
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
rank, folder = int(sys.argv[1]), sys.argv[2]

def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))

whole = network().state_dict()
# Before the processes have met, as most scripts do.
recorder = dysonflow.Recorder(folder + "/weights")
torch.distributed.init_process_group(
    "gloo", init_method="file://" + folder + "/meet", rank=rank, world_size=2
)
mesh = init_device_mesh("cpu", (2,))
models = [
    torch.nn.parallel.DistributedDataParallel(network()),
    fully_shard(network(), mesh=mesh),
    FullyShardedDataParallel(network(), device_id=torch.device("cpu")),
]
for step, model in enumerate(models):
    path = recorder(step, model)
    assert (path is None) == (rank != 0), path
    if rank == 0:
        found = load_file(path)
        assert set(found) == {"0.weight", "1.weight"}, (step, set(found))
        assert all(torch.equal(found[name], whole[name]) for name in found), step
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_of_several_processes_one_writes_the_whole_weights(tmp_path):
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", DISTRIBUTED, str(rank), str(tmp_path)],
            env=os.environ | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [job.communicate(timeout=HANGING)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(said)


def test_a_pattern_that_matches_nothing_names_the_nearest(tmp_path):
    recorder = dysonflow.Recorder(tmp_path, "block.*.attn.query")
    with pytest.raises(ConfigError) as caught:
        recorder(0, Net())
    assert str(caught.value) == (
        "layers = 'block.*.attn.query': matches no weight matrix; did you mean "
        "blocks.*.attn.query.weight?"
    )
    # A bias is no matrix.
    with pytest.raises(ConfigError, match="matches no weight matrix"):
        dysonflow.Recorder(tmp_path / "bias", "*.bias")(0, Net())


def test_a_folder_is_recorded_into_by_one_run_at_a_time(tmp_path):
    first = dysonflow.Recorder(tmp_path)
    with pytest.raises(ConfigError, match=r"process \d+ on .* is recording into it; give each run"):
        dysonflow.Recorder(tmp_path)
    code = f"import dysonflow; dysonflow.Recorder({str(tmp_path)!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode != 0
    assert f"{tmp_path}: process" in other.stderr.splitlines()[-1]
    first(0, Net())
    first.close()
    with pytest.raises(ConfigError, match="of an earlier run, up to step 0; give another"):
        dysonflow.Recorder(tmp_path)
    with dysonflow.Recorder(tmp_path, resume=True) as again:
        again(1, Net())
    assert sorted(module._steps(tmp_path)) == [0, 1]
    with (
        dysonflow.Recorder(tmp_path, resume=True) as third,
        pytest.raises(ConfigError, match=r"holds other layers than this model \(0.weight: not th"),
    ):
        third(2, torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_what_cannot_be_recorded_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="every = 0: give a whole number of steps >= 1"):
        dysonflow.Recorder(tmp_path, every=0)
    with pytest.raises(ConfigError, match="list is neither a torch module nor a dictionary"):
        dysonflow.Recorder(tmp_path)(0, [])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ArtifactError, match="file/weights: cannot be written: Not a directory"):
        dysonflow.Recorder(tmp_path / "file" / "weights")


def test_one_tensor_at_a_time_is_held(tmp_path, monkeypatch):
    """What is fetched is let go before the next is fetched."""
    import weakref

    held, most = [], []
    fetch_of = module._fetch

    def watched(tensor):
        fetch = fetch_of(tensor)

        def fetched():
            found = fetch().clone()
            held.append(weakref.ref(found))
            most.append(sum(reference() is not None for reference in held))
            return found

        return fetched

    monkeypatch.setattr(module, "_fetch", watched)
    dysonflow.Recorder(tmp_path)(0, Net())
    assert len(most) == 7 and max(most) <= 2


def test_an_interrupted_write_leaves_nothing(tmp_path):
    class Broken:
        dtype, shape = "float32", (2, 2)

        def detach(self):
            raise OSError(28, "No space left on device")

    recorder = dysonflow.Recorder(tmp_path)
    with pytest.raises(ArtifactError, match="No space left on device; the training itself is as"):
        recorder(0, {"a": Broken()})
    assert [path.name for path in tmp_path.iterdir()] == [module.LOCK]


def test_a_step_that_is_not_due_imports_nothing():
    code = (
        "import sys, tempfile, dysonflow; r = dysonflow.Recorder(tempfile.mkdtemp(), every=10); "
        "assert r(3, None) is None; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_callback_of_lightning(tmp_path):
    pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    import lightning.pytorch as pl

    class Task(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(3, 2)

        def training_step(self, batch, number):
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.TensorDataset(torch.ones(24, 3))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    recorder = dysonflow.Recorder(tmp_path / "weights", layers="net", every=2)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        # Twelve batches are six steps.
        accumulate_grad_batches=2,
        callbacks=[recorder.lightning_callback()],
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False),
        enable_model_summary=False,
    )
    task = Task()
    start = task.net.weight.detach().clone()
    trainer.fit(task, loader)
    assert sorted(module._steps(tmp_path / "weights")) == [0, 2, 4, 6]
    found = [content(tmp_path / "weights" / f"step{n}.safetensors") for n in (0, 6)]
    assert torch.equal(found[0]["net.weight"], start)
    assert torch.equal(found[1]["net.weight"], task.net.weight.detach())
    # The folder is free again.
    dysonflow.Recorder(tmp_path / "weights", resume=True).close()


def test_callback_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="its Trainer needs accelerate")

    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(16)]
    recorder = dysonflow.Recorder(tmp_path / "weights", layers="*.attn.c_attn", every=2)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=5,
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        model, arguments, train_dataset=rows, callbacks=[recorder.transformers_callback()]
    )
    name = "transformer.h.0.attn.c_attn.weight"
    start = dict(model.named_parameters())[name].detach().clone()
    trainer.train()
    assert sorted(module._steps(tmp_path / "weights")) == [0, 2, 4]
    found = [content(tmp_path / "weights" / f"step{n}.safetensors") for n in (0, 4)]
    assert list(found[0]) == [name] and torch.equal(found[0][name], start)
    assert not torch.equal(found[1][name], start)
