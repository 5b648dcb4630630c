"""The near side of the process that runs strangers' models: asks, waits no longer than the limit, and says how it died."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from edgekit import files, limits, own_process
from edgekit.model_engine import Refused
from edgekit.plain_text import one_line, shown
from edgekit.untrusted_child import HEAD, frame

Arrays = Mapping[str, np.ndarray]
PIECE = 1 << 20
NONSENSE = "made the process that ran it answer with nonsense"
NO_MEMORY = re.compile(r"bad_alloc|ailed to allocate|bfc_arena|Available memory|annot allocate")  # as ONNX Runtime says it
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}  # each thread and arena reserves address space
DEATHS = {
    signal.SIGFPE: "divides whole numbers in a way that ends the process (SIGFPE), such as the smallest one by -1",
    signal.SIGSEGV: "crashes the engine (SIGSEGV): memory is read that is not its own, or its stack is full",
    signal.SIGBUS: "crashes the engine (SIGBUS)",
    signal.SIGABRT: "makes the engine give up (SIGABRT)",
    signal.SIGILL: "crashes the engine (SIGILL)",
    signal.SIGKILL: "was stopped by the system (SIGKILL), which does so when memory runs out",
    signal.SIGXCPU: "used up its processor time (SIGXCPU)",
    signal.SIGSYS: "asks the system for something that it may not (SIGSYS)",
}


class Died(Refused):
    """The process ended, or had to be: other inputs are not tried in it."""


class Ended(Died):
    """It did not come to an end in its time."""


class Child:
    """An Engine in a process of its own, with limits on memory, time, files and network. Begun by the first question."""

    def __init__(self, model_bytes: int) -> None:
        self._memory = limits.memory_bytes(model_bytes)
        self._files = limits.FILE_BYTES + 2 * model_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = contextlib.ExitStack()
        self._errors: IO[bytes] | None = None
        self._wasted_s = 0.0  # by questions that were refused: golden inputs of other sizes are tried, but not for ever
        self.no_network: bool | None = None  # once it has begun

    def check(self, model: bytes) -> None:
        """As Engine.check; Died when the process did."""
        self._ask({"do": "check"}, model)

    def fold(self, model: bytes) -> bytes:
        """As Engine.fold."""
        return self._ask({"do": "fold"}, model)[1]

    def open(self, model: bytes, fast: bool) -> None:
        """As Engine.open."""
        self._ask({"do": "open", "fast": fast}, model)

    def network_of(self, nir: bytes) -> bytes:
        """The safetensors (spiking_net.save) of the network in a NIR file."""
        return self._ask({"do": "nir"}, nir)[1]

    def run(self, values: Arrays) -> dict[str, np.ndarray]:
        """As Engine.run."""
        from safetensors import SafetensorError
        from safetensors.numpy import load, save

        given = save({str(i): np.require(v, requirements="C") for i, v in enumerate(values.values())})
        told, payload = self._ask({"do": "run", "names": list(values)}, given)
        try:
            found = load(payload)
            return {str(name): found[str(i)] for i, name in enumerate(told["names"])}
        except (SafetensorError, KeyError, TypeError, ValueError):
            self.close()
            raise Died(NONSENSE) from None

    def close(self) -> None:
        """End the process and all that it began; nothing of it stays."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own, so this is nobody else's
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        if self._errors is not None:
            self._errors.close()
        self._errors = None
        self._scratch.close()

    def _ask(self, asked: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            if self._process is None:
                self._begin()
            begun = time.monotonic()
            until = begun + limits.seconds() - self._wasted_s
            told, back = self._exchange(frame(asked, payload), until, self._files if asked["do"] == "fold" else limits.MOST_ANSWER_BYTES)
        except BaseException:
            self.close()
            raise
        if told.get("refused") is None:
            return told, back
        self._wasted_s += time.monotonic() - begun
        said = one_line(told["refused"], 400)
        raise Refused(self._no_memory() if said == "memory" else f"{self._no_memory()}: {said}" if NO_MEMORY.search(said) else said)

    def _begin(self) -> None:
        folder = self._scratch.enter_context(files.scratch("untrusted"))
        self._errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close
        cpu_s = int(limits.seconds() * limits.CPU_SECONDS_EACH) + 60
        command = [sys.executable, "-P", "-m", "edgekit.untrusted_child", str(self._memory), str(cpu_s), str(self._files)]
        environment = {**own_process.environment(), **ALONE, "TMPDIR": str(folder)}
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=folder, env=environment,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self.no_network = bool(self._exchange(b"", time.monotonic() + limits.START_SECONDS)[0].get("no_network"))

    def _exchange(self, request: bytes, until: float, most: int = PIECE) -> tuple[dict[str, Any], bytes]:
        """Write all of the request while reading the answer, so that neither side waits for the other."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        rest, got, whole = memoryview(request), bytearray(), 2 * HEAD
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            if rest:
                ready.register(process.stdin, selectors.EVENT_WRITE)
            while len(got) < whole:
                left = until - time.monotonic()
                if left <= 0:
                    raise Ended(f"does not come to an end within {limits.seconds():g} s (EDGEKIT_UNTRUSTED_SECONDS says another limit)")
                for key, _ in ready.select(left):
                    if key.fileobj is process.stdin:
                        try:
                            rest = rest[os.write(process.stdin.fileno(), rest[:PIECE]) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            rest = rest[len(rest) :]
                        if not rest:
                            ready.unregister(process.stdin)
                        continue
                    piece = os.read(process.stdout.fileno(), PIECE)
                    if not piece:
                        raise self._death()
                    got += piece
                    if whole == 2 * HEAD and len(got) >= whole:
                        whole += sum(_sizes(got))
                        if whole > most:
                            raise Died(f"answers with {whole / 1e9:.2f} GB, more than the {most / 1e9:.2f} GB that are taken")
        told_bytes = _sizes(got)[0]
        try:
            told = json.loads(bytes(got[2 * HEAD : 2 * HEAD + told_bytes]))
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise Died(NONSENSE)
        return told, bytes(memoryview(got)[2 * HEAD + told_bytes : whole])

    def _death(self) -> Died:
        assert self._process is not None
        code = self._process.wait()
        if code < 0:
            number = signal.Signals(-code)
            return Died(DEATHS.get(number, f"ends the engine by {number.name}"))
        assert self._errors is not None
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4000))
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        if said and "MemoryError" in said[-1]:
            return Died(self._no_memory())
        return Died(f"ends the engine with code {code}: {shown(said[-1], 200) if said else 'no reason given'}")

    def _no_memory(self) -> str:
        return f"needs more than the {self._memory / 1e9:.1f} GB of memory that a stranger's model gets (EDGEKIT_UNTRUSTED_MB says another limit)"


def _sizes(got: bytearray) -> tuple[int, int]:
    return int.from_bytes(got[:HEAD], "little"), int.from_bytes(got[HEAD : 2 * HEAD], "little")
