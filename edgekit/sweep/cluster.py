"""The two planes of a sweep on dask: compute workers, and one proxy worker a device that stays in this process.

The cluster that is started here listens on the loopback interface only, encrypted with keys that live as long as it does, so
that nobody else on the machine can hand it work. Of another cluster (`--scheduler`) only the compute plane is used: what
holds the keys of devices never leaves the controller.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit import __version__, files
from edgekit.errors import EdgekitError, Missing
from edgekit.registry import missing_modules

CONNECT_S = 15
LOOPBACK = "127.0.0.1"
SETTINGS: dict[str, object] = {
    "distributed.worker.profile.enabled": False,  # it wakes up a hundred times a second, beside what is measured
    "distributed.diagnostics.nvml": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.worker-ttl": None,  # by the wall clock: one that is set ahead would end workers that live
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.version-mismatch": "ignore",
}


@dataclass
class Planes:
    """Where work is handed in. `compute_here`: the compute workers take the cores of this machine."""

    compute_here: bool
    _compute: Any
    _devices: Any
    _proxies: dict[str, str] = field(default_factory=dict)  # device -> name of its worker

    def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """A dask future of the function on some compute worker."""
        resources = {"compute": 1} if self.compute_here else None
        return self._compute.submit(function, *args, pure=False, resources=resources)

    def on_device(self, device: str, function: Callable[..., Any], *args: Any) -> Any:
        """A dask future of the function on the device's proxy, which does one thing at a time."""
        return self._devices.submit(function, *args, pure=False, workers=[self._proxies[device]], resources={f"device:{device}": 1})

    def has_workers(self) -> bool:
        """Whether any compute worker is left."""
        try:
            return len(self._compute.nthreads()) > (len(self._proxies) if self.compute_here else 0)
        except (OSError, ValueError, RuntimeError):
            return False  # the scheduler is gone too


@contextmanager
def planes(devices: Sequence[str], workers: int, scheduler: str = "", seen: Sequence[Path] = (), out: Path = Path()) -> Iterator[Planes]:
    """Start what is needed and close it in the end.

    scheduler: of a running dask cluster whose workers must see the folder `out` and the paths `seen`; EdgekitError when
    they do not, or have another edgekit. workers: how many compute at a time here, where no scheduler is given.
    """
    if absent := missing_modules(("distributed", "cryptography")):
        raise Missing(f"a sweep needs {', '.join(absent)}, not installed here: pip install 'edgekit[fleet]'")
    import dask
    from distributed import Client

    with ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        compute = _connect(scheduler, seen, out, stack) if scheduler else None
        proxies = {device: f"device-{i}" for i, device in enumerate(devices)}
        cluster = stack.enter_context(_local(proxies, 0 if scheduler else workers))
        own = stack.enter_context(Client(cluster, security=cluster.security, set_as_default=False))  # type: ignore[no-untyped-call]
        yield Planes(not scheduler, compute or own, own, proxies)


def _local(proxies: dict[str, str], workers: int) -> Any:
    """A scheduler and workers, all in this process: the work itself is done by processes that they start."""
    from distributed import Scheduler, SpecCluster, Worker
    from distributed.security import Security

    security = Security.temporary()  # type: ignore[no-untyped-call]
    common = {"host": LOOPBACK, "security": security, "protocol": "tls://", "dashboard": False, "nthreads": 1, "memory_limit": 0}
    offers = {f"compute-{i}": "compute" for i in range(workers)} | {name: f"device:{device}" for device, name in proxies.items()}
    spec = {name: {"cls": Worker, "options": {**common, "resources": {offer: 1}}} for name, offer in offers.items()}
    scheduler = {**common, "port": 0, "dashboard_address": f"{LOOPBACK}:0"}
    del scheduler["nthreads"], scheduler["memory_limit"]
    started = {"cls": Scheduler, "options": scheduler}
    return SpecCluster(spec, started, security=security, silence_logs=50, name="edgekit-sweep")  # type: ignore[no-untyped-call]


def _connect(scheduler: str, seen: Sequence[Path], out: Path, stack: ExitStack) -> Any:
    """A client of a running cluster, once every worker was asked whether it sees what this machine sees."""
    from distributed import Client

    try:
        with ThreadPoolExecutor(1) as thread:  # the caller may have a running loop of its own
            thread.submit(asyncio.run, asyncio.wait_for(answer(scheduler), CONNECT_S)).result()
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        why = str(error).strip() or f"nothing within {CONNECT_S} s"
        raise EdgekitError(f"no dask scheduler answers at {scheduler} ({why}); start one with `dask scheduler`, or leave --scheduler out") from None
    client = stack.enter_context(Client(scheduler, timeout=CONNECT_S, set_as_default=False))  # type: ignore[no-untyped-call]
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError:
        raise EdgekitError(f"the dask scheduler at {scheduler} has no workers; start some with `dask worker {scheduler}`") from None
    mark, word = out / f".seen-{os.getpid()}", secrets.token_hex(8)
    files.write_text(mark, word)
    try:
        found = client.run(look, str(mark), [str(p) for p in seen], on_error="return")
    finally:
        mark.unlink(missing_ok=True)
    for worker, told in found.items():
        if isinstance(told, BaseException):
            raise EdgekitError(f"the worker {worker} cannot use edgekit: {told}; install edgekit {__version__} on it")
        if told["versions"] != _versions():
            raise EdgekitError(f"the worker {worker} has {told['versions']}, this machine {_versions()}; both must be the same")
        if told["word"] != word:
            raise EdgekitError(f"the worker {worker} does not see the folder {out}; give --out a folder that all machines share")
        if told["absent"]:
            raise EdgekitError(f"the worker {worker} does not see {', '.join(told['absent'])}; put it where all machines see it")
    return client


async def answer(scheduler: str) -> None:
    """Ask a scheduler who it is, with the keys that dask is configured with. A Client that never connected must not be made: it
    is closed by the garbage collector, which may run in the middle of the start of another one, and then both wait for ever."""
    from distributed.core import rpc
    from distributed.security import Security

    security = Security()  # type: ignore[no-untyped-call]
    asked = rpc(scheduler, connection_args=security.get_connection_args("client"), timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    try:
        await asked.identity()
    finally:
        await asked.close_rpc()  # type: ignore[no-untyped-call]


def look(mark: str, seen: list[str]) -> dict[str, Any]:
    """What a worker sees of the shared folder, once it has imported what it will run."""
    from edgekit.sweep import host  # noqa: F401

    word = Path(mark).read_text(encoding="utf-8") if Path(mark).exists() else ""
    return {"versions": _versions(), "word": word, "absent": [p for p in seen if not Path(p).exists()]}


def _versions() -> str:
    return f"edgekit {__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"
