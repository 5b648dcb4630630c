"""The ONNX graph that a TensorRT bundle was built from, in ONNX Runtime: its numerics are checked there, not in TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit import registry
from edgekit.bundle import Bundle
from edgekit.parts import Runtime, Session

HOST = "onnxruntime"


class TensorRtOnnx(Runtime):
    """Opens no plan and calls no TensorRT. Its times would say nothing of a GPU, so none are taken."""

    needs = ("onnxruntime",)
    formats = ("tensorrt",)
    simulates = "TensorRT's numerics"
    timed = False

    def version(self) -> str:
        """As in 'ort-not-tensorrt 1.32.0': tables show the first two words."""
        return registry.find(Runtime, HOST).version().replace(HOST, "ort-not-tensorrt", 1)

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """As ONNX Runtime opens any other ONNX graph."""
        with registry.find(Runtime, HOST).open(bundle, threads, probes) as session:
            yield session


PART = TensorRtOnnx()
