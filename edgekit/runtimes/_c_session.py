"""A bundle run by the C++ runtime in this process, through its C face (runtime/include/edgekit/edgekit.h)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Arrays, Session

DTYPES = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")  # edgekit_dtype, in its order


class _Options(ctypes.Structure):
    _fields_ = (("engine", ctypes.c_char_p), ("library", ctypes.c_char_p), ("task", ctypes.c_char_p), ("digest", ctypes.c_char_p),
                ("threads", ctypes.c_int), ("probes", ctypes.c_int))  # fmt: skip


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
    library.edgekit_answer_count.argtypes = (handle,)
    library.edgekit_answer_count.restype = ctypes.c_size_t
    library.edgekit_answer.argtypes = (handle, ctypes.c_size_t, tensors)
    return library


class CSession(Session):
    """One session of the library; a thread at a time."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p, bundle: Bundle) -> None:
        self._library, self._handle, self._signature = library, handle, bundle.manifest.signature

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        self._signature.check_inputs(inputs)
        kept = [np.ascontiguousarray(v) for v in inputs.values()]
        self._call(_tensors(inputs, kept), len(kept), seed)
        return self._answers()

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """Times hold the call into the library and nothing of numpy."""
        self._signature.check_inputs(inputs)
        kept = [np.ascontiguousarray(v) for v in inputs.values()]
        tensors, count, run, handle = _tensors(inputs, kept), len(kept), self._library.edgekit_run, self._handle

        def once(_kept: list[np.ndarray] = kept) -> None:
            if run(handle, tensors, count, None):
                raise EdgekitError(_last(self._library))

        return once

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


@contextmanager
def opened(library: Path, bundle: Bundle, engine: str, threads: int, probes: bool) -> Iterator[CSession]:
    """A session on one of the library's engines. EdgekitError with the library's own sentence."""
    loaded, handle = _loaded(library), ctypes.c_void_p()
    options = _Options(engine.encode(), None, bundle.task.encode() or None, bundle.sha256.encode(), threads, int(probes))
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
