"""Where the tests of tests/gpu train: on a GPU, or in a rehearsal the CPU in its place."""

import os

import pytest

REHEARSAL = "DYSONFLOW_GPU_REHEARSAL"
"""Set by `check.sh --rehearse`: what a GPU would do is done by the CPU, to try the tests."""


@pytest.fixture(scope="session")
def is_rehearsal():
    return os.environ.get(REHEARSAL) == "1"


@pytest.fixture(scope="session")
def device(is_rehearsal):
    """Where runs are trained, as the configuration says it."""
    if is_rehearsal:
        return "cpu"
    from dysonflow.simulation.devices import why_unusable

    why = why_unusable()
    if why:
        pytest.skip(why)
    return "cuda"
