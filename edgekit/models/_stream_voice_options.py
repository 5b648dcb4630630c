"""What a recipe of the streaming voice converter may say: speech, networks, what is hidden while learning, how long each stage learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgekit.models._voice.structure import Hiding, Structure
from edgekit.plan import Plan
from edgekit.recipe import fill


@dataclass(frozen=True)
class Data:
    """Which speech. A name is a public set or a folder of the user's own; see _voice/corpora.py."""

    real: tuple[str, ...] = ("librispeech_mini", "emodb", "fsdd")
    synthetic: int = 400  # utterances of espeak-ng, whose phones are known; 0: none
    generated: int = 0  # utterances by a formula, for tests without any data
    with_validation: bool = True  # learn from the validation speakers too, once nothing is to be chosen by them any more

    def __post_init__(self) -> None:
        if self.synthetic < 0 or self.generated < 0:
            raise ValueError(f"synthetic and generated are numbers of utterances, found {self.synthetic} and {self.generated}")
        if not self.synthetic and not self.generated:
            raise ValueError("synthetic must be above 0: the semantic encoder learns phones, whose times only made speech tells, found 0")


@dataclass(frozen=True)
class Codec:
    """How sound becomes codes and sound again; see _voice/codec.py. A waveform codec wants about width 16."""

    kind: Literal["source-filter", "waveform"] = "source-filter"
    width: int = 160  # channels; of the waveform codec at the full rate, twice as many at each lower one
    levels: int = 6  # of the quantiser
    entries: int = 128


@dataclass(frozen=True)
class Training:
    """How long each stage learns. An epoch is 50 updates, batches are pieces of 1 to 2.5 s."""

    teacher: Plan
    encoder: Plan
    codec: Plan
    converter: Plan


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Every stage is trained once a seed; the converter that does best by its own loss is deployed."""

    training: Training
    data: Data = field(default_factory=Data)
    codec: Codec = field(default_factory=Codec)
    network: Structure = field(default_factory=Structure)
    hiding: Hiding = field(default_factory=Hiding)
    temperature: float = 0.0  # of what is drawn from the pitch's and codes' probabilities; 0: the likeliest
    seeds: tuple[int, ...] = (0,)
    ablations: tuple[str, ...] = ()  # of ABLATIONS: trained and judged beside it

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 (the likeliest) or more, found {self.temperature}")
        if self.temperature and self.network.pitch == "carried" and self.network.predictor == "continuous":
            raise ValueError(f"temperature is of what is drawn: network.pitch 'predicted' or network.predictor 'discrete', found {self.temperature}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")
        unknown = [a for a in self.ablations if a not in ABLATIONS]
        if unknown:
            raise ValueError(f"ablations are of {', '.join(ABLATIONS)}, found {unknown[0]!r}")


# name -> what is changed in network and in hiding
ABLATIONS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "without foresight": ({"foresight": 0.0}, {}),
    "without semantic masking": ({}, {"semantic": 0.0}),
    "without perturbation": ({}, {"perturbed": False}),
    "history never hidden, run with it": ({"history": True}, {"history": 0.0, "frames": 0.0}),
    "history hidden in half, run with it": ({"history": True}, {"history": 0.5, "frames": 0.25}),
    "history hidden in half, run without": ({"history": False}, {"history": 0.5, "frames": 0.25}),
    "interleaved": ({"order": "interleaved"}, {}),
    "paired": ({"order": "paired"}, {}),
    "predicted pitch": ({"pitch": "predicted"}, {}),
    "discrete codes": ({"predictor": "discrete"}, {}),
    "continuous latents": ({"predictor": "continuous"}, {}),
}
# Variants that differ only in how they are run are trained once, under this name.
TRAINED_ALIKE = {n: "history hidden in half" for n in ABLATIONS if n.startswith("history hidden in half")}


def variant(options: Options, name: str) -> Options:
    """The recipe with one thing changed, as ABLATIONS says."""
    network, hiding = ABLATIONS[name]
    return replace(options, network=replace(options.network, **network), hiding=replace(options.hiding, **hiding), ablations=())


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
