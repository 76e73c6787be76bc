"""Words of messages for people: they decide no number, so an edit here runs nothing again."""

import difflib
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

LISTED = 20
"""Names that a message lists at most."""


def did_you_mean(name: object, names: Iterable[object]) -> str:
    """Text that offers the nearest valid name, or lists them, the first few of many."""
    known = [str(item) for item in names]
    near = difflib.get_close_matches(str(name), known, n=1)
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
    kinds: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text"}
    kind = kinds.get(option, "a list of numbers")
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(constraint, limit)}"
        for constraint in constraints
        for limit, sign in signs.items()
        if getattr(constraint, limit, None) is not None
    ]
    return kind + (f" {' and '.join(bounds)}" if bounds else "")
