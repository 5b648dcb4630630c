"""The numbers of a device: what each is called, its unit, how good the evidence is, and which of them must agree."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# specified: read in a document of the maker, or in a copy of its text. second-hand: another public text says it, often
# quoting the maker; the maker's document itself was not read. measured: by the source that is named, on such a device.
# probed: the device says so itself (edgekit/probe.py); never typed.
Grade = Literal["specified", "second-hand", "derived", "simulated", "measured", "probed"]

PRECISIONS = ("f32", "tf32", "f16", "bf16", "f8", "int8")
# What a name ends in when it is not of the unit that the target's first runtime uses. `total`: all units together.
PARTS = ("cpu", "gpu", "npu", "dla", "total")
_COMPUTE = {f"compute_{p}{kind}": "GOP/s" for p in PRECISIONS for kind in ("", "_sparse")}
# 2 operations a multiply-add; peaks are dense, and those that count zeros of a 2:4 pattern end in _sparse.
UNITS = {
    **_COMPUTE,
    **{f"ops_per_cycle_{p}": "operations" for p in PRECISIONS},  # of one core in one cycle
    **{f"clock_{p}": "MHz" for p in PRECISIONS},  # where a precision's peak is stated at a clock of its own
    "clock": "MHz",  # that of the stated peaks
    "cores": "cores",  # those that ops_per_cycle is of: CUDA cores of a GPU
    "usable_cores": "cores",
    "threads_per_core": "threads",
    "cpu_limit": "cores",
    "bandwidth": "GB/s",  # peak, of the memory that holds the weights
    "bus_width": "bit",
    "memory_rate": "MT/s",
    "memory": "MiB",
    "memory_limit": "MiB",
    "on_chip_memory": "KiB",
    "flash": "KiB",
    "cache_l1d": "KiB",
    "cache_l2": "KiB",
    "cache_l3": "KiB",
    "power_idle": "W",
    "power_typical": "W",
    "power_max": "W",
    "launch_overhead": "us",
    "energy_per_synop": "pJ",
    "energy_per_neuron_update_active": "pJ",
    "energy_per_neuron_update_inactive": "pJ",
    "energy_per_message": "pJ",
    "neurons": "neurons",
    "synapses": "synapses",
}
CLOSE = 0.05  # figures that must agree do so within this share: makers round
# What says that nobody looked: such a text is no source.
NO_SOURCE = re.compile(r"\b(known|recalled|from memory|general knowledge|todo|tbd|unknown|internet|google)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Figure:
    """One number of a device. `source` names the document, the counter or the calculation, `grade` says what that is worth."""

    name: str
    value: float
    unit: str
    source: str
    grade: Grade

    def __post_init__(self) -> None:
        """Refuse a number that nobody can check."""
        base = base_of(self.name)
        if base is None:
            near = difflib.get_close_matches(self.name, UNITS, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            there = f"{', '.join(_spoken())}; of another part it ends in _{', _'.join(PARTS)}"
            raise ValueError(f"no figure is called '{self.name}'{hint}; there are: {there}")
        if self.unit != UNITS[base]:
            raise ValueError(f"'{self.name}' is given in {UNITS[base]}, found '{self.unit}'")
        if not math.isfinite(self.value) or self.value < 0:
            raise ValueError(f"'{self.name}' must be a number that is not negative, found {self.value!r}")
        if len(self.source.strip()) < 4 or NO_SOURCE.search(self.source):
            raise ValueError(f"the source of '{self.name}' must be a document, a measurement or a calculation, found '{self.source}'")


def base_of(name: str) -> str | None:
    """The name without the part that it is of; None when no figure is called that."""
    if name in UNITS:
        return name
    base, _, part = name.rpartition("_")
    return base if base in UNITS and part in PARTS else None


def _spoken() -> list[str]:
    """The names, those of all precisions as one."""
    pattern = re.compile(rf"_({'|'.join(PRECISIONS)})(_sparse)?$")
    return list(dict.fromkeys(pattern.sub("_PRECISION", name) for name in UNITS))


def find(figures: Iterable[Figure], name: str, part: str = "") -> Figure | None:
    """The figure of that name and part."""
    wanted = f"{name}_{part}" if part else name
    return next((f for f in figures if f.name == wanted), None)


def checks(figures: Iterable[Figure]) -> dict[str, tuple[float, float]]:
    """What can be held against each other: what is compared -> (stated, calculated from other figures)."""
    values = {f.name: f.value for f in figures}
    found = {}
    for part in ("", *(f"_{p}" for p in PARTS)):
        for precision in PRECISIONS:
            clock = values.get(f"clock_{precision}{part}", values.get(f"clock{part}"))
            cores, each = values.get(f"cores{part}"), values.get(f"ops_per_cycle_{precision}{part}")
            stated = values.get(f"compute_{precision}{part}")
            if stated is not None and cores is not None and each is not None and clock is not None:
                found[f"compute_{precision}{part} = cores x clock x operations a cycle"] = stated, cores * clock * each / 1e3
            sparse = values.get(f"compute_{precision}_sparse{part}")
            if stated is not None and sparse is not None:
                found[f"compute_{precision}_sparse{part} = 2 x dense"] = sparse, 2 * stated
        stated, bits, rate = (values.get(n + part) for n in ("bandwidth", "bus_width", "memory_rate"))
        if stated is not None and bits is not None and rate is not None:
            found[f"bandwidth{part} = bus width x rate"] = stated, bits / 8 * rate / 1e3
    return found


def contradictions(figures: Iterable[Figure]) -> list[str]:
    """The checks that fail, each in a sentence. One of the figures is then wrong, or is of another device."""
    return [
        f"{what} does not hold: {stated:g} is stated, the other figures give {calculated:g}"
        for what, (stated, calculated) in checks(figures).items()
        if not math.isclose(stated, calculated, rel_tol=CLOSE)
    ]
