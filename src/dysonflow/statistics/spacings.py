"""Ratios of neighbouring spacings of levels, which need no unfolding."""

import numpy as np

GOE = 0.5307
"""Mean ratio of large real symmetric random matrices (Atas et al., Phys. Rev. Lett. 110, 084101
(2013))."""
POISSON = 2.0 * np.log(2.0) - 1.0
"""Mean ratio of independent levels (same source)."""
FEWEST_LEVELS = 3
"""Levels that have a ratio."""


def spacing_ratios(levels: np.ndarray) -> np.ndarray:
    """Smaller over larger of each two neighbouring spacings.

    Parameters
    ----------
    levels : np.ndarray
        Ascending along the last axis, at least three, shape (..., N).

    Returns
    -------
    np.ndarray
        Between 0 and 1, shape (..., N - 2).
    """
    spacings = np.diff(levels, axis=-1)
    below, above = spacings[..., :-1], spacings[..., 1:]
    larger = np.maximum(below, above)
    # Levels that coincide have no ratio.
    return np.minimum(below, above) / np.where(larger > 0, larger, np.nan)
