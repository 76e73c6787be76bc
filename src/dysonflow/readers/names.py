"""Names of layers and tensors, and the patterns that stand for them."""

import fnmatch


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern of a shell, or the name itself, is given for a name.

    Parameters
    ----------
    name : str
        Of a layer or a tensor.
    pattern : str
        The name, or a pattern with `*`, `?` and `[...]`; upper and lower case differ.
    """
    return pattern == name or fnmatch.fnmatchcase(name, pattern)


def layer_of(parameter: str) -> str:
    """Name of the layer whose weight a parameter of a torch module is."""
    return parameter.removesuffix(".weight")


def matches_parameter(parameter: str, pattern: str) -> bool:
    """Whether a name or pattern is given for a parameter, or for the layer whose weight it is."""
    return matches(parameter, pattern) or matches(layer_of(parameter), pattern)
