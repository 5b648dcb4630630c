"""A wall clock that is set, and a sensor that goes away, in the middle of a measurement: no figure depends on the one or is made up for the other."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fake_sysfs as fake
import pytest
from sweep_models import measured, model, spec
from test_profile import QUICK, a_product

from edgekit import conditions, energy, examine, profile, registry
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Meter
from edgekit.roofline import probe
from edgekit.sweep import device as sweep_device
from edgekit.sweep import flow as sweep
from edgekit.sweep import plan as sweep_plan
from edgekit.sweep.ledger import Ledger
from edgekit.sweep.owner import Owner
from edgekit.sysfs import Files

ROOT = Path(__file__).parent.parent
# Who asks for the time of day, and what for. All else takes monotonic clocks.
TIME_OF_DAY = {
    "edgekit/roofline/probe.py": "a stamp: when a roof was measured",
    "edgekit/sweep/ledger.py": "stamps of events, and until when a lease of another machine holds",
    "edgekit/sweep/owner.py": "until when a lease of another machine holds; of this machine, the kernel says who lives",
    "edgekit/remote/probe.py": "how far a device's clock is from this one",
    "edgekit/meters/external_csv.py": "the logger of an external meter writes it; that it was set in between is noticed",
    "edgekit/meters/_csv_power.py": "the same: dates in its file",
}
DAY_S = 86_400
# In every process that is started: each look at the time of day is a day off, now ahead and now behind.
JUMPING = f"""
import itertools, time
real, real_ns, jumps = time.time, time.time_ns, itertools.cycle((0, {DAY_S}, -{DAY_S}))
time.time = lambda: real() + next(jumps)
time.time_ns = lambda: real_ns() + next(jumps) * 10**9
"""


def asks_for_the_time_of_day(tree: ast.AST) -> bool:
    names = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "time" for a in n.names}
    wall = {"time.time", "time.time_ns", "time.gmtime", "time.localtime", "time.ctime", "datetime.now", "datetime.utcnow", "datetime.today",
            "datetime.datetime.now", "datetime.fromisoformat", "date.today", "time.CLOCK_REALTIME"}  # fmt: skip
    return bool(names & wall or imported & {"time", "time_ns", "gmtime", "localtime"})


def test_only_stamps_come_from_the_time_of_day():
    found = {
        str(f.relative_to(ROOT)) for folder in ("edgekit", "exporters", "calibration") for f in (ROOT / folder).rglob("*.py")
        if asks_for_the_time_of_day(ast.parse(f.read_text(encoding="utf-8")))
    }  # fmt: skip
    assert found == set(TIME_OF_DAY)
    assert asks_for_the_time_of_day(ast.parse("from time import time_ns")) and not asks_for_the_time_of_day(ast.parse("time.monotonic()"))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = a_product(tmp_path_factory.mktemp("product") / "b", 64)
    assert examine.verify(made, "onnxruntime", 0).passed
    return made


def test_a_profile_is_the_same_whatever_the_time_of_day_does(product, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    command = [sys.executable, "-m", "edgekit", "profile", str(product.folder), "--seconds", "0.2", "--processes", "2", "--energy-seconds", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    jumped = subprocess.run([sys.executable, "-c", "import time; print(abs(time.time() - time.time()))"], env=environment, capture_output=True, text=True, check=True)
    assert float(jumped.stdout) > DAY_S / 2  # the clock of such processes does jump
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    took_ms = (time.monotonic() - begun) * 1e3
    found = json.loads(done.stdout)
    times = [found[n] for n in ("load_ms", "first_run_ms", "latency_min_ms", "latency_p50_ms", "latency_p90_ms")]
    assert all(0 < t < took_ms for t in times) and times[2] <= times[3] <= times[4] < 50
    assert found["samples"] * found["latency_min_ms"] <= 0.2e3 * 2  # as many as fit into the time that was asked for
    assert found["conditions"]["cpu_pressure"] is None or 0 <= found["conditions"]["cpu_pressure"] <= 1


def test_a_sweep_goes_on_whatever_the_time_of_day_does(tmp_path, monkeypatch):
    """Leases of this machine's processes hold and end with the processes; the order of runs is that of the commits."""
    real, real_ns = time.time, time.time_ns
    offsets = [DAY_S, -DAY_S]

    def measure(*_: object, **__: object) -> object:
        """The clock is set ahead by a day while the first is measured, and back by two while the second is."""
        offset = offsets.pop(0)
        monkeypatch.setattr(time, "time", lambda: real() + offset)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + offset * 10**9)
        time.sleep(0.3)
        return measured(1.0)

    monkeypatch.setattr(sweep_device, "measure", measure)
    plan = sweep_plan.plan_of({"models": [spec(model(tmp_path, n, i)) for i, n in enumerate("ab")], "here": True}, tmp_path, "t", "t")
    swept = sweep.run(plan, tmp_path / "out", workers=1)
    assert [r.state for r in swept.rows] == ["done", "done"]
    with Ledger(tmp_path / "out" / sweep.LEDGER) as ledger:
        assert ledger.overlaps() == [] and len(ledger.runs()) == 2 and not offsets
        assert ledger.runs()[1].end_ns < ledger.runs()[0].start_ns  # as the clock had it; the order is that of the commits
        me = Owner.me()
        ledger.add("k", "measure", "k")
        assert ledger.lease("k", "d", me) == ""
        for shift in (-DAY_S, DAY_S):
            monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
            assert ledger.reclaim() == []  # the owner lives: no clock says otherwise


def test_a_roof_of_another_day_is_kept(tmp_path, monkeypatch):
    """Its stamp decides nothing: a clock that goes back makes nothing too old or too new."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    found = json.loads((ROOT / "tests" / "data" / "roof.json").read_text()) if (ROOT / "tests" / "data" / "roof.json").exists() else None
    calls: list[int] = []

    def measured_once(threads: int) -> dict[str, object]:
        calls.append(threads)
        roof = {"threads": threads, "compute_gops": {"f32": 10.0}, "bandwidth_gb_s": 5.0, "how": {"f32": "x", "bandwidth": "x", "overhead": "x"}}
        return {"roof": roof, "call_us": 1.0, "node_us": 1.0, "pressure": 0.0}

    assert found is None
    monkeypatch.setattr(probe, "_measured", measured_once)
    for stamp in ("2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        monkeypatch.setattr(probe.time, "strftime", lambda *a, stamp=stamp: stamp)
        monkeypatch.setattr(probe, "_SEEN", set())
        assert probe.probe(1).made == "2001-01-01T00:00:00Z"
    assert calls == [1]


# --- sensors


class Going(Files):
    """A tree that goes away after so many readings."""

    def __init__(self, root: Path, last: int) -> None:
        super().__init__(root)
        self.left = last

    def read(self, path: str) -> str:
        self.left -= 1
        if self.left < 0:
            raise FileNotFoundError(2, "No such file or directory", path)
        return super().read(path)

    def find(self, pattern: str) -> list[str]:
        return super().find(pattern) if self.left > 0 else []


TREES = {
    "rapl": fake.laptop(), "ina3221": fake.orin_nx(), "ina238": fake.thor(), "rpi_pmic": {"/vcgencmd pmic_read_adc": fake.PMIC},
    "battery": fake.battery(power_now="6500000", energy_now="30000000"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_meter_that_goes_away_at_any_reading_is_a_reason_or_no_number(name, tmp_path):
    """While it is looked for, while it is opened, and while it is read."""
    fake.write(tmp_path, TREES[name])
    meter = registry.load(Meter, name)
    count = Going(tmp_path, 10**6)
    readout = meter.open(count)
    whole = readout.read()
    needed = 10**6 - count.left
    opened = 0
    for last in range(needed):
        try:
            readout = meter.open(Going(tmp_path, last))
        except EdgekitError as reason:
            assert len(str(reason)) > 20
            continue
        opened += 1
        for value, want in zip(readout.read(), whole, strict=False):
            assert value is None or value in whole or value == want
        assert set(readout.read()) == {None}
        assert energy.choose(name, Going(tmp_path, last)) is not None
    assert opened


def test_a_sensor_that_goes_away_in_a_real_profile_costs_the_energy_and_nothing_else(product, tmp_path):
    tree = fake.write(tmp_path / "root", TREES["ina3221"])
    found = during(lambda: shutil.rmtree(tmp_path / "root"), product, "ina3221", tree)
    assert found.energy is None and found.energy_mj is None
    assert found.power is None or {w for values in found.power.watts.values() for w in values[-20:]} == {None}  # the trace ends where the sensor did
    assert "stopped answering" in found.energy_reason
    assert found.latency_p50_ms > 0


def test_sensors_that_change_their_numbers_give_no_figure(product, tmp_path):
    """A driver that is loaded anew may give hwmon1 to another chip: its watts are not the board's."""
    tree = fake.write(tmp_path / "root", fake.orin_nx() | {p.replace("hwmon1", "hwmon9"): t for p, t in fake.agx_orin(1, 2).items() if "hwmon1" in p})
    folder = tmp_path / "root/sys/class/hwmon"
    shutil.move(folder / "hwmon9", tmp_path / "other")

    def swap() -> None:
        (folder / "hwmon1").rename(folder / "hwmon2")
        (tmp_path / "other").rename(folder / "hwmon1")

    found = during(swap, product, "ina3221", tree)
    assert found.energy is None and "other sensors" in found.energy_reason


def during(change: Callable[[], None], product: Bundle, meter: str, tree: Files) -> object:
    """A profile with a window of 1.2 s under a meter, in the middle of which something changes."""
    real = profile.child

    def child(bundle, request, rest):
        if rest != ["energy"]:
            return real(bundle, request, rest)
        timer = threading.Timer(1.5, change)  # the child needs a moment to open the bundle, idles, and then works
        timer.start()
        try:
            return real(bundle, request, rest)
        finally:
            timer.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "child", child)
        return profile.profile(product, dataclasses.replace(QUICK, processes=1, energy_seconds=2.4), meter=meter, tree=tree).measurement


def test_the_state_of_a_machine_that_goes_away_at_any_reading_is_unknown_and_no_error(tmp_path):
    for path in ("/proc/stat", "/proc/pressure/cpu"):
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / path.lstrip("/")) if Path(path).exists() else None
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("41000\n")
    for last in range(12):
        tree = Going(tmp_path, last)
        read = conditions.reader(tree, conditions.files(tree))
        for _ in range(4):
            read()
