"""JSON schema and reference table of the configuration, made from the hyperparameter classes.

`python -m dysonflow.planning.reference` writes `config/schema.json` and the part of
`config/README.md` between its two marks; a test keeps them in step.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dysonflow import models
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.planning.studies import Config, StudyConfig
from dysonflow.report import figures

BEGIN = "<!-- made by python -m dysonflow.planning.reference: begin -->"
END = "<!-- made by python -m dysonflow.planning.reference: end -->"


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors: keys, types, bounds and meanings."""
    schema = Config.model_json_schema()
    study = schema["$defs"]["StudyConfig"]
    study["properties"]["model"]["enum"] = models.names()
    study["properties"]["figures"] = {
        "description": StudyConfig.model_fields["figures"].description,
        "anyOf": [
            {"const": "auto"},
            {"type": "array", "items": {"enum": list(figures.FIGURES)}, "minItems": 1},
        ],
    }
    study["allOf"] = [
        {
            "if": {"properties": {"model": {"const": name}}},
            "then": {
                "properties": _study_properties(
                    name, models.hyperparameters_of(name), schema["$defs"]
                )
            },
        }
        for name in models.names()
    ]
    return schema


def _study_properties(
    model: str, hyperparameters: type[Hyperparameters], defs: dict[str, Any]
) -> dict[str, Any]:
    """Hyperparameters of a model, fixed and swept; their values are defined once, in ``defs``."""
    properties = hyperparameters.model_json_schema()["properties"]
    fixed = {name: _define(defs, model, name, value) for name, value in properties.items()}
    swept = {
        name: _define(
            defs,
            model,
            f"{name}, or a list",
            {
                "description": value.get("description", ""),
                "anyOf": [fixed[name], {"type": "array", "items": fixed[name], "minItems": 1}],
            },
        )
        for name, value in properties.items()
    }
    grid = {"type": "object", "properties": swept, "additionalProperties": False}
    return {
        "hyperparameters": {"properties": fixed, "additionalProperties": False},
        "sweep": {"anyOf": [grid, {"type": "array", "items": grid, "minItems": 1}]},
    }


def _define(defs: dict[str, Any], model: str, name: str, value: dict[str, Any]) -> dict[str, str]:
    """A reference to ``value``, under its bare name where the models agree on it."""
    if defs.setdefault(name, value) != value:
        name = f"{name} ({model})"
        defs[name] = value
    return {"$ref": f"#/$defs/{quote(name)}"}


def markdown_tables() -> str:
    """Reference tables: name, default, allowed values, unit and meaning of each hyperparameter."""
    common = set(Hyperparameters.model_fields)
    parts = [_table("Every model", Hyperparameters, common)]
    for name in models.names():
        cls = models.hyperparameters_of(name)
        parts.append(_table(f"`{name}`", cls, set(cls.config_fields()) - common | _changed(cls)))
    return "\n".join(parts)


def _changed(cls: type[Hyperparameters]) -> set[str]:
    """Common hyperparameters that mean something else for a model, or have another default."""
    common = Hyperparameters.model_fields.items()
    return {name for name, field in common if repr(field) != repr(cls.model_fields[name])}


def _table(title: str, cls: type[Hyperparameters], shown: set[str]) -> str:
    lines = [
        f"### {title}\n",
        "| hyperparameter | default | allowed | unit | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, field in cls.config_fields().items():
        if name in shown:
            unit = (
                field.json_schema_extra["unit"] if isinstance(field.json_schema_extra, dict) else ""
            )
            default = "required" if field.is_required() else f"`{field.default}`"
            cells = (f"`{name}`", default, cls.allowed(name), unit, field.description)
            lines.append("| " + " | ".join(" ".join(str(cell).split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """Text of `config/README.md` with the reference tables put between its marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{markdown_tables()}\n{END}{after}"


def write(folder: Path) -> None:
    """Write the schema and the tables into the folder `config`."""
    folder.joinpath("schema.json").write_text(
        json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8"
    )
    readme = folder / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(Path("config"))
