"""A process as the holder of a lease: named so that a reused id, another boot or another container is not taken for it."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process: where it runs, its id, and when it began, so that a reused id is not taken for it."""

    machine: str
    pid: int
    began: str

    @staticmethod
    def me() -> Owner:
        """This process."""
        return Owner(_machine(), os.getpid(), _began(os.getpid()))

    @staticmethod
    def read(text: str) -> Owner:
        """What str() wrote."""
        machine, pid, began = text.split(" ")
        return Owner(machine, int(pid), began)

    def __str__(self) -> str:
        return f"{self.machine} {self.pid} {self.began}"

    def alive(self, until: float) -> bool:
        """Of this machine: whether the process is there. Of another: whether its heartbeat is not yet due."""
        if self.machine != _machine():
            return time.time() < until
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _began(self.pid) == self.began


def _machine() -> str:
    """This boot of this machine, and the namespace in which its process ids mean something (containers share a boot)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname().replace(" ", "-") or "here"


def _began(pid: int) -> str:
    """Clock ticks since boot at which a process began; "-" where the kernel does not say, "" when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return "" if Path("/proc/self").exists() else "-"
    except OSError:
        return "-"
    fields = text.rpartition(")")[2].split()  # the name may hold spaces and brackets
    return "" if fields[0] in "ZX" else fields[19]  # a zombie works no more
