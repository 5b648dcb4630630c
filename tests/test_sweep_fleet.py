"""A fleet of four devices by ssh: real sshd on loopback, each with a clock, a speed and a diary of its own, under real sweeps.

On such a device `python3` is a shell script that stands for edgekit: it notes when it begins and ends, refuses to run twice at
a time, takes as long as the device is slow, and says so. All else is real: keys, pushes, locks, jobs, results.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ssh_server
from hostile_device import Hostile
from ssh_server import Server
from sweep_models import measured, model, spec
from test_hostile_device import endless, says

from edgekit import __version__, remote
from edgekit.data import cache_folder
from edgekit.sweep import device as sweep_device
from edgekit.sweep import flow as sweep
from edgekit.sweep import plan as sweep_plan
from edgekit.sweep.ledger import Ledger

ROOT = Path(__file__).parent.parent
SPEEDS_MS = {"a": 40, "b": 80, "c": 120, "d": 200}  # what one measurement takes there
MODELS = "abcdefghij"
PYTHON = f"""#!/bin/sh
case "$1" in -c) echo {__version__}; exit 0;; esac
case "$3" in
verify) echo '{{"failures": []}}'; exit 0;;
esac
exec 7>>"$HOME/one" && flock -n 7 || {{ echo overlap >>"$HOME/diary"; exit 3; }}
echo "start $4 $(date +%s%N)" >>"$HOME/diary"
sleep "$(cat "$HOME/seconds")"
echo "end $4 $(date +%s%N)" >>"$HOME/diary"
cat "$HOME/measurement.json"
"""


@dataclass
class Simulated:
    """One device of the fleet."""

    name: str
    server: Server

    @property
    def diary(self) -> list[list[str]]:
        """What it did: [start or end, bundle, nanoseconds]."""
        path = self.server.home / "diary"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def finished(self) -> Counter[str]:
        """How often each bundle was measured to its end."""
        return Counter(Path(line[1]).name for line in self.diary if line[0] == "end")

    def busy(self) -> bool:
        return bool(self.diary) and self.diary[-1][0] == "start"

    def table(self, **given: object) -> dict[str, object]:
        """Its [[devices]] table."""
        usual = {"name": self.name, "ssh": f"ssh://{getpass.getuser()}@127.0.0.1:{self.server.port}", "host_key": self.server.fingerprint,
                 "key": str(self.server.folder / "user_key"), "runner": "python", "wait_s": 20.0, "limit_s": 30.0}  # fmt: skip
        return {**usual, **given}

    def die(self) -> None:
        """Power off: sshd, its sessions and all jobs."""
        self.server.stop()
        home = f"HOME={self.server.home}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if home in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                continue

    def set_seconds(self, seconds: float) -> None:
        (self.server.home / "seconds").write_text(str(seconds))

    def assert_one_at_a_time(self) -> None:
        """By its own diary, in its own clock."""
        kinds = [line[0] for line in self.diary]
        assert "overlap" not in kinds
        times = [int(line[2]) for line in self.diary]
        assert times == sorted(times)
        open_runs = 0
        for kind in kinds:
            open_runs = open_runs + 1 if kind == "start" else open_runs - 1
            assert open_runs in (0, 1), self.diary


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own ~/.ssh is read; what is lost is tried again soon."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(cache_folder()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    monkeypatch.setattr(remote, "RECONNECT_S", (0.2,))
    monkeypatch.setattr(sweep, "BACK_OFF_S", 0.1)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[dict[str, Simulated]]:
    """Four devices that are freshly installed."""
    found = {}
    for name, ms in SPEEDS_MS.items():
        server = ssh_server.start(tmp_path / "fleet" / name)
        (server.folder / "bin" / "python3").write_text(PYTHON)
        (server.folder / "bin" / "python3").chmod(0o755)
        (server.home / "measurement.json").write_text(json.dumps(measured(ms / 10, name).to_json()))
        found[name] = Simulated(name, server)
        found[name].set_seconds(ms / 1000)
    yield found
    for device in found.values():
        device.die()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten models, exported, verified and scored, in a folder that sweeps go on from."""
    folder = tmp_path_factory.mktemp("prepared")
    sweep.run(plan(folder, MODELS, targets=["raspberry_pi_5"], here=False), folder / "out", workers=2)
    return folder


def plan(folder: Path, names: str, **values: object) -> sweep_plan.Plan:
    models = [spec(model(folder, n, MODELS.index(n))) for n in names]
    return sweep_plan.plan_of({"models": models, **values}, folder, "fleet", "fleet")


def copy_of(prepared: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-r", str(prepared / "out"), str(folder / "out")], check=True)
    return folder / "out"


def states(found: sweep.Swept) -> Counter[str]:
    return Counter(r.state for r in found.rows)


def test_forty_jobs_on_four_devices_of_different_speed(fleet, prepared, tmp_path):
    out = copy_of(prepared, tmp_path)
    found = sweep.run(plan(prepared, MODELS, devices=[d.table() for d in fleet.values()]), out, workers=1)
    assert [r.reason for r in found.rows if r.reason] == []
    assert states(found) == {"done": 40}
    for name, device in fleet.items():
        device.assert_one_at_a_time()
        assert sorted(device.finished().values()) == [1] * 10
        mine = [r.candidate for r in found.rows if r.candidate and r.cell.device == name]
        assert [(c.device, c.latency_ms.value) for c in mine if c.latency_ms] == [(name, SPEEDS_MS[name] / 10)] * 10
        assert all(c.quality == 1.0 and c.target.startswith("host_") for c in mine)  # by ssh a device says itself what it is
    with Ledger(out / sweep.LEDGER) as ledger:
        assert ledger.overlaps() == []
        assert Counter((r.device, r.outcome) for r in ledger.runs()) == {(n, "done"): 10 for n in fleet}
        spans = [(r.start_ns, r.end_ns) for r in ledger.runs()]
    assert any(x[0] < y[0] < x[1] for x in spans for y in spans)  # devices did work side by side
    front = found.front("latency_ms")
    assert {c.device for c in front} == {"a"}


def test_a_device_that_dies_in_the_middle_of_a_job_costs_its_own_cells_only(fleet, prepared, tmp_path):
    out = copy_of(prepared, tmp_path)
    fleet["c"].set_seconds(1.0)

    def killer() -> None:
        while len(fleet["c"].finished()) < 1 or not fleet["c"].busy():
            time.sleep(0.01)
        fleet["c"].die()

    thread = threading.Thread(target=killer)
    thread.start()
    found = sweep.run(plan(prepared, MODELS[:4], devices=[fleet[n].table() for n in "bcd"]), out, workers=1)
    thread.join()
    by = {n: Counter(r.state for r in found.rows if r.cell.device == n) for n in "bcd"}
    assert by == {"b": {"done": 4}, "c": {"done": 1, "failed": 3}, "d": {"done": 4}}
    told = [r.reason for r in found.rows if r.state == "failed"]
    assert all("c" in t and "\n" not in t for t in told)
    for device in fleet.values():
        device.assert_one_at_a_time()
    with Ledger(out / sweep.LEDGER) as ledger:
        assert ledger.overlaps() == []
        assert any(r.outcome == "again" for r in ledger.runs() if r.device == "c")


def test_the_jobs_of_a_device_that_dies_go_to_another_of_its_target(fleet, prepared, tmp_path):
    out = copy_of(prepared, tmp_path)
    fleet["c"].set_seconds(0.5)

    def killer() -> None:
        while not fleet["c"].busy():
            time.sleep(0.01)
        fleet["c"].die()

    thread = threading.Thread(target=killer)
    thread.start()
    devices = [fleet[n].table(target="raspberry_pi_5") for n in "cd"]
    found = sweep.run(plan(prepared, MODELS[:4], devices=devices), out, workers=1)
    thread.join()
    assert [r.reason for r in found.rows if r.reason] == []
    assert states(found) == {"done": 4}
    assert {r.candidate.device for r in found.rows if r.candidate} == {"d"}
    assert {r.candidate.target for r in found.rows if r.candidate} == {"raspberry_pi_5"}
    fleet["d"].assert_one_at_a_time()


def test_a_device_with_another_key_than_the_fleet_file_says_is_refused_and_never_used(fleet, prepared, tmp_path):
    out = copy_of(prepared, tmp_path)
    devices = [fleet["a"].table(), fleet["b"].table(host_key=fleet["a"].server.fingerprint), fleet["c"].table(host_key="")]
    found = sweep.run(plan(prepared, MODELS[:2], devices=devices), out, workers=1)
    by = {n: [r for r in found.rows if r.cell.device == n] for n in "abc"}
    assert [r.state for r in by["a"]] == ["done", "done"]
    for name in "bc":
        assert [r.state for r in by[name]] == ["failed", "failed"]
        assert all("key" in r.reason for r in by[name])
        assert fleet[name].diary == []
        assert not (fleet[name].server.home / ".cache").exists()
    assert not (Path(os.environ["HOME"]) / ".ssh" / "known_hosts").exists()


LIES = {
    "endless": ("files", endless(b"x" * 65536), "prints more than"),
    "no sense": ("probe", says("end=1\n\x1b[2J"), "told neither home"),
    "a sentence that steers": ("begin", says("\x1b]0;owned\x07\u202e\n</script>" * 99, 1), "cannot write to"),
}


@pytest.mark.parametrize("name", ["endless", *(pytest.param(n, marks=pytest.mark.slow) for n in LIES if n != "endless")])
def test_a_device_that_attacks_costs_its_own_cells_only(fleet, prepared, tmp_path, name):
    out = copy_of(prepared, tmp_path)
    kind, lie, told = LIES[name]
    evil = Hostile(tmp_path / "evil").start()
    evil.lies[kind] = lie
    table = {"name": "evil", "ssh": f"ssh://me@127.0.0.1:{evil.port}", "host_key": evil.fingerprint, "runner": "python"}
    try:
        found = sweep.run(plan(prepared, MODELS[:2], devices=[fleet["a"].table(), table]), out, workers=1)
    finally:
        evil.stop()
    by = {n: [r for r in found.rows if r.cell.device == n] for n in ("a", "evil")}
    assert [r.state for r in by["a"]] == ["done", "done"] and [r.state for r in by["evil"]] == ["failed", "failed"]
    assert all(told in r.reason and r.reason.isprintable() and len(r.reason) < 1800 for r in by["evil"]), by["evil"]
    assert name == "a sentence that steers" or evil.seen.count("probe") == 1, "one that misbehaves is asked again"
    assert not set((out / "sweep.json").read_text()) & set("\x1b\x07\u202e") and not list(tmp_path.glob("owned*"))


def toml(path: Path, names: str, folder: Path, fleet: dict[str, Simulated]) -> Path:
    """The same sweep as a file, for a process of its own."""
    lines = ['name = "fleet"']
    for n in names:
        m = spec(model(folder, n, MODELS.index(n)))
        lines += ["[[models]]", f"file = {json.dumps(m['file'])}", f"wishes = {{ test = {json.dumps(m['wishes']['test'])} }}"]
    for device in fleet.values():
        lines += ["[[devices]]", *(f"{k} = {json.dumps(v)}" for k, v in device.table().items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_after_a_killed_controller_no_finished_job_is_repeated(fleet, prepared, tmp_path):
    out = copy_of(prepared, tmp_path)
    file = toml(tmp_path / "fleet.toml", MODELS[:4], prepared, fleet)
    command = [sys.executable, "-m", "edgekit", "sweep", str(file), "--out", str(out), "--workers", "1", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 60
    while sum(len(d.finished()) for d in fleet.values()) < 4 or not any(d.busy() for d in fleet.values()):
        assert time.monotonic() < until
        assert first.poll() is None
        time.sleep(0.005)
    first.kill()  # SIGKILL, and nothing else: what it started must end by itself or be found
    first.wait()
    until = time.monotonic() + 30
    while left := [pid for pid, owner in sweep_device._marks().items() if owner.pid == first.pid]:
        assert time.monotonic() < until, left  # its workers have ended by themselves
        time.sleep(0.05)
    with Ledger(out / sweep.LEDGER) as ledger:
        done = {j.what for j in ledger.jobs("measure") if j.state == "done"}
    assert 0 < len(done) < 16
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert Counter(c["state"] for c in json.loads(again.stdout)["cells"]) == {"done": 16}
    with Ledger(out / sweep.LEDGER) as ledger:
        assert ledger.overlaps() == []
        runs = Counter(r.key for r in ledger.runs() if r.outcome == "done")
        assert set(runs.values()) == {1}
        lost = Counter(r.device for r in ledger.runs() if r.outcome == "lost")
        assert all(n <= 1 for n in lost.values())  # at most one run a device
        assert {r.outcome for r in ledger.runs()} <= {"done", "lost"}
    for device in fleet.values():
        device.assert_one_at_a_time()
        assert set(device.finished().values()) == {1}  # even that one went on, and was fetched


@pytest.mark.slow
def test_a_device_with_this_edgekit_measures_for_a_sweep(prepared, tmp_path):
    """Nothing is simulated: the device's own Python, which is this one, verifies and times the bundle."""
    server = ssh_server.start(tmp_path / "real")
    (server.folder / "bin" / "python3").write_text(f'#!/bin/sh\nexport PYTHONPATH={ROOT} EDGEKIT_CACHE={tmp_path}/cache\nexec {sys.executable} "$@"\n')
    (server.folder / "bin" / "python3").chmod(0o755)
    device = Simulated("real", server)
    try:
        profile = {"seconds": 0.2, "processes": 3, "energy_seconds": 0.0}
        found = sweep.run(plan(prepared, "ab", devices=[device.table()], profile=profile), copy_of(prepared, tmp_path), workers=1)
    finally:
        device.die()
    assert [r.reason for r in found.rows if r.reason] == []
    for row in found.rows:
        assert row.candidate is not None
        assert row.candidate.latency_ms is not None
        assert 0 < row.candidate.latency_ms.low <= row.candidate.latency_ms.value < 10
