"""Files that are whole or not there: write beside, sync, rename. What a killed process left beside is removed by the next one."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import lock
from edgekit.errors import Broken, EdgekitError, Unwritable

if TYPE_CHECKING:
    import numpy as np

DRAFT = ".draft-"  # a folder or file so named is being made, or was left by a process that was killed; nobody ever reads it
DRAFT_OF = re.compile(r"\.draft-.*-(\d+)-[a-z0-9_]+", re.DOTALL)  # name, process, chance
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # what only a disk says
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # renameat2(2): two names change places, and nobody ever sees one missing


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(data: Any) -> str:
    """JSON with sorted keys and no NaN, so that equal data has equal bytes (and an equal hash)."""
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def hash_of(data: Any) -> str:
    """The SHA-256 of the canonical JSON of `data`."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a text file atomically: readers see the old one or the new one, whole."""
    write_bytes(path, text.encode(), mode=mode)


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file atomically and durably (temporary file, fsync, rename, fsync of the folder)."""
    with mendable(path):
        make_folder(path.absolute().parent)
        remove_drafts(path)
        handle, name = _locked(lambda: tempfile.mkstemp(prefix=_prefix(path), dir=path.parent))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(handle, mode)
                os.fsync(handle)
                Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync(path.parent)


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file; Broken, with the path, when it is not one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, AttributeError, KeyError) as error:  # the last two for types that numpy has not, such as float8
        raise Broken(f"{path}: not a safetensors file ({error})") from None


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file; zero-dimensional arrays stay so."""
    import numpy as np
    from safetensors.numpy import save_file

    save_file({n: np.require(a, requirements="C") for n, a in tensors.items()}, path)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], facts: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically; `facts` go into its header."""
    import numpy as np
    from safetensors.numpy import save

    write_bytes(path, save({n: np.require(a, requirements="C") for n, a in tensors.items()}, dict(facts or {})))


@contextmanager
def folder_draft(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends well and vanishes when it does not.

    An `out` that is there already is replaced. Drafts left by killed processes in the same place are removed.
    """
    out = out.absolute()
    with mendable(out):
        make_folder(out.parent)
        remove_drafts(out)
        handle, name = _locked(lambda: _opened(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent)))
    draft = Path(name)
    try:
        with mendable(out, only_disk=True):
            draft.chmod(0o755)
            yield draft
        with mendable(out):
            for path in sorted(draft.rglob("*")):
                if not path.is_symlink():  # a link has no content of its own, and may point at nothing
                    _sync(path)
            _sync(draft)
            _put(draft, out)
            _sync(out.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # of a block that failed, or what `out` was before
        os.close(handle)


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A folder for temporary files, gone when the block ends. Those that killed processes left are removed."""
    root = Path(tempfile.gettempdir()) / f"edgekit-{what}"
    with mendable(root.parent):
        remove_drafts(root)
        handle, name = _locked(lambda: _opened(tempfile.mkdtemp(prefix=_prefix(root))))
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)
        os.close(handle)


def remove_drafts(out: Path) -> None:
    """Remove what killed processes left in the folder of `out`; drafts of living processes stay.

    Where a process was killed after it had set an old folder aside, and before it had put the new one in its place, the old one comes back."""
    try:
        names = [p.name for p in out.absolute().parent.iterdir() if DRAFT_OF.fullmatch(p.name)]
    except OSError:
        return
    for name in names:
        left = out.absolute().parent / name
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _abandoned(handle, name):
                    _remove(left)
            finally:
                os.close(handle)


def make_folder(folder: Path) -> None:
    """The folder and those above it, durably: each is synced into the one that holds it."""
    absent = [p for p in (folder, *folder.parents) if not p.is_dir()]
    for path in reversed(absent):
        path.mkdir(exist_ok=True)
        with suppress(PermissionError):  # one may make folders where one may not look
            _sync(path.parent)


def what_the_disk_said(error: BaseException) -> str:
    """"No space left on device", where an error comes of a disk that refused, whatever library put it into words of its own; else ""."""
    if isinstance(error, OSError) and error.errno:  # shutil's holds the texts of several
        return os.strerror(error.errno) if error.errno in REFUSALS else ""
    text = "" if isinstance(error, EdgekitError) else str(error)
    return next((os.strerror(n) for n in REFUSALS if os.strerror(n) in text or f"os error {n})" in text), "")


@contextmanager
def mendable(path: Path, only_disk: bool = False) -> Iterator[None]:
    """What the system refuses, as Unwritable. only_disk: other errors than a disk's may have another cause, and stay as they are."""
    try:
        yield
    except Exception as error:
        said = what_the_disk_said(error)
        if not said and not only_disk and isinstance(error, OSError):
            said = error.strerror or str(error)
        if not said:
            raise
        raise Unwritable(f"cannot write {path}: {said}; free space or choose another folder") from None


def _prefix(out: Path) -> str:
    return f"{DRAFT}{out.name[:150]}-{os.getpid()}-"


def _locked(make: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """A new draft, open and locked for as long as this process lives. One that was taken for abandoned before it was locked is made anew."""
    while True:
        handle, name = make()
        if lock.take(handle) is not False and os.fstat(handle).st_nlink and Path(name).exists():
            return handle, name
        os.close(handle)


def _opened(folder: str) -> tuple[int, str]:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY), folder
    except FileNotFoundError:
        return os.open(os.devnull, os.O_RDONLY), folder  # taken for abandoned already: see _locked


def _abandoned(handle: int, name: str) -> bool:
    """Whether nobody works on that draft any more: its lock is free, or, on a disk without locks, its process is gone."""
    free = lock.take(handle)
    if free is not None:
        return free
    made_by = DRAFT_OF.fullmatch(name)
    try:
        os.kill(int(made_by[1]) if made_by else os.getpid(), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def _remove(left: Path) -> None:
    if not left.is_dir():
        left.unlink()
        return
    for old in left.glob(f"{DRAFT}old-*"):  # see _put
        home = left.parent / old.name.removeprefix(f"{DRAFT}old-")
        if not home.exists():
            old.replace(home)
    shutil.rmtree(left, ignore_errors=True)


def _put(draft: Path, out: Path) -> None:
    """Give the draft the name `out`; what had that name is then in the place of the draft, or in it."""
    if not out.exists():
        draft.replace(out)
        return
    if _exchanged(draft, out):
        return
    handle, aside = _locked(lambda: _opened(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent)))
    try:
        out.replace(Path(aside) / f"{DRAFT}old-{out.name}")  # should this process die now, the next one puts it back
        draft.replace(out)
        shutil.rmtree(aside)
    finally:
        os.close(handle)


def _exchanged(a: Path, b: Path) -> bool:
    """Two names change places at once, where the system and the disk can do that."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
