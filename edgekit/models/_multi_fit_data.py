"""Stays: irregular readings of many signals with one outcome; PhysioNet 2012 from its packed files, or generated.

A step of a stay is a time at which at least one signal was read. Several readings of one signal in a step: the last counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgekit.data import require
from edgekit.errors import Broken, EdgekitError
from edgekit.models._multi_fit_challenge import read_challenge
from edgekit.models._multi_fit_options import Data

MINUTES_PER_HOUR = 60
STAY_HOURS = 48  # the challenge gives the first 48 hours of each stay
SPLIT_SEED = 2012  # of the split into training and validation, the same for every network and seed


@dataclass(frozen=True)
class Stays:
    """Stays as one row a step: those of stay s are rows offsets[s] to offsets[s + 1], in the order of time."""

    signals: tuple[str, ...]
    values: np.ndarray  # float32 (rows, signals), in the signal's own unit; 0 where nothing was read
    observed: np.ndarray  # bool (rows, signals)
    minutes: np.ndarray  # float32 (rows,), since admission
    offsets: np.ndarray  # int64 (stays + 1,)
    deaths: np.ndarray  # int64 (stays,), 1: died in hospital

    def __len__(self) -> int:
        return len(self.deaths)

    @property
    def steps(self) -> np.ndarray:
        """Steps of each stay, int64 (stays,)."""
        return np.diff(self.offsets)

    def take(self, chosen: np.ndarray | Sequence[int]) -> Stays:
        """Some of the stays, in this order."""
        chosen = np.asarray(chosen, np.int64)
        steps = self.steps[chosen]
        offsets = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], steps)
        return Stays(self.signals, self.values[rows], self.observed[rows], self.minutes[rows], offsets, self.deaths[chosen])

    def first(self, limit: int) -> Stays:
        """The first `limit` stays; all of them for 0."""
        return self.take(np.arange(min(limit, len(self)))) if limit else self

    def padded(self, steps: int = 0) -> dict[str, np.ndarray]:
        """The inputs of a deployed network: values float32 (stays, T, signals), observed uint8 alike, minutes float32 (stays, T).

        T is the longest stay, or `steps` (longer stays are cut). Steps without a reading are padding.
        """
        longest = steps or max(1, int(self.steps.max(initial=0)))
        stay = np.repeat(np.arange(len(self)), self.steps)
        place = np.arange(len(self.minutes)) - np.repeat(self.offsets[:-1], self.steps)
        inside = place < longest
        stay, place = stay[inside], place[inside]
        shape = (len(self), longest)
        values, observed = np.zeros((*shape, len(self.signals)), np.float32), np.zeros((*shape, len(self.signals)), np.uint8)
        minutes = np.zeros(shape, np.float32)
        values[stay, place], observed[stay, place] = self.values[inside], self.observed[inside]
        minutes[stay, place] = self.minutes[inside]
        return {"values": values, "observed": observed, "minutes": minutes}

    def thinned(self, share: float | np.ndarray, seed: int | np.random.Generator) -> Stays:
        """Without a `share` (of all stays, or one a stay) of the readings, drawn one by one; steps that lost all of theirs are gone."""
        lost = np.repeat(share, self.steps)[:, None] if isinstance(share, np.ndarray) else share
        kept = self.observed & (np.random.default_rng(seed).random(self.observed.shape) >= lost)
        rows = kept.any(1)
        ends = np.concatenate([[0], np.cumsum(rows)])
        values = np.where(kept, self.values, np.float32(0))[rows]
        return dataclasses.replace(
            self, values=values, observed=kept[rows], minutes=self.minutes[rows], offsets=ends[self.offsets].astype(np.int64)
        )

    def of_epoch(self, thin: float, seed: int, epoch: int) -> Stays:
        """As a network sees them in an epoch: each stay without a share of its readings from U(0, thin). The same numbers give
        the same stays."""
        # 1: a stream of its own beside that of (seed, epoch), which the order of the batches is drawn from
        rng = np.random.default_rng((seed, epoch, 1))
        return self.thinned(rng.uniform(0, thin, len(self)), rng) if thin else self


@dataclass(frozen=True)
class Split:
    """Stays to learn from, to choose by, and to report on. The last come from another file (or are drawn after the others)."""

    train: Stays
    validation: Stays
    test: Stays


def stays_of(
    signals: tuple[str, ...], stay: np.ndarray, minute: np.ndarray, signal: np.ndarray, value: np.ndarray, deaths: np.ndarray,
    step_minutes: int,
) -> Stays:  # fmt: skip
    """Readings (one a row, those of a stay in the order of time) as steps. A step of several minutes has the time of its
    last reading, since a device can only then say what came."""
    bins = minute // step_minutes if step_minutes else minute
    span = int(bins.max(initial=0)) + 1
    keys, row = np.unique(stay.astype(np.int64) * span + bins, return_inverse=True)
    values = np.zeros((len(keys), len(signals)), np.float32)
    observed = np.zeros(values.shape, bool)
    values[row, signal] = value  # of equal places the last one stays
    observed[row, signal] = True
    minutes = np.zeros(len(keys), np.float32)
    np.maximum.at(minutes, row, minute.astype(np.float32))
    offsets = np.searchsorted(keys // span, np.arange(len(deaths) + 1)).astype(np.int64)
    return Stays(signals, values, observed, minutes, offsets, deaths.astype(np.int64))


@lru_cache(maxsize=4)
def _physionet(part: str, step_minutes: int) -> Stays:
    folder = require("physionet2012")
    path = folder / f"set_{part}.npz"
    try:
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                data = {name: file[name] for name in ("dt", "var", "value", "offsets", "var_names", "outcomes", "outcome_names")}
        else:
            data = read_challenge(folder, part)
    except (OSError, KeyError, ValueError) as error:
        raise Broken(f"{path} is not a packed set of PhysioNet 2012 ({error}); get the data set again") from None
    counts = np.diff(data["offsets"])
    since = np.cumsum(data["dt"].astype(np.int64))
    before = np.concatenate([[0], since])[data["offsets"][:-1]]  # the first dt of a stay counts from its admission
    minute = since - np.repeat(before, counts)
    deaths = data["outcomes"][:, list(data["outcome_names"]).index("In-hospital_death")]
    stay = np.repeat(np.arange(len(counts)), counts)
    names = tuple(str(n) for n in data["var_names"])
    return stays_of(names, stay, minute, data["var"], data["value"], deaths, step_minutes)


def generated(stays: int, seed: int, step_minutes: int = 0, hours: int = 12) -> Stays:
    """Stays by a formula: four signals read once an hour on average, two once in four hours, at whole minutes.

    Severity u ~ N(0, 1); the stay ends in death where u + 0.5 e > 0.7, e ~ N(0, 1). Signal i at hour t:

        x_i(t) = 10 i + sin(2 pi (t / 24 + i / 6)) + b_i u t / 12 + 0.5 e,   b = (1, -1, 0, 0.5, 1.5, -1.5)

    Readings come as a Poisson process of rate r_i an hour, r = (1, 1, 1, 1, 1/4, 1/4).
    """
    rng = np.random.default_rng((seed, stays))
    rates, slopes = np.array([1, 1, 1, 1, 0.25, 0.25]), np.array([1, -1, 0, 0.5, 1.5, -1.5])
    severity = rng.normal(size=stays)
    deaths = severity + 0.5 * rng.normal(size=stays) > 0.7
    read = rng.random((stays, hours * MINUTES_PER_HOUR, len(rates))) < rates / MINUTES_PER_HOUR
    stay, minute, signal = np.nonzero(read)
    hour = minute / MINUTES_PER_HOUR
    value = 10 * signal + np.sin(2 * np.pi * (hour / 24 + signal / 6)) + slopes[signal] * severity[stay] * hour / 12
    value = value + 0.5 * rng.normal(size=value.shape)
    names = ("a", "b", "c", "d", "slow e", "slow f")
    return stays_of(names, stay, minute, signal, value, deaths, step_minutes)


@lru_cache(maxsize=2)
def test_stays(data: Data) -> Stays:
    """What networks are reported on: set b of PhysioNet 2012, or stays generated from another seed."""
    if data.name == "generated":
        return generated(200, 1, data.step_minutes).first(data.test_limit)
    return _physionet("b", data.step_minutes).first(data.test_limit)


@lru_cache(maxsize=2)
def split_of(data: Data) -> Split:
    """All stays of a recipe. Validation is drawn with an equal share of deaths; EdgekitError when too few stays are left."""
    whole = generated(400, 0, data.step_minutes) if data.name == "generated" else _physionet("a", data.step_minutes)
    whole = whole.first(data.train_limit)
    rng = np.random.default_rng(SPLIT_SEED)
    held: list[int] = []
    for outcome in (0, 1):
        rows = rng.permutation(np.flatnonzero(whole.deaths == outcome))
        held += rows[: round(data.validation_share * len(rows))].tolist()
    left = np.setdiff1d(np.arange(len(whole)), held)
    train, validation = whole.take(left), whole.take(np.sort(np.array(held, np.int64)))
    if not 0 < train.deaths.sum() < len(train) or not 0 < validation.deaths.sum() < len(validation):
        raise EdgekitError(
            f"{len(whole)} stays are too few to hold both outcomes in training and validation; raise train_limit"
        )
    return Split(train, validation, test_stays(data))
