"""A checkpoint: a folder with trained weights and what is known about them; safetensors and JSON, hashed, never pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import files, limits
from edgekit.errors import Broken, EdgekitError
from edgekit.sniff import read_plain
from edgekit.text_file import parse_json

if TYPE_CHECKING:
    import torch

MANIFEST = "checkpoint.json"
WEIGHTS = "model.safetensors"
FORMAT_VERSION = 1
FIELDS = {"format_version", "weights_sha256", "facts"}


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. `facts` is what the family said when it saved: family, recipe, name, score, and so on."""

    folder: Path
    facts: Mapping[str, Any]
    sha256: str  # of checkpoint.json, which holds the hash of the weights: it stands for the whole checkpoint

    def state(self) -> dict[str, torch.Tensor]:
        """The weights and buffers by name, on the CPU; Broken when they were changed since the checkpoint was opened."""
        return load_tensors(self.folder / WEIGHTS)


def save_checkpoint(folder: Path, module: torch.nn.Module, facts: Mapping[str, Any]) -> Checkpoint:
    """Write the weights of `module` and `facts` (plain JSON values) to `folder`, which is replaced whole, and open it.

    Equal weights and facts give equal hashes. Raises EdgekitError when facts are not JSON or the disk refuses.
    """
    from safetensors.torch import save_file

    try:
        files.canonical_json(facts)
    except (TypeError, ValueError) as error:
        raise EdgekitError(f"the facts of a checkpoint must be plain JSON values, but {error}") from None
    with files.folder_draft(folder) as draft:
        save_file(tensors_of(module), draft / WEIGHTS)
        (draft / WEIGHTS).chmod(0o644)
        data = {
            "format_version": FORMAT_VERSION,
            "weights_sha256": files.sha256_of(draft / WEIGHTS),
            "facts": dict(facts),
        }
        (draft / MANIFEST).write_text(files.canonical_json(data), encoding="utf-8")
    return open_checkpoint(folder)


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Open a checkpoint and check its weights against their hash.

    Raises EdgekitError when there is none, Broken when a file or field is not what checkpoint.json says.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise EdgekitError(f"no checkpoint in {folder}; make one with `edgekit train RECIPE`")
    raw = read_plain(path, limits.MOST_TEXT_BYTES, "facts of a checkpoint")
    data = parse_json(raw, str(path), "train again")
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise Broken(f"{path}: is of checkpoint format {version!r}, this edgekit reads {FORMAT_VERSION}; train again")
    if set(data) != FIELDS or not isinstance(data["facts"], dict) or not isinstance(data["weights_sha256"], str):
        raise Broken(f"{path}: a checkpoint has the fields {sorted(FIELDS)}, found {sorted(data)}; train again")
    there = {p.name for p in folder.iterdir() if not p.name.startswith(files.DRAFT)}
    if there != {MANIFEST, WEIGHTS}:
        odd = ", ".join(sorted(there ^ {MANIFEST, WEIGHTS}))
        raise Broken(f"{folder}: holds {MANIFEST} and {WEIGHTS}, nothing else; these differ: {odd}; train again")
    weights = folder / WEIGHTS
    if weights.is_symlink() or not weights.is_file() or files.sha256_of(weights) != data["weights_sha256"]:
        raise Broken(f"{weights} was changed after the checkpoint was made; train again")
    return Checkpoint(folder, data["facts"], hashlib.sha256(raw).hexdigest())


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights and buffers of a module on the CPU, each with memory of its own (tied weights twice)."""
    import torch

    copied = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise EdgekitError(f"'{name}' of the network is a {type(value).__name__}; only tensors can be stored")
        copied[name] = value.detach().to("cpu", copy=True).contiguous()
    return copied


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file as torch tensors on the CPU; Broken, with the path, when it is not one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise Broken(f"{path}: not a safetensors file ({error})") from None
