"""How the numbers and names of a report are written: units, digits, and no character that could steer a terminal."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from edgekit.candidate import Quantity
from edgekit.measurement import Kind
from edgekit.report.data import Picture, Run

NONE = "-"  # a number that is not there; the notes say why
LONGEST = 1000  # characters of one text; what is longer is cut in the middle, and report.json holds the whole
KINDS: Mapping[Kind, str] = {
    "measured": "measured", "counter": "counter", "imported": "imported", "calibrated-estimate": "estimate, calibrated", "spec-estimate": "estimate",
}  # fmt: skip
T = TypeVar("T")

_FINE_SAMPLES = 2000  # from here on, one sample more or less shows only in the second decimal of a percentage
_ENERGY_UNITS = (("nJ", 1.0), ("µJ", 1e3), ("mJ", 1e6), ("J", 1e9))


def printable(value: T) -> T:
    """The same data with every control, bidirectional or otherwise invisible character of its texts as `\\x1b`, and no text
    longer than LONGEST."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut(value))  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(printable(v) for v in value)  # type: ignore[return-value]
    if isinstance(value, Mapping):
        return {printable(k): printable(v) for k, v in value.items()}  # type: ignore[return-value]
    if isinstance(value, Picture):  # its other texts are a plain file name and base64, and must stay whole
        return dataclasses.replace(value, title=printable(value.title), caption=printable(value.caption))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: printable(getattr(value, f.name)) for f in dataclasses.fields(value)})
    return value


def cut(text: str, longest: int = LONGEST) -> str:
    """A text as it is, or cut in the middle with a note; texts that differ stay different."""
    if len(text) <= longest:
        return text
    head, tail = longest // 2, longest // 5
    told = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text[:head]} [... {len(text) - head - tail:,} characters cut, sha256 {told} ...] {text[-tail:]}"


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, no exponent between 1e-4 and 1e6, thousands with commas."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if not -5 < size < 6:
        return f"{value:.{digits - 1}e}"
    return f"{round(value, digits - 1 - size):,.{max(0, digits - 1 - size)}f}"


def difference(value: float | None) -> str:
    """A difference of outputs in two digits: 1.2e-07, and from a thousandth on 0.21."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else significant(value, 2)


def megabytes(count: int) -> str:
    """A size in MB of 10^6 bytes."""
    return significant(count / 1e6)


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{significant(seconds, 2)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def is_share(run: Run) -> bool:
    """True when the score is a share of samples, to be written in percent."""
    return run.score_name == "accuracy"


def score(run: Run, value: float | None, unit: bool = True) -> str:
    """`96.9 %` for an accuracy, the bare number for any other score."""
    if value is None:
        return NONE
    if not is_share(run):
        return significant(value, 4)
    return f"{100 * value:.{_decimals(run)}f}" + (" %" if unit else "")


def score_gap(run: Run, value: float, other: float) -> str:
    """`0.8 points below`, `equal to`, as it follows from the numbers as they are printed."""
    scale, unit = (100.0, " points") if is_share(run) else (1.0, "")
    gap = scale * (value - other)
    text = f"{abs(gap):.{_decimals(run)}f}" if is_share(run) else significant(abs(gap), 3)
    if not float(text.replace(",", "")):
        return "equal to"
    return f"{text}{unit} {'above' if gap > 0 else 'below'}"


def _decimals(run: Run) -> int:
    return 2 if run.test_samples >= _FINE_SAMPLES else 1


def quantity(q: Quantity | None) -> str:
    """`0.412`, or `~0.9` for an estimate."""
    return NONE if q is None else ("~" if q.estimated else "") + significant(q.value)


def with_kind(q: Quantity | None, unit: str) -> str:
    """`~0.9 mJ (estimate)`, `0.41 mJ (measured)`."""
    return NONE if q is None else f"{quantity(q)} {unit} ({KINDS[q.kind]})"


def interval(low: float | None, high: float | None) -> str:
    """`0.40–0.43`; one figure where both are printed the same; a dash where an end is missing."""
    a, b = significant(low), significant(high)
    return NONE if NONE in (a, b) else a if a == b else f"{a}–{b}"


def energy_unit(energies_nj: Iterable[float | None]) -> tuple[str, float]:
    """One unit for a whole table, and how many nanojoule it is: the largest in which the median is at least 1."""
    there = sorted(e for e in energies_nj if e)
    middle = there[len(there) // 2] if there else 1.0
    return next((u for u in reversed(_ENERGY_UNITS) if middle >= u[1]), _ENERGY_UNITS[0])


def engine(runtime: str) -> str:
    """The name of a runtime without its version: `onnxruntime` of `onnxruntime 1.32.0`."""
    return runtime.split(" ", maxsplit=1)[0]


def engine_and_version(runtime: str) -> str:
    """`lava-nc 0.10.0` of `lava-nc 0.10.0 with lava-dl 0.6.0`: the first two words."""
    return " ".join(runtime.split(" ")[:2])
