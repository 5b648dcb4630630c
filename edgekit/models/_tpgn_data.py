"""Hourly series for forecasting: ETT or generated, their time features, the split by time and its windows."""

from __future__ import annotations

import csv
import functools
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import data as data_sets
from edgekit.errors import Broken, EdgekitError
from edgekit.models._tpgn_options import Data, Network

TARGET = {"etth1": ("OT",), "etth2": ("OT",), "generated": ("load",)}
FEATURES = 4  # of an hour
TRAIN, TEST = 0.6, 0.2  # shares of the rows, the first and the last; between them validation (published code)
GENERATED_HOURS = 1800
GENERATED_START = 438_288  # 2020-01-01T00:00 in hours since 1970


@dataclass(frozen=True)
class Series:
    """values float64 (T, V) in the unit of the data, hours int64 (T,) since 1970-01-01T00:00."""

    names: tuple[str, ...]
    values: np.ndarray
    hours: np.ndarray


@dataclass(frozen=True)
class Windows:
    """All windows of one part of a series, an hour apart. Values float32 (T, V) as measured, time float32 (T, F)."""

    values: np.ndarray
    time: np.ndarray
    history: int
    horizon: int

    @property
    def count(self) -> int:
        """How many windows there are."""
        return max(0, len(self.values) - self.history - self.horizon + 1)

    def inputs(self, starts: np.ndarray) -> dict[str, np.ndarray]:
        """values float32 (N, L, V), time float32 (N, L, F) of the windows that begin at these rows."""
        rows = starts[:, None] + np.arange(self.history)
        return {"values": self.values[rows], "time": self.time[rows]}

    def targets(self, starts: np.ndarray) -> np.ndarray:
        """What followed: float32 (N, H, V)."""
        found: np.ndarray = self.values[starts[:, None] + self.history + np.arange(self.horizon)]
        return found


@dataclass(frozen=True)
class Parts:
    """A series in three parts, with the mean and standard deviation of the training part: float32 (V,)."""

    train: Windows
    validation: Windows
    test: Windows
    mean: np.ndarray
    std: np.ndarray


def time_features(hours: np.ndarray) -> np.ndarray:
    """float32 (..., 4) of whole hours since 1970-01-01T00:00, int64 of any shape, in the clock of the series.

    hour/23 - 0.5, weekday/6 - 0.5 (Monday is 0), (day of month - 1)/30 - 0.5, (day of year - 1)/365 - 0.5: those of the
    published code for hourly data. docs/tpgn.md has them in C.
    """
    hours = np.asarray(hours, np.int64)
    days = hours // 24
    date = days.astype("datetime64[D]")
    day_of_month = (date - date.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64)
    day_of_year = (date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    shares = (hours % 24 / 23, weekday / 6, day_of_month / 30, day_of_year / 365)
    return (np.stack(shares, -1) - 0.5).astype(np.float32)


def parts_of(data: Data, network: Network) -> Parts:
    """The windows of a recipe. A validation or test window may look back into the part before; what it forecasts may not.

    Raises EdgekitError when the series is not here or too short, Broken when its file is damaged.
    """
    series = load_series(data)
    time = time_features(series.hours)
    total, train, test = len(series.values), int(TRAIN * len(series.values)), int(TEST * len(series.values))
    known = series.values[:train]
    values = series.values.astype(np.float32)

    def part(low: int, high: int) -> Windows:
        low = max(0, low - network.history)
        return Windows(values[low:high], time[low:high], network.history, network.horizon)

    windows = (part(0, train), part(train, total - test), part(total - test, total))
    for name, made in zip(("training", "validation", "test"), windows, strict=True):
        if not made.count:
            raise EdgekitError(
                f"the {name} part of {data.name} has no window of {network.history} + {network.horizon} hours; "
                "choose a shorter history or horizon"
            )
    mean, std = known.mean(0).astype(np.float32), known.std(0).astype(np.float32)
    if not (std > 0).all():
        flat = [n for n, s in zip(series.names, std, strict=True) if not s > 0]
        raise EdgekitError(f"{', '.join(flat)} of {data.name} never changes in the training part; leave it out of data.variables")
    return Parts(*windows, mean, std)


def load_series(data: Data) -> Series:
    """The series of a recipe, from $EDGEKIT_DATA/ett or made by formula."""
    names = data.variables or TARGET[data.name]
    if data.name == "generated":
        return _chosen(generated(), names, "the generated series")
    folder, stem = data_sets.require("ett"), {"etth1": "ETTh1", "etth2": "ETTh2"}[data.name]
    paths = [folder / f"{stem}.csv.gz", folder / f"{stem}.csv"]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise EdgekitError(f"there is neither {paths[0]} nor {paths[1].name}; put one of them there, as ETDataset publishes it")
    return _chosen(_unchanged(path, path.stat().st_mtime_ns), names, str(path))


@functools.lru_cache(maxsize=2)
def _unchanged(path: Path, _changed_ns: int) -> Series:
    """A file as it was at that time: training, scoring and calibrating ask for it again and again."""
    return read_csv(path)


def generated(hours: int = GENERATED_HOURS) -> Series:
    """Two series with a day and a week in them, h hours after 2020-01-01T00:00 (a Wednesday), e drawn by PCG64 with seed 0:

    load        = 10 + 4 sin(2 pi h / 24) + 2 sin(2 pi h / 168 + 1) + 0.5 e1
    temperature = 15 + 3 sin(2 pi h / 24 - 2) + 1 cos(2 pi h / 168) + 0.5 e2
    """
    h = np.arange(hours)
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal((hours, 2))
    day, week = 2 * np.pi * h / 24, 2 * np.pi * h / 168
    load = 10 + 4 * np.sin(day) + 2 * np.sin(week + 1) + 0.5 * noise[:, 0]
    temperature = 15 + 3 * np.sin(day - 2) + np.cos(week) + 0.5 * noise[:, 1]
    return Series(("load", "temperature"), np.stack([load, temperature], 1), GENERATED_START + h.astype(np.int64))


def read_csv(path: Path) -> Series:
    """A CSV file (.csv or .csv.gz) with a column `date` (YYYY-MM-DD HH:MM:SS, an hour apart) and columns of numbers.

    Raises Broken, with path and line, for anything else.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise Broken(f"{path} cannot be read as a CSV file ({error}); get it again") from None
    rows = list(csv.reader(text.splitlines()))
    if len(rows) < 2 or rows[0][0] != "date" or len(set(rows[0])) != len(rows[0]) or len(rows[0]) < 2:
        raise Broken(f"{path}: the first line must name the columns, `date` first, and rows must follow; get it again")
    names = tuple(rows[0][1:])
    values = np.empty((len(rows) - 1, len(names)))
    hours = np.empty(len(rows) - 1, np.int64)
    for i, row in enumerate(rows[1:]):
        try:
            values[i] = [float(v) for v in row[1:]] if len(row) == len(rows[0]) else np.nan
            seconds = int(np.datetime64(row[0].replace(" ", "T"), "s").astype(np.int64))
        except (ValueError, IndexError):
            raise Broken(f"{path}, line {i + 2}: not a date and {len(names)} numbers; get the file again") from None
        if not np.isfinite(values[i]).all():
            raise Broken(f"{path}, line {i + 2}: not a date and {len(names)} numbers; get the file again")
        hours[i] = seconds // 3600
        if seconds % 3600 or (i and hours[i] != hours[i - 1] + 1):
            raise Broken(f"{path}, line {i + 2}: {row[0]} is not an hour after the line before; the series must be whole hours")
    return Series(names, values, hours)


def _chosen(series: Series, names: tuple[str, ...], where: str) -> Series:
    unknown = [n for n in names if n not in series.names]
    if unknown:
        raise EdgekitError(f"{where} has no variable '{unknown[0]}'; there are: {', '.join(series.names)}")
    return Series(names, series.values[:, [series.names.index(n) for n in names]], series.hours)
