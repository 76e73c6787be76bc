"""Typed, validated hyperparameters of one training run, and the key that names the run.

Every model derives its own class from `Hyperparameters`. The classes are the single source of the
JSON schema, of the reference table in `config/README.md` and of the columns in the result tables.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dysonflow.errors import ConfigError

KEY_LENGTH = 12
SIGNIFICANT_DIGITS = 12
LONGEST_AUTO_TIME = 10**8

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]
Time = Annotated[int, Field(ge=0)]


def quantity(
    default: Any = ..., *, unit: str = "1", label: str | None = None, **bounds: Any
) -> Any:
    """Declare one hyperparameter.

    Parameters
    ----------
    default
        Value taken when the configuration is silent; a field without default must be given.
    unit : str
        Unit shown in the schema and in the reference table; "1" is dimensionless.
    label : str, optional
        Short name under which the value appears in the folder name of a run.
    **bounds
        `gt`, `ge`, `lt`, `le`, `min_length`, as understood by `pydantic.Field`.
    """
    extra: dict[str, Any] = {"unit": unit} | ({"label": label} if label else {})
    return Field(default, json_schema_extra=extra, **bounds)


def normalise(value: Any) -> Any:
    """Bring one configuration value to the form in which equal numbers are equal.

    Strings that spell a number become numbers, floats are rounded to 12 significant digits
    (0.1 + 0.2 and 0.3 are one run), integral floats become integers. Booleans are refused later,
    by the field, rather than counted as 0 and 1.
    """
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return value
    if isinstance(value, float) and math.isfinite(value):
        value = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value


class Hyperparameters(BaseModel):
    """Hyperparameters common to all models: the ensemble and the times at which it is looked at."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    MODEL: ClassVar[str]
    """Name under which the configuration refers to the model."""
    VERSION: ClassVar[int] = 1
    """Part of the run key: raised when the model's law itself changes."""

    replicas: int = quantity(64, ge=1, le=10_000_000)
    """Independent copies of the model, trained side by side from independent starts."""
    snapshots: int = quantity(8, ge=1, le=1_000_000)
    """Weight matrices kept per replica, evenly spaced from `burn_in` to `steps`."""
    burn_in: Time | Auto = quantity("auto", unit="SGD steps")
    """SGD steps before the first snapshot; `auto`: until the slowest mode is stationary."""
    steps: Count | Auto = quantity("auto", unit="SGD steps")
    """SGD steps in all; `auto`: `burn_in` and three relaxation times between snapshots."""
    seed: int = quantity(0, ge=0, lt=2**32)
    """Seed of all random numbers of the run."""
    dtype: Literal["float64", "float32"] = quantity("float64")
    """Floating-point type of the weights during training."""

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for name, value in data.items():
            if isinstance(value, bool):
                raise ConfigError(f"{name}: {value} is a boolean, where a number or a word belongs")
        return {name: cls._normal(name, value) for name, value in data.items()}

    @model_validator(mode="after")
    def _resolve_auto(self) -> Self:
        # Auto values are replaced here, so that a run is keyed by what is done, not by how it
        # was asked for. Times come last: they follow from everything else.
        times = ["burn_in", "steps"]
        for name in [name for name in type(self).model_fields if name not in times] + times:
            if getattr(self, name) == "auto":
                # The instance is frozen for its users; the validator is still building it.
                object.__setattr__(self, name, getattr(self, f"auto_{name}")())
        self.check()
        burn_in, steps = int(self.burn_in), int(self.steps)
        if burn_in > steps:
            raise ConfigError(
                f"steps = {steps}: training would end before the burn-in of {burn_in} SGD steps "
                "does; raise steps, or set burn_in"
            )
        if self.snapshots > steps - burn_in + 1:
            raise ConfigError(
                f"snapshots = {self.snapshots}: they do not fit into the {steps - burn_in} SGD "
                "steps after burn_in; lower snapshots or raise steps"
            )
        return self

    @classmethod
    def _normal(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(name)
        # A name stays as it is written, also one that spells a number.
        return value if field is not None and field.annotation is str else normalise(value)

    @property
    def fitted(self) -> bool:
        """Whether theory says which levels there are, so that they can be fitted."""
        return True

    @property
    def sources(self) -> list[Path]:
        """Files that the weights are read from; none for a model that is trained."""
        return []

    def check_sources(self) -> None:
        """Raise `ConfigError` where the `sources` are not what the hyperparameters say of them."""

    def auto_steps(self) -> int:
        """SGD steps in all: the burn-in, then decorrelated snapshots."""
        return max(int(self.burn_in) + (self.snapshots - 1) * self.auto_spacing(), 1)

    def auto_burn_in(self) -> int:
        """SGD steps from the start to stationarity, from the model's own drift."""
        raise NotImplementedError

    def auto_spacing(self) -> int:
        """SGD steps between decorrelated snapshots, from the model's own relaxation time."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `ConfigError` where values that are fine one by one do not go together."""

    @property
    def snapshot_steps(self) -> list[int]:
        """SGD step at which each snapshot is taken, ascending."""
        first, last = int(self.burn_in), int(self.steps)
        if self.snapshots == 1:
            return [last]
        span = last - first
        return [first + round(j * span / (self.snapshots - 1)) for j in range(self.snapshots)]

    def canonical(self) -> dict[str, Any]:
        """All hyperparameters under their config names, defaults filled in, numbers normalised."""
        values = self.model_dump(mode="json")
        return {name: self._normal(name, value) for name, value in values.items()}

    @property
    def key(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical hyperparameters."""
        identity = {"model": self.MODEL, "version": self.VERSION, **self.canonical()}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    @property
    def run(self) -> str:
        """Name of the run: a hint for people and the key, such as `lr0.1-B16-8c1f...`."""
        hints = [
            f"{extra['label']}{getattr(self, name):g}"
            for name, extra in self._extras().items()
            if "label" in extra
        ]
        return "-".join([*hints, self.key])

    def bounded_time(self, steps: float) -> int:
        """Round an automatic time up to whole SGD steps; refuse one that nobody would wait for."""
        if not steps < LONGEST_AUTO_TIME:
            raise ConfigError(
                f"steps: the slowest mode needs {steps:.1e} SGD steps, too many to wait for; move "
                "the modes away from the edge of what can be learnt, or set burn_in and steps"
            )
        return math.ceil(steps)

    @classmethod
    def _extras(cls) -> dict[str, dict[str, Any]]:
        return {
            name: field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            for name, field in cls.model_fields.items()
        }

    @classmethod
    def allowed(cls, name: str) -> str:
        """Allowed values of the hyperparameter `name`, in words for an error message."""
        field = cls.model_fields[name]
        is_union = get_origin(field.annotation) in (Union, UnionType)
        options = get_args(field.annotation) if is_union else (field.annotation,)
        words = [_in_words(option, field.metadata) for option in options if option is not NoneType]
        return " or ".join(words)

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Validate one point of a study.

        Raises
        ------
        ConfigError
            One line for each thing wrong, naming key, value and the allowed range.
        """
        unknown = [name for name in values if name not in cls.model_fields]
        if unknown:
            raise ConfigError(
                "\n".join(
                    f"{name}: unknown hyperparameter of {cls.MODEL}"
                    f"{did_you_mean(name, cls.model_fields)}"
                    for name in unknown
                )
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [_describe(cls, problem) for problem in error.errors()]
            raise ConfigError("\n".join(dict.fromkeys(problems))) from None


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


def did_you_mean(name: object, names: Any) -> str:
    """Text that offers the nearest valid name, or lists them all."""
    near = difflib.get_close_matches(str(name), [str(item) for item in names], n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; valid: {', '.join(str(item) for item in names)}"


def _describe(cls: type[Hyperparameters], problem: Any) -> str:
    """One line for one pydantic problem."""
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{name}: missing; give {cls.allowed(name)}"
    if problem["type"] == "value_error":
        return f"{name} = {problem['input']!r}: {str(problem['msg']).removeprefix('Value error, ')}"
    return f"{name} = {problem['input']!r} is not allowed: give {cls.allowed(name)}"
