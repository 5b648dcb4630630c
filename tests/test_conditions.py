"""What the machine did, from files as kernels write them: fake trees of an x86 server, a Jetson and a Raspberry Pi, and this machine."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgekit import conditions
from edgekit.sysfs import HERE, Files, Snapshot

S = 1_000_000_000
CPU1 = "/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq"
CPU0 = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
ZONE = "/sys/class/thermal/thermal_zone0/temp"
PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"


def series(*rows: dict[str, str | None]) -> list[tuple[int, dict[str, str | None]]]:
    return [(i * S, row) for i, row in enumerate(rows)]


def test_pressure_is_the_share_of_the_time_that_somebody_waited() -> None:
    rows = series(*({"/proc/pressure/cpu": PSI.format(t)} for t in (1000, 1000, 501_000, 501_000)))
    found = conditions.reduce(rows, Snapshot({}), 0)
    assert found.cpu_pressure == pytest.approx(0.5 / 3)
    assert [row[1] for row in found.trace] == [0.0, 0.0, 0.5, 0.0]


def test_pressure_outside_the_times_of_the_samples_does_not_count() -> None:
    rows = series(*({"/proc/pressure/cpu": PSI.format(t)} for t in (0, 900_000, 900_000, 1_000_000)))
    quiet = conditions.reduce(rows, Snapshot({}), 0, spans=[(1 * S, 2 * S)])
    assert quiet.cpu_pressure == 0.0
    half = conditions.reduce(rows, Snapshot({}), 0, spans=[(S // 2, S), (S, 3 * S // 2)])  # spans shorter than the readings are apart
    assert half.cpu_pressure == pytest.approx(0.45)


def test_the_clock_is_that_of_the_core_that_was_used() -> None:
    rows = series({CPU0: "800000", CPU1: "3400000"}, {CPU0: "800000", CPU1: "3000000"}, {CPU0: "800000", CPU1: "3400000"})
    found = conditions.reduce(rows, Snapshot({}), 0, cpu=1)
    assert (found.clock_mhz_low, found.clock_mhz) == (3000.0, 3400.0)
    assert conditions.reduce(rows, Snapshot({}), 0, cpu=0).clock_mhz == 800.0


def test_stolen_time_is_column_eight_of_proc_stat() -> None:
    rows = series({"/proc/stat": "cpu  10 0 0 100 0 0 0 5 0 0\ncpu0 1 1 1 1"}, {"/proc/stat": "cpu  20 0 0 150 0 0 0 25 0 0"})
    assert conditions.reduce(rows, Snapshot({}), 0).steal == pytest.approx(20 / 80)


@pytest.mark.parametrize(
    ("path", "texts", "events"),
    [
        ("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", ["7", "7"], 0),
        ("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", ["7", "10"], 3),
        ("/sys/class/hwmon/hwmon3/oc1_event_cnt", ["0", "2"], 2),
        ("/sys/class/hwmon/hwmon2/curr1_crit_alarm", ["0", "1"], 1),
        ("/sys/devices/platform/soc/soc:firmware/get_throttled", ["0", "50000"], 0),  # bits 16 and 18: it happened before
        ("/sys/devices/platform/soc/soc:firmware/get_throttled", ["0", "50005"], 1),  # bits 0 and 2: now
        ("/sys/class/thermal/cooling_device0/cur_state", ["0", "4"], 1),
    ],
)
def test_throttling_is_an_event_that_the_kernel_tells_of(path: str, texts: list[str], events: int) -> None:
    found = conditions.reduce(series(*({path: t} for t in texts)), Snapshot({}), 0)
    assert found.throttle_events == events and "throttling" not in found.unread


def test_a_low_clock_alone_is_not_throttling() -> None:
    found = conditions.reduce(series({CPU0: "3400000"}, {CPU0: "800000"}), Snapshot({}), 0)
    assert found.throttle_events is None and found.clock_mhz_low == 800.0


def test_only_cooling_that_slows_is_watched(tmp_path: Path) -> None:
    for i, kind in enumerate(("pwm-fan", "cpufreq-cpu0")):
        folder = tmp_path / f"sys/class/thermal/cooling_device{i}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(kind + "\n")
        (folder / "cur_state").write_text("0\n")
    assert conditions.files(Files(tmp_path)) == ["/sys/class/thermal/cooling_device1/cur_state"]


def test_the_power_mode_of_a_jetson_is_named_by_its_own_file() -> None:
    table = "# comment\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    assert conditions.power_mode(Snapshot({"/var/lib/nvpmodel/status": "pmode:0002", "/etc/nvpmodel.conf": table})) == "MAXN_SUPER"
    assert conditions.power_mode(Snapshot({"/var/lib/nvpmodel/status": "pmode:0007", "/etc/nvpmodel.conf": table})) == "nvpmodel 7"
    assert conditions.power_mode(Snapshot({})) == ""


def test_what_cannot_be_read_is_none_with_a_reason() -> None:
    found = conditions.reduce(series({"/proc/stat": "cpu 1"}, {"/proc/stat": "cpu 2"}), Snapshot({}), 0)
    assert (found.cpu_pressure, found.clock_mhz, found.temperature_c_high, found.steal) == (None, None, None, None)
    assert set(found.unread) == {"CPU pressure", "clock", "temperature", "throttling"}
    assert conditions.reduce([], Snapshot({}), 0).unread


def test_a_file_that_vanishes_in_the_middle_leaves_a_hole_and_no_number() -> None:
    found = conditions.reduce(series({ZONE: "40000"}, {ZONE: None}, {ZONE: "garbage"}, {ZONE: "45000"}), Snapshot({}), 0)
    assert [row[3] for row in found.trace] == [40.0, None, None, 45.0]
    assert (found.temperature_c_start, found.temperature_c_high) == (40.0, 45.0)


def test_each_sample_gets_the_state_of_its_time() -> None:
    found = conditions.reduce(series({ZONE: "40000"}, {ZONE: "50000"}), Snapshot({}), 0)
    beside = conditions.at(found, np.array([0.0, 0.5, 1.0]))
    assert beside["temperature_c"].tolist() == [40.0, 45.0, 50.0]
    assert np.isnan(beside["clock_mhz"]).all() and len(beside["pressure"]) == 3


def test_this_machine_can_be_read() -> None:
    paths = conditions.files(HERE)
    read = conditions.reader(HERE, paths)
    start = time.monotonic_ns()
    rows = []
    for _ in range(3):
        rows.append((time.monotonic_ns(), read()))
        time.sleep(0.02)
    found = conditions.reduce(rows, HERE, start)
    assert "/proc/stat" in paths and len(found.trace) == 3
    assert found.cpu_pressure is None or 0 <= found.cpu_pressure <= 1
