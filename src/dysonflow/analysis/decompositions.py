"""What singular values are computed with: LAPACK, or a driver of a GPU that the user names.

No measurement chooses at the start of a job: the drivers agree to rounding, and no further, so
that the bytes of a table would depend on who else used the card. `benchmarks/singular_values.py`
measures once, and the configuration names what it found.
"""

import logging
from collections.abc import Callable
from typing import cast

import numpy as np

from dysonflow.simulation.devices import CPU, Device, choose_device
from dysonflow.simulation.gpu_errors import is_of_gpu
from dysonflow.statistics.gpu_singular_values import SMALLEST, Driver, singular_values_on_gpu
from dysonflow.statistics.singular_values import singular_values

log = logging.getLogger(__name__)

LAPACK = "lapack"
Decomposition = Callable[[np.ndarray], np.ndarray]
"""Matrices of shape (..., M, N) to descending singular values."""


def chosen(name: str) -> tuple[Decomposition, Device]:
    """What computes singular values, and where.

    Without a GPU that can be used LAPACK stands in: the values are the same to rounding, and a line
    of the log says so.

    Parameters
    ----------
    name : str
        `lapack`, or a driver of a GPU.
    """
    device = CPU if name == LAPACK else choose_device("auto")
    if name != LAPACK and device == CPU:
        log.warning("singular_values: %s: there is no GPU to use, so LAPACK computes them", name)
    if device == CPU:
        return singular_values, CPU
    log.info("singular values of large matrices by %s on %s", name, device.name)
    return OnGPU(cast(Driver, name)), device


class OnGPU:
    """Singular values of large matrices on a GPU, of small ones by LAPACK.

    Parameters
    ----------
    driver : str
        That of the GPU.
    """

    def __init__(self, driver: Driver):
        self.driver = driver

    def __call__(self, matrices: np.ndarray) -> np.ndarray:
        """Descending singular values of matrices of shape (..., M, N)."""
        if min(matrices.shape[-2:]) < SMALLEST:
            return singular_values(matrices)
        try:
            return singular_values_on_gpu(matrices, self.driver)
        except RuntimeError as error:
            if not is_of_gpu(error):
                raise
            said = (str(error).splitlines() or [""])[0][:200]
            log.warning("the GPU gave up (%s), so LAPACK computes these", said)
            return singular_values(matrices)
