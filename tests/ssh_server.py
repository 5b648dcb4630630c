"""A device made of this machine: a real sshd on a free port of loopback, with a home folder, keys and a PATH of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.fleet import Device

TOOLS = ("sh", "cat", "chmod", "cut", "date", "df", "find", "flock", "getconf", "head", "kill", "ls", "mkdir", "mv", "readlink", "rm", "rmdir", "setsid",
         "sha256sum", "sleep", "tail", "timeout", "touch", "true", "uname", "wc")  # fmt: skip

CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
{more_keys}AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
SetEnv HOME={folder}/home PATH={tools}
"""


@dataclass
class Server:
    """One simulated device. `home` is what it takes for the user's home; `keys` are the folders of both sides' keys."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.folder / "host_key.pub")

    @property
    def public(self) -> str:
        return (self.folder / "host_key.pub").read_text()

    def device(self, **given: object) -> Device:
        """A Device that pins this server's key, unless `given` says otherwise."""
        usual = {"name": self.folder.name, "ssh": f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}", "host_key": self.fingerprint,
                 "key": str(self.folder / "user_key")}  # fmt: skip
        return Device(**{**usual, **given})

    def sessions(self) -> list[int]:
        """The processes of sshd that serve a connection, outermost first."""
        found, level = [], [self.process.pid]
        while level:
            level = [pid for pid, (parent, name) in processes().items() if parent in level and name.startswith("sshd")]
            found += level
        return found

    def cut(self) -> None:
        """Drop all connections, as a device does that loses power or network; sshd itself goes on."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):  # it ends by itself just now
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.cut()
        self.process.terminate()
        self.process.wait(10)


def processes() -> dict[int, tuple[int, str]]:
    """Every process: its parent and its name."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:
            continue
        found[int(head.split(" ", 1)[0])] = (int(tail.split()[1]), head.split("(", 1)[1])
    return found


def fingerprint(public: Path) -> str:
    """As ssh-keygen prints it: an oracle that is not the library under test."""
    return subprocess.run(["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True).stdout.split()[1]


def new_key(path: Path, kind: str = "ed25519") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True)


def tools_only(folder: Path, *more: Path) -> Path:
    """A folder for PATH with what a small Linux has, and no Python."""
    folder.mkdir(exist_ok=True)
    for name in TOOLS:
        found = shutil.which(name)
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    for path in more:
        (folder / path.name).symlink_to(path)
    return folder


def start(folder: Path, path: Path | None = None, more_host_keys: tuple[str, ...] = ()) -> Server:
    """Start one in `folder`; skips the test where there is no sshd. path: the PATH of the device. Its key is host_key, of the
    kind ed25519; of other kinds it has host_key_KIND."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd here: apt-get install openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "home").mkdir(exist_ok=True)
    if not (folder / "host_key").exists():
        new_key(folder / "host_key")
        new_key(folder / "user_key")
    for kind in more_host_keys:
        new_key(folder / f"host_key_{kind}", kind)
    shutil.copy(folder / "user_key.pub", folder / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd puts its unprivileged half; the package makes it at boot
    tools = tools_only(folder / "bin") if path is None else path
    for _ in range(3):  # another may take the free port just before
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        keys = "".join(f"HostKey {folder}/host_key_{kind}\n" for kind in more_host_keys)
        (folder / "config").write_text(CONFIG.format(port=port, folder=folder, tools=tools, more_keys=keys))
        if process := _running(sshd, folder, port):
            return Server(folder, port, process)
    raise AssertionError((folder / "log").read_text())


def _running(sshd: str, folder: Path, port: int) -> subprocess.Popen[bytes] | None:
    """sshd, once it answers; None when it ended."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    until = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0 and process.poll() is None:
                return process
        time.sleep(0.02)
    process.kill()
    process.wait(10)
    return None
