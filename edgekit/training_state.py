"""Where a fit stands after an epoch: weights, best weights, optimizer, history; enough to go on as if never stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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

MANIFEST = "state.json"
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
    """The state in `folder` if it belongs to `identity`, else None; Broken when it was changed or is not whole."""
    path = folder / MANIFEST
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

    Tensors go to files named after their epoch; state.json, written last and atomically, says which ones count.
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
    files.write_text(folder / MANIFEST, files.canonical_json(data))
    keep = {e["name"] for e in entries.values() if e}
    for left in folder.iterdir():
        if left.name not in keep and (left.suffix == ".safetensors" or left.name.startswith(files.DRAFT)):
            left.unlink()


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
