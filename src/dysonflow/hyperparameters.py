"""Typed, validated hyperparameters of one training run, and the key that names the run.

Every model derives its own class from `Hyperparameters`. The classes are the single source of the
JSON schema, of the reference table in `config/README.md` and of the columns in the result tables.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from dysonflow.errors import ConfigError
from dysonflow.wording import allowed_values, describe_problem, did_you_mean

KEY_LENGTH = 12
SIGNIFICANT_DIGITS = 12
LONGEST_AUTO_TIME = 10**8

FEWEST_REPLICAS = 30
"""Replicas from which on an error from whole replicas can be trusted."""

LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""A layer's name is a value of a column, part of the path of its figures, and a key of a file."""

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]
Time = Annotated[int, Field(ge=0)]


Function = TypeVar("Function", bound=Callable[..., Any])


def planning_only(function: Function) -> Function:
    """Mark a method that only plans: an edit of it is no reason to run anything again."""
    return function


@dataclass(frozen=True)
class Cost:
    """What training costs, for one replica.

    Attributes
    ----------
    draws, operations : float
        Normal random numbers and floating-point operations of one SGD step.
    numbers : float
        Numbers that are held at once while it trains, the snapshots aside.
    """

    draws: float
    operations: float
    numbers: float


def quantity(
    default: Any = ...,
    *,
    unit: str = "1",
    label: str | None = None,
    symbol: str | None = None,
    in_tables: bool = True,
    **bounds: Any,
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
    symbol : str, optional
        LaTeX symbol, without dollar signs, under which legends of figures show the value.
    in_tables : bool
        Whether it is a column of the tables. A long list is none: it would stand in every row.
    **bounds
        `gt`, `ge`, `lt`, `le`, `min_length`, `alias` (the name in the configuration, where that of
        the attribute is taken), as understood by `pydantic.Field`.
    """
    extra: dict[str, Any] = {"unit": unit} | ({"label": label} if label else {})
    extra |= {"symbol": symbol} if symbol else {}
    extra |= {} if in_tables else {"in_tables": False}
    return Field(default, json_schema_extra=extra, **bounds)


def normalise(value: Any) -> Any:
    """Bring one configuration value to the form in which equal numbers are equal.

    Strings that spell a number become numbers, floats are rounded to 12 significant digits
    (0.1 + 0.2 and 0.3 are one run), integral floats become integers. Booleans stay: they are
    refused elsewhere, unless the field is one of them, rather than counted as 0 and 1.
    """
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                number = float(value)
            except ValueError:
                return value
            # `nan` and `inf` are words, or no values at all.
            if not math.isfinite(number):
                return value
            value = number
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
    KEEPS_DIVERGED: ClassVar[bool] = False
    """Whether a replica that diverges is data: it stands still, and the step at which it did is
    kept with the weights. For most models it is an error."""

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
    lags: list[Count] = quantity([], unit="SGD steps", max_length=64)
    """SGD steps, ascending, after which each snapshot is followed by one more: increments of the
    levels are measured between the two. None by default."""

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for name, value in data.items():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and not (field and field.annotation is bool):
                raise ConfigError(f"{name}: {value} is a boolean, where a number or a word belongs")
        return {name: cls._normal(name, value) for name, value in data.items()}

    @model_validator(mode="after")
    def _resolve_auto(self) -> Self:
        # Idle and auto values are replaced here, so that a run is keyed by what is done, not by how
        # it was asked for. Times come last: they follow from everything else.
        for name in self.idle():
            object.__setattr__(self, name, type(self).model_fields[name].default)
        times = ["burn_in", "steps"]
        for name in [name for name in type(self).model_fields if name not in times] + times:
            if getattr(self, name) == "auto":
                # The instance is frozen for its users; the validator is still building it.
                object.__setattr__(self, name, getattr(self, f"auto_{name}")())
        self.check()
        self.layers()
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
        self._check_lags()
        return self

    def _check_lags(self) -> None:
        """Refuse lags that are out of order or overlap, and too few replicas for an error."""
        if not self.lags:
            return
        if sorted(set(self.lags)) != self.lags:
            raise ConfigError(
                f"lags = {self.lags}: give every lag once, the smallest first: "
                f"{sorted(set(self.lags))}"
            )
        times = self.snapshot_steps
        spacing = min((b - a for a, b in pairwise(times)), default=None)
        if spacing is not None and self.lags[-1] >= spacing:
            raise ConfigError(
                f"lags = {self.lags}: the last one overlaps the next snapshot, {spacing} SGD steps "
                f"later; give lags below {spacing}, fewer snapshots, or more steps"
            )
        if self.replicas < FEWEST_REPLICAS:
            raise ConfigError(
                f"lags = {self.lags}: the errors of increments come from whole replicas, at least "
                f"{FEWEST_REPLICAS} of them; replicas = {self.replicas}"
            )

    @classmethod
    def _normal(cls, name: str, value: Any) -> Any:
        # A name stays as it is written, also one that spells a number.
        return value if name in cls._texts() else normalise(value)

    @classmethod
    @cache
    def _texts(cls) -> frozenset[str]:
        """Hyperparameters that are texts."""
        return frozenset(
            name for name, field in cls.config_fields().items() if field.annotation is str
        )

    def idle(self) -> list[str]:
        """Names of hyperparameters without effect, given the others: they take their defaults.

        Two runs that differ in these alone are one.
        """
        return []

    @classmethod
    def config_fields(cls) -> dict[str, FieldInfo]:
        """Fields under the names that the configuration has for them."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    def weight_shapes(self) -> Sequence[tuple[str, int, int]]:
        """Name, rows M and columns N of every weight matrix, in the order of the model.

        A model must say so: memory, disk and the layers of all tables follow from it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define weight_shapes()")

    def layers(self) -> dict[str, tuple[int, int]]:
        """Layer to (rows M, columns N) of its weight matrix, in the order of the model.

        Raises
        ------
        ConfigError
            If two layers have one name, a name cannot be part of a path, or a matrix is empty.
        """
        found: dict[str, tuple[int, int]] = {}
        for name, rows, columns in self.weight_shapes():
            if not LAYER_NAME.fullmatch(name):
                raise ConfigError(
                    f"layer {name!r} of {self.MODEL}: a layer's name is made of letters, digits, "
                    "_, . and -, begins with a letter or digit, and has at most 100 of them"
                )
            if any(name.lower() == known.lower() for known in found):
                # Some file systems do not tell W from w.
                raise ConfigError(
                    f"layer {name!r} of {self.MODEL}: there is a layer of this name already (upper "
                    "and lower case count as the same); name them differently"
                )
            if rows < 1 or columns < 1:
                raise ConfigError(f"layer {name!r} of {self.MODEL}: {rows} x {columns} is empty")
            found[name] = (int(rows), int(columns))
        if not found:
            raise ConfigError(f"{self.MODEL}: no layer has a weight matrix")
        return found

    @property
    def eigenvalues_of(self) -> Literal["gram", "symmetric", "levels"]:
        """Whose eigenvalues the spectra hold, for a layer W.

        `gram`: those of W^T W; `symmetric`: those of W itself, which is symmetric; `levels`: the
        one row of W, which holds ascending eigenvalues already.
        """
        return "gram"

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs; a small model by default."""
        matrix = float(sum(rows * columns for rows, columns in self.layers().values()))
        return Cost(draws=matrix, operations=6 * matrix, numbers=6 * matrix)

    @classmethod
    def symbols(cls) -> dict[str, str]:
        """LaTeX symbols of the hyperparameters that figures name, in the order of the fields."""
        extras = cls._extras().items()
        return {name: str(extra["symbol"]) for name, extra in extras if "symbol" in extra}

    @property
    def effective_rate(self) -> float:
        """Learning rate of the plain descent that goes as far; NaN without a learning rate."""
        return float(getattr(self, "learning_rate", math.nan))

    @property
    def fitted(self) -> bool:
        """Whether theory, where the model has one, says which levels there are."""
        return True

    @property
    def chooses_layers(self) -> bool:
        """Whether the layers are chosen from what files hold, and a table says which and why."""
        return False

    @property
    def sources(self) -> list[Path]:
        """Files that training, or reading, depends on; none for most models."""
        return []

    def reference_losses(self) -> dict[str, float]:
        """Losses that those of training are to be compared with, by name; none for most models."""
        return {}

    @planning_only
    def why_no_gradient_noise(self) -> str:
        """Why the noise of the gradient cannot be measured; empty if it can."""
        return f"{self.MODEL} has no gradients of single samples; mlp, char_gpt and torch_module do"

    def check_sources(self) -> None:
        """Raise `ConfigError` where the `sources` are not what the hyperparameters say of them."""

    def auto_steps(self) -> int:
        """SGD steps in all: the burn-in, then decorrelated snapshots."""
        return max(int(self.burn_in) + (self.snapshots - 1) * self.auto_spacing(), 1)

    def auto_burn_in(self) -> int:
        """SGD steps from the start to stationarity, from the model's own drift."""
        raise self._unknown_time("burn_in")

    def auto_spacing(self) -> int:
        """SGD steps between decorrelated snapshots, from the model's own relaxation time."""
        raise self._unknown_time("steps")

    def _unknown_time(self, name: str) -> ConfigError:
        return ConfigError(
            f"{name} = auto: {self.MODEL} does not know when it is stationary; give numbers for "
            "burn_in and steps"
        )

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

    @property
    def frame_steps(self) -> list[int]:
        """SGD step of every weight matrix that is kept, ascending: snapshots and their lags."""
        return [step + lag for step in self.snapshot_steps for lag in (0, *self.lags)]

    def canonical(self) -> dict[str, Any]:
        """All hyperparameters under their config names, defaults filled in, numbers normalised."""
        values = self.model_dump(mode="json", by_alias=True)
        return {name: self._normal(name, value) for name, value in values.items()}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same hyperparameters with some changed: another run, validated and keyed anew."""
        return self.from_config(self.canonical() | dict(update or {}))

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical hyperparameters."""
        values = {k: v for k, v in self.canonical().items() if k not in self.not_in_key()}
        identity = {"model": self.MODEL, "version": self.VERSION, **values}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def not_in_key(self) -> set[str]:
        """Hyperparameters that are no part of the key, because they have their old meaning.

        A run without lags has the name, and the random numbers, that it had before there were any.
        """
        return set() if self.lags else {"lags"}

    @cached_property
    def name(self) -> str:
        """Name of the run: a hint for people and the key, such as `lr0.1-B16-8c1f...`."""
        hints = [
            f"{extra['label']}{value if isinstance(value, str) else format(value, 'g')}"
            for name, extra in self._extras().items()
            if "label" in extra
            for value in [getattr(self, name)]
            if value is not None
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
        return allowed_values(cls.config_fields()[name])

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Validate one point of a study.

        Raises
        ------
        ConfigError
            One line for each thing wrong, naming key, value and the allowed range.
        """
        fields = cls.config_fields()
        unknown = [name for name in values if name not in fields]
        if unknown:
            raise ConfigError(
                "\n".join(
                    f"{name}: unknown hyperparameter of {cls.MODEL}{did_you_mean(name, fields)}"
                    for name in unknown
                )
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [describe_problem(fields, one) for one in error.errors()]
            raise ConfigError("\n".join(dict.fromkeys(problems))) from None


class FileHyperparameters(Hyperparameters):
    """Hyperparameters of a model that depends on files: data to learn from, or the user's own code.

    The content of the files is part of the key of the run, so that an edited file is another run,
    and a touched one is not. A model says in `files` which they are.
    """

    file_digest: str = quantity("auto")
    """SHA-256 of the content of all files that the run depends on; `auto`: as they are now."""

    def files(self) -> list[Path]:
        """Files that training depends on, in a fixed order."""
        raise NotImplementedError(f"{type(self).__name__} must define files()")

    @property
    def sources(self) -> list[Path]:
        """The `files`."""
        return self.files()

    def auto_file_digest(self) -> str:
        """Digest of the files as they are now."""
        digest = hashlib.sha256()
        for path in self.files():
            try:
                with open(path, "rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        return digest.hexdigest()

    def check_sources(self) -> None:
        """Refuse files that are no longer those that the run was planned with."""
        if self.auto_file_digest() != self.file_digest:
            names = ", ".join(str(path) for path in self.files())
            raise ConfigError(f"{names}: changed since the run was planned; run snakemake again")
