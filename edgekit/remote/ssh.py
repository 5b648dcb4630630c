"""One connection to a device by ssh: keys verified and never added, commands quoted in one place and under a time limit."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import limits
from edgekit.errors import EdgekitError, Missing
from edgekit.fleet import Address, Device
from edgekit.plain_text import shown
from edgekit.remote.host_keys import HostKeyRefused, HostKeys

if TYPE_CHECKING:
    import asyncssh

CONNECT_S, LOGIN_S = 15, 30
KEEPALIVE_S, KEEPALIVES = 10, 3  # a connection on which nothing comes back for 30 s is lost
COMMAND_S = 60.0
CLOSE_S = 5.0  # for the device to take its leave
GRACE_S = 15.0  # for the device to say that it has stopped a command, before this side gives up
CHUNK = 1 << 18  # bytes
MOST_TOLD = 2_000  # characters of what a script said that errors are made of
LOOK = "look at what runs there before you measure on it again"

# Whatever ~/.ssh/config says: the device gets no way back to the user's agent, screen or tickets, and nothing is unpacked of it, which
# could grow a thousand times.
NOTHING_MORE: dict[str, Any] = {
    "agent_forwarding": False, "x11_forwarding": False, "gss_delegate_creds": False, "compression_algs": ["none"], "request_pty": False,
}  # fmt: skip


class Unreachable(EdgekitError):
    """No connection could be made, or no login."""


class Dropped(EdgekitError):
    """The connection was lost while it was used."""


class TimedOut(EdgekitError):
    """A command on the device took longer than it may."""


class Silent(Dropped):
    """The connection stands and the device does not answer. Tried again once."""


class Busy(EdgekitError):
    """Somebody else measures on the device."""


class Misbehaved(EdgekitError):
    """The device answered what no device does that runs what it was told: too much, too long, or no sense. Never retried."""


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

    async def run(
        self, script: str, *words: str, limit_s: float = COMMAND_S, bounded: bool = True, most_bytes: int = limits.DEVICE_ANSWER_BYTES
    ) -> Answer:  # fmt: skip
        """Run a script to its end. TimedOut after limit_s (the device itself stops it, with all of its process group), Silent when it
        does not, Dropped when the connection is lost, Misbehaved when it prints more than most_bytes. bounded=False: where it is
        not known yet whether there is a `timeout`."""
        return await self._done(script, words, limit_s, limit_s if bounded else 0.0, most_bytes)

    async def send(self, script: str, *words: str, data: Iterator[bytes], limit_s: float) -> Answer:
        """Run a script with `data` on its standard input; errors as of run."""
        return await self._done(script, words, limit_s, limit_s, limits.DEVICE_ANSWER_BYTES, data)

    async def _done(
        self, script: str, words: Sequence[str], limit_s: float, bound_s: float, most_bytes: int, data: Iterable[bytes] = ()
    ) -> Answer:  # fmt: skip
        """What a script said, from its start to its end."""
        with self._errors():
            async with asyncio.timeout(limit_s + GRACE_S):
                process = await self._connection.create_process(self._line(script, words, bound_s), encoding=None)
                listens = asyncio.ensure_future(self._heard(process, most_bytes))
                listens.add_done_callback(lambda t: t.cancelled() or t.exception())  # it may fail beside what fails here
                try:
                    with suppress(BrokenPipeError):  # the script ended early; its exit code says why
                        for piece in data:
                            process.stdin.write(piece)
                            await process.stdin.drain()
                        process.stdin.write_eof()
                    out, error = await listens
                    await process.wait_closed()
                finally:
                    listens.cancel()
                    process.close()
        return self._answer(process, out, error, bound_s)

    async def _heard(self, process: Any, most_bytes: int) -> tuple[bytes, bytes]:
        """All that it prints to stdout and stderr. Both at once: what is not read of one holds up the other."""

        async def all_of(stream: Any, what: str) -> bytes:
            pieces, size = [], 0
            while piece := await stream.read(CHUNK):
                size += len(piece)
                if size > most_bytes:
                    process.close()  # which also ends what is still written to it
                    raise Misbehaved(f"{self.device.name} prints more than {most_bytes:,} bytes of {what} where a device has little to say; {LOOK}")
                pieces.append(piece)
            return b"".join(pieces)

        reads = [asyncio.ensure_future(all_of(s, w)) for s, w in ((process.stdout, "output"), (process.stderr, "errors"))]
        try:
            out, error = await asyncio.gather(*reads)
        finally:
            for read in reads:
                read.cancel()
        return out, error

    @asynccontextmanager
    async def talk(self, script: str, *words: str, limit_s: float) -> AsyncIterator[Talk]:
        """Run a script that is spoken with, line by line, until the block ends; then its standard input is closed."""
        import asyncssh

        with self._errors():
            async with asyncio.timeout(COMMAND_S):
                process = await self._connection.create_process(self._line(script, words, limit_s), encoding=None, stderr=asyncssh.DEVNULL)
        try:
            talk = Talk(process, self._errors, self.device.name, limit_s + GRACE_S)
            while (line := await talk.line(COMMAND_S)) is not None and not line.endswith(self._mark):
                pass
            yield talk
        finally:
            process.close()

    def _line(self, script: str, words: Sequence[str], limit_s: float) -> str:
        bound = ["timeout", f"{limit_s:.0f}"] if limit_s else []
        return quoted([*bound, "sh", "-c", f"echo {self._mark}\n{script}", "edgekit", *words])

    def _answer(self, done: Any, said: bytes, error: bytes, limit_s: float) -> Answer:
        code, ended_by = done.exit_status, done.exit_signal
        if code is None and ended_by is None:
            raise Dropped(f"the connection to {self.device.name} was lost")
        if limit_s and (code == 124 or (ended_by and ended_by[0] == "TERM")):  # coreutils' timeout, and BusyBox's
            raise TimedOut(f"a command on {self.device.name} took more than {limit_s:.0f} s and was stopped there")
        before, mark, out = said.partition(f"{self._mark}\n".encode())
        told = _tail(error) or ("" if mark else _tail(before))
        return Answer(-1 if code is None else code, out, told)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever a lost connection looks like becomes Dropped."""
        import asyncssh

        name = self.device.name
        try:
            yield
        except TimeoutError:
            raise Silent(f"{name} did not answer in time: the connection is taken for lost") from None
        except (asyncssh.Error, OSError, UnicodeError) as error:  # the last of names that are no text
            raise Dropped(f"the connection to {name} was lost: {shown(error, 300)}") from None


class Talk:
    """The two ends of a running script."""

    def __init__(self, process: Any, errors: Callable[[], Any], name: str, limit_s: float) -> None:
        self._process, self._errors, self._name = process, errors, name
        self._end, self._left = time.monotonic() + limit_s, limits.DEVICE_TALK_BYTES + int(16 * limit_s)

    async def line(self, limit_s: float) -> str | None:
        """The next line that it prints; None at its end. Dropped when the connection is lost, Silent when it takes longer than
        limit_s or all lines together longer than they may, Misbehaved when they are too many or too long."""
        with self._errors():
            async with asyncio.timeout(min(limit_s, self._end - time.monotonic())):
                text: bytes = await self._process.stdout.readline()
                if not text:
                    await self._process.wait_closed()
        if not text and self._process.exit_status is None and self._process.exit_signal is None:
            raise Dropped("the connection was lost")
        self._left -= len(text)
        if len(text) > limits.DEVICE_LINE_BYTES or self._left < 0:
            what = f"a line of more than {limits.DEVICE_LINE_BYTES:,} bytes" if len(text) > limits.DEVICE_LINE_BYTES else "line after line"
            raise Misbehaved(f"{self._name} prints {what} where a device has little to say; {LOOK}")
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
                             "connect_timeout": CONNECT_S, "login_timeout": LOGIN_S, **NOTHING_MORE}  # fmt: skip
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
        try:
            await asyncio.wait_for(connection.wait_closed(), CLOSE_S)
        except TimeoutError:
            connection.abort()  # it keeps us waiting


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
    return os.strerror(number) if isinstance(number, int) and number > 0 else shown(error, 300) or type(error).__name__


def _tail(said: bytes) -> str:
    """The end of what a script said, in which the reason stands: enough for an error."""
    return said[-4 * MOST_TOLD :].decode(errors="replace").strip()[-MOST_TOLD:]
