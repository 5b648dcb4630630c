"""Devices that models are measured on, as a fleet file (TOML) lists them: where each is, and what it promises to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import EdgekitError, no_such
from edgekit.recipe import fill
from edgekit.sniff import is_there
from edgekit.text_file import parse_toml, read_text

FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
ADDRESS = "ssh://user@host:port, as in ssh://me@192.168.1.7 or ssh://me@[fe80::1]:2222"


@dataclass(frozen=True)
class Address:
    """Where ssh connects to. Empty user and port 0: what ~/.ssh/config says, else the user's own name and port 22."""

    host: str  # a name, an IP address or a Host of ~/.ssh/config
    user: str = ""
    port: int = 0

    @property
    def shown(self) -> str:
        """As a person types it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}{'@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


@dataclass(frozen=True)
class Device:
    """A machine that bundles are measured on; edgekit/remote/__init__.py does it.

    host_key: fingerprint of the device's own key, as `ssh-keygen -lf` prints it; empty: it must be in known_hosts.
    runner: "python" runs the edgekit that is installed there, "cpp" carries the C++ runner and ONNX Runtime there, "auto"
    takes Python where it finds this same version of edgekit.
    power_mode: the mode that the device must be in; edgekit refuses to measure in another and never changes it.
    """

    name: str
    target: str = "host"  # a target (edgekit targets); of a device by ssh, "host" means: whichever it says it is
    ssh: str = ""  # ssh://user@host:port; empty: this machine
    host_key: str = ""  # SHA256:...
    key: str = ""  # identity file; empty: what ~/.ssh/config, the agent and the usual files give
    runner: Literal["auto", "python", "cpp"] = "auto"
    python: str = "python3"  # the interpreter on the device in which edgekit is installed
    library: str = ""  # a libonnxruntime.so that is on the device, for "cpp"; empty: that of this machine's version is carried there
    work_dir: str = ""  # on the device; empty: ~/.cache/edgekit
    power_mode: str = ""
    meter: str = "auto"  # an energy meter on the device, see `edgekit parts`; "none": no energy
    wait_s: float = 600.0  # how long to wait for a device that is busy
    limit_s: float = 900.0  # how long a measurement may take there beside the seconds that are asked for; then it is stopped

    def __post_init__(self) -> None:
        """Refuse what cannot be reached."""
        if not self.name.strip():
            raise ValueError("a device needs a name")
        if self.host_key and not FINGERPRINT.fullmatch(self.host_key):
            raise ValueError(f"host_key is a fingerprint as `ssh-keygen -lf` prints it: SHA256: and 43 characters, found '{self.host_key}'")
        if self.wait_s < 0 or not self.limit_s > 0:
            raise ValueError("wait_s is not negative and limit_s is more than 0")
        if self.work_dir and not self.work_dir.startswith(("/", "~/")):
            raise ValueError(f"work_dir is a path on the device that begins with / or ~/, found '{self.work_dir}'")
        if self.python.startswith("~") or (self.library and not self.library.startswith("/")):
            raise ValueError("python and library are paths on the device that begin with / (python may be a name: python3)")
        if self.ssh:
            parse(self.ssh)
        elif self.host_key or self.key or self.work_dir:
            raise ValueError(f"'{self.name}' has no ssh address, so it is this machine, and takes no host_key, key or work_dir")

    @property
    def address(self) -> Address | None:
        """Where it is; None for this machine."""
        return parse(self.ssh) if self.ssh else None

    @property
    def shown(self) -> str:
        """Its name, and where it is where the name does not say it."""
        return self.name if self.name == self.ssh or not self.ssh else f"{self.name} ({self.ssh})"


def parse(text: str) -> Address:
    """The parts of `ssh://user@host:port`; ValueError, in one sentence, for anything else."""
    scheme, found, rest = text.partition("://")
    if not found or scheme != "ssh":
        raise ValueError(f"an address is {ADDRESS}, found '{text}'")
    user, at, place = rest.rpartition("@")
    if ":" in user:
        raise ValueError(f"a password in an address would be stored and shown: leave it out of '{scheme}://{user.partition(':')[0]}:...@{place}'")
    shape = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/?#@\s]+))(?::(\d{1,5}))?/?", place)
    if shape is None or (at and not user):
        raise ValueError(f"an address is {ADDRESS}, found '{text}'")
    host, port = shape[1] or shape[2], int(shape[3] or 0)
    if host.startswith("-") or user.startswith("-") or re.search(r"[\s/\x00-\x1f]", user):
        raise ValueError(f"an address is {ADDRESS}, found '{text}'")
    if shape[3] and not 0 < port < 65536:
        raise ValueError(f"a port is a number from 1 to 65535, found {port} in '{text}'")
    return Address(host, user, port)


def read(path: Path | str) -> tuple[Device, ...]:
    """The devices of a TOML file of [[devices]] tables; EdgekitError, beginning with the path, for anything that does not fit."""
    path = Path(path)
    if not is_there(path):
        raise EdgekitError(f"no fleet file at {path}; it is TOML, with a table [[devices]] for each device: name, target, ssh")
    values = parse_toml(read_text(path, "a TOML file of devices"), f"{path} is not a TOML file of devices")
    if set(values) != {"devices"}:
        odd = sorted(set(values) - {"devices"})
        raise EdgekitError(f"{path}: holds [[devices]] tables and nothing else, found {', '.join(odd) or 'nothing'}")
    return devices_of(values["devices"], str(path))


def devices_of(values: Any, where: str) -> tuple[Device, ...]:
    """Devices of plain values (a list of tables), with a name of its own each."""
    if not isinstance(values, list) or not all(isinstance(v, Mapping) for v in values):
        raise EdgekitError(f"{where}: devices are [[devices]] tables, found {values!r}")
    found = tuple(fill(Device, v, f"{where}: devices[{i}]") for i, v in enumerate(values))
    names = [d.name for d in found]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise EdgekitError(f"{where}: each device has a name of its own, found {', '.join(twice)} more than once")
    return found


def find(on: str, path: Path | str | None = None, target: str = "") -> Device:
    """The device of an address `ssh://user@host`, or of a name in a fleet file. target: in place of the device's own."""
    if "://" in on:
        device: Device = fill(Device, {"name": on, "ssh": on, **({"target": target} if target else {})}, "--on")
        return device
    if path is None:
        raise EdgekitError(f"'{on}' is no address ({ADDRESS}); to name a device of a fleet file, say which file: --fleet FLEET.toml")
    devices = {d.name: d for d in read(path)}
    if on not in devices:
        raise no_such("device", on, devices, f"they are those of {path}")
    return fill(Device, {**devices[on].__dict__, **({"target": target} if target else {})}, str(path))  # type: ignore[no-any-return]
