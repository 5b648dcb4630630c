"""Where the time of one inference goes, layer by layer, against what the machine can do at most (roofline)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Roof:
    """What a probe measured on this machine: the most that any of its kernels reached, so a roof from below."""

    threads: int
    compute_gops: Mapping[str, float]  # precision ("f32", "bf16", "int8") -> 10^9 operations a second (2 a multiply-add)
    bandwidth_gb_s: float
    how: Mapping[str, str]  # figure -> what was run: "onnxruntime MatMul 512x512x512"


@dataclass(frozen=True)
class Layer:
    """One executed layer of an engine's own (optimised) graph, summed over its calls in one inference."""

    name: str
    operator: str  # as the engine calls it
    kernel: str  # what ran: "brgconv_avx512_f32"; empty where the engine does not say
    precision: str  # "f32", "bf16", "int8"; empty: unknown
    time_us: float
    share: float  # of the sum over all layers
    operations: int | None  # of the model's nodes that it covers; None: not matched
    bytes_moved: int | None  # inputs + weights + outputs, once each

    @property
    def gops(self) -> float | None:
        """10^9 operations a second; None where they are not known."""
        return self.operations / self.time_us / 1e3 if self.operations and self.time_us > 0 else None

    @property
    def gb_s(self) -> float | None:
        """10^9 bytes a second."""
        return self.bytes_moved / self.time_us / 1e3 if self.bytes_moved and self.time_us > 0 else None


@dataclass(frozen=True)
class GraphTime:
    """One graph of a program of several, timed around its calls without the engine's profiler."""

    name: str
    calls: int  # in one inference, or in one chunk of a stream
    call_us: float  # the median of one call
    time_us: float  # the median of all its calls in one inference or chunk
    share: float  # of the sum over all graphs


@dataclass(frozen=True)
class LayerProfile:
    """Layers in the order of execution. `slowed`: time with profiling / time without; shares hold, times are inflated by it.
    `graphs` and `whole_us` (p50 of one inference or chunk, timed along with them): of a program of several graphs, without profiling."""

    runtime: str
    threads: int
    runs: int
    layers: tuple[Layer, ...]
    roof: Roof | None
    slowed: float | None = None
    notes: tuple[str, ...] = ()
    graphs: tuple[GraphTime, ...] = ()
    whole_us: float | None = None
