"""Numbers with their errors, as text."""

import math


def quote(value: float, error: float) -> str:
    """A value with its error in parentheses, two digits of it: 1.7731(21)."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{value:.4g}"
    digits = max(1 - math.floor(math.log10(error)), 0)
    scaled = round(error * 10**digits)
    return f"{value:.{digits}f}({scaled})" if digits else f"{value:.0f}({error:.0f})"
