"""What a recipe of the Multi-FIT family may say: the network and its rivals, the stays, the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.plan import Plan
from edgekit.recipe import fill

Name = Literal["multi-fit", "fit", "fit-v", "gru-d", "gru-simple", "gru-mean", "gru-mean-whole"]
LABELS = {
    "multi-fit": "Multi-FIT", "fit": "FIT", "fit-v": "FIT-V", "gru-d": "GRU-D", "gru-simple": "GRU-simple", "gru-mean": "GRU, mean fill",
    "gru-mean-whole": "GRU, mean fill, thin = 0",
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """One network by name; what a network has no use for is ignored: a GRU has no width and no support, FIT no rates."""

    name: Name = "multi-fit"
    width: int = 8  # p: values that each signal's own affine layer gives
    hidden: int = 32  # units of each LSTM, in each direction; the GRUs have twice as many
    support: int = 2  # k: other signals that a signal's affine layer sees as well
    choose: Literal["correlated", "random"] = "correlated"  # which ones
    rates: tuple[float, ...] = (0.2,)  # limits between the rate groups: shares of hours in which a signal is read
    causal: bool = True  # running means and forward LSTMs; false: means of the whole stay, and LSTMs in both directions
    last: bool = True  # the last hidden state goes to the last layer too, beside the attention vector; false: as published
    dropout: float = 0.3  # before the last layer

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("hidden", 1), ("support", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if list(self.rates) != sorted(set(self.rates)) or not all(0 < r < 1 for r in self.rates):
            raise ValueError(f"rates are rising shares between 0 and 1, found {list(self.rates)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, found {self.dropout}")

    @property
    def recurrent(self) -> bool:
        """True for the GRUs."""
        return self.name.startswith("gru")

    @property
    def whole(self) -> bool:
        """True for the rival that learns from whole stays, whatever `data.thin` is."""
        return self.name == "gru-mean-whole"


@dataclass(frozen=True)
class Data:
    """Which stays. `step_minutes` 0 makes every distinct time a step of its own; else readings of so many minutes are one."""

    name: Literal["generated", "physionet2012"] = "generated"
    step_minutes: int = 0
    train_limit: int = 0  # stays; 0 takes all
    test_limit: int = 0
    validation_share: float = 0.2  # of the stays that are not test data
    thin: float = 0.0  # each training stay loses a share of its readings from U(0, thin), drawn anew every epoch; 0: none

    def __post_init__(self) -> None:
        if self.step_minutes < 0:
            raise ValueError(f"step_minutes must be 0 (every time a step) or more, found {self.step_minutes}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share lies between 0 and 1, found {self.validation_share}")
        if not 0 <= self.thin < 1:
            raise ValueError(f"thin is a share from 0 (off) to below 1, found {self.thin}")


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Every network is trained once a seed; the best by validation of `network` is deployed."""

    plan: Plan
    network: Network = field(default_factory=Network)
    rivals: tuple[Name, ...] = ()  # trained and tested beside it in the same way
    data: Data = field(default_factory=Data)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.network.recurrent:
            raise ValueError(f"network.name is one of multi-fit, fit and fit-v; '{self.network.name}' can be a rival")
        if self.network.name in self.rivals or len(set(self.rivals)) != len(self.rivals):
            raise ValueError(f"rivals are other networks, each once, found {list(self.rivals)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
