"""One run on one device, as its proxy worker does it: lease, measure, write down, give back. Nothing is kept of an error."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgekit import examine, registry, remote
from edgekit import profile as profiles
from edgekit.bundle import Bundle, open_bundle
from edgekit.data import cache_folder
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from edgekit.measurement import Measurement, Progress, silent
from edgekit.parts import Runtime
from edgekit.plain_text import one_line
from edgekit.process_run import Request
from edgekit.remote.host_keys import HostKeyRefused
from edgekit.remote.ssh import Misbehaved
from edgekit.sweep.host import Outcome
from edgekit.sweep.ledger import Ledger
from edgekit.sweep.owner import Owner

MARK = "EDGEKIT_SWEEP"  # in the environment of all that a sweep starts: its Owner
WAIT_S = 120.0  # for another measurement on this machine to end


class Busy(EdgekitError):
    """Somebody else measures there; later it may be free."""


def measure(device: Device | None, bundle: Bundle, request: Request, target: str = "host", progress: Progress = silent) -> Measurement:
    """Time a verified bundle on a device, or on this machine (None, or a device without an address), alone there."""
    if device is not None and device.address is not None:
        return remote.profile_on(device, bundle, request, progress)
    with _alone():
        return examine.profile(bundle, request, target=target, progress=progress)


def run(folder: str, request: Request, target: str, name: str, device: Device | None, ledger: str, key: str, delay_s: float) -> Outcome:
    """Measure a bundle on the device called `name` under a lease, and write the result into the ledger.

    delay_s: how long to wait first, after a failure.
    """
    me = Owner.me()
    time.sleep(delay_s)
    with Ledger(ledger) as opened:
        if reason := opened.lease(key, name, me):
            return Outcome("failed", error=reason, again=True)
        ended = Outcome("failed", error="it was stopped", again=True)
        try:
            opened.start(key, name, me)
            found = measure(device, open_bundle(folder), request, target)
            ended = Outcome("done", {"device": name, "measurement": found.to_json()})
        except EdgekitError as error:
            gone = isinstance(error, (HostKeyRefused, Misbehaved))
            ended = Outcome("failed", error=str(error), again=gone or isinstance(error, (Busy, *remote.RETRY)), device_gone=gone)
        except Exception as error:  # the sweep goes on without it, and says so
            ended = Outcome("failed", error=one_line(f"{type(error).__name__}: {error}", 300))
        finally:  # whatever happens, the device is free for the next
            if ended.state == "done" and ended.result is not None:
                opened.finish(key, name, me, ended.result)
            else:
                opened.fail(key, name, me, ended.error, "queued" if ended.again else "failed")
    return ended


def request_of(asked: Request, runtime: str) -> Request:
    """The request for one runtime: a simulator is run once."""
    processes = 1 if registry.load(Runtime, runtime).simulates else asked.processes
    return dataclasses.replace(asked, runtime=runtime, processes=processes)


def identity(device: Device | None) -> dict[str, Any]:
    """What a result belongs to, so that it is not taken for another machine's, or another mode's of the same one."""
    if device is None or device.address is None:
        return {"machine": profiles.device_name()}
    return {n: getattr(device, n) for n in ("name", "ssh", "host_key", "runner", "library", "power_mode", "meter")}


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the machine's own lock, and wait for what a killed sweep left running; Busy when that takes too long."""
    path = cache_folder() / "measuring.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + WAIT_S
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait(end, "another sweep measures on this machine")
        while left := orphans():
            _wait(end, f"a killed sweep left process {left[0]} behind, which still works on this machine")
        yield  # closing the file gives the lock back


@contextmanager
def marked() -> Iterator[None]:
    """Processes that are started meanwhile carry the name of this one. When it is stopped, those that are left are ended too."""
    before, me = os.environ.get(MARK), Owner.me()
    os.environ[MARK] = str(me)
    try:
        yield
    except BaseException:
        for pid, owner in _marks().items():
            if owner == me and pid != me.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        raise
    finally:
        os.environ.pop(MARK)
        if before is not None:
            os.environ[MARK] = before


def orphans() -> list[int]:
    """Processes that a killed sweep left behind on this machine."""
    me = Owner.me()
    return [pid for pid, owner in _marks().items() if owner.machine == me.machine and not owner.alive(0.0)]


def _marks() -> dict[int, Owner]:
    """The processes that a sweep has started, and which one."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            mark = next((v for v in path.read_bytes().split(b"\0") if v.startswith(f"{MARK}=".encode())), b"")
            if mark:
                found[int(path.parent.name)] = Owner.read(mark.partition(b"=")[2].decode())
        except (OSError, ValueError):
            continue  # it is gone, or another user's
    return found


def _wait(end: float, why: str) -> None:
    if time.monotonic() > end:
        raise Busy(f"{why}; it was waited for {WAIT_S:.0f} s")
    time.sleep(0.2)
