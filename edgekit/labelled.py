"""The data of a user's own model: .npz files with its inputs by name, and `labels` where there is a task to score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgekit import files, untrusted_archive
from edgekit.bundle import Model
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Arrays, Score
from edgekit.signature import Signature

FAMILY = "labelled"  # of Model.family: no part, but this file
LABELS = "labels"
BATCH = 100  # samples at a time, where the batch is free


def model_of(test: str, calibration: str, signature: Signature, run: Callable[[Arrays], Arrays], sha256: str) -> Model:
    """What a manifest says of a user's model that came with data: where the data is, its hash, the float model's score.

    test: .npz with inputs and labels, never used to decide anything; calibration: .npz with inputs. Raises EdgekitError
    when a file does not fit the signature.
    """
    recipe: dict[str, str] = {}
    for what, path in (("test", test), ("calibration", calibration)):
        if path:
            checked(Path(path), signature, labels=what == "test")
            recipe |= {what: str(Path(path).absolute()), f"{what}_sha256": files.sha256_of(Path(path))}
    recipe["inputs"] = ",".join(t.name for t in signature.inputs)
    recipe["output"] = signature.outputs[0].name
    recipe["batch"] = str(_batch(signature))
    blank = Model(FAMILY, recipe, sha256, "accuracy", 0.0, 0)
    if not test:
        return blank
    score = Labelled().score(blank, run)
    return Model(FAMILY, recipe, sha256, score.name, score.value, score.samples)


class Labelled:
    """Top-1 accuracy of the first output over `test`, and the inputs of `calibration`."""

    features: ClassVar[tuple[str, ...]] = ()

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The share of labels that are the largest of the last axis of the first output."""
        arrays = self._arrays(model, "test")
        labels = arrays.pop(LABELS)[:limit]
        batch = int(model.recipe["batch"]) or BATCH
        right = seen = 0
        for at in range(0, len(labels), batch):
            part = {n: v[at : at + batch] for n, v in arrays.items()}
            there = min(batch, len(labels) - at)
            if int(model.recipe["batch"]) and there < batch:
                part = {n: _filled(v, batch) for n, v in part.items()}
            answer = np.asarray(run(part)[model.recipe["output"]]).argmax(-1)[:there]
            right += int((answer == labels[at : at + there].reshape(answer.shape)).sum())
            seen += answer.size
        return Score("accuracy", right / max(1, seen), len(labels))

    def samples(self, model: Model, limit: int) -> dict[str, np.ndarray]:
        """The first `limit` inputs of the calibration file, without labels."""
        return {n: v[:limit] for n, v in self._arrays(model, "calibration").items() if n != LABELS}

    def task_samples(self, model: Model, task: str, limit: int) -> dict[str, np.ndarray]:
        """EdgekitError: a model of a user's own has one program."""
        raise EdgekitError(f"this model came without data of the task '{task}'")

    def held_out(self, model: Model, limit: int) -> dict[str, np.ndarray]:
        """The first `limit` inputs of the test file, without labels."""
        return {n: v[:limit] for n, v in self._arrays(model, "test").items() if n != LABELS}

    def _arrays(self, model: Model, what: str) -> dict[str, np.ndarray]:
        if what not in model.recipe:
            raise EdgekitError(f"this model came without {what} data; export it again with --{what} FILE.npz")
        path = Path(model.recipe[what])
        if not path.is_file():
            raise EdgekitError(f"the {what} data {path} is not here")
        if files.sha256_of(path) != model.recipe[f"{what}_sha256"]:
            raise Broken(f"{path} has changed since the model was exported; export it again")
        arrays = _load(path)
        names = [*model.recipe["inputs"].split(","), LABELS]
        return {n: arrays[n] for n in names if n in arrays}


def _batch(signature: Signature) -> int:
    """The fixed batch of a model, 0 where it is free."""
    first = signature.inputs[0].shape[0] if signature.inputs and signature.inputs[0].shape else 0
    return first if isinstance(first, int) else 0


def _filled(x: np.ndarray, size: int) -> np.ndarray:
    return x[np.arange(size) % len(x)]


def _load(path: Path) -> dict[str, np.ndarray]:
    return untrusted_archive.read_npz(path)


def checked(path: Path, signature: Signature, labels: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a file that holds every input, one sample a row, and whole labels where they are needed; else
    EdgekitError."""
    arrays = _load(path)
    wanted = [t.name for t in signature.inputs] + ([LABELS] if labels else [])
    absent = [n for n in wanted if n not in arrays]
    if absent:
        raise EdgekitError(f"{path} lacks {', '.join(absent)}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    counts = {n: len(arrays[n]) if arrays[n].ndim else 0 for n in wanted}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise EdgekitError(f"{path} needs one row a sample in every array, found {counts}")
    for t in signature.inputs:
        v = arrays[t.name]
        if v.dtype.name != t.dtype or v.shape[1:] != tuple(
            v.shape[i + 1] if isinstance(n, str) else n for i, n in enumerate(t.shape[1:])
        ):
            raise EdgekitError(f"{path}: '{t.name}' is {v.dtype.name} {list(v.shape)}, the model takes {t.dtype} {list(t.shape)}")
    if labels and not np.issubdtype(arrays[LABELS].dtype, np.integer):
        raise EdgekitError(f"{path}: labels must be whole numbers, one a sample, found {arrays[LABELS].dtype.name}")
    return arrays
