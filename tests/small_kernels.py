"""Kernels of every system, small, as several tests need them."""

import numpy as np

from dysonflow.simulation.kernel.dyson import DysonKernel
from dysonflow.simulation.kernel.gaussian_rbm import GaussianRBMKernel
from dysonflow.simulation.kernel.nvrtc import Variant
from dysonflow.simulation.kernel.teacher_student import TeacherStudentKernel
from dysonflow.simulation.kernel.two_layer_student import TwoLayerStudentKernel

MU_SQUARED = 9.0


def variants():
    """Code for a GPU that the kernels of this size need, and one machine of any size."""
    cases = [("gibbs", "float64", 0)]
    cases += [(sampler, "float64", 10) for sampler in ("gibbs", "ar1", "wishart")]
    cases += [(sampler, "float32", 10) for sampler in ("gibbs", "wishart")]
    cases += [("teacher_student", "float64", 2), ("dyson", "float64", 0)]
    cases += [("two_layer_student", dtype, 0) for dtype in ("float64", "float32")]
    return [Variant(*case) for case in cases]


def ring_covariance(sites, mass_squared=4.0):
    """Covariance of the free scalar field on a ring."""
    identity = np.eye(sites)
    shifted = np.roll(identity, 1, axis=0) + np.roll(identity, -1, axis=0)
    return np.linalg.inv((mass_squared + 2) * identity - shifted)


def rbm(sampler, sites=10, **changes):
    arguments = {
        "target_covariance": ring_covariance(sites),
        "learning_rate": 0.02,
        "batch_size": 16,
        "mu_squared": MU_SQUARED,
        "sweeps": 3,
        "sampler": sampler,
        "seed": 1,
    }
    if "replicas" not in changes:
        arguments["blocks"] = 2
    return GaussianRBMKernel(**(arguments | changes))


def student(**changes):
    arguments = {
        "teacher": 2 * np.eye(2),
        "learning_rate": 0.1,
        "batch_size": 16,
        "noise_scale": 0.1,
        "seed": 1,
    }
    if "replicas" not in changes:
        arguments["blocks"] = 2
    return TeacherStudentKernel(**(arguments | changes))


def levels(**changes):
    size = 6
    arguments = {
        "coefficients": np.repeat([[1.1], [1.0], [0.0], [0.3]], size, axis=1),
        "levels": np.arange(size) * 0.1,
        "seed": 1,
    }
    changes.pop("dtype", None)
    return DysonKernel(**(arguments | changes))


def network(**changes):
    rng = np.random.default_rng(0)
    arguments = {
        "first": rng.normal(size=(32, 3)),
        "teacher": rng.normal(size=(16, 32)) / 6,
        "readout": rng.normal(size=(3, 16)) / 4,
        "activation": "tanh",
        "learning_rate": 0.1,
        "batch_size": 4,
        "limit": 1e6,
        "seed": 1,
    }
    return TwoLayerStudentKernel(**(arguments | changes))
