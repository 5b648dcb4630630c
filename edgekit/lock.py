"""One process at a time writes to a place. The kernel gives a lock back when its process ends, however it ends.

A run folder is locked itself, so that nothing lies in it for the lock; a bundle, which is replaced whole, by a file beside it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import Unwritable

BESIDE = ".lock-"  # a file so named beside a bundle; one that a killed process left is taken and removed by the next
_MINE: dict[tuple[int, int], int] = {}  # (device, inode) -> the thread of this process that holds it


def take(handle: int) -> bool | None:
    """Lock an open file or folder: whether it was free; None where the disk knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """This process alone works in the folder `out`, which is made, and removed if it stays empty; Unwritable, at once, when another one does.

    Within it, the same thread may ask again. A disk without locks is used without them."""
    absent = _absent(out)
    try:
        handle, free = _opened(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unwritable(f"cannot write {out}: {error.strerror or error}; choose another --out") from None
    try:
        with _held(handle, free, out):
            yield
    finally:
        _remove_empty(absent)
        os.close(handle)


@contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """This process alone makes the folder `out`; Unwritable, at once, when another one does. Within it, the same thread may ask again."""
    path = out.absolute().parent / f"{BESIDE}{out.name[:200]}"
    absent = _absent(path.parent)
    try:
        handle, free = _opened(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        raise Unwritable(f"cannot write {out}: {error.strerror or error}; free space or choose another folder") from None
    try:
        with _held(handle, free, out) as first:
            try:
                yield
            finally:
                if first:
                    path.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone, and makes another
    finally:
        _remove_empty(absent)
        os.close(handle)


def _opened(path: Path, flags: int) -> tuple[int, bool | None]:
    """The opened folder or file, and whether it was free."""
    while True:
        if flags & os.O_DIRECTORY:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o644)
        free = take(handle)
        if not free or _is(handle, path):
            return handle, free
        os.close(handle)  # who held it has removed it meanwhile: it protects nothing any more


def _absent(folder: Path) -> list[Path]:
    """Of a folder and those above it, the ones that are not there."""
    return [p for p in (folder.absolute(), *folder.absolute().parents) if not p.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Of a mistyped name nothing is to stay."""
    for path in folders:
        try:
            path.rmdir()
        except OSError:
            break


@contextmanager
def _held(handle: int, free: bool | None, out: Path) -> Iterator[bool]:
    """Whether this is the first time that the thread asks."""
    key, me = _key(handle), threading.get_ident()
    if _MINE.get(key) == me:
        yield False
        return
    if free is False:
        raise Unwritable(f"another edgekit process works in {out}; wait for it, or choose another folder")
    _MINE[key] = me
    try:
        yield True
    finally:
        del _MINE[key]


def _key(handle: int) -> tuple[int, int]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino


def _is(handle: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        there = path.stat()
    except OSError:
        return False
    return _key(handle) == (there.st_dev, there.st_ino)
