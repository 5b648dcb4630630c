"""Power over time from the CSV file of an external meter: a time column and watts, or volts and amperes; units in the header.

Understood: `time_s,power_w`, `Timestamp(ms),Current(uA),Voltage(mV)`, `time [s];voltage [V];current [A]` (then with decimal
commas too), `timestamp,watts` with dates like 2026-11-24T12:00:00.5+01:00 (without a zone: this machine's).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from edgekit.errors import EdgekitError

Kind = Literal["time", "power", "voltage", "current"]
NAMES: dict[str, Kind] = {
    "time": "time", "timestamp": "time", "t": "time", "date": "time", "datetime": "time",
    "power": "power", "p": "power", "watts": "power", "watt": "power",
    "voltage": "voltage", "v": "voltage", "u": "voltage", "volts": "voltage", "volt": "voltage",
    "current": "current", "i": "current", "amps": "current", "amperes": "current", "ampere": "current", "amp": "current",
}  # fmt: skip
BASE: dict[Kind, tuple[str, ...]] = {"time": ("s", "sec", "seconds"), "power": ("w",), "voltage": ("v",), "current": ("a",)}
PREFIX = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
SAYS_ITS_UNIT = ("watts", "watt", "volts", "volt", "amps", "amperes", "ampere", "amp")
HEADER = re.compile(r"^([A-Za-z]+)(?:\s*[\s_(\[/]\s*([A-Za-z]+)\s*[)\]]?)?$")
WANTED = "a header line with a time and watts, or volts and amperes, and their units: time_s,power_w or time_ms,voltage_v,current_ma"


@dataclass(frozen=True)
class Column:
    """Where a quantity stands in a row, and what its numbers are multiplied with; scale 0: a date."""

    index: int
    scale: float


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are read."""

    path: Path
    delimiter: str
    time: Column
    factors: tuple[Column, ...]  # power, or voltage and current

    def row(self, cells: list[str], line: int) -> tuple[float, float]:
        """(seconds, watts) of a row; EdgekitError, with the line, when it is not one."""
        try:
            seconds = self._time(cells[self.time.index])
            watts = math.prod(self._number(cells[c.index]) * c.scale for c in self.factors)
        except (ValueError, IndexError):
            raise EdgekitError(f"{self.path}, line {line}: {self.delimiter.join(cells)[:80]!r} is no row of numbers") from None
        if not math.isfinite(seconds) or not math.isfinite(watts):
            raise EdgekitError(f"{self.path}, line {line}: {self.delimiter.join(cells)[:80]!r} is not finite")
        return seconds, watts

    def step_w(self, cells: list[str]) -> float:
        """One step of the last written digits of a row, in watts."""
        values = [self._number(cells[c.index]) * c.scale for c in self.factors]
        digits = [len(cells[c.index].replace(",", ".").strip().partition(".")[2]) for c in self.factors]
        steps = [c.scale * 10.0**-d for c, d in zip(self.factors, digits, strict=True)]
        return sum(step * abs(math.prod(v for j, v in enumerate(values) if j != i)) for i, step in enumerate(steps))

    def _number(self, text: str) -> float:
        return float(text.replace(",", ".") if self.delimiter == ";" else text)

    def _time(self, text: str) -> float:
        return self._number(text) * self.time.scale if self.time.scale else datetime.fromisoformat(text.strip()).timestamp()


def layout(path: Path) -> Layout:
    """Read the header; EdgekitError with what is wanted when the file is not such a CSV."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.readline().strip().lstrip("#").strip()
    except OSError as error:
        raise EdgekitError(f"cannot read {path}: {error.strerror or error}; start the logger of the external meter first") from None
    delimiter = next((d for d in (";", "\t", ",") if d in head), ",")
    columns: dict[Kind, list[Column]] = {"time": [], "power": [], "voltage": [], "current": []}
    for index, cell in enumerate(head.split(delimiter)):
        found = HEADER.match(cell.strip().strip('"').replace("µ", "u").replace("μ", "u"))
        kind = NAMES.get(found[1].lower()) if found else None
        if found and kind:
            scale = _scale(kind, found[1].lower(), (found[2] or "").lower())
            if scale is not None:
                columns[kind].append(Column(index, scale))
    factors = columns["power"] or [*columns["voltage"], *columns["current"]]
    whole = len(columns["power"]) == 1 or (len(columns["voltage"]) == 1 and len(columns["current"]) == 1 and not columns["power"])
    if not columns["time"] or not whole:
        raise EdgekitError(f"{path}: the first line is {head[:100]!r}; wanted is {WANTED}")
    return Layout(path, delimiter, columns["time"][0], tuple(factors))


def rows(plan: Layout) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each whole row below the header; a last line that is still being written is left out."""
    try:
        with plan.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            next(file, None)
            whole = (line for line in file if line.endswith("\n"))
            for number, cells in enumerate(csv.reader(whole, delimiter=plan.delimiter), start=2):
                if any(cell.strip() for cell in cells):
                    yield number, cells
    except (OSError, csv.Error) as error:
        raise EdgekitError(f"cannot read {plan.path}: {error}") from None


def _scale(kind: Kind, name: str, unit: str) -> float | None:
    """0 for a date; None for a unit of something else."""
    if not unit:
        if kind == "time":
            return 0.0
        return 1.0 if name in SAYS_ITS_UNIT else None
    return next((value for prefix, value in PREFIX.items() for base in BASE[kind] if unit == prefix + base), None)
