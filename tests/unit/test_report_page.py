"""Parts of the report's page: agreement in words, tests and chance, formulas, contrast."""

import math
import re

import numpy as np
import pytest

from dysonflow.report import page
from dysonflow.report.page import chance, markup, pictures
from dysonflow.report.page.chance import FULL, LEVEL, Family
from dysonflow.report.page.verdicts import agreement, p_value
from dysonflow.report.reproduction import Table, html_page


def family(p_values, theory=FULL):
    return Family("any", theory, [chance.Test(p, f"place {n}") for n, p in enumerate(p_values)])


@pytest.mark.parametrize(
    ("pull", "words"),
    [
        *((2.99, "agrees"), (-2.99, "agrees"), (0.0, "agrees")),
        *((3.2, "in tension (3.2 errors)"), (-12.04, "differs (12.0 errors)")),
        *((None, ""), (math.nan, "")),
    ],
)
def test_agreement_is_said_in_words(pull, words):
    assert agreement(pull).text == words


def test_the_level_is_that_of_three_errors():
    # Twice the tail of the normal law beyond 3, Abramowitz and Stegun, table 26.1.
    assert pytest.approx(2 * 0.0013498980, rel=1e-6) == LEVEL
    assert p_value(-3.0) == LEVEL and p_value(0.0) == 1.0


def test_as_many_differ_by_chance_as_is_said():
    tests = family(np.random.default_rng(0).uniform(size=200_000).tolist())
    spread = math.sqrt(tests.by_chance * (1 - LEVEL))
    assert abs(tests.differing - tests.by_chance) < 5 * spread


def test_the_furthest_of_many_is_corrected_for_their_number():
    tests = family([0.5, 1e-4, 0.2, 0.9])
    assert tests.furthest == (1e-4, "place 1") and tests.corrected == pytest.approx(4e-4)
    assert tests.differing == 1 and tests.by_chance == pytest.approx(4 * LEVEL)
    assert family([0.5, 0.4, 0.6]).corrected == 1.0


def test_the_corrected_p_value_errs_on_the_safe_side_for_dependent_tests():
    # A hundred studies of twenty tests that share most of their noise.
    random = np.random.default_rng(1)
    shared = random.standard_normal((2000, 1)) + 0.5 * random.standard_normal((2000, 20))
    found = [
        family([p_value(one) for one in row / math.sqrt(1.25)]).corrected < 0.1 for row in shared
    ]
    assert np.mean(found) < 0.1 + 5 * math.sqrt(0.1 * 0.9 / len(found))


@pytest.mark.parametrize(
    ("p_values", "theory", "mark"),
    [
        ([1e-6] * 3, FULL, "differs"),
        ([1e-6] * 3, chance.APPROXIMATE, "expected"),
        # One of many, about as far as the furthest of so many goes.
        ([0.5] * 99 + [0.002], FULL, ""),
        ([0.5], FULL, ""),
    ],
)
def test_more_than_chance_is_coloured(p_values, theory, mark):
    cells = re.findall(r"<td[^>]*>\d+</td>", chance.chance_table([family(p_values, theory)]))
    assert [name for name in ("differs", "expected") if name in cells[1]] == [mark] * bool(mark)


def test_nothing_that_has_no_theory_is_said_to_agree():
    assert chance.summary([]).startswith("Nothing was tested")
    assert chance.summary([family([1e-9], chance.APPROXIMATE)]).startswith("Nothing was tested")


def test_a_long_table_is_cut_and_says_so():
    rows = [[str(number)] for number in range(markup.LONGEST + 1)]
    text = markup.table("a", "b", [markup.Column("c")], rows, "the file d")
    assert text.count("<tr>") == markup.LONGEST + 1
    assert f"The first {markup.LONGEST} of {markup.LONGEST + 1} rows are shown" in text


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        *((r"\alpha = 0.1", "α = 0.1"), (r"\lambda", "λ"), (r"\Omega", "Ω")),
        *((r"\bar{x}", "bar{x}"), ("B = 4", "B = 4")),
    ],
)
def test_formulas_of_captions_become_letters(formula, text):
    assert pictures.in_letters(formula) == text


def test_the_document_becomes_a_part_of_the_page(tmp_path):
    parts = ["# The paper", "All `measured`.", "## One", Table(["a", "b<"], [["1", "2"]])]
    (tmp_path / "document.html").write_text(html_page(parts), encoding="utf-8")
    body = page._embedded(str(tmp_path / "document.html"))
    assert "The paper" not in body and "<h4>One</h4>" in body
    assert "<p>All <code>measured</code>.</p>" in body and "b&lt;" in body
    assert body.count('<div class="scroll"') == body.count("</table></div>") == 1


def luminance(colour):
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_all_text_has_a_contrast_that_can_be_read():
    """At least 4.5 to 1 (WCAG 2.1, 1.4.3)."""
    style = markup.STYLE.read_text(encoding="utf-8")
    variables = dict(re.findall(r"--(\w+): (#\w+)", style))
    pairs = [(variables[name], variables["soft"]) for name in ("text", "muted", "link")]
    pairs += [(variables[name], "#fff") for name in ("text", "muted", "link")]
    for rule in re.findall(r"{([^{}]*)}", style):
        colour = re.search(r"(?:^|[ ;])color: (#\w+)", rule)
        if colour:
            ground = re.search(r"background: (#\w+)", rule)
            pairs.append((colour[1], ground[1] if ground else "#fff"))
    assert len(pairs) == 9
    for one, other in pairs:
        low, high = sorted(map(luminance, (one, other)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (one, other)
