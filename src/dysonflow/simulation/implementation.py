"""Which implementation of a model's dynamics runs on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dysonflow.simulation.base import Simulation
from dysonflow.simulation.devices import CPU, Device, choose_device, may_have_gpu

if TYPE_CHECKING:
    from dysonflow.hyperparameters import Hyperparameters
    from dysonflow.models.base import System


@dataclass(frozen=True)
class Implementation:
    """What a model is simulated with.

    Attributes
    ----------
    simulation : type of Simulation
        To be started.
    name : str
        For people: in the log and in the metadata of a run.
    is_compiled : bool
        Whether several threads make it faster.
    """

    simulation: type[Simulation]
    name: str
    is_compiled: bool


def choose(system: System, device: Device, run: Hyperparameters | None = None) -> Implementation:
    """Fastest simulation of a model on this machine.

    Parameters
    ----------
    system : System
        The model; must be one that is trained.
    device : Device
        Where it is to run.
    run : Hyperparameters, optional
        The run: the kernel does not serve all runs of some models, nor large matrices on a GPU.

    Raises
    ------
    ValueError
        If the model is not trained.
    """
    if system.simulation is None:
        raise ValueError(f"{system.name} is not trained here, its weights are read from files")
    library = system.simulation.LIBRARY
    if device.kind != "cpu":
        why = _why_not_on_gpu(system, run)
        if system.compiled is not None and not why:
            name = f"compiled kernel ({system.compiled.instruction_set(device.kind)})"
            return Implementation(system.compiled, name, False)
        return Implementation(system.simulation, f"{library} ({why})", False)
    if system.compiled is None:
        why = "the model has no compiled kernel"
    else:
        why = system.compiled.why_unavailable()
        if not why and run is not None:
            why = system.compiled.why_not(run)
        if not why:
            name = f"compiled kernel ({system.compiled.instruction_set()})"
            return Implementation(system.compiled, name, True)
    return Implementation(system.simulation, f"{library} ({why})", False)


def _why_not_on_gpu(system: System, run: Hyperparameters | None) -> str:
    """Why the kernel does not simulate a run on a GPU; empty if it does."""
    if system.compiled is None:
        return "the model has no compiled kernel"
    if run is None:
        # Whoever plans must not take a card that jobs may want for themselves.
        return "only a job looks at the GPU"
    return system.compiled.why_not_on_gpu(run)


def choose_place(system: System, name: str, run: Hyperparameters) -> Device:
    """Where a run is trained, for `auto`, `cpu` or `cuda`.

    What the kernel trains on a GPU needs no torch, neither its seconds nor its memory of the card:
    the driver is asked. For all else torch is.

    Parameters
    ----------
    system : System
        The model; must be one that is trained.
    name : str
        As the configuration says it.
    run : Hyperparameters
        The run.

    Raises
    ------
    ConfigError
        If `cuda` is asked for and none can be used; the line says why and what to change.
    """
    if name == "cpu" or (name == "auto" and not may_have_gpu()):
        return choose_device(name)
    why = _why_not_on_gpu(system, run)
    if not why:
        from dysonflow.simulation.kernel import gpu

        return Device("cuda", gpu.card().name)
    nor = f"the compiled kernel: {why}" if system.compiled is not None else ""
    return place_of(system, choose_device(name, nor), run)


def place_of(system: System, device: Device, run: Hyperparameters | None = None) -> Device:
    """The device, or the CPU where nothing simulates a model on it; parameters as of `choose`."""
    if system.simulation is None or device.kind in system.simulation.DEVICES:
        return device
    return CPU if _why_not_on_gpu(system, run) else device
