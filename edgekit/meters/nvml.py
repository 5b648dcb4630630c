"""NVIDIA GPUs through NVML: the energy counter of the board (Volta and later), else its power reading."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.meters._files import board
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import HERE, Tree

# Both are slower than a reading of them. Energy: steps of about 0.1 s (ml.energy, "Measuring GPU energy: best practices").
# Power: the mean of the last second on Ampere and later but the A100 (NVML reference, nvmlDeviceGetPowerUsage).
ENERGY_REFRESH_S, POWER_REFRESH_S = 0.1, 1.0
STEP = 1e-3  # NVML counts in mJ and mW


class Nvml(Meter):
    """The sum over all GPUs of this machine; each is a channel."""

    needs = ("pynvml",)
    extra = "nvml"

    def available(self, tree: Tree = HERE) -> str:
        if tree is not HERE:
            return "NVML is a library and no file: it reads the GPUs of the machine on which edgekit runs"
        try:
            _open().close()
        except EdgekitError as error:
            return str(error)
        return ""

    def open(self, tree: Tree = HERE) -> Readout:
        reason = self.available(tree)
        if reason:
            raise EdgekitError(reason)
        return _open()


class _Gpus(Readout):
    def __init__(self, nvml: Any, asked: list[tuple[Channel, Callable[[], int]]]) -> None:
        self.channels = tuple(channel for channel, _ in asked)
        self.total = tuple(c.name for c in self.channels)
        what = "GPU board" if len(asked) == 1 else f"{len(asked)} GPU boards"
        self.scope = f"{what} by NVML (no host processor, no supply)"
        self._nvml, self._asked = nvml, asked

    def read(self) -> tuple[float | None, ...]:
        values: list[float | None] = []
        for _, ask in self._asked:
            try:
                values.append(ask() * STEP)
            except self._nvml.NVMLError:
                values.append(None)
        return tuple(values)

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):  # a driver that went away has nothing to be closed
            self._nvml.nvmlShutdown()


def _open() -> _Gpus:
    """All GPUs; EdgekitError where there is no library, no driver, no GPU, or one that tells nothing."""
    try:
        import pynvml as nvml
    except ImportError:
        raise EdgekitError("pynvml is not installed: pip install 'edgekit[nvml]'") from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise EdgekitError(f"no NVIDIA driver answers ({error}); see what `nvidia-smi` says") from None
    try:
        asked = [_ask(nvml, i) for i in range(nvml.nvmlDeviceGetCount())]
        if not asked:
            raise EdgekitError("the NVIDIA driver shows no GPU; in a container, start it with --gpus all")
    except (EdgekitError, nvml.NVMLError) as error:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
        raise EdgekitError(str(error)) from None
    return _Gpus(nvml, asked)


def _ask(nvml: Any, index: int) -> tuple[Channel, Callable[[], int]]:
    """The better of the two sources that this GPU has."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    label = f"GPU {index} {name.decode() if isinstance(name, bytes) else name}"
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return Channel(label, "energy", STEP, ENERGY_REFRESH_S), lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except nvml.NVMLError:
        pass
    try:
        nvml.nvmlDeviceGetPowerUsage(handle)
    except nvml.NVMLError as error:
        hint = "meter ina3221 reads its rails" if "Jetson" in board(HERE) else "measure with an external meter (external_csv)"
        raise EdgekitError(f"{label} tells neither energy nor power ({error}); {hint}") from None
    return Channel(label, "power", STEP, POWER_REFRESH_S), lambda: int(nvml.nvmlDeviceGetPowerUsage(handle))


PART = Nvml()
