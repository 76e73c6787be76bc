"""Weights like those of a transformer, random with planted signals: a system of the benchmarks."""

from collections.abc import Callable

import numpy as np

from dysonflow.hyperparameters import Hyperparameters, quantity
from dysonflow.models.base import System


class TransformerHyperparameters(Hyperparameters):
    """Sizes of the matrices."""

    MODEL = "transformer"

    width: int = quantity(512, ge=32)
    """Width of the residual stream."""
    blocks: int = quantity(12, ge=1)
    """Blocks of attention and a perceptron."""
    vocabulary: int = quantity(24000, ge=0)
    """Rows of the embedding; none if 0."""

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """All matrices, those of every block first."""
        d = self.width
        of_block = {"attn.qkv": (3 * d, d), "attn.out": (d, d), "mlp.up": (4 * d, d)}
        of_block["mlp.down"] = (d, 4 * d)
        shapes = [
            (f"block{number}.{name}", *shape)
            for number in range(self.blocks)
            for name, shape in of_block.items()
        ]
        return shapes + ([("embedding", self.vocabulary, d)] if self.vocabulary else [])


def read(h: TransformerHyperparameters, put: Callable[..., int]) -> np.ndarray:
    """Draw all matrices: noise, and 3 to 20 signals of falling strength."""
    rng = np.random.default_rng(h.seed)
    found = {}
    for name, (rows, columns) in h.layers().items():
        noise = rng.standard_normal((rows, columns), dtype=np.float32)
        count = int(rng.integers(3, 21))
        left = rng.standard_normal((rows, count), dtype=np.float32) / np.sqrt(rows)
        right = rng.standard_normal((count, columns), dtype=np.float32) / np.sqrt(columns)
        strength = (rows * columns) ** 0.25 * np.geomspace(6.0, 0.7, count)
        signal = (left * strength.astype(np.float32)) @ right
        found[name] = 0.02 * (noise + signal)[None]
    put(0, 0, found)
    return np.array([0])


SYSTEM = System(TransformerHyperparameters, read=read)
