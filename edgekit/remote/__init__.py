"""Profile a bundle on a device by ssh: probe, push by hash, verify there, measure under a lock and a time limit, pull."""

from __future__ import annotations

import asyncio
import dataclasses
import getpass
import hashlib
import json
import secrets
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from edgekit import __version__, conditions, registry
from edgekit import profile as profiles
from edgekit import target as targets
from edgekit.bundle import MANIFEST, Bundle
from edgekit.errors import EdgekitError
from edgekit.files import hash_of, sha256_of
from edgekit.fleet import Device
from edgekit.measurement import Measurement, Progress, silent
from edgekit.parts import Runtime
from edgekit.plain_text import one_line
from edgekit.process_run import Request
from edgekit.remote import believe, ssh
from edgekit.remote import python as remote_python
from edgekit.remote import runner as remote_runner
from edgekit.remote.job import Found, Job, result_of
from edgekit.remote.kit import Kit, Portable
from edgekit.remote.probe import Facts, clock_advice, description, probe, uses_python, wants
from edgekit.remote.ssh import Busy, Dropped, Shell, Silent, Unreachable
from edgekit.remote.store import Parcel, push
from edgekit.remote.tree import Asked, snapshot
from edgekit.sysfs import Snapshot

RETRY = (Unreachable, Dropped, Busy)  # errors after which the same call may succeed, and repeats nothing that is done
RECONNECT_S = (1, 2, 4, 8, 15, 30, 30)  # pauses before a lost connection is made anew: a device that starts anew takes a minute
RUNNER, LIBRARY = "edgekit-run", "libonnxruntime.so"
MOST_ERROR = 1_500  # characters
T = TypeVar("T")


def profile_on(device: Device, bundle: Bundle, request: Request, progress: Progress = silent) -> Measurement:
    """Measure a bundle on a device, in `request.processes` fresh processes, and pull what was found; blocks until then.

    The bundle's answers are checked on the device first: NotEqual when they differ, and nothing is timed. Raises
    Unreachable (no connection, or a login that is refused), HostKeyRefused, Misbehaved (it answers what no device does),
    Busy (somebody else measures there for longer than device.wait_s), Dropped (the connection was lost and could not be
    made again; the device goes on for at most device.limit_s, and the same call picks its result up), EdgekitError for
    all else. A person who interrupts it stops the device too.

    A device without an address is this machine. May be called from several threads at once, for different devices.
    """
    if device.address is None:
        return profiles.profile(bundle, request, target=device.target, meter=device.meter, progress=progress).measurement
    return _run(_persistently(device, bundle, dataclasses.replace(request, task=bundle.task), progress))


def look(device: Device) -> tuple[Facts, Snapshot]:
    """What a device by ssh is, and the files of it that a measurement reads; nothing is measured. Errors as of profile_on."""

    async def once() -> tuple[Facts, Snapshot]:
        async with ssh.connect(device) as shell:
            return await probe(shell, device.runner != "cpp"), await _state(shell)

    return _run(once())


async def _persistently(device: Device, bundle: Bundle, request: Request, progress: Progress) -> Measurement:
    """A connection that is lost is made again: what is there is not pushed again, and a job that runs is awaited."""
    word, silent_before = secrets.token_hex(8), False
    for attempt in range(len(RECONNECT_S) + 1):
        try:
            async with ssh.connect(device) as shell:
                return await _measure(shell, bundle, request, word, progress)
        except (Dropped, Unreachable) as error:
            if (attempt == 0 and isinstance(error, Unreachable)) or (silent_before and isinstance(error, Silent)):
                raise
            silent_before = isinstance(error, Silent)
            if attempt == len(RECONNECT_S):
                raise Dropped(f"{error}; the device may go on for {device.limit_s:g} s, and the same command picks its result up") from None
            progress(f"connect to {device.name} again", attempt + 1, len(RECONNECT_S))
            await asyncio.sleep(RECONNECT_S[attempt])
    raise AssertionError("unreachable")


async def _measure(shell: Shell, bundle: Bundle, request: Request, word: str, progress: Progress) -> Measurement:
    device = shell.device
    progress(f"look at {device.name}", 0, 1)
    facts = await probe(shell, device.runner != "cpp" and request.runtime != "cpp")
    tree = await _state(shell)
    progress(f"look at {device.name}", 1, 1)
    with believe.sense(device.name, "what it says of its state"):
        _check_power_mode(device, tree)
        if advice := clock_advice(tree):
            progress(f"{device.name}: {one_line(advice, 300)}", 1, 1)
        target = device.target if device.target != "host" else targets.which_target(tree).target
        about = description(tree)
    if request.runtime == "cpp" and device.runner == "python":
        raise EdgekitError(f"the runtime 'cpp' on {device.name} is the C++ runner itself, but its runner is \"python\": give it runner = \"cpp\"")
    python = uses_python(shell, facts, remote_runner.why_not(bundle, request))
    kit = None if python else _kit(device, facts, progress)

    async def prepare() -> Job:
        folder = await push(shell, facts.work, _parcel(bundle), progress, facts.free_bytes)
        if kit is None:
            return remote_python.job(device, folder, request)
        tools = await push(shell, facts.work, _tools(kit), progress, facts.free_bytes)
        library = device.library or f"{tools}/{LIBRARY}"
        return remote_runner.job(f"{tools}/{RUNNER}", library, folder, request, tree, device)

    def understand(found: Found) -> Measurement:
        with believe.sense(device.name, "the measurement"):
            if kit is None:
                made = remote_python.measurement(found, bundle, device, target)
            else:
                made = remote_runner.measurement(found, bundle, device, request, tree, about, target)
            return believe.measurement(made, device.name)

    key, limit_s = _key(device, bundle, request, kit), remote_runner.limit_s(device, request)
    return await result_of(shell, facts.work, key, prepare, understand, word, progress, limit_s)


def _state(shell: Shell) -> Coroutine[Any, Any, Snapshot]:
    def ask(tree: Asked) -> None:
        with believe.sense(shell.device.name, "what it says of its state"):
            wants(tree, shell.device.meter)

    return snapshot(shell, ask)


def _check_power_mode(device: Device, tree: Snapshot) -> None:
    """EdgekitError when the device is not in the mode that the fleet file says, with the command for a person."""
    now = conditions.power_mode(tree)
    if not device.power_mode or now == device.power_mode:
        return
    modes = {m.name: m for m in targets.load(device.target).power_modes}
    mode = modes.get(device.power_mode)
    how = f"target {device.target} names {', '.join(modes) or 'none'}"
    if mode:
        how = f"to change it, run on the device: {targets.command_of(mode, tree)}"
    raise EdgekitError(f"{device.name} is to be in the power mode {device.power_mode}, and is in {now or 'none that it tells'}; {how}")


def _kit(device: Device, facts: Facts, progress: Progress) -> Kit:
    """The runner for this device."""
    if facts.glibc is None:
        raise EdgekitError(f"{device.name} has another C library than glibc (as Alpine has); ONNX Runtime's library for Linux needs glibc 2.28")
    if device.library and not facts.library:
        raise EdgekitError(f"{device.name} has no {device.library}; leave 'library' out, and this machine's ONNX Runtime is carried there")
    part = registry.find(Runtime, "cpp")
    assert isinstance(part, Portable)
    return part.kit(facts.architecture, facts.glibc, not device.library, progress)


def _parcel(bundle: Bundle) -> Parcel:
    contents = {name: bundle.folder / name for name in (*bundle.manifest.files, MANIFEST)}
    return Parcel(f"bundles/{bundle.sha256}", contents, bundle.label)


def _tools(kit: Kit) -> Parcel:
    contents = {RUNNER: kit.runner, **({LIBRARY: kit.library} if kit.library else {})}
    names = hashlib.sha256("".join(sha256_of(p) for p in contents.values()).encode()).hexdigest()
    return Parcel(f"tools/{names}", contents, "the C++ runner", (RUNNER,))


def _key(device: Device, bundle: Bundle, request: Request, kit: Kit | None) -> str:
    """The name of this measurement on the device: of the same user of the same machine, so that a killed one is found again."""
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    how = {"python": device.python} if kit is None else {"tools": _tools(kit).place, "library": device.library}
    asked = json.loads(json.dumps(request.to_json()))
    return hash_of({"bundle": bundle.sha256, "request": asked, "meter": device.meter, "edgekit": __version__, "who": who, **how})[:32]


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, from a thread that may have a running loop of its own (a notebook's). What a device put into an error
    is plain text on one line, wherever it goes from here."""
    try:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(work)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, work).result()
    except EdgekitError as error:
        error.args = (one_line(error, MOST_ERROR),)
        raise
