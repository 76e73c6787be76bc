"""Which reader serves which kind of artifact: the only place that decides by a file's suffix."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dysonflow.artifacts import documents, pictures, tables, weights
from dysonflow.artifacts.files import check_format
from dysonflow.errors import ArtifactError

Reader = Callable[[str | os.PathLike[str]], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """How the provenance of a kind of artifact is read.

    Attributes
    ----------
    peek : callable
        Provenance alone, without a look at the rest of the file.
    read : callable
        Provenance, every byte of the file checked.
    """

    peek: Reader
    read: Reader


KINDS = {
    ".safetensors": Kind(weights.peek, weights.read_metadata),
    ".parquet": Kind(tables.peek, tables.read_metadata),
    ".png": Kind(pictures.embedded, pictures.read_metadata),
    ".md": Kind(documents.read_document, documents.read_document),
    ".html": Kind(documents.read_document, documents.read_document),
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


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of an artifact; nothing else of the file is checked.

    Raises
    ------
    ArtifactError
        If it is damaged, foreign, or of another layout.
    """
    metadata = kind_of(path).peek(path)
    check_format(metadata, path)
    return metadata


def read_whole(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of an artifact, every byte of it checked; errors as of `peek`."""
    metadata = kind_of(path).read(path)
    check_format(metadata, path)
    return metadata


def made_from(paths: Sequence[str | os.PathLike[str]]) -> str:
    """One checksum of the data of the artifacts that a stage reads."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(peek(path).get("data")).encode())
    return digest.hexdigest()
