"""Sequences of characters to learn from: a Markov source of known entropy, or a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from dysonflow.lazy import LazyModule

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

HELD_OUT = 0.1
"""Last part of a text, which nobody learns from: the loss of a snapshot is taken there."""


class Source(Protocol):
    """Where characters come from."""

    @property
    def symbols(self) -> int:
        """How many characters there are; they are numbers from 0."""
        ...

    @property
    def unigram_entropy(self) -> float:
        """Entropy of one character by itself, in nats: the loss of a model without memory."""
        ...

    def attainable_loss(self, context: int) -> float | None:
        """Smallest mean loss in windows of so many characters, in nats; None if not known."""
        ...

    def sample(self, noise: NoiseStream, *shape: int, held_out: bool = False) -> torch.Tensor:
        """Sequences along the last axis, int64, independent along the others."""
        ...


class MarkovSource:
    """Characters of which each depends on the last few: a stationary Markov chain.

    The law of the next character after each of the contexts is drawn once, from a symmetric
    Dirichlet distribution.

    Parameters
    ----------
    symbols : int
        Characters V.
    order : int
        Characters k that the next one depends on, so that there are V^k contexts.
    concentration : float
        Of the Dirichlet distribution: the smaller, the fewer characters follow a context.
    seed : int
        Of these laws.
    """

    def __init__(self, symbols: int, order: int, concentration: float, seed: int):
        self.symbols, self.order = symbols, order
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        shape = np.full(symbols, concentration)
        # Never an exact zero: an entropy takes the logarithm.
        laws = rng.dirichlet(shape, symbols**order) + 1e-12
        self.laws = laws / laws.sum(axis=1, keepdims=True)
        self.contexts = self._stationary()
        # Carried to each device once.
        self._on: dict[torch.device, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def _stationary(self) -> np.ndarray:
        """Probability of each context, the last character the least digit, shape (V^k,)."""
        found = np.full(len(self.laws), 1.0 / len(self.laws))
        for _ in range(10_000):
            # The oldest character leaves, the next one enters.
            joint = (found[:, None] * self.laws).reshape(self.symbols, -1)
            after = joint.sum(axis=0)
            if np.abs(after - found).sum() < 1e-14:
                break
            found = after
        return found

    def conditional_entropy(self, memory: int) -> float:
        """Entropy of a character given the `memory` last ones, in nats."""
        joint = (self.contexts[:, None] * self.laws).ravel()
        kept = min(memory, self.order)
        # Contexts of the last characters alone: the older ones are summed over.
        joint = joint.reshape(-1, self.symbols**kept, self.symbols).sum(axis=0)
        law = joint / joint.sum(axis=1, keepdims=True)
        return float(-(joint * np.log(law)).sum())

    @property
    def unigram_entropy(self) -> float:
        """Entropy of one character by itself, in nats."""
        return self.conditional_entropy(0)

    @property
    def entropy(self) -> float:
        """Entropy rate, in nats per character."""
        return self.conditional_entropy(self.order)

    def attainable_loss(self, context: int) -> float:
        """Mean entropy of a character given those before it in a window.

        The first ones have fewer characters before them than they depend on, so it lies a little
        above the entropy rate.
        """
        given = [self.conditional_entropy(seen) for seen in range(1, min(self.order, context) + 1)]
        return (sum(given) + (context - len(given)) * self.entropy) / context

    def sample(self, noise: NoiseStream, *shape: int, held_out: bool = False) -> torch.Tensor:
        """Sequences from the stationary law, which is fresh at every call."""
        *many, length = shape
        cumulative, start, powers = self._tables(noise.device)
        places = max(length - self.order, 0) + 1
        drawn = noise.uniform(places, *many, replica_axis=1).to(torch.float64)
        context = torch.searchsorted(start, drawn[0].contiguous())
        characters = list((context[..., None] // powers % self.symbols).unbind(dim=-1))
        for uniform in drawn[1:]:
            following = (uniform[..., None] >= cumulative[context]).sum(dim=-1)
            context = (context * self.symbols + following) % len(self.laws)
            characters.append(following)
        return torch.stack(characters[:length], dim=-1)

    def _tables(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cumulative laws, cumulative probabilities of contexts, and the worth of their digits."""
        if device not in self._on:
            cumulative = torch.as_tensor(np.cumsum(self.laws, axis=1)[:, :-1], device=device)
            start = torch.as_tensor(np.cumsum(self.contexts)[:-1], device=device)
            powers = self.symbols ** torch.arange(self.order - 1, -1, -1, device=device)
            self._on[device] = cumulative, start, powers
        return self._on[device]


class Text:
    """Characters of a text; sequences are windows at random places.

    Parameters
    ----------
    text : str
        The text.

    Attributes
    ----------
    vocabulary : str
        Its characters in the order of their code points; their places are their numbers.
    """

    def __init__(self, text: str):
        self.vocabulary = "".join(sorted(set(text)))
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        known = np.array([ord(character) for character in self.vocabulary], dtype=np.uint32)
        self.numbers = np.searchsorted(known, points)
        self.learnt = round(len(points) * (1.0 - HELD_OUT))
        # Carried to each device once.
        self._on: dict[torch.device, torch.Tensor] = {}

    @property
    def symbols(self) -> int:
        """Different characters of the text."""
        return len(self.vocabulary)

    @property
    def unigram_entropy(self) -> float:
        """Entropy of a character of the text by itself, in nats."""
        counts = np.bincount(self.numbers, minlength=self.symbols)
        law = counts / counts.sum()
        return float(-(law * np.log(law)).sum())

    def attainable_loss(self, context: int) -> None:
        """Nobody knows the entropy of a text."""

    def longest_window(self) -> int:
        """Characters of the longest window that fits into both parts of the text."""
        return min(self.learnt, len(self.numbers) - self.learnt)

    def sample(self, noise: NoiseStream, *shape: int, held_out: bool = False) -> torch.Tensor:
        """Windows of the part that is learnt, or of the rest."""
        *many, length = shape
        first, end = (self.learnt, len(self.numbers)) if held_out else (0, self.learnt)
        starts = first + noise.integers(end - first - length + 1, *many)
        if noise.device not in self._on:
            self._on[noise.device] = torch.as_tensor(self.numbers, device=noise.device)
        return self._on[noise.device][starts[..., None] + torch.arange(length, device=noise.device)]
