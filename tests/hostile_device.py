"""A device that attacks whoever measures on it: a real ssh server with the right host key that does what it is told, until it lies.

Each command of edgekit/remote/ is known by its script. One that a test has no lie for is run by a real shell, so that every lie is told
at its own place in an otherwise honest conversation.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import re
import shlex
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import ssh_server

from edgekit import __version__
from edgekit.fleet import Device
from edgekit.remote import job, store, tree
from edgekit.remote.probe import SCRIPT as PROBE

SCRIPTS = {
    PROBE: "probe", tree.FETCH: "files", tree.RUN: "command", store.HASHES: "hashes", store.BEGIN: "begin", store.APPEND: "append",
    store.END: "end", job.LEASE: "lease", job.STATE: "state", job.FOLLOW: "follow", job.STOP: "stop", job.COLLECT: "collect", job.TIDY: "tidy",
}  # fmt: skip
# What stands for edgekit's Python there: it prints what lies in the device's home.
PYTHON = f"""#!/bin/sh
case "$1" in -c) echo {__version__}; exit 0;; esac
cat "$HOME/$3.json"
exit "$(cat "$HOME/$3.code" 2>/dev/null || echo 0)"
"""
# And for the C++ runner.
RUNNER = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in --golden) cat "$HOME/golden.json"; exit 0;; --samples) samples=$2;; esac
  shift
done
cat "$HOME/samples.safetensors" >"$samples"
cat "$HOME/run.json"
"""


@dataclass
class Told:
    """A command that came: what it is, its mark, its words, and the process to answer with."""

    kind: str
    mark: str
    script: str
    words: list[str]
    process: Any

    async def say(self, text: bytes | str, marked: bool = True) -> None:
        """Print something, behind the mark that a script begins with."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        self.process.stdout.write((f"{self.mark}\n".encode() if marked else b"") + raw)
        await self.process.stdout.drain()

    async def end(self, code: int = 0) -> None:
        self.process.exit(code)
        await self.process.wait_closed()


Lie = Callable[[Told], Awaitable[None]]


class Hostile:
    """The device. `lies`: kind of command -> what is done instead; `seen`: kinds in the order that they came."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(parents=True)
        self.tools = ssh_server.tools_only(folder / "bin")
        (self.tools / "python3").write_text(PYTHON)
        (self.tools / "python3").chmod(0o755)
        self.lies: dict[str, Lie] = {}
        self.seen: list[str] = []
        self.banner = ""
        self.limit_s = 20.0
        self.settings: dict[str, Any] = {}
        self.connections: list[Any] = []
        self.agents: list[Any] = []
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self.fingerprint = self._key.get_fingerprint()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self, **settings: Any) -> Hostile:
        self.settings = settings
        self._thread.start()
        self._call(self._listen(self._key))
        return self

    def stop(self) -> None:
        self._call(self._close())
        self._call(self._settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def new_key(self) -> None:
        """Be another machine from now on, at the same address."""
        await self._close()
        await self._listen(asyncssh.generate_private_key("ssh-ed25519"))

    def device(self, **given: object) -> Device:
        usual = {"name": "board", "ssh": f"ssh://me@127.0.0.1:{self.port}", "host_key": self.fingerprint, "runner": "python", "limit_s": self.limit_s}
        return Device(**{**usual, **given})

    def _call(self, work: Any) -> Any:
        future: concurrent.futures.Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    async def _listen(self, key: Any) -> None:
        hostile = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                self.conn = conn
                hostile.connections.append(conn)

            def begin_auth(self, username: str) -> bool:
                if hostile.banner:
                    self.conn.send_auth_banner(hostile.banner)
                return False

        self._listener = await asyncssh.listen(
            "127.0.0.1", self.port, server_factory=Server, server_host_keys=[key], process_factory=self._serve, encoding=None, **self.settings
        )
        self.port = self._listener.get_port()

    async def _close(self) -> None:
        self._listener.close()
        for conn in self.connections:
            conn.abort()
        self.connections.clear()
        await self._listener.wait_closed()

    async def _settled(self) -> None:
        """End all that goes on here."""
        for _ in range(20):  # what ends may begin something
            others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=2)
            await asyncio.sleep(0.01)

    async def _serve(self, process: Any) -> None:
        words = shlex.split(process.command)
        begin = words.index("-c") + 1
        mark, _, script = words[begin].removeprefix("echo ").partition("\n")
        told = Told(SCRIPTS.get(script, "?"), mark, script, words[begin + 2 :], process)
        self.seen.append(told.kind)
        self.agents.append(process.channel.get_agent_path())
        with suppress(asyncssh.Error, OSError, asyncio.CancelledError):
            await self.lies.get(told.kind, self.honest)(told)

    async def honest(self, told: Told) -> None:
        """Do it, by a real shell."""
        process = told.process
        environment = {"HOME": str(self.home), "PATH": str(self.tools)}
        child = await asyncio.create_subprocess_exec(
            *shlex.split(process.command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment, start_new_session=True,
        )  # fmt: skip
        assert child.stdin is not None

        async def feed() -> None:
            with suppress(asyncssh.Error, OSError):
                while data := await process.stdin.read(1 << 16):
                    child.stdin.write(data)
                    await child.stdin.drain()
            child.stdin.close()

        async def hand_on(source: Any, to: Any) -> None:
            while data := await source.read(1 << 16):
                to.write(data)
                await to.drain()

        feeding = asyncio.ensure_future(feed())
        try:
            await asyncio.gather(hand_on(child.stdout, process.stdout), hand_on(child.stderr, process.stderr))
            await told.end(await child.wait())
        finally:
            feeding.cancel()
            with suppress(ProcessLookupError):
                os.killpg(child.pid, 9)
            # What was not read yet would keep a pipe open after the loop is closed; asyncio has no public way to let go of it.
            child._transport.close()  # type: ignore[attr-defined]


def children(but: Path) -> set[str]:
    """Processes that this one has begun and that have not ended; but those of a device in this folder."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended meanwhile
            for pid in (task / "children").read_text().split():
                if str(but).encode() not in Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(pid)
    return found


def reset_peak() -> None:
    """From here on, peak_mb is what was held at most."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most memory that this process has held since reset_peak."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000  # type: ignore[index]
