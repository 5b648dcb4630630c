"""A user's own model as a Trained: a `.onnx` file, a `.pt2`, or `module:function`; with states, a stream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit import files, labelled, untrusted_archive
from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.errors import EdgekitError, no_such
from edgekit.intake_golden import Step, answers
from edgekit.parts import Arrays, Trained
from edgekit.program import Feed, Join, Phase, Program, State, Stream, tensor, value
from edgekit.signature import Signature, Tensor

if TYPE_CHECKING:
    import torch


TIES = 0.002  # of a score: two classes of a sample may be so close that rounding decides


@dataclass(frozen=True)
class Wishes:
    """What the user said about the model; every name is one of the graph's own."""

    states: Mapping[str, str] = field(default_factory=dict)  # graph output -> graph input
    chunks: Mapping[str, Feed] = field(default_factory=dict)  # graph input -> how the program's input is cut
    constants: Mapping[str, float | int | bool] = field(default_factory=dict)
    still: tuple[str, ...] = ()  # inputs of a stream that are given once, not chunk by chunk
    joins: Mapping[str, Join] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # free dimension -> the size to fix it at
    tail: str = "pad"
    example: str = ""  # an .npz of golden inputs
    test: str = ""  # an .npz of inputs and labels: the score
    calibration: str = ""  # an .npz of inputs: what quantisation looks at
    tolerance: float = 1e-5  # of float outputs, times the largest golden value where that is above 1
    trust: bool = False  # "I would run a program from whoever made this": opens a .pt2 at all, and runs a .onnx in this process


@dataclass(frozen=True, kw_only=True)
class Own(Trained):
    """A model that edgekit did not train. Made by read."""

    name: str
    sha256: str
    signature: Signature
    program: Program
    graphs: Mapping[str, Signature]
    tensors: Arrays = field(default_factory=dict)
    allowed: Allowed
    golden_note: GoldenNote
    answers: tuple[Golden, ...]
    onnx_bytes: bytes | None = None
    torch_module: torch.nn.Module | None = None
    torch_sizes: Mapping[str, int] = field(default_factory=dict)  # free dimension -> its size while torch traces, at least 2
    model: Model | None = None

    def module(self, graph: str = "main") -> torch.nn.Module:
        if self.torch_module is None:
            raise EdgekitError(f"'{self.name}' came as an ONNX file and is no torch model")
        return self.torch_module

    def onnx_model(self, graph: str = "main") -> bytes | None:
        return self.onnx_bytes

    def traced_sizes(self) -> Mapping[str, int]:
        return self.torch_sizes

    def goldens(self) -> Sequence[Golden]:
        return self.answers


def is_own(source: str) -> bool:
    """True for a `.onnx`, a `.pt2` or `module:function`; a folder is edgekit's own."""
    return source.endswith((".onnx", ".pt2")) or bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source))


def read(source: str, wishes: Wishes) -> Own:
    """The model with its golden answers. EdgekitError, in one sentence, for anything that is not as the user said."""
    if source.endswith(".onnx"):
        from edgekit.intake_onnx import read_onnx

        return read_onnx(Path(source), wishes)
    if source.endswith(".pt2"):
        if not Path(source).exists():
            raise EdgekitError(f"there is no file {source}")
        untrusted_archive.check_zip(Path(source), "a .pt2")
        if not wishes.trust:
            raise EdgekitError(
                f"{source} is a file of torch.export, which may hold code that runs when it is opened; if you would run a program of "
                "whoever made it, say --trust, else ask for ONNX"
            )
    from edgekit.intake_torch import read_torch

    return read_torch(source, wishes)


def key_of(sha256: str, wishes: Wishes) -> str:
    """What decides the content of the bundle: the model and all that was said about it."""
    data = {name: _hash(getattr(wishes, name)) for name in ("example", "test", "calibration")}
    said = {name: value for name, value in asdict(wishes).items() if name != "trust"}  # the bundle is the same
    return files.hash_of({"model": sha256, "wishes": {**said, **data}})


def _hash(path: str) -> str:
    return files.sha256_of(Path(path)) if path and Path(path).is_file() else path


def model_of(signature: Signature, program: Program, tensors: Arrays, step: Step, wishes: Wishes, sha256: str) -> Model | None:
    """The data that came with the model, and the model's own score on it; None without data."""
    if not wishes.test and not wishes.calibration:
        return None
    if program.stream is not None:
        raise EdgekitError("--test and --calibration are for models that are run once; this one is a stream")
    return labelled.model_of(
        wishes.test, wishes.calibration, signature, lambda inputs: answers(program, signature, tensors, inputs, step).outputs, sha256
    )


def plan(graph: Signature, wishes: Wishes, held: Mapping[str, str], initial: Arrays) -> tuple[Signature, Program]:
    """(signature of the program, program) of one graph: run once, or a stream when there are states or chunks.

    held: graph output -> graph input of all states, the user's and a module's own buffers. initial: graph input -> value.
    """
    check_names(graph, wishes, held)
    inputs, outputs = {t.name: t for t in graph.inputs}, {t.name: t for t in graph.outputs}
    sources = {n: tensor(n) if n in wishes.constants else value(n) for n in inputs}
    free = [t for n, t in inputs.items() if n not in held.values() and n not in wishes.constants]
    shown = [t for n, t in outputs.items() if n not in held]
    if not held and not wishes.chunks:
        return Signature(tuple(free), tuple(shown)), Program((Phase(inputs=sources, outputs={t.name: t.name for t in shown}),))
    decided = {n for t in free for n in t.shape if isinstance(n, str)}
    for name in held.values():
        for n in inputs[name].shape:
            if isinstance(n, str) and n not in decided:
                raise EdgekitError(
                    f"the state '{name}' has the free size '{n}', which no input decides; a state keeps one size from step "
                    f"to step: fix it with --size {n}=N"
                )
    feeds = {t.name: wishes.chunks.get(t.name, Feed(0)) for t in free if t.name not in wishes.still}
    if not feeds:
        raise EdgekitError("a stream needs an input that is streamed, but every input is a state, a constant or still")
    if not shown:
        raise EdgekitError("every output is a state, so there would be no answer; name fewer --state")
    several = sum(f.window is not None for f in feeds.values()) > 1
    program_inputs = tuple(_streamed(t, feeds[t.name], several) if t.name in feeds else t for t in free)
    joins = {t.name: wishes.joins.get(t.name) or _default_join(t, feeds) for t in shown}
    program_outputs = tuple(_joined(t, joins[t.name]) for t in shown)
    states = {
        n: State(inputs[n].dtype, inputs[n].shape, tensor(n) if n in initial else State("", ()).initial) for n in held.values()
    }
    phase = Phase(inputs=sources, outputs={t.name: t.name for t in shown}, carry=dict(held))
    stream = Stream(feeds, (phase,), joins, states, "drop" if wishes.tail == "drop" else "pad")
    return Signature(program_inputs, program_outputs), Program((stream,))


def check_names(graph: Signature, wishes: Wishes, held: Mapping[str, str]) -> None:
    """Raise EdgekitError unless all that was said is about inputs and outputs that there are, once each."""
    inputs, outputs = {t.name: t for t in graph.inputs}, {t.name: t for t in graph.outputs}
    for out, name in held.items():
        if out not in outputs:
            raise no_such("output", out, outputs)
        if name not in inputs:
            raise no_such("input", name, inputs)
        a, b = outputs[out], inputs[name]
        clash = len(a.shape) != len(b.shape) or any(
            isinstance(m, int) and isinstance(n, int) and m != n for m, n in zip(a.shape, b.shape, strict=False)
        )
        if a.dtype != b.dtype or clash:
            raise EdgekitError(
                f"the output '{out}' is {a.dtype} {list(a.shape)} and the input '{name}' {b.dtype} {list(b.shape)}: "
                "a state needs one dtype and one shape on both sides"
            )
    if len(set(held.values())) != len(held):
        raise EdgekitError(f"two outputs are carried to one input: {dict(held)}")
    for name in (*wishes.chunks, *wishes.constants, *wishes.still):
        if name not in inputs:
            raise no_such("input", name, inputs)
        if name in held.values():
            raise EdgekitError(f"the input '{name}' is a state; it cannot be a chunk, a constant or still as well")
    for name in wishes.joins:
        if name not in outputs:
            raise no_such("output", name, outputs)
    for name, feed in wishes.chunks.items():
        shape = inputs[name].shape
        if feed.axis >= len(shape) or (isinstance(shape[feed.axis], int) and shape[feed.axis] != feed.window):
            raise EdgekitError(
                f"--chunk {name} asks for windows of {feed.window} along axis {feed.axis}, but the graph's input is {list(shape)}"
            )


def _streamed(t: Tensor, feed: Feed, several: bool) -> Tensor:
    shape = list(t.shape)
    if feed.window is None:
        shape.insert(feed.axis, "steps")
    else:
        shape[feed.axis] = f"{t.name}_samples" if several else "samples"
    return Tensor(t.name, t.dtype, tuple(shape), t.meaning)


def _default_join(t: Tensor, feeds: Mapping[str, Feed]) -> Join:
    windows = [f for f in feeds.values() if f.window is not None]
    return Join("concat", windows[0].axis) if windows and windows[0].axis < len(t.shape) else Join("stack", 0)


def _joined(t: Tensor, join: Join) -> Tensor:
    shape = list(t.shape)
    if join.how == "concat":
        if join.axis >= len(shape):
            raise EdgekitError(f"--join {t.name}=concat:{join.axis}, but the output has the axes of {list(t.shape)}")
        shape[join.axis] = "frames"
    elif join.how == "stack":
        shape.insert(min(join.axis, len(shape)), "steps")
    return Tensor(t.name, t.dtype, tuple(shape), t.meaning)


def allowed_of(goldens: Sequence[Golden], tolerance: float) -> Allowed:
    """Floats within `tolerance` times the largest golden value (at least 1); whole numbers equal."""
    limits: dict[str, float] = {}
    for golden in goldens:
        for name, answer in golden.outputs.items():
            if answer.dtype.kind == "f":
                limits[name] = max(limits.get(name, tolerance), tolerance * float(np.abs(answer).max(initial=1.0)))
    return Allowed(output_max_abs=limits, score_drop=TIES)
