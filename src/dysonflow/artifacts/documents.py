"""Generated text files that say what they were made from, in a comment on their last line."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dysonflow.artifacts.files import atomic, envelope
from dysonflow.errors import DamagedError

BEGIN, END = "<!-- dysonflow ", " -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_document(path: str | os.PathLike[str], text: str, metadata: Mapping[str, Any]) -> None:
    """Write Markdown or HTML and its provenance, atomically.

    Raises
    ------
    ArtifactError
        If the file cannot be written.
    """
    content = envelope({**metadata, "data": _digest(text)})
    with atomic(path) as temporary:
        temporary.write_text(f"{text}{BEGIN}{content}{END}", encoding="utf-8")


def has_provenance(path: str | os.PathLike[str]) -> bool:
    """Whether a text file says what it was made from; its text is not checked."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return bool(lines) and lines[-1].startswith(BEGIN)


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a document, its text checked.

    Raises
    ------
    ArtifactError
        If the text is not what was written, or has no provenance.
    """
    raw = Path(path).read_text(encoding="utf-8", errors="replace")
    text, begin, rest = raw.rpartition(BEGIN)
    if not begin or not rest.endswith(END):
        raise DamagedError(path, "no provenance in it, or cut off")
    try:
        metadata = dict(json.loads(rest.removesuffix(END)))
    except ValueError as error:
        raise DamagedError(path, str(error)) from error
    if metadata.get("data") != _digest(text):
        raise DamagedError(path, "checksum does not match the content")
    return metadata
