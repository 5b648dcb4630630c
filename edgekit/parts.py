"""The abstract parts: family, exporter, calibrator, runtime, meter. One file a part, found by the file's name.

A part file ends in `PART = ClassName()`. Heavy libraries are imported inside the methods; `needs` lists the modules
that must be importable, and is checked before any work starts. A part imports only the core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote, GraphFile, Lineage, Manifest, Model, TaskProgram
from edgekit.errors import EdgekitError
from edgekit.layer_profile import LayerProfile
from edgekit.measurement import Progress, silent
from edgekit.process_run import Request
from edgekit.program import Program
from edgekit.signature import Signature
from edgekit.spiking_net import SpikingNet
from edgekit.stepped_net import SteppedNet
from edgekit.sysfs import HERE, Tree

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
    """A trained model as the exporters see it; made by Family.load from a checkpoint, or from a user's own file."""

    name: str  # of the recipe
    sha256: str  # of the checkpoint or file
    signature: Signature  # of the whole program
    program: Program
    graphs: Mapping[str, Signature]  # of each graph that the program runs
    probes: Mapping[str, tuple[str, ...]] = {}  # graph -> names of its spiking layers, in order
    tensors: Arrays = {}  # tables, constants and initial states that the program names
    model: Model | None
    allowed: Allowed  # of the f32 export
    golden_note: GoldenNote
    task_name: str = ""  # of its own program, where it has other tasks too
    tasks: Mapping[str, TaskProgram] = {}  # those others: programs over the same graphs and tensors
    prepares: Mapping[str, Trained] = {}  # what makes inputs of this one once, from something else: a voice from a sound

    def module(self, graph: str = "main") -> torch.nn.Module:
        """A graph to export, in eval mode: its inputs in order -> (outputs..., probes...)."""
        raise EdgekitError(f"'{self.name}' is no torch model")

    def traced_sizes(self) -> Mapping[str, int]:
        """Free dimension -> its size while torch traces the module; 2 where nothing is said."""
        return {}

    def onnx_model(self, graph: str = "main") -> bytes | None:
        """The graph as a serialized ONNX model, where the model came as one."""
        return None

    @abstractmethod
    def goldens(self) -> Sequence[Golden]:
        """Inputs and the answers of the model itself (not of the exported form); a second entry has other free sizes."""

    def task_goldens(self) -> Mapping[str, Sequence[Golden]]:
        """goldens() of every other task."""
        return {}

    def spiking_net(self) -> SpikingNet:
        """The network as populations of threshold neurons; EdgekitError for a family that has none."""
        raise EdgekitError(f"'{self.name}' is not a one-timestep spiking network; formats nir and lava take only those")

    def stepped_net(self) -> SteppedNet:
        """A spiking network of several timesteps in integers; EdgekitError for a family that has none."""
        raise EdgekitError(f"'{self.name}' is not a spiking network of several timesteps; format spike takes those and one-timestep ones")


def manifest_of(source: Trained, fmt: str, file_names: Mapping[str, str], lineage: Lineage) -> Manifest:
    """The manifest of a float bundle made straight from a trained model; `file_names`: graph -> its file."""
    graphs = {n: GraphFile(file_names[n], s, source.probes.get(n, ())) for n, s in source.graphs.items()}
    return Manifest(
        name=source.name, format=fmt, precision="f32", signature=source.signature, graphs=graphs, program=source.program,
        golden=source.golden_note, model=source.model, allowed=source.allowed, lineage=lineage,
        prepares=tuple(source.prepares), task=source.task_name, tasks=source.tasks,
    )  # fmt: skip


class Family(Part):
    """A model family: network, data, loss, score, how it is compressed, the error it allows at each precision."""

    features: ClassVar[tuple[str, ...]] = ()  # outputs that look like scores of classes and are none: which number is the largest says nothing

    @abstractmethod
    def options(self) -> type:
        """The frozen dataclass that a recipe of this family fills (see recipe.py)."""

    @abstractmethod
    def fit(self, recipe: Any, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Train by the recipe (the dataclass of options()) into the folder `out`, resuming what is there; return the
        folder of the checkpoint to deploy. Writes `out/result.json`: score_name, test_samples, deploy (the name of that
        folder), rows (report.data.TrainingRow) and, where the family has more to say or to show, tables (FamilyTable) and pictures
        (title, file, caption; the PNG lies beside result.json)."""

    @abstractmethod
    def load(self, checkpoint: Path) -> Trained:
        """The trained model of a checkpoint folder."""

    @abstractmethod
    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The task score of `run` (inputs by name -> outputs by name, any batch size) over the test data, or over its
        first `limit` samples. `model` is that of the bundle."""

    @abstractmethod
    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """At most `limit` inputs that are none of the test data, and best none that was trained on: what calibrators look at."""

    def task_samples(self, model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
        """What samples() gives, as the inputs of another task of the bundle."""
        raise EdgekitError(f"family {model.family} has no samples of the task '{task}'")

    @abstractmethod
    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """At most `limit` inputs of the test data, to look at and never to decide by."""


class Exporter(Part):
    """Turns a trained model, or a bundle of one format, into a bundle of another."""

    format: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]  # "checkpoint", or labels of parent bundles: "onnx:f32"
    precision: ClassVar[str] = ""  # of the bundle that it makes; empty: the parent's, f32 of a checkpoint
    variant: ClassVar[str] = ""  # tells it from the plain bundle of its format: "fused"; empty: the parent's
    options: ClassVar[Mapping[str, Any]] = {}  # option -> default; recorded in the lineage

    @abstractmethod
    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Write the bundle to `out` (atomically, through bundle.new_bundle) and open it. EdgekitError when the model
        cannot be said in this format, naming the layer or node. Preparations go along by prepares.export_prepares; of an
        exporter that leaves them out, new_bundle refuses a model that has some."""


class Calibrator(Part):
    """Turns a float bundle into a quantised one of the same format. Golden answers stay those of the float model."""

    format: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]  # labels of parent bundles
    precision: ClassVar[str]
    variant: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """Write the quantised bundle to `out` (atomically) and open it."""


class Session(ABC):
    """An opened bundle on an engine: its whole program."""

    @abstractmethod
    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        """One inference, any free sizes that the signature allows: outputs, and probes when opened with them.

        seed: of the program's noise; None takes the program's own.
        """

    def begin(self, inputs: Arrays, seed: int | None = None) -> None:
        """Start a stream anew, given the inputs that are not streamed."""
        raise EdgekitError("this runtime runs whole inputs only; a stream needs onnxruntime, openvino or the C++ runtime")

    def push(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Give a stream more of its input, of any length: the outputs of the chunks that are whole now, joined."""
        raise EdgekitError("this runtime runs whole inputs only; a stream needs onnxruntime, openvino or the C++ runtime")

    def push_events(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """One chunk of a stream of a camera's frames, given as events: whole numbers (n,) in any order, each a place of the frame,
        (channel * height + y) * width + x. The answer is that of the frame which holds how often each place came, 255 at most."""
        raise EdgekitError("this runtime takes frames only; of a bundle in format spike, spike takes events")

    def close(self) -> dict[str, np.ndarray]:
        """End a stream: the outputs of the tail and of the phases after it."""
        raise EdgekitError("this runtime runs whole inputs only; a stream needs onnxruntime, openvino or the C++ runtime")

    def run_pieces(self, inputs: Arrays, sizes: Sequence[int], seed: int | None = None) -> dict[str, np.ndarray]:
        """A stream over whole inputs, pushed in pieces of these sizes along its axis (the sizes repeat)."""
        raise EdgekitError("this runtime runs whole inputs only; a stream needs onnxruntime, openvino or the C++ runtime")

    def time_itself(self, request: Request, samples: Path | None) -> dict[str, Any] | None:
        """What profile_child.work says, with the rows in the file `samples`, or work_for_meter where that is None; of an
        engine that lives in a process of its own and times itself there. None: the Python child times what bind() gives."""
        return None

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """A function that runs once on buffers bound here: what is timed. Engines with bound buffers override it."""

        def once() -> None:
            self.run(inputs)

        return once


class Graph(ABC):
    """One graph of a bundle, opened on an engine; a program runs it through execute.Execution."""

    @abstractmethod
    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        """A function that runs the graph once, reading and writing exactly these C-contiguous arrays. Several bindings
        of one graph may exist at a time; `outputs` may leave outputs out."""

    @abstractmethod
    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run once; the engine allocates the outputs, whatever their sizes."""

    def hold(self, states: Mapping[str, str]) -> bool:
        """Ask the engine to keep states (graph output -> graph input of the next run) itself. Called before the first
        run; True when it does, and then neither side of a pair is bound any more."""
        return False

    def set_held(self, values: Arrays) -> None:
        """Give held states (by graph input) their values."""
        raise NotImplementedError

    def held(self, name: str) -> np.ndarray:
        """The value of a held state (by graph input) now."""
        raise NotImplementedError


class Runtime(Part):
    """An engine that opens bundles."""

    formats: ClassVar[tuple[str, ...]]
    also_opens: ClassVar[tuple[str, ...]] = ()  # formats that another runtime is the usual one for
    simulates: ClassVar[str] = ""  # "Loihi": its times say nothing of the device
    most_scored: ClassVar[int | None] = None  # test samples that are scored on it; None: all
    timed: ClassVar[bool] = True  # False: its times would say nothing to anybody
    data_dependent: ClassVar[bool] = False  # its time depends on the values of its input: golden inputs are timed in turn
    exact: ClassVar[bool] = False  # its answers are the integer reference's, bit for bit
    optional: ClassVar[bool] = False  # `deploy` works without it; `verify --all-runtimes` uses it where it is ready

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

    def layers(self, bundle: Bundle, inputs: Arrays, threads: int, runs: int) -> LayerProfile:
        """Where the time of one inference of these inputs goes, averaged over `runs`; without a roof. Called in a fresh process."""
        raise EdgekitError("this runtime gives no profile by layer; onnxruntime and openvino do")

    def setup(self, progress: Progress) -> str:
        """Build what pip cannot bring (an isolated environment); return one sentence that says what was done."""
        raise EdgekitError("this runtime needs no set-up beyond pip")


@dataclass(frozen=True)
class Channel:
    """One rail, zone or device that a meter reads."""

    name: str  # as the kernel or the maker labels it
    quantity: Literal["energy", "power"]  # joules since some start, or watts now
    resolution: float  # J or W of its smallest step
    refresh_s: float = 0.0  # how often the source itself is updated; 0: at every reading
    wraps_at_j: float | None = None  # an energy counter begins again at this value
    files: tuple[str, ...] = ()  # what is read for it, so that another machine can do it without Python; without a / in front, a command


class Readout(ABC):
    """An opened meter. `total` names the channels whose sum is the scope's figure; others are shown and not added."""

    channels: tuple[Channel, ...]
    total: tuple[str, ...]
    scope: str  # "package (no board, no supply)", "module input VDD_IN"
    notes: tuple[str, ...] = ()  # what a reader of the figure should know

    @abstractmethod
    def read(self) -> tuple[float | None, ...]:
        """A value a channel now, in J or W, raw (not unwrapped, not clamped); None where the source did not answer."""

    def parse(self, texts: Mapping[str, str | None]) -> tuple[float | None, ...]:
        """The same from the texts of the channels' files, read by somebody else."""
        raise EdgekitError("this meter is no set of files, so that another machine cannot read it without Python")

    def close(self) -> None:  # noqa: B027 - most meters open nothing
        """Give back what was opened."""


class Meter(Part):
    """Energy or power from one kind of source. `kind`: "counter" where a register models it, "measured" for a sensor."""

    kind: ClassVar[Literal["measured", "counter"]] = "measured"

    @abstractmethod
    def available(self, tree: Tree = HERE) -> str:
        """Empty when it can be read in `tree`, else the reason why not and what to do, in one sentence."""

    @abstractmethod
    def open(self, tree: Tree = HERE) -> Readout:
        """Find the channels. EdgekitError with the reason of available() when there are none."""
