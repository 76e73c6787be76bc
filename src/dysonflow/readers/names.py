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
