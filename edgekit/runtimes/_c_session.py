"""A bundle run by the C++ runtime in this process, through its C face (runtime/include/edgekit/edgekit.h)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Arrays, Session
from edgekit.program import Stream
from edgekit.stream import cut, run_pieces

DTYPES = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")  # edgekit_dtype, in its order


class _Options(ctypes.Structure):
    _fields_ = (("engine", ctypes.c_char_p), ("library", ctypes.c_char_p), ("task", ctypes.c_char_p), ("digest", ctypes.c_char_p),
                ("threads", ctypes.c_int), ("probes", ctypes.c_int), ("layers", ctypes.c_int))  # fmt: skip


class _Layer(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("way", ctypes.c_char_p), ("microseconds", ctypes.c_double),
                *((n, ctypes.c_uint64) for n in ("inputs", "events", "spikes", "products", "break_even")))  # fmt: skip


@dataclass(frozen=True)
class LayerTime:
    """What the last run did in one layer; edgekit.hpp says more."""

    name: str
    way: str  # events, dense, any, plain
    time_us: float
    inputs: int
    events: int
    spikes: int
    products: int
    break_even: int


class _Tensor(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("shape", ctypes.POINTER(ctypes.c_int64)), ("rank", ctypes.c_size_t),
                ("data", ctypes.c_void_p))  # fmt: skip


@functools.cache
def _loaded(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    handle, tensors = ctypes.c_void_p, ctypes.POINTER(_Tensor)
    library.edgekit_last_error.restype = ctypes.c_char_p
    library.edgekit_open.argtypes = (ctypes.c_char_p, ctypes.POINTER(_Options), ctypes.POINTER(handle))
    library.edgekit_free.argtypes = (handle,)
    library.edgekit_free.restype = None
    library.edgekit_run.argtypes = (handle, tensors, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint64))
    library.edgekit_bind.argtypes = (handle, tensors, ctypes.c_size_t, ctypes.POINTER(handle))
    library.edgekit_run_bound.argtypes = (handle,)
    library.edgekit_begin.argtypes = library.edgekit_run.argtypes
    library.edgekit_push.argtypes = (handle, tensors, ctypes.c_size_t)
    library.edgekit_push_events.argtypes = (handle, ctypes.c_void_p, ctypes.c_size_t)
    library.edgekit_close.argtypes = (handle,)
    library.edgekit_layer_count.argtypes = (handle,)
    library.edgekit_layer_count.restype = ctypes.c_size_t
    library.edgekit_layer_at.argtypes = (handle, ctypes.c_size_t, ctypes.POINTER(_Layer))
    library.edgekit_answer_count.argtypes = (handle,)
    library.edgekit_answer_count.restype = ctypes.c_size_t
    library.edgekit_answer.argtypes = (handle, ctypes.c_size_t, tensors)
    return library


class CSession(Session):
    """One session of the library; a thread at a time."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p, bundle: Bundle) -> None:
        self._library, self._handle, self._signature = library, handle, bundle.manifest.signature
        self._stream = bundle.manifest.program.stream

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        kept = [np.ascontiguousarray(v) for v in inputs.values()]
        self._call(_tensors(inputs, kept), len(kept), seed)
        return self._answers()

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """Times hold the call into the library and nothing of numpy; of a stream, one push of one chunk, as events where the network takes them."""
        self._signature.check_inputs(inputs)
        if self._stream is not None:
            feeds = self._stream.feeds
            self.begin({n: v for n, v in inputs.items() if n not in feeds})
            inputs = {n: cut(inputs[n], f.axis, 0, f.hop or 1) for n, f in feeds.items()}
            if self._takes_events():
                return self.bind_events(events_of(next(iter(inputs.values()))))
        kept = [np.ascontiguousarray(v) for v in inputs.values()]
        tensors, count, library, handle = _tensors(inputs, kept), len(kept), self._library, self._handle
        if self._stream is not None:

            def push(_kept: list[np.ndarray] = kept, call: Callable[..., int] = library.edgekit_push) -> None:
                if call(handle, tensors, count):
                    raise EdgekitError(_last(library))

            return push
        bound = ctypes.c_void_p()
        self._told(library.edgekit_bind(handle, tensors, count, ctypes.byref(bound)))

        def once(_kept: list[np.ndarray] = kept, call: Callable[..., int] = library.edgekit_run_bound) -> None:
            if call(bound):
                raise EdgekitError(_last(library))

        return once

    def begin(self, inputs: Arrays, seed: int | None = None) -> None:
        kept = [np.ascontiguousarray(v) for v in inputs.values()]
        given = None if seed is None else ctypes.byref(ctypes.c_uint64(seed))
        self._told(self._library.edgekit_begin(self._handle, _tensors(inputs, kept), len(kept), given))

    def push(self, inputs: Arrays) -> dict[str, np.ndarray]:
        kept = [np.ascontiguousarray(v) for v in inputs.values()]
        self._told(self._library.edgekit_push(self._handle, _tensors(inputs, kept), len(kept)))
        return self._answers()

    def push_events(self, places: np.ndarray) -> dict[str, np.ndarray]:
        given = np.asarray(places)
        if given.ndim != 1 or not (np.issubdtype(given.dtype, np.integer) or given.size == 0):
            raise EdgekitError(f"events are whole numbers (n,), found {given.dtype} {list(given.shape)}")
        if given.size and not 0 <= int(given.min()) <= int(given.max()) < 1 << 32:
            raise EdgekitError(f"events are places of the frame, found {int(given.min())} to {int(given.max())}")
        kept = np.ascontiguousarray(given, np.uint32)
        self._told(self._library.edgekit_push_events(self._handle, kept.ctypes.data, len(kept)))
        return self._answers()

    def _takes_events(self) -> bool:
        try:
            self.push_events(np.array([], np.uint32))
        except EdgekitError:
            return False
        return True

    def bind_events(self, places: np.ndarray) -> Callable[[], None]:
        """push_events of the same events, without taking the answer: what is timed."""
        kept = np.ascontiguousarray(places, np.uint32)
        push, handle, data, count = self._library.edgekit_push_events, self._handle, kept.ctypes.data, len(kept)

        def once(_kept: np.ndarray = kept) -> None:
            if push(handle, data, count):
                raise EdgekitError(_last(self._library))

        once.events = count  # type: ignore[attr-defined]
        return once

    def layers(self) -> list[LayerTime]:
        """Of the last run, where the session was opened with layers."""
        found = []
        for i in range(self._library.edgekit_layer_count(self._handle)):
            at = _Layer()
            self._told(self._library.edgekit_layer_at(self._handle, i, ctypes.byref(at)))
            found.append(LayerTime(at.name.decode(), at.way.decode(), at.microseconds, at.inputs, at.events, at.spikes, at.products, at.break_even))
        return found

    def close(self) -> dict[str, np.ndarray]:
        self._told(self._library.edgekit_close(self._handle))
        return self._answers()

    def run_pieces(self, inputs: Arrays, sizes: Sequence[int], seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        return run_pieces(self, self._need_stream(), inputs, sizes, seed)

    def _need_stream(self) -> Stream:
        if self._stream is None:
            raise EdgekitError("this bundle is no stream: give it whole inputs")
        return self._stream

    def _told(self, failed: int) -> None:
        if failed:
            raise EdgekitError(_last(self._library))

    def _call(self, tensors: ctypes.Array[_Tensor], count: int, seed: int | None) -> None:
        if self._library.edgekit_run(self._handle, tensors, count, None if seed is None else ctypes.byref(ctypes.c_uint64(seed))):
            raise EdgekitError(_last(self._library))

    def _answers(self) -> dict[str, np.ndarray]:
        found = {}
        for i in range(self._library.edgekit_answer_count(self._handle)):
            tensor = _Tensor()
            if self._library.edgekit_answer(self._handle, i, ctypes.byref(tensor)):
                raise EdgekitError(_last(self._library))
            shape, dtype = tuple(tensor.shape[: tensor.rank]), np.dtype(DTYPES[tensor.dtype])
            size = int(np.prod(shape)) * dtype.itemsize
            raw = ctypes.string_at(tensor.data, size) if size else b""
            found[tensor.name.decode()] = np.frombuffer(bytearray(raw), dtype).reshape(shape)
        return found


def events_of(frame: np.ndarray) -> np.ndarray:
    """uint32 (n,): the places of one frame of counts, each as often as it counts, as push_events takes them."""
    counts = frame.ravel()
    return np.repeat(np.arange(counts.size, dtype=np.uint32), counts)


@contextmanager
def opened(library: Path, bundle: Bundle, engine: str, threads: int, probes: bool, layers: bool = False) -> Iterator[CSession]:
    """A session on one of the library's engines. EdgekitError with the library's own sentence."""
    loaded, handle = _loaded(library), ctypes.c_void_p()
    options = _Options(engine.encode(), None, bundle.task.encode() or None, bundle.sha256.encode(), threads, int(probes), int(layers))
    if loaded.edgekit_open(str(bundle.folder.absolute()).encode(), ctypes.byref(options), ctypes.byref(handle)):
        raise EdgekitError(_last(loaded))
    try:
        yield CSession(loaded, handle, bundle)
    finally:
        loaded.edgekit_free(handle)


def _last(library: ctypes.CDLL) -> str:
    said: bytes = library.edgekit_last_error() or b"it gave no reason"
    return said.decode(errors="replace")


def _tensors(inputs: Arrays, kept: list[np.ndarray]) -> ctypes.Array[_Tensor]:
    made = (_Tensor * len(kept))()
    for at, name, value in zip(made, inputs, kept, strict=True):
        at.name, at.dtype, at.rank = name.encode(), DTYPES.index(str(value.dtype)), value.ndim
        at.shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        at.data = value.ctypes.data
    return made
