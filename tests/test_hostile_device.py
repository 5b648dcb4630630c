"""Devices that attack whoever measures on them: each ends in one clear line, in time, with little memory, and writes nothing here."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_device import RUNNER, Hostile, Lie, Told, children, peak_mb, reset_peak
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from sweep_models import measured
from test_remote import a_product

from edgekit import cli, examine, limits, remote
from edgekit.bundle import Bundle
from edgekit.cli import _common
from edgekit.data import cache_folder
from edgekit.errors import Broken, EdgekitError
from edgekit.process_run import Request
from edgekit.remote import believe, job, ssh, store
from edgekit.remote.host_keys import HostKeyRefused
from edgekit.remote.kit import Kit
from edgekit.remote.ssh import Misbehaved
from edgekit.remote.tree import parts_of

ODD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
EVIL = "\x1b[2J\x1b]0;owned\x07\0\u202egpj.\u2066x\u2028y\r\nz[/red]</script>"
MOST_MB = 150  # that one conversation may take, with the attacker's own buffers
ONCE = Request(seconds=0.05, processes=2, energy_seconds=0)
GOOD = measured(1.0, "board").to_json()


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own ~/.ssh is read; what takes minutes takes seconds."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(cache_folder()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    monkeypatch.setattr(remote, "RECONNECT_S", (0.05, 0.05))
    for module in (ssh, job):
        monkeypatch.setattr(module, "COMMAND_S", 4.0)
    monkeypatch.setitem(ssh.Shell.run.__kwdefaults__, "limit_s", 4.0)
    monkeypatch.setattr(ssh, "GRACE_S", 0.5)
    monkeypatch.setattr(job, "FETCH_S", 4.0)
    monkeypatch.setattr(job, "LATE_S", 1.0)
    monkeypatch.setattr(store, "LEAST_S", 3.0)
    monkeypatch.setattr(limits, "DEVICE_RESULT_BYTES", 8 << 20)


@pytest.fixture
def board(tmp_path: Path, product: Bundle) -> Iterator[Hostile]:
    made = Hostile(tmp_path / "board").start()
    for left in product.evidence.glob("*board*"):
        left.unlink()
    (made.home / "verify.json").write_text('{"failures": []}')
    (made.home / "profile.json").write_text(json.dumps(GOOD))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return a_product(tmp_path_factory.mktemp("hostile") / "b")


# What a device may do instead of what it was told


def says(text: bytes | str, code: int = 0, marked: bool = True) -> Lie:
    async def lie(told: Told) -> None:
        await told.say(text, marked)
        await told.end(code)

    return lie


def endless(piece: bytes, errors: bool = False, every_s: float = 0.0) -> Lie:
    async def lie(told: Told) -> None:
        if not errors:
            await told.say(b"")
        stream = told.process.stderr if errors else told.process.stdout
        while True:
            stream.write(piece)
            await stream.drain()
            await asyncio.sleep(every_s)

    return lie


async def silence(told: Told) -> None:
    await told.say(b"")
    await asyncio.sleep(3600)


async def hang_up(told: Told) -> None:
    await told.say(b"half")
    told.process.channel.get_connection().abort()


def with_reason(text: str) -> Lie:
    async def lie(told: Told) -> None:
        told.process.channel.get_connection().disconnect(11, text)

    return lie


async def killed(told: Told) -> None:
    told.process.exit_with_signal("KILL\x1b[2J"[:4] + "\x1b", False, EVIL.replace("\0", ""), "")
    await told.process.wait_closed()


def file(name: str, content: bytes, size: int | None = None, sha256: str | None = None) -> bytes:
    """As COLLECT prints it, or a lie about it."""
    import hashlib

    return f"{name} {len(content) if size is None else size} {sha256 or hashlib.sha256(content).hexdigest()}\n".encode() + content


def collects(packed: Callable[[list[str]], bytes], of: str = "") -> Lie:
    """Files of a job; of: only where this one is asked for."""

    async def lie(told: Told) -> None:
        if of and of not in told.words:
            await BOARD[0].honest(told)
        else:
            await told.say(packed(told.words[1:]))
            await told.end()

    return lie


def facts(**other: str) -> bytes:
    """What SCRIPT prints of an honest device, but for some."""
    told = {"home": "/home/me", "work": "/tmp", "system": "Linux", "architecture": "x86_64", "kernel": "6", "glibc": "glibc 2.31",
            "now": str(int(time.time())), "lacking": "", "disk": "x 1 1 99999999 1% /", "python": "", "end": "1", **other}  # fmt: skip
    return "".join(f"{k}={v}\n" for k, v in told.items() if v is not None).encode("utf-8", "surrogatepass")


def tells(texts: dict[str, str]) -> Lie:
    """Small files of a device that are not what they are."""

    async def lie(told: Told) -> None:
        mark = told.words[0]
        await told.say("".join(f"{mark} {path}\n{text}\n{mark} 0\n" for path, text in texts.items()))
        await told.end()

    return lie


async def unclosed(told: Told) -> None:
    """Beginnings without an end, which a careless pattern looks for again and again."""
    await told.say("".join(f"{told.words[0]} /proc/cpuinfo\nx\n" for _ in range(300_000)))
    await told.end()


async def crowd(told: Told) -> None:
    await told.say("".join(f"{told.words[0]} /sys/devices/system/cpu/cpu{i}/topology/core_id\n1\n{told.words[0]} 0\n" for i in range(100_000)))
    await told.end()


async def another_key(told: Told) -> None:
    await BOARD[0].new_key()


BOARD: list[Hostile] = []
COLLECTED = "plan.json"
DEEP = "[" * 100_000
LIES: dict[str, tuple[str, Lie, str]] = {
    "endless output of a probe": ("probe", endless(b"x" * 65536), "prints more than 4,194,304 bytes of output"),
    "endless errors of a probe": ("probe", endless(b"x" * 65536, errors=True), "prints more than 4,194,304 bytes of errors"),
    "endless small files": ("files", endless(b"x" * 65536), "prints more than 16,777,216 bytes of output"),
    "endless hashes": ("hashes", endless(b"x\n" * 9999), "prints more than 4,194,304 bytes"),
    "endless output while it is sent to": ("append", endless(b"x" * 65536), "prints more than 4,194,304 bytes"),
    "endless result": ("collect", endless(b"x" * 65536), "prints more than [0-9,]+ bytes of output"),
    "a line without an end": ("lease", endless(b"x" * 65536), "a line of more than 65,536 bytes"),
    "lines without an end": ("lease", endless(b"waiting 1\n" * 999), "board prints line after line"),
    "progress without an end": ("follow", endless(f"1 2 {EVIL.replace(chr(10), '')}\n".encode() * 99), "board prints line after line"),
    "progress in one line": ("follow", endless(b"1 2 x" * 9999), "a line of more than 65,536 bytes"),
    "a job without an end": ("follow", silence, "was to stop the job after 3 s and still works on it"),
    "a byte a second": ("probe", endless(b"x", every_s=0.9), "did not answer in time"),
    "a byte a second of a result": ("collect", endless(b"x", every_s=0.9), "did not answer in time"),
    "a lease that is never said": ("lease", silence, "did not answer in time"),
    "nobody takes what is sent": ("append", silence, "took more than|did not answer in time|arrives damaged"),
    "no sense before anything": ("probe", says(EVIL, marked=False), "runs no POSIX shell commands"),
    "a system with a name that clears the screen": ("probe", says(facts(system=EVIL.replace("\n", ""))), "board runs "),
    "a folder with a line end": ("probe", says(facts(work="rel/../x")), "told neither the time and a folder"),
    "a clock of letters": ("probe", says(facts(now="١٢")), "told neither the time"),
    "half of the facts": ("probe", says("end=1\nsystem=Linux\n"), "told neither home nor architecture"),
    "tools of other names": ("probe", says(facts(lacking=EVIL.replace("\n", "").replace("\r", "") * 999)), "has no usable"),
    "another edgekit with a name": ("probe", says(facts(python=EVIL.replace("\n", ""))), "has edgekit .*, not "),
    "100,000 cores": ("files", crowd, "more than 20,000 small files"),
    "rails in the thousands": ("files", tells({f"/sys/class/hwmon/hwmon{i}/name": "ina3221" for i in range(9_000)}), "raises 9,[0-9]* more questions"),
    "a power mode of 5,000 digits": ("files", tells({"/var/lib/nvpmodel/status": "pmode:" + "9" * 5000}), "makes no sense"),
    "hashes below nothing": ("hashes", says("- -5\n" * 9), "cannot hash the files"),
    "hashes of letters": ("hashes", says(EVIL), "cannot hash the files"),
    "files that arrive as others": ("hashes", says(f"{'0' * 64} 5\n"), "cannot hash the files|arrives damaged"),
    "what cannot be written": ("begin", says(EVIL, 1), "cannot write to"),
    "a job that starts otherwise": ("lease", says(f"leased\n{EVIL}\n"), "did not start the job: it said|lost"),
    "a lease in no words": ("lease", says(f"{EVIL}\n" * 50), "lock of board was lost"),
    "a state in no words": ("state", says(EVIL), "was asked how a job is and said"),
    "a state of large numbers": ("state", says(f"ended {'9' * 5000} 1 1 1"), "was asked how a job is and said"),
    "a state of negative numbers": ("state", says("ended 0 -1 1 1"), "was asked how a job is and said"),
    "a state that never is": ("state", says("ended 0 1 2 3"), "the result on board is gone|not JSON"),
    "more bytes than it says": ("collect", collects(lambda n: file(n[0], b"{}", 1), COLLECTED), "is not what the device sent"),
    "fewer bytes than it says": ("collect", collects(lambda n: file(n[0], b"{}", 999), COLLECTED), "is not what the device sent"),
    "a file below nothing": ("collect", collects(lambda n: file(n[0], b"{}", -2), COLLECTED), "was asked for the files of a job and sent"),
    "a file of 10^14 bytes": ("collect", collects(lambda n: file(n[0], b"{}", 10**14), COLLECTED), "is not what the device sent"),
    "a file of 5,000 digits": ("collect", collects(lambda n: f"{n[0]} {'9' * 5000} {'0' * 64}\n".encode(), COLLECTED), "was asked for the files"),
    "another hash": ("collect", collects(lambda n: file(n[0], b"{}", sha256="0" * 64), COLLECTED), "is not what the device sent"),
    "a file above": ("collect", collects(lambda n: file("../../evil", b"x"), COLLECTED), "was asked for the files of a job and sent"),
    "a file elsewhere": ("collect", collects(lambda n: file("/tmp/evil", b"x"), COLLECTED), "was asked for the files of a job and sent"),
    "a file that nobody asked for": ("collect", collects(lambda n: file("evil", b"x"), COLLECTED), "was asked for the files of a job and sent"),
    "a file twice": ("collect", collects(lambda n: 2 * file(n[0], b"{}"), COLLECTED), "was asked for the files of a job and sent"),
    "a file with a name": ("collect", collects(lambda n: file(EVIL, b"x"), COLLECTED), "was asked for the files of a job and sent"),
    "no file": ("collect", says(b""), "not JSON"),
    "a plan 100,000 deep": ("collect", collects(lambda n: file(n[0], DEEP.encode()), COLLECTED), "nested too deep"),
    "a plan that is a list": ("collect", collects(lambda n: file(n[0], b"[]"), COLLECTED), "is none that edgekit wrote"),
    "a plan of files above": ("collect", collects(lambda n: file(n[0], b'{"results": ["../../../etc/passwd"]}'), COLLECTED), "is none that edgekit wrote"),
    "a plan of options": ("collect", collects(lambda n: file(n[0], b'{"results": ["-rf"]}'), COLLECTED), "is none that edgekit wrote"),
    "a plan without end": ("collect", collects(lambda n: file(n[0], b'{"results": [], "limit_s": 1e99}'), COLLECTED), "is none that edgekit wrote"),
    "a farewell with a text": ("files", with_reason(EVIL.replace("\0", "") * 999), "the connection to board was lost"),
    "a signal with a name": ("hashes", killed, "board"),
    "another machine at the same address": ("lease", another_key, "has the host key .*, but .* is pinned"),
}  # fmt: skip


def some(names: list[str], kept: int) -> list[Any]:
    """Every `kept`-th of these in `make test`, and paths; all of them in `make test-all`."""
    return [pytest.param(n, marks=[pytest.mark.slow] if i % kept and "path" not in n and "above" not in n else []) for i, n in enumerate(names)]


HANGS_UP = [f"hangs up: {kind}" for kind in ("follow", "probe", "files", "collect", "state", "lease", "begin", "append", "end")]


def call(board: Hostile, product: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `edgekit profile --on`, with a fleet file."""
    fleet = board.folder / "fleet.toml"
    fields = {k: v for k, v in dataclasses.asdict(board.device(wait_s=2.0)).items() if v != ""}
    fleet.write_text("[[devices]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in fields.items()))
    asked = ["--seconds", "0.05", "--processes", "2", "--energy-seconds", "0"]
    monkeypatch.setattr(sys, "argv", ["edgekit", "profile", str(product.folder), "--on", "board", "--fleet", str(fleet), *asked, *more])
    capfd.readouterr()
    code = cli.main()
    said = capfd.readouterr()
    return code, said.out, said.err


def outside(board: Hostile, tmp_path: Path) -> set[Path]:
    return {p for p in tmp_path.rglob("*") if board.folder not in p.parents}


@pytest.mark.parametrize("name", [*(n for n in LIES if LIES[n][0] != "collect"), *some([n for n in LIES if LIES[n][0] == "collect"], 3), *some(HANGS_UP, 3)])
def test_a_lie_is_one_clear_line_and_nothing_more(
    name: str, board: Hostile, product: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, lie, told = LIES.get(name) or (name.partition(": ")[2], hang_up, "lost|nothing answered|no connection")
    BOARD[:] = [board]
    board.lies[kind] = lie
    board.limit_s = 2.0 if name == "a job without an end" else 20.0
    before, there, begun = children(board.folder), outside(board, tmp_path), time.monotonic()
    evidence = sorted(product.folder.rglob("*"))
    reset_peak()
    memory = peak_mb()
    monkeypatch.setattr(ssh, "GRACE_S", 0.5)
    code, out, said = call(board, product, capfd, monkeypatch, "--json")
    took = time.monotonic() - begun
    with capfd.disabled():
        print(f"{name}: {took:.2f} s, {peak_mb() - memory:.0f} MB: {said.strip()[:200]}")
    assert code == 2 and out == "", (out, said)
    assert said.startswith("error: ") and len(said.splitlines()) == 1 and len(said) < 1600
    assert not ODD.search(said.rstrip("\n")) and "Traceback" not in said
    assert re.search(told, said), said
    assert kind in board.seen
    assert peak_mb() - memory < MOST_MB
    assert outside(board, tmp_path) == there and sorted(product.folder.rglob("*")) == evidence, "something was written here"
    assert children(board.folder) <= before, "a process was left"


MODES = {"/var/lib/nvpmodel/status": "pmode:1", "/etc/nvpmodel.conf": "< POWER_MODEL " * 70_000 + " " * 100_000}
HARMLESS: dict[str, tuple[str, Lie]] = {
    "marks that never close": ("files", unclosed),  # each must not be looked for to the end
    "power modes that never close": ("files", tells(MODES)),
    "files that nobody asked for": ("files", tells({"/etc/passwd": "root", "/sys/../etc/shadow": "root", "relative": "x"})),
    "a processor of 1 MB": ("files", tells({"/proc/cpuinfo": "model name\t: " + "x" * 1_000_000 + "\n" + "processor\t: 0\n" * 10_000})),
    "sensors in the thousands": ("files", tells({f"/sys/class/hwmon/hwmon{i}/name": "coretemp" for i in range(9_000)})),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_lie_that_changes_nothing_costs_nothing(name: str, board: Hostile, product: Bundle) -> None:
    """Patterns that take time by the square of what they read would take minutes to hours here."""
    kind, lie = HARMLESS[name]
    board.lies[kind] = lie
    found = remote.profile_on(board.device(), product, ONCE)
    assert found.latency_p50_ms == 1.0 and len(found.device) < 1100


# What it may say it has measured

CHANGES: dict[str, tuple[Any, str]] = {
    "100,000 deep": (DEEP, "nested too deep"),
    "objects 100,000 deep": ('{"a":' * 100_000, "nested too deep"),
    "not a number": (json.dumps(GOOD).replace('"load_ms": ', '"load_ms": NaN, "x": ', 1), "NaN is no number"),
    "infinite": (json.dumps({**GOOD, "latency_p50_ms": float("inf")}), "Infinity is no number"),
    "1e999": (json.dumps(GOOD).replace('"load_ms": ', '"load_ms": 1e999, "x": ', 1), "larger than a double"),
    "a key twice": (json.dumps(GOOD)[:-1] + ', "samples": 3}', "twice in one object"),
    "a list": ("[]", "no object of JSON"),
    "a number": ("3", "no object of JSON"),
    "empty": ("", "printed no JSON"),
    "text": (EVIL, "printed no JSON"),
    "other types": (json.dumps({**GOOD, "latency_p50_ms": "fast"}), "latency_p50_ms must be float"),
    "a true time": (json.dumps({**GOOD, "latency_p50_ms": True}), "latency_p50_ms must be float"),
    "less than nothing": (json.dumps({**GOOD, "load_ms": -1.0}), "measured less than nothing"),
    "a negative percentile": (json.dumps({**GOOD, "process_p50_ms": [-1.0]}), "measured less than nothing"),
    "no time at all": (json.dumps({**GOOD, "latency_p50_ms": 0.0, "latency_min_ms": 0.0}), "tells a p50 of 0 ms"),
    "a minimum above the middle": (json.dumps({**GOOD, "latency_min_ms": 1e9}), "a minimum of 1e.09 ms"),
    "longer than the world": (json.dumps({**GOOD, "latency_p90_ms": 1e300}), "tells the number 1e.300"),
    "samples without number": (json.dumps({**GOOD, "samples": int("9" * 4000)}), "tells the number 9"),
    "5,000 digits": (json.dumps(GOOD).replace('"samples": ', '"samples": ' + "9" * 5000 + ', "x": ', 1), "not JSON"),
    "more preempted than there were": (json.dumps({**GOOD, "preempted_samples": 10**9}), "preempted samples of"),
    "a histogram of nothing": (json.dumps({**GOOD, "histogram": {"edges_ms": [], "counts": [1], "undisturbed": [], "above": 0}}), "a histogram of 0 edges"),
    "a runtime that clears the screen": (json.dumps({**GOOD, "runtime": EVIL}), "has control characters"),
    "a runtime that is a path": (json.dumps({**GOOD, "runtime": "x/../../../evil 1"}), "names no runtime"),
    "a runtime above": (json.dumps({**GOOD, "runtime": ".. 1"}), "names no runtime"),
    "a runtime of no name": (json.dumps({**GOOD, "runtime": " "}), "names no runtime"),
    "a runtime of 100 kB": (json.dumps({**GOOD, "runtime": "x" * 100_000}), "names no runtime"),
    "a field without name": (json.dumps({**GOOD, EVIL: 1}), "has control characters"),
    "a verdict of its own": (json.dumps({**GOOD, "verdict": "PERFECT"}), "verdict must be one of"),
    "9 MB": (json.dumps({**GOOD, "energy_reason": "x" * 8_500_000}), "printed no JSON|more than 8,388,608"),
    "half a pair": (json.dumps(GOOD).replace('"device": "', '"device": "\\ud800', 1), "has control characters"),
}  # fmt: skip


@pytest.mark.parametrize("name", some(list(CHANGES), 3))
def test_a_result_that_cannot_be_is_refused(
    name: str, board: Hostile, product: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, told = CHANGES[name]
    (board.home / "profile.json").write_text(content, errors="surrogatepass")
    reset_peak()
    memory = peak_mb()
    code, out, said = call(board, product, capfd, monkeypatch, "--json")
    with capfd.disabled():
        print(f"a result, {name}: {peak_mb() - memory:.0f} MB: {said.strip()[:200]}")
    assert code == 2 and out == "" and said.startswith("error: ") and len(said.splitlines()) == 1 and len(said) < 1600
    assert not ODD.search(said.rstrip("\n")) and re.search(told, said), said
    assert peak_mb() - memory < MOST_MB and not list(product.evidence.glob("*board*"))
    jobs = list((board.home / ".cache" / "edgekit" / "jobs").iterdir())
    assert not jobs or name == "9 MB", "a result that was read and refused stays there"


@pytest.mark.parametrize("code", ["0", "1"])
def test_wrong_answers_get_no_number_whatever_the_exit_code_says(board: Hostile, product: Bundle, code: str, capfd, monkeypatch) -> None:
    (board.home / "verify.json").write_text(json.dumps({"failures": [f"output differs {EVIL.replace(chr(0), '')[-9:]}"]}))
    (board.home / "verify.code").write_text(code)
    status, out, said = call(board, product, capfd, monkeypatch, "--json")
    assert status == (1 if code == "0" or "differs" in said else 2) and out == "" and "not the trained network's answers, so not timed" in said


def test_a_device_that_says_nothing_about_its_answers_gets_no_number(board: Hostile, product: Bundle, capfd, monkeypatch) -> None:
    (board.home / "verify.json").write_text("{}")
    status, out, said = call(board, product, capfd, monkeypatch, "--json")
    assert status == 2 and out == "" and "makes no sense (KeyError: 'failures')" in said


def test_what_a_device_calls_itself_is_plain_text_and_its_times_are_its_own(board: Hostile, product: Bundle, capfd, monkeypatch) -> None:
    """A pleasant lie is believed, since nobody here can know: SECURITY.md says so. Its names reach no terminal as they are."""
    board.lies["files"] = tells({"/proc/cpuinfo": f"model name\t: {EVIL.partition(chr(13))[0]} NVIDIA Thor\n", "/etc/passwd": "not asked for"})
    monkeypatch.setattr(remote, "uses_python", lambda *a: True)
    code, out, said = call(board, product, capfd, monkeypatch)
    assert code == 0 and "p50 1 ms" in out and not ODD.search(out.replace("\n", "")) and not ODD.search(said.replace("\n", ""))
    security = (Path(__file__).parent.parent / "SECURITY.md").read_text()
    assert "**A device's figures are its own word.**" in security


def test_progress_is_plain_text_and_not_more_than_a_reader_takes(board: Hostile, product: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"1 2 {EVIL.replace(chr(10), '')}\n" + "".join(f"1 2 \x1b{i}\n" for i in range(3000))

    async def chatter(told: Told) -> None:
        await told.say(lines)
        await board.honest(told)

    board.lies["follow"] = chatter
    news: list[str] = []
    remote.profile_on(board.device(), product, ONCE, lambda what, *_: news.append(what))
    device = [n for n in news if n.startswith("board: ")]
    assert len(device) == limits.DEVICE_NEWS and not any(ODD.search(n) for n in device) and max(map(len, device)) < 200


def test_a_runtimes_name_makes_no_path_even_where_it_is_believed(board: Hostile, product: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second fence: the name of the evidence is made of letters, whatever comes."""
    strange = dataclasses.replace(measured(1.0, "board"), runtime="X/../../../evil/\0 1")
    monkeypatch.setattr(remote, "profile_on", lambda *a: strange)
    before = sorted(product.folder.parent.parent.rglob("*"))
    examine.profile_on(product, board.device(), ONCE)
    made = set(product.folder.parent.parent.rglob("*")) - set(before)
    assert {p.parent for p in made} <= {product.evidence, product.folder} and "profile-x-evil-1-on-board.json" in {p.name for p in made}


GREETINGS: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "a line without an end": (b"", b"x" * 65536),
    "lines without an end": (b"", b"hello\x1b[2J\n" * 5000),
    "a web page": (b"HTTP/1.1 200 OK\r\n\r\n<html></html>" + b"x" * 9000, b""),
    "a name that clears the screen": (b"SSH-2.0-\x1b[2Jevil\xff\r\n", b"\xff" * 4096),
    "a packet of 4 GB": (b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xff" + bytes(100), bytes(65536)),
    "another protocol": (b"SSH-1.5-old\r\n", b""),
}


@pytest.mark.parametrize("name", GREETINGS)
def test_what_is_no_ssh_server_is_one_line_in_time(name: str, board: Hostile, product: Bundle, capfd, monkeypatch) -> None:
    """At the address of a device something else answers: a greeting, and then something without end."""
    first, then = GREETINGS[name]
    monkeypatch.setattr(ssh, "CONNECT_S", 2)
    monkeypatch.setattr(ssh, "LOGIN_S", 2)

    class Answers(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(first)
                while then:
                    self.request.sendall(then)
                while self.request.recv(1 << 16):
                    pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = board.device()
        monkeypatch.setattr(Hostile, "device", lambda self, **given: dataclasses.replace(there, ssh=f"ssh://me@127.0.0.1:{server.server_address[1]}", **given))
        reset_peak()
        memory = peak_mb()
        code, out, said = call(board, product, capfd, monkeypatch, "--json")
        server.shutdown()
    with capfd.disabled():
        print(f"no ssh server, {name}: {peak_mb() - memory:.0f} MB: {said.strip()[:200]}")
    assert code == 2 and out == "" and said.startswith("error: no connection to board") and len(said.splitlines()) == 1 and len(said) < 600
    assert not ODD.search(said.rstrip("\n")) and peak_mb() - memory < MOST_MB


def test_a_bar_takes_no_markup_from_a_device(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _common.progress_bar(False) as progress:
        progress("board: [/red] [bold]x[/bold]", 0, 1)
    assert "[/red] [bold]x[/bold]" in capfd.readouterr().err


def test_a_banner_is_shown_to_nobody(board: Hostile, product: Bundle, capfd, monkeypatch) -> None:
    board.banner = EVIL.replace("\0", "") * 50
    code, out, said = call(board, product, capfd, monkeypatch, "--json")
    assert code == 0 and said == "" and "owned" not in out


def test_the_agent_is_not_lent_and_nothing_is_unpacked(tmp_path: Path, product: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ~/.ssh/config says: a device could sign with the agent's keys, and a packed megabyte is a thousand."""
    (Path(os.environ["HOME"]) / ".ssh" / "config").write_text("Host *\n  ForwardAgent yes\n  Compression yes\n  ForwardX11Trusted yes\n")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    board = Hostile(tmp_path / "one").start()
    (board.home / "verify.json").write_text('{"failures": []}')
    (board.home / "profile.json").write_text(json.dumps(GOOD))
    try:
        remote.profile_on(board.device(), product, ONCE)
        assert board.agents and set(board.agents) == {None}
    finally:
        board.stop()
    packs = Hostile(tmp_path / "two").start(compression_algs=["zlib@openssh.com"])
    try:
        with pytest.raises(EdgekitError, match="no connection to board"):
            remote.profile_on(packs.device(), product, ONCE)
    finally:
        packs.stop()


def test_a_key_that_changes_is_never_tried_again(board: Hostile, product: Bundle) -> None:
    BOARD[:] = [board]
    board.lies["lease"] = another_key
    with pytest.raises(HostKeyRefused) as refused:
        remote.profile_on(board.device(), product, ONCE)
    assert "is pinned" in str(refused.value) and board.seen.count("probe") == 1


# The C++ runner's files, as a device gives them back

COLUMNS = {"start_ns": np.arange(200) * 10**6 + 5, "wall_ns": np.full(200, 10**6), "cpu_ns": np.full(200, 10**6), "preempted": np.zeros(200, np.uint8)}
FACTS = {"engine": "onnxruntime 1", "load_ms": 1.0, "first_run_ms": 1.0, "warm_up_runs": 3, "steady": True, "memory_peak_mb": 9.0, "overhead_ns": 5.0}
PASSED = json.dumps({"cases": [{"failures": []}]})


def printed(watch: object = None, **other: object) -> str:
    line = "" if watch is None else json.dumps({"watch": watch}) + "\n"
    return line + json.dumps({"facts": {**FACTS, **other}})


NATIVE: dict[str, tuple[str, bytes | str, str]] = {
    "golden answers that differ": ("golden.json", json.dumps({"cases": [{"failures": [EVIL[:4] * 0 + "output 'y' differs"]}]}), "not the trained network's answers"),
    "no golden answers": ("golden.json", '{"cases": []}', "compared no golden answers"),
    "golden answers 100,000 deep": ("golden.json", DEEP, "nested too deep"),
    "golden answers of another kind": ("golden.json", '{"cases": 3}', "makes no sense"),
    "no samples": ("samples.safetensors", b"", "not a safetensors file"),
    "samples that are an image": ("samples.safetensors", b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(3000), "not a safetensors file"),
    "samples of a header of 2^60 bytes": ("samples.safetensors", (1 << 60).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    "samples without columns": ("samples.safetensors", save({"x": np.zeros(3)}), "samples need the columns"),
    "samples of two lengths": ("samples.safetensors", save({**COLUMNS, "cpu_ns": np.zeros(3, np.int64)}), "all of one length"),
    "samples that are fractions": ("samples.safetensors", save({**COLUMNS, "wall_ns": np.full(200, np.nan)}), "'wall_ns' holds no times"),
    "samples below nothing": ("samples.safetensors", save({**COLUMNS, "wall_ns": np.full(200, -1)}), "'wall_ns' holds no times"),
    "samples that go back": ("samples.safetensors", save({**COLUMNS, "start_ns": COLUMNS["start_ns"][::-1].copy()}), "'start_ns' holds no times"),
    "samples of two axes": ("samples.safetensors", save({**COLUMNS, "wall_ns": np.ones((200, 2), np.int64)}), "'wall_ns' holds no times"),
    "samples without axes": ("samples.safetensors", save({n: np.array(1) for n in COLUMNS}), "makes no sense|no times"),
    "samples of 2^63": ("samples.safetensors", save({**COLUMNS, "wall_ns": np.full(200, 2**63 - 1)}), "'wall_ns' holds no times"),
    "a column with a name": ("samples.safetensors", save({**COLUMNS, EVIL.replace("\0", ""): np.full(200, 0.5)}), "holds no times"),
    "no line": ("run.json", "", "not JSON"),
    "facts below nothing": ("run.json", printed(load_ms=-4.0), "load_ms is -4"),
    "facts of other names": ("run.json", printed(evil=1), "unknown key 'evil'"),
    "facts without end": ("run.json", printed().replace("1.0", "1e999", 1), "larger than a double"),
    "an engine with a name": ("run.json", printed(engine=EVIL), "has control characters"),
    "an engine that is a path": ("run.json", printed(engine="/tmp/evil 1"), "names no runtime"),
    "a core that there cannot be": ("run.json", printed(pinned_to=-1), "pinned_to is -1"),
    "readings of too few files": ("run.json", printed({"t_ns": 1, "read_ns": 1, "texts": []}), "makes no sense"),
    "readings at no time": ("run.json", printed({"t_ns": "now", "read_ns": 1, "texts": []}), "makes no sense"),
    "readings without end": ("run.json", '{"watch": 1}\n' * 250_000 + printed(), "more than 200,000 times"),
    "a reading of 9 MB": ("run.json", '{"watch": "' + "x" * 7_900_000 + '"}\n' + printed(), "prints more|makes no sense|JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", some(["an honest one", *NATIVE], 4))
def test_files_of_the_runner_are_a_strangers(name: str, board: Hostile, product: Bundle, tmp_path: Path, capfd, monkeypatch) -> None:
    """A device that has our runner's place taken by a program of its own. Each line of the table is a lie; one is the truth."""
    (tmp_path / "edgekit-run").write_text(RUNNER)
    (tmp_path / "lib.so").write_bytes(b"x")
    monkeypatch.setattr(remote, "_kit", lambda *a: Kit(tmp_path / "edgekit-run", tmp_path / "lib.so"))
    watched = len(remote.runner.conditions.files(remote.look(board.device(runner="cpp"))[1]))
    (board.home / "golden.json").write_text(PASSED)
    (board.home / "samples.safetensors").write_bytes(save(COLUMNS))
    (board.home / "run.json").write_text("\n".join(printed({"t_ns": i * 10**8, "read_ns": 5, "texts": [None] * watched}).partition("\n")[0] for i in (0, 1)) + "\n" + printed())
    there = board.device()
    monkeypatch.setattr(Hostile, "device", lambda self, **given: dataclasses.replace(there, runner="cpp", **given))
    place, content, told = NATIVE.get(name, ("", "", ""))
    if place:
        (board.home / place).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    reset_peak()
    memory = peak_mb()
    code, out, said = call(board, product, capfd, monkeypatch, "--json")
    with capfd.disabled():
        print(f"the runner, {name}: {peak_mb() - memory:.0f} MB: {said.strip()[:200]}")
    if not place:
        assert code == 0 and json.loads(out)["latency_p50_ms"] == 1.0 and json.loads(out)["samples"] == 400
        for left in product.evidence.glob("*board*"):
            left.unlink()
        return
    assert code in (1, 2) and out == "" and said.startswith("error: ") and len(said.splitlines()) == 1 and len(said) < 1600
    assert re.search(told, said), said
    assert not ODD.search(said.rstrip("\n")) and code == (1 if "trained network" in told else 2)
    assert peak_mb() - memory < 2 * MOST_MB


# The readers themselves, on anything


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.lists(st.sampled_from([b"a 1 ", b"0" * 64, b"\n", b"x", b"b 0 ", b"../ "]), max_size=9).map(b"".join))
def test_any_bytes_are_files_or_a_sentence(packed: bytes) -> None:
    try:
        found = job.unpacked(packed, ["a", "b"], "board")
    except (Broken, Misbehaved) as error:
        assert "board" in str(error)
    else:
        assert set(found) <= {"a", "b"}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["=m /a", "=m 0", "=m 1", "=m", "x", "", "=m /b"]), max_size=12))
def test_small_files_are_read_as_the_script_writes_them(lines: list[str]) -> None:
    """Against the pattern that says what it means, which takes time by the square of the length."""
    text = "\n".join(lines) + "\n"
    found = parts_of(text, "=m", "board")
    for path, content in found.items():
        assert content is None or f"=m {path}\n" in text
    for path, content in {"/a": "text", "/b": "two\nlines\n", "/c": ""}.items():
        assert parts_of(f"=m {path}\n{content}\n=m 0\n", "=m", "board") == {path: content}


def test_a_measurement_that_edgekit_made_is_believed() -> None:
    made = measured(1.0, "board")
    assert believe.measurement(made, "board") == made
