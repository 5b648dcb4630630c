"""Files that are whole or not there: write beside, sync, rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import Broken, EdgekitError

if TYPE_CHECKING:
    import numpy as np

DRAFT = ".draft-"  # a folder or file so named was left by a process that was killed; nobody ever reads it


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


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old one or the new one, whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably (temporary file, fsync, rename, fsync of the folder)."""
    with _mendable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=DRAFT, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
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
    with _mendable(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(out)
        draft = Path(tempfile.mkdtemp(prefix=f"{DRAFT}{out.name}-{os.getpid()}-", dir=out.parent))
    draft.chmod(0o755)
    try:
        yield draft
        with _mendable(out):
            for path in sorted(draft.rglob("*")):
                if not path.is_symlink():  # a link has no content of its own, and may point at nothing
                    _sync(path)
            _sync(draft)
            if out.exists():
                old = Path(tempfile.mkdtemp(prefix=f"{DRAFT}{out.name}-{os.getpid()}-", dir=out.parent))
                out.replace(old / "old")
                draft.replace(out)
                shutil.rmtree(old)
            else:
                draft.replace(out)
            _sync(out.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def remove_drafts(out: Path) -> None:
    """Remove what killed processes left beside `out`; drafts of living processes stay."""
    for left in out.parent.glob(f"{DRAFT}{out.name}-*"):
        pid = left.name.removeprefix(f"{DRAFT}{out.name}-").split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _mendable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgekitError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from None
