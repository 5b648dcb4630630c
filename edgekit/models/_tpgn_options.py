"""What a recipe of the TPGN family may say: the series, the window and its rows, how it is trained and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.plan import Plan
from edgekit.recipe import fill

Form = Literal["window", "rolling"]
Baseline = Literal["nlinear", "dlinear", "lstm"]


@dataclass(frozen=True)
class Network:
    """L hours of history, H hours ahead, P hours a row: the published names. All rows are whole."""

    history: int = 168  # L
    horizon: int = 168  # H
    period: int = 24  # P
    width: int = 2  # d, of PGN and of both branches
    norm: bool = True  # each window minus its mean, over its standard deviation; undone at the end

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "period", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.history % self.period or self.horizon % self.period:
            raise ValueError(
                f"history and horizon must be multiples of period, {self.period} hours a row; found {self.history} and {self.horizon}"
            )
        if self.rows < 2:
            raise ValueError(f"history must hold at least 2 periods of {self.period} hours, found {self.history} hours")

    @property
    def rows(self) -> int:
        """R: rows of history."""
        return self.history // self.period

    @property
    def rows_ahead(self) -> int:
        """R': rows of the forecast."""
        return self.horizon // self.period


@dataclass(frozen=True)
class Data:
    """Which series, and which of its variables are forecast; none named: ETT's target OT, the generated `load`."""

    name: Literal["etth1", "etth2", "generated"] = "generated"
    variables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.variables)) != len(self.variables):
            raise ValueError(f"variables must differ from each other, found {list(self.variables)}")


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Baselines are trained by the same plan and seeds; repeating the last day is always among them."""

    train: Plan
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    seeds: tuple[int, ...] = (0,)
    baselines: tuple[Baseline, ...] = ()
    lstm_width: int = 16
    form: Form = "window"  # the one that `fit` hands over; the other lies beside it

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be different whole numbers from 0 on, at least one, found {list(self.seeds)}")
        if len(set(self.baselines)) != len(self.baselines):
            raise ValueError(f"baselines must differ from each other, found {list(self.baselines)}")
        if self.lstm_width < 1:
            raise ValueError(f"lstm_width must be at least 1, found {self.lstm_width}")

    def in_form(self, form: Form) -> Options:
        """The same with another form."""
        return dataclasses.replace(self, form=form)


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    values = {k: v for k, v in recipe.items() if k not in ("family", "deploy")}
    options: Options = fill(Options, values, "recipe")
    return options
