"""The process in which strangers' models are run: `python -m edgekit.untrusted_child MEMORY CPU_S FILE_BYTES`, over its own pipes."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

NEW_USER, NEW_NET = 0x10000000, 0x40000000  # of unshare(2)
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
HEAD = 8  # bytes of a length


def fence(memory: int, cpu_s: int, file_bytes: int) -> bool:
    """Limit this process, before it reads a byte of anybody's; True when it has no network either."""
    limits = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_CORE, 0),
              (resource.RLIMIT_NOFILE, 256))  # fmt: skip
    for what, most in limits:
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard),) * 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full file is an error like any other
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # ends with the process that started it, however that ends
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.unshare(NEW_NET) == 0 or libc.unshare(NEW_USER | NEW_NET) == 0)
    except (OSError, AttributeError):
        return False


def read_frame(file: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """(what is asked, bytes with it), None at the end."""
    head = file.read(2 * HEAD)
    if len(head) < 2 * HEAD:
        return None
    sizes = int.from_bytes(head[:HEAD], "little"), int.from_bytes(head[HEAD:], "little")
    return json.loads(file.read(sizes[0])), file.read(sizes[1])


def frame(said: dict[str, Any], payload: bytes = b"") -> bytes:
    """What read_frame reads."""
    told = json.dumps(said).encode()
    return len(told).to_bytes(HEAD, "little") + len(payload).to_bytes(HEAD, "little") + told + payload


def answer(engine: Any, asked: dict[str, Any], payload: bytes) -> bytes:
    """Do what was asked; a refusal of the library is an answer."""
    from safetensors.numpy import load, save

    from edgekit.model_engine import Refused

    try:
        if asked["do"] == "check":
            return frame({"refused": engine.check(payload)})
        if asked["do"] == "nir":
            return frame({"refused": None}, _network_of(payload))
        if asked["do"] == "fold":
            return frame({"refused": None}, engine.fold(payload))
        if asked["do"] == "open":
            return frame({"refused": engine.open(payload, asked["fast"])})
        given = load(payload)
        found = engine.run({name: given[str(i)] for i, name in enumerate(asked["names"])})
        return frame({"refused": None, "names": list(found)}, save({str(i): v for i, v in enumerate(found.values())}))
    except Refused as why:
        return frame({"refused": str(why)})
    except MemoryError:
        return frame({"refused": "memory"})


def _network_of(raw: bytes) -> bytes:
    """A NIR file, which is HDF5, as the safetensors of its network."""
    from pathlib import Path

    from edgekit import nir_file, spiking_net
    from edgekit.errors import EdgekitError
    from edgekit.model_engine import Refused

    given, made = Path("given.nir"), Path("made.safetensors")  # in the folder that goes with this process
    given.write_bytes(raw)
    try:
        spiking_net.save(nir_file.read(given), made)
    except EdgekitError as why:
        raise Refused(str(why).removeprefix(f"{given}: ")) from None
    return made.read_bytes()


def main() -> None:
    """Answer until the other side is gone."""
    asking, answering = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what native libraries print is no answer
    alone = fence(*map(int, sys.argv[1:4]))

    from edgekit.limits import THREADS
    from edgekit.model_engine import Engine

    engine = Engine(min(THREADS, os.cpu_count() or 1))
    answering.write(frame({"no_network": alone}))
    answering.flush()
    while (asked := read_frame(asking)) is not None:
        answering.write(answer(engine, *asked))
        answering.flush()


if __name__ == "__main__":
    main()
