"""Files that appear whole or not at all, and the envelope of metadata that all of them carry."""

import errno
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dysonflow.artifacts import seals
from dysonflow.errors import ArtifactError, DamagedError, NewerFormatError, OlderFormatError

METADATA_KEY = "dysonflow"
FORMAT = 3
"""Version of the layout of all artifacts; no other is read."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block succeeds.

    A reader thus sees the whole file or none, also after a crash or on a full disk.

    Raises
    ------
    ArtifactError
        If the file cannot be written; the message says what to do.
    """
    target = Path(path)
    host = platform.node() or "localhost"
    temporary = target.with_name(f".{target.name}.{host}.{os.getpid()}.partial")
    try:
        with cannot_be_written(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(target, host)
            yield temporary
            publish(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish(temporary: Path, target: Path) -> None:
    """Bring a finished file to the disk, then give it its name."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)


@contextmanager
def cannot_be_written(target: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a full disk or a read-only folder raises into one line with the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"{target}: cannot be written: {reason}{_remedy(error)}") from error


def _remove_leftovers(target: Path, host: str) -> None:
    """Remove what a killed writer of this machine left of the same file."""
    # Not a glob: a name may hold brackets.
    start, end = f".{target.name}.{host}.", ".partial"
    for leftover in target.parent.iterdir():
        if not (leftover.name.startswith(start) and leftover.name.endswith(end)):
            continue
        pid = leftover.name[len(start) : -len(end)]
        if pid.isdigit() and int(pid) != os.getpid() and not _is_running(int(pid)):
            leftover.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # What has ended but was not yet waited for by its parent still has a number.
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state = text.rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state != "Z"


def _remedy(error: OSError) -> str:
    # Arrow does not always set errno.
    text = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "; free some space and run snakemake again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "; make the folder writable and run snakemake again"
    return ""


def envelope(metadata: Mapping[str, Any]) -> str:
    """Provenance of an artifact as the text that it carries: JSON, with the layout's version."""
    return json.dumps({"format": FORMAT, **metadata}, sort_keys=True)


def header(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Key-value metadata of a sealed artifact: its provenance, and the place of its seal."""
    return {METADATA_KEY: envelope(metadata), seals.SEAL_KEY: seals.BLANK}


def check_format(metadata: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse a file of another layout.

    Raises
    ------
    NewerFormatError, OlderFormatError
        With the command that helps.
    """
    found = metadata.get("format", 0)
    if found > FORMAT:
        raise NewerFormatError(
            f"{path}: written by a newer dysonflow (format {found}, this one reads {FORMAT}); "
            "update dysonflow"
        )
    if found < FORMAT:
        raise OlderFormatError(
            f"{path}: written by an older dysonflow (format {found}, this one reads {FORMAT}); "
            "`snakemake` makes it anew if a study names it, `dysonflow verify --delete` deletes it"
        )


def check_seal(metadata: Mapping[str, Any], sealed: bool, path: str | os.PathLike[str]) -> None:
    """Raise `ArtifactError` for a file of another layout, and for one that lost its seal."""
    check_format(metadata, path)
    if not sealed:
        raise DamagedError(path, "no checksum")
