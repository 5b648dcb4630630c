"""What this machine can do at most, measured once by a fresh process and kept: products by precision, copies, calls that do nothing.

A roof from below: the best that any kernel here reached. One kernel alone would understate it (a library that was told to act as
an older processor by half, another by more), and a busy machine lowers it; measuring again can only raise it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgekit import data, files, own_process
from edgekit.errors import EdgekitError
from edgekit.figures import Figure
from edgekit.layer_profile import Roof
from edgekit.probe import machine as probe_machine
from edgekit.recipe import fill
from edgekit.roofline.kernels import usable_cores
from edgekit.sysfs import HERE

VERSION = 1  # of the probe: raised when it measures something else
LIMIT_S = 120
BUSY = 0.2  # pressure: with more, other work took part of the machine
_SEEN: set[Path] = set()  # measured by this process: not again, however busy it was
# A user's own settings for these libraries are not the machine's limits.
_UNSET = ("OPENBLAS_CORETYPE", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Probe:
    """The figures of one number of threads, on which machine and when."""

    roof: Roof
    call_us: float  # a call of a graph with one small node, by onnxruntime on bound buffers
    node_us: float  # each further small node
    processor: str
    instructions: tuple[str, ...]  # a virtual machine's processor may not say more than its maker
    cores: int  # that this process may use
    pressure: float | None  # share of the time in which some task waited for a CPU meanwhile; None: the kernel does not say
    versions: Mapping[str, str]
    made: str  # UTC, ISO 8601

    @property
    def busy(self) -> str:
        """One sentence when other work took part of the machine meanwhile; else empty."""
        waited = self.pressure or 0.0
        return f"the roof was measured while some task waited for a CPU {100 * waited:.0f} % of the time: it may be too low" if waited > BUSY else ""


def probe(threads: int = 0, fresh: bool = False) -> Probe:
    """The roof for that many threads (1: pinned to one core, 0: all), kept from before where there is one for this processor and
    these library versions. fresh: measure now; of what was kept, higher figures stay. A roof that was measured while the machine was
    busy is measured again by the next process that asks. EdgekitError when the process fails.
    """
    if threads < 0:
        raise EdgekitError(f"threads are not negative (0 = all), but {threads} were asked for")
    machine = probe_machine()
    where = {"processor": machine.processor, "instructions": list(machine.instructions), "cores": usable_cores(), "versions": _versions()}
    file = data.cache_folder() / "roof" / f"{files.hash_of({**where, 'threads': threads, 'probe': VERSION})[:16]}.json"
    with _alone(file):
        kept = _read(file)
        if kept is not None and not fresh and (file in _SEEN or not (kept.pressure or 0.0) > BUSY):
            return kept
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found: Probe = fill(Probe, {**_measured(threads), **where, "made": made}, "roof probe")
        found = found if kept is None else higher(found, kept)
        _SEEN.add(file)
        with contextlib.suppress(EdgekitError):  # a cache that cannot be written costs three seconds the next time, and nothing else
            files.write_text(file, files.canonical_json(dataclasses.asdict(found)))
    return found


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time measures: two would halve each other's roof."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_suffix(".lock").open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of a place in the cache that everybody shares: here one waits, and does not refuse
        yield


def higher(new: Probe, old: Probe) -> Probe:
    """Of two probes of one machine, the higher roof and the lower overheads, figure by figure."""
    a, b = new.roof, old.roof
    compute = {n: max(a.compute_gops.get(n, 0.0), b.compute_gops.get(n, 0.0)) for n in {*a.compute_gops, *b.compute_gops}}
    how = {n: (b if b.compute_gops.get(n, 0.0) > a.compute_gops.get(n, 0.0) else a).how[n] for n in compute}
    how["bandwidth"] = (b if b.bandwidth_gb_s > a.bandwidth_gb_s else a).how["bandwidth"]
    how["overhead"] = a.how["overhead"]
    roof = Roof(a.threads, compute, max(a.bandwidth_gb_s, b.bandwidth_gb_s), how)
    quiet = min((p for p in (new.pressure, old.pressure) if p is not None), default=None)
    return dataclasses.replace(
        new, roof=roof, call_us=min(new.call_us, old.call_us), node_us=min(new.node_us, old.node_us), pressure=quiet
    )


def figures(probe: Probe) -> tuple[Figure, ...]:
    """The roof as figures of a target."""
    how = probe.roof.how
    found = [
        Figure(f"compute_{n}", value, "GOP/s", f"probe: {how.get(n, 'the best product')}", "measured")
        for n, value in sorted(probe.roof.compute_gops.items())
    ]
    found.append(Figure("bandwidth", probe.roof.bandwidth_gb_s, "GB/s", f"probe: {how.get('bandwidth', 'copies')}", "measured"))
    return tuple(found)


def _measured(threads: int) -> dict[str, object]:
    told = dict.fromkeys(_THREADS, str(threads or usable_cores()))
    before, start = _waited_us(), time.monotonic()
    base = {**{n: v for n, v in os.environ.items() if n not in _UNSET}, **told}
    found = own_process.ask("edgekit.roofline.kernels", [str(threads)], "measuring what this machine can do", LIMIT_S, base)
    after = _waited_us()
    waited = None if before is None or after is None else (after - before) / 1e6 / (time.monotonic() - start)
    return {**found, "pressure": waited}


def _waited_us() -> int | None:
    """How long some task has waited for a CPU since the start of the machine."""
    try:
        return int(HERE.read("/proc/pressure/cpu").partition("total=")[2].split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _read(file: Path) -> Probe | None:
    """What was kept; None when there is nothing that can be read."""
    try:
        found: Probe = fill(Probe, json.loads(file.read_text(encoding="utf-8")), str(file))
    except (OSError, ValueError, EdgekitError):
        return None
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in ("numpy", "onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
