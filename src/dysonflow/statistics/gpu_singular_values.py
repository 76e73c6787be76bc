"""Singular values by the drivers of cuSOLVER on a GPU, with the same look at what went in and out.

Each driver ends at rounding, but each at rounding of its own: which one computes is therefore said,
and not found out anew in every job.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from dysonflow.lazy import LazyModule
from dysonflow.statistics.singular_values import check_norm, finite

torch = LazyModule("torch")

Driver = Literal["gesvd", "gesvdj"]
"""QR and Jacobi, as `torch.linalg.svdvals` names them. Its third, gesvda, is an approximation that
goes through W^T W, and so would lose half of the digits of small values."""
DRIVERS: tuple[Driver, ...] = get_args(Driver)
SMALLEST = 256
"""Rows and columns from which a matrix is worth the way to a GPU: a guess, which
`benchmarks/singular_values.py` replaces by a measurement."""


def singular_values_on_gpu(matrices: np.ndarray, driver: Driver) -> np.ndarray:
    """Singular values of W, descending, in float64.

    Parameters, shape and errors are those of `singular_values`.

    Parameters
    ----------
    matrices : np.ndarray
        Shape (..., M, N).
    driver : str
        One of `DRIVERS`.
    """
    matrices = finite(matrices)
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    # One at a time: they are large, and cuSOLVER takes them one by one anyway.
    values = np.stack(
        [
            torch.linalg.svdvals(torch.as_tensor(one, device="cuda"), driver=driver).cpu().numpy()
            for one in flat
        ]
    ).reshape(*matrices.shape[:-2], -1)
    check_norm(matrices, values)
    return values
