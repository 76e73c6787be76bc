"""Distances from theory as standard normal numbers, also where errors come from few replicas."""

import math


def pull(
    value: float, theory: float, error: float, freedom: float, origin: float | None = None
) -> float:
    """Distance of an estimate from theory, as a normal number.

    An estimate over its error follows Student's t, not the normal law, where the error comes from
    few replicas; and the error of a scale grows with its estimate, so that low ones seem further
    off than they are: a tail beyond five errors is then a thousand times as frequent as one would
    think. The logarithm of a scale has a constant error.

    Parameters
    ----------
    value, theory : float
        Estimate and prediction.
    error : float
        Standard error of the estimate, with that of the prediction.
    freedom : float
        Degrees of freedom of the error: independent replicas less one.
    origin : float, optional
        Of a scale: its error is proportional to the distance from here.

    Returns
    -------
    float
        Standard normal where the prediction is right: the normal quantile of Student's t in the
        closed form of D. L. Wallace, Ann. Math. Stat. 30, 1124 (1959), good to 0.1 % at 29 degrees
        of freedom.
    """
    if origin is not None and value > origin and theory > origin:
        distance = (value - origin) / error * math.log((value - origin) / (theory - origin))
    else:
        distance = (value - theory) / error
    size = math.sqrt(freedom * math.log1p(distance**2 / freedom))
    return math.copysign((8 * freedom + 1) / (8 * freedom + 3) * size, distance)
