r"""How long a mode that is lost against another takes to win.

With fewer hidden units than modes the modes of lowest kappa win. A start in which a mode l of
higher kappa has the place of a mode w stays there on the exact gradient, but not for ever under
noise: the hidden unit of l turns towards w by an angle theta, which near the start obeys

    theta' = (1 + r) theta - a sigma_h^2 C_lw,   r = a sigma_h^2 (1/kappa_w - 1/kappa_l),

with Var(C_lw) = 1 / (B lambda_l lambda_w), lambda_l = kappa_l at its fixed point and
lambda_w = mu^2. (Of r, 1/kappa_w - 1/mu^2 is the growth of w, and 1/mu^2 - 1/kappa_l what the
correlation that theta brings about takes of it. Persistent chains have no memory of a mode without
weights, so the noise is that of independent samples.) So theta is Gaussian and grows, its variance
at t being a^2 sigma_h^4 Var(C_lw) ((1 + r)^(2 t) - 1) / ((1 + r)^2 - 1). How an angle that is no
longer small grows, until the sum of the levels has come half of the way, is followed on the exact
gradient. To leading order in the angle at which one description takes over from the other.
"""

import math

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters, modes
from dysonflow.theory.base import Escape
from dysonflow.theory.gaussian_rbm import exact_gradient

SMALL = 1e-3
"""Angle from which the exact gradient is followed."""
LONGEST = 10_000_000
"""SGD steps after which it is given up."""
SAME = 1e-9
"""Relative distance up to which two kappa are one."""


def escape(h: GaussianRBMHyperparameters) -> Escape | None:
    """Law of the passage; None unless one filled mode can be left for one empty mode."""
    start, fixed, kappa = np.array(h.initial_spectrum), h.fixed_points(), h.kappa()
    if not h.initial_spectrum or not (fixed > 0).any():
        return None
    filled = start > 0
    # All hidden units are taken, or an empty mode just grows; by modes at rest, but for the noise.
    if filled.sum() != int(h.hidden_units):
        return None
    rest = (h.rbm_mass_squared - kappa) / h.hidden_width**2
    if not np.allclose(start[filled], rest[filled], rtol=1e-6):
        return None
    ways = [
        (winner, loser)
        for loser in np.flatnonzero(filled)
        for winner in np.flatnonzero(~filled)
        if kappa[winner] < kappa[loser] * (1.0 - SAME)
    ]
    if len(ways) != 1:
        return None
    winner, loser = ways[0]
    rate = h.learning_rate * h.hidden_width**2
    growth = rate * (1.0 / kappa[winner] - 1.0 / kappa[loser])
    kick = rate**2 / (h.batch_size * kappa[loser] * h.rbm_mass_squared)
    seed = math.sqrt(kick / ((1.0 + growth) ** 2 - 1.0))
    before, after = (
        float(rest[filled].sum()),
        float(rest[filled].sum() + rest[winner] - rest[loser]),
    )
    threshold = 0.5 * (before + after)
    basis = modes(h)
    basis[:, loser] = math.cos(SMALL) * basis[:, loser] + math.sin(SMALL) * basis[:, winner]
    gram = (basis[:, filled] * rest[filled]) @ basis[:, filled].T
    steps, total = 0, float(np.trace(gram))
    while (total - threshold) * (before - threshold) > 0:
        gram, last = exact_gradient.train(h, gram, 1), total
        steps, total = steps + 1, float(np.trace(gram))
        if steps > LONGEST:
            return None
    time = steps - (total - threshold) / (total - last)
    total_level = h.sites * h.rbm_mass_squared - h.hidden_width**2 * threshold
    return Escape(growth, seed, SMALL * math.exp(math.log1p(growth) * time), total_level)
