"""Which matrices get a bulk, what is computed of it, and what is known of it."""

from collections.abc import Mapping

from dysonflow.hyperparameters import Hyperparameters
from dysonflow.readers.names import matches

SMALLEST_SIDE = 32
"""Of a matrix with a bulk: the laws of a bulk were tested from here on (docs/bulk.md)."""

VECTORS, SHUFFLED, TRUNCATED = "vectors", "shuffled", "truncated"
EXTRAS = (VECTORS, SHUFFLED, TRUNCATED)
"""What is computed only where it is asked for: tests of the singular vectors, all columns for the
matrix with its elements shuffled, and a power law with a cut-off. Each costs as much as the
singular values, or more."""


def layers_with_bulk(run: Hyperparameters) -> dict[str, tuple[int, int]]:
    """Layers of a run whose shorter side is at least `SMALLEST_SIDE`, and their shapes.

    None of a model whose spectra are not those of W^T W.
    """
    if run.eigenvalues_of != "gram":
        return {}
    return {layer: shape for layer, shape in run.layers().items() if min(shape) >= SMALLEST_SIDE}


def known_scales(
    run: Hyperparameters, given: float | Mapping[str, float] | None
) -> dict[str, float]:
    """Scale of the noise of the layers with a bulk for which it is given.

    Parameters
    ----------
    run : Hyperparameters
        The run.
    given : float, or mapping, or None
        Standard deviation of an entry, in all layers; or of the layers of a name, or whose names
        match a pattern of a shell: the first that fits.
    """
    layers = layers_with_bulk(run)
    if given is None or isinstance(given, float | int):
        return {} if given is None else dict.fromkeys(layers, float(given))
    found = {}
    for layer in layers:
        fitting = [float(scale) for name, scale in given.items() if matches(layer, name)]
        if fitting:
            found[layer] = fitting[0]
    return found
