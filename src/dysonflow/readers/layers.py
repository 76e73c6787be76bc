"""Which tensors of a checkpoint are weight matrices, and how each is read.

A tensor of two axes is a matrix as it stands. A kernel of a convolution, out x in x height x width
or with any other number of places, becomes out rows of all the numbers of one output. Queries, keys
and values that stand in one tensor are taken apart. All else is left out, each tensor with a
reason.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.readers import arrays
from dysonflow.readers.checkpoints import Checkpoint, Tensor
from dysonflow.readers.names import layer_of, matches
from dysonflow.wording import did_you_mean, plain

Fused = Literal["by_name", "whole", "rows", "columns", "interleaved"]
Split = Literal["matrices", "heads"]
Lora = Literal["factors", "product", "both"]

FUSED: dict[str, Fused] = {
    "c_attn": "columns",
    **dict.fromkeys(("in_proj_weight", "qkv", "Wqkv", "qkv_proj", "W_pack", "c_qkv"), "rows"),
    "query_key_value": "interleaved",
}
"""Modules whose tensor holds queries, keys and values, and where: in blocks of columns (GPT-2,
whose inputs are the rows), in blocks of rows, or head by head, within each the queries, keys and
values (GPT-NeoX, BLOOM)."""
PARTS = ("query", "key", "value")
ALONE = {
    **dict.fromkeys(("q_proj", "query", "q", "to_q", "q_lin", "q_proj_weight"), "query"),
    **dict.fromkeys(("k_proj", "key", "k", "to_k", "k_lin", "k_proj_weight"), "key"),
    **dict.fromkeys(("v_proj", "value", "v", "to_v", "v_lin", "v_proj_weight"), "value"),
}
"""Modules whose tensor holds queries, keys or values alone; heads are blocks of rows."""
KERNELS = ("weight", "kernel", "W", "w")
"""Last parts of a name with more than two axes that is a kernel of a convolution."""
NO_WEIGHT = re.compile(r"(?:^|[._])(?:masked_bias|bias|mask|inv_freq|position_ids|running_\w+)$")
"""Names of matrices that are none of weights: masks, and other tables that are not trained."""
QUANTISED = re.compile(
    r"(?:^|[.])(?:qweight|qzeros|scales|g_idx|SCB|absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\.\w+|weight_format|weight_packed|weight_shape|weight_zero_point|zero_point"
    r"|(?:weight|input|output)_scale(?:_inv|_2)?)$"
)
"""Names of what stands beside quantised weights: packed integers, scales and zeros."""
SCALES = ("weight.absmax", "weight.quant_map", "weight_scale", "weight_scale_inv", "SCB")
"""What stands in place of the last part of a name, `weight`, if that is scaled by it."""
LORA = re.compile(r"(?P<base>.*?)\.?lora_(?:embedding_)?(?P<factor>[AB])(?P<rest>(?:\..*)?)$")
SAMPLE = 1024
"""Numbers at the start of a tensor that tell whether it may be constant, or that of another."""
LONGEST = 100
"""Letters of the name of a layer."""


@dataclass(frozen=True)
class Rules:
    """How the layers of a checkpoint are chosen and cut.

    Attributes
    ----------
    patterns : tuple of str
        Names of layers or of tensors, or patterns of a shell; without any, all matrices.
    fused : str
        Where queries, keys and values stand in a tensor that holds all three; `by_name`: as `FUSED`
        says of its name; `whole`: it is not taken apart.
    heads, key_value_heads : int, optional
        Heads of the queries, and of keys and values where these are fewer.
    split : str
        `heads`: queries, keys and values are cut into their heads.
    lora : str
        Whether the factors of an adapter are layers, their product, or both.
    """

    patterns: tuple[str, ...] = ()
    fused: Fused = "by_name"
    heads: int | None = None
    key_value_heads: int | None = None
    split: Split = "matrices"
    lora: Lora = "factors"


@dataclass(frozen=True)
class Cut:
    """Blocks of rows (axis 0) or columns (axis 1) of a matrix, one after the other."""

    axis: int
    blocks: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Rows or columns in all blocks."""
        return sum(stop - start for start, stop in self.blocks)

    def of(self, matrix: np.ndarray) -> np.ndarray:
        """The blocks of a matrix."""
        if self.axis == 1:
            return np.concatenate([matrix[:, slice(*block)] for block in self.blocks], axis=1)
        return np.concatenate([matrix[slice(*block)] for block in self.blocks])


@dataclass(frozen=True)
class Layer:
    """A weight matrix that is read.

    Attributes
    ----------
    name : str
        Of the layer.
    rows, columns : int
        Of the matrix.
    tensors : tuple of str
        Name of the tensor that holds it, or of the two whose product it is.
    shapes : tuple of tuple of int
        Of these tensors.
    cut : Cut, optional
        What of the tensor it is; all if None.
    """

    name: str
    rows: int
    columns: int
    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    cut: Cut | None = None


@dataclass(frozen=True)
class Line:
    """What becomes of a tensor, or of a part of it.

    Attributes
    ----------
    name : str
        Of the tensor, in the network.
    layer : str, optional
        Name of the layer that it becomes.
    rows, columns : int, optional
        Of the matrix, where there is one.
    dtype : str
        As in the file.
    used : bool
        Whether it is read.
    reason : str
        How it is read, or why it is not.
    """

    name: str
    layer: str | None
    rows: int | None
    columns: int | None
    dtype: str
    used: bool
    reason: str


def choose(checkpoint: Checkpoint, rules: Rules) -> tuple[list[Layer], list[Line]]:
    """Layers of a checkpoint, and a line for each of its tensors, used or not.

    Raises
    ------
    ConfigError
        If a pattern matches nothing, or nothing that can be read; if there is no layer at all; if a
        rule does not fit a tensor that it is for; one line.
    """
    layers: list[Layer] = []
    lines: list[Line] = []
    taken: set[str] = set()
    # What a pattern matched in vain; empty as soon as it matched what can be read.
    matched: dict[str, str] = {}
    names = {tensor.name for tensor in checkpoint.tensors}
    twins = _Twins()
    pairs = _adapters(checkpoint.tensors) if rules.lora != "factors" else {}
    for tensor in checkpoint.tensors:
        chosen = [pattern for pattern in rules.patterns if matches(tensor.name, pattern)]
        is_named = bool({tensor.name, _layer_name(tensor.name)} & set(rules.patterns))
        why_not = tensor.why_not or _unfit(tensor, names, is_named)
        found = [] if why_not else list(_layers_in(tensor, rules, pairs))
        kept = []
        for layer, how in found:
            by_layer = [one for one in rules.patterns if matches(layer.name, one)]
            matched |= dict.fromkeys(chosen + by_layer, "")
            if not rules.patterns or chosen or by_layer:
                kept.append((layer, how))
        if kept:
            why_not = twins.why_not(tensor)
        elif found:
            why_not = "not among the layers that are asked for"
        else:
            why_not = why_not or f"factor of {pairs[tensor.name].name}"
            for pattern in chosen:
                matched.setdefault(pattern, f"{plain(tensor.name)}: {why_not}")
        if why_not:
            lines.append(_skipped(tensor, why_not))
            continue
        for layer, how in kept:
            named = replace(layer, name=_free_name(layer.name, taken))
            layers.append(named)
            lines.append(_line(tensor, named, how))
    _check_matched(checkpoint, rules, matched, lines)
    if not layers:
        reasons = dict.fromkeys(line.reason for line in lines)
        listed = "; ".join(list(reasons)[:3]) or "it holds no tensor"
        raise ConfigError(f"{checkpoint.path}: holds no weight matrix: {listed}")
    return layers, lines


def _check_matched(
    checkpoint: Checkpoint, rules: Rules, matched: dict[str, str], lines: Sequence[Line]
) -> None:
    """Refuse patterns that match nothing that can be read."""
    for pattern in rules.patterns:
        if pattern not in matched:
            known = [line.layer or _layer_name(line.name) for line in lines]
            raise ConfigError(
                f"layers: {plain(pattern)!r} matches no tensor of {checkpoint.path}"
                f"{did_you_mean(pattern, known)}"
            )
        if matched[pattern]:
            raise ConfigError(f"layers: {plain(pattern)!r} matches only {matched[pattern]}")


def read_layers(
    checkpoint: Checkpoint, layers: Sequence[Layer], dtype: str
) -> Iterator[tuple[Layer, np.ndarray]]:
    """Matrices of a checkpoint one after the other, no more than one tensor in memory.

    Parameters
    ----------
    checkpoint : Checkpoint
        It holds all tensors of the layers, in the shapes that these have: `compare` makes sure.
    layers : sequence of Layer
        In an order that has the parts of a tensor beside each other.
    dtype : str
        Of the matrices.

    Raises
    ------
    ConfigError
        If a number is not finite.
    """
    where = {tensor.name: tensor for tensor in checkpoint.tensors if not tensor.why_not}
    reader = arrays.Reader()
    held: tuple[str, np.ndarray] | None = None
    for layer in layers:
        if len(layer.tensors) == 2:
            left, right = (_matrix(reader, where[name], "float64") for name in layer.tensors)
            yield layer, (left @ right).astype(dtype, copy=False)
            continue
        (name,) = layer.tensors
        if held is None or held[0] != name:
            held = None
            held = (name, _matrix(reader, where[name], dtype))
        matrix = held[1]
        if layer.cut is not None:
            matrix = layer.cut.of(matrix)
        else:
            held = None
        yield layer, matrix
        # Not kept while the next one is read.
        del matrix


def compare(checkpoint: Checkpoint, other: Checkpoint, layers: Sequence[Layer]) -> None:
    """Refuse a checkpoint that lacks a tensor of the layers, or has it in another shape.

    Parameters
    ----------
    checkpoint : Checkpoint
        The one to look at.
    other : Checkpoint
        The one that the layers were chosen from.
    layers : sequence of Layer
        Of `other`.
    """
    shapes = {one.name: one.entry.shape for one in checkpoint.tensors if not one.why_not}
    for layer in layers:
        for name, shape in zip(layer.tensors, layer.shapes, strict=True):
            if name not in shapes:
                raise ConfigError(
                    f"{checkpoint.path}: holds no tensor {plain(name)}, as {other.path} does; "
                    "checkpoints of one study hold the same layers"
                )
            if shapes[name] != shape:
                raise ConfigError(
                    f"{checkpoint.path}: {plain(name)} has shape {shapes[name]}, that of "
                    f"{other.path} {shape}; checkpoints of one study have the same shapes"
                )


def _matrix(reader: arrays.Reader, tensor: Tensor, dtype: str) -> np.ndarray:
    """A tensor as a matrix: the first axis are the rows, all others the columns."""
    values = reader.read(tensor.file, tensor.entry.name)
    with np.errstate(over="ignore"):
        matrix = values.reshape(len(values), -1).astype(dtype, copy=False)
    if not np.isfinite(matrix).all():
        raise ConfigError(f"{tensor.file}: a weight of {plain(tensor.name)} is not finite")
    return matrix


def _line(tensor: Tensor, layer: Layer, how: str) -> Line:
    read_as = arrays.FLOATS[tensor.entry.dtype]
    if read_as != tensor.entry.dtype:
        how = f"{how}; {tensor.entry.dtype} read as {read_as}".removeprefix("; ")
    return Line(tensor.name, layer.name, layer.rows, layer.columns, tensor.entry.dtype, True, how)


def _skipped(tensor: Tensor, why_not: str) -> Line:
    shape = tensor.entry.shape
    rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (None, None)
    return Line(tensor.name, None, rows, columns, tensor.entry.dtype, False, why_not)


def _unfit(tensor: Tensor, names: set[str], is_named: bool) -> str:
    """Why a tensor can be no weight matrix; empty if it can."""
    entry, shape = tensor.entry, tensor.entry.shape
    module = tensor.name.removesuffix("weight")
    scale = next((module + end for end in SCALES if module + end in names), "")
    if QUANTISED.search(tensor.name):
        return "of quantised weights"
    if entry.dtype.startswith(("qint", "quint")):
        return f"quantised, {entry.dtype}"
    if scale and module != tensor.name:
        return f"quantised, with {plain(scale)}"
    if entry.dtype not in arrays.FLOATS:
        return f"{plain(entry.dtype)} is no type of weights"
    if not entry.is_readable:
        return "sparse, or its numbers are not all in the file"
    if len(shape) < 2:
        return f"a vector of {shape[0]}" if shape else "one number"
    if 0 in shape:
        return "empty"
    if is_named:
        return ""
    if NO_WEIGHT.search(tensor.name):
        return "no weights, by its name"
    if len(shape) > 2 and tensor.name.split(".")[-1] not in KERNELS:
        return f"{len(shape)} axes, and no kernel by its name"
    return ""


# --- parts of a tensor ----------------------------------------------------------------------------


def _layers_in(
    tensor: Tensor, rules: Rules, products: Mapping[str, Layer]
) -> Iterator[tuple[Layer, str]]:
    """Layers that a tensor is or, of the second factor of an adapter, the product that it ends."""
    product = products.get(tensor.name)
    if product is None or rules.lora == "both":
        yield from _cut(tensor, rules)
    if product is not None and tensor.name == product.tensors[0]:
        yield product, f"B A of {product.tensors[1]}, without its scale"


def _cut(tensor: Tensor, rules: Rules) -> Iterator[tuple[Layer, str]]:
    """Layers that a tensor is, and in words how it is read."""
    shape = tensor.entry.shape
    rows, columns = shape[0], math.prod(shape[1:])
    name = _layer_name(tensor.name)
    whole = Layer(name, rows, columns, (tensor.name,), (shape,))
    module = layer_of(tensor.name).split(".")[-1]
    if len(shape) > 2:
        yield whole, f"kernel {' x '.join(map(str, shape))}, the first axis as rows"
        return
    if module in FUSED and rules.fused != "whole":
        rule = FUSED[module] if rules.fused == "by_name" else rules.fused
        parts = _parts(tensor, rule, rules)
        if parts is None and rules.fused == "by_name":
            yield whole, "queries, keys and values in one; heads and key_value_heads take it apart"
            return
        if parts is None:
            raise ConfigError(
                f"fused = {rules.fused}: does not fit {plain(tensor.name)} of shape {shape}, with "
                f"heads = {rules.heads}, key_value_heads = {rules.key_value_heads}"
            )
        for part, cut in zip(PARTS, parts, strict=True):
            how = f"{part}, by the rule {rule}"
            yield from _heads(whole, f"{name}.{part}", cut, part, rules, how)
        return
    if module in ALONE and rules.split == "heads":
        cut = Cut(0, ((0, rows),))
        yield from _heads(whole, name, cut, ALONE[module], rules, ALONE[module])
        return
    yield whole, ""


def _parts(tensor: Tensor, rule: Fused, rules: Rules) -> list[Cut] | None:
    """Queries, keys and values in a tensor; None if they cannot be told apart."""
    shape = tensor.entry.shape
    axis = 1 if rule == "columns" else 0
    length, inner = shape[axis], shape[1 - axis]
    if rule == "interleaved":
        if not rules.heads or length % (3 * rules.heads):
            return None
        size = length // (3 * rules.heads)
        starts = range(0, length, 3 * size)
        return [Cut(0, tuple((s + k * size, s + (k + 1) * size) for s in starts)) for k in range(3)]
    if rules.heads and rules.key_value_heads:
        blocks = [rules.heads, rules.key_value_heads, rules.key_value_heads]
    elif rules.fused != "by_name" or length == 3 * inner:
        blocks = [1, 1, 1]
    else:
        return None
    if length % sum(blocks):
        return None
    ends = np.cumsum([0, *blocks]) * (length // sum(blocks))
    return [Cut(axis, ((int(ends[k]), int(ends[k + 1])),)) for k in range(3)]


def _heads(
    whole: Layer, name: str, cut: Cut, part: str, rules: Rules, how: str
) -> Iterator[tuple[Layer, str]]:
    """A part of a tensor, or each of its heads."""
    if rules.split != "heads":
        yield _part(whole, name, cut), how
        return
    heads = rules.heads if part == "query" else rules.key_value_heads or rules.heads
    if not heads or cut.size % heads:
        raise ConfigError(
            f"heads = {heads}: {cut.size} rows or columns of {plain(name)} are not so many heads"
        )
    size = cut.size // heads
    places = [place for block in cut.blocks for place in range(block[0], block[1], size)]
    for head, place in enumerate(places):
        block = Cut(cut.axis, ((place, place + size),))
        yield _part(whole, f"{name}.head{head}", block), f"{how}, head {head}"


def _part(whole: Layer, name: str, cut: Cut) -> Layer:
    rows, columns = whole.rows, whole.columns
    if cut.axis == 0:
        rows = cut.size
    else:
        columns = cut.size
    return replace(whole, name=name, rows=rows, columns=columns, cut=cut)


# --- adapters -------------------------------------------------------------------------------------


def _adapters(tensors: Sequence[Tensor]) -> dict[str, Layer]:
    """Product B A of an adapter, by the name of either factor."""
    factors: dict[tuple[str, str], dict[str, Tensor]] = {}
    for tensor in tensors:
        match = LORA.fullmatch(tensor.name)
        is_matrix = len(tensor.entry.shape) == 2 and tensor.entry.dtype in arrays.FLOATS
        if match and is_matrix and not tensor.why_not:
            place = (match["base"], match["rest"])
            factors.setdefault(place, {})[match["factor"]] = tensor
    found: dict[str, Layer] = {}
    for (base, rest), both in factors.items():
        if set(both) != {"A", "B"}:
            continue
        left, right = both["B"], both["A"]
        (rows, inner), (rank, columns) = left.entry.shape, right.entry.shape
        if inner == rank:
            name = _layer_name(f"{base}.lora_BA{rest}")
            shapes = (left.entry.shape, right.entry.shape)
            product = Layer(name, rows, columns, (left.name, right.name), shapes)
            found |= {left.name: product, right.name: product}
    return found


# --- what is there twice, or holds nothing --------------------------------------------------------


class _Twins:
    """Tells tensors that hold what another one holds, or one number throughout."""

    def __init__(self) -> None:
        self._reader = arrays.Reader()
        self._places: dict[tuple[object, ...], str] = {}
        self._starts: dict[tuple[object, ...], list[Tensor]] = {}
        self._digests: dict[str, bytes] = {}

    def why_not(self, tensor: Tensor) -> str:
        """Why a tensor is not used, of those that were asked about before."""
        entry = tensor.entry
        if entry.place:
            place = (tensor.file, entry.shape, entry.dtype, entry.place)
            if place in self._places:
                return f"tied: the same as {self._places[place]}"
            self._places[place] = tensor.name
        start = self._reader.start(tensor.file, entry.name, SAMPLE)
        if (start == start[0]).all() and self._is_constant(tensor):
            return f"constant: every number is {start[0]:g}"
        key = (entry.shape, entry.dtype, start.tobytes())
        for other in self._starts.setdefault(key, []):
            if self._digest(other) == self._digest(tensor):
                return f"tied: the same as {other.name}"
        self._starts[key].append(tensor)
        return ""

    def _digest(self, tensor: Tensor) -> bytes:
        if tensor.name not in self._digests:
            values = np.ascontiguousarray(self._reader.read(tensor.file, tensor.entry.name))
            self._digests[tensor.name] = hashlib.sha256(values.data).digest()
        return self._digests[tensor.name]

    def _is_constant(self, tensor: Tensor) -> bool:
        values = self._reader.read(tensor.file, tensor.entry.name)
        return bool((values == values.flat[0]).all())


# --- names ----------------------------------------------------------------------------------------


def _layer_name(tensor: str) -> str:
    """Name of a layer: that of its tensor without `.weight`, in letters that a path may hold."""
    bare = re.sub(r"(?<=.)[._]weight$", "", tensor).replace("/", ".")
    bare = re.sub(r"[^A-Za-z0-9_.-]", "_", bare)
    return bare if re.match("[A-Za-z0-9]", bare) else f"W{bare}"


def _free_name(name: str, taken: set[str]) -> str:
    """A name that no other layer has, upper and lower case being the same, and not too long."""
    if len(name) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9 - 4]}-{digest}"
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free.lower())
    return free
