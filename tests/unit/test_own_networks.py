"""Whole networks from the user's own checkpoints: every format, every rule, every bad file."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import yaml
from in_process import make
from limits import HANGING

import dysonflow
from dysonflow import cli, models, single, stages
from dysonflow.analysis import scaling_tests
from dysonflow.artifacts.weights import PART_BYTES, open_weights, write_weights
from dysonflow.errors import ConfigError
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import load_studies
from dysonflow.readers import arrays
from dysonflow.readers.discovery import find_pattern
from dysonflow.report import figures
from dysonflow.report.figures.spectrum import even_bins

CHECKPOINTS = models.hyperparameters_of("checkpoints")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def save(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if str(path).endswith(".safetensors"):
        safetensors.torch.save_file(content, path)
    elif str(path).endswith(".npz"):
        np.savez(path, **{name: tensor.numpy() for name, tensor in content.items()})
    else:
        torch.save(content, path)


def run_of(path, **values):
    return CHECKPOINTS.from_config({"path": str(path), **values})


def read(path, **values):
    """Layers of a run of one replica and snapshot, read as the workflow does."""
    run = single.train("checkpoints", {"path": str(path), **values})
    return {layer: weights[0, 0] for layer, weights in run.weights.items()}


def lines_of(path, **values):
    return {line.name: line for line in run_of(path, **values).held().lines}


def refused(path, **values):
    with pytest.raises(ConfigError) as caught:
        run_of(path, **values).check_sources()
    message = str(caught.value)
    assert "\n" not in message
    return message


NETWORK = {
    "conv.weight": normal(4, 3, 5, 5, seed=1),
    "conv.bias": normal(4, seed=2),
    "fc.weight": normal(6, 9, seed=3),
    "steps": torch.tensor(7),
    "ids": torch.zeros(3, 3, dtype=torch.int64),
}


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth", "bin", "ckpt", "npz"])
def test_every_matrix_of_a_file_is_a_layer(suffix):
    save(f"a.{suffix}", NETWORK)
    layers = read(f"a.{suffix}")
    assert list(layers) == ["conv", "fc"]
    np.testing.assert_array_equal(layers["conv"], NETWORK["conv.weight"].reshape(4, 75))
    np.testing.assert_array_equal(layers["fc"], NETWORK["fc.weight"])
    lines = lines_of(f"a.{suffix}")
    assert list(lines) == ["conv.bias", "conv.weight", "fc.weight", "ids", "steps"]
    assert lines["conv.weight"].reason == "kernel 4 x 3 x 5 x 5, the first axis as rows"
    assert [lines[name].used for name in lines] == [False, True, True, False, False]
    assert lines["conv.bias"].reason == "a vector of 4"
    assert "int64 is no type of weights" in lines["ids"].reason
    # An integer that stands alone in a torch file may be no tensor at all.
    assert lines["steps"].reason in ("one number", "int64 is no type of weights")


@pytest.mark.parametrize(
    ("before", "container"),
    [
        ("", None),
        ("module.", None),
        ("_orig_mod.", "state_dict"),
        ("_orig_mod.module.", "model_state_dict"),
        ("module._orig_mod._fsdp_wrapped_module.", "model"),
    ],
)
def test_what_a_framework_puts_around_is_left_out(before, container):
    content = {f"{before}{name}": tensor for name, tensor in NETWORK.items()}
    if container:
        moments = {"state": {0: {"exp_avg": normal(6, 9)}}}
        content = {container: content, "optimizer": moments, "epoch": 3}
    save("a.pt", content)
    np.testing.assert_array_equal(read("a.pt")["fc"], NETWORK["fc.weight"])
    if container:
        lines = lines_of("a.pt")
        assert lines["optimizer/state/0/exp_avg"].reason == f"outside of {container}"


def test_wrappers_within_a_name_and_a_module_of_this_name():
    content = {
        "layers.0._fsdp_wrapped_module.mlp._checkpoint_wrapped_module.fc.weight": normal(3, 4),
        "module.weight": normal(4, 4, seed=1),
        "_fsdp_wrapped_module._flat_param": normal(40),
    }
    save("a.pt", content)
    assert list(read("a.pt")) == ["layers.0.mlp.fc", "module"]
    assert "flattened by FSDP" in lines_of("a.pt")["_flat_param"].reason


def test_a_name_with_and_without_its_prefix():
    save("a.pt", {"fc.weight": normal(3, 4), "_orig_mod.fc.weight": normal(3, 4, seed=1)})
    assert list(read("a.pt")) == ["fc"]
    assert "without its prefix" in lines_of("a.pt")["_orig_mod.fc.weight"].reason


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
)
def test_short_numbers_are_widened_and_it_is_said(suffix, dtype):
    stored = normal(8, 8).to(getattr(torch, dtype))
    save(f"a.{suffix}", {"fc.weight": stored})
    layers = read(f"a.{suffix}")
    wide = stored.double() if dtype == "float64" else stored.float()
    np.testing.assert_array_equal(layers["fc"], wide)
    assert layers["fc"].dtype == ("float64" if dtype == "float64" else "float32")
    line = lines_of(f"a.{suffix}")["fc.weight"]
    assert line.dtype == dtype
    assert line.reason == ("" if dtype == "float64" else f"{dtype} read as float32")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_all_numbers_of_eight_bits_are_those_of_torch(dtype):
    stored = torch.arange(256, dtype=torch.uint8).view(dtype).reshape(16, 16)
    save("a.safetensors", {"w": stored})
    np.testing.assert_array_equal(arrays.read("a.safetensors", "w"), stored.float())


def shard(folder="hf", shards=2):
    """A sharded checkpoint in the layout of Hugging Face."""
    content = {f"h.{k}.fc.weight": normal(3 + k, 4, seed=k) for k in range(4)}
    index = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {key: content[key] for key in list(content)[number::shards]}
        save(Path(folder) / name, part)
        index |= dict.fromkeys(part, name)
    write_index(folder, index)
    return content, index


def write_index(folder, index):
    path = Path(folder) / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))


@pytest.mark.parametrize("path", ["hf", "hf/model.safetensors.index.json"])
def test_a_sharded_checkpoint(path):
    content, _ = shard()
    layers = read(path)
    assert list(layers) == [f"h.{k}.fc" for k in range(4)]
    for name, tensor in content.items():
        np.testing.assert_array_equal(layers[name.removesuffix(".weight")], tensor)
    assert len(run_of(path).sources) == 3


def test_a_sharded_checkpoint_that_is_not_whole(folder):
    content, index = shard()
    second = folder / "hf" / "model-00002-of-00002.safetensors"
    raw = second.read_bytes()
    assert "one of 2 shards; give their index" in refused("hf/model-00001-of-00002.safetensors")
    second.unlink()
    assert "shard model-00002-of-00002.safetensors, which it names, is missing" in refused("hf")
    second.write_bytes(raw)
    first = {key: name for key, name in index.items() if "00001" in name}
    write_index("hf", first)
    assert "00002-of-00002.safetensors lies beside it, but it names no tensor" in refused("hf")
    second.unlink()
    assert "00002-of-00002.safetensors is missing, and it names no tensor" in refused("hf")
    second.write_bytes(raw)
    write_index("hf", index | {"h.9.fc.weight": second.name})
    assert "puts h.9.fc.weight into model-00002" in refused("hf")
    (moved,) = [key for key, name in index.items() if "00002" in name][:1]
    write_index("hf", {key: name for key, name in index.items() if key != moved})
    assert lines_of("hf")[moved].reason == "not named by the index"
    write_index("hf", index | {moved: "../b.safetensors"})
    assert "no file in its own folder" in refused("hf")
    (folder / "hf" / "model.safetensors.index.json").write_text("{}")
    assert "no weight_map in it" in refused("hf")
    (folder / "hf" / "model.safetensors.index.json").unlink()
    assert "holds 2 shards, and no index" in refused("hf")


def test_a_folder_of_a_trainer_holds_one_checkpoint(folder):
    save("run/checkpoint-5/pytorch_model.bin", NETWORK)
    for name in ("optimizer.pt", "training_args.bin", "rng_state_0.pth"):
        (folder / "run" / "checkpoint-5" / name).write_bytes(b"pickled")
    assert list(read("run/checkpoint-5")) == ["conv", "fc"]


def test_folders_that_hold_no_checkpoint_or_several(folder):
    (folder / "empty").mkdir()
    assert "empty: a folder without a checkpoint in it" in refused("empty")
    (folder / "spread").mkdir()
    (folder / "spread" / "__0_0.distcp").touch()
    assert "dcp_to_torch spread spread.pt makes one file of it" in refused("spread")
    with pytest.raises(ConfigError, match="a distributed checkpoint"):
        find_pattern("spread")
    save("two/a1.pt", NETWORK)
    save("two/a2.pt", NETWORK)
    assert "holds 2 checkpoints, such as a1.pt; put {snapshot} or {replica}" in refused("two")


# --- which tensors, and what of them --------------------------------------------------------------


def test_queries_keys_and_values_of_gpt2_stand_in_columns():
    tensor = normal(8, 24)
    save("a.safetensors", {"h.0.attn.c_attn.weight": tensor, "h.0.attn.bias": normal(1, 1, 9, 9)})
    layers = read("a.safetensors")
    names = [f"h.0.attn.c_attn.{part}" for part in ("query", "key", "value")]
    assert list(layers) == names
    for k, name in enumerate(names):
        np.testing.assert_array_equal(layers[name], tensor[:, 8 * k : 8 * k + 8])
    lines = run_of("a.safetensors").held().lines
    assert lines[0].reason == "no weights, by its name"
    assert lines[2].reason == "key, by the rule columns"
    assert list(read("a.safetensors", fused="whole")) == ["h.0.attn.c_attn"]


def test_queries_keys_and_values_of_torch_stand_in_rows():
    attention = torch.nn.MultiheadAttention(6, 2, bias=False)
    save("a.pt", attention.state_dict())
    layers = read("a.pt", split="heads", heads=2)
    tensor = attention.in_proj_weight.detach()
    assert [*layers][:2] == ["in_proj.query.head0", "in_proj.query.head1"]
    np.testing.assert_array_equal(layers["in_proj.key.head1"], tensor[9:12])
    np.testing.assert_array_equal(read("a.pt")["in_proj.value"], tensor[12:])
    # The weights of the queries times an input are the queries that torch computes.
    inputs = normal(5, 6, seed=4)
    expected = torch.nn.functional.linear(inputs, tensor)[:, :6]
    np.testing.assert_allclose(inputs.numpy() @ read("a.pt")["in_proj.query"].T, expected, 1e-5)


def test_queries_keys_and_values_head_by_head():
    heads, size, inputs = 3, 2, 5
    tensor = normal(heads, 3, size, inputs)
    save("a.pt", {"attention.query_key_value.weight": tensor.reshape(-1, inputs)})
    layers = read("a.pt", heads=heads)
    for k, part in enumerate(("query", "key", "value")):
        name = f"attention.query_key_value.{part}"
        np.testing.assert_array_equal(layers[name], tensor[:, k].reshape(-1, inputs))
    one = read("a.pt", heads=heads, split="heads")["attention.query_key_value.key.head2"]
    np.testing.assert_array_equal(one, tensor[2, 1])
    (line,) = run_of("a.pt").held().lines
    assert line.used and "heads and key_value_heads take it apart" in line.reason


def test_fewer_heads_of_keys_and_values():
    tensor, alone = normal((4 + 2 + 2) * 3, 12), normal(6, 12, seed=1)
    save("a.pt", {"qkv_proj.weight": tensor, "k_proj.weight": alone, "o_proj.weight": alone.T})
    layers = read("a.pt", heads=4, key_value_heads=2, split="heads")
    np.testing.assert_array_equal(layers["qkv_proj.query.head3"], tensor[9:12])
    np.testing.assert_array_equal(layers["qkv_proj.value.head1"], tensor[21:])
    np.testing.assert_array_equal(layers["k_proj.head1"], alone[3:])
    assert layers["o_proj"].shape == (12, 6)
    assert "does not fit qkv_proj" in refused("a.pt", fused="rows", heads=5, key_value_heads=5)
    assert "heads = 5: 6 rows" in refused("a.pt", heads=5, split="heads")


def test_an_adapter_by_its_factors_or_their_product():
    a, b = normal(2, 7), normal(5, 2, seed=1)
    base = "base_model.model.q_proj"
    save("adapter_model.safetensors", {f"{base}.lora_A.weight": a, f"{base}.lora_B.weight": b})
    assert list(read(".")) == [f"{base}.lora_A", f"{base}.lora_B"]
    product = read(".", lora="product")
    assert list(product) == [f"{base}.lora_BA"]
    np.testing.assert_allclose(product[f"{base}.lora_BA"], b.double() @ a.double(), rtol=1e-6)
    assert list(read(".", lora="both")) == [f"{base}.lora_{x}" for x in ("A", "B", "BA")]
    reasons = [line.reason for line in run_of(".", lora="product").held().lines]
    assert reasons == [
        f"factor of {base}.lora_BA",
        f"B A of {base}.lora_A.weight, without its scale",
    ]
    save("zero.pt", {"fc.weight": a, "q.lora_A.weight": a, "q.lora_B.weight": 0 * b})
    assert list(read("zero.pt", lora="product")) == ["fc"]
    assert "matches only q.lora_A.weight: factor of" in refused(
        "zero.pt", lora="product", layers="q.lora_A*"
    )


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:TypedStorage")
def test_quantised_weights_are_named_and_left_out():
    packed = torch.zeros(4, 4, dtype=torch.int32)
    content = {
        "fc.weight": normal(4, 4),
        "gptq.qweight": packed,
        "gptq.scales": normal(2, 4, dtype=torch.float16),
        "bits.weight": torch.zeros(8, 1, dtype=torch.uint8),
        "bits.weight.absmax": normal(4),
        "int8.weight": torch.zeros(4, 4, dtype=torch.int8),
        "int8.SCB": normal(4),
        "eight.weight": normal(4, 4).to(torch.float8_e4m3fn),
        "eight.weight_scale_inv": normal(1, 1),
    }
    save("a.safetensors", content)
    lines = lines_of("a.safetensors")
    assert [name for name, line in lines.items() if line.used] == ["fc.weight"]
    assert all("quantised" in line.reason for line in lines.values() if not line.used)
    assert lines["eight.weight"].reason == "quantised, with eight.weight_scale_inv"
    torch.save({"fc.weight": torch.quantize_per_tensor(normal(4, 4), 0.1, 0, torch.qint8)}, "q.pt")
    assert "quantised, qint8" in refused("q.pt")


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "npz"])
def test_tied_weights_are_read_once(suffix):
    table = normal(60, 40)
    content = {"wte.weight": table, "lm_head.weight": table, "other.weight": table.clone()}
    if suffix != "pt":
        # The library refuses to write one tensor under two names.
        content = {name: tensor.clone() for name, tensor in content.items()}
    almost = table.clone()
    almost[-1, -1] += 1
    save(f"a.{suffix}", content | {"almost.weight": almost})
    assert list(read(f"a.{suffix}")) == ["almost", "lm_head"]
    lines = lines_of(f"a.{suffix}")
    assert lines["wte.weight"].reason == "tied: the same as lm_head.weight"
    assert lines["other.weight"].reason == "tied: the same as lm_head.weight"
    # What is asked for is not left out for one that is not.
    assert list(read(f"a.{suffix}", layers="wte")) == ["wte"]


def test_constant_zero_and_thin_matrices():
    content = {
        "zero.weight": torch.zeros(40, 40),
        "ones.weight": torch.ones(3, 3),
        "row.weight": normal(1, 9),
        "column.weight": normal(9, 1, seed=1),
        "late.weight": torch.cat([torch.zeros(60, 20), normal(1, 20)]),
    }
    save("a.pt", content)
    layers = read("a.pt")
    assert {name: value.shape for name, value in layers.items()} == {
        "column": (9, 1),
        "late": (61, 20),
        "row": (1, 9),
    }
    assert lines_of("a.pt")["zero.weight"].reason == "constant: every number is 0"
    run = single.train("checkpoints", {"path": "a.pt", "layers": ["row", "column"]})
    values = single.spectra(run).groupby("layer").eigenvalue
    assert values.size().to_dict() == {"column": 1, "row": 9}
    for name in ("row", "column"):
        norm = float((content[f"{name}.weight"].double() ** 2).sum())
        assert values.max()[name] == pytest.approx(norm, rel=1e-12)
    assert (run.weights["row"].size - 1) == (values.get_group("row") == 0).sum()


def test_layers_are_chosen_by_name_or_pattern():
    names = ["h.1.fc", "h.2.fc", "h.10.fc", "h.2.attn"]
    content = {f"{name}.weight": normal(3, 4, seed=k) for k, name in enumerate(names)}
    save("a.pt", content | {"pos_embed": normal(1, 5, 3), "h.1.fc.bias": normal(3)})
    assert list(read("a.pt")) == ["h.1.fc", "h.2.attn", "h.2.fc", "h.10.fc"]
    assert list(read("a.pt", layers="h.?.fc")) == ["h.1.fc", "h.2.fc"]
    assert list(read("a.pt", layers=["h.10.fc.weight", "*attn*"])) == ["h.2.attn", "h.10.fc"]
    # By its whole name also what no rule takes for a weight; not by a pattern.
    assert list(read("a.pt", layers=["pos_embed"])) == ["pos_embed"]
    assert "matches only pos_embed: 3 axes" in refused("a.pt", layers="pos*")
    assert "layers: 'h.7.*' matches no tensor of a.pt" in refused("a.pt", layers="h.7.*")
    assert "did you mean h.2.attn?" in refused("a.pt", layers="h.2.atn")
    assert "matches only h.1.fc.bias: a vector of 3" in refused("a.pt", layers="h.1.fc.bias")
    assert "not among the layers" in lines_of("a.pt", layers="h.1.fc")["h.2.fc.weight"].reason


def test_names_become_names_of_layers():
    long = "x" * 150
    names = [
        "0.weight",
        "a/b:c.weight",
        "_private.weight",
        "W.weight",
        "w.weight",
        long,
        f"{long}y",
    ]
    save("a.pt", {name: normal(2, 3, seed=k) for k, name in enumerate(names)})
    layers = list(run_of("a.pt").layers())
    assert layers[:5] == ["0", "W", "W_private", "a.b_c", "w-2"]
    assert [len(name) for name in layers[5:]] == [96, 96] and layers[5] != layers[6]
    assert run_of("a.pt", layers=["0"]).layers() == {"0": (2, 3)}


def test_a_network_without_a_matrix_says_why():
    save("a.pt", {"bias": normal(3), "steps": torch.tensor(1.0)})
    assert "holds no weight matrix: a vector of 3; one number" in refused("a.pt")


# --- many checkpoints -----------------------------------------------------------------------------


def test_checkpoints_by_step_and_by_seed():
    stored = {}
    for seed in (0, 1):
        for step in (0, 1000, 200):
            tensor = normal(4, 3, seed=seed * 10_000 + step)
            stored[seed, step] = tensor * (step > 0)
            path = f"out/seed{seed}/checkpoint-{step}/model.safetensors"
            save(path, {"fc.weight": stored[seed, step]})
    run = single.train("checkpoints", {"path": "out/seed{replica}/checkpoint-{snapshot}"})
    assert run.step.tolist() == [0, 200, 1000] and run.weights["fc"].shape == (2, 3, 4, 3)
    for (seed, step), tensor in stored.items():
        found = run.weights["fc"][seed, [0, 200, 1000].index(step)]
        np.testing.assert_array_equal(found, tensor)
    late = run_of("out/seed{replica}/checkpoint-{snapshot}", first_snapshot=-1)
    assert (late.snapshots, late.steps, len(late.sources)) == (1, 1000, 2)
    assert find_pattern("out") == ("out/seed{replica}/checkpoint-{snapshot}", [])


def test_checkpoints_of_other_shapes_under_one_pattern():
    save("step1.pt", {"fc.weight": normal(4, 3)})
    save("step2.pt", {"fc.weight": normal(4, 5)})
    message = refused("step{snapshot}.pt")
    assert "step1.pt: fc.weight has shape (4, 3), that of step2.pt (4, 5)" in message
    save("step1.pt", {"other.weight": normal(4, 5)})
    assert "step1.pt: holds no tensor fc.weight, as step2.pt does" in refused("step{snapshot}.pt")
    save("step1.pt", {"fc.weight": torch.zeros(4, 5, dtype=torch.int64)})
    assert "hold its layers as int64" in refused("step{snapshot}.pt")


@pytest.mark.parametrize(
    ("names", "pattern", "others"),
    [
        (["step1.pt", "step20.pt", "last.pt"], "step{snapshot}.pt", ["last.pt"]),
        (["seed1.pt", "seed2.pt"], "seed{replica}.pt", []),
        (["epoch=1-step=10.ckpt", "epoch=2-step=20.ckpt"], "epoch=*-step={snapshot}.ckpt", []),
        (
            ["s1/ck_5.pt", "s1/ck_6.pt", "s2/ck_5.pt", "s2/ck_6.pt"],
            "s{replica}/ck_{snapshot}.pt",
            [],
        ),
        (["w_10[a].pt", "w_20[a].pt"], "w_{snapshot}[[]a].pt", []),
        (["net/run3/step7.pt"], "net/run3/step7.pt", []),
    ],
)
def test_the_pattern_of_a_folder_is_found(names, pattern, others):
    for name in names:
        save(f"out/{name}", {"fc.weight": normal(2, 3)})
    assert find_pattern("out") == (f"out/{pattern}", others)
    assert run_of(f"out/{pattern}").replicas * run_of(f"out/{pattern}").snapshots == len(
        names
    ) - len(others)


def test_folders_whose_pattern_is_not_found(folder):
    (folder / "none").mkdir()
    with pytest.raises(ConfigError, match="without a checkpoint"):
        find_pattern("none")
    for name in ("best.pt", "last.pt"):
        save(f"words/{name}", NETWORK)
    with pytest.raises(ConfigError, match="differ in more than numbers"):
        find_pattern("words")
    for name in ("a1b1c1.pt", "a2b1c1.pt", "a1b2c1.pt", "a1b1c2.pt"):
        save(f"many/{name}", NETWORK)
    with pytest.raises(ConfigError, match="differ in 3 numbers"):
        find_pattern("many")


# --- bad files ------------------------------------------------------------------------------------


class Module(torch.nn.Module):
    """What people save whole."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)


def test_the_line_that_converts_a_pickle_does():
    network = Module()
    with open("state.pkl", "wb") as stream:
        pickle.dump(network.state_dict(), stream)
    torch.save(network, "network.pt")
    torch.save({"state_dict": network.state_dict(), "arguments": Path("a")}, "lightning.ckpt")
    lines = []
    for path in ("state.pkl", "network.pt", "lightning.ckpt"):
        message = refused(path)
        assert "never opened" in message
        match = re.search(r"where its maker is trusted: python -c \"(.*)\"$", message)
        lines.append(match.group(1))
    here = os.pathsep.join(map(str, Path(__file__).parents[:2]))
    subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        check=True,
        timeout=HANGING,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    for name in ("state", "network", "lightning"):
        layers = read(f"{name}.plain.pt")
        np.testing.assert_array_equal(layers["fc"], network.fc.weight.detach())


def test_a_file_that_changes_while_it_is_read():
    save("a.safetensors", NETWORK)
    run = run_of("a.safetensors")
    other = {name: tensor + 1 for name, tensor in NETWORK.items()}

    def put(first, snapshot, weights):
        save("a.safetensors", other)
        return 0

    with pytest.raises(ConfigError, match="a.safetensors: changed while it was read"):
        models.load("checkpoints").read(run, put)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_number_that_is_not_finite_is_named(suffix):
    broken = normal(4, 4)
    broken[2, 3] = torch.nan
    save(f"a.{suffix}", {"fc.weight": broken})
    with pytest.raises(ConfigError, match=rf"a.{suffix}: a weight of fc.weight is not finite"):
        read(f"a.{suffix}")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"axes": ["row", "column"]}, "axes = ['row', 'column']: they are those of an array"),
        (
            {"array": "fc.weight", "axes": ["row", "column"], "layers": "fc"},
            "array = 'fc.weight': with layers, leave it out",
        ),
        ({"key_value_heads": 2}, "give heads too"),
        ({"split": "heads"}, "split = heads: say how many"),
        ({"heads": 0}, "heads = 0 is not allowed: give a whole number >= 1"),
        ({"fused": "diagonal"}, "fused = 'diagonal' is not allowed"),
        ({"layers": 3}, "layers"),
        ({"layres": "fc"}, "did you mean layers?"),
        ({"matrices": ["fc 2 2"]}, "matrices: 'conv 4 75' is not what the files of a.pt hold"),
        ({"lags": [1]}, "leave lags out"),
        (
            {"centres": [1] * 9, "noise_scale": 1, "learning_rate": 1, "batch_size": 1},
            "they are those of one matrix, and there are 2; name it, in layers",
        ),
        ({"centres": [1], "layers": "fc"}, "learning_rate: missing; with centres"),
    ],
)
def test_a_bad_value_is_one_line(values, words):
    save("a.pt", NETWORK)
    assert words in refused("a.pt", **values)


def test_a_truncated_shard_is_named(folder):
    shard()
    path = folder / "hf" / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert "model-00002-of-00002.safetensors: cannot be read" in refused("hf")


# --- runs, tables, commands -----------------------------------------------------------------------


def test_runs_are_known_by_what_is_read():
    save("a.pt", NETWORK)
    base = run_of("a.pt").canonical()
    key = CHECKPOINTS.from_config(base).key
    assert run_of("a.pt").name == key and run_of("a.pt", learning_rate=0.1).name.startswith(
        "lr0.1-"
    )
    for name, value in {
        **{"layers": ["fc"], "fused": "whole", "heads": 2, "lora": "both"},
        **{"matrices": ["fc 6 9"]},
    }.items():
        assert CHECKPOINTS.from_config(base | {name: value}).key != key, name
    # Of one array nothing of this counts: its key is the one that it had before.
    one = run_of("a.pt", array="fc.weight", axes=["row", "column"])
    assert one.key == run_of("a.pt", array="fc.weight", axes=["row", "column"], heads=2).key


def test_a_resolved_run_needs_no_file(folder):
    save("a.pt", NETWORK)
    run = run_of("a.pt")
    (folder / "a.pt").unlink()
    again = CHECKPOINTS.from_config(run.canonical())
    assert again.key == run.key and again.layers() == {"conv": (4, 75), "fc": (6, 9)}
    with pytest.raises(ConfigError, match="matrices: 'fc 2': give name, rows and columns"):
        CHECKPOINTS.from_config(run.canonical() | {"matrices": ["fc 2"]})


def test_layers_of_different_shapes_go_through_all_stages(folder):
    for seed in (1, 2):
        for step in (10, 20):
            tensors = {
                "net.0.weight": normal(5, 3, seed=seed * step),
                "net.2.weight": normal(2, 5, seed=seed * step + 1),
                "net.2.bias": normal(2),
            }
            save(f"s{seed}/{step}.ckpt", {"state_dict": tensors})
    values = {"path": "s{replica}/{snapshot}.ckpt"}
    config = {"studies": {"own": {"model": "checkpoints", "hyperparameters": values}}}
    plan = Plan.from_config(config)
    assert plan.studies["own"].figures == ("net.0/spectrum", "net.2/spectrum")
    make(plan)
    report = audit.verify(plan)
    assert not (report.stale or report.damaged or report.missing) and report.checked == 5
    table = dysonflow.read_layers()
    assert table.columns.tolist() == [
        *("run", "model", "name", "layer", "rows", "columns", "dtype", "used", "reason")
    ]
    assert table["used"].tolist() == [True, False, True]
    assert dysonflow.read_layers(layer="net.2")[["rows", "columns"]].to_numpy().tolist() == [[2, 5]]
    spectra = dysonflow.read_spectra()
    # Long lists are no columns.
    assert not {"matrices", "layers"} & set(spectra.columns)
    one = spectra[(spectra.layer == "net.2") & (spectra.replica == 1) & (spectra.step == 20)]
    expected = np.linalg.svd(normal(2, 5, seed=41).double().numpy(), compute_uv=False) ** 2
    np.testing.assert_allclose(one.eigenvalue, [0, 0, 0, *expected[::-1]], rtol=1e-12, atol=1e-12)
    caption = Path("results/figures/own/net.2/spectrum.rst").read_text(encoding="utf-8")
    assert "more columns than rows are not shown" in caption
    (run,) = plan.runs.values()
    files = plan.results.files_of(run)
    save("s1/10.ckpt", {"state_dict": {**tensors, "net.0.weight": normal(5, 3)}})
    stale = audit.verify(Plan.from_config(config)).stale
    assert {str(path) for path in stale} == {files["weights"], files["layers"]}


def test_the_commands_show_and_write_what_is_there(folder, capsys):
    for step in (1, 2, 30):
        save(f"my runs/step{step}.pt", {"state_dict": NETWORK})
    assert cli.main(["layers", "my runs"]) == 0
    *table, summary = capsys.readouterr().out.splitlines()
    assert summary == (
        "my runs/step{snapshot}.pt: 2 layers of 5 tensors, 1 replica, 3 snapshots, steps 1 to 30"
    )
    assert [line.split()[0] for line in table] == ["layer", "-", "conv", "fc", "-", "-"]
    assert cli.main(["init", "my runs", "--set", "layers=*fc*", "--set", "learning_rate=1e-2"]) == 0
    assert "written: my_runs.yaml" in capsys.readouterr().out
    config = yaml.safe_load(Path("my_runs.yaml").read_text(encoding="utf-8"))
    (run,) = load_studies(config)["my_runs"].runs
    assert (list(run.layers()), run.learning_rate, run.steps) == (["fc"], 0.01, 30)
    assert cli.main(["init", "my runs"]) == 2
    assert "my_runs.yaml: is there already" in capsys.readouterr().err
    assert cli.main(["init", "my runs", "--output", "b.yaml", "--study", "b"]) == 0
    assert list(load_studies(yaml.safe_load(Path("b.yaml").read_text(encoding="utf-8")))) == ["b"]
    capsys.readouterr()
    for arguments in (
        ["layers", "nothing.pt"],
        ["layers", "my runs", "--set", "heads"],
        ["layers", "my runs", "--set", "path=a"],
        ["init", "my runs", "--output", "c.yaml", "--study", "1b"],
    ):
        assert cli.main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not Path("c.yaml").exists()


def test_a_large_network_gets_figures_of_all_layers_at_once(folder):
    for step in (1, 2):
        tensors = {f"h.{k}.weight": normal(40, 36, seed=k + 10 * step) for k in range(3)}
        save(f"net/{step}.safetensors", tensors | {"head.weight": normal(4, 40, seed=step)})
    values = {"path": "net/{snapshot}.safetensors"}
    config = {"studies": {"own": {"model": "checkpoints", "hyperparameters": values}}}
    # No figure of each large layer: a network has hundreds.
    expected = ["head/spectrum", *figures.BULK]
    assert sorted(load_studies(config)["own"].figures) == sorted(expected)
    config["studies"]["own"]["figures"] = ["spectrum"]
    drawn = load_studies(config)["own"].figures
    assert sorted(drawn) == ["h.0/spectrum", "h.1/spectrum", "h.2/spectrum", "head/spectrum"]
    for path, wanted in (
        ("net", [*figures.BULK, "singular_values"]),
        ("net/1.safetensors", figures.BULK_ONCE),
    ):
        assert cli.main(["init", path, "--output", f"{len(wanted)}.yaml", "--study", "own"]) == 0
        written = yaml.safe_load(Path(f"{len(wanted)}.yaml").read_text(encoding="utf-8"))
        assert written["studies"]["own"]["figures"] == list(wanted)
        load_studies(written)


def test_what_is_not_given_does_not_tell_fits_apart():
    fits = pd.DataFrame({"heads": [None, np.nan], "path": ["a", "a"], "learning_rate": [0.1, 0.2]})
    fits["block"] = 0
    names = ["heads", "learning_rate"]
    assert scaling_tests.groups(fits, names, ["learning_rate"]).nunique() == 1
    assert scaling_tests.groups(fits, names, []).nunique() == 2


def test_bins_of_few_spectra_are_even_and_not_too_many():
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_normal((1, 2, 300)))
    edges = even_bins(values, 0.0, 4.0)
    assert 10 < len(edges) < 60 and np.ptp(np.diff(edges)) < 1e-12
    values[..., -1] = 1e6
    assert len(even_bins(values, 0.0, 1e6)) == 501
    assert len(even_bins(np.zeros((1, 1, 50)), 0.0, 1.0)) == 161


PEAK = """
import json, sys
from dysonflow import stages
stage, values, output = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
if stage == "read":
    stages.read_weights("checkpoints", values, "0", *output)
else:
    stages.spectra("checkpoints", values, "0", *output)
print([line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line][0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is told by Linux")
def test_memory_is_bounded_by_the_largest_matrix_not_by_the_file():
    rows, columns, count = 8192, 64, 60
    largest = 4 * rows * columns
    content = {f"h.{k}.weight": normal(rows, columns, seed=k) for k in range(count)}
    save("large.safetensors", content)
    save("small.safetensors", {"fc.weight": normal(2, 3)})
    # Less than the whole, and more than buffers of LAPACK and of the table.
    most = 4 * largest + 2**26
    assert most < PART_BYTES + 2**24 < count * largest

    def peak(stage, path, *files, **values):
        text = json.dumps(run_of(path, **values).canonical())
        command = [sys.executable, "-c", PEAK, stage, text, *files]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=HANGING)
        return 1024 * int(done.stdout)

    idle = peak("read", "small.safetensors", "small.w.safetensors")
    more = peak("read", "large.safetensors", "large.w.safetensors") - idle
    assert more < most
    stages.read_weights(
        "checkpoints", run_of("large.safetensors").canonical(), "0", "large.w.safetensors"
    )
    idle = peak("spectra", "small.safetensors", "small.w.safetensors", "small.parquet")
    more = peak("spectra", "large.safetensors", "large.w.safetensors", "large.parquet") - idle
    assert more < most


def test_weights_are_read_by_pieces_in_order():
    stored = np.random.default_rng(0).standard_normal((3, 5, 4, 2))
    write_weights("w", {"a": stored}, range(5), np.zeros((3, 5)), {"layers": ["a"]})
    with open_weights("w") as file:
        for size in (1, 64, 3 * 64, 5 * 64, 11 * 64, 10**6):
            seen = np.full(stored.shape, np.nan)
            places = []
            for replicas, snapshots in file.pieces("a", size):
                part = file.read("a", replicas, snapshots)
                assert part.nbytes <= max(size, 64)
                seen[replicas, snapshots] = part
                places.append((replicas.start, snapshots.start))
            np.testing.assert_array_equal(seen, stored)
            assert places == sorted(places)
        np.testing.assert_array_equal(file.read("a", slice(1, 3), slice(-2, None)), stored[1:, 3:])
