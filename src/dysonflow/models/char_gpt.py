r"""A small transformer that learns to tell the next character.

It is a decoder as of GPT-2 (Vaswani et al., arXiv:1706.03762; Radford et al. 2019), without biases:
characters and places are embedded, then in each block

    x <- x + W_o attention(W_q n(x), W_k n(x), W_v n(x)),    x <- x + W_down gelu(W_up n(x)),

with n the layer norm, and the output is compared with the embedding of every character. All
replicas are computed at once: every tensor has the replica as its first axis, and the gradient of
the sum of their losses is the gradient of each.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import (
    Auto,
    Cost,
    Count,
    FileHyperparameters,
    Time,
    planning_only,
    quantity,
)
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.readers import places
from dysonflow.simulation.characters import MarkovSource, Source, Text
from dysonflow.simulation.descent import DescentHyperparameters
from dysonflow.simulation.finite import FiniteWatch
from dysonflow.simulation.optimisers import OptimiserName
from dysonflow.simulation.stacked import StackedParameters
from dysonflow.simulation.torch_simulation import TorchSimulation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

EVALUATED = 256
"""Windows that the loss of a snapshot is the mean of, the same for all replicas."""
EVALUATED_AT_ONCE = 32
"""Of these, in one go."""
MATRICES = ("query", "key", "value", "output", "up", "down")
"""Weight matrices of a block."""
EVALUATION_BLOCK = 2**31
"""Number of the stream that they come from, which no block of replicas has."""
EPSILON = 1e-5
"""Added to the variance by the layer norm."""
SHORTEST_TEXT = 1000
"""Characters that a text needs at least."""


class CharGPTHyperparameters(DescentHyperparameters, FileHyperparameters):
    """Hyperparameters of a small transformer."""

    MODEL = "char_gpt"

    replicas: int = quantity(4, ge=1, le=10_000_000)
    """Independent copies: each has its own start, its own characters and its own dropout."""
    snapshots: int = quantity(26, ge=1, le=1_000_000)
    """Weights kept per replica, evenly spaced from `burn_in` to `steps`."""
    burn_in: Time | Auto = quantity(0, unit="SGD steps")
    """SGD steps before the first snapshot."""
    steps: Count | Auto = quantity(1000, unit="SGD steps")
    """SGD steps in all."""
    dtype: Literal["float64", "float32"] = quantity("float32")
    """Floating-point type of the weights during training."""
    learning_rate: float = quantity(0.002, label="lr", symbol=r"\alpha", gt=0)
    """Step size; with a schedule, the largest one."""
    batch_size: int = quantity(16, label="B", symbol="B", ge=1, le=1_000_000)
    """Windows of `context` characters per SGD step."""
    optimiser: OptimiserName = quantity("adamw")
    """Update rule, as in `torch.optim`; `sgd` is without momentum, `nesterov` with Nesterov's."""
    width: int = quantity(64, ge=1, le=4096)
    """Numbers that stand for a character within the network."""
    heads: int = quantity(4, ge=1)
    """Heads of attention; a divisor of the width."""
    blocks: int = quantity(2, ge=1, le=64)
    """Blocks of attention and multilayer perceptron."""
    expansion: int = quantity(4, ge=1, le=64)
    """Hidden units of the perceptron, over the width."""
    context: int = quantity(32, ge=1, le=4096)
    """Characters that are seen at once."""
    dropout: float = quantity(0.0, ge=0, lt=1)
    """Share of numbers set to zero after embedding, attention and each half of a block."""
    tied: bool = quantity(True)
    """Whether the output is compared with the embedding itself, or with a matrix of its own."""
    initial_width: float = quantity(0.5, gt=0)
    """Weights of a matrix start independent and normal, of variance s^2 / columns; those of
    `output` and `down` of that over 2 `blocks`."""
    split: Literal["matrices", "heads"] = quantity("matrices")
    """`heads`: query, key, value and output are cut into their heads, a layer each."""
    data: str = quantity("markov", min_length=1)
    """`markov`: a random Markov source of known entropy; `topics`: the help texts that come with
    Python (`pydoc_data.topics`); or a text file in UTF-8, relative to the working directory or to
    the folder of the configuration."""
    alphabet: int = quantity(16, ge=2, le=1024)
    """Characters of the Markov source."""
    order: int = quantity(2, ge=1, le=8)
    """Characters that the next one of the Markov source depends on."""
    concentration: float = quantity(0.2, gt=0)
    """Of the Dirichlet distribution that the laws of the Markov source are drawn from: the smaller,
    the lower its entropy."""
    source_seed: int = quantity(0, ge=0, lt=2**32)
    """Seed of the Markov source: the same for all points of a study."""

    def idle(self) -> list[str]:
        """What belongs to another source."""
        names = super().idle()
        if self.data != "markov":
            names += ["alphabet", "order", "concentration", "source_seed"]
        return names

    def files(self) -> list[Path]:
        """The text, unless the characters are those of a source."""
        if self.data == "markov":
            return []
        return [topics_file() if self.data == "topics" else Path(places.find(self.data))]

    @property
    def sources(self) -> list[Path]:
        """The user's own file."""
        return [] if self.data in ("markov", "topics") else self.files()

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the weight matrices, block by block."""
        hidden = self.expansion * self.width
        shapes = dict.fromkeys(MATRICES, (self.width, self.width))
        shapes |= {"up": (hidden, self.width), "down": (self.width, hidden)}
        return {
            f"block{block}.{name}": shape
            for block in range(self.blocks)
            for name, shape in shapes.items()
        }

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """Every matrix of every block, or every head of it."""
        found = []
        for layer, (rows, columns) in self.matrices().items():
            for name, where in self.parts(layer):
                shape = np.empty((rows, columns), dtype=np.int8)[where].shape
                found.append((name, *shape))
        return found

    def parts(self, layer: str) -> list[tuple[str, tuple[slice, slice]]]:
        """Layers that a matrix becomes, and which of its rows and columns each is."""
        kind, everything = layer.rpartition(".")[2], slice(None)
        if self.split == "matrices" or kind in ("up", "down"):
            return [(layer, (everything, everything))]
        size = self.width // self.heads
        cuts = [slice(head * size, (head + 1) * size) for head in range(self.heads)]
        # Heads are rows of what makes queries, keys and values, and columns of what reads them.
        return [
            (f"{layer}.head{head}", (everything, cut) if kind == "output" else (cut, everything))
            for head, cut in enumerate(cuts)
        ]

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs: three products for each weight and character."""
        weights = (4 + 2 * self.expansion) * self.width**2 * self.blocks
        seen = self.batch_size * self.context
        attention = 12 * self.blocks * seen * self.context * self.width
        inside = seen * self.blocks * (16 + 2 * self.expansion) * self.width
        inside += seen * self.blocks * self.heads * self.context * 4
        return Cost(
            draws=seen,
            operations=6 * seen * weights + attention + 20 * weights,
            numbers=5 * weights + inside,
        )

    def check(self) -> None:
        """Refuse heads that do not fit, sources that nobody can hold, and unreadable texts."""
        super().check()
        if self.width % self.heads:
            raise ConfigError(
                f"heads = {self.heads}: does not divide the width of {self.width}; give a divisor"
            )
        contexts = self.alphabet**self.order
        if self.data == "markov" and contexts > 2**20:
            raise ConfigError(
                f"order = {self.order}: {self.alphabet} characters have {contexts} contexts of "
                "this length, more than 2^20; lower order or alphabet"
            )

    @planning_only
    def why_no_gradient_noise(self) -> str:
        """Why the noise of the gradient cannot be measured; empty if it can."""
        if not self.dropout:
            return ""
        return "dropout: its noise is none of the samples; measure gradients of a run without"

    def check_sources(self) -> None:
        """Refuse a text that changed since the run was planned, or is too short."""
        super().check_sources()
        source = characters(self)
        if isinstance(source, Text) and source.longest_window() <= self.context:
            raise ConfigError(
                f"context = {self.context}: {self.data} has only {len(source.numbers)} characters, "
                "a tenth of which is held out; give a longer text, or a shorter context"
            )

    def reference_losses(self) -> dict[str, float]:
        """Losses in nats that training is to be compared with, by name."""
        source = characters(self)
        found = {"entropy of single characters": source.unigram_entropy}
        smallest = source.attainable_loss(self.context)
        return found if smallest is None else found | {"entropy of the source": smallest}


def topics_file() -> Path:
    """File with the help texts of this Python."""
    import pydoc_data.topics

    return Path(pydoc_data.topics.__file__)


def characters(h: CharGPTHyperparameters) -> Source:
    """Where the characters of a run come from.

    Raises
    ------
    ConfigError
        If the text cannot be read.
    """
    if h.data == "markov":
        return _markov(h.alphabet, h.order, h.concentration, h.source_seed)
    return _text(h.data if h.data == "topics" else places.find(h.data), h.file_digest)


@lru_cache(maxsize=4)
def _markov(alphabet: int, order: int, concentration: float, seed: int) -> MarkovSource:
    return MarkovSource(alphabet, order, concentration, seed)


@lru_cache(maxsize=4)
def _text(data: str, digest: str) -> Text:
    if data == "topics":
        from pydoc_data.topics import topics

        return Text("\n".join(topics[name] for name in sorted(topics)))
    try:
        text = Path(data).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{data}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{data}: byte {error.start} is no UTF-8; convert the file") from None
    if len(text) < SHORTEST_TEXT or len(set(text)) < 2:
        raise ConfigError(
            f"{data}: {len(text)} characters, {len(set(text))} different ones; give a text of "
            f"{SHORTEST_TEXT} or more"
        )
    return Text(text)


class CharGPTSimulation(TorchSimulation):
    """A block of transformers, trained side by side.

    Shapes: replica R, window B, place T, width C, character V; windows and places together are
    rows, B T of them.
    """

    CARRIES_NOISE = True

    def __init__(self, hyperparameters: CharGPTHyperparameters, replicas: int, noise: NoiseStream):
        super().__init__(hyperparameters, replicas, noise)
        self.h, self.replicas = hyperparameters, replicas
        self.source = characters(self.h)
        self.stack = StackedParameters(self._shapes(), replicas, noise.dtype, noise.device)
        self.parameters = self.stack.views
        self._start()
        self.optimiser = self.h.start_optimiser({"parameters": self.stack.flat})
        self.rates = self.h.learning_rates()
        self.watch = FiniteWatch(noise.device)
        from dysonflow.simulation.noise import NoiseStream

        cpu = torch.device("cpu")
        other = NoiseStream(self.h.seed, self.h.key, EVALUATION_BLOCK, cpu, noise.dtype)
        length = self.h.context + 1
        evaluated = self.source.sample(other, EVALUATED, length, held_out=True)
        self.evaluated = evaluated.to(noise.device)
        # What lies ahead of a character is hidden from it.
        ones = torch.ones(self.h.context, self.h.context, dtype=torch.bool, device=noise.device)
        self.future = ones.triu(1)

    # --- the network, from the characters to the loss ---------------------------------------------

    def losses(self, characters: Tensor, is_training: bool) -> Tensor:
        """Mean cross-entropy of each replica, shape (R,), in nats.

        Parameters
        ----------
        characters : Tensor
            Windows with one character more than the context, shape (R, B, T + 1).
        is_training : bool
            Whether there is dropout.
        """
        seen, following = characters[..., :-1], characters[..., 1:]
        logits = self.logits(seen, is_training)
        rows = torch.nn.functional.cross_entropy(
            logits.flatten(0, 2), following.flatten(), reduction="none"
        )
        return rows.view(len(characters), -1).mean(dim=1)

    def logits(self, characters: Tensor, is_training: bool) -> Tensor:
        """Logarithms of odds of the next character, shape (R, B, T, V), for (R, B, T)."""
        parameters, (replicas, windows, places) = self.parameters, characters.shape
        # Replica r reads its own table, which begins at row r V of all of them.
        first = self.source.symbols * torch.arange(replicas, device=characters.device)
        tables = parameters["embedding"].flatten(0, 1)
        x = torch.nn.functional.embedding(characters + first[:, None, None], tables)
        x = x + parameters["position"][:, None, :places]
        x = self._dropped(x.view(replicas, windows * places, self.h.width), is_training)
        for block in range(self.h.blocks):
            x = x + self._attention(f"block{block}.", x, places, is_training)
            x = x + self._perceptron(f"block{block}.", x, is_training)
        x = self._normed("norm", x)
        out = parameters["embedding" if self.h.tied else "unembedding"]
        return torch.bmm(x, out.transpose(1, 2)).view(replicas, windows, places, -1)

    def _attention(self, block: str, x: Tensor, places: int, is_training: bool) -> Tensor:
        """What each character takes over from those before it, shape (R, B T, C)."""
        replicas, rows, width = x.shape
        size = width // self.h.heads
        x = self._normed(block + "norm1", x)
        query, key, value = (
            # (R, B T, C) to (R B, head, T, size)
            self._times(block + name, x).view(-1, places, self.h.heads, size).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(size)
        scores = scores.masked_fill(self.future[:places, :places], -math.inf)
        shares = self._dropped(torch.softmax(scores, dim=3), is_training)
        taken = (shares @ value).transpose(1, 2).reshape(replicas, rows, width)
        return self._dropped(self._times(block + "output", taken), is_training)

    def _perceptron(self, block: str, x: Tensor, is_training: bool) -> Tensor:
        """What is made of each character by itself, shape (R, B T, C)."""
        x = self._times(block + "up", self._normed(block + "norm2", x))
        x = self._times(block + "down", torch.nn.functional.gelu(x))
        return self._dropped(x, is_training)

    def _times(self, name: str, x: Tensor) -> Tensor:
        """W x of each replica's own W (R, M, N), for rows x (R, row, N)."""
        return torch.bmm(x, self.parameters[name].transpose(1, 2))

    def _normed(self, name: str, x: Tensor) -> Tensor:
        """Layer norm, with a gain for each number and no bias."""
        normed = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
        return normed * self.parameters[name][:, None]

    def _dropped(self, x: Tensor, is_training: bool) -> Tensor:
        """Some numbers set to zero, the rest enlarged to the same mean."""
        share = self.h.dropout
        if not (is_training and share):
            return x
        kept = torch.empty_like(x).bernoulli_(1.0 - share, generator=self.noise.local.generator)
        return x * kept / (1.0 - share)

    # --- its start and its training ---------------------------------------------------------------

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape of every parameter of one replica."""
        h, table = self.h, (self.source.symbols, self.h.width)
        shapes: dict[str, tuple[int, ...]] = {"embedding": table, "position": (h.context, h.width)}
        if not h.tied:
            shapes["unembedding"] = table
        for block in range(h.blocks):
            shapes |= {f"block{block}.norm{half}": (h.width,) for half in (1, 2)}
        return {**shapes, "norm": (h.width,), **h.matrices()}

    def _start(self) -> None:
        """Gains of 1, and independent normal weights."""
        h = self.h
        with torch.no_grad():
            for name, view in self.parameters.items():
                if view.dim() == 2:
                    view.fill_(1.0)
                    continue
                width = h.initial_width / math.sqrt(view.shape[2])
                if name.endswith((".output", ".down")):
                    # So that the sum over all blocks is as large for many as for few.
                    width /= math.sqrt(2 * h.blocks)
                view.copy_(width * self.noise.normal(*view.shape))

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps.

        Raises
        ------
        DivergedError
            With replica, layer and step, if a weight is no longer finite.
        """
        parameters, gradients = {"parameters": self.stack.flat}, {"parameters": self.stack.gradient}
        shape = (self.replicas, self.h.batch_size, self.h.context + 1)
        for step in range(steps):
            windows = self.source.sample(self.noise, *shape)
            self.stack.gradient.zero_()
            self.losses(windows, is_training=True).sum().backward()
            self.step += 1
            self.optimiser.update(parameters, gradients, self.rates.rate(self.step), self.step)
            when = self.watch.broken_at(self.stack.flat.sum(), self.step, step == steps - 1)
            broken = None if when is None else self.stack.broken()
            if when is not None and broken is not None:
                name, replica = broken
                reason = f"a weight of layer {name} is not finite; lower learning_rate"
                raise DivergedError(replica, when, reason)

    def sample_gradients(self, replica: int, samples: int, noise: NoiseStream) -> dict[str, Tensor]:
        """Gradient of the loss of single windows, as of `dysonflow.simulation.gradients`."""
        # Each window has a replica of its own, all with the weights of the one that is asked for.
        alone = copy.copy(self)
        alone.stack = StackedParameters(self._shapes(), samples, noise.dtype, noise.device)
        alone.parameters = alone.stack.views
        with torch.no_grad():
            for name, view in alone.parameters.items():
                view.copy_(self.parameters[name][replica].expand_as(view))
        windows = self.source.sample(noise, samples, 1, self.h.context + 1)
        alone.losses(windows, is_training=True).sum().backward()
        return alone.per_layer(alone.stack.gradient)

    def remembered(self, kind: str) -> dict[str, Tensor]:
        """What the optimiser remembers, as of `dysonflow.simulation.gradients`."""
        return self.per_layer(self.optimiser.memory[f"{kind}.parameters"])

    def per_layer(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a tensor like the flat parameters, layer to shape (replica, M, N)."""
        views = self.stack.of(flat)
        return {
            name: views[layer][:, rows, columns]
            for layer in self.h.matrices()
            for name, (rows, columns) in self.h.parts(layer)
        }

    def layers(self) -> dict[str, np.ndarray]:
        """Weights now, layer to a copy of shape (replica, M, N)."""
        views = self.per_layer(self.stack.flat)
        return {layer: view.cpu().numpy().copy() for layer, view in views.items()}

    def loss(self) -> np.ndarray:
        """Loss of each replica, shape (replica,), on windows that nobody learns from, in nats."""
        total = np.zeros(self.replicas)
        with torch.no_grad():
            for windows in self.evaluated.split(EVALUATED_AT_ONCE):
                shared = windows.expand(self.replicas, *windows.shape)
                found = self.losses(shared, is_training=False).cpu().numpy()
                total += found.astype(np.float64) * len(windows)
        return total / EVALUATED

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        tensors = {"parameters": self.stack.flat, **self.optimiser.state()}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return {**arrays, "step": np.array([self.step]), "noise": self.noise.state()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        self.stack.flat.copy_(torch.as_tensor(state["parameters"]))
        self.optimiser.load(state)
        self.step = int(state["step"][0])
        self.noise.load(state["noise"])


SYSTEM = System(CharGPTHyperparameters, CharGPTSimulation)
