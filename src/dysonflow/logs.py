"""The log of a job: progress, messages, and one line for an error that a user can act on."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from dysonflow.errors import ArtifactError, ConfigError, DivergedError

ERROR = "ERROR "
"""Beginning of the line with which the log of a failed job ends."""


@contextmanager
def job_log(path: str) -> Iterator[TextIO]:
    """Send log records and warnings to a file; end the process with one clear line on an error.

    Parameters
    ----------
    path : str
        Log file of the job; overwritten.

    Yields
    ------
    text stream
        For a progress bar.
    """
    with open(path, "w", buffering=1, encoding="utf-8") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("dysonflow")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            yield stream
        except (ArtifactError, ConfigError, DivergedError) as error:
            stream.write(f"\n{ERROR}{error}\n")
            # Not a traceback: the message says what to change.
            sys.exit(f"dysonflow: {error}")
        except Exception:
            stream.write("\n" + traceback.format_exc())
            raise
        finally:
            logging.captureWarnings(False)
            logger.setLevel(level)
            logger.removeHandler(handler)
