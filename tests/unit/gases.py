"""Levels that tests of the statistics are made on, drawn with a fixed seed.

Statistical tests allow five standard errors, or the p-value of that.
"""

import numpy as np

from dysonflow.statistics.coulomb_gas import sample

FALSE_ALARM = 5.7e-7


def blocks(n, beta, size, seed, centre=3.0, sigma=0.2):
    return sample(n, beta, size, np.random.default_rng(seed), centre, sigma)[:, None, :]


def remembering(replicas, snapshots, memory, seed):
    """2 x 2 GOE blocks, sigma = 1, whose mean forgets by `memory` a snapshot."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((snapshots, 3, replicas))
    state = noise.copy()
    for t in range(1, snapshots):
        state[t] = memory * state[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    mean, a, b = state.transpose(1, 2, 0)
    gap = np.sqrt(2) * np.hypot(a, b)
    mean = 5 + mean / np.sqrt(2)
    return np.stack([mean - gap / 2, mean + gap / 2], axis=-1), 0.5 * np.arctan2(b, a)


def spoil(data, value):
    data = data.copy()
    data[7, 0, 0] = value
    return data
