"""Words of messages for people: they decide no number, so an edit here runs nothing again."""

import difflib
import unicodedata
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

UNSPEAKABLE = ("Cc", "Cs", "Zl", "Zp")
"""Categories of letters that no line or table can hold: control, halves, ends of lines."""
LISTED = 20
"""Names that a message lists at most."""
COMPARED = 1000
"""Names that are compared at most: a file may hold any number of them."""
LONGEST = 80
"""Letters of a name that are shown, and compared, at most."""


def plain(text: object, longest: int = LONGEST) -> str:
    """A text of others as a part of one line: nothing in it breaks the line, or fills it."""
    cut = str(text)[: longest + 1]
    cut = cut if len(cut) <= longest else f"{cut[:longest]}..."
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in cut
    )


def breaks_lines(text: str) -> bool:
    """Whether a text holds letters that do not belong into a line."""
    return any(unicodedata.category(letter) in UNSPEAKABLE for letter in text)


def did_you_mean(name: object, names: Iterable[object]) -> str:
    """Text that offers the nearest valid name, or lists them, the first few of many."""
    known = [plain(item) for item in names]
    near = difflib.get_close_matches(plain(name), known[:COMPARED], n=1)
    if near:
        return f"; did you mean {near[0]}?"
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"; valid: {', '.join(known[:LISTED])}{more}"


def allowed_values(field: Any) -> str:
    """Allowed values of a pydantic field, in words."""
    is_union = get_origin(field.annotation) in (Union, UnionType)
    options = get_args(field.annotation) if is_union else (field.annotation,)
    words = [_in_words(option, field.metadata) for option in options if option is not NoneType]
    return " or ".join(words)


def describe_problem(fields: Any, problem: Any) -> str:
    """One line for one problem that pydantic found with the value of a field."""
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{name}: missing; give {allowed_values(fields[name])}"
    if problem["type"] == "value_error":
        return f"{name} = {problem['input']!r}: {str(problem['msg']).removeprefix('Value error, ')}"
    return f"{name} = {problem['input']!r} is not allowed: give {allowed_values(fields[name])}"


def _in_words(option: Any, constraints: list[Any]) -> str:
    """One alternative of a field's type, with its bounds."""
    if get_origin(option) is Annotated:
        option, *nested = get_args(option)
        constraints = [item for field in nested for item in field.metadata]
    if get_origin(option) is Literal:
        return " or ".join(str(value) for value in get_args(option))
    if get_origin(option) is list and get_origin(get_args(option)[0]) is Literal:
        return f"a list of {_in_words(get_args(option)[0], [])}"
    kinds: dict[Any, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
    }
    kinds[list[str]] = "a list of texts"
    kind = kinds.get(option, "a list of numbers")
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "a multiple of"}
    bounds = [
        f"{sign} {getattr(constraint, limit)}"
        for constraint in constraints
        for limit, sign in signs.items()
        if getattr(constraint, limit, None) is not None
    ]
    return kind + (f" {' and '.join(bounds)}" if bounds else "")
