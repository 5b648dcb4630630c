"""An external meter (USB meter, Joulescope, power analyser) that writes a CSV file: EDGEKIT_METER_CSV=FILE.

Its rows carry their own times, so the polled value is only for show: the figure is made of the rows themselves (`recorded`).
EDGEKIT_METER_CSV_OFFSET_S is added to its times to give Unix time; without it they must be Unix times or dates.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.meters._csv_power import layout, rows
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import HERE, Tree

VARIABLE, OFFSET = "EDGEKIT_METER_CSV", "EDGEKIT_METER_CSV_OFFSET_S"
WAIT_S = 5.0  # loggers write late: so long the rows of the end are waited for
EARLIEST_S = 1e9  # Unix times are above it (2001); smaller ones count from the meter's own start
CLOCK_STEP_S = 0.01  # a clock that was set by more during the run moves the rows against the inferences
TAIL = 4096  # bytes that hold the last row


class ExternalCsv(Meter):
    """Truth from outside: as good as the two clocks agree."""

    def available(self, tree: Tree = HERE) -> str:
        path = os.environ.get(VARIABLE, "")
        if not path:
            return f"no external meter; one that writes a CSV file is named by {VARIABLE}=FILE"
        try:
            _Csv(Path(path))
        except EdgekitError as error:
            return str(error)
        return ""

    def open(self, tree: Tree = HERE) -> Readout:
        reason = self.available(tree)
        if reason:
            raise EdgekitError(reason)
        return _Csv(Path(os.environ[VARIABLE]))


class _Csv(Readout):
    total = ("external",)

    def __init__(self, path: Path) -> None:
        self._layout, self._offset_s = layout(path), _offset_s()
        first = [next_row for _, next_row in zip(range(2), rows(self._layout), strict=False)]
        times = [self._layout.row(cells, line)[0] for line, cells in first]
        if times and times[0] < EARLIEST_S and os.environ.get(OFFSET) is None:
            raise EdgekitError(f"{path}: its times begin at {times[0]:g} s; set {OFFSET} to the Unix time at which they are 0")
        step = self._layout.step_w(first[0][1]) if first else 0.0
        spacing = max(0.0, times[1] - times[0]) if len(times) == 2 else 0.0
        self.channels = (Channel("external", "power", step, spacing),)
        self.scope = f"what the external meter measures ({path.name})"
        self.notes = (f"times of {path.name} are the meter's own" + (f" + {self._offset_s:g} s" if self._offset_s else ""),)
        self._clock_ns = _clock_ns()

    def read(self) -> tuple[float | None, ...]:
        """The last whole row, for show; None when there is none."""
        try:
            with self._layout.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                *whole, _ = file.read().decode("utf-8", errors="replace").split("\n")
            return (self._layout.row(next(csv.reader(whole[-1:], delimiter=self._layout.delimiter)), 0)[1],)
        except (OSError, EdgekitError, StopIteration, csv.Error):
            return (None,)

    def recorded(self, start_ns: int, end_ns: int) -> list[tuple[int, tuple[float | None, ...]]]:
        """The rows of a time in monotonic ns, and those next to it. EdgekitError when the clock was set meanwhile."""
        limit = time.monotonic() + WAIT_S
        while True:
            found = self._rows(start_ns, end_ns)
            if (found and found[-1][0] >= end_ns) or time.monotonic() > limit:
                break
            time.sleep(0.1)
        if abs(_clock_ns() - self._clock_ns) > CLOCK_STEP_S * 1e9:
            raise EdgekitError("this machine's clock was set during the run, so rows and inferences cannot be matched; measure again")
        return found

    def _rows(self, start_ns: int, end_ns: int) -> list[tuple[int, tuple[float | None, ...]]]:
        found: list[tuple[int, tuple[float | None, ...]]] = []
        before = -(2**63)
        for line, cells in rows(self._layout):
            seconds, watts = self._layout.row(cells, line)
            at = int((seconds + self._offset_s) * 1e9) - self._clock_ns
            if at < before:
                raise EdgekitError(f"{self._layout.path}, line {line}: the time runs backwards; log to a new file for each run")
            before = at
            if at < start_ns:
                found = [(at, (watts,))]  # only the last one before the start
                continue
            found.append((at, (watts,)))
            if at > end_ns:
                break
        return found


def _clock_ns() -> int:
    """What Unix time is ahead of the monotonic clock."""
    return time.time_ns() - time.monotonic_ns()


def _offset_s() -> float:
    text = os.environ.get(OFFSET, "0")
    try:
        return float(text)
    except ValueError:
        raise EdgekitError(f"{OFFSET} is {text!r}; wanted is a number of seconds") from None


PART = ExternalCsv()
