"""Figures with their captions, by system and study; the main one of each system."""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from dysonflow.artifacts.pictures import PNG, read_metadata
from dysonflow.report import html
from dysonflow.report.page.contents import Contents

MAIN = (
    *("mean_gap", "phase_diagram", "dyson_index", "linear_scaling", "bulk_spectrum", "bulk_layers"),
    *("evolution", "singular_values", "spectrum", "loss_curve"),
)
"""Figures that can stand for a system, the most telling first."""


@dataclass(frozen=True)
class Picture:
    """A figure of a study.

    Attributes
    ----------
    path : Path
        Its PNG file.
    metadata : mapping
        What it says of itself.
    """

    path: Path
    metadata: Mapping[str, Any] = field(repr=False)

    @property
    def study(self) -> str:
        """Study that it belongs to."""
        return str(self.metadata["study"])

    @property
    def name(self) -> str:
        """Name of the figure."""
        return str(self.metadata["figure"])

    @property
    def title(self) -> str:
        """Name of the figure, with the layer where the folder of its study has several."""
        above = self.path.parent.name
        return self.name if above == self.study else f"{self.name}, layer {above}"

    @property
    def caption(self) -> str:
        """Caption as it lies beside the picture, symbols of LaTeX as letters."""
        text = self.path.with_suffix(".rst").read_text(encoding="utf-8").strip()
        return re.sub(r"\$([^$]*)\$", lambda found: in_letters(found[1]), text)

    def markup(self, heading: str = "") -> str:
        """The picture with its caption, and what it was made from.

        Parameters
        ----------
        heading : str
            Stands before the name of the figure.
        """
        raw = self.path.read_bytes()
        # Width and height stand at a fixed place of every PNG file, after its signature.
        place = len(PNG) + 8
        width, height = (int.from_bytes(raw[at : at + 4], "big") for at in (place, place + 4))
        caption = self.caption
        first = caption.partition(". ")[0].replace("``", "")
        about = self.metadata
        made = (
            f"{self.path}, {len(raw) / 1e3:.0f} kB; PDF and plotted numbers lie beside it. Drawn "
            f"in {about['seconds']:.1f} s from {len(about['runs'])} runs; source "
            f"{about['source']}, commit {about['versions']['git_commit']}, from data "
            f"{about['made_from'][:12]}."
        )
        return (
            f'<figure><img src="data:image/png;base64,{b64encode(raw).decode()}" width="{width}" '
            f'height="{height}" alt="{escape(f"{self.title}: {first}")}">\n'
            f"<figcaption><b>{escape(heading + self.title)}.</b> {html.code(caption)}"
            f"<details><summary>Provenance</summary>{escape(made)}</details></figcaption>"
            "</figure>\n"
        )


def in_letters(formula: str) -> str:
    """A formula of LaTeX as plain text: Greek letters as such, of other commands the name."""
    return re.sub(r"\\([A-Za-z]+)", lambda found: _letter(found[1]), formula)


def _letter(name: str) -> str:
    size = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        # Unicode knows this one by another spelling.
        return unicodedata.lookup(f"GREEK {size} LETTER {name.replace('lambda', 'lamda')}")
    except KeyError:
        return name


def pictures_by_study(contents: Contents) -> dict[str, list[Picture]]:
    """Figures by study, checked, in the order of the configuration."""
    found: dict[str, list[Picture]] = {name: [] for name in contents.studies}
    for path in contents.files.get("figures", ()):
        picture = Picture(Path(path), read_metadata(path))
        found[picture.study].append(picture)
    return found


def main_picture(
    candidates: Sequence[Picture], points: Mapping[tuple[str, str], int]
) -> Picture | None:
    """The figure that stands for a system; None where nothing is drawn.

    Parameters
    ----------
    candidates : sequence of Picture
        Figures of the system.
    points : mapping
        Study and layer to how many points there are; of figures of a name the one with the most is
        taken.
    """
    for name in MAIN:
        named = [picture for picture in candidates if picture.name == name]
        if named:
            return max(named, key=lambda one: points.get((one.study, one.metadata["layer"]), 0))
    return candidates[0] if candidates else None
