"""Some layers of a network, where a figure cannot show all."""

from collections.abc import Collection, Sequence

import numpy as np


def some_of(layers: Sequence[str], most: int) -> list[str]:
    """All layers if they are few; else `most` of them, the first and the last among them.

    Parameters
    ----------
    layers : sequence of str
        In the order of the network.
    most : int
        How many can be shown.
    """
    if len(layers) <= most:
        return list(layers)
    return [layers[i] for i in np.linspace(0, len(layers) - 1, most).round().astype(int)]


def left_out(drawn: Collection[str], layers: Collection[str]) -> str:
    """What a caption says of the layers that are not drawn; nothing where all are."""
    if len(drawn) == len(layers):
        return ""
    return f" Drawn are {len(drawn)} of {len(layers)} layers, spread evenly through the network."
