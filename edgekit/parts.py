"""The abstract parts: family, exporter, calibrator, runtime, meter. One file a part, found by the file's name.

A part file ends in `PART = ClassName()`. Heavy libraries are imported inside the methods; `needs` lists the modules
that must be importable, and is checked before any work starts. A part imports only the core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.bundle import Allowed, Bundle, Golden, Model
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.signature import Signature
from edgekit.spiking_net import SpikingNet

if TYPE_CHECKING:
    import torch

Arrays = Mapping[str, np.ndarray]


class Part(ABC):
    """What all parts have in common."""

    needs: ClassVar[tuple[str, ...]] = ()  # importable module names
    extra: ClassVar[str] = ""  # the pip extra that brings them: pip install 'edgekit[extra]'


@dataclass(frozen=True)
class Score:
    """The family's task score on held-out data, in 0..1, higher is better."""

    name: str
    value: float
    samples: int


class Trained(ABC):
    """A trained model as the exporters see it; made by Family.load from a checkpoint folder."""

    name: str  # of the recipe
    sha256: str  # of the checkpoint
    signature: Signature
    model: Model
    allowed: Allowed  # of the f32 export
    probes: tuple[str, ...] = ()  # names of the spiking layers, in order

    @abstractmethod
    def module(self) -> torch.nn.Module:
        """The network to export, in eval mode: the signature's inputs in order -> (outputs..., probes...)."""

    @abstractmethod
    def golden(self) -> Golden:
        """Held-out inputs and the eager answers of the trained network (not of the exported form)."""

    def spiking_net(self) -> SpikingNet:
        """The network as populations of threshold neurons; EdgekitError for a family that has none."""
        raise EdgekitError(f"'{self.name}' is not a one-timestep spiking network; formats nir and lava take only those")


class Family(Part):
    """A model family: network, data, loss, score, how it is compressed, the error it allows at each precision."""

    @abstractmethod
    def options(self) -> type:
        """The frozen dataclass that a recipe of this family fills (see recipe.py)."""

    @abstractmethod
    def fit(self, recipe: Any, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Train by the recipe (the dataclass of options()) into the folder `out`, resuming what is there; return the
        folder of the checkpoint to deploy. Writes `out/result.json`, the table of what was reached."""

    @abstractmethod
    def load(self, checkpoint: Path) -> Trained:
        """The trained model of a checkpoint folder."""

    @abstractmethod
    def score(self, recipe: Mapping[str, Any], run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The task score of `run` (inputs by name -> outputs by name, any batch size) over the test data, or over its
        first `limit` samples. `recipe` is Model.recipe of a bundle."""


class Exporter(Part):
    """Turns a trained model, or a bundle of one format, into a bundle of another."""

    format: ClassVar[str]
    accepts: ClassVar[str]  # "checkpoint", or "<format>:<precision>" of the parent bundle
    precision: ClassVar[str] = "f32"  # of the bundle that it makes
    options: ClassVar[Mapping[str, Any]] = {}  # option -> default; recorded in the lineage

    @abstractmethod
    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Write the bundle to `out` (atomically, through bundle.new_bundle) and open it. EdgekitError when the model
        cannot be said in this format, naming the layer or node."""


class Calibrator(Part):
    """Turns a float bundle into a quantised one of the same format. Golden answers stay those of the float model."""

    format: ClassVar[str]
    accepts: ClassVar[str]  # "<format>:<precision>"
    precision: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Write the quantised bundle to `out` (atomically) and open it."""


class Session(ABC):
    """An opened bundle on an engine."""

    @abstractmethod
    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One inference, any batch size that the signature allows: outputs, and probes when opened with them."""

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """A function that runs once on buffers bound here: what is timed. Engines with bound buffers override it."""

        def once() -> None:
            self.run(inputs)

        return once


class Runtime(Part):
    """An engine that opens bundles."""

    formats: ClassVar[tuple[str, ...]]
    simulates: ClassVar[str] = ""  # "Loihi": its times say nothing of the device
    exact: ClassVar[bool] = False  # its answers are the integer reference's, bit for bit

    @abstractmethod
    def version(self) -> str:
        """Name and version of the engine, as in 'onnxruntime 1.32.0'."""

    @contextmanager
    @abstractmethod
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """A session; threads 0 = the engine's default; probes adds the bundle's inner tensors to the outputs."""

    def ready(self) -> str:
        """Empty when the engine can run here, else one sentence that says which command installs it."""
        return ""

    def setup(self, progress: Progress) -> str:
        """Build what pip cannot bring (an isolated environment); return one sentence that says what was done."""
        raise EdgekitError("this runtime needs no set-up beyond pip")


class Meter(Part):
    """Joules used since start, from one counter."""

    @abstractmethod
    def available(self) -> str:
        """Empty when the counter can be read here, else the reason why not."""

    @abstractmethod
    def energy_j(self) -> float | None:
        """The counter now, in joules; None when it cannot be read."""
