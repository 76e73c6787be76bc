"""Numbers with their errors, as text."""

import math
from decimal import Decimal, localcontext

SMALLEST_EXPONENT = -4
"""Powers of ten below this are written as such."""
DIGITS = 700
"""More than there are between the largest and the smallest number in double precision."""


def quote(value: float, error: float, sign: str = "") -> str:
    """A value with its error in parentheses, which has two digits: 1.7731(21).

    The error is rounded to two significant digits, and the value to the same place. Where the last
    of these digits would stand before the decimal point, or the number is very small, a power of
    ten stands behind: 1.23(12)e4, 1.000(30)e-9. Without a finite positive error the value stands
    alone, with four digits.

    Parameters
    ----------
    value, error : float
        The value and its standard error, in the same unit.
    sign : str
        `+` to show the sign of a positive value, too.
    """
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{value:{sign}.4g}"
    # Rounded first: an error of 0.0996 has its second digit one place earlier than 0.0994 has.
    digits, exponent = f"{error:.1e}".split("e")
    digits, last = digits.replace(".", ""), int(exponent) - 1
    with localcontext(prec=DIGITS):
        # Through the shortest text of the number, which is what a reader would round by hand.
        rounded = round(Decimal(repr(float(value))), -last)
        power = max(rounded.adjusted() if rounded else last + 1, last + 1)
        if last <= 0 and power >= SMALLEST_EXPONENT:
            return f"{rounded:{sign}.{-last}f}({digits})"
        return f"{rounded.scaleb(-power):{sign}.{power - last}f}({digits})e{power}"
