"""Which matrices get a bulk, and what is computed of it."""

from dysonflow.hyperparameters import Hyperparameters

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
