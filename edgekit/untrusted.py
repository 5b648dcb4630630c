"""The one place that opens a model file of a stranger: sniff, limits, parse, own checks, then the checker and the engine in a child."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import limits
from edgekit.errors import Broken
from edgekit.intake_golden import Final
from edgekit.model_engine import Arrays, Engine, Refused
from edgekit.onnx_checks import check_filled, check_proto
from edgekit.onnx_tensors import take_in_data
from edgekit.sniff import kind_of, read_plain
from edgekit.untrusted_process import Child, Died, Ended
from edgekit.wire import check_wire


def read_model(path: Path) -> tuple[str, Any]:
    """(SHA-256 of the file and what it takes of others, the parsed model with that in it), or EdgekitError. Nothing native has run it yet."""
    raw = read_plain(path, limits.MOST_MODEL_BYTES, "an ONNX file")
    kind = kind_of(raw)
    if kind:
        raise Broken(f"{path} is no ONNX file: it is {kind}")
    proto, sha256 = parsed(raw, str(path)), hashlib.sha256(raw).hexdigest()
    del raw  # up to 2 GB
    check_proto(proto, str(path))
    taken = take_in_data(path, proto)
    check_filled(proto, str(path))
    return hashlib.sha256(f"{sha256} {taken}".encode()).hexdigest() if taken else sha256, proto


def parsed(raw: bytes, where: str) -> Any:
    """The message in these bytes, once they were looked through."""
    import onnx

    check_wire(raw, where)
    try:
        return onnx.load_from_string(raw)
    except Exception as error:  # protobuf's own types
        raise Broken(f"{where} is no ONNX file, or not all of one ({type(error).__name__}); get it again") from None


@dataclass(frozen=True)
class Guarded:
    """An engine over the model of `path`: what it refuses, or dies of, is one sentence that begins with the path."""

    path: Path
    engine: Engine | Child

    def check(self, model: bytes) -> None:
        """onnx's own checker."""
        self._told("is no valid ONNX model: ", self.engine.check, model)

    def fold(self, model: bytes) -> Any:
        """The parsed model with its constants folded."""
        return parsed(self._told("does not open with these constants and sizes: ", self.engine.fold, model), str(self.path))

    def open(self, model: bytes, fast: bool = False) -> None:
        """Make ready to run."""
        self._told("does not run: ", self.engine.open, model, fast)

    def run(self, values: Arrays) -> dict[str, np.ndarray]:
        """One call."""
        found: dict[str, np.ndarray] = self._told("fails on the golden inputs: ", self.engine.run, values)
        return found

    def _told(self, what: str, do: Any, *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except Ended as why:
            raise Final(f"{self.path} {why}") from None
        except Died as why:
            raise Final(f"{self.path} {why}; it is not opened here") from None
        except Refused as why:
            raise Broken(f"{self.path} {what}{why}") from None
        except MemoryError:
            raise Broken(f"{self.path} {what}it needs more memory than there is") from None


@contextmanager
def guarded(path: Path, model_bytes: int, trust: bool) -> Iterator[Guarded]:
    """An engine for the model: in a child process with limits, or, trusted, in this one."""
    engine = Engine() if trust else Child(model_bytes)
    try:
        yield Guarded(path, engine)
    finally:
        if isinstance(engine, Child):
            engine.close()
