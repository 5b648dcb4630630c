"""An external meter's file is read with its own times and units, or refused with the line that cannot be understood."""

from __future__ import annotations

import re
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from edgekit import energy, registry
from edgekit.errors import EdgekitError
from edgekit.parts import Meter

S = 1_000_000_000


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("EDGEKIT_METER_CSV_OFFSET_S", raising=False)


@pytest.fixture
def meter() -> Meter:
    return registry.load(Meter, "external_csv")


@pytest.fixture
def impatient(meter, monkeypatch):
    """Does not wait for rows that will never come."""
    monkeypatch.setattr(sys.modules[type(meter).__module__], "WAIT_S", 0.1)


@pytest.fixture
def flat(tmp_path, monkeypatch):
    """A file with 5.25 W for two seconds of the year 2027."""
    file = tmp_path / "meter.csv"
    file.write_text("time_s,power_w\n" + "".join(f"{1_800_000_000 + i / 10},{5.25}\n" for i in range(20)))
    monkeypatch.setenv("EDGEKIT_METER_CSV", str(file))
    return file


def shift_ns() -> int:
    return time.time_ns() - time.monotonic_ns()


@pytest.mark.parametrize(
    ("header", "row", "watts"),
    [
        ("time_s,power_w", "{t},5.25", 5.25),
        ("Timestamp(ms),Current(uA),Voltage(mV)", "{ms},1050000,5000", 5.25),
        ("#time (s),current (A),voltage (V),power (W)", "{t},1,5,5.25", 5.25),
        ("time [s];voltage [V];current [mA]", "{comma};5,0;1050,0", 5.25),
        ("sample\ttime_us\tvolts\tamps", "1\t{us}\t5\t1.05", 5.25),
        ("date,watts", "{iso},5.25", 5.25),
        ('"time_s","power_mW"', '"{t}","5250"', 5.25),
    ],
)
def test_an_external_meter_is_read_with_the_units_of_its_header(meter, tmp_path, monkeypatch, header, row, watts):
    file, start = tmp_path / "meter.csv", time.time()
    stamps = [start + i / 100 for i in range(20)]
    rows = [
        row.format(
            t=f"{t:.4f}", ms=f"{t * 1e3:.1f}", us=f"{t * 1e6:.0f}", comma=f"{t:.4f}".replace(".", ","),
            iso=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + f".{int(t % 1 * 1e6):06d}+00:00",
        )
        for t in stamps
    ]  # fmt: skip
    file.write_text("\n".join([header, *rows]) + "\n")
    monkeypatch.setenv("EDGEKIT_METER_CSV", str(file))
    readout = meter.open()
    assert readout.scope == "what the external meter measures (meter.csv)"
    shift = shift_ns()
    start_ns, end_ns = (int(t * 1e9) - shift for t in (stamps[5] + 0.005, stamps[12] - 0.005))
    found = readout.recorded(start_ns, end_ns)
    assert [v for _, v in found] == [pytest.approx((watts,))] * 8  # rows 5 to 12: one before, one after
    assert [(t + shift) / 1e9 for t, _ in found] == pytest.approx(stamps[5:13], abs=2e-3)


def test_the_figure_of_an_external_meter_is_made_of_its_own_rows(meter, tmp_path, monkeypatch):
    """5 W at rest and 8 W in between, logged with the meter's own times, which begin at 0."""
    file, began = tmp_path / "meter.csv", time.time() - 10
    power = [(t / 100, 8.0 if 2 <= t / 100 < 6 else 5.0) for t in range(900)]
    file.write_text("time_s,power_w\n" + "".join(f"{t:.3f},{w:.3f}\n" for t, w in power))
    monkeypatch.setenv("EDGEKIT_METER_CSV", str(file))
    assert "its times begin at 0 s; set EDGEKIT_METER_CSV_OFFSET_S" in meter.available()
    monkeypatch.setenv("EDGEKIT_METER_CSV_OFFSET_S", f"{began:.6f}")
    readout = meter.open()
    assert readout.read() == (5.0,)
    shift = shift_ns()
    edges = [int((began + t) * 1e9) - shift for t in (1, 2, 6, 7)]
    found = energy.measured(meter, readout, SimpleNamespace(readings=[], failed="nobody polled", slowest_read_s=0.0), edges, 100)
    assert found.energy is not None, found.reason
    assert found.energy.gross_mj == pytest.approx(8 * 4 * 10, rel=0.01) and found.energy.net_mj == pytest.approx(3 * 4 * 10, rel=0.02)
    assert found.energy.gross_mj_low <= 320 <= found.energy.gross_mj_high
    assert found.energy.notes[0].startswith("times of meter.csv are the meter's own + ")


def test_rows_that_are_late_are_waited_for_and_a_file_that_ends_early_is_refused(meter, impatient, tmp_path, monkeypatch):
    file, now = tmp_path / "meter.csv", time.time()
    file.write_text("time_s,power_w\n" + "".join(f"{now - 6 + t / 10:.3f},5\n" for t in range(40)))
    monkeypatch.setenv("EDGEKIT_METER_CSV", str(file))
    shift = shift_ns()
    edges = [int((now - 6 + t) * 1e9) - shift for t in (0.5, 1, 5, 5.5)]
    found = energy.measured(meter, meter.open(), SimpleNamespace(readings=[], failed="", slowest_read_s=0.0), edges, 100)
    assert found.energy is None and re.search(r"external stopped answering 2\.9\d* s into the window of 4 s", found.reason)


def test_a_clock_that_was_set_in_the_run_is_refused(meter, flat, monkeypatch):
    readout = meter.open()
    monkeypatch.setattr(sys.modules[type(meter).__module__], "_clock_ns", lambda: shift_ns() + S)
    with pytest.raises(EdgekitError, match="clock was set during the run"):
        readout.recorded(-S, 0)


def test_a_last_line_that_is_still_being_written_is_left_out(meter, impatient, flat):
    with flat.open("a") as file:
        file.write("1800000002.0,5")  # of 53.1
    readout = meter.open()
    assert readout.read() == (5.25,)
    shift = shift_ns()
    assert {v for _, (v,) in readout.recorded(1_799_999_999 * S - shift, 1_800_000_009 * S - shift)} == {5.25}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time,power\n1,2\n", r"first line is 'time,power'; wanted is a header line with a time and watts"),
        ("time_s,current_a\n1,2\n", "wanted is a header line"),
        ("time_s,power_w,power_w\n1,2,3\n", "wanted is a header line"),
        ("1800000000,5.1\n1800000001,5.2\n", "first line is '1800000000,5.1'"),
        ("", "first line is ''"),
        ("time_s,power_w\n1800000000,five\n", "line 2: '1800000000,five' is no row of numbers"),
        ("time_s,power_w\n1800000000\n", "line 2: '1800000000' is no row of numbers"),
        ("time_s,power_w\n1800000000,nan\n", "line 2: '1800000000,nan' is not finite"),
        ("time,watts\nyesterday,5\n", "line 2: 'yesterday,5' is no row of numbers"),
    ],
)
def test_a_file_that_cannot_be_understood_says_which_line(meter, tmp_path, monkeypatch, text, says):
    (tmp_path / "meter.csv").write_text(text)
    monkeypatch.setenv("EDGEKIT_METER_CSV", str(tmp_path / "meter.csv"))
    assert re.search(says, meter.available())


def test_times_that_run_backwards_and_a_wrong_offset_are_refused(meter, flat, monkeypatch):
    readout = meter.open()
    with flat.open("a") as file:
        file.write("1800000000.5,5.0\n")
    shift = shift_ns()
    with pytest.raises(EdgekitError, match="line 22: the time runs backwards; log to a new file"):
        readout.recorded(1_800_000_000 * S - shift, 1_800_000_009 * S - shift)
    monkeypatch.setenv("EDGEKIT_METER_CSV_OFFSET_S", "soon")
    assert meter.available() == "EDGEKIT_METER_CSV_OFFSET_S is 'soon'; wanted is a number of seconds"


def test_a_file_that_goes_away_in_the_run_is_a_reason_and_no_crash(meter, impatient, flat):
    readout = meter.open()
    flat.unlink()
    found = energy.measured(meter, readout, SimpleNamespace(readings=[], failed="", slowest_read_s=0.0), [0, S, 2 * S, 3 * S], 1)
    assert found.energy is None and found.reason.startswith("external_csv: cannot read")


def test_rows_that_come_while_they_are_waited_for_are_taken(meter, flat):
    readout = meter.open()

    def write_the_rest():
        time.sleep(0.2)
        with flat.open("a") as file:
            file.writelines(f"{1_800_000_000 + i / 10},6.0\n" for i in range(20, 40))

    thread = threading.Thread(target=write_the_rest)
    thread.start()
    found = readout.recorded(1_800_000_001 * S - shift_ns(), 1_800_000_003 * S - shift_ns())
    thread.join()
    assert [v for _, (v,) in found][-5:] == [6.0] * 5 and found[-1][0] > 1_800_000_003 * S - shift_ns() - S // 20
