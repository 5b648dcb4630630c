"""Where a fit stands after an epoch: weights, best weights, optimizer, history; enough to go on as if never stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import files, limits
from edgekit.checkpoint import load_tensors
from edgekit.errors import Broken
from edgekit.sniff import read_plain
from edgekit.text_file import parse_json

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

MANIFEST, BEFORE = "state.json", "before.json"
FORMAT_VERSION = 2
ROLES = ("best", "model", "optimizer", "average")


@dataclass(frozen=True)
class State:
    """After `len(history)` epochs. The random numbers of an epoch follow from seed and epoch, so none are stored."""

    identity: str  # hash of what decides the result: plan, seed, initial weights, data
    finished: bool
    history: tuple[dict[str, Any], ...]  # a row an epoch
    best_epoch: int  # 1-based
    best: Tensors = field(repr=False)  # weights of the best epoch
    model: Tensors = field(repr=False)  # weights of the last epoch; empty once finished
    optimizer: Tensors = field(repr=False)  # "<optimiser>/<parameter index>/<moment>"; empty once finished
    average: Tensors = field(repr=False)  # averaged weights of the last epoch; empty without, or once finished
    steps: int = 0  # training steps so far, which the average's ramp counts


def read(folder: Path, identity: str) -> State | None:
    """The state in `folder` if it belongs to `identity`, else None. Where its files were damaged, the one of the epoch before; Broken when
    that is not whole either."""
    try:
        found = _read(folder / MANIFEST, identity)
        if found is not None and found.finished:  # a process that was killed may have left the states before
            _tidy(folder, {f"best-{found.best_epoch}.safetensors"})
        return found
    except Broken:
        before = None
        with suppress(Broken):
            before = _read(folder / BEFORE, identity)
        if before is None:
            raise
        return before


def _read(path: Path, identity: str) -> State | None:
    folder = path.parent
    if not path.is_file():
        return None
    try:
        data = parse_json(read_plain(path, limits.MOST_TEXT_BYTES, "the state of a training"), str(path), f"remove {folder} to start again")
        if data["format_version"] != FORMAT_VERSION or data["identity"] != identity:
            return None
        tensors = {role: _read_tensors(folder, data["files"][role]) for role in ROLES}
        return State(identity, data["finished"], tuple(data["history"]), data["best_epoch"], steps=data["steps"], **tensors)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Broken(f"{path}: not the state of a training ({error}); remove {folder} to start again") from None


def write(folder: Path, state: State) -> None:
    """Store the state. Whenever the process is killed, `folder` holds the old state or this one, whole.

    Tensors go to files named after their epoch; state.json, written last and atomically, says which ones count. Until the training is
    finished, the state before stays too: a disk that loses a file costs an epoch, and not all.
    """
    epoch = len(state.history)
    names = {role: f"{role}-{state.best_epoch if role == 'best' else epoch}" for role in ROLES}
    entries = {
        role: _write_tensors(folder / f"{names[role]}.safetensors", getattr(state, role))
        if getattr(state, role)
        else None
        for role in names
    }
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name not in names}
    data = {"format_version": FORMAT_VERSION, "files": entries, **plain, "history": list(state.history)}
    keep = {e["name"] for e in entries.values() if e}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # there is none before, or none that can be read
        before = (folder / MANIFEST).read_bytes()
        if not state.finished:
            keep |= {e["name"] for e in json.loads(before)["files"].values() if e}
            files.write_bytes(folder / BEFORE, before)
    files.write_text(folder / MANIFEST, files.canonical_json(data))
    _tidy(folder, keep if state.finished else {*keep, BEFORE})


def _tidy(folder: Path, keep: Collection[str]) -> None:
    """Remove states that do not count any more."""
    for left in (folder / BEFORE, *folder.glob("*.safetensors")):
        if left.name not in keep:
            left.unlink(missing_ok=True)


def _write_tensors(path: Path, tensors: Tensors) -> dict[str, str]:
    from safetensors.torch import save

    data = save(dict(tensors))
    files.write_bytes(path, data)
    return {"name": path.name, "sha256": files.sha256_of(path)}


def _read_tensors(folder: Path, entry: Mapping[str, str] | None) -> Tensors:
    if entry is None:
        return {}
    path = folder / Path(entry["name"]).name
    if not path.is_file() or files.sha256_of(path) != entry["sha256"]:
        raise Broken(f"{path} is missing or was changed since the training wrote it; remove {folder} to start again")
    return load_tensors(path)
