"""Which reader serves which kind of artifact: the only place that decides by a file's suffix."""

import hashlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dysonflow.artifacts import documents
from dysonflow.artifacts.files import check_format
from dysonflow.artifacts.pictures import COMPANIONS
from dysonflow.errors import ArtifactError, DamagedError, UnreadableError

Reader = Callable[[str | os.PathLike[str]], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """How the provenance of a kind of artifact is read.

    Attributes
    ----------
    module : str
        Module of the kind, imported when a file of it is read.
    peek : str
        Its function that reads the provenance alone, without a look at the rest of the file.
    read : str
        Its function that checks every byte of the file as well.
    """

    module: str
    peek: str
    read: str

    def reader(self, function: str) -> Reader:
        """One of the functions of the kind."""
        module = importlib.import_module(f"dysonflow.artifacts.{self.module}")
        found: Reader = getattr(module, function)
        return found


KINDS = {
    ".safetensors": Kind("weights", "peek", "read_metadata"),
    ".parquet": Kind("tables", "peek", "read_metadata"),
    ".png": Kind("pictures", "embedded", "read_metadata"),
    ".md": Kind("documents", "read_document", "read_document"),
    ".html": Kind("documents", "read_document", "read_document"),
}
"""By suffix."""


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """Kind of a file by its suffix.

    Raises
    ------
    ArtifactError
        If no artifact has this suffix.
    """
    found = KINDS.get(Path(path).suffix)
    if found is None:
        raise ArtifactError(
            f"{path}: not an artifact of dysonflow, which are {', '.join(KINDS)} files"
        )
    return found


def artifacts_at(path: str | os.PathLike[str]) -> list[Path]:
    """Artifacts that a path stands for.

    Of a folder those that lie in it, of a file beside the picture of a figure that picture, which
    holds what is known of all of them; else the path itself.

    Raises
    ------
    ArtifactError
        If there is none in a folder, or no artifact has the suffix of a file.
    """
    place = Path(path)
    if place.is_dir():
        # Text without provenance, such as Snakemake's report, is not of a kind that is checked.
        found = [
            file
            for file in sorted(place.iterdir())
            if file.is_file()
            and file.suffix in KINDS
            and (KINDS[file.suffix].module != "documents" or documents.has_provenance(file))
        ]
        if not found:
            raise ArtifactError(f"{path}: no artifact of dysonflow lies in this folder itself")
        return found
    picture = place.with_suffix(".png")
    if place.suffix in COMPANIONS and place.is_file() and picture.is_file():
        return [picture]
    kind_of(place)
    return [place]


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of an artifact; nothing else of the file is checked.

    Raises
    ------
    ArtifactError
        If it is damaged, foreign, or of another layout.
    UnreadableError
        If it may not be read, or is a folder, a pipe or the like.
    FileNotFoundError
        If there is no such file.
    """
    return _read(path, kind_of(path).peek)


def read_whole(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of an artifact, every byte of it checked; errors as of `peek`."""
    return _read(path, kind_of(path).read)


def _read(path: str | os.PathLike[str], function: str) -> dict[str, Any]:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            # A pipe would be waited for without end.
            raise UnreadableError(f"{path}: not a file, but a folder, a pipe or the like")
        with open(path, "rb"):
            pass
        metadata = kind_of(path).reader(function)(path)
        check_format(metadata, path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # Provenance of a foreign file that happens to be laid out alike.
        raise DamagedError(path, f"{type(error).__name__} {error}") from error
    return metadata


def made_from(paths: Sequence[str | os.PathLike[str]]) -> str:
    """One checksum of the data of the artifacts that a stage reads."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(peek(path).get("data")).encode())
    return digest.hexdigest()
