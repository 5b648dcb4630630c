"""Measuring on a device by ssh, a real sshd on loopback: pushed whole, one at a time, in time, whatever the connection does."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import ssh_server
from onnx import helper
from ssh_server import Server
from test_cpp_profile import runner
from toy_bundles import bundle, graph, tensor

from edgekit import __version__, conditions, energy, probe, remote
from edgekit.bundle import Bundle, Golden
from edgekit.data import cache_folder
from edgekit.errors import Broken, EdgekitError, NotEqual
from edgekit.fleet import Device
from edgekit.measurement import Measurement
from edgekit.parts import Channel, Meter, Readout
from edgekit.process_run import Request
from edgekit.program import once
from edgekit.remote import ssh
from edgekit.remote.job import Found, Job, result_of
from edgekit.remote.probe import clock_advice
from edgekit.remote.ssh import Busy, Dropped, Shell
from edgekit.remote.store import Parcel, push
from edgekit.remote.tree import Asked, snapshot
from edgekit.signature import Signature
from edgekit.summary import Metered
from edgekit.sysfs import HERE, Snapshot

QUICK = Request(seconds=0.05, processes=2, energy_seconds=0)
T = TypeVar("T")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This side's home is a folder of the test: nobody's own ~/.ssh is read."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(cache_folder()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A device with a POSIX shell and its usual tools, and no Python."""
    made = ssh_server.start(tmp_path / "board")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return a_product(tmp_path_factory.mktemp("product") / "b")


def a_product(folder: Path, wrong: float = 0.0) -> Bundle:
    """y = x W; golden answers that are `wrong` by so much."""
    random = np.random.default_rng(0)
    weights, x = random.normal(size=(64, 64)).astype(np.float32), random.normal(size=(4, 64)).astype(np.float32)
    tensors = (tensor("x", "batch", 64),), (tensor("y", "batch", 64),)
    made = graph(*tensors, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights})
    golden = Golden({"x": x}, {"y": x @ weights + np.float32(wrong)})
    return bundle(folder, {"main": made}, Signature(*tensors), once(("x",), ("y",)), golden=golden)


def on(device: Device, work: Callable[[Shell], Awaitable[T]]) -> T:
    async def go() -> T:
        async with ssh.connect(device) as shell:
            return await work(shell)

    return asyncio.run(go())


def work_folder(server: Server) -> Path:
    return server.home / ".cache" / "edgekit"


def begun(server: Server) -> int:
    """How many jobs were begun there: each is started by `setsid`, which is made to say so."""
    return len((server.folder / "begun").read_text().splitlines()) if (server.folder / "begun").exists() else 0


def counting(server: Server) -> None:
    real, log = shutil.which("setsid"), server.folder / "begun"
    (server.folder / "bin" / "setsid").unlink()
    (server.folder / "bin" / "setsid").write_text(f'#!/bin/sh\ncase $* in *jobs/*) echo "$*" >>"{log}";; esac\nexec {real} "$@"\n')
    (server.folder / "bin" / "setsid").chmod(0o755)


def running(word: str) -> list[int]:
    """Processes whose command line holds a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(what: Callable[[], object], limit_s: float = 20) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


# What is pushed


NAMES = ("plain", "a b", "-rf", "$(touch pwned)", "it's", "new\nline", "deep/er/ünï", "*", "~", "back\\slash", "empty")


def test_files_of_any_name_arrive_as_they_are(server: Server, tmp_path: Path) -> None:
    contents = {n: (b"" if n == "empty" else os.urandom(3000)) for n in NAMES}
    parcel = Parcel("bundles/x", contents, "x")
    place = Path(on(server.device(), lambda shell: push(shell, str(tmp_path / "w w'"), parcel, lambda *_: None)))
    found = {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert found == contents and not list(tmp_path.rglob("pwned")) and not list((tmp_path / "w w'").rglob("*.part"))


def sent(told: list[tuple[str, int, int]]) -> int:
    """Bytes that went over the line: the first call tells what was there already."""
    return told[-1][1] - told[0][1] if told else 0


def test_a_broken_push_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    part = tmp_path / "w" / "tools" / "x.part"
    part.mkdir(parents=True)
    (part / "big").write_bytes(data[:600_000])
    (tmp_path / "big").write_bytes(data)
    told: list[tuple[str, int, int]] = []
    parcel = Parcel("tools/x", {"big": tmp_path / "big"}, "big")
    place = on(server.device(), lambda shell: push(shell, str(tmp_path / "w"), parcel, lambda *a: told.append(a)))
    assert Path(place, "big").read_bytes() == data and sent(told) == 400_000


@pytest.mark.parametrize("damage", ["in the part", "in the whole", "too long"])
def test_damage_is_found_and_mended(server: Server, tmp_path: Path, damage: str) -> None:
    data = os.urandom(300_000)
    spoiled = bytes([data[0] ^ 1]) + data[1:]
    place = tmp_path / "w" / "tools" / ("x" if damage == "in the whole" else "x.part")
    place.mkdir(parents=True)
    (place / "big").write_bytes({"in the part": spoiled[:1000], "in the whole": spoiled, "too long": data + b"x"}[damage])
    made = on(server.device(), lambda shell: push(shell, str(tmp_path / "w"), Parcel("tools/x", {"big": data}, "big"), lambda *_: None))
    assert Path(made, "big").read_bytes() == data and [p.name for p in (tmp_path / "w" / "tools").iterdir()] == ["x"]


def test_a_disk_that_loses_bytes_is_said_and_nothing_is_renamed(server: Server, tmp_path: Path) -> None:
    (server.folder / "bin" / "cat").unlink()
    (server.folder / "bin" / "cat").write_text(f"#!/bin/sh\nexec {shutil.which('head')} -c 100\n")
    (server.folder / "bin" / "cat").chmod(0o755)
    with pytest.raises(Broken, match="big: 'big' arrives damaged on board; is its disk full or failing"):
        on(server.device(), lambda shell: push(shell, str(tmp_path / "w"), Parcel("tools/x", {"big": os.urandom(5000)}, "big"), lambda *_: None))
    assert [p.name for p in (tmp_path / "w" / "tools").iterdir()] == ["x.part"]


def test_a_full_disk_is_said_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    parcel = Parcel("tools/x", {"big": os.urandom(5000)}, "big")
    with pytest.raises(EdgekitError, match="board has 1 MiB free for big, which needs 20 MiB"):
        on(server.device(), lambda shell: push(shell, str(tmp_path / "w"), parcel, lambda *_: None, free_bytes=1 << 20))


# One at a time, in time


def job(steps: str, *results: str, limit_s: int = 60) -> Callable[[], Awaitable[Job]]:
    async def prepare() -> Job:
        return Job(steps, results, {}, limit_s)

    return prepare


def same(found: Found) -> Found:
    return found


def result(
    device: Device, work: Path, key: str, steps: str, *results: str, limit_s: int = 60, told: Callable[[str, int, int], None] = lambda *_: None
) -> Found:
    return on(device, lambda shell: result_of(shell, str(work), key, job(steps, *results, limit_s=limit_s), same, f"call-of-{key}", told))


def test_a_job_says_how_far_it_is_and_leaves_nothing_but_its_result(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    steps = "echo '0 2 first' >>progress; sleep 0.3; echo '1 2 second of two' >>progress; sleep 0.3; printf 'a\\000b\\n' >data; exit 3"
    found = result(server.device(), tmp_path / "w", "k", steps, "data", "none", told=lambda *a: told.append(a))
    assert found.code == 3 and dict(found.files) == {"data": b"a\0b\n", "err": b""} and found.seconds <= 2
    assert told == [("board: first", 0, 2), ("board: second of two", 1, 2)]
    assert not list((tmp_path / "w" / "jobs").iterdir())


def test_two_jobs_never_overlap(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    steps = f"echo in >>'{log}'; sleep 0.4; echo out >>'{log}'"
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(result, server.device(), tmp_path / "w", f"k{i}", steps) for i in range(4)]:
            assert done.result().code == 0
    assert log.read_text().split() == ["in", "out"] * 4


def test_a_device_that_is_busy_is_waited_for_and_then_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    other = subprocess.Popen(["flock", str(tmp_path / "w" / "lock"), "sleep", "2.5"])
    told: list[tuple[str, int, int]] = []
    try:
        until(lambda: running("\0sleep\x002.5"))
        with pytest.raises(Busy, match="somebody else has measured on board for 1 s"):
            result(server.device(wait_s=1), tmp_path / "w", "k", "true", told=lambda *a: told.append(a))
        assert told[0] == ("wait for board: somebody else measures there", 0, 1)
        assert result(server.device(wait_s=20), tmp_path / "w", "k", "true").code == 0
    finally:
        other.wait(20)


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM HUP INT; "])
def test_the_time_limit_ends_everything_that_the_job_started(server: Server, tmp_path: Path, stubborn: str) -> None:
    steps = f"{stubborn}sh -c '{stubborn}sleep 87651' & sleep 87652; echo never >data"
    found = result(server.device(), tmp_path / "w", "k", steps, "data", limit_s=1)
    assert found.code == 137 and "data" not in found.files
    until(lambda: not running("87651") and not running("87652"))
    assert result(server.device(), tmp_path / "w", "k2", "true").code == 0  # the lock is free


def test_a_job_that_was_killed_with_all_it_was_is_begun_again(server: Server, tmp_path: Path) -> None:
    """As by a device that starts anew: the folder is there, nobody works in it, and there is no result."""
    counting(server)
    steps = f"echo $$ >'{tmp_path}/pid'; sleep 0.5; echo done >data"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(result, server.device(), tmp_path / "w", "k", steps, "data")
        until(lambda: (tmp_path / "w" / "jobs" / "k" / "pid").exists() and (tmp_path / "pid").exists())
        os.killpg(int((tmp_path / "w" / "jobs" / "k" / "pid").read_text()), signal.SIGKILL)
        os.killpg(os.getpgid(int((tmp_path / "pid").read_text())), signal.SIGKILL)
        with pytest.raises(Dropped, match="gone without a result"):
            first.result()
    assert result(server.device(), tmp_path / "w", "k", steps, "data").text("data") == "done" and begun(server) == 2


def test_a_lease_ends_with_the_process_that_held_it(server: Server, tmp_path: Path) -> None:
    """A controller that is killed while it pushes leaves the device free."""
    code = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from edgekit.remote import ssh
from edgekit.fleet import Device
from edgekit.remote.job import result_of
async def prepare():
    print("leased", flush=True)
    await asyncio.sleep(60)
async def go():
    async with ssh.connect({server.device()!r}) as shell:
        await result_of(shell, {str(tmp_path / "w")!r}, "k", prepare, lambda found: found, "other", lambda *_: None)
asyncio.run(go())
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"leased\n"
    other.kill()
    other.wait(10)
    other.stdout.close()
    assert result(server.device(wait_s=5), tmp_path / "w", "k", "true").code == 0


def test_ones_own_lease_from_before_the_connection_hung_is_taken_over(server: Server, tmp_path: Path) -> None:
    async def twice() -> Found:
        async with ssh.connect(server.device(wait_s=3)) as hung, ssh.connect(server.device(wait_s=3)) as shell:
            async def never() -> Job:
                began.set()
                await asyncio.sleep(60)
                raise AssertionError

            began = asyncio.Event()
            first = asyncio.ensure_future(result_of(hung, str(tmp_path / "w"), "k", never, same, "mine", lambda *_: None))
            await began.wait()
            with pytest.raises(Busy):
                await result_of(shell, str(tmp_path / "w"), "k", job("true"), same, "another", lambda *_: None)
            found = await result_of(shell, str(tmp_path / "w"), "k", job("true"), same, "mine", lambda *_: None)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            return found

    assert asyncio.run(twice()).code == 0


# What a device is


def test_a_device_is_read_as_this_machine_reads_itself(server: Server) -> None:
    facts, tree = remote.look(server.device())
    assert probe.machine(tree) == probe.machine(HERE)
    assert set(conditions.files(tree)) == set(conditions.files(HERE))
    assert facts.architecture == os.uname().machine and facts.kernel == os.uname().release and facts.edgekit == ""
    assert facts.work == str(work_folder(server).resolve()) and abs(facts.clock_offset_s) < 2
    assert facts.glibc == tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")))  # type: ignore[union-attr]
    assert facts.free_bytes is not None and abs(facts.free_bytes - shutil.disk_usage(server.home).free) < 1 << 30


def test_what_others_want_to_read_is_fetched_in_rounds(server: Server, tmp_path: Path) -> None:
    """A pattern, then files that depend on what it found, a command, and files that are not there."""
    rounds = []

    def ask(tree: Asked) -> None:
        rounds.append(1)
        assert isinstance(tree, Asked)
        for path in tree.find("/proc/[s]elf/comm"):
            tree.read(path)
            tree.find("/proc/sys/kernel/os*")
        for what in ("/proc/none", "getconf GNU_LIBC_VERSION", "no-such-command x"):
            try:
                tree.read(what)
            except FileNotFoundError:
                continue

    tree = on(server.device(), lambda shell: snapshot(shell, ask))
    assert tree.read("/proc/sys/kernel/ostype") == "Linux" and tree.read("getconf GNU_LIBC_VERSION").startswith("glibc ")
    assert tree.read("/proc/self/comm") == "head"  # it was read there, by that process
    assert len(rounds) == 3
    for missing in ("/proc/none", "no-such-command x"):
        with pytest.raises(FileNotFoundError):
            tree.read(missing)


@pytest.mark.parametrize("path", ["/home/me/.ssh/id", "/sys/../root/x"])
def test_nothing_else_of_a_device_is_fetched(server: Server, path: str) -> None:
    def ask(tree: Asked) -> None:
        try:
            tree.read(path)
        except FileNotFoundError:
            return

    with pytest.raises(EdgekitError, match="only files in /sys, /proc"):
        on(server.device(), lambda shell: snapshot(shell, ask))


def test_what_a_login_script_prints_is_not_taken_for_an_answer(server: Server, product: Bundle) -> None:
    """bash reads ~/.bashrc when sshd calls it."""
    runner()
    (server.home / ".bashrc").write_text("echo leased; echo 'ended 0 1 1'; echo work=/nowhere\n")
    assert remote.profile_on(server.device(), product, QUICK).processes == 2


def test_an_ended_job_whose_end_was_lost_is_done_again(server: Server, tmp_path: Path) -> None:
    """As by a device that lost power: the file is there and empty."""
    (tmp_path / "w" / "jobs" / "k").mkdir(parents=True)
    (tmp_path / "w" / "jobs" / "k" / "ended").touch()
    assert result(server.device(), tmp_path / "w", "k", "echo new >data", "data").text("data") == "new"


def test_what_a_device_lacks_is_said(server: Server, product: Bundle) -> None:
    (server.folder / "bin" / "flock").unlink()
    with pytest.raises(EdgekitError, match="board has no usable flock; they are in coreutils, util-linux and findutils"):
        remote.profile_on(server.device(), product, QUICK)


def test_a_folder_that_cannot_be_made_is_said(server: Server, product: Bundle) -> None:
    with pytest.raises(EdgekitError, match="board cannot make /proc/edgekit in .*: give the device a work_dir"):
        remote.profile_on(server.device(work_dir="/proc/edgekit"), product, QUICK)


def test_another_power_mode_than_promised_is_refused(server: Server, product: Bundle) -> None:
    with pytest.raises(EdgekitError, match="board is to be in the power mode MAXN, and is in none that it tells"):
        remote.profile_on(server.device(power_mode="MAXN"), product, QUICK)


GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, ""),
        ({GOVERNOR: "performance"}, ""),
        ({GOVERNOR: "schedutil"}, r"governor schedutil.*: sudo cpupower frequency-set -g performance$"),
        ({GOVERNOR: "schedutil", "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1"}, r": sudo jetson_clocks$"),
    ],
)
def test_clocks_that_may_move_are_said_with_the_command_for_a_person(files: Mapping[str, str | None], says: str) -> None:
    import re

    assert re.search(says or "^$", clock_advice(Snapshot(files)))


# The C++ runner alone


def test_a_device_without_python_is_measured(server: Server, product: Bundle) -> None:
    runner()
    told: list[str] = []
    found = remote.profile_on(server.device(), product, dataclasses.replace(QUICK, processes=5), lambda what, *_: told.append(what))
    assert found.runtime.startswith("edgekit-run 0.1.0 with onnxruntime ") and found.processes == 5 and found.pinned
    assert 0 < found.latency_min_ms <= found.latency_p50_ms < 50 and found.samples >= 500 and found.overhead_us
    assert found.kind == "measured" and found.energy_mj is None and found.energy_reason == "no energy was asked for"
    assert found.conditions.cpu_pressure is not None or "CPU pressure" in found.conditions.unread
    assert found.device.endswith(f"{os.cpu_count()} cores") and found.target.startswith("host")
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert "push onnx:f32 to board" in told and "board: time fresh processes" in told
    kept = sorted(str(p.relative_to(work_folder(server))).split("/")[0] for p in work_folder(server).rglob("*") if p.is_file())
    assert set(kept) == {"bundles", "tools", "lock", "owner"}  # what is pushed stays; jobs are gone
    told.clear()
    remote.profile_on(server.device(), product, QUICK, lambda what, *_: told.append(what))
    assert not [t for t in told if t.startswith("push")]


def test_a_wrong_answer_gets_no_number(server: Server, tmp_path: Path) -> None:
    runner()
    counting(server)
    with pytest.raises(NotEqual, match="onnx:f32 on board: output 'y' differs by .*: not the trained network's answers, so not timed") as refused:
        remote.profile_on(server.device(), a_product(tmp_path / "b", wrong=0.5), QUICK)
    assert refused.value.exit_code == 1


def test_a_runner_that_fails_there_is_told_with_its_own_sentence(server: Server, product: Bundle, tmp_path: Path) -> None:
    runner()
    (tmp_path / "lib.so").write_text("no library")
    with pytest.raises(EdgekitError, match=f"onnx:f32 on board: no golden answers: .*{tmp_path}/lib.so"):
        remote.profile_on(server.device(library=str(tmp_path / "lib.so")), product, QUICK)
    with pytest.raises(EdgekitError, match="board has no /none.so; leave 'library' out"):
        remote.profile_on(server.device(library="/none.so"), product, QUICK)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request(scenario="poisson"), "the C.. runner times single queries, not the scenario 'poisson'; on board that needs edgekit itself: pip install"),
        (Request(runtime="openvino"), "the C.. runner that edgekit carries runs ONNX Runtime, not 'openvino'; on board"),
    ],
)
def test_what_takes_python_is_said(server: Server, product: Bundle, request_: Request, says: str) -> None:
    with pytest.raises(EdgekitError, match=says):
        remote.profile_on(server.device(), product, request_)


def test_a_limit_that_is_too_short_is_said(server: Server, product: Bundle) -> None:
    runner()
    with pytest.raises(EdgekitError, match="timing: it took more than 2 s and was stopped there; give the device a longer limit_s"):
        remote.profile_on(server.device(limit_s=1), product, dataclasses.replace(QUICK, processes=200))


class Files(Readout):
    """One energy counter in microjoule."""

    total = ("board",)
    scope = "the whole board"

    def __init__(self, path: str) -> None:
        self.channels = (Channel("board", "energy", 1e-6, files=(path,)),)

    def read(self) -> tuple[float | None, ...]:
        raise AssertionError("it is on the device")

    def parse(self, texts: Mapping[str, str | None]) -> tuple[float | None, ...]:
        text = texts[self.channels[0].files[0]]
        return (None if text is None else float(text) * 1e-6,)


def test_energy_is_measured_without_python_on_the_device(server: Server, product: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that rises by 5 W, whatever runs: gross power must be 5 W, and net energy none."""
    runner()
    counter = tmp_path / "energy_uj"
    counter.write_text("0")

    class Five(Meter):
        def available(self, tree: object = None) -> str:
            return ""

        def open(self, tree: object = None) -> Readout:
            return Files(str(counter))

    monkeypatch.setattr(energy, "choose", lambda name, tree: (Five(), ""))
    stop = threading.Event()

    def rise() -> None:
        while not stop.wait(0.002):
            (tmp_path / "new").write_text(str(time.monotonic_ns() * 5 // 1000))
            (tmp_path / "new").replace(counter)

    thread = threading.Thread(target=rise)
    thread.start()
    try:
        found = remote.profile_on(server.device(), product, dataclasses.replace(QUICK, energy_seconds=1.0))
    finally:
        stop.set()
        thread.join()
    assert found.energy is not None, found.energy_reason
    assert found.energy.kind == "measured" and found.energy.scope == "the whole board"
    assert found.energy.active_w == pytest.approx(5.0, rel=0.1) and found.energy.idle_before_w == pytest.approx(5.0, rel=0.1)
    assert found.energy.gross_mj_low <= 5e3 * found.energy.window_s / found.energy.inferences <= found.energy.gross_mj_high
    assert found.energy.net_mj is not None and found.energy.net_mj_low < 0 < found.energy.net_mj_high  # type: ignore[operator]
    assert found.power is not None and found.energy_mj == found.energy.gross_mj


def test_a_sensor_that_vanished_costs_the_energy_and_not_the_times(server: Server, product: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner()

    class Gone(Meter):
        def available(self, tree: object = None) -> str:
            return ""

        def open(self, tree: object = None) -> Readout:
            return Files(str(tmp_path / "none"))

    monkeypatch.setattr(energy, "choose", lambda name, tree: (Gone(), ""))
    found = remote.profile_on(server.device(), product, dataclasses.replace(QUICK, energy_seconds=0.3))
    assert found.energy is None and "never answered" in found.energy_reason and found.latency_p50_ms > 0


# With Python on the device


def test_a_device_with_this_edgekit_measures_itself(server: Server, product: Bundle) -> None:
    found = remote.profile_on(server.device(python=sys.executable), product, QUICK)
    assert found.runtime.startswith("onnxruntime ") and found.processes == 2 and not list((work_folder(server) / "tools").glob("*"))


def test_python_finds_a_wrong_answer_too(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotEqual, match="onnx:f32 on board: .*'y'.*: not the trained network's answers, so not timed"):
        remote.profile_on(server.device(python=sys.executable), a_product(tmp_path / "b", wrong=0.5), QUICK)


def test_python_says_what_it_cannot_do(server: Server, product: Bundle) -> None:
    with pytest.raises(EdgekitError, match="onnx:f32 on board: profile: 'toy' is no stream"):
        remote.profile_on(server.device(python=sys.executable), product, dataclasses.replace(QUICK, scenario="stream", rate_hz=10.0))


def test_python_that_is_not_there_or_of_another_version_is_said(server: Server, product: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="board has no edgekit in python3: pip install edgekit=="):
        remote.profile_on(server.device(runner="python"), product, QUICK)
    (tmp_path / "python").write_text("#!/bin/sh\necho 9.9\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(EdgekitError, match="board has edgekit 9.9, not "):
        remote.profile_on(server.device(runner="python", python=str(tmp_path / "python")), product, QUICK)


@pytest.mark.parametrize(("answer", "says"), [("rubbish", "printed no JSON: 'rubbish'"), ('{"failures": [], "runtime": 3}', "not a measurement of this edgekit")])
def test_what_is_no_measurement_is_refused(server: Server, product: Bundle, tmp_path: Path, answer: str, says: str) -> None:
    """A device that answers something else than it should, in a folder that is then clean again."""
    (tmp_path / "python").write_text(f"#!/bin/sh\ncase $1 in -c) echo {__version__};; *) echo '{answer}';; esac\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(EdgekitError, match=says):
        remote.profile_on(server.device(python=str(tmp_path / "python")), product, QUICK)
    assert not list((work_folder(server) / "jobs").iterdir())


# Connections that are lost


SLOW = Request(seconds=3.0, processes=2, energy_seconds=0)


def test_a_dropped_connection_is_made_again_and_the_job_goes_on(server: Server, product: Bundle) -> None:
    runner()
    counting(server)
    told: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if what == "board: time fresh processes" and what not in told:
            threading.Thread(target=server.cut).start()
        told.append(what)

    found = remote.profile_on(server.device(), product, SLOW, progress)
    assert found.processes == 2 and begun(server) == 1  # picked up, or over by the time that a loaded machine was back
    assert "connect to board again" in told


def test_the_result_for_a_killed_controller_is_picked_up(server: Server, product: Bundle) -> None:
    runner()
    counting(server)
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from edgekit import remote
from edgekit.bundle import open_bundle
from edgekit.fleet import Device
from edgekit.process_run import Request
remote.profile_on({server.device()!r}, open_bundle({str(product.folder)!r}), {QUICK!r})
"""
    other = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: begun(server) == 1)
    other.kill()
    other.wait(10)
    (job_,) = (work_folder(server) / "jobs").iterdir()
    until((job_ / "ended").exists)
    told: list[str] = []
    found = remote.profile_on(server.device(), product, QUICK, lambda what, *_: told.append(what))
    assert found.processes == 2 and begun(server) == 1 and "pick up what board has measured for this request" in told
    assert not job_.exists()


def test_a_result_that_is_too_old_is_not_picked_up(server: Server, tmp_path: Path) -> None:
    counting(server)
    folder = tmp_path / "w" / "jobs" / "k"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text('{"results": ["data"]}')
    (folder / "data").write_text("old")
    (folder / "progress").touch()
    (folder / "ended").write_text(f"0 {int(time.time()) - 100_000} {int(time.time()) - 99_000}")
    assert result(server.device(), tmp_path / "w", "k", "echo new >data", "data").text("data") == "new" and begun(server) == 1


def test_a_person_who_interrupts_stops_the_device_too(server: Server, product: Bundle) -> None:
    runner()
    counting(server)
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from edgekit import remote
from edgekit.bundle import open_bundle
from edgekit.fleet import Device
from edgekit.process_run import Request
remote.profile_on({server.device()!r}, open_bundle({str(product.folder)!r}), {dataclasses.replace(QUICK, seconds=100)!r})
"""
    other = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    until(lambda: running(f"{work_folder(server)}/tools") and running("--profile"))
    other.send_signal(signal.SIGINT)
    _, error = other.communicate(timeout=20)
    assert other.returncode == -signal.SIGINT or b"KeyboardInterrupt" in error
    until(lambda: not running(f"{work_folder(server)}/tools"))


def test_a_device_that_stays_away_is_dropped_with_what_to_do(server: Server, product: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    runner()
    monkeypatch.setattr(remote, "RECONNECT_S", (0.1, 0.1))

    def progress(what: str, done: int, total: int) -> None:
        if what == "board: time fresh processes":
            threading.Thread(target=server.stop).start()

    with pytest.raises(Dropped, match="the device may go on for 900 s, and the same command picks its result up"):
        remote.profile_on(server.device(), product, SLOW, progress)


# Other shells and tools


@pytest.mark.skipif(not shutil.which("busybox"), reason="no busybox here: apt-get install busybox")
def test_busybox_is_enough(tmp_path: Path, product: Bundle) -> None:
    """Its shell and its tools, as on small distributions; flock and getconf where this build of it has none."""
    runner()
    tools = tmp_path / "busybox"
    tools.mkdir()
    has = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in ssh_server.TOOLS:
        (tools / name).symlink_to(str(shutil.which("busybox" if name in has else name)))
    server = ssh_server.start(tmp_path / "board", tools)
    try:
        assert remote.profile_on(server.device(), product, QUICK).processes == 2
        found = result(server.device(), tmp_path / "w", "k", "sleep 87653 & sleep 87654", "data", limit_s=1)
        assert found.code == 137
        until(lambda: not running("87653") and not running("87654"))
    finally:
        server.stop()


def test_no_energy_without_a_meter_says_why(server: Server, product: Bundle) -> None:
    runner()
    found = remote.profile_on(server.device(meter="none"), product, dataclasses.replace(QUICK, energy_seconds=0.1))
    assert found.energy is None and found.energy_reason.startswith("none: no energy counter") and Metered().energy is None
