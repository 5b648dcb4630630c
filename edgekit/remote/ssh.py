"""One connection to a device by ssh: keys verified and never added, commands quoted in one place and under a time limit."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, Missing
from edgekit.fleet import Address, Device
from edgekit.remote.host_keys import HostKeyRefused, HostKeys

if TYPE_CHECKING:
    import asyncssh

CONNECT_S, LOGIN_S = 15, 30
KEEPALIVE_S, KEEPALIVES = 10, 3  # a connection on which nothing comes back for 30 s is lost
COMMAND_S = 60.0
GRACE_S = 15.0  # for the device to say that it has stopped a command, before this side gives up
CHUNK = 1 << 18  # bytes


class Unreachable(EdgekitError):
    """No connection could be made, or no login."""


class Dropped(EdgekitError):
    """The connection was lost while it was used."""


class TimedOut(EdgekitError):
    """A command on the device took longer than it may."""


class Busy(EdgekitError):
    """Somebody else measures on the device."""


def quoted(words: Sequence[str]) -> str:
    """A command line that a POSIX shell reads back as exactly these words. EdgekitError for a NUL, which no word can hold."""
    if any("\0" in word for word in words):
        raise EdgekitError(f"no command can hold a NUL character, found one in {next(w for w in words if chr(0) in w)!r}")
    return " ".join(map(shlex.quote, words))


@dataclass(frozen=True)
class Answer:
    """What a command on the device said."""

    code: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        """Its output as text."""
        return self.out.decode(errors="replace")


class Shell:
    """Runs POSIX shell scripts on the device. What a script works on is handed to it as "$1", "$2"..., never written into it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, device: Device) -> None:
        self._connection, self.device = connection, device
        self._mark = secrets.token_hex(16)  # what comes before it was printed by somebody's login script

    async def run(self, script: str, *words: str, limit_s: float = COMMAND_S, bounded: bool = True) -> Answer:
        """Run a script to its end. TimedOut after limit_s (the device itself stops it, with all of its process group),
        Dropped when the connection is lost. bounded=False: where it is not known yet whether there is a `timeout`."""
        import asyncssh

        bound_s = limit_s if bounded else 0.0
        with self._errors():
            work = self._connection.run(self._line(script, words, bound_s), stdin=asyncssh.DEVNULL, encoding=None)
            done = await asyncio.wait_for(work, limit_s + GRACE_S)
        return self._answer(done, bound_s)

    async def send(self, script: str, *words: str, data: Iterator[bytes], limit_s: float) -> Answer:
        """Run a script with `data` on its standard input."""
        with self._errors():
            process = await self._connection.create_process(self._line(script, words, limit_s), encoding=None)
            try:
                for piece in data:
                    process.stdin.write(piece)
                    await process.stdin.drain()
                process.stdin.write_eof()
            except BrokenPipeError:
                pass  # the script ended early; its exit code says why
            done = await asyncio.wait_for(process.wait(), limit_s + GRACE_S)
        return self._answer(done, limit_s)

    @asynccontextmanager
    async def talk(self, script: str, *words: str, limit_s: float) -> AsyncIterator[Talk]:
        """Run a script that is spoken with, line by line, until the block ends; then its standard input is closed."""
        with self._errors():
            process = await self._connection.create_process(self._line(script, words, limit_s), encoding=None)
        try:
            talk = Talk(process, self._errors)
            while (line := await talk.line()) is not None and not line.endswith(self._mark):
                pass
            yield talk
        finally:
            process.close()

    def _line(self, script: str, words: Sequence[str], limit_s: float) -> str:
        bound = ["timeout", f"{limit_s:.0f}"] if limit_s else []
        return quoted([*bound, "sh", "-c", f"echo {self._mark}\n{script}", "edgekit", *words])

    def _answer(self, done: asyncssh.SSHCompletedProcess, limit_s: float) -> Answer:
        code, ended_by, error = done.exit_status, done.exit_signal, done.stderr or b""
        if code is None and ended_by is None:
            raise Dropped(f"the connection to {self.device.name} was lost")
        if limit_s and (code == 124 or (ended_by and ended_by[0] == "TERM")):  # coreutils' timeout, and BusyBox's
            raise TimedOut(f"a command on {self.device.name} took more than {limit_s:.0f} s and was stopped there")
        assert isinstance(error, bytes) and isinstance(done.stdout, bytes)
        before, mark, out = done.stdout.partition(f"{self._mark}\n".encode())
        told = error.decode(errors="replace").strip() or ("" if mark else before.decode(errors="replace").strip())
        return Answer(-1 if code is None else code, out, told)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever a lost connection looks like becomes Dropped."""
        import asyncssh

        name = self.device.name
        try:
            yield
        except TimeoutError:
            raise Dropped(f"{name} did not answer in time: the connection is taken for lost") from None
        except (asyncssh.Error, OSError) as error:
            raise Dropped(f"the connection to {name} was lost: {error}") from None


class Talk:
    """The two ends of a running script."""

    def __init__(self, process: Any, errors: Callable[[], Any]) -> None:
        self._process, self._errors = process, errors

    async def line(self) -> str | None:
        """The next line that it prints; None at its end. Dropped when the connection is lost."""
        with self._errors():
            text: bytes = await self._process.stdout.readline()
            if not text:
                await self._process.wait_closed()
        if not text and self._process.exit_status is None and self._process.exit_signal is None:
            raise Dropped("the connection was lost")
        return text.decode(errors="replace").rstrip("\n") if text else None

    def say(self, line: str) -> None:
        """Give it a line."""
        with self._errors():
            self._process.stdin.write(line.encode() + b"\n")

    @property
    def code(self) -> int | None:
        """Its exit code, after line() gave None; None where a signal ended it."""
        found: int | None = self._process.exit_status
        return found


@asynccontextmanager
async def connect(device: Device) -> AsyncIterator[Shell]:
    """A shell on the device. Unreachable, or HostKeyRefused with the fingerprint found and what to do.

    ~/.ssh/config, the agent and known_hosts are the user's own and are only read.
    """
    try:
        import asyncssh
    except ImportError:
        raise Missing("devices by ssh need asyncssh: pip install 'edgekit[fleet]'") from None
    address = device.address
    assert address is not None, "a device without an address is this machine"
    if device.key and not Path(device.key).expanduser().is_file():
        raise EdgekitError(f"{device.name}: there is no key file {device.key}; make one with ssh-keygen, or leave 'key' out")
    given: dict[str, Any] = {"host": address.host, "config": (), "keepalive_interval": KEEPALIVE_S, "keepalive_count_max": KEEPALIVES,
                             "connect_timeout": CONNECT_S, "login_timeout": LOGIN_S}  # fmt: skip
    given |= {"port": address.port} if address.port else {}
    given |= {"username": address.user} if address.user else {}
    given |= {"client_keys": [str(Path(device.key).expanduser())]} if device.key else {}
    who = address.user
    try:
        options = await asyncssh.SSHClientConnectionOptions.construct(**given)
        who = options.username
        connection = await _connected(device, address, options)
    except asyncssh.PermissionDenied:
        raise Unreachable(
            f"{device.shown} lets nobody in as {who} with the keys that were tried; "
            f"put yours there: ssh-copy-id{_port(address)} {who}@{address.host}"
        ) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        which = device.key or "in ~/.ssh"
        raise EdgekitError(f"the key {which} cannot be used: {error}; one with a passphrase goes through the agent: ssh-add") from None
    except (asyncssh.Error, OSError, ValueError) as error:
        raise Unreachable(f"no connection to {device.shown}: {_said(error)}") from None
    try:
        yield Shell(connection, device)
    finally:
        connection.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.wait_closed(), GRACE_S)


async def _connected(device: Device, address: Address, base: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHClientConnection:
    import asyncssh

    keys = HostKeys(device, base.known_hosts)

    async def attempt(**settings: Any) -> asyncssh.SSHClientConnection:
        options = await asyncssh.SSHClientConnectionOptions.construct(base, client_factory=keys.client, **settings)
        return await asyncssh.connect(address.host, options=options)

    refused = (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError)
    try:
        return await attempt(known_hosts=keys.trusted)
    except refused:
        if not keys.found and not keys.expected:
            raise  # it is not about keys
    # A server shows the one key that both sides like best: the pinned one may be of another kind, and where it has none of
    # the kinds that known_hosts holds, the connection ends before it shows any.
    for kinds in keys.other_kinds():
        with suppress(*refused):
            return await attempt(known_hosts=keys.nothing, server_host_key_algs=kinds)
    raise HostKeyRefused(keys.refusal())


def _port(address: Address) -> str:
    return f" -p {address.port}" if address.port else ""


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing answered within {CONNECT_S} s"
    number = getattr(error, "errno", None)  # asyncio's own text names the call instead of the reason
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
