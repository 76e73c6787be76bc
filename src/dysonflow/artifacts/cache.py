"""What takes long to find out about the user's files, kept in the user's cache.

Everything in it can be found out again: it may be deleted at any time, and damaged, lost or not
writable it is done without.
"""

import hashlib
import json
import logging
from typing import Any

from dysonflow.artifacts.cache_folder import cache_folder
from dysonflow.artifacts.files import atomic
from dysonflow.errors import ArtifactError

log = logging.getLogger(__name__)


class Known:
    """A value under everything that it follows from.

    Parameters
    ----------
    kind : str
        What it is.
    reasons : JSON value
        All that decides it, versions included.
    """

    def __init__(self, kind: str, reasons: Any):
        digest = hashlib.sha256(json.dumps(reasons, sort_keys=True).encode()).hexdigest()
        place = cache_folder()
        self.path = place / kind / f"{digest[:32]}.json" if place else None

    def get(self) -> Any:
        """The value, of the types that JSON has; None if it is not known."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8")) if self.path else None
        except (OSError, ValueError) as error:
            log.debug("%s: not known: %s", self.path, error)
            return None

    def put(self, value: Any) -> None:
        """Keep the value, where that is possible."""
        if self.path is None:
            return
        try:
            with atomic(self.path) as temporary:
                temporary.write_text(json.dumps(value), encoding="utf-8")
        except ArtifactError as error:
            log.debug("%s", error)

    def forget(self) -> None:
        """Find it out again the next time."""
        try:
            if self.path is not None:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s: not removed: %s", self.path, error)
