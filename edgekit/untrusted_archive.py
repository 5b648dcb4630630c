"""Zip files of strangers: a .pt2, or an .npz of samples. Looked through by their list of members, before anything is unpacked."""

from __future__ import annotations

import io
import lzma
import math
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.plain_text import is_odd, shown
from edgekit.sniff import kind_of, open_plain

HEADER = 1 << 16  # of an array in an .npz: its type and shape
FIELDS = (r"""['"]descr['"]\s*:\s*['"]([<>|=]?(?:[?bB]|[biufcSU][0-9]{1,6}))['"]""", r"""['"]fortran_order['"]\s*:\s*(True|False)""",
          r"""['"]shape['"]\s*:\s*\(([0-9, ]{0,1500})\)""")  # fmt: skip
FAULTS = (OSError, ValueError, TypeError, KeyError, EOFError, NotImplementedError, RuntimeError, OverflowError, struct.error, zipfile.BadZipFile,
          zlib.error, lzma.LZMAError)  # what zipfile raises for bytes that are no archive  # fmt: skip


def check_zip(path: Path, what: str) -> None:
    """Raise EdgekitError unless the file is a zip whose members are plain, few, distinct, inside of it and not too large unpacked."""
    with open_plain(path, limits.MOST_MODEL_BYTES, what) as (file, _):
        try:
            with zipfile.ZipFile(file) as packed:
                check_members(packed, f"{path}", limits.MOST_MODEL_BYTES)
        except FAULTS as error:
            file.seek(0)
            kind = kind_of(file.read(HEADER))
            raise Broken(f"{path} is not {what}: " + (f"it is {kind}" if kind else f"it is no zip archive ({shown(error)})")) from None


def check_members(packed: zipfile.ZipFile, where: str, most: int) -> None:
    """The same of an archive that is open already."""
    members = packed.infolist()
    if len(members) > limits.MOST_ARCHIVE_MEMBERS:
        raise Broken(f"{where} has {len(members):,} members, {limits.MOST_ARCHIVE_MEMBERS:,} are taken")
    if len({m.filename for m in members}) != len(members):
        raise Broken(f"{where} has two members of one name: readers differ on which one counts; refused")
    total = 0
    for m in members:
        total += m.file_size
        if m.filename.startswith(("/", "\\")) or ".." in m.filename.replace("\\", "/").split("/") or is_odd(m.filename):
            raise Broken(f"{where} has the member '{shown(m.filename)}', which would lie elsewhere; refused")
        if stat.S_ISLNK(m.external_attr >> 16):
            raise Broken(f"{where} has the link '{shown(m.filename)}' as a member; refused")
        if total > most or m.file_size > limits.MOST_ARCHIVE_RATIO * (m.compress_size + 64):
            raise Broken(f"{where} would unpack to {total:,} bytes or more, {most:,} are taken; a zip bomb is refused")


def read_npz(path: Path, what: str = "is no .npz of arrays") -> dict[str, np.ndarray]:
    """The arrays of an .npz by name; EdgekitError for anything else: objects (pickle), sizes that lie, bombs."""
    try:
        with open_plain(path, limits.MOST_DATA_BYTES, "an .npz of arrays") as (file, _), zipfile.ZipFile(file) as packed:
            check_members(packed, str(path), limits.MOST_DATA_BYTES)
            return {m.filename.removesuffix(".npy"): _array(packed, m) for m in packed.infolist()}
    except (*FAULTS, EdgekitError, MemoryError, RecursionError) as error:
        raise Broken(f"{path} {what} ({shown(error, 300) or type(error).__name__})") from None


def _array(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One member, once its header and its size agree: numpy takes the memory that a header asks for."""
    with packed.open(member) as file:
        raw = io.BytesIO(file.read())
    shape, fortran, dtype = npy_header(raw)
    if math.prod(shape) * dtype.itemsize != len(raw.getbuffer()) - raw.tell():
        raise ValueError(f"'{shown(member.filename)}' is said to be {list(shape)[:8]}, its {len(raw.getbuffer()):,} bytes are of another size")
    array = np.frombuffer(raw.getbuffer(), dtype, offset=raw.tell()).reshape(shape, order="F" if fortran else "C")
    return np.require(array, requirements=("C", "W")) if array.ndim else np.array(array)


def npy_header(raw: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, Fortran order, type) of an .npy file, read from its beginning. numpy's own reader parses it as Python and fails in ways of its own."""
    start = raw.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError("an array of numpy begins otherwise")
    width = 2 if start[6] == 1 else 4
    size = int.from_bytes(raw.read(width), "little")
    text = raw.read(min(size, HEADER)).decode("ascii", "replace")
    found = [re.findall(pattern, text) for pattern in FIELDS]
    if size > HEADER or len(text) != size or any(len(f) != 1 for f in found):
        raise ValueError(f"its header is not that of an array of numbers: {shown(text)}; objects are pickles, and none is opened")
    kind, order, sizes = (f[0] for f in found)
    shape = tuple(int(n) for n in sizes.replace(" ", "").split(",") if n)
    if len(shape) > limits.MOST_RANK or math.prod(shape) > limits.MOST_DATA_BYTES:
        raise ValueError(f"the shape {list(shape)[:8]} cannot be")
    return shape, order == "True", np.dtype(kind)
