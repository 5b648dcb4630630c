"""Every tensor of an ONNX model, wherever it hides, held to what its dimensions say; data in other files taken in."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.plain_text import is_odd, shown
from edgekit.sniff import open_plain

# Bits of one value, by the names of onnx.TensorProto; strings and what is not here is refused.
BITS = {
    **dict.fromkeys(("UINT2", "INT2"), 2), **dict.fromkeys(("UINT4", "INT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("BOOL", "UINT8", "INT8", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 16), **dict.fromkeys(("UINT32", "INT32", "FLOAT"), 32),
    **dict.fromkeys(("UINT64", "INT64", "DOUBLE", "COMPLEX64"), 64), "COMPLEX128": 128,
}  # fmt: skip
FIELDS = {"FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data", "INT64": "int64_data",
          "UINT64": "uint64_data", "UINT32": "uint64_data"}  # all others: int32_data  # fmt: skip
DATA = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")


def bodies(proto: Any) -> Iterator[tuple[Any, int]]:
    """(every graph and function body, how deep it lies): all that holds nodes."""
    pending = [(proto.graph, 1), *((f, 1) for f in proto.functions)]
    while pending:
        body, depth = pending.pop()
        yield body, depth
        own = [a for node in body.node for a in node.attribute]
        if hasattr(body, "attribute_proto"):  # a function's attributes with a default
            own += list(body.attribute_proto)
        for a in own:
            pending += [(g, depth + 1) for g in (*([a.g] if a.HasField("g") else []), *a.graphs)]


def tensors(proto: Any) -> Iterator[Any]:
    """Every tensor, those of sparse ones, sub-graphs, functions and their defaults too."""
    for body, _ in bodies(proto):
        attributes = [a for node in body.node for a in node.attribute]
        if hasattr(body, "initializer"):
            yield from body.initializer
            yield from _of_sparse(body.sparse_initializer)
        else:
            attributes += list(body.attribute_proto)
        for a in attributes:
            yield from (*([a.t] if a.HasField("t") else []), *a.tensors)
            yield from _of_sparse([*([a.sparse_tensor] if a.HasField("sparse_tensor") else []), *a.sparse_tensors])


def _of_sparse(sparse: Any) -> Iterator[Any]:
    for s in sparse:
        yield from (s.values, s.indices)


def check_tensors(proto: Any, where: str) -> None:
    """Raise EdgekitError unless each tensor holds as many values as its dimensions say, and none is not a number."""
    total = 0
    for t in tensors(proto):
        need = bytes_of(t, where)
        total += need
        if total > limits.MOST_MODEL_BYTES:
            raise Broken(f"{where}: '{shown(t.name)}' and the tensors before it take {total:,} bytes; models up to 2 GB are taken")
        if t.data_location != 1:
            _check_data(t, need, where)
            if _has_nan(t):
                raise Broken(f"{where}: '{shown(t.name)}' holds values that are not numbers (NaN); train or export it again")
    for s in (s for body, _ in bodies(proto) for s in getattr(body, "sparse_initializer", ())):
        if any(n < 0 for n in s.dims) or math.prod(s.dims) * 8 > limits.MOST_MODEL_BYTES:
            raise Broken(f"{where}: the sparse tensor '{shown(s.values.name)}' is {list(s.dims)[:8]}, which is too large; refused")


def bytes_of(t: Any, where: str) -> int:
    """What the values of a tensor take by its dimensions and type."""
    import onnx

    try:
        kind = onnx.TensorProto.DataType.Name(t.data_type)
    except ValueError:
        kind = f"number {t.data_type}"
    if kind not in BITS:
        known = "which no tensor of numbers has" if kind != "STRING" else "and engines on devices take numbers only"
        raise Broken(f"{where}: '{shown(t.name)}' is of type {kind}, {known}; refused")
    if len(t.dims) > limits.MOST_RANK or any(n < 0 for n in t.dims):
        raise Broken(f"{where}: '{shown(t.name)}' has the dimensions {list(t.dims)[:8]}, which cannot be; refused")
    need: int = (math.prod(t.dims) * BITS[kind] + 7) // 8
    if need > limits.MOST_MODEL_BYTES:
        raise Broken(f"{where}: '{shown(t.name)}' is {list(t.dims)[:8]}, which would take {need:.3g} bytes; models up to 2 GB are taken")
    return need


def _check_data(t: Any, need: int, where: str) -> None:
    import onnx

    if t.HasField("segment") or len(t.external_data):
        raise Broken(f"{where}: '{shown(t.name)}' is in segments, or names a file that it does not use; refused")
    filled = [f for f in DATA if len(getattr(t, f))]
    kind = onnx.TensorProto.DataType.Name(t.data_type)
    usual = FIELDS.get(kind, "int32_data")
    if len(filled) > 1 or (filled and filled[0] not in ("raw_data", usual)):
        raise Broken(f"{where}: '{shown(t.name)}' of type {kind} holds its values in {' and '.join(filled)}; one place was expected")
    if not filled:
        have, want = 0, need
    elif filled[0] == "raw_data":
        have, want = len(t.raw_data), need
    else:
        count = math.prod(t.dims)
        want = need if BITS[kind] < 8 else 2 * count if kind.startswith("COMPLEX") else count
        have = len(getattr(t, usual))
    if have != want:
        raise Broken(f"{where}: '{shown(t.name)}' is {list(t.dims)[:8]}, so {want:,} {'values' if filled != ['raw_data'] else 'bytes'} "
                     f"are needed, but {have:,} are there; get the file again")  # fmt: skip


def floats_of(t: Any) -> np.ndarray | None:
    """The values of a float tensor as numpy reads them; None of other types."""
    import onnx

    kind = onnx.TensorProto.DataType.Name(t.data_type)
    if kind in ("FLOAT", "DOUBLE") and not t.raw_data:
        return np.asarray(getattr(t, FIELDS[kind]), dtype=np.float64)
    if kind in ("FLOAT16", "BFLOAT16"):
        bits = np.frombuffer(t.raw_data, "<u2") if t.raw_data else np.asarray(t.int32_data, dtype=np.int64).astype(np.uint16)
        return bits.view(np.float16) if kind == "FLOAT16" else (bits.astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(t.raw_data, {"FLOAT": "<f4", "DOUBLE": "<f8"}[kind]) if kind in ("FLOAT", "DOUBLE") else None


def _has_nan(t: Any) -> bool:
    values = floats_of(t)
    if values is None or not values.size:
        return False
    with np.errstate(invalid="ignore"):
        return bool(np.isnan(values.min()))  # min takes no memory, and keeps what is not a number


def take_in_data(path: Path, proto: Any) -> str:
    """Read data that lies in other files into the model: only plain files below the model's own folder, links resolved first.

    Returns the SHA-256 of all that was read; empty when it was nothing."""
    real = Path(os.path.realpath(path))
    roots = list(dict.fromkeys((Path(os.path.realpath(path.parent)), real.parent)))  # two where the model itself is a link, as in a cache
    total, digest = 0, hashlib.sha256()
    for t in tensors(proto):
        if t.data_location != 1:
            continue
        entry = {e.key: e.value for e in t.external_data}
        name = entry.get("location", "")
        said = f"{path} keeps data in '{shown(name)}'"
        if len(entry) != len(t.external_data) or any(len(getattr(t, f)) for f in DATA):
            raise Broken(f"{said} and says so twice, or has the values of '{shown(t.name)}' here as well; refused")
        need = bytes_of(t, str(path))
        offset, length = _number(entry.get("offset", "0"), said), _number(entry.get("length", str(need)), said)
        total += length
        if length != need or total > limits.MOST_MODEL_BYTES:
            raise Broken(f"{path}: '{shown(t.name)}' takes {need:,} bytes, but its data in '{shown(name)}' has other bounds ({length:,})")
        t.raw_data = _part(roots, name, offset, length, said)
        digest.update(t.raw_data)
        del t.external_data[:]
        t.data_location = 0
    return digest.hexdigest() if total else ""


def _number(text: str, said: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Broken(f"{said} at '{shown(text)}', but offset and length are whole numbers from 0; other bounds are refused")
    return int(text)


def _part(roots: list[Path], name: str, offset: int, length: int, said: str) -> bytes:
    """Bytes of a plain file that lies, once all links are followed, below one of the roots, and has no second name."""
    if not name or is_odd(name):
        raise Broken(f"{said}, which is no name of a file; refused")
    there = [root / name for root in roots if os.path.lexists(root / name)]
    if not there:
        raise EdgekitError(f"{said}, which is not there; put it beside the model")
    place = Path(os.path.realpath(there[0]))
    if Path(name).is_absolute() or ".." in Path(name).parts or not any(place.is_relative_to(root) for root in roots):
        raise Broken(f"{said}, which lies outside of the model's folder; refused")
    try:
        with open_plain(place, 1 << 62, "data of a model", follow=False) as (file, info):
            if info.st_nlink != 1:
                raise Broken(f"it has {info.st_nlink} names (hard links), so it may be anybody's; copy it, then refer to the copy")
            if offset + length > info.st_size:
                raise Broken(f"other bounds: {offset + length:,} bytes are asked for, the file has {info.st_size:,}; get both files again")
            file.seek(offset)
            raw = file.read(length)
    except EdgekitError as error:
        raise Broken(f"{said}, but {error}") from None
    if len(raw) != length:
        raise Broken(f"{said}, which became shorter while it was read; wait until it is whole")
    return raw
