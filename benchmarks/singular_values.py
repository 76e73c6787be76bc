"""Time and accuracy of singular values: LAPACK on one thread, and the drivers of a GPU.

The table says which of them `singular_values` in the configuration should name, and from which size
on a GPU is worth it (`dysonflow.statistics.gpu_singular_values.SMALLEST`). Differences are from
LAPACK, relative to the largest value, where rounding is about 1e-15.

    python benchmarks/singular_values.py --device cuda --csv singular_values.csv
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from dysonflow.simulation.devices import choose_device
from dysonflow.statistics.gpu_singular_values import DRIVERS, singular_values_on_gpu
from dysonflow.statistics.singular_values import singular_values

SIZES = (32, 128, 256, 512, 1024, 2048, 4096)
QUICK = (32, 256, 512, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="up to N = 1024 only")
    parser.add_argument("--csv", type=Path, help="table to write")
    options = parser.parse_args()
    device = choose_device(options.device)
    rows = []
    for size in QUICK if options.quick else SIZES:
        rows += list(measure(size, device))
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) < 2), flush=True)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    if options.csv:
        table.to_csv(options.csv, index=False)


def measure(size, device):
    """Rows of one size: W of independent normal entries and a few outliers."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((size, size)) / np.sqrt(size)
    w += 5.0 * np.outer(rng.standard_normal(size), rng.standard_normal(size)) / size
    expected = None
    for how in ("lapack", *(DRIVERS if device.kind == "cuda" else ())):
        if how != "lapack":
            # The first call loads the library.
            singular_values_on_gpu(w[:8, :8], how)
        began = time.perf_counter()
        found = singular_values(w) if how == "lapack" else singular_values_on_gpu(w, how)
        seconds = time.perf_counter() - began
        expected = found if expected is None else expected
        yield {
            "N": size,
            "device": "cpu" if how == "lapack" else device.name,
            "driver": how,
            "seconds": seconds,
            "difference": np.abs(found - expected).max() / expected[0],
            "smallest_value": expected[-1] / expected[0],
        }


if __name__ == "__main__":
    main()
