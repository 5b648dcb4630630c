"""The Python face, for a notebook or a training script: export a module, open a bundle, run it or push a stream."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgekit import examine, registry
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.intake import Wishes
from edgekit.parts import Exporter


def export(module: Any, example_inputs: Any, out: Path | str, free: Any = None, **wishes: Any) -> Bundle:
    """An ONNX bundle of a torch module with golden answers by torch, eager.

    module: nn.Module. example_inputs: tensors in a tuple, or by name in a dict. free: {input: {axis: name}} of the free
    dimensions. wishes: states, chunks, constants, joins, tolerance, ... as in edgekit.intake.Wishes.
    Raises EdgekitError when the module cannot be traced or said as a program.
    """
    from edgekit.intake_torch import read_module

    try:
        said = Wishes(**wishes)
    except TypeError as error:
        raise EdgekitError(f"{error}; known are: {', '.join(Wishes.__dataclass_fields__)}") from None
    own = read_module(module, example_inputs, free, said, name=type(module).__name__)
    exporter = registry.find(Exporter, "onnx")
    return exporter.export(own, Path(out), exporter.options)


class Opened:
    """A bundle at work on an engine: run(**inputs), or push(**inputs), push_events(places) and close_stream() for a stream."""

    def __init__(self, bundle: Bundle, runtime: str = "", threads: int = 0) -> None:
        self.bundle = bundle
        self._stack = ExitStack()
        self._session = self._stack.enter_context(examine.runtime_of(bundle, runtime).open(bundle, threads=threads))

    def run(self, seed: int | None = None, **inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        """One inference over whole inputs: the outputs by name."""
        return self._session.run(inputs, seed)

    def begin(self, seed: int | None = None, **inputs: np.ndarray) -> None:
        """Start a stream anew, with the inputs that are not streamed."""
        self._session.begin(inputs, seed)

    def push(self, **inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        """More of a stream, of any length: the outputs of the chunks that are whole now."""
        return self._session.push(inputs)

    def push_events(self, places: np.ndarray) -> Mapping[str, np.ndarray]:
        """One chunk of a camera's stream, as events: whole numbers (n,), (channel * height + y) * width + x; for the runtime spike."""
        return self._session.push_events(places)

    def close_stream(self) -> Mapping[str, np.ndarray]:
        """End a stream: what its tail gives."""
        return self._session.close()

    def close(self) -> None:
        """Let the engine go."""
        self._stack.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open(folder: Path | str, runtime: str = "", threads: int = 0, task: str = "", signed_by: Path | str = "") -> Opened:  # noqa: A001
    """A bundle, checked file by file, on an engine (default: its format's own). task: which of its programs, where it has several.
    signed_by: the file of a public key; then the bundle is opened only if the key's owner signed it."""
    from edgekit.signing import open_signed

    bundle = open_signed(Path(folder), Path(signed_by)).bundle if signed_by else open_bundle(folder)
    return Opened(bundle.of_task(task), runtime, threads)
