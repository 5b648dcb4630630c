"""A measurement by the edgekit that is installed on the device: its own verify, and then its own profile."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError, NotEqual
from edgekit.fleet import Device
from edgekit.measurement import Measurement
from edgekit.plain_text import shown
from edgekit.process_run import Request
from edgekit.remote.believe import json_of
from edgekit.remote.job import Found, Job
from edgekit.remote.runner import RUN, limit_s, stopped
from edgekit.remote.ssh import quoted

NAMES = ("verify", "profile")  # what runs there, in this order


def job(device: Device, bundle: str, request: Request) -> Job:
    """verify --json, and profile --json when the answers are right. `bundle` is a path of the device."""
    start = [device.python, "-m", "edgekit"]
    runtime = ["--runtime", request.runtime] if request.runtime else []
    verify = [*start, "verify", bundle, *runtime, "--score-limit", "0", "--json"]
    task = ["--task", request.task] if request.task else []  # verify looks at all of them
    profile = [*start, "profile", bundle, *task, *runtime, "--threads", str(request.threads), "--seconds", f"{request.seconds:g}", "--processes",
               str(request.processes), "--scenario", request.scenario, "--rate-hz", f"{request.rate_hz:g}", "--energy-seconds",
               f"{request.energy_seconds:g}", "--meter", device.meter, "--json"]  # fmt: skip
    steps = (
        f"{RUN}echo '0 2 compare with the golden answers' >>progress\nrun verify {quoted(verify)} || exit 1\n"
        f"echo '1 2 time fresh processes' >>progress\nrun profile {quoted(profile)} || exit 1\necho '2 2 measured' >>progress\n"
    )
    return Job(steps, [f"{n}.{ending}" for n in NAMES for ending in ("out", "err", "code")], {}, limit_s(device, request))


def measurement(found: Found, bundle: Bundle, device: Device, target: str) -> Measurement:
    """What the device's edgekit measured. NotEqual when the answers differ there, EdgekitError when it failed."""
    codes = {name: found.text(f"{name}.code") for name in NAMES}
    if codes["verify"] in ("0", "1") and (failures := _json(found, "verify")["failures"]):  # whatever its exit code says
        raise NotEqual(f"{bundle.label} on {device.name}: {shown(failures[0], 300)}: not the trained network's answers, so not timed")
    for name, code in codes.items():
        if code != "0":
            lines = [line for line in found.text(f"{name}.err").splitlines() if line.strip()]
            own = shown(lines[-1].removeprefix("error: "), 300) if lines else f"exit code {shown(code, 20)}"
            raise EdgekitError(f"{bundle.label} on {device.name}: {name}: {own if code else stopped(found)}")
    fields = {f.name for f in dataclasses.fields(Measurement)}
    told = {k: v for k, v in _json(found, "profile").items() if k in fields}
    return dataclasses.replace(Measurement.from_json(told), target=target)


def _json(found: Found, name: str) -> dict[str, Any]:
    told = found.text(f"{name}.out")
    try:
        data = json_of(told, f"`edgekit {name}` on the device")
    except Broken as error:
        raise EdgekitError(f"`edgekit {name}` on the device printed no JSON: '{shown(told, 60)}' ({error})") from None
    if not isinstance(data, dict):
        raise EdgekitError(f"`edgekit {name}` on the device printed no object of JSON: '{shown(told, 60)}'")
    return data
