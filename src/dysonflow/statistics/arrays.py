"""Type of the arrays that all modules of this folder work on."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
"""Array of 64-bit floats."""
