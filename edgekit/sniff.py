"""What a file is by its first bytes, before anything parses it; and its bytes, read once and only from a plain file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import Broken, EdgekitError

PICKLE = "runs code when it is read; edgekit opens no pickle"
SAVE = "save the network with torch.export.save (.pt2) or as ONNX, weights as safetensors"
TAIL = 1 << 16  # of a zip: its list of members begins here at the latest, where it is short
SUFFIXES = {  # that a model may have elsewhere: what it is, and what is to be done
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), f"a checkpoint of torch, a pickle, which {PICKLE}: {SAVE}"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), f"a pickle, which {PICKLE}: {SAVE}"),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "a Keras model, which may hold code (Lambda layers) and is not opened; export it as ONNX"),
    ".tflite": "a model of TensorFlow Lite, which is not read; export it as ONNX",
    ".pb": "a graph of TensorFlow, which is not read; export the model as ONNX",
    **dict.fromkeys((".plan", ".engine", ".trt"), "a TensorRT plan, machine code, which is only opened as part of a bundle; give the ONNX file"),
}
# (where, bytes, what it is and what to do). The first that fits is said.
MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a git-lfs pointer, not the model; run `git lfs pull`"),
    (0, b"\x89HDF\r\n\x1a\n", f"an HDF5 file, perhaps {SUFFIXES['.h5']}"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and name the model in it"),
    (0, b"\x1f\x8b", "packed by gzip; unpack it and name the model in it"),
    (0, b"BZh", "packed by bzip2; unpack it and name the model in it"),
    (0, b"\xfd7zXZ\x00", "packed by xz; unpack it and name the model in it"),
    (0, b"\x28\xb5\x2f\xfd", "packed by zstd; unpack it and name the model in it"),
    (0, b"Rar!\x1a\x07", "a rar archive; unpack it and name the model in it"),
    (257, b"ustar", "a tar archive; unpack it and name the model in it"),
    (4, b"TFL3", SUFFIXES[".tflite"]),
    (0, b"ftrt", SUFFIXES[".plan"]),
    (0, b"GGUF", "a GGUF file, which is not read; export the model as ONNX"),
    (0, b"\x93NUMPY", "an array of numpy, not a model"),
    (0, b"\x7fELF", "a program, not a model"),
    (0, b"MZ", "a program, not a model"),
    (0, b"#!", "a script, not a model"),
    (0, b"%PDF", "a PDF, not a model"),
    (0, b"\xff\xd8\xff", "a picture, not a model"),
    (0, b"\x89PNG", "a picture, not a model"),
)


def kind_of(raw: bytes) -> str:
    """What these bytes are, with what to do about it; empty when they may be a model of protobuf."""
    found = next((said for at, magic, said in MAGICS if raw.startswith(magic, at)), "")
    if found:
        return found
    start = raw[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "a web page, not a model; the download went wrong, get it again"
    if raw.startswith(b"PK\x03\x04") or raw.startswith(b"PK\x05\x06"):
        return _zip_kind(raw[-TAIL:] + raw[:TAIL])
    if raw[:1] == b"\x80" and raw[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"a pickle, which {PICKLE}: {SAVE}"
    if raw[8:9] == b"{" and 0 < int.from_bytes(raw[:8], "little") <= len(raw) - 8:
        return "a safetensors file: weights without a network; export the network as ONNX"
    if start[:1] in (b"{", b"["):
        return "a JSON file, not a model; the download may have gone wrong, get it again"
    return ""


def _zip_kind(ends: bytes) -> str:
    if b"data.pkl" in ends and b"models/" not in ends:
        return SUFFIXES[".pt"]
    if b"model.weights.h5" in ends:
        return SUFFIXES[".keras"]
    if b".npy" in ends:
        return "an .npz of arrays, not a model"
    if b"models/" in ends or b"archive_format" in ends:
        return "a program of torch.export; call it .pt2"
    return "a zip archive; unpack it and name the model in it"


@contextmanager
def open_plain(path: Path, most: int, what: str, *, follow: bool = True) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """A regular, non-empty file of at most `most` bytes, and what the system says of it. what: as in 'an ONNX file'.

    The file is opened first and looked at then, so that it cannot become another one between; a pipe is opened without waiting."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise EdgekitError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        info = os.fstat(handle)
        check_plain(info, path, most, what)
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file, info
    finally:
        os.close(handle)


def is_there(path: Path) -> bool:
    """Path.exists for a name that stands in a file: one that is too long for the system, or no name at all, is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_plain(path: Path, most: int, what: str) -> bytes:
    """All bytes of such a file."""
    with open_plain(path, most, what) as (file, info):
        try:
            raw = file.read(info.st_size)
        except OSError as error:
            raise EdgekitError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) != info.st_size:
        raise Broken(f"{path} had {info.st_size} bytes and then {len(raw)}: something is writing to it; wait until it is whole")
    return raw


def check_plain(info: os.stat_result, path: Path, most: int, what: str) -> None:
    """Raise EdgekitError unless this is a regular file with something in it and not too much."""
    if not stat.S_ISREG(info.st_mode):
        raise EdgekitError(f"{path} is {'a folder' if stat.S_ISDIR(info.st_mode) else 'no regular file'}, not {what}")
    if not info.st_size:
        raise Broken(f"{path} is empty; get it again")
    if info.st_size > most:
        raise EdgekitError(f"{path} has {info.st_size / 1e6:,.0f} MB, {what} of up to {most / 1e6:,.0f} MB is taken")


def refuse_file(path: Path) -> None:
    """Raise EdgekitError where `path` is a file (not a folder) that no verb takes as a model, and say what it is."""
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        raise EdgekitError(f"{path} is not taken: it is {SUFFIXES[path.suffix.lower()]}")
    if not path.exists() or path.is_dir():
        return
    if not path.is_file():
        raise EdgekitError(f"{path} is no regular file; a model is a folder, a .onnx, a .pt2, or module:function")
    with path.open("rb") as file:
        said = kind_of(file.read(TAIL))
    raise EdgekitError(f"{path} is not taken: " + (f"it is {said}" if said else "a model is a folder, a .onnx, a .pt2, or module:function"))
