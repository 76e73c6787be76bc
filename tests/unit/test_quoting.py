"""Numbers with their errors, as captions and documents quote them."""

import math
import re

import numpy as np
import pytest

from dysonflow.report.quoting import quote


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.7731, 0.0021, "1.7731(21)"),
        # Rounded up to one more place, an error still has two digits.
        (1.234, 0.0996, "1.23(10)"),
        (1.234, 0.0994, "1.234(99)"),
        (-1.234, 0.0996, "-1.23(10)"),
        (0.5, 9.96, "0(10)"),
        (1234.5, 34.2, "1234(34)"),
        (1234.5, 99.6, "1.23(10)e3"),
        (12345.6, 120.0, "1.235(12)e4"),
        (1e-9, 3e-11, "1.000(30)e-9"),
        (0.00012, 1e-5, "0.000120(10)"),
        (3e-5, 1.2e-5, "3.0(12)e-5"),
        (9.9999e-5, 1e-6, "0.0001000(10)"),
        (0.0, 2e-3, "0.0000(20)"),
        (0.001, 5.0, "0.0(50)"),
        (1.0, 1e-30, "1.0000000000000000000000000000000(10)"),
        (1.23456, 0.0, "1.235"),
        (1.23456, math.nan, "1.235"),
        (1.23456, math.inf, "1.235"),
        (math.nan, 0.1, "nan"),
    ],
)
def test_an_error_is_quoted_with_two_digits(value, error, text):
    assert quote(value, error) == text


def test_a_quoted_number_is_the_number():
    rng = np.random.default_rng(7)
    for value, error in 10.0 ** rng.uniform(-12, 12, (500, 2)):
        sign = rng.choice([-1.0, 1.0])
        number, digits, power = re.fullmatch(
            r"([+-][\d.]+)\((\d\d)\)(e-?\d+)?", quote(sign * value, error, "+")
        ).groups()
        unit = 10.0 ** -len(number.partition(".")[2]) * float(f"1{power or ''}")
        assert int(digits) * unit == pytest.approx(error, rel=0.051)
        shown = float(number + (power or ""))
        assert abs(shown - sign * value) <= 0.51 * unit + 1e-15 * value
