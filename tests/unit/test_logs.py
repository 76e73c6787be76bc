"""The log of a job."""

import logging
import warnings

import pytest

from dysonflow.errors import ConfigError
from dysonflow.logs import job_log


def test_a_job_leaves_logging_as_it_was(tmp_path):
    logger = logging.getLogger("dysonflow")
    before = logger.level, list(logger.handlers), warnings.showwarning
    with job_log(str(tmp_path / "log")):
        logger.info("said")
    with pytest.raises(SystemExit), job_log(str(tmp_path / "failed")):
        raise ConfigError("wrong")
    assert (logger.level, list(logger.handlers), warnings.showwarning) == before
    assert "INFO said" in (tmp_path / "log").read_text(encoding="utf-8")
    assert "ERROR wrong" in (tmp_path / "failed").read_text(encoding="utf-8")
