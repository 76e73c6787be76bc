"""Random numbers of one block of replicas for simulations in NumPy."""

from __future__ import annotations

import numpy as np


class NumPyNoise:
    """Random numbers of one block of replicas of one run.

    Like `dysonflow.simulation.noise.NoiseStream`, of which it is the counterpart without torch: the
    stream depends on the seed, the key of the run and the number of the block, and on nothing else.

    Parameters
    ----------
    seed : int
        Seed given in the configuration.
    key : str
        Key of the run, hexadecimal.
    block : int
        Number of the block of replicas.
    step : int, optional
        For numbers that belong to one step, whatever was drawn before it.
    """

    def __init__(self, seed: int, key: str, block: int, step: int | None = None):
        place = (block,) if step is None else (block, step)
        sequence = np.random.SeedSequence([seed, int(key, 16)], spawn_key=place)
        # Of all generators of NumPy this one has the state that is an array as it is.
        self.generator = np.random.Generator(np.random.SFC64(sequence))

    def normal(self, *shape: int) -> np.ndarray:
        """Independent standard normal variates of the given shape, float64."""
        return self.generator.standard_normal(shape)

    def state(self) -> np.ndarray:
        """State of the generator, shape (6,)."""
        now = self.generator.bit_generator.state
        rest = [now["has_uint32"], now["uinteger"]]
        return np.concatenate([now["state"]["state"], np.array(rest, dtype=np.uint64)])

    def load(self, state: np.ndarray) -> None:
        """Go back to what `state` returned."""
        words = np.asarray(state, dtype=np.uint64)
        self.generator.bit_generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": words[:4].copy()},
            "has_uint32": int(words[4]),
            "uinteger": int(words[5]),
        }
